//! A pair of linux appliances between the uplink and a fake site: every scenario but those of real servers.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use rack_test::{FakeSite, Pki, Place, config_blob, plan};
use rehearse::Appliance;
use rehearse::Stop;
use rehearse::client::Client;
use rehearse::rack::Rack;
use rehearse::scenario::{self, Report, Scenario};
use rehearse::switch::Mode;

#[test]
fn steady_requests_are_all_answered() {
    for ports in [2, 1] {
        let report = Bench::new(ports).run(Scenario::Steady);
        assert!(report.passed, "{ports} ports: {report:#?}");
        assert_eq!(report.users[0].requests.sent, 40);
        assert_eq!(report.fault, None);
    }
}

#[test]
fn the_site_survives_a_power_failure_of_the_active_appliance() {
    survives(2, Scenario::KillActive);
}

#[test]
fn nobody_notices_a_hand_over() {
    survives(2, Scenario::HandOver);
}

#[test]
fn the_site_survives_a_reset_of_the_active_appliance() {
    let report = Bench::new(2).run(Scenario::RestartActive);
    assert!(report.passed, "{report:#?}");
    let fault = report.fault.as_ref().expect("a fault");
    assert_eq!(fault.active_after.as_deref(), Some("gw1"));
    assert_eq!(report.users[0].kept_connections.broken, 0, "{report:#?}");
}

#[test]
fn the_site_survives_a_cut_wan_cable() {
    survives(2, Scenario::CutWan);
}

#[test]
fn the_site_survives_a_cut_lan_cable() {
    survives(2, Scenario::CutLan);
}

#[test]
fn the_site_survives_a_power_failure_on_trunks() {
    survives(1, Scenario::KillActive);
}

#[test]
fn the_site_survives_lan_vlans_that_a_trunk_no_longer_carries() {
    survives(1, Scenario::CutLan);
}

#[test]
fn the_site_survives_a_wan_vlan_that_a_trunk_no_longer_carries() {
    survives(1, Scenario::CutWan);
}

fn survives(ports: u8, scenario: Scenario) {
    let report = Bench::new(ports).run(scenario);
    assert!(report.passed, "{report:#?}");
    let fault = report.fault.as_ref().expect("a fault");
    assert_eq!(fault.active_before.as_deref(), Some("gw1"));
    assert_eq!(fault.active_after.as_deref(), Some("gw2"));
    assert!(fault.takeover_ms.is_some(), "{report:#?}");
    let users = &report.users[0];
    let outage = users.outage.expect("a fault");
    println!(
        "{scenario} on {ports} port(s): take-over {:?} ms, blackout {:?} ms (service {:?} ms), {} of {} requests lost, {} of {} kept connections broken",
        fault.takeover_ms,
        outage.blackout_ms,
        outage.service_blackout_ms,
        users.requests.lost,
        users.requests.sent,
        users.kept_connections.broken,
        users.kept_connections.open
    );
}

/// Two appliances and the fake, ready to be used.
struct Bench {
    // In the order in which they end.
    rack: Rack,
    _site: FakeSite,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(ports: u8) -> Self {
        let plan = plan(ports).with_plain_checks();
        let directory = tempfile::tempdir().expect("temporary directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let mut rack = Rack::new(&plan, vec![listener], directory.path()).expect("rack");
        for appliance in &plan.appliances {
            let body = Appliance::Process {
                program: PathBuf::from(env!("CARGO_BIN_EXE_rack-appliance")),
                config: config_blob(&plan, &appliance.name, directory.path()),
            };
            rack.start_appliance(&appliance.name, &body)
                .expect("appliance starts");
        }

        let pki = Pki::new(&plan.domain).expect("certificates");
        let authority = directory.path().join("ca.pem");
        pki.write_authority(&authority).expect("CA file");
        let lb1 = plan
            .servers
            .iter()
            .find(|server| server.name == "lb1")
            .expect("lb1");
        let network = plan
            .networks
            .iter()
            .find(|network| network.name == lb1.network)
            .expect("its network");
        let vlan = network.vlan.expect("a rack network has a VLAN");
        let (_, cable) = rack
            .fabric()
            .attach("lb1 (fake)", Mode::access(vlan), None)
            .expect("cable");
        let place = Place {
            mac: lb1.mac,
            address: lb1.address,
            prefix: network.subnet.prefix_len(),
            gateway: network.virtual_address,
        };
        let site = FakeSite::start(place, cable, &pki).expect("TLS");
        let local = rack.uplinks()[0].local();
        let client =
            Client::new(local, &plan.domain, &authority, Duration::from_secs(15)).expect("client");
        let clients = std::slice::from_ref(&client);
        rack_test::wait_until_serving(&mut rack, clients, Duration::from_secs(60));
        Self {
            rack,
            _site: site,
            client,
            _directory: directory,
        }
    }

    fn run(&mut self, scenario: Scenario) -> Report {
        let settings = rack_test::settings(scenario, "fake", &["lb1"]);
        let stop = Stop::default();
        let clients = std::slice::from_ref(&self.client);
        scenario::run(&settings, &mut self.rack, clients, &stop, &|_| {}).expect("it runs")
    }
}
