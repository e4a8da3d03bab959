//! What is in the database: a counter, and a board of boxes that users tick.
//!
//! A database of several servers is away for some seconds when one of them dies. Whatever may be done twice is tried
//! again meanwhile, so that users wait instead of being turned away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, Error, Opts, OptsBuilder, SslOpts};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{Database, Tls};

/// A connection that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nobody waits longer for the database: those who ask us give up after ten seconds.
const BUDGET: Duration = Duration::from_secs(8);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How many boxes there are. Strangers tick them, so there is an end to it.
pub const BOXES: u32 = 1_000_000;
/// So many users of one app server are served at a time, each on a connection; others wait for their turn.
const CONNECTIONS: usize = 8;
/// MariaDB's code for a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// A handle to the database. Connections are made when needed, so it may be down.
#[derive(Clone)]
pub struct Store {
    options: Opts,
    turns: Arc<Semaphore>,
    /// Connections that nobody uses just now. They may have died meanwhile, or lead to a machine that lost power: mute
    /// until TCP gives them up after a quarter of an hour.
    idle: Arc<Mutex<Vec<Conn>>>,
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused, or is not there.
    #[error("the database failed: {0}")]
    Failed(#[from] Error),
    /// It said nothing.
    #[error("the database did not answer in time")]
    Silent,
    /// The counter's row is gone as soon as it is made.
    #[error("the counter has vanished")]
    Vanished,
}

impl Store {
    /// A store on the database that `settings` describes. Connects to nothing yet.
    #[must_use]
    pub fn new(settings: &Database) -> Self {
        let options: Opts = OptsBuilder::default()
            .ip_or_hostname(settings.address.ip().to_string())
            .tcp_port(settings.address.port())
            .user(Some(&settings.user))
            .pass(Some(&settings.password))
            .db_name(Some(&settings.name))
            .prefer_socket(Some(false))
            .ssl_opts(settings.tls.as_ref().map(tls))
            .into();
        Self {
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Arc::default(),
            options,
        }
    }

    /// Whether the database answers now. That waits for nobody's turn: users may wait for a database that is fine.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let pinged = self.attempt(Work::Ping, PATIENCE).await;
        pinged.map(drop).map_err(|(error, _)| error)
    }

    /// The counter as it is; zero before the first [`Store::count`].
    pub async fn read(&self) -> Result<u64, StoreError> {
        Ok(self.with(Work::Read).await?.unwrap_or(0))
    }

    /// Adds one to the counter and returns it. Makes the table if this is a new database.
    pub async fn count(&self) -> Result<u64, StoreError> {
        self.with(Work::Count).await?.ok_or(StoreError::Vanished)
    }

    /// Ticks a box. Makes the table if this is a new database.
    pub async fn tick(&self, number: u32) -> Result<(), StoreError> {
        self.with(Work::Tick(number)).await.map(drop)
    }

    /// Whether a box is ticked.
    pub async fn is_ticked(&self, number: u32) -> Result<bool, StoreError> {
        Ok(self.with(Work::Look(number)).await?.is_some())
    }

    /// Says good-bye to the database, if it listens.
    pub async fn close(self) {
        let leave = async {
            for connection in self.all_idle() {
                let _ = connection.disconnect().await; // we leave in any case
            }
        };
        let _ = timeout(PATIENCE, leave).await;
    }

    /// Does `work` on a connection that was alive a moment ago, again and again until it is done or nobody waits for it
    /// any more.
    async fn with(&self, work: Work) -> Result<Option<u64>, StoreError> {
        let end = Instant::now() + BUDGET;
        let turn = timeout(BUDGET, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| StoreError::Silent)?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let (error, begun) = match self.attempt(work, left).await {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let again = match &error {
                StoreError::Failed(Error::Server(error)) => NOTHING_DONE.contains(&error.code),
                StoreError::Failed(_) | StoreError::Silent => !begun || work.may_be_done_twice(),
                StoreError::Vanished => false,
            };
            if !again || Instant::now() + PAUSE >= end {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// One attempt; with an error it says whether `work` had begun.
    async fn attempt(
        &self,
        work: Work,
        limit: Duration,
    ) -> Result<Option<u64>, (StoreError, bool)> {
        let silent = |begun| (StoreError::Silent, begun);
        let found = timeout(limit.min(PATIENCE), self.living()).await;
        let mut connection = match found {
            Ok(found) => found.map_err(|error| (error.into(), false))?,
            Err(_) => {
                // The others lead to where this one did.
                self.all_idle();
                return Err(silent(false));
            }
        };
        // It was alive: a cluster that has lost a member needs a moment before it goes on.
        let done = timeout(limit.min(2 * PATIENCE), work.perform(&mut connection)).await;
        let done = done.map_err(|_| silent(true))?;
        match done {
            Ok(found) => {
                self.idle().push(connection);
                Ok(found)
            }
            Err(error) => Err((error.into(), true)),
        }
    }

    /// A connection that answers: after a restart of the database all idle ones are dead.
    async fn living(&self) -> Result<Conn, Error> {
        loop {
            let idle = self.idle().pop();
            let Some(mut connection) = idle else {
                return Conn::new(self.options.clone()).await;
            };
            if connection.ping().await.is_ok() {
                return Ok(connection);
            }
        }
    }

    fn all_idle(&self) -> Vec<Conn> {
        std::mem::take(&mut *self.idle())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a database is asked.
#[derive(Clone, Copy, Debug)]
enum Work {
    Ping,
    Read,
    Count,
    Tick(u32),
    Look(u32),
}

impl Work {
    /// Whether it makes no difference to have been done before.
    fn may_be_done_twice(self) -> bool {
        match self {
            Self::Ping | Self::Read | Self::Tick(_) | Self::Look(_) => true,
            Self::Count => false,
        }
    }

    /// Does it; returns the number that was found, if any. A database without our tables is a new one.
    async fn perform(self, connection: &mut Conn) -> Result<Option<u64>, Error> {
        let query = match self {
            Self::Ping => return connection.ping().await.map(|()| None),
            Self::Count => return count(connection).await,
            Self::Tick(number) => return tick(connection, number).await.map(|()| None),
            Self::Read => "SELECT value FROM counter WHERE id = 1".to_owned(),
            Self::Look(number) => format!("SELECT id FROM box WHERE id = {number}"),
        };
        match connection.query_first(query).await {
            Err(error) if is_missing_table(&error) => Ok(None),
            found => found,
        }
    }
}

/// Both ends show a certificate, and the database's must have its name: that of the role, since the proxy chooses the
/// server.
fn tls(settings: &Tls) -> SslOpts {
    let own = settings.identity.clone();
    SslOpts::default()
        .with_disable_built_in_roots(true)
        .with_root_certs(vec![settings.ca.clone().into()])
        .with_client_identity(Some(ClientIdentity::new(own.clone().into(), own.into())))
        .with_danger_tls_hostname_override(Some(settings.host.clone()))
}

/// One statement, so that two app servers never hand out the same number. `None` without a row.
async fn increment(connection: &mut Conn) -> Result<Option<u64>, Error> {
    connection
        .query_drop("UPDATE counter SET value = LAST_INSERT_ID(value + 1) WHERE id = 1")
        .await?;
    Ok(connection
        .last_insert_id()
        .filter(|_| connection.affected_rows() == 1))
}

async fn count(connection: &mut Conn) -> Result<Option<u64>, Error> {
    match increment(connection).await {
        Ok(None) => (),
        Err(error) if is_missing_table(&error) => (),
        done => return done,
    }
    create(connection).await?;
    increment(connection).await
}

async fn tick(connection: &mut Conn, number: u32) -> Result<(), Error> {
    let query = format!("INSERT IGNORE INTO box VALUES ({number})");
    match connection.query_drop(&query).await {
        Err(error) if is_missing_table(&error) => (),
        done => return done,
    }
    connection.query_drop(BOX).await?;
    connection.query_drop(&query).await
}

async fn create(connection: &mut Conn) -> Result<(), Error> {
    connection
        .query_drop(
            "CREATE TABLE IF NOT EXISTS counter \
             (id TINYINT UNSIGNED PRIMARY KEY, value BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB",
        )
        .await?;
    connection
        .query_drop("INSERT IGNORE INTO counter VALUES (1, 0)")
        .await
}

/// The board: a row for each ticked box.
const BOX: &str =
    "CREATE TABLE IF NOT EXISTS box (id MEDIUMINT UNSIGNED PRIMARY KEY) ENGINE = InnoDB";

/// MariaDB's codes for an order that it has not carried out, and may next time: it is not in its cluster (1047), read-only
/// (1290, 1836), or the order did not fit to another one (1213).
const NOTHING_DONE: [u16; 4] = [1047, 1213, 1290, 1836];

fn is_missing_table(error: &Error) -> bool {
    matches!(error, Error::Server(error) if error.code == NO_SUCH_TABLE)
}
