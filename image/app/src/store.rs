//! The counter in the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{
    ClientIdentity, Conn, Error, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, SslOpts,
};
use tokio::time::timeout;

use crate::config::{Database, Tls};

/// No answer of the database is waited for longer; a request waits at most twice.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most connections of one app server.
const CONNECTIONS: usize = 8;
/// MariaDB's code for a table that does not exist.
const NO_SUCH_TABLE: u16 = 1146;

/// A handle to the database. Connections are made when needed, so it may be down.
#[derive(Clone)]
pub struct Store {
    options: Opts,
    pool: Arc<Mutex<Pool>>,
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused, or is not there.
    #[error("the database failed: {0}")]
    Failed(#[from] Error),
    /// It said nothing.
    #[error("the database did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// The counter's row is gone as soon as it is made.
    #[error("the counter has vanished")]
    Vanished,
}

impl Store {
    /// A store on the database that `settings` describes. Connects to nothing yet.
    #[must_use]
    pub fn new(settings: &Database) -> Self {
        let limits = PoolConstraints::new(0, CONNECTIONS).unwrap_or_default();
        let options: Opts = OptsBuilder::default()
            .ip_or_hostname(settings.address.ip().to_string())
            .tcp_port(settings.address.port())
            .user(Some(&settings.user))
            .pass(Some(&settings.password))
            .db_name(Some(&settings.name))
            .prefer_socket(Some(false))
            .ssl_opts(settings.tls.as_ref().map(tls))
            .pool_opts(
                PoolOpts::default()
                    .with_constraints(limits)
                    .with_inactive_connection_ttl(Duration::from_secs(60)),
            )
            .into();
        Self {
            pool: Arc::new(Mutex::new(Pool::new(options.clone()))),
            options,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.with(async |connection| connection.ping().await).await
    }

    /// The counter as it is; zero before the first [`Store::count`].
    pub async fn read(&self) -> Result<u64, StoreError> {
        let query = "SELECT value FROM counter WHERE id = 1";
        match self
            .with(async |connection| connection.query_first(query).await)
            .await
        {
            Ok(value) => Ok(value.unwrap_or(0)),
            Err(StoreError::Failed(error)) if is_missing_table(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds one to the counter and returns it. Makes the table if this is a new database.
    pub async fn count(&self) -> Result<u64, StoreError> {
        let counted = self
            .with(async |connection| {
                match increment(connection).await {
                    Ok(None) => (),
                    Err(error) if is_missing_table(&error) => (),
                    done => return done,
                }
                create(connection).await?;
                increment(connection).await
            })
            .await?;
        counted.ok_or(StoreError::Vanished)
    }

    /// Says good-bye to the database, if it listens.
    pub async fn close(self) {
        let _ = timeout(PATIENCE, self.pool().disconnect()).await; // we leave in any case
    }

    /// Runs `work` on a connection that was alive a moment ago.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let pool = self.pool();
        let Ok(connection) = timeout(PATIENCE, living(&pool)).await else {
            return Err(self.silent());
        };
        let mut connection = connection?;
        let Ok(done) = timeout(PATIENCE, work(&mut connection)).await else {
            return Err(self.silent());
        };
        Ok(done?)
    }

    /// Starts over with new connections. The old ones may lead to a machine that lost power: they
    /// would stay in the pool, mute, until TCP gives them up after a quarter of an hour.
    fn silent(&self) -> StoreError {
        *self.pool.lock().unwrap_or_else(PoisonError::into_inner) = Pool::new(self.options.clone());
        StoreError::Silent
    }

    fn pool(&self) -> Pool {
        self.pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

/// A connection of the pool that answers. After a restart of the database all idle ones are dead.
async fn living(pool: &Pool) -> Result<Conn, Error> {
    for _ in 0..CONNECTIONS {
        let mut connection = pool.get_conn().await?;
        if connection.ping().await.is_ok() {
            return Ok(connection);
        }
    }
    pool.get_conn().await
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

fn is_missing_table(error: &Error) -> bool {
    matches!(error, Error::Server(error) if error.code == NO_SUCH_TABLE)
}
