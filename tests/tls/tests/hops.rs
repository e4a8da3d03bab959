//! Every hop of the example site between its real servers, in both directions: the right peer is let in, and nobody else;
//! then new certificates while requests are on their way. Needs root; builds the images if they are not cached.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use render::Identity;
use site::plan::{Role, ports};
use tls_test::impostor::Impostor;
use tls_test::peer::{self, ask, ask_plainly, forge};
use tls_test::{Stack, until};

#[test]
fn every_hop_believes_its_peers_and_nobody_else() {
    let mut stack = Stack::start();
    until_serving(&stack);
    users(&stack);
    for hop in hops() {
        clients(&stack, &hop);
    }
    let (figures, requests): (Vec<Hop>, Vec<Hop>) =
        hops().into_iter().partition(|hop| hop.from == "mon1");
    for hop in &requests {
        servers(&stack, hop);
    }
    thread::scope(|scope| {
        for hop in &figures {
            scope.spawn(|| servers(&stack, hop));
        }
    });
    until_serving(&stack);
    rotation(&mut stack);
}

/// One machine asks another.
struct Hop {
    from: &'static str,
    to: &'static str,
    port: u16,
    path: &'static str,
    /// Another of `from`'s tier, which must not ask, and another of `to`'s tier, which must not answer.
    others: [&'static str; 2],
    /// The unit that answers.
    unit: &'static str,
}

fn hops() -> Vec<Hop> {
    let hop = |from, to, port, path, others, unit| Hop {
        from,
        to,
        port,
        path,
        others,
        unit,
    };
    let figures = |to, other| {
        let unit = "prometheus-node-exporter.service";
        hop(
            "mon1",
            to,
            ports::NODE_EXPORTER,
            "/metrics",
            ["mon9", other],
            unit,
        )
    };
    vec![
        hop(
            "lb1",
            "web1",
            ports::NGINX,
            "/nginx-health",
            ["lb9", "web9"],
            "nginx.service",
        ),
        hop(
            "web1",
            "app1",
            ports::APP,
            "/counter",
            ["web9", "app9"],
            "haproxy.service",
        ),
        hop(
            "mon1",
            "lb1",
            ports::HAPROXY_METRICS,
            "/metrics",
            ["mon9", "lb9"],
            "haproxy.service",
        ),
        figures("lb1", "lb9"),
        figures("web1", "web9"),
        figures("app1", "app9"),
        figures("db1", "db9"),
    ]
}

impl Hop {
    fn address(&self, stack: &Stack) -> SocketAddr {
        (stack.server(self.to).address, self.port).into()
    }

    fn tier(&self, stack: &Stack, end: &str) -> Role {
        stack.server(end).role
    }

    /// What `to` says to who comes from `from`'s address and shows this.
    fn ask(&self, stack: &Stack, identity: Option<&Identity>) -> Result<String, String> {
        let own = stack.pki.material(stack.server(self.from));
        let trusted = &own.tiers[&self.tier(stack, self.to)];
        let (address, domain) = (self.address(stack), stack.plan.domain.clone());
        stack.within(Some(self.from), || {
            let answer = ask(address, self.path, &domain, self.to, trusted, identity);
            Ok(answer?.0)
        })
    }
}

fn until_serving(stack: &Stack) {
    let address = SocketAddr::from((stack.server("lb1").address, ports::HTTPS));
    let trusted = std::fs::read_to_string(stack.pki.ca_path()).expect("the root");
    let domain = &stack.plan.domain;
    until("the site answers", || {
        let answer = stack.within(None, || ask(address, "/", domain, domain, &trusted, None));
        let (line, _) = answer.map_err(|error| format!("{error}; {}", stack.console("app1")))?;
        is_good(&line).then_some(()).ok_or(line)
    });
}

fn is_good(line: &str) -> bool {
    line.starts_with("HTTP/1.1 200")
}

/// Users and HAProxy: old versions and weak ciphers are refused, and so is a connection without TLS.
fn users(stack: &Stack) {
    let domain = stack.plan.domain.clone();
    let address = SocketAddr::from((stack.server("lb1").address, ports::HTTPS));
    let plain = stack.within(None, || ask_plainly(address, "/", &domain));
    assert!(!plain.as_deref().is_ok_and(is_good), "{plain:?}");
    let ca = stack.pki.ca_path();
    let table = [
        (&["-tls1_3"][..], true),
        (&["-tls1_2", "-cipher", "ECDHE+AESGCM"], true),
        (&["-tls1_2", "-cipher", "ECDHE+CHACHA20"], true),
        (&["-tls1_2", "-cipher", "ECDHE+AESCBC:@SECLEVEL=0"], false),
        (&["-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"], false),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], false),
    ];
    for (options, good) in table {
        let output = stack.within(None, || {
            let mut command = std::process::Command::new("openssl");
            command.args(["s_client", "-brief", "-verify_return_error"]);
            command
                .args(["-connect", &address.to_string(), "-CAfile"])
                .arg(&ca);
            command.args(["-servername", &domain, "-verify_hostname", &domain]);
            command.args(options).stdin(std::process::Stdio::null());
            command.output().expect("openssl")
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), good, "{options:?}: {said}");
        assert_eq!(
            said.contains("Verification: OK"),
            good,
            "{options:?}: {said}"
        );
    }
}

/// Who may ask: the right name of the right tier.
fn clients(stack: &Stack, hop: &Hop) {
    let Hop { from, to, port, .. } = hop;
    let own = stack.pki.material(stack.server(from));
    let tier = hop.tier(stack, from).name();
    let elsewhere = hop.tier(stack, to).name();
    let right = own.client.as_ref().expect("every server has one");
    until(&format!("{to} answers {from}"), || {
        let answer = hop.ask(stack, Some(right))?;
        is_good(&answer).then_some(()).ok_or(answer)
    });
    let refused = [
        ("no certificate", None),
        (
            "another server of the tier",
            Some(forge(stack.state(), tier, hop.others[0], false)),
        ),
        (
            "the right name, signed for another tier",
            Some(forge(stack.state(), elsewhere, from, false)),
        ),
        (
            "the right name, signed for users' eyes",
            Some(forge(stack.state(), "site", from, false)),
        ),
        (
            "one that has expired",
            Some(forge(stack.state(), tier, from, true)),
        ),
        ("one that is for servers only", own.server.clone()),
    ];
    for (what, identity) in refused {
        let answer = hop.ask(stack, identity.as_ref());
        println!("{from} -> {to}:{port}: {what}: {answer:?}");
        assert!(
            is_refusal(&answer),
            "{from} -> {to}:{port}: {what}: {answer:?}"
        );
    }
    let good = forge(stack.state(), tier, from, false);
    let answer = hop.ask(stack, Some(&good));
    assert!(
        answer.as_deref().is_ok_and(is_good),
        "a good forgery is none: {answer:?}"
    );
    let address = hop.address(stack);
    let plain = stack.within(Some(from), || ask_plainly(address, hop.path, to));
    println!("{from} -> {to}:{port}: without TLS: {plain:?}");
    assert!(is_refusal(&plain), "{from} -> {to}:{port}: {plain:?}");
}

/// The end of the connection, or a word that says why; a server that is away is no refusal.
fn is_refusal(answer: &Result<String, String>) -> bool {
    match answer {
        Ok(head) => ["400", "403"]
            .iter()
            .any(|status| head.split(' ').nth(1) == Some(*status)),
        Err(error) => !error.contains("refused") && !error.contains("timed out"),
    }
}

/// Who may answer: those who ask turn everybody else away by themselves.
fn servers(stack: &Stack, hop: &Hop) {
    let Hop { from, to, port, .. } = hop;
    stack.run(to, &["systemctl", "stop", hop.unit]);
    let tier = hop.tier(stack, to).name();
    let elsewhere = hop.tier(stack, from).name();
    let own = stack.pki.material(stack.server(to));
    let table = [
        (
            "another server of the tier",
            Some(forge(stack.state(), tier, hop.others[1], false)),
            false,
        ),
        (
            "the right name, signed for another tier",
            Some(forge(stack.state(), elsewhere, to, false)),
            false,
        ),
        (
            "one that has expired",
            Some(forge(stack.state(), tier, to, true)),
            false,
        ),
        ("one that is for clients only", own.client, false),
        ("none", None, false),
        ("its own", own.server, true),
    ];
    for (what, identity, good) in table {
        let impostor = Impostor::start(stack, to, *port, identity.as_ref());
        let believed = impostor.is_believed();
        println!("{from} -> {to}:{port}: the server has {what}: believed: {believed}");
        assert_eq!(believed, good, "{from} -> {to}:{port}: {what}");
    }
    stack.run(to, &["systemctl", "start", hop.unit]);
}

/// All certificates are replaced under load: no request is lost, and an open connection stays.
fn rotation(stack: &mut Stack) {
    let domain = stack.plan.domain.clone();
    let address = SocketAddr::from((stack.server("lb1").address, ports::HTTPS));
    let trusted = std::fs::read_to_string(stack.pki.ca_path()).expect("the root");
    let shown = |stack: &Stack| -> Vec<Result<Vec<u8>, String>> {
        let user = stack.within(None, || ask(address, "/", &domain, &domain, &trusted, None));
        let all = hops().into_iter().map(|hop| {
            let own = stack.pki.material(stack.server(hop.from));
            let trusted = &own.tiers[&hop.tier(stack, hop.to)];
            let at = hop.address(stack);
            stack.within(Some(hop.from), || {
                ask(at, hop.path, &domain, hop.to, trusted, own.client.as_ref())
            })
        });
        [user]
            .into_iter()
            .chain(all)
            .map(|answer| Ok(answer?.1))
            .collect()
    };
    let before = shown(stack);
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    let stop = AtomicBool::new(false);
    let (fresh, kept) = thread::scope(|scope| {
        let fresh = scope.spawn(|| {
            load(stack, &stop, || {
                ask(address, "/", &domain, &domain, &trusted, None).map(|answer| answer.0)
            })
        });
        let kept = scope.spawn(|| {
            let open = || peer::open(address, &domain, &trusted, None);
            let mut connection = None;
            load(stack, &stop, || {
                let mut used = match connection.take() {
                    Some(open) => open,
                    None => open()?,
                };
                let head = peer::request(&mut used, "/", &domain)?;
                // An end that was announced costs nobody a request.
                if !head.to_ascii_lowercase().contains("connection: close") {
                    connection = Some(used);
                }
                Ok(head)
            })
        });
        let pki = build::pki::rotate(stack.state(), &stack.plan, &build::pki::Rotation::default());
        let pki = pki.expect("new certificates");
        for server in &stack.plan.servers {
            let files = render::server::files(&stack.plan, server, &pki.material(server));
            stack.replace(&server.name, &files.expect("files"));
        }
        until("every server shows a new certificate", || {
            let now = shown(stack);
            let old = before
                .iter()
                .zip(&now)
                .position(|(old, new)| new.is_err() || old == new);
            old.map_or(Ok(()), |index| {
                Err(format!("hop {index}: {:?}", now[index].as_ref().err()))
            })
        });
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        (fresh.join().expect("a load"), kept.join().expect("a load"))
    });
    println!(
        "rotation: {} requests on new connections, {} on open ones",
        fresh.0, kept.0
    );
    assert!(fresh.0 > 20 && kept.0 > 20, "the load was none");
    assert_eq!((fresh.1, kept.1), (Vec::new(), Vec::new()), "lost requests");
    stack.pki = build::pki::open(stack.state(), &stack.plan).expect("certificates");
    until("Prometheus sees every exporter", || {
        let query = "/api/v1/query?query=count(up==0)%20or%20vector(0)";
        let said = stack.within(Some("mon1"), || prometheus(query))?;
        said.contains("\"0\"]").then_some(()).ok_or(said)
    });
}

/// Asks again and again; how often, and what went wrong.
fn load(
    stack: &Stack,
    stop: &AtomicBool,
    mut ask: impl FnMut() -> Result<String, String> + Send,
) -> (u32, Vec<String>) {
    stack.within(None, || {
        let (mut asked, mut lost) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            match ask() {
                Ok(line) if is_good(&line) => asked += 1,
                Ok(line) => lost.push(line),
                Err(error) => lost.push(error),
            }
            if lost.len() > 20 {
                break;
            }
            // HAProxy lets nobody ask too much.
            thread::sleep(Duration::from_millis(80));
        }
        (asked, lost)
    })
}

fn prometheus(query: &str) -> Result<String, String> {
    use std::io::{Read as _, Write as _};
    let work = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", ports::PROMETHEUS))?;
        write!(stream, "GET {query} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    work().map_err(|error| error.to_string())
}
