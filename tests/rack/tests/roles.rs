//! What the servers' roles promise, asked of the example site with IPv6 in every network: linux appliances, and every
//! server's real root as a container. Needs root; builds the images if they are not cached.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rehearse::Version;
use rehearse::rack::Rack;
use site::plan::{Action, Party, Server, Traffic, ports};
use site::{Boards, Plan};

#[test]
fn servers_do_what_their_roles_promise_and_nothing_else() {
    let site = Site::new();
    site.tells_everybody_who_the_client_is();
    site.refuses_what_is_no_request_for_it();
    site.nothing_else_is_reached();
    site.says_by_agent_and_check_that_it_has_no_web_server();
    site.stops_a_balancer_in_good_order_and_forgets_no_client();
}

/// What is in the images, before anything runs: nothing that somebody could become another with, or build something with, no
/// password, and for every daemon a sandbox of which systemd says that it is one.
#[test]
fn images_have_nothing_to_climb_on() {
    let plan = plan();
    let state = tempfile::tempdir().expect("temporary directory");
    let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
    let (bodies, _) = rack_test::light(&plan, program, state.path());
    let mut seen = BTreeSet::new();
    for (name, body) in bodies.servers {
        let rehearse::ServerBody::Light { root, .. } = body else {
            panic!("{name} is a container");
        };
        let role = plan.server(&name).expect("a server").role;
        if !seen.insert(role) {
            continue;
        }
        let role = role.name();
        let find = |arguments: &[&str]| {
            let output = Command::new("find")
                .arg(&root)
                .arg("-xdev")
                .args(arguments)
                .output();
            String::from_utf8(output.expect("find runs").stdout).expect("text")
        };
        assert_eq!(find(&["-type", "f", "-perm", "/6000"]), "", "{role}");
        let keys = root.join("etc/apt/trusted.gpg.d");
        assert!(
            !keys.exists() || find(&["-path", "*/trusted.gpg.d/*", "-perm", "/022"]).is_empty(),
            "{role}"
        );
        for tool in [
            "cc", "gcc", "clang", "as", "ld", "make", "tcc", "go", "rustc",
        ] {
            assert!(
                !root.join("usr/bin").join(tool).exists(),
                "{role} has {tool}"
            );
        }
        let shadow = std::fs::read_to_string(root.join("etc/shadow")).expect("accounts");
        for line in shadow.lines() {
            let password = line.split(':').nth(1).expect("a password");
            assert!(password.starts_with(['*', '!']), "{role}: {line}");
        }
        for (unit, most) in EXPOSURE {
            if !root.join("usr/lib/systemd/system").join(unit).exists() {
                continue;
            }
            let output = Command::new("chroot")
                .arg(&root)
                .args([
                    "systemd-analyze",
                    "security",
                    "--offline=true",
                    "--no-pager",
                ])
                .arg(format!("--threshold={most}"))
                .arg(unit)
                .output()
                .expect("chroot runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{role}, {unit}: {text}");
        }
    }
}

/// The most that `systemd-analyze security` may say of a unit, times ten: 100 is no protection at all.
const EXPOSURE: [(&str, u32); 7] = [
    ("haproxy.service", 30),
    ("nginx.service", 30),
    ("demo-app.service", 20),
    ("mariadb.service", 35),
    ("prometheus.service", 20),
    ("prometheus-node-exporter.service", 20),
    ("systemd-networkd.service", 35),
];

struct Site {
    // In the order in which they end.
    rack: Rack,
    plan: Plan,
    authority: PathBuf,
    _state: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let plan = plan();
        let state = tempfile::tempdir().expect("temporary directory");
        let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
        let (bodies, authority) = rack_test::light(&plan, program, state.path());
        let local = [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ];
        let listeners = local.map(|local| TcpListener::bind((local, 0)).expect("a free port"));
        let mut rack = Rack::new(&plan, listeners.into(), state.path()).expect("rack");
        for (name, body) in &bodies.appliances {
            rack.start_appliance(name, body).expect("appliance starts");
        }
        for (name, body) in &bodies.servers {
            rack.start_server(name, body).expect("server starts");
        }
        let site = Self {
            rack,
            plan,
            authority,
            _state: state,
        };
        site.wait_until_serving();
        site
    }

    /// Until both balancers can serve. Nobody asks twice: who asks too often is not answered.
    fn wait_until_serving(&self) {
        for address in 1..=250 {
            let answers = [v4, v6].map(|version| self.get(version(address), "/", &[]).status);
            let able = ["lb1", "lb2"].map(|name| self.agent(name));
            if answers == [200, 200] && able.iter().all(|words| words == "ready up 100%") {
                return;
            }
            if address == 250 {
                panic!("{answers:?} {able:?}");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The application and all logs know the user, whatever the user says.
    fn tells_everybody_who_the_client_is(&self) {
        let lies = [
            "X-Forwarded-For: 192.0.2.1",
            "X_Forwarded_For: 192.0.2.2",
            "X-Real-IP: 192.0.2.3",
            "Forwarded: for=192.0.2.4",
            "X-Forwarded-Host: evil.example",
        ];
        let lies: Vec<&str> = lies.iter().flat_map(|lie| ["--header", lie]).collect();
        for (user, path) in [(v4(0x99), "/whoami-4"), (v6(0x99), "/whoami-6")] {
            let answer = self.get(user, path, &lies);
            assert_eq!(answer.status, 404, "{answer:?}");
            for name in ["strict-transport-security", "x-content-type-options"] {
                assert!(answer.head.contains(name), "{name}: {answer:?}");
            }
            for servers in [["web1", "web2"], ["app1", "app2"]] {
                let logs = rack_test::logged(&self.rack, servers, path);
                assert!(
                    logs.contains(&user.to_string()),
                    "{user} in {servers:?}: {logs}"
                );
                assert!(!logs.contains("192.0.2."), "{servers:?}: {logs}");
            }
        }
    }

    fn refuses_what_is_no_request_for_it(&self) {
        let long = format!("/{}", "x".repeat(9000));
        let large = "x".repeat(2 << 20);
        let file = self._state.path().join("large");
        std::fs::write(&file, large).expect("written");
        let large = format!("@{}", file.display());
        for (status, path, more) in [
            (421, "/", &["--header", "Host: evil.example"][..]),
            (405, "/", &["--request", "TRACE"]),
            (414, &long, &[]),
            (
                413,
                "/counter",
                &["--header", "Expect:", "--data-binary", &large],
            ),
        ] {
            let answer = self.get(v4(0x98), path, more);
            assert_eq!(answer.status, status, "{more:?}: {answer:?}");
        }
        let plain = self.ask(v4(0x98), 80, "http", "/a?b=c", &[]);
        assert_eq!(plain.status, 301, "{plain:?}");
        let place = format!("location: https://{}/a?b=c", self.plan.domain);
        assert!(plain.head.contains(&place), "{plain:?}");
    }

    /// From every tier, past its own firewall, exactly the plan's flows open something. What listens otherwise is on the
    /// loopback.
    fn nothing_else_is_reached(&self) {
        let mut known: BTreeSet<u16> = SPREAD.into();
        for server in &self.plan.servers {
            for (address, port) in self.listeners(server) {
                if address.is_loopback() {
                    continue;
                }
                known.insert(port);
                let flows = self.plan.flows.iter().filter(|flow| {
                    let here = self.plan.addresses_in(&flow.to, server).next().is_some();
                    here && covers(&flow.traffic, port)
                });
                assert!(flows.count() > 0, "{} listens on {port}", server.name);
            }
        }
        let targets: Vec<(&Server, IpAddr)> = (self.plan.servers.iter())
            .flat_map(|server| server.addresses().map(move |address| (server, address)))
            .collect();
        let mut seen = BTreeSet::new();
        let first = |server: &&Server| seen.insert(server.network.clone());
        for from in self.plan.servers.iter().filter(first) {
            self.inside(from, &["nft", "flush", "ruleset"]);
            let others = targets
                .iter()
                .filter(|(server, _)| server.name != from.name);
            let (mut knocks, mut expected) = (Vec::new(), BTreeSet::new());
            for (to, address) in others {
                for port in &known {
                    for transport in ["tcp", "udp"] {
                        knocks.push(format!("{transport} {}", SocketAddr::new(*address, *port)));
                    }
                    if self.may(from, to, *port) {
                        expected.insert(format!("tcp {}", SocketAddr::new(*address, *port)));
                    }
                }
            }
            let knock = |at: Vec<&str>| {
                let command = [&[env!("CARGO_BIN_EXE_rack-probe")], at.as_slice()].concat();
                let open = String::from_utf8(self.inside(from, &command).stdout).expect("text");
                open.lines().map(str::to_owned).collect::<BTreeSet<_>>()
            };
            let mut open = knock(knocks.iter().map(String::as_str).collect());
            // A busy machine may not find its neighbours in time when hundreds of packets wait for that.
            let missed: Vec<&str> = expected.difference(&open).map(String::as_str).collect();
            if !missed.is_empty() {
                let found = knock(missed);
                open.extend(found);
            }
            self.run(&from.name, &["nft", "-f", "/etc/nftables.conf"]);
            let surplus: Vec<_> = open.difference(&expected).collect();
            let lacking: Vec<_> = expected.difference(&open).collect();
            assert!(
                surplus.is_empty() && lacking.is_empty(),
                "from {}: open {surplus:?}, closed {lacking:?}",
                from.name
            );
        }
    }

    fn may(&self, from: &Server, to: &Server, port: u16) -> bool {
        self.plan.flows.iter().any(|flow| {
            flow.action == Action::Accept
                && flow.from != Party::Appliances
                && (self.plan.servers_in(&flow.from)).any(|server| server.name == from.name)
                && self.plan.addresses_in(&flow.to, to).next().is_some()
                && covers(&flow.traffic, port)
        })
    }

    fn says_by_agent_and_check_that_it_has_no_web_server(&self) {
        for web in ["web1", "web2"] {
            self.run(web, &["systemctl", "stop", "nginx"]);
        }
        self.wait_for("no web server", || {
            (self.agent("lb1"), self.health("lb1")) == ("ready down".into(), 503)
        });
        self.run("web1", &["systemctl", "start", "nginx"]);
        self.wait_for("one web server", || {
            (self.agent("lb1"), self.health("lb1")) == ("ready up 50%".into(), 200)
        });
        self.run("web2", &["systemctl", "start", "nginx"]);
        self.wait_for("both web servers", || self.agent("lb1") == "ready up 100%");
        self.wait_for("users are served", || {
            self.get(v4(0xfe), "/", &[]).status == 200
        });
    }

    /// A client that has had its share on lb1 has none left on lb2; others do not notice the change.
    fn stops_a_balancer_in_good_order_and_forgets_no_client(&self) {
        for greedy in [v4(0x97), v6(0x97)] {
            let count = format!("/[1-{}]", 2 * LIMIT);
            let codes = self.statuses(greedy, &count);
            let served = codes.iter().filter(|code| **code == 404).count();
            assert_eq!(served, LIMIT, "{codes:?}");
            assert_eq!(codes.last(), Some(&429), "{codes:?}");
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let users = scope.spawn(|| {
                let mut answers = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let address = u16::try_from(answers.len() % 100).expect("small");
                    answers.push(self.get(v4(address), "/", &[]));
                }
                answers
            });
            self.run("lb1", &["systemctl", "stop", "haproxy"]);
            std::thread::sleep(Duration::from_secs(3));
            stop.store(true, Ordering::Relaxed);
            let answers = users.join().expect("users");
            let lost = answers.iter().filter(|answer| answer.status != 200);
            let lost: Vec<_> = lost.collect();
            assert!(lost.is_empty(), "of {}: {lost:#?}", answers.len());
            println!("{} requests while lb1 stopped", answers.len());
        });
        for (client, status) in [
            (v4(0x97), 429),
            (v6(0x97), 429),
            // The same prefix of 64 bits.
            (
                Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0x97, 1, 2, 3, 4).into(),
                429,
            ),
            (v4(0x96), 200),
            (v6(0x96), 200),
        ] {
            let answer = self.get(client, "/", &[]);
            assert_eq!(answer.status, status, "{client}: {answer:?}");
            let told = answer.head.contains("retry-after: 60");
            assert_eq!(told, status == 429, "{client}: {answer:?}");
        }
        self.run("lb1", &["systemctl", "start", "haproxy"]);
        self.wait_for("lb1 is back", || self.agent("lb1") == "ready up 100%");
    }

    fn wait_for(&self, what: &str, mut come: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !come() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What HAProxy's agent says, heard on its own machine.
    fn agent(&self, server: &str) -> String {
        let server = self.plan.server(server).expect("a server");
        let talk = format!(
            "exec 3<>/dev/tcp/{}/{} && cat <&3",
            server.address,
            ports::HAPROXY_AGENT
        );
        let output = self.inside_or_not(server, &["timeout", "5", "bash", "-c", &talk]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn health(&self, server: &str) -> u16 {
        let server = self.plan.server(server).expect("a server");
        let url = format!("http://{}:{}/health", server.address, ports::HAPROXY_HEALTH);
        let output = self.inside_or_not(
            server,
            &["curl", "--silent", "--include", "--max-time", "5", &url],
        );
        Answer::read(&output).status
    }

    /// What listens on a server, by the table of its kernel.
    fn listeners(&self, server: &Server) -> BTreeSet<(IpAddr, u16)> {
        let output = self.inside(
            server,
            &[
                "ss",
                "--no-header",
                "--listening",
                "--tcp",
                "--udp",
                "--numeric",
            ],
        );
        let text = String::from_utf8(output.stdout).expect("text");
        let local = |line: &str| {
            let word = line.split_whitespace().nth(4)?;
            let (address, port) = word.rsplit_once(':')?;
            let address = address.split('%').next()?.trim_matches(['[', ']']);
            let address = if address == "*" { "::" } else { address };
            Some((address.parse().ok()?, port.parse().ok()?))
        };
        let listeners: BTreeSet<_> = text.lines().map(|line| local(line).expect(line)).collect();
        assert!(!listeners.is_empty(), "{}: {text}", server.name);
        listeners
    }

    /// Runs a command of this machine in a server's network.
    fn inside(&self, server: &Server, command: &[&str]) -> Output {
        let output = self.inside_or_not(server, command);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", server.name);
        output
    }

    fn inside_or_not(&self, server: &Server, command: &[&str]) -> Output {
        let machine = self.rack.machine(&server.name);
        machine
            .expect("it was started")
            .inside(command)
            .expect("it runs")
    }

    /// Runs a command of a server on it.
    fn run(&self, server: &str, command: &[&str]) -> String {
        let machine = self.rack.machine(server);
        let output = machine
            .expect("it was started")
            .run(command)
            .expect("it runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{server} {command:?}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn get(&self, from: IpAddr, path: &str, more: &[&str]) -> Answer {
        self.ask(from, 443, "https", path, more)
    }

    /// A user asks the site.
    fn ask(&self, from: IpAddr, port: u16, scheme: &str, path: &str, more: &[&str]) -> Answer {
        let mut arguments = vec!["--include"];
        arguments.extend(more);
        Answer::read(&self.curl(from, port, scheme, path, &arguments))
    }

    /// The statuses of many requests on one connection.
    fn statuses(&self, from: IpAddr, paths: &str) -> Vec<u16> {
        let format = ["--output", "/dev/null", "--write-out", "%{http_code}\n"];
        let output = self.curl(from, 443, "https", paths, &format);
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines()
            .map(|code| code.parse().expect("a status"))
            .collect()
    }

    fn curl(&self, from: IpAddr, port: u16, scheme: &str, path: &str, more: &[&str]) -> Output {
        let version = Version::of(from);
        let mut uplinks = self.rack.uplinks().iter();
        let uplink = uplinks.find(|uplink| Version::of(uplink.local().ip()) == version);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let local = listener.local_addr().expect("an address");
        let site: IpAddr = match version {
            Version::V4 => VIRTUAL.into(),
            Version::V6 => VIRTUAL6.into(),
        };
        let to = SocketAddr::new(site, port);
        uplink
            .expect("both versions")
            .open(listener, from, to)
            .expect("a way");
        let (domain, local_port) = (&self.plan.domain, local.port());
        Command::new("curl")
            .args(["--silent", "--max-time", "20", "--cacert"])
            .arg(&self.authority)
            .args(["--resolve", &format!("{domain}:{local_port}:127.0.0.1")])
            .args(more)
            .arg(format!("{scheme}://{domain}:{local_port}{path}"))
            .output()
            .expect("curl runs")
    }
}

/// What curl got: 0 is no answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
}

impl Answer {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        let status = head.split_whitespace().nth(1);
        Self {
            status: status.and_then(|word| word.parse().ok()).unwrap_or(0),
            head: head.to_lowercase(),
        }
    }
}

fn covers(traffic: &Traffic, port: u16) -> bool {
    match traffic {
        Traffic::Any => true,
        Traffic::Tcp(ports) | Traffic::Udp(ports) => {
            let mut ranges = ports.destination.iter();
            ports.destination.is_empty() || ranges.any(|range| range.range().contains(&port))
        }
        Traffic::Ping | Traffic::Icmp(_) | Traffic::Icmp6(_) | Traffic::Number(_) => false,
    }
}

/// The example on linux appliances, with IPv6 and a limit that a test can reach.
fn plan() -> Plan {
    let mut text = String::new();
    for line in include_str!("../../../examples/foobar/site.toml").lines() {
        text += &format!("{line}\n");
        if line.starts_with("uplink = ") {
            text += "subnet6 = \"2001:db8:0:1::/64\"\nuplink6 = \"fe80::1\"\n";
        }
        if let Some(network) = line.strip_prefix("virtual = \"10.20.") {
            text += &format!("subnet6 = \"2001:db8:0:2{}::/64\"\n", &network[..1]);
        }
    }
    text += &format!("[http]\nrate_limit = \"{LIMIT}/60s\"\n");
    site::parse_on_board("site.toml", &text, &Boards::new([("linux", 2)]), "linux")
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A user.
fn v4(number: u16) -> IpAddr {
    let [_, last] = number.to_be_bytes();
    Ipv4Addr::new(198, 51, 100, last).into()
}

/// The same with IPv6, in a network of its own.
fn v6(number: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, number, 0, 0, 0, 7).into()
}

const VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const VIRTUAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10);
/// Requests of one client in a minute.
const LIMIT: usize = 30;
/// Ports that nobody should listen on, besides those where somebody does.
const SPREAD: [u16; 16] = [
    21, 22, 23, 25, 53, 111, 123, 514, 631, 2049, 5355, 5432, 6379, 8000, 11211, 65535,
];
/// Until something has been noticed.
const PATIENCE: Duration = Duration::from_secs(60);
