//! The quick paths say of every packet what the thorough one says.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two filters get the same packets, one of them by the thorough path alone.
    #[test]
    fn quick_and_thorough_agree(packets in vec(a_packet(), 1..60)) {
        let (mut quick, mut thorough) = (Lab::new(), Lab::new());
        for (leg, packet) in packets {
            let (mut one, mut other) = (packet.clone(), packet.clone());
            one.resize(packet.len() + 40, 0);
            other.resize(packet.len() + 40, 0);
            let said = quick.filter.judge(quick.now, leg, &mut one, packet.len(), Unknown::Refuse);
            let filter = &mut thorough.filter;
            let meant =
                filter.judge_thoroughly(thorough.now, leg, &mut other, packet.len(), Unknown::Refuse);
            match (said, meant) {
                // The node says so of what is for the appliance, and that nobody there wants.
                (Verdict::Drop(Drop::NotForUs), Verdict::Local) => {}
                (said, meant) => prop_assert_eq!(said, meant, "{:02x?}", packet),
            }
            prop_assert_eq!(one, other, "{:02x?}", packet);
            prop_assert_eq!(quick.filter.rule_hits(), thorough.filter.rule_hits());
            prop_assert_eq!(quick.filter.flows(), thorough.filter.flows());
        }
    }
}

/// What one of a few stations sends to another, mostly as it should.
fn a_packet() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let ends = [
        USER,
        PUBLIC,
        LB1,
        LB2,
        WEB1,
        "203.0.113.2",
        "203.0.113.255",
        "127.0.0.1",
        "10.20.1.1",
        "198.51.100.66",
        "224.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
    ];
    let ports = [443, 8443, 80, 22, 9, 0, 40_000];
    let flags = prop_oneof![
        4 => select(&[SYN, ACK, SYN_ACK, FIN, RST][..]),
        1 => any::<u8>().prop_map(Flags),
    ];
    let shape = (flags, 0_u32..3, any::<bool>(), 0_u8..8, 0..8);
    let stations = (select(ends.to_vec()), select(ends.to_vec()));
    let used = (select(ports.to_vec()), select(ports.to_vec()));
    (select(&[WAN, EDGE, WEB][..]), stations, used, shape).prop_map(
        |(leg, (from, to), (source, destination), (flags, ahead, is_udp, offset, old))| {
            let mut packet = match is_udp && ahead == 0 {
                true => udp(from, source, to, destination),
                false => tcp(from, source, to, destination, flags),
            };
            if packet[9] == ipv4::TCP {
                // Some outside of the windows, some with a header that is none.
                packet[26] = packet[26].wrapping_add(ahead as u8 / 2);
                if offset < 2 {
                    packet[32] = offset << 6;
                }
            }
            (leg, if old == 0 { ttl(packet, 1) } else { packet })
        },
    )
}
