//! `status` and `why`: the instance as it is now.

use std::io::{self, IsTerminal};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::args;
use super::client::{Client, escape};
use super::exit::{Code, Failure};
use super::out::{Out, Tone};
use super::patience::GLANCE;
use super::table::{self, Align};
use super::{fold, service, time, words};
use crate::wire::{LogLine, Logs, Service, Status, Worker};

/// Lines of a worker's output that explain what it waits for.
const LAST_LINES: usize = 10;

/// Shows the status once, or again and again.
pub(crate) async fn status(
    client: &Client,
    out: &Out,
    args: args::Status,
) -> Result<Code, Failure> {
    let mut shown: Option<Status> = None;
    let mut is_first = true;
    loop {
        let status = client.status().await?;
        let lines = lines(out, &status, args.service.as_deref(), time::now())?;
        if !args.watch {
            out.result(&status);
            for line in lines {
                out.line(&line);
            }
            return Ok(Code::Done);
        }
        if out.json() {
            if shown.as_ref() != Some(&status) {
                out.event("status", &status);
            }
        } else {
            draw(out, &lines, is_first);
            is_first = false;
        }
        if out.gone() {
            return Ok(Code::Done);
        }
        shown = Some(status);
        tokio::time::sleep(GLANCE).await;
    }
}

/// One sentence for each service.
pub(crate) async fn why(client: &Client, out: &Out, args: args::Look) -> Result<Code, Failure> {
    let status = client.status().await?;
    let services = service::looked_at(&status, args.service.as_deref())?;
    let now = time::now();
    let several = services.len() > 1;
    let mut sentences = Vec::new();
    for (name, service) in services {
        let sentence = words::why(service, now);
        let prefix = if several {
            format!("{name}: ")
        } else {
            String::new()
        };
        out.text(&format!("{prefix}{sentence}"));
        let output = match words::starting(service) {
            Some(worker) => last_lines(client, name, worker).await,
            None => last_words(service),
        };
        if !output.is_empty() {
            out.line("its last output");
        }
        for line in &output {
            out.line(&format!("  | {line}"));
        }
        sentences.push(json!({
            "service": name,
            "message": sentence,
            "waiting_on": service.waiting_on,
            "output": output,
        }));
    }
    for notice in notices(&status) {
        out.text(&notice);
    }
    out.result(json!({ "services": sentences, "notices": status.notices }));
    Ok(Code::Done)
}

/// The last lines of the worker that made a rollout fail which now waits for a person.
fn last_words(service: &Service) -> Vec<String> {
    let rollout = service.rollout.as_ref();
    let paused = rollout.filter(|rollout| rollout.state == "paused");
    let failure = paused.and_then(|rollout| rollout.failure.as_ref());
    let worker = failure.and_then(|failure| failure.worker.as_ref());
    worker.map_or_else(Vec::new, |worker| worker.output.clone())
}

/// The last lines of a worker that is awaited, oldest first: one that goes on trying says there what is wrong,
/// long before its time is over. None if they cannot be had: the sentence stands without them.
async fn last_lines(client: &Client, service: &str, worker: &Worker) -> Vec<String> {
    let path = format!("/v1/services/{}/logs?slot={}", escape(service), worker.slot);
    let logs: Logs = client.get(&path).await.unwrap_or_default();
    let its = |line: &LogLine| line.generation == worker.generation;
    let mut lines: Vec<String> = logs
        .lines
        .into_iter()
        .filter(its)
        .map(|line| line.line)
        .collect();
    lines.drain(..lines.len().saturating_sub(LAST_LINES));
    lines
}

/// Fills the screen from its first line, over what was drawn before, so that nothing flickers.
fn draw(out: &Out, lines: &[String], is_first: bool) {
    if !out.live() || !io::stdout().is_terminal() {
        out.raw(format!("{}\n\n", lines.join("\n")).as_bytes());
        return;
    }
    let begin = if is_first {
        "\u{1b}[H\u{1b}[2J"
    } else {
        "\u{1b}[H"
    };
    let lines = fitting(lines, out.stdout_height());
    let frame = format!("{begin}{}\u{1b}[K\n\u{1b}[J", lines.join("\u{1b}[K\n"));
    out.raw(frame.as_bytes());
}

/// The first of them, if there is no room for all: more would push the first ones away each time.
fn fitting(lines: &[String], height: Option<usize>) -> Vec<String> {
    // One line is the cursor's.
    let room = height.map_or(lines.len(), |height| height.saturating_sub(1).max(2));
    if lines.len() <= room {
        return lines.to_vec();
    }
    let mut shown = lines[..room - 1].to_vec();
    let hidden = lines.len() - shown.len();
    shown.push(format!(
        "… {hidden} more lines; `--service NAME` shows one service"
    ));
    shown
}

fn lines(
    out: &Out,
    status: &Status,
    only: Option<&str>,
    now: SystemTime,
) -> Result<Vec<String>, Failure> {
    let width = out.stdout_width();
    let mut lines = fold::under_itself(&instance_line(status, now), width);
    for notice in notices(status) {
        lines.extend(fold::under_itself(&out.stdout(Tone::Bad, &notice), width));
    }
    for (name, service) in service::looked_at(status, only)? {
        lines.push(String::new());
        lines.extend(service_lines(out, name, service, now));
    }
    Ok(lines)
}

/// What is to be said of the instance beyond its services.
fn notices(status: &Status) -> impl Iterator<Item = String> + '_ {
    let notices = status.notices.iter();
    notices.map(|notice| format!("note: {notice}"))
}

fn instance_line(status: &Status, now: SystemTime) -> String {
    let age = time::since(&status.started_at, now).map_or_else(String::new, |age| {
        // The age is since the start: nothing else begins then but running.
        let since = match status.state.as_str() {
            "running" => " for",
            _ => ", up",
        };
        format!("  {}{since} {}", status.state, time::short(age))
    });
    let mut line = format!("remuda {}  pid {}{age}", status.version, status.pid);
    if !status.listeners.is_empty() {
        line.push_str(&format!("  on {}", status.listeners.join(", ")));
    }
    if let Some(admin) = &status.admin {
        line.push_str(&format!("  admin {admin}"));
    }
    let troubled = status.data_planes.iter().filter(|p| p.state != "accepting");
    for plane in troubled {
        line.push_str(&format!("  data plane {} {}", plane.pid, plane.state));
    }
    line
}

fn service_lines(out: &Out, name: &str, service: &Service, now: SystemTime) -> Vec<String> {
    let full = service.ready >= service.wanted;
    let ready = match service.ready > service.wanted {
        true => format!("{} ready, {} wanted", service.ready, service.wanted),
        false => format!("{} of {} ready", service.ready, service.wanted),
    };
    let ready = out.stdout(if full { Tone::Good } else { Tone::Bad }, &ready);
    let parked = match service.parked {
        0 => String::new(),
        parked => format!(", {parked} parked"),
    };
    let head = format!(
        "{name}  {}  {ready}  {} in flight{parked}",
        words::generation(service.generation, service.release.as_deref()),
        service.in_flight,
    );
    let width = out.stdout_width();
    let mut lines = fold::under_itself(&head, width);
    // What is said goes on under itself, not under its name.
    let mut say = |what: &str, said: &str| {
        lines.extend(fold::fold(&format!("  {what}  {said}"), width, 11));
    };
    if let Some(rollout) = &service.rollout {
        let place = match words::ended(&rollout.state) {
            true => words::outcome(rollout),
            false => format!(
                "{} {}, {:.0}% done",
                words::title(rollout),
                words::place(rollout),
                rollout.progress * 100.0
            ),
        };
        say("rollout", &place);
    }
    if let Some(waiting) = &service.waiting_on {
        say("waiting", &words::waiting(waiting, now));
    }
    let standing = service.rollout.as_ref().map(words::standing);
    for line in standing.unwrap_or_default() {
        lines.extend(fold::under_itself(&line, width));
    }
    if service.generations.len() > 1 {
        let shares: Vec<String> = service
            .generations
            .iter()
            .map(|g| {
                format!(
                    "generation {} {} {:.0}%",
                    g.number,
                    g.role,
                    g.weight * 100.0
                )
            })
            .collect();
        let shares = format!("  traffic  {}", shares.join(", "));
        lines.extend(fold::fold(&shares, width, 11));
    }
    lines.extend(worker_lines(out, service, now));
    lines
}

fn worker_lines(out: &Out, service: &Service, now: SystemTime) -> Vec<String> {
    let columns = [
        ("SLOT", Align::Right),
        ("GEN", Align::Right),
        ("STATE", Align::Left),
        ("HEALTH", Align::Left),
        ("IN-FLIGHT", Align::Right),
        ("PID", Align::Right),
        ("RSS", Align::Right),
        ("AGE", Align::Right),
        ("", Align::Left),
    ];
    let mut workers: Vec<&Worker> = service.workers().collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    let rows: Vec<Vec<String>> = workers.iter().map(|worker| row(worker, now)).collect();
    let width = out.stdout_width();
    // Each line begins two columns further on.
    let terminal = width.map(|width| width.saturating_sub(2));
    let mut lines = table::lines(&columns, &rows, terminal);
    let room = terminal.unwrap_or(usize::MAX);
    let remarks_fit = lines.iter().all(|line| fold::columns(line) <= room);
    if !remarks_fit {
        let bare: Vec<Vec<String>> = rows.iter().map(|row| without_remark(row)).collect();
        lines = table::lines(&columns, &bare, terminal);
    }
    let remarks = std::iter::once(None).chain(rows.iter().map(|row| row.last()));
    let tones = std::iter::once(Tone::Quiet).chain(workers.iter().map(|worker| tone(worker)));
    let mut painted = Vec::new();
    for ((line, remark), tone) in lines.iter().zip(remarks).zip(tones) {
        let mut row = fold::fold(&format!("  {line}"), width, 4);
        // Below the row, from the state on, which it explains.
        let remark = remark.filter(|remark| !remarks_fit && !remark.is_empty());
        if let Some(remark) = remark {
            row.extend(fold::fold(&format!("{:13}{remark}", ""), width, 15));
        }
        painted.extend(row.into_iter().map(|line| match tone {
            Tone::Good => line,
            tone @ (Tone::Busy | Tone::Bad | Tone::Quiet) => out.stdout(tone, &line),
        }));
    }
    painted
}

fn without_remark(row: &[String]) -> Vec<String> {
    let mut row = row.to_vec();
    if let Some(remark) = row.last_mut() {
        remark.clear();
    }
    row
}

fn row(worker: &Worker, now: SystemTime) -> Vec<String> {
    let missing = || "-".to_owned();
    let age = worker
        .started_at
        .as_deref()
        .and_then(|at| time::since(at, now));
    let remark = match worker.state.as_str() {
        "draining" => words::drain(worker, now),
        _ if worker.ejected => "fails far more than the others: no requests for a while".to_owned(),
        "ready" if worker.health == "failing" => {
            "fails its health check: set aside, no new requests".to_owned()
        }
        // To start, or while it served.
        _ if worker.failures > 0 => {
            format!("failed {}", words::counted(worker.failures.into(), "time"))
        }
        _ if worker.pid.is_none() => worker.address.clone().unwrap_or_default(),
        _ => String::new(),
    };
    vec![
        worker.slot.to_string(),
        worker.generation.to_string(),
        worker.state.clone(),
        health(worker).to_owned(),
        worker.in_flight.to_string(),
        worker.pid.map_or_else(missing, |pid| pid.to_string()),
        worker.rss.map_or_else(missing, |rss| {
            bytesize::ByteSize(rss).display().iec().to_string()
        }),
        age.map_or_else(missing, time::short),
        remark,
    ]
}

/// A probe that fails before the first good one is no sign of sickness.
fn health(worker: &Worker) -> &str {
    match worker.state.as_str() {
        "starting" if worker.health == "failing" => "not yet",
        _ => &worker.health,
    }
}

fn tone(worker: &Worker) -> Tone {
    match (worker.state.as_str(), health(worker)) {
        ("backoff" | "killing", _) | (_, "failing") => Tone::Bad,
        ("ready", _) if worker.ejected => Tone::Bad,
        ("ready", _) => Tone::Good,
        _ => Tone::Busy,
    }
}

/// `remuda healthcheck`: whether a request can be answered now.
pub(crate) async fn healthcheck(client: &Client, out: &Out) -> Result<Code, Failure> {
    let answer = client.probe("/readyz").await?;
    let ready = answer.is_success();
    let code = if ready { Code::Done } else { Code::Failed };
    let sentence = if ready {
        "ready: requests are answered"
    } else {
        "not ready: no request can be answered now; `remuda why` says what it waits for"
    };
    out.line(sentence);
    out.result(json!({
        "result": code.name(),
        "exit_code": code.number(),
        "message": sentence,
        "problem": Value::Null,
        "ready": ready,
    }));
    Ok(code)
}
