//! What must hold for translations and limits.

use core::net::IpAddr;

use super::is_unicast_ip;
use crate::{Config, ConfigError, Limit, LimitKind, Nat, Prefix, Prefix6, Scope};

impl Config {
    pub(super) fn check_nat(&self, index: usize, nat: &Nat) -> Result<(), ConfigError> {
        match *nat {
            Nat::Source {
                source,
                to,
                address,
                first,
                last,
            } => {
                self.check_nat_interface(index, to)?;
                self.check_nat_address(index, address.into())?;
                check_ports(index, first, last)?;
                if source.length > 32 || Prefix::of(source.address, source.length) != source {
                    return Err(ConfigError::NatPrefix { nat: index });
                }
            }
            Nat::Destination {
                transport,
                address,
                first,
                last,
                server,
                server_port,
            } => {
                self.check_nat_address(index, address)?;
                check_ports(index, first, last)?;
                let same = server.is_ipv4() == address.is_ipv4();
                if !same || self.is_ours(server) || !is_unicast_ip(server) {
                    return Err(ConfigError::NatServer {
                        nat: index,
                        address: server,
                    });
                }
                if server_port == 0 || server_port.checked_add(last - first).is_none() {
                    return Err(ConfigError::NatServerPorts {
                        nat: index,
                        port: server_port,
                        count: u32::from(last - first) + 1,
                    });
                }
                let service = self.services.iter().position(|service| {
                    (service.address, service.transport) == (address, transport)
                        && (first, last) == (service.port, service.port)
                });
                if let Some(service) = service {
                    return Err(ConfigError::NatService {
                        nat: index,
                        service,
                    });
                }
            }
            Nat::Prefix6 {
                to,
                inside,
                outside,
            } => {
                self.check_nat_interface(index, to)?;
                let clean = |it: Prefix6| Prefix6::of(it.address, it.length) == it;
                // RFC 6296 §3.1: the length is that of both, and leaves room for the checksum's word.
                let length = (1..=64).contains(&inside.length) && inside.length == outside.length;
                if !length || !clean(inside) || !clean(outside) || inside.overlaps(outside) {
                    return Err(ConfigError::NatPrefix { nat: index });
                }
            }
        }
        match self.nat.iter().take(index).position(|by| hides(by, nat)) {
            Some(by) => Err(ConfigError::NatHidden { nat: index, by }),
            None => Ok(()),
        }
    }

    fn check_nat_interface(&self, nat: usize, interface: u8) -> Result<(), ConfigError> {
        if usize::from(interface) >= self.interfaces.len() {
            return Err(ConfigError::NatInterface { nat, interface });
        }
        Ok(())
    }

    fn check_nat_address(&self, nat: usize, address: IpAddr) -> Result<(), ConfigError> {
        if !self.is_virtual(address) {
            return Err(ConfigError::NatAddress { nat, address });
        }
        Ok(())
    }
}

fn check_ports(nat: usize, first: u16, last: u16) -> Result<(), ConfigError> {
    if first == 0 || first > last {
        return Err(ConfigError::NatPorts { nat, first, last });
    }
    Ok(())
}

/// Whether nothing is left for `nat` behind `by`, which comes first. Sources may be listed twice if the translation
/// is the same: a set's prefixes may overlap.
fn hides(by: &Nat, nat: &Nat) -> bool {
    match (*by, *nat) {
        (
            Nat::Source {
                source,
                to,
                address,
                first,
                last,
            },
            Nat::Source {
                source: s,
                to: t,
                address: a,
                first: f,
                last: l,
            },
        ) => {
            let another = (address, first, last) != (a, f, l);
            another && to == t && source.length <= s.length && source.contains(s.address)
        }
        (
            Nat::Destination {
                transport,
                address,
                first,
                last,
                ..
            },
            Nat::Destination {
                transport: t,
                address: a,
                first: f,
                last: l,
                ..
            },
        ) => (transport, address) == (t, a) && first <= f && last >= l,
        (
            Nat::Prefix6 { to, inside, .. },
            Nat::Prefix6 {
                to: t, inside: i, ..
            },
        ) => to == t && inside.length <= i.length && inside.contains(i.address),
        (Nat::Source { .. }, Nat::Destination { .. } | Nat::Prefix6 { .. })
        | (Nat::Destination { .. }, Nat::Source { .. } | Nat::Prefix6 { .. })
        | (Nat::Prefix6 { .. }, Nat::Source { .. } | Nat::Destination { .. }) => false,
    }
}

pub(super) fn check_limit(index: usize, limit: &Limit) -> Result<(), ConfigError> {
    let zero = match limit.kind {
        LimitKind::Rate { per_second, burst } => per_second == 0 || burst == 0,
        LimitKind::Flows { max } => max == 0,
    };
    if zero {
        return Err(ConfigError::LimitZero { limit: index });
    }
    match limit.scope {
        Scope::Source { prefix, prefix6 }
            if !(1..=32).contains(&prefix) || !(1..=128).contains(&prefix6) =>
        {
            Err(ConfigError::LimitPrefix {
                limit: index,
                prefix,
                prefix6,
            })
        }
        Scope::Source { .. } | Scope::Rule => Ok(()),
    }
}
