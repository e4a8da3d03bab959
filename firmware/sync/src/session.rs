//! The session of a pair: begins it, keeps it alive on every path, and says how the peer is.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use time::{Duration, Instant};
use zerocopy::IntoBytes;

use crate::exchange::{Exchange, Lag};
use crate::hello::{self, Hello, Keys, NOBODY, Nonce};
use crate::message::{self, ACK, BATCH, BEAT, Beat, Standing, State};
use crate::path::{Line, PATHS, Path};
use crate::seal::{HEADER_LEN, MAX_BODY, OpenError, SEALED, Seal};
use crate::store::{Store, Terms};
use crate::{ExchangeCounters, MAX_DATAGRAM, VERSIONS};

/// How a session is kept: from the configuration, the same on both appliances but for `first`.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Whether this is the first appliance of the pair.
    pub first: bool,
    /// The secret of the two.
    pub key: [u8; 32],
    /// How many paths there are between their addresses.
    pub paths: u8,
    /// Whether a serial line is one more.
    pub serial: bool,
    /// Time between two heartbeats on each path.
    pub heartbeat: Duration,
    /// How many must be missing for a dead path.
    pub misses: u8,
    /// Whether the Backup should know the Active's flows.
    pub sync: bool,
    /// Digest of what both must agree about.
    pub fingerprint: u64,
    /// Version of this firmware, for the peer to show.
    pub firmware: u32,
    /// Oldest and newest version of the protocol to speak: [`VERSIONS`].
    pub versions: (u8, u8),
}

impl core::fmt::Debug for Settings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Settings(..)")
    }
}

impl Default for Settings {
    /// One path and no secret, for tests to fill in.
    fn default() -> Self {
        Self {
            first: true,
            key: [0; 32],
            paths: 1,
            serial: false,
            heartbeat: Duration::from_millis(10),
            misses: 3,
            sync: true,
            fingerprint: 0,
            firmware: 0,
            versions: VERSIONS,
        }
    }
}

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// Time has passed. Before [`Session::deadline`] nothing happens.
    Timer,
    /// A datagram arrived on a path, from anybody. It is opened in place.
    Datagram {
        /// The path.
        path: Path,
        /// The bytes behind the UDP header, or of a frame of the serial line.
        bytes: &'a mut [u8],
    },
    /// How this appliance is from now on. The peer hears of a change at once.
    Standing(Standing),
}

/// What the appliance should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// A session began; of an earlier one nothing is left.
    Established {
        /// The version of the protocol that it speaks.
        version: u8,
    },
    /// This appliance was demoted for these reasons when the peer last heard it, before it started anew.
    Remembered(u8),
    /// A heartbeat arrived: [`Session::peer`] has news.
    Heard,
    /// Every path is silent: [`Session::peer`] is lost.
    Lost,
    /// The peer is heard on this path.
    PathUp(Path),
    /// It no longer is.
    PathDown(Path),
    /// The peer speaks none of our versions, but these.
    Incompatible {
        /// Its oldest.
        oldest: u8,
        /// Its newest.
        newest: u8,
    },
    /// The peer's configuration is another one: the two do not agree what the site is.
    Mismatch {
        /// Its fingerprint.
        theirs: u64,
    },
    /// Both configurations are the same again.
    Match,
    /// The Active knows flows that this appliance, a Backup, has not heard of yet.
    OutOfSync,
    /// It has heard of all, or there is nobody left to hear of them from.
    InSync,
}

/// Everything one step can bring.
pub type Events = heapless::Vec<Event, 16>;

/// What is known of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Peer {
    /// Never heard: only VRRP decides.
    Unknown,
    /// It was there, and is silent on every path.
    Lost,
    /// It is there.
    Alive(Remote),
}

/// How the peer is, from its latest heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Remote {
    /// State, priority and reasons.
    pub standing: Standing,
    /// Whether the Backup knows all that the Active does, as the peer sees it.
    pub in_sync: bool,
    /// Version of its firmware.
    pub firmware: u32,
    /// Whether its configuration fits ours.
    pub same_policy: bool,
}

/// The state of a session for telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The version that is spoken; `None` without a session.
    pub version: Option<u8>,
    /// The peer.
    pub peer: Peer,
    /// The peer's fingerprint if it is not ours.
    pub mismatch: Option<u64>,
    /// Whether the Backup knows all that the Active does.
    pub in_sync: bool,
    /// How far the peer is behind, while this appliance is Active.
    pub lag: Lag,
    /// How long it took to tell the peer all, the last time.
    pub last_bulk: Option<Duration>,
    /// What was counted of that.
    pub exchange: ExchangeCounters,
    /// Paths on which the peer is heard, one bit each.
    pub hears: u8,
    /// Paths on which the peer hears us, one bit each.
    pub heard: u8,
    /// What was counted.
    pub counters: Counters,
}

/// A first packet that waits until the peer knows its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferred {
    session: u32,
    batch: u32,
    until: Instant,
}

impl Deferred {
    /// Until when it waits at most.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }
}

/// What a session counts. All wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions begun.
    pub sessions: u32,
    /// Heartbeats of the peer.
    pub beats: u32,
    /// Datagrams that are none of ours, or of another session.
    pub foreign: u32,
    /// Datagrams that were seen before.
    pub replayed: u32,
    /// Datagrams that somebody made or damaged.
    pub forged: u32,
    /// Datagrams of the peer that say nothing we understand.
    pub malformed: u32,
    /// Hellos that were not looked at because there were too many.
    pub hurried: u32,
}

/// What is spoken with the peer now.
#[derive(Debug)]
struct Talk {
    seal: Seal,
    own: Nonce,
    peer: Nonce,
    since: Instant,
    /// Whether the peer has the keys too: something sealed came.
    confirmed: bool,
}

/// One appliance's end.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    /// Whether the peer has shown that it has these settings too.
    settled: bool,
    keys: Keys,
    seed: [u8; 32],
    drawn: u64,
    /// The number that the next session will be named by.
    fresh: Nonce,
    talk: Option<Talk>,
    lines: [Line; PATHS],
    standing: Standing,
    /// The latest heartbeat of the peer, also of a session that is over.
    beat: Option<Beat>,
    alive: bool,
    /// Whether `beat` is of this session.
    current: bool,
    sequence: u32,
    hello_due: Instant,
    /// Hellos that may still be verified now.
    hellos: Allowance,
    /// Hellos that may still be answered now.
    answers: Allowance,
    exchange: Exchange,
    /// What the Backup knows.
    in_sync: bool,
    /// Whether this appliance is the one that does not.
    lacks: bool,
    /// Whether flows were told when the session was asked last, and to somebody who is not Active too.
    told: (bool, bool),
    incompatible: bool,
    mismatch: Option<u64>,
    /// When the session was asked last.
    asked: Instant,
    /// Until then nobody is declared dead: we were away ourselves.
    patient_until: Instant,
    counters: Counters,
    buffer: [u8; MAX_DATAGRAM],
}

/// So many in each [`TICK`].
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u8,
    until: Instant,
}

impl Session {
    /// A session that has not begun. `seed` is secret and never used before: as much chance as the board has.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32]) -> Self {
        let lines = core::array::from_fn(|index| line(&settings, index));
        let mut session = Self {
            keys: Keys::new(&settings.key, settings.first),
            settings,
            settled: true,
            seed,
            drawn: 0,
            fresh: NOBODY,
            talk: None,
            lines,
            standing: Standing::default(),
            beat: None,
            alive: false,
            current: false,
            sequence: 0,
            hello_due: Instant::ZERO,
            hellos: Allowance::NONE,
            answers: Allowance::NONE,
            exchange: Exchange::new(),
            in_sync: false,
            lacks: false,
            told: (false, false),
            incompatible: false,
            mismatch: None,
            asked: Instant::ZERO,
            patient_until: Instant::ZERO,
            counters: Counters::default(),
            buffer: [0; MAX_DATAGRAM],
        };
        session.fresh = session.draw();
        session
    }

    /// Goes on with the settings of another configuration. Until the peer has the same one, heartbeats are sent as often as
    /// either of them says, and waited for as long. `false`, and nothing has changed, if only another session can have them.
    #[must_use]
    pub fn reload(&mut self, now: Instant, settings: Settings) -> bool {
        let same = |settings: &Settings| {
            (
                settings.key,
                settings.first,
                settings.paths,
                settings.serial,
            )
        };
        if same(&settings) != same(&self.settings) {
            return false;
        }
        self.settings = settings;
        self.settled = false;
        for index in 0..PATHS {
            let new = line(&self.settings, index);
            if let Some(old) = self.lines.get_mut(index) {
                old.interval = old.interval.min(new.interval);
                old.limit = old.limit.max(new.limit);
            }
        }
        self.beat_now(now);
        true
    }

    /// Applies one input; datagrams to send are handed to `out` with their path.
    pub fn step(
        &mut self,
        now: Instant,
        input: Input<'_>,
        store: &mut impl Store,
        out: &mut impl FnMut(Path, &[u8]),
    ) -> Events {
        let mut events = Events::new();
        self.notice_absence(now);
        match input {
            Input::Timer => {}
            Input::Standing(standing) => {
                if self.standing != standing {
                    self.standing = standing;
                    self.beat_now(now);
                }
            }
            Input::Datagram { path, bytes } => {
                self.receive(now, path, bytes, store, out, &mut events);
            }
        }
        self.silence(now, &mut events);
        self.greet(now, out);
        self.tell(now, store, out);
        self.compare(&mut events);
        self.send_beats(now, out);
        events
    }

    /// Tells the peer of an item at once, and holds back what depends on that: see [`Self::is_held`]. `None`: nobody is told
    /// of flows now, so nothing is to be held.
    pub fn defer(
        &mut self,
        now: Instant,
        item: u32,
        store: &mut impl Store,
        out: &mut impl FnMut(Path, &[u8]),
    ) -> Option<Deferred> {
        if !self.told.1 {
            return None;
        }
        store.mark(item);
        self.exchange.hurry(now);
        let (session, first) = (self.counters.sessions, self.exchange.next());
        self.tell(now, store, out);
        // If it is behind so many other changes that it has not gone out, waiting for it would be in vain.
        let mut batches = (0..BATCHES).map(|n| first.wrapping_add(n));
        Some(Deferred {
            session,
            batch: batches.find(|batch| self.exchange.has(*batch, item))?,
            until: now + DEFER,
        })
    }

    /// Whether the peer may not know yet what was told it: until it says so, or the batch is lost, or [`Deferred::until`].
    #[must_use]
    pub fn is_held(&self, now: Instant, deferred: &Deferred) -> bool {
        now < deferred.until
            && deferred.session == self.counters.sessions
            && self.exchange.is_under_way(deferred.batch)
    }

    /// When to call [`Self::step`] with [`Input::Timer`].
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let beats = self
            .talk
            .iter()
            .flat_map(|_| self.used().map(|(_, line)| line.due));
        let ends = self.lines.iter().filter_map(Line::end);
        let ends = ends.map(|end| end.max(self.patient_until));
        let hello = self.is_greeting().then_some(self.hello_due);
        let exchange = self.told.0.then(|| self.exchange.due());
        let all = beats.chain(ends).chain(hello).chain(exchange);
        all.min().unwrap_or(self.hello_due)
    }

    /// What is known of the peer.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self.beat {
            None => Peer::Unknown,
            Some(_) if !self.alive => Peer::Lost,
            Some(beat) => Peer::Alive(Remote {
                standing: beat.standing,
                in_sync: beat.in_sync,
                firmware: beat.firmware,
                same_policy: beat.fingerprint == self.settings.fingerprint,
            }),
        }
    }

    /// The state of the session for telemetry.
    #[must_use]
    pub fn status(&self, now: Instant, store: &impl Store) -> Status {
        Status {
            version: self.talk.as_ref().map(|talk| talk.seal.version()),
            peer: self.peer(),
            mismatch: self.mismatch,
            in_sync: self.in_sync,
            lag: match self.told.0 {
                true => self.exchange.lag(now, store.changed()),
                false => Lag::default(),
            },
            last_bulk: self.exchange.last_bulk(),
            exchange: self.exchange.counters(),
            hears: self.hears(),
            heard: self
                .beat
                .filter(|_| self.alive)
                .map_or(0, |beat| beat.hears),
            counters: self.counters,
        }
    }

    /// Whether the Backup of the two knows all that the Active does.
    #[must_use]
    pub const fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Paths that are configured.
    fn used(&self) -> impl Iterator<Item = (Path, &Line)> {
        let (paths, serial) = (self.settings.paths, self.settings.serial);
        let lines = (0..).map(Path).zip(&self.lines);
        lines.filter(move |(path, _)| is_used(*path, paths, serial))
    }

    fn hears(&self) -> u8 {
        let up = self.used().filter(|(_, line)| line.up);
        up.fold(0, |set, (path, _)| set | path.bit())
    }

    /// Who was away for long must look at what came meanwhile before it calls anybody dead. Being asked a moment after each
    /// heartbeat is not being away.
    fn notice_absence(&mut self, now: Instant) {
        if now.since(self.asked) >= self.settings.heartbeat * 2 {
            self.patient_until = now + self.settings.heartbeat;
        }
        self.asked = now;
    }

    fn beat_now(&mut self, now: Instant) {
        for line in &mut self.lines {
            line.due = now;
        }
    }

    fn receive(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
        store: &mut impl Store,
        out: &mut impl FnMut(Path, &[u8]),
        events: &mut Events,
    ) {
        if !is_used(path, self.settings.paths, self.settings.serial) {
            count(&mut self.counters.foreign);
            return;
        }
        match bytes.first() {
            Some(&hello::HELLO) if bytes.len() == hello::HELLO_LEN => {
                self.hear_hello(now, path, bytes, store, out, events);
            }
            Some(&SEALED) => self.hear_sealed(now, path, bytes, store, out, events),
            _ => count(&mut self.counters.foreign),
        }
    }

    fn hear_hello(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &[u8],
        store: &mut impl Store,
        out: &mut impl FnMut(Path, &[u8]),
        events: &mut Events,
    ) {
        if !self.hellos.take(now, HELLOS) {
            count(&mut self.counters.hurried);
            return;
        }
        let Some(hello) = self.keys.open(bytes) else {
            count(&mut self.counters.forged);
            return;
        };
        if self
            .talk
            .as_ref()
            .is_some_and(|talk| talk.peer == hello.own)
        {
            return;
        }
        if hello.echo == self.fresh {
            self.begin(now, &hello, store, events);
        } else if self.answers.take(now, ANSWERS) {
            // It may be years old. It costs us one answer, and changes nothing.
            let answer = self.hello(self.fresh, hello.own);
            out(path, answer.as_bytes());
        }
    }

    /// The peer has answered our number: it is here, and this is its own.
    fn begin(&mut self, now: Instant, hello: &Hello, store: &mut impl Store, events: &mut Events) {
        let theirs = (hello.oldest, hello.newest);
        let Some(version) = hello::common(self.settings.versions, theirs) else {
            if !core::mem::replace(&mut self.incompatible, true) {
                let (oldest, newest) = theirs;
                push(events, Event::Incompatible { oldest, newest });
            }
            return;
        };
        self.incompatible = false;
        let is_first = self.drawn == 1;
        let own = core::mem::take(&mut self.fresh);
        self.fresh = self.draw();
        let Settings { key, first, .. } = &self.settings;
        self.talk = Some(Talk {
            seal: Seal::new(key, *first, &own, &hello.own, version),
            own,
            peer: hello.own,
            since: now,
            confirmed: false,
        });
        self.current = false;
        for line in &mut self.lines {
            line.latest = None;
        }
        self.told = (false, false);
        self.exchange.restart(store);
        count(&mut self.counters.sessions);
        push(events, Event::Established { version });
        if is_first && hello.remembered != 0 {
            push(events, Event::Remembered(hello.remembered));
        }
        self.hello_due = now;
        self.beat_now(now);
    }

    fn hear_sealed(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &mut [u8],
        store: &mut impl Store,
        out: &mut impl FnMut(Path, &[u8]),
        events: &mut Events,
    ) {
        let Some(talk) = &mut self.talk else {
            count(&mut self.counters.foreign);
            return;
        };
        let body = match talk.seal.open(path, bytes) {
            Ok(body) => body,
            Err(error) => {
                let counter = match error {
                    OpenError::Foreign => &mut self.counters.foreign,
                    OpenError::Replayed => &mut self.counters.replayed,
                    OpenError::Forged => &mut self.counters.forged,
                };
                count(counter);
                return;
            }
        };
        talk.confirmed = true;
        let known = match body.split_first() {
            Some((&BEAT, rest)) => {
                message::read(rest).map(|beat| self.hear_beat(now, path, beat, store, events))
            }
            Some((&ACK, rest)) => {
                message::read(rest).map(|ack| self.exchange.hear(now, ack, store))
            }
            // Before its first heartbeat nobody knows what the sender's names mean; it will tell again.
            Some((&BATCH, _)) if !self.current => Some(()),
            Some((&BATCH, rest)) => {
                let terms = Terms {
                    peer_is_right: self.standing.state != State::Active,
                    same_policy: self.mismatch.is_none(),
                };
                let taken = self.exchange.take(now, rest, store, terms);
                self.acknowledge(path, out);
                taken
            }
            _ => None,
        };
        if known.is_none() {
            count(&mut self.counters.malformed);
        }
    }

    fn hear_beat(
        &mut self,
        now: Instant,
        path: Path,
        beat: Beat,
        store: &mut impl Store,
        events: &mut Events,
    ) {
        let is_newer = |than: u32| beat.sequence.wrapping_sub(than).cast_signed() > 0;
        if let Some(line) = self.lines.get_mut(path.index()) {
            // Somebody may have kept it: it says nothing of now.
            if !line.latest.is_none_or(is_newer) {
                return;
            }
            line.latest = Some(beat.sequence);
            line.heard = Some(now);
            if !core::mem::replace(&mut line.up, true) {
                // So that the peer knows at once that it is heard there.
                line.due = now;
                push(events, Event::PathUp(path));
            }
        }
        count(&mut self.counters.beats);
        self.alive = true;
        self.exchange.hear(now, beat.ack, store);
        let latest = self.beat.filter(|_| self.current);
        // On another path it was heard already, or a later one.
        if latest
            .is_some_and(|latest| latest.sequence != beat.sequence && !is_newer(latest.sequence))
        {
            return;
        }
        self.current = true;
        self.beat = Some(beat);
        let mismatch = Some(beat.fingerprint).filter(|theirs| *theirs != self.settings.fingerprint);
        if mismatch.is_none() && !self.settled {
            self.settled = true;
            for index in 0..PATHS {
                let new = line(&self.settings, index);
                if let Some(old) = self.lines.get_mut(index) {
                    (old.interval, old.limit) = (new.interval, new.limit);
                }
            }
        }
        if core::mem::replace(&mut self.mismatch, mismatch) != mismatch {
            push(
                events,
                mismatch.map_or(Event::Match, |theirs| Event::Mismatch { theirs }),
            );
        }
        push(events, Event::Heard);
    }

    /// Finds paths that were silent for too long.
    fn silence(&mut self, now: Instant, events: &mut Events) {
        if now < self.patient_until {
            return;
        }
        for (path, line) in (0..).map(Path).zip(&mut self.lines) {
            if line.end().is_some_and(|end| end <= now) {
                line.up = false;
                push(events, Event::PathDown(path));
            }
        }
        if self.alive && self.hears() == 0 {
            self.alive = false;
            self.hello_due = now;
            push(events, Event::Lost);
        }
    }

    /// The peer as far as it counts in this session.
    fn current_peer(&self) -> Option<&Beat> {
        let is_here = self.alive && self.current;
        self.beat.as_ref().filter(|_| is_here)
    }

    /// The path for flows: the first one that lives both ways.
    fn flow_path(&self) -> Option<Path> {
        let peer = self.current_peer()?;
        let mut paths = self.used();
        let (path, _) = paths.find(|(path, line)| {
            *path != Path::SERIAL && line.up && peer.hears & path.bit() != 0
        })?;
        Some(path)
    }

    /// Tells the peer of flows, if this appliance is Active.
    fn tell(&mut self, now: Instant, store: &mut impl Store, out: &mut impl FnMut(Path, &[u8])) {
        self.exchange.expire(now, store);
        let path = self.flow_path().filter(|_| self.settings.sync);
        let tells = path.is_some() && self.standing.state == State::Active;
        let peer = self.current_peer();
        let listens = peer.is_some_and(|peer| peer.standing.state != State::Active);
        let told = (tells, tells && listens);
        let before = core::mem::replace(&mut self.told, told);
        // Who begins to listen, or begins to believe what it hears, has to hear all.
        if (told.0 && !before.0) || (told.1 && !before.1) {
            self.exchange.begin(now);
        }
        let (Some(path), Some(talk), true) = (path, &mut self.talk, tells) else {
            return;
        };
        for _ in 0..BATCHES {
            if now < self.exchange.due() && !self.exchange.is_urgent(store) {
                break;
            }
            let Some((_, body)) = self.buffer.split_at_mut_checked(HEADER_LEN) else {
                return;
            };
            let Some((front, batch)) = body.get_mut(..MAX_BODY).and_then(<[u8]>::split_first_mut)
            else {
                return;
            };
            *front = BATCH;
            let Some(len) = self.exchange.fill(now, store, batch) else {
                break;
            };
            if let Some(len) = talk.seal.seal(path, 1 + len, &mut self.buffer) {
                out(path, &self.buffer[..len]);
            }
        }
        self.exchange.rest(now);
    }

    fn acknowledge(&mut self, path: Path, out: &mut impl FnMut(Path, &[u8])) {
        let Some(talk) = &mut self.talk else {
            return;
        };
        let len = message::write(ACK, &self.exchange.ack(), &mut self.buffer[HEADER_LEN..]);
        let sealed = len.and_then(|len| talk.seal.seal(path, len, &mut self.buffer));
        if let Some(len) = sealed {
            out(path, &self.buffer[..len]);
        }
    }

    /// Whether the other appliance is there, and each hears of the other's flows while that one is Active.
    #[must_use]
    pub const fn shares(&self) -> bool {
        self.alive && self.settings.sync
    }

    /// Finds out whether the Backup knows all: the Active knows that, and the Backup believes it.
    fn compare(&mut self, events: &mut Events) {
        let in_sync = match self.current_peer() {
            None => false,
            Some(_) if !self.settings.sync => true,
            Some(_) if self.standing.state == State::Active => self.exchange.is_complete(),
            Some(peer) if peer.standing.state == State::Active => peer.in_sync,
            // Without an Active there is nothing to know.
            Some(_) => true,
        };
        self.in_sync = in_sync;
        let is_told = self.standing.state != State::Active
            && self
                .current_peer()
                .is_some_and(|peer| peer.standing.state == State::Active);
        let lacks = is_told && !in_sync;
        if core::mem::replace(&mut self.lacks, lacks) != lacks {
            push(
                events,
                if lacks {
                    Event::OutOfSync
                } else {
                    Event::InSync
                },
            );
        }
    }

    /// Whether hellos are sent: there is no session, or it may be that the peer does not know of it.
    fn is_greeting(&self) -> bool {
        !self.alive || self.talk.as_ref().is_none_or(|talk| !talk.confirmed)
    }

    fn greet(&mut self, now: Instant, out: &mut impl FnMut(Path, &[u8])) {
        if !self.is_greeting() || now < self.hello_due {
            return;
        }
        self.hello_due = now + HELLO_INTERVAL;
        let fresh_session = self.talk.as_ref().filter(|talk| {
            !talk.confirmed && now.since(talk.since) < HELLO_INTERVAL * CONFIRMATIONS
        });
        let hello = match fresh_session {
            Some(talk) => self.hello(talk.own, talk.peer),
            None => self.hello(self.fresh, NOBODY),
        };
        for (path, _) in self.used() {
            out(path, hello.as_bytes());
        }
    }

    fn hello(&self, own: Nonce, echo: Nonce) -> Hello {
        let remembered = self.beat.map_or(0, |beat| beat.standing.demotion);
        self.keys
            .hello(self.settings.versions, remembered, own, echo)
    }

    fn send_beats(&mut self, now: Instant, out: &mut impl FnMut(Path, &[u8])) {
        let (paths, serial) = (self.settings.paths, self.settings.serial);
        let is_due = |(path, line): (Path, &Line)| is_used(path, paths, serial) && line.due <= now;
        if self.talk.is_none() || !(0..).map(Path).zip(&self.lines).any(is_due) {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let beat = Beat {
            sequence: self.sequence,
            standing: self.standing,
            in_sync: self.in_sync,
            hears: self.hears(),
            fingerprint: self.settings.fingerprint,
            firmware: self.settings.firmware,
            ack: self.exchange.ack(),
        };
        let Some(talk) = &mut self.talk else {
            return;
        };
        for (path, line) in (0..).map(Path).zip(&mut self.lines) {
            if !is_used(path, paths, serial) || line.due > now {
                continue;
            }
            line.due = now + line.interval;
            let body = &mut self.buffer[HEADER_LEN..];
            let len = message::write(BEAT, &beat, body).unwrap_or_default();
            if let Some(len) = talk.seal.seal(path, len, &mut self.buffer) {
                out(path, &self.buffer[..len]);
            }
        }
    }

    /// A number that was not used before.
    fn draw(&mut self) -> Nonce {
        self.drawn += 1;
        let mut mac = Hmac::<Sha256>::new(&hello::hmac_key(&self.seed));
        mac.update(&self.drawn.to_be_bytes());
        let mut nonce = NOBODY;
        nonce.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        nonce
    }
}

impl Allowance {
    const NONE: Self = Self {
        left: 0,
        until: Instant::ZERO,
    };

    fn take(&mut self, now: Instant, most: u8) -> bool {
        if now >= self.until {
            *self = Self {
                left: most,
                until: now + TICK,
            };
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

fn line(settings: &Settings, index: usize) -> Line {
    let interval = if index == Path::SERIAL.index() {
        settings.heartbeat.max(SERIAL_INTERVAL)
    } else {
        settings.heartbeat
    };
    Line::new(interval, settings.misses)
}

fn is_used(path: Path, paths: u8, serial: bool) -> bool {
    if path == Path::SERIAL {
        serial
    } else {
        path.0 < paths && path.index() < PATHS
    }
}

const fn count(counter: &mut u32) {
    *counter = counter.wrapping_add(1);
}

fn push(events: &mut Events, event: Event) {
    // Five paths that go up and down, and one each of the others: there is room.
    let _ = events.push(event);
}

/// Least time between two heartbeats on a serial line: at 115,200 bit/s one takes 7 ms.
const SERIAL_INTERVAL: Duration = Duration::from_millis(10);
/// Time between two hellos without a session.
const HELLO_INTERVAL: Duration = Duration::from_millis(100);
/// How often the keys of a session are offered before all begins anew.
const CONFIRMATIONS: u32 = 5;
/// Time that the allowances are for.
const TICK: Duration = Duration::from_millis(10);
/// Hellos that are verified in one tick.
const HELLOS: u8 = 32;
/// How long a first packet waits at most.
const DEFER: Duration = Duration::from_millis(20);
/// Batches that are sent in one step.
const BATCHES: u32 = 2;
/// Hellos that are answered in one tick.
const ANSWERS: u8 = 8;
