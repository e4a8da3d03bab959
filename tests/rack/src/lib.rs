//! What the tests of whole racks share, and a FAKE of the servers: one in-process host that answers HTTPS as HAProxy with everything behind it would.
//! For tests of appliances, switch and uplink that cannot wait for images.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rehearse::card::{Card, Everything};
use rehearse::client::Client;
use rehearse::rack::Rack;
use rehearse::scenario::{Scenario, Settings};
use rehearse::{Appliance, Bodies, ServerBody};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use site::{Boards, Plan};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

/// The example site on linux appliances with so many ports each.
pub fn plan(ports: u8) -> Plan {
    on_linux(include_str!("../../../examples/foobar/site.toml"), ports)
}

/// The example site of both versions of IP on linux appliances, with more in its file.
pub fn dualstack(more: &str) -> Plan {
    on_linux(
        &format!(
            "{}\n{more}",
            include_str!("../../../examples/dualstack/site.toml")
        ),
        2,
    )
}

/// The example site on linux appliances, with more in its file.
pub fn plan_with(more: &str) -> Plan {
    on_linux(
        &format!(
            "{}\n{more}",
            include_str!("../../../examples/foobar/site.toml")
        ),
        2,
    )
}

fn on_linux(text: &str, ports: u8) -> Plan {
    site::parse_on_board("site.toml", text, &Boards::new([("linux", ports)]), "linux")
        .expect("the example is good")
}

/// Builds what a rack of containers needs that is not cached: all servers of the plan, and appliances that are
/// processes of `program`. Returns it with the site's CA; everything of the site's own goes to `state`.
pub fn light(plan: &Plan, program: &Path, state: &Path) -> (Bodies, PathBuf) {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "containers need root"
    );
    let pki = build::pki::open(state, plan).expect("certificates");
    let (places, options) = (image_test::places(state), build::Options::default());
    let images = build::images(&places, plan, &pki, &options, &image_test::tell).expect("images");
    let appliances = plan.appliances.iter().map(|appliance| {
        let body = Appliance::Process {
            program: program.to_path_buf(),
            config: config_blob(plan, &appliance.name, state),
        };
        (appliance.name.clone(), body)
    });
    let servers = images.into_iter().map(|image| {
        let body = ServerBody::Light {
            root: image.root_tree,
            files: image.host_files,
        };
        (image.server, body)
    });
    let bodies = Bodies {
        appliances: appliances.collect(),
        servers: servers.collect(),
    };
    (bodies, pki.ca_path())
}

/// Writes the compiled configuration of an appliance into `directory`.
pub fn config_blob(plan: &Plan, appliance: &str, directory: &Path) -> PathBuf {
    let (config, rules) = render::appliance::policy(plan, appliance).expect("a policy");
    let blob = classifier::blob(&config, &rules, policy::MAX_BLOB).expect("a blob");
    let path = directory.join(format!("{appliance}.bin"));
    std::fs::write(&path, blob).expect("written");
    path
}

/// What a scenario has to know of a rack: how its servers run, and its HAProxy servers, the preferred one first.
pub fn settings(scenario: Scenario, servers: &'static str, haproxy: &[&str]) -> Settings {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Settings {
        scenario,
        requests: 40,
        board: "linux".into(),
        servers,
        web: list(&["web1", "web2"]),
        app: list(&["app1", "app2"]),
        haproxy: list(haproxy),
    }
}

/// Waits until every client is answered. That is not enough: the appliances must have agreed that gw1 is Active.
pub fn wait_until_serving(rack: &mut Rack, clients: &[Client], patience: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let deadline = Instant::now() + patience;
    for client in clients {
        let (version, client) = (client.version(), client.clone());
        // While the site comes up, a new attempt is better than a long one.
        let client = client.with_patience(Duration::from_secs(5));
        loop {
            rack.check_alive().expect("machines run");
            let last = runtime.block_on(client.get());
            let active = rack.active();
            let answered = last.as_ref().is_ok_and(|answer| answer.status == 200);
            if answered && active.as_deref() == Some("gw1") {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{version}: {last:?}, active: {active:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Lines with this text in the journals of these servers, as soon as there are any; they may come a moment later.
pub fn logged<const N: usize>(rack: &Rack, servers: [&str; N], text: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let journals = servers.map(|server| {
            let machine = rack.machine(server).expect("it was started");
            let output = machine.run(&["journalctl", "--output=cat", "--no-pager"]);
            String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
        });
        let lines = journals.iter().flat_map(|journal| journal.lines());
        let found: Vec<&str> = lines.filter(|line| line.contains(text)).collect();
        if !found.is_empty() || Instant::now() > deadline {
            return found.join("\n");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A CA and a server certificate of it.
pub struct Pki {
    /// PEM of the CA, for users.
    pub authority: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Pki {
    /// A fresh CA with one certificate for `domain`.
    pub fn new(domain: &str) -> Result<Self, rcgen::Error> {
        let ca_key = rcgen::KeyPair::generate()?;
        let mut parameters = rcgen::CertificateParams::new(Vec::new())?;
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = parameters.self_signed(&ca_key)?;
        let issuer = rcgen::Issuer::new(parameters, ca_key);
        let key = rcgen::KeyPair::generate()?;
        let certificate =
            rcgen::CertificateParams::new(vec![domain.to_owned()])?.signed_by(&key, &issuer)?;
        Ok(Self {
            authority: ca.pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        })
    }

    /// Writes the CA for a client.
    pub fn write_authority(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, &self.authority)
    }
}

/// Where the fake stands in the network.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// Prefix length of its network.
    pub prefix: u8,
    /// Its gateway, a virtual address of the appliances.
    pub gateway: Ipv4Addr,
}

/// A fake HAProxy. Answers name the web and app servers of the example in turn.
pub struct FakeSite {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeSite {
    /// Starts it on its end of a cable.
    pub fn start(place: Place, cable: UnixDatagram, pki: &Pki) -> Result<Self, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pki.key.clone()));
        let tls =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![pki.certificate.clone()], key)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || serve(place, Card::new(cable, Everything), &Arc::new(tls), &stop)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for FakeSite {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(place: Place, mut card: Card<Everything>, tls: &Arc<ServerConfig>, stop: &AtomicBool) {
    let begun = Instant::now();
    let now = || {
        smoltcp::time::Instant::from_micros(i64::try_from(begun.elapsed().as_micros()).unwrap_or(0))
    };
    let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(place.mac)));
    let mut interface = Interface::new(config, &mut card, now());
    interface
        .update_ip_addrs(|list| list.extend([IpCidr::new(place.address.into(), place.prefix)]));
    // A fresh interface has room for a route.
    let _ = interface.routes_mut().add_default_ipv4_route(place.gateway);
    let mut sockets = SocketSet::new(Vec::new());
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::new(&mut sockets)).collect();
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        interface.poll(now(), &mut card, &mut sockets);
        for session in &mut sessions {
            session.turn(sockets.get_mut(session.socket), tls, &mut answered);
        }
        let open = (sessions.iter()).map(|session| sockets.get::<tcp::Socket<'_>>(session.socket));
        let peers = open.filter_map(tcp::Socket::remote_endpoint);
        card.open = peers
            .map(|peer| SocketAddr::new(peer.addr.into(), peer.port))
            .collect();
        interface.poll(now(), &mut card, &mut sockets);
        std::thread::sleep(Duration::from_micros(200));
    }
}

struct Session {
    socket: SocketHandle,
    tls: Option<ServerConnection>,
    request: Vec<u8>,
}

impl Session {
    fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16_384]);
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            socket,
            tls: None,
            request: Vec::new(),
        }
    }

    fn turn(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        tls: &Arc<ServerConfig>,
        answered: &mut usize,
    ) {
        if !socket.is_open() {
            self.tls = None;
            self.request.clear();
            // A closed socket can listen.
            let _ = socket.listen(443);
            return;
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            socket.close();
            return;
        }
        if !socket.may_recv() || socket.is_listening() {
            return;
        }
        if self.tls.is_none() {
            self.tls = ServerConnection::new(Arc::clone(tls)).ok();
        }
        let Some(connection) = &mut self.tls else {
            return;
        };
        while socket.can_recv() && connection.wants_read() {
            let read = socket.recv(|received| {
                let mut bytes: &[u8] = received;
                let before = bytes.len();
                let result = connection.read_tls(&mut bytes);
                (before - bytes.len(), result)
            });
            if !matches!(read, Ok(Ok(_))) || connection.process_new_packets().is_err() {
                return socket.abort();
            }
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = connection.reader().read(&mut buffer) {
                self.request.extend_from_slice(&buffer[..n]);
            }
        }
        if self.request.ends_with(b"\r\n\r\n") {
            self.request.clear();
            let n = 1 + *answered % 2;
            *answered += 1;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nx-served-by: web{n}\r\nx-app: app{n}\r\ncontent-length: 3\r\n\r\nok\n"
            );
            // The writer of a TLS connection only fails when its buffer is full.
            let _ = connection.writer().write_all(answer.as_bytes());
        }
        while connection.wants_write() && socket.can_send() {
            let mut out = Vec::new();
            if connection.write_tls(&mut out).is_err() || socket.send_slice(&out) != Ok(out.len()) {
                return socket.abort();
            }
        }
    }
}

const SESSIONS: usize = 32;
