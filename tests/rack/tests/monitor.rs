//! What the monitor of the example site sees and tells, with every real daemon behind every real firewall: figures of
//! all servers, requests counted in two ways, everybody's logs, and an alert about an Nginx that hangs.
//! Needs root; builds the images if they are not cached.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearse::client::Client;
use rehearse::rack::Rack;
use serde_json::Value;

const MONITORING: &str = r#"
[monitoring]
scrape_interval = "5s"
alerts = { webhook = "http://127.0.0.1:9097/" }
"#;

#[test]
fn the_monitor_sees_counts_keeps_and_tells() {
    // Alerts take their time: minutes of it.
    if std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }

    let plan = rack_test::plan_with(MONITORING);
    let state = tempfile::tempdir().expect("temporary directory");
    let program = Path::new(env!("CARGO_BIN_EXE_rack-appliance"));
    let (bodies, authority) = rack_test::light(&plan, program, state.path());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let mut rack = Rack::new(&plan, vec![listener], state.path()).expect("rack");
    for (name, body) in &bodies.appliances {
        rack.start_appliance(name, body).expect("appliance starts");
    }
    for (name, body) in &bodies.servers {
        rack.start_server(name, body).expect("server starts");
    }
    let local = rack.uplinks()[0].local();
    let client = Client::new(local, &plan.domain, &authority, Duration::from_secs(15));
    let clients = [client.expect("a client")];
    rack_test::wait_until_serving(&mut rack, &clients, PATIENCE);
    let monitor = Inside::of(&rack, "mon1");
    let alerts = monitor.receive_alerts();

    // Everything that it should ask answers, across all firewalls.
    monitor.until("no target is down", "count(up == 0) or vector(0)", |n| {
        n == 0.0
    });
    monitor.until("and all are there", "count(up)", |n| {
        n == f64::from(TARGETS)
    });
    monitor.until(
        "as users do",
        "min(probe_success{job=\"site\",address!=\"\"})",
        |n| n == 1.0,
    );
    monitor.until(
        "both appliances",
        "sum(probe_success{job=\"appliance\"})",
        |n| n == 2.0,
    );
    monitor.until("the database", "min(mysql_up)", |n| n == 1.0);
    monitor.until(
        "units",
        "count(ravelin_unit_active == 0) or vector(0)",
        |n| n == 0.0,
    );
    // (In containers /var is no file system of its own.)
    monitor.until("memory", "count(server:memory:ratio)", |n| n == 9.0);
    monitor.until("processors", "count(server:cpu:ratio)", |n| n == 9.0);
    monitor.until(
        "certificates",
        "min(probe_ssl_earliest_cert_expiry) - time()",
        |n| n > 86400.0,
    );

    // The same requests in HAProxy's counter and in the access logs of the web servers.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    // On a busy machine HAProxy may be without a server for a moment, and answers by itself.
    let (mut good, mut others) = (0, 0);
    while good < 40 {
        match runtime.block_on(clients[0].get()) {
            Ok(answer) if answer.status == 200 => good += 1,
            other => {
                others += 1;
                assert!(others < 20, "{:?}", other.map(|answer| answer.status));
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
    let balancers = "sum(haproxy_frontend_http_requests_total{proxy=\"users-https\"})";
    let logs = "sum(ravelin_http_requests_total)";
    monitor.until("requests", logs, |n| n >= 40.0);
    // The monitor asks as well, all the time: what is under way is in one of them only.
    monitor.until("counted alike", &format!("{balancers} - {logs}"), |n| {
        n.abs() <= 2.0 + f64::from(others)
    });
    monitor.until("latency", "site:latency_seconds:p99", |n| {
        n > 0.0 && n < 30.0
    });

    // Everybody's logs.
    let hosts = "count(time() - ravelin_log_written_timestamp_seconds{host!~\"gw.*\"} < 120)";
    monitor.until("logs of all servers", hosts, |n| n == 9.0);

    // The page in a browser shows all of that, and complains about nothing.
    let page = Page::open(&rack);
    if let Some(page) = &page {
        assert_eq!(page.complaints, Vec::<String>::new());
        let requests = page.inside("<dd id=\"requests\">", "</dd>");
        assert!(
            requests.is_some_and(|text| text.ends_with("/s")),
            "{requests:?}"
        );
        for server in &plan.servers {
            let row = page.row(&server.name);
            assert!(row.contains(">yes<") && row.contains(" %<"), "{row}");
        }
        for chart in ["Requests: access logs ", "CPU: app1 ", "Memory: app1 "] {
            assert!(
                page.dom.contains(&format!("aria-label=\"{chart}")),
                "{chart}: {}",
                page.dom
            );
        }
        assert!(page.row("gw1").contains(">yes<"), "{}", page.row("gw1"));
    }

    // An Nginx that hangs: its balancers do without it, and somebody is told, and told again that it is over.
    let nginx = processes(&rack, "web1", "nginx");
    assert!(nginx.len() > 1, "{nginx:?}");
    for id in &nginx {
        kill(*id, Signal::SIGSTOP).expect("ours");
    }
    let told = next(&alerts, "BackendDown", "firing");
    assert!(
        told.to_string().contains("sends no requests to web1"),
        "{told}"
    );
    for id in &nginx {
        kill(*id, Signal::SIGCONT).expect("ours");
    }
    next(&alerts, "BackendDown", "resolved");

    // A server that is dead is marked.
    rack.power_off("web2");
    monitor.until("web2 is gone", "up{job=\"node\",server=\"web2\"}", |n| {
        n == 0.0
    });
    if page.is_some() {
        let page = Page::open(&rack).expect("it was there before");
        assert!(
            page.row("web2").contains("no answer"),
            "{}",
            page.row("web2")
        );
        assert!(page.row("web1").contains(">yes<"), "{}", page.row("web1"));
    }
    next(&alerts, "ServerDown", "firing");
}

/// How many daemons it asks.
const TARGETS: u32 = 9 + 2 + 2 + 2 + 1 + 3 + 9 + 2 + 2;

/// Somebody on the monitor's own machine.
struct Inside {
    network: PathBuf,
}

impl Inside {
    fn of(rack: &Rack, name: &str) -> Self {
        let machine = rack.machine(name).expect("it was started");
        Self {
            network: machine.network().expect("a container"),
        }
    }

    /// Runs something on a thread in its network.
    fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let network = File::open(&self.network).expect("it runs");
        thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter");
            work()
        })
    }

    /// Alerts as Alertmanager posts them.
    fn receive_alerts(&self) -> Receiver<Value> {
        let (sender, receiver) = mpsc::channel();
        self.thread(move || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 9097)).expect("a free port");
            thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if sender.send(post(stream)).is_err() {
                        return;
                    }
                }
            })
        });
        receiver
    }

    /// The answer of Prometheus to a query; `None` without one sample.
    fn ask(&self, query: &str) -> Option<f64> {
        let query = query
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>();
        let body = self.thread(move || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 9090)).ok()?;
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .ok()?;
            write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            let (_, body) = answer.split_once("\r\n\r\n")?;
            serde_json::from_str::<Value>(body).ok()
        });
        let body = body.join().expect("a thread")?;
        let result = body["data"]["result"].as_array()?;
        let [sample] = result.as_slice() else {
            return None;
        };
        sample["value"][1].as_str()?.parse().ok()
    }

    /// Waits until the answer is as it should be.
    fn until(&self, what: &str, query: &str, good: impl Fn(f64) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = self.ask(query);
            if answer.is_some_and(&good) {
                println!("{what}: {query} = {answer:?} after {:.1?}", begun.elapsed());
                return;
            }
            if begun.elapsed() > PATIENCE {
                for more in ["up == 0", "probe_success == 0", "ravelin_unit_active == 0"] {
                    println!("{more}: {:?}", self.ask(&format!("count({more})")));
                }
                panic!("{what}: {query} is {answer:?}");
            }
            thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The monitor's page, as a browser has it after a few seconds.
struct Page {
    dom: String,
    complaints: Vec<String>,
}

impl Page {
    /// Opens it on the monitor itself; `None` where no browser is installed.
    fn open(rack: &Rack) -> Option<Self> {
        let machine = rack.machine("mon1").expect("it was started");
        let profile = tempfile::tempdir().expect("a directory");
        let output = machine.inside(&[
            "timeout",
            "120",
            "chromium-headless-shell",
            "--no-sandbox",
            "--disable-gpu",
            "--ignore-certificate-errors",
            "--enable-logging=stderr",
            &format!("--user-data-dir={}", profile.path().display()),
            "--virtual-time-budget=15000",
            "--dump-dom",
            "https://127.0.0.1/",
        ]);
        let output = output.expect("timeout is there");
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("No such file") && output.stdout.is_empty() {
            println!("skipped: the page, because chromium-headless-shell is not installed");
            return None;
        }
        let console = said.lines().filter(|line| line.contains(":CONSOLE"));
        Some(Self {
            dom: String::from_utf8_lossy(&output.stdout).into_owned(),
            complaints: console.map(str::to_owned).collect(),
        })
    }

    /// The text between two others.
    fn inside(&self, before: &str, after: &str) -> Option<&str> {
        let (_, rest) = self.dom.split_once(before)?;
        Some(rest.split_once(after)?.0)
    }

    /// A row of a table, by its first cell.
    fn row(&self, name: &str) -> &str {
        self.inside(&format!("<th scope=\"row\">{name}</th>"), "</tr>")
            .unwrap_or_else(|| panic!("{name}: {}", self.dom))
    }
}

/// What somebody posts.
fn post(stream: TcpStream) -> Value {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    let read = reader.read_exact(&mut body);
    let _ = reader
        .into_inner()
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    read.ok()
        .and_then(|()| serde_json::from_slice(&body).ok())
        .unwrap_or(Value::Null)
}

/// The next alert of this name and state.
fn next(alerts: &Receiver<Value>, name: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let told = alerts
            .recv_timeout(left)
            .unwrap_or_else(|_| panic!("no {name} is {status}"));
        for alert in told["alerts"].as_array().into_iter().flatten() {
            println!("{} is {}", alert["labels"]["alertname"], alert["status"]);
            if alert["labels"]["alertname"] == name && alert["status"] == status {
                return alert.clone();
            }
        }
    }
}

/// Processes of a program in a server's network.
fn processes(rack: &Rack, server: &str, program: &str) -> Vec<Pid> {
    let network = fs::read_link(Inside::of(rack, server).network).expect("it runs");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("it is there").flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let its = fs::read_link(entry.path().join("ns/net")).is_ok_and(|other| other == network);
        let named =
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == program);
        if its && named {
            found.push(Pid::from_raw(id));
        }
    }
    found
}

const PATIENCE: Duration = Duration::from_secs(240);
