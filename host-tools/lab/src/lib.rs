//! A pair of routers between clients and servers, in network namespaces: the kernel's own TCP at both ends, cables that
//! can be cut, and eyes on the wire. Needs root and iproute2. Everything a [`Lab`] made goes away when it is dropped.
//!
//! ```text
//!   clients 192.0.2.100 ── wan ──┬── gw1 ──┬── lan ── servers 10.9.0.11, 10.9.0.12
//!                                └── gw2 ──┘
//!                              (a sync cable between the two)
//! ```

#![forbid(unsafe_code)]

mod adverts;
mod appliances;
mod capture;
mod echo;
mod load;
mod probes;
mod program;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use adverts::{Advert, Adverts};
pub use appliances::Appliances;
pub use capture::{Capture, Refusal, What};
pub use echo::Echo;
pub use load::{Connection, Load, Stream, Talk, Wrap, plain};
pub use manage::Device;
pub use mgmt::Request;
pub use probes::{Probes, Target};
pub use program::Program;

/// Names of the routers, the preferred one first.
pub const GATEWAYS: [&str; 2] = ["gw1", "gw2"];
/// Their own addresses on the clients' side.
pub const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3)];
/// The virtual address on the clients' side.
pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The virtual address on the servers' side.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The clients' addresses.
pub const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 101)];
/// The provider's router is among the clients.
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The servers' addresses.
pub const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 11), Ipv4Addr::new(10, 9, 0, 12)];
/// The TCP service: what is sent comes back.
pub const ECHO: u16 = 7000;
/// The UDP service: the same.
pub const PROBE: u16 = 7001;

/// Why the lab cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace was not made, or something in it did not run.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The site of the appliances is not a good one.
    #[error("{0}")]
    Site(String),
    /// An appliance does not do what its operator wants.
    #[error(transparent)]
    Manage(#[from] manage::ManageError),
    /// The system refused something else.
    #[error("{what}: {cause}")]
    System {
        /// What was tried.
        what: String,
        /// What the system answered.
        cause: io::Error,
    },
}

/// A cable of each router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// To the clients.
    Wan,
    /// To the servers.
    Lan,
    /// Between the routers, for those who want one of their own.
    Sync,
}

impl Cable {
    const ALL: [Self; 3] = [Self::Wan, Self::Lan, Self::Sync];

    /// As the interface is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan",
            Self::Lan => "lan",
            Self::Sync => "sync",
        }
    }
}

/// The namespaces and cables.
#[derive(Debug)]
pub struct Lab {
    clients: Namespace,
    servers: Namespace,
    switch: Namespace,
    gateways: [Namespace; 2],
    directory: TempDir,
}

impl Lab {
    /// Makes the namespaces and lays the cables. The routers' interfaces have no addresses.
    ///
    /// # Errors
    /// Without root or iproute2.
    pub fn new() -> Result<Self, Error> {
        let prefix = netns::prefix("rvlab");
        let space = |name: &str| {
            let space = Namespace::new(format!("{prefix}-{name}"))?;
            // IPv6 chatter of the kernel is not part of this.
            let quiet = ["all", "default"].map(|of| format!("net.ipv6.conf.{of}.disable_ipv6=1"));
            space.run("sysctl", &["-qw", &quiet[0], &quiet[1]], "")?;
            space.ip("link set lo up")?;
            Ok::<_, netns::Error>(space)
        };
        let directory = TempDir::new().map_err(system("a temporary directory"))?;
        let lab = Self {
            clients: space("clients")?,
            servers: space("servers")?,
            switch: space("switch")?,
            gateways: [space("gw1")?, space("gw2")?],
            directory,
        };
        for cable in Cable::ALL {
            let name = cable.name();
            lab.switch.ip_all(&format!(
                "link add br-{name} type bridge mcast_snooping 0\nlink set br-{name} up\n"
            ))?;
            for (space, gateway) in lab.gateways.iter().zip(GATEWAYS) {
                lab.lay(space, name, &format!("{gateway}-{name}"), cable)?;
            }
        }
        lab.lay(&lab.clients, "eth0", "clients", Cable::Wan)?;
        // Whose sockets may send echo requests.
        let pingers = "net.ipv4.ping_group_range=0 0";
        lab.clients.run("sysctl", &["-qw", pingers], "")?;
        lab.lay(&lab.servers, "eth0", "servers", Cable::Lan)?;
        for address in CLIENTS.into_iter().chain([UPLINK]) {
            lab.clients.ip(&format!("addr add {address}/24 dev eth0"))?;
        }
        for address in SERVERS {
            lab.servers.ip(&format!("addr add {address}/24 dev eth0"))?;
        }
        lab.servers.ip(&format!("route add default via {INSIDE}"))?;
        Ok(lab)
    }

    fn lay(&self, space: &Namespace, name: &str, port: &str, cable: Cable) -> Result<(), Error> {
        let switch = self.switch.name();
        space.ip_all(&format!(
            "link add {name} type veth peer name {port} netns {switch}\nlink set {name} up\n"
        ))?;
        let bridge = cable.name();
        self.switch
            .ip(&format!("link set {port} master br-{bridge} up"))?;
        Ok(())
    }

    /// Where the clients are.
    #[must_use]
    pub const fn clients(&self) -> &Namespace {
        &self.clients
    }

    /// Where the servers are.
    #[must_use]
    pub const fn servers(&self) -> &Namespace {
        &self.servers
    }

    /// A router's place, with interfaces `wan`, `lan` and `sync`.
    #[must_use]
    pub const fn gateway(&self, gateway: usize) -> &Namespace {
        &self.gateways[gateway]
    }

    /// For files that last as long as the lab.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes such a file.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, Error> {
        let path = self.path(name);
        std::fs::write(&path, content).map_err(system(path.display()))?;
        Ok(path)
    }

    /// Starts a program in a router's place.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, gateway: usize, program: &Path, words: &[&str]) -> Result<Program, Error> {
        let mut command = self.gateways[gateway].command(&program.display().to_string());
        command.args(words);
        let name = program.file_name().unwrap_or_default().display();
        let log = self.path(&format!("{}-{name}.log", GATEWAYS[gateway]));
        Program::start(command, log)
    }

    /// Takes the carrier from a router's cable.
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn cut(&self, gateway: usize, cable: Cable) -> Result<(), Error> {
        self.set(gateway, cable, "down")
    }

    /// Gives it back.
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn mend(&self, gateway: usize, cable: Cable) -> Result<(), Error> {
        self.set(gateway, cable, "up")
    }

    fn set(&self, gateway: usize, cable: Cable, state: &str) -> Result<(), Error> {
        let (gateway, cable) = (GATEWAYS[gateway], cable.name());
        Ok(self
            .switch
            .ip(&format!("link set {gateway}-{cable} {state}"))?)
    }

    /// From now on nothing of a router reaches anybody, and nobody sees a carrier go: what its neighbours see of a power
    /// loss behind a switch.
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn mute(&self, gateway: usize) -> Result<(), Error> {
        let lines = Cable::ALL.map(|cable| {
            let (gateway, cable) = (GATEWAYS[gateway], cable.name());
            format!("link set {gateway}-{cable} nomaster\n")
        });
        Ok(self.switch.ip_all(&lines.concat())?)
    }

    /// Kills whatever runs in a router's place, children of daemons too.
    ///
    /// # Errors
    /// If iproute2 does not say what runs there.
    pub fn kill_all(&self, gateway: usize) -> Result<(), Error> {
        let name = self.gateways[gateway].name();
        let pids = Command::new("ip").args(["netns", "pids", name]).output();
        let pids = pids.map_err(system("ip netns pids"))?.stdout;
        let pids = String::from_utf8_lossy(&pids);
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // Who is gone already need not be killed.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Undoes [`Lab::mute`].
    ///
    /// # Errors
    /// With what `ip` says.
    pub fn unmute(&self, gateway: usize) -> Result<(), Error> {
        let lines = Cable::ALL.map(|cable| {
            let (gateway, cable) = (GATEWAYS[gateway], cable.name());
            format!("link set {gateway}-{cable} master br-{cable}\n")
        });
        Ok(self.switch.ip_all(&lines.concat())?)
    }
}

/// The error of a system call that was tried for `what`.
fn system(what: impl ToString) -> impl FnOnce(io::Error) -> Error {
    let what = what.to_string();
    |cause| Error::System { what, cause }
}
