//! Users: workers that make requests until they are stopped, and a log of what they met.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::client::{Answer, Client, RequestError};

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub begun: Instant,
    /// When its answer or its failure came.
    pub ended: Instant,
    /// What came of it.
    pub outcome: Result<Answer, RequestError>,
}

impl Record {
    /// Whether the site answered as it should.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.outcome
            .as_ref()
            .is_ok_and(|answer| answer.status == 200)
    }
}

/// What the load meets, while it runs.
#[derive(Debug, Default)]
pub struct Log {
    requests: Mutex<Vec<Record>>,
    kept: Mutex<Kept>,
    begun: AtomicU64,
    /// Users that wait for something.
    waiting: AtomicUsize,
    /// Nobody begins anything any more.
    closing: AtomicBool,
    stop: AtomicBool,
}

/// Connections that users keep open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Connections that were opened before the fault and answered.
    pub opened: u32,
    /// Those of them that broke.
    pub broken: u32,
}

impl Log {
    /// All requests that have ended, in the order of their end.
    pub fn requests(&self) -> MutexGuard<'_, Vec<Record>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kept connections.
    #[must_use]
    pub fn kept(&self) -> Kept {
        *self.kept_mut()
    }

    fn kept_mut(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.stopped()
    }

    fn add(&self, begun: Instant, outcome: Result<Answer, RequestError>) {
        self.requests().push(Record {
            begun,
            ended: Instant::now(),
            outcome,
        });
    }
}

/// Who uses the site.
#[derive(Clone, Copy, Debug, Default)]
pub struct Users {
    /// They make one request after the other, each on a connection of its own.
    pub workers: u32,
    /// They hold one connection each and use it regularly.
    pub keepers: u32,
    /// New users come so often, whether the earlier ones were answered or not, and make one request.
    pub newcomers: Option<Duration>,
}

impl Users {
    /// The part of them that group `index` of so many groups has.
    #[must_use]
    pub fn share(self, index: u32, groups: u32) -> Self {
        Self {
            workers: share(self.workers.into(), index, groups) as u32,
            keepers: share(self.keepers.into(), index, groups) as u32,
            newcomers: self.newcomers.map(|every| every * groups),
        }
    }
}

/// The part of `all` that group `index` of so many groups has.
#[must_use]
pub fn share(all: u64, index: u32, groups: u32) -> u64 {
    all / u64::from(groups) + u64::from(u64::from(index) < all % u64::from(groups))
}

/// A running load. It ends when this is dropped.
#[derive(Debug)]
pub struct Load {
    log: Arc<Log>,
    runtime: Option<Runtime>,
}

impl Load {
    /// Starts the users of a steady load: `users.workers` make one request after the other, at most `limit` in all.
    pub fn start(client: &Client, users: Users, limit: u64) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let log = Arc::new(Log::default());
        for _ in 0..users.workers {
            runtime.spawn(work(client.clone(), Arc::clone(&log), limit));
        }
        for _ in 0..users.keepers {
            runtime.spawn(keep(client.clone(), Arc::clone(&log)));
        }
        if let Some(every) = users.newcomers {
            runtime.spawn(arrive(client.clone(), Arc::clone(&log), every));
        }
        Ok(Self {
            log,
            runtime: Some(runtime),
        })
    }

    /// Lets nobody begin anything new, and those who wait have their answers or give up.
    pub fn close(&self) {
        self.log.closing.store(true, Ordering::Relaxed);
    }

    /// Whether all have what they waited for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.log.waiting.load(Ordering::Relaxed) == 0
    }

    /// What it met so far.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.log.stop.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Counts a user as waiting while it lives.
struct Waiting<'a>(&'a Log);

impl<'a> Waiting<'a> {
    fn new(log: &'a Log) -> Self {
        log.waiting.fetch_add(1, Ordering::Relaxed);
        Self(log)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(client: Client, log: Arc<Log>, limit: u64) {
    while !log.closing() && log.begun.fetch_add(1, Ordering::Relaxed) < limit {
        let waiting = Waiting::new(&log);
        let begun = Instant::now();
        let outcome = client.get().await;
        if log.stopped() {
            return;
        }
        let failed = outcome.is_err();
        log.add(begun, outcome);
        drop(waiting);
        if failed {
            // A refused connection fails at once: do not spin.
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

async fn arrive(client: Client, log: Arc<Log>, every: Duration) {
    let room = Arc::new(Semaphore::new(MAX_NEWCOMERS));
    while !log.closing() {
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let (client, log) = (client.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let _waiting = Waiting::new(&log);
                let begun = Instant::now();
                let outcome = client.get().await;
                if !log.stopped() {
                    log.add(begun, outcome);
                }
                drop(permit);
            });
        }
        tokio::time::sleep(every).await;
    }
}

async fn keep(client: Client, log: Arc<Log>) {
    let Ok(mut connection) = client.connect().await else {
        return;
    };
    if connection.get().await.is_err() {
        return;
    }
    log.kept_mut().opened += 1;
    while !log.closing() {
        tokio::time::sleep(BETWEEN_KEPT).await;
        let _waiting = Waiting::new(&log);
        if connection.get().await.is_err() && !log.stopped() {
            log.kept_mut().broken += 1;
            return;
        }
    }
}

/// Newcomers that may wait for their answers at the same time.
const MAX_NEWCOMERS: usize = 32;
const AFTER_FAILURE: Duration = Duration::from_millis(100);
const BETWEEN_KEPT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_lost_when_users_are_shared_out() {
        for (all, groups) in [(0, 1), (1, 2), (4, 2), (5, 2), (200, 3), (u64::MAX, 2)] {
            let sum: u64 = (0..groups).map(|index| share(all, index, groups)).sum();
            assert_eq!(sum, all, "{all} in {groups}");
        }
        let users = Users {
            workers: 5,
            keepers: 4,
            newcomers: Some(Duration::from_millis(500)),
        };
        let second = users.share(1, 2);
        assert_eq!((second.workers, second.keepers), (2, 2));
        assert_eq!(second.newcomers, Some(Duration::from_secs(1)));
    }
}
