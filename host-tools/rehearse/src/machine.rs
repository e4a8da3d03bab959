//! The machines of the rack as processes: command lines for appliances and servers.

use std::path::{Path, PathBuf};

use site::plan::Role;

/// One cable end of a machine: its own socket, the switch's, and the machine's MAC address there.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Bound by the machine.
    pub machine: PathBuf,
    /// Bound by the switch.
    pub switch: PathBuf,
    /// Of the machine's interface.
    pub mac: [u8; 6],
}

/// What an appliance runs.
#[derive(Clone, Debug)]
pub enum Appliance {
    /// The node as a process of this machine.
    Process {
        /// The `ravelin` program.
        program: PathBuf,
        /// The compiled configuration.
        config: PathBuf,
    },
    /// Firmware on an emulated board.
    Emulated {
        /// Arguments for `qemu-system-arm` that choose the machine, such as `-M xilinx-zynq-a9 -m 128`.
        machine: Vec<String>,
        /// The firmware.
        elf: PathBuf,
        /// The compiled configuration.
        config: PathBuf,
        /// Where the firmware looks for it.
        config_address: u64,
        /// Model of the network interfaces, where QEMU wants to be told.
        nic_model: Option<String>,
    },
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// What to run.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// How to start an appliance on its cables. An emulated one writes its log to `log` and listens on `monitor`.
#[must_use]
pub fn appliance(
    appliance: &Appliance,
    cables: &[Socket],
    log: &Path,
    monitor: &Path,
) -> CommandLine {
    match appliance {
        Appliance::Process { program, config } => {
            let mut arguments = strings(["run", "--config-blob"]);
            arguments.push(text(config));
            let names: &[&str] = if cables.len() == 1 {
                &["trunk"]
            } else {
                &["wan", "lan"]
            };
            for (name, cable) in names.iter().zip(cables) {
                let port = format!(
                    "{name}=unix:{},{}",
                    text(&cable.machine),
                    text(&cable.switch)
                );
                arguments.extend(["--port".into(), port]);
            }
            CommandLine {
                program: program.clone(),
                arguments,
            }
        }
        Appliance::Emulated {
            machine,
            elf,
            config,
            config_address,
            nic_model,
        } => {
            let mut arguments = machine.clone();
            arguments.extend(["-kernel".into(), text(elf)]);
            let loader = format!(
                "loader,file={},addr={config_address:#x},force-raw=on",
                text(config)
            );
            arguments.extend(["-device".into(), loader]);
            for (index, cable) in cables.iter().enumerate() {
                let model = nic_model
                    .as_ref()
                    .map(|model| format!(",model={model}"))
                    .unwrap_or_default();
                arguments.extend(["-netdev".into(), netdev(index, cable)]);
                let nic = format!(
                    "nic,netdev={},macaddr={}{model}",
                    netdev_id(index),
                    mac(cable.mac)
                );
                arguments.extend(["-net".into(), nic]);
            }
            arguments.extend(["-serial".into(), format!("file:{}", text(log))]);
            arguments.extend(without_display(monitor));
            CommandLine {
                program: "qemu-system-arm".into(),
                arguments,
            }
        }
    }
}

/// How to boot a server from its disk. Nothing it writes reaches the disk file.
#[must_use]
pub fn server(role: Role, disk: &Path, cable: &Socket, log: &Path, monitor: &Path) -> CommandLine {
    let mut arguments = strings([
        "-machine",
        "q35",
        "-accel",
        "tcg,tb-size=64",
        "-smp",
        "1",
        "-nodefaults",
    ]);
    arguments.extend(["-m".into(), memory_mib(role).to_string()]);
    arguments.extend(["-bios".into(), OVMF.into()]);
    let drive = format!("if=none,id=disk,format=raw,snapshot=on,file={}", text(disk));
    arguments.extend(["-drive".into(), drive]);
    arguments.extend(strings([
        "-device",
        "virtio-blk-pci,drive=disk,bootindex=1",
    ]));
    arguments.extend(["-netdev".into(), netdev(0, cable)]);
    // Without a ROM the firmware does not try to boot from the network.
    let nic = format!(
        "virtio-net-pci,netdev={},mac={},romfile=",
        netdev_id(0),
        mac(cable.mac)
    );
    arguments.extend(["-device".into(), nic]);
    arguments.extend(strings(["-device", "virtio-rng-pci"]));
    arguments.extend(["-serial".into(), format!("file:{}", text(log))]);
    arguments.extend(without_display(monitor));
    CommandLine {
        program: "qemu-system-x86_64".into(),
        arguments,
    }
}

/// QEMU's id of the network device on cable `index`, for its monitor.
#[must_use]
pub fn netdev_id(index: usize) -> String {
    format!("n{index}")
}

fn netdev(index: usize, cable: &Socket) -> String {
    format!(
        "dgram,id={},local.type=unix,local.path={},remote.type=unix,remote.path={}",
        netdev_id(index),
        text(&cable.machine),
        text(&cable.switch)
    )
}

fn without_display(monitor: &Path) -> Vec<String> {
    let mut arguments = strings(["-display", "none", "-monitor", "none", "-qmp"]);
    arguments.push(format!("unix:{},server=on,wait=off", text(monitor)));
    arguments
}

fn memory_mib(role: Role) -> u32 {
    match role {
        Role::Haproxy | Role::Nginx | Role::App => 192,
        Role::Monitor => 256,
        Role::Db => 384,
    }
}

/// As QEMU and `ip` write it.
#[must_use]
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// QEMU splits arguments at commas; a doubled comma stands for one.
fn text(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn strings<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.map(String::from).to_vec()
}

/// UEFI firmware for virtual machines, from Debian's `ovmf`.
pub const OVMF: &str = "/usr/share/ovmf/OVMF.fd";
