//! The whole example site on this machine: linux appliances, and every server's real root as a container.
//! Needs root; builds the images if they are not cached.

use std::path::Path;

use rehearse::{Event, Options, Scenario, Stop};

#[test]
fn every_server_answers_through_the_virtual_address() {
    let plan = rack_test::plan(2);
    let state = tempfile::tempdir().expect("temporary directory");
    let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
    let (bodies, authority) = rack_test::light(&plan, program, state.path());
    let options = Options {
        bodies,
        state: state.path().to_path_buf(),
        authority,
        port: 0,
        scenario: Some(Scenario::Steady),
        requests: 200,
        stop: Stop::default(),
        plan,
    };
    let seen = |event: Event| match event {
        Event::Requests { .. } | Event::Running { .. } => {}
        other => println!("{other:?}"),
    };
    let report = rehearse::run(&options, seen).map_err(|error| {
        let keep = state.keep();
        format!("{error}\n(kept {})", keep.display())
    });
    let report = report.expect("a rehearsal").expect("a report");
    println!("{report:#?}");
    assert!(report.passed, "{report:#?}");
}
