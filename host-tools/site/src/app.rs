//! `[app]`: the operator's application.

use std::ops::Range;

use serde::Serialize;
use toml::de::DeValue;

use crate::{
    error::Problem,
    file::SiteFile,
    nginx::Beside,
    plan::ports,
    read::{At, PortNumber, Table, Value, Wrong, text},
};

/// The application, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct App {
    /// Where it comes from.
    pub source: Source,
    /// The systemd unit that runs it.
    pub unit: String,
    /// What is asked of it to know whether it works.
    pub health: String,
    /// The port of the loopback that it listens on.
    pub port: u16,
    /// Variables that it is given, in the order of the file.
    pub environment: Vec<(String, String)>,
    /// The file with more of them that nobody else may read, seen from the site file.
    pub secrets: Option<String>,
}

/// Where an application comes from; paths are seen from the site file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The one that this program has.
    Demo,
    /// The Debian package of this name.
    Package(String),
    /// A Debian package in this file.
    File(String),
    /// This directory, which has a systemd unit in it.
    Directory(String),
    /// The container image in this archive.
    Oci(String),
}

/// `[app]` as written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    package: Option<At<Package>>,
    directory: Option<At<Beside>>,
    oci: Option<At<Beside>>,
    service: Option<At<Unit>>,
    health: Option<At<Path>>,
    port: Option<At<PortNumber>>,
    environment: Vec<(At<String>, Option<At<Variable>>)>,
    secrets: Option<At<Beside>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 8] = [
        "package",
        "directory",
        "oci",
        "service",
        "health",
        "port",
        "environment",
        "secrets",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let package = table.optional("package", problems);
        let directory = table.optional("directory", problems);
        let oci = table.optional("oci", problems);
        let service = table.optional("service", problems);
        let health = table.optional("health", problems);
        let port = table.optional("port", problems);
        let environment = (table.optional_section("environment", problems))
            .map_or_else(Vec::new, |section| section.values(problems));
        let secrets = table.optional("secrets", problems);
        Some(Self {
            package: package?,
            directory: directory?,
            oci: oci?,
            service: service?,
            health: health?,
            port: port?,
            environment,
            secrets: secrets?,
        })
    }

    fn sources(&self) -> Vec<(&'static str, Range<usize>)> {
        let all = [
            ("package", self.package.as_ref().map(At::span)),
            ("directory", self.directory.as_ref().map(At::span)),
            ("oci", self.oci.as_ref().map(At::span)),
        ];
        (all.into_iter())
            .filter_map(|(key, place)| Some((key, place?)))
            .collect()
    }
}

/// One source, names that variables can have, and no key that means nothing.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    let entry = &file.app;
    let sources = entry.sources();
    if let [(first, here), (second, there), ..] = sources.as_slice() {
        problems.push(
            Problem::new("site::contradiction", "the application is two things")
                .at(here.clone(), format!("it comes from `{first}`"))
                .at(there.clone(), format!("and from `{second}`"))
                .help("keep one of `package`, `directory` and `oci`"),
        );
    }
    if let (Some(unit), None) = (&entry.service, &entry.package) {
        problems.push(
            Problem::new("site::contradiction", "`service` names no package's unit")
                .at(unit.span(), "so this means nothing")
                .help("remove `service`: a directory has one unit, and the tool writes that of an image"),
        );
    }
    for (name, _) in &entry.environment {
        let word = name.get_ref();
        if let Some(fault) = fault(word) {
            problems.push(
                Problem::new("site::bad_name", format!("`{word}` cannot be a variable"))
                    .at(name.span(), fault)
                    .help("use letters, digits and _ as in LOG_LEVEL; docs/applications.md lists what the tool sets itself"),
            );
        }
    }
}

/// What is wrong with the name of a variable.
fn fault(name: &str) -> Option<&'static str> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || !name.chars().all(letters)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Some("not a name of a variable");
    }
    let ours = RESERVED.contains(&name) || name.starts_with("DATABASE_");
    ours.then_some("set by the tool")
}

/// What follows from the file.
pub(crate) fn settings(file: &SiteFile) -> App {
    let entry = &file.app;
    let path = |path: &At<Beside>| path.get_ref().0.clone();
    let source = match (&entry.package, &entry.directory, &entry.oci) {
        (Some(package), ..) => match &package.get_ref().0 {
            file if file.ends_with(".deb") => Source::File(file.clone()),
            name => Source::Package(name.clone()),
        },
        (None, Some(directory), _) => Source::Directory(path(directory)),
        (None, None, Some(archive)) => Source::Oci(path(archive)),
        (None, None, None) => Source::Demo,
    };
    let written = entry.service.as_ref().map(|unit| unit.get_ref().0.clone());
    let unit = match (&source, written) {
        (_, Some(unit)) => unit,
        (Source::Demo, None) => "demo-app.service".to_owned(),
        (Source::Package(name), None) => format!("{name}.service"),
        // `name_version_architecture.deb`.
        (Source::File(file), None) => {
            let file = file.rsplit('/').next().unwrap_or_default();
            let name = file.trim_end_matches(".deb").split('_').next();
            format!("{}.service", name.unwrap_or_default())
        }
        (Source::Directory(_) | Source::Oci(_), None) => "app.service".to_owned(),
    };
    App {
        source,
        unit,
        health: (entry.health.as_ref())
            .map_or_else(|| HEALTH.to_owned(), |path| path.get_ref().0.clone()),
        port: (entry.port.as_ref()).map_or(ports::APP, |port| port.get_ref().0),
        environment: (entry.environment.iter())
            .filter_map(|(name, value)| {
                Some((name.get_ref().clone(), value.as_ref()?.get_ref().0.clone()))
            })
            .collect(),
        secrets: entry.secrets.as_ref().map(path),
    }
}

const HEALTH: &str = "/healthz";
/// Variables of the tool's own, besides `DATABASE_…`.
const RESERVED: [&str; 4] = ["HOST", "PORT", "SERVER_NAME", "SITE_DOMAIN"];

/// A Debian package by its name, or a file with one.
struct Package(String);

impl Value for Package {
    const WANTED: &'static str =
        "the name of a Debian package, such as \"my-app\", or of a .deb file beside the site file";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value)?;
        if name.ends_with(".deb") {
            return Beside::read(value).map(|path| Self(path.0));
        }
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let good = name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(inner);
        match good {
            true => Ok(Self(name.to_owned())),
            false => Err(Wrong::Content("not the name of a package".to_owned())),
        }
    }
}

/// Name of a systemd service.
struct Unit(String);

impl Value for Unit {
    const WANTED: &'static str = "the name of a systemd unit, such as \"my-app.service\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value)?;
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.@:".contains(c);
        let good = name
            .strip_suffix(".service")
            .is_some_and(|stem| !stem.is_empty());
        match good && name.chars().all(inner) {
            true => Ok(Self(name.to_owned())),
            false => Err(Wrong::Content("not the name of a service".to_owned())),
        }
    }
}

/// The path of a request.
pub(crate) struct Path(pub(crate) String);

impl Value for Path {
    const WANTED: &'static str = "a path such as \"/healthz\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let path = text(value)?;
        let inner = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        match path.starts_with('/') && path.chars().all(inner) {
            true => Ok(Self(path.to_owned())),
            false => Err(Wrong::Content(
                "a path has letters, digits and /-_.~ only, a / first".to_owned(),
            )),
        }
    }
}

/// The value of a variable: one line.
struct Variable(String);

impl Value for Variable {
    const WANTED: &'static str =
        "a text in one line; secrets belong into the file that `secrets` names";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let value = text(value)?;
        match value.chars().any(char::is_control) {
            true => Err(Wrong::Content(
                "has more than one line, or signs that nobody sees".to_owned(),
            )),
            false => Ok(Self(value.to_owned())),
        }
    }
}
