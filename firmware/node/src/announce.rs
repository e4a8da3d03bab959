//! Telling a network where virtual addresses are: gratuitous ARP and unsolicited neighbour advertisements by the Active. When
//! that is due is the group's business.

use core::net::IpAddr;

use crate::appliance::Appliance;
use crate::leg::{On, Router};
use crate::{Transmit, emit};

impl Appliance<'_> {
    /// Announces every virtual address once (RFC 9568 §6.4.2).
    pub(crate) fn announce(&self, out: &mut impl Transmit) {
        if !self.answers {
            return;
        }
        for (on, router) in self.legs.routers() {
            for address in &router.config.addresses {
                self.announce_one(&on, router, *address, out);
            }
        }
    }

    /// Contradicts somebody else who says that a virtual address is theirs (RFC 5227 §2.4). One with the same MAC address is
    /// another virtual router, and no station believes anything wrong: who of the two stays is decided by their adverts.
    pub(crate) fn contradict(
        &self,
        on: &On<'_>,
        address: IpAddr,
        mac: [u8; 6],
        out: &mut impl Transmit,
    ) {
        if let Some(router) = on.router_of(address).filter(|router| router.mac != mac)
            && self.answers
        {
            self.announce_one(on, router, address, out);
        }
    }

    fn announce_one(&self, on: &On<'_>, router: &Router, address: IpAddr, out: &mut impl Transmit) {
        match address {
            IpAddr::V4(address) => {
                emit::gratuitous_arp(on, router.mac, address, false, out);
                if self.announces_by_replies {
                    emit::gratuitous_arp(on, router.mac, address, true, out);
                }
            }
            IpAddr::V6(address) if on.six.is_some() => {
                emit::neighbour_advert(on, (router.mac, address), None, out);
            }
            IpAddr::V6(_) => {}
        }
    }
}
