//! How a configuration comes while the appliance runs: in parts, checked as a whole before it counts, answered before it is
//! applied, and taken back by the appliance itself unless somebody confirms it.

use core::fmt::Write as _;

use classifier::Policy;
use hal::ConfigurationStore;
use mgmt::{Digest, Objection, Refusal, Request, Response, Running};
#[cfg(feature = "defmt")]
use recovery::Start;
use recovery::{Identity, Text};
use sha2::{Digest as _, Sha256};
use time::{Duration, Instant};

use crate::appliance::Appliance;
use crate::{Event, Log, Transmit};

/// What is known of the configuration that runs, and of the next one.
#[derive(Debug)]
pub struct Deployment {
    /// Digest of the one that runs, once somebody has asked.
    digest: Option<Digest>,
    made: u64,
    /// The one that comes.
    coming: Option<Coming>,
    due: Option<Due>,
    /// Until when the one that runs does so if nobody confirms it, and what ran before.
    trial: Option<(Instant, Before)>,
    reverted: bool,
}

/// A configuration on its way.
#[derive(Clone, Debug)]
struct Coming {
    total: u32,
    digest: Digest,
    have: u32,
    /// Over what is here.
    hash: Sha256,
}

#[derive(Clone, Copy, Debug)]
struct Before {
    digest: Option<Digest>,
    made: u64,
}

/// What happens when the answer has left.
#[derive(Clone, Copy, Debug)]
enum Due {
    Apply { at: Instant, trial: Duration },
    Revert { at: Instant },
}

/// How long an answer has to leave before what it is about happens.
const PAUSE: Duration = Duration::from_millis(20);

impl Deployment {
    pub const fn new(made: u64) -> Self {
        Self {
            digest: None,
            made,
            coming: None,
            due: None,
            trial: None,
            reverted: false,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        let due = self.due.map(|due| match due {
            Due::Apply { at, .. } | Due::Revert { at } => at,
        });
        let trial = self.trial.map(|(until, _)| until);
        [due, trial].into_iter().flatten().min()
    }

    /// The configuration that runs.
    pub fn running(&mut self, now: Instant, out: &mut impl Transmit) -> Running {
        let store = out.store();
        let room = store.as_ref().map_or(0, |store| store.room());
        if self.digest.is_none()
            && let Some(store) = store
        {
            self.digest = digest(store.running());
        }
        Running {
            digest: self.digest.unwrap_or_default(),
            made: self.made,
            unconfirmed: self
                .trial
                .map(|(until, _)| until.since(now).as_secs() as u16), // it was one
            reverted: self.reverted,
            room: room as u32, // a few megabytes at most
        }
    }
}

/// The digest of the blob at the front of a region.
fn digest(region: &[u8]) -> Option<Digest> {
    let blob = region.get(..policy::length(region)?)?;
    Some(Sha256::digest(blob).into())
}

/// Who runs, for what is kept over a reset.
#[must_use]
pub fn identity(version: &str, region: &[u8]) -> Identity {
    let digest = digest(region);
    let first = digest.as_ref().and_then(|digest| digest.first_chunk());
    Identity {
        version: Text::of(version),
        configuration: first.copied().unwrap_or_default(),
    }
}

/// Tells the log how the run before ended, if that is worth a word.
#[cfg(feature = "defmt")]
pub fn report_start(start: &Start) {
    if let Some(crash) = &start.crash {
        defmt::error!("the run before failed: {}", defmt::Display2Format(crash));
    }
    if let Some(time) = start.stand_back() {
        defmt::warn!(
            "failures in a row: {=u32}; leaves the addresses to a peer that works for {=u64} s",
            start.in_row,
            time.as_secs()
        );
    }
    if let Some(uptime) = start.silent {
        defmt::info!(
            "the run before was reset after {=u64} s, start {=u32} since power came on",
            uptime.as_secs(),
            start.number
        );
    }
}

/// Tells the log that the appliance works, and with what: whoever has flashed it waits for that.
#[cfg(feature = "defmt")]
pub fn report_alive(version: &str, region: &[u8]) {
    match digest(region)
        .as_ref()
        .and_then(|digest| digest.first_chunk())
    {
        Some(first) => defmt::info!(
            "alive: firmware {=str}, configuration {=u64:016x}",
            version,
            u64::from_be_bytes(*first)
        ),
        None => defmt::info!("alive: firmware {=str}, no configuration", version),
    }
}

impl<'t> Appliance<'t> {
    /// Does what an operator asks about configurations.
    pub(crate) fn deploy(
        &mut self,
        now: Instant,
        request: &Request,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Response {
        let Some(store) = out.store() else {
            return Response::Refused(Refusal::NoRoom);
        };
        let deployment = &mut self.deployment;
        match request {
            Request::Stage { total, digest } => {
                if deployment.trial.is_some() {
                    return Response::Refused(Refusal::Unconfirmed);
                }
                if *total as usize > store.room() || *total == 0 {
                    return Response::Refused(Refusal::NoRoom);
                }
                // What was there already goes on.
                let same = |coming: &&Coming| (coming.total, coming.digest) == (*total, *digest);
                let have = deployment
                    .coming
                    .as_ref()
                    .filter(same)
                    .map(|coming| coming.have);
                if have.is_none() {
                    deployment.coming = Some(Coming {
                        total: *total,
                        digest: *digest,
                        have: 0,
                        hash: Sha256::new(),
                    });
                }
                Response::Staged(have.unwrap_or(0))
            }
            Request::Part { offset, bytes } => {
                let Some(coming) = &mut deployment.coming else {
                    return Response::Refused(Refusal::Unknown);
                };
                let len = bytes.len() as u32; // at most `mgmt::PART`
                let next = *offset == coming.have && coming.total - coming.have >= len;
                if next && store.write(*offset as usize, bytes) {
                    coming.hash.update(bytes);
                    coming.have += len;
                }
                Response::Staged(coming.have)
            }
            Request::Apply { digest, seconds } => {
                if deployment.trial.is_some() {
                    return Response::Refused(Refusal::Unconfirmed);
                }
                let Some(coming) = &deployment.coming else {
                    return Response::Refused(Refusal::Unknown);
                };
                let whole = coming.have == coming.total && coming.digest == *digest;
                if !whole || <Digest>::from(coming.hash.clone().finalize()) != *digest {
                    deployment.coming = None;
                    return Response::Refused(Refusal::Damaged);
                }
                let total = coming.total as usize;
                let next = store.next().get(..total).unwrap_or_default();
                if let Err(objection) = self.inspect(next) {
                    return Response::Objection(objection);
                }
                if let Some(seconds) = seconds {
                    self.deployment.due = Some(Due::Apply {
                        at: now + PAUSE,
                        trial: Duration::from_secs(u64::from(*seconds).max(1)),
                    });
                }
                Response::Done
            }
            Request::Confirm { digest } => {
                // What is confirmed already stays so.
                if deployment.digest != Some(*digest) {
                    return Response::Refused(Refusal::Unknown);
                }
                if deployment.trial.take().is_none() {
                    return Response::Done;
                }
                log.journal.push(now, Event::Confirmed);
                match store.keep() {
                    true => Response::Done,
                    false => Response::Refused(Refusal::NotKept),
                }
            }
            Request::Revert => {
                if deployment.trial.is_none() {
                    return Response::Refused(Refusal::Unknown);
                }
                deployment.due = Some(Due::Revert { at: now + PAUSE });
                Response::Done
            }
            Request::Status
            | Request::Member(_)
            | Request::HandOver
            | Request::Maintenance(_)
            | Request::Post { .. }
            | Request::Event(_) => Response::Refused(Refusal::Unknown),
        }
    }

    /// Looks whether a blob could run here.
    #[inline(never)]
    fn inspect(&self, blob: &[u8]) -> Result<(), Objection> {
        match classifier::load(blob) {
            Ok(policy) => self.object(&policy.config),
            Err(error) => {
                let mut objection = Objection::new();
                let _ = write!(objection, "{error}"); // cut off where it does not fit
                Err(objection)
            }
        }
    }

    /// Does what is due: applies what has come, or takes back what nobody has confirmed.
    pub(crate) fn change(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        match self.deployment.due {
            Some(Due::Apply { at, trial }) if at <= now => {
                self.deployment.due = None;
                let digest = self.deployment.coming.take().map(|coming| coming.digest);
                let before = Before {
                    digest: self.deployment.digest,
                    made: self.deployment.made,
                };
                if self.run_next(now, digest, log, out) {
                    self.deployment.trial = Some((now + trial, before));
                    log.journal.push(
                        now,
                        Event::Trial {
                            seconds: trial.as_secs() as u16, // it was one
                        },
                    );
                }
            }
            Some(Due::Revert { at }) if at <= now => {
                self.deployment.due = None;
                self.go_back(now, log, out);
            }
            Some(Due::Apply { .. } | Due::Revert { .. }) | None => {}
        }
        let trial = self.deployment.trial;
        if trial.is_some_and(|(until, _)| until <= now) {
            self.go_back(now, log, out);
        }
    }

    /// Runs what the store holds; whether that was possible.
    fn run_next(
        &mut self,
        now: Instant,
        digest: Option<Digest>,
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> bool {
        let Some(store) = out.store() else {
            return false;
        };
        let next = store.switch().and_then(load);
        match next.filter(|policy| self.object(&policy.config).is_ok()) {
            Some(policy) => {
                self.deployment.digest = digest;
                self.deployment.made = policy.config.made;
                self.deployment.reverted = false;
                self.reload(now, &policy, log, out);
                true
            }
            // It was looked at before: its memory has changed since.
            None => {
                store.back();
                false
            }
        }
    }

    /// Takes a configuration back that nobody has confirmed.
    fn go_back(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        let Some((_, before)) = self.deployment.trial.take() else {
            return;
        };
        self.deployment.reverted = true;
        log.journal.push(now, Event::Reverted);
        let region = out.store().and_then(ConfigurationStore::back);
        if let Some(policy) = region.and_then(load) {
            self.deployment.digest = before.digest;
            self.deployment.made = before.made;
            self.reload(now, &policy, log, out);
        }
    }

    /// Runs a configuration that the board has, and keeps it.
    pub(crate) fn replace(
        &mut self,
        now: Instant,
        blob: &[u8],
        log: &mut Log,
        out: &mut impl Transmit,
    ) -> Result<(), Objection> {
        let objection = |text: &str| Objection::try_from(text).unwrap_or_default();
        let store = out
            .store()
            .ok_or_else(|| objection("there is no memory for it"))?;
        if self.deployment.trial.is_some() {
            return Err(objection("one that was pushed is not confirmed yet"));
        }
        self.deployment.coming = None;
        if blob.len() > store.room() || !store.write(0, blob) {
            return Err(objection("there is no memory for it"));
        }
        self.inspect(store.next().get(..blob.len()).unwrap_or_default())?;
        if !self.run_next(now, digest(blob), log, out) {
            return Err(objection("it changed while it was read"));
        }
        if let Some(store) = out.store() {
            store.keep();
        }
        Ok(())
    }
}

fn load(region: &'static [u8]) -> Option<Policy<'static>> {
    classifier::load(region).ok()
}
