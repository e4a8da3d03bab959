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
