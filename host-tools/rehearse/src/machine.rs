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

/// One end of a serial line between two emulated appliances.
#[derive(Clone, Debug)]
pub struct Serial {
    /// Where the ends meet.
    pub socket: PathBuf,
    /// Whether this end waits there for the other one.
    pub listens: bool,
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
        /// Arguments for `qemu-system-arm` that choose the machine: `-M` and what belongs to it.
        machine: Vec<String>,
        /// The firmware.
        elf: PathBuf,
        /// The compiled configuration.
        config: PathBuf,
        /// Where the firmware looks for it.
        config_address: u64,
        /// All of its flash as a debug probe has left it, from address 0; it starts from that in place of the two.
        flash: Option<PathBuf>,
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

/// How to start an appliance on its cables. An emulated one writes its log to `log` and listens on `monitor`; a process has no
/// serial line.
#[must_use]
pub fn appliance(
    appliance: &Appliance,
    cables: &[Socket],
    serial: Option<&Serial>,
    log: &Path,
    monitor: &Path,
) -> CommandLine {
    match appliance {
        Appliance::Process { program, config } => {
            let mut arguments = strings(["run", "--config-blob"]);
            arguments.push(config.display().to_string());
            let names: &[&str] = if cables.len() == 1 {
                &["trunk"]
            } else {
                &["wan", "lan"]
            };
            for (name, cable) in names.iter().zip(cables) {
                let port = format!(
                    "{name}=unix:{},{}",
                    cable.machine.display(),
                    cable.switch.display()
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
            flash,
            nic_model,
        } => {
            let mut arguments = machine.clone();
            let program = flash.as_ref().unwrap_or(elf);
            arguments.extend(["-kernel".into(), program.display().to_string()]);
            if flash.is_none() {
                let loader = format!(
                    "loader,file={},addr={config_address:#x},force-raw=on",
                    text(config)
                );
                arguments.extend(["-device".into(), loader]);
            }
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
            if let Some(Serial { socket, listens }) = serial {
                let end = if *listens {
                    "server=on,wait=off"
                } else {
                    "reconnect=1"
                };
                let line = format!("socket,id=line,path={},{end}", text(socket));
                arguments.extend(["-chardev".into(), line]);
                arguments.extend(["-serial".into(), "chardev:line".into()]);
            }
            arguments.extend(without_display(monitor));
            CommandLine {
                program: "qemu-system-arm".into(),
                arguments,
            }
        }
    }
}

/// How to boot a server with so many MiB of memory from its disk. Nothing it writes reaches the disk file.
#[must_use]
pub fn server(memory: u32, disk: &Path, cable: &Socket, log: &Path, monitor: &Path) -> CommandLine {
    let mut arguments = strings([
        "-machine",
        "q35",
        "-accel",
        "tcg,tb-size=256",
        "-smp",
        "1",
        "-nodefaults",
    ]);
    arguments.extend(["-m".into(), memory.to_string()]);
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

/// What a server of a role has in a rehearsal.
#[must_use]
pub fn memory_mib(role: Role) -> u32 {
    match role {
        Role::Haproxy | Role::App => 192,
        Role::Nginx => 224,
        Role::Monitor => 448,
        Role::Db => 416,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_appliance_has_its_configuration_and_both_cables() {
        let body = Appliance::Emulated {
            machine: strings(["-M", "xilinx-zynq-a9"]).to_vec(),
            elf: "/f/zynq7000.elf".into(),
            config: "/f/gw1,old.config".into(),
            config_address: 0x07ff_0000,
            flash: None,
            nic_model: Some("cadence_gem".into()),
        };
        let line = appliance(
            &body,
            &[cable("wan"), cable("lan")],
            Some(&Serial {
                socket: "/s/line".into(),
                listens: false,
            }),
            Path::new("/c/raw"),
            Path::new("/s/qmp"),
        );
        assert_eq!(line.program, Path::new("qemu-system-arm"));
        assert_eq!(
            line.arguments.join(" "),
            "-M xilinx-zynq-a9 -kernel /f/zynq7000.elf \
             -device loader,file=/f/gw1,,old.config,addr=0x7ff0000,force-raw=on \
             -netdev dgram,id=n0,local.type=unix,local.path=/s/wan.m,remote.type=unix,remote.path=/s/wan.s \
             -net nic,netdev=n0,macaddr=02:00:00:00:00:01,model=cadence_gem \
             -netdev dgram,id=n1,local.type=unix,local.path=/s/lan.m,remote.type=unix,remote.path=/s/lan.s \
             -net nic,netdev=n1,macaddr=02:00:00:00:00:01,model=cadence_gem \
             -serial file:/c/raw -chardev socket,id=line,path=/s/line,reconnect=1 -serial chardev:line \
             -display none -monitor none -qmp unix:/s/qmp,server=on,wait=off"
        );
    }

    #[test]
    fn a_process_names_its_ports_by_side() {
        let body = Appliance::Process {
            program: "/b/ravelin".into(),
            config: "/f/gw1,old.config".into(),
        };
        let arguments = |cables: &[Socket]| {
            appliance(&body, cables, None, Path::new(""), Path::new(""))
                .arguments
                .join(" ")
        };
        assert_eq!(
            arguments(&[cable("wan"), cable("lan")]),
            "run --config-blob /f/gw1,old.config --port wan=unix:/s/wan.m,/s/wan.s --port lan=unix:/s/lan.m,/s/lan.s"
        );
        assert_eq!(
            arguments(&[cable("trunk")]),
            "run --config-blob /f/gw1,old.config --port trunk=unix:/s/trunk.m,/s/trunk.s"
        );
    }

    #[test]
    fn a_server_never_writes_to_its_image() {
        let line = server(
            memory_mib(Role::Db),
            Path::new("/i/disk.raw"),
            &cable("db1"),
            Path::new("/c/db1"),
            Path::new("/s/q"),
        );
        let text = line.arguments.join(" ");
        assert!(
            text.contains("format=raw,snapshot=on,file=/i/disk.raw"),
            "{text}"
        );
        assert!(text.contains("-m 416"), "{text}");
    }

    fn cable(name: &str) -> Socket {
        Socket {
            machine: format!("/s/{name}.m").into(),
            switch: format!("/s/{name}.s").into(),
            mac: [2, 0, 0, 0, 0, 1],
        }
    }
}
