//! What operators ask, and what the appliance does about it.

use core::net::{IpAddr, Ipv4Addr};

use filter::Drop;
use mgmt::events::{News, Part, clipped};
use mgmt::{
    Demotion, Desk, Member, MemberStatus, PathStatus, PeerStatus, Received, Refusal, Request,
    Response, Running, Statistics, Status,
};
use policy::{Config, MAX_TRACKS, Name, Tracked, Version, VirtualRouter};
use random::SplitMix64;
use sync::Remote;
use time::{Duration, Instant};
use wire::ethernet::Mac;

use crate::appliance::Appliance;
use crate::leg::{On, Router};
use crate::outlets::speaker;
use crate::{Event, Log, Transmit, emit};

/// The desk, and what it has to remember.
#[derive(Debug)]
pub struct Office {
    desk: Desk,
    pub name: Name,
    priority: u8,
    fingerprint: u64,
    started: Instant,
    /// Another one after each start, so that numbers of events are not mistaken for those before it.
    boot: u32,
    /// Values that programs of the operator's post, and until when they count. Without news they are bad.
    posted: heapless::Vec<Posted, MAX_TRACKS>,
    /// How the last hand-over failed.
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Posted {
    index: u8,
    until: Option<Instant>,
    good: bool,
}

/// Who asks: the leg, its station, address and port.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    pub leg: u8,
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub port: u16,
}

impl Office {
    /// A desk for the operators of `config`, if it names their key.
    pub fn new(config: &Config, seed: u64, now: Instant) -> Option<Self> {
        let pair = config.availability.pair.as_ref()?;
        let posted = (config.availability.tracks.iter()).filter_map(|track| match track.what {
            Tracked::Posted(index) => Some(Posted {
                index,
                until: None,
                good: false,
            }),
            Tracked::Port(_) | Tracked::Neighbours(_) | Tracked::Service(_) => None,
        });
        Some(Self {
            desk: Desk::new(&pair.operator, seed),
            name: config.name.clone(),
            priority: config.availability.priority,
            fingerprint: pair.fingerprint,
            started: now,
            boot: SplitMix64::new(!seed).draw() as u32,
            posted: posted.collect(),
            refusal: None,
        })
    }

    /// Goes on with another configuration.
    pub fn reload(&mut self, config: &Config, now: Instant) {
        let Some((new, pair)) = Self::new(config, 0, now).zip(config.availability.pair.as_ref())
        else {
            return;
        };
        self.desk.set_key(&pair.operator);
        self.priority = new.priority;
        self.fingerprint = new.fingerprint;
        let old = core::mem::replace(&mut self.posted, new.posted);
        for posted in &mut self.posted {
            if let Some(old) = old.iter().find(|old| old.index == posted.index) {
                *posted = *old;
            }
        }
    }

    /// Whether a posted value is good.
    pub fn is_good(&self, index: u8) -> bool {
        let mut posted = self.posted.iter();
        posted.any(|posted| posted.index == index && posted.good)
    }

    /// When the next posted value is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.posted.iter().filter_map(|posted| posted.until).min()
    }
}

impl Appliance<'_> {
    /// At the start nobody has posted anything.
    pub(crate) fn open_office(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        let posted = self.office.as_ref().map(|office| office.posted.clone());
        for Posted { index, .. } in posted.unwrap_or_default() {
            self.watched(now, Tracked::Posted(index), false, log, out);
        }
    }

    /// Values whose time is over are bad.
    pub(crate) fn close_posts(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        let is_over = |posted: &&mut Posted| posted.until.is_some_and(|until| now >= until);
        while let Some(office) = &mut self.office
            && let Some(posted) = office.posted.iter_mut().find(is_over)
        {
            (posted.until, posted.good) = (None, false);
            let index = posted.index;
            self.watched(now, Tracked::Posted(index), false, log, out);
            self.tell_peer(now, log, out);
        }
    }

    /// Takes a datagram to the operators' port; it is opened in place.
    pub(crate) fn asked(
        &mut self,
        now: Instant,
        asker: Asker,
        bytes: &mut [u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let Self { office, legs, .. } = self;
        let office = office.as_mut().ok_or(Drop::NotForUs)?;
        let on = legs.get(asker.leg).ok_or(Drop::UnknownVlan)?;
        let request = match office.desk.receive(now, bytes) {
            Received::Nothing => return Err(Drop::NotForUs),
            Received::Answer(answer) => {
                asker.tell(on, answer, out);
                return Ok(());
            }
            Received::Command(request) => request,
        };
        let response = self.serve(now, &request, log, out);
        let Self { office, legs, .. } = self;
        if let Some(office) = office
            && let Some(on) = legs.get(asker.leg)
        {
            asker.tell(on, office.desk.answer(&response), out);
        }
        self.reschedule();
        Ok(())
    }

    fn serve(
        &mut self,
        now: Instant,
        request: &Request,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Response {
        match *request {
            Request::Status => {
                let running = self.deployment.running(now, out);
                self.status(now, running, log)
                    .map_or(UNKNOWN, Response::Status)
            }
            Request::Member(index) => {
                let router = self.legs.router(index);
                router.map_or(UNKNOWN, |(on, router)| {
                    let known = self.adverts.statistics(index);
                    Response::Member(member_status(on, router, known))
                })
            }
            Request::HandOver => match self.hand_over(now, log, out) {
                Ok(()) => Response::Done,
                Err(refusal) => Response::Refused(refusal),
            },
            Request::Maintenance(on) => {
                self.maintain(now, on, log, out);
                Response::Done
            }
            Request::Event(number) => self.news(now, number, log),
            Request::Post {
                index,
                good,
                seconds,
            } => {
                let posted = self.office.iter_mut().flat_map(|office| &mut office.posted);
                let Some(posted) = posted.into_iter().find(|posted| posted.index == index) else {
                    return UNKNOWN;
                };
                posted.until = Some(now + Duration::from_secs(seconds.into()));
                posted.good = good;
                self.watched(now, Tracked::Posted(index), good, log, out);
                self.tell_peer(now, log, out);
                Response::Done
            }
            Request::Stage { .. }
            | Request::Part { .. }
            | Request::Apply { .. }
            | Request::Confirm { .. }
            | Request::Revert => self.deploy(now, request, log, out),
        }
    }

    /// The event with this number, or the oldest after it.
    fn news(&self, now: Instant, number: u32, log: &Log) -> Response {
        let Some(office) = &self.office else {
            return UNKNOWN;
        };
        let event = log.journal.from(number).map(|entry| {
            let mut parts = heapless::Vec::new();
            entry.event.parts(speaker(&self.legs), &mut |name, value| {
                let (name, value) = (clipped(name), clipped(value));
                let _ = parts.push(Part { name, value }); // no event has more than there is room for
            });
            mgmt::events::Event {
                number: entry.number,
                age: u64::try_from(now.since(entry.at).as_millis()).unwrap_or(u64::MAX),
                severity: entry.event.severity(),
                name: clipped(entry.event.name()),
                parts,
                words: clipped(&entry.event),
            }
        });
        Response::News(News {
            boot: office.boot,
            next: log.journal.next(),
            event,
        })
    }

    /// Stands back until told otherwise, or no longer.
    pub(crate) fn maintain(
        &mut self,
        now: Instant,
        on: bool,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        self.demote(now, vrrp::Reason::Operator, on, log, out);
        self.tell_peer(now, log, out);
        self.reschedule();
    }

    /// Asks the peer to take over.
    ///
    /// # Errors
    /// Why that cannot be, as far as it is known at once.
    pub(crate) fn hand_over(
        &mut self,
        now: Instant,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Refusal> {
        if let Some(office) = &mut self.office {
            office.refusal = None;
        }
        self.handing_over = Ok(());
        self.vrrp_step(now, vrrp::Input::Handover, log, out);
        self.handing_over
    }

    /// The group says how a hand-over ended.
    pub(crate) fn handed_over(&mut self, now: Instant, result: vrrp::Outcome, log: &mut Log) {
        let refusal = match result {
            vrrp::Outcome::Done => None,
            vrrp::Outcome::NotActive => Some(Refusal::NotActive),
            vrrp::Outcome::NoPeer => Some(Refusal::NoPeer),
            vrrp::Outcome::PeerFault => Some(Refusal::PeerUnable),
            vrrp::Outcome::PeerNotInSync => Some(Refusal::NotInSync),
            vrrp::Outcome::NotTaken => Some(Refusal::TimedOut),
        };
        self.handing_over = refusal.map_or(Ok(()), Err);
        if let Some(office) = &mut self.office {
            office.refusal = refusal;
        }
        log.journal.push(now, Event::HandOver { refusal });
    }

    fn status(&self, now: Instant, configuration: Running, log: &Log) -> Option<Status> {
        let office = self.office.as_ref()?;
        Some(Status {
            name: office.name.clone(),
            version: VERSION,
            fingerprint: office.fingerprint,
            uptime: seconds(now, office.started),
            state: state(self.group.state()),
            since: seconds(now, self.changed),
            priority: office.priority,
            effective_priority: self.group.priority(),
            demotions: self.group.demotions().iter().map(demotion).collect(),
            links: self.links,
            members: self
                .legs
                .routers()
                .map(|(on, router)| member(on, router))
                .collect(),
            flows: self.flows() as u32, // fewer than 2^24
            frames: (
                log.counters.received as u32, // wraps
                log.counters.forwarded as u32,
            ),
            hand_over: office.refusal,
            peer: self.peer_status(now),
            configuration,
        })
    }

    fn peer_status(&self, now: Instant) -> Option<PeerStatus> {
        let pairing = self.pairing.as_ref()?;
        let session = pairing.session.status(now, &self.filter);
        let up = |path: sync::Path| session.hears & path.bit() != 0;
        let paths = (0..)
            .zip(pairing.ways())
            .filter_map(|(index, (leg, address))| {
                Some(PathStatus {
                    network: self.legs.get(leg)?.name.clone(),
                    address: Some(address),
                    up: up(sync::Path(index)),
                })
            });
        let serial = pairing.serial.then(|| PathStatus {
            network: Name::try_from("serial").unwrap_or_default(),
            address: None,
            up: up(sync::Path::SERIAL),
        });
        Some(PeerStatus {
            name: pairing.peer.clone(),
            peer: match session.peer {
                sync::Peer::Unknown => mgmt::Peer::Unknown,
                sync::Peer::Lost => mgmt::Peer::Lost,
                sync::Peer::Alive(Remote { standing, .. }) => mgmt::Peer::Alive {
                    state: state(crate::pair::from_session(standing.state)),
                    priority: standing.priority,
                },
            },
            paths: paths.chain(serial).collect(),
            same_configuration: session.mismatch.is_none(),
            // Whichever of the two is the Backup says whether it knows all.
            in_sync: session.in_sync
                && matches!(session.peer, sync::Peer::Alive(peer) if peer.in_sync),
            lag: session.lag.entries,
        })
    }
}

impl Asker {
    fn tell(&self, on: On<'_>, answer: &[u8], out: &mut impl Transmit) {
        let ports = (mgmt::PORT, self.port);
        emit::datagram(&on, (self.mac, self.address.into()), ports, answer, out);
    }
}

fn member(on: On<'_>, router: &Router) -> Member {
    Member {
        network: on.name.clone(),
        vrid: router.config.vrid,
        address: shown(&router.config),
    }
}

/// The address that people know a virtual router by.
fn shown(router: &VirtualRouter) -> IpAddr {
    let first = router.addresses.first().copied();
    router
        .routed()
        .or(first)
        .unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

fn member_status(
    on: On<'_>,
    router: &Router,
    (statistics, active): (Statistics, Option<IpAddr>),
) -> MemberStatus {
    MemberStatus {
        member: member(on, router),
        version: match router.config.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        interval: router.config.advertisement_interval,
        active,
        statistics,
    }
}

const fn state(state: vrrp::State) -> mgmt::State {
    match state {
        vrrp::State::Initialize => mgmt::State::Initialize,
        vrrp::State::Backup => mgmt::State::Backup,
        vrrp::State::Active => mgmt::State::Active,
        vrrp::State::Fault => mgmt::State::Fault,
    }
}

const fn demotion(reason: vrrp::Reason) -> Demotion {
    match reason {
        vrrp::Reason::Link => Demotion::Link,
        vrrp::Reason::Track => Demotion::Track,
        vrrp::Reason::Sync => Demotion::Sync,
        vrrp::Reason::Watchdog => Demotion::Watchdog,
        vrrp::Reason::Operator => Demotion::Operator,
    }
}

fn seconds(now: Instant, since: Instant) -> u32 {
    u32::try_from(now.since(since).as_secs()).unwrap_or(u32::MAX)
}

/// The parts of a version, each a number below 256.
const fn number(text: &str) -> u8 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0_u8, 0);
    while at < bytes.len() {
        value = 10 * value + (bytes[at] - b'0');
        at += 1;
    }
    value
}

const UNKNOWN: Response = Response::Refused(Refusal::Unknown);
/// Version of this firmware: the package's.
pub const VERSION: [u8; 3] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
];
