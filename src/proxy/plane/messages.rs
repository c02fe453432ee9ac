//! What the supervisor says to a plane, carried out.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Plane, Trouble};
use crate::link::message::{AccessLog, FromPlane, PublicListener, Table, TlsOffer, ToPlane};
use crate::proxy::access_log::{Format, Outlet, Writer};
use crate::proxy::drain::Notice;
use crate::proxy::event_loop::{Greetings, Order};
use crate::proxy::live::millis;
use crate::proxy::names::Names;
use crate::proxy::tls::{self, Greeting};

impl Plane {
    pub(super) async fn on_message(
        &mut self,
        message: ToPlane,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Trouble> {
        match message {
            ToPlane::Hello { .. } => Ok(()),
            ToPlane::Listeners(listeners) => self.listen(0, &listeners, &fds).await,
            ToPlane::Listener { place, listener } => {
                self.listen(place as usize, &[listener], &fds).await
            }
            ToPlane::Tls { offers, last } => self.offer(offers, last).await,
            ToPlane::AccessLog(log) => self.log(log.as_ref(), fds).await,
            ToPlane::Table(table) => self.publish(table).await,
            ToPlane::Accept => {
                self.all(|| Ok(Order::Accept)).await?;
                self.tell(&FromPlane::Accepting).await
            }
            ToPlane::Ping(number) => {
                self.all(|| Ok(Order::Turn)).await?;
                self.tell(&FromPlane::Pong(number)).await
            }
            ToPlane::Sample(number) => self.tell_sample(Some(number), self.sample()).await,
            ToPlane::Exchanges(number) => {
                let exchanges = FromPlane::Exchanges {
                    answers: number,
                    exchanges: self.shared.live.exchanges(&self.shared.clock),
                };
                self.tell(&exchanges).await
            }
            ToPlane::Announce(due) => self.announce(due).await,
            ToPlane::Drain => self.drain(false).await,
        }
    }

    async fn listen(
        &mut self,
        first: usize,
        listeners: &[PublicListener],
        fds: &[OwnedFd],
    ) -> Result<(), Trouble> {
        if listeners.len() != fds.len() {
            let error = "listeners and descriptors differ in number";
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            return Err(Trouble::Loop(error));
        }
        self.all(|| {
            let all = (first..).zip(listeners.iter().zip(fds));
            let copies = all.map(|(place, (listener, fd))| {
                let copy = fd.try_clone()?;
                Ok((place, listener.clone(), copy))
            });
            Ok(Order::Listen(copies.collect::<io::Result<_>>()?))
        })
        .await
    }

    async fn offer(&mut self, parts: Vec<TlsOffer>, last: bool) -> Result<(), Trouble> {
        for part in parts {
            match self.offers.entry(part.place as usize) {
                Entry::Occupied(known) => known.into_mut().identities.extend(part.identities),
                Entry::Vacant(place) => {
                    place.insert(part);
                }
            }
        }
        if !last {
            return Ok(());
        }
        let mut greetings = Greetings::new();
        let offers = std::mem::take(&mut self.offers);
        let names = Arc::new(Names::of(offers.values()));
        for (place, offer) in offers {
            match tls::config(&offer) {
                Ok(config) => {
                    let names = Arc::clone(&names);
                    let greeting = Greeting {
                        config,
                        names,
                        place,
                    };
                    greetings.insert(place, Arc::new(greeting));
                }
                // The supervisor has checked it.
                Err(why) => tracing::error!(place, why, "no TLS for a listener"),
            }
        }
        let greetings = Arc::new(greetings);
        self.all(|| Ok(Order::Tls(Arc::clone(&greetings)))).await
    }

    /// Every loop hands over what it has before the file is another one: what was logged until now is in
    /// the old one.
    async fn log(&mut self, log: Option<&AccessLog>, fds: Vec<OwnedFd>) -> Result<(), Trouble> {
        let refused = |why| {
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            Err(Trouble::Loop(error))
        };
        let Some(log) = log else {
            return self.all(|| Ok(Order::Log(None))).await;
        };
        let Some(fd) = fds.into_iter().next() else {
            return refused("an access log without a descriptor");
        };
        let Ok(format) = Format::new(log) else {
            return refused("an access log without a format");
        };
        let file = File::from(fd);
        let (queue, file) = match &self.writer {
            Some(writer) => (writer.queue(), Some(file)),
            None => {
                let writer = Writer::start(file).map_err(Trouble::Loop)?;
                (self.writer.insert(writer).queue(), None)
            }
        };
        let format = Arc::new(format);
        let outlet = Outlet { format, queue };
        self.all(|| Ok(Order::Log(Some(outlet.clone())))).await?;
        if let (Some(writer), Some(file)) = (&self.writer, file) {
            writer.turn(file);
        }
        Ok(())
    }

    async fn publish(&mut self, table: Arc<Table>) -> Result<(), Trouble> {
        let epoch = table.epoch;
        let newest = self.published.as_ref().map(|p| p.table.epoch);
        if newest.is_some_and(|newest| epoch < newest) {
            // Late news: what it says is over.
            return Ok(());
        }
        let loops = self.loops.len();
        let published = Arc::new(self.gates.apply(table, loops, &self.shared.clock));
        self.published = Some(Arc::clone(&published));
        self.all(|| Ok(Order::Table(Arc::clone(&published))))
            .await?;
        self.tell(&FromPlane::Ack(epoch)).await?;
        self.tell_sample(None, self.sample()).await
    }

    async fn announce(&mut self, due: Duration) -> Result<(), Trouble> {
        let later = self.shared.live.next();
        let notice = Notice::new(self.shared.clock.now(), millis(due), later);
        self.all(|| Ok(Order::Announce(notice))).await
    }
}
