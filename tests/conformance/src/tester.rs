//! Everyone else on the device's cable.

use std::net::IpAddr;
use std::time::Duration;

use forge::{Ip, Sum, Transport as _, Vrrp};

use crate::Device;
use crate::cable::{self, Moment};
use crate::frame::{Advert, Frame, Mac};
use policy::Authentication;

use crate::profile::{Facts, HOST6, KEYS, PEER, PEER_MAC, PEER6, Profile};
use crate::questions;
use crate::signature;

/// The machine that runs the test was too slow, or the device was: the case is tried again.
#[derive(Debug)]
pub struct Late(pub String);

/// How a case ends; it panics on what no busy machine excuses.
pub type Verdict = Result<(), Late>;

/// What the tester knows about the device's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may be any.
    Unknown,
    /// It has heard a better router.
    Backup,
    /// It has said that it is.
    Active,
}

/// The tester at a device's cable.
pub struct Tester<'a> {
    /// The device.
    pub device: &'a mut dyn Device,
    /// How it is configured.
    pub profile: Profile,
    /// What follows from that.
    pub facts: Facts,
    /// A moment before which a fresh device was not yet there.
    pub started: Moment,
    /// What its clock makes of a second.
    scale: f64,
    role: Role,
    /// All that it has sent since the case began.
    pub seen: Vec<Frame>,
}

impl<'a> Tester<'a> {
    /// At the cable of a device that runs `profile`, whose clock makes `scale` of a second.
    pub fn new(device: &'a mut dyn Device, profile: &Profile, scale: f64) -> Self {
        Self {
            device,
            profile: *profile,
            facts: profile.facts(),
            started: Moment::ZERO,
            scale,
            role: Role::Unknown,
            seen: Vec::new(),
        }
    }

    /// The device's interval as it takes it.
    pub fn unit(&self) -> Duration {
        self.scaled(self.facts.interval)
    }

    /// A time of the device's clock.
    pub fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.scale)
    }

    /// Puts a frame on the cable; when that was.
    pub fn send(&self, frame: &[u8]) -> Moment {
        self.device.cable().send(frame)
    }

    /// Takes in what the device sends until `until`, or until `stop` has found what it looks for.
    pub fn listen(&mut self, until: Moment, mut stop: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        while let Some((at, bytes)) = self.device.cable().receive(until) {
            let frame = Frame::read(at, bytes);
            self.judge(&frame);
            self.answer(&frame);
            self.seen.push(frame.clone());
            if stop(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Listens for some intervals of the device.
    pub fn listen_for(&mut self, intervals: f64) {
        let until = cable::now() + self.unit().mul_f64(intervals);
        self.listen(until, |_| false);
    }

    /// Listens and sends frames every now and then, beginning now.
    pub fn listen_sending(
        &mut self,
        every: Duration,
        until: Moment,
        mut frames: impl FnMut() -> Vec<Vec<u8>>,
        mut stop: impl FnMut(&Frame) -> bool,
    ) -> Option<Frame> {
        let mut next = cable::now();
        while next < until {
            for frame in frames() {
                self.send(&frame);
            }
            next += every;
            if let Some(frame) = self.listen(next.min(until), &mut stop) {
                return Some(frame);
            }
        }
        None
    }

    /// The other router answers who asks for it, where it is spoken to alone.
    fn answer(&self, frame: &Frame) {
        if !self.facts.unicast {
            return;
        }
        if let Some(arp) = frame
            .arp()
            .filter(|arp| (arp.operation, arp.target.1) == (1, PEER))
        {
            self.send(&questions::arp(
                frame.source,
                2,
                (PEER_MAC, PEER),
                arp.sender,
            ));
        }
        if let Some(ip) = frame.ip().filter(|ip| ip.icmp6() == Some(135))
            && ip.payload.get(8..24) == Some(&PEER6.octets())
            && let IpAddr::V6(asker) = ip.source
        {
            self.send(&questions::neighbour_advert(
                (PEER_MAC, PEER6),
                (frame.source, asker),
            ));
        }
    }

    /// What holds for every frame at all times.
    fn judge(&mut self, frame: &Frame) {
        if let Some(ip) = frame.ip() {
            assert!(ip.intact, "a wrong header checksum: {frame:?}");
        }
        let advert = frame.advert();
        if self.role == Role::Backup {
            let takes_over = advert.is_some_and(|advert| advert.priority() > 0);
            assert!(
                takes_over || !self.speaks_for_the_router(frame),
                "a Backup spoke for the virtual router before it was Active: {frame:?}"
            );
        }
        if advert.is_some_and(|advert| advert.priority() > 0) {
            self.role = match self.role {
                // It may still have been on its way.
                Role::Unknown => Role::Unknown,
                Role::Backup | Role::Active => Role::Active,
            };
        }
    }

    /// Whether a frame tells switches or hosts that the virtual router is here.
    fn speaks_for_the_router(&self, frame: &Frame) -> bool {
        let arp = frame.arp().map(|arp| IpAddr::V4(arp.sender.1));
        let neighbour = frame.neighbour_advert().map(|advert| advert.target.into());
        let virtual_mac = frame.source[..4] == [0, 0, 0x5e, 0];
        virtual_mac
            || frame.advert().is_some()
            || (arp.or(neighbour)).is_some_and(|address| {
                self.facts.addresses.contains(&address) && address != self.facts.own
            })
    }

    /// From now on the device has to be as silent as a Backup, until it says that it is Active.
    pub fn is_backup(&mut self) {
        self.role = Role::Backup;
    }

    /// Lets time pass without looking: what the device says in it is forgotten.
    pub fn pause(&mut self, intervals: f64) {
        std::thread::sleep(self.unit().mul_f64(intervals));
        while self.device.cable().receive(Moment::ZERO).is_some() {}
        self.role = Role::Unknown;
    }

    /// Everything that others may ask, to see who answers.
    pub fn questions(&self) -> Vec<Vec<u8>> {
        let mac = self.facts.router_mac;
        let mut all = vec![
            questions::igmp_query(3, 1),
            questions::mld_query(100),
            questions::router_solicitation(),
        ];
        for address in &self.facts.addresses {
            match address {
                IpAddr::V4(address) => {
                    all.extend(
                        [questions::BROADCAST, mac].map(|to| questions::who_has(to, *address)),
                    );
                }
                IpAddr::V6(address) => {
                    all.extend(
                        [Some(HOST6), None]
                            .map(|from| questions::solicitation(*address, from, 255)),
                    );
                }
            }
            all.push(questions::ping((mac, *address)));
        }
        all
    }

    /// The device becomes Backup: it hears a better router.
    ///
    /// # Panics
    /// If it does not yield.
    pub fn make_backup(&mut self) {
        self.role = Role::Unknown;
        let mut quiet = false;
        for _ in 0..40 {
            self.send(&self.advert(254));
            let (unit, sent) = (self.unit(), cable::now());
            let heard = self.listen(sent + unit / 2, |frame| {
                frame.advert().is_some() && frame.at > sent + unit / 4
            });
            // Twice, so that one advert of its own falls into the time.
            if heard.is_none() && std::mem::replace(&mut quiet, heard.is_none()) {
                self.role = Role::Backup;
                self.seen.clear();
                return;
            }
        }
        panic!(
            "it does not yield to priority 254; its log:\n{}",
            self.device.log()
        );
    }

    /// The device stays Backup for a time, or is just now reminded of a better router if it is.
    ///
    /// # Errors
    /// If the tester was too slow to keep it there.
    pub fn stay_backup(&mut self, time: Duration) -> Verdict {
        if self.role != Role::Backup {
            self.make_backup();
        }
        let strong = self.advert(254);
        let (unit, until) = (
            self.unit(),
            cable::now() + time.max(Duration::from_millis(1)),
        );
        let frames = || vec![strong.clone()];
        match self.listen_sending(unit, until, frames, |frame| frame.advert().is_some()) {
            Some(_) => Err(self.late("it became Active beside another")),
            None => Ok(()),
        }
    }

    /// The device becomes Active: it hears nobody.
    ///
    /// # Errors
    /// If that takes long.
    pub fn make_active(&mut self) -> Verdict {
        if self.role == Role::Backup {
            self.take_over(cable::now())?;
        }
        let limit = cable::now() + 20 * self.unit();
        let advert = |frame: &Frame| frame.advert().is_some_and(|advert| advert.priority() > 0);
        let advert = self.listen(limit, advert);
        advert.ok_or_else(|| self.late("it never became Active"))?;
        self.role = Role::Active;
        self.seen.clear();
        Ok(())
    }

    /// Waits until a Backup becomes Active; how long after `since` that is.
    ///
    /// # Errors
    /// If that takes long.
    pub fn take_over(&mut self, since: Moment) -> Result<Duration, Late> {
        let limit = cable::now() + 40 * self.unit();
        let advert = self.listen(limit, |frame| frame.advert().is_some());
        let advert = advert.ok_or_else(|| self.late("it never became Active"))?;
        Ok(advert.at.saturating_sub(since))
    }

    /// Holds a time against the one of the device's clock that it should be.
    ///
    /// # Errors
    /// If it is too long.
    ///
    /// # Panics
    /// If it is too short.
    pub fn on_time(&self, what: &str, measured: Duration, expected: Duration) -> Verdict {
        let expected = self.scaled(expected);
        assert!(
            measured + SLACK >= expected.mul_f64(EARLY),
            "{what}: {measured:?}, sooner than {expected:?}; its log:\n{}",
            self.device.log()
        );
        if measured > expected + self.tolerance() {
            return Err(self.late(&format!("{what}: {measured:?} instead of {expected:?}")));
        }
        Ok(())
    }

    /// Holds the time between two frames of the device against what it should be: if the first one was late, it is too short.
    ///
    /// # Errors
    /// If it is too long or too short.
    pub fn apart(&self, what: &str, measured: Duration, expected: Duration) -> Verdict {
        let expected = self.scaled(expected);
        let least = expected.saturating_sub(self.tolerance().min(expected / 3));
        match (least..=expected + self.tolerance()).contains(&measured) {
            true => Ok(()),
            false => Err(self.late(&format!("{what}: {measured:?} instead of {expected:?}"))),
        }
    }

    /// How late something may be.
    pub fn tolerance(&self) -> Duration {
        self.unit().mul_f64(0.35)
    }

    /// That something was late.
    pub fn late(&self, what: &str) -> Late {
        Late(format!("{what}; the device's log:\n{}", self.device.log()))
    }

    /// The device's adverts since the case began.
    pub fn adverts(&self) -> impl Iterator<Item = (&Frame, Advert<'_>)> {
        let adverts = self.seen.iter();
        adverts.filter_map(|frame| Some((frame, frame.advert()?)))
    }

    /// What another router like the device would advertise with this priority, to be changed.
    pub fn message(&self, priority: u8) -> Vrrp {
        let authentication_type = match self.facts.authentication {
            Authentication::Password(_) => 0x0100,
            Authentication::None | Authentication::Hmac(_) => 0,
        };
        Vrrp {
            version: self.facts.version,
            vrid: self.facts.vrid,
            priority,
            interval: self.facts.field(self.facts.interval) | authentication_type,
            addresses: self.facts.addresses.clone(),
            authentication: match (self.facts.version, &self.facts.authentication) {
                (2, Authentication::Password(password)) => password.to_vec(),
                (2, _) => vec![0; 8],
                _ => Vec::new(),
            },
            ..Vrrp::default()
        }
    }

    /// A good advert of another router with this priority.
    pub fn advert(&self, priority: u8) -> Vec<u8> {
        self.from(self.facts.peer(false), &self.message(priority))
    }

    /// A frame with this message from a router at `source`, signed if it has to be.
    pub fn from(&self, source: IpAddr, message: &Vrrp) -> Vec<u8> {
        match &self.facts.authentication {
            Authentication::Hmac(_) => self.signed(source, message, KEYS[0]),
            Authentication::None | Authentication::Password(_) => self.unsigned(source, message),
        }
    }

    /// The same, signed with this key.
    pub fn signed(&self, source: IpAddr, message: &Vrrp, key: (u8, [u8; 32])) -> Vec<u8> {
        let number = signature::number(cable::now());
        let trailer = signature::trailer(source, &self.bytes(source, message), key, number);
        let message = Vrrp {
            trailer,
            ..message.clone()
        };
        self.unsigned(source, &message)
    }

    /// The same, never signed.
    pub fn unsigned(&self, source: IpAddr, message: &Vrrp) -> Vec<u8> {
        let packet = self.packet(source).around(message);
        self.framed(&packet)
    }

    /// The IP header of an advert.
    pub fn packet(&self, source: IpAddr) -> Ip {
        Ip::new(source, self.facts.group().0).ttl(255)
    }

    /// A packet in a frame to the group of virtual routers.
    pub fn framed(&self, packet: &[u8]) -> Vec<u8> {
        frame(self.facts.group().1, self.virtual_mac(), packet)
    }

    /// The virtual router's MAC address, that the Active on the tester's side sends from.
    fn virtual_mac(&self) -> Mac {
        match self.facts.router_mac {
            mac if mac[..4] == [0, 0, 0x5e, 0] => mac,
            _ => PEER_MAC,
        }
    }

    /// What the bytes of this message are between these addresses.
    pub fn bytes(&self, source: IpAddr, message: &Vrrp) -> Vec<u8> {
        message.bytes((source, self.facts.group().0))
    }
}

/// A packet in a frame.
pub fn frame(to: Mac, from: Mac, packet: &[u8]) -> Vec<u8> {
    forge::ethernet(to, from, forge::ethertype(packet), packet)
}

/// A checksum that is wrong by one bit.
pub fn wrong(bit: u8) -> Sum {
    Sum::Flipped(1 << bit)
}

/// What part of a time may be missing: the device's clock was read from adverts that a busy machine may have delayed. No rule would be
/// broken by so little: without its skew a take-over would miss a sixth.
const EARLY: f64 = 0.9;
/// What clocks may differ by.
const SLACK: Duration = Duration::from_millis(2);
