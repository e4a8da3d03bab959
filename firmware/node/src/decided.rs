//! A packet that a rule with `log` decided about, as a person reads it, and how many a second are told.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use filter::{Logged, Ports};
use policy::Name;
use time::Instant;
use wire::{ipv4, ipv6};

use crate::appliance::Appliance;
use crate::bucket::Bucket;
use crate::{Event, Log};

/// What a rule decided about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whether the packet was let through.
    pub accepted: bool,
    /// Name of the network that it came from.
    pub leg: Name,
    /// Source before translation.
    pub source: IpAddr,
    /// Destination after translation.
    pub destination: IpAddr,
    /// Ports, where the protocol has some.
    pub ports: Ports,
    /// IP protocol number.
    pub protocol: u8,
}

/// Rule events per second on average; whoever fills the log hides nothing but what is counted.
const PER_SECOND: u16 = 10;
/// Rule events at once after a pause: less than half the queue of events, so that they push out nothing else.
const BURST: u16 = 20;

pub fn bucket(now: Instant) -> Bucket {
    Bucket::new(now, PER_SECOND, BURST)
}

impl Appliance<'_> {
    /// Tells of the last packet, if a rule wants that.
    #[inline]
    pub fn note_rule(&mut self, now: Instant, log: &mut Log) {
        if let Some(logged) = self.filter.take_logged() {
            self.tell_rule(now, &logged, log);
        }
    }

    #[cold]
    fn tell_rule(&mut self, now: Instant, logged: &Logged, log: &mut Log) {
        let Some(on) = self.legs.get(logged.leg) else {
            return;
        };
        if !self.rule_events.take(now) {
            log.counters.rules_withheld = log.counters.rules_withheld.wrapping_add(1);
            return;
        }
        log.journal.push(
            now,
            Event::Rule {
                rule: logged.rule,
                decided: Decided {
                    accepted: logged.accepted,
                    leg: on.name.clone(),
                    source: logged.source,
                    destination: logged.destination,
                    ports: logged.ports,
                    protocol: logged.protocol,
                },
            },
        );
    }
}

impl Decided {
    const fn verb(&self) -> &'static str {
        match self.accepted {
            true => "accepts",
            false => "refuses",
        }
    }

    /// The protocol's name, if it has ports.
    const fn with_ports(&self) -> Option<&'static str> {
        match self.protocol {
            ipv4::TCP => Some("tcp"),
            ipv4::UDP => Some("udp"),
            _ => None,
        }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, destination, ports) = (self.source, self.destination, self.ports);
        write!(f, "{} ", self.verb())?;
        match (self.with_ports(), self.protocol) {
            (Some(name), _) => {
                let source = SocketAddr::new(source, ports.source());
                let destination = SocketAddr::new(destination, ports.destination());
                write!(f, "{name} {source} -> {destination}")?;
            }
            (None, ipv4::ICMP | ipv6::ICMP) => write!(f, "icmp {source} -> {destination}")?,
            (None, protocol) => write!(f, "protocol {protocol} {source} -> {destination}")?,
        }
        write!(f, " from {}", self.leg)
    }
}

/// The words of `Display`, put together on the host.
#[cfg(feature = "defmt")]
impl defmt::Format for Decided {
    fn format(&self, f: defmt::Formatter<'_>) {
        let (verb, leg, ports) = (self.verb(), self.leg.as_str(), self.ports);
        match self.with_ports() {
            Some(name) => defmt::write!(
                f,
                "{=str} {=str} {}:{=u16} -> {}:{=u16} from {=str}",
                verb,
                name,
                self.source,
                ports.source(),
                self.destination,
                ports.destination(),
                leg
            ),
            None => defmt::write!(
                f,
                "{=str} protocol {=u8} {} -> {} from {=str}",
                verb,
                self.protocol,
                self.source,
                self.destination,
                leg
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn a_line_for_each_protocol() {
        let six = ("2001:db8::1", "2001:db8::2");
        let table = [
            (
                (true, 6, ("198.51.100.7", "10.20.1.11")),
                "accepts tcp 198.51.100.7:4000 -> 10.20.1.11:443 from wan",
            ),
            (
                (false, 17, six),
                "refuses udp [2001:db8::1]:4000 -> [2001:db8::2]:443 from wan",
            ),
            (
                (false, 58, six),
                "refuses icmp 2001:db8::1 -> 2001:db8::2 from wan",
            ),
            (
                (true, 47, ("192.0.2.1", "192.0.2.2")),
                "accepts protocol 47 192.0.2.1 -> 192.0.2.2 from wan",
            ),
        ];
        for ((accepted, protocol, (source, destination)), line) in table {
            let decided = Decided {
                accepted,
                leg: Name::try_from("wan").unwrap(),
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                ports: Ports::new(4000, 443),
                protocol,
            };
            assert_eq!(decided.to_string(), line);
        }
    }
}
