//! The operator's end.

use zerocopy::IntoBytes;

use crate::seal::{Challenge, Header, Kind, MAX_BODY, Secret};
use crate::{MAX_DATAGRAM, Request, Response};

/// Makes commands and reads answers. The caller has the socket, the clock and the patience.
#[derive(Debug)]
pub struct Client {
    secret: Secret,
    challenge: Option<Challenge>,
    /// The command that is under way: its challenge and nonce.
    command: (Challenge, [u8; 12]),
}

/// What a datagram was.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and never more than one"
)]
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that counts now.
    Nothing,
    /// The appliance has named its challenge: the command has to be made (again).
    Challenge,
    /// The answer.
    Answer(Response),
}

impl Client {
    /// A client with the operators' secret.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self {
            secret: Secret::new(key),
            challenge: None,
            command: (Challenge::default(), [0; 12]),
        }
    }

    /// The next datagram to send for this request: it asks for the challenge while that is not known. `nonce` is random.
    /// What was made is sent again as it is until it is answered.
    pub fn make<'d>(
        &mut self,
        request: &Request,
        nonce: [u8; 12],
        datagram: &'d mut [u8; MAX_DATAGRAM],
    ) -> &'d [u8] {
        let Some(challenge) = self.challenge.take() else {
            let ask = Header::new(Kind::Ask, Challenge::default());
            let ask = ask.as_bytes();
            datagram[..ask.len()].copy_from_slice(ask);
            return &datagram[..ask.len()];
        };
        self.command = (challenge, nonce);
        let mut body = [0; MAX_BODY];
        let body = postcard::to_slice(request, &mut body).map_or(&[][..], |body| body);
        let len = (self.secret).seal(Kind::Command, challenge, nonce, body, datagram);
        &datagram[..len.unwrap_or(0)]
    }

    /// Takes a datagram; it is opened in place.
    pub fn receive(&mut self, datagram: &mut [u8]) -> Heard {
        match Header::read(datagram) {
            Some((Kind::Challenge, challenge)) => {
                self.challenge = Some(challenge);
                Heard::Challenge
            }
            Some((Kind::Answer, challenge)) if challenge == self.command.0 => {
                let opened = self.secret.open(Kind::Answer, &challenge, datagram);
                let Some((nonce, body)) = opened else {
                    return Heard::Nothing;
                };
                let Some((next, body)) = body.split_first_chunk() else {
                    return Heard::Nothing;
                };
                match postcard::from_bytes(body) {
                    Ok(response) if nonce == self.command.1 => {
                        self.challenge = Some(*next);
                        Heard::Answer(response)
                    }
                    _ => Heard::Nothing,
                }
            }
            _ => Heard::Nothing,
        }
    }
}
