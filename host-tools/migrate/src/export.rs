//! The configuration of a keepalived that stands in for one appliance of a site.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use policy::{Balance, Check, CheckKind, Checksum, Forwarding, Transport, Version};
use serde::Serialize;
use site::{
    Plan,
    plan::{Authentication, Network, Port, Router, Service, Tracked},
};

/// A configuration, and what is not in it.
#[derive(Clone, Debug)]
pub struct Export {
    /// The text of keepalived.conf.
    pub conf: String,
    /// What the site asks for and keepalived cannot do, or not from this file alone.
    pub missing: Vec<Missing>,
}

/// Something that keepalived does not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Part of the site.
    pub what: String,
    /// Why, or what to do about it.
    pub why: String,
}

/// Names of the machine's network interfaces.
#[derive(Clone, Debug)]
pub struct Interfaces {
    /// Towards the provider.
    pub wan: String,
    /// Towards the rack.
    pub lan: String,
}

impl Default for Interfaces {
    fn default() -> Self {
        Self {
            wan: "eth0".to_owned(),
            lan: "eth1".to_owned(),
        }
    }
}

/// Why there is no such configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The site does not know the machine.
    #[error("the site has no appliance named `{name}`")]
    NoSuchAppliance {
        /// What was asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
}

/// A machine that takes part.
struct Member {
    name: String,
    priority: u8,
    /// Its addresses in each network, in the order of the plan.
    own: Vec<(Ipv4Addr, Option<Ipv6Addr>)>,
}

/// The configuration of the appliance called `name`, be it one of ours or a keepalived already.
///
/// # Errors
/// If there is no such appliance.
pub fn keepalived(plan: &Plan, name: &str, interfaces: &Interfaces) -> Result<Export, ExportError> {
    let members = members(plan);
    let Some(member) = members.iter().find(|member| member.name == name) else {
        return Err(ExportError::NoSuchAppliance {
            name: name.to_owned(),
            known: members.into_iter().map(|member| member.name).collect(),
        });
    };
    let mut writer = Writer {
        plan,
        interfaces,
        member,
        others: members.iter().filter(|other| other.name != name).collect(),
        text: String::new(),
        depth: 0,
        missing: Vec::new(),
    };
    writer.whole();
    Ok(Export {
        conf: writer.text,
        missing: writer.missing,
    })
}

fn members(plan: &Plan) -> Vec<Member> {
    let ours = plan.appliances.iter().map(|appliance| Member {
        name: appliance.name.clone(),
        priority: appliance.priority,
        own: (appliance.legs.iter())
            .map(|leg| (leg.address, leg.address6))
            .collect(),
    });
    let foreign = plan.foreign.iter().map(|foreign| Member {
        name: foreign.name.clone(),
        priority: foreign.priority,
        own: (foreign.legs.iter())
            .map(|leg| (leg.address, leg.address6))
            .collect(),
    });
    ours.chain(foreign).collect()
}

struct Writer<'a> {
    plan: &'a Plan,
    interfaces: &'a Interfaces,
    member: &'a Member,
    others: Vec<&'a Member>,
    text: String,
    depth: usize,
    missing: Vec<Missing>,
}

impl Writer<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        // Writing into a text does not fail.
        let _ = writeln!(self.text, "{:1$}{2}", "", self.depth * 4, line.as_ref());
    }

    fn block(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(format!("{head} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }

    fn missing(&mut self, what: impl Into<String>, why: &str) {
        let missing = Missing {
            what: what.into(),
            why: why.to_owned(),
        };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    fn whole(&mut self) {
        let plan = self.plan;
        self.line(format!(
            "# keepalived in the place of {}, for site {}: by `ravelin export`.",
            self.member.name, plan.name
        ));
        self.line("");
        self.globals();
        self.scripts();
        self.group();
        for (position, network) in plan.networks.iter().enumerate() {
            for router in &network.routers {
                self.instance(position, network, router);
            }
        }
        for service in &plan.services {
            self.service(service);
        }
        self.rest();
    }

    fn globals(&mut self) {
        let vrrp = &self.plan.vrrp;
        self.block("global_defs", |w| {
            w.line(format!("router_id {}", w.member.name));
            w.line("enable_script_security");
            if vrrp.start_delay > 0 {
                w.line(format!("vrrp_startup_delay {}", seconds(vrrp.start_delay)));
            }
            let gap = u32::from(vrrp.announce.gap);
            w.line(format!("vrrp_garp_interval {}", seconds(gap)));
            w.line(format!("vrrp_gna_interval {}", seconds(gap)));
            if w.has_v3() && vrrp.checksum == Checksum::Message {
                w.line("v3_checksum_as_v2");
                w.missing(
                    "checksum = \"rfc9568\"",
                    "keepalived of Debian 12 knows no v3_checksum_as_v2: leave `checksum` out in [vrrp] for it",
                );
            }
        });
    }

    /// Whether IPv4 adverts are of version 3.
    fn has_v3(&self) -> bool {
        let mut routers = self
            .plan
            .networks
            .iter()
            .flat_map(|network| &network.routers);
        routers.any(|router| !router.is_v6() && router.version == Version::V3)
    }

    fn interface(&self, network: &Network) -> String {
        let name = match network.port {
            Port::Wan => &self.interfaces.wan,
            Port::Lan => &self.interfaces.lan,
        };
        let sharing = self
            .plan
            .networks
            .iter()
            .filter(|other| other.port == network.port);
        match network.vlan.filter(|_| sharing.count() > 1) {
            Some(vlan) => format!("{name}.{vlan}"),
            None => name.clone(),
        }
    }

    /// Pings of neighbours: what an appliance asks by ARP.
    fn scripts(&mut self) {
        for (name, addresses) in self.watched() {
            let ping = |address: &Ipv4Addr| format!("/usr/bin/ping -c 1 -W 1 {address}");
            let script = match &addresses[..] {
                [one] => ping(one),
                several => {
                    let pings: Vec<String> = several.iter().map(ping).collect();
                    format!("/bin/sh -c '{}'", pings.join(" || "))
                }
            };
            self.block(&format!("vrrp_script neighbours-{name}"), |w| {
                w.line(format!("script \"{script}\""));
                w.line("interval 1");
                w.line("timeout 2");
                w.line("rise 2");
                w.line("fall 3");
                w.line("user root");
            });
        }
        for name in self.plan.posted() {
            self.block(&format!("track_file {name}"), |w| {
                w.line(format!("file /run/keepalived/{name}"));
            });
            self.missing(
                format!("posted value {name}"),
                "write 1 while it is good and 0 while it is bad into /run/keepalived/NAME: nobody notices that it is old",
            );
        }
    }

    /// Networks whose neighbours are watched: the wan, and those that the site names.
    fn watched(&self) -> Vec<(String, Vec<Ipv4Addr>)> {
        let named = |network: &Network| {
            (self.plan.tracks.iter())
                .any(|track| track.what == Tracked::Neighbours(network.name.clone()))
        };
        let mut watched = Vec::new();
        for network in &self.plan.networks {
            // Where nobody takes over from a weaker one, being weaker changes nothing.
            let derived = network.port == Port::Wan && self.plan.vrrp.preempt;
            if !derived && !named(network) {
                continue;
            }
            let servers = self
                .plan
                .servers
                .iter()
                .filter(|server| server.network == network.name);
            let addresses: Vec<Ipv4Addr> = match (&network.neighbours[..], network.uplink) {
                ([], Some(uplink)) => vec![uplink],
                ([], None) => servers
                    .map(|server| server.address)
                    .take(policy::MAX_TRACKED)
                    .collect(),
                (named, _) => named.to_vec(),
            };
            if !addresses.is_empty() {
                watched.push((network.name.clone(), addresses));
            }
        }
        watched
    }

    /// All virtual routers move together; what costs priority stands here, since keepalived ignores it in members.
    fn group(&mut self) {
        let plan = self.plan;
        self.block("vrrp_sync_group all", |w| {
            w.block("group", |w| {
                for network in &plan.networks {
                    for router in &network.routers {
                        w.line(instance_name(network, router));
                    }
                }
            });
            w.tracks();
        });
    }

    fn tracks(&mut self) {
        let plan = self.plan;
        let suffix = |weight: i16, reverse: bool| match (weight, reverse) {
            (0, _) => String::new(),
            (weight, false) => format!(" weight {weight}"),
            (weight, true) => format!(" weight {weight} reverse"),
        };
        let mut interfaces = Vec::new();
        let mut files = Vec::new();
        let mut scripts = Vec::new();
        for track in &plan.tracks {
            let suffix = suffix(track.weight, track.reverse);
            match &track.what {
                Tracked::Port(port) => {
                    let name = match port {
                        Port::Wan => &self.interfaces.wan,
                        Port::Lan => &self.interfaces.lan,
                    };
                    interfaces.push(format!("{name}{suffix}"));
                }
                Tracked::Neighbours(network) => scripts.push((network.clone(), suffix)),
                Tracked::Posted(name) => files.push(format!("{name}{suffix}")),
                Tracked::Service(name) => self.missing(
                    format!("watching service {name}"),
                    "keepalived's checks of servers do not change its priority",
                ),
            }
        }
        for (name, _) in self.watched() {
            if !scripts.iter().any(|(known, _)| *known == name) {
                scripts.push((name, suffix(-self.margin(), false)));
            }
        }
        let scripts = scripts
            .into_iter()
            .map(|(name, suffix)| format!("neighbours-{name}{suffix}"));
        for (head, lines) in [
            ("track_interface", interfaces),
            ("track_script", scripts.collect()),
            ("track_file", files),
        ] {
            if !lines.is_empty() {
                self.block(head, |w| lines.iter().for_each(|line| w.line(line)));
            }
        }
    }

    /// More than the difference of the priorities, as on appliances.
    fn margin(&self) -> i16 {
        let others = self
            .others
            .iter()
            .map(|other| other.priority.abs_diff(self.member.priority));
        (i16::from(others.max().unwrap_or(0)) + 10).min(253)
    }

    fn instance(&mut self, position: usize, network: &Network, router: &Router) {
        let vrrp = &self.plan.vrrp;
        let version6 = router.is_v6();
        let own = self.member.own.get(position);
        let own = own.and_then(|(v4, v6)| match version6 {
            true => v6.map(IpAddr::V6),
            false => Some(IpAddr::V4(*v4)),
        });
        let peers: Vec<IpAddr> = (self.others.iter())
            .filter_map(|other| other.own.get(position))
            .filter_map(|(v4, v6)| match version6 {
                true => v6.map(IpAddr::V6),
                false => Some(IpAddr::V4(*v4)),
            })
            .chain(router.peers.iter().copied())
            .collect();
        let interval = router
            .advertisement_interval
            .unwrap_or(vrrp.advertisement_interval);
        let interface = self.interface(network);
        let (listed, excluded) = (router.addresses)
            .split_at_checked(router.advertised.into())
            .unwrap_or((&router.addresses, &[]));
        self.line("");
        self.block(
            &format!("vrrp_instance {}", instance_name(network, router)),
            |w| {
                w.line("state BACKUP");
                w.line(format!("interface {interface}"));
                w.line(format!("virtual_router_id {}", router.vrid));
                w.line(format!("priority {}", w.member.priority));
                w.line(format!("advert_int {}", seconds(u32::from(interval) * 10)));
                w.line(match router.version {
                    Version::V2 => "version 2",
                    Version::V3 => "version 3",
                });
                if !vrrp.preempt {
                    w.line("nopreempt");
                }
                if vrrp.preempt_delay > 0 {
                    w.line(format!("preempt_delay {}", seconds(vrrp.preempt_delay)));
                }
                w.line(if router.accept { "accept" } else { "no_accept" });
                if router.virtual_mac {
                    // An interface's name has 15 characters.
                    w.line(format!(
                        "use_vmac vrrp{}.{}",
                        if version6 { 6 } else { 4 },
                        router.vrid
                    ));
                    if router.unicast {
                        w.line("vmac_xmit_base");
                    }
                }
                w.adverts(router, own, &peers);
                w.announcements();
                w.block("virtual_ipaddress", |w| w.addresses(network, listed));
                if !excluded.is_empty() {
                    w.block("virtual_ipaddress_excluded", |w| {
                        w.addresses(network, excluded)
                    });
                }
                w.routes(network, router, &interface);
            },
        );
    }

    fn adverts(&mut self, router: &Router, own: Option<IpAddr>, peers: &[IpAddr]) {
        let vrrp = &self.plan.vrrp;
        if let Some(own) = own.filter(|_| router.unicast) {
            self.line(format!("unicast_src_ip {own}"));
            let (lowest, highest) = vrrp.ttl;
            self.block("unicast_peer", |w| {
                for peer in peers {
                    w.line(format!("{peer} min_ttl {lowest} max_ttl {highest}"));
                }
            });
            self.line("unicast_ttl 255");
        } else if let Some(own) = own.filter(IpAddr::is_ipv4) {
            self.line(format!("mcast_src_ip {own}"));
        }
        match (&vrrp.authentication, router.version) {
            (Authentication::Password(file), Version::V2) => {
                self.block("authentication", |w| {
                    w.line("auth_type PASS");
                    w.line("include auth_pass.conf");
                });
                self.missing(
                    format!("the password in {file}"),
                    "write `auth_pass PASSWORD` into auth_pass.conf beside keepalived.conf (chmod 600)",
                );
            }
            (Authentication::Hmac { .. }, Version::V3) => self.missing(
                "adverts with HMAC",
                "Debian's keepalived knows none: mode = \"receive-only\" on the appliance until it is replaced",
            ),
            (Authentication::None | Authentication::Password(_) | Authentication::Hmac { .. }, _) => {}
        }
        if !vrrp.strict_addresses {
            self.line("skip_check_adv_addr");
        }
    }

    fn announcements(&mut self) {
        let announce = self.plan.vrrp.announce;
        self.line(format!("garp_master_repeat {}", announce.repeat));
        self.line(format!(
            "garp_master_delay {}",
            announce.second.div_ceil(1000)
        ));
        self.line(format!("garp_master_refresh {}", announce.refresh));
        self.line(format!("garp_lower_prio_repeat {}", announce.rival));
        self.line("higher_prio_send_advert");
        if announce.replies {
            self.missing(
                "replies of [vrrp.announce]",
                "keepalived announces by ARP requests only",
            );
        }
        if announce.router_advertisement > 0 {
            self.missing(
                "router_advertisement",
                "run radvd on the machine, started and stopped by notify scripts",
            );
        }
    }

    fn addresses(&mut self, network: &Network, addresses: &[IpAddr]) {
        for address in addresses {
            let bits = match address {
                IpAddr::V4(_) => Some(network.subnet.prefix_len()),
                IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(64),
                IpAddr::V6(_) => network.subnet6.map(|subnet| subnet.prefix_len()),
            };
            self.line(match bits {
                Some(bits) => format!("{address}/{bits}"),
                None => address.to_string(),
            });
        }
    }

    /// The way out, with the network's own virtual router.
    fn routes(&mut self, network: &Network, router: &Router, interface: &str) {
        let own = |address: IpAddr| router.addresses.contains(&address);
        let v4 = (network.uplink).filter(|_| own(IpAddr::V4(network.virtual_address)));
        let v6 =
            (network.uplink6).filter(|_| network.virtual6.is_some_and(|v6| own(IpAddr::V6(v6))));
        let via = match (router.is_v6(), v4, v6) {
            (false, Some(via), _) => format!("0.0.0.0/0 via {via} dev {interface}"),
            (true, _, Some(via)) => format!("::/0 via {via} dev {interface}"),
            _ => return,
        };
        self.block("virtual_routes", |w| w.line(via));
    }

    fn service(&mut self, service: &Service) {
        let v6: Vec<IpAddr> = (service.servers.iter())
            .filter_map(|member| self.plan.server(&member.server))
            .filter_map(|server| server.address6.map(IpAddr::V6))
            .collect();
        self.virtual_server(service, IpAddr::V4(service.address));
        if let Some(address) = service.address6.filter(|_| !v6.is_empty()) {
            self.virtual_server(service, IpAddr::V6(address));
        }
        let name = &service.name;
        if service.slow_start > 0 {
            self.missing(
                format!("slow_start of {name}"),
                "a server that came back gets its whole share at once",
            );
        }
        if service.agent.is_some() {
            self.missing(
                format!("agent of {name}"),
                "keepalived asks no agents; a MISC_CHECK program could",
            );
        }
        if service.check.rise > 1 {
            self.missing(
                format!("rise of {name}"),
                "one good answer makes a server healthy",
            );
        }
    }

    fn virtual_server(&mut self, service: &Service, address: IpAddr) {
        let plan = self.plan;
        let address_of = |name: &str| {
            let server = plan.server(name)?;
            match address {
                IpAddr::V4(_) => Some(IpAddr::V4(server.address)),
                IpAddr::V6(_) => server.address6.map(IpAddr::V6),
            }
        };
        self.line("");
        self.block(&format!("virtual_server {address} {}", service.port), |w| {
            w.line(match service.transport {
                Transport::Tcp => "protocol TCP",
                Transport::Udp => "protocol UDP",
            });
            w.line(match service.balance {
                Balance::Failover => "lvs_sched fo",
                Balance::RoundRobin => "lvs_sched wrr",
                Balance::LeastConnections => "lvs_sched wlc",
                Balance::SourceHash => "lvs_sched sh",
                Balance::Maglev => "lvs_sched mh",
            });
            w.line(match service.forwarding {
                Forwarding::Nat => "lvs_method NAT",
                Forwarding::DirectReturn => "lvs_method DR",
            });
            if let Some(persistence) = service.persistence {
                w.line(format!("persistence_timeout {}", persistence.seconds));
                w.line(match address {
                    IpAddr::V4(_) => {
                        let mask = u32::MAX.checked_shl(32 - u32::from(persistence.prefix));
                        format!(
                            "persistence_granularity {}",
                            Ipv4Addr::from_bits(mask.unwrap_or(0))
                        )
                    }
                    IpAddr::V6(_) => format!("persistence_granularity {}", persistence.prefix6),
                });
            }
            if service.quorum > 1 {
                w.line(format!("quorum {}", service.quorum));
                let weighed = service.servers.iter().any(|member| member.weight != 1);
                if weighed || service.balance == Balance::Failover {
                    w.missing(
                        format!("quorum of {}", service.name),
                        "keepalived adds up weights",
                    );
                }
            }
            if let Some(sorry) = &service.sorry
                && let Some(address) = address_of(&sorry.server)
            {
                w.line(format!("sorry_server {address} {}", sorry.port));
            }
            w.line("alpha");
            w.line(format!(
                "delay_loop {}",
                seconds(service.check.interval_ms.into())
            ));
            w.line(format!(
                "connect_timeout {}",
                seconds(service.check.timeout_ms.into())
            ));
            w.line(format!("retry {}", service.check.fall.saturating_sub(1)));
            w.line(format!(
                "delay_before_retry {}",
                seconds(service.check.interval_ms.into())
            ));
            let count = service.servers.len();
            for (position, member) in service.servers.iter().enumerate() {
                let Some(address) = address_of(&member.server) else {
                    continue;
                };
                w.block(
                    &format!("real_server {address} {}", service.server_port),
                    |w| {
                        // Fail-over goes by weight there, by order here.
                        let weight = match (member.weight, service.balance) {
                            (1.., Balance::Failover) => count - position,
                            (weight, _) => weight.into(),
                        };
                        w.line(format!("weight {weight}"));
                        if member.max_flows > 0 {
                            w.line(format!("uthreshold {}", member.max_flows));
                        }
                        w.check(service, &service.check);
                    },
                );
            }
        });
    }

    fn check(&mut self, service: &Service, check: &Check) {
        let port =
            (check.port != service.server_port).then(|| format!("connect_port {}", check.port));
        let head = match &check.kind {
            CheckKind::Ping => "PING_CHECK",
            CheckKind::Tcp | CheckKind::Mysql => "TCP_CHECK",
            CheckKind::Http { .. } => "HTTP_GET",
            CheckKind::Https { .. } => "SSL_GET",
            CheckKind::Dns { .. } => "DNS_CHECK",
        };
        self.block(head, |w| {
            if let Some(port) = port.filter(|_| !matches!(check.kind, CheckKind::Ping)) {
                w.line(port);
            }
            match &check.kind {
                CheckKind::Ping | CheckKind::Tcp => {}
                CheckKind::Mysql => w.missing(
                    format!("check of {}", service.name),
                    "keepalived does not read MySQL's greeting: it asks whether the port is open",
                ),
                CheckKind::Http {
                    host,
                    path,
                    lowest,
                    highest,
                } => w.url(path, host, *lowest, *highest),
                CheckKind::Https {
                    host,
                    path,
                    lowest,
                    highest,
                    trust,
                } => {
                    w.line("enable_sni");
                    w.url(path, host, *lowest, *highest);
                    if *trust != policy::Trust::Anybody {
                        w.missing(
                            format!("certificates of {}", service.name),
                            "keepalived does not verify them",
                        );
                    }
                }
                CheckKind::Dns { name } => {
                    w.line("type A");
                    w.line(format!("name {name}"));
                }
            }
        });
    }

    fn url(&mut self, path: &str, host: &str, lowest: u16, highest: u16) {
        self.block("url", |w| {
            w.line(format!("path {path}"));
            w.line(format!("virtualhost {host}"));
            w.line(format!("status_code {lowest}-{highest}"));
        });
    }

    /// What the appliances do besides VRRP and balancing.
    fn rest(&mut self) {
        let plan = self.plan;
        let why = "keepalived is no firewall: write the same into nftables";
        self.missing(format!("{} flows", plan.flows.len()), why);
        if !plan.nat.is_empty() {
            let names: Vec<&str> = plan
                .nat
                .iter()
                .map(|nat| match nat {
                    site::plan::Nat::Masquerade { name, .. }
                    | site::plan::Nat::Forward { name, .. }
                    | site::plan::Nat::Prefix6 { name, .. } => name.as_str(),
                })
                .collect();
            self.missing(format!("translations: {}", names.join(", ")), why);
        }
        self.missing(
            "flows of the other machine",
            "connections do not survive a take-over between an appliance and keepalived",
        );
        self.missing("own addresses and forwarding", "give each interface its address, and set net.ipv4.ip_forward (and net.ipv6.conf.all.forwarding) to 1");
    }
}

/// As the instance is called: network, identifier and version of IP.
fn instance_name(network: &Network, router: &Router) -> String {
    let version = if router.is_v6() { 6 } else { 4 };
    format!("{}-{}-ipv{version}", network.name, router.vrid)
}

/// Milliseconds as keepalived's seconds.
fn seconds(ms: u32) -> String {
    match ms % 1000 {
        0 => (ms / 1000).to_string(),
        rest => {
            let fraction = format!("{rest:03}");
            format!("{}.{}", ms / 1000, fraction.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn seconds_as_keepalived_has_them() {
        let table = [
            (0, "0"),
            (1, "0.001"),
            (50, "0.05"),
            (1000, "1"),
            (2500, "2.5"),
            (40_950, "40.95"),
        ];
        for (ms, text) in table {
            assert_eq!(seconds(ms), text);
        }
    }
}
