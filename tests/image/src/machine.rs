//! One emulated server: UEFI firmware, a disk that is not written to, a network card without a cable.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A running QEMU, ended when dropped.
pub struct Machine {
    process: Child,
    lines: Receiver<String>,
    console: Vec<String>,
}

/// How waiting for the console ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A line contained what was waited for.
    Line(String),
    /// The machine ended first.
    Ended,
    /// It took too long.
    TimedOut,
}

impl Machine {
    /// Boots `disk`. `mac` is that of its network card. What it writes to its disk is forgotten.
    pub fn boot(disk: &Path, mac: [u8; 6]) -> Self {
        Self::boot_with(disk, mac, &[])
    }

    /// Like [`Self::boot`], with credentials that systemd is told by the machine (SMBIOS): by name and text.
    pub fn boot_with(disk: &Path, mac: [u8; 6], credentials: &[(&str, &str)]) -> Self {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let mut qemu = Command::new("setpriv");
        qemu.args([
            "--pdeathsig",
            "KILL",
            "--",
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-m",
            "320",
        ]);
        qemu.args(["-accel", "tcg,tb-size=64", "-cpu", "max"]);
        qemu.args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        qemu.args([
            "-drive",
            &format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
        ]);
        let drive = format!(
            "if=none,id=disk,format=raw,snapshot=on,file={}",
            disk.display()
        );
        qemu.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
        qemu.args([
            "-netdev",
            "hubport,id=net,hubid=0",
            "-device",
            &format!("virtio-net-pci,netdev=net,mac={mac}"),
        ]);
        qemu.args(["-device", "virtio-rng-pci"]);
        for (name, text) in credentials {
            let value = format!("io.systemd.credential.binary:{name}={}", base64(text));
            qemu.args(["-smbios", &format!("type=11,value={value}")]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = qemu.spawn().expect("qemu-system-x86 is installed");
        let console = process.stdout.take().expect("it was piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in console_lines(console) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            lines,
            console: Vec::new(),
        }
    }

    /// Waits for a console line that contains `text`.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.console.push(line.clone());
                    if line.contains(text) {
                        return Outcome::Line(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Outcome::Ended,
                Err(RecvTimeoutError::Timeout) => return Outcome::TimedOut,
            }
        }
    }

    /// All that was read from the console.
    pub fn console(&self) -> String {
        self.console.join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As the program of coreutils does it.
fn base64(text: &str) -> String {
    let program = Command::new("sh")
        .args(["-c", "printf %s \"$1\" | base64 --wrap=0", "sh", text])
        .output();
    String::from_utf8(program.expect("sh runs").stdout).expect("text")
}

fn console_lines(console: ChildStdout) -> impl Iterator<Item = String> {
    let lines = BufReader::new(console).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
}

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE.fd";
