//! `ravelin-db arbiter`: lets Galera's arbitrator vote while a database server runs, and never in a cluster of its own:
//! one that the servers then begin could not merge with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::decide::{Arbiter, Standing};
use crate::prepare::standing;
use crate::tls::{Guest, Identity};

const ASK: Duration = Duration::from_secs(1);
/// Without a word of a running server for so long, it leaves.
const SILENCE: Duration = Duration::from_secs(15);
/// How long the program may take to leave in good order.
const GRACE: Duration = Duration::from_secs(5);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs until it fails.
pub async fn run(config: Config) -> Result<(), Error> {
    let identity = Identity::read(&config.tls)?;
    let names = config
        .servers
        .iter()
        .map(|peer| peer.name.clone())
        .collect();
    let door = identity
        .listen(SocketAddr::new(config.address, config.port), names)
        .await?;
    let (send, state) = watch::channel(Arbiter::Idle);
    let router = Router::new()
        .route("/state", get(told))
        .with_state(Arc::new(state));
    let serve = axum::serve(door, router.into_make_service_with_connect_info::<Guest>());
    tokio::select! {
        ended = serve.into_future() => Ok(ended?),
        failed = vote(&config, &identity, send) => failed,
    }
}

async fn told(State(state): State<Arc<watch::Receiver<Arbiter>>>) -> Json<Arbiter> {
    Json(*state.borrow())
}

async fn vote(
    config: &Config,
    identity: &Identity,
    send: watch::Sender<Arbiter>,
) -> Result<(), Error> {
    let mut program: Option<Child> = None;
    let mut heard = Instant::now();
    loop {
        let mut all = Vec::new();
        for peer in &config.servers {
            all.push(standing(identity, config, peer).await);
        }
        let runs = all.contains(&Some(Standing::Running { primary: true }));
        // All of them said that there is none.
        let none = !runs && all.iter().all(Option::is_some);
        if runs {
            heard = Instant::now();
        }
        if let Some(child) = &mut program
            && let Some(status) = child.try_wait()?
        {
            eprintln!("garbd ended: {status}");
            program = None;
        }
        match (&mut program, runs) {
            (None, true) => {
                let child = Command::new("garbd")
                    .args(&config.arbiter_arguments)
                    .kill_on_drop(true)
                    .spawn()?;
                program = Some(child);
            }
            (Some(child), false) if none || heard.elapsed() > SILENCE => {
                eprintln!("no database server runs: leaving");
                end(child).await?;
                program = None;
            }
            (None, false) | (Some(_), _) => {}
        }
        // Nobody listening is our own end.
        let _ = send.send(match program {
            Some(_) => Arbiter::Votes,
            None => Arbiter::Idle,
        });
        sleep(ASK).await;
    }
}

async fn end(child: &mut Child) -> Result<(), Error> {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(id),
            nix::sys::signal::Signal::SIGTERM,
        );
    }
    if timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}
