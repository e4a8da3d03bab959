//! DPDK's ACL library on the same rules and keys as our tables.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use classifier::{Addresses, Key};
use policy::rule::{Ports, Protocol, Rule};
use policy::{IpPrefix, Prefix};

use super::program;
use crate::BenchError;

/// What the library needed.
pub struct Cost {
    /// Nanoseconds per look-up with its portable method.
    pub scalar_ns: f64,
    /// With the vector method that it picks for this processor.
    pub best_ns: f64,
    /// Bytes of its tables.
    pub bytes: usize,
    /// [`digest`] of what it found.
    pub digest: u64,
}

/// What to install for it.
pub const PACKAGES: &str = "libdpdk-dev, pkg-config and a C compiler";

/// The compiled peer.
pub struct Acl {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Acl {
    /// Compiles the peer; `None` where the library or a compiler is missing.
    pub fn build(source: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let flags = program::flags("libdpdk")?;
        let libraries = ["-lrte_acl", "-lrte_eal"];
        let program = program::compile(source, "acl", &flags, &libraries, directory.path())?;
        Some(Self {
            _directory: directory,
            program,
        })
    }

    /// Looks all keys up; rules may have one prefix a side and no legs.
    pub fn measure(&self, rules: &[Rule], keys: &[Key]) -> Result<Cost, BenchError> {
        let failed = |cause| BenchError::Start {
            program: "the ACL library's program".into(),
            cause,
        };
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input
                .write_all(text(rules, keys).as_bytes())
                .map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let none = || BenchError::NoResult {
            what: "the ACL library".into(),
            said: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        };
        let [scalar, best, bytes, digest] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(none());
        };
        Ok(Cost {
            scalar_ns: scalar.parse().map_err(|_| none())?,
            best_ns: best.parse().map_err(|_| none())?,
            bytes: bytes.parse().map_err(|_| none())?,
            digest: digest.parse().map_err(|_| none())?,
        })
    }
}

/// One number for the rules that a trace hit, `None` for no rule.
pub fn digest(hits: impl Iterator<Item = Option<u16>>) -> u64 {
    let hit = |hit: Option<u16>| hit.map_or(0, |rule| u64::from(rule) + 1);
    (1..).zip(hits).map(|(n, found)| n * hit(found)).sum()
}

fn text(rules: &[Rule], keys: &[Key]) -> String {
    let mut text = format!("rules {}\n", rules.len());
    for rule in rules {
        let (source, destination) = (prefix(&rule.sources), prefix(&rule.destinations));
        let any = Ports::default();
        let (protocol, mask, ports) = match &rule.protocol {
            Protocol::Any => (0, 0, &any),
            Protocol::Tcp(ports) => (6, 255, ports),
            Protocol::Udp(ports) => (17, 255, ports),
            // Types are compared as destination ports: the type is the high byte.
            Protocol::Icmp(_) => (1, 255, &any),
            Protocol::Icmp6(_) => (58, 255, &any),
            Protocol::Number(number) => (*number, 255, &any),
        };
        let range = |ranges: &[core::ops::RangeInclusive<u16>]| {
            let range = ranges.first().cloned().unwrap_or(0..=u16::MAX);
            (*range.start(), *range.end())
        };
        let (source_ports, mut destination_ports) =
            (range(&ports.source), range(&ports.destination));
        if let Protocol::Icmp(types) | Protocol::Icmp6(types) = &rule.protocol
            && let Some(kind) = types.first()
        {
            destination_ports = (u16::from(*kind) << 8, u16::from(*kind) << 8 | 0xff);
        }
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} {} {protocol} {mask}",
            source.address.to_bits(),
            source.length,
            destination.address.to_bits(),
            destination.length,
            source_ports.0,
            source_ports.1,
            destination_ports.0,
            destination_ports.1,
        ); // into a string
    }
    let _ = writeln!(text, "keys {}", keys.len());
    for key in keys {
        let (source, destination) = match key.addresses {
            Addresses::V4 {
                source,
                destination,
            } => (source, destination),
            Addresses::V6 { .. } => (0, 0),
        };
        let _ = writeln!(
            text,
            "{source} {destination} {} {} {}",
            key.source_port, key.destination_port, key.protocol
        );
    }
    text
}

fn prefix(list: &[IpPrefix]) -> Prefix {
    match list.first() {
        Some(IpPrefix::V4(prefix)) => *prefix,
        Some(IpPrefix::V6(_)) | None => Prefix::ANY,
    }
}
