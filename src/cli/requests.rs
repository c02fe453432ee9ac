//! `remuda requests`: what is in flight, and what holds a drain.

use std::time::Duration;

use serde_json::json;

use super::args;
use super::client::{Client, escape};
use super::exit::{Code, Failure};
use super::out::Out;
use super::table::{self, Align};
use super::{service, time};
use crate::wire::{LiveRequest, Requests};

/// Lists what is in flight, oldest first.
pub(crate) async fn requests(
    client: &Client,
    out: &Out,
    args: args::Look,
) -> Result<Code, Failure> {
    let status = client.status().await?;
    let mut all = Vec::new();
    for (name, _) in service::looked_at(&status, args.service.as_deref())? {
        let path = format!("/v1/services/{}/requests", escape(name));
        let answer: Requests = client.get(&path).await?;
        all.extend(answer.requests);
    }
    if all.is_empty() {
        out.say("nothing is in flight");
    } else {
        for line in list(&all, out.stdout_width()) {
            out.text(&line);
        }
    }
    out.result(json!({ "requests": all }));
    Ok(Code::Done)
}

fn list(requests: &[LiveRequest], terminal: Option<usize>) -> Vec<String> {
    let columns = [
        ("CLASS", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("SLOT", Align::Right),
        ("GEN", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
        ("ENDS", Align::Left),
        ("CLIENT", Align::Left),
        ("REQUEST", Align::Left),
    ];
    let rows: Vec<Vec<String>> = requests.iter().map(row).collect();
    table::lines(&columns, &rows, terminal)
}

fn row(request: &LiveRequest) -> Vec<String> {
    let missing = || "-".to_owned();
    let bytes = |count: u64| bytesize::ByteSize(count).display().iec().to_string();
    let ends = match (request.blocks_drain, request.eta) {
        (true, Some(eta)) => format!("holds a drain, cut in {}", seconds(eta)),
        (true, None) => "holds a drain".to_owned(),
        (false, _) => missing(),
    };
    vec![
        request.class.clone(),
        seconds(request.age),
        seconds(request.idle),
        request.slot.map_or_else(missing, |slot| slot.to_string()),
        request
            .generation
            .map_or_else(missing, |generation| generation.to_string()),
        bytes(request.bytes_in),
        bytes(request.bytes_out),
        ends,
        request.client.clone(),
        format!("{} {}", request.method, request.route),
    ]
}

fn seconds(length: f64) -> String {
    Duration::try_from_secs_f64(length).map_or_else(|_| "-".to_owned(), time::short)
}
