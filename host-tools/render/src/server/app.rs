//! The application.

use site::Plan;
use site::plan::{Role, Server, ports};

use super::db::{DATABASE, DATABASE_USER, password};
use super::{HostFile, Material, needed, of_role, secret};
use crate::RenderError;

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let database = of_role(plan, Role::Db);
    let database = needed(server, "a database server", database.first())?;
    let environment = format!(
        "\
APP_NAME={}
APP_SITE={}
APP_LISTEN={}:{}
APP_DATABASE={}:{}
APP_DATABASE_NAME={DATABASE}
APP_DATABASE_USER={DATABASE_USER}
APP_DATABASE_PASSWORD={}
",
        server.name,
        plan.domain,
        server.address,
        ports::APP,
        database.address,
        ports::DB,
        password(server, material)?,
    );
    Ok(vec![secret("/etc/demo-app/environment", environment)])
}
