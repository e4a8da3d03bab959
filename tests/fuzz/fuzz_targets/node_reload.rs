//! A node that runs takes any configuration that is whole and consistent, between frames of the example's site, and goes on.
//! Each record of the input is: a number of changes to the example's blob with offset and byte each; their order is the nodes'.

#![no_main]

use std::sync::LazyLock;

use classifier::Aligned;
use crc::{CRC_32_ISO_HDLC, Crc};
use libfuzzer_sys::fuzz_target;
use node::{Node, Tables, Transmit};
use site::Boards;
use time::{Duration, Instant};
use wire::{Frame, frame::HEADROOM};

static BLOB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = include_str!("../../../examples/dualstack/site.toml");
    let boards = Boards::new([("zynq7000", 2), ("mps2-an500", 1), ("linux", 4)]);
    let plan = site::parse("site.toml", text, &boards).expect("the example is valid");
    let (config, rules) = render::appliance::policy(&plan, "gw1").expect("the example compiles");
    classifier::blob(&config, &rules, policy::MAX_BLOB).expect("its rules compile")
});

const HEADER: usize = 20;

/// The example's blob with some bytes changed, and a checksum that fits.
fn changed(changes: &[u8]) -> Aligned {
    let mut blob = BLOB.clone();
    for change in changes.chunks_exact(3) {
        let offset = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let payload = blob.len() - HEADER;
        blob[HEADER + offset % payload] = change[2];
    }
    let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(&blob[HEADER..]);
    blob[16..HEADER].copy_from_slice(&checksum.to_le_bytes());
    Aligned::copy(&blob)
}

struct Sink;

impl Transmit for Sink {
    fn transmit(&mut self, _: u8, frame: &[u8]) {
        assert!((14..=1518).contains(&frame.len()), "{} bytes do not fit the wire", frame.len());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut blobs = vec![changed(&[])];
    let mut rest = bytes;
    while let [count, tail @ ..] = rest
        && blobs.len() < 8
    {
        let (changes, tail) = tail.split_at((usize::from(*count % 8) * 3).min(tail.len()));
        blobs.push(changed(changes));
        rest = tail;
    }
    let mut tables = Box::new(Tables::<64, 64>::new());
    let first = classifier::load(&blobs[0]).expect("the example's");
    let mut now = Instant::ZERO;
    let mut node = Node::new(Some(first), &mut tables, 1, now);
    for blob in &blobs {
        for _ in 0..20 {
            now = now + Duration::from_millis(50);
            node.poll(now, &mut Sink);
        }
        // What is left of the input are frames to all.
        for chunk in rest.chunks(128).take(8) {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend_from_slice(chunk);
            if let Some(frame) = Frame::new(&mut buffer, HEADROOM, chunk.len()) {
                node.ingress(now, 0, frame, &mut Sink);
            }
        }
        if let Ok(policy) = classifier::load(blob) {
            let _ = node.reload(now, &policy, &mut Sink);
        }
        while node.next_event().is_some() {}
    }
});
