//! Events to collectors: syslog messages (RFC 5424, RFC 5426) and SNMPv2c traps (RFC 6527), from the own address.
//!
//! Each collector is told in its own time. While its neighbour does not answer, the journal keeps what it has missed, as far
//! as it reaches; what was lost is counted and said.

use core::net::IpAddr;

use filter::Hop;
use heapless::{String, Vec};
use policy::{Collector, Config, MAX_COLLECTORS, Name, Severity};
use time::{Duration, Instant};
use vrrp::State;
use wire::ethernet::Mac;
use wire::snmp::{Binding, Trap, Value};
use wire::syslog::{Header, Message, SAFE_LEN};

use crate::appliance::Appliance;
use crate::bucket::Bucket;
use crate::journal::{ENTRIES, Entry, Journal};
use crate::leg::Legs;
use crate::outline::{new_master, protocol_error};
use crate::{Event, Heard, Log, Transmit, emit};

/// All collectors, and what they are told.
#[derive(Debug)]
pub struct Outlets {
    name: Name,
    severity: Severity,
    community: String<32>,
    outlets: Vec<Outlet, { 2 * MAX_COLLECTORS }>,
    kinds: Vec<Kind, KINDS>,
    /// The next event to be judged.
    judged: u32,
    /// Which of the events in the journal are told: one bit for each place.
    told: u128,
}

/// How often events of one name are told.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    bucket: Bucket,
    withheld: u32,
}

/// One collector.
#[derive(Clone, Debug)]
struct Outlet {
    to: Collector,
    form: Form,
    /// The next event that it is told.
    next: u32,
    /// How many it was told.
    sent: u32,
    /// How many it has missed and does not know of.
    lost: u32,
    /// When it is tried next.
    ready: Instant,
    /// How long until then.
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Syslog,
    Trap,
}

/// More than there are names.
const KINDS: usize = 64;
/// Messages of one name at once, and then every second: a storm says no more than its beginning and its count.
const AT_ONCE: u16 = 32;
const PER_SECOND: u16 = 1;
/// Most events that one collector is told in one turn.
const BATCH: usize = 8;
/// Pauses between two questions for a silent neighbour: the first one, doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// System daemons (RFC 5424 §6.2.1).
const FACILITY: u8 = 3;
const PROGRAM: &str = "ravelin";
/// Our element's name. We have no enterprise number: this one is for examples (RFC 5612), and nobody else's.
const ELEMENT: &str = "ravelin@32473";
/// Ports that datagrams come from: dynamic ones that nobody answers to.
const SYSLOG_SOURCE: u16 = 49514;
const TRAP_SOURCE: u16 = 49162;
/// The longest trap.
const TRAP_LEN: usize = 256;

impl Outlets {
    pub fn new(config: &Config, now: Instant) -> Self {
        let events = &config.events;
        let outlet = |form| {
            move |to: &Collector| Outlet {
                to: *to,
                form,
                next: 0,
                sent: 0,
                lost: 0,
                ready: now,
                pause: FIRST_PAUSE,
            }
        };
        let syslog = events.syslog.iter().map(outlet(Form::Syslog));
        Self {
            name: config.name.clone(),
            severity: events.severity,
            community: events.community.clone(),
            outlets: syslog
                .chain(events.snmp.iter().map(outlet(Form::Trap)))
                .collect(),
            kinds: Vec::new(),
            judged: 0,
            told: 0,
        }
    }

    /// Goes on with another configuration: who was told before goes on where it was, others begin with what happens from now on.
    pub fn reload(&mut self, config: &Config, now: Instant, journal: &Journal) {
        let before = core::mem::replace(self, Self::new(config, now));
        for outlet in &mut self.outlets {
            let mut known = before.outlets.iter();
            let known = known.find(|old| (old.to, old.form) == (outlet.to, outlet.form));
            match known {
                Some(old) => *outlet = old.clone(),
                None => outlet.next = journal.next(),
            }
        }
        (self.kinds, self.judged, self.told) = (before.kinds, before.judged, before.told);
    }

    /// When somebody has to be told something.
    pub fn deadline(&self, journal: &Journal) -> Option<Instant> {
        let behind = self.outlets.iter().filter(|one| one.next != journal.next());
        behind.map(|one| one.ready).min()
    }

    /// Decides about events that nobody was told of yet.
    fn judge(&mut self, now: Instant, journal: &Journal) {
        while let Some(entry) = journal.from(self.judged) {
            let bit = bit(entry.number);
            self.told &= !bit;
            if self.admit(now, &entry.event) {
                self.told |= bit;
            }
            self.judged = entry.number.wrapping_add(1);
        }
    }

    fn admit(&mut self, now: Instant, event: &Event) -> bool {
        if event.severity() > self.severity {
            return false;
        }
        let name = event.name();
        let index = self.kinds.iter().position(|kind| kind.name == name);
        let index = index.or_else(|| {
            let bucket = Bucket::new(now, PER_SECOND, AT_ONCE);
            let withheld = 0;
            let kind = Kind {
                name,
                bucket,
                withheld,
            };
            self.kinds.push(kind).ok()?;
            Some(self.kinds.len() - 1)
        });
        let Some(kind) = index.and_then(|index| self.kinds.get_mut(index)) else {
            return true;
        };
        let admitted = kind.bucket.take(now);
        if !admitted {
            kind.withheld = kind.withheld.saturating_add(1);
        }
        admitted
    }

    /// Says how many events were not told since the last time.
    pub fn summarize(&mut self, now: Instant, journal: &mut Journal) {
        for kind in self.kinds.iter_mut().filter(|kind| kind.withheld > 0) {
            let count = core::mem::take(&mut kind.withheld);
            let kind = kind.name;
            journal.push(now, Event::Withheld { kind, count });
        }
    }

    fn is_told(&self, number: u32) -> bool {
        self.told & bit(number) != 0
    }
}

/// The place of an event in the journal, as a bit.
const fn bit(number: u32) -> u128 {
    1 << (number % ENTRIES as u32)
}

impl Appliance<'_> {
    /// Tells collectors what they do not know yet.
    pub(crate) fn publish(&mut self, now: Instant, log: &Log, out: &mut impl Transmit) {
        self.outlets.judge(now, &log.journal);
        for index in 0..self.outlets.outlets.len() {
            for _ in 0..BATCH {
                if !self.tell(now, index, log, out) {
                    break;
                }
            }
        }
    }

    /// Tells one collector of one event; whether there may be more to tell.
    fn tell(&mut self, now: Instant, index: usize, log: &Log, out: &mut impl Transmit) -> bool {
        let Some(outlet) = self.outlets.outlets.get(index) else {
            return false;
        };
        if now < outlet.ready {
            return false;
        }
        let (to, form, next) = (outlet.to, outlet.form, outlet.next);
        let Some(entry) = log.journal.from(next) else {
            return false;
        };
        let missed = entry.number.wrapping_sub(next);
        let wanted =
            self.outlets.is_told(entry.number) && (form == Form::Syslog || is_trap(&entry.event));
        let way = match wanted {
            true => self.way(to.address),
            false => None,
        };
        let mac = way.and_then(|(hop, _)| self.neighbours.lookup(hop));
        if let (Some((hop, _)), None) = (way, mac) {
            let _ = self.neighbours.ask(now, hop, &self.legs, out); // it is asked again after the pause
            if let Some(outlet) = self.outlets.outlets.get_mut(index) {
                outlet.ready = now + outlet.pause;
                outlet.pause = (outlet.pause * 2).min(LAST_PAUSE);
            }
            return false;
        }
        let Self { outlets, legs, .. } = self;
        let Some(outlet) = outlets.outlets.get_mut(index) else {
            return false;
        };
        outlet.lost = outlet.lost.saturating_add(missed);
        outlet.next = entry.number.wrapping_add(1);
        if let (Some((hop, _)), Some(mac)) = (way, mac) {
            outlet.pause = FIRST_PAUSE;
            let sender = Sender {
                name: &outlets.name,
                community: &outlets.community,
                hop,
                mac,
                legs,
            };
            match form {
                Form::Syslog => sender.syslog(now, outlet, entry, log.epoch, out),
                Form::Trap => sender.traps(outlet, entry, out),
            }
        }
        true
    }
}

/// The address that this appliance speaks VRRP from, as far as there is one.
pub fn speaker(legs: &Legs) -> Option<IpAddr> {
    let (on, _) = legs.routers().next()?;
    Some(on.address.into())
}

/// What datagrams to one collector need.
struct Sender<'a> {
    name: &'a str,
    community: &'a str,
    hop: Hop,
    mac: Mac,
    legs: &'a Legs,
}

impl Sender<'_> {
    fn send(&self, outlet: &Outlet, source: u16, data: &[u8], out: &mut impl Transmit) {
        if let Some(on) = self.legs.get(self.hop.leg) {
            let to = (self.mac, outlet.to.address);
            emit::datagram(&on, to, (source, outlet.to.port), data, out);
        }
    }

    /// One message; before it another one, if some were lost.
    fn syslog(
        &self,
        now: Instant,
        outlet: &mut Outlet,
        entry: &Entry,
        epoch: Option<u64>,
        out: &mut impl Transmit,
    ) {
        let lost = core::mem::take(&mut outlet.lost);
        if lost > 0 {
            let lost = Entry {
                number: entry.number,
                at: now,
                event: Event::Lost { count: lost },
            };
            self.message(outlet, &lost, epoch, out);
        }
        self.message(outlet, entry, epoch, out);
    }

    fn message(
        &self,
        outlet: &mut Outlet,
        entry: &Entry,
        epoch: Option<u64>,
        out: &mut impl Transmit,
    ) {
        let (event, micros) = (&entry.event, entry.at.as_micros());
        // 1 to 2147483647 (RFC 5424 §7.3.1).
        outlet.sent = outlet.sent % 0x7fff_ffff + 1;
        let mut buffer = [0; SAFE_LEN];
        let header = Header {
            facility: FACILITY,
            severity: event.severity() as u8,
            time: epoch.map(|epoch| epoch.saturating_add(micros)),
            host: self.name,
            program: PROGRAM,
            kind: event.name(),
        };
        let mut message = Message::new(&mut buffer, &header);
        message.element("meta");
        message.parameter("sequenceId", outlet.sent);
        message.parameter("sysUpTime", ticks(entry.at));
        message.element(ELEMENT);
        let own = speaker(self.legs);
        event.parts(own, &mut |name, value| message.parameter(name, value));
        self.send(outlet, SYSLOG_SOURCE, message.finish(event), out);
    }

    /// The traps of an event: one for each virtual router that it is about.
    fn traps(&self, outlet: &mut Outlet, entry: &Entry, out: &mut impl Transmit) {
        match &entry.event {
            Event::State {
                to: State::Active,
                cause,
                ..
            } => {
                for (on, router) in self.legs.routers() {
                    let (four, six);
                    let own: &[u8] = match router.config.is_v6() {
                        false => {
                            four = on.address.octets();
                            &four
                        }
                        true => {
                            let link_local = core::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
                            six = on.own6(link_local).map(|own| own.octets());
                            six.as_ref().map_or(&[][..], |own| own)
                        }
                    };
                    let index = instance(router.leg, router.config.vrid, router.config.is_v6());
                    let bindings = [
                        (OPERATIONS_MASTER, Value::Octets(own)),
                        (STATISTICS_REASON, Value::Integer(new_master(*cause).0)),
                    ];
                    self.trap(outlet, entry, NEW_MASTER, index, &bindings, out);
                }
            }
            Event::Advert {
                leg,
                vrid,
                source,
                heard,
            } => {
                let place = self.legs.iter().find(|(_, on)| on.name == *leg);
                if let Some(reason) = error_number(*heard)
                    && let Some((leg, _)) = place
                {
                    let index = instance(leg, *vrid, source.is_ipv6());
                    let bindings = [(STATISTICS_ERROR, Value::Integer(reason))];
                    self.trap(outlet, entry, PROTOCOL_ERROR, index, &bindings, out);
                }
            }
            _ => {}
        }
    }

    fn trap(
        &self,
        outlet: &mut Outlet,
        entry: &Entry,
        number: u32,
        index: [u32; 3],
        values: &[(&[u32], Value<'_>)],
        out: &mut impl Transmit,
    ) {
        outlet.sent = outlet.sent.wrapping_add(1);
        let mut oid = Oid::new();
        oid.extend(VRRPV3_MIB.iter().copied().chain([0, number]));
        let mut names: Vec<Oid, 2> = Vec::new();
        for (column, _) in values {
            let arcs = VRRPV3_MIB.iter().chain(*column).copied().chain(index);
            let _ = names.push(arcs.collect()); // no trap has more
        }
        let bindings: Vec<Binding<'_>, 2> = (names.iter().zip(values))
            .map(|(name, (_, value))| Binding {
                name,
                value: *value,
            })
            .collect();
        let trap = Trap {
            community: self.community.as_bytes(),
            request: outlet.sent,
            uptime: ticks(entry.at),
            oid: &oid,
            bindings: &bindings,
        };
        let mut buffer = [0; TRAP_LEN];
        if let Some(trap) = trap.write(&mut buffer) {
            self.send(outlet, TRAP_SOURCE, trap, out);
        }
    }
}

/// An object identifier of VRRPV3-MIB: its own, a column, an instance.
type Oid = Vec<u32, 20>;
/// VRRPV3-MIB (RFC 6527).
const VRRPV3_MIB: &[u32] = &[1, 3, 6, 1, 2, 1, 207];
/// vrrpv3NewMaster and vrrpv3ProtoError among its notifications.
const NEW_MASTER: u32 = 1;
const PROTOCOL_ERROR: u32 = 2;
/// vrrpv3OperationsMasterIpAddr.
const OPERATIONS_MASTER: &[u32] = &[1, 1, 1, 1, 3];
/// vrrpv3StatisticsNewMasterReason.
const STATISTICS_REASON: &[u32] = &[1, 2, 5, 1, 2];
/// vrrpv3StatisticsProtoErrReason.
const STATISTICS_ERROR: &[u32] = &[1, 2, 5, 1, 6];

/// Index of a row: interface, virtual router, version of IP (InetAddressType of RFC 4001).
fn instance(leg: u8, vrid: u8, six: bool) -> [u32; 3] {
    [u32::from(leg) + 1, vrid.into(), if six { 2 } else { 1 }]
}

/// Whether VRRPV3-MIB has a notification for it.
fn is_trap(event: &Event) -> bool {
    match event {
        Event::State { to, .. } => *to == State::Active,
        Event::Advert { heard, .. } => error_number(*heard).is_some(),
        _ => false,
    }
}

fn error_number(heard: Heard) -> Option<i32> {
    match heard {
        Heard::Refused(reason) => protocol_error(reason).map(|(number, _)| number),
        Heard::Unknown => Some(4),
        Heard::Carp | Heard::OtherAddresses | Heard::OtherChecksum => None,
    }
}

/// Hundredths of a second since the start; they wrap.
fn ticks(at: Instant) -> u32 {
    (at.as_micros() / 10_000) as u32
}
