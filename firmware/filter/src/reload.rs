//! Another policy for a filter that runs.
//!
//! Flows are judged once more, as their first packets would be now: those whose translation is still there and that the rules
//! still accept go on, with servers and limits by their new names; the others are over. Rates are not asked, and a limit of
//! flows that has become lower ends none. Netfilter would let flows that it knows go on for ever, whatever the rules say by
//! now: here a rule that is taken away takes its connections with it.

use core::net::IpAddr;

use classifier::Policy;
use policy::Transport;
use policy::rule::Sharing;
use time::Instant;

use crate::address::Address;
use crate::flow::{Flow, Owner};
use crate::nat6::Prefixes;
use crate::packet::{Class, Ports, Tuple};
use crate::ports::Translations;
use crate::refuse::Doors;
use crate::route::Routes;
use crate::services::Services;
use crate::table::Flows;
use crate::track::{Direction, State};
use crate::{Filter, Shared};

impl<'t> Filter<'t> {
    /// Goes on with another policy; how many flows are over by that. Nothing else is lost: servers that are in both are as
    /// healthy as they were, clients stay with them, cookies that were given may come back, and used tokens stay used.
    /// `active` says whether this appliance is the Active.
    pub fn reload(&mut self, now: Instant, policy: &Policy<'t>, active: bool) -> usize {
        let Self { v4, v6, shared } = self;
        let before = v4.len() + v6.len();
        let old = shared.reload(now, policy);
        let shares = policy.config.availability.pair.as_ref();
        let shares = shares.is_some_and(|pair| pair.sync);
        if shares != shared.shares {
            shared.shares = shares;
            shared.standby = shares && !active;
            v4.set_tells(shares && active);
            v6.set_tells(shares && active);
        }
        let prefixes = core::mem::replace(&mut shared.prefixes, Prefixes::new(&policy.config));
        if prefixes != shared.prefixes {
            // Whoever is outside knows them by other addresses.
            v6.remove_where(|_| true, shared);
        }
        shared.judge_again(v4, &old);
        shared.judge_again(v6, &old);
        before - (v4.len() + v6.len())
    }
}

impl<'t> Shared<'t> {
    /// All but the flows; the services as they were.
    #[inline(never)]
    fn reload(&mut self, now: Instant, policy: &Policy<'t>) -> Services {
        let config = &policy.config;
        let protection = &config.protection;
        self.now = now;
        self.routes = Routes::new(config);
        self.rules.reload(policy.tables);
        self.limits = self.limits.successor(now, &config.limits);
        self.translations = Translations::new(config);
        self.cookies_above = protection.syn_cookies_above.into();
        self.strict = protection.strict_windows;
        self.clamp_mss = protection.clamp_mss;
        self.answer_rejects = protection.answer_rejects;
        let next = self.services.successor(now, config);
        let old = core::mem::replace(&mut self.services, next);
        self.doors = Doors::new(&self.services, &self.translations);
        let fallen = core::mem::take(&mut self.fallen);
        for (service, servers) in fallen.into_iter().enumerate() {
            for server in (0..u16::BITS as usize).filter(|server| servers >> server & 1 != 0) {
                let new = old.renamed(Owner::new(service, server), &self.services);
                if let Some((service, server)) = new.and_then(Owner::get)
                    && let Some(fallen) = self.fallen.get_mut(service)
                {
                    *fallen |= 1_u16.unbounded_shl(server as u32);
                }
            }
        }
        old
    }

    /// Looks which flows go on, and counts them anew.
    fn judge_again<A: Address>(&mut self, flows: &mut Flows<'_, A>, old: &Services) {
        for id in flows.ids() {
            let Some(place) = flows.get_mut(id).filter(|flow| flow.state != State::Free) else {
                continue;
            };
            let owner = old.renamed(place.owner(), &self.services);
            if let Some((flow, sharing)) = self.readmit(place, owner.unwrap_or(Owner::NONE)) {
                *place = flow;
                self.count(&flow);
                flows.set_private(id, sharing == Sharing::Never);
            } else {
                // Nobody has counted it yet.
                *place = place.owned_by(Owner::NONE).limited_by(None);
                flows.remove(id, self);
            }
        }
    }

    /// A flow that was opened under another policy as it goes on under this one, and who is told of it, if it does. Its server is known by its
    /// address; only where packets keep the service's it is `owner`, if that still serves it.
    pub(crate) fn readmit<A: Address>(
        &self,
        flow: &Flow<A>,
        owner: Owner,
    ) -> Option<(Flow<A>, Sharing)> {
        let original = *flow.tuple(Direction::Original);
        let reply = *flow.tuple(Direction::Reply);
        let class = flow.state.class();
        let routes = A::family(&self.routes);
        let asked: (IpAddr, u16) = (original.destination.into(), original.destination_port());
        let answers: (IpAddr, u16) = (reply.source.into(), reply.source_port());
        let transport = match class {
            Class::Tcp => Some(Transport::Tcp),
            Class::Udp => Some(Transport::Udp),
            Class::Echo | Class::Other => None,
        };
        let service = transport.and_then(|it| self.services.at(it, asked.0, asked.1));
        let direct = service.is_some_and(|service| self.services.is_direct(service));
        let forwarded =
            || transport.and_then(|it| self.translations.forwarding(it, asked.0, asked.1));
        let (target, owner) = match (service, direct) {
            (Some(service), true) => {
                let (of, _) = owner.get()?;
                let (server, _) = self.services.server(owner)?;
                if of != service || reply != original.reversed() {
                    return None;
                }
                (A::from_ip(server)?, owner)
            }
            (Some(service), false) => (reply.source, self.services.server_at(service, answers)?),
            (None, _) => {
                let expected = match forwarded() {
                    Some(server) => server,
                    None if routes.is_ours(original.destination) => return None,
                    // The answer to a ping has the identifier where the question has it.
                    None if class == Class::Echo => (asked.0, answers.1),
                    None => asked,
                };
                if expected != answers {
                    return None;
                }
                (reply.source, Owner::NONE)
            }
        };
        let from = routes.lookup(original.source)?.path;
        let to = routes.lookup(target)?.path;
        routes
            .check(from.leg, original.source, original.destination)
            .ok()?;
        let leaves = reply.reversed();
        let decision = match direct {
            true => original,
            false => Tuple {
                source: original.source,
                destination: target,
                ports: Ports::new(original.source_port(), leaves.destination_port()),
            },
        };
        let allowed = self.rules.still_allow(from.leg, to.leg, &decision, class)?;
        let translated = original.destination != target;
        let hairpin = translated && to.leg == from.leg && !to.routed;
        if !direct && !self.is_source(&original, &leaves, class, to.leg, hairpin) {
            return None;
        }
        let mut next = Flow::new(original, reply, flow.state, from, to)
            .owned_by(owner)
            .limited_by(allowed.flows);
        if direct || flow.is_special() {
            next = next.special();
        }
        next.windows = flow.windows;
        next.expiry = flow.expiry;
        Some((next, allowed.sharing))
    }

    /// Whether a flow leaves from where its packets would be translated to now.
    fn is_source<A: Address>(
        &self,
        original: &Tuple<A>,
        leaves: &Tuple<A>,
        class: Class,
        leg: u8,
        hairpin: bool,
    ) -> bool {
        let new = match original.source.into() {
            _ if hairpin => {
                let address = A::family(&self.routes).virtual_address(leg);
                return address == Some(leaves.source);
            }
            IpAddr::V4(source) => self.translations.source(source.to_bits(), leg),
            IpAddr::V6(_) => None,
        };
        match new {
            None => {
                (leaves.source, leaves.source_port()) == (original.source, original.source_port())
            }
            Some(new) => {
                let port = new.first..=new.last;
                let is_port = matches!(class, Class::Tcp | Class::Udp);
                A::from_ip(IpAddr::V4(new.address.into())) == Some(leaves.source)
                    && (!is_port || port.contains(&leaves.source_port()))
            }
        }
    }
}
