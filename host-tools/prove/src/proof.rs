//! Compares what gets through with what the site file asks for, between every pair of components.

use std::collections::BTreeMap;

use serde::Serialize;
use site::plan::Action;

use crate::device::DeviceError;
use crate::finding::{Code, Finding};
use crate::intent;
use crate::lint;
use crate::nft::{State, Way};
use crate::packet::{Packet, Version};
use crate::rack::{Component, FIREWALL, Rack};
use crate::reach::{Route, View};
use crate::space::{Field, Set, Space};
use crate::trace::{Step, Trace};

/// What was proved, and what stands against it.
#[derive(Clone, Debug, Serialize)]
pub struct Proof {
    /// Who reaches whom.
    pub matrix: Matrix,
    /// Errors first, each kind in the order of the site.
    pub findings: Vec<Finding>,
}

impl Proof {
    /// Whether exactly the intended flows get through.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.findings.iter().any(|finding| finding.code.is_error())
    }
}

/// Reachability of every pair of components.
#[derive(Clone, Debug, Serialize)]
pub struct Matrix {
    /// Names in the order of rows and columns.
    pub components: Vec<String>,
    /// Pairs between which something gets through.
    pub cells: Vec<Cell>,
}

/// What gets from one component to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The sender.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// IP versions in which something does.
    pub versions: Vec<Version>,
    /// Names of the flows that explain it.
    pub flows: Vec<String>,
    /// The same, as traffic: `tcp 443`.
    pub traffic: Vec<String>,
}

impl Rack<'_> {
    /// Looks at the whole header space of both versions.
    #[must_use]
    pub fn prove(&self) -> Proof {
        let mut proof = Proof {
            matrix: Matrix {
                components: self
                    .components()
                    .iter()
                    .map(|one| self.name(*one).to_owned())
                    .collect(),
                cells: Vec::new(),
            },
            findings: Vec::new(),
        };
        for version in Version::ALL {
            let space = Space::new(version);
            let view = View::new(self, &space);
            let mut prover = Prover {
                view: &view,
                proof: &mut proof,
                seen: vec![space.none(); self.appliances.len()],
            };
            prover.pairs();
            prover.appliances();
            prover.servers();
        }
        proof.findings.extend(lint::findings(self));
        proof.findings.sort_by_key(|finding| finding.code);
        proof
    }
}

struct Prover<'p, 'v, 'a> {
    view: &'v View<'a>,
    proof: &'p mut Proof,
    /// Surplus packets of each appliance that were reported with a pair.
    seen: Vec<Set>,
}

/// Packets that show the same fault on one or more appliances.
struct Fault {
    set: Set,
    appliances: Vec<usize>,
    example: Option<(Packet, Option<usize>)>,
}

impl Prover<'_, '_, '_> {
    fn pairs(&mut self) {
        let components = self.view.rack.components();
        for from in &components {
            for to in &components {
                if self.view.concerns(*from, *to) {
                    self.pair(*from, *to);
                }
            }
        }
    }

    fn pair(&mut self, from: Component, to: Component) {
        let view = self.view;
        let allowed = view.allowed(from, to);
        let wanted = view.rightful(from, &allowed);
        let wanted_doors = match to {
            Component::Server(server) => view.wanted_doors(from, server),
            Component::Internet | Component::Appliance(_) => view.space.none(),
        };
        let direct = view.direct(from, to);
        let mut reached = view.space.none();
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        if let Some(direct) = &direct {
            reached = reached.or(&direct.between);
            let surplus = self.surplus(&direct.between, &allowed, to);
            let example = view.space.example(&surplus).map(|packet| (packet, None));
            add(&mut open, surplus, None, example);
        }
        // Neighbours do not need the appliances, but may use them.
        let needs_appliance = direct.is_none();
        let last_hop = view.space.equals(Field::Hops, 1);
        for gate in 0..view.gates.len() {
            let routes = view.routes(gate, from, to);
            let mut through = view.space.none();
            let mut doors = view.space.none();
            for route in &routes {
                through = through.or(&route.between);
                let surplus = self.surplus(&route.between, &allowed, to);
                let surplus = clear(&surplus, view.rightful(from, &surplus));
                self.seen[gate] = self.seen[gate].or(&surplus);
                let example = self.example(route, &surplus);
                add(&mut open, surplus, Some(gate), example);
                if self.is_translated(route) {
                    doors = doors.or(&route.sent);
                    let surplus = route.sent.minus(&wanted_doors);
                    let surplus = clear(&surplus, view.rightful(from, &surplus));
                    if self.surplus(&route.between, &allowed, to).is_empty() {
                        let door = route.gate.map(|(_, door)| door);
                        let example = view.space.example(&surplus).map(|packet| (packet, door));
                        add(&mut open, surplus, Some(gate), example);
                    }
                }
            }
            reached = reached.or(&through);
            if needs_appliance {
                let missing = wanted.minus(&through).minus(&last_hop);
                let example = view.space.example(&missing).map(|packet| (packet, None));
                let lacks_rule = !missing.is_empty();
                add(&mut closed, missing, Some(gate), example);
                if from == Component::Internet && !lacks_rule {
                    let missing = view
                        .rightful(from, &wanted_doors)
                        .minus(&doors)
                        .minus(&last_hop);
                    let example = view.space.example(&missing).map(|packet| (packet, None));
                    add(&mut closed, missing, Some(gate), example);
                }
            }
        }
        if !needs_appliance {
            let missing = wanted.minus(&reached);
            let example = view.space.example(&missing).map(|packet| (packet, None));
            add(&mut closed, missing, None, example);
        }
        for fault in open {
            self.report(Code::Open, from, to, &fault);
        }
        for fault in closed {
            self.report(Code::Closed, from, to, &fault);
        }
        self.cell(from, to, &reached);
    }

    /// What gets through and is not wanted. Pings to the appliances themselves are answered by design.
    fn surplus(&self, reached: &Set, allowed: &Set, to: Component) -> Set {
        let surplus = reached.minus(allowed);
        match to {
            Component::Appliance(_) => surplus.minus(&self.view.pings()),
            Component::Internet | Component::Server(_) => surplus,
        }
    }

    fn is_translated(&self, route: &Route) -> bool {
        route.gate.is_some_and(|(gate, door)| {
            self.view.gates[gate].doors[door].by != crate::gate::Translation::None
        })
    }

    /// A packet, as it is sent, that becomes one of `surplus`.
    fn example(&self, route: &Route, surplus: &Set) -> Option<(Packet, Option<usize>)> {
        let (gate, door) = route.gate?;
        let own = &self.view.gates[gate];
        let sent = own.before(&own.doors[door], surplus).and(&route.sent);
        Some((self.view.space.example(&sent)?, Some(door)))
    }

    fn report(&mut self, code: Code, from: Component, to: Component, fault: &Fault) {
        let rack = self.view.rack;
        let names = (rack.name(from), rack.name(to));
        let by: Vec<&str> = fault
            .appliances
            .iter()
            .map(|gate| rack.name(Component::Appliance(*gate)))
            .collect();
        let by = match by.as_slice() {
            [] => String::new(),
            names => format!(" through {}", names.join(" and through ")),
        };
        let Some((packet, door)) = fault.example else {
            return;
        };
        let gate = fault.appliances.first().copied().unwrap_or(0);
        let steps = steps(self.view.trace(from, packet, gate, door));
        let flow = self.flow_of(&packet, fault);
        let (message, help) = match code {
            Code::Open => (
                format!("{} reaches {}{by}, and no flow asks for it", names.0, names.1),
                "if it is wanted, write a flow for it in the site file; if not, this is a fault of the rules named \
                 above".to_owned(),
            ),
            _ => (
                format!("{} does not reach {}{by}, though {flow} asks for it", names.0, names.1),
                "the machine named last stops it: a flow before it may drop it, or its rules are at fault".to_owned(),
            ),
        };
        self.proof.findings.push(Finding {
            code,
            message,
            example: Some(packet),
            steps,
            help,
        });
    }

    /// The accepted flow that some packets belong to.
    fn flow_of(&self, packet: &Packet, fault: &Fault) -> String {
        let flows = self
            .view
            .rack
            .plan
            .flows
            .iter()
            .zip(&self.view.intent.flows);
        let accepted = flows.filter(|(flow, _)| flow.action == Action::Accept);
        let exact = accepted
            .clone()
            .find(|(_, set)| self.view.space.contains(set, packet));
        let near = || accepted.clone().find(|(_, set)| set.meets(&fault.set));
        exact
            .or_else(near)
            .map_or("a service".to_owned(), |(flow, _)| {
                format!("flow `{}`", flow.name)
            })
    }

    fn cell(&mut self, from: Component, to: Component, reached: &Set) {
        if reached.is_empty() {
            return;
        }
        let view = self.view;
        let (mut flows, mut traffic) = (Vec::new(), Vec::new());
        let mut open = reached.clone();
        for (flow, set) in view.rack.plan.flows.iter().zip(&view.intent.flows) {
            if flow.action == Action::Accept && set.meets(&open) {
                flows.push(flow.name.clone());
                traffic.push(flow.traffic.to_string());
            }
            open = open.minus(set);
        }
        if matches!(to, Component::Appliance(_)) && open.meets(&view.pings()) {
            traffic.push("ping".to_owned());
            open = open.minus(&view.pings());
        }
        if !open.is_empty() {
            traffic.push("not intended".to_owned());
        }
        let names = (view.rack.name(from), view.rack.name(to));
        let version = view.space.version();
        let cells = &mut self.proof.matrix.cells;
        let known = cells
            .iter_mut()
            .find(|cell| cell.from == names.0 && cell.to == names.1);
        match known {
            Some(cell) => {
                cell.versions.push(version);
                for name in flows {
                    if !cell.flows.contains(&name) {
                        cell.flows.push(name);
                    }
                }
                for name in traffic {
                    if !cell.traffic.contains(&name) {
                        cell.traffic.push(name);
                    }
                }
            }
            None => {
                traffic.dedup();
                cells.push(Cell {
                    from: names.0.to_owned(),
                    to: names.1.to_owned(),
                    versions: vec![version],
                    flows,
                    traffic,
                });
            }
        }
    }

    /// What each appliance alone accepts: also to addresses that no machine has today.
    fn appliances(&mut self) {
        let view = self.view;
        let mut faults: BTreeMap<(u8, u8), Vec<Fault>> = BTreeMap::new();
        let own_addresses =
            (view.gates.iter()).fold(view.space.none(), |all, gate| all.or(gate.own()));
        for (gate, own) in view.gates.iter().enumerate() {
            for from in 0..own.legs() {
                let entering = own.enters(from);
                if entering.is_empty() {
                    continue;
                }
                for (door, to) in
                    (0..own.legs()).flat_map(|to| own.doors.iter().map(move |door| (door, to)))
                {
                    // What is translated goes where the pairs have looked.
                    if door.target.is_some() || door.from.is_some_and(|leg| leg != from) {
                        continue;
                    }
                    let surplus = entering
                        .and(&door.arrives)
                        .and(&own.leaves(door, to))
                        .and(&own.accepts(from, to))
                        .minus(&view.intent.allowed)
                        .minus(&self.seen[gate]);
                    let surplus = clear(&surplus, surplus.minus(&own_addresses));
                    let example = view.space.example(&surplus).map(|packet| (packet, None));
                    add(
                        faults.entry((from, to)).or_default(),
                        surplus,
                        Some(gate),
                        example,
                    );
                }
            }
        }
        for ((from, _), faults) in faults {
            for fault in faults {
                self.report_appliance(from, &fault);
            }
        }
    }

    fn report_appliance(&mut self, from: u8, fault: &Fault) {
        let view = self.view;
        let (Some((packet, _)), Some(gate)) = (fault.example, fault.appliances.first().copied())
        else {
            return;
        };
        let names: Vec<&str> = fault
            .appliances
            .iter()
            .map(|gate| view.rack.name(Component::Appliance(*gate)))
            .collect();
        let place = &view.rack.plan.appliances[gate].legs[usize::from(from)].network;
        let name = view.rack.name(Component::Appliance(gate));
        let steps = steps(view.trace_from_leg(gate, from, packet))
            .into_iter()
            .filter(|step| step.place == name)
            .collect();
        self.proof.findings.push(Finding {
            code: Code::TooWide,
            message: format!(
                "{} would let through from {place} what no flow asks for",
                names.join(" and ")
            ),
            example: Some(packet),
            steps,
            help: "no machine takes it in today, but an appliance has to be closed by itself"
                .to_owned(),
        });
    }

    /// What each server's firewall alone lets through.
    fn servers(&mut self) {
        let view = self.view;
        let masked = (view.gates.iter()).fold(view.space.none(), |all, gate| {
            all.or(&gate.masked(&view.intent.allowed))
        });
        for server in 0..view.rack.hosts.len() {
            self.server_in(server, &masked);
            self.server_out(server);
            self.server_states(server);
        }
    }

    fn server_in(&mut self, server: usize, masked: &Set) {
        let view = self.view;
        let surplus = view
            .taken_in(server)
            .minus(&view.intent.allowed)
            .minus(masked)
            .minus(&view.intent.upkeep);
        self.report_server(server, Way::In, State::New, &surplus);
    }

    fn server_out(&mut self, server: usize) {
        let view = self.view;
        let from = Component::Server(server);
        let wanted = view
            .intent
            .allowed
            .and(&intent::sources(view.rack, view.space, from));
        let doors = (0..view.rack.hosts.len())
            .map(|to| view.wanted_doors(from, to))
            .fold(view.space.none(), |all, set| all.or(&set));
        let surplus = view
            .let_out(server)
            .minus(&wanted)
            .minus(&doors)
            .minus(&view.intent.upkeep_out);
        self.report_server(server, Way::Out, State::New, &surplus);
    }

    /// Answers pass in both directions, what belongs nowhere does not, and nothing is routed.
    fn server_states(&mut self, server: usize) {
        let view = self.view;
        let (firewall, space) = (&view.rack.hosts[server].firewall, view.space);
        let packets = space.packets();
        for way in [Way::In, Way::Out] {
            for state in [State::Established, State::Related] {
                let missing = packets.minus(&firewall.accepts(space, way, state));
                self.report_server(server, way, state, &missing);
            }
            let upkeep = &view.intent.upkeep_out;
            let surplus = firewall
                .accepts(space, way, State::Invalid)
                .and(&packets)
                .minus(upkeep);
            self.report_server(server, way, State::Invalid, &surplus);
        }
        let surplus = firewall
            .accepts(space, Way::Through, State::New)
            .and(&packets);
        self.report_server(server, Way::Through, State::New, &surplus);
    }

    fn report_server(&mut self, server: usize, way: Way, state: State, set: &Set) {
        let view = self.view;
        let Some(packet) = view.space.example(set) else {
            return;
        };
        let host = &view.rack.hosts[server];
        let judgement = host.firewall.judge(view.space, way, state, &packet);
        let line = judgement
            .line
            .map_or(String::new(), |line| format!(" line {line}"));
        let name = &host.name;
        let direction = match way {
            Way::In => "in",
            Way::Out => "out",
            Way::Through => "through",
        };
        let (code, message, help) = match state {
            State::New => (
                Code::TooWide,
                format!("{name} would let {direction} what no flow asks for"),
                "other machines stop it today, but each has to be closed by itself",
            ),
            State::Invalid => (
                Code::TooWide,
                format!("{name} would let {direction} packets that belong to no connection"),
                "its firewall has to drop packets of state invalid",
            ),
            State::Established | State::Related => (
                Code::Closed,
                format!("{name} does not let {direction} packets of its own connections"),
                "its firewall has to accept packets of states established and related",
            ),
        };
        self.proof.findings.push(Finding {
            code,
            message,
            example: Some(packet),
            steps: vec![Step {
                place: name.clone(),
                what: format!("{FIREWALL}{line}: {}", judgement.text),
            }],
            help: help.to_owned(),
        });
    }
}

/// What happened on the way; what cannot be compiled is found with the configuration itself.
fn steps(trace: Result<Trace, DeviceError>) -> Vec<Step> {
    match trace {
        Ok(trace) => trace.steps,
        Err(error) => vec![Step {
            place: "nobody".to_owned(),
            what: format!("can say what happens: {error}"),
        }],
    }
}

/// The part of a set that is alike on all appliances, unless nothing is left.
fn clear(all: &Set, part: Set) -> Set {
    if part.is_empty() { all.clone() } else { part }
}

/// Adds a fault, or another appliance to one that is known.
fn add(
    faults: &mut Vec<Fault>,
    set: Set,
    appliance: Option<usize>,
    example: Option<(Packet, Option<usize>)>,
) {
    if set.is_empty() {
        return;
    }
    if let Some(known) = faults.iter_mut().find(|known| known.set == set) {
        known
            .appliances
            .extend(appliance.filter(|one| !known.appliances.contains(one)));
        return;
    }
    faults.push(Fault {
        set,
        appliances: appliance.into_iter().collect(),
        example,
    });
}
