//! Users' TLS ends here.

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Role, Server, ports};

use super::{HostFile, Material, TLS, both, needed, of_role, public, secret, sockets};
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
    let config = template::fill(
        "roles/haproxy/templates/haproxy.cfg",
        context! {
            addresses => Value::from(Serde(sockets(server))),
            domain => &*plan.domain,
            tls => TLS,
            web => Value::from(Serde(of_role(plan, Role::Nginx))),
            monitor => Value::from(Serde(of_role(plan, Role::Monitor))),
            http => ports::HTTP,
            https => ports::HTTPS,
            nginx => ports::NGINX,
            metrics => ports::HAPROXY_METRICS,
        },
    )?;
    Ok(vec![
        public("/etc/haproxy/haproxy.cfg", config),
        secret("/etc/haproxy/site.pem", both(site)),
    ])
}
