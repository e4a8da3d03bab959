//! Images of the example site build, are not built twice, and boot without a failed unit.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use build::Progress;
use image_test::{Machine, Outcome};

#[test]
fn a_balancer_boots() {
    let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let plan = image_test::example();
    let images = image_test::build(&plan, &state, Some(&["lb1"]), &|event| eprintln!("{event:?}")).unwrap();
    let [image] = images.as_slice() else { panic!("one image was asked for") };
    let server = &plan.servers[0];
    assert_eq!(image.server, server.name);

    let mut machine = Machine::boot(&image.disk, server.mac);
    let up = machine.wait_for("ravelin: ", BOOT_TIMEOUT);
    assert_eq!(up, Outcome::Line("ravelin: lb1 is running".to_owned()), "{}", machine.console());
}

const BOOT_TIMEOUT: Duration = Duration::from_secs(600);
