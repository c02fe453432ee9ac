//! Problems: what is wrong, where, and what to write instead. Rendered with source line and carets for
//! people, as objects for tools.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config is refused.
    Error,
    /// It works, though probably not as wanted.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// A short fixed name.
    pub code: &'static str,
    /// Where in the text, in bytes; `None` if no place in it is to blame.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Everything that is wrong with one config, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The file's name, if there is a file.
    pub file: Option<String>,
    /// Its text.
    text: String,
    list: Vec<Problem>,
}

/// A problem as tools read it. Lines and columns count from 1; the end is the column after the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file, null if a flag or the environment is to blame.
    pub file: Option<String>,
    /// First line.
    pub line: Option<usize>,
    /// First column, in characters.
    pub column: Option<usize>,
    /// Last line.
    pub end_line: Option<usize>,
    /// Column after the last character.
    pub end_column: Option<usize>,
    /// `error` or `warning`.
    pub severity: Severity,
    /// A short fixed name.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problems {
    /// None yet, for this file and text.
    pub(crate) fn of(file: Option<String>, text: &str) -> Self {
        Self {
            file,
            text: text.to_owned(),
            list: Vec::new(),
        }
    }

    /// Adds an error.
    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.push(Severity::Error, code, span, message.into(), help);
    }

    /// Adds a warning.
    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.push(Severity::Warning, code, span, message.into(), help);
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Option<Range<usize>>,
        message: String,
        help: Option<String>,
    ) {
        // Renderers cut the text at the span, so it must lie on characters of this text.
        let span = span.map(|span| {
            let start = floor(&self.text, span.start);
            start..floor(&self.text, span.end).max(start)
        });
        self.list.push(Problem {
            severity,
            code,
            span,
            message,
            help,
        });
    }

    /// The place of a part of a value, if it stands there as it is; else that of the whole.
    pub(crate) fn within(&self, whole: Range<usize>, part: &str) -> Range<usize> {
        // A table of its own is known by its header, and what is in it follows.
        let is_header = whole.start == 0
            || self
                .text
                .get(..whole.start)
                .is_some_and(|before| before.ends_with('\n'));
        let end = match self.text.get(whole.end..) {
            Some(rest) if is_header => whole.end + rest.find("\n[").unwrap_or(rest.len()),
            _ => whole.end,
        };
        let text = self.text.get(whole.start..end);
        match text.and_then(|text| text.find(part)) {
            Some(at) => whole.start + at..whole.start + at + part.len(),
            None => whole,
        }
    }

    /// Sorts by place, and drops what follows from a mistake in the syntax: the reader's guess about
    /// the rest of such a line makes no sense to anybody.
    pub(crate) fn settle(&mut self) {
        let broken: Vec<usize> = self
            .list
            .iter()
            .filter(|problem| problem.code == "syntax")
            .filter_map(|problem| Some(place(&self.text, problem.span.as_ref()?.start).0))
            .collect();
        let text = &self.text;
        self.list.retain(|problem| {
            problem.code == "syntax"
                || broken.is_empty()
                || problem
                    .span
                    .as_ref()
                    .is_some_and(|span| !broken.contains(&place(text, span.start).0))
        });
        self.list
            .sort_by_key(|problem| problem.span.as_ref().map_or(usize::MAX, |span| span.start));
        self.list.dedup();
    }

    /// The problems.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        let error = |problem: &&Problem| problem.severity == Severity::Error;
        self.list.iter().filter(error).count()
    }

    /// For people, each with its line and carets, with colour or without. Of a line that is wider than the
    /// terminal the part with the carets is shown.
    #[must_use]
    pub fn render(&self, colour: bool, terminal: Option<usize>) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = match terminal {
            Some(columns) => renderer.term_width(columns),
            None => renderer,
        };
        let mut out = String::new();
        for problem in &self.list {
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        out
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level
            .primary_title(problem.message.as_str())
            .id(problem.code);
        let group = match (&problem.span, &self.file) {
            (Some(span), file) => title.element(
                Snippet::source(self.text.as_str())
                    .path(file.as_deref())
                    .annotation(AnnotationKind::Primary.span(span.clone())),
            ),
            (None, Some(file)) => title.element(Origin::path(file.as_str())),
            (None, None) => Group::with_title(title),
        };
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }

    /// For tools.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.list
            .iter()
            .map(|problem| self.report(problem))
            .collect()
    }

    fn report(&self, problem: &Problem) -> Report {
        let start = problem
            .span
            .as_ref()
            .map(|span| place(&self.text, span.start));
        let end = problem
            .span
            .as_ref()
            .map(|span| place(&self.text, span.end));
        Report {
            file: self.file.clone(),
            line: start.map(|place| place.0),
            column: start.map(|place| place.1),
            end_line: end.map(|place| place.0),
            end_column: end.map(|place| place.1),
            severity: problem.severity,
            code: problem.code,
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false, None).trim_end())
    }
}

impl std::error::Error for Problems {}

/// One line, as a log has it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// The nearest border of a character at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Line and column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..floor(text, at)];
    let line = before.matches('\n').count() + 1;
    let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[begin..].chars().count() + 1)
}
