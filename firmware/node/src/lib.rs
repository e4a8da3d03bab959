//! The appliance: joins packet path, VRRP and health checks into `ingress` and `poll`.

#![no_std]
#![forbid(unsafe_code)]

use classifier::Policy;
use time::{Duration, Instant};
use wire::Frame;

mod advert;
mod announce;
mod answer;
mod appliance;
mod arp;
mod bucket;
mod checks;
mod counters;
mod decided;
mod defer;
mod deploy;
mod emit;
mod error;
mod event;
mod held;
mod journal;
mod leg;
mod local;
mod membership;
mod nd;
mod neighbour;
mod office;
mod outlets;
mod outline;
mod pair;
mod reload;
mod report;
mod router_advert;
mod start;
pub mod superloop;
mod tracker;
mod transit;

pub use advert::{AdvertCounters, Heard};
pub use counters::Counters;
pub use decided::Decided;
pub use deploy::identity;
#[cfg(feature = "defmt")]
pub use deploy::{report_alive, report_start};
pub use event::Event;
pub use filter::{Drop, Tables};
pub use mgmt::{Objection, Refusal};
pub use vrrp::State;

use appliance::Appliance;
use journal::Journal;
use report::Reports;

/// Where the node's frames go: a board's ports, or a test's list.
pub trait Transmit {
    /// Sends one complete frame (VLAN tag included, no FCS) out of a physical port; a port that cannot
    /// take it drops it and counts.
    fn transmit(&mut self, port: u8, frame: &[u8]);

    /// Sends one datagram over the serial line to the other appliance; without a line, nothing happens.
    fn serial(&mut self, datagram: &[u8]) {
        let _ = datagram;
    }

    /// Memory for configurations that come while the appliance runs; without it none can.
    fn store(&mut self) -> Option<&mut dyn hal::ConfigurationStore> {
        None
    }
}

/// One appliance.
#[derive(Debug)]
pub struct Node<'t> {
    appliance: Option<Appliance<'t>>,
    log: Log,
    reports: Reports,
    next_report: Instant,
}

/// What every part of the node may write to.
#[derive(Debug)]
struct Log {
    counters: Counters,
    journal: Journal,
    /// Microseconds since 1970 when this node's clock was zero, if somebody knows.
    epoch: Option<u64>,
}

/// How often drop counters that changed become events.
const REPORT: Duration = Duration::from_secs(10);

impl<'t> Node<'t> {
    /// A node that runs `policy` with room for flows in `tables`; without a policy it is closed: it forwards nothing and
    /// answers nothing.
    /// `seed` keys the flow hash and picks initial sequence numbers and identifiers.
    #[must_use]
    pub fn new<const FLOWS: usize, const FLOWS6: usize>(
        policy: Option<Policy<'t>>,
        tables: &'t mut Tables<FLOWS, FLOWS6>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut node = Self::empty(now);
        match policy {
            Some(policy) => node.appliance = Some(Appliance::new(&policy, tables, seed, now)),
            None => node.log.journal.push(now, Event::Closed),
        }
        node
    }

    /// One that knows nothing yet.
    fn empty(now: Instant) -> Self {
        Self {
            appliance: None,
            log: Log {
                counters: Counters::new(),
                journal: Journal::default(),
                epoch: None,
            },
            reports: Reports::new(),
            next_report: now + REPORT,
        }
    }

    /// Lets the worker at the other side of this mailbox do TLS for the checks that use it.
    #[cfg(feature = "tls")]
    pub fn check_over_tls(&mut self, mailbox: &'static tls::Mailbox) {
        if let Some(appliance) = &mut self.appliance {
            appliance.checker.set_tunnel(tls::Client::new(mailbox));
        }
    }

    /// Takes one received frame; it may be rewritten in place and sent on.
    pub fn ingress(&mut self, now: Instant, port: u8, frame: Frame<'_>, out: &mut impl Transmit) {
        self.log.counters.received += 1;
        let result = match &mut self.appliance {
            Some(appliance) => appliance.ingress(now, port, frame, &mut self.log, out),
            None => Err(Drop::Closed),
        };
        if let Err(reason) = result {
            self.log.counters.drop(reason);
        }
    }

    /// Takes one datagram of the serial line; it is opened in place.
    pub fn serial(&mut self, now: Instant, datagram: &mut [u8], out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            let (path, bytes) = (sync::Path::SERIAL, datagram);
            let input = sync::Input::Datagram { path, bytes };
            appliance.pair_step(now, input, &mut self.log, out);
        }
    }

    /// Comes before frames are taken that may have waited: an Active that was away for long looks first whether it still is.
    #[inline]
    pub fn attend(&mut self, now: Instant, out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            appliance.attend(now, &mut self.log, out);
        }
    }

    /// Gives the order to hand over to the peer, as an operator does over the network.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn hand_over(&mut self, now: Instant, out: &mut impl Transmit) -> Result<(), Refusal> {
        let appliance = self.appliance.as_mut().ok_or(Refusal::NotActive)?;
        appliance.hand_over(now, &mut self.log, out)
    }

    /// Lets it stand back until told otherwise, or ends that, as an operator does over the network.
    pub fn maintain(&mut self, now: Instant, on: bool, out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            appliance.maintain(now, on, &mut self.log, out);
        }
    }

    /// Comes before the first [`Self::poll`] after a failure: the appliance stands back for so long, and serves if nobody else does.
    pub fn recover(&mut self, now: Instant, time: Duration, out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            let until = now + time;
            appliance.group_step(now, vrrp::Input::Failed { until }, &mut self.log, out);
        }
    }

    /// Goes on with another policy, as an appliance does that an operator has sent it to; it has to be one for the same legs.
    /// What is equal in both stays as it is.
    ///
    /// # Errors
    /// Why this appliance cannot run it. Then nothing has changed.
    pub fn reload(
        &mut self,
        now: Instant,
        policy: &Policy<'t>,
        out: &mut impl Transmit,
    ) -> Result<(), Objection> {
        let Some(appliance) = &mut self.appliance else {
            return Err(reload::closed());
        };
        appliance.object(&policy.config)?;
        appliance.reload(now, policy, &mut self.log, out);
        Ok(())
    }

    /// Takes a whole configuration from where the board has it, as on a signal, and runs it from now on without asking anybody.
    ///
    /// # Errors
    /// Why not. Then nothing has changed.
    pub fn replace(
        &mut self,
        now: Instant,
        blob: &[u8],
        out: &mut impl Transmit,
    ) -> Result<(), Objection> {
        let Some(appliance) = &mut self.appliance else {
            return Err(reload::closed());
        };
        appliance.replace(now, blob, &mut self.log, out)
    }

    /// Tells the node what time it is, in microseconds since 1970, where a board knows. Events to collectors say when they
    /// happened then.
    pub fn set_time(&mut self, now: Instant, since_1970: u64) {
        self.log.epoch = since_1970.checked_sub(now.as_micros());
    }

    /// Runs every timer that is due. Calling early is harmless.
    pub fn poll(&mut self, now: Instant, out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            appliance.poll(now, &mut self.log, out);
        }
        if now >= self.next_report {
            self.next_report = now + REPORT;
            self.reports.write(now, &mut self.log);
            if let Some(appliance) = &mut self.appliance {
                appliance.outlets.summarize(now, &mut self.log.journal);
            }
        }
        if let Some(appliance) = &mut self.appliance
            && (appliance.outlets.deadline(&self.log.journal)).is_some_and(|at| now >= at)
        {
            appliance.publish(now, &self.log, out);
        }
    }

    /// Tells the node that a port gained or lost its carrier. Ports start up.
    pub fn link(&mut self, now: Instant, port: u8, up: bool, out: &mut impl Transmit) {
        self.log.journal.push(now, Event::Link { port, up });
        if let Some(appliance) = &mut self.appliance {
            appliance.link(now, port, up, &mut self.log, out);
        }
    }

    /// Orderly end: advertises priority 0, so that the peer takes over at once (RFC 9568 §6.4.3).
    pub fn stop(&mut self, now: Instant, out: &mut impl Transmit) {
        if let Some(appliance) = &mut self.appliance {
            appliance.stop(now, &mut self.log, out);
        }
    }

    /// When `poll` has work next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.appliance {
            Some(appliance) => {
                let next = appliance.deadline().min(self.next_report);
                let outlets = appliance.outlets.deadline(&self.log.journal);
                outlets.map_or(next, |at| at.min(next))
            }
            None => self.next_report,
        }
    }

    /// The oldest event not yet taken. When the queue is full the oldest are lost and counted.
    pub fn next_event(&mut self) -> Option<Event> {
        self.log.journal.pop()
    }

    /// What happened to frames since boot.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.log.counters
    }

    /// How many first packets each rule decided, in the order of the configuration.
    #[must_use]
    pub fn rule_hits(&self) -> &[u32] {
        self.appliance.as_ref().map_or(&[], Appliance::rule_hits)
    }

    /// How many flows are known.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.appliance.as_ref().map_or(0, Appliance::flows)
    }

    /// Whether frames to virtual MAC addresses are forwarded: an Active, and for a moment one that has handed over.
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        self.appliance
            .as_ref()
            .is_some_and(|appliance| appliance.active)
    }

    /// How many advertisements of each virtual router there were, in the order of the configuration.
    pub fn adverts(&self) -> impl Iterator<Item = AdvertCounters> {
        self.appliance.iter().flat_map(Appliance::advert_counters)
    }

    /// State of all virtual routers; `None` for a closed node.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.appliance.as_ref().map(Appliance::state)
    }
}
