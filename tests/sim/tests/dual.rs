//! The example site with both versions of IP: what users and operators see of the IPv6 side.

use std::net::IpAddr;

use node::Event;
use sim::{Boards, Rack, Versions};
use time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn servers_are_checked_with_both_versions() {
    let rack = started(1);
    for node in [rack.gw1, rack.gw2] {
        let healthy = rack.world.events().iter().filter(|(_, id, event)| {
            *id == node
                && matches!(
                    event,
                    Event::Server {
                        address: IpAddr::V6(_),
                        failure: None,
                        ..
                    }
                )
        });
        assert_eq!(healthy.count(), 4, "two ports of two servers");
    }
}

/// A rack whose stronger node is Active and whose servers were all checked.
fn started(seed: u64) -> Rack {
    let mut rack = Rack::with(seed, Boards::TwoPorts, Versions::Both);
    rack.world.run(4 * SECOND);
    assert!(rack.world.is_active(rack.gw1), "{}", rack.world.journal());
    assert!(!rack.world.is_active(rack.gw2), "{}", rack.world.journal());
    rack
}
