//! Images of the example site build, are not built twice, and boot without a failed unit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use build::Progress;
use image_test::{Machine, Outcome};

#[test]
fn a_balancer_boots() {
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

    let mut machine = Machine::boot(&image.disk, server.mac);
    let up = machine.wait_for("ravelin: ", BOOT_TIMEOUT);
    assert_eq!(
        up,
        Outcome::Line("ravelin: lb1 is running".to_owned()),
        "{}",
        machine.console()
    );
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
    let mut machine = Machine::boot_with(&images[0].disk, plan.servers[0].mac, &units);
    for text in [
        "early: it can be loaded",
        "ravelin: fails.service: the disk is upside down",
        "ravelin: lb1 is degraded: fails.service",
        "ravelin: ends.service: nobody answers",
        "ravelin: ends.service ended and was started again",
    ] {
        let said = machine.wait_for(text, BOOT_TIMEOUT);
        assert!(
            matches!(said, Outcome::Line(_)),
            "{text}: {}",
            machine.console()
        );
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
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("damaged");
    let plan = image_test::example();
    let images = image_test::build(&plan, &state, Some(&["lb2"]), &|_| ()).unwrap();
    let disk = state.join("damaged.raw");
    std::fs::copy(&images[0].disk, &disk).unwrap();
    // One bit of the file system's first block, in the second partition.
    let mut file = File::options().read(true).write(true).open(&disk).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(ROOT_OFFSET)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(ROOT_OFFSET)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    drop(file);

    let mut machine = Machine::boot(&disk, plan.servers[1].mac);
    let refused = machine.wait_for(
        "ravelin-init: cannot mount /dev/mapper/root at /sysroot",
        BOOT_TIMEOUT,
    );
    assert!(matches!(refused, Outcome::Line(_)), "{}", machine.console());
    std::fs::remove_file(disk).unwrap();
}

#[test]
fn all_servers_are_built_once() {
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

/// The root's partition follows the first MiB and the EFI partition of 64 MiB.
const ROOT_OFFSET: u64 = 65 << 20;
const BOOT_TIMEOUT: Duration = Duration::from_secs(600);
