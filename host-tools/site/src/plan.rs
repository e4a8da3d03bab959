//! The `Plan`: everything that follows from a site file, and the only thing other tools read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Serialize;

pub use crate::app::{App, Source};
pub use crate::http::{Http, RequestRate};
pub use crate::nginx::Nginx;
pub use crate::ssh::Ssh;
pub use crate::traffic::{Action, Flow, Party, PortRange, Ports, Set, Traffic};

/// A whole site, checked: names resolve, addresses lie in their subnets, nothing overlaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Short name of the site, `[a-z0-9-]+`.
    pub name: String,
    /// The DNS name users type.
    pub domain: String,
    /// The certificate that users see, if it is not to be made.
    pub certificate: Option<SiteCertificate>,
    /// Networks in the order of the file; exactly one has `port == Wan`.
    pub networks: Vec<Network>,
    /// Appliances in the order of the file.
    pub appliances: Vec<Appliance>,
    /// Servers in the order of the file.
    pub servers: Vec<Server>,
    /// How the database servers share one database.
    pub database: Database,
    /// Named sets of addresses, for flows.
    pub sets: Vec<Set>,
    /// Every flow between machines, the operator's first; what none accepts is dropped, on appliances and servers.
    pub flows: Vec<Flow>,
    /// Services on virtual addresses, balanced by the appliances.
    pub services: Vec<Service>,
    /// Address translation besides the services'.
    pub nat: Vec<Nat>,
    /// The appliances' defence against floods and odd packets.
    pub protection: policy::Protection,
    /// How HAProxy treats users.
    pub http: Http,
    /// How Nginx works.
    pub nginx: Nginx,
    /// The application.
    pub app: App,
    /// Operators' way into the servers, if they have one.
    pub ssh: Option<Ssh>,
    /// Who signs the certificates of servers that are checked over TLS; checks refer to them by index.
    pub authorities: Vec<Authority>,
    /// VRRP settings shared by all networks.
    pub vrrp: Vrrp,
    /// Machines of others that share the virtual addresses with an appliance.
    pub foreign: Vec<ForeignRouter>,
    /// How two appliances talk to each other apart from VRRP.
    pub pair: Option<Pair>,
    /// What appliances watch, besides the links of their ports and the neighbours that matter.
    pub tracks: Vec<Track>,
    /// Who is told what happens to the appliances.
    pub events: Events,
    /// What the monitor does.
    pub monitoring: Monitoring,
}

impl Plan {
    /// The network of this name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    /// Names of the values that programs post, in the order of the file: appliances know them by their position.
    pub fn posted(&self) -> impl Iterator<Item = &str> {
        self.tracks.iter().filter_map(|track| match &track.what {
            Tracked::Posted(name) => Some(name.as_str()),
            Tracked::Port(_) | Tracked::Neighbours(_) | Tracked::Service(_) => None,
        })
    }

    /// The same for servers that do no more than accept connections, as those of some tests: services ask neither
    /// for answers nor for agents.
    #[must_use]
    pub fn with_plain_checks(mut self) -> Self {
        for service in &mut self.services {
            service.check.kind = policy::CheckKind::Tcp;
            service.check.port = service.server_port;
            service.agent = None;
        }
        self
    }

    /// The servers of a role, the preferred one first.
    pub fn servers_of(&self, role: Role) -> impl Iterator<Item = &Server> {
        self.servers
            .iter()
            .filter(move |server| server.role == role)
    }
}

/// Who is told what happens to the appliances, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Those that get syslog messages.
    pub syslog: Vec<Collector>,
    /// Those that get SNMP traps.
    pub snmp: Vec<Collector>,
    /// The file with the traps' community, seen from the site file.
    pub community: Option<String>,
    /// The least severe events that they are told of.
    pub severity: policy::Severity,
}

/// A machine that listens to appliances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collector {
    /// Its name, if it is a server of the site.
    pub server: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
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
    /// The IPv6 subnet; without one the network carries IPv4 only.
    pub subnet6: Option<Ipv6Net>,
    /// The same as `virtual_address` for IPv6; with `subnet6` only.
    pub virtual6: Option<Ipv6Addr>,
    /// The same as `uplink` for IPv6; may be a link-local address.
    pub uplink6: Option<Ipv6Addr>,
    /// Longest IP packet, in bytes.
    pub mtu: u16,
    /// All virtual routers, the one with `virtual_address` first, then the one with `virtual6`.
    pub routers: Vec<Router>,
    /// Neighbours that are asked whether the network is there, instead of the uplink or the first servers.
    pub neighbours: Vec<Ipv4Addr>,
}

impl Network {
    /// Every address that the Active answers for here, but for link-local ones.
    pub fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = (self.routers.iter()).flat_map(|router| &router.addresses);
        all.copied().filter(|address| !is_link_local(*address))
    }

    /// VRRP virtual router id of `virtual6`.
    pub fn vrid6(&self) -> Option<u8> {
        let mut v6 = self.routers.iter().filter(|router| router.is_v6());
        v6.next().map(|router| router.vrid)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// One virtual router, of one IP version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Router {
    /// Virtual router identifier.
    pub vrid: u8,
    /// The protocol.
    pub version: policy::Version,
    /// Its addresses; of IPv6 the first is link-local.
    pub addresses: Vec<IpAddr>,
    /// How many of them adverts list.
    pub advertised: u8,
    /// Its interval in centiseconds, if not that of the site.
    pub advertisement_interval: Option<u16>,
    /// Accept_Mode.
    pub accept: bool,
    /// Whether it has the virtual MAC address.
    pub virtual_mac: bool,
    /// Whether adverts go to the other appliance and to `peers`, one by one.
    pub unicast: bool,
    /// Routers besides the other appliance.
    pub peers: Vec<IpAddr>,
}

impl Router {
    /// Whether it is one of IPv6.
    pub fn is_v6(&self) -> bool {
        self.addresses.first().is_some_and(IpAddr::is_ipv6)
    }
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
    /// Own IPv6 address, if the network has IPv6.
    pub address6: Option<Ipv6Addr>,
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
    /// Its IPv6 address, if its network has IPv6.
    pub address6: Option<Ipv6Addr>,
    /// MAC address of its first NIC (locally administered, derived from site and name).
    pub mac: [u8; 6],
}

impl Server {
    /// Its addresses of both versions.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.address)]
            .into_iter()
            .chain(self.address6.map(IpAddr::V6))
    }
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

/// How the database servers share one database, and where its backups go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// How it is shared.
    pub mode: DbMode,
    /// The monitor server with the vote that makes them odd; of galera with two servers only.
    pub arbiter: Option<String>,
    /// Its backups.
    pub backup: Backup,
}

/// How the database servers share one database. In each of them clients write to one server at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DbMode {
    /// A cluster: what is acknowledged is on all servers, and a majority goes on by itself.
    Galera,
    /// A primary whose commits wait for its replica; somebody promotes the replica.
    Semisync,
    /// One server.
    Primary,
}

impl DbMode {
    /// Its word in the site file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Galera => "galera",
            Self::Semisync => "semisync",
            Self::Primary => "primary",
        }
    }
}

/// Backups of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Seconds between two.
    pub every: u32,
    /// How many are kept.
    pub keep: u16,
    /// Name of the monitor server that keeps them.
    pub to: String,
}

/// A balanced service: a virtual address and port to real servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Name, such as `https`.
    pub name: String,
    /// Virtual address, that of the wan network unless another is asked for.
    pub address: Ipv4Addr,
    /// The IPv6 one, if that network has IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Port users connect to.
    pub port: u16,
    /// TCP or UDP.
    pub transport: policy::Transport,
    /// The real servers in the order of preference.
    pub servers: Vec<Member>,
    /// Port on the real servers.
    pub server_port: u16,
    /// How packets reach the real servers.
    pub forwarding: policy::Forwarding,
    /// Which server gets a new flow.
    pub balance: policy::Balance,
    /// Keeps a client with its server beyond one flow.
    pub persistence: Option<Persistence>,
    /// Healthy servers that the service needs.
    pub quorum: u8,
    /// Who answers while there are fewer.
    pub sorry: Option<Sorry>,
    /// Seconds in which the share of a server that came back grows to its weight.
    pub slow_start: u16,
    /// How servers are checked.
    pub check: policy::Check,
    /// Port of the HAProxy agent on each server.
    pub agent: Option<u16>,
}

/// A certificate of the operator's own for the domain; files, seen from the site file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteCertificate {
    /// The certificate and those between it and what users trust, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

/// Somebody who signs certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The site's own.
    Site,
    /// The one whose certificate is in this file, seen from the site file.
    File(String),
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Name of the server.
    pub server: String,
    /// Its share of new flows against the other servers'; 0 drains it.
    pub weight: u8,
    /// Most flows at a time; 0 for no limit.
    pub max_flows: u32,
}

/// Who answers for a service that has too few healthy servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sorry {
    /// Name of the server.
    pub server: String,
    /// Its port.
    pub port: u16,
}

/// Clients of one prefix stay with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// Bits of an IPv4 address that make one client.
    pub prefix: u8,
    /// Bits of an IPv6 address that make one client.
    pub prefix6: u8,
    /// Seconds after its last flow that a client is remembered.
    pub seconds: u16,
}

/// One translation of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Nat {
    /// Flows from these IPv4 prefixes that leave by `network` get its virtual address as source.
    Masquerade {
        /// Name of the entry.
        name: String,
        /// Who is translated.
        sources: Vec<Ipv4Net>,
        /// Name of the network they leave by.
        network: String,
        /// Source ports to take where a flow's own is not free.
        ports: PortRange,
    },
    /// Flows to the virtual address of `network` and these ports go to a server.
    Forward {
        /// Name of the entry; the flow `forward-NAME` lets its packets through.
        name: String,
        /// TCP or UDP.
        transport: policy::Transport,
        /// Name of the network whose virtual addresses are meant.
        network: String,
        /// Ports there.
        ports: PortRange,
        /// Name of the server.
        server: String,
        /// Its port for the first of `ports`.
        server_port: u16,
    },
    /// The prefix of IPv6 addresses changes when packets leave by `network` (RFC 6296).
    Prefix6 {
        /// Name of the entry.
        name: String,
        /// Name of the network they leave by.
        network: String,
        /// Prefix inside.
        inside: Ipv6Net,
        /// Prefix outside, of the same length.
        outside: Ipv6Net,
    },
}

/// VRRP settings of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vrrp {
    /// Advertisement interval in centiseconds (RFC 9568 §5.2.7).
    pub advertisement_interval: u16,
    /// Preempt_Mode (RFC 9568 §6.1).
    pub preempt: bool,
    /// Milliseconds that a better appliance waits before it takes over.
    pub preempt_delay: u32,
    /// Milliseconds that an appliance only listens after its start.
    pub start_delay: u32,
    /// The checksum of IPv4 adverts of version 3.
    pub checksum: policy::Checksum,
    /// Whether adverts with other addresses are dropped.
    pub strict_addresses: bool,
    /// TTLs that adverts may arrive with.
    pub ttl: (u8, u8),
    /// How adverts are authenticated.
    pub authentication: Authentication,
    /// How addresses are announced.
    pub announce: policy::Announce,
}

/// How adverts are authenticated; the secrets are in files beside the site file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// Not at all.
    None,
    /// By the password in this file, in adverts of version 2.
    Password(String),
    /// By HMAC, in adverts of version 3.
    Hmac {
        /// Identifiers and files of the keys; the first one signs.
        keys: Vec<(u8, String)>,
        /// What becomes of adverts without a trailer.
        mode: policy::HmacMode,
    },
}

/// A machine with keepalived that stands in for one appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignRouter {
    /// Name, unique among all machines.
    pub name: String,
    /// VRRP priority.
    pub priority: u8,
    /// Its presence in each network, in the order of [`Plan::networks`].
    pub legs: Vec<ForeignLeg>,
}

/// Its presence in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignLeg {
    /// Name of the network.
    pub network: String,
    /// Tag on its cable; `None` where the network is alone on it.
    pub vlan: Option<u16>,
    /// Own address.
    pub address: Ipv4Addr,
    /// Own IPv6 address, if the network has IPv6.
    pub address6: Option<Ipv6Addr>,
}

/// How two appliances talk to each other apart from VRRP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// Milliseconds between two heartbeats.
    pub heartbeat: u16,
    /// How many must be missing for a dead peer.
    pub misses: u8,
    /// Names of the networks that are paths, the one for the flows first.
    pub networks: Vec<String>,
    /// Whether a serial line is one more path.
    pub serial: bool,
    /// Whether flows are shared.
    pub sync: bool,
    /// Whether first packets wait until the peer knows their flows.
    pub defer: bool,
}

/// A condition, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Track {
    /// What is watched.
    pub what: Tracked,
    /// Added while good if positive, while bad if negative; 0 for a fault.
    pub weight: i16,
    /// Whether good and bad change places.
    pub reverse: bool,
}

/// What can be watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tracked {
    /// The link of a port.
    Port(Port),
    /// Neighbours in this network.
    Neighbours(String),
    /// The quorum of this service.
    Service(String),
    /// The value that is posted under this name.
    Posted(String),
}

/// Where HAProxy says on [`ports::HAPROXY_HEALTH`] whether it has a web server.
pub const HEALTH_PATH: &str = "/health";

/// How closely the monitor looks, how long it remembers, and whom it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Monitoring {
    /// Seconds between two looks at the same figures.
    pub scrape_interval: u16,
    /// Days that figures are kept.
    pub retention: u16,
    /// Days that logs are kept.
    pub logs: u16,
    /// Name servers of the monitor.
    pub resolvers: Vec<Ipv4Addr>,
    /// URL that alerts are posted to.
    pub webhook: Option<String>,
    /// Whom alerts are mailed to.
    pub email: Option<Email>,
    /// The central sink for logs and figures.
    pub sumo: Option<Sumo>,
}

/// Alerts by e-mail; always over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email {
    /// Who gets them.
    pub to: Vec<String>,
    /// Whose they are.
    pub from: String,
    /// Name or address of the mail server.
    pub server: String,
    /// Its port: with TLS from the start on 465, after STARTTLS on others.
    pub port: u16,
    /// Who we are there.
    pub user: Option<String>,
    /// File beside the site file with the password, a secret.
    pub password_file: Option<String>,
    /// File beside the site file with the certificate of who signed the mail server's.
    pub ca: Option<String>,
}

/// Sumo Logic's HTTP source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sumo {
    /// File beside the site file with the source's URL, a secret.
    pub url_file: String,
    /// What all that is shipped belongs to there.
    pub category: String,
}

/// Ports that the roles listen on; rendered configurations and derived flows both use these.
pub mod ports {
    /// HAProxy, users' HTTPS.
    pub const HTTPS: u16 = 443;
    /// HAProxy, users' HTTP (redirects to HTTPS).
    pub const HTTP: u16 = 80;
    /// HAProxy's own Prometheus metrics.
    pub const HAPROXY_METRICS: u16 = 8405;
    /// HAProxy, what it can take, from the appliances.
    pub const HAPROXY_AGENT: u16 = 8009;
    /// HAProxy, whether it has a web server, from the appliances.
    pub const HAPROXY_HEALTH: u16 = 8008;
    /// HAProxy, what it knows of clients, from the other one.
    pub const HAPROXY_PEERS: u16 = 10_000;
    /// Nginx, from HAProxy.
    pub const NGINX: u16 = 8080;
    /// The app, from Nginx.
    pub const APP: u16 = 9000;
    /// MariaDB, from the app.
    pub const DB: u16 = 3306;
    /// The state of a database server or its arbiter, from those that must know it.
    pub const DB_STATE: u16 = 9200;
    /// State snapshot transfer of Galera, among database servers.
    pub const DB_SST: u16 = 4444;
    /// Group communication of Galera, among database servers and their arbiter.
    pub const DB_GROUP: u16 = 4567;
    /// Incremental state transfer of Galera, among database servers.
    pub const DB_IST: u16 = 4568;
    /// The keeper of the database's backups, from database servers.
    pub const DB_BACKUP: u16 = 9201;
    /// Prometheus, from whom a flow of the site lets in.
    pub const PROMETHEUS: u16 = 9090;
    /// Syslog over UDP, from the appliances.
    pub const SYSLOG: u16 = 514;
    /// SNMP traps, from the appliances.
    pub const TRAPS: u16 = 162;
    /// Prometheus node exporter, from the monitor.
    pub const NODE_EXPORTER: u16 = 9100;
    /// Nginx exporter, from the monitor.
    pub const NGINX_EXPORTER: u16 = 9113;
    /// MariaDB exporter, from the monitor.
    pub const MYSQL_EXPORTER: u16 = 9104;
    /// The monitor's page, from whom a flow of the site lets in.
    pub const DASHBOARD: u16 = 443;
    /// rsyslog of the monitor, from the other servers, by TLS (RFC 5425).
    pub const LOGS: u16 = 6514;
    /// Name servers.
    pub const DNS: u16 = 53;
    /// Mail servers, for those who send (RFC 6409).
    pub const SUBMISSION: u16 = 587;
    /// Operators' logins to servers, from the management network.
    pub const SSH: u16 = 22;
    /// Updates of a server, from the network of the monitor.
    pub const UPDATE: u16 = 9443;
}
