//! The differences that are meant. ARCHITECTURE.md has the same list; anything else fails.

use std::net::IpAddr;

use node::Drop;

use crate::compare::Case;
use crate::site::LEGS;
use crate::{Emission, destination, source};

/// One difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// Short name.
    pub name: &'static str,
    /// Why ours is as it is.
    pub reason: &'static str,
    /// Whether a case is one of it.
    pub applies: fn(&Case<'_>) -> bool,
    /// Whether the worlds remember different things afterwards, so that the rest of the story proves nothing.
    pub parts: bool,
}

/// All of them.
pub const ALL: &[Difference] = &[
    Difference {
        name: "headers of own packets",
        reason: "packets of our own are not fragmented (DF), so they need no identification (RFC 6864 §4.1), and their TOS \
                 is 0 or that of network control; the kernel counts an identification up, copies TOS bits of the packet that \
                 it answers, and labels IPv6 flows",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                is_ours(ours) && plain(&kernel.packet) == plain(&ours.packet)
            })
        },
        parts: false,
    },
    Difference {
        name: "source of errors",
        reason: "our errors come from the address of the leg (RFC 1812 §4.3.2.4); netfilter gives those about packets of a \
                 translated flow the address that the sender had written, and the kernel chooses among the addresses \
                 of IPv6",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                let written = first(case).map(destination);
                is_ours(ours)
                    && (is_ours(kernel) || written == Some(source(&kernel.packet)))
                    && without_source(&kernel.packet) == without_source(&ours.packet)
            })
        },
        parts: false,
    },
    Difference {
        name: "odd chains of extension headers",
        reason: "a chain is followed for a bounded number of headers in their order (RFC 8200 §4.1), and a routing header with \
                 segments left is refused wherever it is; the kernel follows any chain, and nftables sees the first \
                 routing header",
        applies: |case| {
            let headers = [Drop::ExtensionHeaders, Drop::RoutingHeader];
            case.ours.is_empty() && matches!(case.drops, [drop] if headers.contains(drop))
        },
        parts: true,
    },
    Difference {
        name: "fragments that are whole packets",
        reason: "a fragment header on a whole packet stays (RFC 6946); netfilter puts the packet together and leaves it out",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                ours.packet.get(6) == Some(&44) && kernel.packet.len() + 8 == ours.packet.len()
            })
        },
        parts: false,
    },
    Difference {
        name: "pieces as they come",
        reason: "fragments are not put together: those in order pass at once, and what the ends must not put together is cut \
                 off where it goes wrong; netfilter waits for all pieces",
        applies: |case| {
            case.kernel.is_empty()
                && (case.step.what.starts_with("pieces ") || first(case).is_some_and(is_piece))
                && case
                    .ours
                    .iter()
                    .all(|one| is_piece(&one.packet) || is_time_exceeded(one))
                && !case.ours.is_empty()
        },
        parts: true,
    },
    Difference {
        name: "rejected pieces",
        reason: "nobody can tell whether a piece is damaged, so that a rule that rejects is silent about pieces; netfilter has \
                 put them together",
        applies: |case| {
            case.ours.is_empty()
                && case.step.packets.len() > 1
                && case.drops.contains(&Drop::Rejected)
                && matches!(case.kernel, [one] if is_prohibited(one))
        },
        parts: false,
    },
    Difference {
        name: "rejected packets of other protocols",
        reason: "are answered as UDP is (RFC 1812 §5.2.7.1); netfilter looks for a checksum over all of the packet in every protocol but \
                 a few, and is silent where it is wrong",
        applies: |case| {
            let protocol = first(case).and_then(|packet| match packet.first()? >> 4 {
                4 => packet.get(9),
                _ => packet.get(6),
            });
            case.kernel.is_empty()
                && case.drops == [Drop::Rejected]
                && matches!(case.ours, [one] if is_prohibited(one))
                && !matches!(protocol, None | Some(1 | 6 | 17 | 58))
        },
        parts: false,
    },
    Difference {
        name: "quotes of rejected packets",
        reason: "an error quotes the packet as it came (RFC 1812 §4.3.2.3); that of the kernel's reject has counted the TTL down \
                 already",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                is_prohibited(kernel)
                    && is_prohibited(ours)
                    // A fragment header is not in the kernel's quote.
                    && (first(case).is_some_and(is_piece)
                        || without_quoted_ttl(&kernel.packet) == without_quoted_ttl(&ours.packet))
            })
        },
        parts: false,
    },
    Difference {
        name: "numbers of pieces",
        reason: "a fragment of IPv6 keeps the identification that its sender gave it, for no router may change it (RFC 8200 §4.5); \
                 netfilter puts the packet together, cuts it up again and gives the pieces a number of its own",
        applies: |case| {
            let plain = |emissions: &[Emission]| -> Vec<(u8, [u8; 6], Vec<u8>)> {
                let plain = |one: &Emission| (one.leg, one.to, without_identification(&one.packet));
                emissions.iter().map(plain).collect()
            };
            !case.ours.is_empty()
                && case
                    .ours
                    .iter()
                    .all(|one| is_piece(&one.packet) && one.packet[0] >> 4 == 6)
                && plain(case.kernel) == plain(case.ours)
        },
        parts: false,
    },
    Difference {
        name: "pieces that fit into one",
        reason: "pieces stay pieces (RFC 8200 §4.5); netfilter sends a packet of IPv6 whole that is no longer than the longest piece \
                 of it was",
        applies: |case| {
            let pieces = case.ours.iter().map(|one| &one.packet);
            let all = pieces.clone().all(|one| is_piece(one) && one[0] >> 4 == 6);
            let data: Vec<u8> = pieces
                .flat_map(|one| one.iter().skip(48))
                .copied()
                .collect();
            case.ours.len() > 1
                && all
                && matches!(case.kernel, [one] if one.packet.get(40..) == Some(&data[..]))
        },
        parts: false,
    },
    Difference {
        name: "packets without a next header",
        reason: "IPv6 packets that carry nothing (RFC 8200 §4.7) are as good as any other protocol; netfilter calls them \
                 invalid",
        applies: |case| {
            case.kernel.is_empty()
                && matches!(case.ours, [one] if one.packet[0] >> 4 == 6 && one.packet[6] == 59)
        },
        parts: true,
    },
    Difference {
        name: "broken chunks",
        reason: "SCTP is as any other protocol, its chunks are its ends' business; netfilter looks into them, and calls broken ones \
                 invalid",
        applies: |case| {
            let is_sctp = |packet: &[u8]| match packet[0] >> 4 {
                6 => packet.get(6) == Some(&132),
                _ => packet.get(9) == Some(&132),
            };
            case.kernel.is_empty() && matches!(case.ours, [one] if is_sctp(&one.packet))
        },
        parts: true,
    },
    Difference {
        name: "after an early reset",
        reason: "a flow that was reset before it was answered lives on for seconds, so that segments inside its window and errors \
                 about it pass; netfilter forgets it at once",
        applies: |case| {
            let flags = |bits: u8| {
                move |packet: &&[u8]| tcp(packet).is_some_and(|(flags, _)| flags & 0x16 == bits)
            };
            let answered = history(case).any(|packet| flags(0x12)(&packet));
            let reset = history(case).any(is_reset);
            let about = in_tcp(case) || first(case).is_some_and(is_error);
            !answered && reset && case.kernel.is_empty() && about
        },
        parts: true,
    },
    Difference {
        name: "from and to the same address",
        reason: "dropped wherever it goes (CVE-1999-0016); nftables cannot compare two addresses of a packet",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::Land]
                && first(case).is_some_and(|packet| source(packet) == destination(packet))
        },
        parts: true,
    },
    Difference {
        name: "short-lived and refused",
        reason: "what the policy refuses gets no time exceeded from us; the kernel looks at the TTL before the rules",
        applies: |case| {
            let refuses = |one: &Emission| is_prohibited(one) || is_reset(&one.packet);
            case.ours.iter().all(refuses)
                && !case.drops.contains(&Drop::Ttl)
                && matches!(case.kernel, [one] if is_time_exceeded(one))
        },
        parts: false,
    },
    Difference {
        name: "TTL 0",
        reason: "no router sends a packet with TTL 0 (RFC 1812 §5.3.1): it is dropped as malformed, unanswered; the kernel \
                 takes it for one whose time is over, and keeps account of it",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::Ttl]
                && matches!(case.kernel, [one] if is_ours(one))
                && first(case).is_some_and(|packet| ttl(packet) == Some(0))
        },
        parts: true,
    },
    Difference {
        name: "reset for what belongs to a flow",
        reason: "netfilter cannot tell a segment that no flow knows from a bad one of a flow, and the rule that answers \
                 segments to services answers both; we answer only the former",
        applies: |case| {
            case.ours.iter().all(is_time_exceeded)
                && !case.drops.is_empty()
                && !case.drops.contains(&Drop::NoFlow)
                && matches!(case.kernel, [one] if is_refusal(case, one))
        },
        parts: false,
    },
    Difference {
        name: "rejected segments that nobody sends",
        reason: "what no TCP sends is dropped in silence, rules are not asked; to nftables it is as invalid as any segment of no flow",
        applies: |case| {
            case.ours.is_empty()
                && matches!(case.drops, [Drop::TcpFlags | Drop::Transport])
                && matches!(case.kernel, [one] if is_reset(&one.packet))
        },
        parts: false,
    },
    Difference {
        name: "strays to forwarded ports",
        reason: "rules see a segment that no flow knows where it would go, as they see first packets; netfilter does not translate \
                 it, so that it ends at the appliance",
        applies: |case| {
            case.kernel.is_empty()
                && case.drops == [Drop::Rejected]
                && matches!(case.ours, [one] if is_ours(one) && is_reset(&one.packet))
                && first(case)
                    .is_some_and(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x16 != 2))
        },
        parts: false,
    },
    Difference {
        name: "short quotes",
        reason: "an error quotes at least 8 bytes behind the header (RFC 792); netfilter is content with the ports",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::IcmpUnrelated]
                && first(case).is_some_and(|packet| {
                    packet.len()
                        < if packet[0] >> 4 == 4 {
                            20 + 8 + 20 + 8
                        } else {
                            40 + 8 + 40 + 8
                        }
                })
        },
        parts: false,
    },
    Difference {
        name: "beyond the window",
        reason: "a segment that begins beyond what its receiver allows is dropped, as there (RFC 9293 §3.10.7.4); netfilter lets it pass \
                 if it is not another window away, and counts it as sent",
        applies: |case| {
            case.ours.is_empty()
                && only(case, "tcp outside window")
                && passed(case)
                && is_ahead(case)
        },
        parts: true,
    },
    Difference {
        name: "data of resets while closing",
        reason: "what a reset carries counts as sent whenever it comes; netfilter does not look at the numbers of a reset once a FIN was \
                 seen, so that an acknowledgment of it is out of the window",
        applies: |case| {
            let mut closing = history(case)
                .skip_while(|packet| tcp(packet).is_none_or(|(flags, _)| flags & 1 == 0));
            case.kernel.is_empty()
                && in_tcp(case)
                && closing.any(|packet| {
                    is_reset(packet) && numbers(packet).is_some_and(|(_, start, end)| start != end)
                })
        },
        parts: true,
    },
    Difference {
        name: "attempts behind a reset",
        reason: "a client that resets an old connection of its server goes on with its attempt by a SYN (RFC 9293 §3.5.1), and a reset \
                 that acknowledges nothing does not end it: anything else is out of state; netfilter takes it for over, and lets \
                 whatever follows pass",
        applies: |case| {
            let answered = history(case)
                .any(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x12 == 0x12));
            !answered
                && history(case).any(is_reset)
                && case.ours.is_empty()
                && only(case, "tcp out of state")
                && passed(case)
        },
        parts: true,
    },
    Difference {
        name: "short-lived strays of translated flows",
        reason: "the sender of a segment whose time is over is told so, also if it is not inside the window; netfilter does not \
                 translate such a segment, so that it ends at the appliance",
        applies: |case| {
            case.kernel.is_empty()
                && case.drops == [Drop::Ttl]
                && matches!(case.ours, [one] if is_time_exceeded(one))
                && first(case).is_some_and(|packet| is_own(destination(packet)))
        },
        parts: false,
    },
    Difference {
        name: "acknowledgments of long ago",
        reason: "netfilter lets a segment pass whose acknowledgment is far below what was acknowledged before, and takes \
                 no account of it; we drop it, as a receiver would (RFC 9293 §3.10.7.4, RFC 5961 §5)",
        applies: |case| {
            case.ours.is_empty()
                && only(case, "tcp outside window")
                && passed(case)
                && first(case)
                    .is_some_and(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x10 != 0))
        },
        parts: false,
    },
    Difference {
        name: "resets of long ago",
        reason: "a reset inside the window passes and ends nothing at once unless it comes next, for its receiver asks back (RFC 5961 \
                 §3.2); netfilter drops one that is below what was acknowledged",
        applies: |case| {
            let answered = history(case)
                .any(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x12 == 0x12));
            answered
                && case.kernel.is_empty()
                && case.drops.is_empty()
                && matches!(case.ours, [one] if is_reset(&one.packet))
                && first(case).is_some_and(is_reset)
        },
        parts: false,
    },
    Difference {
        name: "sizes at odd places",
        reason: "the checksum stays right wherever the maximum segment size stands among a SYN's options; that of nftables is wrong \
                 behind an odd number of bytes, and its reject silent about what is damaged",
        applies: |case| {
            let is_odd = |packet: &[u8]| {
                let (_, start) = tcp(packet)?;
                let end = start + usize::from(packet.get(start + 12)? >> 4) * 4;
                let options = packet.get(start + 20..end)?;
                Some(options.iter().skip(1).step_by(2).any(|kind| *kind == 2))
            };
            let rejected = case.kernel.is_empty()
                && case.drops == [Drop::Rejected]
                && matches!(case.ours, [one] if is_reset(&one.packet))
                && first(case).and_then(is_odd) == Some(true);
            let passed = one(case).is_some_and(|(kernel, ours)| {
                let sound = |packet: &[u8]| tcp_sum(packet) == Some(0);
                without_sum(&kernel.packet) == without_sum(&ours.packet)
                    && first(case).is_some_and(|packet| sound(packet) && sound(&ours.packet))
            });
            rejected || passed
        },
        parts: false,
    },
    Difference {
        name: "sizes that are none",
        reason: "an option of kind 2 that is not 4 bytes long, or stands behind the end of the options, says no maximum segment size (RFC \
                 9293 §3.1) and stays; nftables lowers whatever it finds",
        applies: |case| {
            one(case).is_some_and(|(kernel, ours)| {
                let options = |packet: &[u8]| {
                    let (_, start) = tcp(packet)?;
                    let end = start + usize::from(packet.get(start + 12)? >> 4) * 4;
                    Some(packet.get(start + 20..end)?.to_vec())
                };
                let (sent, left) = (first(case).and_then(options), options(&ours.packet));
                // Sizes that are some are lowered.
                let lowered = |sent: &[u8], at: usize| {
                    let is_size = |back: usize| {
                        let start = at.checked_sub(back);
                        start.and_then(|it| sent.get(it..it + 2)) == Some(&[2, 4])
                    };
                    is_size(2) || is_size(3)
                };
                let same = sent.as_ref().zip(left).is_some_and(|(sent, left)| {
                    sent.len() == left.len()
                        && (0..sent.len()).all(|at| sent[at] == left[at] || lowered(sent, at))
                });
                kernel.packet.len() == ours.packet.len()
                    && same
                    && sent.is_some_and(|it| {
                        it.windows(2)
                            .any(|two| two[0] == 0 || two[0] == 2 && two[1] != 4)
                    })
                    && first(case).and_then(tcp_sum) == tcp_sum(&ours.packet)
            })
        },
        parts: false,
    },
    Difference {
        name: "a second SYN within a connection",
        reason: "netfilter lets a SYN inside a connection pass, and when the other side answers it as if it were a new \
                 one begins the connection anew; we keep to the old one until it is over, and reopen only then",
        applies: |case| {
            let syns = history(case)
                .chain(first(case))
                .filter(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x12 == 2));
            syns.count() > 1 && in_tcp(case)
        },
        parts: true,
    },
    Difference {
        name: "resets before an answer",
        reason: "a reset that answers a SYN acknowledges it (RFC 9293 §3.10.7.3); netfilter takes any, which makes blind \
                 resets easy",
        applies: |case| {
            let answered = history(case)
                .any(|packet| tcp(packet).is_some_and(|(flags, _)| flags & 0x12 == 0x12));
            !answered && in_tcp(case) && first(case).is_some_and(is_reset)
        },
        parts: true,
    },
    Difference {
        name: "answers to another SYN",
        reason: "a SYN-ACK that does not acknowledge the SYN begins no connection (RFC 9293 §3.10.7.3), so that its other \
                 segments are out of state to us; netfilter goes on with it",
        applies: |case| {
            let number = |packet: &[u8], place: usize, wanted: u8| {
                let (flags, start) = tcp(packet)?;
                let field = packet.get(start + place..)?.first_chunk()?;
                (flags & 0x12 == wanted).then(|| u32::from_be_bytes(*field))
            };
            let syn = history(case).find_map(|packet| number(packet, 4, 0x02));
            let answer = history(case).find_map(|packet| number(packet, 8, 0x12));
            let other = syn
                .zip(answer)
                .is_some_and(|(syn, ack)| ack != syn.wrapping_add(1));
            other && in_tcp(case)
        },
        parts: true,
    },
    Difference {
        name: "flows that are over",
        reason: "count towards a limit of flows until they are forgotten, seconds later, since that is how long they take room; \
                 netfilter counts them no longer than their ends do",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::FlowLimit]
                && passed(case)
                && history(case).any(is_reset)
        },
        parts: true,
    },
    Difference {
        name: "pings with a code",
        reason: "an echo has code 0 (RFC 4443 §4.1), another code is dropped; netfilter names flows by it",
        applies: |case| {
            case.ours.is_empty()
                && case.drops == [Drop::IcmpType]
                && first(case).is_some_and(|packet| match packet[0] >> 4 {
                    6 if packet[6] == 58 => {
                        matches!(packet.get(40..42), Some([128 | 129, code]) if *code != 0)
                    }
                    _ => false,
                })
        },
        parts: true,
    },
];

/// A difference between our SYN cookies and the kernel's SYN proxy, where each world has numbers of its own.
#[derive(Clone, Copy, Debug)]
pub struct Notion {
    /// Short name.
    pub name: &'static str,
    /// Why ours is as it is.
    pub reason: &'static str,
}

/// What differs in every connection.
pub const OPTION_ORDER: Notion = Notion {
    name: "order of a cookie's options",
    reason: "any order is as good (RFC 9293 §3.1)",
};
/// What the proxy's SYN says about the client.
pub const WINDOW_OF_SYN: Notion = Notion {
    name: "window of the proxy's SYN",
    reason: "a SYN's window is not scaled (RFC 7323 §2.2), that of the client's ACK is: we multiply, the kernel copies",
};
/// See [`WINDOW_OF_SYN`].
pub const ROUNDED_SIZE: Notion = Notion {
    name: "sizes in cookies",
    reason: "a cookie has room for one of eight segment sizes, that of the kernel for one of four, both rounded down; and our \
             answer always says what we can take, the kernel's only if it was told a size",
};
/// Echoes in the proxy's own segments.
pub const STAMPS_OF_PROXY: Notion = Notion {
    name: "echoes of the proxy",
    reason: "our SYN to the server echoes no timestamp, our ACK echoes the server's, and the client that was promised timestamps \
             gets one with the window (RFC 7323 §3.2); the kernel's echo the cookie's and one that nobody sent, and leave it out",
};
/// Windows of servers with another scale than the client was promised.
pub const OTHER_SCALE: Notion = Notion {
    name: "windows of another scale",
    reason: "we convert the windows of a server whose scale is not the one that the client was promised; the kernel wants all \
             servers to have the same",
};

/// All of those.
pub const COOKIES: [Notion; 5] = [
    OPTION_ORDER,
    WINDOW_OF_SYN,
    ROUNDED_SIZE,
    STAMPS_OF_PROXY,
    OTHER_SCALE,
];

/// The listed difference that a case is one of.
#[must_use]
pub fn of(case: &Case<'_>) -> Option<&'static Difference> {
    ALL.iter().find(|known| (known.applies)(case))
}

/// The only packet of the step.
fn first<'a>(case: &Case<'a>) -> Option<&'a [u8]> {
    match &case.step.packets[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// What was sent in the story so far, and taken: what is damaged on its way to the flow changes nothing.
fn history<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a [u8]> {
    let steps = case.before.iter().zip(case.taken);
    let taken = steps.filter(|(_, taken)| **taken).map(|(step, _)| step);
    taken.flat_map(|step| step.packets.iter().map(Vec::as_slice))
}

/// Whether the kernel let anything of the step through, or looked at it at least.
#[must_use]
pub fn is_taken(case: &Case<'_>) -> bool {
    case.kernel.iter().any(|one| !is_refusal(case, one))
}

/// Whether this is the reset that answers a segment which belongs nowhere: no reset is answered so, but servers' are passed on
/// with an address of the appliance, too.
fn is_refusal(case: &Case<'_>, emission: &Emission) -> bool {
    is_ours(emission) && is_reset(&emission.packet) && !first(case).is_some_and(is_reset)
}

/// Whether the worlds differ only about a TCP segment that one of them did not like.
fn in_tcp(case: &Case<'_>) -> bool {
    let states = ["tcp outside window", "tcp out of state", "tcp without flow"];
    first(case).is_some_and(|packet| tcp(packet).is_some())
        && case.drops.iter().all(|drop| states.contains(&drop.name()))
}

/// Whether the kernel let the packet through.
fn passed(case: &Case<'_>) -> bool {
    matches!(case.kernel, [one] if !is_refusal(case, one))
}

/// Flags of a TCP segment without options in front, and where it begins.
fn tcp(packet: &[u8]) -> Option<(u8, usize)> {
    let start = match packet.first()? >> 4 {
        4 if *packet.get(9)? == 6 => 20,
        6 if *packet.get(6)? == 6 => 40,
        _ => return None,
    };
    Some((*packet.get(start + 13)?, start))
}

/// Whether a segment leaves out some of what its side could have sent next.
fn is_ahead(case: &Case<'_>) -> bool {
    let Some((source, sequence, _)) = first(case).and_then(numbers) else {
        return false;
    };
    let sent = history(case).filter_map(numbers);
    let mut ends = sent.filter(|it| it.0 == source).map(|it| it.2);
    let is_before = |end: u32| end.wrapping_sub(sequence).cast_signed() < 0;
    ends.next().is_some_and(is_before) && ends.all(is_before)
}

/// Source port of a TCP segment, its sequence number, and the one behind it.
fn numbers(packet: &[u8]) -> Option<(u16, u32, u32)> {
    let (flags, start) = tcp(packet)?;
    let segment = packet.get(start..)?;
    let source = u16::from_be_bytes(*segment.first_chunk()?);
    let sequence = u32::from_be_bytes(*segment.get(4..)?.first_chunk()?);
    let data = segment
        .len()
        .checked_sub(usize::from(segment.get(12)? >> 4) * 4)?;
    let control = (flags & 1) + (flags >> 1 & 1);
    let end = sequence.wrapping_add(data as u32 + u32::from(control));
    Some((source, sequence, end))
}

/// A segment without its checksum.
fn without_sum(packet: &[u8]) -> Option<Vec<u8>> {
    let (_, start) = tcp(packet)?;
    let mut packet = packet.to_vec();
    packet.get_mut(start + 16..start + 18)?.fill(0);
    Some(packet)
}

/// What a segment and its pseudo-header sum up to: 0 if the checksum is right.
fn tcp_sum(packet: &[u8]) -> Option<u16> {
    let (_, start) = tcp(packet)?;
    let addresses = if start == 20 { 12..20 } else { 8..40 };
    let segment = packet.get(start..)?;
    let len = (segment.len() as u16).to_be_bytes();
    Some(forge::checksum(&[
        &packet[addresses],
        &[0, 6],
        &len,
        segment,
    ]))
}

fn ttl(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => packet.get(8).copied(),
        6 => packet.get(7).copied(),
        _ => None,
    }
}

/// Whether our node dropped the packet for this reason.
fn only(case: &Case<'_>, name: &str) -> bool {
    matches!(case.drops, [drop] if drop.name() == name)
}

fn one<'a>(case: &Case<'a>) -> Option<(&'a Emission, &'a Emission)> {
    match (case.kernel, case.ours) {
        ([kernel], [ours]) if (kernel.leg, kernel.to) == (ours.leg, ours.to) => {
            Some((kernel, ours))
        }
        _ => None,
    }
}

/// Whether an address of the appliance speaks.
fn is_ours(emission: &Emission) -> bool {
    is_own(source(&emission.packet))
}

/// Whether this is an address of the appliance.
fn is_own(address: IpAddr) -> bool {
    LEGS.iter().any(|leg| {
        let v4 = [leg.own.0].into_iter().chain(leg.virtuals.iter().copied());
        let v6 = [leg.own6.0]
            .into_iter()
            .chain(leg.virtuals6.iter().copied());
        v4.map(IpAddr::V4)
            .chain(v6.map(IpAddr::V6))
            .any(|own| own == address)
    })
}

fn is_time_exceeded(emission: &Emission) -> bool {
    let packet = &emission.packet;
    is_ours(emission)
        && match packet.first().map(|byte| byte >> 4) {
            Some(4) => packet.get(9) == Some(&1) && packet.get(20) == Some(&11),
            Some(6) => packet.get(6) == Some(&58) && packet.get(40) == Some(&3),
            _ => false,
        }
}

/// Whether a packet without options or extension headers is an ICMP error.
fn is_error(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9) == Some(&1) && matches!(packet.get(20), Some(3 | 11 | 12)),
        Some(6) => packet.get(6) == Some(&58) && matches!(packet.get(40), Some(1..=4)),
        _ => false,
    }
}

/// Whether the appliance says that the policy forbids something.
fn is_prohibited(emission: &Emission) -> bool {
    let packet = &emission.packet;
    is_ours(emission)
        && match packet.first().map(|byte| byte >> 4) {
            Some(4) => packet.get(9) == Some(&1) && packet.get(20..22) == Some(&[3, 13]),
            Some(6) => packet.get(6) == Some(&58) && packet.get(40..42) == Some(&[1, 1]),
            _ => false,
        }
}

/// An ICMP error without its source, and without the TTL of what it quotes and the checksums over that.
fn without_quoted_ttl(packet: &[u8]) -> Vec<u8> {
    let mut packet = without_source(packet);
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 48 => {
            packet[22..24].fill(0);
            packet[36] = 0;
            packet[38..40].fill(0);
        }
        Some(6) if packet.len() >= 88 => {
            packet[42..44].fill(0);
            packet[55] = 0;
        }
        _ => {}
    }
    packet
}

/// Whether a packet is part of a larger one.
fn is_piece(packet: &[u8]) -> bool {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.len() >= 20 && (packet[6] & 0x3f, packet[7]) != (0, 0),
        Some(6) => packet.get(6) == Some(&44),
        _ => false,
    }
}

/// A fragment of IPv6 without the number that it shares with the others.
fn without_identification(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if is_piece(&packet) && packet[0] >> 4 == 6 && packet.len() >= 48 {
        packet[44..48].fill(0);
    }
    packet
}

fn is_reset(packet: &[u8]) -> bool {
    tcp(packet).is_some_and(|(flags, _)| flags & 4 != 0)
}

/// The same without source address and the checksum over it.
fn without_source(packet: &[u8]) -> Vec<u8> {
    let mut packet = plain(packet);
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= 20 => packet[12..16].fill(0),
        Some(6) if packet.len() >= 48 => {
            packet[8..24].fill(0);
            packet[42..44].fill(0);
        }
        _ => {}
    }
    packet
}

/// A packet without what the kernel chooses: TOS, identification, fragment flags, flow label.
fn plain(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.first().map(|byte| byte >> 4) == Some(4) && packet.len() >= 20 {
        packet[1] = 0;
        packet[4..8].fill(0);
        packet[10..12].fill(0);
    }
    if packet.first().map(|byte| byte >> 4) == Some(6) && packet.len() >= 40 {
        packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    }
    packet
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, COOKIES};

    #[test]
    fn architecture_has_the_same_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
        let text = std::fs::read_to_string(path).expect("ARCHITECTURE.md");
        let table = text.split("| difference | ours, and why |").nth(1);
        let rows = table.expect("a table").lines().skip(2);
        let rows = rows.take_while(|row| row.starts_with("| "));
        let said: BTreeSet<&str> = rows.filter_map(|row| row.split(" | ").next()).collect();
        let said: BTreeSet<&str> = said
            .iter()
            .map(|row| row.trim_start_matches("| "))
            .collect();
        let cookies = COOKIES.iter().map(|notion| notion.name);
        let listed: BTreeSet<&str> = ALL.iter().map(|known| known.name).chain(cookies).collect();
        assert_eq!(said, listed);
    }
}
