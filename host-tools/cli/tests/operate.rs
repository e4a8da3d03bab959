//! An operator with a pair of appliances that run on this machine, in namespaces: `run`, `status`, `handover`, `maintenance`.
//! Needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{GATEWAYS, Lab, Program};
use serde_json::Value;

#[test]
fn an_operator_sees_the_pair_and_moves_it() {
    let desk = Desk::new();
    let mut gw1 = desk.start(0);
    let gw2 = desk.start(1);
    let status = desk.until_well();
    assert_eq!(state(&status, "gw1"), "master");
    assert_eq!(state(&status, "gw2"), "backup");
    let backup = &status["appliances"][1]["ietf-interfaces:interfaces"]["interface"];
    let of = |interface: &Value| {
        let instance = &interface["ietf-ip:ipv4"]["ietf-vrrp:vrrp"]["vrrp-instance"][0];
        let heard = instance["statistics"]["advertisement-rcvd"].as_u64();
        (
            instance["vrid"].clone(),
            instance["state"].clone(),
            heard > Some(0),
        )
    };
    let all: Vec<_> = backup.as_array().expect("a list").iter().map(of).collect();
    let expected = |vrid: u8| (vrid.into(), "ietf-vrrp:backup".into(), true);
    assert_eq!(all, [expected(51), expected(52)], "{status:#}");
    let table = desk.run(&["status"]);
    let text = text(&table.stdout);
    for word in ["gw1", "Active", "gw2 Backup, in sync", "lan up, wan up"] {
        assert!(text.contains(word), "no {word:?} in:\n{text}");
    }

    let moved = desk.run(&["handover", "gw1"]);
    assert_eq!(moved.status.code(), Some(0), "{}", both(&moved));
    assert!(self::text(&moved.stdout).starts_with("gw2 is Active; gw1 stands back"));
    let status = desk.until_well();
    assert_eq!(state(&status, "gw2"), "master");
    let demotions = &ravelin(&status, "gw1")["demotions"];
    assert_eq!(*demotions, Value::from(["operator"].to_vec()));

    // Again: there is nothing to hand over. In maintenance nobody takes over either.
    let again = desk.run(&["handover", "gw1"]);
    assert_eq!(again.status.code(), Some(1), "{}", both(&again));
    assert!(
        both(&again).contains("it is not Active"),
        "{}",
        both(&again)
    );
    let refused = desk.run(&["handover", "gw2"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("not able to take over"),
        "{}",
        both(&refused)
    );

    // A stop and a start do not end it: the peer remembers.
    gw1.terminate();
    desk.wait("gw1 ends", || gw1.ended().is_some());
    let gw1 = desk.start(0);
    let status = desk.until_well();
    assert_eq!(state(&status, "gw2"), "master");
    let demotions = &ravelin(&status, "gw1")["demotions"];
    assert_eq!(*demotions, Value::from(["operator"].to_vec()));

    let ended = desk.run(&["maintenance", "gw1", "off"]);
    assert_eq!(ended.status.code(), Some(0), "{}", both(&ended));
    desk.until("gw1 takes over again", |status| {
        state(status, "gw1") == "master"
    });

    drop(gw2);
    let alone = desk.run(&["status"]);
    assert_eq!(alone.status.code(), Some(1), "{}", both(&alone));
    assert!(
        both(&alone).contains("no answer from 10.9.0.3"),
        "{}",
        both(&alone)
    );
    let refused = desk.run(&["handover", "gw1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("its peer is not heard"),
        "{}",
        both(&refused)
    );

    // Somebody with another site's secret is not believed.
    let other = desk.lab.path("other");
    std::fs::create_dir(&other).expect("a directory");
    std::fs::copy(&desk.site, other.join("site.toml")).expect("a copy");
    let stranger = other.join("site.toml");
    let unbuilt = desk.ask(&stranger, &["status"]);
    assert_eq!(unbuilt.status.code(), Some(2), "{}", both(&unbuilt));
    let pki = other.join(".ravelin/pki");
    std::fs::create_dir_all(&pki).expect("a directory");
    std::fs::write(pki.join("operator.key"), "00".repeat(32)).expect("a key");
    let foreign = desk.ask(&stranger, &["handover", "gw1"]);
    assert_eq!(foreign.status.code(), Some(2), "{}", both(&foreign));
    assert!(
        both(&foreign).contains("does not take the site's operator key"),
        "{}",
        both(&foreign)
    );
    drop(gw1);
}

struct Desk {
    lab: Lab,
    site: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let lab = Lab::new().expect("a lab");
        let text = include_str!("../../lab/src/site.toml").replace("INTERVAL", "100ms");
        let site = lab.file("site.toml", text).expect("a site file");
        Self { lab, site }
    }

    fn start(&self, gateway: usize) -> Program {
        let site = self.site.display().to_string();
        let ports = ["--port", "wan=wan", "--port", "lan=lan"];
        let words = ["--site", &site, "run", GATEWAYS[gateway]];
        let words: Vec<&str> = words.into_iter().chain(ports).collect();
        self.lab
            .start(gateway, Path::new(PROGRAM), &words)
            .expect("it starts")
    }

    fn run(&self, words: &[&str]) -> Output {
        self.ask(&self.site, words)
    }

    /// From among the clients.
    fn ask(&self, site: &Path, words: &[&str]) -> Output {
        let mut command: Command = self.lab.clients().command(PROGRAM);
        command.arg("--site").arg(site).args(words);
        command.output().expect("it runs")
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < end, "no {what}");
            sleep(Duration::from_millis(50));
        }
    }

    fn until_well(&self) -> Value {
        self.until("a pair that is well and in sync", |status| {
            status["well"] == true && ravelin(status, "gw1")["peer"]["in-sync"] == true
        })
    }

    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.run(&["status", "--json"]);
            match serde_json::from_slice(&output.stdout) {
                Ok(status) if done(&status) => return status,
                _ if Instant::now() > end => panic!("no {what}: {}", both(&output)),
                _ => sleep(Duration::from_millis(200)),
            }
        }
    }
}

fn ravelin<'v>(status: &'v Value, name: &str) -> &'v Value {
    let all = status["appliances"].as_array().expect("a list");
    let mut all = all.iter().map(|one| &one["ravelin"]);
    all.find(|one| one["name"] == name).expect("it is listed")
}

fn state<'v>(status: &'v Value, name: &str) -> &'v str {
    ravelin(status, name)["state"].as_str().unwrap_or("silent")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As a terminal shows it, on one line: messages are wrapped.
fn both(output: &Output) -> String {
    let all = text(&output.stdout) + &text(&output.stderr);
    let words = all.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_ravelin");
