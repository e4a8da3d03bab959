//! A node under the example site's own configuration takes any sequence of frames, on any port, at any pace.
//! Each record of the input is: port, milliseconds to wait, length (two bytes), frame.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use node::{Node, Tables, Transmit};
use classifier::Policy;
use site::Boards;
use time::{Duration, Instant};
use wire::{Frame, frame::HEADROOM};

static POLICY: LazyLock<Policy<'static>> = LazyLock::new(|| {
    let text = include_str!("../../../examples/foobar/site.toml");
    let boards = Boards::new([("zynq7000", 2)]);
    let plan = site::parse("site.toml", text, &boards).expect("the example is valid");
    let (config, rules) = render::appliance::policy(&plan, "gw1").expect("the example compiles");
    classifier::policy(config, &rules).expect("its rules compile")
});

struct Sink;

impl Transmit for Sink {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        assert!(port < 2, "no such port");
        assert!((14..=1518).contains(&frame.len()), "{} bytes do not fit the wire", frame.len());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::ZERO;
    let mut tables = Box::new(Tables::<64, 512>::new());
    let mut node = Node::new(Some(POLICY.clone()), &mut tables, 1, now);
    // Half of the inputs meet an Active node.
    if bytes.first().is_some_and(|byte| byte & 1 == 0) {
        for _ in 0..100 {
            now = now + Duration::from_millis(20);
            node.poll(now, &mut Sink);
        }
    }
    let mut rest = bytes;
    while let [port, wait, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]) % 1515).min(tail.len());
        let (frame, tail) = tail.split_at(length);
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(frame);
        now = now + Duration::from_millis(u64::from(*wait));
        let frame = Frame::new(&mut buffer, HEADROOM, length).expect("it fits");
        node.ingress(now, port % 3, frame, &mut Sink);
        node.poll(now, &mut Sink);
        while node.next_event().is_some() {}
        rest = tail;
    }
});
