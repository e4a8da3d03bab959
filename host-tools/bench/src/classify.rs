//! Instructions per look-up in compiled rules on the Cortex-M7, for sets like ClassBench's of several sizes.

use std::path::Path;

use build::Firmware;
use build::defmt_log::Line;
use classifier::generate::{self, Kind, Random, Version};
use classifier::{Addresses, Key, linear};
use serde::Serialize;

use crate::BenchError;
use crate::packet::{bench_program, emulate};

/// What looking up one packet in one set of rules costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// What the set is like.
    pub set: String,
    /// Number of rules.
    pub rules: usize,
    /// Instructions, the mean over packets that hit random rules.
    pub average: u32,
    /// The most of these packets.
    pub most: u32,
    /// Nodes that no packet exceeds, as the compiler proved.
    pub worst_nodes: u32,
    /// Size of the tables.
    pub bytes: usize,
    /// Trees; more than one where one does not fit the board.
    pub trees: usize,
}

/// Builds the bench program and measures every set.
///
/// # Errors
/// If something does not build, QEMU is missing, or the program ends early.
pub fn measure(source: &Path) -> Result<Vec<Cost>, BenchError> {
    let bench = bench_program(source, "classify-bench")?;
    let mut costs = Vec::new();
    for version in [Version::V4, Version::V6] {
        for kind in [Kind::Acl, Kind::Firewall] {
            for rules in SIZES {
                costs.push(cost(&bench, kind, version, rules)?);
            }
        }
    }
    Ok(costs)
}

fn cost(bench: &Firmware, kind: Kind, version: Version, count: usize) -> Result<Cost, BenchError> {
    let set = match (kind, version) {
        (Kind::Acl, Version::V4) => ACL,
        (Kind::Acl, Version::V6) => "access lists, IPv6",
        (Kind::Firewall, Version::V4) => "firewall, IPv4",
        (Kind::Firewall, Version::V6) => "firewall, IPv6",
    };
    let rules = generate::rules(kind, version, count, SEED);
    let room = bench.board.config_size - 4 * (2 + KEYS * KEY);
    let compiled = classifier::compile(&rules, room)
        .map_err(|error| BenchError::Site(format!("{set}: {error}")))?;
    let mut random = Random::new(SEED);
    let mut words = vec![KEYS as u32, compiled.bytes.len() as u32];
    for _ in 0..KEYS {
        let key = generate::key(&rules[random.below(count)], version, &mut random);
        let found = linear::first_match(&rules, &key);
        words.extend(encode(&key));
        words.push(found.map_or(u32::MAX, |found| found.rule.into()));
    }
    let mut placed: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    placed.extend(&compiled.bytes);
    let (average, most) = emulate(bench, &placed, result)?;
    let index = usize::from(version == Version::V6);
    Ok(Cost {
        set: set.into(),
        rules: count,
        average,
        most,
        worst_nodes: compiled.worst[index],
        bytes: compiled.bytes.len(),
        trees: compiled.trees[index],
    })
}

/// All words of a key but the rule, as `classify-bench` reads them.
fn encode(key: &Key) -> [u32; KEY - 1] {
    let (version, source, destination) = match key.addresses {
        Addresses::V4 {
            source,
            destination,
        } => (4, [source, 0, 0, 0], [destination, 0, 0, 0]),
        Addresses::V6 {
            source,
            destination,
        } => (6, source, destination),
    };
    let mut words = [0; KEY - 1];
    words[0] = version;
    words[1..5].copy_from_slice(&source);
    words[5..9].copy_from_slice(&destination);
    words[9] = u32::from(key.source_port) << 16 | u32::from(key.destination_port);
    words[10] = u32::from_be_bytes([0, key.from, key.to, key.protocol]);
    words
}

fn result(lines: &[Line]) -> Option<(u32, u32)> {
    lines.iter().find_map(|line| {
        let [what, average, most] = line.text.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        (what == "classify").then_some(())?;
        Some((average.parse().ok()?, most.parse().ok()?))
    })
}

/// Name of the sets whose cost has a goal.
pub const ACL: &str = "access lists, IPv4";
/// Sizes of the sets.
const SIZES: [usize; 5] = [10, 64, 100, 1000, 4096];
/// Packets of each set.
const KEYS: usize = 1000;
/// Words of a packet: the same as in `classify-bench`.
const KEY: usize = 12;
const SEED: u64 = 7;
