//! Whatever a server or an agent says, a check comes to the same result however the bytes are cut, and stays with it.
//! The first byte chooses the protocol, the second where the bytes are cut.

#![no_main]

use health::{Exchange, Progress, dns};
use libfuzzer_sys::fuzz_target;
use policy::CheckKind;

fuzz_target!(|bytes: &[u8]| {
    let [choice, cut, said @ ..] = bytes else { return };
    if choice % 4 == 3 {
        let mut query = [0; 300];
        let length = dns::query(0x1234, "www.example.com", &mut query).expect("a good name");
        // An answer is to this very question.
        match dns::answer(&query[..length], said) {
            Progress::Good | Progress::Bad(_) => {
                assert_eq!(said[..2], query[..2]);
                assert_ne!(said[2] & 0x80, 0, "a response");
            }
            Progress::Continue => {}
            Progress::Report(_) => panic!("no agent speaks DNS"),
        }
        return;
    }
    let new = || match choice % 4 {
        0 => Exchange::new(&CheckKind::Http {
            host: policy::Text::new(),
            path: policy::Text::new(),
            lowest: 200,
            highest: 399,
        })
        .expect("it needs a connection"),
        1 => Exchange::new(&CheckKind::Mysql).expect("it needs a connection"),
        _ => Exchange::Agent(health::agent::Agent::new()),
    };
    let whole = new().receive(said);
    let mut pieces = new();
    let mut progress = Progress::Continue;
    for piece in said.chunks(usize::from(cut % 7) + 1) {
        let next = pieces.receive(piece);
        assert!(progress == Progress::Continue || next == progress, "{progress:?} became {next:?}");
        progress = next;
    }
    assert_eq!(progress, whole);
});
