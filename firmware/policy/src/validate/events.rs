//! Collectors of events.

use core::net::IpAddr;

use super::{ConfigError, is_unicast_ip};
use crate::{Collector, Config, Interface};

impl Config {
    /// Collectors are machines of others that a route leads to, each told once.
    pub(super) fn check_events(&self) -> Result<(), ConfigError> {
        let events = &self.events;
        for of in [&events.syslog, &events.snmp] {
            for (index, collector) in of.iter().enumerate() {
                self.check_collector(*collector)?;
                if of.iter().take(index).any(|other| other == collector) {
                    let address = collector.address;
                    return Err(ConfigError::SharedCollector { address });
                }
            }
        }
        if !events.snmp.is_empty() && events.community.is_empty() {
            return Err(ConfigError::NoCommunity);
        }
        Ok(())
    }

    fn check_collector(&self, Collector { address, port }: Collector) -> Result<(), ConfigError> {
        let on = |interface: &Interface| match address {
            IpAddr::V4(address) => interface.subnet().contains(address),
            IpAddr::V6(address) => (interface.subnet6()).is_some_and(|net| net.contains(address)),
        };
        let default = match address {
            IpAddr::V4(_) => self.default_route.is_some(),
            IpAddr::V6(_) => self.default_route6.is_some(),
        };
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        if port == 0 || self.is_ours(address) || link_local || !is_unicast_ip(address) {
            return Err(ConfigError::Collector { address });
        }
        match default || self.interfaces.iter().any(on) {
            true => Ok(()),
            false => Err(ConfigError::CollectorRoute { address }),
        }
    }
}
