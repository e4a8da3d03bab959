//! Every capture against a node: each frame ends where its comment says, nothing else comes out, and the connection that
//! was there before goes on.

use std::fs;
use std::path::{Path, PathBuf};

use attacks::{Attack, Connection, End, USER_PORT, capture, index};
use differential::model::Model;
use differential::ours::Ours;
use node::Drop;

#[test]
fn the_files_are_what_the_generator_makes() {
    let attacks = attacks::all();
    let mut made = vec!["README.md".to_owned()];
    for attack in &attacks {
        let file = format!("{}.pcapng", attack.name);
        let is = fs::read(folder().join(&file)).expect("cargo run -p ravelin-attacks");
        let should = capture::write(attack).expect("it fits the format");
        assert!(is == should, "{file} is old: cargo run -p ravelin-attacks");
        assert_eq!(capture::read(&attack.name, &is).as_ref(), Ok(attack));
        made.push(file);
    }
    let list = fs::read_to_string(folder().join("README.md")).expect("a list");
    assert_eq!(list, index(&attacks), "cargo run -p ravelin-attacks");
    let there = fs::read_dir(folder()).expect("a folder");
    let there = there.map(|entry| entry.expect("an entry").file_name());
    let mut there: Vec<String> = there.filter_map(|name| name.into_string().ok()).collect();
    there.sort();
    made.sort();
    assert_eq!(there, made);
}

#[test]
fn each_ends_at_its_counter_and_harms_nobody() {
    let mut replayed = 0;
    for entry in fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|it| it == "pcapng") {
            let name = path.file_stem().expect("a name").to_string_lossy();
            let file = fs::read(&path).expect("it can be read");
            replay(&capture::read(&name, &file).expect("a capture"));
            replayed += 1;
        }
    }
    assert_eq!(replayed, attacks::all().len());
}

fn replay(attack: &Attack) {
    let site = attacks::site();
    let mut world = Ours::new(&site);
    let mut user = Connection::open(&mut world, USER_PORT);
    let mut model = Model::new(site);
    let flows = world.flows();
    let mut passed = 0;
    for (number, frame) in attack.frames.iter().enumerate() {
        let place = format!("{}, frame {number}", attack.name);
        let before = counters(&world);
        let (sent, _) = world.frames(frame.leg, std::slice::from_ref(&frame.bytes));
        let after = counters(&world);
        let counted: Vec<(Drop, u32)> = Drop::ALL
            .iter()
            .zip(before.iter().zip(after))
            .map(|(reason, (before, after))| (*reason, after - before))
            .filter(|(_, more)| *more > 0)
            .collect();
        let (packets, expected) = match frame.end {
            End::Dropped(reason) => (0, vec![(reason, 1)]),
            End::Answered(reason) => (1, vec![(reason, 1)]),
            End::Passes => (1, Vec::new()),
        };
        assert_eq!(counted, expected, "{place}");
        assert_eq!(sent.len(), packets, "{place}: {sent:02x?}");
        // What comes out is the packet itself, translated, or an answer to its sender.
        model.explain(frame.leg, &frame.bytes[14..], &sent);
        match frame.end {
            End::Passes => {
                assert_ne!(sent[0].leg, frame.leg, "{place}");
                passed += 1;
            }
            End::Answered(_) => assert_eq!(sent[0].leg, frame.leg, "{place}"),
            End::Dropped(_) => {}
        }
    }
    let left = world.flows() - flows;
    assert!(left <= passed, "{} left {left} flows", attack.name);
    user.talk(&mut world, &attack.name);
}

fn counters(world: &Ours) -> Vec<u32> {
    Drop::ALL
        .iter()
        .map(|reason| world.dropped(*reason))
        .collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}
