//! Debian's keepalived and conntrackd, the kernel's router and nftables: what an operator would set up for the same pair.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{ECHO, GATEWAYS, INSIDE, Lab, PROBE, Program, SERVERS, VIRTUAL};

use super::Contender;
use super::verdict::THEIRS;
use crate::BenchError;

/// Both routers.
pub struct Keepalived {
    centiseconds: u16,
    running: [Vec<Program>; 2],
}

impl Keepalived {
    /// With this advertisement interval.
    pub fn new(centiseconds: u16) -> Self {
        Self {
            centiseconds,
            running: [Vec::new(), Vec::new()],
        }
    }
}

impl Contender for Keepalived {
    fn who(&self) -> &'static str {
        THEIRS
    }

    fn start(&mut self, lab: &Lab, gateway: usize) -> Result<(), BenchError> {
        // Whatever still runs of it ends: keepalived only, after a graceful stop.
        self.running[gateway].clear();
        lab.kill_all(gateway)?;
        let space = lab.gateway(gateway);
        let number = gateway + 2;
        space.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"], "")?;
        for (cable, network) in [("wan", "192.0.2"), ("lan", "10.9.0"), ("sync", "10.8.0")] {
            space.ip_all(&format!(
                "addr flush dev {cable}\naddr add {network}.{number}/24 dev {cable}\n"
            ))?;
        }
        space.run("nft", &["-f", "-"], &rules())?;
        space.run("conntrack", &["-F"], "")?; // as after a boot
        let sync = lab.path(&format!("{}-conntrackd", GATEWAYS[gateway]));
        let conf = lab.file(
            &format!("{}-conntrackd.conf", GATEWAYS[gateway]),
            conntrackd_conf(gateway, &sync),
        )?;
        let socket = sync.with_extension("ctl");
        let [parent, vrrp] =
            ["parent", "vrrp"].map(|kind| lab.path(&format!("{}-{kind}.pid", GATEWAYS[gateway])));
        for left in [&socket, &sync.with_extension("lock"), &parent, &vrrp] {
            let _ = std::fs::remove_file(left); // of one that was killed
        }
        let words = ["-C", &conf.display().to_string()];
        let conntrackd = lab.start(gateway, Path::new("conntrackd"), &words)?;
        self.running[gateway].push(conntrackd);
        let begun = Instant::now();
        while !socket.exists() {
            if begun.elapsed() > PATIENCE {
                let (what, said) = ("conntrackd's socket".into(), self.said());
                return Err(BenchError::NoResult { what, said });
            }
            sleep(Duration::from_millis(5));
        }
        // The other one's flows come before the addresses do.
        space.run("conntrackd", &[words[0], words[1], "-n"], "")?;
        sleep(BULK);
        let notify = lab.file(
            &format!("{}-notify.sh", GATEWAYS[gateway]),
            notify(&conf.display().to_string()),
        )?;
        let conf = lab.file(
            &format!("{}-keepalived.conf", GATEWAYS[gateway]),
            keepalived_conf(gateway, self.centiseconds, &notify),
        )?;
        let words = [
            "--dont-fork",
            "--log-console",
            "--vrrp",
            "--use-file",
            &conf.display().to_string(),
            "--pid",
            &parent.display().to_string(),
            "--vrrp_pid",
            &vrrp.display().to_string(),
        ];
        let keepalived = lab.start(gateway, Path::new("keepalived"), &words)?;
        self.running[gateway].push(keepalived);
        Ok(())
    }

    fn settle(&self, _: &Lab) -> Result<(), BenchError> {
        sleep(BULK);
        Ok(())
    }

    fn stop(&mut self, gateway: usize) {
        if let Some(keepalived) = self.running[gateway].last() {
            keepalived.terminate();
        }
    }

    fn said(&self) -> String {
        let running = self.running.iter().flatten();
        running.map(Program::log).collect::<Vec<_>>().join("\n")
    }
}

fn rules() -> String {
    let [server, _] = SERVERS;
    format!(
        "flush ruleset
table ip router {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        ip daddr {VIRTUAL} tcp dport {ECHO} dnat to {server}
        ip daddr {VIRTUAL} udp dport {PROBE} dnat to {server}
    }}
    chain forward {{
        type filter hook forward priority filter
        policy drop
        ct state established,related accept
        ct status dnat accept
    }}
}}
"
    )
}

/// In real time as ours is, both networks in one group.
fn keepalived_conf(gateway: usize, centiseconds: u16, notify: &Path) -> String {
    let interval = f64::from(centiseconds) / 100.0;
    let priority = [200, 150][gateway & 1];
    let notify = notify.display();
    let instance = |name, vrid, address| {
        format!(
            "vrrp_instance {name} {{
    state BACKUP
    interface {name}
    virtual_router_id {vrid}
    priority {priority}
    advert_int {interval}
    virtual_ipaddress {{
        {address}/24
    }}
}}
"
        )
    };
    format!(
        "global_defs {{
    vrrp_version 3
    vrrp_rt_priority 50
    vrrp_no_swap
    script_user root
}}
vrrp_sync_group both {{
    group {{
        wan
        lan
    }}
    notify_master \"/bin/sh {notify} primary\"
    notify_backup \"/bin/sh {notify} backup\"
}}
{}{}",
        instance("wan", 51, VIRTUAL),
        instance("lan", 52, INSIDE)
    )
}

/// Reliable, acknowledged, and straight into the kernel: the quickest of conntrackd's ways.
fn conntrackd_conf(gateway: usize, files: &Path) -> String {
    let (own, other) = (gateway + 2, 3 - gateway);
    let [lock, socket] = ["lock", "ctl"].map(|kind| files.with_extension(kind));
    let (lock, socket): (PathBuf, PathBuf) = (lock, socket);
    format!(
        "Sync {{
    Mode FTFW {{
        DisableExternalCache On
    }}
    UDP {{
        IPv4_address 10.8.0.{own}
        IPv4_Destination_Address 10.8.0.{other}
        Port 3780
        Interface sync
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize 32768
    HashLimit 131072
    LogFile off
    LockFile {}
    UNIX {{
        Path {}
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
            TCP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address 10.8.0.2
            IPv4_address 10.8.0.3
        }}
    }}
}}
",
        lock.display(),
        socket.display()
    )
}

/// conntrackd's own `primary-backup.sh`, without the steps of a cache that is not there, and without `-t`: that would flush the
/// flows that were put into the kernel.
fn notify(conf: &str) -> String {
    format!(
        "case \"$1\" in
primary) conntrackd -C {conf} -R; conntrackd -C {conf} -B ;;
backup) conntrackd -C {conf} -n ;;
esac
"
    )
}

const PATIENCE: Duration = Duration::from_secs(5);
/// A bulk of two dozen flows takes less.
const BULK: Duration = Duration::from_millis(300);
