//! The files that make one server of the role's image: its identity, its firewall, its daemons'
//! configuration, its secrets. They are laid over `/etc` when the server boots.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Action, Network, Role, Server, Traffic, ports};

use crate::{RenderError, firewall, template};

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
#[derive(Clone)]
pub struct Material {
    /// Certificate of the site's own authority, PEM.
    pub ca: String,
    /// The server's own certificate, for its name.
    pub server: Option<Identity>,
    /// Certificate that users see, for the site's domain; for the haproxy role.
    pub site: Option<Identity>,
    /// Password of the application's database user, letters and digits; for the app and db roles.
    pub database_password: Option<String>,
}

/// A certificate and its private key, PEM.
#[derive(Clone)]
pub struct Identity {
    /// Certificate chain, leaf first.
    pub certificate: String,
    /// PKCS #8 private key.
    pub key: String,
}

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// Name of the application's database, and of its user.
const DATABASE: &str = "app";
const DATABASE_USER: &str = "app";

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
    ];
    files.extend(direct_return(plan, server));
    files.extend(match server.role {
        Role::Haproxy => haproxy(plan, server, material)?,
        Role::Nginx => nginx(plan, server, material)?,
        Role::App => app(plan, server, material)?,
        Role::Db => database(plan, server, material)?,
        Role::Monitor => monitor(plan, server)?,
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
    const COLLECTORS: [&str; 9] = [
        "cpu",
        "meminfo",
        "loadavg",
        "diskstats",
        "filesystem",
        "netdev",
        "netstat",
        "stat",
        "uname",
    ];
    let collectors = COLLECTORS
        .map(|name| format!("--collector.{name}"))
        .join(" ");
    let listen = |address| format!("--web.listen-address={address}:{}", ports::NODE_EXPORTER);
    let listen: Vec<String> = sockets(server).into_iter().map(listen).collect();
    format!(
        "ARGS=\"{} --collector.disable-defaults {collectors}\"\n",
        listen.join(" ")
    )
}

fn haproxy(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let site = needed(
        server,
        "the certificate of the site",
        material.site.as_ref(),
    )?;
    let config = template::fill(
        "roles/haproxy/templates/haproxy.cfg",
        context! {
            addresses => Value::from(Serde(sockets(server))),
            domain => &*plan.domain,
            web => Value::from(Serde(of_role(plan, Role::Nginx))),
            http => ports::HTTP,
            https => ports::HTTPS,
            nginx => ports::NGINX,
            metrics => ports::HAPROXY_METRICS,
        },
    )?;
    let mut files = vec![
        public("/etc/haproxy/haproxy.cfg", config),
        secret("/etc/haproxy/site.pem", both(site)),
    ];
    files.extend(certificates("/etc/haproxy", server, material)?);
    Ok(files)
}

/// A server's addresses as they stand before a colon and a port. Flows are of both versions of IP, so daemons
/// listen on both; among themselves they talk on the first.
fn sockets(server: &Server) -> Vec<String> {
    let v6 = server.address6.map(|address| format!("[{address}]"));
    [server.address.to_string()].into_iter().chain(v6).collect()
}

fn nginx(plan: &Plan, server: &Server, material: &Material) -> Result<Vec<HostFile>, RenderError> {
    let config = template::fill(
        "roles/nginx/templates/nginx.conf",
        context! {
            name => &*server.name,
            addresses => Value::from(Serde(sockets(server))),
            domain => &*plan.domain,
            haproxy => Value::from(Serde(of_role(plan, Role::Haproxy))),
            app => Value::from(Serde(of_role(plan, Role::App))),
            nginx_port => ports::NGINX,
            sorry_ports => Value::from(Serde(sorry_ports(plan, server))),
            app_port => ports::APP,
        },
    )?;
    let mut files = vec![public("/etc/nginx/nginx.conf", config)];
    files.extend(certificates("/etc/nginx", server, material)?);
    Ok(files)
}

/// Ports on which the server tells users that a service is away.
fn sorry_ports(plan: &Plan, server: &Server) -> BTreeSet<u16> {
    let sorry = plan
        .services
        .iter()
        .filter_map(|service| service.sorry.as_ref());
    sorry
        .filter(|sorry| sorry.server == server.name && sorry.port != ports::NGINX)
        .map(|sorry| sorry.port)
        .collect()
}

fn app(plan: &Plan, server: &Server, material: &Material) -> Result<Vec<HostFile>, RenderError> {
    let database = of_role(plan, Role::Db);
    let database = needed(server, "a database server", database.first())?;
    let environment = format!(
        "\
APP_NAME={}
APP_SITE={}
APP_LISTEN={}:{}
APP_DATABASE={}:{}
APP_DATABASE_NAME={DATABASE}
APP_DATABASE_USER={DATABASE_USER}
APP_DATABASE_PASSWORD={}
",
        server.name,
        plan.domain,
        server.address,
        ports::APP,
        database.address,
        ports::DB,
        password(server, material)?,
    );
    Ok(vec![secret("/etc/demo-app/environment", environment)])
}

fn database(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let addresses: Vec<String> = server.addresses().map(|a| a.to_string()).collect();
    let config = template::fill(
        "roles/db/templates/ravelin.cnf",
        context! { addresses => addresses.join(","), port => ports::DB },
    )?;
    let init = template::fill(
        "roles/db/templates/init.sql",
        context! {
            database => DATABASE,
            user => DATABASE_USER,
            password => password(server, material)?,
            clients => Value::from(Serde(of_role(plan, Role::App))),
            greeted => Value::from(Serde(greeted(plan, server))),
        },
    )?;
    Ok(vec![
        public("/etc/mysql/ravelin.cnf", config),
        secret("/etc/mysql/init.sql", init),
    ])
}

/// Addresses of appliances that ask for the greeting of this database: it greets only hosts that have a user.
fn greeted(plan: &Plan, server: &Server) -> Vec<IpAddr> {
    let asked = plan.services.iter().any(|service| {
        service.check.kind == policy::CheckKind::Mysql
            && (service.servers.iter()).any(|member| member.server == server.name)
    });
    let legs = plan.appliances.iter().flat_map(|appliance| &appliance.legs);
    legs.filter(|leg| asked && leg.network == server.network)
        .flat_map(|leg| {
            let v6 = server.address6.and(leg.address6);
            [Some(IpAddr::V4(leg.address)), v6.map(IpAddr::V6)]
        })
        .flatten()
        .collect()
}

fn monitor(plan: &Plan, server: &Server) -> Result<Vec<HostFile>, RenderError> {
    let config = template::fill(
        "roles/monitor/templates/prometheus.yml",
        context! {
            site => &*plan.name,
            servers => Value::from(Serde(&plan.servers)),
            haproxy => Value::from(Serde(of_role(plan, Role::Haproxy))),
            node_port => ports::NODE_EXPORTER,
            haproxy_port => ports::HAPROXY_METRICS,
        },
    )?;
    // It takes one address only: all of them if somebody may ask, and then the firewall says who.
    let listen = match is_reached(plan, server, ports::PROMETHEUS) {
        true => "",
        false => "127.0.0.1",
    };
    let arguments = format!(
        "ARGS=\"--web.listen-address={listen}:{} --storage.tsdb.retention.time=15d \
         --storage.tsdb.retention.size=256MB\"\n",
        ports::PROMETHEUS
    );
    Ok(vec![
        public("/etc/prometheus/prometheus.yml", config),
        public("/etc/default/prometheus", arguments),
    ])
}

/// Whether a flow of the plan leads to this port of the server.
fn is_reached(plan: &Plan, server: &Server, port: u16) -> bool {
    let here = |traffic: &Traffic| match traffic {
        Traffic::Any => true,
        Traffic::Tcp(ports) => {
            let ranges = &ports.destination;
            ranges.is_empty() || (ranges.iter()).any(|range| range.range().contains(&port))
        }
        Traffic::Udp(_)
        | Traffic::Ping
        | Traffic::Icmp(_)
        | Traffic::Icmp6(_)
        | Traffic::Number(_) => false,
    };
    (plan.flows.iter())
        .filter(|flow| flow.action == Action::Accept && here(&flow.traffic))
        .any(|flow| plan.addresses_in(&flow.to, server).next().is_some())
}

/// What a daemon shows to its peers, and what it checks theirs against.
fn certificates(
    directory: &str,
    server: &Server,
    material: &Material,
) -> Result<[HostFile; 2], RenderError> {
    let own = needed(server, "its own certificate", material.server.as_ref())?;
    Ok([
        public(&format!("{directory}/ca.pem"), material.ca.clone()),
        secret(&format!("{directory}/server.pem"), both(own)),
    ])
}

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

/// The password, which goes into SQL and into an environment file as it is.
fn password<'a>(server: &Server, material: &'a Material) -> Result<&'a str, RenderError> {
    let password = needed(
        server,
        "the password of the database",
        material.database_password.as_deref(),
    )?;
    if password.is_empty() || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(RenderError::Password);
    }
    Ok(password)
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
