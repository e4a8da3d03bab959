//! One type for all kinds of ports.

use std::os::fd::{AsFd, BorrowedFd};

use hal::{Losses, Port};

use crate::cable::Cable;
use crate::packet::PacketPort;
use crate::tap::Tap;
use crate::{PortSpec, RunError};

/// A port of the appliance.
pub struct AnyPort {
    name: String,
    kind: Kind,
}

enum Kind {
    Interface(PacketPort),
    Tap(Tap),
    Cable(Cable),
}

impl AnyPort {
    pub fn open(spec: &PortSpec) -> Result<Self, RunError> {
        let kind = match spec {
            PortSpec::Interface(name) => PacketPort::open(name).map(Kind::Interface),
            PortSpec::Tap(name) => Tap::open(name).map(Kind::Tap),
            PortSpec::Cable { local, remote } => Cable::open(local, remote).map(Kind::Cable),
        };
        match kind {
            Ok(kind) => Ok(Self {
                name: spec.to_string(),
                kind,
            }),
            Err(problem) => Err(RunError::Port {
                port: spec.to_string(),
                problem,
            }),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether waiting on the file descriptor makes sense: one of a TAP device that is gone
    /// reports an error at once, again and again.
    pub fn can_be_polled(&self) -> bool {
        match &self.kind {
            Kind::Tap(tap) => !tap.is_broken(),
            Kind::Interface(_) | Kind::Cable(_) => true,
        }
    }

    fn port(&mut self) -> &mut dyn Port {
        match &mut self.kind {
            Kind::Interface(port) => port,
            Kind::Tap(port) => port,
            Kind::Cable(port) => port,
        }
    }
}

impl Port for AnyPort {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        self.port().receive(buffer, start)
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        self.port().transmit(frame)
    }

    fn link_up(&mut self) -> bool {
        self.port().link_up()
    }

    fn arm(&mut self) -> bool {
        self.port().arm()
    }

    fn losses(&self) -> Losses {
        match &self.kind {
            Kind::Interface(port) => port.losses(),
            Kind::Tap(port) => port.losses(),
            Kind::Cable(port) => port.losses(),
        }
    }
}

impl AsFd for AnyPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Interface(port) => port.as_fd(),
            Kind::Tap(port) => port.as_fd(),
            Kind::Cable(port) => port.as_fd(),
        }
    }
}
