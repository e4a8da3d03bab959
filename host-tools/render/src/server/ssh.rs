//! Operators' way into a server, if the site has one.

use minijinja::context;
use site::Plan;
use site::plan::{Server, Ssh, ports};

use super::{HostFile, Material, needed, public, secret, sockets};
use crate::{RenderError, template};

pub(super) fn files(
    plan: &Plan,
    server: &Server,
    material: &Material,
) -> Result<Vec<HostFile>, RenderError> {
    let Some(ssh) = &plan.ssh else {
        return Ok(Vec::new());
    };
    let host_key = needed(server, "its SSH host key", material.ssh_host_key.as_deref())?;
    let config = template::fill(
        "base/templates/sshd_config",
        context! { addresses => sockets(server), port => ports::SSH },
    )?;
    Ok(vec![
        public("/etc/ssh/sshd_config", config),
        public("/etc/ssh/authorized_keys", authorized_keys(ssh)),
        secret("/etc/ssh/ssh_host_ed25519_key", host_key.to_owned()),
    ])
}

/// Each key is good at the operators' addresses only, should the firewalls ever let somebody else come.
fn authorized_keys(ssh: &Ssh) -> String {
    let from: Vec<String> = ssh.from.iter().map(|prefix| prefix.to_string()).collect();
    let line = |key: &String| format!("from=\"{}\" {key}\n", from.join(","));
    ssh.keys.iter().map(line).collect()
}
