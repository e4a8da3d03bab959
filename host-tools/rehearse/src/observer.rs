//! Who is Active, learned from the VRRP advertisements that pass the switch: the same for every board.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Follows the advertisements of one virtual router.
#[derive(Debug)]
pub struct Observer {
    vlan: u16,
    vrid: u8,
    down_after: Duration,
    heard: BTreeMap<Ipv4Addr, Heard>,
    history: Vec<Advert>,
}

/// The first advertisement of an appliance after silence or after another one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// When it passed the switch.
    pub at: Instant,
    /// The sender's own address.
    pub from: Ipv4Addr,
    /// Its priority; 0 is a farewell.
    pub priority: u8,
}

impl Observer {
    /// Watches virtual router `vrid` on `vlan`, whose Active advertises every `interval`.
    #[must_use]
    pub fn new(vlan: u16, vrid: u8, interval: Duration) -> Self {
        Self {
            vlan,
            vrid,
            down_after: interval * 4,
            heard: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    /// Looks at a frame without tag; `true` if it was an advertisement that changed who speaks last.
    pub fn see(&mut self, now: Instant, vlan: u16, frame: &[u8]) -> bool {
        if vlan != self.vlan {
            return false;
        }
        let Some((from, vrid, priority)) = advertisement(frame) else {
            return false;
        };
        if vrid != self.vrid {
            return false;
        }
        self.heard.insert(from, Heard { at: now, priority });
        let change = self
            .history
            .last()
            .is_none_or(|last| last.from != from || last.priority != priority);
        if change && self.history.len() < MAX_HISTORY {
            self.history.push(Advert {
                at: now,
                from,
                priority,
            });
        }
        change
    }

    /// Who advertises now; `None` while nobody does or more than one does.
    #[must_use]
    pub fn active(&self, now: Instant) -> Option<Ipv4Addr> {
        let mut speaking = self.heard.iter().filter(|(_, heard)| {
            heard.priority > 0 && now.duration_since(heard.at) < self.down_after
        });
        let (address, _) = speaking.next()?;
        speaking.next().is_none().then_some(*address)
    }

    /// The first advertisement of anyone but `from` after `since`.
    #[must_use]
    pub fn taken_over(&self, from: Ipv4Addr, since: Instant) -> Option<Advert> {
        self.history
            .iter()
            .find(|advert| advert.from != from && advert.priority > 0 && advert.at > since)
            .copied()
    }

    /// Every change of who spoke, in order.
    #[must_use]
    pub fn history(&self) -> &[Advert] {
        &self.history
    }
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Instant,
    priority: u8,
}

/// Sender, VRID and priority of a VRRPv3 advertisement over IPv4 (RFC 9568 §5). The checksum is not looked at:
/// what an appliance wants to say is enough here.
fn advertisement(frame: &[u8]) -> Option<(Ipv4Addr, u8, u8)> {
    let ethernet = smoltcp::wire::EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != smoltcp::wire::EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = smoltcp::wire::Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if u8::from(packet.next_header()) != VRRP || packet.hop_limit() != 255 {
        return None;
    }
    match packet.payload() {
        [0x31, vrid, priority, ..] => Some((packet.src_addr(), *vrid, *priority)),
        _ => None,
    }
}

const VRRP: u8 = 112;
const MAX_HISTORY: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    const GW1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    const GW2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);
    const INTERVAL: Duration = Duration::from_millis(100);

    #[test]
    fn the_active_is_the_one_that_speaks() {
        let start = Instant::now();
        let mut observer = Observer::new(10, 10, INTERVAL);
        assert_eq!(observer.active(start), None);
        assert!(observer.see(start, 10, &advert(GW1, 10, 200)));
        assert!(!observer.see(start + INTERVAL, 10, &advert(GW1, 10, 200)));
        assert_eq!(observer.active(start + INTERVAL), Some(GW1));

        // gw1 falls silent, gw2 follows.
        let fault = start + INTERVAL + INTERVAL / 2;
        let takeover = start + 5 * INTERVAL;
        assert_eq!(observer.active(takeover), None);
        assert!(observer.see(takeover, 10, &advert(GW2, 10, 150)));
        assert_eq!(observer.active(takeover), Some(GW2));
        let first = observer.taken_over(GW1, fault).expect("gw2 spoke");
        assert_eq!((first.at, first.from, first.priority), (takeover, GW2, 150));
        assert_eq!(observer.taken_over(GW2, fault), None);
    }

    #[test]
    fn a_farewell_ends_a_reign_at_once() {
        let start = Instant::now();
        let mut observer = Observer::new(10, 10, INTERVAL);
        observer.see(start, 10, &advert(GW1, 10, 200));
        observer.see(start, 10, &advert(GW1, 10, 0));
        assert_eq!(observer.active(start), None);
    }

    #[test]
    fn two_that_speak_are_not_one_active() {
        let start = Instant::now();
        let mut observer = Observer::new(10, 10, INTERVAL);
        observer.see(start, 10, &advert(GW1, 10, 200));
        observer.see(start, 10, &advert(GW2, 10, 150));
        assert_eq!(observer.active(start), None);
    }

    #[test]
    fn other_frames_say_nothing() {
        let good = advert(GW1, 10, 200);
        let changed = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame
        };
        let frames = [
            ("other vlan", 21, good.clone()),
            ("other virtual router", 10, advert(GW1, 11, 200)),
            ("other protocol", 10, changed(14 + 9, 17)),
            ("low ttl", 10, changed(14 + 8, 254)),
            ("version 2", 10, changed(34, 0x21)),
            ("not ip", 10, changed(12, 0x86)),
            ("cut short", 10, good[..34].to_vec()),
            ("empty", 10, vec![]),
        ];
        for (name, vlan, frame) in frames {
            let mut observer = Observer::new(10, 10, INTERVAL);
            assert!(!observer.see(Instant::now(), vlan, &frame), "{name}");
            assert_eq!(observer.history(), [], "{name}");
        }
    }

    /// An advertisement as in RFC 9568 §5, for one address, without checksums.
    fn advert(from: Ipv4Addr, vrid: u8, priority: u8) -> Vec<u8> {
        let mut frame = vec![1, 0, 0x5e, 0, 0, 18, 0, 0, 0x5e, 0, 1, vrid, 8, 0];
        frame.extend([0x45, 0xc0, 0, 32, 0, 0, 0, 0, 255, VRRP, 0, 0]);
        frame.extend(from.octets());
        frame.extend([224, 0, 0, 18]);
        frame.extend([0x31, vrid, priority, 1, 0, 10, 0, 0, 203, 0, 113, 10]);
        frame.resize(60, 0);
        frame
    }
}
