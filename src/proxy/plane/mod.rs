//! The plane's main task: it speaks with the supervisor (`messages`, `sample`) and passes its orders on to the
//! loops.
//!
//! It never sees a client's byte. It shuts gates before any loop hears of the table that shuts them, and
//! acknowledges a table after every loop uses it.

mod messages;
mod sample;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::access_log::Writer;
use super::confine::confine;
use super::drain::{Draining, orphan_limit};
use super::event_loop::{Handle, Order, Shared};
use super::slack::Slack;
use super::table::{Gates, Published};
use super::tripwire::Tripwire;
use crate::link::channel::{Channel, Receiver, Sender};
use crate::link::message::{Confinement, FromPlane, MAGIC, PROTOCOL, Sample, TlsOffer, ToPlane};
use crate::supervisor::Cleanup;

/// How often it is looked whether anything changed.
const SAMPLE: Duration = Duration::from_millis(100);
/// More loops than that are a mistake.
const MAX_LOOPS: u32 = 256;

/// The argument, behind those that are for [`Cleanup`], that spares a plane its confinement.
pub(crate) const UNCONFINED: &str = "unconfined";

/// `remuda proxy` as the supervisor starts it: the life of a plane as a process of its own, whose channel is its
/// stdin.
#[must_use]
pub fn run_from_stdin() -> ExitCode {
    // Through `/proc/self/fd` we would be called by that file's number.
    let _ = nix::sys::prctl::set_name(c"remuda");
    // Fails only if we lead a session already, which is as good.
    let _ = nix::unistd::setsid();
    // If we are stopped we cannot see that our supervisor is gone, and would keep the port. Where this
    // fails, that alone is lost.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGCONT);
    raise_descriptor_limit();
    crate::supervisor::protect::plane();
    let arguments: Vec<_> = std::env::args_os().skip(2).collect();
    let cleanup = match arguments.as_slice() {
        [supervisor, directory, ..] => Cleanup::start(supervisor, directory).map(Some),
        _ => Ok(None),
    };
    // From here on we have what a stranger shall have who takes us over. Before the log, which is a second thread.
    let is_confined = arguments.get(2).is_none_or(|word| word != UNCONFINED);
    let confinement = is_confined.then(confine);
    crate::supervisor::install_log();
    let mut cleanup = cleanup.unwrap_or_else(|error| {
        tracing::error!(%error, "nobody will tidy up if the supervisor is killed");
        None
    });
    let served = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|channel| run(channel.into(), confinement, cleanup.as_mut()));
    match (&served, cleanup) {
        (Ok(End::Orphaned), Some(cleanup)) => cleanup.settle(),
        (Ok(End::Drained) | Err(_), Some(cleanup)) => cleanup.dismiss(),
        (_, None) => {}
    }
    match served {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the data plane failed");
            ExitCode::FAILURE
        }
    }
}

fn run(
    channel: StdStream,
    confinement: Option<Confinement>,
    cleanup: Option<&mut Cleanup>,
) -> io::Result<End> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            ignore_signals()?;
            let mut terminate = signal(SignalKind::terminate())?;
            let stop = async move {
                terminate.recv().await;
            };
            tokio::select! {
                served = serve(channel, stop, confinement) => served,
                never = miss(cleanup) => match never {},
            }
        })
}

/// Says if nobody is there any more who would tidy up. We may start nobody ourselves.
async fn miss(cleanup: Option<&mut Cleanup>) -> Infallible {
    if let Some(cleanup) = cleanup {
        match cleanup.ended().await {
            Ok(status) => tracing::warn!(
                "`remuda cleanup` ended: {status}; nobody will tidy up if the supervisor is killed, until another data \
                 plane takes the place of this one"
            ),
            Err(error) => tracing::warn!(%error, "cannot see whether `remuda cleanup` goes on"),
        }
    }
    pending().await
}

/// The life of a plane within this process, until it has drained or its supervisor is gone. Blocks.
///
/// # Errors
/// The system's, or `InvalidData` if the supervisor does not speak our protocol.
pub fn serve_here(channel: StdStream) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(channel, pending(), None))?;
    Ok(())
}

/// Signals that people send to `remuda`, meaning the supervisor.
fn ignore_signals() -> io::Result<()> {
    let kinds = [
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    for kind in kinds {
        // The handler stays when its stream is dropped: from now on the signal does nothing.
        drop(signal(SignalKind::from_raw(kind))?);
    }
    Ok(())
}

fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it fails we serve as many as we may.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Until everything has ended.
async fn serve(
    channel: StdStream,
    stop: impl Future<Output = ()>,
    confinement: Option<Confinement>,
) -> io::Result<End> {
    channel.set_nonblocking(true)?;
    let (mut receiver, mut sender) = Channel::new(UnixStream::from_std(channel)?).split();
    let hello = FromPlane::Hello {
        magic: MAGIC,
        protocol: PROTOCOL,
        build: crate::BUILD.to_owned(),
        confinement,
    };
    sender.send(&hello, &[]).await?;
    let loops = greeting(&mut receiver).await?;
    let mut plane = Plane::start(loops, sender)?;
    let end = plane.attend(&mut receiver, stop).await?;
    if let End::Orphaned = end {
        plane.finish_alone().await?;
    }
    Ok(end)
}

async fn greeting(receiver: &mut Receiver) -> io::Result<u32> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    match receiver.recv::<ToPlane>().await? {
        Some((
            ToPlane::Hello {
                magic: MAGIC,
                protocol: PROTOCOL,
                loops,
                ..
            },
            _,
        )) => Ok(loops.clamp(1, MAX_LOOPS)),
        Some(_) => refused("the first message is no hello of our protocol"),
        None => refused("the supervisor left before its hello"),
    }
}

/// How a plane's attendance ends.
enum End {
    Drained,
    Orphaned,
}

struct Plane {
    shared: Arc<Shared>,
    loops: Vec<Handle>,
    gates: Gates,
    published: Option<Arc<Published>>,
    tripwire: Tripwire,
    slack: Slack,
    sender: Sender,
    /// Parts of an offer of which more is to come.
    offers: HashMap<usize, TlsOffer>,
    /// What the supervisor was told last.
    told: Sample,
    draining: bool,
    /// After the loops, which hand it their last lines when they end.
    writer: Option<Writer>,
}

impl Plane {
    fn start(loops: u32, sender: Sender) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let loops = (0..loops as usize)
            .map(|index| Handle::start(index, Arc::clone(&shared)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            shared,
            loops,
            gates: Gates::default(),
            published: None,
            tripwire: Tripwire::default(),
            slack: Slack::default(),
            sender,
            offers: HashMap::new(),
            told: Sample::default(),
            draining: false,
            writer: None,
        })
    }

    async fn attend(
        &mut self,
        receiver: &mut Receiver,
        stop: impl Future<Output = ()>,
    ) -> io::Result<End> {
        let shared = Arc::clone(&self.shared);
        let mut clock = interval(SAMPLE);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = Some(Box::pin(stop));
        loop {
            let stopped = async {
                match &mut stop {
                    Some(stop) => stop.await,
                    None => pending().await,
                }
            };
            let told = tokio::select! {
                message = receiver.recv::<ToPlane>() => match message {
                    Ok(Some((message, fds))) => self.on_message(message, fds).await,
                    Ok(None) => return Ok(End::Orphaned),
                    Err(error) => {
                        tracing::error!(%error, "the link to the supervisor broke");
                        return Ok(End::Orphaned);
                    }
                },
                () = stopped => {
                    stop = None;
                    self.leave().await
                }
                () = shared.wake.notified() => self.look_and_tell().await,
                _ = clock.tick() => self.look_and_tell().await,
            };
            match told {
                Ok(()) => {}
                Err(Trouble::Link(error)) => {
                    tracing::error!(%error, "cannot reach the supervisor");
                    return Ok(End::Orphaned);
                }
                Err(Trouble::Loop(error)) => return Err(error),
            }
            if self.draining && self.is_empty() {
                // It may be gone already: then nobody needs to know.
                let _ = self.tell_changes().await;
                let _ = self.sender.send(&FromPlane::Drained, &[]).await;
                return Ok(End::Drained);
            }
        }
    }

    /// Ends by itself; who holds the listeners must know, or nobody would accept meanwhile.
    async fn leave(&mut self) -> Result<(), Trouble> {
        self.tell(&FromPlane::Leaving).await?;
        self.drain(false).await
    }

    async fn drain(&mut self, orphaned: bool) -> Result<(), Trouble> {
        if self.draining && !orphaned {
            return Ok(());
        }
        self.draining = true;
        let since = self.shared.clock.now();
        let draining = Draining { since, orphaned };
        self.all(|| Ok(Order::Drain(draining))).await
    }

    /// The supervisor is gone: finish what is in flight within the plain limit, then end the workers.
    async fn finish_alone(&mut self) -> io::Result<()> {
        tracing::warn!("the supervisor is gone; finishing what is in flight");
        let table = self.published.as_ref().map(|p| Arc::clone(&p.table));
        let limit = Instant::now() + orphan_limit(table.as_ref());
        match self.drain(true).await {
            Ok(()) | Err(Trouble::Link(_)) => {}
            Err(Trouble::Loop(error)) => return Err(error),
        }
        while !self.is_empty() {
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep(SAMPLE) => {}
                () = sleep_until(limit) => break,
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.loops.iter().all(|handle| {
            let counters = &handle.counters;
            counters.accepting.load(Ordering::Acquire) == 0
                && counters.connections.load(Ordering::Acquire) == 0
        })
    }

    /// Gives every loop an order and waits until all have carried it out.
    async fn all(&self, order: impl Fn() -> io::Result<Order>) -> Result<(), Trouble> {
        let mut waiting = Vec::with_capacity(self.loops.len());
        for handle in &self.loops {
            waiting.push(handle.order(order().map_err(Trouble::Loop)?).await);
        }
        for carried_out in waiting {
            let gone = |_| Trouble::Loop(io::Error::other("an event loop is gone"));
            carried_out.await.map_err(gone)?;
        }
        Ok(())
    }

    async fn tell(&mut self, message: &FromPlane) -> Result<(), Trouble> {
        self.sender.send(message, &[]).await.map_err(Trouble::Link)
    }

    async fn look_and_tell(&mut self) -> Result<(), Trouble> {
        if let Some(published) = &self.published {
            self.tripwire.look(published, &self.shared.clock);
        }
        // Time has passed: a worker that warms up may have more, one that was ejected may be back.
        self.gates.look_again();
        let open = self.shared.connections.load(Ordering::Relaxed);
        if self
            .slack
            .is_to_be_given_back(open, self.shared.clock.now())
        {
            crate::sys::give_back_memory();
        }
        self.tell_changes().await
    }

    async fn tell_changes(&mut self) -> Result<(), Trouble> {
        let sample = self.sample();
        if sample == self.told {
            return Ok(());
        }
        self.tell_sample(None, sample).await
    }

    async fn tell_sample(&mut self, answers: Option<u64>, sample: Sample) -> Result<(), Trouble> {
        let message = FromPlane::Sample {
            answers,
            sample: Box::new(sample.clone()),
        };
        self.told = sample;
        self.tell(&message).await
    }
}

/// What ends a plane's attendance.
enum Trouble {
    /// The supervisor cannot be reached.
    Link(io::Error),
    /// One of our own loops is gone, or was given nonsense.
    Loop(io::Error),
}
