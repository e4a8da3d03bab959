//! The program as a process against a real MariaDB on the loopback (Debian's mariadb-server-core).

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_counter_survives_the_death_of_its_database_and_both_apps_share_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = free_address();
    let (app1, app2) = (free_address(), free_address());
    // The app is there first, as after a power cut of the whole rack.
    let mut first = start_app("app1", app1, database);
    let _second = start_app("app2", app2, database);
    until("the app listens", || get(app1, "/healthz").is_some());
    assert_eq!(get(app1, "/healthz").unwrap().status, 503);

    install(directory.path());
    let mariadb = start_mariadb(directory.path(), database);
    for app in [app1, app2] {
        until("the database is reached", || {
            get(app, "/healthz").unwrap().status == 200
        });
    }
    assert_eq!(
        get(app1, "/counter").unwrap().body,
        "{\"app\":\"app1\",\"counter\":0}\n"
    );
    let page = get(app1, "/").unwrap();
    assert_eq!((page.status, page.header("x-app")), (200, Some("app1")));
    assert!(page.body.contains("asked for 1 times"), "{}", page.body);
    let page = get(app2, "/").unwrap();
    assert_eq!(page.header("x-app"), Some("app2"));
    assert!(page.body.contains("asked for 2 times"), "{}", page.body);

    for (method, ticked) in [("GET", false), ("PUT", true), ("PUT", true), ("GET", true)] {
        let answer = ask(app1, method, "/boxes/7").unwrap();
        let told = format!("{{\"app\":\"app1\",\"box\":7,\"ticked\":{ticked}}}\n");
        assert_eq!((answer.status, answer.body), (200, told), "{method}");
    }

    drop(mariadb); // SIGKILL
    assert_eq!(get(app1, "/healthz").unwrap().status, 503);
    // Who comes while it is away waits for it.
    let waits = std::thread::spawn(move || ask(app2, "PUT", "/boxes/8").unwrap().status);
    sleep(Duration::from_millis(500));
    let mariadb = start_mariadb(directory.path(), database);
    assert_eq!(waits.join().unwrap(), 200);
    until("the database is reached again", || {
        get(app1, "/healthz").unwrap().status == 200
    });
    assert!(get(app1, "/").unwrap().body.contains("asked for 3 times"));

    // Mute: connections stay open and nothing answers, as behind a cut cable.
    mariadb.signal(Signal::SIGSTOP);
    let paths = ["/healthz", "/", "/counter"];
    let asked = paths.map(|path| std::thread::spawn(move || get(app1, path).unwrap().status));
    assert_eq!(asked.map(|asked| asked.join().unwrap()), [503, 503, 503]);
    mariadb.signal(Signal::SIGCONT);
    until("the database talks again", || {
        get(app1, "/healthz").unwrap().status == 200
    });
    assert_eq!(
        get(app1, "/counter").unwrap().body,
        "{\"app\":\"app1\",\"counter\":3}\n"
    );

    first.signal(Signal::SIGTERM);
    assert!(first.0.wait().unwrap().success());
}

#[test]
fn a_bad_environment_ends_the_program_with_the_reason() {
    let output = Command::new(env!("CARGO_BIN_EXE_ravelin-demo-app"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(
        line.contains("the environment variable APP_NAME is not set"),
        "{line}"
    );
}

/// A process that does not outlive the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

fn start_app(name: &str, listen: SocketAddr, database: SocketAddr) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_ravelin-demo-app"))
        .env_clear()
        .env("APP_NAME", name)
        .env("APP_SITE", "www.foobar.com")
        .env("APP_LISTEN", listen.to_string())
        .env("APP_DATABASE", database.to_string())
        .env("APP_DATABASE_NAME", "app")
        .env("APP_DATABASE_USER", "app")
        .env("APP_DATABASE_PASSWORD", "secret")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

fn install(directory: &Path) {
    let output = program("mariadb-install-db")
        .args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .arg(format!("--datadir={}", directory.join("data").display()))
        .output()
        .expect("mariadb-install-db of Debian's mariadb-server-core is needed for this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let init = "CREATE DATABASE IF NOT EXISTS app;\n\
                CREATE USER IF NOT EXISTS 'app'@'127.0.0.1' IDENTIFIED BY 'secret';\n\
                GRANT ALL ON app.* TO 'app'@'127.0.0.1';\n";
    fs::write(directory.join("init.sql"), init).unwrap();
}

fn start_mariadb(directory: &Path, address: SocketAddr) -> Process {
    let log = fs::File::create(directory.join("log")).unwrap();
    let child = program("mariadbd")
        .args([
            "--no-defaults",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
        ])
        .args([
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-log-file-size=4M",
        ])
        // MariaDB refuses to run as root unless told to.
        .arg(format!(
            "--user={}",
            if nix::unistd::geteuid().is_root() {
                "root"
            } else {
                ""
            }
        ))
        .arg(format!("--datadir={}", directory.join("data").display()))
        .arg(format!("--socket={}", directory.join("socket").display()))
        .arg(format!("--pid-file={}", directory.join("pid").display()))
        .arg(format!(
            "--init-file={}",
            directory.join("init.sql").display()
        ))
        .arg(format!("--bind-address={}", address.ip()))
        .arg(format!("--port={}", address.port()))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd of Debian's mariadb-server-core is needed for this test");
    Process(child)
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    ask(address, "GET", path)
}

/// One request; `None` while nobody listens.
fn ask(address: SocketAddr, method: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: www.foobar.com\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

/// Waits for something that must happen; generous, because the machine may be busy.
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(
            begin.elapsed() < Duration::from_secs(120),
            "waited in vain until {what}"
        );
        sleep(Duration::from_millis(100));
    }
}
