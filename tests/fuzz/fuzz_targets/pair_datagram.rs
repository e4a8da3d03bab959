//! What strangers send to a session changes nothing that its peer and it have agreed about: not one of their datagrams is
//! taken, the session goes on, and what is answered is bounded. Each record of the input is: path, a datagram of the pair's to
//! begin with (0 for none), length, and bytes that are laid over that.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sync::{Deframer, Event, Input, MAX_DATAGRAM, Nothing, Path, Peer, Session, Settings};
use time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    let mut sessions = [true, false].map(|first| {
        let settings = Settings {
            first,
            key: [3; 32],
            paths: 2,
            serial: true,
            ..Settings::default()
        };
        Session::new(settings, [u8::from(first); 32])
    });
    let mut now = Instant::from_micros(1);
    let mut recorded = Vec::new();
    // Both sides say all that there is to say.
    for _ in 0..40 {
        now = now + Duration::from_millis(5);
        converse(now, &mut sessions, &mut recorded);
    }
    let status = |session: &Session, now| session.status(now, &Nothing);
    let before = status(&sessions[0], now);
    assert!(matches!(before.peer, Peer::Alive(_)));

    let mut deframer = Deframer::new();
    let mut rest = bytes;
    while let [path, begin, length, tail @ ..] = rest {
        let length = usize::from(*length).min(tail.len());
        let (over, tail) = tail.split_at(length);
        rest = tail;
        let known = usize::from(*begin).checked_sub(1);
        let known = known.and_then(|at| recorded.get(at % recorded.len()));
        let mut datagram = known.map_or(Vec::new(), Vec::clone);
        if datagram.len() < over.len() {
            datagram.resize(over.len(), 0);
        }
        for (place, byte) in datagram.iter_mut().zip(over) {
            *place ^= byte;
        }
        let mut answers = 0;
        let mut out = |_: Path, answer: &[u8]| {
            assert!(answer.len() <= MAX_DATAGRAM);
            answers += 1;
        };
        let input = Input::Datagram {
            path: Path(*path),
            bytes: &mut datagram,
        };
        let events = sessions[0].step(now, input, &mut Nothing, &mut out);
        assert!(events.iter().all(|event| matches!(event, Event::PathDown(_))), "{events:?}");
        assert!(answers <= 1);
        for byte in over {
            deframer.push(*byte);
        }
    }
    let after = status(&sessions[0], now);
    assert_eq!((after.peer, after.version), (before.peer, before.version));
    assert_eq!(after.counters.beats, before.counters.beats);
    assert_eq!(after.counters.sessions, before.counters.sessions);
    // And the pair goes on.
    now = now + Duration::from_millis(11);
    converse(now, &mut sessions, &mut recorded);
    assert!(status(&sessions[0], now).counters.beats > before.counters.beats);
});

/// Lets both run, and brings each what the other says.
fn converse(now: Instant, sessions: &mut [Session; 2], recorded: &mut Vec<Vec<u8>>) {
    let mut wire = Vec::new();
    for index in 0..2 {
        let mut out = |path, bytes: &[u8]| wire.push((1 - index, path, bytes.to_vec()));
        let _ = sessions[index].step(now, Input::Timer, &mut Nothing, &mut out);
    }
    while let Some((to, path, mut bytes)) = wire.pop() {
        recorded.push(bytes.clone());
        let mut out = |path, bytes: &[u8]| wire.push((1 - to, path, bytes.to_vec()));
        let bytes = &mut bytes[..];
        let _ = sessions[to].step(now, Input::Datagram { path, bytes }, &mut Nothing, &mut out);
    }
}
