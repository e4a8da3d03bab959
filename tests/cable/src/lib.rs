//! A cable's end in memory for smoltcp: what came in waits to be taken, what goes out waits to be carried on.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use time::Instant;

/// The end that a network stack holds.
#[derive(Debug)]
pub struct Cable {
    /// Frames or packets that have come in.
    pub incoming: VecDeque<Vec<u8>>,
    /// Those that the stack has sent.
    pub outgoing: Vec<Vec<u8>>,
    medium: Medium,
    mtu: usize,
}

impl Cable {
    /// Carries Ethernet frames.
    #[must_use]
    pub const fn ethernet() -> Self {
        Self::new(Medium::Ethernet, 1514)
    }

    /// Carries IP packets.
    #[must_use]
    pub const fn ip() -> Self {
        Self::new(Medium::Ip, 1500)
    }

    const fn new(medium: Medium, mtu: usize) -> Self {
        Self {
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            medium,
            mtu,
        }
    }
}

/// smoltcp's word for a moment.
#[must_use]
pub const fn at(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros_const(now.as_micros().cast_signed())
}

impl Device for Cable {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let bytes = self.incoming.pop_front()?;
        Some((Incoming(bytes), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// One that has come in.
#[derive(Debug)]
pub struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for one that goes out.
#[derive(Debug)]
pub struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.push(bytes);
        result
    }
}
