//! Software bills of materials: what an image consists of, in CycloneDX 1.6.
//!
//! A bill belongs to a root by its hash. It is made of the lock, of the packages' own statements about their
//! licences, and of what our programs were compiled from; so the same root has the same bill.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::BuildError;
use crate::lock::Package;
use crate::sandbox;

/// What the bill beside an image is called.
pub const NAME: &str = "sbom.cdx.json";

/// To be changed with the contents of bills.
pub const FORMAT: &str = "1";

/// A crate that one of our programs was compiled from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// As an SPDX expression.
    pub license: Option<String>,
    /// Hash of what was downloaded; none for our own.
    pub sha256: Option<String>,
}

/// One of our programs.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its cargo package.
    pub name: String,
    /// Hash of the program.
    pub sha256: String,
    /// What it was compiled from, itself included.
    pub crates: Vec<Crate>,
}

/// What is described.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The role.
    pub role: &'a str,
    /// Its id, as a UUID.
    pub uuid: String,
    /// The tree.
    pub tree: PathBuf,
    /// Hash of the file system made of it.
    pub sha256: String,
    /// Hash over its dm-verity tree, which the kernel image demands.
    pub root_hash: String,
    /// Date of everything in it, in seconds since 1970.
    pub epoch: u64,
    /// The Debian packages in it.
    pub packages: Vec<&'a Package>,
    /// Our programs in it, and the first program of the boot.
    pub programs: &'a [Program],
}

/// Writes the bill of a root. What is installed in the tree must be what was locked, no more and no less.
pub fn bill(subject: &Subject) -> Result<Value, BuildError> {
    check_installed(subject)?;
    let root = format!("ravelin:{}", subject.role);
    let mut components = Vec::new();
    let mut of_root = Vec::new();
    let mut dependencies = Vec::new();
    for package in &subject.packages {
        let purl = debian_purl(package);
        of_root.push(purl.clone());
        let mut component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": package.name,
            "version": package.version,
            "purl": purl,
            // Of the package that was installed.
            "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
        });
        let licenses = debian_licenses(&subject.tree, &package.name);
        if !licenses.is_empty() {
            component["licenses"] = licenses
                .iter()
                .map(|name| json!({ "license": { "name": name } }))
                .collect();
        }
        components.push(component);
    }
    let mut crates: BTreeMap<String, &Crate> = BTreeMap::new();
    for program in subject.programs {
        let reference = format!("program:{}", program.name);
        of_root.push(reference.clone());
        components.push(json!({
            "type": "application",
            "bom-ref": reference,
            "name": program.name,
            "version": env!("CARGO_PKG_VERSION"),
            "hashes": [{ "alg": "SHA-256", "content": program.sha256 }],
        }));
        let purls: Vec<String> = program.crates.iter().map(cargo_purl).collect();
        crates.extend(purls.iter().cloned().zip(&program.crates));
        dependencies.push(json!({ "ref": reference, "dependsOn": purls }));
    }
    for (purl, one) in &crates {
        let mut component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": one.name,
            "version": one.version,
            "purl": purl,
        });
        if let Some(license) = &one.license {
            component["licenses"] = json!([{ "expression": license }]);
        }
        if let Some(sha256) = &one.sha256 {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        components.push(component);
    }
    of_root.sort();
    dependencies.insert(0, json!({ "ref": root, "dependsOn": of_root }));
    let date = i64::try_from(subject.epoch).unwrap_or_default();
    let date = OffsetDateTime::from_unix_timestamp(date).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", subject.uuid),
        "version": 1,
        "metadata": {
            "timestamp": date.format(&Rfc3339).unwrap_or_default(),
            "tools": { "components": [{
                "type": "application",
                "name": "ravelin",
                "version": env!("CARGO_PKG_VERSION"),
            }] },
            "component": {
                "type": "operating-system",
                "bom-ref": root,
                "name": format!("ravelin-{}", subject.role),
                "version": subject.uuid,
                "hashes": [{ "alg": "SHA-256", "content": subject.sha256 }],
                "properties": [{ "name": "ravelin:verity-root-hash", "value": subject.root_hash }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Puts a bill beside an image, unless it is there.
pub fn place(bill: &Path, beside: &Path) -> Result<(), BuildError> {
    let new = fs::read(bill).map_err(|error| BuildError::io("read", bill, error))?;
    if fs::read(beside).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let temporary = beside.with_extension("json.new");
    fs::write(&temporary, new)
        .and_then(|()| fs::rename(&temporary, beside))
        .map_err(|error| BuildError::io("write", beside, error))
}

/// Holds dpkg's own list against the lock.
fn check_installed(subject: &Subject) -> Result<(), BuildError> {
    let path = subject.tree.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).map_err(|error| BuildError::io("read", &path, error))?;
    let installed: BTreeSet<String> = status
        .split("\n\n")
        .filter(|stanza| crate::resolve::field(stanza, "Status") == Some("install ok installed"))
        .map(|stanza| {
            let [name, version] = ["Package", "Version"]
                .map(|name| crate::resolve::field(stanza, name).unwrap_or_default());
            format!("{name} {version}")
        })
        .collect();
    let locked: BTreeSet<String> = subject.packages.iter().map(ToString::to_string).collect();
    let odd = installed.symmetric_difference(&locked).next();
    match odd {
        None => Ok(()),
        Some(one) => Err(BuildError::Unexpected {
            step: format!("role {}", subject.role),
            message: match installed.contains(one) {
                true => format!("{one} was installed, and is not locked"),
                false => format!("{one} is locked, and was not installed"),
            },
        }),
    }
}

fn debian_purl(package: &Package) -> String {
    format!(
        "pkg:deb/debian/{}@{}?arch={}",
        encoded(&package.name),
        encoded(&package.version),
        package.architecture
    )
}

fn cargo_purl(one: &Crate) -> String {
    format!("pkg:cargo/{}@{}", encoded(&one.name), encoded(&one.version))
}

fn encoded(text: &str) -> String {
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, PLAIN).to_string()
}

/// The short names of licences in a package's copyright file, if it is one that machines can read (DEP-5).
fn debian_licenses(tree: &Path, package: &str) -> BTreeSet<String> {
    let docs = tree.join("usr/share/doc");
    let path = docs.join(package).join("copyright");
    // Some share the directory of another package; none is outside of the tree.
    let inside = path.canonicalize().ok().zip(tree.canonicalize().ok());
    let Some((path, _)) = inside.filter(|(path, tree)| path.starts_with(tree)) else {
        return BTreeSet::new();
    };
    licenses(&fs::read(path).map_or_else(
        |_| String::new(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    ))
}

fn licenses(copyright: &str) -> BTreeSet<String> {
    let first = copyright.lines().find(|line| !line.trim().is_empty());
    if !first.is_some_and(|line| line.starts_with("Format:") && line.contains("copyright-format")) {
        return BTreeSet::new();
    }
    let names = copyright.lines().filter_map(|line| {
        let name = line.strip_prefix("License:")?.trim();
        (!name.is_empty()).then(|| name.to_owned())
    });
    names.collect()
}

/// What a program of our workspace is compiled from for servers, of cargo's locked graph.
pub fn crates(source: &Path, program: &str) -> Result<Vec<Crate>, BuildError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = sandbox::tied(&cargo);
    command.current_dir(source).stdin(Stdio::null());
    command.args(["metadata", "--locked", "--format-version=1"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let metadata = answer(command)?;
    let wrong = |message: &str| BuildError::Unexpected {
        step: "programs".to_owned(),
        message: format!("cargo metadata: {message}"),
    };
    let metadata: Value =
        serde_json::from_slice(&metadata).map_err(|error| wrong(&error.to_string()))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let first = packages
        .iter()
        .find(|(_, package)| package["name"] == program);
    let (first, _) = first.ok_or_else(|| wrong(&format!("no package is called {program}")))?;
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut todo = vec![first.clone()];
    while let Some(id) = todo.pop() {
        let Some((id, node)) = nodes.get_key_value(&id) else {
            continue;
        };
        if !seen.insert(id) {
            continue;
        }
        for dependency in list(&node["deps"]) {
            // What only tests or build scripts need is not in the program.
            if list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null())
            {
                todo.push(text(&dependency["pkg"]));
            }
        }
    }
    let hashes = checksums(source)?;
    let mut crates: Vec<Crate> = seen
        .into_iter()
        .filter_map(|id| packages.get(id))
        .map(|package| {
            let (name, version) = (text(&package["name"]), text(&package["version"]));
            Crate {
                license: package["license"].as_str().map(str::to_owned),
                sha256: hashes.get(&(name.clone(), version.clone())).cloned(),
                name,
                version,
            }
        })
        .collect();
    crates.sort();
    Ok(crates)
}

fn answer(mut command: Command) -> Result<Vec<u8>, BuildError> {
    let output = command.output().map_err(|cause| BuildError::Missing {
        program: "cargo".to_owned(),
        cause,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(BuildError::Unexpected {
        step: "programs".to_owned(),
        message: format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    })
}

/// The hashes of crates in `Cargo.lock`.
fn checksums(source: &Path) -> Result<BTreeMap<(String, String), String>, BuildError> {
    #[derive(Deserialize)]
    struct Cargo {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let path = source.join("Cargo.lock");
    let text = fs::read_to_string(&path).map_err(|error| BuildError::io("read", &path, error))?;
    let lock: Cargo = toml::from_str(&text).map_err(|error| BuildError::Spec {
        path,
        message: error.to_string(),
    })?;
    let packages = lock.package.into_iter();
    Ok(packages
        .filter_map(|package| Some(((package.name, package.version), package.checksum?)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roots::uuid;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "a".repeat(64),
            suite: "trixie".to_owned(),
            file: String::new(),
            sets: BTreeSet::new(),
        }
    }

    fn tree(status: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        fs::write(dir.path().join("var/lib/dpkg/status"), status).unwrap();
        for package in ["libc6", "c++"] {
            let docs = dir.path().join("usr/share/doc").join(package);
            fs::create_dir_all(&docs).unwrap();
            fs::write(docs.join("copyright"), DEP5).unwrap();
        }
        dir
    }

    #[test]
    fn bills_are_valid_cyclonedx_and_made_the_same_twice() {
        let dir = tree(
            "Package: libc6\nStatus: install ok installed\nVersion: 2.41-12\n\n\
             Package: c++\nStatus: install ok installed\nVersion: 1:4~rc1+b1\n\n\
             Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        let packages = [package("libc6", "2.41-12"), package("c++", "1:4~rc1+b1")];
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let programs = ["ravelin-init", "ravelin-demo-app"].map(|name| Program {
            name: name.to_owned(),
            sha256: "b".repeat(64),
            crates: crates(&source, name).unwrap(),
        });
        let app = &programs[1].crates;
        assert!(
            app.iter()
                .any(|one| one.name == "ravelin-demo-app" && one.sha256.is_none())
        );
        assert!(
            app.iter()
                .any(|one| one.name == "tokio" && one.sha256.is_some() && one.license.is_some())
        );
        assert!(
            !app.iter().any(|one| one.name == "tempfile"),
            "tests alone use it"
        );

        let subject = Subject {
            role: "app",
            uuid: uuid("0123", "bill"),
            tree: dir.path().to_owned(),
            sha256: "c".repeat(64),
            root_hash: "d".repeat(64),
            epoch: 1_795_745_432,
            packages: packages.iter().collect(),
            programs: &programs,
        };
        let made = bill(&subject).unwrap();
        assert_eq!(made, bill(&subject).unwrap());
        assert_eq!(made["metadata"]["timestamp"], "2026-11-27T02:10:32Z");
        let second = &made["components"][1];
        assert_eq!(
            second["purl"],
            "pkg:deb/debian/c%2B%2B@1%3A4~rc1%2Bb1?arch=amd64"
        );
        assert_eq!(second["licenses"][1]["license"]["name"], "LGPL-2.1+");

        let schema = schema(&source);
        assert_eq!(problems(&schema, &made), [""; 0]);
        // The schema does look.
        let mut bad = made.clone();
        bad["components"][0]["hashes"][0]["content"] = json!("short");
        bad["serialNumber"] = json!("1");
        assert_eq!(problems(&schema, &bad).len(), 2);
    }

    #[test]
    fn what_is_installed_is_what_was_locked() {
        let status = "Package: libc6\nStatus: install ok installed\nVersion: 2\n";
        let table = [
            (vec![], "libc6 2 was installed, and is not locked"),
            (
                vec![package("libc6", "2"), package("c++", "1")],
                "c++ 1 is locked, and was not installed",
            ),
        ];
        for (packages, problem) in table {
            let dir = tree(status);
            let subject = Subject {
                role: "app",
                uuid: String::new(),
                tree: dir.path().to_owned(),
                sha256: String::new(),
                root_hash: String::new(),
                epoch: 0,
                packages: packages.iter().collect(),
                programs: &[],
            };
            let error = bill(&subject).unwrap_err().to_string();
            assert!(error.ends_with(problem), "{error}");
        }
    }

    #[test]
    fn licences_are_read_where_machines_can() {
        let names: Vec<String> = licenses(DEP5).into_iter().collect();
        assert_eq!(names, ["GPL-2+ with exception", "LGPL-2.1+"]);
        assert!(licenses("This is free software.\nLicense: yes\n").is_empty());
    }

    const DEP5: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n\
                        License: LGPL-2.1+\n text\n\nFiles: b\nLicense: GPL-2+ with exception\n\nLicense: LGPL-2.1+\n text\n";

    /// The official schema, as the crate `serde-cyclonedx` carries it.
    fn schema(source: &Path) -> jsonschema::Validator {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .current_dir(source)
            .args(["metadata", "--locked", "--format-version=1"]);
        let metadata: Value = serde_json::from_slice(&answer(command).unwrap()).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let carrier = packages
            .iter()
            .find(|package| package["name"] == "serde-cyclonedx")
            .unwrap();
        let manifest = Path::new(carrier["manifest_path"].as_str().unwrap());
        let path = manifest
            .with_file_name("schemas")
            .join("cyclonedx_1_6.json");
        let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        // It refers to the list of SPDX licences and to signatures, of which bills have neither.
        let nothing = jsonschema::Registry::new()
            .add("http://cyclonedx.org/schema/spdx.schema.json", json!(false))
            .and_then(|registry| {
                let signatures = json!({ "definitions": { "signature": false } });
                registry.add(
                    "http://cyclonedx.org/schema/jsf-0.82.schema.json",
                    signatures,
                )
            });
        let registry = nothing.unwrap().prepare().unwrap();
        let options = jsonschema::options().with_registry(&registry);
        options.build(&schema).unwrap()
    }

    fn problems(schema: &jsonschema::Validator, bill: &Value) -> Vec<String> {
        schema
            .iter_errors(bill)
            .map(|error| error.to_string())
            .collect()
    }
}
