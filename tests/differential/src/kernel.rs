//! The kernel's world: a router in a network namespace of its own, with nftables, and a second namespace
//! where the far ends of its cables are. Both go away when the value is dropped.

use std::fmt::Write as _;

use netns::Namespace;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::raw::Wire;
use crate::site::{
    LEGS, MTUS, NAMES, Site, UPSTREAM, UPSTREAM6, host, host6, neighbour_mac, own_mac, station,
};
use crate::{Emission, nft, source};

/// A router of Linux's kernel.
#[derive(Debug)]
pub struct Kernel {
    router: Namespace,
    /// Where the far ends of the cables are.
    _world: Namespace,
    wire: Wire,
    /// Indexes of the interfaces in the world, in the order of the legs.
    interfaces: [u32; 3],
    barrier: u32,
    /// Whether a card vouches for the checksums of TCP.
    pub card: bool,
}

impl Kernel {
    /// Makes the namespaces and loads the site's policy.
    ///
    /// # Panics
    /// Without root, iproute2 or nftables: a comparison that cannot run must not pass.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        // All frames through one processor's queue: otherwise their order is open.
        let mut cpus = CpuSet::new();
        cpus.set(0).expect("there is a first processor");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("one may choose processors");
        let prefix = netns::prefix("rvd");
        let namespace = |name| Namespace::new(format!("{prefix}-{name}")).expect(NEEDED);
        let (router, world) = (namespace("router"), namespace("world"));
        let set = |space: &Namespace, text: &str| {
            let done = space.run("sysctl", &["-q", "-p", "-"], text);
            done.expect("settings that the kernel knows");
        };
        let ip = |space: &Namespace, lines: &str| space.ip_all(lines).expect("good lines");
        ip(&router, &cables(world.name()));
        set(&world, &world_settings());
        ip(&world, &far_ends());
        set(&router, &router_settings());
        ip(&router, &addresses());
        let kernel = Self {
            interfaces: indexes(&world),
            wire: Wire::open(&world).expect("packet sockets need root"),
            router,
            _world: world,
            barrier: 0,
            card: false,
        };
        kernel.load(site);
        set(&kernel.router, TRACKING);
        kernel
    }

    /// Replaces the policy; flows stay.
    ///
    /// # Panics
    /// If nftables does not take it.
    pub fn load(&self, site: &Site) {
        let text = nft::render(site);
        let loaded = self.router.run("nft", &["-f", "-"], &text);
        loaded.unwrap_or_else(|error| panic!("{error}\n{text}"));
    }

    /// Hands the router packets on a leg, one after the other, and returns what it sends because of them.
    ///
    /// # Panics
    /// When the router does not answer for two minutes.
    pub fn exchange(&mut self, leg: u8, packets: &[&[u8]]) -> Vec<Emission> {
        for packet in packets {
            let (to, from) = (own_mac(leg), station(leg, source(packet)));
            let frame = forge::ethernet(to, from, forge::ethertype(packet), packet);
            self.send(leg, &frame);
        }
        // A question that the router answers after all that was before it in its queue.
        self.barrier += 1;
        let [a, b, c, d] = self.barrier.to_be_bytes();
        let asker = [2, 0x55, a, b, c, d];
        let asked = LEGS[0].own.0.octets();
        let question = [
            &[0, 1, 8, 0, 6, 4, 0, 1][..],
            &asker,
            &[0; 4],
            &[0; 6],
            &asked,
        ];
        let question = forge::ethernet([0xff; 6], asker, ARP, &question.concat());
        self.send(0, &question);
        let mut emissions = Vec::new();
        let mut asked = 1;
        loop {
            let (interface, frame) = match self.wire.receive() {
                Ok(received) => received,
                // On a busy machine the kernel may take its time.
                Err(_) if asked < 24 => {
                    asked += 1;
                    self.send(0, &question);
                    continue;
                }
                Err(error) => panic!("the router does not answer ARP: {error}"),
            };
            let Some(leg) = self.interfaces.iter().position(|i| *i == interface) else {
                continue;
            };
            let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
            if ethertype == ARP {
                if frame[..6] == asker {
                    return emissions;
                }
                continue;
            }
            let emission = Emission::new(leg as u8, &frame);
            if !is_chatter(&emission) {
                emissions.push(emission);
            }
        }
    }

    fn send(&self, leg: u8, frame: &[u8]) {
        let interface = self.interfaces[usize::from(leg)];
        self.wire
            .send(interface, frame, self.card)
            .expect("the cable is up");
    }
}

const NEEDED: &str = "namespaces need root and iproute2";
const ARP: u16 = 0x0806;

/// What the kernel says of its own accord: multicast membership (RFC 3810).
fn is_chatter(emission: &Emission) -> bool {
    emission.to[..2] == [0x33, 0x33]
}

fn cables(world: &str) -> String {
    let mut batch = String::new();
    for (leg, name) in NAMES.iter().enumerate() {
        let mac = text(own_mac(leg as u8));
        let _ = writeln!(
            batch,
            "link add {name} address {mac} type veth peer name {name} netns {world}"
        );
    }
    batch
}

fn far_ends() -> String {
    let mut batch = String::new();
    for name in NAMES {
        let _ = writeln!(batch, "link set {name} mtu 9000 arp off up");
    }
    batch
}

/// The world's own kernel says nothing.
fn world_settings() -> String {
    NAMES
        .iter()
        .map(|name| format!("net.ipv6.conf.{name}.disable_ipv6=1\n"))
        .collect()
}

/// Limits of the rate of errors act on the types in a mask, whatever the limit of each peer: none is left in them (255 is no
/// type), or what the kernel answers would depend on how fast the packets come.
fn router_settings() -> String {
    let mut text = String::from(
        "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n\
         net.ipv4.conf.all.rp_filter=1\nnet.ipv4.conf.all.log_martians=0\n\
         net.ipv4.conf.all.send_redirects=0\nnet.ipv4.conf.all.accept_source_route=0\n\
         net.ipv4.icmp_ratemask=0\nnet.ipv6.icmp.ratemask=255\nnet.ipv4.icmp_errors_use_inbound_ifaddr=1\n\
         net.ipv4.conf.all.arp_ignore=0\n",
    );
    for name in NAMES {
        let _ = writeln!(
            text,
            "net.ipv4.conf.{name}.rp_filter=1\nnet.ipv4.conf.{name}.send_redirects=0\n\
             net.ipv4.conf.{name}.log_martians=0\n\
             net.ipv6.conf.{name}.accept_dad=0\nnet.ipv6.conf.{name}.addr_gen_mode=1\n\
             net.ipv6.conf.{name}.accept_ra=0"
        );
    }
    text
}

/// Known once nftables asked for connection tracking. Checksums of transports are their ends' business, here
/// as there; a connection begins with a SYN.
const TRACKING: &str = "net.netfilter.nf_conntrack_checksum=0\nnet.netfilter.nf_conntrack_tcp_loose=0\n\
    net.netfilter.nf_conntrack_log_invalid=0\n";

fn addresses() -> String {
    let mut batch = String::from("link set lo up\n");
    for (index, leg) in LEGS.iter().enumerate() {
        let (name, mtu) = (NAMES[index], MTUS[index]);
        let (address, length) = leg.own;
        let _ = writeln!(batch, "link set {name} mtu {mtu} up");
        let _ = writeln!(batch, "addr add {address}/{length} dev {name}");
        for address in leg.virtuals {
            let _ = writeln!(batch, "addr add {address}/32 dev {name}");
        }
        let (address, length) = leg.own6;
        let _ = writeln!(batch, "addr add {address}/{length} dev {name} nodad");
        for address in leg.virtuals6 {
            let _ = writeln!(batch, "addr add {address}/128 dev {name} nodad");
        }
        let index = index as u8;
        for number in leg.neighbours {
            let mac = text(neighbour_mac(index, *number));
            for address in [
                host(index, *number).to_string(),
                host6(index, *number).to_string(),
            ] {
                let _ = writeln!(
                    batch,
                    "neigh add {address} lladdr {mac} dev {name} nud permanent"
                );
            }
        }
    }
    let _ = writeln!(batch, "route add default via {UPSTREAM}");
    let _ = writeln!(batch, "route add ::/0 via {UPSTREAM6}");
    batch
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn indexes(namespace: &Namespace) -> [u32; 3] {
    let output = namespace.command("ip").args(["-o", "link"]).output();
    let output = output.expect("ip runs");
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    NAMES.map(|name| {
        let line = list
            .lines()
            .find(|line| line.contains(&format!(": {name}@")));
        line.and_then(|line| line.split(':').next()?.parse().ok())
            .expect("the interface that was just made")
    })
}
