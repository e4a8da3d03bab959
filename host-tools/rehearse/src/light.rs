//! Servers as processes of this machine (`--servers light`): the root of the role under systemd-nspawn, with
//! a TAP interface of the switch as its network card. Needs root; starts in seconds.
//!
//! The network namespace is that of a process of its own that only sleeps: systemd-nspawn refuses
//! interfaces that udev does not know, but takes a namespace as it is.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use build::HostFile;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::cgroup::Cgroup;
use crate::machine::CommandLine;
use crate::process::Process;

/// Makes a network card, still on this machine. It disappears with the returned device.
pub fn tap(name: &str, mac: [u8; 6]) -> io::Result<SyncDevice> {
    DeviceBuilder::new()
        .name(name)
        .layer(Layer::L2)
        .mac_addr(mac)
        .enable(false)
        .build_sync()
}

/// A network namespace that ends with the process that holds it.
pub fn namespace(log: &Path) -> io::Result<Process> {
    let arguments = ["--net", "sleep", "infinity"].map(String::from);
    let holder = Process::spawn(Path::new("unshare"), &arguments, 0, log)?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let deadline = Instant::now() + PATIENCE;
    while fs::read_link(namespace_path(&holder)).is_ok_and(|theirs| theirs == own) {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "no network namespace: {}",
                holder.tail()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(holder)
}

/// Moves an interface of this machine into the namespace.
pub fn give(tap: &str, holder: &Process) -> io::Result<()> {
    let moved = Command::new("ip")
        .args(["link", "set", tap, "netns", &holder.id().to_string()])
        .output()?;
    if moved.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(
            String::from_utf8_lossy(&moved.stderr).trim().to_owned(),
        ))
    }
}

/// Runs a command of this machine in the network namespace.
pub fn inside(namespace: &Process, command: &[&str]) -> io::Result<Output> {
    let net = format!("--net={}", namespace_path(namespace).display());
    Command::new("nsenter").arg(net).args(command).output()
}

/// Runs a command of the server's own on it, as its root.
pub fn run(container: &Process, command: &[&str]) -> io::Result<Output> {
    let init = init(container).ok_or(io::ErrorKind::NotFound)?;
    Command::new("nsenter")
        .args(["--target", &init.to_string(), "--all", "--", "env", "-i"])
        .arg("PATH=/usr/sbin:/usr/bin")
        .args(command)
        .output()
}

/// The first process inside, which is some generations below the one that was started.
fn init(container: &Process) -> Option<u32> {
    let mut id = container.id();
    for _ in 0..GENERATIONS {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        id = children.split_whitespace().next()?.parse().ok()?;
        let name = fs::read_to_string(format!("/proc/{id}/comm")).ok()?;
        if name.trim() == "systemd" {
            return Some(id);
        }
    }
    None
}

/// Where the kernel shows it.
pub fn namespace_path(holder: &Process) -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", holder.id()))
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

/// How to boot the role's root tree as a container named `name` in that network namespace.
///
/// What its daemons keep (`/var/lib/private`) is in `disk`, and there again when it boots the next time. The container is
/// inside a PID namespace of its own: its processes end with it, however it ends.
#[must_use]
pub fn container(
    name: &str,
    root: &Path,
    etc: &Path,
    disk: &Path,
    namespace: &Process,
    cgroup: &Cgroup,
) -> CommandLine {
    let mut arguments = cgroup.enter();
    arguments.extend([
        "nsenter".into(),
        format!("--net={}", namespace_path(namespace).display()),
        "unshare".into(),
        "--pid".into(),
        "--fork".into(),
        "--kill-child".into(),
        "--mount-proc".into(),
        "systemd-nspawn".into(),
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
        format!("--bind={}:/var/lib/private", disk.display()),
        "--console=read-only".into(),
        "--network-namespace-path=/proc/self/ns/net".into(),
        "--capability=CAP_NET_ADMIN".into(),
        "--boot".into(),
    ]);
    CommandLine {
        program: "sh".into(),
        arguments,
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
/// More than there are between a container's own process and its init.
const GENERATIONS: usize = 12;
