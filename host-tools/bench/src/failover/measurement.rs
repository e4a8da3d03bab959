//! One event, and what probes and connections met.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{Adverts, Cable, Echo, GATEWAYS, Lab, Load, OWN, Probes, Talk, Target};
use rehearse::probe::{Probe, blackout};

use super::{Contender, Event};
use crate::BenchError;

/// A pair of one contender in its namespaces, the preferred one Active between events.
pub struct Bench<'a> {
    // In the order in which they end.
    contender: &'a mut dyn Contender,
    _echo: Echo,
    adverts: Adverts,
    lab: Lab,
    interval: Duration,
}

/// What one event did.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Longest time in which no echo request to the virtual address was answered.
    pub address: Duration,
    /// Longest time in which no probe of the service behind it came back.
    pub blackout: Duration,
    /// Probes of the service that never did.
    pub lost: usize,
    /// Connections that were open.
    pub open: usize,
    /// Connections that never got another block.
    pub broken: usize,
    /// Longest time in which one of the others got none.
    pub stall: Duration,
}

impl Measurement {
    /// Blackout and one retransmission timeout: the one that runs when the blackout ends, for it doubles each time.
    pub fn patience(&self) -> Duration {
        let mut timeout = RTO;
        let mut sent = timeout;
        while sent < self.blackout {
            timeout *= 2;
            sent += timeout;
        }
        self.blackout + timeout
    }
}

impl<'a> Bench<'a> {
    /// Starts both, and waits until the preferred one is Active.
    pub fn new(interval: Duration, contender: &'a mut dyn Contender) -> Result<Self, BenchError> {
        let lab = Lab::new()?;
        let bench = Self {
            contender,
            _echo: Echo::start(&lab)?,
            adverts: Adverts::listen(&lab)?,
            lab,
            interval,
        };
        for gateway in 0..GATEWAYS.len() {
            bench.contender.start(&bench.lab, gateway)?;
        }
        bench.wait_for(0)?;
        Ok(bench)
    }

    /// Who it is.
    pub fn who(&self) -> &'static str {
        self.contender.who()
    }

    /// Lets something happen to the Active when this `share` of an interval has gone since an advert, and undoes it: with shares
    /// that are spread evenly, chance favours nobody.
    pub fn measure(&mut self, event: Event, share: f64) -> Result<Measurement, BenchError> {
        // The other one must have heard of everything, and neighbours of each other.
        sleep(SETTLE + self.interval * 2);
        self.contender.settle(&self.lab)?;
        let load = Load::open(&self.lab, CONNECTIONS, TALK)?;
        let pings = Probes::start(&self.lab, Target::Address, PROBE_INTERVAL)?;
        let probes = Probes::start(&self.lab, Target::Service, PROBE_INTERVAL)?;
        sleep(BASELINE);
        self.wait_for_phase(share)?;
        load.mark();
        let fault = Instant::now();
        match event {
            Event::PowerLoss => {
                self.lab.mute(0)?;
                self.lab.kill_all(0)?;
            }
            Event::LinkDown => self.lab.cut(0, Cable::Wan)?,
            Event::Stop => self.contender.stop(0),
            Event::HandOver => self.contender.hand_over(&self.lab)?,
        }
        self.wait_for(1)?;
        let over = Instant::now();
        let all_back = || {
            let back = [&pings, &probes].map(Probes::last_answered);
            back.iter().all(|sent| sent.is_some_and(|sent| sent > over))
        };
        self.wait("probes come back", all_back)?;
        sleep(AFTERMATH);
        // Who waits for a retransmission waits at most once more as long.
        let now = Instant::now();
        let broken = load.broken_after(now, PATIENCE + fault.elapsed() * 2);
        let connections = load.connections();
        let stalls = connections.iter();
        let stalls = stalls.filter(|one| one.broken.is_none() && one.last > now);
        let stall = stalls.map(|one| one.stall).max();
        drop(load);
        let [pings, probes] = [pings.stop(), probes.stop()];
        let of =
            |probes: &[Probe], what| blackout(probes, fault).ok_or_else(|| self.no_result(what));
        let since = probes.iter().filter(|probe| probe.sent >= fault);
        let measurement = Measurement {
            address: of(&pings, "pinging the virtual address")?,
            blackout: of(&probes, "probing the service")?,
            lost: since.filter(|probe| probe.answered.is_none()).count(),
            open: CONNECTIONS,
            broken: broken.len(),
            stall: stall.unwrap_or_default(),
        };
        self.undo(event)?;
        Ok(measurement)
    }

    fn undo(&mut self, event: Event) -> Result<(), BenchError> {
        match event {
            Event::PowerLoss => {
                self.lab.unmute(0)?;
                self.contender.start(&self.lab, 0)?;
            }
            Event::LinkDown => self.lab.mend(0, Cable::Wan)?,
            Event::Stop => self.contender.start(&self.lab, 0)?,
            Event::HandOver => self.contender.take_back(&self.lab)?,
        }
        self.wait_for(0)
    }

    fn wait_for_phase(&self, share: f64) -> Result<(), BenchError> {
        let count = self.adverts.count();
        self.wait("an advert", || self.adverts.count() > count)?;
        sleep(self.interval.mul_f64(share));
        Ok(())
    }

    fn wait_for(&self, gateway: usize) -> Result<(), BenchError> {
        let time = self.interval * 3 / 2 + SLACK;
        self.wait(&format!("{} becomes active", GATEWAYS[gateway]), || {
            self.adverts.active(time) == Some(OWN[gateway])
        })
    }

    fn wait(&self, what: &str, holds: impl Fn() -> bool) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > PATIENCE + self.interval * 20 {
                return Err(self.no_result(what));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn no_result(&self, what: &str) -> BenchError {
        BenchError::NoResult {
            what: format!("{}, every {:?}: {what}", self.who(), self.interval),
            said: self.contender.said(),
        }
    }
}

const CONNECTIONS: usize = 24;
const TALK: Talk = Talk {
    block: 64,
    pause: Some(Duration::from_millis(10)),
};
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
const SETTLE: Duration = Duration::from_secs(1);
const BASELINE: Duration = Duration::from_millis(300);
const AFTERMATH: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
/// An advert may come so much late.
const SLACK: Duration = Duration::from_millis(20);
/// Linux' shortest retransmission timeout, and a tick of its clock for its timer and for ours.
const RTO: Duration = Duration::from_millis(208);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_doubles_as_retransmissions_do() {
        let of = |blackout| {
            let measurement = Measurement {
                address: Duration::ZERO,
                blackout: Duration::from_millis(blackout),
                lost: 0,
                open: 0,
                broken: 0,
                stall: Duration::ZERO,
            };
            measurement.patience().as_millis()
        };
        // Sent again after 208, 624, 1456 and 3120 ms.
        let table = [
            (0, 208),
            (100, 308),
            (208, 416),
            (340, 756),
            (3000, 4664),
            (3300, 6628),
        ];
        for (blackout, patience) in table {
            assert_eq!(of(blackout), patience, "{blackout}");
        }
    }
}
