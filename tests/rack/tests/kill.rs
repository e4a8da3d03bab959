//! Every machine and every service of the example site fails once, while users read and write through all tiers: linux
//! appliances, and every server's real root as a container. Needs root; builds the images if they are not cached.

use std::collections::BTreeSet;
use std::path::Path;

use rehearse::kill::Failure;
use rehearse::{Event, Options, Scenario, Stop};

#[test]
fn nothing_that_fails_alone_stops_the_site_or_loses_a_write() {
    // Some eighty failures, one after the other.
    if std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }
    let plan = rack_test::plan(2);
    let state = tempfile::tempdir().expect("temporary directory");
    let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
    let (bodies, authority) = rack_test::light(&plan, program, state.path());
    let machines: BTreeSet<String> = (bodies.appliances.keys())
        .chain(bodies.servers.keys())
        .cloned()
        .collect();
    let options = Options {
        bodies,
        state: state.path().to_path_buf(),
        authority,
        port: 0,
        scenario: Some(Scenario::KillEach),
        requests: 0,
        stop: Stop::default(),
        plan,
    };
    let seen = |event: Event| match event {
        Event::Requests { .. } | Event::Running { .. } | Event::Restoring { .. } => {}
        other => println!("{other:?}"),
    };
    let report = rehearse::run(&options, seen).map_err(|error| {
        let keep = state.keep();
        format!("{error}\n(kept {})", keep.display())
    });
    let report = report.expect("a rehearsal").expect("a report");

    // Whoever is missing here was not tested.
    let cut = report.cases.iter();
    let cut = cut.filter(|case| case.failure == Failure::PowerCut);
    let cut: BTreeSet<String> = cut.map(|case| case.machine.clone()).collect();
    assert_eq!(cut, machines);
    for (server, service) in [
        ("lb1", "haproxy"),
        ("lb2", "haproxy"),
        ("web1", "nginx"),
        ("web2", "prometheus-nginx-exporter"),
        ("app1", "demo-app"),
        ("app2", "haproxy"),
        ("db1", "mariadb"),
        ("db2", "ravelin-db"),
        ("db2", "prometheus-mysqld-exporter"),
        ("mon1", "prometheus"),
        ("mon1", "prometheus-alertmanager"),
        ("mon1", "ravelin-db-arbiter"),
        ("mon1", "rsyslog"),
        ("app1", "prometheus-node-exporter"),
    ] {
        let mut cases = report.cases.iter();
        let found =
            cases.any(|case| case.machine == server && case.service.as_deref() == Some(service));
        assert!(found, "{service} on {server} was never killed");
    }
    // In each case all of it: the site serves again as before, no acknowledged write is missing in any database, and where
    // others do the same work, only requests that were under way on what failed are lost. Before the appliances know that
    // a balancer is gone users still come to it, and to the server that is written to there is no second one at any time.
    println!("{:#?}", report.criteria);
    for case in &report.cases {
        assert!(case.writes.sent > 0 && case.reads.sent > 0, "{case:#?}");
    }
    assert!(report.passed, "{:#?}", report.criteria);
}
