//! Looks at the status all the time, and what must hold in every one of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::http::Client;
use super::instance::Instance;

/// Takes the status of `app` again and again until it is stopped.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<Vec<Value>>,
}

impl Watch {
    pub(crate) fn start(instance: &Instance) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, socket) = (Arc::clone(&stop), instance.admin_socket());
        let seen = std::thread::spawn(move || {
            let mut client = Client::unix(&socket).expect("the admin socket accepts");
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let status = client.get("/v1/status").expect("a status").json();
                seen.push(status["services"]["app"].clone());
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Self { stop, seen }
    }

    /// All that was seen, in order.
    pub(crate) fn stop(self) -> Vec<Value> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.join().expect("the watcher does not panic")
    }
}

/// I1 and I4 in every status: never fewer ready workers than wanted, weights that sum up.
#[track_caller]
pub(crate) fn assert_full_strength(seen: &[Value]) {
    assert!(seen.len() > 5, "only looked {} times", seen.len());
    for app in seen {
        let (ready, wanted) = (app["ready"].as_u64(), app["wanted"].as_u64());
        assert!(ready >= wanted, "I1: {app:#}");
        let sum: f64 = weights(app).values().sum();
        assert!((sum - 1.0).abs() < 1e-3, "I4: {sum} in {app:#}");
    }
}

/// The process of the plane that accepts.
pub(crate) fn plane(status: &Value) -> Option<i32> {
    let planes = status["data_planes"].as_array()?;
    let accepting = planes.iter().find(|plane| plane["state"] == "accepting")?;
    i32::try_from(accepting["pid"].as_i64()?).ok()
}

/// The weight of each generation.
pub(crate) fn weights(app: &Value) -> BTreeMap<u64, f64> {
    generations(app)
        .filter_map(|g| Some((g["number"].as_u64()?, g["weight"].as_f64()?)))
        .collect()
}

/// All generations.
pub(crate) fn generations(app: &Value) -> impl Iterator<Item = &Value> {
    app["generations"].as_array().into_iter().flatten()
}

/// All workers.
pub(crate) fn workers(app: &Value) -> impl Iterator<Item = &Value> {
    generations(app).flat_map(|g| g["workers"].as_array().into_iter().flatten())
}

/// The worker in a slot.
pub(crate) fn in_slot(app: &Value, slot: u64) -> Option<&Value> {
    workers(app).find(|worker| worker["slot"] == slot)
}
