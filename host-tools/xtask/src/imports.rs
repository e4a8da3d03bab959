//! Holds what crates import against the arrows of ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::Value;

/// A crate of ours.
#[derive(Debug)]
pub struct Package {
    /// Its name for cargo.
    pub name: String,
    /// Its folder as the arrows call it: `filter`, `cli`, `boards/linux`, `tests/sim`.
    pub place: String,
    /// Places of the crates of ours that it imports, not counting those of its tests alone.
    pub imports: Vec<String>,
}

/// Fails if a crate imports another without an arrow.
pub fn check(root: &Path) -> Result<(), String> {
    let path = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let arrows = Arrows::read(&text)?;
    let packages = packages(root)?;
    let mut faults = Vec::new();
    for package in &packages {
        for import in package
            .imports
            .iter()
            .filter(|import| !arrows.allow(&package.place, import))
        {
            faults.push(format!(
                "{} imports {import}, and ARCHITECTURE.md has no arrow for that",
                package.place
            ));
        }
    }
    if faults.is_empty() {
        println!("{} crates follow the arrows", packages.len());
        return Ok(());
    }
    Err(faults.join("\n"))
}

/// All crates of the workspace.
pub fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "cargo metadata: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let place = |folder: &str| place(root, Path::new(folder));
    Ok(list(&metadata, "packages")
        .iter()
        .map(|package| Package {
            name: text(package, "name"),
            place: place(text(package, "manifest_path").trim_end_matches("/Cargo.toml")),
            imports: list(package, "dependencies")
                .iter()
                .filter(|dependency| {
                    dependency["path"].is_string() && text(dependency, "kind") != "dev"
                })
                .map(|dependency| place(&text(dependency, "path")))
                .collect(),
        })
        .collect())
}

fn place(root: &Path, folder: &Path) -> String {
    let inside = folder
        .strip_prefix(root)
        .unwrap_or(folder)
        .to_string_lossy()
        .into_owned();
    let short = inside
        .strip_prefix("firmware/")
        .or(inside.strip_prefix("host-tools/"));
    short.map(str::to_owned).unwrap_or(inside)
}

/// Who may import whom.
#[derive(Debug)]
struct Arrows(BTreeMap<String, BTreeSet<String>>);

impl Arrows {
    /// Reads the block of ARCHITECTURE.md that follows "Arrows read".
    fn read(text: &str) -> Result<Self, String> {
        let block = text
            .split("Arrows read")
            .nth(1)
            .and_then(|rest| rest.split("```").nth(1));
        let block = block.ok_or("ARCHITECTURE.md has no block of arrows")?;
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for statement in block
            .lines()
            .flat_map(|line| line.split("  "))
            .filter(|part| part.contains("->"))
        {
            let groups: Vec<Vec<&str>> = statement
                .split("->")
                .map(|group| group.split(',').map(str::trim).collect())
                .collect();
            for pair in groups.windows(2) {
                for from in &pair[0] {
                    let to = pair[1]
                        .iter()
                        .filter(|name| !name.starts_with('('))
                        .map(|name| (*name).to_owned());
                    arrows.entry((*from).to_owned()).or_default().extend(to);
                }
            }
        }
        Ok(Self(arrows))
    }

    /// Whether arrows lead from one crate to the other, directly or through others.
    fn allow(&self, from: &str, to: &str) -> bool {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(place) = todo.pop() {
            let folder = place
                .split_once('/')
                .map(|(folder, _)| format!("{folder}/*"));
            let keys = [Some(place.to_owned()), folder];
            for next in keys
                .iter()
                .flatten()
                .filter_map(|key| self.0.get(key))
                .flatten()
            {
                if next == "anything" {
                    return true;
                }
                if reached.insert(next) {
                    todo.push(next);
                }
            }
        }
        reached.contains(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Arrows read \"may import\":\n\n```\nboards/* -> node       drivers -> hal -> policy, time\n\
                        policy, time -> (nothing of ours)    node -> hal\ntests/* -> anything\n```\n";

    #[test]
    fn arrows_are_transitive_and_everything_else_is_refused() {
        let arrows = Arrows::read(TEXT).expect("arrows");
        for (from, to, allowed) in [
            ("drivers", "hal", true),
            ("drivers", "time", true),
            ("boards/linux", "policy", true),
            ("tests/sim", "boards/linux", true),
            ("time", "policy", false),
            ("hal", "node", false),
            ("node", "boards/linux", false),
            ("unknown", "time", false),
        ] {
            assert_eq!(arrows.allow(from, to), allowed, "{from} -> {to}");
        }
    }
}
