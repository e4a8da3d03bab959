//! The checker of all real servers of an appliance.

use core::net::IpAddr;

use heapless::Vec;
use policy::{Anchor, Check, CheckKind, Config, MAX_ANCHORS, MAX_SERVERS, MAX_SERVICES, Trust};
use time::{Duration, Instant};
use wire::tcp::Flags;

use crate::agent::{Agent, Said};
use crate::exchange::{Exchange, Progress};
use crate::random::Random;
use crate::reason::Reason;
use crate::standing::Standing;
use crate::stream::{Ended, Out, Stream};
use crate::target::{Asks, Health, Pace, Probe, Question, Target};
use crate::{
    Action, Actions, Ask, Datagram, EchoReply, Header, Input, MAX_PAYLOAD, NoTunnel, Packet,
    Payload, SOURCE_PORTS, Segment, Tunnel, dns, http,
};

/// Checks every real server of every service. Servers with the same address and check share one target.
/// `T` carries the checks that use TLS.
#[derive(Clone, Debug)]
pub struct Checker<T = NoTunnel> {
    checks: Vec<Check, MAX_SERVICES>,
    anchors: Vec<Anchor, MAX_ANCHORS>,
    /// It is not earlier than that, in seconds since 1970.
    since: u64,
    targets: Vec<Target, MAX_TARGETS>,
    /// For each service, its servers.
    services: Vec<Vec<Real, MAX_SERVERS>, MAX_SERVICES>,
    conversations: [Option<Conversation>; CONVERSATIONS],
    tunnel: T,
    /// When to look whether the tunnel is free again.
    look: Instant,
    random: Random,
    /// Source port of the next check; so one returns after 16,384 others.
    next_port: u16,
}

/// One server of a service.
#[derive(Clone, Copy, Debug)]
struct Real {
    target: u8,
    agent: Option<u8>,
}

/// A check that needs a connection.
#[derive(Clone, Debug)]
struct Conversation {
    target: u8,
    /// Bytes that we have to say.
    total: u16,
    /// Whether the tunnel is between `stream` and `exchange`.
    secure: bool,
    /// When to look what the tunnel has made of the bytes so far.
    look: Option<Instant>,
    /// The server has broken off; what came before is still being understood.
    broken: Option<Reason>,
    /// Bytes that the server has said.
    heard: u32,
    stream: Stream,
    exchange: Exchange,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The verdict is open.
    Asking,
    /// It is told; the server may finish its answer.
    Lingering,
    /// We close too.
    Closing,
}

impl Checker {
    /// A checker without TLS.
    #[must_use]
    pub fn new(config: &Config, seed: u64, now: Instant) -> Self {
        Self::with_tunnel(config, seed, now, NoTunnel)
    }
}

impl<T: Tunnel> Checker<T> {
    /// A checker of all servers in `config` (a validated one). Nobody is healthy before the first answer;
    /// first checks are due within the first tenth of a second. `seed` picks ports, sequence numbers and
    /// the spread of checks over time.
    #[must_use]
    pub fn with_tunnel(config: &Config, seed: u64, now: Instant, tunnel: T) -> Self {
        let mut random = Random::new(seed);
        let next_port = SOURCE_PORTS.start() | random.word() as u16;
        let mut checker = Self {
            checks: Vec::new(),
            anchors: config.anchors.clone(),
            since: config.made,
            targets: Vec::new(),
            services: Vec::new(),
            conversations: [const { None }; CONVERSATIONS],
            tunnel,
            look: now,
            random,
            next_port,
        };
        checker.fill(config, now);
        checker
    }

    /// Goes on with another (validated) configuration. What is asked of whom as before goes on as before; a server that
    /// is asked something else counts as it did until it has answered that.
    #[inline(never)]
    pub fn reload(&mut self, config: &Config, now: Instant) {
        let checks = core::mem::take(&mut self.checks);
        let mut targets = core::mem::take(&mut self.targets);
        self.services.clear();
        self.anchors.clone_from(&config.anchors);
        self.since = config.made;
        self.fill(config, now);
        let question = |asks: Asks, checks: &[Check]| match asks {
            Asks::Agent => None,
            Asks::Check(index) => checks.get(usize::from(index)).cloned(),
        };
        let mut conversations = core::mem::replace(&mut self.conversations, [const { None }; _]);
        for (index, target) in (0..).zip(&mut self.targets) {
            let key = |target: &Target| (target.server, target.port, target.pace);
            let asked = question(target.asks, &self.checks);
            let same = targets.iter_mut().find(|old| {
                let is_agent = (old.asks == Asks::Agent, target.asks == Asks::Agent);
                key(old) == key(target)
                    && is_agent.0 == is_agent.1
                    && question(old.asks, &checks) == asked
            });
            if let Some(old) = same {
                *target = Target {
                    asks: target.asks,
                    ..old.clone()
                };
                let slot = old.probe.take();
                if let Some(Probe::Stream(slot)) = slot
                    && let Some(place) = conversations.get_mut(usize::from(slot))
                    && let Some(mut conversation) = place.take()
                    && let Some(new) = self.conversations.get_mut(usize::from(slot))
                {
                    conversation.target = index;
                    *new = Some(conversation);
                }
                continue;
            }
            let known = |old: &&Target| {
                old.server == target.server
                    && (old.asks == Asks::Agent) == (target.asks == Asks::Agent)
            };
            let known = targets.iter().filter(known);
            if let Some(old) = known.max_by_key(|old| old.port == target.port) {
                target.health = old.health;
                target.said = old.said;
            }
        }
        // Connections to servers that are not asked any more end in silence.
        if conversations.iter().flatten().any(|other| other.secure) {
            self.tunnel.close();
        }
    }

    /// All that the configuration asks.
    fn fill(&mut self, config: &Config, now: Instant) {
        for service in &config.services {
            let asks = self.check(&service.check);
            let port = match service.check.kind {
                CheckKind::Ping => 0,
                _ => service.check.port,
            };
            let pace = Pace::from(&service.check);
            let mut servers = Vec::new();
            for server in &service.servers {
                let target = self.target(server.address, asks, port, pace, now);
                let agent = service
                    .agent
                    .and_then(|port| self.target(server.address, Asks::Agent, port, pace, now));
                // The tables are as large as the configuration can be: nothing is left out.
                if let Some(target) = target {
                    let _ = servers.push(Real { target, agent });
                }
            }
            let _ = self.services.push(servers);
        }
    }

    /// Carries checks over TLS from now on in this tunnel.
    pub fn set_tunnel(&mut self, tunnel: T) {
        self.tunnel = tunnel;
    }

    /// Applies one input and returns what has to happen now.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input<'_>) -> Actions {
        let mut actions = Actions::new();
        match input {
            Input::Timer => self.timer(now, &mut actions),
            Input::Segment(segment) => self.segment(now, &segment, &mut actions),
            Input::Datagram(datagram) => self.datagram(&datagram, &mut actions),
            Input::EchoReply(reply) => self.echo_reply(&reply, &mut actions),
        }
        actions
    }

    /// When to call `step` with `Input::Timer`; `None` if there is nothing to check.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.earliest().map(|(_, at)| at)
    }

    /// What a server (by index in its service) may get; `None` if there is no such server.
    #[must_use]
    pub fn standing(&self, service: usize, server: usize) -> Option<Standing> {
        let real = self.services.get(service)?.get(server)?;
        let target = self.targets.get(usize::from(real.target))?;
        let agent = real
            .agent
            .and_then(|agent| self.targets.get(usize::from(agent)));
        let said = agent.map_or(Said::default(), |agent| agent.said);
        Some(Standing::new(target.is_healthy(), said))
    }

    /// Writes the payload of a packet that the last step wanted sent; its length.
    #[must_use]
    pub fn payload(&self, payload: Payload, buffer: &mut [u8; MAX_PAYLOAD]) -> usize {
        match payload {
            Payload::None => 0,
            Payload::Token(token) => {
                let (place, _) = buffer.split_at_mut(8);
                place.copy_from_slice(&token.to_be_bytes());
                8
            }
            Payload::Tunnel { offset, len } => {
                let place = buffer.get_mut(..usize::from(len)).unwrap_or_default();
                self.tunnel.copy(offset, place);
                place.len()
            }
            Payload::Query { check, id } => {
                let check = self.checks.get(usize::from(check));
                check.map_or(0, |check| query(check, id, buffer))
            }
            Payload::Request { check, offset, len } => {
                let check = self.checks.get(usize::from(check));
                let total = check.map_or(0, |check| request(check, buffer));
                let (start, end) = (usize::from(offset), usize::from(offset + len));
                if end > total {
                    return 0;
                }
                buffer.copy_within(start..end, 0);
                usize::from(len)
            }
        }
    }

    /// The index of a check, made if it is new.
    fn check(&mut self, check: &Check) -> Asks {
        let known = self.checks.iter().position(|other| other == check);
        let index = known.unwrap_or(self.checks.len());
        if known.is_none() {
            // One for each service at most.
            let _ = self.checks.push(check.clone());
        }
        Asks::Check(index as u8)
    }

    /// The index of a target, made if it is new.
    fn target(
        &mut self,
        server: IpAddr,
        asks: Asks,
        port: u16,
        pace: Pace,
        now: Instant,
    ) -> Option<u8> {
        let wanted = (server, asks, port, pace);
        let mut known = self.targets.iter();
        let known = known.position(|t| (t.server, t.asks, t.port, t.pace) == wanted);
        let index = match known {
            Some(index) => index,
            None => {
                let spread = u64::from(pace.interval_ms).min(FIRST_CHECKS.as_millis() as u64);
                let due = now + Duration::from_micros(self.random.below(1000 * spread));
                self.targets
                    .push(Target {
                        server,
                        asks,
                        port,
                        pace,
                        health: Health::Unknown,
                        said: Said::default(),
                        due,
                        probe: None,
                        again: None,
                        gives_up: due,
                    })
                    .ok()?;
                self.targets.len() - 1
            }
        };
        u8::try_from(index).ok()
    }

    /// The target with the earliest deadline. Those that wait for a connection have none until one is free.
    fn earliest(&self) -> Option<(usize, Instant)> {
        let free = self.conversations.iter().any(Option::is_none);
        let targets = self.targets.iter().enumerate();
        let timed = targets.filter_map(|(index, target)| {
            let at = match target.probe {
                None => self.room(target.asks, free)?.max(target.due),
                Some(Probe::Stream(slot)) => {
                    let conversation = self.conversations.get(usize::from(slot))?.as_ref()?;
                    let timers = [conversation.stream.deadline(), conversation.look];
                    let timers = timers.into_iter().flatten();
                    timers.fold(target.gives_up, Instant::min)
                }
                Some(_) => target
                    .again
                    .map_or(target.gives_up, |at| at.min(target.gives_up)),
            };
            Some((index, at))
        });
        timed.min_by_key(|(_, at)| *at)
    }

    /// From when on a check may find what it needs, if a connection is free or not; `None` as long as others have it.
    fn room(&self, asks: Asks, free: bool) -> Option<Instant> {
        let needs = match self.kind(asks) {
            None | Some(CheckKind::Http { .. } | CheckKind::Mysql) => free,
            Some(CheckKind::Https { .. }) => {
                let mut others = self.conversations.iter().flatten();
                if self.tunnel.is_open() && !others.any(|other| other.secure) {
                    return free.then_some(self.look); // it is being closed
                }
                free && !self.tunnel.is_open()
            }
            Some(CheckKind::Ping | CheckKind::Tcp | CheckKind::Dns { .. }) => true,
        };
        needs.then_some(Instant::ZERO)
    }

    /// What a check asks; `None` for an agent.
    fn kind(&self, asks: Asks) -> Option<&CheckKind> {
        match asks {
            Asks::Agent => None,
            Asks::Check(check) => {
                let check = self.checks.get(usize::from(check));
                check.map(|check| &check.kind)
            }
        }
    }

    /// Serves targets that are due, those that waited longest first, as long as there is room for actions.
    fn timer(&mut self, now: Instant, actions: &mut Actions) {
        while actions.capacity() - actions.len() >= ACTIONS_PER_TARGET {
            let Some((index, at)) = self.earliest() else {
                return;
            };
            if at > now {
                return;
            }
            let Some(target) = self.targets.get(index) else {
                return;
            };
            match target.probe {
                Some(probe) if target.gives_up <= now => self.give_up(index, probe, actions),
                Some(Probe::Stream(slot)) => self.go_on(now, index, slot, actions),
                Some(Probe::Question(question)) => self.repeat(index, question, actions),
                None => self.begin(now, index, actions),
            }
        }
    }

    /// Looks what became of a connection's bytes, or repeats what was not acknowledged.
    fn go_on(&mut self, now: Instant, index: usize, slot: u8, actions: &mut Actions) {
        let (Some(place), Some(target)) = (
            self.conversations.get_mut(usize::from(slot)),
            self.targets.get_mut(index),
        ) else {
            return;
        };
        let Some(conversation) = place else { return };
        if conversation.look.is_some_and(|at| at <= now) {
            if conversation.go_on(now, target, &mut self.tunnel, false, actions) {
                self.tunnel.close();
                *place = None;
                target.probe = None;
            }
        } else if let Some(out) = conversation.stream.repeat(now) {
            push(actions, conversation.send(target, out));
        }
    }

    /// A check got no answer in time, or no complete one.
    fn give_up(&mut self, index: usize, probe: Probe, actions: &mut Actions) {
        let mut reason = Some(Reason::Timeout);
        if let Probe::Stream(slot) = probe
            && let Some(conversation) = self.conversations.get_mut(usize::from(slot))
            && let Some(conversation) = conversation.take()
        {
            if conversation.secure {
                self.tunnel.close();
            }
            if let Some(target) = self.targets.get(index)
                && conversation.stream.is_open()
            {
                push(
                    actions,
                    conversation.send(target, conversation.stream.reset()),
                );
                reason = (conversation.stage == Stage::Asking).then_some(Reason::Stalled);
            }
        }
        if let Some(target) = self.targets.get_mut(index) {
            target.probe = None;
            if let Some(reason) = reason {
                judge(target, Err(reason), actions);
            }
        }
    }

    /// Begins a check.
    fn begin(&mut self, now: Instant, index: usize, actions: &mut Actions) {
        let (source, word) = (self.port(), self.random.word());
        let Some(target) = self.targets.get_mut(index) else {
            return;
        };
        let kind = match target.asks {
            Asks::Agent => None,
            Asks::Check(index) => {
                let check = self.checks.get(usize::from(index));
                check.map(|check| &check.kind)
            }
        };
        let question = match kind {
            Some(CheckKind::Ping) => Question::Echo {
                id: (word >> 16) as u16,
                sequence: word as u16,
                token: self.random.token(),
            },
            Some(CheckKind::Tcp) => Question::HalfOpen {
                port: source,
                sequence: word,
            },
            Some(CheckKind::Dns { .. }) => Question::Query {
                port: source,
                id: word as u16,
            },
            Some(kind @ (CheckKind::Http { .. } | CheckKind::Https { .. } | CheckKind::Mysql)) => {
                let Some(exchange) = Exchange::new(kind) else {
                    return;
                };
                return self.converse(now, index, exchange, (source, word), actions);
            }
            None => {
                let exchange = Exchange::Agent(Agent::new());
                return self.converse(now, index, exchange, (source, word), actions);
            }
        };
        target.begin(now, Probe::Question(question), &mut self.random);
        push(actions, ask(target, question));
    }

    /// Asks again, once: the first packet to a new neighbour is easily lost while others wait for its MAC address too,
    /// and the first result decides.
    fn repeat(&mut self, index: usize, question: Question, actions: &mut Actions) {
        if let Some(target) = self.targets.get_mut(index) {
            target.again = None;
            push(actions, ask(target, question));
        }
    }

    /// Begins a check over a connection from this port with this sequence number.
    fn converse(
        &mut self,
        now: Instant,
        index: usize,
        exchange: Exchange,
        (port, sequence): (u16, u32),
        actions: &mut Actions,
    ) {
        let (Some(target), Some(slot)) = (
            self.targets.get_mut(index),
            self.conversations.iter().position(Option::is_none),
        ) else {
            return;
        };
        let mut buffer = [0; MAX_PAYLOAD];
        let (mut total, mut secure) = (0, false);
        if let Asks::Check(check) = target.asks
            && let Some(check) = self.checks.get(usize::from(check))
        {
            total = request(check, &mut buffer) as u16;
            if let CheckKind::Https { host, trust, .. } = &check.kind {
                if self.tunnel.is_open() {
                    self.look = now + LOOK;
                    return;
                }
                let ask = Ask {
                    host,
                    anchor: match trust {
                        Trust::Anchor(index) => self.anchors.get(usize::from(*index)),
                        Trust::Anybody => None,
                    },
                    since: self.since,
                    request: buffer.get(..usize::from(total)).unwrap_or_default(),
                };
                if let Err(reason) = self.tunnel.open(&ask) {
                    target.plan(now, &mut self.random);
                    return judge(target, Err(reason), actions);
                }
                (total, secure) = (self.tunnel.total(), true);
            }
        }
        let (stream, out) = Stream::connect(now, port, sequence);
        target.begin(now, Probe::Stream(slot as u8), &mut self.random);
        let conversation = Conversation {
            target: index as u8,
            total,
            secure,
            look: None,
            broken: None,
            heard: 0,
            stream,
            exchange,
            stage: Stage::Asking,
        };
        push(actions, conversation.send(target, out));
        if let Some(place) = self.conversations.get_mut(slot) {
            *place = Some(conversation);
        }
    }

    fn segment(&mut self, now: Instant, segment: &Segment<'_>, actions: &mut Actions) {
        let from = (segment.source, segment.source_port);
        let conversation = self.conversations.iter_mut().find(|conversation| {
            conversation.as_ref().is_some_and(|conversation| {
                let target = self.targets.get(usize::from(conversation.target));
                conversation.stream.port == segment.destination_port
                    && target.is_some_and(|target| target.is_at(from.0, from.1))
            })
        });
        if let Some(place) = conversation
            && let Some(conversation) = place
            && let Some(target) = self.targets.get_mut(usize::from(conversation.target))
        {
            if conversation.receive(now, target, &mut self.tunnel, segment, actions) {
                if conversation.secure {
                    self.tunnel.close();
                }
                *place = None;
                target.probe = None;
            }
            return;
        }
        self.half_open(segment, actions);
    }

    /// An answer to a SYN that only asks whether somebody listens, or to something older.
    fn half_open(&mut self, segment: &Segment<'_>, actions: &mut Actions) {
        let flags = Flags(segment.flags);
        let (reset, syn) = (flags.contains(Flags::RST), flags.contains(Flags::SYN));
        // Without ACK it answers nothing of ours: a bare SYN would open a connection to us.
        if !flags.contains(Flags::ACK) {
            return;
        }
        let at = |target: &&mut Target| target.is_at(segment.source, segment.source_port);
        let Some(known) = self.targets.iter_mut().find(at) else {
            return;
        };
        let server = known.server;
        let answered = self
            .targets
            .iter_mut()
            .filter(at)
            .find(|target| match target.probe {
                // Who cannot see the SYN has to guess 46 bits.
                Some(Probe::Question(Question::HalfOpen { port, sequence })) => {
                    port == segment.destination_port
                        && sequence.wrapping_add(1) == segment.acknowledgment
                }
                _ => false,
            });
        if let Some(target) = answered.filter(|_| reset || syn) {
            target.probe = None;
            // RFC 9293 §3.10.7.3: a reset that acknowledges our SYN refuses the connection.
            let result = if reset { Err(Reason::Refused) } else { Ok(()) };
            judge(target, result, actions);
        }
        if !reset {
            // Ends the half-open connection; or one of an older check that the server still waits for
            // (RFC 9293 §3.10.7.1, as for a closed port).
            push(actions, stray(server, segment));
        }
    }

    fn datagram(&mut self, datagram: &Datagram<'_>, actions: &mut Actions) {
        let checks = &self.checks;
        for target in self.targets.iter_mut() {
            let Some(Probe::Question(Question::Query { port, id })) = target.probe else {
                continue;
            };
            if port != datagram.destination_port
                || !target.is_at(datagram.source, datagram.source_port)
            {
                continue;
            }
            let mut buffer = [0; MAX_PAYLOAD];
            let check = checks.get(usize::from(target.check()));
            let len = check.map_or(0, |check| query(check, id, &mut buffer));
            let asked = buffer.get(..len).unwrap_or_default();
            let result = match dns::answer(asked, datagram.data) {
                Progress::Good => Ok(()),
                Progress::Bad(reason) => Err(reason),
                Progress::Continue | Progress::Report(_) => return,
            };
            target.probe = None;
            return judge(target, result, actions);
        }
    }

    fn echo_reply(&mut self, reply: &EchoReply<'_>, actions: &mut Actions) {
        let answered = self.targets.iter_mut().find(|target| match target.probe {
            Some(Probe::Question(Question::Echo {
                id,
                sequence,
                token,
            })) => {
                target.server == reply.source
                    && (id, sequence) == (reply.id, reply.sequence)
                    && token.to_be_bytes() == reply.data
            }
            _ => false,
        });
        if let Some(target) = answered {
            target.probe = None;
            judge(target, Ok(()), actions);
        }
    }

    fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(*SOURCE_PORTS.start());
        port
    }
}

impl Conversation {
    /// Takes a segment; `true` if the connection is over.
    fn receive(
        &mut self,
        now: Instant,
        target: &mut Target,
        tunnel: &mut impl Tunnel,
        segment: &Segment<'_>,
        actions: &mut Actions,
    ) -> bool {
        let hears = self.secure && self.stage == Stage::Asking;
        if hears && !segment.data.is_empty() && !tunnel.has_room(segment.data.len()) {
            return false; // as if it were lost on the way
        }
        let heard = self.stream.receive(now, segment);
        if heard.stray {
            push(actions, stray(target.server, segment));
        }
        if let Some(ended) = heard.reset {
            self.broken = Some(match ended {
                Ended::Refused => Reason::Refused,
                Ended::Reset => Reason::Reset,
            });
        }
        if hears {
            tunnel.receive(heard.data);
        } else if self.stage == Stage::Asking {
            let progress = self.exchange.receive(heard.data);
            self.conclude(target, progress, actions);
        }
        self.heard = self.heard.saturating_add(heard.data.len() as u32);
        if self.heard > MAX_ANSWER {
            self.verdict(target, Err(Reason::TooLong), actions);
            push(actions, self.send(target, self.stream.reset()));
            return true;
        }
        self.go_on(now, target, tunnel, heard.acknowledge, actions)
    }

    /// Draws conclusions from all that has come so far, and sends what is due; `true` if the connection is over.
    fn go_on(
        &mut self,
        now: Instant,
        target: &mut Target,
        tunnel: &mut impl Tunnel,
        acknowledge: bool,
        actions: &mut Actions,
    ) -> bool {
        self.look = None;
        if self.secure && self.stage == Stage::Asking {
            let mut progress = Progress::Continue;
            let heard = tunnel.heard(&mut |plain| progress = self.exchange.receive(plain));
            self.conclude(target, progress, actions);
            if let (Progress::Continue, Err(reason)) = (progress, heard) {
                // Nothing that the server says from now on can be understood.
                self.verdict(target, Err(reason), actions);
                push(actions, self.send(target, self.stream.reset()));
                return true;
            }
            self.total = tunnel.total();
            self.look = tunnel.is_working().then_some(now + LOOK);
        }
        if self.look.is_none() {
            if let Some(reason) = self.broken {
                self.verdict(target, Err(reason), actions);
                return true;
            }
            if self.stream.has_ended() {
                self.verdict(target, Err(Reason::Closed), actions);
                self.stage = Stage::Closing;
            }
        }
        let close = self.stage == Stage::Closing;
        if let Some(out) = self.stream.send(now, self.total, close, acknowledge) {
            push(actions, self.send(target, out));
        }
        self.stream.is_over()
    }

    /// What the answer proves so far.
    fn conclude(&mut self, target: &mut Target, progress: Progress, actions: &mut Actions) {
        match progress {
            Progress::Continue => {}
            Progress::Good => self.verdict(target, Ok(()), actions),
            Progress::Bad(reason) => self.verdict(target, Err(reason), actions),
            Progress::Report(report) => {
                let said = target.said.and(&report);
                let news = core::mem::replace(&mut target.said, said) != said;
                let back = target.judge(Ok(()));
                if news || back {
                    push(actions, tell(target, Ok(())));
                }
                self.stage = Stage::Closing;
            }
        }
    }

    /// A segment of this connection.
    fn send(&self, target: &Target, out: Out) -> Action {
        let Out { offset, len, .. } = out;
        let check = target.check();
        Action::Send(Packet {
            server: target.server,
            header: Header::Tcp {
                source: self.stream.port,
                destination: target.port,
                sequence: out.sequence,
                acknowledgment: out.acknowledgment,
                flags: out.flags.0,
            },
            payload: match len {
                0 => Payload::None,
                _ if self.secure => Payload::Tunnel { offset, len },
                _ => Payload::Request { check, offset, len },
            },
        })
    }

    /// Tells the result, unless it is told already.
    fn verdict(&mut self, target: &mut Target, result: Result<(), Reason>, actions: &mut Actions) {
        if self.stage == Stage::Asking {
            judge(target, result, actions);
            self.stage = match self.exchange.lingers() {
                true => Stage::Lingering,
                false => Stage::Closing,
            };
        }
    }
}

impl From<&Check> for Pace {
    fn from(check: &Check) -> Self {
        Self {
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            rise: check.rise,
            fall: check.fall,
            jitter: check.jitter,
        }
    }
}

/// Counts the result of a check and tells what it changes.
fn judge(target: &mut Target, result: Result<(), Reason>, actions: &mut Actions) {
    if target.judge(result) {
        push(actions, tell(target, result));
    }
}

/// The news about a target.
fn tell(target: &Target, result: Result<(), Reason>) -> Action {
    let (server, port) = (target.server, target.port);
    match target.asks {
        Asks::Check(_) => Action::Changed {
            server,
            port,
            failure: result.err(),
        },
        Asks::Agent => Action::Agent {
            server,
            port,
            said: result.map(|()| target.said),
        },
    }
}

/// The packet of a check that is one question and one answer.
fn ask(target: &Target, question: Question) -> Action {
    let destination = target.port;
    let (header, payload) = match question {
        Question::Echo {
            id,
            sequence,
            token,
        } => (Header::Echo { id, sequence }, Payload::Token(token)),
        Question::HalfOpen {
            port: source,
            sequence,
        } => {
            let header = Header::Tcp {
                source,
                destination,
                sequence,
                acknowledgment: 0,
                flags: Flags::SYN.0,
            };
            (header, Payload::None)
        }
        Question::Query { port: source, id } => {
            let header = Header::Udp {
                source,
                destination,
            };
            let check = target.check();
            (header, Payload::Query { check, id })
        }
    };
    Action::Send(Packet {
        server: target.server,
        header,
        payload,
    })
}

/// The answer to a segment of a connection that does not exist (RFC 9293 §3.10.7.1).
fn stray(server: IpAddr, segment: &Segment<'_>) -> Action {
    Action::Send(Packet {
        server,
        header: Header::Tcp {
            source: segment.destination_port,
            destination: segment.source_port,
            sequence: segment.acknowledgment,
            acknowledgment: 0,
            flags: Flags::RST.0,
        },
        payload: Payload::None,
    })
}

/// Writes what a check asks over a connection; its length.
fn request(check: &Check, buffer: &mut [u8; MAX_PAYLOAD]) -> usize {
    match &check.kind {
        CheckKind::Http { host, path, .. } | CheckKind::Https { host, path, .. } => {
            http::request(host, path, buffer).unwrap_or(0)
        }
        CheckKind::Ping | CheckKind::Tcp | CheckKind::Dns { .. } | CheckKind::Mysql => 0,
    }
}

/// Writes a DNS check's query; its length, 0 for a name that cannot be asked for.
fn query(check: &Check, id: u16, buffer: &mut [u8; MAX_PAYLOAD]) -> usize {
    match &check.kind {
        CheckKind::Dns { name } => dns::query(id, name, buffer).unwrap_or(0),
        CheckKind::Ping
        | CheckKind::Tcp
        | CheckKind::Http { .. }
        | CheckKind::Https { .. }
        | CheckKind::Mysql => 0,
    }
}

/// There is room: a packet gives three actions at most, and a timer step looks before.
fn push(actions: &mut Actions, action: Action) {
    let pushed = actions.push(action);
    debug_assert!(pushed.is_ok());
}

/// A check and an agent for each server.
const MAX_TARGETS: usize = 2 * MAX_SERVICES * MAX_SERVERS;

/// Connections at a time. With more servers than that a check may have to wait for its turn.
const CONVERSATIONS: usize = 32;

/// Longest answer that is waited for to its end, in bytes. The connection to a server with more to say is reset.
const MAX_ANSWER: u32 = 32 * 1024;

/// Time between two looks at what TLS makes of the bytes.
const LOOK: Duration = Duration::from_millis(1);

/// First checks are spread over this time, so that a restart is not a burst.
const FIRST_CHECKS: Duration = Duration::from_millis(100);

/// Most actions of one target in a timer step: a reset, and a verdict.
const ACTIONS_PER_TARGET: usize = 2;
