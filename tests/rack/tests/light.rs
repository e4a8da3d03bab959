//! The whole example site on this machine: linux appliances, and every server's real root as a container.
//! Needs root; builds the images if they are not cached.

use std::path::{Path, PathBuf};

use build::{Places, Progress};
use rehearse::{Appliance, Bodies, Event, Options, Scenario, ServerBody, Stop};

#[test]
fn every_server_answers_through_the_virtual_address() {
    assert!(
        nix::unistd::Uid::effective().is_root(),
        "containers need root"
    );
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let plan = rack_test::plan(2);
    let state = tempfile::tempdir().expect("temporary directory");

    let pki = build::pki::open(state.path(), &plan).expect("certificates");
    let places = Places {
        state: state.path().to_path_buf(),
        ..Places::new(&source, Path::new("site.toml"))
    };
    let progress = |progress: Progress| {
        if let Progress::Finished(step, took) = progress {
            println!("{step}: {took:.1?}");
        }
    };
    let images =
        build::images(&places, &plan, &pki, &build::Options::default(), &progress).expect("images");

    let appliances = plan.appliances.iter().map(|appliance| {
        let config = rack_test::config_blob(&plan, &appliance.name, state.path());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_rack-appliance"));
        (
            appliance.name.clone(),
            Appliance::Process { program, config },
        )
    });
    let servers = images.into_iter().map(|image| {
        (
            image.server,
            ServerBody::Light {
                root: image.root_tree,
                files: image.host_files,
            },
        )
    });
    let options = Options {
        bodies: Bodies {
            appliances: appliances.collect(),
            servers: servers.collect(),
        },
        state: state.path().to_path_buf(),
        authority: pki.ca_path(),
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
