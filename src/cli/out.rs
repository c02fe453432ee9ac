//! Where words go: data to stdout, talk to stderr. A reader that went away is not an error; a full disk is.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use console::Term;
use serde::Serialize;
use serde_json::{Value, json};

use super::args::ColorWhen;
use super::exit::{Code, Failure};
use super::fold;

/// The two outputs of a command.
#[derive(Debug)]
pub(crate) struct Out {
    json: bool,
    stdout_color: bool,
    stderr_color: bool,
    live: bool,
    gone: Cell<bool>,
    lost: Cell<bool>,
}

/// The few colours there are; each says nothing that the words do not say too.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tone {
    /// It is as it should be.
    Good,
    /// It is being changed.
    Busy,
    /// It is wrong.
    Bad,
    /// It matters less.
    Quiet,
}

impl Out {
    /// Reads the environment once.
    pub(crate) fn new(json: bool, color: ColorWhen) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colored = |terminal: bool| match color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !dumb && !no_color,
        };
        let stderr = io::stderr().is_terminal();
        Self {
            json,
            stdout_color: colored(io::stdout().is_terminal()),
            stderr_color: colored(stderr),
            live: stderr && !dumb && !json,
            gone: Cell::new(false),
            lost: Cell::new(false),
        }
    }

    /// `--json` was given.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Progress may be drawn and redrawn on stderr.
    pub(crate) fn live(&self) -> bool {
        self.live
    }

    /// Colour may be used on stderr, for what is drawn elsewhere.
    pub(crate) fn stderr_colored(&self) -> bool {
        self.stderr_color
    }

    /// How a command ends that came to this: not well if something for stdout could not be written.
    pub(crate) fn end(&self, code: Code) -> Code {
        match code {
            Code::Done if self.lost.get() => Code::Failed,
            _ => code,
        }
    }

    /// Nothing reaches stdout any more: what only looks can stop.
    pub(crate) fn gone(&self) -> bool {
        self.gone.get()
    }

    /// One line of data, left out with `--json`.
    pub(crate) fn line(&self, text: &str) {
        if !self.json {
            self.raw(format!("{text}\n").as_bytes());
        }
    }

    /// A line of data that people read rather than programs: folded on a terminal.
    pub(crate) fn text(&self, text: &str) {
        for line in fold::under_itself(text, self.stdout_width()) {
            self.line(&line);
        }
    }

    /// Columns of stdout, if it is a terminal.
    pub(crate) fn stdout_width(&self) -> Option<usize> {
        size(&Term::stdout()).map(|(_, columns)| columns)
    }

    /// Lines of stdout, if it is a terminal.
    pub(crate) fn stdout_height(&self) -> Option<usize> {
        size(&Term::stdout()).map(|(lines, _)| lines)
    }

    /// Columns of stderr, if it is a terminal.
    pub(crate) fn stderr_width(&self) -> Option<usize> {
        size(&Term::stderr()).map(|(_, columns)| columns)
    }

    /// One event of a stream, with `--json` only.
    pub(crate) fn event(&self, kind: &str, body: impl Serialize) {
        if self.json {
            self.object(kind, body);
        }
    }

    /// The result: the last line with `--json`, nothing otherwise.
    pub(crate) fn result(&self, body: impl Serialize) {
        self.event("result", body);
    }

    /// Talk on stderr, left out with `--json`.
    pub(crate) fn say(&self, text: &str) {
        if !self.json {
            self.complain(text);
        }
    }

    /// Talk on stderr that must be seen. Nothing can be done if stderr is gone.
    pub(crate) fn complain(&self, text: &str) {
        let text = fold::under_itself(text, self.stderr_width()).join("\n");
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A failure, for people on stderr and for machines as the last line of stdout.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mark = self.stderr(Tone::Bad, "remuda:");
        self.complain(&format!("{mark} {}", failure.message));
        self.result(json!({
            "result": failure.code.name(),
            "exit_code": failure.code.number(),
            "message": failure.message,
            "problem": failure.problem,
        }));
    }

    /// The end of a command that changed something.
    pub(crate) fn done(&self, code: Code, message: &str, more: Value) {
        let mut body = json!({
            "result": code.name(),
            "exit_code": code.number(),
            "message": message,
            "problem": Value::Null,
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        self.result(body);
        self.say(message);
    }

    /// Bytes to stdout.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if self.gone.get() {
            return;
        }
        let mut stdout = io::stdout().lock();
        self.printed(&stdout.write_all(bytes).and_then(|()| stdout.flush()));
    }

    /// What became of something for stdout.
    pub(crate) fn printed(&self, outcome: &io::Result<()>) {
        let Err(error) = outcome else { return };
        self.gone.set(true);
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.lost.set(true);
            let mark = self.stderr(Tone::Bad, "remuda:");
            self.complain(&format!("{mark} cannot write to stdout: {error}"));
        }
    }

    /// Text for stdout in a tone.
    pub(crate) fn stdout(&self, tone: Tone, text: &str) -> String {
        paint(self.stdout_color, tone, text)
    }

    /// Text for stderr in a tone.
    pub(crate) fn stderr(&self, tone: Tone, text: &str) -> String {
        paint(self.stderr_color, tone, text)
    }

    /// `type` comes first, so that a line's kind can be seen without reading it.
    fn object(&self, kind: &str, body: impl Serialize) {
        let body = serde_json::to_string(&body)
            .unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string());
        let line = match body.strip_prefix('{') {
            Some("}") => format!("{{\"type\":\"{kind}\"}}\n"),
            Some(fields) => format!("{{\"type\":\"{kind}\",{fields}\n"),
            None => format!("{{\"type\":\"{kind}\",\"value\":{body}}}\n"),
        };
        self.raw(line.as_bytes());
    }
}

/// Lines and columns of a terminal. Asked anew each time: it may change.
pub(crate) fn size(term: &Term) -> Option<(usize, usize)> {
    let (lines, columns) = term.size_checked()?;
    Some((lines.into(), columns.into()))
}

fn paint(on: bool, tone: Tone, text: &str) -> String {
    if !on {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Busy => "33",
        Tone::Bad => "31",
        Tone::Quiet => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
