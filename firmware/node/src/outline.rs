//! What programs know an event by: a name that stays, how bad it is, and its parts. Names and parts are those of RFC 8347
//! (ietf-vrrp) where it has one.

use core::fmt::Display;
use core::net::IpAddr;

use filter::Drop;
use policy::Severity;
use vrrp::{Cause, Reason, State};

use crate::event::state;
use crate::{Event, Heard};

/// Takes the parts of an event, one after the other.
pub type Each<'f> = dyn FnMut(&'static str, &dyn Display) + 'f;

/// RFC 8347's notification of a take-over.
const NEW_MASTER: &str = "vrrp-new-master-event";
/// Its notification of adverts that are wrong in themselves.
const PROTOCOL_ERROR: &str = "vrrp-protocol-error-event";
/// Its notification of adverts that do not fit their virtual router.
const ROUTER_ERROR: &str = "vrrp-virtual-router-error-event";

impl Event {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.outline().0
    }

    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.outline().1
    }

    fn outline(&self) -> (&'static str, Severity) {
        use Severity::{Critical, Error, Informational, Notice, Warning};
        match self {
            Self::Closed => ("closed", Critical),
            Self::State { to, .. } => match to {
                State::Active => (NEW_MASTER, Notice),
                State::Fault => ("vrrp-fault", Error),
                State::Initialize | State::Backup => ("vrrp-state-change", Notice),
            },
            Self::Demotion { reason, on } => match (reason, on) {
                (Reason::Operator, true) => ("maintenance-begun", Notice),
                (Reason::Operator, false) => ("maintenance-ended", Notice),
                (_, true) => ("demoted", Warning),
                (_, false) => ("demotion-ended", Notice),
            },
            Self::Priority { .. } => ("priority-change", Notice),
            Self::Silent { routers: 0 } => ("adverts-heard-again", Notice),
            Self::Silent { .. } => ("adverts-silent", Warning),
            Self::Pair(event) => pair(*event),
            Self::HandOver { refusal: None } => ("hand-over", Notice),
            Self::HandOver { refusal: Some(_) } => ("hand-over-refused", Warning),
            Self::Configured { .. } => ("configuration-changed", Notice),
            Self::Trial { .. } => ("configuration-on-trial", Notice),
            Self::Confirmed => ("configuration-confirmed", Notice),
            Self::Reverted => ("configuration-reverted", Warning),
            Self::Link { up: true, .. } => ("link-up", Notice),
            Self::Link { up: false, .. } => ("link-down", Error),
            Self::Track {
                reachable: true, ..
            } => ("neighbours-reachable", Notice),
            Self::Track {
                reachable: false, ..
            } => ("neighbours-silent", Warning),
            Self::Server { failure: None, .. } => ("server-healthy", Notice),
            Self::Server {
                failure: Some(_), ..
            } => ("server-unhealthy", Warning),
            Self::Service { quorum: true, .. } => ("quorum-reached", Notice),
            Self::Service { sorry: true, .. } => ("quorum-lost", Warning),
            Self::Service { .. } => ("quorum-lost", Error),
            Self::Agent { said: Ok(_), .. } => ("agent-report", Informational),
            Self::Agent { said: Err(_), .. } => ("agent-silent", Warning),
            Self::AddressConflict { .. } => ("address-conflict", Error),
            Self::Advert { heard, .. } => match heard {
                Heard::Refused(reason) => match protocol_error(*reason) {
                    Some(_) => (PROTOCOL_ERROR, Warning),
                    None => (ROUTER_ERROR, Warning),
                },
                Heard::Unknown => (PROTOCOL_ERROR, Warning),
                Heard::Carp => ("carp-speaker", Warning),
                Heard::OtherAddresses => (ROUTER_ERROR, Warning),
                Heard::OtherChecksum => ("checksum-form", Notice),
            },
            Self::Cookies { on: true } => ("syn-cookies-on", Warning),
            Self::Cookies { on: false } => ("syn-cookies-off", Notice),
            Self::Rule { .. } => ("rule-match", Notice),
            Self::Dropped { reason, .. } => match reason {
                Drop::RateLimit | Drop::FlowLimit => ("rate-limited", Notice),
                Drop::FlowTableFull
                | Drop::NeighbourTableFull
                | Drop::NoPort
                | Drop::ServersFull => ("table-full", Warning),
                _ => ("frames-dropped", Informational),
            },
            Self::Withheld { .. } => ("events-withheld", Notice),
            Self::Lost { .. } => ("events-lost", Warning),
        }
    }

    /// Tells its parts, one after the other. `own` is the address that this appliance speaks VRRP from.
    pub(crate) fn parts(&self, own: Option<IpAddr>, each: &mut Each<'_>) {
        match self {
            Self::Closed | Self::Confirmed | Self::Reverted => {}
            Self::Configured { flows } => each("flows-over", flows),
            Self::Trial { seconds } => each("seconds", seconds),
            Self::State { from, to, cause } => {
                each("from", &state(*from));
                each("to", &state(*to));
                if *to == State::Active {
                    if let Some(own) = own {
                        each("master-ip-address", &own);
                    }
                    each("new-master-reason", &new_master(*cause).1);
                }
            }
            Self::Demotion { reason, .. } => each("reason", &demotion(*reason)),
            Self::Priority { from, to } => {
                each("from", from);
                each("to", to);
            }
            Self::Silent { routers } => each("routers", routers),
            Self::Pair(event) => pair_parts(*event, each),
            Self::HandOver { refusal } => {
                if let Some(refusal) = refusal {
                    each("reason", refusal);
                }
            }
            Self::Link { port, .. } => each("port", port),
            Self::Track { leg, .. } => each("interface", leg),
            Self::Server {
                address,
                port,
                failure,
            } => {
                each("address", address);
                each("port", port);
                if let Some(failure) = failure {
                    each("reason", failure);
                }
            }
            Self::Service { name, sorry, .. } => {
                each("service", name);
                each("sorry-server", sorry);
            }
            Self::Agent {
                address,
                port,
                said,
            } => {
                each("address", address);
                each("port", port);
                match said {
                    Ok(said) => each("said", said),
                    Err(reason) => each("reason", reason),
                }
            }
            Self::AddressConflict { leg, address, mac } => {
                each("interface", leg);
                each("address", address);
                let [a, b, c, d, e, g] = mac;
                each(
                    "mac",
                    &format_args!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
                );
            }
            Self::Advert {
                leg,
                vrid,
                source,
                heard,
            } => {
                each("interface", leg);
                each("vrid", vrid);
                each("source", source);
                match heard {
                    Heard::Refused(reason) => match protocol_error(*reason) {
                        Some((_, word)) => each("protocol-error-reason", &word),
                        None => each("virtual-router-error-reason", &router_error(*reason)),
                    },
                    Heard::Unknown => each("protocol-error-reason", &"vrid-error"),
                    Heard::OtherAddresses => {
                        each("virtual-router-error-reason", &"address-list-error");
                    }
                    Heard::Carp | Heard::OtherChecksum => {}
                }
            }
            Self::Cookies { .. } => {}
            Self::Rule { rule, decided } => {
                each("rule", rule);
                each("accepted", &decided.accepted);
                each("interface", &decided.leg);
                each("protocol", &decided.protocol);
                each("source", &decided.source);
                each("source-port", &decided.ports.source());
                each("destination", &decided.destination);
                each("destination-port", &decided.ports.destination());
            }
            Self::Dropped { reason, count } => {
                each("reason", reason);
                each("count", count);
            }
            Self::Withheld { kind, count } => {
                each("kind", kind);
                each("count", count);
            }
            Self::Lost { count } => each("count", count),
        }
    }
}

fn pair(event: sync::Event) -> (&'static str, Severity) {
    use Severity::{Error, Notice, Warning};
    use sync::Event as E;
    match event {
        E::Established { .. } => ("peer-found", Notice),
        E::Remembered(_) => ("maintenance-remembered", Notice),
        E::Heard => ("peer-heard", Notice),
        E::Lost => ("peer-lost", Error),
        E::PathUp(_) => ("peer-path-up", Notice),
        E::PathDown(_) => ("peer-path-down", Warning),
        E::Incompatible { .. } => ("peer-incompatible", Error),
        E::Mismatch { .. } => ("configuration-mismatch", Error),
        E::Match => ("configuration-match", Notice),
        E::InSync => ("in-sync", Notice),
        E::OutOfSync => ("not-in-sync", Warning),
    }
}

fn pair_parts(event: sync::Event, each: &mut Each<'_>) {
    use sync::Event as E;
    match event {
        E::Established { version } => each("version", &version),
        E::PathUp(path) | E::PathDown(path) => each("path", &path.0),
        E::Incompatible { oldest, newest } => {
            each("oldest", &oldest);
            each("newest", &newest);
        }
        E::Mismatch { theirs } => each("theirs", &format_args!("{theirs:016x}")),
        E::Remembered(_) | E::Heard | E::Lost | E::Match | E::InSync | E::OutOfSync => {}
    }
}

/// Why it became Active, as RFC 6527 numbers it and RFC 8347 calls it.
pub const fn new_master(cause: Cause) -> (i32, &'static str) {
    match cause {
        Cause::Silence | Cause::PeerLost => (3, "no-response"),
        Cause::WeakerPeer | Cause::Owner => (2, "preempted"),
        _ => (1, "priority"),
    }
}

/// What is wrong with an advert in itself, as RFC 6527 numbers it and RFC 8347 calls it.
pub const fn protocol_error(reason: Drop) -> Option<(i32, &'static str)> {
    match reason {
        Drop::VrrpTtl => Some((1, "ip-ttl-error")),
        Drop::VrrpVersion => Some((2, "version-error")),
        Drop::VrrpChecksum => Some((3, "checksum-error")),
        Drop::VrrpRouter => Some((4, "vrid-error")),
        _ => None,
    }
}

/// What does not fit the virtual router; RFC 8347 knows the first three.
const fn router_error(reason: Drop) -> &'static str {
    match reason {
        Drop::VrrpAddresses => "address-list-error",
        Drop::VrrpInterval => "interval-error",
        Drop::VrrpLength => "packet-length-error",
        Drop::VrrpType => "type-error",
        Drop::VrrpAuthentication => "authentication-error",
        Drop::VrrpReplay => "replay-error",
        Drop::VrrpPeer => "peer-error",
        other => other.name(),
    }
}

/// The word for a reason to be worth less.
pub const fn demotion(reason: Reason) -> &'static str {
    match reason {
        Reason::Link => "link",
        Reason::Track => "track",
        Reason::Sync => "sync",
        Reason::Watchdog => "watchdog",
        Reason::Operator => "operator",
    }
}
