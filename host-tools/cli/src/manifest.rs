//! What a configuration says, one line for each thing that has a name: so that two can be compared in words. What an appliance
//! runs is known by its digest.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use classifier::BlobError;
use policy::{Config, rule::Rule};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use site::Plan;

use crate::{
    failure::{Failure, Message},
    push::digest_of,
};

/// The blob of an appliance, and what it says.
pub struct Compiled {
    /// What the appliance runs.
    pub blob: Vec<u8>,
    /// What that is.
    pub manifest: Manifest,
    /// Names of its rules.
    pub rules: Vec<String>,
}

/// Things by their kind and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    things: BTreeMap<String, BTreeMap<String, String>>,
    /// Names of the rules in their order, which counts.
    order: Vec<String>,
}

/// The configuration that follows from a plan, as it was or would be made at `made`.
pub fn compile(
    plan: &Plan,
    state: &Path,
    appliance: &str,
    made: SystemTime,
) -> Result<Compiled, Failure> {
    let input = |error: String| Failure::input(Message::new(error));
    let (mut config, rules) =
        render::appliance::policy(plan, appliance).map_err(|error| input(error.to_string()))?;
    // Without the secrets: what it says is nobody's secret.
    let manifest = Manifest::of(&config, &rules);
    build::secrets::fill(&mut config, plan, state).map_err(Failure::input)?;
    build::trust::fill(&mut config, plan, state, made).map_err(Failure::input)?;
    let blob = classifier::blob(&config, &rules, policy::MAX_BLOB)
        .map_err(|error: BlobError| input(error.to_string()))?;
    Ok(Compiled {
        blob,
        manifest,
        rules: rules.iter().map(|rule| rule.name.to_string()).collect(),
    })
}

/// Remembers what a configuration that was built says, so that changes to it can be told in words later. Without that, they
/// cannot.
pub fn remember(plan: &Plan, state: &Path, appliance: &str, path: &Path) {
    let Ok(blob) = fs::read(path) else { return };
    let Ok((config, _)) = policy::decode(&blob) else {
        return;
    };
    if let Ok(compiled) = compile(plan, state, appliance, moment(config.made))
        && compiled.blob == blob
    {
        let _less_is_known = compiled.manifest.remember(state, &digest_of(&blob));
    }
}

/// The moment that an appliance says its configuration was made.
pub fn moment(made: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(made)
}

impl Manifest {
    fn of(config: &Config, rules: &[Rule]) -> Self {
        let mut all = Self {
            order: rules.iter().map(|rule| rule.name.to_string()).collect(),
            ..Self::default()
        };
        let network = |index: u8| {
            let interface = config.interfaces.get(usize::from(index));
            interface.map_or(String::new(), |interface| interface.name.to_string())
        };
        for router in &config.routers {
            let version = if router.is_v6() { "IPv6" } else { "IPv4" };
            let name = format!(
                "{} of {version} on {}",
                router.vrid,
                network(router.interface)
            );
            all.add("virtual router", &name, router);
        }
        for service in &config.services {
            all.add("service", &service.name, service);
        }
        for rule in rules {
            all.add("rule", &rule.name, rule);
        }
        for (number, nat) in config.nat.iter().enumerate() {
            all.add("translation", &number.to_string(), nat);
        }
        for (number, limit) in config.limits.iter().enumerate() {
            all.add("limit", &number.to_string(), limit);
        }
        for interface in &config.interfaces {
            all.add("network", &interface.name, interface);
        }
        let availability = &config.availability;
        for (number, track) in availability.tracks.iter().enumerate() {
            all.add("track", &number.to_string(), track);
        }
        all.add("priority", "", &availability.priority);
        let preempt = (
            availability.preempt,
            availability.preempt_delay,
            availability.start_delay,
        );
        all.add("preemption", "", &preempt);
        all.add("announcements", "", &availability.announce);
        if let Some(pair) = &availability.pair {
            let agreed = (
                pair.heartbeat,
                pair.misses,
                pair.sync,
                pair.defer,
                pair.serial,
            );
            all.add("pair", &pair.peer, &agreed);
        }
        all.add("protection", "", &config.protection);
        all.add(
            "default route",
            "",
            &(config.default_route, config.default_route6),
        );
        all
    }

    fn add(&mut self, kind: &str, name: &str, thing: &impl Serialize) {
        // These types have no maps with odd keys, so that writing them cannot fail.
        let text = serde_json::to_value(thing).unwrap_or_default();
        let things = self.things.entry(kind.to_owned()).or_default();
        things.insert(name.to_owned(), text.to_string());
    }

    /// What is other in `new`, in words.
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let none = BTreeMap::new();
        let kinds = self.things.keys().chain(new.things.keys());
        let mut kinds: Vec<&String> = kinds.collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let (old, new) = (
                self.things.get(kind).unwrap_or(&none),
                new.things.get(kind).unwrap_or(&none),
            );
            let say =
                |what: &str, name: &str| format!("{what} {kind} {name}").trim_end().to_owned();
            for (name, text) in new {
                match old.get(name) {
                    None => changes.push(say("adds", name)),
                    Some(before) if before != text => {
                        let what = difference(before, text);
                        changes.push(format!("{}{what}", say("changes", name)));
                    }
                    Some(_) => {}
                }
            }
            let gone = old.keys().filter(|name| !new.contains_key(*name));
            changes.extend(gone.map(|name| say("removes", name)));
        }
        let both = |names: &[String], others: &[String]| -> Vec<String> {
            let kept = names.iter().filter(|name| others.contains(name));
            kept.cloned().collect()
        };
        if both(&self.order, &new.order) != both(&new.order, &self.order) {
            changes.push("changes the order of rules".to_owned());
        }
        changes
    }

    /// What the configuration with this digest says, if it was given to an appliance from here.
    pub fn known(state: &Path, digest: &[u8]) -> Option<Self> {
        let text = fs::read_to_string(place(state, digest)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Remembers what the configuration with this digest says.
    pub fn remember(&self, state: &Path, digest: &[u8]) -> std::io::Result<()> {
        let path = place(state, digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, serde_json::to_vec(self)?)
    }
}

/// Which parts of a thing are other.
fn difference(old: &str, new: &str) -> String {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (old, new) = (read(old), read(new));
    let (Value::Object(old), Value::Object(new)) = (&old, &new) else {
        return format!(": {old} -> {new}");
    };
    let parts = new
        .iter()
        .filter(|(part, value)| old.get(*part) != Some(value));
    let parts: Vec<String> = parts
        .map(|(part, value)| {
            let before = old.get(part).unwrap_or(&Value::Null);
            format!("{} {before} -> {value}", part.replace('_', " "))
        })
        .collect();
    format!(": {}", parts.join(", "))
}

fn place(state: &Path, digest: &[u8]) -> PathBuf {
    let name = ::manage::hex(digest.get(..8).unwrap_or(digest));
    state.join("running").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_in_words() {
        let thing = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut old = Manifest::default();
        old.add(
            "service",
            "web",
            &thing(r#"{"port": 443, "balance": "RoundRobin"}"#),
        );
        old.add("rule", "gone", &1);
        old.add("priority", "", &100);
        old.order = ["gone", "a", "b"].map(str::to_owned).into();
        let mut new = Manifest::default();
        new.add(
            "service",
            "web",
            &thing(r#"{"port": 8443, "balance": "RoundRobin"}"#),
        );
        new.add("service", "dns", &1);
        new.add("priority", "", &120);
        new.order = ["b", "a", "c"].map(str::to_owned).into();
        let expected = [
            "changes priority: 100 -> 120",
            "removes rule gone",
            "adds service dns",
            "changes service web: port 443 -> 8443",
            "changes the order of rules",
        ];
        assert_eq!(old.changes(&new), expected);
        assert_eq!(new.changes(&new), [""; 0]);
    }
}
