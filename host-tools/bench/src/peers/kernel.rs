//! The kernel's own packet path: UDP datagrams through a router namespace with nftables rules.
//!
//! Datagrams go source → router → sink on veth pairs. Linux carries a packet through veth and forwarding within the
//! system call that sends it, so the time of `send` is the time of the whole path, the sender's socket included.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use netns::Namespace;

use crate::BenchError;

/// A source, a router and a sink; they go when this is dropped.
pub struct Lab {
    source: Namespace,
    router: Namespace,
    sink: Namespace,
}

const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
const SINK: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 2);
/// What the router's DNAT turns into [`SINK`].
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 92, 0, 9);
const PORT: u16 = 4000;

impl Lab {
    /// Makes the namespaces.
    pub fn new() -> Result<Self, BenchError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(BenchError::NeedsRoot);
        }
        let prefix = netns::prefix("rb");
        let space = |name| Namespace::new(format!("{prefix}-{name}"));
        let lab = Self {
            source: space("source")?,
            router: space("router")?,
            sink: space("sink")?,
        };
        lab.cable(&lab.source, "to-source", "10.91.0")?;
        lab.cable(&lab.sink, "to-sink", "10.92.0")?;
        let counts = format!(
            "table ip bench {{ chain in {{ type filter hook prerouting priority -300; ip daddr {SINK} counter drop; }}; }}"
        );
        load(&lab.sink, &counts)?;
        lab.router
            .enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .map_err(|cause| BenchError::Start {
                program: "forwarding in a namespace".into(),
                cause,
            })?;
        Ok(lab)
    }

    /// Nanoseconds for each datagram of one established flow through DNAT.
    pub fn established(&self) -> Result<f64, BenchError> {
        load(
            &self.router,
            &format!(
                "flush ruleset
                table ip bench {{
                  chain nat {{ type nat hook prerouting priority -100; ip daddr {VIRTUAL} udp dport {PORT} dnat to {SINK}; }}
                  chain forward {{ type filter hook forward priority 0; policy drop; ct state established accept; ct state new accept; }}
                }}"
            ),
        )?;
        self.send(VIRTUAL)
    }

    /// Nanoseconds for each datagram when `rules` rules are compared with it before one accepts it.
    pub fn classified(&self, rules: usize) -> Result<f64, BenchError> {
        let list = rules_before(rules);
        let text = format!(
            "flush ruleset
            table ip bench {{ chain forward {{ type filter hook forward priority 0; policy drop;
              {list} ip saddr {SOURCE} ip daddr {SINK} udp dport {PORT} accept; }}; }}"
        );
        load(&self.router, &text)?;
        self.send(SINK)
    }

    /// Nanoseconds for the first datagram of a flow, when `rules` rules are compared with it before one accepts it, and it is
    /// tracked and translated.
    pub fn first(&self, rules: usize) -> Result<f64, BenchError> {
        let list = rules_before(rules);
        load(
            &self.router,
            &format!(
                "flush ruleset
                table ip bench {{
                  chain nat {{ type nat hook prerouting priority -100; ip daddr {VIRTUAL} dnat to {SINK}; }}
                  chain forward {{ type filter hook forward priority 0; policy drop; ct state established accept;
                    {list} ip saddr {SOURCE} ip daddr {SINK} accept; }}
                }}"
            ),
        )?;
        let mut ports = FIRST_PORT..=u16::MAX;
        self.best(|socket| {
            for port in ports.by_ref().take(FLOWS) {
                socket.send_to(&[0; 18], (VIRTUAL, port))?;
            }
            Ok(FLOWS as u32)
        })
    }

    fn send(&self, to: Ipv4Addr) -> Result<f64, BenchError> {
        self.best(|socket| {
            let (begun, mut sent) = (Instant::now(), 0);
            while begun.elapsed() < RUN {
                for _ in 0..BATCH {
                    socket.send_to(&[0; 18], (to, PORT))?;
                }
                sent += BATCH;
            }
            Ok(sent)
        })
    }

    /// Nanoseconds for each datagram that `send` sends, which tells how many, in the best of some runs: whatever else the
    /// machine does only adds. All of them must reach the sink.
    fn best(
        &self,
        mut send: impl FnMut(&UdpSocket) -> io::Result<u32> + Send,
    ) -> Result<f64, BenchError> {
        let before = self.arrived()?;
        let measured = self.source.enter(|| {
            let socket = UdpSocket::bind((SOURCE, 0))?;
            let (mut best, mut all) = (f64::MAX, 0);
            for _ in 0..RUNS {
                let begun = Instant::now();
                let sent = send(&socket)?;
                best = best.min(begun.elapsed().as_nanos() as f64 / f64::from(sent));
                all += u64::from(sent);
            }
            Ok((best, all))
        })?;
        let (best, all) = measured.map_err(|cause| BenchError::Start {
            program: "a sender in a namespace".into(),
            cause,
        })?;
        let arrived = self.arrived()? - before;
        if arrived != all {
            return Err(BenchError::NoResult {
                what: "the kernel's path".into(),
                said: format!("{arrived} of {all} datagrams reached the sink"),
            });
        }
        Ok(best)
    }

    /// Datagrams that reached the sink.
    fn arrived(&self) -> Result<u64, BenchError> {
        let failed = |said| BenchError::NoResult {
            what: "the sink's counter".into(),
            said,
        };
        let output = (self.sink.command("nft"))
            .args(["list", "ruleset"])
            .output()
            .map_err(|cause| BenchError::Start {
                program: "nft".into(),
                cause,
            })?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        counted(&said).ok_or_else(|| failed(said))
    }

    /// Between a namespace and the router.
    fn cable(&self, end: &Namespace, near: &str, net: &str) -> Result<(), netns::Error> {
        self.router.ip_all(&format!(
            "link add {near} type veth peer name eth0 netns {}
            address add {net}.1/24 dev {near}
            link set {near} up",
            end.name()
        ))?;
        end.ip_all(&format!(
            "address add {net}.2/24 dev eth0
            link set eth0 up
            route add default via {net}.1"
        ))
    }
}

/// Gives a namespace these rules of nftables.
fn load(space: &Namespace, rules: &str) -> Result<(), netns::Error> {
    space.run("nft", &["-f", "-"], rules)
}

/// All rules but one, none of which matches what is sent.
fn rules_before(rules: usize) -> String {
    let rule = |n: usize| {
        let [a, b] = u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        format!("ip saddr 198.18.{a}.{b} ip daddr 198.19.{b}.{a} udp dport {n} accept;\n")
    };
    (1..rules).map(rule).collect()
}

/// The number of packets of the first counter in a listing of rules.
fn counted(listing: &str) -> Option<u64> {
    let (_, counter) = listing.split_once("counter packets ")?;
    counter.split(' ').next()?.parse().ok()
}

const RUNS: u32 = 5;
const RUN: Duration = Duration::from_millis(200);
const BATCH: u32 = 100;
/// New flows in a run, and the first of their destination ports.
const FLOWS: usize = 2000;
const FIRST_PORT: u16 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read() {
        let listing = "table ip bench {\n chain in {\n ip daddr 10.92.0.2 counter packets 1205 bytes 55430 drop\n }\n}\n";
        assert_eq!(counted(listing), Some(1205));
        assert_eq!(counted("table ip bench {\n}\n"), None);
    }
}
