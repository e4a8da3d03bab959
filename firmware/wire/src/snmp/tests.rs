extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// What net-snmp's `snmptrap -v2c` sends for the same.
const SENT_BY_NET_SNMP: &[u8] = b"\
    \x30\x76\x02\x01\x01\x04\x06\x70\x75\x62\x6c\x69\x63\xa7\x69\x02\x04\x48\x05\x91\
    \x49\x02\x01\x00\x02\x01\x00\x30\x5b\x30\x0f\x06\x08\x2b\x06\x01\x02\x01\x01\x03\
    \x00\x43\x03\x01\xe2\x40\x30\x17\x06\x0a\x2b\x06\x01\x06\x03\x01\x01\x04\x01\x00\
    \x06\x09\x2b\x06\x01\x02\x01\x81\x4f\x00\x01\x30\x17\x06\x0f\x2b\x06\x01\x02\x01\
    \x81\x4f\x01\x01\x01\x01\x03\x02\x33\x01\x04\x04\x0a\x09\x00\x02\x30\x16\x06\x10\
    \x2b\x06\x01\x02\x01\x81\x4f\x01\x02\x05\x01\x02\x02\x81\x48\x02\x02\x02\xff\x7f\
";

#[test]
fn a_trap_is_that_of_net_snmp() {
    let trap = Trap {
        community: b"public",
        request: 0x4805_9149,
        uptime: 123_456,
        oid: &[1, 3, 6, 1, 2, 1, 207, 0, 1],
        bindings: &[
            Binding {
                name: &[1, 3, 6, 1, 2, 1, 207, 1, 1, 1, 1, 3, 2, 51, 1],
                value: Value::Octets(&[10, 9, 0, 2]),
            },
            Binding {
                name: &[1, 3, 6, 1, 2, 1, 207, 1, 2, 5, 1, 2, 2, 200, 2],
                value: Value::Integer(-129),
            },
        ],
    };
    let mut buffer = [0; 256];
    assert_eq!(trap.write(&mut buffer), Some(SENT_BY_NET_SNMP));
}

/// One value: its tag, what is in it, and what follows.
fn value(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (tag, bytes) = bytes.split_first().unwrap();
    let (first, bytes) = bytes.split_first().unwrap();
    let (len, bytes) = match *first {
        short @ 0..=0x7f => (usize::from(short), bytes),
        0x81 => {
            assert!(bytes[0] >= 0x80);
            (usize::from(bytes[0]), &bytes[1..])
        }
        0x82 => {
            assert!(bytes[0] > 0);
            (
                usize::from(bytes[0]) << 8 | usize::from(bytes[1]),
                &bytes[2..],
            )
        }
        other => panic!("{other}"),
    };
    let (inside, behind) = bytes.split_at(len);
    (*tag, inside, behind)
}

fn number(bytes: &[u8]) -> i64 {
    let first = i64::from(bytes[0] as i8);
    (bytes[1..].iter()).fold(first, |all, byte| all << 8 | i64::from(*byte))
}

fn arcs(bytes: &[u8]) -> Vec<u32> {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for byte in bytes {
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            arcs.push(u32::try_from(arc).unwrap());
            arc = 0;
        }
    }
    let first = arcs.remove(0);
    arcs.insert(0, first % 40);
    arcs.insert(0, first / 40);
    arcs
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        community in prop::collection::vec(any::<u8>(), 0..40),
        request in any::<u32>(),
        uptime in any::<u32>(),
        oid in prop::collection::vec(any::<u32>(), 0..20),
        numbers in prop::collection::vec(any::<i32>(), 0..8),
        octets in prop::collection::vec(any::<u8>(), 0..300),
        room in 0_usize..900,
    ) {
        let oid: Vec<u32> = [1, 3].into_iter().chain(oid).collect();
        let mut bindings: Vec<Binding<'_>> = (numbers.iter())
            .map(|number| Binding { name: &oid, value: Value::Integer(*number) })
            .collect();
        bindings.push(Binding { name: &oid, value: Value::Octets(&octets) });
        let trap = Trap { community: &community, request, uptime, oid: &oid, bindings: &bindings };
        let mut large = [0; 4096];
        let written = trap.write(&mut large).unwrap();
        let mut small = std::vec![0; room];
        prop_assert_eq!(trap.write(&mut small), (room >= written.len()).then_some(written));

        let (tag, message, behind) = value(written);
        prop_assert_eq!((tag, behind.len()), (SEQUENCE, 0));
        let (_, version, message) = value(message);
        prop_assert_eq!(number(version), 1);
        let (_, said, message) = value(message);
        prop_assert_eq!(said, &community);
        let (tag, pdu, _) = value(message);
        prop_assert_eq!(tag, TRAP);
        let (_, id, pdu) = value(pdu);
        prop_assert_eq!(number(id), i64::from(request & 0x7fff_ffff));
        let (_, _, pdu) = value(pdu);
        let (_, _, pdu) = value(pdu);
        let (_, mut list, _) = value(pdu);
        let mut read = Vec::new();
        while !list.is_empty() {
            let (_, binding, behind) = value(list);
            let (_, name, binding) = value(binding);
            let (tag, content, _) = value(binding);
            read.push((arcs(name), tag, content));
            list = behind;
        }
        prop_assert_eq!(&read[0].0, UPTIME);
        prop_assert_eq!((read[0].1, number(read[0].2)), (TICKS, i64::from(uptime)));
        prop_assert_eq!(&read[1].0, TRAP_OID);
        prop_assert_eq!(arcs(read[1].2), oid.clone());
        for ((name, tag, content), value) in read[2..].iter().zip(&numbers) {
            prop_assert_eq!((name, *tag, number(content)), (&oid, INTEGER, i64::from(*value)));
        }
        let last = read.last().unwrap();
        prop_assert_eq!((last.1, last.2), (OCTETS, &octets[..]));
    }
}
