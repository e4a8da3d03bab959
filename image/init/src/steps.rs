//! The steps of the boot, in order.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chroot, execv};
use thiserror::Error;

use crate::{root, verity};

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
    let hash = root::parameter(&command_line, "ravelin.roothash")
        .and_then(verity::RootHash::parse)
        .ok_or_else(|| {
            failure(
                "find the root's hash (ravelin.roothash=) on the kernel command line",
                Errno::EINVAL,
            )
        })?;
    load_modules()?;

    let data = partition("root")?;
    let hashes = partition("root-verity")?;
    let superblock =
        verity::Superblock::read(&hashes).map_err(because("read the root's hashes"))?;
    let device =
        verity::open(&data, &hashes, &superblock, &hash).map_err(because("verify the root"))?;
    mount_at(&device, "/sysroot", "erofs", MsFlags::MS_RDONLY, "")?;

    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_at(&partition("var")?, "/sysroot/var", "ext4", quiet, "")?;
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
    lay_over_etc()?;
    start_systemd()
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

/// Waits until the partition of this name is there: disks are found while we run.
fn partition(name: &str) -> Result<PathBuf, Failure> {
    let start = Instant::now();
    loop {
        let found = find_partition(name).map_err(because("list the disks in /sys/class/block"))?;
        if let Some(device) = found {
            return Ok(device);
        }
        if start.elapsed() > DISK_TIMEOUT {
            let seen = block_devices().unwrap_or_default();
            let seen = if seen.is_empty() {
                "no disk at all".to_owned()
            } else {
                seen.join(", ")
            };
            return Err(failure(
                &format!("find a partition called `{name}` (the kernel sees {seen})"),
                Errno::ENODEV,
            ));
        }
        sleep(Duration::from_millis(20));
    }
}

fn find_partition(name: &str) -> io::Result<Option<PathBuf>> {
    for device in block_devices()? {
        let Ok(uevent) = fs::read_to_string(format!("/sys/class/block/{device}/uevent")) else {
            continue; // It has just gone.
        };
        let path = Path::new("/dev").join(&device);
        if root::partition_name(&uevent) == Some(name) && path.exists() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn block_devices() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// `/etc` becomes the root's own with this server's files over it; changes are lost at shutdown.
fn lay_over_etc() -> Result<(), Failure> {
    make_dir("/sysroot/run/ravelin")?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions("/sysroot/run/ravelin", private)
        .map_err(because("protect /run/ravelin"))?;
    make_dir("/sysroot/run/ravelin/etc")?;
    make_dir("/sysroot/run/ravelin/work")?;
    if Path::new("/host/etc").exists() {
        copy_tree(
            Path::new("/host/etc"),
            Path::new("/sysroot/run/ravelin/etc"),
        )
        .map_err(because("copy this server's own files"))?;
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

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let meta = entry.metadata()?;
        if meta.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&entry.path(), &target)?;
            fs::set_permissions(&target, meta.permissions())?;
        } else {
            fs::copy(entry.path(), &target)?; // with its mode
        }
    }
    Ok(())
}

/// Moves to the mounted root and becomes its init. What was in the initrd's memory is freed first.
fn start_systemd() -> Result<Infallible, Failure> {
    for path in ["/modules", "/host"] {
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

/// Disks behind slow controllers need some seconds.
const DISK_TIMEOUT: Duration = Duration::from_secs(30);
