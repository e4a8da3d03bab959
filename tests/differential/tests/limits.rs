//! Limits of rules in both worlds: what passes of packets that come faster than any token, and of more flows than there may be.
//!
//! The kernel's clock is the real one. A run that took so long that a token more can have come meanwhile proves nothing and is
//! repeated.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use differential::compare::Case;
use differential::kernel::Kernel;
use differential::known;
use differential::ours::Ours;
use differential::site::{DMZ, Site, WAN, host, host6};
use differential::stories;
use differential::story::Step;
use fastrand::Rng;
use forge::flags::{ACK, RST, SYN};
use forge::{Ip, Tcp, Udp};
use node::Drop;
use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{Limit, LimitKind, Scope};

#[test]
fn bursts() {
    let mut rng = Rng::with_seed(1);
    let mut both = Both::new(&site(&[], None, None));
    for number in 0..30 {
        let rate = Limit {
            kind: LimitKind::Rate {
                per_second: 1,
                burst: rng.u16(1..8),
            },
            scope: scope(&mut rng),
        };
        let flows = Limit {
            kind: LimitKind::Flows { max: rng.u16(1..8) },
            scope: scope(&mut rng),
        };
        let too = rng.bool();
        let clients: Vec<Client> = (0..40).map(|_| Client::any(&mut rng)).collect();
        let passed = both.in_time(Duration::ZERO, |both| {
            both.begin(&site(&[rate, flows], Some(0), too.then_some(1)));
            clients
                .iter()
                .map(|client| both.open(*client))
                .collect::<Vec<_>>()
        });
        same(&passed, &format!("{number}: {rate:?} {flows:?} {too}"));
        assert!(passed.iter().any(|(passed, _)| *passed));
        assert!(passed.iter().any(|(passed, _)| !*passed));
    }
}

#[test]
fn tokens_come_back() {
    let mut rng = Rng::with_seed(2);
    let mut both = Both::new(&site(&[], None, None));
    for per_second in [1, 2] {
        let limit = Limit {
            kind: LimitKind::Rate {
                per_second,
                burst: 3,
            },
            scope: scope(&mut rng),
        };
        let client = Client::any(&mut rng);
        let wait = Duration::from_millis(2500 / u64::from(per_second));
        let passed = both.in_time(wait, |both| {
            both.begin(&site(&[limit], Some(0), None));
            let mut passed: Vec<_> = (0..5).map(|_| both.open(client)).collect();
            both.wait(wait);
            passed.extend((0..4).map(|_| both.open(client)));
            passed
        });
        same(&passed, &format!("{limit:?}"));
        let passed: Vec<bool> = passed.iter().map(|(passed, _)| *passed).collect();
        assert_eq!(passed[..5], [true, true, true, false, false]);
        assert_eq!(passed[5..], [true, true, false, false], "two and a half");
    }
}

/// Connections that open and end at random.
#[test]
fn flows_at_a_time() {
    let mut rng = Rng::with_seed(3);
    let mut both = Both::new(&site(&[], None, None));
    for number in 0..20 {
        let limit = Limit {
            kind: LimitKind::Flows { max: rng.u16(1..6) },
            scope: scope(&mut rng),
        };
        let acts: Vec<Act> = (0..40).map(|_| Act::any(&mut rng)).collect();
        both.begin(&site(&[limit], None, Some(0)));
        let passed = both.act(&acts);
        same(&passed, &format!("{number}: {limit:?}"));
        assert!(passed.iter().any(|(passed, _)| *passed));
    }
}

/// A connection that is over counts until it is forgotten; to netfilter it is over at once.
#[test]
fn flows_that_are_over() {
    let one = Limit {
        kind: LimitKind::Flows { max: 1 },
        scope: Scope::Rule,
    };
    let mut both = Both::new(&site(&[one], None, Some(0)));
    let client = Client {
        address: "198.51.100.1".parse().expect("an address"),
        tcp: true,
    };
    let first = both.connect(client).expect("there is room for one");
    let reset = first.reset();
    assert_eq!(both.exchange(WAN, &reset), (true, true));
    thread::sleep(TICK);
    let next = client.first(2);
    let kernel = both.kernel.exchange(WAN, &[&next]);
    let (ours, drops) = both.ours.exchange(WAN, &[&next]);
    assert_eq!(drops, [Drop::FlowLimit]);
    let case = Case {
        before: &[Step::one(WAN, "a reset", reset)],
        taken: &[true],
        step: &Step::one(WAN, "another connection", next),
        kernel: &kernel,
        ours: &ours,
        drops: &drops,
    };
    let known = known::of(&case).expect("it is listed");
    assert_eq!(known.name, "flows that are over");
    both.ours.pass(FORGOTTEN);
    assert!(both.ours.exchange(WAN, &[&client.first(3)]).1.is_empty());
}

/// Both worlds.
struct Both {
    kernel: Kernel,
    ours: Ours,
    /// A port of its own for each flow.
    port: u16,
}

/// Who opens flows to the mail server, by TCP or UDP.
#[derive(Clone, Copy)]
struct Client {
    address: IpAddr,
    tcp: bool,
}

/// A connection that both worlds know.
#[derive(Clone, Copy)]
struct Connection {
    client: Client,
    port: u16,
}

enum Act {
    Opens(Client),
    /// One of those that are open.
    Ends(usize),
}

impl Both {
    fn new(site: &Site) -> Self {
        Self {
            kernel: Kernel::new(site),
            ours: Ours::new(site),
            port: 10_000,
        }
    }

    /// The policy from now on, of which nothing is used yet.
    fn begin(&mut self, site: &Site) {
        self.kernel.load(site);
        self.ours = Ours::new(site);
    }

    /// What a run gives that took at least so long, but no token longer.
    fn in_time<T>(&mut self, least: Duration, mut run: impl FnMut(&mut Self) -> T) -> T {
        for _ in 0..10 {
            let start = Instant::now();
            let result = run(self);
            if start.elapsed() < least + LATE {
                return result;
            }
        }
        panic!("ten times slower than tokens come: nothing can be compared on this machine");
    }

    fn wait(&mut self, span: Duration) {
        thread::sleep(span);
        self.ours.pass(span);
    }

    /// Whether the worlds let a packet through; what both do must be the same bytes.
    fn exchange(&mut self, leg: u8, packet: &[u8]) -> (bool, bool) {
        let kernel = self.kernel.exchange(leg, &[packet]);
        let (ours, _) = self.ours.exchange(leg, &[packet]);
        if !kernel.is_empty() && !ours.is_empty() {
            assert_eq!(kernel, ours, "{}", forge::read(packet));
        }
        (!kernel.is_empty(), !ours.is_empty())
    }

    /// Whether the worlds let a new flow through.
    fn open(&mut self, client: Client) -> (bool, bool) {
        self.port += 1;
        self.exchange(WAN, &client.first(self.port))
    }

    /// A whole handshake, or which world did not let it through.
    fn connect(&mut self, client: Client) -> Result<Connection, (bool, bool)> {
        let passed = self.open(client);
        if passed != (true, true) {
            return Err(passed);
        }
        let connection = Connection {
            client,
            port: self.port,
        };
        assert_eq!(self.exchange(DMZ, &connection.answer()), (true, true));
        assert_eq!(self.exchange(WAN, &connection.ack()), (true, true));
        Ok(connection)
    }

    /// Which connections the worlds let through.
    fn act(&mut self, acts: &[Act]) -> Vec<(bool, bool)> {
        let mut open = Vec::new();
        let mut passed = Vec::new();
        for act in acts {
            match act {
                Act::Opens(client) => match self.connect(*client) {
                    Ok(connection) => {
                        open.push(connection);
                        passed.push((true, true));
                    }
                    Err(which) => passed.push(which),
                },
                Act::Ends(_) if open.is_empty() => {}
                Act::Ends(which) => {
                    let ended: Connection = open.swap_remove(which % open.len());
                    assert_eq!(self.exchange(WAN, &ended.reset()), (true, true));
                    // See `flows_that_are_over`; the kernel looks through its list once in a tick at most.
                    self.ours.pass(FORGOTTEN);
                    thread::sleep(TICK);
                }
            }
        }
        passed
    }
}

impl Client {
    fn any(rng: &mut Rng) -> Self {
        let (net, number) = (rng.u8(100..102), rng.u8(1..4));
        Self {
            address: match rng.bool() {
                true => IpAddr::from([198, 51, net, number]),
                false => IpAddr::from([0x2001, 0xdb8, 0xffff, net.into(), 0, 0, 0, number.into()]),
            },
            tcp: rng.bool(),
        }
    }

    fn server(self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => host(DMZ, 21).into(),
            IpAddr::V6(_) => host6(DMZ, 21).into(),
        }
    }

    fn first(self, port: u16) -> Vec<u8> {
        let ip = Ip::new(self.address, self.server());
        match self.tcp {
            true => ip.around(&Tcp {
                source: port,
                destination: 25,
                ..Tcp::default()
            }),
            false => ip.around(&Udp {
                source: port,
                destination: 53,
                ..Udp::default()
            }),
        }
    }
}

impl Connection {
    fn answer(self) -> Vec<u8> {
        Ip::new(self.client.server(), self.client.address).around(&Tcp {
            source: 25,
            destination: self.port,
            sequence: 9000,
            acknowledgment: 1001,
            flags: SYN | ACK,
            ..Tcp::default()
        })
    }

    fn ack(self) -> Vec<u8> {
        self.say(ACK)
    }

    fn reset(self) -> Vec<u8> {
        self.say(RST | ACK)
    }

    fn say(self, flags: u8) -> Vec<u8> {
        Ip::new(self.client.address, self.client.server()).around(&Tcp {
            source: self.port,
            destination: 25,
            sequence: 1001,
            acknowledgment: 9001,
            flags,
            ..Tcp::default()
        })
    }
}

impl Act {
    fn any(rng: &mut Rng) -> Self {
        match rng.u8(0..4) {
            0 => Self::Ends(rng.usize(..)),
            _ => Self::Opens(Client {
                tcp: true,
                ..Client::any(rng)
            }),
        }
    }
}

/// Two rules that share limits: mail by TCP and names by UDP.
fn site(limits: &[Limit], rate: Option<u8>, flows: Option<u8>) -> Site {
    let mut site = stories::site();
    site.config.limits = limits.iter().copied().collect();
    let rule = |title, protocol| Rule {
        name: differential::site::name(title),
        from: Legs::one(WAN),
        to: Legs::one(DMZ),
        sources: Vec::new(),
        destinations: Vec::new(),
        protocol,
        state: State::New,
        action: Action::Accept,
        log: false,
        rate,
        flows,
        sharing: policy::rule::Sharing::Usual,
    };
    site.rules = vec![
        rule("mail", Protocol::Tcp(Ports::to(25))),
        rule("names", Protocol::Udp(Ports::to(53))),
    ];
    site
}

fn scope(rng: &mut Rng) -> Scope {
    match rng.u8(0..4) {
        0 => Scope::Rule,
        1 => Scope::Source {
            prefix: 24,
            prefix6: 64,
        },
        2 => Scope::Source {
            prefix: 16,
            prefix6: 48,
        },
        _ => Scope::Source {
            prefix: 32,
            prefix6: 128,
        },
    }
}

fn same(passed: &[(bool, bool)], what: &str) {
    for (number, (kernel, ours)) in passed.iter().enumerate() {
        assert_eq!(kernel, ours, "flow {number}, {what}, of {passed:?}");
    }
}

/// Less than half a token of any of these limits.
const LATE: Duration = Duration::from_millis(240);
/// Longer than a closed connection is remembered.
const FORGOTTEN: Duration = Duration::from_secs(12);
/// Longer than a tick of the kernel's clock.
const TICK: Duration = Duration::from_millis(11);
