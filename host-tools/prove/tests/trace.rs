//! Packets through the reference site, hop by hop.

mod common;

use common::{FOOBAR, plan};
use prove::{Component, End, Rack, parse_packet};

/// Every step, then the end.
fn traced(rack: &Rack<'_>, from: Option<Component>, text: &str) -> String {
    let packet = parse_packet(text, |_| Vec::new()).expect("a packet");
    let mut lines = format!("{text}\n");
    for trace in rack.trace(from, packet, 0).expect("tables") {
        assert!(trace.agrees, "{text}");
        for step in &trace.steps {
            lines.push_str(&format!("  {}: {}\n", step.place, step.what));
        }
        lines.push_str(&match trace.end {
            End::Delivered { to } => format!("delivered to {to} as {}\n", trace.seen),
            End::Dropped { at, why } => format!("dropped at {at}: {why}\n"),
        });
    }
    lines
}

#[test]
fn what_happens_and_why() {
    let plan = plan(FOOBAR);
    let rack = Rack::of(&plan).expect("a rack");
    let internet = Some(Component::Internet);
    let table = [
        (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:443"),
        (None, "tcp 198.51.100.7:40000 -> 203.0.113.10:22"),
        (None, "tcp 198.51.100.7:40000 -> 10.20.1.11:443 flags ack"),
        (None, "tcp 198.51.100.7:40000 -> 10.20.1.11:443 ttl 1"),
        (None, "tcp 198.51.100.7:40000 -> 10.20.4.11:3306"),
        (None, "ping 198.51.100.7 -> 203.0.113.10"),
        (internet, "tcp 10.20.3.11:40000 -> 10.20.4.11:3306"),
        (internet, "tcp 127.0.0.1:40000 -> 10.20.1.11:443"),
        (internet, "udp 203.0.113.10:53 -> 203.0.113.10:53"),
        (None, "tcp 10.20.3.11:40000 -> 10.20.4.11:3306"),
        (None, "tcp 10.20.3.11:40000 -> 10.20.4.11:3307"),
        (None, "tcp 10.20.3.11:40000 -> 10.20.3.12:22"),
        (None, "tcp 10.20.1.2:40000 -> 10.20.1.11:443"),
    ];
    let text: Vec<String> = table
        .iter()
        .map(|(from, text)| traced(&rack, *from, text))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}
