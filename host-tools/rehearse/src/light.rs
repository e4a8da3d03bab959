//! Servers as processes of this machine (`--servers light`): the root of the role under systemd-nspawn, with
//! a TAP interface of the switch as its network card. Needs root; starts in seconds.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use build::HostFile;
use site::plan::Server;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::machine::CommandLine;

/// Makes the network card of a server, still on this machine. It disappears with the returned device.
pub fn tap(name: &str, server: &Server) -> io::Result<SyncDevice> {
    DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .mac_addr(server.mac)
        .enable(false)
        .build_sync()
}

/// Writes the server's own files below `dir`, to be laid over `/etc`.
pub fn write_host_files(dir: &Path, files: &[HostFile]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for file in files {
        let inside = file
            .path
            .strip_prefix("/etc/")
            .ok_or(io::ErrorKind::InvalidInput)?;
        let path = dir.join(inside);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// How to boot the role's root tree as a container named `name` with the network card `tap`.
#[must_use]
pub fn container(name: &str, root: &Path, etc: &Path, tap: &str) -> CommandLine {
    let arguments = [
        "--quiet".into(),
        format!("--directory={}", root.display()),
        format!("--machine={name}"),
        format!("--hostname={name}"),
        "--register=no".into(),
        "--keep-unit".into(),
        "--volatile=overlay".into(),
        format!("--overlay=+/etc:{}::/etc", etc.display()),
        "--resolv-conf=off".into(),
        "--timezone=off".into(),
        "--link-journal=no".into(),
        "--console=pipe".into(),
        format!("--network-interface={tap}"),
        "--boot".into(),
    ];
    CommandLine {
        program: "systemd-nspawn".into(),
        arguments: arguments.to_vec(),
    }
}
