//! The reverse proxy.

use std::collections::BTreeSet;

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Role, Server, ports};

use super::exporters::NGINX_STATUS;
use super::{HostFile, TLS, of_role, public, sockets};
use crate::{RenderError, template};

pub(super) fn files(plan: &Plan, server: &Server) -> Result<Vec<HostFile>, RenderError> {
    let config = template::fill(
        "roles/nginx/templates/nginx.conf",
        context! {
            name => &*server.name,
            addresses => Value::from(Serde(sockets(server))),
            domain => &*plan.domain,
            haproxy => Value::from(Serde(of_role(plan, Role::Haproxy))),
            tls => TLS,
            app => Value::from(Serde(of_role(plan, Role::App))),
            nginx_port => ports::NGINX,
            sorry_ports => Value::from(Serde(sorry_ports(plan, server))),
            app_port => ports::APP,
            body => plan.nginx.body,
            health => &*plan.app.health,
            static_files => plan.nginx.static_files.is_some(),
            proxy_protocol => plan.http.proxy_protocol,
            status_port => NGINX_STATUS,
        },
    )?;
    Ok(vec![public("/etc/nginx/nginx.conf", config)])
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
