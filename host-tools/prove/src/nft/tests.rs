use super::*;
use crate::packet::{flags, protocol};

const HEAD: &str = "flush ruleset\n\ntable inet t {\n counter a { }\n chain input {\n  \
                    type filter hook input priority filter; policy drop;\n";

fn judge(rules: &str, packet: &Packet) -> Judgement {
    let ruleset = Ruleset::parse(&format!("{HEAD}{rules}\n }}\n}}\n")).expect("a good ruleset");
    let space = Space::new(packet.version());
    let judgement = ruleset.judge(&space, Way::In, State::New, packet);
    let set = ruleset.accepts(&space, Way::In, State::New);
    assert_eq!(space.contains(&set, packet), judgement.accepted, "{rules}");
    judgement
}

fn tcp(port: u16) -> Packet {
    Packet {
        source: [198, 51, 100, 7].into(),
        destination: [10, 20, 1, 11].into(),
        protocol: protocol::TCP,
        source_port: 40_000,
        destination_port: port,
        flags: flags::SYN,
        hops: 64,
    }
}

fn tcp6(port: u16) -> Packet {
    Packet {
        source: "2001:db8::7".parse().expect("an address"),
        destination: "2001:db8:1::11".parse().expect("an address"),
        ..tcp(port)
    }
}

#[test]
fn conditions_mean_what_nft_says() {
    let ping = Packet {
        protocol: protocol::ICMP,
        destination_port: 8 << 8,
        flags: 0,
        ..tcp(0)
    };
    let ack = Packet {
        flags: flags::ACK,
        ..tcp(443)
    };
    let solicit = Packet {
        protocol: protocol::ICMP6,
        destination_port: 135 << 8,
        flags: 0,
        hops: 255,
        ..tcp6(0)
    };
    let table = [
        ("tcp dport 443 accept", tcp(443), true),
        ("tcp dport 443 accept", tcp6(443), true),
        ("tcp dport 443 accept", tcp(444), false),
        ("udp dport 443 accept", tcp(443), false),
        ("th dport 443 accept", tcp(443), true),
        ("tcp dport != 443 accept", tcp(443), false),
        ("tcp dport 400-443 accept", tcp(443), true),
        ("tcp dport { 80, 400-500 } accept", tcp(443), true),
        ("tcp dport { 80, 444 } accept", tcp(443), false),
        ("ip saddr 198.51.100.0/24 accept", tcp(443), true),
        (
            "ip saddr != { 10.0.0.0/8, 198.51.0.0/16 } accept",
            tcp(443),
            false,
        ),
        ("ip saddr != 10.0.0.0/8 accept", tcp(443), true),
        ("ip saddr != 10.0.0.0/8 accept", tcp6(443), false),
        ("ip6 saddr 2001:db8::/32 accept", tcp6(443), true),
        (
            "ip6 saddr { 2001:db8::1, 2001:db8::7 } accept",
            tcp6(443),
            true,
        ),
        ("ip6 saddr ::/0 accept", tcp(443), false),
        ("meta nfproto ipv4 accept", tcp(443), true),
        ("meta l4proto { tcp, udp } accept", tcp(443), true),
        ("ip protocol icmp accept", ping, true),
        ("icmp type echo-request accept", ping, true),
        ("icmp type { echo-reply, 13 } accept", ping, false),
        (
            "icmpv6 type { nd-neighbor-solicit } ip6 hoplimit 255 accept",
            solicit,
            true,
        ),
        (
            "icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept",
            Packet {
                hops: 64,
                ..solicit
            },
            false,
        ),
        (
            "tcp dport 443 tcp flags & (fin | syn | rst | ack) == syn accept",
            tcp(443),
            true,
        ),
        (
            "tcp dport 443 tcp flags & (fin | syn | rst | ack) == syn accept",
            ack,
            false,
        ),
        ("tcp flags syn / fin,syn,rst,ack accept", tcp(443), true),
        ("ct state new accept", tcp(443), true),
        ("ct state { established, related } accept", tcp(443), false),
        (
            "ct state vmap { established : accept, new: drop }\naccept",
            tcp(443),
            false,
        ),
        ("iifname \"lo\" accept", tcp(443), false),
        ("iifname != \"lo\" tcp dport 443 accept", tcp(443), true),
        (
            "tcp dport 443 counter name \"a\" log prefix \"x: \" drop\naccept",
            tcp(443),
            false,
        ),
        (
            "limit rate 5/second burst 20 packets accept",
            tcp(443),
            true,
        ),
        ("limit rate over 5/second drop\naccept", tcp(443), true),
        (
            "counter name \"a\"\nlog prefix \"dropped\"",
            tcp(443),
            false,
        ),
    ];
    for (rules, packet, accepted) in table {
        assert_eq!(
            judge(rules, &packet).accepted,
            accepted,
            "{rules}: {packet}"
        );
    }
}

#[test]
fn the_deciding_line_is_named() {
    let judgement = judge(
        "tcp dport 80 accept\n  tcp dport 443 counter name \"a\" accept\naccept",
        &tcp(443),
    );
    assert_eq!(judgement.line, Some(8));
    assert_eq!(judgement.text, "tcp dport 443 counter name \"a\" accept");
    let judgement = judge("tcp dport 80 accept", &tcp(443));
    assert_eq!(
        (judgement.line, judgement.text.as_str()),
        (None, "policy drop of chain input")
    );
}

#[test]
fn what_is_not_understood_is_an_error() {
    let table = [
        (
            "fib saddr . iif oif missing drop",
            "line 7: `fib` is not understood",
        ),
        (
            "tcp dport 70000 accept",
            "line 7: `70000` is not a value of this field",
        ),
        (
            "ip saddr 2001:db8::1 accept",
            "line 7: `2001:db8::1` is not a value of this field",
        ),
        (
            "ip saddr 10.0.0.0/33 accept",
            "line 7: `10.0.0.0/33` is not a value of this field",
        ),
        ("jump other", "line 7: `jump` is not understood"),
        ("tcp dport @none accept", "line 7: there is no set `@none`"),
        ("accept drop", "line 7: something follows the verdict"),
        (
            "iifname \"eth0\" accept",
            "line 7: interface `eth0`: only `lo` is understood",
        ),
        (
            "tcp dport { 80 443 } accept",
            "line 7: a comma or the end of the set is missing",
        ),
        ("log prefix \"open", "line 7: text without an end"),
        ("tcp dport ? accept", "line 7: `?` is not understood"),
        (
            "meta mark 1 accept",
            "line 7: `meta mark` is not understood",
        ),
        (
            "ct state new,odd accept",
            "line 7: state `odd` is not understood",
        ),
    ];
    for (rules, error) in table {
        let text = format!("{HEAD}{rules}\n }}\n}}\n");
        let found = Ruleset::parse(&text).expect_err(rules);
        assert_eq!(found.to_string(), error, "{rules}");
    }
    let unhooked = "table inet t {\n chain x {\n accept\n }\n}\n";
    assert!(Ruleset::parse(unhooked).is_err());
    assert!(
        Ruleset::parse("table inet t {\n chain x {\n type nat hook input priority 0; }\n}")
            .is_err()
    );
    assert!(
        Ruleset::parse("table inet t {\n chain x {\n type filter hook input priority 0;").is_err()
    );
}

#[test]
fn named_sets_and_several_tables() {
    let text = "table ip t {\n set s {\n type ipv4_addr; flags interval;\n elements = { 10.0.0.0/8,\n 198.51.100.7 }\n }\n \
                chain i { type filter hook input priority 0; policy drop;\n ip saddr @s accept; }\n}\n";
    let ruleset = Ruleset::parse(text).expect("a good ruleset");
    let space = Space::new(Version::V4);
    assert!(ruleset.judge(&space, Way::In, State::New, &tcp(1)).accepted);
    // Nothing looks at IPv6, nor at what goes out.
    let six = Space::new(Version::V6);
    assert_eq!(ruleset.accepts(&six, Way::In, State::New), six.all());
    assert_eq!(ruleset.accepts(&space, Way::Out, State::New), space.all());
    let both = format!(
        "{text}table inet u {{\n chain i {{\n type filter hook prerouting priority 0; policy accept;\n tcp dport 1 drop\n }}\n}}\n"
    );
    let both = Ruleset::parse(&both).expect("a good ruleset");
    assert!(!both.judge(&space, Way::In, State::New, &tcp(1)).accepted);
    assert!(both.judge(&space, Way::In, State::New, &tcp(2)).accepted);
}
