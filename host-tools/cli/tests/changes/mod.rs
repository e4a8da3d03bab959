//! Configurations that change and appliances that are renewed under users who must not notice: `push`, SIGHUP, `update`.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{CLIENTS, ECHO, Echo, GATEWAYS, Load, Probes, Talk, Target, plain};

use crate::desk::{Desk, PROGRAM, both, ravelin, state, text};

/// Connections and pings of users.
struct Users {
    logs: [PathBuf; 2],
    loads: [Load; 2],
    pings: Probes,
    _echo: Echo,
}

impl Users {
    fn new(desk: &Desk) -> Self {
        let echo = Echo::start(&desk.lab).expect("free ports");
        sleep(Duration::from_secs(1)); // checks of the servers
        let open = |count, pause: Option<u64>| {
            let talk = Talk {
                block: 64,
                pause: pause.map(Duration::from_millis),
            };
            Load::open_with(&desk.lab, CLIENTS[1], ECHO, count, talk, plain()).expect("the service")
        };
        Self {
            logs: GATEWAYS.map(|name| desk.lab.path(&format!("{name}-ravelin.log"))),
            loads: [open(20, Some(10)), open(100, None)],
            pings: Probes::start(&desk.lab, Target::Address, Duration::from_millis(1))
                .expect("a socket"),
            _echo: echo,
        }
    }

    /// What the appliances say.
    fn logs(&self) -> String {
        let log = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        self.logs.each_ref().map(log).join("---\n")
    }

    /// All connections go on.
    fn are_well(&self, after: &str) {
        let now = Instant::now();
        for load in &self.loads {
            load.ask_all();
            let broken = load.broken_after(now, Duration::from_secs(20));
            assert!(
                broken.is_empty(),
                "after {after}: {broken:?}\n{}",
                self.logs()
            );
        }
    }

    /// No ping was lost either.
    fn lost_nothing(self) {
        self.are_well("all");
        let logs = self.logs();
        let pings = self.pings.stop();
        let lost = pings.iter().filter(|ping| ping.answered.is_none()).count();
        assert_eq!(lost, 0, "of {}\n{logs}", pings.len());
    }
}

fn well(desk: &Desk, words: &[&str]) -> String {
    let output = desk.run(words);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{words:?}: {}",
        both(&output)
    );
    text(&output.stdout)
}

const ROUTER: &str = "vrid = 51\nrouters = [{ vrid = 53, virtual = [\"192.0.2.20\"] }]\n";
const SERVICE: &str = "
[services.more]
port = 7100
role = \"haproxy\"
check = { kind = \"ping\" }
why = \"one more\"
";

#[test]
fn nobody_notices_a_push() {
    let desk = Desk::new("1s");
    desk.build();
    let _gw1 = desk.start_blob(0);
    let gw2 = desk.start_blob(1);
    desk.until_well();
    let users = Users::new(&desk);

    let same = well(&desk, &["push"]);
    assert!(
        same.contains("gw1 runs") && same.contains("already"),
        "{same}"
    );

    // A virtual router and a service more.
    desk.change("vrid = 51\n", ROUTER, SERVICE);
    let before = desk.until_well();
    assert_eq!(ravelin(&before, "gw1")["running"]["of-site-file"], false);
    let asked = well(&desk, &["push", "--dry-run"]);
    assert!(
        asked.contains("adds virtual router 53 of IPv4 on wan"),
        "{asked}"
    );
    assert_eq!(
        ravelin(&desk.until_well(), "gw1")["running"],
        ravelin(&before, "gw1")["running"]
    );
    let pushed = well(&desk, &["push"]);
    for word in ["adds service more", "gw1 runs", "gw2 runs", "confirmed"] {
        assert!(pushed.contains(word), "no {word:?} in:\n{pushed}");
    }
    // The Backup first, as far as nobody moved meanwhile.
    if state(&before, "gw1") == "master" && state(&desk.until_well(), "gw1") == "master" {
        let first = pushed.find("gw2 runs").zip(pushed.find("gw1 runs"));
        assert!(
            first.is_some_and(|(backup, active)| backup < active),
            "{pushed}"
        );
    }
    users.are_well("the push");
    let status = desk.until_well();
    for gateway in GATEWAYS {
        let running = &ravelin(&status, gateway)["running"];
        assert_eq!(
            (&running["of-site-file"], &running["unconfirmed"]),
            (&true.into(), &().into())
        );
    }
    let ping = desk
        .lab
        .clients()
        .run("ping", &["-c1", "-W2", "192.0.2.20"], "");
    assert!(ping.is_ok(), "the new address answers: {ping:?}");

    // It survives a restart: the file has it.
    let mut gw2 = gw2;
    gw2.terminate();
    desk.wait("gw2 ends", || gw2.ended().is_some());
    let _gw2 = desk.start_blob(1);
    let status = desk.until_well();
    assert_eq!(ravelin(&status, "gw2")["running"]["of-site-file"], true);

    // And back.
    desk.change("", "", "");
    let pushed = well(&desk, &["push", "--json"]);
    let pushed: serde_json::Value = serde_json::from_str(&pushed).expect("JSON");
    for appliance in pushed["appliances"].as_array().expect("a list") {
        assert_eq!(appliance["outcome"], "confirmed");
        let changes = appliance["changes"].to_string();
        assert!(
            changes.contains("removes virtual router 53 of IPv4 on wan"),
            "{changes}"
        );
    }
    desk.until_well();
    users.lost_nothing();
}

/// The operator's own address becomes one of the appliances': whatever comes from it is a lie from then on.
#[test]
fn a_push_that_cuts_the_operator_off_is_taken_back() {
    let desk = Desk::new("1s");
    desk.build();
    let gw1 = desk.start_blob(0);
    let gw2 = desk.start_blob(1);
    let before = desk.until_well();
    let users = Users::new(&desk);
    let own = format!("virtual = [\"192.0.2.10\", \"{}\"]", CLIENTS[0]);
    desk.change("virtual = \"192.0.2.10\"", &own, "");
    let pushed = desk.run(&["push", "--confirm-within", "6s"]);
    assert_eq!(pushed.status.code(), Some(1), "{}", both(&pushed));
    // The Backup was first, and the other one was left alone.
    let words = both(&pushed);
    let first = GATEWAYS
        .into_iter()
        .find(|name| words.contains(&format!("{name} does not do well with")));
    let first = first.unwrap_or_else(|| panic!("{words}"));
    assert!(words.contains("goes back to"), "{words}");
    let status = desk.until("both run what they did", |status| {
        status["well"] == true && ravelin(status, first)["running"]["reverted"] == true
    });
    for gateway in GATEWAYS {
        let digest = |status| ravelin(status, gateway)["running"]["digest"].clone();
        assert_eq!(digest(&status), digest(&before), "{gateway}");
        let reverted = ravelin(&status, gateway)["running"]["reverted"] == true;
        assert_eq!(reverted, gateway == first, "{gateway}");
    }
    let logs = gw1.log() + &gw2.log();
    assert!(logs.contains("NOT CONFIRMED IN TIME"), "{logs}");
    users.are_well("a push that was taken back");
}

#[test]
fn an_operator_confirms_later_or_takes_it_back() {
    let desk = Desk::new("1s");
    desk.build();
    let gw1 = desk.start_blob(0);
    let _gw2 = desk.start_blob(1);
    desk.until_well();
    desk.change("", "", SERVICE);
    well(&desk, &["push", "--no-confirm"]);
    let status = desk.until_well();
    assert!(
        ravelin(&status, "gw1")["running"]["unconfirmed"].is_number(),
        "{status:#}"
    );
    desk.change("vrid = 51\n", ROUTER, "");
    let again = desk.run(&["push"]);
    assert_eq!(again.status.code(), Some(1), "{}", both(&again));
    assert!(
        both(&again).contains("not confirmed yet"),
        "{}",
        both(&again)
    );
    let back = well(&desk, &["push", "gw1", "--revert"]);
    assert!(back.contains("goes back"), "{back}");
    let stays = well(&desk, &["push", "gw2", "--confirm"]);
    assert!(stays.contains("stays"), "{stays}");
    desk.until("one went back and one stays", |status| {
        let of = |name, key: &str| ravelin(status, name)["running"][key].clone();
        of("gw1", "reverted") == true && of("gw2", "unconfirmed").is_null()
    });
    // What cannot change while it runs is refused by both, before either has changed.
    desk.change("host = 2", "host = 7", "");
    let refused = desk.run(&["push", "--address", "192.0.2.2", "gw1"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("only change by a restart"),
        "{}",
        both(&refused)
    );

    // A signal brings the site's file, as it does with keepalived.
    desk.change("", "", SERVICE);
    desk.build();
    gw1.reread();
    desk.until("gw1 runs what the file says", |status| {
        ravelin(status, "gw1")["running"]["of-site-file"] == true
    });
    // A broken one changes nothing.
    std::fs::write(desk.blob(0), "nonsense").expect("room");
    gw1.reread();
    desk.wait("a refusal", || gw1.log().contains("goes on as it was"));
    let status = desk.until_well();
    assert_eq!(ravelin(&status, "gw1")["running"]["of-site-file"], true);
}

#[test]
fn an_update_renews_both_and_breaks_nothing() {
    let desk = Desk::new("1s");
    desk.build();
    let script = desk.lab.path("renew");
    // What an operator would have in the unit of a service manager.
    let text = format!(
        "set -e\nname=$1\ncd {directory}\nif [ -e fail-$name ]; then rm fail-$name; exit 3; fi\n\
         if [ -e $name.pid ]; then pid=$(cat $name.pid); kill -TERM $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done; fi\n\
         nohup ip netns exec $(cat $name.space) {PROGRAM} run --realtime --config-blob $name.blob --port wan=wan --port lan=lan \
         >>$name.log 2>&1 </dev/null &\necho $! >$name.pid\n",
        directory = desk.lab.path("").display(),
    );
    std::fs::write(&script, text).expect("room");
    let command = format!("sh {} {{name}}", script.display());
    for (gateway, name) in GATEWAYS.iter().enumerate() {
        let space = desk.lab.gateway(gateway).name();
        desk.lab
            .file(&format!("{name}.space"), space)
            .expect("room");
        let started = std::process::Command::new("sh")
            .arg(&script)
            .arg(name)
            .status();
        assert!(started.expect("sh").success());
    }
    let before = desk.until_well();
    let users = Users::new(&desk);
    // Another configuration, in the files that the appliances start with.
    desk.change("vrid = 51\n", ROUTER, SERVICE);
    desk.build();
    desk.lab.file("fail-gw1", "").expect("room");
    let words = ["update", "gw1", "gw2", "--run", &command, "--within", "60s"];
    let stopped = desk.run(&words);
    assert_eq!(stopped.status.code(), Some(1), "{}", both(&stopped));
    assert!(
        both(&stopped).contains("gw2 is renewed and takes part again"),
        "{}",
        both(&stopped)
    );
    assert!(
        both(&stopped).contains("the command for gw1 failed"),
        "{}",
        both(&stopped)
    );
    users.are_well("half an update");
    desk.until("gw1 stands back", |status| {
        state(status, "gw1") == "backup" && state(status, "gw2") == "master"
    });
    // Again: it goes on with gw1.
    let updated = desk.run(&words);
    assert_eq!(updated.status.code(), Some(0), "{}", both(&updated));
    assert!(
        both(&updated).contains("gw2 is renewed already"),
        "{}",
        both(&updated)
    );
    let status = desk.until("gw1 is Active again", |status| {
        status["well"] == true && state(status, "gw1") == "master"
    });
    for gateway in GATEWAYS {
        let of = |status| ravelin(status, gateway)["running"].clone();
        assert_eq!(of(&status)["of-site-file"], true);
        assert_ne!(of(&status)["digest"], of(&before)["digest"]);
    }
    users.are_well("the update");
    for gateway in [0, 1] {
        desk.lab.kill_all(gateway).expect("iproute2");
    }
}
