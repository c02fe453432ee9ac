//! The time limits of a loop's clients, and room for new ones: looked at by the loop's clock.

use std::rc::Rc;
use std::time::Duration;

use super::Loop;
use crate::link::message::Limit;
use crate::proxy::client::{Client, Phase};
use crate::proxy::drain::{Draining, Habit};
use crate::proxy::live::millis;
use crate::proxy::table::View;
use crate::rollout::WorkerId;

/// Those that rest are looked at once in so many turns, a part of them in each, if they may rest for longer than
/// [`RESTING_LONG`]: thousands of them would hold up everybody else for milliseconds.
const PARTS: u32 = 10;
const RESTING_LONG: Duration = Duration::from_secs(5);
/// Where there is no place for a new client, so many that rest make room at a time: as many as may come until the
/// next look, and no more than that need to.
const ROOM: usize = 8;

impl Loop {
    /// The client of this number is to be looked at in each turn.
    pub(in crate::proxy) fn watch(&self, client: u64) {
        self.watched.borrow_mut().push(client);
    }

    /// Has those that rest longest make room for others, a few of them. Says whether any does.
    pub(in crate::proxy) fn make_room(&self) -> bool {
        let clients = self.clients.borrow();
        let now = self.now();
        let resting = |client: &Rc<Client>| {
            let from = client.room_from().filter(|from| *from <= now)?;
            Some((from, client.entry.number()))
        };
        let mut all: Vec<_> = clients.values().filter_map(resting).collect();
        if all.len() > ROOM {
            all.select_nth_unstable(ROOM);
            all.truncate(ROOM);
        }
        let first = all.iter().filter_map(|(_, number)| clients.get(number));
        let makes_room = |client: &&Rc<Client>| {
            let anew = !client.is_closing();
            let makes_room = client.makes_room();
            if makes_room && anew {
                self.counters.shed();
            }
            makes_room
        };
        first.filter(makes_room).count() > 0
    }

    pub(super) fn look_at_clients(&self, view: &View, left: &mut Vec<(WorkerId, u64)>) {
        let clients = self.clients.borrow();
        let may_rest = view.front.idle_timeout >= RESTING_LONG && self.draining.get().is_none();
        let parts = u64::from(if may_rest { PARTS } else { 1 });
        let part = u64::from(self.turns.get()) % parts;
        // To ask the number alone touches nothing but the map.
        for (_, client) in clients.iter().filter(|(number, _)| *number % parts == part) {
            if !client.is_watched() {
                self.keep_limits(client, view, left);
            }
        }
        let mut watched = self.watched.take();
        watched.retain(|number| {
            let Some(client) = clients.get(number) else {
                return false;
            };
            self.keep_limits(client, view, left);
            let goes_on = client.is_to_be_watched();
            if !goes_on {
                client.rests();
            }
            goes_on
        });
        // Whoever began meanwhile.
        watched.append(&mut self.watched.borrow_mut());
        *self.watched.borrow_mut() = watched;
    }

    fn keep_limits(&self, client: &Rc<Client>, view: &View, left: &mut Vec<(WorkerId, u64)>) {
        let front = &view.front;
        let now = self.now();
        if let Some(limit) = now.checked_sub(millis(front.header_timeout))
            && client.owes_head_since(limit)
        {
            // Whatever else it waits for: as by HTTP/1.1, a head comes in time or not at all.
            self.times_out(client, Limit::HeaderTime);
        }
        let (phase, since) = client.phase();
        let number = client.entry.number();
        if client.habit() == Habit::Served && self.is_noticed(number) && !client.is_closing() {
            client.close();
        }
        match phase {
            Phase::Idle => {
                let idle_since = client.idle_since();
                let limit = idle_since.saturating_add(millis(front.idle_timeout));
                let close_at = self.draining.get().map_or(limit, |draining| {
                    draining.close_at(number, idle_since, client.habit())
                });
                if now >= close_at && client.close_if_idle() && now >= limit {
                    self.counters.reached(Limit::IdleTime);
                }
                // It ought to be gone: what is left of its last answer stands still, or it does not say that it
                // has heard (F45), which a client that is asleep never will.
                let silent = self.draining.get().is_some_and(|draining| {
                    draining.is_given_up(close_at.max(client.last_taken()), now)
                });
                if silent || now >= close_at.saturating_add(view.stuck_after()) {
                    client.kill();
                }
            }
            Phase::Head => {
                if now >= since.saturating_add(millis(front.header_timeout)) {
                    self.times_out(client, Limit::HeaderTime);
                }
            }
            Phase::Spare => {}
            Phase::Streams => {
                let leaves = |d: Draining| now >= d.close_at(number, 0, client.habit());
                if self.draining.get().is_some_and(leaves) {
                    client.close();
                }
            }
            Phase::Busy => {
                client.may_leave_now();
                if client.has_left(now) {
                    client.kill();
                }
                let Some(exchange) = client.exchange() else {
                    // The whole answer was handed on, and the client does not take it.
                    let last = since.max(client.last_write());
                    if now >= last.saturating_add(view.stuck_after()) {
                        self.times_out(client, Limit::BodyTime);
                    }
                    return;
                };
                exchange.classify();
                let cut_at = exchange.cut_at();
                exchange.live().set_cut_at(cut_at);
                if exchange.has_lost_worker() {
                    exchange.lose();
                } else if cut_at.is_some_and(|at| now >= at) {
                    exchange.cut();
                } else if exchange.is_stuck() {
                    self.times_out(client, Limit::BodyTime);
                }
                if let (Some(at), Some(worker)) = (cut_at, exchange.worker()) {
                    left.push((worker.id, at.saturating_sub(now)));
                }
            }
        }
    }

    /// Ends a client that took longer than it may.
    fn times_out(&self, client: &Client, limit: Limit) {
        if !client.is_killed() {
            self.counters.reached(limit);
        }
        client.kill();
    }
}
