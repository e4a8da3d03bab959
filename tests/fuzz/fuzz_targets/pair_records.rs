//! Records of any content, from a peer that is trusted and may yet be of another version, leave a filter that judges packets,
//! counts right, and can be emptied. Each record of the input is: what is done, length, bytes.

#![no_main]

use std::sync::LazyLock;

use classifier::Policy;
use filter::{Filter, Tables, Unknown};
use libfuzzer_sys::fuzz_target;
use site::Boards;
use sync::{MAX_RECORD, Store, Terms};
use time::{Duration, Instant};

static POLICY: LazyLock<Policy<'static>> = LazyLock::new(|| {
    let text = include_str!("../../../examples/dualstack/site.toml");
    let boards = Boards::new([("zynq7000", 2), ("mps2-an500", 1), ("linux", 4)]);
    let plan = site::parse("site.toml", text, &boards).expect("the example is valid");
    let (config, rules) = render::appliance::policy(&plan, "gw1").expect("the example compiles");
    classifier::policy(config, &rules).expect("its rules compile")
});

fuzz_target!(|bytes: &[u8]| {
    let mut tables = Box::new(Tables::<16, 16>::new());
    let mut filter = Filter::new(&POLICY, &mut tables, 1);
    let mut now = Instant::from_micros(1_000_000);
    let mut record = [0; MAX_RECORD];
    let mut rest = bytes;
    while let [what, length, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        let (bytes, tail) = tail.split_at(length);
        rest = tail;
        let terms = Terms {
            peer_is_right: what & 0x10 == 0,
            same_policy: what & 0x20 == 0,
        };
        match what & 7 {
            0..=2 => filter.import(now, bytes, terms),
            3 => filter.end_pass(now),
            4 => filter.take_over(now),
            5 => filter.stand_down(now, what & 0x10 == 0),
            6 => {
                // What is told can be heard.
                for item in 0..filter.items() {
                    let len = filter.export(now, item, &mut record);
                    if len > 0 {
                        filter.import(now, &record[..len], terms);
                    }
                }
                while let Some(item) = filter.take_changed(now) {
                    filter.mark(item);
                    filter.take_changed(now);
                    filter.settle(item);
                }
            }
            _ => {
                let mut packet = bytes.to_vec();
                packet.resize(length + 64, 0);
                filter.judge(now, what >> 4 & 3, &mut packet, length, Unknown::PickUp);
            }
        }
        now = now + Duration::from_millis(u64::from(*what) * 10);
        filter.sweep(now);
        assert!(filter.flows() <= 32);
    }
    filter.stand_down(now, false);
    assert_eq!((filter.flows(), filter.half_open()), (0, 0));
    for service in 0..policy::MAX_SERVICES {
        for server in 0..policy::MAX_SERVERS {
            assert_eq!(filter.server_flows(service, server), 0);
        }
    }
});
