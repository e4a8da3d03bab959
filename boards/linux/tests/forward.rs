//! A TCP connection of two real kernels through the appliance. Both leave checksums and segmentation to
//! hardware that is not there, so this shows that the board undoes what no cable would carry.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use board_linux::{Options, PortSpec, RunError};
use classifier::Policy;
use netns::Namespace;
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{Config, Interface, Name, VirtualRouter};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 100);
const PORT: u16 = 4000;

/// Enough for many merged segments in both directions.
const SIZE: usize = 4 << 20;

#[test]
fn bulk_data_of_local_peers_arrives_whole() {
    let root = nix::unistd::Uid::effective().is_root();
    assert!(
        root,
        "network namespaces need root: run `sudo ./ravelin test`"
    );
    let lab = Lab::new();
    let (stop, stopped) = UnixStream::pair().unwrap();
    let appliance = lab.router.spawn(move || {
        board_linux::run(Options {
            policy: policy(),
            blob: &[],
            source: None,
            file: None,
            rules: vec!["bulk".into()],
            ports: vec![
                PortSpec::Interface("left".into()),
                PortSpec::Interface("right".into()),
            ],
            stop: Some(stopped.into()),
            realtime: false,
        })
    });
    let appliance = appliance.unwrap();
    let (ready, listening) = mpsc::channel();
    let server = lab.server.spawn(move || {
        let listener = TcpListener::bind((SERVER, PORT)).unwrap();
        ready.send(()).unwrap();
        let (mut stream, client) = listener.accept().unwrap();
        let mut data = Vec::new();
        stream.read_to_end(&mut data).unwrap();
        stream.write_all(&data).unwrap(); // and back again
        client.ip()
    });
    let server = server.unwrap();
    listening.recv().unwrap();
    let client = lab.client.spawn(|| {
        let data = pattern();
        let mut stream = connect();
        stream.write_all(&data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), data.len());
        assert!(back == data, "the data was changed");
    });
    client.unwrap().join().unwrap();
    assert_eq!(server.join().unwrap(), Ipv4Addr::new(10, 1, 0, 100));
    drop(stop);
    appliance.join().unwrap().unwrap();
}

#[test]
fn trouble_is_named_before_anything_starts() {
    let spec = |text: &str| text.parse::<PortSpec>().unwrap();
    let run = |ports: Vec<PortSpec>| {
        let options = Options {
            policy: policy(),
            blob: &[],
            source: None,
            file: None,
            rules: vec!["bulk".into()],
            ports,
            stop: None,
            realtime: false,
        };
        board_linux::run(options).unwrap_err()
    };
    assert_eq!(
        run(vec![spec("lo")]).to_string(),
        "router has 2 port(s) in the site file, but 1 were given"
    );
    assert!(matches!(
        run(vec![spec("lo"); 5]),
        RunError::TooManyPorts { given: 5 }
    ));
    let error = run(vec![spec("none0"), spec("lo")]).to_string();
    assert_eq!(
        error,
        "port none0: no such interface here; `ip link` lists them"
    );
    let error = run(vec![spec("unix:/nowhere/a,/nowhere/b"), spec("lo")]).to_string();
    let expected =
        "port unix:/nowhere/a,/nowhere/b: cannot bind /nowhere/a: its directory does not exist";
    assert_eq!(error, expected);
}

/// Client, router and server, each in a network namespace: client eth0 - left router right - eth0 server.
struct Lab {
    client: Namespace,
    router: Namespace,
    server: Namespace,
}

impl Lab {
    fn new() -> Self {
        let prefix = netns::prefix("rvfwd-");
        let space = |name| Namespace::new(format!("{prefix}-{name}")).expect("root");
        let lab = Self {
            client: space("client"),
            router: space("router"),
            server: space("server"),
        };
        let ends = [(&lab.client, "left", 1), (&lab.server, "right", 2)];
        for (inside, port, network) in ends {
            let router = lab.router.name();
            let ip = |space: &Namespace, line: &str| space.ip(line).expect("a good line");
            ip(
                inside,
                &format!("link add eth0 type veth peer name {port} netns {router}"),
            );
            ip(inside, &format!("addr add 10.{network}.0.100/24 dev eth0"));
            ip(inside, "link set eth0 up");
            ip(&lab.router, &format!("link set {port} up"));
            ip(inside, &format!("route add default via 10.{network}.0.1"));
        }
        lab
    }
}

/// The appliance has to become Active first, so the first tries may fail.
fn connect() -> TcpStream {
    let start = Instant::now();
    loop {
        match TcpStream::connect_timeout(&(SERVER, PORT).into(), Duration::from_secs(5)) {
            Ok(stream) => return stream,
            Err(error) if start.elapsed() > Duration::from_secs(60) => panic!("{error}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn policy() -> Policy<'static> {
    let interface = |port: u8, name: &str| Interface {
        name: name.try_into().expect("a short name"),
        port,
        vlan: None,
        mac: [2, 0, 0, 0, 9, port],
        address: Ipv4Addr::new(10, port + 1, 0, 2),
        prefix: 24,
        ..Interface::default()
    };
    let router = |port: u8| VirtualRouter {
        advertisement_interval: 10,
        ..VirtualRouter::new(port, 10 + port, [Ipv4Addr::new(10, port + 1, 0, 1).into()])
    };
    let config = Config {
        name: "router".try_into().expect("a short name"),
        interfaces: [interface(0, "left"), interface(1, "right")]
            .into_iter()
            .collect(),
        routers: [router(0), router(1)].into_iter().collect(),
        ..Config::default()
    };
    let bulk = Rule {
        name: Name::new(),
        from: Legs::one(0),
        to: Legs::one(1),
        sources: vec![],
        destinations: vec![],
        protocol: Protocol::Tcp(Ports::to(PORT)),
        state: State::New,
        action: Action::Accept,
        log: false,
        rate: None,
        flows: None,
        sharing: policy::rule::Sharing::Usual,
    };
    classifier::policy(config, &[bulk]).expect("a good policy")
}

fn pattern() -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..SIZE).map(|_| next()).collect()
}
