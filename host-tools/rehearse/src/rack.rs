//! The rack: switch, uplink and machines, put together from the plan.

mod clients;
mod running;
mod vlans;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use build::HostFile;
use ipnet::IpNet;
use nix::sys::signal::Signal;
use site::Plan;
use site::plan::{Network, Port, Role, Server};

use crate::cable::{End, Fabric};
use crate::cgroup::Cgroup;
use crate::error::{RehearseError, require_file, require_program};
use crate::light;
use crate::log::BoardLog;
use crate::machine::{self, Appliance, CommandLine, Serial, Socket};
use crate::observer::{Advert, Observer};
use crate::process::{Process, describe};
use crate::qmp::Qmp;
use crate::scratch::Scratch;
use crate::switch::{Fault, Mode, PortId};
use crate::uplink::{Settings, Uplink};
use crate::version::{self, Version};

use running::Cable;
pub use running::{Kind, Machine};
use vlans::Vlans;

/// How a server runs.
#[derive(Clone)]
pub enum ServerBody {
    /// Its disk image in an emulated PC.
    Emulated {
        /// The raw disk.
        disk: PathBuf,
    },
    /// The root tree of its role as a container of this machine.
    Light {
        /// The root tree, never written to.
        root: PathBuf,
        /// The server's own files.
        files: Vec<HostFile>,
    },
}

/// The machines that shall run, by name.
#[derive(Clone, Default)]
pub struct Bodies {
    /// What each appliance runs.
    pub appliances: BTreeMap<String, Appliance>,
    /// What each server runs; servers that are not named stay off.
    pub servers: BTreeMap<String, ServerBody>,
}

/// The running rack. Everything in it ends when it is dropped.
pub struct Rack {
    // In the order in which they end.
    machines: Vec<Machine>,
    uplinks: Vec<Uplink>,
    fabric: Fabric,
    plan: Plan,
    directory: PathBuf,
    sockets: Scratch,
    /// What the servers that were started run.
    servers: BTreeMap<String, ServerBody>,
    /// How many network cards of servers there were.
    cards: u32,
}

/// What a machine is made of.
struct Parts<'a> {
    name: &'a str,
    kind: Kind,
    line: CommandLine,
    console: PathBuf,
    /// Where the process itself writes.
    output: PathBuf,
    monitor: Option<PathBuf>,
    cables: Vec<Cable>,
    log: Option<BoardLog>,
    namespace: Option<Process>,
    cgroup: Option<Cgroup>,
}

impl Rack {
    /// Lays all cables and opens local ports: each listener leads to the virtual address of its own version of IP.
    /// No machine runs yet. Consoles and recordings go to `directory`.
    pub fn new(
        plan: &Plan,
        listeners: Vec<TcpListener>,
        directory: &Path,
    ) -> Result<Self, RehearseError> {
        let vlans = Vlans::of(plan);
        let wan = wan(plan)?;
        let vlan = vlans.of_network(&wan.name);
        let interval = Duration::from_millis(10 * u64::from(plan.vrrp.advertisement_interval));
        let sockets =
            Scratch::new().map_err(RehearseError::system("cannot make a directory for sockets"))?;
        let fabric = Fabric::start(SEED, Observer::new(vlan, wan.vrid, interval))
            .map_err(RehearseError::system("cannot start the switch"))?;
        let mut uplinks = Vec::new();
        for listener in listeners {
            let local = listener.local_addr();
            let local = local.map_err(RehearseError::system("cannot use a local port"))?;
            let settings = uplink(plan, wan, Version::of(local.ip()))?;
            let name = match settings.address {
                IpAddr::V4(_) => "uplink",
                IpAddr::V6(_) => "uplink6",
            };
            let record = directory.join(format!("{name}.pcap"));
            let (_, cable) = fabric
                .attach(name, Mode::access(vlan), Some(&record))
                .map_err(RehearseError::system("cannot connect the uplink"))?;
            let uplink = Uplink::start(settings, cable, listener)
                .map_err(RehearseError::system("cannot start the uplink host"))?;
            uplinks.push(uplink);
        }
        let directory = directory.to_path_buf();
        Ok(Self {
            machines: Vec::new(),
            uplinks,
            fabric,
            plan: plan.clone(),
            directory,
            sockets,
            servers: BTreeMap::new(),
            cards: 0,
        })
    }

    /// What it was put together from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// An appliance's end of the serial line between the two of a pair that has one.
    fn serial(&self, name: &str) -> Option<Serial> {
        let pair = self.plan.pair.as_ref()?;
        let first = self.plan.appliances.first()?;
        pair.serial.then(|| Serial {
            socket: self.sockets.path().join("line"),
            listens: first.name == name,
        })
    }

    /// Starts an appliance on its cables.
    pub fn start_appliance(
        &mut self,
        name: &str,
        body: &Appliance,
    ) -> Result<&Machine, RehearseError> {
        let plan = self
            .plan
            .appliances
            .iter()
            .find(|appliance| appliance.name == name);
        let appliance = plan
            .ok_or_else(|| unsuitable(&format!("the site has no appliance `{name}`")))?
            .clone();
        let vlans = Vlans::of(&self.plan);
        let mut ports: BTreeMap<u8, (Mode, [u8; 6])> = BTreeMap::new();
        for leg in &appliance.legs {
            let vlan = vlans.of_network(&leg.network);
            let (mode, _) = ports.entry(leg.port).or_insert((
                Mode {
                    untagged: None,
                    tagged: BTreeSet::new(),
                },
                leg.mac,
            ));
            match leg.vlan {
                Some(_) => drop(mode.tagged.insert(vlan)),
                None => mode.untagged = Some(vlan),
            }
        }
        let mut sockets = Vec::new();
        let mut cables = Vec::new();
        for (index, (mode, mac)) in &ports {
            let label = if ports.len() == 1 {
                "trunk"
            } else {
                ["wan", "lan"][usize::from(*index).min(1)]
            };
            let (socket, port) = self.lay(&format!("{name}-{label}"), mode.clone(), *mac)?;
            sockets.push(socket);
            cables.push(Cable {
                port,
                mode: mode.clone(),
            });
        }
        let console = self.console(name);
        let (kind, namespace) = (Kind::Appliance, None);
        let parts = match body {
            Appliance::Process { program, config } => {
                require_file("the program", program, "build it again")?;
                require_file(&format!("the configuration of {name}"), config, BUILD)?;
                let line = machine::appliance(body, &sockets, None, &console, Path::new(""));
                let output = console.clone();
                Parts {
                    name,
                    kind,
                    line,
                    console,
                    output,
                    monitor: None,
                    cables,
                    log: None,
                    namespace,
                    cgroup: None,
                }
            }
            Appliance::Emulated { elf, config, .. } => {
                require_program("qemu-system-arm", "qemu-system-arm")?;
                require_file("the firmware", elf, BUILD)?;
                require_file(&format!("the configuration of {name}"), config, BUILD)?;
                let raw = self.directory.join(format!("console-{name}.defmt"));
                let log = BoardLog::new(elf, &raw, &console).map_err(RehearseError::system(
                    format!("cannot read the log of {name}"),
                ))?;
                let monitor = self.sockets.path().join(format!("{name}.qmp"));
                let serial = self.serial(name);
                let line = machine::appliance(body, &sockets, serial.as_ref(), &raw, &monitor);
                let (output, monitor, log) = (self.qemu_log(name), Some(monitor), Some(log));
                Parts {
                    name,
                    kind,
                    line,
                    console,
                    output,
                    monitor,
                    cables,
                    log,
                    namespace,
                    cgroup: None,
                }
            }
        };
        self.spawn(parts)
    }

    /// Boots a server on its cable.
    pub fn start_server(
        &mut self,
        name: &str,
        body: &ServerBody,
    ) -> Result<&Machine, RehearseError> {
        let plan = self.plan.servers.iter().find(|server| server.name == name);
        let server = plan
            .ok_or_else(|| unsuitable(&format!("the site has no server `{name}`")))?
            .clone();
        let mode = Mode::access(Vlans::of(&self.plan).of_network(&server.network));
        self.servers.insert(name.to_owned(), body.clone());
        match body {
            ServerBody::Emulated { disk } => self.start_emulated(&server, mode, disk),
            ServerBody::Light { root, files } => self.start_light(&server, mode, root, files),
        }
    }

    fn start_emulated(
        &mut self,
        server: &Server,
        mode: Mode,
        disk: &Path,
    ) -> Result<&Machine, RehearseError> {
        let name = &server.name;
        require_program("qemu-system-x86_64", "qemu-system-x86")?;
        require_file(
            "the UEFI firmware",
            Path::new(machine::OVMF),
            "install it: `apt-get install ovmf`",
        )?;
        require_file(&format!("the image of {name}"), disk, BUILD)?;
        let (socket, port) = self.lay(name, mode.clone(), server.mac)?;
        let console = self.console(name);
        let monitor = self.sockets.path().join(format!("{name}.qmp"));
        let memory = machine::memory_mib(server.role);
        let line = machine::server(memory, disk, &socket, &console, &monitor);
        let (output, monitor, cables) = (
            self.qemu_log(name),
            Some(monitor),
            vec![Cable { port, mode }],
        );
        let kind = Kind::Server;
        self.spawn(Parts {
            name,
            kind,
            line,
            console,
            output,
            monitor,
            cables,
            log: None,
            namespace: None,
            cgroup: None,
        })
    }

    fn start_light(
        &mut self,
        server: &Server,
        mode: Mode,
        root: &Path,
        files: &[HostFile],
    ) -> Result<&Machine, RehearseError> {
        let name = &server.name;
        if !nix::unistd::Uid::effective().is_root() {
            return Err(RehearseError::NeedsRoot);
        }
        require_program("systemd-nspawn", "systemd-container")?;
        require_program("ip", "iproute2")?;
        require_file(&format!("the root tree of {name}"), root, BUILD)?;
        let etc = self.sockets.path().join(format!("{name}.etc"));
        let disk = self.sockets.path().join(format!("{name}.disk"));
        light::write_host_files(&etc, files)
            .and_then(|()| std::fs::create_dir_all(&disk))
            .map_err(RehearseError::system(format!(
                "cannot write the files of {name}"
            )))?;
        // Interface names have at most 15 bytes, and another rehearsal may run.
        let tap = format!("rv{:x}-{}", std::process::id() & 0xff_ffff, self.cards);
        self.cards += 1;
        let failed = |what: &str| RehearseError::system(format!("cannot make {what} for {name}"));
        let device = light::tap(&tap, server.mac).map_err(failed("a TAP interface"))?;
        let namespace = light::namespace(&self.sockets.path().join(format!("{name}.net")))
            .and_then(|namespace| light::give(&tap, &namespace).map(|()| namespace))
            .map_err(failed("a network namespace"))?;
        let port = self.connect(name, mode.clone(), End::Tap(device))?;
        let console = self.console(name);
        let cgroup = Cgroup::new(&format!("ravelin-{}-{name}", std::process::id()));
        let line = light::container(name, root, &etc, &disk, &namespace, &cgroup);
        let (output, cables) = (console.clone(), vec![Cable { port, mode }]);
        let (kind, namespace) = (Kind::Server, Some(namespace));
        self.spawn(Parts {
            name,
            kind,
            line,
            console,
            output,
            monitor: None,
            cables,
            log: None,
            namespace,
            cgroup: Some(cgroup),
        })
    }

    /// A cable between the switch and a socket that a machine will bind.
    fn lay(&self, name: &str, mode: Mode, mac: [u8; 6]) -> Result<(Socket, PortId), RehearseError> {
        let machine = self.sockets.path().join(format!("{name}.m"));
        let switch = self.sockets.path().join(format!("{name}.s"));
        let end = End::Unix {
            local: switch.clone(),
            remote: machine.clone(),
        };
        let port = self.connect(name, mode, end)?;
        Ok((
            Socket {
                machine,
                switch,
                mac,
            },
            port,
        ))
    }

    fn connect(&self, name: &str, mode: Mode, end: End) -> Result<PortId, RehearseError> {
        // A server that is switched on again has a new card.
        let record = |life: u32| match life {
            1 => self.directory.join(format!("{name}.pcap")),
            _ => self.directory.join(format!("{name}-{life}.pcap")),
        };
        let record = (1..).map(record).find(|record| !record.exists());
        let record = record.unwrap_or_default();
        let connected = self.fabric.connect(name, mode, end, Some(&record));
        connected.map_err(RehearseError::system(format!(
            "cannot lay the cable of {name}"
        )))
    }

    fn spawn(&mut self, parts: Parts<'_>) -> Result<&Machine, RehearseError> {
        let Parts {
            name,
            kind,
            line,
            console,
            output,
            monitor,
            cables,
            log,
            namespace,
            cgroup,
        } = parts;
        let process = spawn(name, self.nice(name), &line, &output)?;
        let (name, process, started) = (name.to_owned(), Some(process), Instant::now());
        self.machines.push(Machine {
            name,
            kind,
            console,
            process,
            line,
            output,
            monitor,
            cables,
            log,
            namespace,
            started,
            _cgroup: cgroup,
        });
        self.machines.last().ok_or_else(|| unsuitable("no machine"))
    }

    /// Servers give way to appliances, which keep real time, and most servers to those that must agree on who holds the
    /// data: a cluster that waits for the processor falls apart.
    fn nice(&self, name: &str) -> u8 {
        let servers = &self.plan.servers;
        match servers.iter().find(|server| server.name == name) {
            None => 0,
            Some(server) if matches!(server.role, Role::Db | Role::Monitor) => CLUSTER_NICE,
            Some(_) => SERVER_NICE,
        }
    }

    /// Where the machine's console is written.
    fn console(&self, name: &str) -> PathBuf {
        self.directory.join(format!("console-{name}.log"))
    }

    /// What QEMU itself says.
    fn qemu_log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("qemu-{name}.log"))
    }

    /// Kills a machine and starts it again on the same cables.
    pub fn restart(&mut self, name: &str) -> Result<(), RehearseError> {
        let nice = self.nice(name);
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.name == name);
        let machine = machine.ok_or_else(|| unsuitable(&format!("`{name}` is not running")))?;
        machine.process = None;
        if let Some(log) = &mut machine.log {
            log.catch_up();
            let restarted = log.restart();
            restarted.map_err(RehearseError::system(format!(
                "cannot read the log of {name}"
            )))?;
        }
        machine.process = Some(spawn(name, nice, &machine.line, &machine.output)?);
        machine.started = Instant::now();
        Ok(())
    }

    /// Tells a linux appliance to hand over to its peer.
    pub fn hand_over(&self, name: &str) -> Result<(), RehearseError> {
        let machine = self.machines.iter().find(|machine| machine.name == name);
        match machine.and_then(|machine| machine.process.as_ref().zip(Some(&machine.monitor))) {
            Some((process, None)) => {
                process.signal(Signal::SIGUSR2);
                Ok(())
            }
            Some((_, Some(_))) => Err(unsuitable(
                "an emulated board takes orders from its network only: use `--appliances linux`",
            )),
            None => Err(unsuitable(&format!("`{name}` is not running"))),
        }
    }

    /// Fails if a machine ended that nobody stopped. Also brings the appliances' logs up to date.
    pub fn check_alive(&mut self) -> Result<(), RehearseError> {
        for machine in &mut self.machines {
            if let Some(log) = &mut machine.log {
                log.catch_up();
            }
            let Some(process) = &mut machine.process else {
                continue;
            };
            if let Some(status) = process.exited() {
                let console = crate::process::tail(&machine.console);
                let tail = if console.is_empty() {
                    process.tail()
                } else {
                    console
                };
                return Err(RehearseError::Died {
                    machine: machine.name.clone(),
                    how: describe(status),
                    tail,
                    console: machine.console.clone(),
                });
            }
        }
        Ok(())
    }

    /// All machines that were started.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// One of them.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.name == name)
    }

    /// The uplink hosts, in the order of their listeners.
    #[must_use]
    pub fn uplinks(&self) -> &[Uplink] {
        &self.uplinks
    }

    /// The switch.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// The appliance that advertises on the wan network now.
    #[must_use]
    pub fn active(&self) -> Option<String> {
        let address = self
            .fabric
            .observe(|observer| observer.active(Instant::now()))?;
        self.appliance_at(address)
    }

    /// The first advertisement of another appliance after `since`.
    #[must_use]
    pub fn taken_over(&self, from: &str, since: Instant) -> Option<Advert> {
        let network = &wan(&self.plan).ok()?.name;
        let appliance = self
            .plan
            .appliances
            .iter()
            .find(|appliance| appliance.name == from)?;
        let own = appliance
            .legs
            .iter()
            .find(|leg| leg.network == *network)?
            .address;
        self.fabric
            .observe(|observer| observer.taken_over(own, since))
    }

    fn appliance_at(&self, address: Ipv4Addr) -> Option<String> {
        let appliances = &self.plan.appliances;
        let found = appliances
            .iter()
            .find(|appliance| appliance.legs.iter().any(|leg| leg.address == address));
        found.map(|appliance| appliance.name.clone())
    }

    /// Ends a machine as a power failure does: at once, and its cables silent.
    pub fn power_off(&mut self, name: &str) {
        self.silence(name);
        for machine in self
            .machines
            .iter_mut()
            .filter(|machine| machine.name == name)
        {
            machine.process = None;
            if machine.namespace.take().is_some() {
                // The card is gone, too.
                for cable in &machine.cables {
                    self.fabric.unplug(cable.port);
                }
            }
        }
    }

    /// Switches a machine on again that lost its power. What it had on its disk is there; of a server in QEMU, what its
    /// image has.
    pub fn power_on(&mut self, name: &str) -> Result<(), RehearseError> {
        let place = (self.machines.iter()).position(|machine| machine.name == name);
        let place = place.ok_or_else(|| unsuitable(&format!("`{name}` was never started")))?;
        let Some(body @ ServerBody::Light { .. }) = self.servers.get(name).cloned() else {
            self.mend(name);
            return self.restart(name);
        };
        drop(self.machines.remove(place));
        self.start_server(name, &body)?;
        // In the order in which they were started first.
        if let Some(machine) = self.machines.pop() {
            self.machines.insert(place, machine);
        }
        Ok(())
    }

    /// Lets nothing pass on a machine's cables; the carrier stays.
    pub fn silence(&mut self, name: &str) {
        let cut = Fault {
            cut: true,
            ..Fault::default()
        };
        self.set_faults(name, &cut);
    }

    /// Lets everything pass again.
    pub fn mend(&mut self, name: &str) {
        self.set_faults(name, &Fault::default());
    }

    fn set_faults(&self, name: &str, fault: &Fault) {
        let machines = self.machines.iter().filter(|machine| machine.name == name);
        for cable in machines.flat_map(|machine| &machine.cables) {
            self.fabric.set_fault(cable.port, fault.clone());
        }
    }

    /// Cuts the cable of an appliance towards one side. On a trunk, which has both sides, the switch stops
    /// carrying that side's VLANs: no carrier is lost.
    pub fn cut(&mut self, appliance: &str, side: Port) -> Result<(), RehearseError> {
        let vlans = Vlans::of(&self.plan);
        let networks = self
            .plan
            .networks
            .iter()
            .filter(|network| network.port == side);
        let lost: BTreeSet<u16> = networks
            .map(|network| vlans.of_network(&network.name))
            .collect();
        let Some(machine) = self
            .machines
            .iter()
            .find(|machine| machine.name == appliance)
        else {
            return Err(unsuitable(&format!(
                "no appliance `{appliance}` is running"
            )));
        };
        for (index, cable) in machine.cables.iter().enumerate() {
            let carried: BTreeSet<u16> = cable
                .mode
                .tagged
                .iter()
                .copied()
                .chain(cable.mode.untagged)
                .collect();
            if carried.is_disjoint(&lost) {
                continue;
            }
            if !carried.is_subset(&lost) {
                let pruned = carried.intersection(&lost).copied().collect();
                self.fabric.set_fault(
                    cable.port,
                    Fault {
                        pruned,
                        ..Fault::default()
                    },
                );
                continue;
            }
            self.fabric.set_fault(
                cable.port,
                Fault {
                    cut: true,
                    ..Fault::default()
                },
            );
            match &machine.monitor {
                Some(monitor) => Qmp::connect(monitor)
                    .and_then(|mut qmp| qmp.set_link(&machine::netdev_id(index), false))
                    .map_err(RehearseError::system(format!(
                        "cannot drop the link of {appliance}"
                    )))?,
                None => self.fabric.unplug(cable.port),
            }
        }
        Ok(())
    }
}

/// The provider's router for one version of IP.
fn uplink(plan: &Plan, wan: &Network, version: Version) -> Result<Settings, RehearseError> {
    let missing = |what: &str| unsuitable(&format!("the site has no {what} of {version}"));
    let service = version::users_service(plan).ok_or_else(|| missing("service"))?;
    let virtual_address = version::address(plan, service, version);
    let (mac, virtual_mac, address, subnet) = match version {
        // RFC 9568 §7.3.
        Version::V4 => (
            UPLINK_MAC,
            [0, 0, 0x5e, 0, 1, wan.vrid],
            wan.uplink.map(IpAddr::V4),
            Some(IpNet::V4(wan.subnet)),
        ),
        Version::V6 => (
            UPLINK6_MAC,
            [0, 0, 0x5e, 0, 2, wan.vrid6().unwrap_or(wan.vrid)],
            wan.uplink6.map(IpAddr::V6),
            wan.subnet6.map(IpNet::V6),
        ),
    };
    Ok(Settings {
        mac,
        address: address.ok_or_else(|| missing("uplink"))?,
        subnet: subnet.ok_or_else(|| missing("wan network"))?,
        clients: clients::clients(plan, version),
        virtual_address: virtual_address.ok_or_else(|| missing("service"))?,
        virtual_mac,
        port: service.port,
    })
}

fn wan(plan: &Plan) -> Result<&Network, RehearseError> {
    let wan = plan
        .networks
        .iter()
        .find(|network| network.port == Port::Wan);
    wan.ok_or_else(|| unsuitable("the site has no wan network"))
}

fn spawn(
    name: &str,
    nice: u8,
    line: &CommandLine,
    output: &Path,
) -> Result<Process, RehearseError> {
    Process::spawn(&line.program, &line.arguments, nice, output)
        .map_err(RehearseError::system(format!("cannot start {name}")))
}

fn unsuitable(text: &str) -> RehearseError {
    RehearseError::Unsuitable(text.into())
}

/// Lossy cables lose the same frames in every run.
const SEED: u64 = 1;
/// The provider's router: a locally administered address.
const UPLINK_MAC: [u8; 6] = [0x02, 0x52, 0x56, 0xff, 0xff, 0x01];
const UPLINK6_MAC: [u8; 6] = [0x02, 0x52, 0x56, 0xff, 0xff, 0x02];
pub(crate) const SERVER_NICE: u8 = 10;
const CLUSTER_NICE: u8 = 4;
const BUILD: &str = "build it: `ravelin build`";
