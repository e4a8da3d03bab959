//! mkosi beside us: one image of the same packages.
//!
//! It runs where it is at home: in a Debian 13 tree made for it, entered with `pivot_root` (in a plain chroot it
//! refuses to make namespaces).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use build::spec;
use site::plan::Role;

use crate::images::Peer;

/// Makes a role's image with mkosi, twice: the second time all packages are there. Says why it cannot.
pub fn measure(source: &Path, role: Role) -> Result<Peer, String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("its tree is made and entered as root".to_owned());
    }
    let words = |error: &dyn std::error::Error| error.to_string();
    let base = spec::base(source).map_err(|error| words(&error))?;
    let role = spec::role(source, role).map_err(|error| words(&error))?;
    let mut packages = [base.packages, role.packages].concat();
    packages.push(base.kernel);
    // The stub of its kernel image comes from the image itself.
    packages.push("systemd-boot-efi".to_owned());
    let dir = source.join("target/bench-mkosi");
    fs::create_dir_all(dir.join("work")).map_err(|error| words(&error))?;
    let conf = CONF
        .replace("RELEASE", &base.release)
        .replace("PACKAGES", &packages.join(","));
    fs::write(dir.join("work/mkosi.conf"), conf).map_err(|error| words(&error))?;
    let log = dir.join("log");
    File::create(&log).map_err(|error| words(&error))?;
    let lines = build::mirror_lines(&base.release).map_err(|error| words(&error))?;
    // Its own list has suites that not every mirror has.
    let sources = dir.join("work/mkosi.sandbox/etc/apt/sources.list.d");
    fs::create_dir_all(&sources).map_err(|error| words(&error))?;
    let path = sources.join("mkosi.sources");
    fs::write(path, deb822(&lines)).map_err(|error| words(&error))?;
    if !dir.join("root").exists() {
        fs::write(dir.join("sources.list"), lines).map_err(|error| words(&error))?;
        run(&dir, &log, MAKE_TREE, &[&base.release])?;
    }
    run(&dir, &log, MAKE_IMAGE, &[])?;
    let begun = Instant::now();
    run(&dir, &log, MAKE_IMAGE, &[])?;
    let seconds = begun.elapsed().as_secs_f64();
    let image = dir.join("work/image.raw");
    let size = fs::metadata(&image).map_err(|error| format!("{}: {error}", image.display()))?;
    let version = fs::read_to_string(dir.join("work/version")).unwrap_or_default();
    Ok(Peer {
        who: version.trim().to_owned(),
        seconds,
        disk: size.len(),
        written: size.blocks() * 512,
    })
}

fn run(dir: &Path, log: &Path, script: &str, args: &[&str]) -> Result<(), String> {
    let open = || {
        File::options()
            .append(true)
            .open(log)
            .map_err(|error| error.to_string())
    };
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    unshare
        .args(["sh", "-euc", script, "mkosi"])
        .arg(dir)
        .args(args);
    unshare.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    let status = unshare
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    let tail: Vec<&str> = lines.into_iter().rev().collect();
    Err(format!(
        "it failed ({status}), see {}: {}",
        log.display(),
        tail.join(" | ")
    ))
}

/// Lines of a `sources.list` in the newer format.
fn deb822(lines: &str) -> String {
    let paragraph = |line: &str| {
        let mut words = line.split_whitespace().filter(|word| *word != "deb");
        let first = words.next()?;
        let signed = first
            .strip_prefix("[signed-by=")
            .and_then(|keys| keys.strip_suffix(']'));
        let uri = if signed.is_some() {
            words.next()?
        } else {
            first
        };
        let keys = signed.map_or_else(String::new, |keys| format!("Signed-By: {keys}\n"));
        let suite = words.next()?;
        Some(format!(
            "Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\n{keys}\n"
        ))
    };
    lines.lines().filter_map(paragraph).collect()
}

/// `$1`: the directory; `$2`: the release.
const MAKE_TREE: &str = r#"
trap 'rm -rf "$1/root.new"' EXIT
rm -rf "$1/root.new"
TMPDIR=$1 mmdebstrap --mode=root --variant=apt --format=directory --skip=output/dev --include=mkosi,systemd-repart,\
systemd-container,systemd-boot,systemd-boot-efi,systemd-ukify,dosfstools,e2fsprogs,mtools,erofs-utils,cryptsetup-bin,\
fdisk,zstd,cpio,kmod,bubblewrap,debian-archive-keyring "$2" "$1/root.new" "$1/sources.list"
mkdir -p "$1/root.new/work" "$1/root.new/mnt" "$1/root.new/dev"
mv "$1/root.new" "$1/root"
"#;

/// `$1`: the directory.
const MAKE_IMAGE: &str = r#"
tree=$1/root
mount --rbind "$tree" "$tree"
mount --bind "$1/work" "$tree/work"
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount -t tmpfs tmpfs "$tree/run"
cat /etc/resolv.conf > "$tree/etc/resolv.conf"
cd "$tree"
pivot_root . mnt
cd /work
umount -l /mnt
export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkosi --version > version
mkosi --force build
"#;

/// What our images have: systemd, one kernel, an EFI partition with a kernel image, a root and nothing else.
const CONF: &str = "[Distribution]
Distribution=debian
Release=RELEASE

[Output]
Format=disk
ImageId=image
CompressOutput=no

[Build]
PackageCacheDirectory=mkosi.pkgcache
Incremental=no

[Content]
Bootable=yes
Bootloader=uki
WithRecommends=no
WithDocs=no
Packages=PACKAGES
";

#[cfg(test)]
mod tests {
    #[test]
    fn sources_in_both_formats() {
        let both =
            super::deb822("deb [signed-by=/k] http://a/debian trixie main\ndeb http://b ./ main\n");
        let text = "Types: deb\nURIs: http://a/debian\nSuites: trixie\nComponents: main\nSigned-By: /k\n\n\
                    Types: deb\nURIs: http://b\nSuites: ./\nComponents: main\n\n";
        assert_eq!(both, text);
    }
}
