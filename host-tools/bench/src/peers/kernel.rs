//! The kernel's own packet path: UDP datagrams through a router namespace with nftables rules.
//!
//! Datagrams go source → router → sink on veth pairs. Linux carries a packet through veth and forwarding within the
//! system call that sends it, so the time of `send` is the time of the whole path, the sender's socket included.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::BenchError;

/// A source, a router and a sink; they go when this is dropped.
pub struct Lab {
    id: u32,
}

const SPACES: [&str; 3] = ["source", "router", "sink"];
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
        let lab = Self {
            id: std::process::id(),
        };
        for name in SPACES {
            run("ip", &["netns", "add", &lab.space(name)])?;
        }
        lab.cable("source", "router", "10.91.0")?;
        lab.cable("sink", "router", "10.92.0")?;
        let counts = format!(
            "table ip bench {{ chain in {{ type filter hook prerouting priority -300; ip daddr {SINK} counter drop; }}; }}"
        );
        lab.nft("sink", &counts)?;
        lab.inside("router", || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        })?
        .map_err(|cause| BenchError::Start {
            program: "forwarding in a namespace".into(),
            cause,
        })?;
        Ok(lab)
    }

    /// Nanoseconds for each datagram of one established flow through DNAT.
    pub fn established(&self) -> Result<f64, BenchError> {
        self.nft(
            "router",
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
        self.nft("router", &text)?;
        self.send(SINK)
    }

    /// Nanoseconds for the first datagram of a flow, when `rules` rules are compared with it before one accepts it, and it is
    /// tracked and translated.
    pub fn first(&self, rules: usize) -> Result<f64, BenchError> {
        let list = rules_before(rules);
        self.nft(
            "router",
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
        let measured = self.inside("source", || {
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
        let space = self.space("sink");
        let said = run("ip", &["netns", "exec", &space, "nft", "list", "ruleset"])?;
        counted(&said).ok_or_else(|| BenchError::NoResult {
            what: "the sink's counter".into(),
            said,
        })
    }

    fn cable(&self, end: &str, router: &str, net: &str) -> Result<(), BenchError> {
        let (end, far, near) = (self.space(end), self.space(router), format!("to-{end}"));
        let ip = |space: &str, line: String| {
            let arguments = ["-n", space].into_iter().chain(line.split(' '));
            run("ip", &arguments.collect::<Vec<_>>()).map(drop)
        };
        ip(
            &far,
            format!("link add {near} type veth peer name eth0 netns {end}"),
        )?;
        ip(&far, format!("address add {net}.1/24 dev {near}"))?;
        ip(&far, format!("link set {near} up"))?;
        ip(&end, format!("address add {net}.2/24 dev eth0"))?;
        ip(&end, "link set eth0 up".into())?;
        ip(&end, format!("route add default via {net}.1"))
    }

    fn nft(&self, space: &str, rules: &str) -> Result<(), BenchError> {
        let file = tempfile::NamedTempFile::new().map_err(|cause| BenchError::File {
            path: "a temporary file".into(),
            cause,
        })?;
        std::fs::write(file.path(), rules).map_err(|cause| BenchError::File {
            path: file.path().into(),
            cause,
        })?;
        let (space, path) = (self.space(space), file.path().display().to_string());
        run("ip", &["netns", "exec", &space, "nft", "-f", &path]).map(drop)
    }

    /// Runs `work` in a thread of the namespace.
    fn inside<T: Send>(
        &self,
        space: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, BenchError> {
        let path = Path::new("/run/netns").join(self.space(space));
        let entered = |cause| BenchError::File {
            path: path.clone(),
            cause,
        };
        let file = File::open(&path).map_err(entered)?;
        let thread = move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok::<_, nix::Error>(work())
        };
        std::thread::scope(|scope| match scope.spawn(thread).join() {
            Ok(result) => result.map_err(|error| entered(error.into())),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Two benches on one machine may not meet; an interface's name has room for few characters.
    fn space(&self, name: &str) -> String {
        format!("rb{}{}", self.id, &name[..2])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in SPACES {
            let _ = run("ip", &["netns", "del", &self.space(name)]); // best effort
        }
    }
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

/// What a program printed.
fn run(program: &str, arguments: &[&str]) -> Result<String, BenchError> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|cause| BenchError::Start {
            program: program.into(),
            cause,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(BenchError::NoResult {
        what: format!("{program} {}", arguments.join(" ")),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
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
