//! The steps of the boot, in order.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ::identity::Identity;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chroot, execv};
use thiserror::Error;

use crate::{disks, identity, root, verity};

/// Why the boot ended here; reads after "cannot".
#[derive(Debug, Error)]
#[error("{what}: {cause}")]
pub struct Failure {
    what: String,
    cause: io::Error,
}

/// Boots; returns only if that failed.
pub fn boot() -> Result<Infallible, Failure> {
    kernel_file_systems()?;
    let command_line = read("/proc/cmdline")?;
    let hash = wanted(&command_line, "ravelin.roothash", verity::RootHash::parse)?;
    let key = wanted(&command_line, "ravelin.key", ::identity::key)?;
    let role = wanted(&command_line, "ravelin.role", |role| Some(role.to_owned()))?;
    load_modules()?;

    let slot = disks::find(&hash).map_err(|what| failure(&what, Errno::ENODEV))?;
    let device = verity::open(&slot.data, &slot.hashes, &slot.superblock, &hash)
        .map_err(because("verify the root"))?;
    mount_at(&device, "/sysroot", "erofs", MsFlags::MS_RDONLY, "")?;
    let this = identity::find(&key, &role)
        .map_err(io::Error::other)
        .map_err(because("tell which server this is"))?;

    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(&slot.var, "/sysroot/var", "ext4", quiet, "")?;
    mount_at(
        Path::new("tmpfs"),
        "/sysroot/run",
        "tmpfs",
        quiet,
        "mode=0755",
    )?;
    mount_at(
        Path::new("tmpfs"),
        "/sysroot/tmp",
        "tmpfs",
        quiet,
        "mode=1777",
    )?;
    lay_over_etc(&this)?;
    start_systemd()
}

/// What a word on the kernel's command line says.
fn wanted<T>(line: &str, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Failure> {
    root::parameter(line, name).and_then(read).ok_or_else(|| {
        failure(
            &format!("find `{name}=` on the kernel command line"),
            Errno::EINVAL,
        )
    })
}

fn kernel_file_systems() -> Result<(), Failure> {
    for (path, kind) in [("/dev", "devtmpfs"), ("/proc", "proc"), ("/sys", "sysfs")] {
        make_dir(path)?;
        mount_at(Path::new(kind), path, kind, MsFlags::empty(), "")?;
    }
    make_dir("/sysroot")
}

/// Loads all modules in the listed order. One that does not load is reported, and what needs it will fail by name.
fn load_modules() -> Result<(), Failure> {
    for name in read("/modules/order")?.lines() {
        let load = || -> io::Result<()> {
            let file = File::open(Path::new("/modules").join(name))?;
            match finit_module(&file, c"", ModuleInitFlags::empty()) {
                Ok(()) | Err(Errno::EEXIST) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        if let Err(error) = load() {
            let _ = fs::write(
                "/dev/kmsg",
                format!("<4>ravelin-init: module {name}: {error}\n"),
            );
        }
    }
    Ok(())
}

/// `/etc` becomes the root's own with this server's files over it; changes are lost at shutdown.
fn lay_over_etc(identity: &Identity) -> Result<(), Failure> {
    make_dir("/sysroot/run/ravelin")?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions("/sysroot/run/ravelin", private)
        .map_err(because("protect /run/ravelin"))?;
    make_dir("/sysroot/run/ravelin/etc")?;
    make_dir("/sysroot/run/ravelin/work")?;
    for file in &identity.files {
        // What is opened has been checked: all paths are below /etc.
        write_file(Path::new("/sysroot/run/ravelin"), file)
            .map_err(because(&format!("write {}", file.path)))?;
    }
    let layers =
        "lowerdir=/sysroot/etc,upperdir=/sysroot/run/ravelin/etc,workdir=/sysroot/run/ravelin/work";
    mount_at(
        Path::new("overlay"),
        "/sysroot/etc",
        "overlay",
        MsFlags::empty(),
        layers,
    )
}

fn write_file(below: &Path, file: &::identity::File) -> io::Result<()> {
    let path = below.join(file.path.trim_start_matches('/'));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut new = File::options()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(&path)?;
    new.write_all(&file.bytes)?;
    new.set_permissions(fs::Permissions::from_mode(file.mode))
}

/// Moves to the mounted root and becomes its init. What was in the initrd's memory is freed first.
fn start_systemd() -> Result<Infallible, Failure> {
    for path in ["/modules", "/.extra"] {
        if Path::new(path).exists() {
            fs::remove_dir_all(path).map_err(because("free the initrd"))?;
        }
    }
    for path in ["/dev", "/proc", "/sys"] {
        let target = format!("/sysroot{path}");
        move_mount(path, &target)?;
    }
    std::env::set_current_dir("/sysroot").map_err(because("enter the root"))?;
    move_mount(".", "/")?;
    chroot(".")
        .map_err(io::Error::from)
        .map_err(because("enter the root"))?;
    std::env::set_current_dir("/").map_err(because("enter the root"))?;
    let init: CString = c"/sbin/init".to_owned();
    execv(&init, &[&init])
        .map_err(io::Error::from)
        .map_err(because("start /sbin/init"))
}

fn move_mount(from: &str, to: &str) -> Result<(), Failure> {
    let none: Option<&str> = None;
    let moved = mount(Some(from), to, none, MsFlags::MS_MOVE, none);
    moved.map_err(|error| failure(&format!("move {from} to {to}"), error))
}

fn mount_at(
    source: &Path,
    target: &str,
    kind: &str,
    flags: MsFlags,
    options: &str,
) -> Result<(), Failure> {
    mount(Some(source), target, Some(kind), flags, Some(options)).map_err(|error| {
        failure(
            &format!("mount {} at {target} as {kind}", source.display()),
            error,
        )
    })
}

fn make_dir(path: &str) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Failure {
            what: format!("create {path}"),
            cause: error,
        }),
        _ => Ok(()),
    }
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|cause| Failure {
        what: format!("read {path}"),
        cause,
    })
}

fn because(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    move |cause| Failure { what, cause }
}

fn failure(what: &str, cause: Errno) -> Failure {
    Failure {
        what: what.to_owned(),
        cause: cause.into(),
    }
}
