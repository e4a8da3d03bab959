//! Images of the example site build, are not built twice, and boot without a failed unit; what is wrong with a disk or
//! with what makes a server itself is said on the console.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use build::{Progress, ServerImage};
use image_test::{Machine, Outcome, Running, copy};

#[test]
fn a_balancer_boots_and_takes_the_whole_disk() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let plan = image_test::example();
    let images = image_test::build(&plan, &state, Some(&["lb1"]), &|event| {
        eprintln!("{event:?}")
    })
    .unwrap();
    let [image] = images.as_slice() else {
        panic!("one image was asked for")
    };
    let server = &plan.servers[0];
    assert_eq!(image.server, server.name);

    let disk = state.join("larger.raw");
    copy(&image.disk, &disk);
    let larger = image.sizes.disk + (64 << 20);
    let file = File::options().write(true).open(&disk).unwrap();
    file.set_len(larger).unwrap();
    let mut machine = Machine::new(&disk, server.mac).keep_writes().boot();
    expect(&mut machine, "ravelin: lb1 is running");
    // It is marked as grown before it is said to run, and the table says so on the disk itself.
    drop(machine);
    let mut entry = [0; 128];
    let file = File::open(&disk).unwrap();
    file.read_exact_at(&mut entry, 1024 + 5 * 128).unwrap();
    assert_eq!(entry[56..62], *b"v\0a\0r\0");
    let end = u64::from_le_bytes(entry[40..48].try_into().unwrap()) * 512;
    assert!(end > larger - (4 << 20), "/var ends at {end} of {larger}");
    fs::remove_file(disk).unwrap();
}

/// What fails after that says why on the console, and so does what ends again and again; and nobody loads a kernel
/// module any more. The units that show it are told to systemd from outside: the image is an ordinary one.
#[test]
fn failures_tell_their_cause_and_the_kernel_is_closed() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let plan = image_test::example();
    let images = image_test::build(&plan, &state, Some(&["lb1"]), &|_| ()).unwrap();
    let units = [
        (
            "systemd.unit-dropin.ravelin-up.service",
            "[Unit]\nWants=fails.service ends.service early.service late.service\nAfter=fails.service early.service\n",
        ),
        (
            "systemd.extra-unit.fails.service",
            "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo the disk is upside down; exit 3'\n",
        ),
        (
            "systemd.extra-unit.ends.service",
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'echo nobody answers; exit 1'\nRestart=always\nRestartSec=1\n",
        ),
        (
            "systemd.extra-unit.early.service",
            "[Service]\nType=oneshot\nStandardOutput=tty\nTTYPath=/dev/console\n\
             ExecStart=/bin/sh -c 'modprobe dummy && rmmod dummy && echo early: it can be loaded'\n",
        ),
        (
            "systemd.extra-unit.late.service",
            "[Service]\nType=exec\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n\
             ExecStart=/bin/sh -c 'until grep -q 1 /proc/sys/kernel/modules_disabled; do sleep 1; done; \
             modprobe dummy || echo late: $$(cat /sys/kernel/security/lockdown) $$(lsmod | grep -c dummy)'\n",
        ),
    ];
    let machine = Machine::new(&images[0].disk, plan.servers[0].mac);
    let mut machine = machine.credentials(&units).boot();
    for text in [
        "early: it can be loaded",
        "ravelin: fails.service: the disk is upside down",
        "ravelin: lb1 is degraded: fails.service",
        "ravelin: ends.service: nobody answers",
        "ravelin: ends.service ended and was started again",
    ] {
        let said = machine.wait_for(&[text], BOOT_TIMEOUT);
        assert!(
            matches!(said, Outcome::Line(_)),
            "{text}: {}",
            machine.console()
        );
    }
    // It may come before or after those.
    if !machine.console().contains("late: ") {
        let _ = machine.wait_for(&["late: "], BOOT_TIMEOUT);
    }
    let said = machine.console();
    for text in [
        "could not insert 'dummy': Operation not permitted",
        "late: none [integrity] confidentiality 0",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[test]
fn a_damaged_root_is_refused_and_the_console_says_so() {
    let (plan, images) = balancer("damaged");
    let disk = images.role_disk.with_file_name("damaged.raw");
    copy(&images.disk, &disk);
    // One bit of the file system's first block, in the second partition.
    flip(&disk, ROOT_OFFSET);
    let mut machine = Machine::new(&disk, plan.servers[1].mac).boot();
    expect(
        &mut machine,
        "ravelin-init: cannot mount /dev/mapper/root at /sysroot",
    );
    fs::remove_file(disk).unwrap();
}

/// Debian's own sbverify, with the certificate of the site: the boot loader and the kernel image are as they were signed. The same
/// inputs give the same signatures, whatever the time.
#[test]
fn what_the_firmware_starts_is_signed_by_the_site() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("signed");
    let plan = image_test::example();
    let build = || image_test::build(&plan, &state, Some(&["lb1"]), &|_| ()).unwrap();
    let image = build().remove(0);
    let keys = state.join("pki/boot");
    let loader = state.join("loader.efi");
    let _ = fs::remove_file(&loader);
    Tools::new().run(
        "mcopy",
        &[&esp(&image.disk), "::EFI/BOOT/BOOTX64.EFI", &text(&loader)],
    );
    let verify = |certificate: &str, file: &Path| {
        let certificate = text(&keys.join(certificate));
        Tools::new().run("sbverify", &["--cert", &certificate, &text(file)])
    };
    for file in [&loader, &image.release.kernel] {
        let (good, said) = verify("db.pem", file);
        assert!(good, "{}: {said}", file.display());
        assert!(!verify("KEK.pem", file).0, "signed by another key");
        let changed = file.with_extension("changed");
        copy(file, &changed);
        flip(&changed, fs::metadata(&changed).unwrap().len() / 2);
        assert!(!verify("db.pem", &changed).0, "{}", changed.display());
    }
    let secret = fs::read_to_string(keys.join("db.key")).unwrap();
    let line = secret.lines().nth(1).unwrap();
    assert!(holds(&keys.join("db.key"), line));
    assert!(line.len() >= 48 && !holds(&image.disk, line));

    let first = state.join("first.raw");
    copy(&image.role_disk, &first);
    fs::remove_file(state.join("roles/haproxy/image.json")).unwrap();
    let again = build().remove(0);
    assert!(same(&first, &again.role_disk), "the time is in it");
    fs::remove_file(first).unwrap();

    // Without the key, what is there is as good as before, and nothing is signed anew.
    let away = keys.join("db.key.away");
    fs::rename(keys.join("db.key"), &away).unwrap();
    build();
    fs::remove_file(state.join("roles/haproxy/image.json")).unwrap();
    let refused = image_test::build(&plan, &state, Some(&["lb1"]), &|_| ());
    fs::rename(&away, keys.join("db.key")).unwrap();
    let refused = refused.err().unwrap().to_string();
    assert!(
        refused.contains("is not there to sign the image of role haproxy"),
        "{refused}"
    );
    build();
}

/// A firmware without keys takes the site's at the first start, and then starts nothing that is not signed with them.
#[test]
fn a_firmware_takes_the_sites_keys_and_starts_nothing_else() {
    // Six boots, of which only the last one is a whole one.
    if std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }
    let (plan, images) = balancer("secure");
    let (_, others) = balancer("secure-other");
    let mac = plan.servers[1].mac;
    let disk = images.role_disk.with_file_name("secure.raw");
    copy(&images.disk, &disk);
    let variables = disk.with_extension("variables");
    copy(Path::new(NO_KEYS), &variables);
    let boot = |disk: &Path| Machine::new(disk, mac).secure(&variables).boot();

    // Somebody wants the firmware to take them.
    let loader_conf = disk.with_extension("loader");
    fs::write(&loader_conf, "secure-boot-enroll if-safe\n").unwrap();
    let conf = [
        "-o",
        &esp(&disk),
        &text(&loader_conf),
        "::loader/loader.conf",
    ];
    let (good, said) = Tools::new().run("mcopy", &conf);
    assert!(good, "{said}");
    let mut machine = boot(&disk);
    let taken = "Secure Boot keys successfully enrolled";
    expect(&mut machine, taken);
    drop(machine);

    let put = |file: &Path, place: &str| {
        copy(&images.disk, &disk);
        let (good, said) = Tools::new().run("mcopy", &["-o", &esp(&disk), &text(file), place]);
        assert!(good, "{said}");
    };
    let changed = disk.with_extension("changed");
    copy(&images.release.kernel, &changed);
    flip(&changed, fs::metadata(&changed).unwrap().len() / 2);
    let unsigned = disk.with_extension("unsigned");
    let (good, said) = Tools::new().run("sbattach", &["--remove", &text(&unsigned)]);
    assert!(!good, "there is nothing yet: {said}");
    copy(&images.release.kernel, &unsigned);
    let (good, said) = Tools::new().run("sbattach", &["--remove", &text(&unsigned)]);
    assert!(good, "{said}");
    let (kernel, loader) = ("::EFI/ravelin/1/linux.efi", "::EFI/BOOT/BOOTX64.EFI");
    let (no_kernel, no_loader) = ("linux.efi: Access denied", "BdsDxe: failed to");
    for (what, file, place, refused) in [
        ("one bit changed", &changed, kernel, no_kernel),
        ("unsigned", &unsigned, kernel, no_kernel),
        ("another site's", &others.release.kernel, kernel, no_kernel),
        ("another site's", &others.release.kernel, loader, no_loader),
    ] {
        put(file, place);
        let mut machine = boot(&disk);
        let seen = machine.wait_for(&["ravelin-init", "is running", refused], BOOT_TIMEOUT);
        println!("{place}, {what}: {seen:?}");
        assert!(
            matches!(&seen, Outcome::Line(line) if line.contains(refused)),
            "{what}: {seen:?}\n{}",
            machine.console()
        );
    }
    copy(&images.disk, &disk);
    expect(&mut boot(&disk), "ravelin: lb2 is running");
    for file in [disk, variables, changed, unsigned, loader_conf] {
        fs::remove_file(file).unwrap();
    }
}

/// One image of the role, and identities that were put elsewhere: a virtual machine's firmware, or a stick.
#[test]
fn an_identity_is_taken_from_where_it_is_and_only_a_good_one() {
    let (plan, lb2) = balancer("identity");
    let state = lb2.identity.ancestors().nth(3).unwrap();
    let web1 = image_test::build(&plan, state, Some(&["web1"]), &|_| ()).unwrap();
    let damaged = state.join("damaged.cred");
    copy(&lb2.identity, &damaged);
    flip(&damaged, fs::metadata(&damaged).unwrap().len() - 1);

    let refused = "ravelin-init: cannot tell which server this is: ";
    let firmware = "the identity in the firmware's configuration";
    let table = [
        (None, "there is no identity beside the kernel".to_owned()),
        (
            Some(&web1[0].identity),
            format!("{firmware} is that of web1, whose role is nginx, not haproxy"),
        ),
        (
            Some(&damaged),
            format!("{firmware} is damaged: its signature does not match"),
        ),
    ];
    for (identity, why) in table {
        let mut machine = Machine::new(&lb2.role_disk, plan.servers[1].mac);
        if let Some(identity) = identity {
            machine = machine.firmware_identity(identity);
        }
        expect(&mut machine.boot(), &format!("{refused}{why}"));
    }

    let stick = state.join("stick.raw");
    copy(&lb2.identity, &stick);
    let file = File::options().write(true).open(&stick).unwrap();
    file.set_len(8 << 20).unwrap();
    let mut machine = Machine::new(&lb2.role_disk, plan.servers[1].mac);
    machine = machine.firmware_identity(&damaged).stick(&stick);
    expect(&mut machine.boot(), "ravelin: lb2 is running");
}

#[test]
fn all_servers_are_built_once_and_no_role_holds_what_is_a_servers_own() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("all");
    let plan = image_test::example();
    let first = image_test::build(&plan, &state, None, &|event| eprintln!("{event:?}")).unwrap();
    assert_eq!(first.len(), plan.servers.len());
    for image in &first {
        assert!(
            image.disk.exists() && image.root_tree.join("usr/bin").exists(),
            "{}",
            image.server
        );
    }
    nothing_of_servers_in_roles(&first, &state);

    let steps = Mutex::new(None);
    let second = image_test::build(&plan, &state, None, &|event| {
        if let Progress::Planned { steps: planned } = event {
            *steps.lock().unwrap() = Some(planned);
        }
    });
    assert!(second.unwrap().iter().all(|image| !image.built));
    assert_eq!(
        steps.into_inner().unwrap(),
        Some(Vec::new()),
        "nothing changed, so there is nothing to do"
    );
}

/// Looks for the lines of every secret file, and for every server's name, in what servers of a role share.
fn nothing_of_servers_in_roles(images: &[ServerImage], state: &Path) {
    let mut secrets = Vec::new();
    for image in images {
        for file in (image.host_files.iter()).filter(|file| file.mode & 0o077 == 0) {
            let text = String::from_utf8_lossy(&file.bytes);
            let lines = text.lines().filter(|line| {
                let plain = line.contains(|c: char| c.is_ascii_digit()) && !line.contains(' ');
                line.len() >= 24 && plain && !line.starts_with("-----")
            });
            secrets.extend(lines.map(str::to_owned));
        }
    }
    assert!(secrets.len() > 20, "{} lines of secrets", secrets.len());
    fs::write(state.join("secrets"), secrets.join("\n")).expect("the test can do it");
    let names: Vec<&str> = images.iter().map(|image| image.server.as_str()).collect();
    fs::write(state.join("names"), names.join("\n")).expect("the test can do it");

    let found = |flags: &str, patterns: &str, places: &[&Path]| {
        let patterns = format!("--file={}", state.join(patterns).display());
        let mut grep = Command::new("grep");
        grep.args([flags, "--fixed-strings", "--text", &patterns]);
        let output = grep
            .arg("--")
            .args(places)
            .output()
            .expect("the test can do it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // The search finds them where they are.
    let own = &images[0];
    assert_ne!(found("-l", "secrets", &[&own.identity]), "");
    assert_ne!(found("-lw", "names", &[&own.identity]), "");
    for image in images {
        let (tree, disk) = (&image.root_tree, &image.role_disk);
        assert_eq!(found("-rl", "secrets", &[tree, disk]), "", "secrets");
        let settings = ["etc", "var", "usr/lib/ravelin"].map(|dir| tree.join(dir));
        let settings: Vec<&Path> = settings.iter().map(PathBuf::as_path).collect();
        assert_eq!(found("-rlw", "names", &settings), "", "names");
    }
}

/// The image of lb2, and the site.
fn balancer(name: &str) -> (site::Plan, ServerImage) {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let plan = image_test::example();
    let mut images =
        image_test::build(&plan, &state, Some(&["lb2"]), &|_| ()).expect("the test can do it");
    (plan, images.remove(0))
}

fn expect(machine: &mut Running, text: &str) {
    let seen = machine.wait_for(&[text, "is degraded", "end Kernel panic"], BOOT_TIMEOUT);
    assert!(
        matches!(&seen, Outcome::Line(line) if line.contains(text)),
        "{text}: {seen:?}\n{}",
        machine.console()
    );
}

/// Debian's programs in the tree that images are packed with.
struct Tools(PathBuf);

impl Tools {
    fn new() -> Self {
        let trees = image_test::places(Path::new("")).cache.join("tools");
        let trees = fs::read_dir(trees).expect("there are tools");
        let mut roots = trees.filter_map(|tree| Some(tree.ok()?.path().join("root")));
        let root = roots.find(|root| root.join("usr/bin/sbverify").exists());
        Self(root.expect("the tools have it"))
    }

    /// Runs a program of the tree with the tree's own libraries, on this machine's files.
    fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(self.0.join("usr/lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(self.0.join("usr/lib/x86_64-linux-gnu"))
            .arg(self.0.join("usr/bin").join(program))
            .args(arguments)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

/// The EFI partition of a disk, as mtools are told of it.
fn esp(disk: &Path) -> String {
    format!("-i{}@@1M", disk.display())
}

/// Whether a line stands anywhere in a file.
fn holds(file: &Path, line: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args(["--quiet", "--fixed-strings", "--text", "--", line]);
    grep.arg(file).status().expect("it runs").success()
}

fn same(one: &Path, other: &Path) -> bool {
    let mut cmp = Command::new("cmp");
    let status = cmp.arg("--silent").args([one, other]).status();
    status.expect("it runs").success()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn flip(path: &Path, at: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("the test can do it");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)
        .expect("the test can do it");
    file.write_all_at(&[byte[0] ^ 1], at)
        .expect("the test can do it");
}

/// The root's partition follows the first MiB and the EFI partition of 96 MiB.
const ROOT_OFFSET: u64 = 97 << 20;
/// The firmware's variables as they are delivered.
const NO_KEYS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const BOOT_TIMEOUT: Duration = Duration::from_secs(1200);
