//! What must hold for balanced services and their checks.

use core::net::IpAddr;

use super::{is_host, is_unicast_ip};
use crate::{Check, CheckKind, Config, ConfigError, Forwarding, Server, Service, Trust};

impl Config {
    pub(super) fn check_service(&self, index: usize, service: &Service) -> Result<(), ConfigError> {
        let &Service {
            address,
            port,
            transport,
            ref servers,
            quorum,
            ..
        } = service;
        if port == 0 || service.agent == Some(0) {
            return Err(ConfigError::ServicePort { service: index });
        }
        if !self.is_virtual(address) {
            return Err(ConfigError::ServiceAddress {
                service: index,
                address,
            });
        }
        let mut earlier = self.services.iter().take(index);
        if let Some(first) = earlier.position(|other| {
            (other.address, other.port, other.transport) == (address, port, transport)
        }) {
            return Err(ConfigError::SharedService {
                first,
                second: index,
            });
        }
        if servers.is_empty() {
            return Err(ConfigError::NoServers { service: index });
        }
        for (n, server) in servers.iter().enumerate() {
            self.check_server(index, n, service, server)?;
            let mut earlier = servers.iter().take(n);
            let same =
                |other: &Server| (other.address, other.port) == (server.address, server.port);
            if let Some(first) = earlier.position(same) {
                return Err(ConfigError::SharedServer {
                    service: index,
                    first,
                    second: n,
                });
            }
        }
        if let Some(sorry) = &service.sorry {
            self.check_server(index, servers.len(), service, sorry)?;
        }
        let count = servers.len();
        if quorum == 0 || usize::from(quorum) > count {
            return Err(ConfigError::Quorum {
                service: index,
                quorum,
                servers: count,
            });
        }
        if let Some(persistence) = service.persistence {
            let most = if address.is_ipv4() { 32 } else { 128 };
            if !(1..=most).contains(&persistence.prefix) || persistence.seconds == 0 {
                return Err(ConfigError::Persistence {
                    service: index,
                    prefix: persistence.prefix,
                    most,
                    seconds: persistence.seconds,
                });
            }
        }
        check_check(index, &service.check)?;
        self.check_trust(index, &service.check)
    }

    /// Verifying needs an authority and a time.
    fn check_trust(&self, service: usize, check: &Check) -> Result<(), ConfigError> {
        let CheckKind::Https {
            trust: Trust::Anchor(anchor),
            ..
        } = check.kind
        else {
            return Ok(());
        };
        let count = self.anchors.len();
        if usize::from(anchor) >= count {
            return Err(ConfigError::CheckAnchor {
                service,
                anchor,
                count,
            });
        }
        match self.made {
            0 => Err(ConfigError::CheckTime { service }),
            _ => Ok(()),
        }
    }

    /// A sorry server counts on from the last server.
    fn check_server(
        &self,
        index: usize,
        n: usize,
        service: &Service,
        server: &Server,
    ) -> Result<(), ConfigError> {
        let (service_index, server_index) = (index, n);
        if server.port == 0 {
            return Err(ConfigError::ServerPort {
                service: service_index,
                server: server_index,
            });
        }
        if server.address.is_ipv4() != service.address.is_ipv4() {
            return Err(ConfigError::ServerVersion {
                service: service_index,
                server: server_index,
                address: server.address,
            });
        }
        if self.is_ours(server.address) || !is_unicast_ip(server.address) {
            return Err(ConfigError::ServerAddress {
                service: service_index,
                server: server_index,
            });
        }
        let direct = match service.forwarding {
            Forwarding::Nat => true,
            Forwarding::DirectReturn => {
                server.port == service.port && self.is_neighbour(server.address)
            }
        };
        if !direct {
            return Err(ConfigError::DirectReturn {
                service: service_index,
                server: server_index,
            });
        }
        Ok(())
    }

    fn is_neighbour(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| match address {
            IpAddr::V4(address) => is_host(interface.subnet(), address),
            IpAddr::V6(address) => interface
                .subnet6()
                .is_some_and(|subnet| subnet.contains(address)),
        })
    }
}

fn check_check(service: usize, check: &Check) -> Result<(), ConfigError> {
    let ported = check.port != 0 || check.kind == CheckKind::Ping;
    let counts = [check.interval_ms, check.timeout_ms].contains(&0);
    if !ported || counts || check.rise == 0 || check.fall == 0 {
        return Err(ConfigError::CheckZero { service });
    }
    if check.jitter > MAX_JITTER {
        return Err(ConfigError::Jitter {
            service,
            percent: check.jitter,
        });
    }
    if !can_be_asked(&check.kind) {
        return Err(ConfigError::CheckQuestion { service });
    }
    Ok(())
}

/// Whether a check's texts fit into its question: they are sent as they are.
fn can_be_asked(kind: &CheckKind) -> bool {
    match kind {
        CheckKind::Ping | CheckKind::Tcp | CheckKind::Mysql => true,
        CheckKind::Http {
            host,
            path,
            lowest,
            highest,
        }
        | CheckKind::Https {
            host,
            path,
            lowest,
            highest,
            ..
        } => {
            // No blank or line break that would end the request line or add a header (RFC 9112 §3).
            let clean = [host, path]
                .iter()
                .all(|text| text.bytes().all(|b| b.is_ascii_graphic()));
            clean && path.starts_with('/') && lowest <= highest && (100..1000).contains(lowest)
        }
        CheckKind::Dns { name } => {
            // RFC 1035 §2.3.4; the root has no label.
            let clean = name.bytes().all(|b| b.is_ascii_graphic());
            let name = name.strip_suffix('.').unwrap_or(name);
            let mut labels = name.split('.');
            clean && (name.is_empty() || labels.all(|label| (1..64).contains(&label.len())))
        }
    }
}

/// Percent.
const MAX_JITTER: u8 = 50;
