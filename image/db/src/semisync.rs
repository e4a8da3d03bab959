//! A primary and its replica: who is which, and what the database server is told about it.
//!
//! Nobody promotes by himself: without a third vote, a server cannot tell a dead primary from a cut cable. Each change
//! of the primary has a number; who hears a higher one follows. A primary that has just started does not know whether
//! it still is one, so it takes no writes before it has heard the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::agent::Told;
use crate::config::{Config, DATA, Peer};
use crate::prepare::ask;
use crate::sql::Local;
use crate::tls::Identity;

/// The other server's word is not waited for longer: what we say of ourselves meanwhile grows old.
const WORD: Duration = Duration::from_millis(1500);

/// Who is the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// How often that was decided.
    pub number: u64,
    /// Name of the primary.
    pub primary: String,
    /// Whether an operator said that the other server is dead and its word not needed.
    #[serde(default)]
    pub alone: bool,
}

/// What this server should be now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Takes writes.
    Primary,
    /// Follows the other one.
    Replica,
    /// Takes none: what it is, is not known.
    Unsure,
}

/// Our half of the pair.
pub struct Pair {
    config: Config,
    path: PathBuf,
    election: Election,
    done: Option<(u64, Part)>,
}

impl Pair {
    /// As it was saved.
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            election: saved(),
            path: path(),
            done: None,
        }
    }

    /// Who is the primary, as far as we know.
    pub fn election(&self) -> Election {
        self.election.clone()
    }

    /// Tells the database server what it is; returns whether it is the primary.
    pub async fn turn(&mut self, running: bool, local: &mut Local, identity: &Identity) -> bool {
        let Some(peer) = other(&self.config).cloned() else {
            return false;
        };
        if !running {
            self.done = None;
            return false;
        }
        // An operator may have promoted us.
        if let Some(saved) = read(&self.path).filter(|saved| saved.number > self.election.number) {
            self.election = saved;
        }
        let told = timeout(WORD, ask::<Told>(identity, &self.config, &peer)).await;
        let told = told.ok().flatten();
        let first = self.config.servers.first().map(|peer| peer.name.as_str());
        let heard = told.as_ref().and_then(|told| told.election.as_ref());
        if let Some(election) = newer(&self.election, heard, first)
            && let Err(error) = self.save(election)
        {
            eprintln!("{}: {error}", self.path.display());
            return false;
        }
        let open = local.values("read_only").await;
        let open = open.is_ok_and(|values| values.get("read_only").is_some_and(|v| v == "OFF"));
        let part = part(&self.election, &self.config.name, told.as_ref(), open);
        let step = (self.election.number, part);
        if self.done != Some(step) {
            match self.become_part(part, local, &peer).await {
                Ok(true) => self.done = Some(step),
                Ok(false) => return false,
                Err(error) => {
                    eprintln!("{part:?}: {error}");
                    return false;
                }
            }
            eprintln!("{part:?} by decision {}", self.election.number);
        }
        part == Part::Primary
    }

    fn save(&mut self, election: Election) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec(&election)?)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.election = election;
        Ok(())
    }

    /// False while it has to be tried again.
    async fn become_part(
        &self,
        part: Part,
        local: &mut Local,
        peer: &Peer,
    ) -> Result<bool, String> {
        match part {
            Part::Unsure => local.run(&["SET GLOBAL read_only = ON"]).await?,
            Part::Primary => {
                let replica = local.row("SHOW SLAVE STATUS").await?;
                // What the old primary acknowledged is in the relay log at least.
                let column = |name: &str| replica.get(name).map(String::as_str);
                if !replica.is_empty()
                    && (column("read_master_log_pos") != column("exec_master_log_pos")
                        || column("master_log_file") != column("relay_master_log_file"))
                {
                    return Ok(false);
                }
                local
                    .run(&[
                        "STOP SLAVE",
                        "RESET SLAVE ALL",
                        "SET GLOBAL rpl_semi_sync_slave_enabled = OFF",
                        "SET GLOBAL rpl_semi_sync_master_enabled = ON",
                        "SET GLOBAL read_only = OFF",
                    ])
                    .await?;
            }
            Part::Replica => {
                let change = format!(
                    "CHANGE MASTER TO MASTER_HOST = '{0}', MASTER_PORT = 3306, MASTER_USER = 'replica', \
                     MASTER_USE_GTID = slave_pos, MASTER_DEMOTE_TO_SLAVE = 1, MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 2, \
                     MASTER_SSL = 1, MASTER_SSL_CA = '{1}/trust-db.pem', \
                     MASTER_SSL_CERT = '{1}/client.pem', MASTER_SSL_KEY = '{1}/client.pem', \
                     MASTER_SSL_VERIFY_SERVER_CERT = 1",
                    peer.name,
                    self.config.tls.display(),
                );
                local
                    .run(&[
                        "SET GLOBAL read_only = ON",
                        // On a replica it would hold up the thread that applies what it gets.
                        "SET GLOBAL rpl_semi_sync_master_enabled = OFF",
                        "STOP SLAVE",
                        "SET GLOBAL rpl_semi_sync_slave_enabled = ON",
                        &change,
                        "START SLAVE",
                    ])
                    .await?;
            }
        }
        Ok(true)
    }
}

fn path() -> PathBuf {
    Path::new(DATA).join("ravelin-primary")
}

/// What is known on this server's disk; nothing on a new one.
pub fn saved() -> Election {
    read(&path()).unwrap_or_default()
}

/// The other server of the pair.
pub fn other(config: &Config) -> Option<&Peer> {
    config.servers.iter().find(|peer| peer.name != config.name)
}

/// The decision that is to be saved instead of ours, if any.
fn newer(ours: &Election, heard: Option<&Election>, first: Option<&str>) -> Option<Election> {
    let heard = heard?;
    if heard.number > ours.number {
        // That the other one is alone is not true for us.
        return Some(Election {
            alone: false,
            ..heard.clone()
        });
    }
    // Both are new: the first of the file.
    (ours.number == 0 && heard.number == 0).then(|| Election {
        number: 1,
        primary: first.unwrap_or_default().to_owned(),
        alone: false,
    })
}

/// `open`: the database server takes writes already, so that we were sure before.
fn part(election: &Election, own: &str, told: Option<&Told>, open: bool) -> Part {
    if election.number == 0 {
        return Part::Unsure;
    }
    if election.primary != own {
        return Part::Replica;
    }
    let agreed = told.is_some_and(|told| {
        let same = (told.election.as_ref()).is_some_and(|heard| heard.number == election.number);
        same && !told.writable
    });
    match open || election.alone || agreed {
        true => Part::Primary,
        false => Part::Unsure,
    }
}

fn read(path: &Path) -> Option<Election> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// `ravelin-db promote [--dead]`: makes this server the primary.
pub async fn promote(config: &Config, dead: bool) -> Result<(), String> {
    let identity = Identity::read(&config.tls).map_err(|error| error.to_string())?;
    let peer = other(config).ok_or("there is no other database server")?;
    let mut pair = Pair::new(config);
    // One that has to go on alone after it was away itself has to be told that, too.
    if pair.election.primary == config.name && !dead {
        return Err(format!("`{}` is the primary already", config.name));
    }
    let told: Option<Told> = ask(&identity, config, peer).await;
    if told.is_none() != dead {
        return Err(match dead {
            true => format!(
                "`{}` is not dead: it answers; promote without --dead",
                peer.name
            ),
            false => format!(
                "`{}` does not answer: cut its power, so that it cannot take writes, then promote with --dead",
                peer.name
            ),
        });
    }
    let election = Election {
        number: pair.election.number + 1,
        primary: config.name.clone(),
        alone: dead,
    };
    pair.save(election).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Standing;

    fn election(number: u64, primary: &str) -> Election {
        Election {
            number,
            primary: primary.to_owned(),
            alone: false,
        }
    }

    fn told(election: Election, writable: bool) -> Told {
        Told {
            standing: Standing::Running { primary: true },
            writable,
            serves: writable,
            election: Some(election),
        }
    }

    #[test]
    fn a_primary_takes_writes_only_when_the_other_agrees() {
        let ours = election(3, "db1");
        let part = |told: Option<&Told>, open| part(&ours, "db1", told, open);
        assert_eq!(part(None, false), Part::Unsure);
        assert_eq!(part(None, true), Part::Primary);
        assert_eq!(
            part(Some(&told(election(3, "db1"), false)), false),
            Part::Primary
        );
        assert_eq!(
            part(Some(&told(election(3, "db1"), true)), false),
            Part::Unsure
        );
        assert_eq!(
            part(Some(&told(election(2, "db2"), false)), false),
            Part::Unsure
        );
        assert_eq!(super::part(&ours, "db2", None, true), Part::Replica);
        let alone = Election {
            alone: true,
            ..election(4, "db2")
        };
        assert_eq!(super::part(&alone, "db2", None, false), Part::Primary);
        assert_eq!(
            super::part(&Election::default(), "db1", None, false),
            Part::Unsure
        );
    }

    #[test]
    fn the_higher_number_is_followed_and_two_new_servers_take_the_first() {
        let none = Election::default();
        assert_eq!(newer(&none, None, Some("db1")), None);
        assert_eq!(
            newer(&none, Some(&none), Some("db1")),
            Some(election(1, "db1"))
        );
        assert_eq!(
            newer(&none, Some(&election(2, "db2")), Some("db1")),
            Some(election(2, "db2"))
        );
        assert_eq!(
            newer(&election(2, "db2"), Some(&election(1, "db1")), Some("db1")),
            None
        );
        let alone = Election {
            alone: true,
            ..election(3, "db2")
        };
        assert_eq!(
            newer(&election(2, "db1"), Some(&alone), None),
            Some(election(3, "db2"))
        );
    }
}
