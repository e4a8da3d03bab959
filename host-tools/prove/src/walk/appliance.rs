//! Through the appliance: what it does with the packet, which translation and which rule did that, and why.

use std::net::{IpAddr, SocketAddr};

use filter::{Drop, Hop};
use policy::rule::{Action, Rule, State as RuleState};

use super::{Ends, Leg};
use crate::device::{Fate, Judged};
use crate::gate::Translation;
use crate::packet::{Packet, protocol};
use crate::rack::Component;
use crate::trace::{Decision, End, Ruling};
use crate::why;

impl Leg<'_, '_, '_> {
    /// Through the appliance, which is asked itself.
    pub(super) fn through(&mut self, leg: u8) -> Ends {
        let view = self.view();
        let name = view.rack.name(Component::Appliance(self.gate()));
        let network = self.network(leg);
        self.step(
            name,
            format!("gets it on {network}, TTL {}", self.packet.hops),
        );
        let judged = (self.walk.appliance).ingress(leg, &self.packet, self.segment.numbers)?;
        let ruled = self.ruled(leg, &judged);
        self.trace.decision = Some(Decision {
            appliance: name.to_owned(),
            from: network,
            reason: judged.fate.reason().map(Drop::name),
            rule: judged.rule.and_then(|index| self.ruling(index)),
            ..Decision::default()
        });
        match judged.fate {
            Fate::Forward(packet, hop) => Ok(self.forward(name, leg, packet, hop, ruled)),
            Fate::Taken(answer) => {
                let pinged = self.packet.destination_port == self.packet.echo_request();
                let does = match pinged {
                    true => "answers pings to its own addresses",
                    false => "takes it in",
                };
                let with = answer.map_or(String::new(), |answer| format!(": {answer}"));
                self.step(name, format!("{does}{with}"));
                Ok(End::Delivered {
                    to: name.to_owned(),
                })
            }
            Fate::Answer(answer, reason) => {
                self.explain(name, leg, reason, ruled);
                self.step(name, format!("answers its sender: {answer}"));
                Ok(self.dropped(name, reason.name()))
            }
            Fate::Error(problem, reason) => {
                self.explain(name, leg, reason, ruled);
                self.step(
                    name,
                    format!("tells its sender: ICMP {}", why::problem(problem)),
                );
                Ok(self.dropped(name, reason.name()))
            }
            Fate::Drop(reason) => {
                self.explain(name, leg, reason, ruled);
                Ok(self.dropped(name, reason.name()))
            }
        }
    }

    /// The packet has become another, and goes on.
    fn forward(
        &mut self,
        name: &str,
        leg: u8,
        packet: Packet,
        hop: Hop,
        ruled: Option<Ruled>,
    ) -> End {
        let known = ruled.is_none();
        if known {
            self.step(name, "knows the flow, and asks no rule");
        }
        self.destination(name, &packet, hop, known);
        if let Some(ruled) = ruled {
            self.rule_step(name, leg, hop.leg, ruled, None);
        }
        self.source(name, leg, &packet, hop, known);
        let next = match hop.address == packet.destination {
            true => String::new(),
            false => format!(" to {}{}", hop.address, self.who(hop)),
        };
        let network = self.network(hop.leg);
        self.step(
            name,
            format!("sends it out on {network}{next}, TTL {}", packet.hops),
        );
        if let Some(decision) = &mut self.trace.decision {
            decision.to = Some(network);
            decision.next = Some(hop.address);
        }
        self.packet = packet;
        self.arrive(hop)
    }

    fn who(&self, hop: Hop) -> String {
        let rack = self.view().rack;
        let server = rack.host_at(hop.address).map(|server| &rack.hosts[server]);
        match server {
            Some(server) => format!(" ({})", server.name),
            None if self.is_internet(hop.leg) => " (the provider's router)".to_owned(),
            None => String::new(),
        }
    }

    /// What became of the destination, and who wanted that.
    fn destination(&mut self, name: &str, packet: &Packet, hop: Hop, known: bool) {
        let config = &self.own().appliance.config;
        let old = (self.packet.destination, self.packet.destination_port);
        let new = (packet.destination, packet.destination_port);
        let asked = why::service(config, &self.packet);
        if let Some(service) = asked {
            let direct = service.forwarding == policy::Forwarding::DirectReturn;
            let mut servers = service.servers.iter().chain(&service.sorry);
            let chosen = servers.find(|server| match direct {
                true => server.address == hop.address,
                false => (server.address, server.port) == new,
            });
            if let (Some(decision), Some(chosen)) = (&mut self.trace.decision, chosen) {
                decision.service = Some(service.name.to_string());
                decision.server = Some(chosen.name.to_string());
            }
            if let (Some(chosen), false) = (chosen, known) {
                let how = why::choice(service, chosen, &self.walk.question.moment);
                let what = match direct {
                    true => ", which answers directly: the destination stays".to_owned(),
                    false => format!(": destination becomes {}", written(packet, new)),
                };
                self.note_destination(old, new);
                return self.step(name, format!("{how}{what}"));
            }
        }
        if old == new
            || packet.protocol != self.packet.protocol
            || !has_ports(packet) && old.0 == new.0
        {
            return;
        }
        let by = match known {
            true => "",
            false => why::forwarding(config, &self.packet),
        };
        let to = written(packet, new);
        self.note_destination(old, new);
        self.step(name, format!("{by}destination becomes {to}"));
    }

    fn note_destination(&mut self, old: (IpAddr, u16), new: (IpAddr, u16)) {
        if let Some(decision) = self.trace.decision.as_mut().filter(|_| old != new) {
            decision.destination = Some(written(&self.packet, new));
        }
    }

    /// What became of the source, and why.
    fn source(&mut self, name: &str, leg: u8, packet: &Packet, hop: Hop, known: bool) {
        let old = (self.packet.source, self.packet.source_port);
        let new = (packet.source, packet.source_port);
        if old == new {
            return;
        }
        let to = written(packet, new);
        let cause = match (known, packet.source) {
            (true, _) => "",
            (false, IpAddr::V6(_)) if hop.leg != leg => " (prefix translation)",
            (false, _) if hop.leg == leg => " (its answer has to come back this way)",
            (false, _) => " (masquerade)",
        };
        if let Some(decision) = &mut self.trace.decision {
            decision.source = Some(to.clone());
        }
        self.step(name, format!("source becomes {to}{cause}"));
    }

    /// Before a packet ends at the appliance: why.
    fn explain(&mut self, name: &str, leg: u8, reason: Drop, ruled: Option<Ruled>) {
        if let Some(ruled) = ruled {
            let to = ruled.between.and_then(|between| between.to);
            self.would_become(name, ruled);
            match ruled.rule {
                Some(_) => self.rule_step(name, leg, to.unwrap_or(leg), ruled, Some(reason)),
                None => {
                    let to = to.map_or("nowhere".to_owned(), |to| self.network(to));
                    let from = self.network(leg);
                    self.step(name, format!("no rule from {from} to {to} accepts it"));
                }
            }
        }
        let because = why::drop(
            reason,
            self.own(),
            leg,
            &self.packet,
            &self.walk.question.moment,
        );
        if let Some(because) = because {
            self.step(name, because);
        }
    }

    /// The destination that a packet would have got, had it not ended.
    fn would_become(&mut self, name: &str, ruled: Ruled) {
        let own = self.own();
        let Some((between, door)) = ruled
            .between
            .and_then(|between| Some((between, &own.doors[between.door?])))
        else {
            return;
        };
        let new = (between.packet.destination, between.packet.destination_port);
        let to = written(&between.packet, new);
        match &door.by {
            Translation::None => {}
            Translation::Service { service, .. } => {
                let what = format!("service `{service}` has servers for it, such as {to}");
                self.step(name, what);
            }
            Translation::Forward(_) => {
                let by = why::forwarding(&own.appliance.config, &self.packet);
                self.step(name, format!("{by}destination becomes {to}"));
            }
        }
    }

    /// Which rule was asked, if the rules were; and whether sets and tables say the same.
    fn ruled(&mut self, leg: u8, judged: &Judged) -> Option<Ruled> {
        let asked = judged.rule.is_some() || judged.fate.reason() == Some(Drop::NoRule);
        if !asked {
            return None;
        }
        let between = match &judged.fate {
            Fate::Forward(packet, hop) => vec![Between {
                packet: Packet {
                    destination: packet.destination,
                    destination_port: packet.destination_port,
                    ..self.packet
                },
                to: Some(hop.leg),
                door: None,
            }],
            Fate::Taken(_) | Fate::Answer(..) | Fate::Error(..) | Fate::Drop(_) => {
                self.between(leg)
            }
        };
        let fits = |one: &Between| {
            (one.to).is_some_and(|to| self.first_rule(leg, to, &one.packet) == judged.rule)
        };
        let likely = between.iter().find(|one| fits(one));
        // Connections that are picked up in the middle are judged as if they began.
        if likely.is_none() && !self.walk.question.moment.taken_over {
            self.trace.agrees = false;
        }
        Some(Ruled {
            rule: judged.rule,
            between: likely.or(between.first()).copied(),
        })
    }

    /// What the packet may become before the rules see it.
    fn between(&self, leg: u8) -> Vec<Between> {
        let own = self.own();
        let doors = self.view().doors(self.gate(), leg, &self.packet);
        (doors.into_iter())
            .map(|index| {
                let door = &own.doors[index];
                let mut packet = self.packet;
                if let Some((address, port)) = door.target {
                    packet.destination = address;
                    packet.destination_port = port.unwrap_or(packet.destination_port);
                }
                Between {
                    packet,
                    to: door.to.or_else(|| own.leg_to(packet.destination)),
                    door: Some(index),
                }
            })
            .collect()
    }

    /// The rule that decides as the sets of the proof have it.
    fn first_rule(&self, from: u8, to: u8, packet: &Packet) -> Option<usize> {
        let own = self.own();
        let sees = |rule: &Rule| match rule.state {
            RuleState::Any => true,
            RuleState::New => packet.opens(),
            RuleState::Invalid => !packet.opens(),
        };
        (own.appliance.rules.iter().enumerate()).position(|(index, rule)| {
            sees(rule)
                && rule.from.contains(from)
                && rule.to.contains(to)
                && self.view().space.contains(own.rule(index), packet)
        })
    }

    fn ruling(&self, index: usize) -> Option<Ruling> {
        let rule = self.own().appliance.rules.get(index)?;
        let flows = &self.view().rack.plan.flows;
        let flow = flows.iter().find(|flow| flow.name == rule.name.as_str());
        Some(Ruling {
            index,
            name: rule.name.to_string(),
            place: self.walk.question.places.get(rule.name.as_str()).cloned(),
            why: flow.map_or(String::new(), |flow| flow.why.clone()),
        })
    }

    /// What a rule says, and where it is written.
    fn rule_step(&mut self, name: &str, from: u8, to: u8, ruled: Ruled, reason: Option<Drop>) {
        let own = self.own();
        let Some((ruling, rule)) = ruled
            .rule
            .and_then(|index| Some((self.ruling(index)?, own.appliance.rules.get(index)?)))
        else {
            return;
        };
        let limit = |index: Option<u8>| own.appliance.config.limits.get(usize::from(index?));
        let limits = match reason {
            Some(Drop::RateLimit) => [limit(rule.rate), None],
            Some(Drop::FlowLimit) => [None, limit(rule.flows)],
            _ => [limit(rule.rate), limit(rule.flows)],
        };
        let limits: Vec<String> = limits
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let used_up = matches!(reason, Some(Drop::RateLimit | Drop::FlowLimit));
        let does = match rule.action {
            Action::Accept if used_up => "would accept",
            Action::Accept => "accepts",
            Action::Drop => "drops",
            Action::Reject => "rejects",
        };
        let place = ruling
            .place
            .map_or(String::new(), |place| format!(" of {place}"));
        let mut text = format!(
            "rule {} `{}`{place} {does} it ({} to {})",
            ruling.index,
            ruling.name,
            self.network(from),
            self.network(to)
        );
        match (limits.is_empty() || rule.action != Action::Accept, used_up) {
            (true, _) => {}
            (false, true) => text += &format!(", but its limit is reached: {}", limits.join(", ")),
            (false, false) => text += &format!(" within its limits: {}", limits.join(", ")),
        }
        if !ruling.why.is_empty() {
            text += &format!("; {}", ruling.why);
        }
        self.step(name, text);
    }
}

/// What the rules said.
#[derive(Clone, Copy, Debug)]
struct Ruled {
    /// The first that fits; none accepts the packet otherwise.
    rule: Option<usize>,
    /// What it said that about.
    between: Option<Between>,
}

/// A packet as rules see it.
#[derive(Clone, Copy, Debug)]
struct Between {
    packet: Packet,
    /// The leg that it would leave by.
    to: Option<u8>,
    /// The appliance's door that made it so, where that is guessed and not seen.
    door: Option<usize>,
}

const fn has_ports(packet: &Packet) -> bool {
    matches!(packet.protocol, protocol::TCP | protocol::UDP)
}

/// An address as it is written, with the port where the packet has ports.
fn written(packet: &Packet, (address, port): (IpAddr, u16)) -> String {
    match has_ports(packet) {
        true => SocketAddr::new(address, port).to_string(),
        false => address.to_string(),
    }
}
