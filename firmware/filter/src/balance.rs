//! Which real server gets a new flow (the schedulers of IPVS, in their words where they have one).

use core::net::IpAddr;

use policy::{Balance, Config, MAX_SERVERS, MAX_SERVICES};
use time::{Duration, Instant};

use crate::hash::{self, Key};
use crate::maglev::{Candidate, Table};

/// In place of a server's index: the sorry server.
pub const SORRY: u8 = MAX_SERVERS as u8;

/// Why a service has no server for a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Fewer healthy servers than the quorum, or all drained, and no sorry server.
    Unhealthy,
    /// All that are left have as many flows as they may have.
    Full,
}

/// All services' servers: who is healthy, how much each takes, how many flows it has.
#[derive(Debug)]
pub struct Balancer {
    pools: heapless::Vec<Pool, MAX_SERVICES>,
}

#[derive(Debug)]
struct Pool {
    balance: Balance,
    quorum: u8,
    slow_start: Duration,
    sorry: bool,
    servers: heapless::Vec<Server, MAX_SERVERS>,
    /// For [`Balance::Maglev`] only; follows health and weights.
    table: Table,
}

#[derive(Clone, Debug)]
struct Server {
    /// Hash of address and port, for the deterministic choices.
    identity: u32,
    weight: u8,
    max_flows: u32,
    agent_max: Option<u32>,
    healthy: bool,
    drained: bool,
    /// What the server's agent says it can take.
    percent: u8,
    flows: u32,
    /// When it became healthy; `None` if its share need not grow any more.
    back: Option<Instant>,
    /// Its credit in the smooth weighted round robin.
    credit: i32,
}

impl Balancer {
    /// The servers of a validated configuration; none is healthy yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let pools = config.services.iter().map(|service| {
            let servers = service.servers.iter().map(|server| Server {
                identity: identity(server.address, server.port),
                weight: server.weight,
                max_flows: server.max_flows,
                agent_max: None,
                healthy: false,
                drained: false,
                percent: 100,
                flows: 0,
                back: None,
                credit: 0,
            });
            Pool {
                balance: service.balance,
                quorum: service.quorum.max(1),
                slow_start: Duration::from_secs(service.slow_start.into()),
                sorry: service.sorry.is_some(),
                servers: servers.collect(),
                table: Table::EMPTY,
            }
        });
        Self {
            pools: pools.collect(),
        }
    }

    /// The server with this name is as another configuration's was, but for its flows. [`Self::rebuild`] follows.
    pub fn adopt(
        &mut self,
        (service, server): (usize, usize),
        old: &Self,
        (its_service, its_server): (usize, usize),
    ) {
        let old = old.pools.get(its_service);
        let old = old.and_then(|pool| pool.servers.get(its_server));
        if let (Some(entry), Some(old)) = (self.server(service, server), old) {
            entry.agent_max = old.agent_max;
            entry.healthy = old.healthy;
            entry.drained = old.drained;
            entry.percent = old.percent;
            entry.back = old.back;
        }
    }

    /// Follows what [`Self::adopt`] changed.
    pub fn rebuild(&mut self) {
        self.pools.iter_mut().for_each(Pool::rebuild);
    }

    /// Chooses the server of a new flow: its index in the configuration, or [`SORRY`]. `client` is a
    /// [`hash::number`].
    pub fn choose(
        &mut self,
        now: Instant,
        service: usize,
        client: u128,
        port: u16,
    ) -> Result<u8, Refusal> {
        let pool = self.pools.get_mut(service).ok_or(Refusal::Unhealthy)?;
        if !pool.serves() {
            return pool.sorry.then_some(SORRY).ok_or(Refusal::Unhealthy);
        }
        let chosen = match pool.balance {
            Balance::Failover => pool.servers.iter().position(Server::takes),
            Balance::RoundRobin => pool.round_robin(now),
            Balance::LeastConnections => pool.least_connections(now),
            Balance::SourceHash => pool.source_hash(Key::PUBLIC.address(client, 0)),
            Balance::Maglev => {
                let hash = Key::PUBLIC.address(client, port.into());
                let servers = &pool.servers;
                pool.table
                    .find(hash, |n| servers.get(n).is_some_and(Server::takes))
            }
        };
        chosen.map(|index| index as u8).ok_or(Refusal::Full)
    }

    /// Whether a new flow may go to this server, as when a client should stay with it.
    #[must_use]
    pub fn takes(&self, service: usize, choice: u8) -> bool {
        let Some(pool) = self.pools.get(service) else {
            return false;
        };
        let server = pool.servers.get(usize::from(choice));
        pool.serves() && server.is_some_and(Server::takes)
    }

    /// Whether some server, or the sorry server, would get a flow now; room aside.
    #[must_use]
    pub fn serves(&self, service: usize) -> bool {
        let pool = self.pools.get(service);
        pool.is_some_and(|pool| pool.sorry || pool.serves())
    }

    /// Whether a service has its quorum, and somebody in it takes flows at all.
    #[must_use]
    pub fn has_quorum(&self, service: usize) -> bool {
        self.pools.get(service).is_some_and(Pool::serves)
    }

    /// A flow to this server was opened.
    pub fn opened(&mut self, service: u8, choice: u8) {
        if let Some(server) = self.server(service.into(), choice.into()) {
            server.flows = server.flows.saturating_add(1);
        }
    }

    /// A flow to this server is over.
    pub fn closed(&mut self, service: u8, choice: u8) {
        if let Some(server) = self.server(service.into(), choice.into()) {
            server.flows = server.flows.saturating_sub(1);
        }
    }

    /// How many flows a server has.
    #[must_use]
    pub fn flows(&self, service: usize, server: usize) -> u32 {
        let pool = self.pools.get(service);
        let server = pool.and_then(|pool| pool.servers.get(server));
        server.map_or(0, |server| server.flows)
    }

    /// Tells whether a server answers its checks; returns whether that is news.
    pub fn set_health(
        &mut self,
        now: Instant,
        service: usize,
        server: usize,
        healthy: bool,
    ) -> bool {
        let Some(pool) = self.pools.get_mut(service) else {
            return false;
        };
        // What starts together with the appliance need not start slowly.
        let others = pool.servers.iter().any(|server| server.healthy);
        let Some(entry) = pool.servers.get_mut(server) else {
            return false;
        };
        if entry.healthy == healthy {
            return false;
        }
        entry.healthy = healthy;
        entry.credit = 0;
        entry.back = (healthy && others && !pool.slow_start.is_zero()).then_some(now);
        pool.rebuild();
        true
    }

    /// Drains a server (it keeps its flows and gets no new ones) or ends that.
    pub fn drain(&mut self, service: usize, server: usize, drained: bool) {
        self.change(service, server, |entry| entry.drained = drained);
    }

    /// Scales a server's weight, 100 for the whole; 0 drains it.
    pub fn set_weight(&mut self, service: usize, server: usize, percent: u8) {
        self.change(service, server, |entry| entry.percent = percent);
    }

    /// Lets a server have fewer flows at a time than configured, as its agent asks; `None` for as configured.
    pub fn set_max_flows(&mut self, service: usize, server: usize, max: Option<u32>) {
        if let Some(entry) = self.server(service, server) {
            entry.agent_max = max;
        }
    }

    fn change(&mut self, service: usize, server: usize, change: impl Fn(&mut Server)) {
        let Some(pool) = self.pools.get_mut(service) else {
            return;
        };
        let Some(entry) = pool.servers.get_mut(server) else {
            return;
        };
        let before = entry.share();
        change(entry);
        if entry.share() != before {
            pool.rebuild();
        }
    }

    fn server(&mut self, service: usize, server: usize) -> Option<&mut Server> {
        self.pools.get_mut(service)?.servers.get_mut(server)
    }
}

impl Pool {
    /// Whether the quorum is there, and somebody in it takes flows at all.
    fn serves(&self) -> bool {
        let healthy = self.servers.iter().filter(|server| server.healthy).count();
        healthy >= self.quorum.into() && self.servers.iter().any(|server| server.share() > 0)
    }

    /// Smooth weighted round robin: everybody gains its weight, the richest serves and pays for all. Thus a
    /// heavy server's turns are spread out.
    fn round_robin(&mut self, now: Instant) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(i32, usize)> = None;
        for (index, server) in self.servers.iter_mut().enumerate() {
            if !server.takes() {
                continue;
            }
            let weight = server.grown(now, self.slow_start).cast_signed();
            server.credit += weight;
            total += weight;
            if richest.is_none_or(|(most, _)| server.credit > most) {
                richest = Some((server.credit, index));
            }
        }
        let (_, index) = richest?;
        self.servers.get_mut(index)?.credit -= total;
        Some(index)
    }

    /// The server whose flows, with the new one, are the fewest for its weight.
    fn least_connections(&mut self, now: Instant) -> Option<usize> {
        let mut least: Option<(u64, u64, usize)> = None;
        for (index, server) in self.servers.iter_mut().enumerate() {
            if !server.takes() {
                continue;
            }
            let flows = u64::from(server.flows) + 1;
            let weight = u64::from(server.grown(now, self.slow_start));
            // flows / weight < fewest / heaviest, without division.
            if least.is_none_or(|(fewest, heavy, _)| flows * heavy < fewest * weight) {
                least = Some((flows, weight, index));
            }
        }
        least.map(|(_, _, index)| index)
    }

    /// The server in whose share of all weights the hash falls. Time plays no part, so that both appliances
    /// choose alike.
    fn source_hash(&self, hash: u32) -> Option<usize> {
        let weight = |server: &Server| {
            if server.takes() {
                u64::from(server.share())
            } else {
                0
            }
        };
        let total: u64 = self.servers.iter().map(weight).sum();
        let mut place = (u64::from(hash) * total) >> 32;
        self.servers.iter().position(|server| {
            let share = weight(server);
            let here = place < share;
            place = place.saturating_sub(share);
            here
        })
    }

    fn rebuild(&mut self) {
        if self.balance != Balance::Maglev {
            return;
        }
        let candidate = |server: &Server| Candidate {
            identity: server.identity,
            weight: server.share(),
        };
        let candidates: heapless::Vec<_, MAX_SERVERS> =
            self.servers.iter().map(candidate).collect();
        self.table = Table::build(&candidates);
    }
}

impl Server {
    /// Its weight as the agent scales it; zero if it gets no flows whatever its load.
    fn share(&self) -> u32 {
        if !self.healthy || self.drained {
            return 0;
        }
        u32::from(self.weight) * u32::from(self.percent)
    }

    /// Whether it gets new flows and has room for one.
    fn takes(&self) -> bool {
        let has_room = self.max_flows == 0 || self.flows < self.max_flows;
        self.share() > 0 && has_room && self.agent_max.is_none_or(|max| self.flows < max)
    }

    /// Its share, which grows to the whole in `slow_start` after it came back.
    fn grown(&mut self, now: Instant, slow_start: Duration) -> u32 {
        let share = self.share();
        let Some(back) = self.back else { return share };
        let since = now.since(back);
        if since >= slow_start {
            self.back = None;
            return share;
        }
        let grown = u128::from(share) * since.as_micros() / slow_start.as_micros().max(1);
        (grown as u32).max(1)
    }
}

fn identity(address: IpAddr, port: u16) -> u32 {
    Key::PUBLIC.address(hash::number(address), port.into())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use policy::Service;
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000_000);

    fn config(balance: Balance, weights: &[u8]) -> Config {
        let server = |(n, &weight): (usize, &u8)| policy::Server {
            address: [10, 20, 1, 11 + n as u8].into(),
            port: 8443,
            weight,
            ..policy::Server::default()
        };
        let service = Service {
            balance,
            servers: weights.iter().enumerate().map(server).collect(),
            ..Service::default()
        };
        Config {
            services: [service].into_iter().collect(),
            ..Config::default()
        }
    }

    fn healthy(config: &Config) -> Balancer {
        let mut balancer = Balancer::new(config);
        for server in 0..config.services[0].servers.len() {
            assert!(balancer.set_health(NOW, 0, server, true));
            assert!(!balancer.set_health(NOW, 0, server, true));
        }
        balancer
    }

    fn client(n: u32) -> u128 {
        hash::number(IpAddr::V4((0xc633_6400 + n).into()))
    }

    /// Who gets each of `count` flows, all of which stay open.
    fn run(balancer: &mut Balancer, now: Instant, count: u32) -> Vec<u8> {
        let one = |n| {
            let choice = balancer.choose(now, 0, client(n), 40_000).unwrap();
            balancer.opened(0, choice);
            choice
        };
        (0..count).map(one).collect()
    }

    fn shares(chosen: &[u8]) -> Vec<usize> {
        let count = |server| chosen.iter().filter(|&&s| s == server).count();
        (0..MAX_SERVERS as u8).map(count).collect()
    }

    #[test]
    fn failover_takes_the_first_that_can() {
        let mut balancer = healthy(&config(Balance::Failover, &[1, 1, 1]));
        assert_eq!(run(&mut balancer, NOW, 3), [0, 0, 0]);
        balancer.drain(0, 0, true);
        assert_eq!(run(&mut balancer, NOW, 1), [1]);
        balancer.set_health(NOW, 0, 1, false);
        assert_eq!(run(&mut balancer, NOW, 1), [2]);
        balancer.drain(0, 0, false);
        assert_eq!(run(&mut balancer, NOW, 1), [0]);
    }

    #[test]
    fn round_robin_is_smooth() {
        let mut balancer = healthy(&config(Balance::RoundRobin, &[5, 1, 1]));
        let chosen = run(&mut balancer, NOW, 14);
        assert_eq!(chosen, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn least_connections_evens_out() {
        let mut balancer = healthy(&config(Balance::LeastConnections, &[2, 1]));
        let chosen = run(&mut balancer, NOW, 30);
        assert_eq!(shares(&chosen)[..2], [20, 10]);
        for _ in 0..10 {
            balancer.closed(0, 0);
        }
        assert_eq!(shares(&run(&mut balancer, NOW, 10))[..2], [10, 0]);
        assert_eq!(balancer.flows(0, 0), 20);
    }

    /// Both appliances come to the same choice, whatever each has done before.
    #[test]
    fn hashes_choose_alike_on_both_appliances() {
        for balance in [Balance::SourceHash, Balance::Maglev] {
            let config = config(balance, &[3, 1, 2, 1]);
            let (mut one, mut other) = (healthy(&config), healthy(&config));
            run(&mut one, NOW, 100);
            let later = NOW + Duration::from_secs(1000);
            assert_eq!(run(&mut one, NOW, 1000), run(&mut other, later, 1000));
            let shares = shares(&run(&mut one, NOW, 7000));
            for (share, weight) in shares.iter().zip([3, 1, 2, 1]) {
                assert!(
                    share.abs_diff(1000 * weight) < 200,
                    "{balance:?} {shares:?}"
                );
            }
        }
    }

    #[test]
    fn a_full_server_is_passed_over() {
        for balance in ALL {
            let mut config = config(balance, &[1, 1]);
            config.services[0].servers[0].max_flows = 3;
            config.services[0].servers[1].max_flows = 2;
            let mut balancer = healthy(&config);
            assert_eq!(shares(&run(&mut balancer, NOW, 5))[..2], [3, 2]);
            let full = balancer.choose(NOW, 0, client(9), 1);
            assert_eq!(full, Err(Refusal::Full), "{balance:?}");
            assert!(!balancer.takes(0, 0));
            balancer.closed(0, 1);
            assert_eq!(balancer.choose(NOW, 0, client(9), 1), Ok(1));
            balancer.set_max_flows(0, 1, Some(1));
            assert!(!balancer.takes(0, 1));
            balancer.set_max_flows(0, 1, None);
            assert!(balancer.takes(0, 1));
        }
    }

    #[test]
    fn below_the_quorum_the_sorry_server_serves() {
        let mut config = config(Balance::RoundRobin, &[1, 1]);
        config.services[0].quorum = 2;
        let mut balancer = healthy(&config);
        balancer.set_health(NOW, 0, 1, false);
        let refused = balancer.choose(NOW, 0, client(1), 1);
        assert_eq!(refused, Err(Refusal::Unhealthy));
        assert!(!balancer.serves(0) && !balancer.takes(0, 0));

        config.services[0].sorry = Some(policy::Server::default());
        let mut balancer = healthy(&config);
        assert!(run(&mut balancer, NOW, 10).iter().all(|s| *s != SORRY));
        balancer.set_health(NOW, 0, 1, false);
        assert_eq!(run(&mut balancer, NOW, 2), [SORRY, SORRY]);
        balancer.set_health(NOW, 0, 1, true);
        balancer.drain(0, 0, true);
        assert_eq!(run(&mut balancer, NOW, 1), [1]);
        balancer.set_weight(0, 1, 0);
        assert_eq!(run(&mut balancer, NOW, 1), [SORRY]);
    }

    #[test]
    fn a_server_that_comes_back_starts_slowly() {
        let mut config = config(Balance::RoundRobin, &[1, 1]);
        config.services[0].slow_start = 100;
        let mut balancer = healthy(&config);
        let back = NOW + Duration::from_secs(1000);
        balancer.set_health(back, 0, 0, false);
        balancer.set_health(back, 0, 0, true);
        let mut before = 0;
        for (seconds, most) in [(1, 4), (25, 60), (50, 90), (100, 100)] {
            let now = back + Duration::from_secs(seconds);
            let share = shares(&run(&mut balancer, now, 200))[0];
            assert!(share > before && share <= most, "{seconds} s: {share}");
            before = share;
        }
        assert_eq!(before, 100);
    }

    #[test]
    fn agents_scale_weights() {
        for balance in [Balance::RoundRobin, Balance::LeastConnections] {
            let mut balancer = healthy(&config(balance, &[10, 10]));
            balancer.set_weight(0, 1, 50);
            assert_eq!(shares(&run(&mut balancer, NOW, 30))[..2], [20, 10]);
        }
    }

    const ALL: [Balance; 5] = [
        Balance::Failover,
        Balance::RoundRobin,
        Balance::LeastConnections,
        Balance::SourceHash,
        Balance::Maglev,
    ];

    proptest! {
        /// Whatever happens to servers, a choice is one that may be chosen.
        #[test]
        fn only_usable_servers_are_chosen(
            balance in prop::sample::select(&ALL[..]),
            weights in prop::collection::vec(0_u8.., 1..=MAX_SERVERS),
            events in prop::collection::vec((0_u8..4, 0_usize..MAX_SERVERS, any::<u8>()), 0..60),
        ) {
            let mut config = config(balance, &weights);
            config.services[0].slow_start = 5;
            let mut balancer = Balancer::new(&config);
            let mut model: Vec<(bool, bool, u8)> = weights.iter().map(|_| (false, false, 100)).collect();
            for (step, (event, server, value)) in events.into_iter().enumerate() {
                let now = NOW + Duration::from_millis(step as u64 * 100);
                if let Some(entry) = model.get_mut(server) {
                    match event {
                        0 | 1 => {
                            entry.0 = value & 3 > 0;
                            balancer.set_health(now, 0, server, entry.0);
                        }
                        2 => {
                            entry.1 = value & 1 > 0;
                            balancer.drain(0, server, entry.1);
                        }
                        _ => {
                            entry.2 = value;
                            balancer.set_weight(0, server, value);
                        }
                    }
                }
                let usable = |n: usize| model[n].0 && !model[n].1 && model[n].2 > 0 && weights[n] > 0;
                let any = (0..weights.len()).any(usable);
                match balancer.choose(now, 0, client(step as u32), value.into()) {
                    Ok(choice) => {
                        prop_assert!(usable(choice.into()));
                        prop_assert!(balancer.takes(0, choice));
                        balancer.opened(0, choice);
                    }
                    Err(refusal) => prop_assert!(!any && refusal == Refusal::Unhealthy),
                }
            }
        }
    }
}
