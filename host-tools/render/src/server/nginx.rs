//! The reverse proxy.

use std::collections::BTreeSet;

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;
use site::Plan;
use site::plan::{Role, Server, ports};

use super::exporters::NGINX_STATUS;
use super::{HostFile, TLS, TUNNEL, of_role, public, sockets};
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
            tunnel => TUNNEL,
            applications => Value::from(Serde(applications(plan))),
            status_port => NGINX_STATUS,
        },
    )?;
    Ok(vec![public("/etc/nginx/nginx.conf", config)])
}

/// What is asked of the application.
#[derive(Serialize)]
struct Application {
    /// As Nginx writes it.
    location: String,
    /// Whether users may change to another protocol there.
    upgrade: bool,
}

fn applications(plan: &Plan) -> Vec<Application> {
    let all = match plan.nginx.static_files {
        Some(_) => "@app",
        None => "/",
    };
    let (everywhere, paths): (Vec<_>, Vec<_>) =
        (plan.http.upgrade.iter()).partition(|path| path.as_str() == "/");
    let rest = Application {
        location: all.to_owned(),
        upgrade: !everywhere.is_empty(),
    };
    let application = |path: &String| Application {
        location: path.clone(),
        upgrade: true,
    };
    paths.into_iter().map(application).chain([rest]).collect()
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
