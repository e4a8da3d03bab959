//! The whole node on this machine's processor: the same paths as on the boards.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use classifier::Aligned;
use node::{Node, Tables};
use treadmill::{Meter, PACKETS};

use super::callgrind;
use crate::BenchError;
use crate::subject::subject;

/// What a packet of a path costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds, in the best of some runs.
    pub ns: f64,
    /// Instructions, where something counts them.
    pub instructions: Option<u32>,
}

impl Cost {
    /// Nanoseconds alone.
    pub const fn ns(ns: f64) -> Self {
        Self {
            ns,
            instructions: None,
        }
    }
}

/// Every path's cost with so many rules. `program` is one that calls [`tread`] when its arguments are `bench treadmill FILE`.
pub fn measure(
    program: &Path,
    rules: usize,
    counts: bool,
) -> Result<BTreeMap<String, Cost>, BenchError> {
    let (config, list) = subject(rules)?;
    let blob = classifier::blob(&config, &list, policy::MAX_BLOB)
        .map_err(|error| BenchError::Site(format!("{rules} rules: {error}")))?;
    // Whatever else the machine does only adds, to either part.
    let mut best = BTreeMap::new();
    for _ in 0..RUNS {
        run(&blob, &mut Clock, &mut |path, cost| {
            let least = best.entry(path).or_insert(cost);
            least.whole = least.whole.min(cost.whole);
            least.making = least.making.min(cost.making);
        })?;
    }
    let cost = |(path, cost): (&str, treadmill::Cost)| {
        let ns = cost.node() as f64 / f64::from(PACKETS);
        (path.to_owned(), Cost::ns(ns))
    };
    let mut costs: BTreeMap<String, Cost> = best.into_iter().map(cost).collect();
    if counts {
        for (path, instructions) in instructions(program, &blob)? {
            if let Some(cost) = costs.get_mut(&path) {
                cost.instructions = Some(instructions);
            }
        }
    }
    Ok(costs)
}

/// Takes every path once under the eyes of valgrind, with the policy in a file, and prints their names.
///
/// # Errors
/// If the file holds no policy, or a path is not the one that it is called.
pub fn tread(blob: &Path) -> Result<(), BenchError> {
    let bytes = std::fs::read(blob).map_err(|cause| BenchError::File {
        path: blob.into(),
        cause,
    })?;
    run(&bytes, &mut Watched, &mut |path, _| println!("{path}"))
}

fn instructions(program: &Path, blob: &[u8]) -> Result<Vec<(String, u32)>, BenchError> {
    let failed = |cause| BenchError::File {
        path: "a temporary file".into(),
        cause,
    };
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    std::fs::write(file.path(), blob).map_err(failed)?;
    let path = file.path().as_os_str();
    let arguments = ["bench".as_ref(), "treadmill".as_ref(), path];
    let (calls, said) = callgrind::calls(program, &arguments, WATCHED)?;
    Ok(pair(&said, &calls))
}

/// Each path made two calls: packets made and sent, and only made.
fn pair(paths: &str, calls: &[u64]) -> Vec<(String, u32)> {
    let costs = calls.as_chunks().0.iter().map(|[whole, making]| {
        let cost = whole.saturating_sub(*making) / u64::from(PACKETS);
        u32::try_from(cost).unwrap_or(u32::MAX)
    });
    paths.lines().map(str::to_owned).zip(costs).collect()
}

fn run(
    blob: &[u8],
    meter: &mut impl Meter,
    report: &mut impl FnMut(&'static str, treadmill::Cost),
) -> Result<(), BenchError> {
    let bytes = Aligned::copy(blob);
    let policy = classifier::load(&bytes).map_err(|error| BenchError::Site(error.to_string()))?;
    let (config, tables) = (policy.config.clone(), policy.tables);
    let start = time::Instant::ZERO;
    let mut room = Tables::<FLOWS, FLOWS6>::boxed();
    let mut node = Node::new(Some(policy), &mut room, 1, start);
    treadmill::run(&mut node, (&config, &tables), meter, report)
        .map_err(|fault| BenchError::Site(fault.to_string()))
}

/// Tells nanoseconds.
struct Clock;

impl Meter for Clock {
    fn cost(&mut self, work: &mut dyn FnMut()) -> u64 {
        let begun = Instant::now();
        work();
        begun.elapsed().as_nanos() as u64
    }
}

/// Tells nothing: valgrind watches a function.
struct Watched;

impl Meter for Watched {
    fn cost(&mut self, work: &mut dyn FnMut()) -> u64 {
        watched_by_valgrind(work);
        0
    }
}

#[inline(never)]
fn watched_by_valgrind(work: &mut dyn FnMut()) {
    work();
    black_box(()); // so that the call is not the function's last word
}

/// [`watched_by_valgrind`] as valgrind calls it.
const WATCHED: &str = "bench::peers::whole::watched_by_valgrind";
/// As many as the Linux board has.
const FLOWS: usize = 16_384;
const FLOWS6: usize = 4096;
const RUNS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_belong_to_paths_in_pairs() {
        let calls = [310_000, 10_000, 1_000_999, 1_000];
        let want = [("there".to_owned(), 300), ("back".to_owned(), 999)];
        assert_eq!(pair("there\nback\n", &calls), want);
    }
}
