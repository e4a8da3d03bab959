//! The example of both versions of IP on this machine: linux appliances, and every server's real root as a
//! container. Asked over both versions, before and after a take-over, for all that it offers and translates.
//! Needs root; builds the images if they are not cached.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rehearse::client::Client;
use rehearse::rack::Rack;
use rehearse::scenario::{self, Report, Scenario};
use rehearse::{Stop, Version};

#[test]
fn the_dual_stack_site_serves_translates_and_fails_over_on_both_versions() {
    let mut site = Site::new();
    site.offers_and_translates();
    site.serves_files_itself();
    site.believes_those_who_speak_for_others();

    let report = site.run(Scenario::KillActive);
    assert!(report.passed, "{report:#?}");
    let fault = report.fault.as_ref().expect("a fault");
    assert_eq!(fault.active_before.as_deref(), Some("gw1"));
    assert_eq!(fault.active_after.as_deref(), Some("gw2"));
    let versions: Vec<_> = report.users.iter().map(|users| users.ip).collect();
    assert_eq!(versions, [Version::V4, Version::V6]);
    for users in &report.users {
        println!("{users:#?}");
    }

    site.offers_and_translates();
    site.says_sorry();
}

/// The whole rack, in which somebody may be asked.
struct Site {
    // In the order in which they end.
    rack: Rack,
    clients: Vec<Client>,
    authority: PathBuf,
    _state: tempfile::TempDir,
}

impl Site {
    /// Brings it up until it answers over both versions.
    fn new() -> Self {
        let plan = rack_test::dualstack(MORE);
        let state = tempfile::tempdir().expect("temporary directory");
        let public = state.path().join("public");
        fs::create_dir(&public).expect("a directory");
        fs::write(public.join("logo-0123abcd.svg"), LOGO).expect("written");
        let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
        // Files are looked for where the site file would be.
        let (bodies, authority) = rack_test::light(&plan, program, &state.path().join(".ravelin"));
        let mut rack = Rack::new(&plan, listeners(), state.path()).expect("rack");
        for (name, body) in &bodies.appliances {
            rack.start_appliance(name, body).expect("appliance starts");
        }
        for (name, body) in &bodies.servers {
            rack.start_server(name, body).expect("server starts");
        }
        let local: Vec<_> = rack.uplinks().iter().map(|uplink| uplink.local()).collect();
        let client = |local| Client::new(local, &plan.domain, &authority, Duration::from_secs(15));
        let clients: Result<_, _> = local.into_iter().map(client).collect();
        let clients: Vec<Client> = clients.expect("clients");
        rack_test::wait_until_serving(&mut rack, &clients, PATIENCE);
        Self {
            rack,
            clients,
            authority,
            _state: state,
        }
    }

    fn run(&mut self, scenario: Scenario) -> Report {
        let settings = rack_test::settings(scenario, "light", &["lb1", "lb2"]);
        let (rack, stop) = (&mut self.rack, Stop::default());
        scenario::run(&settings, rack, &self.clients, &stop, &|_| {}).expect("it runs")
    }

    /// What the site has beside https.
    fn offers_and_translates(&self) {
        // The forwarded port, and the exporters behind one address: for the office only.
        for virtual_address in [VIRTUAL.into(), VIRTUAL6.into()] {
            let office = office(virtual_address);
            let prometheus = self.get(office, (virtual_address, 9090), "/-/ready");
            assert!(
                prometheus.contains("Prometheus Server is Ready"),
                "{prometheus}"
            );
            let exporter = self.get(office, (virtual_address, 9100), "/metrics");
            // It is reached, and tells nobody without a certificate of the monitor's.
            assert!(
                exporter.contains("HTTP request to an HTTPS server"),
                "{exporter}"
            );
            // Its check is another one than that of https, and may take longer.
            self.comes_to_answer(virtual_address, &["301 Moved Permanently"]);
            let stranger = self.attempt(user(virtual_address), (virtual_address, 9090), "/-/ready");
            assert!(stranger.is_err(), "{stranger:?}");
        }
        // Over IPv6 the outside knows servers by their own addresses.
        let figures = self.attempt(office(LB1.into()), (LB1.into(), 8405), "/metrics");
        assert_eq!(figures.expect("it listens"), "", "to whom speaks no TLS");
        let rejected = self.attempt(user(LB1.into()), (LB1.into(), 23), "/");
        let rejected = rejected.expect_err("there is no telnet").kind();
        assert_eq!(rejected, io::ErrorKind::ConnectionReset);

        // Mirrors see the virtual IPv4 address, a server's own IPv6 address, or the other prefix instead of a private one.
        for (server, mirror, seen) in [
            ("web1", "198.51.100.130", VIRTUAL.to_string()),
            ("web1", "2001:db8:9::80", "2001:db8:0:22::11".to_owned()),
            // fd00:20:3::11 in the other prefix, and a word that keeps checksums as they are (RFC 6296 §3.1).
            (
                "app1",
                "2001:db8:9::80",
                "2001:db8:0:23:cf47::11".to_owned(),
            ),
        ] {
            let answer = self.ask_from(server, mirror, 80, GET);
            let address = answer.lines().last().map(str::trim);
            assert_eq!(address, Some(&*seen), "{server} at {mirror}: {answer}");
        }
        // A service inside: the database answers, be it only that web1 has no account.
        let greeting = self.ask_from("web1", "10.20.4.1", 3306, "head -c 70 <&3");
        assert!(greeting.contains("MariaDB"), "{greeting}");
    }

    /// What is in the site file's directory comes from Nginx, and all else from the application.
    fn serves_files_itself(&self) {
        for virtual_address in [VIRTUAL.into(), VIRTUAL6.into()] {
            let way = self.way(user(virtual_address), (virtual_address, 443));
            let answer = self.curl(way, "/logo-0123abcd.svg");
            let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
            let head = head.to_lowercase();
            assert_eq!(body, LOGO);
            for line in [
                "content-type: image/svg+xml",
                "cache-control: public, max-age=31536000, immutable",
                "x-served-by: web",
                "strict-transport-security: ",
            ] {
                assert!(head.contains(line), "{line}: {head}");
            }
            assert!(!head.contains("x-app: "), "{head}");
            let way = self.way(user(virtual_address), (virtual_address, 443));
            let answer = self.curl(way, "/logo.svg").to_lowercase();
            assert!(
                answer.contains("404") && answer.contains("x-app: "),
                "{answer}"
            );
        }
    }

    /// A balancer in front of the site says by the PROXY protocol for whom it speaks; HAProxy says so to Nginx by the same
    /// protocol, and Nginx to the application. From others such words are no request.
    fn believes_those_who_speak_for_others(&self) {
        for (virtual_address, client, words, path) in [
            (
                VIRTUAL.into(),
                "198.51.100.201",
                "PROXY TCP4 198.51.100.201 203.0.113.10 40001 443\r\n",
                "/for-v4",
            ),
            (
                VIRTUAL6.into(),
                "2001:db8:c:7700::9",
                "PROXY TCP6 2001:db8:c:7700::9 2001:db8:0:1::10 40001 443\r\n",
                "/for-v6",
            ),
        ] {
            let way = |from| self.way(from, (virtual_address, 443));
            let balancer = hop(way(office(virtual_address)), words);
            let answer = self.curl(balancer, path).to_lowercase();
            assert!(
                answer.contains("404") && answer.contains("x-app: "),
                "{answer}"
            );
            for servers in [["web1", "web2"], ["app1", "app2"]] {
                let logs = rack_test::logged(&self.rack, servers, path);
                let told = format!("\"client\":\"{client}\"");
                assert!(logs.contains(&told), "{told} in {servers:?}: {logs}");
            }
            assert_eq!(self.curl(way(office(virtual_address)), "/mute"), "");
            assert_eq!(
                self.curl(hop(way(user(virtual_address)), words), "/lie"),
                ""
            );
            // What users say themselves counts for as little as ever.
            let own = user(virtual_address).to_string();
            let answer = self.curl(way(user(virtual_address)), &format!("{path}-own"));
            assert!(answer.to_lowercase().contains("x-app: "), "{answer}");
            let logs = rack_test::logged(&self.rack, ["web1", "web2"], &format!("{path}-own"));
            assert!(logs.contains(&own), "{own}: {logs}");
        }
    }

    /// A port of this machine that leads somewhere in the rack as if from an address in the Internet.
    fn way(&self, from: IpAddr, to: (IpAddr, u16)) -> SocketAddr {
        let version = Version::of(from);
        let mut uplinks = self.rack.uplinks().iter();
        let uplink = uplinks.find(|uplink| Version::of(uplink.local().ip()) == version);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let local = listener.local_addr().expect("an address");
        let opened = uplink
            .expect("both versions")
            .open(listener, from, to.into());
        opened.expect("a way");
        local
    }

    /// The answer by HTTPS, or nothing.
    fn curl(&self, way: SocketAddr, path: &str) -> String {
        let (domain, port) = (&self.rack.plan().domain, way.port());
        let output = Command::new("curl")
            .args(["--silent", "--include", "--http1.1", "--max-time", "20"])
            .arg("--cacert")
            .arg(&self.authority)
            .args(["--resolve", &format!("{domain}:{port}:127.0.0.1")])
            .arg(format!("https://{domain}:{port}{path}"))
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Nobody answers for http any more; the sorry server does. The HAProxy servers stay off.
    fn says_sorry(&mut self) {
        self.rack.power_off("lb1");
        self.rack.power_off("lb2");
        for virtual_address in [VIRTUAL.into(), VIRTUAL6.into()] {
            self.comes_to_answer(virtual_address, &["503", "X-Served-By: web1"]);
        }
    }

    /// Waits until who asks a virtual address by http is told all of these.
    fn comes_to_answer(&self, virtual_address: IpAddr, texts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.attempt(user(virtual_address), (virtual_address, 80), "/");
            let told = answer.as_ref().map_or("", String::as_str);
            if texts.iter().all(|text| told.contains(text)) {
                break;
            }
            assert!(Instant::now() < deadline, "{virtual_address}: {answer:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn get(&self, from: IpAddr, to: (IpAddr, u16), path: &str) -> String {
        let answer = self.attempt(from, to, path);
        answer.unwrap_or_else(|error| panic!("{from} asks {to:?} for {path}: {error}"))
    }

    /// Asks somebody in the rack from an address in the Internet.
    fn attempt(&self, from: IpAddr, to: (IpAddr, u16), path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.way(from, to))?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What a server reads from somebody in a conversation by bash, whose file 3 is the connection.
    fn ask_from(&self, server: &str, address: &str, port: u16, talk: &str) -> String {
        let machine = self.rack.machine(server);
        let script = format!("exec 3<>/dev/tcp/{address}/{port} && {talk}");
        let command = ["timeout", "10", "bash", "-c", &script];
        let output = machine
            .expect("it was started")
            .inside(&command)
            .expect("it runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{server} at {address}: {complaint}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A port of a balancer that leads on to another port, where it says these words first.
fn hop(to: SocketAddr, words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let local = listener.local_addr().expect("an address");
    std::thread::spawn(move || -> io::Result<()> {
        let (near, _) = listener.accept()?;
        let mut far = TcpStream::connect(to)?;
        far.write_all(words.as_bytes())?;
        let (mut from_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
        std::thread::spawn(move || io::copy(&mut from_near, &mut to_far));
        io::copy(&mut far, &mut &near)?;
        near.shutdown(Shutdown::Both)
    });
    local
}

/// A free port of this machine for each version of IP.
fn listeners() -> Vec<TcpListener> {
    let local = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    let listeners = local.map(|local| TcpListener::bind(SocketAddr::new(local, 0)));
    listeners
        .map(|listener| listener.expect("a free port"))
        .into()
}

/// Somebody of the office, who speaks the same version of IP.
fn office(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 5).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 5).into(),
    }
}

/// Somebody whom the site does not know.
fn user(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 77).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0xff00, 0, 0, 0, 7).into(),
    }
}

/// The office has a balancer of its own, and some files need no application.
const MORE: &str = r#"
[http]
proxy_protocol = true
accept_proxy = ["office"]

[nginx]
static = "public/"
"#;
const LOGO: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>\n";
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const VIRTUAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x10);
const LB1: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x21, 0, 0, 0, 0x11);
/// A request, and the five lines of its answer.
const GET: &str = "printf 'GET / HTTP/1.1\\r\\nHost: mirror\\r\\n\\r\\n' >&3 && head -n 5 <&3";
/// Until the whole rack serves, or has noticed a loss.
const PATIENCE: Duration = Duration::from_secs(180);
/// Who has not answered by then does not.
const ANSWER: Duration = Duration::from_secs(3);
