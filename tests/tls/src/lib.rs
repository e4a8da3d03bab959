//! The servers of a small site as containers, each with what its image would get, and impostors among them.

#![forbid(unsafe_code)]

pub mod impostor;
pub mod peer;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use build::HostFile;
use build::pki::Pki;
use netns::Namespace;
use nix::sched::{CloneFlags, setns};
use rehearse::cgroup::Cgroup;
use rehearse::light;
use rehearse::process::Process;
use site::plan::{Role, Server};
use site::{Boards, Plan};
use tempfile::TempDir;

/// One server of each role, behind a router in place of the appliances.
pub struct Stack {
    /// The site.
    pub plan: Plan,
    /// Its certificates.
    pub pki: Pki,
    machines: BTreeMap<String, Machine>,
    router: Namespace,
    state: TempDir,
}

/// A running container; the fields end in this order.
struct Machine {
    container: Process,
    namespace: Process,
    _cgroup: Cgroup,
}

/// Where users are.
const USER: &str = "198.51.100.7";
/// How long anything may take: the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(240);

impl Stack {
    /// Builds what is not cached and starts all servers. Needs root.
    ///
    /// # Panics
    /// If anything of that fails.
    #[must_use]
    pub fn start() -> Self {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "containers need root"
        );
        let plan = plan();
        let state = tempfile::tempdir().expect("a directory");
        let pki = build::pki::open(state.path(), &plan).expect("certificates");
        let places = image_test::places(state.path());
        let images = build::images(&places, &plan, &pki, &build::Options::default(), &|_| {});
        let router = Namespace::new(netns::prefix("rvtls")).expect("root and iproute2");
        router.ip("link set lo up").expect("a loopback");
        let user = format!("address add {USER}/32 dev lo");
        router.ip(&user).expect("an address");
        router
            .run("sysctl", &["-qw", "net.ipv4.ip_forward=1"], "")
            .expect("a router");
        let mut stack = Self {
            plan,
            pki,
            machines: BTreeMap::new(),
            router,
            state,
        };
        for image in images.expect("images") {
            let server = stack.server(&image.server).clone();
            let files: Vec<HostFile> = image.host_files.into_iter().map(impatient).collect();
            let machine = stack.boot(&server, &image.root_tree, &files);
            stack.machines.insert(image.server, machine);
        }
        stack
    }

    /// A server of the site.
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn server(&self, name: &str) -> &Server {
        self.plan.server(name).expect("a server of the site")
    }

    /// Where the site's files are.
    #[must_use]
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Runs `work` where the server's network is; without a name, where users are.
    ///
    /// # Panics
    /// If `work` does.
    pub fn within<T: Send>(&self, name: Option<&str>, work: impl FnOnce() -> T + Send) -> T {
        let Some(name) = name else {
            return self.router.enter(work).expect("a namespace");
        };
        let door = self.door(name);
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(door, CloneFlags::CLONE_NEWNET).expect("root may enter");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The network of a server, for a thread that will enter it.
    ///
    /// # Panics
    /// If it is gone.
    #[must_use]
    pub fn door(&self, name: &str) -> File {
        let holder = self.machines[name].namespace.id();
        File::open(format!("/proc/{holder}/ns/net")).expect("it runs")
    }

    /// Runs a command in the container and gives back what it said.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, name: &str, command: &[&str]) -> String {
        let init = self.init(name).to_string();
        let output = Command::new("nsenter")
            .args(["--target", &init, "--all"])
            .args(command)
            .output()
            .expect("nsenter");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{name}: {command:?}: {said}{errors}"
        );
        said
    }

    /// Gives a running server those of these files that are certificates, as its update agent does.
    ///
    /// # Panics
    /// If it is not possible.
    pub fn replace(&self, name: &str, files: &[HostFile]) {
        let root = PathBuf::from(format!("/proc/{}/root", self.init(name)));
        let file = |file: &HostFile| update::File {
            path: file.path.clone(),
            mode: file.mode,
            bytes: file.bytes.clone(),
        };
        let identity = update::Identity {
            role: self.server(name).role.name().to_owned(),
            server: name.to_owned(),
            files: files.iter().map(file).collect(),
        };
        let changed = update::certificates::lay(&root, &identity).expect("written");
        assert!(changed > 0, "{name}: nothing is new");
    }

    /// What a server's image gets now.
    ///
    /// # Panics
    /// If it cannot be rendered.
    #[must_use]
    pub fn files(&self, name: &str) -> Vec<HostFile> {
        let server = self.server(name);
        render::server::files(&self.plan, server, &self.pki.material(server)).expect("files")
    }

    /// The end of a container's console.
    #[must_use]
    pub fn console(&self, name: &str) -> String {
        self.machines[name].container.tail()
    }

    /// The container's first process: the one in its network that is number 1 of its own kind.
    fn init(&self, name: &str) -> u32 {
        let network = |id: u32| fs::read_link(format!("/proc/{id}/ns/net")).ok();
        let wanted = network(self.machines[name].namespace.id());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let processes = fs::read_dir("/proc").expect("processes");
            let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            let mut inits = ids.filter(|id| network(*id) == wanted && is_first(*id));
            if let Some(id) = inits.next() {
                return id;
            }
            assert!(Instant::now() < deadline, "{name}: {}", self.console(name));
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn boot(&self, server: &Server, root: &Path, files: &[HostFile]) -> Machine {
        let name = &server.name;
        let at = |end: &str| self.state.path().join(format!("{name}.{end}"));
        light::write_host_files(&at("etc"), files).expect("files");
        let namespace = light::namespace(&at("net")).expect("a namespace");
        let network = self.plan.network(&server.network).expect("a network");
        let (gateway, subnet) = (network.virtual_address, network.subnet);
        let length = subnet.prefix_len();
        let mac = server.mac.map(|byte| format!("{byte:02x}")).join(":");
        let holder = namespace.id();
        let lines = format!(
            "link add {name} type veth peer name host-{name} address {mac}\n\
             link set host-{name} netns {holder}\n\
             address add {gateway}/{length} dev {name}\nlink set {name} up\n\
             route replace {subnet} dev {name} src {USER}\n"
        );
        self.router.ip_all(&lines).expect("a cable");
        let cgroup = Cgroup::new(&format!("ravelin-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(at("disk")).expect("a disk");
        let line = light::container(name, root, &at("etc"), &at("disk"), &namespace, &cgroup);
        let container = Process::spawn(&line.program, &line.arguments, 0, &at("console"));
        Machine {
            container: container.expect("a container"),
            namespace,
            _cgroup: cgroup,
        }
    }
}

/// Prometheus asks more often than it would.
fn impatient(mut file: HostFile) -> HostFile {
    if file.path == "/etc/prometheus/prometheus.yml" {
        let text = String::from_utf8(file.bytes).expect("text");
        let often = text.replace("scrape_interval: 15s", "scrape_interval: 2s");
        file.bytes = often
            .replace("scrape_timeout: 10s", "scrape_timeout: 2s")
            .into_bytes();
    }
    file
}

/// Whether systemd runs as number 1 of a PID namespace.
fn is_first(id: u32) -> bool {
    let read =
        |file: &str| -> io::Result<String> { fs::read_to_string(format!("/proc/{id}/{file}")) };
    let first = read("status").is_ok_and(|status| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("NSpid:"));
        line.is_some_and(|ids| ids.split_whitespace().next_back() == Some("1"))
    });
    first && read("comm").is_ok_and(|name| name.trim() == "systemd")
}

/// The example site with one server of each role.
fn plan() -> Plan {
    let text = include_str!("../../../examples/foobar/site.toml");
    // One database needs no section about several.
    let more = [
        "lb2", "web2", "app2", "db2", "[db]", "mode", "arbiter", "backup",
    ];
    let is_second = |line: &&str| more.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = text.lines().filter(|line| !is_second(line)).collect();
    let boards = Boards::new([("linux", 2)]);
    site::parse_on_board("site.toml", &lines.join("\n"), &boards, "linux").expect("a good site")
}

/// The first server of a role.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn first(plan: &Plan, role: Role) -> &Server {
    plan.servers_of(role).next().expect("one of each role")
}

/// Waits for something that must happen.
///
/// # Panics
/// If it does not.
pub fn until(what: &str, mut happened: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(last) = happened() else { return };
        assert!(
            Instant::now() < deadline,
            "waited in vain until {what}: {last}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}
