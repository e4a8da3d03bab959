//! The `Plan`: everything that follows from a site file, and the only thing other tools read.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Serialize;

/// A whole site, checked: names resolve, addresses lie in their subnets, nothing overlaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Short name of the site, `[a-z0-9-]+`.
    pub name: String,
    /// The DNS name users type.
    pub domain: String,
    /// Networks in the order of the file; exactly one has `port == Wan`.
    pub networks: Vec<Network>,
    /// Appliances in the order of the file.
    pub appliances: Vec<Appliance>,
    /// Servers in the order of the file.
    pub servers: Vec<Server>,
    /// Every flow that is allowed between machines; all else is dropped, on appliances and servers.
    pub flows: Vec<Flow>,
    /// Services on the public virtual address, balanced by the appliances.
    pub services: Vec<Service>,
    /// VRRP settings shared by all networks.
    pub vrrp: Vrrp,
}

impl Plan {
    /// The network of this name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The servers of a role, the preferred one first.
    pub fn servers_of(&self, role: Role) -> impl Iterator<Item = &Server> {
        self.servers
            .iter()
            .filter(move |server| server.role == role)
    }

    /// The servers that a party of a flow stands for; none for the Internet and the appliances.
    pub fn servers_in(&self, party: &Party) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(move |server| match party {
            Party::Role(role) => server.role == *role,
            Party::Servers => true,
            Party::Internet | Party::Appliances => false,
        })
    }
}

/// One subnet (and VLAN) of the rack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Name, unique in the site.
    pub name: String,
    /// Which cable of a two-port appliance carries it.
    pub port: Port,
    /// The subnet.
    pub subnet: Ipv4Net,
    /// 802.1Q VLAN id; `None` only if the network is alone on its cable.
    pub vlan: Option<u16>,
    /// VRRP virtual router id.
    pub vrid: u8,
    /// The address that the Active appliance answers for (gateway of the servers; public address on wan).
    pub virtual_address: Ipv4Addr,
    /// Next-hop router of the site, on the wan network only.
    pub uplink: Option<Ipv4Addr>,
}

/// The two sides of an appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// Towards the provider.
    Wan,
    /// Towards the rack.
    Lan,
}

/// One of the firewall/balancer appliances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appliance {
    /// Name, unique among all machines.
    pub name: String,
    /// Folder name under `boards/`.
    pub board: String,
    /// VRRP priority.
    pub priority: u8,
    /// One leg per network, in the order of [`Plan::networks`].
    pub legs: Vec<Leg>,
}

/// An appliance's own presence in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// Name of the network.
    pub network: String,
    /// Index of the physical port: on a two-port board 0 is wan and 1 is lan, on a trunk board all are 0.
    pub port: u8,
    /// Tag on that port; `None` where the network is alone on it.
    pub vlan: Option<u16>,
    /// MAC address of the port (locally administered, derived from site, appliance and port).
    pub mac: [u8; 6],
    /// Own address.
    pub address: Ipv4Addr,
}

/// One server of the rack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Name, unique among all machines; also its host name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Name of its network.
    pub network: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// MAC address of its first NIC (locally administered, derived from site and name).
    pub mac: [u8; 6],
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// TLS termination and balancing, active/passive.
    Haproxy,
    /// Reverse proxy.
    Nginx,
    /// The application.
    App,
    /// MariaDB.
    Db,
    /// Prometheus.
    Monitor,
}

/// One allowed flow: first packets from `from` to `to`, answers follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Short name for rules and counters, such as `haproxy-nginx`.
    pub name: String,
    /// Who opens the connection.
    pub from: Party,
    /// Who is connected to.
    pub to: Party,
    /// Transport.
    pub protocol: Transport,
    /// Destination port; 0 for ping.
    pub port: u16,
    /// Why this flow exists, in the operator's words.
    pub why: String,
}

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// Anyone on the Internet.
    Internet,
    /// Every server of a role.
    Role(Role),
    /// Every server.
    Servers,
    /// The appliances themselves (health checks), from their own addresses.
    Appliances,
}

/// Transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Ping,
}

/// A public service: virtual address and port to the servers of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Name, such as `https`.
    pub name: String,
    /// Virtual address (that of the wan network).
    pub address: Ipv4Addr,
    /// Port users connect to.
    pub port: u16,
    /// Role that serves it; its servers in file order are active, passive, …
    pub role: Role,
    /// Port on the real servers.
    pub server_port: u16,
}

/// VRRP settings of the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Vrrp {
    /// Advertisement interval in centiseconds (RFC 9568 §5.2.7).
    pub advertisement_interval: u16,
    /// Preempt_Mode (RFC 9568 §6.1).
    pub preempt: bool,
}

/// Ports that the roles listen on; rendered configurations and derived flows both use these.
pub mod ports {
    /// HAProxy, users' HTTPS.
    pub const HTTPS: u16 = 443;
    /// HAProxy, users' HTTP (redirects to HTTPS).
    pub const HTTP: u16 = 80;
    /// HAProxy's own Prometheus metrics.
    pub const HAPROXY_METRICS: u16 = 8405;
    /// Nginx, from HAProxy.
    pub const NGINX: u16 = 8080;
    /// The app, from Nginx.
    pub const APP: u16 = 9000;
    /// MariaDB, from the app.
    pub const DB: u16 = 3306;
    /// Prometheus node exporter, from the monitor.
    pub const NODE_EXPORTER: u16 = 9100;
}
