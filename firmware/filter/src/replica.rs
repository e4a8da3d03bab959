//! What the other appliance of a pair is told and tells: flows, flows that are no more, used tokens, clients that stay with
//! a server, and how to recognise cookies. Tables of both are hashed with keys of their own, so that records name
//! flows by their tuples, and places by numbers that only their teller uses.

use policy::rule::Sharing;
use sync::{MAX_RECORD, Store, Terms};
use time::{Duration, Instant};

use crate::address::{Address, V4, V6};
use crate::flow::{Flow, Owner, Path};
use crate::handshake::key;
use crate::record::{self, Client, FlowRecord, Rate, Secret, kind};
use crate::synproxy::Phase;
use crate::table::{Flows, InsertError};
use crate::track::{Direction, Ticks};
use crate::{Filter, Shared};

/// What became of the peer's records. All wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// Were taken in.
    pub taken: u32,
    /// Flows that another flow of ours stands in the way of.
    pub clashed: u32,
    /// Flows that there was no room for.
    pub full: u32,
    /// Records that do not fit our configuration, or say nothing we understand.
    pub unfit: u32,
}

impl Filter<'_> {
    /// The appliance has become Active: its flows are its own from now on. For a moment segments outside their windows are
    /// taken, then windows are what was learned of them.
    pub fn take_over(&mut self, now: Instant) {
        let Self { v4, v6, shared } = self;
        shared.now = now;
        shared.standby = false;
        if shared.shares {
            shared.lenient_until = now + LENIENCE;
        }
        shared.gone.clear();
        shared.gone6.clear();
        v4.set_tells(shared.shares);
        v6.set_tells(shared.shares);
        for (service, servers) in core::mem::take(&mut shared.fallen).into_iter().enumerate() {
            let fallen = (0..u16::BITS as usize).filter(|server| servers >> server & 1 != 0);
            for server in fallen {
                self.abandon(service, server);
            }
        }
    }

    /// The appliance is no longer Active. With `synced` the peer knows all flows and goes on
    /// with them; otherwise they are forgotten, for whoever is Active now changes them without telling.
    pub fn stand_down(&mut self, now: Instant, synced: bool) {
        let Self { v4, v6, shared } = self;
        shared.now = now;
        shared.standby = shared.shares;
        v4.set_tells(false);
        v6.set_tells(false);
        if synced && shared.shares {
            v4.grow_old();
            v6.grow_old();
        } else {
            self.forget();
        }
    }

    /// The flow that the packet opened that was judged last, if such packets wait for the peer: those of all rules with
    /// `usual`. For [`sync::Session::defer`]: the peer is told of the flow though nobody has answered yet, and of what becomes
    /// of it.
    pub fn deferred(&mut self, usual: bool) -> Option<u32> {
        if !usual && self.shared.sharing != Sharing::Deferred {
            return None;
        }
        let (is_v6, id) = self.shared.opened.take()?;
        Some(match is_v6 {
            false => {
                self.v4.set_told(id);
                self.number(Item::Flow(id))
            }
            true => {
                self.v6.set_told(id);
                self.number(Item::Flow6(id))
            }
        })
    }

    /// What became of the peer's records.
    #[must_use]
    pub fn imports(&self) -> Imports {
        self.shared.imports
    }

    fn item(&self, number: u32) -> Option<Item> {
        let mut left = number;
        let mut within = |count: u32| {
            let index = left;
            let found = left < count;
            left = left.wrapping_sub(count);
            found.then_some(index)
        };
        let shared = &self.shared;
        None.or(within(self.v4.room()).map(Item::Flow))
            .or_else(|| within(self.v6.room()).map(Item::Flow6))
            .or_else(|| within(GONE as u32).map(Item::Gone))
            .or_else(|| within(GONE as u32).map(Item::Gone6))
            .or_else(|| within(shared.limits.rates()).map(Item::Rate))
            .or_else(|| within(shared.services.clients()).map(Item::Client))
            .or_else(|| within(1).map(|_| Item::Cookies))
    }

    fn number(&self, item: Item) -> u32 {
        let gone = self.v4.room() + self.v6.room();
        let rates = gone + 2 * GONE as u32;
        let clients = rates + self.shared.limits.rates();
        match item {
            Item::Flow(id) => id,
            Item::Flow6(id) => self.v4.room() + id,
            Item::Gone(index) => gone + index,
            Item::Gone6(index) => gone + GONE as u32 + index,
            Item::Rate(index) => rates + index,
            Item::Client(index) => clients + index,
            Item::Cookies => clients + self.shared.services.clients(),
        }
    }
}

/// What one number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Flow(u32),
    Flow6(u32),
    Gone(u32),
    Gone6(u32),
    Rate(u32),
    Client(u32),
    Cookies,
}

impl Store for Filter<'_> {
    fn items(&self) -> u32 {
        self.number(Item::Cookies) + 1
    }

    fn changed(&self) -> u32 {
        let gone = self.shared.gone.waiting() + self.shared.gone6.waiting();
        gone + self.v4.changed() + self.v6.changed()
    }

    /// Flows that are no more first: another one may have their ports.
    fn take_changed(&mut self, now: Instant) -> Option<u32> {
        let item = None
            .or_else(|| self.shared.gone.take_waiting().map(Item::Gone))
            .or_else(|| self.shared.gone6.take_waiting().map(Item::Gone6))
            .or_else(|| self.v4.take_changed().map(Item::Flow))
            .or_else(|| self.v6.take_changed().map(Item::Flow6))
            .or_else(|| self.take_account(now))?;
        Some(self.number(item))
    }

    fn mark(&mut self, item: u32) {
        match self.item(item) {
            Some(Item::Flow(id)) => self.v4.mark(id),
            Some(Item::Flow6(id)) => self.v6.mark(id),
            Some(Item::Gone(index)) => self.shared.gone.mark(index),
            Some(Item::Gone6(index)) => self.shared.gone6.mark(index),
            // They are told again anyway.
            Some(Item::Rate(_) | Item::Client(_) | Item::Cookies) | None => {}
        }
    }

    fn settle(&mut self, item: u32) {
        match self.item(item) {
            Some(Item::Gone(index)) => self.shared.gone.settle(index),
            Some(Item::Gone6(index)) => self.shared.gone6.settle(index),
            Some(
                Item::Flow(_) | Item::Flow6(_) | Item::Rate(_) | Item::Client(_) | Item::Cookies,
            )
            | None => {}
        }
    }

    fn export(&mut self, now: Instant, item: u32, buffer: &mut [u8; MAX_RECORD]) -> usize {
        let item = self.item(item);
        let Self { v4, v6, shared } = self;
        let len = match item {
            Some(Item::Flow(id)) => shared.export_flow(v4, id, buffer),
            Some(Item::Flow6(id)) => shared.export_flow(v6, id, buffer),
            Some(Item::Gone(index)) => {
                let gone = shared.gone.get(index);
                gone.and_then(|(tuple, class)| export_gone(v4, tuple, class, buffer))
            }
            Some(Item::Gone6(index)) => {
                let gone = shared.gone6.get(index);
                gone.and_then(|(tuple, class)| export_gone(v6, tuple, class, buffer))
            }
            Some(Item::Rate(index)) => {
                let rate = shared.limits.rate(now, index);
                rate.map(|rate| rate.write(buffer))
            }
            Some(Item::Client(index)) => {
                let client = shared.services.client(now, index);
                client.map(|client| client.write(buffer))
            }
            Some(Item::Cookies) => {
                let left = shared.cookies_until.since(now).as_secs();
                let secret = shared.cookies.secret(now, left as u16);
                (left > 0).then(|| secret.write(buffer))
            }
            None => None,
        };
        len.unwrap_or_default()
    }

    fn import(&mut self, now: Instant, record: &[u8], terms: Terms) {
        let Self { v4, v6, shared } = self;
        shared.now = now;
        let result = match record.split_first() {
            Some((&kind::FLOW, rest)) => FlowRecord::read(rest)
                .ok_or(Refusal::Unfit)
                .and_then(|record| shared.import_flow(v4, &record, terms)),
            Some((&kind::FLOW6, rest)) => FlowRecord::read(rest)
                .ok_or(Refusal::Unfit)
                .and_then(|record| shared.import_flow(v6, &record, terms)),
            Some((&kind::GONE, rest)) => shared.import_gone::<V4>(v4, rest, terms),
            Some((&kind::GONE6, rest)) => shared.import_gone::<V6>(v6, rest, terms),
            Some((&kind::RATE, rest)) => match Rate::read(rest) {
                Some(rate) if terms.same_policy => {
                    shared.limits.set_rate(now, &rate);
                    Ok(())
                }
                Some(_) | None => Err(Refusal::Unfit),
            },
            Some((&kind::CLIENT, rest)) => match Client::read(rest) {
                Some(client) if terms.same_policy => {
                    shared.services.set_client(now, &client);
                    Ok(())
                }
                Some(_) | None => Err(Refusal::Unfit),
            },
            Some((&kind::COOKIES, rest)) => match Secret::read(rest) {
                Some(secret) => {
                    shared.inherit_cookies(now, &secret);
                    Ok(())
                }
                None => Err(Refusal::Unfit),
            },
            Some(_) | None => Err(Refusal::Unfit),
        };
        let imports = &mut shared.imports;
        let counter = match result {
            Ok(()) => &mut imports.taken,
            Err(Refusal::Clash) => &mut imports.clashed,
            Err(Refusal::Full) => &mut imports.full,
            Err(Refusal::Unfit) => &mut imports.unfit,
        };
        *counter = counter.wrapping_add(1);
    }

    fn end_pass(&mut self, now: Instant) {
        let Self { v4, v6, shared } = self;
        shared.now = now;
        if shared.standby {
            v4.end_pass(shared);
            v6.end_pass(shared);
        }
    }
}

impl Filter<'_> {
    /// Tokens and cookies change too often to be told of each time: all of them are, now and then.
    fn take_account(&mut self, now: Instant) -> Option<Item> {
        let shared = &mut self.shared;
        if now >= shared.accounts_due {
            shared.accounts_due = now + ACCOUNTS;
            shared.account = 0;
        }
        let rates = shared.limits.rates();
        while shared.account < rates {
            let index = shared.account;
            shared.account += 1;
            if shared.limits.rate(now, index).is_some() {
                return Some(Item::Rate(index));
            }
        }
        if shared.account == rates {
            shared.account += 1;
            return (now < shared.cookies_until).then_some(Item::Cookies);
        }
        None
    }
}

/// Why a record was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Clash,
    Full,
    Unfit,
}

fn export_gone<A: Address>(
    flows: &Flows<'_, A>,
    tuple: &crate::Tuple<A>,
    class: crate::Class,
    buffer: &mut [u8; MAX_RECORD],
) -> Option<usize> {
    // It was opened again, and what is told of it now counts.
    let again = flows.find_original(tuple, class);
    let again = again.is_some_and(|id| flows.is_told(id));
    (!again).then(|| record::write_gone(tuple, class, buffer))
}

impl Shared<'_> {
    fn export_flow<A: Address>(
        &self,
        flows: &mut Flows<'_, A>,
        id: u32,
        buffer: &mut [u8; MAX_RECORD],
    ) -> Option<usize> {
        let flow = flows.export(id)?;
        let splice = match self.splices.get(key::<A>(id)) {
            Some(Phase::Spliced(splice)) => Some(*splice),
            // Nobody can go on with half a handshake.
            Some(Phase::Opening(_)) => return None,
            None => None,
        };
        Some(FlowRecord::new(flow, splice).write(buffer))
    }

    fn import_flow<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        record: &FlowRecord<A>,
        terms: Terms,
    ) -> Result<(), Refusal> {
        let now = Ticks::at(self.now);
        let flow = self.revive(now, record, terms).ok_or(Refusal::Unfit)?;
        let class = flow.state.class();
        let [original, reply] =
            [Direction::Original, Direction::Reply].map(|side| flows.find(flow.tuple(side), class));
        let same = |found: Option<(u32, Direction)>, side| {
            let (id, direction) = found?;
            (direction == side).then_some(id)
        };
        let known = same(original, Direction::Original);
        if known.is_some() && known == same(reply, Direction::Reply) {
            let id = known.ok_or(Refusal::Clash)?;
            if !terms.peer_is_right {
                return Ok(());
            }
            let old = flows.get_mut(id).ok_or(Refusal::Clash)?;
            if (old.owner(), old.limit()) == (flow.owner(), flow.limit()) {
                let state = core::mem::replace(old, flow).state;
                // Through the table, which counts handshakes.
                old.state = state;
                flows.set_state(id, flow.state);
                return self.confirm(flows, id, record);
            }
        }
        for (id, _) in [original, reply].into_iter().flatten() {
            if !terms.peer_is_right {
                return Err(Refusal::Clash);
            }
            flows.remove(id, self);
        }
        let id = flows.insert(now, flow, self).map_err(|error| match error {
            InsertError::Clash => Refusal::Clash,
            InsertError::Full => Refusal::Full,
        })?;
        self.confirm(flows, id, record)
    }

    /// The flow of a record, as one can go on with it here.
    fn revive<A: Address>(
        &self,
        now: Ticks,
        record: &FlowRecord<A>,
        terms: Terms,
    ) -> Option<Flow<A>> {
        let [original, reply] = record.tuples;
        let [from, to] = [record.paths & 0xf, record.paths >> 4].map(Path::from_bits);
        let mut flow = Flow::new(original, reply, record.state, from, to);
        flow.set_bits(record.owner, record.extra);
        flow.windows = record.windows;
        flow.grow_old();
        flow.expiry = now.after(flow.state.timeout());
        if !terms.same_policy {
            // Who calls things by other names is believed what its addresses say.
            let (flow, _) = self.readmit(&flow, Owner::NONE)?;
            return (flow.is_special() == record.splice.is_some()).then_some(flow);
        }
        let routes = A::family(&self.routes);
        let (owner, limit) = (flow.owner(), flow.limit());
        let is_direct = owner
            .get()
            .is_some_and(|(service, _)| self.services.is_direct(service));
        let fits = routes.is_leg(from.leg)
            && routes.is_leg(to.leg)
            && (owner == Owner::NONE || self.services.server(owner).is_some())
            && limit.is_none_or(|limit| self.limits.is_known(limit))
            && flow.is_special() == (is_direct || record.splice.is_some());
        fits.then_some(flow)
    }

    fn confirm<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        id: u32,
        record: &FlowRecord<A>,
    ) -> Result<(), Refusal> {
        if let Some(splice) = record.splice
            && !self.splices.set(key::<A>(id), Phase::Spliced(splice))
        {
            flows.remove(id, self);
            return Err(Refusal::Full);
        }
        flows.confirm(id);
        Ok(())
    }

    fn import_gone<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        bytes: &[u8],
        terms: Terms,
    ) -> Result<(), Refusal> {
        let (tuple, class) = record::read_gone(bytes).ok_or(Refusal::Unfit)?;
        if !terms.peer_is_right {
            return Err(Refusal::Clash);
        }
        if let Some(id) = flows.find_original(&tuple, class) {
            flows.remove(id, self);
        }
        Ok(())
    }

    fn inherit_cookies(&mut self, now: Instant, secret: &Secret) {
        self.inherited = Some(crate::cookie::Inherited::new(now, secret));
        let until = now + Duration::from_secs(secret.left.into());
        self.cookies_until = self.cookies_until.max(until);
        self.cookies_are_out |= secret.left > 0;
    }
}

/// Flows of either version that are no more and that the peer does not know of yet.
pub(crate) const GONE: usize = 128;
/// For so long after a take-over segments outside their windows are taken.
const LENIENCE: Duration = Duration::from_secs(5);
/// Time between two tellings of all tokens.
const ACCOUNTS: Duration = Duration::from_millis(500);
