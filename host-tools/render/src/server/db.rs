//! The database.

use std::net::IpAddr;

use minijinja::value::Serde;
use minijinja::{Value, context};
use site::Plan;
use site::plan::{Role, Server, ports};

use super::{HostFile, Material, needed, of_role, public, secret};
use crate::{RenderError, template};

/// Name of the application's database, and of its user.
pub(super) const DATABASE: &str = "app";
pub(super) const DATABASE_USER: &str = "app";

pub(super) fn files(
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
