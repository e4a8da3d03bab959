//! Everybody's logs: from each server's journal to the monitor.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde_json::json;
use site::Plan;
use site::plan::{Role, Server, ports};

use super::{HostFile, TLS, public};
use crate::{RenderError, template};

/// Megabytes of each server's `/var` for lines that the monitor has not taken.
const SPOOL: u32 = 48;

pub(super) fn files(plan: &Plan, server: &Server) -> Result<Vec<HostFile>, RenderError> {
    let here = server.role == Role::Monitor;
    let others = |other: &&Server| other.name != server.name;
    let monitors: Vec<&Server> = plan.servers_of(Role::Monitor).filter(others).collect();
    let peers: Vec<String> = (plan.servers.iter().filter(others))
        .map(|other| other.name.clone())
        .collect();
    let addresses: Vec<String> = server
        .addresses()
        .map(|address| address.to_string())
        .collect();
    let config = template::fill(
        "base/templates/rsyslog.conf",
        context! {
            name => &*server.name,
            here,
            tls => TLS,
            peers,
            addresses,
            monitors => Value::from(Serde(monitors)),
            logs => ports::LOGS,
            syslog => ports::SYSLOG,
            spool => SPOOL,
        },
    )?;
    let mut files = vec![public("/etc/rsyslog.conf", config)];
    if here {
        files.push(public("/etc/ravelin/machines.json", machines(plan, server)));
    }
    Ok(files)
}

/// Whose lines come from which address, as rsyslog's look-up table.
fn machines(plan: &Plan, here: &Server) -> String {
    let mut names = BTreeMap::from([("127.0.0.1".to_owned(), here.name.as_str())]);
    for server in &plan.servers {
        names.extend(
            server
                .addresses()
                .map(|address| (address.to_string(), server.name.as_str())),
        );
    }
    for appliance in &plan.appliances {
        for leg in &appliance.legs {
            names.insert(leg.address.to_string(), &appliance.name);
            names.extend(
                leg.address6
                    .map(|address| (address.to_string(), appliance.name.as_str())),
            );
        }
    }
    let table: Vec<_> = (names.iter())
        .map(|(address, name)| json!({ "index": address, "value": name }))
        .collect();
    let table = json!({ "version": 1, "nomatch": "unknown", "type": "string", "table": table });
    format!("{table:#}\n")
}
