//! The database.

use std::net::IpAddr;

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde_json::json;
use site::Plan;
use site::plan::{Role, Server, ports};

use super::{HostFile, Material, TLS, needed, of_role, public, secret};
use crate::{RenderError, template};

/// Name of the application's database, and of its user.
pub(super) const DATABASE: &str = "app";
pub(super) const DATABASE_USER: &str = "app";

/// How soon a member of the group that is silent is taken for dead: in two seconds instead of Galera's five. Who begins
/// after all were down is decided by `ravelin-db`, in one way for all cases, so members do not recover their last group
/// by themselves.
const GROUP_OPTIONS: &str = "evs.keepalive_period=PT0.5S; evs.inactive_check_period=PT0.25S; \
    evs.suspect_timeout=PT2S; evs.inactive_timeout=PT6S; evs.install_timeout=PT6S; gmcast.peer_timeout=PT2S; \
    pc.recovery=no";

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let addresses: Vec<String> = server.addresses().map(|a| a.to_string()).collect();
    let servers = of_role(plan, Role::Db);
    let place = servers.iter().position(|one| one.name == server.name);
    let place = place.unwrap_or_default();
    let others: Vec<&&Server> = (servers.iter())
        .filter(|one| one.name != server.name)
        .collect();
    let mode = plan.database.mode;
    let config = template::fill(
        "roles/db/templates/ravelin.cnf",
        context! {
            addresses => addresses.join(","),
            port => ports::DB,
            mode => mode.name(),
            name => &*server.name,
            address => server.address.to_string(),
            site => &*plan.name,
            number => place + 1,
            cluster => group_of(&servers),
            tls => TLS,
            options => format!(
                "ist.recv_addr={0}:{1}; ist.recv_bind={0}; gcache.size=64M; {2}",
                server.address,
                ports::DB_IST,
                group_options(server),
            ),
        },
    )?;
    let init = template::fill(
        "roles/db/templates/init.sql",
        context! {
            database => DATABASE,
            user => DATABASE_USER,
            password => password(server, material)?,
            clients => Value::from(Serde(of_role(plan, Role::App))),
            greeted => Value::from(Serde(greeted(plan, server))),
            mode => mode.name(),
            others => Value::from(Serde(others)),
        },
    )?;
    let mut files = vec![
        public("/etc/mysql/ravelin.cnf", config),
        secret("/etc/mysql/init.sql", init),
        agent(plan, server),
        timer(plan, place),
    ];
    files.extend(trust(server, material)?);
    Ok(files)
}

/// What a monitor server does for the database.
pub(super) fn monitor(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let database = &plan.database;
    let arbiter = database.arbiter.as_ref() == Some(&server.name);
    if !arbiter && database.backup.to != server.name {
        return Ok(Vec::new());
    }
    let mut files = vec![agent(plan, server)];
    if arbiter {
        // Its unit is in every monitor's image.
        files.push(public("/etc/ravelin/db-arbiter", String::new()));
    }
    files.extend(trust(server, material)?);
    Ok(files)
}

/// The configuration of our program.
fn agent(plan: &Plan, server: &Server) -> HostFile {
    let database = &plan.database;
    let peer = |server: &Server| json!({ "name": server.name, "address": server.address });
    let named = |name: &String| plan.server(name).map(peer);
    let names = |role| -> Vec<&String> {
        let servers = of_role(plan, role);
        servers.into_iter().map(|server| &server.name).collect()
    };
    let clients = [names(Role::App), names(Role::Monitor)].concat();
    let servers = of_role(plan, Role::Db);
    let mut config = json!({
        "name": server.name,
        "address": server.address,
        "port": ports::DB_STATE,
        "tls": TLS,
        "mode": database.mode.name(),
        "servers": servers.iter().map(|server| peer(server)).collect::<Vec<_>>(),
        "arbiter": database.arbiter.as_ref().and_then(named),
        "clients": clients,
        "backup": {
            "keeper": named(&database.backup.to),
            "port": ports::DB_BACKUP,
            "every": database.backup.every,
            "keep": database.backup.keep,
        },
    });
    if database.arbiter.as_ref() == Some(&server.name) {
        config["arbiter_arguments"] = json!([
            "--group",
            plan.name,
            "--name",
            server.name,
            "--address",
            format!("gcomm://{}", group_of(&servers)),
            "--options",
            group_options(server),
        ]);
    }
    public("/etc/ravelin/db.json", format!("{config:#}\n"))
}

fn group_of(servers: &[&Server]) -> String {
    let all: Vec<String> = (servers.iter())
        .map(|server| format!("{}:{}", server.address, ports::DB_GROUP))
        .collect();
    all.join(",")
}

fn group_options(server: &Server) -> String {
    format!(
        "gmcast.listen_addr=ssl://{}:{}; socket.ssl=yes; socket.ssl_ca={TLS}/trust-group.pem; \
         socket.ssl_cert={TLS}/peer.pem; socket.ssl_key={TLS}/peer.pem; {GROUP_OPTIONS}",
        server.address,
        ports::DB_GROUP,
    )
}

/// Those who may be on the other side of several connections, in one file: members of the cluster's group, and clients of
/// the database and its states. What the authorities of other tiers signed is a stranger's.
fn trust(server: &Server, material: &Material) -> Result<[HostFile; 2], RenderError> {
    let all = |roles: &[Role]| -> Result<String, RenderError> {
        let anchors = roles.iter().map(|role| material.tier(server, *role));
        anchors.collect()
    };
    Ok([
        public(
            &format!("{TLS}/trust-group.pem"),
            all(&[Role::Db, Role::Monitor])?,
        ),
        public(
            &format!("{TLS}/trust-clients.pem"),
            all(&[Role::App, Role::Db, Role::Monitor])?,
        ),
    ])
}

/// All database servers ask who of them makes the backup; a minute apart, in case that changes just then.
fn timer(plan: &Plan, place: usize) -> HostFile {
    let every = plan.database.backup.every;
    let first = 600 + 60 * place;
    public(
        "/etc/systemd/system/ravelin-db-backup.timer.d/50-times.conf",
        format!("[Timer]\nOnActiveSec={first}\nOnUnitActiveSec={every}\n"),
    )
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

/// The password, which goes into SQL and into an environment file as it is.
pub(super) fn password<'a>(
    server: &Server,
    material: &'a Material,
) -> Result<&'a str, RenderError> {
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
