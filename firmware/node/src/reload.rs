//! Another configuration for an appliance that runs. What is equal in both stays untouched: addresses, adverts, timers, flows,
//! the results of checks, the session with the peer.

use core::fmt::Write as _;

use classifier::Policy;
use mgmt::Objection;
use policy::{Config, MAX_ROUTERS, Tracked, VirtualRouter};
use time::Instant;

use crate::appliance::Appliance;
use crate::error::Errors;
use crate::leg::Legs;
use crate::office::Office;
use crate::pair::Pairing;
use crate::{Event, Log, Transmit};

impl<'t> Appliance<'t> {
    /// Why this appliance cannot go on with a (validated) configuration, if so.
    pub(crate) fn object(&self, config: &Config) -> Result<(), Objection> {
        let mut objection = Objection::new();
        // Words that do not fit are cut off; nothing else depends on them.
        let _ = if let Some(office) = &self.office
            && office.name != config.name
        {
            let (name, other) = (&office.name, &config.name);
            write!(
                objection,
                "it is the configuration of {other}, and this is {name}"
            )
        } else if self.office.is_some() && config.availability.pair.is_none() {
            write!(
                objection,
                "it has no pair, so that no operator could reach this appliance any more"
            )
        } else if let Some(leg) = self.legs.differs(config) {
            write!(
                objection,
                "network {leg}: its port, VLAN, MAC and own addresses only change by a restart"
            )
        } else {
            Ok(())
        };
        match objection.is_empty() {
            true => Ok(()),
            false => Err(objection),
        }
    }

    /// Goes on with another policy, to which [`Self::object`] has nothing to say.
    #[inline(never)]
    pub(crate) fn reload(
        &mut self,
        now: Instant,
        policy: &Policy<'t>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let config = &policy.config;
        let mut known = [None; MAX_ROUTERS];
        for (known, router) in known.iter_mut().zip(&config.routers) {
            *known = self.legs.known(router);
        }
        let moved = self.moved(config, &known);
        if self.answers {
            // Who listens to a router that is gone hears it from us, not from silence.
            for gone in (0..MAX_ROUTERS as u8).filter(|old| !known.contains(&Some(*old))) {
                self.send_advert(now, gone, 0, out);
            }
        }
        let known = |index: u8| known.get(usize::from(index)).copied().flatten();
        let flows = self.filter.reload(now, policy, self.active);
        self.legs = Legs::new(config);
        self.adverts.reload(now, config, known);
        self.checker.reload(config, now);
        self.apply_standings(now);
        self.errors = Errors::new(now, &config.protection);
        self.outlets.reload(config, now, &log.journal);
        self.rename_services(config);
        self.announces_by_replies = config.availability.announce.replies;
        self.tracker.reload(now, &self.legs);
        self.router_adverts
            .reload(now, config, &self.legs, self.answers);
        self.memberships.join_again(now);
        let seed = self.chance.draw();
        match &mut self.office {
            Some(office) => office.reload(config, now),
            none => *none = Office::new(config, seed, now),
        }
        match &mut self.pairing {
            Some(pairing) if config.availability.pair.is_some() => {
                pairing.reload(config, !seed, now);
            }
            pairing => *pairing = Pairing::new(config, !seed),
        }
        let Self {
            group,
            filter,
            tracker,
            office,
            ..
        } = self;
        let good = |what| match what {
            Tracked::Port(_) => true, // the group knows
            Tracked::Neighbours(leg) => tracker.is_reachable(leg),
            Tracked::Service(service) => filter.has_quorum(service.into()),
            Tracked::Posted(index) => office.as_ref().is_some_and(|office| office.is_good(index)),
        };
        let actions = group.reload(now, config, known, good, moved);
        log.journal.push(
            now,
            Event::Configured {
                flows: flows as u32, // fewer than 2^24
            },
        );
        for action in actions {
            self.perform(now, action, log, out);
        }
        self.tell_peer(now, log, out);
        // The peer hears at once that the configuration is another one.
        self.pair_step(now, sync::Input::Timer, log, out);
        self.reschedule();
    }

    /// Whether another configuration has addresses that nobody was told of.
    fn moved(&self, config: &Config, known: &[Option<u8>; MAX_ROUTERS]) -> bool {
        let announced = |router: &VirtualRouter, known: Option<u8>| {
            let Some((_, old)) = known.and_then(|known| self.legs.router(known)) else {
                return false;
            };
            let mut addresses = router.addresses.iter();
            old.config.virtual_mac == router.virtual_mac
                && addresses.all(|address| old.has(*address))
        };
        let mut routers = config.routers.iter().zip(known);
        !routers.all(|(router, known)| announced(router, *known))
    }
}

/// What a node without a configuration says.
pub fn closed() -> Objection {
    let text = "it runs no configuration at all: start it with one";
    Objection::try_from(text).unwrap_or_default()
}
