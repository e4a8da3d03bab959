//! VRRPv3 beside Debian's keepalived: each takes over from the other, and WAN and LAN move together.

use interop::{
    LAN_VIRTUAL, Lab, Router, Side, WAN_VIRTUAL, WAN_VRID, own_mac, virtual_mac, wait_until,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appliance");
/// 100 ms between advertisements.
const INTERVAL: u16 = 10;

/// Our node holds both virtual addresses, answering with the virtual MAC addresses.
fn ours_is_active(lab: &Lab, routers: &[&Router]) {
    wait_until("our appliance answers for the wan address", routers, || {
        lab.resolve("client", WAN_VIRTUAL) == Some(virtual_mac(WAN_VRID))
    });
    wait_until("our appliance answers for the lan address", routers, || {
        lab.resolve("host", LAN_VIRTUAL) == Some(virtual_mac(WAN_VRID + 1))
    });
    assert!(
        lab.ping("client", WAN_VIRTUAL),
        "the virtual address answers ping"
    );
}

/// keepalived holds both virtual addresses, answering with its interfaces' own MAC addresses.
fn keepalived_is_active(lab: &Lab, side: Side, routers: &[&Router]) {
    wait_until("keepalived answers for the wan address", routers, || {
        lab.resolve("client", WAN_VIRTUAL) == Some(own_mac(side, false))
    });
    wait_until("keepalived answers for the lan address", routers, || {
        lab.resolve("host", LAN_VIRTUAL) == Some(own_mac(side, true))
    });
}

#[test]
fn keepalived_takes_over_from_us_and_we_preempt_on_return() {
    let lab = Lab::new();
    let ours = lab.appliance(PROGRAM, Side::Left, 200, INTERVAL);
    ours_is_active(&lab, &[&ours]);
    let theirs = lab.keepalived(Side::Right, 150, INTERVAL);
    wait_until("keepalived settles as backup", &[&ours, &theirs], || {
        theirs.log().contains("BACKUP STATE")
    });
    ours_is_active(&lab, &[&ours, &theirs]);

    ours.power_off();
    keepalived_is_active(&lab, Side::Right, &[&theirs]);

    let ours = lab.appliance(PROGRAM, Side::Left, 200, INTERVAL);
    ours_is_active(&lab, &[&ours, &theirs]);
    wait_until("keepalived yields", &[&ours, &theirs], || {
        theirs.log().contains("higher priority")
    });

    ours.stop(); // priority 0
    keepalived_is_active(&lab, Side::Right, &[&theirs]);
}

#[test]
fn we_take_over_from_keepalived_and_yield_when_it_returns() {
    let lab = Lab::new();
    let theirs = lab.keepalived(Side::Right, 200, INTERVAL);
    keepalived_is_active(&lab, Side::Right, &[&theirs]);
    let ours = lab.appliance(PROGRAM, Side::Left, 150, INTERVAL);
    wait_until("our appliance settles as backup", &[&ours, &theirs], || {
        ours.log().contains("-> Backup")
    });
    keepalived_is_active(&lab, Side::Right, &[&ours, &theirs]);

    theirs.stop();
    ours_is_active(&lab, &[&ours]);

    let theirs = lab.keepalived(Side::Right, 200, INTERVAL);
    keepalived_is_active(&lab, Side::Right, &[&ours, &theirs]);

    theirs.power_off();
    // Killed, keepalived leaves its addresses in the kernel, which answers ARP for them until they go.
    for (interface, address) in [("wan", WAN_VIRTUAL), ("lan", LAN_VIRTUAL)] {
        lab.forget(Side::Right, interface, address);
    }
    ours_is_active(&lab, &[&ours]);
}

#[test]
fn one_cut_cable_moves_both_sides_to_keepalived() {
    for cable in ["wan", "lan"] {
        let lab = Lab::new();
        let ours = lab.appliance(PROGRAM, Side::Left, 200, INTERVAL);
        let theirs = lab.keepalived(Side::Right, 150, INTERVAL);
        ours_is_active(&lab, &[&ours, &theirs]);

        lab.carrier(Side::Left, cable, false);
        keepalived_is_active(&lab, Side::Right, &[&ours, &theirs]);

        lab.carrier(Side::Left, cable, true);
        ours_is_active(&lab, &[&ours, &theirs]);
    }
}
