//! Segments as real connections have them, and what somebody sends who only guesses.

use proptest::prelude::*;

use super::*;
use crate::track::Direction::{Original as Client, Reply as Server};

const SYN: Flags = Flags::SYN;
const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::FIN.with(Flags::ACK);
const RST: Flags = Flags::RST;

/// Numbers of both sides' SYNs, near where the circle closes.
const C: u32 = u32::MAX - 100;
const S: u32 = 5_000;

/// Sender, what its sequence number is ahead of the first one, data, flags, what the acknowledgment is ahead of the
/// other's first number, window field, and whether that is inside.
type Line = (&'static str, Direction, i64, u32, Flags, i64, u16, bool);

/// A connection whose SYNs offer these scales, after its handshake.
fn connected(scales: [Option<u8>; 2]) -> Windows {
    let mut windows = Windows::first(Client, &segment(Client, 0, 0, SYN, 0, 64_240, scales[0]));
    let answer = segment(Server, 0, 0, SYN_ACK, 1, 65_160, scales[1]);
    assert!(windows.check(Server, &answer, true));
    windows
}

fn segment(
    from: Direction,
    sequence: i64,
    data: u32,
    flags: Flags,
    acknowledgment: i64,
    window: u16,
    scale: Option<u8>,
) -> Segment {
    let (mine, theirs) = match from {
        Client => (C, S),
        Server => (S, C),
    };
    let sequence = mine.wrapping_add(sequence as u32);
    let control = u32::from(flags.contains(SYN)) + u32::from(flags.contains(Flags::FIN));
    Segment {
        sequence,
        end: sequence.wrapping_add(data).wrapping_add(control),
        acknowledgment: match flags.contains(ACK) {
            true => theirs.wrapping_add(acknowledgment as u32),
            false => 0,
        },
        window,
        flags,
        scale,
    }
}

fn play(windows: &mut Windows, lines: &[Line]) {
    for (name, from, sequence, data, flags, acknowledgment, window, inside) in lines {
        let segment = segment(
            *from,
            *sequence,
            *data,
            *flags,
            *acknowledgment,
            *window,
            None,
        );
        assert_eq!(windows.check(*from, &segment, false), *inside, "{name}");
    }
}

#[test]
fn an_ordinary_connection_with_losses() {
    let mut windows = connected([Some(7), Some(7)]);
    play(
        &mut windows,
        &[
            (
                "server first, the client's ACK is lost",
                Server,
                1,
                38,
                ACK,
                1,
                510,
                true,
            ),
            ("and more", Server, 39, 6, ACK, 1, 510, true),
            ("the client's ACK", Client, 1, 0, ACK, 45, 502, true),
            ("request", Client, 1, 500, ACK, 45, 502, true),
            ("sent again", Client, 1, 500, ACK, 45, 502, true),
            (
                "second segment before the first",
                Server,
                1505,
                1460,
                ACK,
                501,
                510,
                true,
            ),
            ("the first", Server, 45, 1460, ACK, 501, 510, true),
            ("duplicate ACK", Client, 501, 0, ACK, 45, 502, true),
            ("late ACK", Client, 501, 0, ACK, 2965, 502, true),
            ("keep-alive", Server, 2964, 0, ACK, 501, 510, true),
            (
                "keep-alive with a byte",
                Server,
                2964,
                1,
                ACK,
                501,
                510,
                true,
            ),
            ("its answer", Client, 501, 0, ACK, 2965, 502, true),
            ("FIN", Server, 2965, 0, FIN, 501, 510, true),
            ("ACK of the FIN", Client, 501, 0, ACK, 2966, 502, true),
            ("FIN of the client", Client, 501, 0, FIN, 2966, 502, true),
            ("last ACK", Server, 2966, 0, ACK, 502, 510, true),
            ("last ACK again", Server, 2966, 0, ACK, 502, 510, true),
        ],
    );
}

#[test]
fn a_closed_window_takes_probes_and_opens_again() {
    let mut windows = connected([None, None]);
    play(
        &mut windows,
        &[
            ("ACK", Client, 1, 0, ACK, 1, 1000, true),
            (
                "as much as the window takes",
                Server,
                1,
                1000,
                ACK,
                1,
                5000,
                true,
            ),
            ("closed", Client, 1, 0, ACK, 1001, 0, true),
            ("probe", Server, 1001, 1, ACK, 1, 5000, true),
            ("probe again", Server, 1001, 1, ACK, 1, 5000, true),
            ("still closed", Client, 1, 0, ACK, 1001, 0, true),
            ("open", Client, 1, 0, ACK, 1002, 1000, true),
            ("goes on", Server, 1002, 1000, ACK, 1, 5000, true),
        ],
    );
}

#[test]
fn what_nobody_of_the_connection_sends() {
    // A window of 64,256 bytes at the client, of 65,280 at the server; 1,000 bytes sent by either.
    let talked: [Line; 2] = [
        ("request", Client, 1, 1000, ACK, 1, 502, true),
        ("answer", Server, 1, 1000, ACK, 1001, 510, true),
    ];
    let table: [Line; 12] = [
        (
            "beyond the window",
            Client,
            70_000,
            10,
            ACK,
            1001,
            502,
            false,
        ),
        (
            "long before the window",
            Client,
            -70_000,
            10,
            ACK,
            1001,
            502,
            false,
        ),
        (
            "half the circle away",
            Client,
            1 << 31,
            10,
            ACK,
            1001,
            502,
            false,
        ),
        (
            "ACK of what was not sent",
            Client,
            1001,
            0,
            ACK,
            1002,
            502,
            false,
        ),
        ("ACK of long ago", Client, 1001, 0, ACK, -70_000, 502, false),
        ("RST beyond the window", Server, 90_000, 0, RST, 0, 0, false),
        (
            "RST long before the window",
            Server,
            -90_000,
            0,
            RST,
            0,
            0,
            false,
        ),
        (
            "RST with an ACK from nowhere",
            Server,
            1001,
            0,
            RST.with(ACK),
            9_999,
            0,
            false,
        ),
        (
            "FIN beyond the window",
            Server,
            90_000,
            0,
            FIN,
            1001,
            510,
            false,
        ),
        (
            "RST where the server stands",
            Server,
            1001,
            0,
            RST,
            0,
            0,
            true,
        ),
        ("RST in the window", Server, 1500, 0, RST, 0, 0, true),
        (
            "RST of the client",
            Client,
            1001,
            0,
            RST.with(ACK),
            1001,
            0,
            true,
        ),
    ];
    for line in table {
        let mut windows = connected([Some(7), Some(7)]);
        play(&mut windows, &talked);
        let before = windows;
        play(&mut windows, &[line]);
        assert!(
            line.7 || windows == before,
            "{}: what is outside moves nothing",
            line.0
        );
    }
}

#[test]
fn scales_count_only_if_both_offer_them() {
    // The client's field of 1000 after the handshake, and how far the server may then begin a segment.
    for (scales, room) in [
        ([Some(7), Some(2)], 128_000),
        ([Some(14), Some(0)], 16_384_000),
        ([Some(7), None], 1000),
        ([None, None], 1000),
    ] {
        let mut windows = connected(scales);
        let from_syn = i64::from(windows.announced[0].bytes());
        play(&mut windows, &[("ACK", Client, 1, 0, ACK, 1, 1000, true)]);
        let reach = 1 + from_syn.max(room);
        play(
            &mut windows,
            &[
                ("at the end", Server, reach, 0, ACK, 1, 1000, true),
                ("behind it", Server, reach + 1, 0, ACK, 1, 1000, false),
            ],
        );
    }
}

#[test]
fn a_refused_client_needs_the_right_acknowledgment() {
    for (acknowledgment, inside) in [(1, true), (0, false), (2, false), (1 << 30, false)] {
        let mut windows = Windows::first(Client, &segment(Client, 0, 0, SYN, 0, 64_240, Some(7)));
        let reset = segment(Server, 0, 0, RST.with(ACK), acknowledgment, 0, None);
        assert_eq!(
            windows.check(Server, &reset, true),
            inside,
            "{acknowledgment}"
        );
        let bare = segment(Server, 0, 0, RST, 0, 0, None);
        assert!(!windows.check(Server, &bare, true));
    }
}

#[test]
fn a_syn_may_come_again_with_a_later_number() {
    let mut windows = Windows::first(Client, &segment(Client, 0, 0, SYN, 0, 64_240, Some(7)));
    assert!(windows.check(
        Client,
        &segment(Client, 0, 0, SYN, 0, 64_240, Some(7)),
        true
    ));
    assert!(windows.check(
        Client,
        &segment(Client, 70_000, 0, SYN, 0, 64_240, None),
        true
    ));
    let old = segment(Server, 0, 0, SYN_ACK, 1, 65_160, None);
    assert!(
        !windows.check(Server, &old, true),
        "it answers the first SYN"
    );
    let new = segment(Server, 0, 0, SYN_ACK, 70_001, 65_160, None);
    assert!(windows.check(Server, &new, true));
}

/// Nobody knows the scale of a connection that is taken up in the middle.
#[test]
fn a_connection_taken_up_in_the_middle_is_held_to_the_widest_scale() {
    let first = segment(Server, 90_000, 1460, ACK, 40_000, 501, None);
    let mut windows = Windows::first(Server, &first);
    assert!(!windows.are_known());
    let windows_of = 502 << 14;
    play(
        &mut windows,
        &[
            ("the other side", Client, 40_000, 0, ACK, 91_460, 502, true),
            ("goes on", Server, 91_460, 1460, ACK, 40_000, 501, true),
            (
                "far beyond",
                Server,
                91_460 + windows_of + (1 << 20),
                0,
                RST,
                0,
                0,
                false,
            ),
            ("RST in place", Server, 92_920, 0, RST, 0, 0, true),
        ],
    );
    assert!(windows.are_known());
}

/// Both sides have sent more before a take-over than is heard after it, and hear of its loss one after the other.
#[test]
fn what_was_sent_before_a_take_over_may_be_acknowledged_after_it() {
    let again = segment(Client, 40_000, 1460, ACK, 90_000, 501, None);
    let mut windows = Windows::first(Client, &again);
    let acknowledgments = [
        segment(Server, 90_000, 1460, ACK, 56_060, 502, None),
        segment(Client, 56_060, 0, ACK, 106_060, 501, None),
    ];
    for (sender, acknowledgment) in [Server, Client].into_iter().zip(&acknowledgments) {
        let mut strict = windows;
        assert!(!strict.check(sender, acknowledgment, false));
        windows.catch_up(sender, acknowledgment);
        assert!(windows.check(sender, acknowledgment, false));
    }
    // Not more than the other side was allowed to send, and not by who ends the connection.
    let before = windows;
    let beyond = segment(Client, 56_060, 0, ACK, 90_000 + (600 << 14), 501, None);
    let reset = segment(Client, 56_060, 0, RST.with(ACK), 106_061, 501, None);
    for guess in [beyond, reset] {
        windows.catch_up(Client, &guess);
        assert_eq!(windows, before);
        assert!(!windows.check(Client, &guess, false));
    }
}

#[test]
fn window_scale_options() {
    let table: [(&[u8], Option<u8>); 8] = [
        (&[], None),
        (&[3, 3, 7], Some(7)),
        (
            &[
                2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 9,
            ],
            Some(9),
        ),
        (&[3, 3, 15], Some(14)),
        (&[0, 3, 3, 7], None),
        (&[3, 2, 7, 0], None),
        (&[2, 0, 3, 3, 7], None),
        (&[2, 40, 3, 3, 7], None),
    ];
    for (options, expected) in table {
        assert_eq!(scale(options), expected, "{options:?}");
    }
}

proptest! {
    /// A window is never taken for smaller than it is, nor for much larger.
    #[test]
    fn windows_are_kept_well_enough(window: u16, scale in 0..=14_u8) {
        let (kept, real) = (Window::new(window, scale).bytes(), u32::from(window) << scale);
        prop_assert!(kept > real);
        prop_assert!(kept <= real + (32 << scale));
    }

    /// Two ends that keep to their windows are never stopped, whatever is lost, repeated or comes late.
    #[test]
    fn honest_ends_are_never_stopped(
        scales in [0..=14_u8, 0..=14],
        turns in prop::collection::vec((any::<bool>(), 0..3000_u32, any::<u16>(), 0..8_u8), 1..200),
    ) {
        let mut windows = connected([Some(scales[0]), Some(scales[1])]);
        // What each side has sent, has of the other, and may send up to; everything relative to the first number.
        let (mut sent, mut have) = ([1_u64; 2], [1_u64; 2]);
        let mut limit = [1 + 65_160, 1 + 64_240_u64];
        for (server, data, window, fate) in turns {
            let (me, other) = (usize::from(server), usize::from(!server));
            let from = if server { Server } else { Client };
            let start = if fate == 1 { sent[me].saturating_sub(data.into()).max(have[other].min(sent[me])) } else { sent[me] };
            let room = limit[me].saturating_sub(start);
            let data = u64::from(data).min(room) as u32;
            let line = segment(from, start as i64, data, ACK, have[me] as i64, window, None);
            prop_assert!(windows.check(from, &line, false), "{from:?} {start}+{data}");
            sent[me] = sent[me].max(start + u64::from(data));
            if fate != 2 {
                // It arrives.
                if start <= have[other] {
                    have[other] = have[other].max(start + u64::from(data));
                }
                let right = have[me] + (u64::from(window) << scales[me]);
                limit[other] = limit[other].max(right);
            }
        }
    }
}
