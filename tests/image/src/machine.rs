//! One emulated server: UEFI firmware, a disk, and a network card that leads nowhere, or to the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A machine that can be changed until it boots.
pub struct Machine {
    qemu: Command,
    disk: String,
    network: String,
    mac: String,
    snapshot: bool,
    variables: Option<String>,
}

/// A running QEMU, ended when dropped.
pub struct Running {
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
    /// A machine with `disk` and a network card of this address. What it writes to its disk is forgotten.
    pub fn new(disk: &Path, mac: [u8; 6]) -> Self {
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        qemu.args(["-m", "320", "-device", "virtio-rng-pci"]);
        qemu.args(["-accel", "tcg,tb-size=256", "-cpu", "max"]);
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio"]);
        Self {
            qemu,
            disk: disk.display().to_string(),
            network: "hubport,id=net,hubid=0".to_owned(),
            mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
            snapshot: true,
            variables: None,
        }
    }

    /// What it writes stays on the disk.
    pub fn keep_writes(mut self) -> Self {
        self.snapshot = false;
        self
    }

    /// Gives it a firmware with Secure Boot, whose variables are in this file.
    pub fn secure(mut self, variables: &Path) -> Self {
        self.variables = Some(variables.display().to_string());
        self
    }

    /// Leads its network card to QEMU's own network (the options of `-netdev user`).
    pub fn network(mut self, options: &str) -> Self {
        self.network = format!("user,id=net,restrict=on,{options}");
        self
    }

    /// Puts an identity into the configuration of the firmware.
    pub fn firmware_identity(mut self, identity: &Path) -> Self {
        let item = format!("name=opt/org.ravelin/identity,file={}", identity.display());
        self.qemu.args(["-fw_cfg", &item]);
        self
    }

    /// Tells systemd these credentials (SMBIOS), by name and text.
    pub fn credentials(mut self, credentials: &[(&str, &str)]) -> Self {
        for (name, text) in credentials {
            let value = format!("io.systemd.credential.binary:{name}={}", base64(text));
            self.qemu
                .args(["-smbios", &format!("type=11,value={value}")]);
        }
        self
    }

    /// Puts in another disk. A stick is one to the kernel, but Debian's cloud kernel knows no USB.
    pub fn stick(mut self, stick: &Path) -> Self {
        let drive = format!(
            "if=none,id=stick,format=raw,snapshot=on,file={}",
            stick.display()
        );
        self.qemu.args(["-drive", &drive]);
        self.qemu.args(["-device", "virtio-blk-pci,drive=stick"]);
        self
    }

    /// Switches it on.
    pub fn boot(mut self) -> Running {
        self.qemu.arg("-no-reboot");
        let flash = |options: &str, file: &str| {
            let drive = format!("if=pflash,format=raw,{options}file={file}");
            ["-drive".to_owned(), drive]
        };
        match &self.variables {
            None => {
                self.qemu.args(["-machine", "q35"]);
                self.qemu.args(flash("readonly=on,", FIRMWARE));
            }
            Some(variables) => {
                // Nobody but the firmware itself writes its variables.
                let private = "driver=cfi.pflash01,property=secure,value=on";
                self.qemu
                    .args(["-machine", "q35,smm=on", "-global", private]);
                self.qemu.args(flash("readonly=on,", SECURE_FIRMWARE));
                self.qemu.args(flash("", variables));
            }
        }
        let snapshot = if self.snapshot { "on" } else { "off" };
        let drive = format!(
            "if=none,id=disk,format=raw,snapshot={snapshot},file={}",
            self.disk
        );
        let disk = "virtio-blk-pci,drive=disk,bootindex=1";
        self.qemu.args(["-drive", &drive, "-device", disk]);
        let card = format!("virtio-net-pci,netdev=net,mac={},romfile=", self.mac);
        self.qemu.args(["-netdev", &self.network, "-device", &card]);
        self.qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = self.qemu.spawn().expect("qemu-system-x86 is installed");
        let console = process.stdout.take().expect("it was piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in console_lines(console) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running {
            process,
            lines,
            console: Vec::new(),
        }
    }
}

impl Running {
    /// Waits for a console line that contains one of `texts`.
    pub fn wait_for(&mut self, texts: &[&str], timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.console.push(line.clone());
                    if texts.iter().any(|text| line.contains(text)) {
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

impl Drop for Running {
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
const SECURE_FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
