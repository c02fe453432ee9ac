//! The start of a plane's process: what it is given first, and the task that carries messages both ways after it.
//! Called by the set when one is due; says by [`Input`] what comes of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use tokio::sync::mpsc;

use super::Planes;
use super::plane::{Letter, Plane};
use crate::link::channel::Channel;
use crate::link::message::{FromPlane, MAGIC, PROTOCOL, ToPlane};
use crate::proxy::UNCONFINED;
use crate::rollout::Moment;
use crate::supervisor::allocator;
use crate::supervisor::certificates;
use crate::supervisor::input::{Input, Inputs};
use crate::supervisor::remains::our_name;

/// Messages that may wait for a plane that does not read. Then it is hung.
const OUTBOX: usize = 256;

impl Planes {
    /// Starts the process of one.
    pub(super) fn spawn(&self, incarnation: u64, now: Moment) -> io::Result<Plane> {
        let (channel, theirs) = Channel::pair()?;
        let mut fds = Vec::new();
        let mut names = Vec::new();
        if let Some(listeners) = &self.listeners {
            names = listeners.addresses();
            for fd in listeners.fds() {
                fds.push(fd.try_clone_to_owned()?);
            }
        }
        // What it needs to tidy up after us, should we be killed.
        let name = our_name();
        let mut arguments = vec![
            OsStr::new("proxy"),
            name.as_ref(),
            self.terms.runtime_dir.as_ref(),
        ];
        if !self.terms.sandbox {
            arguments.push(OsStr::new(UNCONFINED));
        }
        let tuned = allocator::variable(allocator::ours().as_deref());
        let pid = self.image.spawn_self(&arguments, theirs, &[tuned])?;
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let hello = ToPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: crate::BUILD.to_owned(),
            incarnation,
            loops: self.terms.loops,
        };
        let mut first = vec![(hello, Vec::new())];
        if let Some(open) = &self.log {
            first.push(open.letter()?);
        }
        first.push((ToPlane::Listeners(names), fds));
        let offers = certificates::messages(&self.offers);
        first.extend(offers.into_iter().map(|message| (message, Vec::new())));
        tokio::task::spawn_local(converse(
            channel,
            incarnation,
            first,
            queue,
            self.inputs.clone(),
        ));
        let mut plane = Plane::starting(pid, now, outbox);
        plane.say_table(now, &self.table);
        Ok(plane)
    }
}

/// Carries messages both ways until either end is gone.
async fn converse(
    channel: Channel,
    incarnation: u64,
    first: Vec<Letter>,
    mut queue: mpsc::Receiver<Letter>,
    inputs: Inputs,
) {
    let (mut receiver, mut sender) = channel.split();
    let writing = async {
        let mut first = first.into_iter();
        loop {
            let next = match first.next() {
                Some(letter) => Some(letter),
                None => queue.recv().await,
            };
            let Some((message, fds)) = next else {
                break;
            };
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            sender.send(&message, &fds).await?;
        }
        io::Result::Ok(())
    };
    let reading = async {
        loop {
            match receiver.recv::<FromPlane>().await {
                Ok(Some((message, _fds))) => {
                    if inputs
                        .send(Input::Plane {
                            incarnation,
                            message,
                        })
                        .await
                        .is_err()
                    {
                        return "the supervisor ends".to_owned();
                    }
                }
                Ok(None) => return "it closed its channel".to_owned(),
                Err(error) => return format!("its channel failed: {error}"),
            }
        }
    };
    let why = tokio::select! {
        why = reading => why,
        written = writing => match written {
            Ok(()) => "it was let go".to_owned(),
            Err(error) => format!("its channel failed: {error}"),
        },
    };
    // Nobody listens only when the supervisor ends.
    let _ = inputs.send(Input::PlaneClosed { incarnation, why }).await;
}
