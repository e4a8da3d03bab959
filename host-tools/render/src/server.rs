//! The files that make one server of the role's image: its identity, its firewall, its daemons'
//! configuration, its secrets. They are laid over `/etc` when the server boots.

mod app;
mod db;
mod exporters;
mod haproxy;
mod logs;
mod monitor;
mod nginx;
mod ssh;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use site::Plan;
use site::plan::{Network, Role, Server, ports};

use crate::{RenderError, firewall};

/// One file of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFile {
    /// Absolute path on the server.
    pub path: String,
    /// Permission bits; the owner is root.
    pub mode: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

/// What one server needs and the plan does not say: certificates, keys, passwords. Each server is
/// given only what its role uses.
#[derive(Clone, Default)]
pub struct Material {
    /// Certificate of the site's root, PEM; two during a rotation. Whatever the site signed leads there, so a peer that is
    /// checked against it alone may be anybody of the site: among servers, use [`Self::tier`].
    pub ca: String,
    /// For each role, the certificates that sign for its servers and for nobody else, PEM.
    pub tiers: BTreeMap<Role, String>,
    /// The server's certificate, under its name, for those who connect to it.
    pub server: Option<Identity>,
    /// The server's certificate, under its name, to connect with.
    pub client: Option<Identity>,
    /// One certificate for both, where a program cannot have two: for the db and monitor roles, whose cluster needs it.
    pub peer: Option<Identity>,
    /// Certificate that users see, for the site's domain; for the haproxy role.
    pub site: Option<Identity>,
    /// URL of the sink that the monitor ships to, if the site has one; for the monitor role.
    pub sumo_url: Option<String>,
    /// What the mail server that alerts go to asks for, if they are mailed; for the monitor role.
    pub mail: Option<Mail>,
    /// Private SSH host key, as OpenSSH writes it, if operators can log in.
    pub ssh_host_key: Option<String>,
    /// Password of the application's database user, letters and digits; for the app and db roles.
    pub database_password: Option<String>,
}

impl Material {
    /// What a peer's certificate must lead to if it is to be a server of this role. Its name has to be checked as well.
    pub fn tier(&self, server: &Server, role: Role) -> Result<&str, RenderError> {
        let anchors = self.tiers.get(&role).map(String::as_str);
        needed(server, "the authority of a tier that it talks to", anchors)
    }
}

/// A certificate and its private key, PEM.
#[derive(Clone, Default)]
pub struct Identity {
    /// Certificate chain, leaf first.
    pub certificate: String,
    /// PKCS #8 private key.
    pub key: String,
}

/// What is needed to send mail besides what the plan says.
#[derive(Clone, Default)]
pub struct Mail {
    /// Our password.
    pub password: Option<String>,
    /// The certificate of who signed the mail server's, PEM.
    pub ca: Option<String>,
}

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Everything below `/etc` that makes `server` itself.
pub fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let network = crate::network(plan, &server.name, &server.network)?;
    let mut files = vec![
        public("/etc/hostname", format!("{}\n", server.name)),
        public("/etc/hosts", hosts(plan)),
        public(
            "/etc/systemd/network/10-rack.network",
            network_unit(server, network),
        ),
        public("/etc/nftables.conf", firewall::nftables(plan, server)?),
        public(
            "/etc/default/prometheus-node-exporter",
            node_exporter(server),
        ),
        public(EXPORTERS_TLS, exporters_tls(plan)),
    ];
    files.extend(certificates(server, material)?);
    files.extend(direct_return(plan, server));
    files.extend(logs::files(plan, server)?);
    files.extend(exporters::files(server));
    files.extend(ssh::files(plan, server, material)?);
    files.extend(match server.role {
        Role::Haproxy => haproxy::files(plan, server, material)?,
        Role::Nginx => nginx::files(plan, server)?,
        Role::App => app::files(plan, server, material)?,
        Role::Db => db::files(plan, server, material)?,
        Role::Monitor => monitor::files(plan, server, material)?,
    });
    Ok(files)
}

fn hosts(plan: &Plan) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    for server in &plan.servers {
        for address in server.addresses() {
            let _ = writeln!(text, "{address} {}", server.name); // writing to a String cannot fail
        }
    }
    text
}

fn network_unit(server: &Server, network: &Network) -> String {
    let mac = server.mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut unit = format!("[Match]\nMACAddress={mac}\n");
    if network.mtu != policy::MTU {
        unit += &format!("\n[Link]\nMTUBytes={}\n", network.mtu);
    }
    let (address, prefix) = (server.address, network.subnet.prefix_len());
    let gateway = network.virtual_address;
    unit += &format!(
        "\n[Network]\nDescription={}\nAddress={address}/{prefix}\nGateway={gateway}\n",
        network.name
    );
    if let (Some(address), Some(subnet)) = (server.address6, network.subnet6) {
        unit += &format!("Address={address}/{}\n", subnet.prefix_len());
        if let Some(gateway) = network.virtual6 {
            unit += &format!("Gateway={gateway}\n");
        }
    }
    // Only neighbours of IPv6 need link-local addresses (RFC 4291 §2.1); routers are never learnt.
    let link_local = if server.address6.is_some() {
        "ipv6"
    } else {
        "no"
    };
    unit += &format!(
        "DHCP=no\nLinkLocalAddressing={link_local}\nIPv6AcceptRA=no\nLLMNR=no\nMulticastDNS=no\n"
    );
    unit
}

/// Virtual addresses that the server answers for beside the appliances: it has them, and tells nobody.
fn direct_return(plan: &Plan, server: &Server) -> Vec<HostFile> {
    let addresses: BTreeSet<IpAddr> = plan.returned_directly_by(server).collect();
    if addresses.is_empty() {
        return Vec::new();
    }
    let mut unit = String::from("[Match]\nName=lo\n\n[Network]\nKeepConfiguration=static\n");
    for address in addresses {
        let length = if address.is_ipv4() { 32 } else { 128 };
        let _ = writeln!(unit, "Address={address}/{length}"); // writing to a String cannot fail
    }
    let quiet = "# The appliances alone answer ARP for virtual addresses.\n\
                 net.ipv4.conf.all.arp_ignore = 1\nnet.ipv4.conf.all.arp_announce = 2\n";
    vec![
        public("/etc/systemd/network/20-direct-return.network", unit),
        public("/etc/sysctl.d/60-direct-return.conf", quiet.to_owned()),
    ]
}

fn node_exporter(server: &Server) -> String {
    const COLLECTORS: [&str; 10] = [
        "cpu",
        "meminfo",
        "loadavg",
        "diskstats",
        "filesystem",
        "netdev",
        "netstat",
        "stat",
        "textfile",
        "uname",
    ];
    let collectors = COLLECTORS
        .map(|name| format!("--collector.{name}"))
        .join(" ");
    let listen = |address| format!("--web.listen-address={address}:{}", ports::NODE_EXPORTER);
    let listen: Vec<String> = sockets(server).into_iter().map(listen).collect();
    format!(
        "ARGS=\"{} --web.config.file={EXPORTERS_TLS} --collector.disable-defaults {collectors}\"\n",
        listen.join(" ")
    )
}

/// Who may ask the exporters of Prometheus's family for their figures, in the words of their common web configuration.
fn exporters_tls(plan: &Plan) -> String {
    let monitors: Vec<&str> = (of_role(plan, Role::Monitor).into_iter())
        .map(|server| server.name.as_str())
        .collect();
    format!(
        "\
tls_server_config:
  cert_file: {TLS}/server.pem
  key_file: {TLS}/server.pem
  client_ca_file: {TLS}/trust-monitor.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [{}]
  min_version: TLS13
",
        monitors.join(", ")
    )
}

/// A server's addresses as they stand before a colon and a port. Flows are of both versions of IP, so daemons
/// listen on both; among themselves they talk on the first.
fn sockets(server: &Server) -> Vec<String> {
    let v6 = server.address6.map(|address| format!("[{address}]"));
    [server.address.to_string()].into_iter().chain(v6).collect()
}

/// What the server shows to its peers, and whom it believes: `server.pem` for those who connect to it, `client.pem` and
/// `peer.pem` if it has them, and `trust-ROLE.pem` for each role that it talks to.
fn certificates(server: &Server, material: &Material) -> Result<Vec<HostFile>, RenderError> {
    let own = needed(server, "its own certificate", material.server.as_ref())?;
    let mut files = vec![secret(&format!("{TLS}/server.pem"), both(own))];
    for (name, identity) in [("client", &material.client), ("peer", &material.peer)] {
        let identity = identity.as_ref();
        files.extend(identity.map(|own| secret(&format!("{TLS}/{name}.pem"), both(own))));
    }
    for role in partners(server.role)
        .iter()
        .filter(|role| material.tiers.contains_key(role))
    {
        let anchors = material.tier(server, *role)?;
        let path = format!("{TLS}/trust-{}.pem", role.name());
        files.push(public(&path, anchors.to_owned()));
    }
    Ok(files)
}

/// The roles whose servers connect to one of this role, or it to them.
fn partners(role: Role) -> &'static [Role] {
    match role {
        Role::Haproxy => &[Role::Haproxy, Role::Nginx, Role::Monitor],
        Role::Nginx => &[Role::Haproxy, Role::App, Role::Monitor],
        Role::App => &[Role::Nginx, Role::Db, Role::Monitor],
        Role::Db => &[Role::App, Role::Db, Role::Monitor],
        Role::Monitor => &Role::ALL,
    }
}

/// Seconds that a connection may be silent after it changed to another protocol than HTTP.
const TUNNEL: u32 = 3600;
/// Directory of certificates on a server. What reads them anew when they change is in `image/base/files`.
const TLS: &str = "/etc/ravelin/tls";
/// How exporters of Prometheus's family are told of them (`--web.config.file`).
const EXPORTERS_TLS: &str = "/etc/ravelin/exporters.yml";

fn both(identity: &Identity) -> String {
    format!("{}{}", identity.certificate, identity.key)
}

/// The servers of a role, in file order.
fn of_role(plan: &Plan, role: Role) -> Vec<&Server> {
    plan.servers
        .iter()
        .filter(|server| server.role == role)
        .collect()
}

fn needed<T>(server: &Server, what: &'static str, value: Option<T>) -> Result<T, RenderError> {
    value.ok_or_else(|| RenderError::Missing {
        server: server.name.clone(),
        what,
    })
}

fn public(path: &str, text: String) -> HostFile {
    HostFile {
        path: path.to_owned(),
        mode: PUBLIC,
        bytes: text.into_bytes(),
    }
}

fn secret(path: &str, text: String) -> HostFile {
    HostFile {
        path: path.to_owned(),
        mode: SECRET,
        bytes: text.into_bytes(),
    }
}
