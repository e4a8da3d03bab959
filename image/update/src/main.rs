//! `ravelin-update serve` answers the operator's tool; `ravelin-update healthy` waits until this server serves, and gives a
//! version up that does not.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use update::message::{self, Answer, Request};
use update::server::Server;
use update::tls::Papers;

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("healthy") => healthy(),
        _ => Err("usage: ravelin-update serve|healthy".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers one after another: there is one operator.
fn serve() -> Result<(), String> {
    let read = |name: &str| {
        let path = format!("/etc/ravelin/update/{name}");
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
    };
    let papers = Papers {
        certificate: read("server.pem")?,
        key: read("server.key")?,
        other: read("operator.pem")?,
    };
    let config = papers.server()?;
    let address: SocketAddr = read("listen")?
        .trim()
        .parse()
        .map_err(|_| "/etc/ravelin/update/listen has no address")?;
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    for connection in listener.incoming() {
        let answered = connection
            .map_err(|error| error.to_string())
            .and_then(|connection| answer(connection, &config));
        if let Err(error) = answered {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn answer(connection: TcpStream, config: &Arc<ServerConfig>) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let patience = Some(Duration::from_secs(30));
    connection.set_read_timeout(patience).map_err(text)?;
    connection.set_write_timeout(patience).map_err(text)?;
    let tls = ServerConnection::new(config.clone()).map_err(|error| error.to_string())?;
    let mut tls = StreamOwned::new(tls, connection);
    let request: Request = match message::receive(&mut tls) {
        Ok(request) => request,
        // Somebody looked whether we listen.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
        Err(error) => return Err(format!("a connection was refused: {error}")),
    };
    let server = Server::this();
    match request {
        Request::State => {
            let state = server.and_then(|server| server.state());
            message::send(&mut tls, &state).map_err(text)?;
        }
        Request::Install(manifest) => {
            let installed = server.and_then(|server| server.install(&manifest, &mut tls));
            match &installed {
                Ok(version) => eprintln!("version {version} is installed"),
                Err(error) => eprintln!("nothing was installed: {error}"),
            }
            message::send(&mut tls, &installed).map_err(text)?;
        }
        Request::Renew(part) => {
            let renewed = server.and_then(|server| server.renew(&part, &mut tls));
            match &renewed {
                Ok(files) => eprintln!("{files} files with certificates are new"),
                Err(error) => eprintln!("no certificate was replaced: {error}"),
            }
            message::send(&mut tls, &renewed).map_err(text)?;
        }
        Request::Reboot => {
            message::send(&mut tls, &Answer::Ok(())).map_err(text)?;
            reboot()?;
        }
    }
    tls.conn.send_close_notify();
    let _ = tls.flush_and_end();
    Ok(())
}

/// Says the last word of a connection.
trait End {
    fn flush_and_end(&mut self) -> std::io::Result<()>;
}

impl End for StreamOwned<ServerConnection, TcpStream> {
    fn flush_and_end(&mut self) -> std::io::Result<()> {
        while self.conn.wants_write() {
            self.conn.write_tls(&mut self.sock)?;
        }
        // Until the other end has closed too, so that what it has still to read is not lost.
        let mut rest = [0; 64];
        while self.read(&mut rest)? > 0 {}
        Ok(())
    }
}

/// Waits until all that was promised is served. A version on trial that does not get there is given up.
fn healthy() -> Result<(), String> {
    let server = Server::this()?;
    let (start, mut settled) = (Instant::now(), None);
    loop {
        let ailing = server.ailing();
        if ailing.is_empty() {
            server.proved();
            return Ok(());
        }
        if settled.is_none() && boot_has_ended() {
            settled = Some(Instant::now());
        }
        let waited = settled.is_some_and(|at: Instant| at.elapsed() > AFTER_BOOT);
        // A port that nobody answers at belongs to what is on its way, so it is judged when that has come.
        let soon = ailing.iter().any(|one| one.soon) && start.elapsed() < LONGEST_WAY;
        if !soon && (waited || start.elapsed() > LONGEST) {
            let why: Vec<String> = ailing.into_iter().map(|one| one.what).collect();
            let why = why.join(", ");
            say(&format!("{} does not serve: {why}", server.name()));
            if server.trial() {
                server.give_up(&why)?;
                say(&format!("{} falls back to its last version", server.name()));
                reboot()?;
            }
            return Err(why);
        }
        sleep(Duration::from_secs(1));
    }
}

/// Whether nothing is being started any more but what waits for us.
fn boot_has_ended() -> bool {
    let mut list = Command::new("systemctl");
    let output = list.args(["list-jobs", "--plain", "--no-legend"]).output();
    output.is_ok_and(|output| {
        let jobs = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut running = jobs
            .lines()
            .filter(|job| job.trim_end().ends_with("running"));
        running.all(|job| job.contains(UNIT))
    })
}

fn reboot() -> Result<(), String> {
    let status = Command::new("systemctl")
        .args(["reboot", "--no-block"])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("systemctl reboot: {status}")),
        Err(error) => Err(format!("systemctl reboot: {error}")),
    }
}

/// To the console, whoever looks there.
fn say(text: &str) {
    let _ = fs::write("/dev/console", format!("\nravelin: {text}\n"));
}

const UNIT: &str = "ravelin-healthy.service";
/// Daemons may take a moment after systemd has started them all.
const AFTER_BOOT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
/// A database's whole copy, for instance.
const LONGEST_WAY: Duration = Duration::from_secs(4 * 60 * 60);
