//! lwIP's forwarding: what a microcontroller's usual stack takes to route a packet, without firewall and NAT.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{callgrind, program};
use crate::BenchError;
use crate::peers::Cost;

/// What to install for it.
pub const PACKAGES: &str = "liblwip-dev, pkg-config and a C compiler";

/// The compiled peer.
pub struct Lwip {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Lwip {
    /// Compiles the peer; `None` where the library or a compiler is missing.
    pub fn build(source: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let flags = program::flags("lwip")?;
        let program = program::compile(source, "lwip", &flags, &["-llwip"], directory.path())?;
        Some(Self {
            _directory: directory,
            program,
        })
    }

    /// What one packet costs.
    pub fn measure(&self, counts: bool) -> Result<Cost, BenchError> {
        let output = Command::new(&self.program)
            .output()
            .map_err(|cause| BenchError::Start {
                program: "the program around lwIP".into(),
                cause,
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        let none = || BenchError::NoResult {
            what: "lwIP".into(),
            said: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        };
        let [ns, packets] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(none());
        };
        let packets: u64 = packets.parse().map_err(|_| none())?;
        let instructions = if counts {
            let (calls, _) = callgrind::calls(&self.program, &["once"], "forward")?;
            let per_packet = calls.first().map(|call| (call / packets) as u32);
            Some(per_packet.ok_or_else(none)?)
        } else {
            None
        };
        Ok(Cost {
            ns: ns.parse().map_err(|_| none())?,
            instructions,
        })
    }
}
