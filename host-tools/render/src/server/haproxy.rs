//! Users' TLS ends here.

use std::collections::BTreeSet;

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{HEALTH_PATH, Role, Server, Service, ports};

use super::{HostFile, Material, TLS, TUNNEL, both, needed, of_role, public, secret, sockets};
use crate::{RenderError, template};

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let site = needed(
        server,
        "the certificate of the site",
        material.site.as_ref(),
    )?;
    let http = &plan.http;
    let mut peers = of_role(plan, Role::Haproxy);
    peers.retain(|peer| peer.name != server.name);
    let prefixes: Vec<String> = http.accept_proxy.iter().map(ToString::to_string).collect();
    let window = http.rate_limit.map(|rate| rate.seconds);
    let counters = match window {
        Some(seconds) => format!("conn_cur,http_req_rate({seconds}s)"),
        None => "conn_cur".to_owned(),
    };
    let agents: BTreeSet<u16> = served(plan, server).filter_map(|s| s.agent).collect();
    let health = served(plan, server).any(|s| s.check.port == ports::HAPROXY_HEALTH);
    let config = template::fill(
        "roles/haproxy/templates/haproxy.cfg",
        context! {
            name => &*server.name,
            addresses => Value::from(Serde(sockets(server))),
            domain => &*plan.domain,
            tls => TLS,
            web => Value::from(Serde(of_role(plan, Role::Nginx))),
            monitor => Value::from(Serde(of_role(plan, Role::Monitor))),
            peers => Value::from(Serde(peers)),
            rate => Value::from(Serde(http.rate_limit)),
            remember => window.map_or(REMEMBER, |seconds| 2 * seconds),
            counters,
            connections => http.connections,
            body => plan.nginx.body,
            health_of_app => &*plan.app.health,
            hsts => http.hsts,
            old_connections => http.old_connections,
            tunnel => (!http.upgrade.is_empty()).then_some(TUNNEL),
            proxy_protocol => http.proxy_protocol,
            // The address that counts is known only after the PROXY protocol.
            stage => if prefixes.is_empty() { "connection" } else { "session" },
            accept_proxy => prefixes,
            agent_ports => Value::from(Serde(agents)),
            health => health.then_some(ports::HAPROXY_HEALTH),
            health_path => HEALTH_PATH,
            peers_port => ports::HAPROXY_PEERS,
            http => ports::HTTP,
            https => ports::HTTPS,
            nginx => ports::NGINX,
            metrics => ports::HAPROXY_METRICS,
        },
    )?;
    Ok(vec![
        public("/etc/haproxy/haproxy.cfg", config),
        public("/etc/haproxy/drain.conf", drain(plan, server)),
        secret(&format!("{TLS}/site.pem"), both(site)),
    ])
}

/// The services that the server is one of.
fn served<'a>(plan: &'a Plan, server: &'a Server) -> impl Iterator<Item = &'a Service> {
    let has =
        |service: &&Service| (service.servers.iter()).any(|member| member.server == server.name);
    plan.services.iter().filter(has)
}

/// How the server knows that the appliances send nobody new.
fn drain(plan: &Plan, server: &Server) -> String {
    let asked = served(plan, server).map(|service| service.check.interval_ms);
    // An agent is asked as often as its service is checked; one answer may get lost.
    let quiet = asked.map(|ms| 1 + (2 * u32::from(ms)).div_ceil(1000)).max();
    let quiet = quiet.unwrap_or(1);
    let users = |name: &str| {
        let service = name
            .split_once('-')
            .filter(|(kind, _)| FROM_USERS.contains(kind));
        service.is_some_and(|(_, name)| served(plan, server).any(|service| service.name == name))
    };
    let counters: BTreeSet<String> = (plan.flows.iter())
        .filter(|flow| users(&flow.name))
        .map(|flow| format!("in-{}", flow.name))
        .collect();
    let counters = Vec::from_iter(counters).join(" ");
    let longest = quiet + u32::from(plan.http.drain);
    let rest = plan.http.drain;
    format!("QUIET={quiet}\nLONGEST={longest}\nREST={rest}\nCOUNTERS=\"{counters}\"\n")
}

/// First words of the names of flows by which users come to a service.
const FROM_USERS: [&str; 3] = ["internet", "clients", "reach"];
/// Seconds that a client is remembered who is only counted.
const REMEMBER: u32 = 60;
