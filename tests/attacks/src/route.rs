//! Packets that bring their own route along, or more headers than anybody needs.

use differential::site::{DMZ, WAN, host, host6};
use forge::{Extension, Ipv4, Ipv6, Tcp};
use node::Drop;

use crate::{ATTACKER, ATTACKER6, Attack, dropped, framed};

pub fn attacks() -> Vec<Attack> {
    let via = host(DMZ, 21).octets();
    let option = |kind: u8| {
        let ip = Ipv4 {
            options: [&[kind, 7, 4][..], &via].concat(),
            ..Ipv4::new(ATTACKER, host(WAN, 10))
        };
        framed(WAN, &ip.around(&Tcp::default()))
    };
    let chain = |extensions: Vec<Extension>| {
        let ip = Ipv6 {
            extensions,
            ..Ipv6::new(ATTACKER6, host6(WAN, 0x10))
        };
        framed(WAN, &ip.around(&Tcp::default()))
    };
    let routing = |kind: u8, left: u8| {
        let data = [&[0; 4][..], &host6(DMZ, 21).octets()].concat();
        chain(vec![Extension::Routing(kind, left, data)])
    };
    let padding = || Extension::Destination(vec![1, 4, 0, 0, 0, 0]);
    vec![
        dropped(
            "source-route",
            "loose and strict source routes through the mail server",
            "RFC 7126 sections 4.3 and 4.4, CVE-1999-0510",
            WAN,
            [option(0x83), option(0x89)],
            Drop::SourceRoute,
        ),
        dropped(
            "ipv4-options",
            "other options: record route, timestamp",
            "RFC 7126",
            WAN,
            [option(7), option(0x44)],
            Drop::Ipv4Options,
        ),
        dropped(
            "routing-header-0",
            "routing headers of type 0, with and without a segment left",
            "RFC 5095, CVE-2007-2242",
            WAN,
            [routing(0, 1), routing(0, 0)],
            Drop::RoutingHeader,
        ),
        dropped(
            "routing-headers",
            "routing headers of other types with a segment left",
            "RFC 5095, RFC 8754",
            WAN,
            [routing(2, 1), routing(4, 1)],
            Drop::RoutingHeader,
        ),
        dropped(
            "extension-headers",
            "more extension headers than anybody needs, and hop-by-hop options that are not the first",
            "RFC 8200 section 4.1, RFC 9098",
            WAN,
            [
                chain((0..40).map(|_| padding()).collect()),
                chain(vec![padding(), Extension::HopByHop(vec![1, 4, 0, 0, 0, 0])]),
            ],
            Drop::ExtensionHeaders,
        ),
    ]
}
