//! Both ends, and who is in between.

use proptest::prelude::*;
use time::{Duration, Instant};

use super::*;

const KEY: [u8; 32] = [7; 32];
const NOW: Instant = Instant::from_micros(5_000_000);
type Bytes = std::vec::Vec<u8>;

fn make(client: &mut Client, request: &Request, nonce: u8) -> Bytes {
    let mut datagram = [0; MAX_DATAGRAM];
    client.make(request, [nonce; 12], &mut datagram).to_vec()
}

/// What the desk answers without being told.
fn receive(desk: &mut Desk, now: Instant, datagram: &[u8]) -> Option<Bytes> {
    match desk.receive(now, &mut datagram.to_vec()) {
        Received::Answer(answer) => Some(answer.to_vec()),
        Received::Nothing => None,
        Received::Command(request) => panic!("{request:?}"),
    }
}

/// A client that knows the desk's challenge.
fn introduced(desk: &mut Desk) -> Client {
    let mut client = Client::new(&KEY);
    let ask = make(&mut client, &Request::Status, 0);
    let mut answer = receive(desk, NOW, &ask).unwrap();
    assert!(answer.len() <= ask.len(), "nothing grows by asking");
    assert_eq!(client.receive(&mut answer), Heard::Challenge);
    client
}

#[test]
fn a_command_is_done_once() {
    let mut desk = Desk::new(&KEY, 1);
    let mut client = introduced(&mut desk);
    let command = make(&mut client, &Request::HandOver, 1);
    let received = desk.receive(NOW, &mut command.clone());
    assert_eq!(received, Received::Command(Request::HandOver));
    let answer = desk.answer(&Response::Done).to_vec();
    // Lost on the way: the same command brings the same answer.
    assert_eq!(receive(&mut desk, NOW, &command), Some(answer.clone()));
    assert_eq!(
        client.receive(&mut answer.clone()),
        Heard::Answer(Response::Done)
    );
    // The next challenge came with the answer.
    let next = make(&mut client, &Request::Maintenance(false), 2);
    let received = desk.receive(NOW, &mut next.clone());
    assert_eq!(received, Received::Command(Request::Maintenance(false)));
    let _ = desk.answer(&Response::Refused(Refusal::NoPeer));
    // A recording of the first one only brings the challenge.
    let later = NOW + Duration::from_secs(1);
    let mut told = receive(&mut desk, later, &command).unwrap();
    assert_eq!(client.receive(&mut told), Heard::Challenge);
    // After a restart with another seed as well.
    let mut again = Desk::new(&KEY, 2);
    for (second, datagram) in [(1, &command), (2, &next)] {
        let now = later + Duration::from_secs(second);
        assert!(receive(&mut again, now, datagram).is_some_and(|answer| answer.len() < 20));
        assert_eq!(receive(&mut again, now, datagram), None, "not too often");
    }
}

#[test]
fn the_slower_operator_tries_again() {
    let mut desk = Desk::new(&KEY, 1);
    let mut first = introduced(&mut desk);
    let later = NOW + Duration::from_secs(1);
    let ask = make(&mut Client::new(&KEY), &Request::Status, 0);
    let mut second = Client::new(&KEY);
    second.receive(&mut receive(&mut desk, later, &ask).unwrap());
    let command = make(&mut first, &Request::HandOver, 1);
    let slow = make(&mut second, &Request::Status, 2);
    let _ = desk.receive(later, &mut command.clone());
    let _ = desk.answer(&Response::Done);
    let later = later + Duration::from_secs(1);
    let mut told = receive(&mut desk, later, &slow).unwrap();
    assert_eq!(second.receive(&mut told), Heard::Challenge);
    let command = make(&mut second, &Request::Status, 3);
    let received = desk.receive(later, &mut command.clone());
    assert_eq!(received, Received::Command(Request::Status));
}

#[test]
fn who_has_another_key_is_not_heard() {
    let mut desk = Desk::new(&KEY, 1);
    let mut stranger = Client::new(&[8; 32]);
    let ask = make(&mut stranger, &Request::Status, 0);
    stranger.receive(&mut receive(&mut desk, NOW, &ask).unwrap());
    let command = make(&mut stranger, &Request::HandOver, 1);
    assert_eq!(receive(&mut desk, NOW, &command), None);
    // It has not used up the challenge either.
    let mut client = Client::new(&KEY);
    client.receive(&mut receive(&mut desk, NOW + Duration::from_secs(1), &ask).unwrap());
    let command = make(&mut client, &Request::HandOver, 1);
    let received = desk.receive(NOW, &mut command.clone());
    assert_eq!(received, Received::Command(Request::HandOver));
}

#[test]
fn the_longest_answer_fits() {
    let name = || policy::Name::try_from("a-name-of-thirty-one-characters").unwrap();
    let address: core::net::IpAddr = core::net::Ipv6Addr::from([255; 16]).into();
    let member = Member {
        network: name(),
        vrid: 255,
        address,
    };
    let path = PathStatus {
        network: name(),
        address: Some([255; 4].into()),
        up: true,
    };
    let status = Status {
        name: name(),
        version: [255; 3],
        fingerprint: u64::MAX,
        uptime: u32::MAX,
        state: State::Fault,
        since: u32::MAX,
        priority: 255,
        effective_priority: 255,
        demotions: core::iter::repeat_n(Demotion::Operator, 8).collect(),
        links: 255,
        members: core::iter::repeat_n(member, 16).collect(),
        flows: u32::MAX,
        frames: (u32::MAX, u32::MAX),
        hand_over: Some(Refusal::TimedOut),
        peer: Some(PeerStatus {
            name: name(),
            peer: Peer::Alive {
                state: State::Backup,
                priority: 255,
            },
            paths: core::iter::repeat_n(path, 5).collect(),
            same_configuration: true,
            in_sync: true,
            lag: u32::MAX,
        }),
        configuration: Running {
            digest: [255; 32],
            made: u64::MAX,
            unconfirmed: Some(u16::MAX),
            reverted: true,
            room: u32::MAX,
        },
    };
    let mut desk = Desk::new(&KEY, 1);
    let mut client = introduced(&mut desk);
    let mut command = make(&mut client, &Request::Status, 1);
    let _ = desk.receive(NOW, &mut command);
    let response = Response::Status(status);
    let mut answer = desk.answer(&response).to_vec();
    assert!(answer.len() <= MAX_DATAGRAM);
    assert_eq!(client.receive(&mut answer), Heard::Answer(response));
}

proptest! {
    /// Damage and noise change nothing on either end.
    #[test]
    fn noise_changes_nothing(noise in prop::collection::vec(any::<u8>(), 0..200), at in 0..300_usize, bit in 0..8_u32) {
        let mut desk = Desk::new(&KEY, 1);
        let mut client = introduced(&mut desk);
        let command = make(&mut client, &Request::HandOver, 1);
        let mut damaged = command.clone();
        let at = at % damaged.len();
        damaged[at] ^= 1_u8 << bit;
        for mut datagram in [noise, damaged] {
            let received = desk.receive(NOW, &mut datagram.clone());
            prop_assert!(!matches!(received, Received::Command(_)));
            prop_assert!(!matches!(client.receive(&mut datagram), Heard::Answer(_)));
        }
        let received = desk.receive(NOW, &mut command.clone());
        prop_assert_eq!(received, Received::Command(Request::HandOver));
    }
}
