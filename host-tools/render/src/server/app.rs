//! The application, behind HAProxy on the same machine: it ends the TLS of Nginx and lets nobody else in, so that an
//! application only has to speak HTTP on the loopback. The same HAProxy leads it to the database server that may be
//! written to.

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Role, Server, Source, ports};

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
        plan.app.port,
        ports::DB,
        password(server, material)?,
        Role::Db.name(),
    );
    let config = template::fill(
        "roles/app/templates/haproxy.cfg",
        context! {
            addresses => Value::from(Serde(sockets(server))),
            port => ports::APP,
            local => plan.app.port,
            tls => TLS,
            web => Value::from(Serde(of_role(plan, Role::Nginx))),
            databases => Value::from(Serde(of_role(plan, Role::Db))),
            database_port => ports::DB,
            state => ports::DB_STATE,
        },
    )?;
    let mut files = vec![public("/etc/haproxy/haproxy.cfg", config)];
    files.push(match plan.app.source {
        Source::Demo => secret("/etc/demo-app/environment", environment),
        Source::Package(_) | Source::File(_) | Source::Directory(_) | Source::Oci(_) => {
            secret("/etc/ravelin/app.env", own(plan, server, material)?)
        }
    });
    Ok(files)
}

/// What an application of the operator's is told (docs/applications.md).
fn own(plan: &Plan, server: &Server, material: &Material) -> Result<String, RenderError> {
    let tool = [
        ("HOST", "127.0.0.1".to_owned()),
        ("PORT", plan.app.port.to_string()),
        ("SERVER_NAME", server.name.clone()),
        ("SITE_DOMAIN", plan.domain.clone()),
        ("DATABASE_HOST", "127.0.0.1".to_owned()),
        ("DATABASE_PORT", ports::DB.to_string()),
        ("DATABASE_NAME", DATABASE.to_owned()),
        ("DATABASE_USER", DATABASE_USER.to_owned()),
        ("DATABASE_PASSWORD", password(server, material)?.to_owned()),
        ("DATABASE_TLS_NAME", Role::Db.name().to_owned()),
        ("DATABASE_TLS_CA", format!("{TLS}/trust-db.pem")),
        ("DATABASE_TLS_IDENTITY", format!("{TLS}/client.pem")),
    ];
    let tool = tool
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let all = tool.chain(plan.app.environment.iter().cloned());
    let line = |(name, value): (String, String)| format!("{name}={}\n", quoted(&value));
    Ok(all.map(line).collect())
}

/// A value as systemd reads it from a file (systemd.exec(5), EnvironmentFile=).
fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for c in value.chars() {
        if "\"\\`$".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}
