//! `ravelin-db backup`: sends a copy of the database to its keeper, from one of the servers that run, and if possible
//! not from the one that is written to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::config::{Config, DEFAULTS, Peer, RUN};
use crate::decide::Standing;
use crate::keeper::now;
use crate::prepare::standing;
use crate::tls::Identity;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Makes one, unless another server does.
pub async fn run(config: &Config) -> Result<(), Error> {
    let identity = Identity::read(&config.tls)?;
    let own = config.own().ok_or("we are no database server")?;
    // Clients write to the first server that runs, so the last one has time.
    for peer in config.servers.iter().skip(own + 1) {
        if settled(&identity, config, peer).await == Some(Standing::Running { primary: true }) {
            println!("`{}` makes the backup", peer.name);
            return Ok(());
        }
    }
    let name = format!("{}-{}", config.name, now());
    let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, io::Error>>(8);
    let target = &config.backup.keeper;
    let request = Request::put(format!("/backups/{name}"))
        .header("host", &target.name)
        .body(Pieces(receive))?;
    let address = SocketAddr::new(target.address, config.backup.port);
    let (sent, answer) = tokio::join!(copy(send), identity.ask(&target.name, address, request));
    let (hash, bytes) = sent?;
    let (status, body) = answer?;
    let body = String::from_utf8_lossy(&body);
    if !status.is_success() || body.trim() != hash {
        return Err(format!("`{}` answers {status}: {body}", target.name).into());
    }
    println!(
        "backup {name}: {bytes} bytes are on `{}`, sha256 {hash}",
        target.name
    );
    Ok(())
}

/// What another server says of itself. Who has just come back does not know yet: it is asked again for a while.
async fn settled(identity: &Identity, config: &Config, peer: &Peer) -> Option<Standing> {
    for _ in 0..QUESTIONS {
        match standing(identity, config, peer).await {
            None | Some(Standing::Unknown | Standing::Starting) => tokio::time::sleep(PAUSE).await,
            known => return known,
        }
    }
    None
}

const QUESTIONS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// Sends the compressed copy, piece by piece. An error as last piece makes the keeper throw all of it away.
async fn copy(send: mpsc::Sender<Result<Frame<Bytes>, io::Error>>) -> Result<(String, u64), Error> {
    let result = pieces(&send).await;
    if let Err(error) = &result {
        let _ = send.send(Err(io::Error::other(error.to_string()))).await; // nobody listens any more
    }
    result
}

async fn pieces(
    send: &mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
) -> Result<(String, u64), Error> {
    let mut copy = Command::new("mariadb-backup")
        .args([
            DEFAULTS,
            "--backup",
            "--stream=mbstream",
            "--user=mysql",
            "--no-version-check",
        ])
        .arg(format!("--socket={RUN}/mysqld.sock"))
        .arg("--target-dir=/tmp")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = copy.stdout.take().ok_or("no output")?;
    let mut packer = Command::new("zstd")
        .args(["--quiet", "--stdout", "-3", "-"])
        .stdin(TryInto::<Stdio>::try_into(output)?)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut packed = packer.stdout.take().ok_or("no output")?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        let mut piece = vec![0; 1 << 16];
        let length = packed.read(&mut piece).await?;
        if length == 0 {
            break;
        }
        piece.truncate(length);
        hash.update(&piece);
        bytes += length as u64;
        let piece = Frame::data(Bytes::from(piece));
        send.send(Ok(piece))
            .await
            .map_err(|_| "the keeper stopped listening")?;
    }
    let (copied, packed) = (copy.wait().await?, packer.wait().await?);
    if !copied.success() || !packed.success() {
        return Err(format!("mariadb-backup {copied}, zstd {packed}").into());
    }
    let hash = hash.finalize();
    Ok((
        hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes,
    ))
}

/// A body that a channel brings.
pub struct Pieces(pub mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context)
    }
}
