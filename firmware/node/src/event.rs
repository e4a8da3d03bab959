//! What a person should know, as values of fixed size.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use filter::Drop;
use health::Reason;
use health::agent::Said;
use mgmt::Refusal;
use policy::Name;
use vrrp::{Cause, Reason as Demotion, State};
use wire::ethernet::Mac;

use crate::outline::demotion;
use crate::{Decided, Heard};

/// What the board should log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is no valid configuration: nothing is forwarded, nothing answered.
    Closed,
    /// All virtual routers changed their state.
    State {
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// There is one more reason, or one less, to be worth less than was configured.
    Demotion {
        /// The reason.
        reason: Demotion,
        /// Whether it is there now.
        on: bool,
    },
    /// What the appliance is worth has changed.
    Priority {
        /// Before.
        from: u8,
        /// Now.
        to: u8,
    },
    /// Which virtual routers hear no adverts although the peer is Active: one bit each, 0 when all do again.
    Silent {
        /// The routers, in the order of the configuration.
        routers: u16,
    },
    /// About the session with the peer.
    Pair(sync::Event),
    /// How a hand-over to the peer ended; `None` if it is Active now.
    HandOver {
        /// Why not.
        refusal: Option<Refusal>,
    },
    /// It runs another configuration from now on.
    Configured {
        /// How many flows are over by that.
        flows: u32,
    },
    /// It does so for a time, unless somebody confirms it.
    Trial {
        /// How long.
        seconds: u16,
    },
    /// Somebody has: it stays.
    Confirmed,
    /// Nobody has: the configuration before runs again.
    Reverted,
    /// A port gained or lost its carrier.
    Link {
        /// Index of the port.
        port: u8,
        /// Whether it has a carrier now.
        up: bool,
    },
    /// The tracked neighbours of a leg fell silent, or one of them answers again.
    Track {
        /// Name of the network.
        leg: Name,
        /// Whether a neighbour answers.
        reachable: bool,
    },
    /// A real server passed or failed its checks.
    Server {
        /// Its address.
        address: IpAddr,
        /// The port that is checked; 0 for ping.
        port: u16,
        /// `None` if it is healthy now, otherwise why not.
        failure: Option<Reason>,
    },
    /// A service has its quorum of healthy servers, or no longer.
    Service {
        /// Its name.
        name: Name,
        /// Whether it has.
        quorum: bool,
        /// Whether a sorry server answers otherwise.
        sorry: bool,
    },
    /// The agent beside a real server said something new, or fell silent.
    Agent {
        /// The server's address.
        address: IpAddr,
        /// The agent's port.
        port: u16,
        /// All that it ever said, or why nothing is heard from it; what it said still counts then.
        said: Result<Said, Reason>,
    },
    /// Somebody claims an address of ours by ARP or neighbour discovery.
    AddressConflict {
        /// Name of the network.
        leg: Name,
        /// The address.
        address: IpAddr,
        /// Who claims it.
        mac: Mac,
    },
    /// Somebody advertises a virtual router in a way that a person should know of.
    Advert {
        /// Name of the network.
        leg: Name,
        /// The virtual router.
        vrid: u8,
        /// Who advertises it.
        source: IpAddr,
        /// What is to know.
        heard: Heard,
    },
    /// SYNs are answered with cookies, since there are too many; or no longer.
    Cookies {
        /// Whether they are.
        on: bool,
    },
    /// A rule with `log` decided about a packet.
    Rule {
        /// Index of the rule; its name is known to whoever has the site file.
        rule: u16,
        /// What it decided.
        decided: Decided,
    },
    /// Frames dropped since the last such event about this reason.
    Dropped {
        /// Why.
        reason: Drop,
        /// How many.
        count: u32,
    },
    /// Events that collectors were not told of, because there were too many of their kind.
    Withheld {
        /// Their name.
        kind: &'static str,
        /// How many.
        count: u32,
    },
    /// Events that were not taken in time.
    Lost {
        /// How many.
        count: u32,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => {
                f.write_str("closed: no valid configuration; nothing is forwarded or answered")
            }
            Self::State { from, to, cause } => {
                write!(f, "{} -> {}: ", state(*from), state(*to))?;
                write_cause(f, *cause)
            }
            Self::Demotion { reason, on } => {
                let word = demotion(*reason);
                match on {
                    true => write!(f, "stands back: {word}"),
                    false => write!(f, "stands back no longer: {word}"),
                }
            }
            Self::Priority { from, to } => write!(f, "priority {from} -> {to}"),
            Self::Silent { routers: 0 } => {
                f.write_str("adverts of the Active are heard everywhere again")
            }
            Self::Silent { routers } => write!(
                f,
                "the peer is Active, but no adverts are heard for routers {routers:#b}: a path is cut"
            ),
            Self::Pair(event) => write_pair(f, *event),
            Self::HandOver { refusal: None } => f.write_str("handed over to the peer"),
            Self::HandOver {
                refusal: Some(refusal),
            } => write!(f, "not handed over: {refusal}"),
            Self::Configured { flows: 0 } => {
                f.write_str("runs another configuration; all flows go on")
            }
            Self::Configured { flows } => {
                write!(f, "runs another configuration; flows over by that: {flows}")
            }
            Self::Trial { seconds } => {
                write!(
                    f,
                    "the configuration before comes back in {seconds} s unless this one is confirmed"
                )
            }
            Self::Confirmed => f.write_str("the configuration is confirmed"),
            Self::Reverted => {
                f.write_str("NOT CONFIRMED IN TIME: back to the configuration before")
            }
            Self::Link { port, up } => {
                write!(
                    f,
                    "port {port}: {}",
                    if *up { "carrier" } else { "no carrier" }
                )
            }
            Self::Track {
                leg,
                reachable: true,
            } => write!(f, "{leg}: neighbours answer"),
            Self::Track {
                leg,
                reachable: false,
            } => {
                write!(f, "{leg}: no tracked neighbour answers")
            }
            Self::Server {
                address,
                port,
                failure,
            } => {
                f.write_str("server ")?;
                write_socket(f, *address, *port)?;
                match failure {
                    None => f.write_str(" is healthy"),
                    Some(reason) => write!(f, " is unhealthy: {reason}"),
                }
            }
            Self::Service {
                name,
                quorum,
                sorry,
            } => f.write_fmt(format_args!(
                "service {name} {}",
                quorum_words(*quorum, *sorry)
            )),
            Self::Agent {
                address,
                port,
                said,
            } => {
                f.write_str("agent ")?;
                write_socket(f, *address, *port)?;
                match said {
                    Ok(said) => write!(f, " says {said}"),
                    Err(reason) => write!(f, " says nothing: {reason}"),
                }
            }
            Self::AddressConflict {
                leg,
                address,
                mac: [a, b, c, d, e, g],
            } => write!(
                f,
                "{leg}: {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x} claims our address {address}"
            ),
            Self::Advert {
                leg,
                vrid,
                source,
                heard,
            } => {
                write!(f, "{leg}: {source} advertises virtual router {vrid}")?;
                match heard {
                    Heard::Refused(reason) => write!(f, ", and is refused: {reason}"),
                    heard => f.write_str(words(*heard)),
                }
            }
            Self::Cookies { on } => f.write_str(cookie_words(*on)),
            Self::Rule { rule, decided } => write!(f, "rule {rule} {decided}"),
            Self::Dropped { reason, count } => write!(f, "dropped {count}: {reason}"),
            Self::Withheld { kind, count } => {
                write!(f, "{count} more events {kind} were not sent to collectors")
            }
            Self::Lost { count } => write!(f, "{count} events lost"),
        }
    }
}

/// The words of `Display`, put together on the host: only their numbers cross the serial line.
#[cfg(feature = "defmt")]
impl defmt::Format for Event {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self {
            Self::Closed => {
                defmt::write!(
                    f,
                    "closed: no valid configuration; nothing is forwarded or answered"
                );
            }
            Self::State { from, to, cause } => {
                defmt::write!(f, "{=str} -> {=str}: ", state(*from), state(*to));
                match cause {
                    Cause::Started => defmt::write!(f, "started"),
                    Cause::Stopped => defmt::write!(f, "stopped"),
                    Cause::Silence => defmt::write!(f, "no advertisement in time"),
                    Cause::Owner => defmt::write!(f, "owner of the addresses"),
                    Cause::WeakerPeer => defmt::write!(f, "peer has the lower priority"),
                    Cause::StrongerPeer { router, priority } => {
                        defmt::write!(
                            f,
                            "peer advertises priority {=u8} for router {=u8}",
                            priority,
                            router
                        );
                    }
                    Cause::SplitBrain { priority } => {
                        defmt::write!(f, "peer is Active too, with priority {=u8}", priority);
                    }
                    Cause::PeerLost => defmt::write!(f, "peer is silent on every path"),
                    Cause::PeerGone => defmt::write!(f, "peer is no longer able to be Active"),
                    Cause::Relief => defmt::write!(f, "peer asked to be relieved"),
                    Cause::HandedOver => defmt::write!(f, "handed over to the peer"),
                    Cause::Stalled => defmt::write!(f, "was away for too long"),
                    Cause::LinkLost { port } => defmt::write!(f, "port {=u8} has no carrier", port),
                    Cause::TrackLost { track } => {
                        defmt::write!(f, "tracked condition {=u8} is bad", track);
                    }
                    Cause::Repaired => defmt::write!(f, "nothing is broken any more"),
                }
            }
            Self::Demotion { reason, on: true } => {
                defmt::write!(f, "stands back: {=str}", demotion(*reason));
            }
            Self::Demotion { reason, on: false } => {
                defmt::write!(f, "stands back no longer: {=str}", demotion(*reason));
            }
            Self::Priority { from, to } => {
                defmt::write!(f, "priority {=u8} -> {=u8}", from, to);
            }
            Self::Silent { routers: 0 } => {
                defmt::write!(f, "adverts of the Active are heard everywhere again");
            }
            Self::Silent { routers } => {
                defmt::write!(
                    f,
                    "the peer is Active, but no adverts are heard for routers {=u16:b}: a path is cut",
                    routers
                );
            }
            Self::Pair(event) => format_pair(f, *event),
            Self::HandOver { refusal: None } => defmt::write!(f, "handed over to the peer"),
            Self::HandOver {
                refusal: Some(refusal),
            } => {
                defmt::write!(f, "not handed over: {}", defmt::Display2Format(refusal));
            }
            Self::Configured { flows } => {
                defmt::write!(
                    f,
                    "runs another configuration; flows over by that: {=u32}",
                    flows
                );
            }
            Self::Trial { seconds } => {
                defmt::write!(
                    f,
                    "the configuration before comes back in {=u16} s unless this one is confirmed",
                    seconds
                );
            }
            Self::Confirmed => defmt::write!(f, "the configuration is confirmed"),
            Self::Reverted => {
                defmt::write!(f, "NOT CONFIRMED IN TIME: back to the configuration before");
            }
            Self::Link { port, up: true } => defmt::write!(f, "port {=u8}: carrier", port),
            Self::Link { port, up: false } => defmt::write!(f, "port {=u8}: no carrier", port),
            Self::Track {
                leg,
                reachable: true,
            } => {
                defmt::write!(f, "{=str}: neighbours answer", leg.as_str());
            }
            Self::Track {
                leg,
                reachable: false,
            } => {
                defmt::write!(f, "{=str}: no tracked neighbour answers", leg.as_str());
            }
            Self::Server {
                address,
                port,
                failure: None,
            } => {
                defmt::write!(f, "server {}:{=u16} is healthy", address, port);
            }
            Self::Server {
                address,
                port,
                failure: Some(reason),
            } => {
                defmt::write!(
                    f,
                    "server {}:{=u16} is unhealthy: {}",
                    address,
                    port,
                    reason
                );
            }
            Self::Service {
                name,
                quorum,
                sorry,
            } => {
                defmt::write!(
                    f,
                    "service {=str} {=str}",
                    name.as_str(),
                    quorum_words(*quorum, *sorry)
                );
            }
            Self::Agent {
                address,
                port,
                said: Ok(said),
            } => {
                defmt::write!(f, "agent {}:{=u16} says {}", address, port, said);
            }
            Self::Agent {
                address,
                port,
                said: Err(reason),
            } => {
                defmt::write!(f, "agent {}:{=u16} says nothing: {}", address, port, reason);
            }
            Self::AddressConflict {
                leg,
                address,
                mac: [g, h, i, j, k, l],
            } => {
                defmt::write!(
                    f,
                    "{=str}: {=u8:02x}:{=u8:02x}:{=u8:02x}:{=u8:02x}:{=u8:02x}:{=u8:02x} claims our address {}",
                    leg.as_str(),
                    g,
                    h,
                    i,
                    j,
                    k,
                    l,
                    address
                );
            }
            Self::Advert {
                leg,
                vrid,
                source,
                heard,
            } => {
                defmt::write!(
                    f,
                    "{=str}: {} advertises virtual router {=u8}",
                    leg.as_str(),
                    source,
                    vrid
                );
                match heard {
                    Heard::Refused(reason) => {
                        defmt::write!(f, ", and is refused: {=str}", reason.name());
                    }
                    heard => defmt::write!(f, "{=str}", words(*heard)),
                }
            }
            Self::Cookies { on } => defmt::write!(f, "{=str}", cookie_words(*on)),
            Self::Rule { rule, decided } => defmt::write!(f, "rule {=u16} {}", rule, decided),
            Self::Dropped { reason, count } => {
                defmt::write!(f, "dropped {=u32}: {=str}", count, reason.name());
            }
            Self::Withheld { kind, count } => {
                defmt::write!(
                    f,
                    "{=u32} more events {=str} were not sent to collectors",
                    count,
                    kind
                );
            }
            Self::Lost { count } => defmt::write!(f, "{=u32} events lost", count),
        }
    }
}

const fn quorum_words(quorum: bool, sorry: bool) -> &'static str {
    match (quorum, sorry) {
        (true, _) => "has its quorum of servers",
        (false, true) => "has too few healthy servers: the sorry server answers",
        (false, false) => "has too few healthy servers",
    }
}

const fn cookie_words(on: bool) -> &'static str {
    match on {
        true => "too many half-open connections: answering with syn cookies",
        false => "no syn cookies are out any more",
    }
}

/// What follows the words about an advertisement.
const fn words(heard: Heard) -> &'static str {
    match heard {
        Heard::Refused(reason) => reason.name(),
        Heard::Unknown => ", which is none of ours",
        Heard::Carp => " by CARP",
        Heard::OtherAddresses => " with other addresses than ours",
        Heard::OtherChecksum => " with the other form of checksum: it may not understand ours",
    }
}

/// A state's name as RFC 9568 has it.
#[must_use]
pub const fn state(state: State) -> &'static str {
    match state {
        State::Initialize => "Initialize",
        State::Backup => "Backup",
        State::Active => "Active",
        State::Fault => "Fault",
    }
}

/// Address and port, or the address alone where there is no port.
fn write_socket(f: &mut fmt::Formatter<'_>, address: IpAddr, port: u16) -> fmt::Result {
    match port {
        0 => write!(f, "{address}"),
        port => write!(f, "{}", SocketAddr::new(address, port)),
    }
}

fn write_cause(f: &mut fmt::Formatter<'_>, cause: Cause) -> fmt::Result {
    match cause {
        Cause::Started => f.write_str("started"),
        Cause::Stopped => f.write_str("stopped"),
        Cause::Silence => f.write_str("no advertisement in time"),
        Cause::Owner => f.write_str("owner of the addresses"),
        Cause::WeakerPeer => f.write_str("peer has the lower priority"),
        Cause::StrongerPeer { router, priority } => {
            write!(f, "peer advertises priority {priority} for router {router}")
        }
        Cause::SplitBrain { priority } => {
            write!(f, "peer is Active too, with priority {priority}")
        }
        Cause::PeerLost => f.write_str("peer is silent on every path"),
        Cause::PeerGone => f.write_str("peer is no longer able to be Active"),
        Cause::Relief => f.write_str("peer asked to be relieved"),
        Cause::HandedOver => f.write_str("handed over to the peer"),
        Cause::Stalled => f.write_str("was away for too long"),
        Cause::LinkLost { port } => write!(f, "port {port} has no carrier"),
        Cause::TrackLost { track } => write!(f, "tracked condition {track} is bad"),
        Cause::Repaired => f.write_str("nothing is broken any more"),
    }
}

fn write_pair(f: &mut fmt::Formatter<'_>, event: sync::Event) -> fmt::Result {
    use sync::Event as E;
    match event {
        E::Established { version } => write!(f, "peer: session of version {version}"),
        E::Remembered(_) => f.write_str("peer: it remembers that this appliance stands back"),
        E::Heard => f.write_str("peer: heard"),
        E::Lost => f.write_str("peer: silent on every path"),
        E::PathUp(path) => write!(f, "peer: heard on path {}", path.0),
        E::PathDown(path) => write!(f, "peer: silent on path {}", path.0),
        E::Incompatible { oldest, newest } => {
            write!(
                f,
                "peer: speaks versions {oldest} to {newest} only, update one of the two"
            )
        }
        E::Mismatch { theirs } => write!(
            f,
            "peer: HAS ANOTHER CONFIGURATION ({theirs:016x}), apply the same to both"
        ),
        E::Match => f.write_str("peer: has the same configuration"),
        E::InSync => f.write_str("peer: flows are in sync"),
        E::OutOfSync => f.write_str("peer: flows are not in sync"),
    }
}

#[cfg(feature = "defmt")]
fn format_pair(f: defmt::Formatter<'_>, event: sync::Event) {
    use sync::Event as E;
    match event {
        E::Established { version } => defmt::write!(f, "peer: session of version {=u8}", version),
        E::Remembered(_) => defmt::write!(f, "peer: it remembers that this appliance stands back"),
        E::Heard => defmt::write!(f, "peer: heard"),
        E::Lost => defmt::write!(f, "peer: silent on every path"),
        E::PathUp(path) => defmt::write!(f, "peer: heard on path {=u8}", path.0),
        E::PathDown(path) => defmt::write!(f, "peer: silent on path {=u8}", path.0),
        E::Incompatible { oldest, newest } => defmt::write!(
            f,
            "peer: speaks versions {=u8} to {=u8} only, update one of the two",
            oldest,
            newest
        ),
        E::Mismatch { theirs } => defmt::write!(
            f,
            "peer: HAS ANOTHER CONFIGURATION ({=u64:016x}), apply the same to both",
            theirs
        ),
        E::Match => defmt::write!(f, "peer: has the same configuration"),
        E::InSync => defmt::write!(f, "peer: flows are in sync"),
        E::OutOfSync => defmt::write!(f, "peer: flows are not in sync"),
    }
}
