//! An operator with a pair of appliances that run on this machine, in namespaces.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{GATEWAYS, Lab, Program};
use serde_json::Value;

/// An operator among the clients of a lab, and the pair.
pub struct Desk {
    pub lab: Lab,
    pub site: PathBuf,
    interval: &'static str,
}

impl Desk {
    /// Adverts come every `interval`: the longer, the longer may a busy machine stand still.
    pub fn new(interval: &'static str) -> Self {
        Self::with(interval, "")
    }

    /// With `more` at the end of the site file.
    pub fn with(interval: &'static str, more: &str) -> Self {
        let lab = Lab::new().expect("a lab");
        let site = lab.file("site.toml", site(interval) + more);
        let site = site.expect("a site file");
        Self {
            lab,
            site,
            interval,
        }
    }

    pub fn start(&self, gateway: usize) -> Program {
        let site = self.site.display().to_string();
        let ports = ["--port", "wan=wan", "--port", "lan=lan"];
        let words = ["--site", &site, "run", GATEWAYS[gateway]];
        let words: Vec<&str> = words.into_iter().chain(ports).collect();
        self.lab
            .start(gateway, Path::new(PROGRAM), &words)
            .expect("it starts")
    }

    /// The same with the configuration that `ravelin build` made, which a push may replace.
    pub fn start_blob(&self, gateway: usize) -> Program {
        let blob = self.blob(gateway);
        let words = [
            "run",
            "--config-blob",
            &blob,
            "--port",
            "wan=wan",
            "--port",
            "lan=lan",
        ];
        let started = self.lab.start(gateway, Path::new(PROGRAM), &words);
        started.expect("it starts")
    }

    /// Where that is.
    pub fn blob(&self, gateway: usize) -> String {
        let name = format!("{}.blob", GATEWAYS[gateway]);
        self.lab.path(&name).display().to_string()
    }

    /// Builds the configurations of the site file as it is.
    pub fn build(&self) {
        let built = self.run(&["build", "--only", "gw1,gw2"]);
        assert_eq!(built.status.code(), Some(0), "{}", both(&built));
        for (gateway, name) in GATEWAYS.iter().enumerate() {
            let made = self.lab.path(&format!(".ravelin/firmware/{name}.config"));
            std::fs::copy(made, self.blob(gateway)).expect("it was built");
        }
    }

    /// Writes the site file with a part replaced and `more` at its end.
    pub fn change(&self, from: &str, to: &str, more: &str) {
        let text = site(self.interval);
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1) + more;
        std::fs::write(&self.site, text).expect("room");
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.ask(&self.site, words)
    }

    /// From among the clients.
    pub fn ask(&self, site: &Path, words: &[&str]) -> Output {
        let mut command: Command = self.lab.clients().command(PROGRAM);
        command.arg("--site").arg(site).args(words);
        command.output().expect("it runs")
    }

    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < end, "no {what}");
            sleep(Duration::from_millis(50));
        }
    }

    pub fn until_well(&self) -> Value {
        self.until("a pair that is well and in sync", |status| {
            status["well"] == true && ravelin(status, "gw1")["peer"]["in-sync"] == true
        })
    }

    pub fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
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

fn site(interval: &str) -> String {
    include_str!("../../../lab/src/site.toml").replace("INTERVAL", interval)
}

/// What an appliance says of itself.
pub fn ravelin<'v>(status: &'v Value, name: &str) -> &'v Value {
    let all = status["appliances"].as_array().expect("a list");
    let mut all = all.iter().map(|one| &one["ravelin"]);
    all.find(|one| one["name"] == name).expect("it is listed")
}

pub fn state<'v>(status: &'v Value, name: &str) -> &'v str {
    ravelin(status, name)["state"].as_str().unwrap_or("silent")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// As a terminal shows it, on one line: messages are wrapped.
pub fn both(output: &Output) -> String {
    let all = text(&output.stdout) + &text(&output.stderr);
    let words = all.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ravelin");
