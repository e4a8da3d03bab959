//! Virtual routers and pairs, from the site file to what the appliances are told.

use std::net::IpAddr;

use policy::{Authentication, Checksum, Config, HmacMode, Tracked, Version};
use render::appliance::config;
use site::{Boards, Plan};

const REFERENCE: &str = include_str!("../../../docs/site-file.md");
const FOOBAR: &str = include_str!("../../../examples/foobar/site.toml");

fn parse(text: &str) -> Plan {
    let plan = site::parse("site.toml", text, &Boards::new([("zynq7000", 2)]));
    plan.unwrap_or_else(|errors| panic!("{errors:?}\n{text}"))
}

/// The site that the examples of the reference make.
fn reference() -> Plan {
    let blocks = REFERENCE.split("```toml\n").skip(1);
    let text: String = (blocks.filter_map(|block| block.split("```").next())).collect();
    parse(&text)
}

fn both(plan: &Plan) -> [Config; 2] {
    ["gw1", "gw2"].map(|name| config(plan, name).unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn the_site_of_the_reference_fits_an_appliance() {
    let [gw1, gw2] = both(&reference());
    let text = |config: &Config| {
        let mut availability = config.availability.clone();
        let pair = availability.pair.as_mut().expect("there are two");
        // Whatever it is, others test what it is made of.
        pair.fingerprint = 0;
        let routers = config.routers.iter().map(|router| format!("{router:?}\n"));
        let tracks = availability
            .tracks
            .iter()
            .map(|track| format!("{track:?}\n"));
        let all: String = routers.chain(tracks).collect();
        let all = format!("{all}{:?}\n{:?}", availability.announce, availability.pair);
        all.replace(&format!("{:?}", [0; 32]), "[…]")
    };
    insta::assert_snapshot!(text(&gw1));
    for (a, b) in gw1.routers.iter().zip(&gw2.routers) {
        assert_ne!(a.peers, b.peers, "each has the other one as its peer");
    }
}

#[test]
fn each_of_a_pair_knows_the_way_to_the_other() {
    let plan = parse(FOOBAR);
    let [gw1, gw2] = both(&plan);
    let [a, b] = [&gw1, &gw2].map(|config| config.availability.pair.clone().unwrap());
    assert_eq!((a.peer.as_str(), b.peer.as_str()), ("gw2", "gw1"));
    assert!(a.first && !b.first);
    for (pair, other) in [(&a, &gw2), (&b, &gw1)] {
        for path in &pair.paths {
            let leg = &other.interfaces[usize::from(path.interface)];
            assert_eq!((path.mac, path.address), (leg.mac, leg.address));
        }
        let names = pair
            .paths
            .iter()
            .map(|path| gw1.interfaces[usize::from(path.interface)].name.clone());
        assert_eq!(names.collect::<Vec<_>>(), ["edge", "wan"]);
    }
    assert_eq!(
        (a.heartbeat, a.misses, a.sync, a.defer, a.serial),
        (50, 4, true, false, false)
    );
}

/// Both have the same fingerprint; what both must agree about changes it, and nothing else does.
#[test]
fn fingerprints_are_of_what_both_share() {
    let print = |text: &str| {
        let prints = both(&parse(text)).map(|config| config.availability.pair.unwrap().fingerprint);
        assert_eq!(prints[0], prints[1], "{text}");
        prints[0]
    };
    let usual = print(FOOBAR);
    let table = [
        (
            "another service",
            "",
            "[services.https]\nbalance = \"maglev\"",
            true,
        ),
        ("another interval", "\"100ms\"|\"200ms\"", "", true),
        ("another address", "203.0.113.10|203.0.113.11", "", true),
        (
            "another rule",
            "",
            "[[flows]]\nname = \"x\"\nfrom = \"servers\"\nto = \"internet\"\nprotocol = \"ping\"\nwhy = \"x\"",
            true,
        ),
        (
            "a weight",
            "",
            "[[track]]\nport = \"lan\"\nweight = -60",
            true,
        ),
        ("another path", "", "[pair]\nnetworks = [\"web\"]", true),
        ("waiting", "", "[pair]\ndefer = true", true),
        (
            "another reason",
            "the name users type|what users type",
            "",
            false,
        ),
        ("another host number", "host = 3|host = 4", "", false),
        (
            "other priorities",
            "priority = 150|priority = 20",
            "",
            false,
        ),
    ];
    for (name, change, more, differs) in table {
        let (from, to) = change.split_once('|').unwrap_or(("\0", ""));
        let text = format!("{}\n{more}\n", FOOBAR.replace(from, to));
        assert_eq!(print(&text) != usual, differs, "{name}");
    }
}

#[test]
fn a_keepalived_is_a_peer_and_no_pair() {
    let text = FOOBAR
        .replace(
            "gw2 = { board = \"zynq7000\"",
            "gw2 = { board = \"keepalived\"",
        )
        .replace("preempt = true", "preempt = true\nunicast = true");
    let plan = parse(&text);
    assert_eq!((plan.appliances.len(), plan.foreign.len()), (1, 1));
    let gw1 = config(&plan, "gw1").unwrap();
    assert_eq!(gw1.availability.pair, None);
    for (index, router) in gw1.routers.iter().enumerate() {
        let leg = &plan.foreign[0].legs[index];
        assert_eq!(&router.peers[..], &[IpAddr::V4(leg.address)]);
        assert_eq!(router.checksum, Checksum::PseudoHeader);
    }
    assert!(config(&plan, "gw2").is_err(), "nothing of ours runs there");
}

#[test]
fn secrets_are_for_versions_that_carry_them() {
    let dual = include_str!("../../../examples/dualstack/site.toml");
    let with = |vrrp: &str| {
        let text = dual.replace("preempt = true", &format!("preempt = true\n{vrrp}"));
        let text = text.replace(
            "advertisement_interval = \"100ms\"",
            "advertisement_interval = \"1s\"",
        );
        config(&parse(&text), "gw1").unwrap()
    };
    let old = with("version = 2\nauthentication = { kind = \"password\", file = \"p\" }");
    for router in &old.routers {
        let expected = match router.is_v6() {
            false => (Version::V2, Authentication::Password([0; 8])),
            true => (Version::V3, Authentication::None),
        };
        assert_eq!((router.version, router.authentication.clone()), expected);
    }
    let new = with("authentication = { kind = \"hmac\", keys = [{ id = 9, file = \"k\" }] }");
    for router in &new.routers {
        let Authentication::Hmac(hmac) = &router.authentication else {
            panic!("{router:?}")
        };
        assert_eq!((hmac.keys[0].id, hmac.mode), (9, HmacMode::Enforce));
    }
}

#[test]
fn an_owner_has_the_virtual_addresses_as_its_own() {
    let text = FOOBAR
        .replace("virtual = \"203.0.113.10\"", "virtual = \"203.0.113.2\"")
        .replace("priority = 200", "priority = 255");
    let text = (1..=5).fold(text, |text, n| {
        text.replace(
            &format!("virtual = \"10.20.{n}.1\""),
            &format!("virtual = \"10.20.{n}.2\""),
        )
    });
    let [owner, other] = both(&parse(&text));
    assert_eq!(
        (owner.availability.priority, other.availability.priority),
        (255, 150)
    );
    assert_eq!(owner.routers[0].addresses[0], owner.interfaces[0].address);
}

#[test]
fn what_is_watched_is_found_by_its_index() {
    let text = format!(
        "{}\n[[track]]\nservice = \"http\"\nweight = -40\n[[track]]\nposted = \"b\"\nweight = 30\n[[track]]\nport = \"lan\"\n\
         [[track]]\nposted = \"a\"\nweight = 60\n[[track]]\nneighbours = \"edge\"\nweight = -70\n",
        include_str!("../../../examples/dualstack/site.toml")
    );
    let config = config(&parse(&text), "gw1").unwrap();
    let tracks = (config.availability.tracks.iter()).map(|track| (track.what, track.weight));
    // The wan's neighbours are watched without being asked; https is there on both versions.
    let mut expected = vec![(Tracked::Neighbours(0), -60)];
    let derived = config.availability.tracks.len() - 6;
    expected.extend(tracks.clone().skip(1).take(derived));
    expected.extend([
        (Tracked::Service(2), -40),
        (Tracked::Posted(0), 30),
        (Tracked::Port(1), 0),
        (Tracked::Posted(1), 60),
        (Tracked::Neighbours(1), -70),
    ]);
    let tracks: Vec<_> = tracks.collect();
    assert_eq!(tracks, expected);
    let edge = tracks
        .iter()
        .filter(|(what, _)| *what == Tracked::Neighbours(1));
    assert_eq!(edge.count(), 1, "what the site says replaces what follows");
    assert_eq!(config.services[2].name.as_str(), "http");
}
