//! What the rows should be, beside what they are.

use super::{Event, Row, Service};
use crate::goals::{Goal, Sense};

/// All that can be judged by these rows.
pub fn goals(rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    let row = |who: &str, event, interval| {
        let mut rows = rows.iter();
        rows.find(|row| {
            row.who.starts_with(who) && row.event == event && row.interval_ms == interval
        })
    };
    let mut add = |what: &str, measured: Option<f64>, most: Option<f64>| {
        if let (Some(measured), Some(most)) = (measured, most) {
            goals.push(Goal::new(what, measured, Sense::AtMost, most));
        }
    };
    let median = |row: Option<&Row>| row.map(|row| row.address_ms.median);
    for interval in [1000, 100, 10] {
        let [ours, theirs] = [VRRP, THEIRS].map(|who| median(row(who, Event::PowerLoss, interval)));
        let what =
            format!("power loss, adverts every {interval} ms: median blackout, ms (keepalived's)");
        add(&what, ours, theirs);
    }
    add(
        "power loss, adverts every 10 ms: median blackout, ms",
        median(row(VRRP, Event::PowerLoss, 10)),
        Some(40.0),
    );
    add(
        "power loss, with heartbeats: median blackout, ms",
        median(row(PAIR, Event::PowerLoss, 100)),
        Some(20.0),
    );
    add(
        "link down: median blackout, ms",
        median(row(PAIR, Event::LinkDown, 100)),
        Some(10.0),
    );
    for event in [Event::Stop, Event::HandOver] {
        let service = row(PAIR, event, 100).and_then(|row| row.service.as_ref());
        let what = format!("{}: most frames lost", event.name());
        add(&what, service.map(|service| service.lost.max), Some(0.0));
    }
    let pair = rows.iter().filter(|row| row.who == PAIR);
    let services: Vec<&Service> = pair.filter_map(|row| row.service.as_ref()).collect();
    if !services.is_empty() {
        let broken: usize = services.iter().map(|service| service.broken).sum();
        add(
            "connections through the pair: broken",
            Some(broken as f64),
            Some(0.0),
        );
        let stalls = services.iter().map(|service| service.stall_by_patience.max);
        add(
            "… longest stall by blackout plus one retransmission",
            stalls.reduce(f64::max),
            Some(1.0),
        );
    }
    goals
}

/// How our rows with VRRP alone are called.
pub const VRRP: &str = "ravelin, VRRP alone";
/// How our rows with all that two of ours can do are called.
pub const PAIR: &str = "ravelin, pair";
/// The others'.
pub const THEIRS: &str = "keepalived, conntrackd";

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    #[test]
    fn every_goal_finds_its_rows() {
        let row = |who: &str, event, interval_ms, blackout: f64| Row {
            event,
            interval_ms,
            who: who.into(),
            address_ms: Spread::from_iter([blackout, blackout + 2.0, blackout - 1.0]),
            service: Some(Service {
                blackout_ms: Spread::default(),
                lost: [0.0, 1.0].into_iter().collect(),
                open: 48,
                broken: 1,
                stall_ms: Spread::default(),
                stall_by_patience: [0.5, 0.9].into_iter().collect(),
            }),
        };
        let rows = [
            row(VRRP, Event::PowerLoss, 100, 320.0),
            row(THEIRS, Event::PowerLoss, 100, 319.0),
            row(PAIR, Event::PowerLoss, 100, 15.0),
            row(PAIR, Event::LinkDown, 100, 12.0),
            row(PAIR, Event::HandOver, 100, 1.0),
            row(VRRP, Event::PowerLoss, 10, 30.0),
        ];
        let goals = goals(&rows);
        let numbers = goals
            .iter()
            .map(|goal| (goal.measured, goal.goal, goal.met));
        assert_eq!(
            numbers.collect::<Vec<_>>(),
            [
                (320.0, 319.0, false),
                (30.0, 40.0, true),
                (15.0, 20.0, true),
                (12.0, 10.0, false),
                (1.0, 0.0, false),
                (3.0, 0.0, false),
                (0.9, 1.0, true),
            ]
        );
    }
}
