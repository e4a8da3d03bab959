//! What a server's disk has of the cluster: `grastate.dat`, and what MariaDB recovers after a crash.

use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::config::DEFAULTS;
use crate::decide::{NO_HISTORY, Position};

/// Finds out, after a crash by asking MariaDB itself.
pub async fn of(data: &Path) -> Result<Position, String> {
    if data.join("sst_in_progress").exists() {
        return Ok(Position::Partial);
    }
    // An installation of system tables that was cut short is nobody's data.
    let saved = fs::read_to_string(data.join("grastate.dat")).ok();
    if data.join(".installing").exists() || saved.is_none() && !data.join("mysql").is_dir() {
        return Ok(Position::Fresh);
    }
    let saved = saved.as_deref().and_then(grastate);
    match saved {
        Some((cluster, seqno, safe)) if seqno >= 0 => Ok(Position::At {
            cluster,
            seqno,
            safe,
        }),
        // A copy that never was completed has no system tables.
        Some(_) | None if !data.join("mysql").is_dir() => Ok(Position::Partial),
        Some(_) | None => recovered().await,
    }
}

async fn recovered() -> Result<Position, String> {
    let run = Command::new("mariadbd")
        .args([DEFAULTS, "--wsrep-recover", "--log-error=/dev/stderr"])
        .output()
        .await
        .map_err(|error| format!("mariadbd: {error}"))?;
    let text = String::from_utf8_lossy(&run.stderr);
    let found = text.lines().rev().find_map(recovered_line);
    let Some((cluster, seqno)) = found else {
        let last: Vec<&str> = text.lines().rev().take(5).collect();
        return Err(format!(
            "MariaDB recovers no position: {}",
            last.join(" / ")
        ));
    };
    Ok(Position::At {
        cluster,
        seqno,
        safe: false,
    })
}

/// `2026-11-28 12:00:00 0 [Note] WSREP: Recovered position: UUID:SEQNO,DOMAIN`
fn recovered_line(line: &str) -> Option<(String, i64)> {
    let (_, position) = line.split_once("WSREP: Recovered position:")?;
    let position = position.trim().split(',').next()?;
    let (cluster, seqno) = position.split_once(':')?;
    Some((cluster.to_owned(), seqno.trim().parse().ok()?))
}

/// Cluster, number and whether it is safe to begin with.
fn grastate(text: &str) -> Option<(String, i64, bool)> {
    let value = |key: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let cluster = value("uuid")?;
    let seqno = value("seqno")?.parse().ok()?;
    let safe = value("safe_to_bootstrap")? == "1" && cluster != NO_HISTORY;
    Some((cluster, seqno, safe))
}

/// Galera refuses to begin a cluster on a server that did not leave last; we know better by now.
pub fn allow_to_begin(data: &Path) -> Result<(), String> {
    let path = data.join("grastate.dat");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let text = text.replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1");
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const STATE: &str = "# GALERA saved state\nversion: 2.1\nuuid:    a3b7ae6b-eb54-11f1-87e8-4eec1b5115da\n\
                         seqno:   12\nsafe_to_bootstrap: 1\n";

    #[test]
    fn saved_and_recovered_positions_are_read() {
        let cluster = "a3b7ae6b-eb54-11f1-87e8-4eec1b5115da";
        assert_eq!(grastate(STATE), Some((cluster.to_owned(), 12, true)));
        assert_eq!(grastate("version: 2.1\n"), None);
        let line =
            format!("2026-11-28 17:54:51 0 [Note] WSREP: Recovered position: {cluster}:17,0-1-3");
        assert_eq!(recovered_line(&line), Some((cluster.to_owned(), 17)));
        let line = format!("0 [Note] WSREP: Recovered position: {NO_HISTORY}:-1");
        assert_eq!(recovered_line(&line), Some((NO_HISTORY.to_owned(), -1)));
        assert_eq!(recovered_line("[Note] WSREP: loading"), None);
    }

    #[tokio::test]
    async fn disks_without_a_database_are_told_apart_from_broken_copies() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(of(data.path()).await, Ok(Position::Fresh));
        fs::write(data.path().join(".installing"), "").unwrap();
        fs::create_dir(data.path().join("mysql")).unwrap();
        assert_eq!(of(data.path()).await, Ok(Position::Fresh));
        fs::remove_file(data.path().join(".installing")).unwrap();
        fs::write(data.path().join("grastate.dat"), STATE).unwrap();
        let position = of(data.path()).await.unwrap();
        assert!(matches!(
            position,
            Position::At {
                seqno: 12,
                safe: true,
                ..
            }
        ));
        fs::write(data.path().join("sst_in_progress"), "").unwrap();
        assert_eq!(of(data.path()).await, Ok(Position::Partial));
    }
}
