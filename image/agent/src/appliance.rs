//! What the appliances said of themselves, in their events (RFC 5424, names as in RFC 8347).

use std::collections::BTreeMap;
use std::fmt;

use crate::figures::{escaped, family};
use crate::line::Line;

/// What is known of each appliance.
#[derive(Debug, Default)]
pub struct Appliances {
    states: BTreeMap<String, State>,
    events: BTreeMap<(String, String), u64>,
}

/// What one said last; `None` until it says something.
#[derive(Debug, Default)]
struct State {
    active: Option<bool>,
    peer: Option<bool>,
    in_sync: Option<bool>,
}

impl Appliances {
    /// Counts an event, and takes note of it.
    pub fn hear(&mut self, host: &str, line: &Line<'_>) {
        if !self.note(host, line) {
            return;
        }
        let key = (host.to_owned(), line.kind.to_owned());
        if self.events.len() < MOST_KINDS || self.events.contains_key(&key) {
            *self.events.entry(key).or_default() += 1;
        }
    }

    /// Takes note of what an event says of its appliance; false if it is none.
    pub fn note(&mut self, host: &str, line: &Line<'_>) -> bool {
        if line.program != "ravelin" || !line.data.contains(ELEMENT) {
            return false;
        }
        let state = self.states.entry(host.to_owned()).or_default();
        match line.kind {
            "vrrp-new-master-event" | "vrrp-state-change" | "vrrp-fault" => {
                let active = line.parameter("to") == Some("Active");
                state.active = Some(active);
                if active {
                    // Who tells others of connections knows them all.
                    state.in_sync = None;
                }
            }
            "peer-found" | "peer-heard" => state.peer = Some(true),
            "peer-lost" => state.peer = Some(false),
            "in-sync" => state.in_sync = Some(true),
            "not-in-sync" => state.in_sync = Some(false),
            _ => {}
        }
        true
    }
}

impl fmt::Display for Appliances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        type Part = fn(&State) -> Option<bool>;
        let gauges: [(&str, &str, Part); 3] = [
            (
                "ravelin_appliance_active",
                "Whether it said last that it is Active.",
                |s| s.active,
            ),
            (
                "ravelin_appliance_peer",
                "Whether it said last that it hears its peer.",
                |s| s.peer,
            ),
            (
                "ravelin_appliance_in_sync",
                "Whether it said last that it knows all connections.",
                |s| s.in_sync,
            ),
        ];
        for (name, help, part) in gauges {
            family(f, name, "gauge", help)?;
            for (appliance, state) in &self.states {
                if let Some(value) = part(state) {
                    writeln!(f, "{name}{{appliance=\"{appliance}\"}} {}", u8::from(value))?;
                }
            }
        }
        let name = "ravelin_appliance_events_total";
        family(f, name, "counter", "Events of an appliance, by name.")?;
        for ((appliance, kind), count) in &self.events {
            let kind = escaped(kind);
            writeln!(
                f,
                "{name}{{appliance=\"{appliance}\",event=\"{kind}\"}} {count}"
            )?;
        }
        Ok(())
    }
}

/// The element of structured data that our appliances write.
const ELEMENT: &str = "[ravelin@";
/// Names of events of all appliances together.
const MOST_KINDS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let mut appliances = Appliances::default();
        let mut hear = |host: &str, kind: &str, parts: &str| {
            let text = format!("<29>1 - {host} ravelin - {kind} [ravelin@32473{parts}] words");
            appliances.hear(host, &Line::parse(&text).expect("a line"));
        };
        hear(
            "gw1",
            "vrrp-new-master-event",
            " from=\"Backup\" to=\"Active\"",
        );
        hear("gw1", "peer-found", "");
        hear(
            "gw2",
            "vrrp-state-change",
            " from=\"Initialize\" to=\"Backup\"",
        );
        hear("gw2", "in-sync", "");
        hear("gw2", "peer-lost", "");
        hear(
            "gw2",
            "vrrp-new-master-event",
            " from=\"Backup\" to=\"Active\"",
        );
        hear("gw1", "vrrp-fault", " from=\"Active\" to=\"Fault\"");
        let text = appliances.to_string();
        for line in [
            "ravelin_appliance_active{appliance=\"gw1\"} 0",
            "ravelin_appliance_active{appliance=\"gw2\"} 1",
            "ravelin_appliance_peer{appliance=\"gw1\"} 1",
            "ravelin_appliance_peer{appliance=\"gw2\"} 0",
            "ravelin_appliance_events_total{appliance=\"gw2\",event=\"vrrp-new-master-event\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("in_sync{"), "{text}");
    }

    #[test]
    fn others_are_not_appliances() {
        let mut appliances = Appliances::default();
        let text = "<29>1 - web1 ravelin - vrrp-state-change - to=\"Active\"";
        appliances.hear("web1", &Line::parse(text).expect("a line"));
        assert!(appliances.states.is_empty());
    }
}
