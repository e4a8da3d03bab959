//! The versions of IP over which a site answers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use site::Plan;
use site::plan::Service;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Version {
    /// RFC 791.
    #[serde(rename = "IPv4")]
    V4,
    /// RFC 8200.
    #[serde(rename = "IPv6")]
    V6,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Version {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// This machine itself.
    pub(crate) fn localhost(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// The versions over which users reach the site.
#[must_use]
pub fn versions(plan: &Plan) -> Vec<Version> {
    let service = users_service(plan);
    let both = service.is_some_and(|service| address(plan, service, Version::V6).is_some());
    [Some(Version::V4), both.then_some(Version::V6)]
        .into_iter()
        .flatten()
        .collect()
}

/// The service that users of a rehearsal use: https if there is one.
pub(crate) fn users_service(plan: &Plan) -> Option<&Service> {
    let services = plan.services.iter();
    services.max_by_key(|service| service.port == site::plan::ports::HTTPS)
}

/// The service's virtual address, if there is a server of that version behind it.
pub(crate) fn address(plan: &Plan, service: &Service, version: Version) -> Option<IpAddr> {
    let mut servers = (service.servers.iter()).filter_map(|member| plan.server(&member.server));
    match version {
        Version::V4 => Some(service.address.into()),
        Version::V6 => servers
            .any(|server| server.address6.is_some())
            .then_some(service.address6?.into()),
    }
}
