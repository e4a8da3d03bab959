//! Balanced services as first packets find them: by address and port, with the choice of a server.

use core::net::IpAddr;
use core::ops::RangeInclusive;

use policy::{Config, Forwarding, MAX_SERVERS, MAX_SERVICES, Persistence, Transport};
use time::{Duration, Instant};

use crate::Drop;
use crate::balance::{Balancer, Refusal, SORRY};
use crate::flow::Owner;
use crate::hash::{self, Key};
use crate::packet::Kind;
use crate::persist::Memory;
use crate::record;

/// All services of an appliance.
#[derive(Debug)]
pub struct Services {
    list: heapless::Vec<Service, MAX_SERVICES>,
    /// Which server is chosen.
    pub balancer: Balancer,
    memory: Memory<MEMORY_SETS>,
}

#[derive(Debug)]
struct Service {
    address: IpAddr,
    port: u16,
    transport: Transport,
    direct: bool,
    persistence: Option<Persistence>,
    servers: heapless::Vec<(IpAddr, u16), MAX_SERVERS>,
    sorry: Option<(IpAddr, u16)>,
}

impl Services {
    /// The services of a validated configuration. `key` is secret.
    #[must_use]
    pub fn new(config: &Config, key: Key) -> Self {
        let list = config.services.iter().map(|service| Service {
            address: service.address,
            port: service.port,
            transport: service.transport,
            direct: service.forwarding == Forwarding::DirectReturn,
            persistence: service.persistence,
            servers: service
                .servers
                .iter()
                .map(|s| (s.address, s.port))
                .collect(),
            sorry: service.sorry.as_ref().map(|s| (s.address, s.port)),
        });
        Self {
            list: list.collect(),
            balancer: Balancer::new(config),
            memory: Memory::new(key),
        }
    }

    /// The services of another configuration. Servers of both are as they were, but for their flows, which are to be counted
    /// anew, and their clients stay with them.
    #[must_use]
    pub fn successor(&self, now: Instant, config: &Config) -> Self {
        let mut next = Self::new(config, self.memory.key());
        for (index, service) in self.list.iter().enumerate() {
            for choice in 0..service.servers.len() {
                let new = self.renamed(Owner::new(index, choice), &next);
                if let Some(new) = new.and_then(Owner::get) {
                    next.balancer.adopt(new, &self.balancer, (index, choice));
                }
            }
        }
        next.balancer.rebuild();
        for client in (0..self.clients()).filter_map(|place| self.client(now, place)) {
            let owner = Owner::new(client.service.into(), client.choice.into());
            if let Some((service, choice)) = self.renamed(owner, &next).and_then(Owner::get) {
                let (service, choice) = (service as u8, choice as u8);
                next.set_client(
                    now,
                    &record::Client {
                        service,
                        choice,
                        ..client
                    },
                );
            }
        }
        next
    }

    /// What a server of ours is called among `others`.
    #[must_use]
    pub fn renamed(&self, owner: Owner, others: &Self) -> Option<Owner> {
        let (service, choice) = owner.get()?;
        let own = self.list.get(service)?;
        let index = others.at(own.transport, own.address, own.port)?;
        let other = others.list.get(index)?;
        if choice == usize::from(SORRY) {
            return (own.sorry.is_some() && own.sorry == other.sorry)
                .then_some(Owner::new(index, choice));
        }
        let server = own.servers.get(choice)?;
        let choice = other.servers.iter().position(|other| other == server)?;
        Some(Owner::new(index, choice))
    }

    /// The service at this address and port.
    #[must_use]
    pub fn at(&self, transport: Transport, address: IpAddr, port: u16) -> Option<usize> {
        let mut services = self.list.iter();
        services.position(|s| s.port == port && s.transport == transport && s.address == address)
    }

    /// The server of a service that has this address and port.
    #[must_use]
    pub fn server_at(&self, index: usize, server: (IpAddr, u16)) -> Option<Owner> {
        let service = self.list.get(index)?;
        let choice = service.servers.iter().position(|other| *other == server);
        let sorry = (service.sorry == Some(server)).then_some(SORRY.into());
        Some(Owner::new(index, choice.or(sorry)?))
    }

    /// The service that a packet of this kind to this address and port asks for.
    #[must_use]
    pub fn find(&self, address: IpAddr, port: u16, kind: Kind) -> Option<usize> {
        self.at(transport(kind)?, address, port)
    }

    /// What clients may connect to.
    pub fn doors(&self) -> impl Iterator<Item = (Transport, RangeInclusive<u16>)> {
        let services = self.list.iter();
        services.map(|service| (service.transport, service.port..=service.port))
    }

    /// Whether the servers of a service answer its clients directly.
    #[must_use]
    pub fn is_direct(&self, service: usize) -> bool {
        self.list.get(service).is_some_and(|service| service.direct)
    }

    /// The address and port that clients of a service connect to.
    #[must_use]
    pub fn address(&self, service: usize) -> Option<(IpAddr, u16)> {
        let service = self.list.get(service)?;
        Some((service.address, service.port))
    }

    /// The address and port of the server that a flow belongs to.
    #[must_use]
    pub fn server(&self, owner: Owner) -> Option<(IpAddr, u16)> {
        let (service, choice) = owner.get()?;
        let service = self.list.get(service)?;
        match choice == usize::from(SORRY) {
            true => service.sorry,
            false => service.servers.get(choice).copied(),
        }
    }

    /// The server, of a service that translates, that packets from this address and port come from.
    #[must_use]
    pub fn owner(&self, source: (IpAddr, u16), kind: Kind) -> Option<Owner> {
        let transport = transport(kind)?;
        let mut services = self.list.iter().enumerate();
        services.find_map(|(index, service)| {
            if service.direct || service.transport != transport {
                return None;
            }
            self.server_at(index, source)
        })
    }

    /// The server of a new flow: the one that its client stays with, or a new choice.
    pub fn choose(
        &mut self,
        now: Instant,
        index: usize,
        client: u128,
        port: u16,
    ) -> Result<Owner, Drop> {
        let service = self.list.get(index).ok_or(Drop::NoHealthyServer)?;
        let known = service.persistence.and_then(|persistence| {
            let choice = self
                .memory
                .find(now, index as u8, client, persistence.prefix)?;
            self.balancer.takes(index, choice).then_some(choice)
        });
        let choice = match known {
            Some(choice) => Ok(choice),
            None => self.balancer.choose(now, index, client, port),
        };
        match choice {
            Ok(choice) => Ok(Owner::new(index, choice.into())),
            Err(Refusal::Unhealthy) => Err(Drop::NoHealthyServer),
            Err(Refusal::Full) => Err(Drop::ServersFull),
        }
    }

    /// A flow was opened.
    pub fn opened(&mut self, now: Instant, owner: Owner, client: u128) {
        if let Some((service, choice)) = owner.get() {
            self.balancer.opened(service as u8, choice as u8);
            self.remember(now, service, choice, client);
        }
    }

    /// A flow is over; its client is remembered from now on.
    pub fn closed(&mut self, now: Instant, owner: Owner, client: u128) {
        if let Some((service, choice)) = owner.get() {
            self.balancer.closed(service as u8, choice as u8);
            self.remember(now, service, choice, client);
        }
    }

    /// Forgets who stays with a server.
    pub fn forget(&mut self, service: usize, server: usize) {
        self.memory.forget(service as u8, server as u8);
    }

    /// How many clients can be remembered.
    #[must_use]
    pub const fn clients(&self) -> u32 {
        self.memory.places()
    }

    /// One of those that are.
    #[must_use]
    pub fn client(&self, now: Instant, place: u32) -> Option<record::Client> {
        self.memory.get(now, place)
    }

    /// Remembers a client as the other appliance does.
    pub fn set_client(&mut self, now: Instant, client: &record::Client) {
        let service = self.list.get(usize::from(client.service));
        let Some(persistence) = service.and_then(|service| service.persistence) else {
            return;
        };
        let owner = Owner::new(client.service.into(), client.choice.into());
        if client.choice < SORRY && self.server(owner).is_some() {
            let left = client.left.min(persistence.seconds.into());
            let number = hash::from_words(client.client);
            let (service, choice) = (client.service, client.choice);
            let prefix = persistence.prefix;
            let time = Duration::from_secs(left.into());
            self.memory
                .touch(now, service, number, prefix, choice, time);
        }
    }

    fn remember(&mut self, now: Instant, index: usize, choice: usize, client: u128) {
        let service = self.list.get(index);
        let Some(persistence) = service.and_then(|service| service.persistence) else {
            return;
        };
        // Who was told to come back later is not kept from the real servers.
        if choice < usize::from(SORRY) {
            let time = Duration::from_secs(persistence.seconds.into());
            let (service, choice) = (index as u8, choice as u8);
            self.memory
                .touch(now, service, client, persistence.prefix, choice, time);
        }
    }
}

/// The transport of a packet that can ask for a service.
#[must_use]
pub const fn transport(kind: Kind) -> Option<Transport> {
    match kind {
        Kind::Tcp(_) => Some(Transport::Tcp),
        Kind::Udp => Some(Transport::Udp),
        Kind::EchoRequest
        | Kind::EchoReply
        | Kind::Error
        | Kind::Control
        | Kind::Part
        | Kind::Other => None,
    }
}

/// Clients that are remembered, in sets of four: 24 KB.
const MEMORY_SETS: usize = 256;
