//! Rules that do nothing: covered by earlier ones, impossible, or the same as what follows.

use std::collections::BTreeMap;

use policy::rule::{Action, Rule, State};

use crate::finding::{Code, Finding};
use crate::gate::{Appliance, Gate};
use crate::packet::Version;
use crate::rack::{Component, Rack};
use crate::space::{Set, Space};

/// What a rule does in the cases that were looked at so far.
#[derive(Clone, Debug, Default)]
struct Role {
    /// Some packet can match it.
    lives: bool,
    /// Some packet that can match it gets to it.
    decides: bool,
    /// For some packet it makes a difference that the rule is there.
    matters: bool,
    /// Earlier rules with which it shares packets.
    before: Vec<usize>,
    /// Later rules that would decide the same.
    after: Vec<usize>,
}

/// Warnings about the rules of all appliances; those that are alike on all are told once.
#[must_use]
pub fn findings(rack: &Rack<'_>) -> Vec<Finding> {
    let inside = rack.inside();
    let mut told: BTreeMap<(Code, String, Vec<String>), Vec<String>> = BTreeMap::new();
    for (index, appliance) in rack.appliances.iter().enumerate() {
        let mut roles = vec![Role::default(); appliance.rules.len()];
        for version in Version::ALL {
            let space = Space::new(version);
            let gate = Gate::new(appliance, &space, &inside);
            look(&gate, &mut roles);
        }
        let name = rack.name(Component::Appliance(index));
        for (code, rule, others) in verdicts(appliance, &roles) {
            let places = told.entry((code, rule, others)).or_default();
            if !places.iter().any(|place| place == name) {
                places.push(name.to_owned());
            }
        }
    }
    told.into_iter()
        .map(|((code, rule, others), places)| finding(code, &rule, &others, &places))
        .collect()
}

/// Goes through all pairs of legs, since most rules are about one pair.
fn look(gate: &Gate<'_>, roles: &mut [Role]) {
    for from in 0..gate.legs() {
        for to in 0..gate.legs() {
            for state in [State::New, State::Invalid] {
                let possible = gate.possible(from, to, state);
                if !possible.is_empty() {
                    look_between(gate, from, to, state, &possible, roles);
                }
            }
        }
    }
}

fn look_between(
    gate: &Gate<'_>,
    from: u8,
    to: u8,
    state: State,
    possible: &Set,
    roles: &mut [Role],
) {
    let none = gate.space.none();
    let rules = &gate.appliance.rules;
    let seen: Vec<(usize, Set)> = (rules.iter().enumerate())
        .filter(|(_, rule)| sees(rule, from, to, state))
        .map(|(index, _)| (index, gate.rule(index).and(possible)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    // From the end: what happens to each packet if only the later rules existed.
    let mut later = vec![(none.clone(), none.clone()); seen.len()];
    let (mut accepted, mut rejected) = (none.clone(), none);
    for (place, (index, set)) in seen.iter().enumerate().rev() {
        later[place] = (accepted.clone(), rejected.clone());
        accepted = accepted.minus(set);
        rejected = rejected.minus(set);
        match rules[*index].action {
            Action::Accept => accepted = accepted.or(set),
            Action::Reject => rejected = rejected.or(set),
            Action::Drop => {}
        }
    }
    let mut open = possible.clone();
    for (place, (index, set)) in seen.iter().enumerate() {
        let role = &mut roles[*index];
        role.lives = true;
        let decided = open.and(set);
        open = open.minus(set);
        let earlier = seen[..place].iter().filter(|(_, other)| other.meets(set));
        role.before.extend(earlier.map(|(other, _)| *other));
        if decided.is_empty() {
            continue;
        }
        role.decides = true;
        let (accepted, rejected) = &later[place];
        let same = match rules[*index].action {
            Action::Accept => decided.minus(accepted).is_empty(),
            Action::Reject => decided.minus(rejected).is_empty(),
            Action::Drop => !decided.meets(accepted) && !decided.meets(rejected),
        };
        let later = seen[place + 1..]
            .iter()
            .filter(|(_, other)| other.meets(&decided));
        let after: Vec<usize> = later.map(|(other, _)| *other).collect();
        role.matters |= !same
            || has_effects(&rules[*index])
            || after.iter().any(|other| has_effects(&rules[*other]));
        role.after.extend(after);
    }
}

/// Whether a rule does more than decide.
fn has_effects(rule: &Rule) -> bool {
    rule.log || rule.rate.is_some() || rule.flows.is_some()
}

fn sees(rule: &Rule, from: u8, to: u8, state: State) -> bool {
    let of_state = match rule.state {
        State::Any => true,
        State::New | State::Invalid => rule.state == state,
    };
    of_state && rule.from.contains(from) && rule.to.contains(to)
}

fn verdicts(appliance: &Appliance, roles: &[Role]) -> Vec<(Code, String, Vec<String>)> {
    let names = |indices: &[usize]| {
        let mut names: Vec<String> = Vec::new();
        for index in indices {
            let name = appliance.rules[*index].name.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let mut verdicts = Vec::new();
    for (rule, role) in appliance.rules.iter().zip(roles) {
        let name = rule.name.to_string();
        if !role.lives {
            verdicts.push((Code::Dead, name, Vec::new()));
        } else if !role.decides {
            verdicts.push((Code::Shadowed, name, names(&role.before)));
        } else if !role.matters && !role.after.is_empty() {
            verdicts.push((Code::Redundant, name, names(&role.after)));
        }
    }
    verdicts
}

fn finding(code: Code, rule: &str, others: &[String], places: &[String]) -> Finding {
    let others: Vec<String> = others.iter().map(|name| format!("`{name}`")).collect();
    let (others, places) = (others.join(", "), places.join(" and "));
    let (message, help) = match code {
        Code::Shadowed => (
            format!(
                "on {places}, rule `{rule}` never decides: {others} before it take all its packets"
            ),
            "move it before them, or take it out",
        ),
        Code::Redundant => (
            format!(
                "on {places}, rule `{rule}` changes nothing: {others} after it would decide the same"
            ),
            "take one of them out, unless you want their counters apart",
        ),
        _ => (
            format!("on {places}, no packet can match rule `{rule}`"),
            "its source is not behind the leg it comes in from, its destination is not behind the leg it leaves by, or \
             its traffic cannot open a flow",
        ),
    };
    Finding {
        code,
        message,
        example: None,
        steps: Vec::new(),
        help: help.to_owned(),
    }
}
