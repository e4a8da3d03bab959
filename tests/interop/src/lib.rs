//! A lab of network namespaces: two routers and a client on a WAN and on a LAN bridge, real keepalived and
//! our Linux board in the routers' places. Everything a [`Lab`] made goes away when it is dropped.
//!
//! ```text
//!   client 192.0.2.100 ── br-wan ──┬── wan  left   lan ──┬── br-lan ── host 10.9.0.100
//!                                  └── wan  right  lan ──┘
//! ```

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use board::appliance;
use netns::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use policy::{Availability, Checksum, Config, Interface, Name, VirtualRouter};
use tempfile::TempDir;
pub use watch::Watch;

mod board;
pub mod mode;
pub mod servers;
mod watch;

/// Virtual address on the WAN side.
pub const WAN_VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Virtual address on the LAN side.
pub const LAN_VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Virtual router id on the WAN side; the LAN side has the next one.
pub const WAN_VRID: u8 = 51;

/// Place of a router in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Own addresses end in .2.
    Left,
    /// Own addresses end in .3.
    Right,
}

impl Side {
    /// The other place.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    const fn host_number(self) -> u8 {
        match self {
            Self::Left => 2,
            Self::Right => 3,
        }
    }

    const fn mac(self, lan: bool) -> [u8; 6] {
        [2, 0, 0, 0, lan as u8, self.host_number()]
    }
}

/// The namespaces and cables of one test.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    spaces: Vec<Namespace>,
    directory: TempDir,
}

impl Lab {
    /// Makes the namespaces, bridges and cables.
    ///
    /// # Panics
    /// Without root or without iproute2: an interop test that cannot run must not pass.
    #[must_use]
    pub fn new() -> Self {
        assert!(
            Uid::effective().is_root(),
            "network namespaces need root: run `sudo ./ravelin test`"
        );
        for (program, argument, package) in [
            ("ip", "-V", "iproute2"),
            ("ping", "-V", "iputils-ping"),
            ("keepalived", "-v", "keepalived"),
        ] {
            let found = Command::new(program)
                .arg(argument)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(
                found.is_ok(),
                "{program} is missing: apt-get install {package}"
            );
        }
        let prefix = netns::prefix("rv");
        let space = |name| {
            let space = Namespace::new(format!("{prefix}-{name}")).expect("no other has its name");
            space.ip("link set lo up").expect("every namespace has it");
            space
        };
        let lab = Self {
            spaces: ["switch", "left", "right", "client", "host"]
                .map(space)
                .into(),
            prefix,
            directory: TempDir::new().expect("a temporary directory"),
        };
        for bridge in ["br-wan", "br-lan"] {
            ip(&[
                "-n",
                &lab.ns("switch"),
                "link",
                "add",
                bridge,
                "type",
                "bridge",
            ]);
            ip(&["-n", &lab.ns("switch"), "link", "set", bridge, "up"]);
        }
        for side in [Side::Left, Side::Right] {
            lab.cable(side.name(), "wan", "br-wan", Some(side.mac(false)));
            lab.cable(side.name(), "lan", "br-lan", Some(side.mac(true)));
        }
        lab.cable("client", "eth0", "br-wan", None);
        lab.cable("host", "eth0", "br-lan", None);
        ip(&[
            "-n",
            &lab.ns("client"),
            "addr",
            "add",
            "192.0.2.100/24",
            "dev",
            "eth0",
        ]);
        ip(&[
            "-n",
            &lab.ns("host"),
            "addr",
            "add",
            "10.9.0.100/24",
            "dev",
            "eth0",
        ]);
        lab
    }

    /// Full name of a namespace of this lab.
    #[must_use]
    pub fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A namespace of this lab.
    fn space(&self, name: &str) -> &Namespace {
        let name = self.ns(name);
        let space = self.spaces.iter().find(|space| space.name() == name);
        space.unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn cable(&self, namespace: &str, interface: &str, bridge: &str, mac: Option<[u8; 6]>) {
        let inside = self.ns(namespace);
        let switch = self.ns("switch");
        let peer = format!("{namespace}-{interface}");
        ip(&[
            "-n", &inside, "link", "add", interface, "type", "veth", "peer", "name", &peer,
        ]);
        ip(&["-n", &inside, "link", "set", &peer, "netns", &switch]);
        if let Some(mac) = mac {
            ip(&[
                "-n",
                &inside,
                "link",
                "set",
                interface,
                "address",
                &mac_text(mac),
            ]);
        }
        // IPv6 chatter of the kernel is not part of these tests.
        let sysctl = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
        run(Command::new("ip").args(["netns", "exec", &inside, "sysctl", "-qw", &sysctl]));
        ip(&["-n", &switch, "link", "set", &peer, "master", bridge, "up"]);
        ip(&["-n", &inside, "link", "set", interface, "up"]);
    }

    /// Takes the carrier of a router's cable away or gives it back.
    pub fn carrier(&self, side: Side, interface: &str, up: bool) {
        let peer = format!("{}-{interface}", side.name());
        ip(&[
            "-n",
            &self.ns("switch"),
            "link",
            "set",
            &peer,
            if up { "up" } else { "down" },
        ]);
    }

    /// Takes an address from a router's kernel, as a power loss would.
    pub fn forget(&self, side: Side, interface: &str, address: Ipv4Addr) {
        let namespace = self.ns(side.name());
        let address = format!("{address}/24");
        let _ = Command::new("ip")
            .args(["-n", &namespace, "addr", "del", &address, "dev", interface])
            .stderr(Stdio::null())
            .status();
    }

    /// Starts our appliance on the Linux board in a router's place. `program` is the test crate's own `appliance`.
    #[must_use]
    pub fn appliance(&self, program: &str, side: Side, priority: u8, centiseconds: u16) -> Router {
        self.appliance_with(program, side, &config(side, priority, centiseconds))
    }

    /// Starts our appliance with a configuration like [`config`]'s.
    #[must_use]
    pub fn appliance_with(&self, program: &str, side: Side, config: &Config) -> Router {
        let blob = self.path(&format!("{}.blob", side.name()));
        let mut buffer = [0; 8192];
        let bytes = policy::encode(config, &[], &mut buffer);
        fs::write(&blob, bytes.expect("a valid configuration")).expect("a writable directory");
        let blob = blob.to_str().expect("a UTF-8 path");
        self.start(side, &[program, blob, "wan=wan", "lan=lan"])
    }

    /// Starts Debian's keepalived in VRRPv3 in a router's place, both sides in one sync group.
    #[must_use]
    pub fn keepalived(&self, side: Side, priority: u8, centiseconds: u16) -> Router {
        // keepalived keeps its addresses as real ones of the kernel.
        let number = side.host_number();
        for (address, interface) in [
            (format!("192.0.2.{number}/24"), "wan"),
            (format!("10.9.0.{number}/24"), "lan"),
        ] {
            let namespace = self.ns(side.name());
            let _ = Command::new("ip")
                .args(["-n", &namespace, "addr", "add", &address, "dev", interface])
                .stderr(Stdio::null())
                .status();
        }
        let conf = self.path(&format!("keepalived-{}.conf", side.name()));
        fs::write(&conf, keepalived_conf(priority, centiseconds)).expect("a writable directory");
        self.keepalived_with(side, &conf)
    }

    /// Starts keepalived with this configuration.
    fn keepalived_with(&self, side: Side, conf: &Path) -> Router {
        let pid = |kind: &str| {
            let path = self.path(&format!("{kind}-{}.pid", side.name()));
            let _ = fs::remove_file(&path); // of one that was killed
            path.display().to_string()
        };
        self.start(
            side,
            &[
                "keepalived",
                "--dont-fork",
                "--log-console",
                "--log-detail",
                "--vrrp",
                "--use-file",
                &conf.display().to_string(),
                "--pid",
                &pid("parent"),
                "--vrrp_pid",
                &pid("vrrp"),
            ],
        )
    }

    /// Starts zebra and vrrpd of FRR with this configuration.
    fn frr_with(&self, side: Side, conf: &Path) -> Router {
        let directory = self.path("frr");
        fs::create_dir_all(&directory).expect("a writable directory");
        // The daemons have a user of their own.
        for (path, mode) in [
            (self.directory.path(), 0o755),
            (&directory, 0o777),
            (conf, 0o644),
        ] {
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(path, permissions).expect("our own file");
        }
        let script = "cd $1 && rm -f * && touch zebra.conf && chmod 644 zebra.conf && \
             options='-u frr -g frr -P 0 -z zserv --vty_socket . --log stdout'
             /usr/lib/frr/zebra $options -i zebra.pid -f $1/zebra.conf &
             while ! test -S zserv; do sleep 0.02; done
             exec /usr/lib/frr/vrrpd $options -i vrrpd.pid -f $2";
        let (directory, conf) = (directory.display().to_string(), conf.display().to_string());
        self.start(side, &["sh", "-c", script, "sh", &directory, &conf])
    }

    /// Whether a namespace's interface has IPv6.
    fn speak_ipv6(&self, namespace: &str, interface: &str, speaks: bool) {
        let off = if speaks { "0" } else { "1" };
        let space = self.space(namespace);
        for setting in ["accept_dad=0".to_owned(), format!("disable_ipv6={off}")] {
            let setting = format!("net.ipv6.conf.{interface}.{setting}");
            space
                .run("sysctl", &["-qw", &setting], "")
                .expect("root may");
        }
    }

    /// Gives a namespace's kernel an address.
    fn add(&self, namespace: &str, address: &str, interface: &str) {
        let no_dad = if address.contains(':') { " nodad" } else { "" };
        let line = format!("addr add {address} dev {interface}{no_dad}");
        self.space(namespace).ip(&line).expect("a new address");
    }

    /// Takes all addresses from it.
    fn flush(&self, namespace: &str, interface: &str) {
        let line = format!("addr flush dev {interface}");
        self.space(namespace).ip(&line).expect("an interface");
    }

    fn delete_link(&self, namespace: &str, link: &str) {
        let _ = self.space(namespace).ip(&format!("link del {link}")); // it may not be there
    }

    /// Lets the routers' WAN cables lead to everybody but each other, or to each other again.
    pub fn split(&self, split: bool) {
        let on = if split { "on" } else { "off" };
        for side in [Side::Left, Side::Right] {
            let line = format!(
                "link set {}-wan type bridge_slave isolated {on}",
                side.name()
            );
            self.space("switch").ip(&line).expect("a port of a bridge");
        }
    }

    /// Hears who advertises on the WAN.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(self.space("switch"))
    }

    /// Gives the client an address of IPv6.
    pub fn client_speaks_ipv6(&self) {
        self.speak_ipv6("client", "eth0", true);
        self.add("client", "2001:db8::100/64", "eth0");
    }

    fn start(&self, side: Side, command: &[&str]) -> Router {
        let log = self.path(&format!("{}.log", side.name()));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a writable directory");
        let before = out.metadata().map_or(0, |data| data.len()) as usize;
        let namespace = self.ns(side.name());
        let child = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .args(command)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle"))
            .stderr(out)
            .spawn()
            .expect("ip netns exec starts");
        Router {
            child,
            namespace,
            log,
            before,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// MAC address that answers ARP for `address` when asked from `namespace`; `None` if nobody answers.
    #[must_use]
    pub fn resolve(&self, namespace: &str, address: Ipv4Addr) -> Option<String> {
        let namespace = self.ns(namespace);
        let address = address.to_string();
        run(Command::new("ip")
            .args(["-n", &namespace, "neigh", "flush", "dev", "eth0"])
            .stderr(Stdio::null()));
        let ping = [
            "netns", "exec", &namespace, "ping", "-q", "-c1", "-W1", &address,
        ];
        let _ = Command::new("ip")
            .args(ping)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let out = Command::new("ip")
            .args(["-n", &namespace, "neigh", "show", &address])
            .output()
            .expect("ip neigh runs");
        let text = String::from_utf8_lossy(&out.stdout);
        text.split_whitespace()
            .skip_while(|word| *word != "lladdr")
            .nth(1)
            .map(str::to_owned)
    }

    /// Whether one echo request from `namespace` to `address` is answered within a second.
    #[must_use]
    pub fn ping(&self, namespace: &str, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        let namespace = self.ns(namespace);
        let ping = [
            "netns",
            "exec",
            &namespace,
            "ping",
            "-q",
            "-c1",
            "-W1",
            &address.to_string(),
        ];
        Command::new("ip")
            .args(ping)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

/// A running router; killed with its children when dropped.
#[derive(Debug)]
pub struct Router {
    child: Child,
    namespace: String,
    log: PathBuf,
    /// Bytes of the log that earlier ones wrote.
    before: usize,
}

impl Router {
    /// Asks for an orderly end (SIGTERM) and waits for it.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// Power loss: the namespace's processes die at once and say nothing more.
    pub fn power_off(mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Asks it to read its configuration again.
    fn reload(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Everything the router has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let own = bytes.get(self.before..).unwrap_or_default();
        String::from_utf8_lossy(own).into_owned()
    }

    /// Every process in the router's namespace gets the signal, so that keepalived's child dies as well.
    fn signal(&self, signal: Signal) {
        let out = Command::new("ip")
            .args(["netns", "pids", &self.namespace])
            .output();
        let Ok(out) = out else { return };
        for pid in String::from_utf8_lossy(&out.stdout)
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
        {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After 20 seconds, with `what` and the routers' logs.
pub fn wait_until(what: &str, routers: &[&Router], mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > Duration::from_secs(20) {
            let logs: Vec<String> = routers
                .iter()
                .map(|router| format!("--- {}\n{}", router.namespace, router.log()))
                .collect();
            panic!("never happened: {what}\n{}", logs.join("\n"));
        }
        sleep(Duration::from_millis(20));
    }
}

/// The MAC address that RFC 9568 §7.3 gives a virtual router, as `ip neigh` writes it.
#[must_use]
pub fn virtual_mac(vrid: u8) -> String {
    mac_text([0, 0, 0x5e, 0, 1, vrid])
}

/// MAC address of a router's own interface, as `ip neigh` writes it.
#[must_use]
pub fn own_mac(side: Side, lan: bool) -> String {
    mac_text(side.mac(lan))
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// An appliance in a router's place, without rules and services.
#[must_use]
pub fn config(side: Side, priority: u8, centiseconds: u16) -> Config {
    let interface = |name: &str, port: u8, network: [u8; 3]| Interface {
        name: Name::try_from(name).expect("a short name"),
        port,
        vlan: None,
        mac: side.mac(port == 1),
        address: Ipv4Addr::new(network[0], network[1], network[2], side.host_number()),
        prefix: 24,
        ..Interface::default()
    };
    let router = |port: u8, address: Ipv4Addr| VirtualRouter {
        advertisement_interval: centiseconds,
        // The only form that keepalived takes before 2.3.3.
        checksum: Checksum::PseudoHeader,
        ..VirtualRouter::new(port, WAN_VRID + port, [address.into()])
    };
    Config {
        name: Name::try_from(side.name()).expect("a short name"),
        interfaces: [
            interface("wan", 0, [192, 0, 2]),
            interface("lan", 1, [10, 9, 0]),
        ]
        .into_iter()
        .collect(),
        routers: [router(0, WAN_VIRTUAL), router(1, LAN_VIRTUAL)]
            .into_iter()
            .collect(),
        availability: Availability {
            priority,
            ..Availability::default()
        },
        ..Config::default()
    }
}

fn keepalived_conf(priority: u8, centiseconds: u16) -> String {
    let instance = |name: &str, vrid: u8, address: Ipv4Addr| {
        format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface {name}
    virtual_router_id {vrid}
    priority {priority}
    advert_int {}
    virtual_ipaddress {{
        {address}/24
    }}
}}
",
            f64::from(centiseconds) / 100.0
        )
    };
    format!(
        "global_defs {{
    vrrp_version 3
    vrrp_garp_master_refresh 0
}}
vrrp_sync_group both {{
    group {{
        wan
        lan
    }}
}}
{}{}",
        instance("wan", WAN_VRID, WAN_VIRTUAL),
        instance("lan", WAN_VRID + 1, LAN_VIRTUAL)
    )
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let status: io::Result<_> = command.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}"
    );
}
