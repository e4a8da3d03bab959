//! `ravelin-db serve`: says where this database server stands, and whether it may be written to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{Config, Mode, RUN};
use crate::decide::Standing;
use crate::prepare::ask;
use crate::semisync::{self, Election};
use crate::sql::Local;
use crate::tls::{Guest, Identity};

/// Between two looks at the database server.
const LOOK: Duration = Duration::from_millis(500);
/// What was seen longer ago says nothing about now.
const STALE: Duration = Duration::from_secs(3);
/// How long a server may be cut off from its cluster before it starts anew: together, all of them then find out who
/// knows most.
const CUT_OFF: Duration = Duration::from_secs(30);

/// What was seen last.
#[derive(Clone, Debug)]
pub struct Seen {
    when: Instant,
    standing: Standing,
    writable: bool,
    serves: bool,
    election: Option<Election>,
    numbers: BTreeMap<String, String>,
}

/// What `/state` says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// Where the server stands.
    pub standing: Standing,
    /// Whether it may be written to.
    pub writable: bool,
    /// Whether it does its part now: it may be written to, or has all that the primary of its pair has acknowledged.
    #[serde(default)]
    pub serves: bool,
    /// Of a pair: who is its primary, as far as this server knows.
    pub election: Option<Election>,
}

/// Runs until it fails.
pub async fn run(config: Config) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let identity = Identity::read(&config.tls)?;
    let mut names: Vec<String> = config.clients.clone();
    names.extend(config.servers.iter().map(|peer| peer.name.clone()));
    names.extend(config.arbiter.iter().map(|peer| peer.name.clone()));
    let door = identity
        .listen(SocketAddr::new(config.address, config.port), names)
        .await?;
    let (send, seen) = watch::channel(Seen {
        when: Instant::now(),
        standing: Standing::Unknown,
        writable: false,
        serves: false,
        election: None,
        numbers: BTreeMap::new(),
    });
    let router = Router::new()
        .route("/state", get(state))
        .route("/writer", get(writer))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(seen));
    let serve = axum::serve(door, router.into_make_service_with_connect_info::<Guest>());
    tokio::select! {
        ended = serve.into_future() => Ok(ended?),
        () = watch_database(&config, &identity, send) => Ok(()),
    }
}

async fn state(State(seen): State<Arc<watch::Receiver<Seen>>>) -> Json<Told> {
    let seen = seen.borrow().clone();
    let fresh = seen.when.elapsed() < STALE;
    Json(Told {
        standing: if fresh {
            seen.standing
        } else {
            Standing::Unknown
        },
        writable: fresh && seen.writable,
        serves: fresh && seen.serves,
        election: seen.election,
    })
}

/// For proxies: 200 only from a server that may be written to.
async fn writer(State(seen): State<Arc<watch::Receiver<Seen>>>) -> (StatusCode, &'static str) {
    let seen = seen.borrow();
    if seen.writable && seen.when.elapsed() < STALE {
        (StatusCode::OK, "write here\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not here\n")
    }
}

/// For Prometheus.
async fn metrics(State(seen): State<Arc<watch::Receiver<Seen>>>) -> String {
    let seen = seen.borrow();
    let mut text = String::new();
    let fresh = seen.when.elapsed() < STALE;
    let _ = writeln!(
        text,
        "ravelin_db_writable {}",
        u8::from(fresh && seen.writable)
    ); // writing to a String cannot fail
    for (name, value) in &seen.numbers {
        let value = match value.as_str() {
            "ON" | "Yes" | "Primary" => "1",
            "OFF" | "No" | "non-Primary" | "Disconnected" => "0",
            other => other,
        };
        if value.parse::<f64>().is_ok() {
            let _ = writeln!(text, "ravelin_db_{name} {value}");
        }
    }
    text
}

async fn watch_database(config: &Config, identity: &Identity, send: watch::Sender<Seen>) {
    let mut local = Local::default();
    let mut pair = semisync::Pair::new(config);
    let mut cut_off: Option<Instant> = None;
    loop {
        let (standing, writable, numbers) = look(config.mode, &mut local).await;
        let (writable, election) = match config.mode {
            Mode::Semisync => {
                let running = matches!(standing, Standing::Running { .. });
                let allowed = pair.turn(running, &mut local, identity).await;
                (writable && allowed, Some(pair.election()))
            }
            Mode::Galera | Mode::Primary => (writable, None),
        };
        match standing {
            Standing::Running { primary: false } if config.mode == Mode::Galera => {
                let since = *cut_off.get_or_insert_with(Instant::now);
                if since.elapsed() > CUT_OFF {
                    eprintln!("cut off from the cluster: starting the database server anew");
                    end_database();
                    cut_off = None;
                }
            }
            _ => cut_off = None,
        }
        let follows = config.mode == Mode::Semisync
            && (numbers.get("rpl_semi_sync_slave_status")).is_some_and(|value| value == "ON");
        // Nobody listening is our own end.
        let _ = send.send(Seen {
            when: Instant::now(),
            standing,
            writable,
            serves: writable || follows,
            election,
            numbers,
        });
        sleep(LOOK).await;
    }
}

/// `ravelin-db serves`: whether the gate of updates may let this server's version stay. What is on its way needs patience: a whole
/// copy of the database takes as long as it takes.
pub async fn serves(config: &Config) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let own = config.own().and_then(|index| config.servers.get(index));
    let own = own.ok_or("this is no database server")?;
    let told: Option<Told> = ask(&Identity::read(&config.tls)?, config, own).await;
    let (status, why) = verdict(told.as_ref());
    if !why.is_empty() {
        println!("{why}");
    }
    Ok(ExitCode::from(status))
}

fn verdict(told: Option<&Told>) -> (u8, &'static str) {
    let Some(told) = told else {
        return (1, "ravelin-db does not answer");
    };
    match told.standing {
        Standing::Running { .. } if told.serves => (0, ""),
        Standing::Running { primary: true } => (SOON, "the database catches up with the others"),
        Standing::Starting => (
            SOON,
            "the database starts, or gets a copy of another server's",
        ),
        Standing::Running { primary: false } => (1, "the database is cut off from its cluster"),
        Standing::Waiting(_) => (1, "the database waits for the other servers"),
        Standing::Unknown => (1, "nothing is known of the database"),
    }
}

/// As sysexits.h has it: a temporary failure.
const SOON: u8 = 75;

type Numbers = BTreeMap<String, String>;

async fn look(mode: Mode, local: &mut Local) -> (Standing, bool, Numbers) {
    let Ok(mut numbers) = local.values("read_only").await else {
        return (noted(), false, Numbers::new());
    };
    let more = match mode {
        Mode::Galera => "wsrep%",
        Mode::Semisync => "rpl_semi_sync_%",
        Mode::Primary => "uptime",
    };
    let Ok(others) = local.values(more).await else {
        return (noted(), false, Numbers::new());
    };
    numbers.extend(others);
    let is = |name: &str, value: &str| numbers.get(name).is_some_and(|found| found == value);
    let open = is("read_only", "OFF");
    let (primary, writable) = match mode {
        Mode::Galera => {
            let primary = is("wsrep_cluster_status", "Primary");
            // 4 is Synced; a donor (2) goes on taking writes, but falls behind.
            let synced = is("wsrep_local_state", "4") || is("wsrep_local_state", "2");
            let joined = primary && (synced || is("wsrep_local_state", "3"));
            (joined, primary && synced && is("wsrep_ready", "ON") && open)
        }
        Mode::Semisync | Mode::Primary => (true, open),
    };
    (Standing::Running { primary }, writable, numbers)
}

/// What `prepare` noted for us, while the database server does not answer.
fn noted() -> Standing {
    let text = fs::read(Path::new(RUN).join("standing")).ok();
    let standing = text.and_then(|text| serde_json::from_slice(&text).ok());
    standing.unwrap_or(Standing::Unknown)
}

/// It is our own user's process; its unit starts it again.
fn end_database() {
    let pid = fs::read_to_string(Path::new(RUN).join("mysqld.pid")).ok();
    let pid = pid.and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid
        && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
    {
        eprintln!("cannot end the database server: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Position;

    #[test]
    fn a_server_that_catches_up_does_not_serve_yet() {
        let waiting = Standing::Waiting(Position::Fresh);
        let table = [
            (Standing::Running { primary: true }, true, 0),
            (Standing::Running { primary: true }, false, SOON),
            (Standing::Starting, false, SOON),
            (Standing::Running { primary: false }, false, 1),
            (waiting, false, 1),
            (Standing::Unknown, false, 1),
        ];
        for (standing, serves, expected) in table {
            let told = Told {
                standing,
                writable: serves,
                serves,
                election: None,
            };
            let (status, why) = verdict(Some(&told));
            assert_eq!(status, expected, "{told:?}");
            assert_eq!(why.is_empty(), status == 0, "{told:?}");
        }
        assert_eq!(verdict(None).0, 1);
    }
}
