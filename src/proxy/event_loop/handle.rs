//! The main task's end of a loop: its thread, and the orders that it takes.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

use super::{Loop, Shared};
use crate::link::message::PublicListener;
use crate::proxy::access_log::Outlet;
use crate::proxy::counters::LoopCounters;
use crate::proxy::drain::{Draining, Notice};
use crate::proxy::table::Published;
use crate::proxy::tls::Greeting;

/// Tasks that are run before the kernel is asked what else has come. A request is four steps, so that all that came
/// at once from some sixty clients is read, sent on and answered in a row (see [`after_the_others`](super::after_the_others)).
const STEPS: u32 = 256;
/// Orders that may wait; the main task waits for each one, so there is hardly ever a second.
const ORDERS: usize = 16;

/// An order from the main task.
#[derive(Debug)]
pub(in crate::proxy) enum Order {
    /// Greet new clients like this.
    Tls(Arc<Greetings>),
    /// Use this table from now on.
    Table(Arc<Published>),
    /// Log requests here from now on, or nowhere.
    Log(Option<Outlet>),
    /// Keep these listeners, each in its place among all; one that has the place already is left.
    Listen(Vec<(usize, PublicListener, OwnedFd)>),
    /// Accept on them.
    Accept,
    /// Show that you turn.
    Turn,
    /// Let clients go that are here, and go on accepting others.
    Announce(Notice),
    /// Stop accepting and let everything end.
    Drain(Draining),
}

/// How clients of each listener are greeted that speak TLS, by the listener's place.
pub(in crate::proxy) type Greetings = HashMap<usize, Arc<Greeting>>;

/// The main task's end of a loop.
#[derive(Debug)]
pub(in crate::proxy) struct Handle {
    orders: mpsc::Sender<(Order, oneshot::Sender<()>)>,
    pub(in crate::proxy) counters: Arc<LoopCounters>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Starts a loop.
    ///
    /// # Errors
    /// The system's, if there is no thread or no runtime.
    pub(in crate::proxy) fn start(index: usize, shared: Arc<Shared>) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let counters = Arc::<LoopCounters>::default();
        let theirs = Arc::clone(&counters);
        // A local runtime cannot leave the thread that makes it, so that thread tells how it went.
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(format!("loop-{index}"))
            .spawn(move || {
                let mut builder = RuntimeBuilder::new_current_thread();
                builder.event_interval(STEPS);
                let built = builder.enable_all().build_local(LocalOptions::default());
                // `told` is there until it has heard.
                let runtime = match built {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(tell.send(Err(error))),
                };
                drop(tell.send(Ok(())));
                runtime.block_on(Rc::new(Loop::new(index, shared, theirs)).run(inbox));
            })?;
        told.recv().map_err(io::Error::other)??;
        Ok(Self {
            orders,
            counters,
            thread: Some(thread),
        })
    }

    /// Gives an order; the receiver resolves when it is carried out, or fails if the loop is gone.
    pub(in crate::proxy) async fn order(&self, order: Order) -> oneshot::Receiver<()> {
        let (done, carried_out) = oneshot::channel();
        // If the loop is gone `done` is dropped with the message, which says so.
        let _ = self.orders.send((order, done)).await;
        carried_out
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.orders = closed;
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the thread itself.
            let _ = thread.join();
        }
    }
}
