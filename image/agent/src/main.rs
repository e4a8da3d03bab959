//! What the monitor makes of everybody's logs, as rsyslog keeps them on it: figures of the web servers' requests, of the
//! appliances and of who is silent, as a file for the node exporter; bounds on what is kept; and, if the site has
//! one, shipments of logs and figures to a central sink.
//!
//! Every line is counted from where an earlier run stopped, and shipped at least once.

mod appliance;
mod config;
mod figures;
mod follow;
mod keep;
mod line;
mod ship;
mod spool;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use config::Config;
use figures::Figures;
use follow::Follower;
use ship::Shipper;
use spool::{Kind, Spool};

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("cannot work: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let mut follower = Follower::open(&config.logs, &config.state)?;
    let mut figures = Figures::default();
    // Events tell of changes only: what an appliance said last may be in what an earlier run read.
    follower.recall(&config.appliances, &mut |host, line| {
        figures.recall(host, line)
    })?;
    let shipping = match &config.sink {
        None => None,
        Some(sink) => {
            let spool = Arc::new(Spool::open(&config.state.join("spool"), sink.room)?);
            let shipper = Shipper::new(sink, Arc::clone(&spool))?;
            let report = shipper.report();
            thread::spawn(move || shipper.work());
            if let Some(url) = config.figures.clone() {
                let (spool, every) = (Arc::clone(&spool), sink.figures_every);
                thread::spawn(move || ship::collect(&url, &spool, every));
            }
            Some((spool, report))
        }
    };
    let mut shipped = Instant::now();
    let mut kept: Option<Instant> = None;
    loop {
        let turn = Instant::now();
        follower.read(&mut |host, line| figures.count(host, line))?;
        match (&shipping, &config.sink) {
            (Some((spool, _)), Some(sink)) => {
                let due = shipped.elapsed() >= sink.logs_every;
                follower.ship(due, |host, lines| spool.put(Kind::Logs, host, lines))?;
                if due {
                    shipped = Instant::now();
                }
            }
            // Nobody else wants what was counted.
            (None, _) | (_, None) => follower.ship(true, |_, _| Ok(()))?,
        }
        if kept.is_none_or(|last| last.elapsed() >= KEEP_EVERY) {
            figures.deleted_early += keep::bound(&config.logs, config.days, config.room)?;
            kept = Some(Instant::now());
        }
        figures.store = keep::newest(&config.logs)?;
        let report = shipping.as_ref().map(|(spool, report)| report.text(spool));
        figures::publish(
            &config.textfile,
            &(figures.to_string() + &report.unwrap_or_default()),
        )?;
        thread::sleep(config.every.saturating_sub(turn.elapsed()));
    }
}

/// How often old logs are looked for.
const KEEP_EVERY: Duration = Duration::from_secs(60);
