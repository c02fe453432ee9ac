//! What every plane is told at once, and those to come find when they start: tables, certificates, the access log,
//! listeners that were bound again, questions, the end. Never waits for a plane: one that does not read is replaced.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Planes;
use super::plane::PlaneState;
use crate::link::message::{Table, TlsOffer, ToPlane};
use crate::rollout::Moment;
use crate::supervisor::access_log::OpenLog;
use crate::supervisor::belonging::Belonging;
use crate::supervisor::certificates;
use crate::supervisor::listeners::Listeners;
use crate::supervisor::premises::Found;

impl Planes {
    /// Sends a table to every plane.
    pub(in crate::supervisor) fn publish(&mut self, now: Moment, table: Table) {
        self.table = Arc::new(table);
        for plane in self.set.values_mut() {
            plane.say_table(now, &self.table);
        }
    }

    /// What planes greet new clients with.
    #[must_use]
    pub(in crate::supervisor) fn offers(&self) -> &[TlsOffer] {
        &self.offers
    }

    /// Every plane, and those to come, greets new clients with these certificates.
    pub(in crate::supervisor) fn offer(&mut self, offers: Vec<TlsOffer>) {
        for message in certificates::messages(&offers) {
            for plane in self.set.values() {
                // One that does not read is replaced, and its successor gets the new ones.
                plane.say(message.clone());
            }
        }
        self.offers = offers;
    }

    /// Every plane, and those to come, log to this one from now on.
    pub(in crate::supervisor) fn log_to(&mut self, log: Option<OpenLog>) {
        self.log = log;
        for plane in self.set.values() {
            let letter = match &self.log {
                Some(open) => open.letter(),
                None => Ok((ToPlane::AccessLog(None), Vec::new())),
            };
            // A full outbox is a plane that does not read, which is replaced.
            match letter {
                Ok(letter) => drop(plane.send(letter)),
                Err(error) => tracing::warn!("the access log stays as it was: {error}"),
            }
        }
    }

    /// Asks every serving plane for a sample; returns the question's number and who was asked.
    pub(in crate::supervisor) fn ask_samples(&mut self) -> (u64, Vec<u64>) {
        self.ask(ToPlane::Sample)
    }

    /// Asks every serving plane for what is in flight.
    pub(in crate::supervisor) fn ask_exchanges(&mut self) -> (u64, Vec<u64>) {
        self.ask(ToPlane::Exchanges)
    }

    fn ask(&mut self, question: fn(u64) -> ToPlane) -> (u64, Vec<u64>) {
        let number = self.next_question;
        self.next_question += 1;
        let mut asked = Vec::new();
        for (incarnation, plane) in &self.set {
            if plane.state != PlaneState::Starting && plane.say(question(number)) {
                asked.push(*incarnation);
            }
        }
        (number, asked)
    }

    /// The paths of public sockets that are ours.
    pub(in crate::supervisor) fn paths(&self) -> impl Iterator<Item = &Belonging> {
        self.listeners.iter().flat_map(Listeners::paths)
    }

    /// Binds again what is gone of the public sockets, and hands it to every plane in the old one's place.
    pub(in crate::supervisor) fn look_after(&mut self, found: &mut Found) {
        let Some(listeners) = &mut self.listeners else {
            return;
        };
        for place in listeners.look_after(found) {
            let mut taking = self.set.values().filter(|plane| plane.takes_clients());
            let handed_over = taking.try_for_each(|plane| {
                // A full outbox is a plane that does not read: its successor gets the new one at its start.
                plane.send(listeners.letter(place)?);
                io::Result::Ok(())
            });
            match handed_over {
                Ok(()) => found.made.extend(listeners.made(place)),
                Err(error) => {
                    // Clients would wait there for nobody.
                    listeners.take_away(place);
                    found
                        .missing
                        .push(format!("cannot hand over a public socket: {error}"));
                }
            }
        }
    }

    /// Tells every plane that it will be told to finish.
    pub(in crate::supervisor) fn announce(&self, due: Duration) {
        for plane in self.set.values() {
            // One that does not read it loses nothing but time.
            plane.say(ToPlane::Announce(due));
        }
    }

    /// Tells every plane to finish, closes our own copies of the listeners and starts no other plane.
    pub(in crate::supervisor) fn drain(&mut self) {
        self.stopping = true;
        self.start_at = None;
        for plane in self.set.values_mut() {
            if plane.say(ToPlane::Drain) {
                plane.state = PlaneState::Draining;
            }
        }
        self.listeners = None;
    }
}
