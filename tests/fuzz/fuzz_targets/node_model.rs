//! The whole node, with stories that run into each other, packets that change on the way and time that passes: a slow
//! model explains every packet that it sends, and every packet that it does not send has a counter.
//! TELL=1 prints the packets. Each record of the input is: what to do, and two bytes that say with what.

#![no_main]

use differential::model::Model;
use differential::ours::Ours;
use differential::stories::{self, KINDS, Setting};
use libfuzzer_sys::fuzz_target;
use time::Duration;

/// Longer than a neighbour is asked for.
const DISCOVERY: Duration = Duration::from_secs(5);

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let setting = Setting {
        v6: first & 1 != 0,
        translated: first & 2 != 0,
    };
    let site = if setting.translated { stories::translating() } else { stories::site() };
    let mut node = Ours::new(&site);
    let mut model = Model::new(site);
    let mut open = Vec::new();
    // For a person who looks at a crash.
    let tell = std::env::var_os("TELL").is_some();
    for (record, number) in bytes.chunks_exact(3).take(300).zip(0..) {
        let [what, a, b] = *record else { return };
        match what % 4 {
            0 => {
                let kind = &KINDS[usize::from(a) % KINDS.len()];
                let story = stories::tell(kind, u32::from(b) << 9 | number, setting);
                open.push(story.steps.into_iter());
                continue;
            }
            3 if a < 4 => {
                node.pass(Duration::from_secs(u64::from(b)));
                continue;
            }
            _ => {}
        }
        if open.is_empty() {
            continue;
        }
        let chosen = usize::from(a) % open.len();
        let Some(step) = open[chosen].next() else {
            open.swap_remove(chosen);
            continue;
        };
        for mut packet in step.packets {
            if what % 4 == 1 {
                let place = usize::from(b) % packet.len();
                packet[place] ^= 1 << (what >> 5);
            }
            let (sent, drops) = node.exchange(step.leg, &[&packet]);
            if tell {
                let went: Vec<String> = sent.iter().map(|frame| forge::read(&frame.packet)).collect();
                eprintln!("{} {}: {went:?} {drops:?}", step.leg, forge::read(&packet));
            }
            model.explain(step.leg, &packet, &sent);
            if sent.is_empty() && drops.is_empty() && !model.is_local(&packet) {
                // It waits for a neighbour that nobody is.
                let before = node.drops();
                node.pass(DISCOVERY);
                assert!(node.drops() > before, "{} vanished", forge::read(&packet));
            }
        }
    }
});
