//! Packets through the example sites, hop by hop.

mod common;

use std::collections::BTreeMap;

use common::{DUALSTACK, FOOBAR, plan};
use prove::{Component, End, Moment, Question, Rack, Trace, parse_packet};

/// Every step, then the end; and the same of the answer.
fn text(trace: &Trace, lines: &mut String) {
    for step in &trace.steps {
        lines.push_str(&format!("  {}: {}\n", step.place, step.what));
    }
    lines.push_str(&match &trace.end {
        End::Delivered { to } => format!("delivered to {to} as {}\n", trace.seen),
        End::Dropped { at, why } => format!("dropped at {at}: {why}\n"),
    });
    if let Some(answer) = &trace.answer {
        lines.push_str(&format!("and back: {}\n", answer.sent));
        text(answer, lines);
    }
}

fn traced(rack: &Rack<'_>, from: Option<Component>, packet: &str, moment: Moment) -> String {
    let question = Question {
        from,
        moment,
        places: BTreeMap::from([("office-metrics".to_owned(), "site.toml:7".to_owned())]),
        ..Question::new(
            parse_packet(packet, |_| Vec::new())
                .unwrap_or_else(|error| panic!("{packet}: {error}")),
            0,
        )
    };
    let mut lines = format!("{packet}\n");
    for trace in rack.trace(&question).expect("a device") {
        assert!(trace.agrees, "{packet}");
        text(&trace, &mut lines);
    }
    lines
}

/// One text for a table of packets.
fn all(site: &str, table: &[(Option<Component>, &str)]) -> String {
    let plan = plan(site);
    let rack = Rack::of(&plan).expect("a rack");
    let texts: Vec<String> = table
        .iter()
        .map(|(from, packet)| traced(&rack, *from, packet, Moment::default()))
        .collect();
    texts.join("\n")
}

const INTERNET: Option<Component> = Some(Component::Internet);

#[test]
fn what_happens_and_why() {
    insta::assert_snapshot!(all(
        FOOBAR,
        &[
            (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:443"),
            (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:22"),
            (None, "udp 198.51.100.7:40000 -> 203.0.113.2:53"),
            (None, "tcp 198.51.100.7:40000 -> 10.20.1.11:443 flags ack"),
            (
                None,
                "tcp 198.51.100.7:40000 -> 10.20.1.11:443 flags fin,syn"
            ),
            (None, "tcp 198.51.100.7:40000 -> 10.20.1.11:443 ttl 1"),
            (None, "tcp 198.51.100.7:40000 -> 10.20.4.11:3306"),
            (None, "tcp 198.51.100.7:0 -> 10.20.1.11:443"),
            (None, "ping 198.51.100.7 -> 203.0.113.10"),
            (None, "ping 198.51.100.7 -> 203.0.113.2"),
            (None, "icmp 198.51.100.7 -> 10.20.1.11 type 3 code 1"),
            (None, "icmp 198.51.100.7 -> 10.20.1.11 type 13"),
            (INTERNET, "tcp 10.20.3.11:40000 -> 10.20.4.11:3306"),
            (INTERNET, "tcp 127.0.0.1:40000 -> 10.20.1.11:443"),
            (INTERNET, "tcp 198.51.100.7:40000 -> 10.20.1.255:443"),
            (INTERNET, "tcp 203.0.113.10:40000 -> 10.20.1.11:443"),
            (INTERNET, "udp 203.0.113.10:53 -> 203.0.113.10:53"),
            (None, "tcp 10.20.3.11:40000 -> 10.20.4.11:3306"),
            (None, "tcp 10.20.3.11:40000 -> 10.20.4.11:3307"),
            (None, "tcp 10.20.3.11:40000 -> 10.20.3.12:22"),
            (None, "tcp 10.20.1.2:40000 -> 10.20.1.11:443"),
        ]
    ));
}

#[test]
fn both_versions_and_translations() {
    insta::assert_snapshot!(all(
        DUALSTACK,
        &[
            // Services, limited, to one of two servers or to the only one with IPv6.
            (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:443"),
            (
                None,
                "tcp [2001:db8:ffff::7]:40000 -> [2001:db8:0:1::10]:443"
            ),
            (None, "tcp 10.20.2.11:40000 -> 10.20.4.1:3306"),
            // A limit, a log, a place in the file.
            (None, "tcp 198.51.100.7:40000 -> 10.20.1.11:8405"),
            // Refused, and told so.
            (None, "tcp 198.51.100.77:40000 -> 10.20.1.11:23"),
            (
                None,
                "tcp [2001:db8:ffff::7]:40000 -> [2001:db8:0:21::11]:2324"
            ),
            // Dropped by a rule.
            (None, "ping 192.0.2.1 -> 10.20.1.11"),
            // A forwarded port, for the office only.
            (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:9090"),
            (None, "tcp 198.51.100.77:40000 -> 203.0.113.10:9090"),
            (None, "tcp [2001:db8:7::7]:40000 -> [2001:db8:0:1::10]:9090"),
            // The servers' way out: behind the virtual address, or in another prefix.
            (None, "udp 10.20.3.11:40000 -> 198.51.100.123:123"),
            (None, "tcp [fd00:20:3::11]:40000 -> [2001:db8:9::80]:443"),
            // In by the other prefix, and by the one that nobody knows outside.
            (None, "ping 2001:db8:ffff::7 -> 2001:db8:0:23:cf47::11"),
            (None, "tcp [2001:db8:ffff::7]:40000 -> [fd00:20:3::11]:23"),
            // Other protocols.
            (None, "protocol 47 198.51.100.9 -> 10.20.5.11"),
            (
                None,
                "icmp6 2001:db8:ffff::7 -> 2001:db8:0:21::11 type 1 code 4"
            ),
            (INTERNET, "udp [fe80::7]:546 -> [2001:db8:0:21::11]:53"),
            (
                INTERNET,
                "udp [2001:db8:0:22::11]:53 -> [2001:db8:0:21::11]:53"
            ),
        ]
    ));
}

/// The web servers' own network has a service of theirs, and they answer its clients themselves.
#[test]
fn direct_return() {
    let site = format!(
        "{}\n[services.inner]\nnetwork = \"web\"\nport = 8080\nrole = \"nginx\"\nfrom = \"app2\"\n\
         balance = \"round-robin\"\nforwarding = \"direct-return\"\ncheck = {{ kind = \"tcp\" }}\nwhy = \"a way back\"\n",
        FOOBAR.replace(
            "network = \"app\", address = \"10.20.3.12\"",
            "network = \"web\", address = \"10.20.2.22\""
        )
    );
    insta::assert_snapshot!(all(
        &site,
        &[(None, "tcp 10.20.2.22:40000 -> 10.20.2.1:8080")]
    ));
}

#[test]
fn other_moments() {
    let (foobar, dualstack) = (plan(FOOBAR), plan(DUALSTACK));
    let (foobar, dualstack) = (
        Rack::of(&foobar).expect("a rack"),
        Rack::of(&dualstack).expect("a rack"),
    );
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let established = || Moment {
        established: true,
        ..Moment::default()
    };
    let down = |servers| Moment {
        down: names(servers),
        ..Moment::default()
    };
    let drained = |servers| Moment {
        drained: names(servers),
        ..Moment::default()
    };
    let after = |after| Moment {
        after,
        ..Moment::default()
    };
    let https = "tcp 198.51.100.7:40000 -> 203.0.113.10:443";
    let table = [
        // Packets of a flow: of the client, of the server, of nobody.
        (&foobar, https, established()),
        (
            &foobar,
            "tcp 10.20.1.11:443 -> 198.51.100.7:40000 flags fin,ack",
            established(),
        ),
        (
            &dualstack,
            "icmp 10.20.1.11 -> 10.20.5.11 type 0",
            established(),
        ),
        (&dualstack, "ping 10.20.1.11 -> 10.20.5.11", established()),
        (
            &dualstack,
            "udp 198.51.100.123:123 -> 203.0.113.10:40000",
            established(),
        ),
        (
            &dualstack,
            "tcp [2001:db8:9::80]:443 -> [2001:db8:0:23:cf47::11]:40000",
            established(),
        ),
        (
            &dualstack,
            "tcp 10.20.5.11:9090 -> 198.51.100.7:40000",
            established(),
        ),
        (
            &foobar,
            "tcp 198.51.100.7:40000 -> 10.20.4.11:3306",
            established(),
        ),
        // Servers that are away.
        (&foobar, https, down(&["lb1"])),
        (&foobar, https, down(&["lb1", "lb2"])),
        (&foobar, https, drained(&["lb1", "lb2"])),
        (&dualstack, https, down(&["lb1", "lb2"])),
        (
            &dualstack,
            "tcp 198.51.100.7:40000 -> 203.0.113.10:80",
            down(&["lb1"]),
        ),
        (
            &foobar,
            "tcp 10.20.3.11:40000 -> 10.20.4.11:3306",
            down(&["db1"]),
        ),
        // Limits that are used up, and handshakes that are not finished.
        (&dualstack, https, after(100)),
        (
            &dualstack,
            "udp 10.20.3.11:40000 -> 198.51.100.123:123",
            after(64),
        ),
        (&foobar, https, after(512)),
        (
            &dualstack,
            "tcp 198.51.100.7:40000 -> 203.0.113.10:9100",
            after(1),
        ),
        // The minute after a take-over.
        (
            &foobar,
            "tcp 10.20.3.11:40000 -> 10.20.4.11:3306 flags ack",
            Moment {
                taken_over: true,
                ..Moment::default()
            },
        ),
    ];
    let texts: Vec<String> = table
        .into_iter()
        .map(|(rack, packet, moment)| {
            let told = format!("{moment:?}");
            format!("{told}\n{}", traced(rack, None, packet, moment))
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}
