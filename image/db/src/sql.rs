//! The local database server, asked through its socket as the user that both of us are.

use std::collections::BTreeMap;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, OptsBuilder};
use tokio::time::timeout;

/// An answer that takes longer is none: the server hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection that is made when it is needed.
#[derive(Default)]
pub struct Local {
    connection: Option<Conn>,
}

/// What goes wrong with it, in words.
pub type Failed = String;

impl Local {
    /// Runs statements one after the other.
    pub async fn run(&mut self, statements: &[&str]) -> Result<(), Failed> {
        for statement in statements {
            self.with(async |connection| connection.query_drop(*statement).await)
                .await?;
        }
        Ok(())
    }

    /// Status values and variables that begin like this, by their names in lower case.
    pub async fn values(&mut self, pattern: &str) -> Result<BTreeMap<String, String>, Failed> {
        let status = format!("SHOW GLOBAL STATUS LIKE '{pattern}'");
        let variables = format!("SHOW GLOBAL VARIABLES LIKE '{pattern}'");
        let rows = self
            .with(async |connection| {
                let mut rows: Vec<(String, String)> = connection.query(variables).await?;
                rows.extend(connection.query::<(String, String), _>(status).await?);
                Ok(rows)
            })
            .await?;
        let lower = |(name, value): (String, String)| (name.to_lowercase(), value);
        Ok(rows.into_iter().map(lower).collect())
    }

    /// The columns of the only row of an answer, as texts.
    pub async fn row(&mut self, query: &str) -> Result<BTreeMap<String, String>, Failed> {
        let row = self
            .with(async |connection| connection.query_first::<mysql_async::Row, _>(query).await)
            .await?;
        let Some(row) = row else {
            return Ok(BTreeMap::new());
        };
        let names: Vec<String> = (row.columns_ref().iter())
            .map(|column| column.name_str().to_lowercase())
            .collect();
        let text = |index: usize| row.get_opt::<String, _>(index)?.ok();
        Ok((names.into_iter().enumerate())
            .filter_map(|(index, name)| Some((name, text(index)?)))
            .collect())
    }

    async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Failed> {
        let attempt = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect().await?,
            };
            let done = work(&mut connection).await;
            if done.is_ok() {
                self.connection = Some(connection);
            }
            done
        };
        match timeout(PATIENCE, attempt).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

async fn connect() -> Result<Conn, Error> {
    let options = OptsBuilder::default()
        .socket(Some(format!("{}/mysqld.sock", crate::config::RUN)))
        .user(Some("mysql"))
        .prefer_socket(Some(true))
        // Known, so that it is not asked: a server that is cut off from its cluster answers no SELECT.
        .max_allowed_packet(Some(1 << 20))
        .wait_timeout(Some(600));
    Conn::new(options).await
}
