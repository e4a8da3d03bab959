//! The appliance's end.

use time::{Duration, Instant};
use zerocopy::IntoBytes;

use crate::seal::{Challenge, HEADER_LEN, Header, Kind, MAX_BODY, Secret};
use crate::{MAX_DATAGRAM, Request, Response};

/// Takes commands, and sends each answer once more when it is asked for again.
#[derive(Debug)]
pub struct Desk {
    secret: Secret,
    seed: u64,
    number: u64,
    challenge: Challenge,
    /// The command being answered, or the last one: its challenge and nonce.
    command: (Challenge, [u8; 12]),
    answer: [u8; MAX_DATAGRAM],
    answer_len: usize,
    named: Header,
    /// When the challenge is named again: whoever asks changes nothing, but costs an answer.
    ready: Instant,
}

/// What a datagram was.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and never more than one"
)]
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Nothing that is answered.
    Nothing,
    /// To be answered with these bytes.
    Answer(&'a [u8]),
    /// A command: [`Desk::answer`] is called next.
    Command(Request),
}

/// Shortest time between two challenges that are named to anybody.
const PAUSE: Duration = Duration::from_millis(10);

impl Desk {
    /// A desk for commands sealed with `key`. A `seed` that was never there before makes old recordings worthless.
    #[must_use]
    pub fn new(key: &[u8; 32], seed: u64) -> Self {
        let secret = Secret::new(key);
        let challenge = secret.challenge(seed, 0);
        Self {
            secret,
            seed,
            number: 0,
            challenge,
            command: (Challenge::default(), [0; 12]),
            answer: [0; MAX_DATAGRAM],
            answer_len: 0,
            named: Header::new(Kind::Challenge, challenge),
            ready: Instant::ZERO,
        }
    }

    /// Takes commands sealed with `key` from now on; with the same key nothing changes.
    pub fn set_key(&mut self, key: &[u8; 32]) {
        self.secret = Secret::new(key);
        self.challenge = self.secret.challenge(self.seed, self.number);
    }

    /// Takes a datagram from anybody; it is opened in place.
    pub fn receive(&mut self, now: Instant, datagram: &mut [u8]) -> Received<'_> {
        let Some((kind, challenge)) = Header::read(datagram) else {
            return Received::Nothing;
        };
        match kind {
            Kind::Ask if datagram.len() >= HEADER_LEN => self.name(now),
            Kind::Command if challenge == self.challenge => {
                let opened = self.secret.open(Kind::Command, &challenge, datagram);
                let Some((nonce, body)) = opened else {
                    return Received::Nothing;
                };
                let Ok(request) = postcard::from_bytes(body) else {
                    return Received::Nothing;
                };
                self.command = (challenge, nonce);
                self.answer_len = 0;
                self.number += 1;
                self.challenge = self.secret.challenge(self.seed, self.number);
                Received::Command(request)
            }
            Kind::Command if challenge == self.command.0 => {
                let opened = self.secret.open(Kind::Command, &challenge, datagram);
                match opened.is_some_and(|(nonce, _)| nonce == self.command.1) {
                    true => {
                        Received::Answer(self.answer.get(..self.answer_len).unwrap_or_default())
                    }
                    false => self.name(now),
                }
            }
            // Another operator was faster.
            Kind::Command => self.name(now),
            Kind::Ask | Kind::Challenge | Kind::Answer => Received::Nothing,
        }
    }

    /// The sealed answer to the command that was received last. The next challenge is in it.
    pub fn answer(&mut self, response: &Response) -> &[u8] {
        let mut body = [0; MAX_BODY];
        let (next, rest) = body.split_at_mut(self.challenge.len());
        next.copy_from_slice(&self.challenge);
        let len =
            next.len() + postcard::to_slice(response, rest).map_or(0, |written| written.len());
        let (challenge, nonce) = self.command;
        let body = body.get(..len).unwrap_or_default();
        let sealed = (self.secret).seal(Kind::Answer, challenge, nonce, body, &mut self.answer);
        self.answer_len = sealed.unwrap_or(0);
        self.answer.get(..self.answer_len).unwrap_or_default()
    }

    fn name(&mut self, now: Instant) -> Received<'_> {
        if now < self.ready {
            return Received::Nothing;
        }
        self.ready = now + PAUSE;
        self.named = Header::new(Kind::Challenge, self.challenge);
        Received::Answer(self.named.as_bytes())
    }
}
