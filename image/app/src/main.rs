//! The demo application of the reference site: a page with a counter that lives in the database.
//!
//! It stands for the operator's own program and behaves as one should: it starts without its
//! database, says by `/healthz` whether it can work, bounds every wait, and stops when asked to.

mod config;
mod log;
mod store;
mod web;

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use config::Config;
use store::Store;

/// How long open requests may take after we were asked to stop.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line("error", &[("message", error.to_string().into())]);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    // For the database; one that was chosen before is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let store = Store::new(&config.database);
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    log::line(
        "info",
        &[
            ("message", "listening".into()),
            ("address", listener.local_addr()?.to_string().into()),
            ("database", config.database.address.to_string().into()),
        ],
    );

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = web::router(config.name, config.site, store.clone());
    let mut server = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(async {
                let _ = stopped.await; // a dropped sender means the same
            })
            .into_future(),
    );
    tokio::select! {
        ended = &mut server => return Ok(ended??),
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    log::line("info", &[("message", "stopping".into())]);
    drop(stop);
    if tokio::time::timeout(GRACE, server).await.is_err() {
        log::line("warning", &[("message", "gave up on open requests".into())]);
    }
    store.close().await;
    Ok(())
}
