//! `/etc/ravelin/db.json`, rendered from the site file.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

/// What a server has to know of the database.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Name of this server.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Port on which states are told.
    pub port: u16,
    /// Directory of the certificates: `server.pem` to be asked with and `trust-clients.pem` for those who ask, `peer.pem`
    /// to ask with and `trust-group.pem` for those who are asked.
    pub tls: PathBuf,
    /// How the database is shared.
    pub mode: Mode,
    /// The database servers, the preferred one first.
    pub servers: Vec<Peer>,
    /// The server with the additional vote.
    pub arbiter: Option<Peer>,
    /// Names of those that may ask who can be written to, besides database servers and the arbiter.
    pub clients: Vec<String>,
    /// Backups.
    pub backup: Backup,
    /// Arguments of the arbiter's program.
    #[serde(default)]
    pub arbiter_arguments: Vec<String>,
}

/// Another server.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its name, which its certificate must have.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// How the database is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A cluster.
    Galera,
    /// A primary and its replica.
    Semisync,
    /// One server.
    Primary,
}

/// Backups.
#[derive(Clone, Debug, Deserialize)]
pub struct Backup {
    /// Who keeps them.
    pub keeper: Peer,
    /// Port there.
    pub port: u16,
    /// Seconds between two.
    pub every: u64,
    /// How many are kept.
    pub keep: usize,
}

/// Where MariaDB's things are.
pub const DATA: &str = "/var/lib/mysql";
/// Its directory in memory.
pub const RUN: &str = "/run/mysqld";
/// Its configuration.
pub const DEFAULTS: &str = "--defaults-file=/etc/mysql/ravelin.cnf";

impl Config {
    /// Reads the file that `RAVELIN_DB_CONFIG` names, or the usual one.
    pub fn read() -> Result<Self, String> {
        let path = std::env::var_os("RAVELIN_DB_CONFIG")
            .map_or_else(|| PathBuf::from("/etc/ravelin/db.json"), PathBuf::from);
        let bad = |error: String| format!("{}: {error}", path.display());
        let text = fs::read(&path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))
    }

    /// Our place among the database servers.
    pub fn own(&self) -> Option<usize> {
        self.servers.iter().position(|peer| peer.name == self.name)
    }

    /// Where a server tells its state.
    pub fn state_of(&self, peer: &Peer) -> SocketAddr {
        SocketAddr::new(peer.address, self.port)
    }
}
