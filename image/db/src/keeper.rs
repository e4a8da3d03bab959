//! `ravelin-db keep`: takes backups from database servers, and keeps the last ones.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{ConnectInfo, Path as Name, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::config::Config;
use crate::tls::{Guest, Identity};

/// Ending of a whole backup's name.
const WHOLE: &str = ".xb.zst";
/// Ending of one that is under way.
const PART: &str = ".part";

/// Where they are.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
    keep: usize,
}

/// Runs until it fails.
pub async fn run(config: Config) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let identity = Identity::read(&config.tls)?;
    let directory =
        std::env::var_os("STATE_DIRECTORY").unwrap_or("/var/lib/ravelin-backups".into());
    let store = Store {
        directory: directory.into(),
        keep: config.backup.keep,
    };
    store.forget_parts()?;
    let mut names: Vec<String> = config.clients.clone();
    names.extend(config.servers.iter().map(|peer| peer.name.clone()));
    let address = SocketAddr::new(config.address, config.backup.port);
    let door = identity.listen(address, names).await?;
    let writers = config
        .servers
        .iter()
        .map(|peer| peer.name.clone())
        .collect();
    let state = Arc::new((store, writers, config.backup.every));
    let router = Router::new()
        .route("/backups/{name}", put(receive))
        .route("/metrics", get(metrics))
        .with_state(state);
    let service = router.into_make_service_with_connect_info::<Guest>();
    Ok(axum::serve(door, service).await?)
}

type Shared = Arc<(Store, Vec<String>, u64)>;

/// Answers with the hash of what is on the disk.
async fn receive(
    State(shared): State<Shared>,
    ConnectInfo(guest): ConnectInfo<Guest>,
    Name(name): Name<String>,
    request: Request,
) -> (StatusCode, String) {
    let (store, writers, _) = &*shared;
    if !writers.contains(&guest.0) || !is_name(&name, &guest.0) {
        return (StatusCode::FORBIDDEN, "not yours to write\n".to_owned());
    }
    match store.take(&name, request).await {
        Ok(hash) => (StatusCode::CREATED, hash),
        Err(error) => {
            eprintln!("backup {name}: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, error)
        }
    }
}

/// `SERVER-SECONDS`, so that a server cannot replace the backups of another, nor leave the directory.
fn is_name(name: &str, server: &str) -> bool {
    let time = name
        .strip_prefix(server)
        .and_then(|rest| rest.strip_prefix('-'));
    time.is_some_and(|time| {
        (1..=20).contains(&time.len()) && time.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// For Prometheus.
async fn metrics(State(shared): State<Shared>) -> String {
    let (store, _, every) = &*shared;
    let all = store.all().unwrap_or_default();
    let mut text = String::new();
    let (time, bytes) = all
        .last()
        .map_or((0, 0), |(time, _, bytes)| (*time, *bytes));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "ravelin_backup_last_timestamp_seconds {time}");
    let _ = writeln!(text, "ravelin_backup_last_bytes {bytes}");
    let _ = writeln!(text, "ravelin_backup_kept {}", all.len());
    let _ = writeln!(text, "ravelin_backup_interval_seconds {every}");
    text
}

impl Store {
    async fn take(&self, name: &str, request: Request) -> Result<String, String> {
        let text = |error: io::Error| error.to_string();
        let part = self.directory.join(format!("{name}{PART}"));
        let mut file = tokio::fs::File::create(&part).await.map_err(text)?;
        let mut hash = Sha256::new();
        let mut body = request.into_body();
        let received = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| error.to_string())?;
                if let Some(data) = frame.data_ref() {
                    hash.update(data);
                    file.write_all(data).await.map_err(text)?;
                }
            }
            file.sync_all().await.map_err(text)
        };
        if let Err(error) = received.await {
            // A backup is whole or not there.
            let _ = fs::remove_file(&part); // it goes at the next start otherwise
            return Err(error);
        }
        fs::rename(&part, self.directory.join(format!("{name}{WHOLE}"))).map_err(text)?;
        fs::File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(text)?;
        self.forget_old().map_err(text)?;
        let hash = hash.finalize();
        Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Time, path and size of each whole backup, the oldest first.
    fn all(&self) -> io::Result<Vec<(u64, PathBuf, u64)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let time = name.to_str().and_then(|name| name.strip_suffix(WHOLE));
            let time = time.and_then(|name| name.rsplit_once('-')?.1.parse().ok());
            if let Some(time) = time {
                all.push((time, entry.path(), entry.metadata()?.len()));
            }
        }
        all.sort();
        Ok(all)
    }

    fn forget_old(&self) -> io::Result<()> {
        let all = self.all()?;
        let surplus = all.len().saturating_sub(self.keep);
        for (_, path, _) in all.iter().take(surplus) {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn forget_parts(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(PART) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::body::Body;
    use hyper::body::Frame;
    use tokio::sync::mpsc;

    use super::*;
    use crate::backup::Pieces;

    #[test]
    fn servers_name_only_their_own_backups() {
        assert!(is_name("db2-1795888422", "db2"));
        for name in [
            "db1-1795888422",
            "db2-",
            "db2-../x",
            "db2-1.part",
            "db22-1",
            "db2",
        ] {
            assert!(!is_name(name, "db2"), "{name}");
        }
    }

    #[tokio::test]
    async fn whole_backups_stay_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store {
            directory: directory.path().to_owned(),
            keep: 2,
        };
        for time in [30, 10, 20] {
            let request = Request::new(Body::from(format!("backup {time}")));
            let hash = store.take(&format!("db2-{time}"), request).await.unwrap();
            assert_eq!(hash.len(), 64);
        }
        let times: Vec<u64> = store.all().unwrap().iter().map(|one| one.0).collect();
        assert_eq!(times, [20, 30]);
        let (_, newest, _) = store.all().unwrap().pop().unwrap();
        assert_eq!(fs::read_to_string(newest).unwrap(), "backup 30");

        // One that ends by an error, as when the server at the other end dies.
        let (send, receive) = mpsc::channel(2);
        send.send(Ok(Frame::data(bytes::Bytes::from_static(b"half"))))
            .await
            .unwrap();
        send.send(Err(io::Error::other("power cut"))).await.unwrap();
        let broken = Request::new(Body::new(Pieces(receive)));
        assert!(store.take("db2-40", broken).await.is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
