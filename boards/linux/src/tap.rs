//! A port on a TAP device: the kernel's side of it is the far end of the cable.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hal::{Losses, Port};

use crate::sys;

/// An attached TAP device.
pub struct Tap {
    name: String,
    file: File,
    control: OwnedFd,
    broken: bool,
    losses: Losses,
}

impl Tap {
    pub fn open(name: &str) -> Result<Self, String> {
        let file = sys::tap_device(name).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => "no permission for TAP devices: run as root, or \
                 let an administrator make it for you: `ip tuntap add NAME mode tap user YOU`"
                .into(),
            ErrorKind::NotFound => "no /dev/net/tun: `modprobe tun`".into(),
            ErrorKind::ResourceBusy => "in use by another program".into(),
            _ => format!("cannot open the TAP device: {error}"),
        })?;
        let control = sys::control_socket().map_err(|error| error.to_string())?;
        Ok(Self {
            name: name.to_owned(),
            file: file.into(),
            control,
            broken: false,
            losses: Losses::default(),
        })
    }

    /// The device was deleted under us; its descriptor reports an error for ever.
    pub fn is_broken(&self) -> bool {
        self.broken
    }
}

impl Port for Tap {
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize> {
        let room = buffer.get_mut(start..)?;
        loop {
            match self.file.read(room) {
                Ok(len) if len < room.len() => return Some(len),
                Ok(_) => self.losses.receive += 1, // may have been cut
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken = error.kind() != ErrorKind::WouldBlock;
                    return None;
                }
            }
        }
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        let sent = self.file.write(frame).is_ok();
        if !sent {
            self.losses.transmit += 1;
        }
        sent
    }

    fn link_up(&mut self) -> bool {
        sys::has_carrier(&self.control, &self.name)
    }

    fn arm(&mut self) -> bool {
        true // the loop polls the file descriptor
    }

    fn losses(&self) -> Losses {
        self.losses
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
