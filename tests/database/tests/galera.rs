//! The database of the reference site: two servers and an arbiter, with one application.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use database_test::{Lab, Load, Way, plan};
use render::Identity;
use site::plan::ports;

const SERVERS: [&str; 4] = ["db1", "db2", "mon1", "app1"];

#[test]
fn what_was_acknowledged_survives_kills_power_cuts_and_cut_cables() {
    let plan = plan(include_str!("../../../examples/foobar/site.toml"));
    let mut lab = Lab::new(plan, &SERVERS);
    first_boot(&mut lab);
    strangers_are_refused(&lab);
    let rounds = if std::env::var_os("RAVELIN_SOAK").is_some() {
        20
    } else {
        2
    };
    for round in 0..rounds {
        kill(&mut lab, round % 2 == 0);
    }
    split(&lab);
    everything_off(&mut lab);
    backup(&lab);
}

/// db2 is there first and alone: it must not begin a cluster of its own.
fn first_boot(lab: &mut Lab) {
    let begin = Instant::now();
    lab.power_on("db2");
    lab.until("db2 waits for db1", |lab| {
        lab.says("db2", &["journalctl", "-b", "-o", "cat", "-u", "mariadb"])
            .contains("the database waits: `db1` may know more")
    });
    // Its ports may answer, but an update of it would not be kept, and none of db1 begun.
    lab.until("db2 says so to its gate", |lab| {
        gate(lab, "db2")
            == (
                Some(1),
                "the database waits for the other servers".to_owned(),
            )
    });
    for name in ["db1", "mon1", "app1"] {
        lab.power_on(name);
    }
    whole(lab);
    lab.sql(
        "db1",
        "CREATE TABLE app.acknowledged (id INT PRIMARY KEY, value BIGINT NOT NULL); \
         INSERT INTO app.acknowledged VALUES (1, 0)",
    );
    lab.until("the application reaches the database", |lab| {
        ask(lab, lab.way("app1"), "SELECT 1").is_ok()
    });
    println!("first boot: {:.1?}", begin.elapsed());
}

/// Waits until all three vote and both servers have everything.
fn whole(lab: &Lab) -> Duration {
    lab.until("the cluster is whole", |lab| {
        ["db1", "db2"].iter().all(|name| {
            lab.status(name, "wsrep_cluster_size") == "3"
                && lab.status(name, "wsrep_local_state_comment") == "Synced"
        })
    })
}

/// What the role asks before a version of a server is kept.
fn gate(lab: &Lab, name: &str) -> (Option<i32>, String) {
    let asked = lab.on(name, &["/usr/lib/ravelin/serves.d/database"]);
    let said = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    (asked.status.code(), said)
}

/// Its gate opens when it has everything, and not before.
fn serves_when_synced(lab: &Lab, name: &str) {
    let mut told = Vec::new();
    lab.until("it serves again", |lab| {
        let (code, said) = gate(lab, name);
        if code == Some(0) {
            assert_eq!(lab.status(name, "wsrep_local_state_comment"), "Synced");
            return true;
        }
        told.push((code, said));
        told.dedup();
        false
    });
    println!("{name}, until it served: {told:?}");
    assert!(!told.is_empty(), "it served from the first moment");
}

fn ask(lab: &Lab, way: Way, query: &'static str) -> Result<Option<String>, String> {
    let asked = lab.inside("app1", move || way.query(query));
    asked.join().expect("asked")
}

fn strangers_are_refused(lab: &Lab) {
    let good = lab.way("app1");
    let version = ask(
        lab,
        good.clone(),
        "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'SSL_VERSION'",
    );
    assert_eq!(version, Ok(Some("TLSv1.3".to_owned())));
    let of = |name: &str| lab.pki.material(lab.server(name));
    let refused = |what: &str, way: Way, why: &str| {
        let answer = ask(lab, way, "SELECT 1").expect_err(what);
        assert!(answer.contains(why), "{what}: {answer}");
    };
    let with = |identity: Option<Identity>| Way {
        identity,
        ..good.clone()
    };
    let plain = Way {
        tls: false,
        ..good.clone()
    };
    refused("in the open", plain, "insecure transport");
    refused("no certificate", with(None), "Access denied");
    refused(
        "another server of the tier",
        with(of("app2").client),
        "Access denied",
    );
    refused("the web tier's", with(of("web1").client), "");
    refused("a server's, not a client's", with(of("app1").server), "");
    let elsewhere = Way {
        name: "web1".to_owned(),
        ..good.clone()
    };
    refused("a server of another name", elsewhere, "not valid for name");
    let other = Way {
        ca: of("app1").tiers[&site::plan::Role::Nginx].clone(),
        ..good.clone()
    };
    refused("a server of another tier", other, "UnknownIssuer");

    // The state of a server, as the proxy asks for it: with the right certificate, with none, and one of another tier.
    let address = lab.server("db2").address;
    let url = format!("https://db2:{}/writer", ports::DB_STATE);
    let curl = |identity: Option<Identity>| {
        let directory = tempfile::tempdir().expect("a directory");
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, &good.ca).expect("written");
        let own = directory.path().join("own.pem");
        let url = url.clone();
        let resolve = format!("db2:{}:{address}", ports::DB_STATE);
        let asked = lab.inside("app1", move || {
            let mut curl = Command::new("curl");
            curl.args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--resolve",
                &resolve,
            ]);
            curl.arg("--cacert").arg(&ca);
            if let Some(identity) = identity {
                let text = format!("{}{}", identity.certificate, identity.key);
                fs::write(&own, text).expect("written");
                curl.arg("--cert").arg(&own);
            }
            let output = curl.arg(url).output().expect("curl");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        let code = asked.join().expect("asked");
        drop(directory);
        code
    };
    // It has just come up, and looks now and then.
    lab.until("the proxy hears that db2 may be written to", |_| {
        curl(good.identity.clone()) == "200"
    });
    assert_eq!(curl(None), "000");
    assert_eq!(curl(of("web1").client), "000");

    // The group is for servers of the db and monitor tiers only.
    let group = |identity: Identity| {
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("own.pem");
        fs::write(&own, format!("{}{}", identity.certificate, identity.key)).expect("written");
        let target = format!("{}:{}", lab.server("db1").address, ports::DB_GROUP);
        let asked = lab.inside("mon1", move || {
            let mut openssl = Command::new("timeout");
            openssl.args(["5", "openssl", "s_client", "-connect", &target, "-quiet"]);
            let output = openssl
                .arg("-cert")
                .arg(&own)
                .arg("-key")
                .arg(&own)
                .output();
            let output = output.expect("openssl");
            String::from_utf8_lossy(&output.stderr).into_owned()
        });
        let said = asked.join().expect("asked");
        drop(directory);
        said
    };
    let accepted = group(of("mon1").peer.expect("a certificate"));
    assert!(!accepted.contains("alert"), "{accepted}");
    let stranger = group(of("app1").client.expect("a certificate"));
    assert!(stranger.contains("alert"), "{stranger}");
}

/// The server that is written to dies in the middle of writes: its process, or the whole machine.
fn kill(lab: &mut Lab, process: bool) {
    let load = Load::start(lab, "app1");
    lab.until("writes are acknowledged", |_| load.acknowledged() > 20);
    sleep(Duration::from_millis(rand::random_range(0..1500)));
    let before = load.acknowledged();
    if process {
        lab.on(
            "db1",
            &["systemctl", "kill", "-s", "KILL", "mariadb.service"],
        );
    } else {
        lab.power_off("db1");
    }
    lab.until("the other one is written to", |_| {
        load.acknowledged() > before + 50
    });
    if !process {
        lab.power_on("db1");
        serves_when_synced(lab, "db1");
    }
    let back = whole(lab);
    sleep(Duration::from_secs(2));
    compare(
        lab,
        load,
        if process { "kill -9" } else { "power cut" },
        back,
    );
}

fn compare(lab: &Lab, load: Load, what: &str, back: Duration) {
    let (acknowledged, gap) = load.finish();
    println!(
        "{what}: {acknowledged} writes acknowledged, longest gap {gap:.1?}, whole again after {back:.1?}"
    );
    for name in ["db1", "db2"] {
        let query = "SELECT value FROM app.acknowledged";
        let counted: u64 = lab.sql(name, query).parse().expect("a number");
        assert!(
            counted >= acknowledged,
            "{what}: {name} has {counted} of {acknowledged}"
        );
    }
    // The next round counts from zero.
    lab.sql("db1", "UPDATE app.acknowledged SET value = 0");
}

/// A server that is cut off takes no writes, and comes back by itself.
fn split(lab: &Lab) {
    let load = Load::start(lab, "app1");
    lab.until("writes are acknowledged", |_| load.acknowledged() > 20);
    let before = load.acknowledged();
    lab.cable("db1", false);
    lab.until("the other one is written to", |_| {
        load.acknowledged() > before + 50
    });
    let state = lab.status("db1", "wsrep_cluster_status");
    assert_ne!(state, "Primary", "both halves go on");
    let write = "INSERT INTO app.acknowledged VALUES (2, 0)";
    lab.sql("db1", write);
    assert_eq!(lab.sql("db2", "SELECT COUNT(*) FROM app.acknowledged"), "1");
    lab.cable("db1", true);
    let back = whole(lab);
    compare(lab, load, "cut cable", back);
    assert_eq!(lab.sql("db1", "SELECT COUNT(*) FROM app.acknowledged"), "1");
}

/// Power cut of the whole rack under load: it comes up by itself, with everything.
fn everything_off(lab: &mut Lab) {
    let history = lab.status("db1", "wsrep_cluster_state_uuid");
    let load = Load::start(lab, "app1");
    lab.until("writes are acknowledged", |_| load.acknowledged() > 20);
    for name in ["db2", "mon1", "db1"] {
        lab.power_off(name);
    }
    let acknowledged = load.acknowledged();
    for name in ["db2", "mon1", "db1"] {
        lab.power_on(name);
    }
    let back = whole(lab);
    lab.until("writes go on", |_| load.acknowledged() > acknowledged + 20);
    compare(lab, load, "power cut of everything", back);
    assert_eq!(lab.status("db1", "wsrep_cluster_state_uuid"), history);
    assert_eq!(lab.status("db2", "wsrep_cluster_state_uuid"), history);
}

/// A backup is made by the server that is not written to, and what it holds is what was there.
fn backup(lab: &Lab) {
    lab.sql(
        "db1",
        "CREATE TABLE app.precious (id INT PRIMARY KEY AUTO_INCREMENT, word TEXT)",
    );
    lab.sql(
        "db1",
        "INSERT INTO app.precious (word) SELECT UUID() FROM seq_1_to_500",
    );
    let checksum = "CHECKSUM TABLE app.precious";
    let there = lab.sql("db1", checksum);
    for name in ["db1", "db2"] {
        let start = ["systemctl", "start", "ravelin-db-backup.service"];
        let started = lab.on(name, &start);
        assert!(started.status.success(), "{}", {
            lab.tell(name);
            name
        });
    }
    let kept = lab.disk("mon1").join("ravelin-backups");
    let names: Vec<String> = (fs::read_dir(&kept).expect("a directory"))
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let [name] = names.as_slice() else {
        panic!("one backup was expected, not {names:?}");
    };
    assert!(
        name.starts_with("db2-") && name.ends_with(".xb.zst"),
        "{name}"
    );
    restore(lab, &kept.join(name), &there);
}

/// The operator's steps of docs/database.md, beside the servers that run.
fn restore(lab: &Lab, backup: &Path, there: &str) {
    let script = include_str!("restore.sh");
    let work = lab.state.path().join("restored");
    fs::create_dir(&work).expect("a directory");
    fs::copy(backup, work.join("backup.xb.zst")).expect("copied");
    let output = Command::new("sh")
        .args(["-c", script, "restore"])
        .args([lab.root("db1"), &work])
        .output()
        .expect("sh");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}");
    assert_eq!(said.trim().lines().last(), Some(there), "{complaints}");
}
