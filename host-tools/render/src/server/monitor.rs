//! What watches all others.

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Action, Role, Server, Traffic, ports};

use super::{HostFile, Material, TLS, db, of_role, public};
use crate::{RenderError, template};

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let config = template::fill(
        "roles/monitor/templates/prometheus.yml",
        context! {
            site => &*plan.name,
            tls => TLS,
            roles => roles(plan),
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
    let mut files = vec![
        public("/etc/prometheus/prometheus.yml", config),
        public("/etc/default/prometheus", arguments),
    ];
    files.extend(db::monitor(plan, server, material)?);
    Ok(files)
}

/// The roles that there are, each with its servers.
fn roles(plan: &Plan) -> Vec<Value> {
    let used = Role::ALL
        .into_iter()
        .map(|role| (role, of_role(plan, role)));
    used.filter(|(_, servers)| !servers.is_empty())
        .map(|(role, servers)| context! { name => role.name(), servers => Value::from(Serde(servers)) })
        .collect()
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
