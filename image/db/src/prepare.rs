//! `ravelin-db prepare`: before the database server starts. Makes its system tables if it is new; of a cluster, waits
//! until it is known whether there is one to join or this server has to begin it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Request;
use bytes::Bytes;
use http_body_util::Empty;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::agent::Told;
use crate::config::{Config, DATA, Mode, Peer, RUN};
use crate::decide::{Arbiter, Decision, Position, Standing, decide};
use crate::position;
use crate::semisync;
use crate::tls::Identity;

/// Between two questions to the others.
const ASK: Duration = Duration::from_secs(1);
/// An arbiter that is silent for so long has left whatever cluster it was in: it does so by itself sooner.
const SILENCE: Duration = Duration::from_secs(40);
/// MariaDB then removes from its log what the replica has not acknowledged, instead of bringing it back.
const AS_REPLICA: &str = "--init-rpl-role=SLAVE --rpl-semi-sync-slave-enabled=ON";

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Returns when the database server may start.
pub async fn run(config: &Config) -> Result<(), Error> {
    note(&Standing::Unknown)?;
    if config.mode != Mode::Galera {
        install().await?;
        let start = match config.mode == Mode::Semisync && was_replaced(config).await? {
            true => AS_REPLICA,
            false => "",
        };
        write(
            &Path::new(RUN).join("start"),
            format!("START={start}\n").as_bytes(),
        )?;
        return Ok(());
    }
    let own = config.own().ok_or("we are no database server")?;
    let position = position::of(Path::new(DATA)).await?;
    eprintln!("position: {position:?}");
    note(&Standing::Waiting(position.clone()))?;
    let decision = wait(config, own, &position).await?;
    note(&Standing::Starting)?;
    let start = match decision {
        Decision::Begin => {
            eprintln!("beginning the cluster");
            if position == Position::Fresh {
                install().await?;
            }
            position::allow_to_begin(Path::new(DATA))?;
            format!("--wsrep-new-cluster{}", at(&position))
        }
        Decision::Join | Decision::Wait(_) | Decision::Refuse(_) => {
            eprintln!("joining the cluster");
            at(&position)
        }
    };
    write(
        &Path::new(RUN).join("start"),
        format!("START={start}\n").as_bytes(),
    )?;
    Ok(())
}

/// Of a pair: whether this server was the primary when it stopped, and the other one is now. Only then it may forget what it
/// wrote and nobody acknowledged, so a primary waits until it knows.
async fn was_replaced(config: &Config) -> Result<bool, Error> {
    let identity = Identity::read(&config.tls)?;
    let mut said = false;
    loop {
        // Whoever waits may be promoted meanwhile.
        let ours = semisync::saved();
        let Some(peer) = semisync::other(config).filter(|_| ours.primary == config.name) else {
            return Ok(false);
        };
        let told: Option<Told> = ask(&identity, config, peer).await;
        match told.and_then(|told| told.election) {
            Some(theirs) => {
                return Ok(theirs.number > ours.number && theirs.primary != ours.primary);
            }
            None if ours.alone => return Ok(false),
            None if !said => {
                said = true;
                eprintln!(
                    "the database waits: `{}` may be the primary by now",
                    peer.name
                );
            }
            None => {}
        }
        sleep(ASK).await;
    }
}

/// After a crash Galera's own file does not know the position.
fn at(position: &Position) -> String {
    match position {
        Position::At { cluster, seqno, .. } if *seqno >= 0 => {
            format!(" --wsrep-start-position={cluster}:{seqno}")
        }
        Position::At { .. } | Position::Fresh | Position::Partial => String::new(),
    }
}

/// Asks all others until there is something to do.
async fn wait(config: &Config, own: usize, position: &Position) -> Result<Decision, Error> {
    let identity = Identity::read(&config.tls)?;
    let names: Vec<String> = config
        .servers
        .iter()
        .map(|peer| peer.name.clone())
        .collect();
    let mut said = String::new();
    let mut arbiter_heard = Instant::now();
    loop {
        let mut heard = Vec::new();
        for (index, peer) in config.servers.iter().enumerate() {
            heard.push(match index == own {
                true => Some(Standing::Waiting(position.clone())),
                false => standing(&identity, config, peer).await,
            });
        }
        let arbiter = match &config.arbiter {
            None => None,
            Some(peer) => {
                let word = ask::<Arbiter>(&identity, config, peer).await;
                if word.is_some() {
                    arbiter_heard = Instant::now();
                }
                // Until it has been silent for long, it may vote.
                word.or((arbiter_heard.elapsed() < SILENCE).then_some(Arbiter::Votes))
            }
        };
        let decision = decide(&names, own, &heard, arbiter);
        match &decision {
            Decision::Begin | Decision::Join => return Ok(decision),
            Decision::Wait(why) | Decision::Refuse(why) => {
                if said != *why {
                    eprintln!("the database waits: {why}");
                    said.clone_from(why);
                }
            }
        }
        sleep(ASK).await;
    }
}

/// What another database server says.
pub async fn standing(identity: &Identity, config: &Config, peer: &Peer) -> Option<Standing> {
    let told: Told = ask(identity, config, peer).await?;
    Some(told.standing)
}

/// What another server says of its state.
pub async fn ask<T: serde::de::DeserializeOwned>(
    identity: &Identity,
    config: &Config,
    peer: &Peer,
) -> Option<T> {
    let request = Request::get("/state").header("host", &peer.name);
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let answer = identity.ask(&peer.name, config.state_of(peer), request);
    let (status, body) = timeout(crate::tls::PATIENCE, answer).await.ok()?.ok()?;
    if !status.is_success() {
        return None;
    }
    serde_json::from_slice(&body).ok()
}

async fn install() -> Result<(), Error> {
    let status = Command::new("/usr/lib/ravelin/db-first-boot")
        .status()
        .await?;
    status
        .success()
        .then_some(())
        .ok_or_else(|| "the system tables could not be made".into())
}

fn note(standing: &Standing) -> Result<(), Error> {
    write(
        &Path::new(RUN).join("standing"),
        &serde_json::to_vec(standing)?,
    )
}

/// All of a file or nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let whole = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    whole.map_err(|error| format!("{}: {error}", path.display()).into())
}
