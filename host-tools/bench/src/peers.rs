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

mod acl;
mod kernel;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is done.
    pub what: String,
    /// By whom.
    pub who: &'static str,
    /// Nanoseconds each time.
    pub ns: f64,
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

/// Numbers of rules of the classification rows.
pub const RULES: [usize; 4] = [10, 100, 1000, 4096];

/// Measures everything that this machine can.
///
/// # Errors
/// If a peer that is there does not work, or finds other rules than we do.
pub fn measure(source: &Path) -> Result<Peers, BenchError> {
    let mut peers = Peers::default();
    let acl = acl::Acl::build(source);
    if acl.is_none() {
        let note =
            "DPDK's ACL library was left out: install libdpdk-dev, pkg-config and a C compiler";
        peers.notes.push(note.into());
    }
    for count in RULES {
        peers.classification(acl.as_ref(), count)?;
    }
    match kernel::Lab::new() {
        Ok(lab) => {
            for count in RULES {
                peers.add(
                    &format!("forward, {count} rules compared"),
                    "nftables, linear, with veth and socket",
                    lab.classified(count)?,
                    None,
                );
            }
            peers.add(
                "established flow, DNAT",
                "kernel, with veth and socket",
                lab.established()?,
                None,
            );
        }
        Err(BenchError::NeedsRoot) => peers
            .notes
            .push("the kernel's path was left out: namespaces need root".into()),
        Err(other) => return Err(other),
    }
    let note = "NPF, OPTE and Katran are not packaged by Debian and were not run";
    peers.notes.push(note.into());
    Ok(peers)
}

impl Peers {
    fn add(&mut self, what: &str, who: &'static str, ns: f64, bytes: Option<usize>) {
        self.rows.push(Row {
            what: what.into(),
            who,
            ns,
            bytes,
        });
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
        self.add(&what, "ravelin", ns, Some(compiled.bytes.len()));
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
        self.add(&what, "rte_acl, scalar", cost.scalar_ns, Some(cost.bytes));
        self.add(&what, "rte_acl, vector", cost.best_ns, Some(cost.bytes));
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

const SEED: u64 = 7;
const KEYS: usize = 16_384;
const RUNS: usize = 20;
/// What the smallest board keeps for its configuration, less the configuration itself.
const ROOM: usize = 480 * 1024;
