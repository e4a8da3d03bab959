//! The world: a clock, a switch, and everything that hangs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use classifier::Policy;
use node::{Event, Node, Objection, Refusal, State, Tables, Transmit};
use policy::Config;
use random::SplitMix64;
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::{Frame, ipv4, ipv6, nd};

use crate::host::{Host, Stream, StreamId};
use crate::switch::{Mode, PortId, Switch};

/// An appliance, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(usize);

/// A host, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(usize);

/// A tap, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapId(usize);

/// A VLAN that the switch carries to the appliances by mistake.
pub const STRAY: u16 = 99;

const FLOWS: usize = 256;
/// The same of IPv6.
const FLOWS6: usize = 128;

struct Appliance {
    policy: Policy<'static>,
    /// `None` without power.
    node: Option<Box<Node<'static>>>,
    ports: Vec<PortId>,
    boots: u64,
    frozen_until: Instant,
    /// Frames that came while it stood still.
    waiting: Vec<(u8, Vec<u8>)>,
}

enum Owner {
    Appliance(usize, u8),
    Host(usize),
    Tap(usize),
}

struct Tap {
    port: PortId,
    frames: Vec<Vec<u8>>,
}

/// Everything, at one moment.
pub struct World {
    now: Instant,
    random: SplitMix64,
    switch: Switch,
    owners: Vec<Owner>,
    appliances: Vec<Appliance>,
    hosts: Vec<(Host, PortId)>,
    taps: Vec<Tap>,
    flight: BTreeMap<(Instant, u64), (PortId, Vec<u8>)>,
    sequence: u64,
    journal: Vec<String>,
    events: Vec<(Instant, NodeId, Event)>,
}

impl World {
    /// An empty world. The seed decides losses and everything the nodes draw from theirs; it is printed,
    /// so that a failing story can be told again.
    #[must_use]
    #[expect(
        clippy::print_stdout,
        reason = "shown by the test runner when a story fails"
    )]
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            now: Instant::ZERO,
            random: SplitMix64::new(seed),
            switch: Switch::default(),
            owners: Vec::new(),
            appliances: Vec::new(),
            hosts: Vec::new(),
            taps: Vec::new(),
            flight: BTreeMap::new(),
            sequence: 0,
            journal: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Adds an appliance and turns it on. Ports with tagged legs become trunks of the switch; `access`
    /// is the VLAN of those without.
    pub fn appliance(&mut self, policy: Policy<'static>, access: u16) -> NodeId {
        let config = &policy.config;
        let index = self.appliances.len();
        let count = config
            .interfaces
            .iter()
            .map(|leg| leg.port + 1)
            .max()
            .unwrap_or(0);
        let ports = (0..count).map(|port| {
            let legs = config.interfaces.iter().filter(|leg| leg.port == port);
            let tags: BTreeSet<u16> = legs.filter_map(|leg| leg.vlan).collect();
            self.owners.push(Owner::Appliance(index, port));
            self.switch.add(match tags.is_empty() {
                true => Mode::Access(access),
                false => Mode::Trunk(tags.into_iter().chain([STRAY]).collect()),
            })
        });
        let ports = ports.collect();
        self.appliances.push(Appliance {
            policy,
            node: None,
            ports,
            boots: 0,
            frozen_until: Instant::ZERO,
            waiting: Vec::new(),
        });
        self.power(NodeId(index), true);
        NodeId(index)
    }

    /// Adds a host with these addresses and prefix lengths, a link-local address besides, and a default router
    /// for each version at most.
    pub fn host(&mut self, vlan: u16, addresses: &[(IpAddr, u8)], gateways: &[IpAddr]) -> HostId {
        let number = self.hosts.len() as u8 + 1;
        let port = self.switch.add(Mode::Access(vlan));
        self.owners.push(Owner::Host(self.hosts.len()));
        let host = Host::new(number, [2, 0xee, 0, 0, 0, number], addresses, gateways);
        self.hosts.push((host, port));
        HostId(self.hosts.len() - 1)
    }

    /// Adds a port that records what it hears and sends what it is told to.
    pub fn tap(&mut self, vlan: u16) -> TapId {
        let port = self.switch.add(Mode::Access(vlan));
        self.owners.push(Owner::Tap(self.taps.len()));
        self.taps.push(Tap {
            port,
            frames: Vec::new(),
        });
        TapId(self.taps.len() - 1)
    }

    /// Turns an appliance on or off, as by its plug: no goodbye, and its links go with it.
    pub fn power(&mut self, id: NodeId, on: bool) {
        let ports = self.appliances[id.0].ports.clone();
        if !on {
            self.note(id, "power off");
            self.appliances[id.0].node = None;
        } else {
            self.note(id, "power on");
            let seed = self.random.draw();
            let appliance = &mut self.appliances[id.0];
            appliance.boots += 1;
            let node = Node::new(Some(appliance.policy.clone()), tables(), seed, self.now);
            appliance.node = Some(Box::new(node));
        }
        for port in ports {
            self.switch.ports[port.0].carrier = on;
            self.switch.forget(port);
        }
    }

    /// Lets an appliance go on with another policy.
    ///
    /// # Errors
    /// Why it cannot; then it has not changed.
    pub fn reload(&mut self, id: NodeId, policy: Policy<'static>) -> Result<(), Objection> {
        self.note(id, "another configuration");
        let mut answer = Err(Objection::new());
        let old = core::mem::replace(&mut self.appliances[id.0].policy, policy.clone());
        self.with_node(id, |node, now, out| answer = node.reload(now, &policy, out));
        if answer.is_err() {
            self.appliances[id.0].policy = old;
        }
        answer
    }

    /// What an appliance runs.
    #[must_use]
    pub fn config(&self, id: NodeId) -> &Config {
        &self.appliances[id.0].policy.config
    }

    /// Tells an appliance to stop in good order.
    pub fn stop(&mut self, id: NodeId) {
        self.note(id, "stop");
        self.with_node(id, |node, now, out| node.stop(now, out));
    }

    /// Orders an appliance to hand over to its peer.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn hand_over(&mut self, id: NodeId) -> Result<(), Refusal> {
        self.note(id, "hand over");
        let mut answer = Err(Refusal::NotActive);
        self.with_node(id, |node, now, out| answer = node.hand_over(now, out));
        answer
    }

    /// Lets an appliance stand still for a while: frames wait for it, and it does nothing.
    pub fn freeze(&mut self, id: NodeId, span: Duration) {
        self.note(id, "stands still");
        self.appliances[id.0].frozen_until = self.now + span;
    }

    /// The port of the switch that an appliance's port hangs on.
    #[must_use]
    pub fn port(&self, id: NodeId, port: usize) -> PortId {
        self.appliances[id.0].ports[port]
    }

    /// The port of the switch that a host hangs on.
    #[must_use]
    pub fn host_port(&self, id: HostId) -> PortId {
        self.hosts[id.0].1
    }

    /// Cuts a cable or mends it: both ends see the carrier go and come.
    pub fn cut(&mut self, port: PortId, cut: bool) {
        self.switch.ports[port.0].carrier = !cut;
        self.switch.forget(port);
        if let Owner::Appliance(index, number) = self.owners[port.0] {
            self.note(
                NodeId(index),
                if cut { "cable cut" } else { "cable mended" },
            );
            self.with_node(NodeId(index), |node, now, out| {
                node.link(now, number, !cut, out)
            });
        }
    }

    /// Swallows all frames of a VLAN on a port, both ways, while the carrier stays.
    pub fn mute(&mut self, port: PortId, vlan: u16, muted: bool) {
        let set: &mut BTreeSet<u16> = &mut self.switch.ports[port.0].muted;
        if muted {
            set.insert(vlan)
        } else {
            set.remove(&vlan)
        };
    }

    /// Makes a port lose `loss` of a thousand frames and delay the others.
    pub fn degrade(&mut self, port: PortId, loss: u32, delay: Duration) {
        let port = &mut self.switch.ports[port.0];
        port.loss = loss;
        port.delay = delay;
    }

    /// Lets a host serve a TCP port: each byte is answered by the host's number.
    pub fn listen(&mut self, id: HostId, port: u16) {
        self.hosts[id.0].0.listen(port);
    }

    /// Lets a host say a line to whoever connects to a TCP port, and hang up: an agent beside a server.
    pub fn say(&mut self, id: HostId, port: u16, line: &str) {
        self.hosts[id.0].0.say(port, line);
    }

    /// Stops a host's service on a port and resets its connections.
    pub fn close(&mut self, id: HostId, port: u16) {
        self.hosts[id.0].0.close(port);
        self.poll_host(id.0);
    }

    /// The number that a host answers with.
    #[must_use]
    pub fn number(&self, id: HostId) -> u8 {
        self.hosts[id.0].0.number
    }

    /// Lets a host connect and then send a byte every 20 ms.
    pub fn connect(
        &mut self,
        id: HostId,
        from: impl Into<IpAddr>,
        to: impl Into<IpAddr>,
        port: u16,
    ) -> StreamId {
        let (from, to) = (from.into(), to.into());
        let stream = self.hosts[id.0].0.connect(self.now, from, to, port);
        self.poll_host(id.0);
        stream
    }

    /// Resets a host's connection, as a program that is killed.
    pub fn hang_up(&mut self, id: HostId, stream: StreamId) {
        self.hosts[id.0].0.hang_up(stream);
        self.poll_host(id.0);
    }

    /// What a host's connection has come to.
    #[must_use]
    pub fn stream(&self, id: HostId, stream: StreamId) -> &Stream {
        &self.hosts[id.0].0.streams[stream.0]
    }

    /// Sends a frame from a tap.
    pub fn inject(&mut self, id: TapId, frame: &[u8]) {
        let port = self.taps[id.0].port;
        self.send(port, frame);
    }

    /// What a tap heard since the last call.
    pub fn heard(&mut self, id: TapId) -> Vec<Vec<u8>> {
        core::mem::take(&mut self.taps[id.0].frames)
    }

    /// The node of an appliance, if it has power.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node<'static>> {
        self.appliances[id.0].node.as_deref()
    }

    /// Whether an appliance has power and is Active.
    #[must_use]
    pub fn is_active(&self, id: NodeId) -> bool {
        self.node(id).and_then(Node::state) == Some(State::Active)
    }

    /// Everything that nodes reported, with the time.
    #[must_use]
    pub fn events(&self) -> &[(Instant, NodeId, Event)] {
        &self.events
    }

    /// The story so far, one line per event.
    #[must_use]
    pub fn journal(&self) -> String {
        self.journal.join("\n")
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    /// Lets time pass until `done`, for `most` at most; how long it took, or `None`.
    pub fn run_until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + most);
        loop {
            if done(self) {
                return Some(self.now.since(start));
            }
            let next = self.next_moment();
            if next > end {
                self.now = end;
                return None;
            }
            self.now = next;
            self.step();
        }
    }

    fn next_moment(&mut self) -> Instant {
        let flight = self.flight.keys().next().map(|(at, _)| *at);
        let nodes = self
            .appliances
            .iter()
            .filter_map(|a| Some(a.node.as_ref()?.deadline().max(a.frozen_until)));
        let now = self.now;
        let hosts = self
            .hosts
            .iter_mut()
            .filter_map(|(host, _)| host.deadline(now));
        let next = nodes.chain(hosts).chain(flight).min().unwrap_or(now);
        next.max(now)
    }

    fn step(&mut self) {
        while let Some(entry) = self.flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (port, frame) = entry.remove();
            self.deliver(port, frame);
        }
        for index in 0..self.appliances.len() {
            if self.appliances[index].frozen_until > self.now {
                continue;
            }
            self.with_node(NodeId(index), |node, now, out| node.attend(now, out));
            for (number, frame) in core::mem::take(&mut self.appliances[index].waiting) {
                self.take(index, number, &frame);
            }
            self.with_node(NodeId(index), |node, now, out| node.poll(now, out));
        }
        for index in 0..self.hosts.len() {
            if self.hosts[index]
                .0
                .deadline(self.now)
                .is_some_and(|at| at <= self.now)
            {
                self.poll_host(index);
            }
        }
        // A moment passes, so that something due "now" for ever cannot stop the clock.
        self.now = self.now + Duration::from_micros(1);
    }

    fn deliver(&mut self, port: PortId, frame: Vec<u8>) {
        if !self.switch.ports[port.0].carrier {
            return;
        }
        match self.owners[port.0] {
            Owner::Appliance(index, number) => {
                let appliance = &mut self.appliances[index];
                match appliance.frozen_until > self.now {
                    true => appliance.waiting.push((number, frame)),
                    false => self.take(index, number, &frame),
                }
            }
            Owner::Host(index) => {
                self.hosts[index].0.receive(frame);
                self.poll_host(index);
            }
            Owner::Tap(index) => self.taps[index].frames.push(frame),
        }
    }

    fn take(&mut self, index: usize, number: u8, frame: &[u8]) {
        self.with_node(NodeId(index), |node, now, out| {
            let len = frame.len();
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(frame);
            let frame = Frame::new(&mut buffer, HEADROOM, len).expect("it fits");
            node.ingress(now, number, frame, out);
        });
    }

    fn poll_host(&mut self, index: usize) {
        let port = self.hosts[index].1;
        for frame in self.hosts[index].0.poll(self.now) {
            self.send(port, &frame);
        }
    }

    /// Calls into a node, checks what it sends, and sends it.
    fn with_node(&mut self, id: NodeId, f: impl FnOnce(&mut Node<'static>, Instant, &mut Sent)) {
        let appliance = &mut self.appliances[id.0];
        let Some(node) = &mut appliance.node else {
            return;
        };
        let mut sent = Sent::default();
        let before = node.is_forwarding();
        f(node, self.now, &mut sent);
        let after = node.is_forwarding();
        let events: Vec<Event> = core::iter::from_fn(|| node.next_event()).collect();
        if !before && !after {
            for (_, frame) in &sent.0 {
                check_quiet(&appliance.policy.config, frame);
            }
        }
        let ports = appliance.ports.clone();
        for event in events {
            self.note(id, &event.to_string());
            self.events.push((self.now, id, event));
        }
        for (port, frame) in sent.0 {
            self.send(ports[usize::from(port)], &frame);
        }
    }

    fn send(&mut self, from: PortId, frame: &[u8]) {
        if self.lost(from) {
            return;
        }
        for (to, frame) in self.switch.pass(from, frame) {
            if self.lost(to) {
                continue;
            }
            let delay = self.switch.ports[from.0].delay + self.switch.ports[to.0].delay;
            self.sequence += 1;
            self.flight
                .insert((self.now + delay, self.sequence), (to, frame));
        }
    }

    fn lost(&mut self, port: PortId) -> bool {
        let loss = u64::from(self.switch.ports[port.0].loss);
        loss > 0 && self.random.draw() % 1000 < loss
    }

    fn note(&mut self, id: NodeId, text: &str) {
        let name = &self.appliances[id.0].policy.config.name;
        let seconds = self.now.as_micros() as f64 / 1e6;
        self.journal.push(format!("{seconds:>11.6} {name} {text}"));
    }
}

/// A node that is not Active speaks only for itself.
fn check_quiet(config: &Config, frame: &[u8]) {
    let received = ethernet::parse(frame).expect("nodes send whole headers");
    let own = |mac: Mac| config.interfaces.iter().any(|leg| leg.mac == mac);
    assert!(
        own(received.source),
        "a Backup sent from {:02x?}",
        received.source
    );
    if received.ethertype == ethernet::IPV4 {
        let (ip, _) =
            ipv4::Header::parse(&frame[received.payload..]).expect("nodes send whole packets");
        let source = Ipv4Addr::from(ip.source);
        let own = config.interfaces.iter().any(|leg| leg.address == source);
        assert!(own, "a Backup passed on a packet from {source}");
    }
    if received.ethertype == ethernet::IPV6 {
        let ip = ipv6::Header::parse(&frame[received.payload..]).expect("nodes send whole packets");
        let source = Ipv6Addr::from(ip.source);
        let own = config.interfaces.iter().any(|leg| {
            let link_local = Ipv6Addr::from(nd::link_local(leg.mac));
            leg.address6
                .is_some_and(|six| source == six.address || source == link_local)
        });
        assert!(own, "a Backup passed on a packet from {source}");
    }
}

#[derive(Default)]
struct Sent(Vec<(u8, Vec<u8>)>);

impl Transmit for Sent {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        assert!(
            frame.len() <= 1518,
            "{} bytes do not fit the wire",
            frame.len()
        );
        self.0.push((port, frame.to_vec()));
    }
}

/// Memory for a node: it is not given back, but a test is short.
fn tables() -> &'static mut Tables<FLOWS, FLOWS6> {
    Box::leak(Tables::boxed())
}
