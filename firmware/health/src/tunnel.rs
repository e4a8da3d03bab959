//! What carries the connections of checks over TLS.

use policy::Anchor;

use crate::Reason;

/// TLS for one connection at a time. Bytes go in and out; the checker owns the TCP below. What TLS makes of them may take its
/// time, elsewhere: the checker comes back and looks.
pub trait Tunnel {
    /// Begins a handshake, unless a connection is there.
    fn open(&mut self, ask: &Ask<'_>) -> Result<(), Reason>;

    /// Whether a connection is there, be it one that was closed and is not gone yet.
    fn is_open(&self) -> bool;

    /// Whether something is not understood yet, so that it is worth looking again.
    fn is_working(&self) -> bool;

    /// Whether there is room for so many bytes of the server's now. If not, it has to send them again.
    fn has_room(&self, bytes: usize) -> bool;

    /// Takes what the server sent.
    fn receive(&mut self, bytes: &[u8]);

    /// Hands on what the server has said since the last time; an error if no more will come.
    fn heard(&mut self, plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason>;

    /// How many bytes we have to send from the beginning of the connection on, as far as is known now.
    fn total(&self) -> u16;

    /// Copies some of these bytes.
    fn copy(&self, offset: u16, buffer: &mut [u8]);

    /// Forgets the connection.
    fn close(&mut self);
}

/// What a connection over TLS is for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The server's name, which its certificate has to be for.
    pub host: &'a str,
    /// Who has to have signed the certificate; `None` if nobody has to.
    pub anchor: Option<&'a Anchor>,
    /// It is not earlier than that, in seconds since 1970.
    pub since: u64,
    /// What is asked once the handshake is over.
    pub request: &'a [u8],
}

/// For boards without TLS: such checks fail, and say why.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTunnel;

impl Tunnel for NoTunnel {
    fn open(&mut self, _: &Ask<'_>) -> Result<(), Reason> {
        Err(Reason::NoTls)
    }

    fn is_open(&self) -> bool {
        false
    }

    fn is_working(&self) -> bool {
        false
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn receive(&mut self, _: &[u8]) {}

    fn heard(&mut self, _: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        Err(Reason::NoTls)
    }

    fn total(&self) -> u16 {
        0
    }

    fn copy(&self, _: u16, _: &mut [u8]) {}

    fn close(&mut self) {}
}
