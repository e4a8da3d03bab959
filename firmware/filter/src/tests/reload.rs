//! Stories of another policy: what goes on, and what is over.

use policy::{Balance, Forwarding, Limit, LimitKind, Nat, Persistence, Scope, Transport};

use super::stories::{lab, masquerade, policy_with};
use super::*;

type Change = fn(&mut Config, &mut Vec<Rule>);

/// What every case begins with.
fn before(config: &mut Config, _: &mut Vec<Rule>) {
    masquerade(config);
    let forwarding = Nat::Destination {
        transport: Transport::Tcp,
        address: PUBLIC.parse().unwrap(),
        first: 2200,
        last: 2299,
        server: WEB1.parse().unwrap(),
        server_port: 22,
    };
    config.nat.push(forwarding).unwrap();
}

#[test]
fn what_would_be_opened_again_goes_on() {
    // A balanced connection, a forwarded one, a masqueraded one and a routed one.
    let table: [(&str, Change, [bool; 4]); 8] = [
        ("nothing", |_, _| {}, [true; 4]),
        (
            "services and servers in another order, and a new one",
            |config, _| {
                config.services.swap(0, 1);
                config.services[1].servers.swap(0, 1);
                let mut new = config.services[0].clone();
                new.port = 8080;
                config.services.insert(0, new).unwrap();
            },
            [true; 4],
        ),
        (
            "no server",
            |config, _| drop(config.services[0].servers.remove(0)),
            [false, true, true, true],
        ),
        (
            "no service",
            |config, _| drop(config.services.remove(0)),
            [false, true, true, true],
        ),
        (
            "no forwarding",
            |config, _| config.nat.truncate(1),
            [true, false, true, true],
        ),
        (
            "no masquerade",
            |config, _| {
                config.nat.remove(0);
            },
            [true, true, false, true],
        ),
        (
            "a rule that drops",
            |_, rules| {
                let mut dropped = rules[0].clone();
                dropped.action = Action::Drop;
                dropped.protocol = Protocol::Tcp(Ports::to(8080));
                rules.insert(0, dropped);
            },
            [true, true, true, false],
        ),
        ("no rules", |_, rules| rules.clear(), [false; 4]),
    ];
    for (name, change, expected) in table {
        let mut lab = lab(before);
        lab.connect(40_000);
        lab.pass(WAN, tcp(USER, 50_000, PUBLIC, 2201, SYN)).unwrap();
        lab.pass(WEB, tcp(WEB1, 40_000, USER, 80, SYN)).unwrap();
        lab.pass(EDGE, tcp(LB1, 50_000, WEB1, 8080, SYN)).unwrap();
        let next = policy_with(|config, rules| {
            before(config, rules);
            change(config, rules);
        });
        let over = lab.filter.reload(NOW, &next, true);
        let packets = [
            (
                WAN,
                tcp(USER, 40_000, PUBLIC, 443, ACK),
                (USER, 40_000, LB1, 8443),
            ),
            (
                WEB,
                tcp(WEB1, 23, USER, 50_000, SYN_ACK),
                (PUBLIC, 2201, USER, 50_000),
            ),
            (
                WAN,
                tcp(USER, 80, PUBLIC, 40_000, SYN_ACK),
                (USER, 80, WEB1, 40_000),
            ),
            (
                WEB,
                tcp(WEB1, 8080, LB1, 50_000, SYN_ACK),
                (WEB1, 8080, LB1, 50_000),
            ),
        ];
        let passed = packets.map(|(leg, packet, ends)| {
            // What was for a service may be for the appliance itself now.
            let (verdict, _) = lab.judge(leg, packet.clone());
            let forwarded = matches!(verdict, Verdict::Forward { .. });
            forwarded && lab.pass(leg, packet).unwrap().ends() == ends
        });
        assert_eq!(passed, expected, "{name}");
        let lost = expected.iter().filter(|stays| !**stays).count();
        assert_eq!((over, lab.filter.flows()), (lost, 4 - lost), "{name}");
    }
}

/// The same flows in the same number, for the same servers and limits, whatever these are called.
#[test]
fn counts_follow_their_names() {
    fn limits(config: &mut Config, rules: &mut [Rule]) {
        config.limits = [
            Limit {
                kind: LimitKind::Rate {
                    per_second: 1,
                    burst: 3,
                },
                scope: Scope::Rule,
            },
            Limit {
                kind: LimitKind::Flows { max: 3 },
                scope: Scope::Source {
                    prefix: 32,
                    prefix6: 64,
                },
            },
        ]
        .into_iter()
        .collect();
        (rules[0].rate, rules[0].flows) = (Some(0), Some(1));
        config.services[0].persistence = Some(Persistence {
            seconds: 60,
            prefix: 32,
        });
        config.services[0].balance = Balance::RoundRobin;
    }
    let mut lab = lab(|config, rules| limits(config, rules));
    assert_eq!([1, 2].map(|port| lab.user(port, 443)), [LB1, LB1]);
    let next = policy_with(|config, rules| {
        limits(config, rules);
        config.services.swap(0, 1);
        config.services[1].servers.swap(0, 1);
        config.limits.swap(0, 1);
        (rules[0].rate, rules[0].flows) = (Some(1), Some(0));
    });
    assert_eq!(lab.filter.reload(NOW, &next, true), 0);
    let flows = [0, 1].map(|server| lab.filter.server_flows(1, server));
    assert_eq!(flows, [0, 2]);
    assert_eq!(lab.user(3, 443), LB1, "a client that stays, the last token");
    let other = lab.pass(WAN, tcp("198.51.100.9", 1, PUBLIC, 443, SYN));
    assert_eq!(other.map(|_| ()), Err(Drop::RateLimit));
    lab.now = lab.now + Duration::from_secs(5);
    let fourth = lab.pass(WAN, tcp(USER, 4, PUBLIC, 443, SYN));
    assert_eq!(fourth.map(|_| ()), Err(Drop::FlowLimit));
    // All that was counted is given back, and no more.
    lab.filter.forget();
    let flows = [0, 1].map(|server| lab.filter.server_flows(1, server));
    assert_eq!(flows, [0, 0]);
    assert_eq!(lab.user(5, 443), LB1);
}

/// Packets that keep the service's address say nothing of their server: it is the one that it was.
#[test]
fn direct_flows_stay_with_their_servers() {
    fn direct(config: &mut Config, _: &mut Vec<Rule>) {
        config.services[1].forwarding = Forwarding::DirectReturn;
    }
    let mut lab = lab(direct);
    assert_eq!(lab.user(1, 80), LB1);
    let next = policy_with(|config, rules| {
        direct(config, rules);
        config.services[1].servers.swap(0, 1);
    });
    assert_eq!(lab.filter.reload(NOW, &next, true), 0);
    let data = lab.pass(WAN, tcp(USER, 1, PUBLIC, 80, ACK)).unwrap();
    assert_eq!((&*data.hop, data.ends()), (LB1, (USER, 1, PUBLIC, 80)));
    assert_eq!(lab.filter.server_flows(1, 1), 1);
    let translated = policy_with(|_, _| {});
    assert_eq!(lab.filter.reload(NOW, &translated, true), 1);
    assert_eq!(lab.filter.flows(), 0);
}

#[test]
fn rules_that_stay_are_counted_on() {
    let mut lab = lab(|_, _| {});
    lab.connect(1);
    let same = policy_with(|config, _| config.services.truncate(1));
    lab.filter.reload(NOW, &same, true);
    assert_eq!(lab.filter.rule_hits(), [1]);
    let other = policy_with(|_, rules| rules[0].log = true);
    lab.filter.reload(NOW, &other, true);
    assert_eq!(lab.filter.rule_hits(), [0]);
}
