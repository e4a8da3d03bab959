//! What happens to a pair, as rsyslog, net-snmp and an operator hear of it. Needs root.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::desk::{Desk, PROGRAM, both, state, text};
use serde_json::Value;

/// A client of the lab is the collector.
const EVENTS: &str = r#"
[events]
syslog = ["192.0.2.100", "192.0.2.101:5140"]
snmp = ["192.0.2.100:1162"]
community_file = "snmp.community"
"#;
const COMMUNITY: &str = "not-public";
const ELEMENT: &str = "ravelin@32473";

#[test]
fn collectors_and_operators_hear_what_happens() {
    if let Some(missing) = ["rsyslogd", "snmptrapd"]
        .into_iter()
        .find(|program| !is_there(program))
    {
        eprintln!("skipped: {missing} is missing (apt-get install rsyslog snmptrapd)");
        return;
    }
    let desk = Desk::with("100ms", EVENTS);
    let secret = desk.lab.file("snmp.community", COMMUNITY).expect("a file");
    fs::set_permissions(secret, Permissions::from_mode(0o600)).expect("our own file");
    let rsyslog = Rsyslog::start(&desk);
    let traps = Traps::start(&desk);

    let gw1 = desk.start(0);
    let gw2 = desk.start(1);
    desk.until_well();
    let first = rsyslog.wait(&desk, "gw1", "vrrp-new-master-event", |_| true);
    assert_eq!(first["app"], "ravelin");
    assert_eq!(first["pri"], "29", "daemon.notice");
    assert_eq!(first["version"], "1");
    assert_eq!(parts(&first)["to"], "Active");
    assert_eq!(parts(&first)["master-ip-address"], "192.0.2.2");
    assert!(
        first["time"]
            .as_str()
            .is_some_and(|time| time.starts_with("20"))
    );
    let found = rsyslog.wait(&desk, "gw2", "peer-found", |_| true);
    assert!(
        found["msg"]
            .as_str()
            .is_some_and(|msg| msg.contains("peer: session"))
    );
    let follower = Follower::start(&desk);
    follower.wait(&desk, "ietf-vrrp:vrrp-new-master-event", "gw1");

    let moved = desk.run(&["handover", "gw1"]);
    assert_eq!(moved.status.code(), Some(0), "{}", both(&moved));
    let taken = rsyslog.wait(&desk, "gw2", "vrrp-new-master-event", |_| true);
    assert_eq!(parts(&taken)["new-master-reason"], "priority");
    assert_eq!(parts(&taken)["master-ip-address"], "192.0.2.3");
    rsyslog.wait(&desk, "gw1", "hand-over", |_| true);
    rsyslog.wait(&desk, "gw1", "maintenance-begun", |event| {
        parts(event)["reason"] == "operator"
    });
    // One for each virtual router, with its index, the address and the reason: priority(1).
    for (interface, vrid, own) in [(1, 51, "C0 00 02 03"), (2, 52, "0A 09 00 03")] {
        let of = format!("{interface}.{vrid}.1");
        traps.wait(&desk, "192.0.2.3", &format!(
            ".1.3.6.1.6.3.1.1.4.1.0 = OID: .1.3.6.1.2.1.207.0.1|.1.3.6.1.2.1.207.1.1.1.1.3.{of} = Hex-STRING: {own}|.1.3.6.1.2.1.207.1.2.5.1.2.{of} = INTEGER: 1"
        ));
    }

    // A server dies.
    desk.lab
        .servers()
        .ip("addr del 10.9.0.12/24 dev eth0")
        .expect("it has it");
    let down = rsyslog.wait(&desk, "gw2", "server-unhealthy", |event| {
        parts(event)["address"] == "10.9.0.12"
    });
    assert_eq!(down["pri"], "28", "daemon.warning");
    assert_eq!(parts(&down)["reason"], "no answer in time");

    let ended = desk.run(&["maintenance", "gw1", "off"]);
    assert_eq!(ended.status.code(), Some(0), "{}", both(&ended));
    rsyslog.wait(&desk, "gw1", "maintenance-ended", |_| true);
    desk.until("gw1 takes over again", |status| {
        state(status, "gw1") == "master"
    });

    gw1.kill();
    let lost = rsyslog.wait(&desk, "gw2", "peer-lost", |_| true);
    assert_eq!(lost["pri"], "27", "daemon.error");
    rsyslog.wait(&desk, "gw2", "vrrp-new-master-event", |event| {
        parts(event)["new-master-reason"] == "no-response"
    });
    traps.wait(
        &desk,
        "192.0.2.3",
        ".1.3.6.1.2.1.207.1.2.5.1.2.1.51.1 = INTEGER: 3",
    );
    follower.wait(&desk, "ravelin:peer-lost", "gw2");
    let gw1 = desk.start(0);
    follower.wait(&desk, "ravelin:restarted", "gw1");

    // Nobody missed anything: messages of one start are numbered without a gap.
    for (name, numbers) in rsyslog.numbers() {
        let starts = numbers.iter().filter(|number| **number == 1).count();
        assert_eq!(
            starts,
            if name == "gw1" { 2 } else { 1 },
            "{name}: {numbers:?}"
        );
        let gap = numbers
            .windows(2)
            .find(|pair| pair[1] != pair[0] + 1 && pair[1] != 1);
        assert_eq!(gap, None, "{name}: {numbers:?}");
    }

    let lines = desk.run(&["events", "gw2"]);
    assert_eq!(lines.status.code(), Some(0), "{}", both(&lines));
    let lines = text(&lines.stdout);
    let expected = " gw2 error   peer-lost: peer: silent on every path";
    assert!(
        lines.lines().any(|line| line.ends_with(expected)),
        "{lines}"
    );
    drop((gw1, gw2));
    let silent = desk.run(&["events", "gw2", "--json"]);
    assert_eq!(silent.status.code(), Some(1), "{}", both(&silent));
}

fn is_there(program: &str) -> bool {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places
        .iter()
        .any(|place| PathBuf::from(place).join(program).exists())
}

/// The parts of an event as rsyslog has read them.
fn parts(event: &Value) -> &Value {
    &event["rfc5424-sd"][ELEMENT]
}

/// A daemon among the clients, killed when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(desk: &Desk, words: &[&str]) -> Self {
        let mut command: Command = desk.lab.clients().command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// rsyslog, which writes what it has read of each message as JSON.
struct Rsyslog {
    _daemon: Daemon,
    file: PathBuf,
}

impl Rsyslog {
    fn start(desk: &Desk) -> Self {
        let file = desk.lab.path("messages.json");
        let conf = format!(
            r#"
module(load="imudp")
module(load="mmpstrucdata")
input(type="imudp" address="192.0.2.100" port="514" ruleset="all")
template(name="time" type="string" string="%timereported:::date-rfc3339%")
template(name="json" type="string" string="%$!%\n")
ruleset(name="all") {{
    action(type="mmpstrucdata" sd_name.lowercase="off")
    set $!host = $hostname;
    set $!app = $app-name;
    set $!msgid = $msgid;
    set $!pri = $pri;
    set $!version = $protocol-version;
    set $!time = exec_template("time");
    set $!msg = $msg;
    action(type="omfile" file="{}" template="json")
}}
"#,
            file.display()
        );
        let conf = desk.lab.file("rsyslog.conf", conf).expect("a file");
        let pid = desk.lab.path("rsyslog.pid");
        let daemon = Daemon::start(
            desk,
            &[
                "rsyslogd",
                "-n",
                "-f",
                &conf.display().to_string(),
                "-i",
                &pid.display().to_string(),
            ],
        );
        desk.wait("rsyslogd has started", || pid.exists());
        Self {
            _daemon: daemon,
            file,
        }
    }

    fn all(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The last such message, when there is one.
    fn wait(&self, desk: &Desk, host: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        let what = format!("message {name} of {host}");
        desk.wait(&what, || {
            found = (self.all().into_iter())
                .rfind(|one| one["host"] == host && one["msgid"] == name && is(one));
            found.is_some()
        });
        found.expect("just found")
    }

    /// The numbers of each appliance's messages.
    fn numbers(&self) -> BTreeMap<String, Vec<u32>> {
        let mut numbers = BTreeMap::<String, Vec<u32>>::new();
        for message in self.all() {
            let host = message["host"].as_str().expect("a name").to_owned();
            let number = message["rfc5424-sd"]["meta"]["sequenceId"].as_str();
            let number = number.and_then(|number| number.parse().ok());
            numbers
                .entry(host)
                .or_default()
                .push(number.expect("a number"));
        }
        numbers
    }
}

/// net-snmp's receiver of traps, which writes one line for each.
struct Traps {
    _daemon: Daemon,
    file: PathBuf,
}

impl Traps {
    fn start(desk: &Desk) -> Self {
        let conf = format!("authCommunity log {COMMUNITY}\nformat2 %b|%v\\n\n");
        let conf = desk.lab.file("snmptrapd.conf", conf).expect("a file");
        let file = desk.lab.path("traps.log");
        let daemon = Daemon::start(
            desk,
            &[
                "snmptrapd",
                "-f",
                "-C",
                "-c",
                &conf.display().to_string(),
                "-Lf",
                &file.display().to_string(),
                "-On",
                "-m",
                "",
                "udp:192.0.2.100:1162",
            ],
        );
        desk.wait("snmptrapd has started", || file.exists());
        Self {
            _daemon: daemon,
            file,
        }
    }

    /// A trap from this address with these values, which net-snmp separates by tabs.
    fn wait(&self, desk: &Desk, from: &str, values: &str) {
        let values = values.replace('|', "\t");
        let is = |line: &str| {
            let line = line.replace(" \t", "\t");
            line.starts_with(&format!("UDP: [{from}]:")) && line.contains(&values)
        };
        desk.wait(&format!("trap of {from} with {values:?}"), || {
            let log = fs::read_to_string(&self.file).unwrap_or_default();
            log.lines().any(is)
        });
    }
}

/// `ravelin events --follow --json`, line by line.
struct Follower {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Follower {
    fn start(desk: &Desk) -> Self {
        let mut command: Command = desk.lab.clients().command(PROGRAM);
        command.arg("--site").arg(&desk.site);
        command.args(["events", "--follow", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let (stdout, all) = (child.stdout.take().expect("piped"), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).expect("a line of JSON");
                all.lock().expect("nobody panics with it").push(value);
            }
        });
        Self { child, lines }
    }

    fn wait(&self, desk: &Desk, name: &str, appliance: &str) {
        let is = |line: &Value| {
            let notified = &line["ietf-restconf:notification"];
            let by_name = notified[name].is_object() && line["ravelin"]["name"] == appliance;
            by_name || line[name]["name"] == appliance
        };
        desk.wait(&format!("{name} of {appliance}"), || {
            self.lines
                .lock()
                .expect("nobody panics with it")
                .iter()
                .any(is)
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
