//! Our packet path on this machine's processor beside others', in one run: ratios mean something where
//! nanoseconds of a shared machine do not.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use classifier::generate::{self, Kind, Random, Version};
use classifier::{Aligned, Key, Tables};
use policy::rule::{Legs, Rule};
use serde::Serialize;

use crate::BenchError;
use crate::subject::RULES;

mod acl;
mod callgrind;
mod kernel;
mod lwip;
mod program;
mod whole;
mod xdp;

pub use whole::{Cost, tread};

/// One measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// What is done.
    pub what: String,
    /// By whom.
    pub who: &'static str,
    /// Nanoseconds each time.
    pub ns: f64,
    /// Instructions each time, where they can be counted.
    pub instructions: Option<u32>,
    /// How many times ours its nanoseconds are, where we do the same.
    pub ratio: Option<f64>,
    /// Bytes of the tables, where they can be told.
    pub bytes: Option<usize>,
}

/// What was measured, and what could not be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Peers {
    /// In the order of the run.
    pub rows: Vec<Row>,
    /// What is missing, and why.
    pub notes: Vec<String>,
}

/// Measures everything that this machine can. `program` is this program, for [`tread`].
///
/// # Errors
/// If a peer that is there does not work, or finds other rules than we do.
pub fn measure(source: &Path, program: &Path) -> Result<Peers, BenchError> {
    let mut peers = Peers::default();
    let counts = callgrind::is_there();
    if !counts {
        peers.left_out("instructions on this processor", callgrind::PACKAGE);
    }
    if cfg!(debug_assertions) {
        let note = "this program was compiled without optimisation: our rows mean nothing";
        peers.notes.push(note.into());
    }
    for count in RULES {
        peers.whole(program, count, counts)?;
    }
    match lwip::Lwip::build(source) {
        Some(lwip) => {
            peers.add(
                ESTABLISHED,
                "lwIP, no firewall, no NAT",
                lwip.measure(counts)?,
            );
        }
        None => peers.left_out("lwIP", lwip::PACKAGES),
    }
    peers.xdp(source);
    peers.kernel()?;
    let acl = acl::Acl::build(source);
    if acl.is_none() {
        peers.left_out("DPDK's ACL library", acl::PACKAGES);
    }
    for count in RULES {
        peers.classification(acl.as_ref(), count)?;
    }
    let note = "NPF, OPTE and Katran are not packaged by Debian and were not run";
    peers.notes.push(note.into());
    peers.compare();
    Ok(peers)
}

impl Peers {
    /// Instructions that our node takes for an established TCP packet with DNAT.
    #[must_use]
    pub fn established(&self) -> Option<u32> {
        let mut rows = self.rows.iter();
        let row = rows.find(|row| row.who == OURS && row.what == ESTABLISHED)?;
        row.instructions
    }

    fn add(&mut self, what: &str, who: &'static str, cost: Cost) {
        self.rows.push(Row {
            what: what.into(),
            who,
            ns: cost.ns,
            instructions: cost.instructions,
            ..Row::default()
        });
    }

    fn left_out(&mut self, what: &str, packages: &str) {
        let note = format!("{what} left out: apt-get install {packages}");
        self.notes.push(note);
    }

    /// Every path of our node; those without a look-up once.
    fn whole(&mut self, program: &Path, count: usize, counts: bool) -> Result<(), BenchError> {
        let costs = whole::measure(program, count, counts)?;
        for (path, what, with_rules) in PATHS {
            if let Some(cost) = costs.get(path)
                && (with_rules || count == RULES[0])
            {
                let what = match with_rules {
                    true => format!("{what}, {count} rules"),
                    false => what.into(),
                };
                self.add(&what, OURS, *cost);
            }
        }
        Ok(())
    }

    /// A DNAT in the kernel's XDP hook. A kernel that refuses it says so in the notes.
    fn xdp(&mut self, source: &Path) {
        let Some(xdp) = xdp::Xdp::build(source) else {
            return self.left_out("the XDP program", xdp::PACKAGES);
        };
        match xdp.measure() {
            Ok(ns) => {
                let who = "XDP, hash map of flows, no state";
                self.add(ESTABLISHED, who, Cost::ns(ns));
            }
            Err(error) => self
                .notes
                .push(format!("the XDP program left out: {error}")),
        }
    }

    /// The kernel's own path, if we may have namespaces.
    fn kernel(&mut self) -> Result<(), BenchError> {
        let lab = match kernel::Lab::new() {
            Ok(lab) => lab,
            Err(BenchError::NeedsRoot) => {
                let note = "the kernel's own path left out: namespaces need root";
                self.notes.push(note.into());
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        let who = "nftables and conntrack, with veth and socket";
        self.add("established UDP, DNAT", who, Cost::ns(lab.established()?));
        for count in RULES {
            let what = format!("new flow, DNAT, {count} rules");
            self.add(&what, who, Cost::ns(lab.first(count)?));
        }
        for count in RULES {
            let what = format!("forward, {count} rules compared");
            let who = "nftables, linear, with veth and socket";
            self.add(&what, who, Cost::ns(lab.classified(count)?));
        }
        Ok(())
    }

    /// Says of every row how it compares with ours that does the same.
    fn compare(&mut self) {
        let ours: Vec<(String, f64)> = (self.rows.iter())
            .filter(|row| row.who == OURS)
            .map(|row| (row.what.clone(), row.ns))
            .collect();
        for row in self.rows.iter_mut().filter(|row| row.who != OURS) {
            let same = ours.iter().find(|(what, _)| *what == row.what);
            row.ratio = same.map(|(_, ns)| row.ns / ns);
        }
    }

    /// The same rules and keys through our tables and DPDK's.
    fn classification(&mut self, acl: Option<&acl::Acl>, count: usize) -> Result<(), BenchError> {
        let rules = rules(count);
        let keys = keys(&rules);
        let compiled = classifier::compile(&rules, ROOM)
            .map_err(|error| BenchError::Site(format!("{count} rules: {error}")))?;
        let bytes = Aligned::copy(&compiled.bytes);
        let tables = Tables::parse(&bytes)
            .map_err(|error| BenchError::Site(format!("{count} rules: {error}")))?;
        let what = format!("classify, {count} rules like access lists");
        let ns = best(keys.len(), || {
            for key in &keys {
                black_box(tables.lookup(black_box(key)));
            }
        });
        let mut add = |who, ns, bytes| {
            self.rows.push(Row {
                what: what.clone(),
                who,
                ns,
                bytes: Some(bytes),
                ..Row::default()
            });
        };
        add(OURS, ns, compiled.bytes.len());
        let Some(acl) = acl else { return Ok(()) };
        let cost = acl.measure(&rules, &keys)?;
        let hits = keys
            .iter()
            .map(|key| tables.lookup(key).map(|hit| hit.rule));
        if acl::digest(hits) != cost.digest {
            return Err(BenchError::NoResult {
                what: format!("{what}: DPDK's ACL library finds other rules than our tables"),
                said: String::new(),
            });
        }
        add("rte_acl, scalar", cost.scalar_ns, cost.bytes);
        add("rte_acl, vector", cost.best_ns, cost.bytes);
        Ok(())
    }
}

/// Rules without what the peer cannot express: legs.
fn rules(count: usize) -> Vec<Rule> {
    let mut rules = generate::rules(Kind::Acl, Version::V4, count, SEED);
    for rule in &mut rules {
        rule.from = Legs::ANY;
    }
    rules
}

/// Keys that hit every rule alike.
fn keys(rules: &[Rule]) -> Vec<Key> {
    let mut random = Random::new(SEED);
    (0..KEYS)
        .filter_map(|_| {
            let rule = rules.get(random.below(rules.len()))?;
            Some(generate::key(rule, Version::V4, &mut random))
        })
        .collect()
}

/// The best time of some runs for each of `count` repetitions in one: whatever else the machine does only adds.
fn best(count: usize, mut work: impl FnMut()) -> f64 {
    let run = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed().as_nanos() as f64 / count as f64
    };
    (0..RUNS).map(run).fold(f64::MAX, f64::min)
}

const OURS: &str = "ravelin";
const ESTABLISHED: &str = "established TCP, DNAT";
/// Paths of the treadmill, how they are called here, and whether the number of rules may matter.
const PATHS: [(&str, &str, bool); 8] = [
    ("established-dnat", ESTABLISHED, false),
    ("established-undnat", "established TCP, back", false),
    ("established-udp-dnat", "established UDP, DNAT", false),
    (
        "established-dnat-ipv6",
        "established TCP over IPv6, DNAT",
        false,
    ),
    ("syn-cookie", "SYN cookie", false),
    ("new-flow-dnat", "new flow, DNAT", true),
    ("drop-no-rule", "dropped by no rule", true),
    ("drop-no-flow", "dropped, no flow", true),
];
const SEED: u64 = 7;
const KEYS: usize = 16_384;
const RUNS: usize = 20;
/// What the smallest board keeps for its configuration, less the configuration itself.
const ROOM: usize = 480 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_with_ours_that_do_the_same() {
        let mut peers = Peers::default();
        for (what, who, ns) in [
            ("a", OURS, 50.0),
            ("a", "other", 75.0),
            ("b", "other", 10.0),
        ] {
            peers.add(what, who, Cost::ns(ns));
        }
        peers.compare();
        let ratios: Vec<Option<f64>> = peers.rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [None, Some(1.5), None]);
    }
}
