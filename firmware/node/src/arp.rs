//! ARP as the appliance hears it: who asks, who answers, who claims what is ours.

use core::net::IpAddr;

use filter::{Drop, Hop};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr};
use time::Instant;
use wire::Frame;
use wire::ethernet::{self, Mac, Received};

use crate::appliance::{Appliance, CONFLICT};
use crate::leg::Station;
use crate::neighbour::Said;
use crate::{Event, Log, Transmit, emit};

impl Appliance<'_> {
    pub(crate) fn arp(
        &mut self,
        now: Instant,
        leg: u8,
        received: &Received,
        frame: &Frame<'_>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        if on.station(received.destination) == Station::Other
            && received.destination != ethernet::BROADCAST
        {
            return Err(Drop::OtherStation);
        }
        let body = frame.bytes().get(received.payload..).unwrap_or_default();
        let packet = ArpPacket::new_checked(body).map_err(|_| Drop::Arp)?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr: sender,
            target_protocol_addr: target,
            ..
        } = ArpRepr::parse(&packet).map_err(|_| Drop::Arp)?
        else {
            return Err(Drop::Arp);
        };
        let mac: Mac = source_hardware_addr.0;
        if ethernet::is_multicast(mac) || mac == [0; 6] {
            return Err(Drop::Arp);
        }
        let routes = self.filter.routes();
        // A sender without an address yet asks whether somebody has it (RFC 5227 §2.1.1).
        if !sender.is_unspecified() {
            if routes.is_ours(sender.to_bits()) {
                return self.claimed(now, leg, sender.into(), mac, log, out);
            }
            if !routes.is_neighbour(leg, sender.to_bits()) {
                return Err(Drop::Arp);
            }
            let hop = Hop {
                leg,
                address: sender.into(),
            };
            let said = match on.mac_of(target.into()) {
                Some(_) => Said::Asking(mac),
                None => Said::Telling(mac),
            };
            self.neighbours.learn(now, hop, said, &self.legs, log, out);
        }
        match operation {
            ArpOperation::Request => {
                if let Some(mine) = on.answers_for(target.into(), self.answers) {
                    emit::arp_reply(&on, (mine, target), (mac, sender), out);
                }
                Ok(())
            }
            ArpOperation::Reply => {
                if self.tracker.heard(now, leg, sender) {
                    self.track(now, leg, true, log, out);
                }
                Ok(())
            }
            ArpOperation::Unknown(_) => Err(Drop::Arp),
        }
    }

    /// Somebody says by ARP or neighbour discovery that one of our addresses is theirs. The other appliance
    /// may while it is Active.
    pub(crate) fn claimed(
        &mut self,
        now: Instant,
        leg: u8,
        address: IpAddr,
        mac: Mac,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let on = self.legs.get(leg).ok_or(Drop::UnknownVlan)?;
        // A Backup hears the Active announce virtual addresses, some implementations with a MAC of their own.
        if !on.is_own(address) && !self.answers {
            return Ok(());
        }
        if now >= self.next_conflict_event {
            self.next_conflict_event = now + CONFLICT;
            self.contradict(&on, address, mac, out);
            log.journal.push(
                now,
                Event::AddressConflict {
                    leg: on.name.clone(),
                    address,
                    mac,
                },
            );
        }
        Err(Drop::AddressConflict)
    }
}
