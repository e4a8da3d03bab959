//! First packets that nobody wants, as strangers send them by the million: refused after a short look.
//!
//! Only where nothing else follows from a packet than its drop: no answer, no event, no count of a rule. `first.rs` says the
//! same of each of these packets, and takes its time for all others.

use policy::Transport;

use crate::address::Address;
use crate::packet::{Class, Tuple};
use crate::ports::Translations;
use crate::services::Services;
use crate::{Drop, Shared};

/// Ports that somebody behind the appliance may serve, on any of its addresses: one bit for each, of a hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doors {
    tcp: [u32; 8],
    udp: [u32; 8],
}

impl Doors {
    /// The doors of these services and forwarded ports.
    pub fn new(services: &Services, translations: &Translations) -> Self {
        let mut doors = Self::default();
        for (transport, ports) in services.doors().chain(translations.doors()) {
            let set = match transport {
                Transport::Tcp => &mut doors.tcp,
                Transport::Udp => &mut doors.udp,
            };
            for port in ports {
                let (word, bit) = place(port);
                set[word] |= 1 << bit;
            }
        }
        doors
    }

    /// Whether somebody may serve this port; `false` is certain.
    #[inline(always)]
    pub const fn may_be(&self, class: Class, port: u16) -> bool {
        let (word, bit) = place(port);
        match class {
            Class::Tcp => self.tcp[word] >> bit & 1 != 0,
            Class::Udp => self.udp[word] >> bit & 1 != 0,
            Class::Echo | Class::Other => true,
        }
    }
}

/// The word and bit of a port.
#[inline(always)]
const fn place(port: u16) -> (usize, u32) {
    let hash = (port ^ port >> 8) as u32;
    ((hash >> 5 & 7) as usize, hash & 31)
}

impl Shared<'_> {
    /// Why a plain packet that belongs to no flow is dropped, and nothing else; `None` where more may follow from it. Such
    /// a packet `opens` a flow, or, of TCP, goes on with one that does not exist.
    #[inline(never)]
    pub fn refuses<A: Address>(
        &self,
        leg: u8,
        front: &A::Front,
        class: Class,
        opens: bool,
    ) -> Option<Drop> {
        let tcp = class == Class::Tcp;
        let tuple: Tuple<A> = A::tuple(front);
        let (source, destination) = (tuple.source, tuple.destination);
        let port = tuple.destination_port();
        if self.doors.may_be(class, port) || port == 0 || tuple.source_port() == 0 {
            return None;
        }
        let routes = A::family(&self.routes);
        let Some(to) = routes.transit(leg, source, destination) else {
            let closed = tcp && opens && routes.is_virtual(leg, source, destination);
            return closed.then_some(Drop::NotForUs);
        };
        match opens {
            true => self
                .rules
                .are_silent(leg, to, &tuple, class)
                .then_some(Drop::NoRule),
            false if self.cookies_are_out || self.rules.judge_strays => None,
            false => Some(Drop::NoFlow),
        }
    }
}
