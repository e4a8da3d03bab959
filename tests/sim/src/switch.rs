//! One learning switch for all VLANs.

use std::collections::{BTreeMap, BTreeSet};

use time::Duration;
use wire::ethernet::{self, Mac};

/// A port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(pub(crate) usize);

/// How a port carries VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Untagged frames of one VLAN.
    Access(u16),
    /// Tagged frames of these VLANs.
    Trunk(BTreeSet<u16>),
}

#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub mode: Mode,
    pub carrier: bool,
    pub muted: BTreeSet<u16>,
    /// Frames of a thousand that are lost, each way.
    pub loss: u32,
    pub delay: Duration,
}

impl Port {
    fn carries(&self, vlan: u16) -> bool {
        let member = match &self.mode {
            Mode::Access(of) => *of == vlan,
            Mode::Trunk(of) => of.contains(&vlan),
        };
        member && self.carrier && !self.muted.contains(&vlan)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Switch {
    pub ports: Vec<Port>,
    stations: BTreeMap<(u16, Mac), PortId>,
}

impl Switch {
    pub fn add(&mut self, mode: Mode) -> PortId {
        let muted = BTreeSet::new();
        let delay = Duration::from_micros(20);
        self.ports.push(Port {
            mode,
            carrier: true,
            muted,
            loss: 0,
            delay,
        });
        PortId(self.ports.len() - 1)
    }

    /// Where a frame that came in on `from` goes, as each port carries it.
    pub fn pass(&mut self, from: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        let Some(received) = ethernet::parse(frame) else {
            return Vec::new();
        };
        let port = &self.ports[from.0];
        let vlan = match (&port.mode, received.vlan) {
            (Mode::Access(vlan), None) => *vlan,
            (Mode::Trunk(_), Some(vlan)) => vlan,
            (Mode::Access(_), Some(_)) | (Mode::Trunk(_), None) => return Vec::new(),
        };
        if !port.carries(vlan) {
            return Vec::new();
        }
        self.stations.insert((vlan, received.source), from);
        let known = self.stations.get(&(vlan, received.destination)).copied();
        let carries = |id: PortId, port: &Port| {
            id != from && port.carries(vlan) && known.is_none_or(|station| station == id)
        };
        let ports = self
            .ports
            .iter()
            .enumerate()
            .map(|(index, port)| (PortId(index), port));
        ports
            .filter(|(id, port)| carries(*id, port))
            .map(|(id, port)| {
                let tag = matches!(port.mode, Mode::Trunk(_)).then_some(vlan);
                let mut out = vec![0; ethernet::header_len(tag)];
                let (to, from) = (received.destination, received.source);
                ethernet::write(&mut out, to, from, tag, received.ethertype).expect("it has room");
                out.extend_from_slice(&frame[received.payload..]);
                (id, out)
            })
            .collect()
    }

    /// Forgets who was on a port, as a switch does when its carrier goes.
    pub fn forget(&mut self, port: PortId) {
        self.stations.retain(|_, on| *on != port);
    }
}
