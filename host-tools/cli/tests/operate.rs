//! An operator with a pair of appliances that run on this machine, in namespaces: `run`, `status`, `handover`, `maintenance`.
//! Needs root.

mod changes;
mod desk;
mod events;

use desk::{Desk, both, ravelin, state};
use serde_json::Value;

#[test]
fn an_operator_sees_the_pair_and_moves_it() {
    let desk = Desk::new("100ms");
    let mut gw1 = desk.start(0);
    let gw2 = desk.start(1);
    let status = desk.until_well();
    assert_eq!(state(&status, "gw1"), "master");
    assert_eq!(state(&status, "gw2"), "backup");
    let backup = &status["appliances"][1]["ietf-interfaces:interfaces"]["interface"];
    let of = |interface: &Value| {
        let instance = &interface["ietf-ip:ipv4"]["ietf-vrrp:vrrp"]["vrrp-instance"][0];
        let heard = instance["statistics"]["advertisement-rcvd"].as_u64();
        (
            instance["vrid"].clone(),
            instance["state"].clone(),
            heard > Some(0),
        )
    };
    let all: Vec<_> = backup.as_array().expect("a list").iter().map(of).collect();
    let expected = |vrid: u8| (vrid.into(), "ietf-vrrp:backup".into(), true);
    assert_eq!(all, [expected(51), expected(52)], "{status:#}");
    let table = desk.run(&["status"]);
    let text = desk::text(&table.stdout);
    for word in ["gw1", "Active", "gw2 Backup, in sync", "lan up, wan up"] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }

    let moved = desk.run(&["handover", "gw1"]);
    assert_eq!(moved.status.code(), Some(0), "{}", both(&moved));
    assert!(desk::text(&moved.stdout).starts_with("gw2 is Active; gw1 stands back"));
    let status = desk.until_well();
    assert_eq!(state(&status, "gw2"), "master");
    let demotions = &ravelin(&status, "gw1")["demotions"];
    assert_eq!(*demotions, Value::from(["operator"].to_vec()));

    // Again: there is nothing to hand over. In maintenance nobody takes over either.
    let again = desk.run(&["handover", "gw1"]);
    assert_eq!(again.status.code(), Some(1), "{}", both(&again));
    assert!(
        both(&again).contains("it is not Active"),
        "{}",
        both(&again)
    );
    let refused = desk.run(&["handover", "gw2"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("not able to take over"),
        "{}",
        both(&refused)
    );

    // A stop and a start do not end it: the peer remembers.
    gw1.terminate();
    desk.wait("gw1 ends", || gw1.ended().is_some());
    let gw1 = desk.start(0);
    let status = desk.until_well();
    assert_eq!(state(&status, "gw2"), "master");
    let demotions = &ravelin(&status, "gw1")["demotions"];
    assert_eq!(*demotions, Value::from(["operator"].to_vec()));

    let ended = desk.run(&["maintenance", "gw1", "off"]);
    assert_eq!(ended.status.code(), Some(0), "{}", both(&ended));
    desk.until("gw1 takes over again", |status| {
        state(status, "gw1") == "master"
    });

    drop(gw2);
    let alone = desk.run(&["status"]);
    assert_eq!(alone.status.code(), Some(1), "{}", both(&alone));
    assert!(
        both(&alone).contains("no answer from 10.9.0.3"),
        "{}",
        both(&alone)
    );
    let refused = desk.run(&["handover", "gw1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("its peer is not heard"),
        "{}",
        both(&refused)
    );

    // Somebody with another site's secret is not believed.
    let other = desk.lab.path("other");
    std::fs::create_dir(&other).expect("a directory");
    std::fs::copy(&desk.site, other.join("site.toml")).expect("a copy");
    let stranger = other.join("site.toml");
    let unbuilt = desk.ask(&stranger, &["status"]);
    assert_eq!(unbuilt.status.code(), Some(2), "{}", both(&unbuilt));
    let pki = other.join(".ravelin/pki");
    std::fs::create_dir_all(&pki).expect("a directory");
    std::fs::write(pki.join("operator.key"), "00".repeat(32)).expect("a key");
    let foreign = desk.ask(&stranger, &["handover", "gw1"]);
    assert_eq!(foreign.status.code(), Some(2), "{}", both(&foreign));
    assert!(
        both(&foreign).contains("does not take the site's operator key"),
        "{}",
        both(&foreign)
    );
    drop(gw1);
}
