//! What a plane's message changes in the set, and what follows from it for the loop. A plane is believed only what
//! fits the state it is in: one that was taken over must not change its story (T17).

use super::Planes;
use super::plane::PlaneState;
use crate::link::message::{Confinement, FromPlane, MAGIC, PROTOCOL};

/// What follows from a plane's message.
#[derive(Debug)]
pub(in crate::supervisor) enum News {
    /// It is one of ours, and has given up so much.
    Introduced(Option<Confinement>),
    /// The common epoch may have moved.
    Acknowledged,
    /// It serves now.
    Accepting,
    /// It was told by somebody else to end: a successor is needed now.
    Leaving,
    /// It has new counters; answers this question, if any.
    Sampled(Option<u64>),
    /// The answer to a question about exchanges.
    Exchanges(u64, Vec<crate::link::message::Exchange>),
    /// It broke the protocol and must be killed; the text says how.
    Broken(String),
    /// Nothing.
    Nothing,
}

impl Planes {
    /// Takes a plane's message.
    pub(in crate::supervisor) fn hear(&mut self, incarnation: u64, message: FromPlane) -> News {
        let Some(plane) = self.set.get_mut(&incarnation) else {
            return News::Nothing;
        };
        match message {
            FromPlane::Hello {
                magic,
                protocol,
                build,
                confinement,
            } => {
                if magic != MAGIC || protocol != PROTOCOL || build != crate::BUILD {
                    News::Broken(format!("its hello is that of another program ({build})"))
                } else if plane.state == PlaneState::Starting {
                    News::Introduced(confinement)
                } else {
                    // It has seen clients since, and is not to change its story.
                    News::Nothing
                }
            }
            FromPlane::Ack(epoch) => {
                if plane.acknowledge(epoch) {
                    News::Acknowledged
                } else {
                    News::Broken("it acknowledged a table it was never sent".to_owned())
                }
            }
            FromPlane::Accepting => {
                if plane.state != PlaneState::Opening {
                    return News::Nothing;
                }
                plane.state = PlaneState::Accepting;
                plane.served = true;
                News::Accepting
            }
            FromPlane::Pong(number) => {
                plane.pings.answered = plane.pings.answered.max(number.min(plane.pings.sent));
                News::Nothing
            }
            FromPlane::Sample { answers, sample } => {
                plane.sample = *sample;
                plane.counted = plane.acknowledged;
                News::Sampled(answers)
            }
            FromPlane::Exchanges { answers, exchanges } => News::Exchanges(answers, exchanges),
            FromPlane::Drained => News::Nothing,
            FromPlane::Leaving => {
                if plane.state == PlaneState::Accepting {
                    plane.state = PlaneState::Draining;
                    News::Leaving
                } else {
                    News::Nothing
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Epoch;
    use crate::supervisor::planes::tests::set;

    #[test]
    fn t17_a_plane_is_introduced_and_accepts_once_and_what_it_says_again_is_no_news() {
        let mut planes = set();
        let hello = FromPlane::Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            build: crate::BUILD.to_owned(),
            confinement: None,
        };
        assert!(matches!(
            planes.hear(1, hello.clone()),
            News::Introduced(None)
        ));
        // Nobody told it to yet.
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Nothing
        ));
        assert!(matches!(
            planes.hear(1, FromPlane::Ack(Epoch(0))),
            News::Acknowledged
        ));
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Accepting
        ));
        // Each of these would be a line of the log and an event, as often as it likes.
        assert!(matches!(planes.hear(1, hello), News::Nothing));
        assert!(matches!(
            planes.hear(1, FromPlane::Accepting),
            News::Nothing
        ));
    }
}
