//! `remuda logs`: the workers' last lines, and those to come.

use http_body_util::BodyExt;

use super::args;
use super::client::{Client, escape};
use super::exit::{Code, Failure};
use super::out::{Out, Tone};
use super::service;
use crate::wire::{LogLine, Logs};

/// The longest line of a stream that is looked at; the instance cuts workers' lines at 8 KiB.
const LONGEST_LINE: usize = 256 << 10;

/// Prints lines, oldest first.
pub(crate) async fn logs(client: &Client, out: &Out, args: args::Logs) -> Result<Code, Failure> {
    let status = client.status().await?;
    let name = service::by_option(&status, args.service.as_deref())?;
    let mut query: Vec<String> = Vec::new();
    if let Some(slot) = args.slot {
        query.push(format!("slot={slot}"));
    }
    if args.follow {
        query.push("follow=true".to_owned());
    }
    let mut path = format!("/v1/services/{}/logs", escape(&name));
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    if args.follow {
        return follow(client, out, &path).await;
    }
    let logs: Logs = client.get(&path).await?;
    for line in &logs.lines {
        print(out, line);
    }
    out.result(&logs);
    Ok(Code::Done)
}

async fn follow(client: &Client, out: &Out, path: &str) -> Result<Code, Failure> {
    let mut body = client.stream(path).await?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { break };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if let Some(line) = parse(&line) {
                out.event("line", &line);
                print(out, &line);
            }
        }
        if rest.len() > LONGEST_LINE {
            rest.clear();
        }
        if out.gone() {
            return Ok(Code::Done);
        }
    }
    Err(Failure::new(
        Code::NoInstance,
        "the instance went away; `remuda status` shows whether there is another",
    ))
}

/// A line of an event stream, or a bare JSON object; anything else is not for us.
fn parse(line: &[u8]) -> Option<LogLine> {
    let line = line.trim_ascii();
    let json = line.strip_prefix(b"data:").unwrap_or(line);
    serde_json::from_slice(json).ok()
}

fn print(out: &Out, line: &LogLine) {
    let tag = format!("{}/{} {}", line.slot, line.generation, line.stream);
    let tag = out.stdout(Tone::Quiet, &tag);
    out.line(&format!("{tag}  {}", line.line));
}
