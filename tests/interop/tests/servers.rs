//! The appliance's health checks beside the servers they are made for: Nginx, HAProxy, MariaDB, dnsmasq, and the kernel.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use authority::Authority;
use interop::servers::{HOST, HOST6, host};
use interop::{Lab, Router, Side, WAN_VIRTUAL, config, wait_until};
use nix::sys::signal::Signal;
use policy::{Check, CheckKind, Config, Interface6, Server, Service, Text, Trust, VirtualRouter};
use rcgen::{Certificate, KeyPair};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appliance");

#[test]
fn web_servers_are_judged_by_their_status() {
    let lab = Lab::new();
    lab.give_host_ipv6();
    let nginx = || {
        lab.nginx(
            "listen 8080; listen [::]:8080;
             location = /health { if ($host != www.example.org) { return 421; } return 204; }
             location = /page { return 200 \"a page\"; }
             location = /busy { return 503; }",
        )
    };
    let running = nginx();
    let _haproxy = lab.haproxy(
        "defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend f
    bind :8081
    bind [::]:8081 v6only
    monitor-uri /health
    acl dead nbsrv(nginx) lt 1
    monitor fail if dead
    default_backend nginx
backend nginx
    option httpchk GET /page
    server one 10.9.0.100:8080 check inter 100 rise 1 fall 1
",
    );
    lab.listening(&[8080, 8081]);
    let ours = appliance(
        &lab,
        &[
            (http("/health"), 8080, false),
            (http("/busy"), 8080, false),
            (http("/health"), 8081, false),
            (http("/page"), 8081, false),
            (http("/health"), 8080, true),
            (http("/health"), 8081, true),
            (CheckKind::Tcp, 8080, true),
            (CheckKind::Ping, 0, true),
        ],
    );
    let log = Log::new(&ours);
    let (four, six) = (IpAddr::from(HOST), IpAddr::from(HOST6));
    log.wait(&format!("server {four}:8080 is healthy"));
    log.wait(&format!("server {four}:8080 is unhealthy: http status 503"));
    log.wait(&format!("server {four}:8081 is healthy"));
    log.wait(&format!("server [{six}]:8080 is healthy"));
    log.wait(&format!("server [{six}]:8081 is healthy"));
    log.wait(&format!("server {six} is healthy"));
    wait_until("the checks are answered in full", &[&ours], || {
        lab.nginx_access()
            .matches("\"GET /health HTTP/1.1\" 204")
            .count()
            > 20
    });
    assert!(
        !lab.nginx_access().contains(" 499 "),
        "nginx saw a request broken off"
    );

    // Nginx hangs: its kernel still accepts connections, and HAProxy's own check sees it as well.
    let log = Log::new(&ours);
    running.signal(Signal::SIGSTOP);
    log.wait(&format!(
        "server {four}:8080 is unhealthy: the answer was not complete in time"
    ));
    log.wait(&format!("server {four}:8081 is unhealthy: http status 503"));
    log.wait(&format!("server [{six}]:8080 is unhealthy: the answer"));
    let log = Log::new(&ours);
    running.signal(Signal::SIGCONT);
    log.wait(&format!("server {four}:8080 is healthy"));
    log.wait(&format!("server {four}:8081 is healthy"));
    log.wait(&format!("server [{six}]:8080 is healthy"));

    let log = Log::new(&ours);
    running.crash();
    log.wait(&format!(
        "server {four}:8080 is unhealthy: connection refused"
    ));
    log.wait(&format!(
        "server [{six}]:8080 is unhealthy: connection refused"
    ));
    let log = Log::new(&ours);
    let _running = nginx();
    log.wait(&format!("server {four}:8080 is healthy"));
}

#[test]
fn databases_are_judged_by_their_greeting() {
    let lab = Lab::new();
    // Our checks never log in: that must not make the database block us.
    let mariadb = lab.mariadb(&[
        "--skip-name-resolve",
        "--max-connect-errors=3",
        "--max-connections=10",
    ]);
    lab.listening(&[3306]);
    // On a busy machine a greeting takes its time: no answer would be another reason, and only the first one is said.
    let mut services = services(&[(CheckKind::Mysql, 3306, false)]);
    services[0].check.timeout_ms = 5000;
    let ours = lab.appliance_with(PROGRAM, Side::Left, &with(services));
    let log = Log::new(&ours);
    // MariaDB greets no host for which it has no account.
    log.wait("is unhealthy: the appliance may not connect, mysql error 1130");
    let log = Log::new(&ours);
    let socket = lab.file("x", "").replace("/x", "/mariadb.sock");
    let client = lab.daemon(
        "mariadb-client-core",
        &[
            "mariadb",
            "--no-defaults",
            "--user=root",
            "--socket",
            &socket,
            "-e",
            "CREATE USER 'check'@'10.9.0.%' ACCOUNT LOCK",
        ],
    );
    log.wait(&format!("server {HOST}:3306 is healthy"));
    drop(client);
    thread::sleep(Duration::from_secs(3));
    let log = Log::new(&ours);
    assert!(
        !ours.log().contains("mysql error 1129"),
        "{}",
        mariadb.log()
    );

    // Strangers take all connections there are.
    let strangers: Vec<TcpStream> = lab.within("host", || {
        let connect = |_| TcpStream::connect((HOST, 3306)).expect("the kernel accepts");
        (0..20).map(connect).collect()
    });
    log.wait("is unhealthy: too many connections, mysql error 1040");
    let log = Log::new(&ours);
    drop(strangers);
    log.wait(&format!("server {HOST}:3306 is healthy"));
}

#[test]
fn name_servers_are_judged_by_their_answer() {
    let lab = Lab::new();
    lab.give_host_ipv6();
    let dnsmasq = lab.dnsmasq("known.example", 5353);
    wait_until("dnsmasq has started", &[], || {
        dnsmasq.log().contains("started")
    });
    let name = |name| CheckKind::Dns {
        name: Text::try_from(name).expect("short"),
    };
    let ours = appliance(
        &lab,
        &[
            (name("www.known.example"), 5353, false),
            (name("www.known.example"), 5353, true),
            (name("other.example"), 5353, false),
        ],
    );
    let log = Log::new(&ours);
    log.wait(&format!("server {HOST}:5353 is healthy"));
    log.wait(&format!("server [{HOST6}]:5353 is healthy"));
    log.wait(&format!(
        "server {HOST}:5353 is unhealthy: refused, dns code 5"
    ));
    let log = Log::new(&ours);
    dnsmasq.crash();
    log.wait(&format!(
        "server {HOST}:5353 is unhealthy: no answer in time"
    ));
}

/// TLS 1.3 of OpenSSL, as Nginx and HAProxy use it, with certificates of both usual kinds; and certificates that are not good.
#[test]
fn web_servers_are_judged_by_their_certificate_and_status_over_tls() {
    let lab = Lab::new();
    lab.give_host_ipv6();
    let (ours, other) = (Authority::new(), Authority::new());
    let (p256, p384) = (
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    );
    let file = |name: &str, issued| lab.file(&format!("{name}.pem"), &pem(issued));
    let good256 = file("good256", ours.issue(NAME, p256, |_| {}));
    let good384 = file("good384", ours.issue(NAME, p384, |_| {}));
    let misnamed = file("misnamed", ours.issue("www.example.com", p256, |_| {}));
    let foreign = file("foreign", other.issue(NAME, p256, |_| {}));
    let expired = file(
        "expired",
        ours.issue(NAME, p256, |params| {
            params.not_before = rcgen::date_time_ymd(2024, 1, 1);
            params.not_after = rcgen::date_time_ymd(2025, 1, 1);
        }),
    );
    let running = lab.nginx(&format!(
        "listen 8443 ssl; listen [::]:8443 ssl; listen 8080; ssl_protocols TLSv1.2 TLSv1.3;
         ssl_certificate {good384}; ssl_certificate_key {good384};
         location = /health {{ if ($ssl_server_name != {NAME}) {{ return 421; }} return 204; }}
         location = /busy {{ return 503; }}"
    ));
    let _haproxy = lab.haproxy(&format!(
        "defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend f
    bind :9443 ssl crt {good256} strict-sni
    bind :9444 ssl crt {good256} ssl-max-ver TLSv1.2
    bind :9445 ssl crt {misnamed}
    bind :9446 ssl crt {foreign}
    bind :9447 ssl crt {expired}
    bind :9448 ssl crt {expired}
    monitor-uri /health
"
    ));
    lab.listening(&[8443, 8080, 9443, 9444, 9445, 9446, 9447, 9448]);
    let https = |path: &str, trust| CheckKind::Https {
        host: Text::try_from(NAME).expect("short"),
        path: Text::try_from(path).expect("short"),
        lowest: 200,
        highest: 399,
        trust,
    };
    let verified = |path| https(path, Trust::Anchor(0));
    let mut services = services(&[
        (verified("/health"), 8443, false),
        (verified("/health"), 8443, true),
        (verified("/busy"), 8443, false),
        (verified("/health"), 9443, false),
        (verified("/health"), 9444, false),
        (verified("/health"), 9445, false),
        (verified("/health"), 9446, false),
        (verified("/health"), 9447, false),
        (https("/health", Trust::Anybody), 9448, false),
        (verified("/health"), 8080, false),
    ]);
    for service in &mut services {
        service.check.timeout_ms = 4000; // key exchanges take their time in a test's build
    }
    let mut config = with(services);
    config.anchors = [ours.anchor()].into_iter().collect();
    config.made = NOVEMBER_2026;
    let ours = lab.appliance_with(PROGRAM, Side::Left, &config);
    let log = Log::new(&ours);
    log.wait(&format!("server {HOST}:8443 is healthy"));
    log.wait(&format!("server [{HOST6}]:8443 is healthy"));
    log.wait(&format!("server {HOST}:9443 is healthy"));
    log.wait(&format!("server {HOST}:9448 is healthy"));
    let unhealthy = [
        (8443, "http status 503"),
        (9444, "the server does not speak our tls 1.3"),
        (9445, "the certificate is for another name"),
        (9446, "the certificate is of an unknown authority"),
        (9447, "the certificate has expired"),
        (8080, "the tls handshake failed"),
    ];
    for (port, reason) in unhealthy {
        log.wait(&format!("server {HOST}:{port} is unhealthy: {reason}"));
    }
    for port in [9444, 9445, 9446, 9447, 8080] {
        let healthy = format!("server {HOST}:{port} is healthy");
        assert!(!ours.log().contains(&healthy), "{healthy}");
    }
    let log = Log::new(&ours);
    running.crash();
    log.wait(&format!(
        "server {HOST}:8443 is unhealthy: connection refused"
    ));
}

const NAME: &str = "www.example.org";
const NOVEMBER_2026: u64 = 1_795_000_000;

/// A certificate and its key.
fn pem((certificate, key): (Certificate, KeyPair)) -> String {
    certificate.pem() + &key.serialize_pem()
}

/// The agent here is a fake: a line of text on a port. What the line means is HAProxy's to say, so a real HAProxy asks the
/// same agent, and both have to agree.
#[test]
fn agents_are_understood_as_haproxy_understands_them() {
    let lab = Lab::new();
    let line = Arc::new(Mutex::new("up ready 100%\n"));
    let listener = lab.within("host", || {
        TcpListener::bind((HOST, 5555)).expect("a free port")
    });
    let stats = lab.file("x", "").replace("/x", "/haproxy.sock");
    let _haproxy = lab.haproxy(&format!(
        "global
    stats socket {stats} level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
listen l
    bind :8081
    server one 10.9.0.100:8081 weight 100 agent-check agent-addr 10.9.0.100 agent-port 5555 agent-inter 50ms
"
    ));
    let said_now = Arc::clone(&line);
    let agent = thread::spawn(move || {
        for stream in listener.incoming() {
            let line = *said_now.lock().expect("nobody panics with it");
            if line.is_empty() {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            let _ = stream.write_all(line.as_bytes());
        }
    });
    let mut services = services(&[(CheckKind::Ping, 0, false)]);
    services[0].agent = Some(5555);
    let ours = lab.appliance_with(PROGRAM, Side::Left, &with(services));
    let log = Log::new(&ours);
    log.wait(&format!("server {HOST} is healthy"));
    // What is said; HAProxy's status and weight; our words.
    let stories = [
        ("75%\n", "no check", 75, "up ready 75%"),
        ("drain\n", "DRAIN (agent)", 75, "up drain 75%"),
        ("ready,100%\r\n", "no check", 100, "up ready 100%"),
        ("maint\n", "MAINT", 100, "up maint 100%"),
        (
            "ready down #disk full\n",
            "DOWN (agent)",
            100,
            "down ready 100%",
        ),
        ("what is this\n", "DOWN (agent)", 100, "down ready 100%"),
        (
            "maxconn:30 up\n",
            "no check",
            100,
            "up ready 100% maxconn:30",
        ),
        (
            "stopped\n",
            "DOWN (agent)",
            100,
            "stopped ready 100% maxconn:30",
        ),
        ("UP\t50% \n", "no check", 50, "up ready 50% maxconn:30"),
    ];
    for (said, status, weight, words) in stories {
        *line.lock().expect("nobody panics with it") = said;
        let what = format!("HAProxy shows {status}, {weight} for {said:?}");
        wait_until(&what, &[&ours], || {
            let (shown, share) = haproxy_server(&stats);
            shown.starts_with(status) && share == weight
        });
        wait_until(&format!("we understand {said:?}"), &[&ours], || {
            let text = ours.log();
            let last = text.lines().rfind(|line| line.contains("agent "));
            last.is_some_and(|line| line.ends_with(&format!("says {words}")))
        });
    }
    *line.lock().expect("nobody panics with it") = "";
    agent.join().expect("the agent ends at the next question");
    let log = Log::new(&ours);
    log.wait(&format!("agent {HOST}:5555 says nothing: connection"));
}

#[test]
fn silence_and_refusal() {
    let lab = Lab::new();
    lab.give_host_ipv6();
    let mut services = services(&[(CheckKind::Ping, 0, false), (CheckKind::Tcp, 9, true)]);
    let absent = [10, 9, 0, 99].into();
    services[0].servers[0].address = absent;
    let ours = lab.appliance_with(PROGRAM, Side::Left, &with(services));
    let log = Log::new(&ours);
    log.wait(&format!("server {absent} is unhealthy: no answer in time"));
    log.wait(&format!(
        "server [{HOST6}]:9 is unhealthy: connection refused"
    ));
}

/// Lines of an appliance's log from some moment on.
struct Log<'a> {
    router: &'a Router,
    start: usize,
}

impl<'a> Log<'a> {
    fn new(router: &'a Router) -> Self {
        let start = router.log().len();
        Self { router, start }
    }

    fn wait(&self, text: &str) {
        wait_until(text, &[self.router], || {
            let log = self.router.log();
            log.get(self.start..).unwrap_or_default().contains(text)
        });
    }
}

fn appliance(lab: &Lab, checks: &[(CheckKind, u16, bool)]) -> Router {
    lab.appliance_with(PROGRAM, Side::Left, &with(services(checks)))
}

/// A service for each check, of the host's IPv4 or IPv6 address.
fn services(checks: &[(CheckKind, u16, bool)]) -> Vec<Service> {
    let service = |(number, (kind, port, six)): (u16, &(CheckKind, u16, bool))| Service {
        address: if *six {
            VIRTUAL6.into()
        } else {
            WAN_VIRTUAL.into()
        },
        port: 1000 + number,
        servers: [Server {
            address: host(*six),
            port: 80,
            ..Server::default()
        }]
        .into_iter()
        .collect(),
        check: Check {
            kind: kind.clone(),
            port: *port,
            interval_ms: 100,
            timeout_ms: 500,
            rise: 2,
            fall: 3,
            jitter: 10,
        },
        ..Service::default()
    };
    (0..).zip(checks).map(service).collect()
}

fn with(services: Vec<Service>) -> Config {
    let mut config = config(Side::Left, 200, 10);
    config.interfaces[1].address6 = Some(Interface6 {
        address: "fd09::2".parse().expect("an address"),
        prefix: 64,
    });
    let four = config.routers[1].clone();
    let addresses = [VirtualRouter::link_local(four.vrid), VIRTUAL6].map(IpAddr::V6);
    let router = VirtualRouter {
        addresses: addresses.into_iter().collect(),
        ..four
    };
    config.routers.push(router).expect("room for one");
    config.services = services.into_iter().collect();
    config
}

const VIRTUAL6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);

fn http(path: &str) -> CheckKind {
    CheckKind::Http {
        host: Text::try_from("www.example.org").expect("short"),
        path: Text::try_from(path).expect("short"),
        lowest: 200,
        highest: 399,
    }
}

/// Status and weight of HAProxy's only server, from its statistics.
fn haproxy_server(socket: &str) -> (String, u32) {
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else {
        return (String::new(), 0);
    };
    stream.write_all(b"show stat\n").expect("HAProxy reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("HAProxy answers");
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = |name| {
        header
            .trim_start_matches("# ")
            .split(',')
            .position(|c| c == name)
    };
    let server = lines
        .find(|line| line.starts_with("l,one,"))
        .unwrap_or_default();
    let field = |name| {
        column(name)
            .and_then(|n| server.split(',').nth(n))
            .unwrap_or_default()
    };
    (
        field("status").to_owned(),
        field("weight").parse().unwrap_or(0),
    )
}
