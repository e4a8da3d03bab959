//! An appliance's state in the names of RFC 8347 (ietf-vrrp), for programs that know them.

use mgmt::events::Event;
use mgmt::{Demotion, MemberStatus, Peer, State, Status};
use serde_json::{Map, Value, json};

/// The state of an appliance as RFC 7951 encodes it, and what RFC 8347 has no name for under `ravelin`.
#[must_use]
pub fn ietf_vrrp(status: &Status, members: &[MemberStatus]) -> Value {
    let mut interfaces: Vec<(String, Map<String, Value>)> = Vec::new();
    for member in members {
        let name = member.member.network.to_string();
        let family = match member.member.address.is_ipv4() {
            true => "ietf-ip:ipv4",
            false => "ietf-ip:ipv6",
        };
        let index = interfaces.iter().position(|(known, _)| *known == name);
        let index = index.unwrap_or_else(|| {
            interfaces.push((name, Map::new()));
            interfaces.len() - 1
        });
        let (_, families) = &mut interfaces[index];
        let vrrp = families
            .entry(family)
            .or_insert_with(|| json!({ "ietf-vrrp:vrrp": { "vrrp-instance": [] } }));
        if let Some(Value::Array(instances)) = vrrp.pointer_mut("/ietf-vrrp:vrrp/vrrp-instance") {
            instances.push(instance(status, member));
        }
    }
    let interface: Vec<Value> = interfaces
        .into_iter()
        .map(|(name, mut families)| {
            families.insert("name".into(), name.into());
            families.into()
        })
        .collect();
    json!({
        "ietf-interfaces:interfaces": { "interface": interface },
        "ravelin": {
            "name": status.name.as_str(),
            "version": status.version.map(|part| part.to_string()).join("."),
            "configuration": format!("{:016x}", status.fingerprint),
            "running": {
                "digest": hex(&status.configuration.digest),
                "unconfirmed": status.configuration.unconfirmed,
                "reverted": status.configuration.reverted,
            },
            "uptime": status.uptime,
            "state": state(status.state),
            "state-since": status.since,
            "demotions": status.demotions.iter().map(|demotion| word(*demotion)).collect::<Vec<_>>(),
            "flows": status.flows,
            "hand-over": status.hand_over.map(|refusal| refusal.to_string()),
            "peer": status.peer.as_ref().map(|peer| json!({
                "name": peer.name.as_str(),
                "state": match peer.peer {
                    Peer::Unknown => "unknown",
                    Peer::Lost => "lost",
                    Peer::Alive { state: of, .. } => state(of),
                },
                "priority": match peer.peer {
                    Peer::Alive { priority, .. } => Some(priority),
                    Peer::Unknown | Peer::Lost => None,
                },
                "same-configuration": peer.same_configuration,
                "in-sync": peer.in_sync,
                "lag": peer.lag,
                "paths": peer.paths.iter().map(|path| json!({
                    "network": path.network.as_str(),
                    "address": path.address,
                    "up": path.up,
                })).collect::<Vec<_>>(),
            })),
        },
    })
}

/// The digest of a configuration as people read it.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

fn instance(status: &Status, member: &MemberStatus) -> Value {
    let of = &member.statistics;
    json!({
        "vrid": member.member.vrid,
        "version": format!("ietf-vrrp:vrrp-v{}", member.version),
        "priority": status.priority,
        "effective-priority": status.effective_priority,
        "state": format!("ietf-vrrp:{}", state(status.state)),
        "is-owner": status.priority == u8::MAX,
        "last-adv-source": member.active,
        "advertise-interval-centi-sec": member.interval,
        "virtual-address": member.member.address,
        "statistics": {
            "master-transitions": of.active_transitions,
            "advertisement-rcvd": of.advertisement_rcvd,
            "advertisement-sent": of.advertisement_sent,
            "interval-errors": of.interval_errors,
            "priority-zero-pkts-rcvd": of.priority_zero_pkts_rcvd,
            "priority-zero-pkts-sent": of.priority_zero_pkts_sent,
            "invalid-type-pkts-rcvd": of.invalid_type_pkts_rcvd,
            "address-list-errors": of.address_list_errors,
            "packet-length-errors": of.packet_length_errors,
            "checksum-errors": of.checksum_errors,
            "version-errors": of.version_errors,
            "ip-ttl-errors": of.ip_ttl_errors,
        },
        "ravelin:authentication-errors": of.authentication_errors,
    })
}

/// RFC 8347 came before RFC 9568, and calls the Active "master".
fn state(state: State) -> &'static str {
    match state {
        State::Initialize => "initialize",
        State::Backup => "backup",
        State::Active => "master",
        State::Fault => "fault",
    }
}

fn word(demotion: Demotion) -> &'static str {
    match demotion {
        Demotion::Link => "link",
        Demotion::Track => "track",
        Demotion::Sync => "sync",
        Demotion::Watchdog => "watchdog",
        Demotion::Operator => "operator",
    }
}

/// An event as a notification (RFC 8040 §6.4), in the names of RFC 8347 where it has them, otherwise under `ravelin`.
#[must_use]
pub fn notification(appliance: &str, time: &str, event: &Event) -> Value {
    let module = |known: bool| if known { "ietf-vrrp" } else { "ravelin" };
    let is_known = NOTIFICATIONS.contains(&event.name.as_str());
    let mut leaves = Map::new();
    let source = event.parts.iter().find(|part| part.name == "source");
    let six = source.is_some_and(|part| part.value.contains(':'));
    for part in &event.parts {
        let (name, value) = (part.name.as_str(), part.value.as_str());
        let name = match name {
            "vrid" if event.name == ROUTER_ERROR => {
                if six {
                    "vrid-v6"
                } else {
                    "vrid-v4"
                }
            }
            name => name,
        };
        let standard = is_known && LEAVES.contains(&(event.name.as_str(), name));
        let value = match (name, value.parse::<u32>()) {
            // Identities have the name of their module.
            ("protocol-error-reason" | "virtual-router-error-reason", _) => {
                let of = IDENTITIES.contains(&value);
                format!("{}:{value}", module(of)).into()
            }
            (_, Ok(number)) => number.into(),
            (_, Err(_)) => match value {
                "true" => true.into(),
                "false" => false.into(),
                text => text.into(),
            },
        };
        let name = match is_known && !standard {
            true => format!("ravelin:{name}"),
            false => name.to_owned(),
        };
        leaves.insert(name, value);
    }
    json!({
        "ietf-restconf:notification": {
            "eventTime": time,
            (format!("{}:{}", module(is_known), event.name)): leaves,
        },
        "ravelin": {
            "name": appliance,
            "number": event.number,
            "severity": event.severity.name(),
            "message": event.words.as_str(),
        },
    })
}

const ROUTER_ERROR: &str = "vrrp-virtual-router-error-event";
/// The notifications of RFC 8347 and what is in them.
const NOTIFICATIONS: [&str; 3] = [
    "vrrp-new-master-event",
    "vrrp-protocol-error-event",
    ROUTER_ERROR,
];
const LEAVES: [(&str, &str); 7] = [
    ("vrrp-new-master-event", "master-ip-address"),
    ("vrrp-new-master-event", "new-master-reason"),
    ("vrrp-protocol-error-event", "protocol-error-reason"),
    (ROUTER_ERROR, "interface"),
    (ROUTER_ERROR, "vrid-v4"),
    (ROUTER_ERROR, "vrid-v6"),
    (ROUTER_ERROR, "virtual-router-error-reason"),
];
/// What can be wrong with an advert, as RFC 8347 calls it.
const IDENTITIES: [&str; 7] = [
    "checksum-error",
    "ip-ttl-error",
    "version-error",
    "vrid-error",
    "address-list-error",
    "interval-error",
    "packet-length-error",
];
