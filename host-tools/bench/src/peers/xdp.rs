//! A DNAT of ours in the kernel's XDP hook, run by the kernel itself on a packet from memory (`BPF_PROG_TEST_RUN`).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program;
use crate::BenchError;

/// What to install for it.
pub const PACKAGES: &str = "clang, libbpf-dev and a C compiler";

/// The compiled peer.
pub struct Xdp {
    directory: tempfile::TempDir,
    loader: PathBuf,
}

impl Xdp {
    /// Compiles the peer; `None` where a compiler or the library is missing.
    pub fn build(source: &Path) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let loader = program::compile(source, "xdp", &[], &["-lbpf"], directory.path())?;
        let compiled = CLANG.iter().any(|clang| {
            let output = Command::new(clang)
                .args(["-O2", "-g", "-target", "bpf"])
                // Debian keeps <asm/types.h> in a directory of the machine's own.
                .arg(format!(
                    "-I/usr/include/{}-linux-gnu",
                    std::env::consts::ARCH
                ))
                .arg("-c")
                .arg(source.join("host-tools/bench/peers/xdp.bpf.c"))
                .arg("-o")
                .arg(directory.path().join(OBJECT))
                .output();
            output.is_ok_and(|output| output.status.success())
        });
        compiled.then_some(Self { directory, loader })
    }

    /// Nanoseconds per packet, less what an empty program takes.
    pub fn measure(&self) -> Result<f64, BenchError> {
        let output = Command::new(&self.loader)
            .arg(self.directory.path().join(OBJECT))
            .output()
            .map_err(|cause| BenchError::Start {
                program: "the loader of the XDP program".into(),
                cause,
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        net(&said).ok_or_else(|| BenchError::NoResult {
            what: "the XDP program".into(),
            said: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
        })
    }
}

/// The difference of both numbers.
fn net(said: &str) -> Option<f64> {
    let mut numbers = said.split_whitespace().map(str::parse::<f64>);
    let (dnat, nothing) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(dnat - nothing)
}

const OBJECT: &str = "xdp.o";
/// Without Debian's package of that name, a compiler by its version.
const CLANG: [&str; 3] = ["clang", "clang-19", "clang-14"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_program_does_not_count() {
        assert_eq!(net("60 21\n"), Some(39.0));
        assert_eq!(net("60\n"), None);
        assert_eq!(net(""), None);
    }
}
