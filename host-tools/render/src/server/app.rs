//! The application, behind HAProxy on the same machine: it ends the TLS of Nginx and lets nobody else in, so that an
//! application only has to speak HTTP on the loopback. The same HAProxy leads it to the database server that may be
//! written to.

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Role, Server, ports};

use super::db::{DATABASE, DATABASE_USER, password};
use super::{HostFile, Material, TLS, of_role, public, secret, sockets};
use crate::{RenderError, template};

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let environment = format!(
        "\
APP_NAME={}
APP_SITE={}
APP_LISTEN=127.0.0.1:{}
APP_DATABASE=127.0.0.1:{}
APP_DATABASE_NAME={DATABASE}
APP_DATABASE_USER={DATABASE_USER}
APP_DATABASE_PASSWORD={}
APP_DATABASE_HOST={}
",
        server.name,
        plan.domain,
        ports::APP,
        ports::DB,
        password(server, material)?,
        Role::Db.name(),
    );
    let config = template::fill(
        "roles/app/templates/haproxy.cfg",
        context! {
            addresses => Value::from(Serde(sockets(server))),
            port => ports::APP,
            tls => TLS,
            web => Value::from(Serde(of_role(plan, Role::Nginx))),
            databases => Value::from(Serde(of_role(plan, Role::Db))),
            database_port => ports::DB,
            state => ports::DB_STATE,
        },
    )?;
    Ok(vec![
        secret("/etc/demo-app/environment", environment),
        public("/etc/haproxy/haproxy.cfg", config),
    ])
}
