//! Why a check failed.

use core::fmt;

/// Why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No answer at all within the timeout.
    Timeout,
    /// The connection was there, but the answer was not complete within the timeout.
    Stalled,
    /// The server refused the connection.
    Refused,
    /// The server reset the connection before its answer was complete.
    Reset,
    /// The server closed the connection before its answer was complete.
    Closed,
    /// The answer is longer than any that makes sense.
    TooLong,
    /// The answer is not what the protocol says.
    Garbage,
    /// An HTTP status that was not asked for.
    Status(u16),
    /// The database server greets with this error.
    Mysql(u16),
    /// The DNS server answers with this code (RFC 1035 §4.1.1).
    Rcode(u8),
    /// The TLS handshake failed.
    Tls,
    /// The server has no TLS 1.3, or nothing in it that we have too.
    TlsVersion,
    /// The server's certificate is not good.
    Certificate(Flaw),
    /// There was not enough memory for what the server sent.
    NoMemory,
    /// This board's firmware has no TLS.
    NoTls,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is for other names.
    Name,
    /// Nobody that the check trusts has signed it.
    Issuer,
    /// It, or one between it and the authority, is out of date.
    Expired,
    /// It is not for a server, is malformed, or has a signature that is wrong or of an unknown kind.
    Other,
}

impl Reason {
    /// The reason in words; its number, if it has one, is not part of them.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Timeout => "no answer in time",
            Self::Stalled => "the answer was not complete in time",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "connection closed early",
            Self::TooLong => "the answer is too long",
            Self::Garbage => "the answer is not of this protocol",
            Self::Status(_) => "http status",
            Self::Mysql(1040) => "too many connections, mysql error",
            Self::Mysql(1129) => {
                "the appliance is blocked after too many connection errors, mysql error"
            }
            Self::Mysql(1130) => "the appliance may not connect, mysql error",
            Self::Mysql(_) => "mysql error",
            Self::Rcode(1) => "format error, dns code",
            Self::Rcode(2) => "server failure, dns code",
            Self::Rcode(3) => "no such name, dns code",
            Self::Rcode(5) => "refused, dns code",
            Self::Rcode(_) => "dns code",
            Self::Tls => "the tls handshake failed",
            Self::TlsVersion => "the server does not speak our tls 1.3",
            Self::Certificate(Flaw::Name) => "the certificate is for another name",
            Self::Certificate(Flaw::Issuer) => "the certificate is of an unknown authority",
            Self::Certificate(Flaw::Expired) => "the certificate has expired",
            Self::Certificate(Flaw::Other) => "the certificate is not valid",
            Self::NoMemory => "not enough memory for tls",
            Self::NoTls => "this board has no tls",
        }
    }

    /// The number that goes with the words.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self {
            Self::Status(number) | Self::Mysql(number) => Some(number),
            Self::Rcode(code) => Some(code as u16),
            Self::Timeout
            | Self::Stalled
            | Self::Refused
            | Self::Reset
            | Self::Closed
            | Self::TooLong
            | Self::Garbage
            | Self::Tls
            | Self::TlsVersion
            | Self::Certificate(_)
            | Self::NoMemory
            | Self::NoTls => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())?;
        match self.number() {
            Some(number) => write!(f, " {number}"),
            None => Ok(()),
        }
    }
}

/// The words of `Display`, put together on the host.
#[cfg(feature = "defmt")]
impl defmt::Format for Reason {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self.number() {
            Some(number) => defmt::write!(f, "{=str} {=u16}", self.words(), number),
            None => defmt::write!(f, "{=str}", self.words()),
        }
    }
}
