//! What carries the connections of checks over TLS.

use crate::Reason;

/// TLS for one connection at a time. Bytes go in and out; the checker owns the TCP below.
pub trait Tunnel {
    /// Whether there is TLS at all.
    const AVAILABLE: bool;

    /// Begins a handshake with the server of this name, which is asked `request` as soon as it is over.
    fn open(&mut self, host: &str, request: &[u8]) -> Result<(), Reason>;

    /// Whether a connection is under way.
    fn is_open(&self) -> bool;

    /// Takes what the server sent; what it said goes to `plain`.
    fn receive(&mut self, bytes: &[u8], plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason>;

    /// How many bytes we have to send from the beginning of the connection on, as far as is known now.
    fn total(&self) -> u16;

    /// Copies some of these bytes.
    fn copy(&self, offset: u16, buffer: &mut [u8]);

    /// Forgets the connection.
    fn close(&mut self);
}

/// For boards without TLS: such checks fail, and say why.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTunnel;

impl Tunnel for NoTunnel {
    const AVAILABLE: bool = false;

    fn open(&mut self, _: &str, _: &[u8]) -> Result<(), Reason> {
        Err(Reason::NoTls)
    }

    fn is_open(&self) -> bool {
        false
    }

    fn receive(&mut self, _: &[u8], _: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        Err(Reason::NoTls)
    }

    fn total(&self) -> u16 {
        0
    }

    fn copy(&self, _: u16, _: &mut [u8]) {}

    fn close(&mut self) {}
}
