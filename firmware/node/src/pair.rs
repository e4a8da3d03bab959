//! What the two appliances of a pair say to each other apart from VRRP, and who else may give orders: datagrams to the own
//! address, and what follows from them.

use core::net::Ipv4Addr;

use filter::Drop;
use policy::{Config, MAX_PATHS, Name, Pair, Tracked};
use random::SplitMix64;
use sync::{Path, Remote, Session, Standing};
use time::Instant;
use wire::ethernet::Mac;

use crate::appliance::Appliance;
use crate::leg::Legs;
use crate::office::VERSION;
use crate::{Event, Log, Transmit, emit};

/// The other appliance, as this one sees it.
#[derive(Debug)]
pub struct Pairing {
    pub session: Session,
    pub peer: Name,
    /// Whether a serial line is one more path.
    pub serial: bool,
    /// Whether first packets wait until the peer knows their flows, also where their rule does not say so.
    pub defers: bool,
    paths: heapless::Vec<Way, MAX_PATHS>,
}

/// A path, and the address that speaks on it.
#[derive(Clone, Copy, Debug)]
struct Way {
    leg: u8,
    mac: Mac,
    address: Ipv4Addr,
}

impl Pairing {
    /// The session with the peer in `config`, if there is one.
    pub fn new(config: &Config, seed: u64) -> Option<Self> {
        let pair = config.availability.pair.as_ref()?;
        Some(Self {
            session: Session::new(settings(pair), secret(seed)),
            peer: pair.peer.clone(),
            serial: pair.serial,
            defers: pair.defer,
            paths: (pair.paths.iter())
                .map(|path| Way {
                    leg: path.interface,
                    mac: path.mac,
                    address: path.address,
                })
                .collect(),
        })
    }

    /// Goes on with another configuration: the session too, if its keys and paths are the same.
    pub fn reload(&mut self, config: &Config, seed: u64, now: Instant) {
        let Some(new) = config.availability.pair.as_ref() else {
            return;
        };
        let same = (self.paths.iter())
            .map(|way| (way.leg, way.mac, way.address))
            .eq(new
                .paths
                .iter()
                .map(|path| (path.interface, path.mac, path.address)));
        if !same || !self.session.reload(now, settings(new)) {
            if let Some(new) = Self::new(config, seed) {
                *self = new;
            }
            return;
        }
        self.peer = new.peer.clone();
        self.defers = new.defer;
    }

    /// The path that a datagram came by.
    fn path(&self, leg: u8, source: Ipv4Addr) -> Option<Path> {
        let mut paths = self.paths.iter();
        let path = paths.position(|way| way.leg == leg && way.address == source)?;
        Some(Path(path as u8))
    }

    /// The leg and the peer's address of every path between addresses, in the order of their numbers.
    pub fn ways(&self) -> impl Iterator<Item = (u8, Ipv4Addr)> {
        self.paths.iter().map(|way| (way.leg, way.address))
    }
}

/// Sends the session's datagrams.
fn sender(paths: &[Way], legs: &Legs, out: &mut impl Transmit) -> impl FnMut(Path, &[u8]) {
    move |path, datagram| {
        if path == Path::SERIAL {
            out.serial(datagram);
        } else if let Some(way) = paths.get(path.index())
            && let Some(on) = legs.get(way.leg)
        {
            let ports = (sync::PORT, sync::PORT);
            emit::datagram(&on, (way.mac, way.address.into()), ports, datagram, out);
        }
    }
}

fn settings(pair: &Pair) -> sync::Settings {
    sync::Settings {
        first: pair.first,
        key: pair.key,
        paths: pair.paths.len() as u8,
        serial: pair.serial,
        heartbeat: core::time::Duration::from_millis(pair.heartbeat.into()),
        misses: pair.misses,
        sync: pair.sync,
        fingerprint: pair.fingerprint,
        firmware: FIRMWARE,
        versions: sync::VERSIONS,
    }
}

/// As much chance as the board has, in as many bytes as the session wants.
fn secret(seed: u64) -> [u8; 32] {
    let mut numbers = SplitMix64::new(seed);
    let mut secret = [0; 32];
    for part in secret.as_chunks_mut::<8>().0 {
        *part = numbers.draw().to_le_bytes();
    }
    secret
}

impl Appliance<'_> {
    /// Takes a datagram to the own address on `leg`; it is opened in place.
    pub(crate) fn heard_from_peer(
        &mut self,
        now: Instant,
        leg: u8,
        source: Ipv4Addr,
        bytes: &mut [u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let pairing = self.pairing.as_ref().ok_or(Drop::NotForUs)?;
        let path = pairing.path(leg, source).ok_or(Drop::NotForUs)?;
        self.pair_step(now, sync::Input::Datagram { path, bytes }, log, out);
        Ok(())
    }

    /// Tells the session something, and the group what comes of it.
    pub(crate) fn pair_step(
        &mut self,
        now: Instant,
        input: sync::Input<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        self.session_step(now, input, log, out);
        self.tell_peer(now, log, out);
        self.let_go(now, log, out);
        self.reschedule();
    }

    /// Tells the peer of a flow at once; what to wait for, if it listens.
    pub(crate) fn tell_flow(
        &mut self,
        now: Instant,
        item: u32,
        out: &mut impl Transmit,
    ) -> Option<sync::Deferred> {
        let Self {
            pairing,
            legs,
            filter,
            ..
        } = self;
        let Pairing { session, paths, .. } = pairing.as_mut()?;
        session.defer(now, item, filter, &mut sender(paths, legs, out))
    }

    /// Lets the peer know how this appliance is, until that changes nothing more.
    pub(crate) fn tell_peer(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        for _ in 0..ROUNDS {
            let standing = self.standing();
            if self.pairing.is_none() || self.told == standing {
                return;
            }
            self.told = standing;
            self.session_step(now, sync::Input::Standing(standing), log, out);
        }
    }

    fn session_step(
        &mut self,
        now: Instant,
        input: sync::Input<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let Self {
            pairing,
            legs,
            filter,
            ..
        } = self;
        let Some(Pairing { session, paths, .. }) = pairing else {
            return;
        };
        let events = session.step(now, input, filter, &mut sender(paths, legs, out));
        for event in events {
            self.paired(now, event, log, out);
        }
    }

    /// What news of the peer mean here.
    fn paired(&mut self, now: Instant, event: sync::Event, log: &mut Log, out: &mut impl Transmit) {
        if event != sync::Event::Heard {
            log.journal.push(now, Event::Pair(event));
        }
        match event {
            sync::Event::Heard | sync::Event::Lost => {
                let peer = self.peer();
                if self.agrees() {
                    self.group.agree();
                }
                self.group_step(now, vrrp::Input::Peer(peer), log, out);
            }
            sync::Event::Remembered(demotion) => {
                // The peer keeps for us what a restart made us forget.
                if vrrp::Reasons::from_bits(demotion).contains(vrrp::Reason::Operator) {
                    self.demote(now, vrrp::Reason::Operator, true, log, out);
                }
            }
            sync::Event::InSync => self.demote(now, vrrp::Reason::Sync, false, log, out),
            sync::Event::OutOfSync => self.demote(now, vrrp::Reason::Sync, true, log, out),
            sync::Event::Established { .. }
            | sync::Event::PathUp(_)
            | sync::Event::PathDown(_)
            | sync::Event::Incompatible { .. }
            | sync::Event::Mismatch { .. }
            | sync::Event::Match => {}
        }
    }

    pub(crate) fn demote(
        &mut self,
        now: Instant,
        reason: vrrp::Reason,
        on: bool,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        self.group_step(now, vrrp::Input::Demote { reason, on }, log, out);
    }

    /// Whether the peer has shown that it runs the same configuration.
    fn agrees(&self) -> bool {
        let session = self.pairing.as_ref().map(|pairing| pairing.session.peer());
        matches!(
            session,
            Some(sync::Peer::Alive(Remote {
                same_policy: true,
                ..
            }))
        )
    }

    fn peer(&self) -> vrrp::Peer {
        let session = self.pairing.as_ref().map(|pairing| &pairing.session);
        match session.map_or(sync::Peer::Unknown, Session::peer) {
            sync::Peer::Unknown => vrrp::Peer::Unknown,
            sync::Peer::Lost => vrrp::Peer::Lost,
            sync::Peer::Alive(Remote {
                standing, in_sync, ..
            }) => vrrp::Peer::Alive {
                state: from_session(standing.state),
                priority: standing.priority,
                yielding: standing.yielding,
                in_sync,
            },
        }
    }

    /// How this appliance is, for the peer to know.
    fn standing(&self) -> Standing {
        Standing {
            state: match self.group.state() {
                vrrp::State::Initialize => sync::State::Initialize,
                vrrp::State::Backup => sync::State::Backup,
                vrrp::State::Active => sync::State::Active,
                vrrp::State::Fault => sync::State::Fault,
            },
            priority: self.group.priority(),
            demotion: self.group.demotions().bits(),
            yielding: self.group.yielding(),
            links: self.links,
        }
    }

    /// Bad news, or good ones, about something that is watched.
    pub(crate) fn watched(
        &mut self,
        now: Instant,
        what: Tracked,
        good: bool,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        for track in self.group.tracks(what) {
            self.group_step(now, vrrp::Input::Track { track, good }, log, out);
        }
    }
}

pub fn from_session(state: sync::State) -> vrrp::State {
    match state {
        sync::State::Initialize => vrrp::State::Initialize,
        sync::State::Backup => vrrp::State::Backup,
        sync::State::Active => vrrp::State::Active,
        sync::State::Fault => vrrp::State::Fault,
    }
}

/// Version of this firmware in one number.
const FIRMWARE: u32 = u32::from_be_bytes([0, VERSION[0], VERSION[1], VERSION[2]]);
/// An answer of the session changes the standing once more at most; this is patience.
const ROUNDS: usize = 4;
