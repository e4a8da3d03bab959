//! The program ships to a sink that looks closely: TLS, headers, sizes and text of every request; that refuses, fails,
//! and is away for a while. The program is killed in between. Nothing may be lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[test]
fn nothing_is_lost_by_refusals_outages_and_kills() {
    let bench = Bench::new(128);
    // Refused four times in different ways, then taken.
    bench.sink.answer(&[429, 503, 0, 500]);
    let mut agent = bench.agent();
    bench.write("web1", 0..2_000);
    bench.write("gw1", 0..100);
    bench.wait("the first lines", |seen| {
        seen.lines("web1") == 2_000 && seen.lines("gw1") == 100
    });

    // The sink is away; the program is killed while it writes and while it tries.
    bench.sink.answer(&[503; 1000]);
    for round in 1..4 {
        bench.write("web1", round * 2_000..(round + 1) * 2_000);
        thread::sleep(Duration::from_millis(400));
        agent.kill().expect("ours");
        agent.wait().expect("ours");
        agent = bench.agent();
    }
    thread::sleep(Duration::from_millis(500));
    bench.sink.answer(&[]);
    bench.wait("what came while it was away", |seen| {
        seen.lines("web1") == 8_000
    });
    bench.wait("figures", |seen| seen.figures > 0);

    let seen = bench.sink.seen.lock().expect("whole");
    assert_eq!(seen.complaints, Vec::<String>::new());
    assert!(seen.refused >= 5, "{}", seen.refused);
    // At least once; nothing that had been acknowledged before a kill came again but what was under way.
    let twice: usize = seen
        .logs
        .values()
        .flat_map(BTreeMap::values)
        .filter(|count| **count > 1)
        .count();
    println!(
        "{} requests, {} refused, {twice} lines twice",
        seen.requests, seen.refused
    );
    assert!(twice <= 2_000, "{twice}");
    drop(seen);
    assert!(bench.figure("ravelin_ship_dropped_total") == Some(0.0));
    assert!(
        bench
            .figure("ravelin_log_written_timestamp_seconds{host=\"gw1\"}")
            .is_some()
    );
    agent.kill().expect("ours");
    agent.wait().expect("ours");
}

#[test]
fn a_refused_url_is_said_loudly_and_nothing_is_thrown_away() {
    let bench = Bench::new(128);
    bench.sink.answer(&[401; 1000]);
    let mut agent = bench.agent();
    bench.write("web1", 0..10);
    let begun = Instant::now();
    while bench.figure("ravelin_ship_refused") != Some(1.0) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", bench.text());
        thread::sleep(Duration::from_millis(50));
    }
    bench.sink.answer(&[]);
    bench.wait("the lines after all", |seen| seen.lines("web1") == 10);
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    let mut said = String::new();
    agent
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("text");
    assert!(
        said.contains("THE SINK REFUSES ITS URL (status 401)"),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "the URL is a secret: {said}");
}

#[test]
fn a_stranger_in_the_sinks_place_gets_nothing() {
    let bench = Bench::new(128);
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
    fs::write(bench.dir.path().join("ca.pem"), other.cert.pem()).expect("written");
    let mut agent = bench.agent();
    bench.write("web1", 0..10);
    let begun = Instant::now();
    while bench
        .figure("ravelin_ship_failed_total")
        .is_none_or(|failed| failed < 2.0)
    {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(50));
    }
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    assert_eq!(bench.sink.seen.lock().expect("whole").requests, 0);
}

#[test]
fn too_much_for_the_disk_drops_the_oldest_and_counts_them() {
    let bench = Bench::new(0);
    bench.sink.answer(&[503; 100_000]);
    let mut agent = bench.agent();
    for round in 0..5 {
        bench.write("web1", round * 100..(round + 1) * 100);
        thread::sleep(Duration::from_millis(400));
    }
    let begun = Instant::now();
    while bench
        .figure("ravelin_ship_dropped_total")
        .is_none_or(|dropped| dropped < 2.0)
    {
        assert!(begun.elapsed() < PATIENCE, "{:?}", bench.text());
        thread::sleep(Duration::from_millis(50));
    }
    agent.kill().expect("ours");
    agent.wait().expect("ours");
}

/// A sink, logs, and where the program keeps its things.
struct Bench {
    dir: tempfile::TempDir,
    sink: Sink,
    prometheus: u16,
    room: u64,
}

impl Bench {
    fn new(room: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
        fs::write(dir.path().join("ca.pem"), made.cert.pem()).expect("written");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let sink = Sink::start(made.cert.der().clone(), key);
        let url = format!("https://localhost:{}/receiver/v1/http/s3cret\n", sink.port);
        fs::write(dir.path().join("url"), url).expect("written");
        fs::create_dir(dir.path().join("logs")).expect("made");
        Self {
            dir,
            sink,
            prometheus: prometheus(),
            room,
        }
    }

    fn agent(&self) -> Child {
        let at = |name: &str| self.dir.path().join(name);
        fs::create_dir_all(at("state")).expect("made");
        Command::new(env!("CARGO_BIN_EXE_ravelin-agent"))
            .env_clear()
            .env("AGENT_LOGS", at("logs"))
            .env("AGENT_STATE", at("state"))
            .env("AGENT_TEXTFILE", at("agent.prom"))
            .env("AGENT_URL_FILE", at("url"))
            .env("AGENT_AUTHORITIES", at("ca.pem"))
            .env("AGENT_CATEGORY", "foobar/test")
            .env("AGENT_SPOOL_MIB", self.room.to_string())
            .env(
                "AGENT_FIGURES",
                format!("http://127.0.0.1:{}/federate", self.prometheus),
            )
            .env("AGENT_EVERY_MS", "50")
            .env("AGENT_LOGS_EVERY_MS", "150")
            .env("AGENT_FIGURES_EVERY_MS", "500")
            .env("AGENT_PAUSE_MS", "10")
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    }

    fn write(&self, host: &str, numbers: std::ops::Range<usize>) {
        let dir = self.dir.path().join("logs").join(host);
        fs::create_dir_all(&dir).expect("made");
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(dir.join("2026-11-28.log"))
            .expect("opened");
        for number in numbers {
            writeln!(
                file,
                "<190>1 2026-11-28T00:00:00Z {host} test - - - line {number} {}",
                "x".repeat(200)
            )
            .expect("written");
        }
    }

    fn wait(&self, what: &str, good: impl Fn(&Seen) -> bool) {
        let begun = Instant::now();
        loop {
            let seen = self.sink.seen.lock().expect("whole");
            if good(&seen) {
                return;
            }
            let lines: Vec<_> = seen
                .logs
                .iter()
                .map(|(host, lines)| (host.clone(), lines.len()))
                .collect();
            assert!(
                begun.elapsed() < PATIENCE,
                "{what}: {lines:?} {:?}",
                seen.complaints
            );
            drop(seen);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dir.path().join("agent.prom")).unwrap_or_default()
    }

    fn figure(&self, name: &str) -> Option<f64> {
        let text = self.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.parse().ok()
    }
}

/// What Prometheus' federation says, with the comments that it has.
fn prometheus() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = BufReader::new(stream.try_clone().expect("cloned"));
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body =
                "# TYPE up untyped\nup{job=\"node\",instance=\"web1:9100\"} 1 1764288000000\n";
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// What the sink has seen.
#[derive(Default)]
struct Seen {
    requests: usize,
    refused: usize,
    figures: usize,
    /// Lines of each host that were acknowledged, and how often.
    logs: BTreeMap<String, BTreeMap<String, usize>>,
    complaints: Vec<String>,
}

impl Seen {
    fn lines(&self, host: &str) -> usize {
        self.logs.get(host).map_or(0, BTreeMap::len)
    }
}

/// An HTTP source that takes nothing that the real one would not.
struct Sink {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    answers: Arc<Mutex<Vec<u16>>>,
}

impl Sink {
    fn start(
        certificate: rustls::pki_types::CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let sink = Self {
            port,
            seen: Arc::default(),
            answers: Arc::default(),
        };
        let (seen, answers) = (Arc::clone(&sink.seen), Arc::clone(&sink.answers));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, seen, answers) =
                    (Arc::clone(&config), Arc::clone(&seen), Arc::clone(&answers));
                thread::spawn(move || serve(stream, config, &seen, &answers));
            }
        });
        sink
    }

    /// The next answers, in this order; then 200. A 0 closes the connection instead.
    fn answer(&self, statuses: &[u16]) {
        *self.answers.lock().expect("whole") = statuses.iter().rev().copied().collect();
    }
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    seen: &Mutex<Seen>,
    answers: &Mutex<Vec<u16>>,
) {
    let Ok(tls) = ServerConnection::new(config) else {
        return;
    };
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    loop {
        let mut head = Vec::new();
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
            head.push(std::mem::take(&mut line).trim_end().to_owned());
        }
        if head.is_empty() {
            return;
        }
        let header = |name: &str| {
            let mut all = head[1..].iter().filter_map(|line| line.split_once(": "));
            all.find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let length = header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let status = answers.lock().expect("whole").pop().unwrap_or(200);
        let mut text = String::new();
        let unpacked = GzDecoder::new(&body[..]).read_to_string(&mut text);
        let mut seen = seen.lock().expect("whole");
        seen.requests += 1;
        let mut must = |good: bool, what: &str| {
            if !good {
                seen.complaints.push(format!("{what}: {head:?}"));
            }
        };
        must(
            head[0] == "POST /receiver/v1/http/s3cret HTTP/1.1",
            "the request line",
        );
        must(length > 0, "a length");
        must(
            header("content-encoding").as_deref() == Some("gzip"),
            "the encoding",
        );
        must(
            header("x-sumo-category").as_deref() == Some("foobar/test"),
            "the category",
        );
        must(unpacked.is_ok(), "gzip");
        must(
            text.len() <= 1_000_000 && text.ends_with('\n'),
            "the size and the end",
        );
        let host = header("x-sumo-host").unwrap_or_default();
        must(
            !host.is_empty() && header("x-sumo-name").is_some(),
            "who it is of",
        );
        let figures =
            header("content-type").as_deref() == Some("application/vnd.sumologic.prometheus");
        for line in text.lines() {
            if figures {
                must(!line.starts_with('#') && !line.is_empty(), "no comments");
                let value = line
                    .rsplit_once("} ")
                    .map(|(_, rest)| rest.split(' ').all(|part| part.parse::<f64>().is_ok()));
                must(value == Some(true), "a sample and its time");
            } else {
                must(
                    line.starts_with("<190>1 ") && line.contains(&format!(" {host} test ")),
                    "a line of its host",
                );
            }
        }
        match status {
            200 if figures => seen.figures += 1,
            200 => {
                let lines = seen.logs.entry(host).or_default();
                for line in text.lines() {
                    *lines.entry(line.to_owned()).or_default() += 1;
                }
            }
            _ => seen.refused += 1,
        }
        drop(seen);
        if status == 0 {
            return;
        }
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
