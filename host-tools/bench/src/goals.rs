//! What the packet path should cost, beside what it costs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::classify;

/// One path through the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathCost {
    /// Its name.
    pub path: String,
    /// Instructions per packet by the number of rules: the mean of 1000 packets.
    pub instructions: BTreeMap<usize, u32>,
    /// What the most of them should not exceed.
    pub goal: Option<u32>,
    /// Whether they do not.
    pub met: Option<bool>,
}

/// One number that something was aimed at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Of what.
    pub what: String,
    /// As measured.
    pub measured: f64,
    /// The goal.
    pub goal: f64,
    /// Whether the measured number may exceed the goal, or must not.
    pub sense: Sense,
    /// Whether it is as it should be.
    pub met: bool,
}

/// Which side of a goal is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sense {
    /// Less is better.
    AtMost,
    /// More is better.
    AtLeast,
}

/// What the bench program said with so many rules.
pub type Run = (usize, Vec<(String, u32)>);

impl Goal {
    /// Compares.
    #[must_use]
    pub fn new(what: &str, measured: f64, sense: Sense, goal: f64) -> Self {
        Self {
            what: what.into(),
            measured,
            goal,
            sense,
            met: match sense {
                Sense::AtMost => measured <= goal,
                Sense::AtLeast => measured >= goal,
            },
        }
    }
}

/// The paths of all runs, each in one row.
pub fn paths(runs: &[Run]) -> Vec<PathCost> {
    let mut paths: Vec<PathCost> = Vec::new();
    for (rules, results) in runs {
        for (name, instructions) in results.iter().filter(|(name, _)| !is_size(name)) {
            let at = paths.iter().position(|path| path.path == *name);
            let at = at.unwrap_or_else(|| {
                paths.push(PathCost {
                    path: name.clone(),
                    instructions: BTreeMap::new(),
                    goal: goal(name),
                    met: None,
                });
                paths.len() - 1
            });
            paths[at].instructions.insert(*rules, *instructions);
        }
    }
    for path in &mut paths {
        let most = path.instructions.values().max();
        path.met = path.goal.zip(most).map(|(goal, most)| *most <= goal);
    }
    paths
}

/// Bytes of a flow, both directions and its share of the index: IPv4, IPv6.
pub fn flow_bytes(runs: &[Run]) -> Option<[u32; 2]> {
    let (_, results) = runs.first()?;
    let size = |name: &str| {
        let mut results = results.iter();
        results
            .find(|(found, _)| found == name)
            .map(|(_, size)| *size)
    };
    Some([size("bytes-per-flow")?, size("bytes-per-flow-ipv6")?])
}

/// Everything else that has a goal.
/// `established` is how many instructions an established TCP packet takes on this machine's processor.
pub fn others(runs: &[Run], rules: &[classify::Cost], established: Option<u32>) -> Vec<Goal> {
    let mut goals = Vec::new();
    let most = |count| {
        let mut sets = rules.iter();
        let set = sets.find(|cost| cost.set == classify::ACL && cost.rules == count)?;
        Some(f64::from(set.most))
    };
    if let Some(most) = most(1000) {
        let what = "most instructions of a look-up, 1000 rules like access lists";
        goals.push(Goal::new(what, most, Sense::AtMost, 600.0));
    }
    if let (Some(many), Some(few)) = (most(4096), most(64)) {
        let what = "the same with 4096 rules by the same with 64";
        goals.push(Goal::new(what, many / few, Sense::AtMost, 1.6));
    }
    if let Some([bytes, _]) = flow_bytes(runs) {
        let what = "bytes of an IPv4 flow, both directions and index";
        goals.push(Goal::new(what, bytes.into(), Sense::AtMost, 64.0));
    }
    // NPF is not packaged by Debian: its figure is of another run, and instructions are what compares across runs.
    if let Some(instructions) = established {
        let what = "instructions of NPF's DNAT hit (2072, not in this run) by ours, x86-64";
        let ratio = NPF_HIT / f64::from(instructions);
        goals.push(Goal::new(what, ratio, Sense::AtLeast, 6.0));
    }
    goals
}

/// NPF's TCP DNAT hit among 1024 flows, x86-64 instructions.
const NPF_HIT: f64 = 2072.0;

/// Sizes stand in the program's log among the paths.
fn is_size(name: &str) -> bool {
    name.starts_with("bytes-")
}

/// Instructions per packet that a path should not exceed.
fn goal(path: &str) -> Option<u32> {
    Some(match path {
        "established-dnat" | "established-undnat" => 300,
        "established-udp-dnat" | "established-udp-undnat" => 220,
        "established-dnat-ipv6" | "established-undnat-ipv6" => 320,
        "drop-no-rule" | "drop-no-flow" | "drop-closed-port" => 200,
        "syn-cookie" => 350,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_rows_with_their_goals() {
        let run = |rules, new, drop| {
            let results = [
                ("bytes-per-flow", 64),
                ("bytes-per-flow-ipv6", 112),
                ("new-flow-dnat", new),
                ("drop-no-rule", drop),
            ];
            (rules, results.map(|(name, n)| (name.to_owned(), n)).into())
        };
        let runs = [run(10, 900, 150), run(100, 950, 201)];
        let row = |path: &str, ten, hundred, goal: Option<u32>, met| PathCost {
            path: path.into(),
            instructions: [(10, ten), (100, hundred)].into(),
            goal,
            met,
        };
        let want = [
            row("new-flow-dnat", 900, 950, None, None),
            row("drop-no-rule", 150, 201, Some(200), Some(false)),
        ];
        assert_eq!(paths(&runs), want);
        let goals = others(&runs, &[], None);
        assert_eq!(goals.len(), 1);
        assert!(goals[0].met, "{goals:?}");
    }

    #[test]
    fn look_ups_have_goals_too() {
        let cost = |rules, most| classify::Cost {
            set: classify::ACL.into(),
            rules,
            average: 0,
            most,
            worst_nodes: 0,
            bytes: 0,
            trees: 1,
        };
        let goals = others(
            &[],
            &[cost(64, 300), cost(1000, 601), cost(4096, 480)],
            None,
        );
        let met: Vec<(f64, bool)> = goals.iter().map(|goal| (goal.measured, goal.met)).collect();
        assert_eq!(met, [(601.0, false), (1.6, true)]);
    }
}
