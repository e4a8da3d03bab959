//! The machines of a site with what they were given: appliances with rules, servers with firewalls.

use std::net::IpAddr;

use policy::Forwarding;
use render::{Identity, Material, RenderError};
use site::Plan;
use site::plan::{Network, Port, Role, Server};

use crate::gate::Appliance;
use crate::nft::{NftError, Ruleset};

/// Why a site cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum RackError {
    /// Its configurations cannot be made.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A server's firewall is not understood.
    #[error("{server}: {FIREWALL} {cause}")]
    Firewall {
        /// Name of the server.
        server: String,
        /// Why.
        cause: NftError,
    },
    /// A server has no firewall.
    #[error("{server} has no {FIREWALL}")]
    NoFirewall {
        /// Name of the server.
        server: String,
    },
}

/// Where a server's firewall is.
pub const FIREWALL: &str = "/etc/nftables.conf";

/// A site's plan and everything that enforces it.
#[derive(Clone, Debug)]
pub struct Rack<'a> {
    /// What is intended.
    pub plan: &'a Plan,
    /// The appliances in the order of the plan.
    pub appliances: Vec<Appliance>,
    /// The servers in the order of the plan.
    pub hosts: Vec<Host>,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Name of its network.
    pub network: String,
    /// Addresses that it answers for, virtual ones of direct-return services among them.
    pub addresses: Vec<IpAddr>,
    /// Its firewall.
    pub firewall: Ruleset,
}

/// A machine, or everybody outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Everybody on the side of the provider.
    Internet,
    /// An appliance, by its place in the plan.
    Appliance(usize),
    /// A server, by its place in the plan.
    Server(usize),
}

impl<'a> Rack<'a> {
    /// Renders every machine's configuration, and reads the servers' firewalls back.
    pub fn of(plan: &'a Plan) -> Result<Self, RackError> {
        let mut appliances = Vec::new();
        for appliance in &plan.appliances {
            let (config, rules) = render::appliance::policy(plan, &appliance.name)?;
            appliances.push(Appliance { config, rules });
        }
        let mut hosts = Vec::new();
        for server in &plan.servers {
            hosts.push(host(plan, server, &firewall(plan, server)?)?);
        }
        Ok(Self {
            plan,
            appliances,
            hosts,
        })
    }

    /// Everybody, in the order of a matrix.
    #[must_use]
    pub fn components(&self) -> Vec<Component> {
        let appliances = (0..self.appliances.len()).map(Component::Appliance);
        let servers = (0..self.hosts.len()).map(Component::Server);
        [Component::Internet]
            .into_iter()
            .chain(appliances)
            .chain(servers)
            .collect()
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(&self, component: Component) -> &str {
        match component {
            Component::Internet => "internet",
            Component::Appliance(index) => &self.plan.appliances[index].name,
            Component::Server(index) => &self.hosts[index].name,
        }
    }

    /// The component of this name.
    #[must_use]
    pub fn component(&self, name: &str) -> Option<Component> {
        self.components()
            .into_iter()
            .find(|component| self.name(*component) == name)
    }

    /// The server with this address.
    #[must_use]
    pub fn host_at(&self, address: IpAddr) -> Option<usize> {
        self.hosts
            .iter()
            .position(|host| host.addresses.contains(&address))
    }

    /// The network that a component is in; appliances are in all.
    #[must_use]
    pub fn network(&self, component: Component) -> Option<&'a Network> {
        match component {
            Component::Internet => self
                .plan
                .networks
                .iter()
                .find(|network| network.port == Port::Wan),
            Component::Appliance(_) => None,
            Component::Server(index) => self.plan.network(&self.hosts[index].network),
        }
    }

    /// Every address of a server.
    #[must_use]
    pub fn inside(&self) -> Vec<IpAddr> {
        self.plan
            .servers
            .iter()
            .flat_map(Server::addresses)
            .collect()
    }
}

/// A server behind the firewall of this text.
pub fn host(plan: &Plan, server: &Server, firewall: &str) -> Result<Host, RackError> {
    let direct = plan.services.iter().filter(|service| {
        service.forwarding == Forwarding::DirectReturn
            && service
                .servers
                .iter()
                .any(|member| member.server == server.name)
    });
    let virtual_addresses = direct.flat_map(|service| {
        [IpAddr::V4(service.address)]
            .into_iter()
            .chain(service.address6.map(IpAddr::V6))
    });
    Ok(Host {
        name: server.name.clone(),
        network: server.network.clone(),
        addresses: server.addresses().chain(virtual_addresses).collect(),
        firewall: Ruleset::parse(firewall).map_err(|cause| RackError::Firewall {
            server: server.name.clone(),
            cause,
        })?,
    })
}

/// The text of a server's firewall, taken from among all files that its image gets.
pub fn firewall(plan: &Plan, server: &Server) -> Result<String, RackError> {
    // The firewall does not depend on secrets, so these are none.
    let identity = || Some(Identity::default());
    let material = Material {
        tiers: Role::ALL.map(|role| (role, String::new())).into(),
        server: identity(),
        client: identity(),
        peer: identity(),
        site: identity(),
        sumo_url: Some("none".to_owned()),
        mail: Some(render::server::Mail::default()),
        ssh_host_key: Some("none".to_owned()),
        database_password: Some("none".to_owned()),
        ..Material::default()
    };
    let files = render::server::files(plan, server, &material)?;
    let file = files.into_iter().find(|file| file.path == FIREWALL);
    let text = file.and_then(|file| String::from_utf8(file.bytes).ok());
    text.ok_or_else(|| RackError::NoFirewall {
        server: server.name.clone(),
    })
}
