//! Why requests wait although workers take requests. Planes only count them, so what is not sure is said with every
//! cause that may be; asked for the status, and nothing hangs on it.

use crate::link::message::ServiceRules;

/// Of a full share, what a worker that joins others has at first at least.
const FIRST_PART: u32 = 10;

/// What keeps waiting requests from every worker that takes requests, of which each has so many in flight.
pub(super) fn cause(in_flight: &[u32], rules: &ServiceRules) -> String {
    if in_flight.is_empty() {
        return "no worker takes requests".to_owned();
    }
    let most = rules.max_in_flight.map(u32::from);
    let is_full = |has: u32| most.is_some_and(|most| has >= most);
    // It may have less than it will have, and may have that.
    let may_climb = |has: u32| {
        let first = most.map(|most| most.div_ceil(FIRST_PART));
        !rules.slow_start.is_zero() && !is_full(has) && first.is_some_and(|first| has >= first)
    };
    let any = |what: &dyn Fn(u32) -> bool| in_flight.iter().any(|has| what(*has));
    let causes = [
        (any(&is_full), "has `max_in_flight`"),
        (
            any(&may_climb),
            "may have only a part of `max_in_flight` yet, by `slow_start`",
        ),
        (any(&|has| !is_full(has)), "has failed them"),
        (any(&|has| has == 0), "has only just become ready"),
    ];
    let causes: Vec<&str> = causes
        .iter()
        .filter_map(|(may_be, cause)| may_be.then_some(*cause))
        .collect();
    match causes.as_slice() {
        [rest @ .., last] if !rest.is_empty() => {
            format!("every worker {} or {last}", rest.join(", "))
        }
        causes => format!("every worker {}", causes.concat()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::cause;
    use crate::link::message::ServiceRules;

    #[test]
    fn what_keeps_requests_waiting_is_said_with_every_cause_that_may_be() {
        let rules = |most, seconds| ServiceRules {
            max_in_flight: NonZeroU32::new(most),
            slow_start: Duration::from_secs(seconds),
            ..ServiceRules::default()
        };
        let climbs = "may have only a part of `max_in_flight` yet, by `slow_start`";
        for (in_flight, rules, said) in [
            (&[][..], rules(10, 5), "no worker takes requests".to_owned()),
            (
                &[10, 11],
                rules(10, 5),
                "every worker has `max_in_flight`".to_owned(),
            ),
            (
                &[10, 1],
                rules(10, 5),
                format!("every worker has `max_in_flight`, {climbs} or has failed them"),
            ),
            (
                &[3],
                rules(10, 5),
                format!("every worker {climbs} or has failed them"),
            ),
            // Too few to be full at the first part of its share.
            (
                &[20, 1],
                rules(20, 5),
                "every worker has `max_in_flight` or has failed them".to_owned(),
            ),
            (
                &[10, 1],
                rules(10, 0),
                "every worker has `max_in_flight` or has failed them".to_owned(),
            ),
            (
                &[0, 0],
                rules(10, 5),
                "every worker has failed them or has only just become ready".to_owned(),
            ),
            // Without a limit nobody is full.
            (
                &[400],
                rules(0, 5),
                "every worker has failed them".to_owned(),
            ),
        ] {
            assert_eq!(cause(in_flight, &rules), said, "{in_flight:?}");
        }
    }
}
