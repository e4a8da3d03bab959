//! What database servers need besides MariaDB: to come up together after a power cut without ever beginning their cluster
//! twice, to say who may be written to, and to bring backups away. On monitor servers the same program votes in the
//! cluster and keeps the backups.

#![forbid(unsafe_code)]

mod agent;
mod arbiter;
mod backup;
mod config;
mod decide;
mod keeper;
mod position;
mod prepare;
mod semisync;
mod sql;
mod tls;

use std::process::ExitCode;

use config::Config;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("ravelin-db: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let config = Config::read()?;
    match words.as_slice() {
        ["serves"] => return agent::serves(&config).await,
        ["prepare"] => prepare::run(&config).await,
        ["serve"] => agent::run(config).await,
        ["arbiter"] => arbiter::run(config).await,
        ["keep"] => keeper::run(config).await,
        ["backup"] => backup::run(&config).await,
        ["promote"] => Ok(semisync::promote(&config, false).await?),
        ["promote", "--dead"] => Ok(semisync::promote(&config, true).await?),
        _ => Err(
            "usage: ravelin-db prepare|serve|serves|arbiter|keep|backup|promote [--dead]".into(),
        ),
    }?;
    Ok(ExitCode::SUCCESS)
}
