//! A primary and its replica, with one application: what was acknowledged is there after everything that can happen to the
//! primary, on whichever of the two an operator makes the primary then.

use std::process::Output;
use std::thread::sleep;
use std::time::Duration;

use database_test::{Lab, Load, plan};

#[test]
fn a_pair_keeps_what_it_acknowledged_and_changes_places() {
    let example = include_str!("../../../examples/foobar/site.toml");
    let (before, _) = example.split_once("[db]").expect("a database");
    let plan = plan(&format!("{before}[db]\nmode = \"semisync\"\n"));
    let mut lab = Lab::new(plan, &["db1", "db2", "app1"]);
    for name in ["db1", "db2", "app1"] {
        lab.power_on(name);
    }
    pair(&lab, "db1", "db2");
    lab.sql(
        "db1",
        "CREATE TABLE app.acknowledged (id INT PRIMARY KEY, value BIGINT NOT NULL); \
         INSERT INTO app.acknowledged VALUES (1, 0)",
    );

    power_cut(&mut lab, "db1", "db2");
    // The rest takes minutes.
    if std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }
    change_places(&lab, "db2", "db1");
    killed(&lab);
    alone(&mut lab);
    for _ in 0..5 {
        power_cut(&mut lab, "db1", "db2");
        power_cut(&mut lab, "db2", "db1");
    }
}

/// Waits until one takes writes and the other one has acknowledged all of them.
fn pair(lab: &Lab, primary: &str, replica: &str) -> Duration {
    lab.until("the pair is whole", |lab| {
        lab.sql(primary, "SELECT @@read_only") == "0"
            && lab.sql(replica, "SELECT @@read_only") == "1"
            && lab.status(primary, "Rpl_semi_sync_master_status") == "ON"
            && lab.status(primary, "Rpl_semi_sync_master_clients") == "1"
            && lab.status(replica, "Rpl_semi_sync_slave_status") == "ON"
    })
}

/// The primary's process dies: it comes back as the primary, since its replica agrees.
fn killed(lab: &Lab) {
    let load = begin(lab);
    let before = load.acknowledged();
    let kill = ["systemctl", "kill", "-s", "KILL", "mariadb.service"];
    lab.on("db1", &kill);
    lab.until("it is written to again", |_| {
        load.acknowledged() > before + 50
    });
    pair(lab, "db1", "db2");
    compare(lab, load, "kill -9");
}

/// The primary loses its power in the middle of writes, and an operator promotes the replica. When the old one is back, it
/// follows, and has nothing that nobody acknowledged.
fn power_cut(lab: &mut Lab, primary: &str, replica: &str) {
    let load = begin(lab);
    sleep(Duration::from_millis(rand::random_range(0..700)));
    lab.power_off(primary);
    let before = load.acknowledged();
    // Nobody promotes himself, and nobody by mistake.
    sleep(Duration::from_secs(3));
    assert_eq!(lab.sql(replica, "SELECT @@read_only"), "1");
    let answer = promote(lab, replica, &[]);
    assert!(!answer.status.success(), "{answer:?}");
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(
        said.contains(&format!("`{primary}` does not answer: cut its power")),
        "{said}"
    );
    let answer = promote(lab, replica, &["--dead"]);
    assert!(answer.status.success(), "{answer:?}");
    lab.until("the replica is written to", |_| {
        load.acknowledged() > before + 50
    });
    lab.power_on(primary);
    pair(lab, replica, primary);
    compare(lab, load, "power cut");
}

/// Both run, and change places under load.
fn change_places(lab: &Lab, primary: &str, replica: &str) {
    let load = begin(lab);
    let answer = promote(lab, replica, &["--dead"]);
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(said.contains("is not dead: it answers"), "{said}");
    let before = load.acknowledged();
    let answer = promote(lab, replica, &[]);
    assert!(answer.status.success(), "{answer:?}");
    pair(lab, replica, primary);
    lab.until("it is written to", |_| load.acknowledged() > before + 50);
    compare(lab, load, "changed places");
}

/// Both lose their power and one is lost for good: the primary does not go on before it is told that it is alone.
fn alone(lab: &mut Lab) {
    let load = begin(lab);
    for name in ["db1", "db2"] {
        lab.power_off(name);
    }
    let before = load.acknowledged();
    lab.power_on("db1");
    lab.until("db1 waits for db2", |lab| {
        let journal = ["journalctl", "-b", "-o", "cat", "-u", "mariadb"];
        lab.says("db1", &journal)
            .contains("the database waits: `db2` may be the primary by now")
    });
    let answer = promote(lab, "db1", &["--dead"]);
    assert!(answer.status.success(), "{answer:?}");
    lab.until("db1 is written to", |_| load.acknowledged() > before + 20);
    lab.power_on("db2");
    pair(lab, "db1", "db2");
    compare(lab, load, "alone");
}

fn promote(lab: &Lab, name: &str, more: &[&str]) -> Output {
    lab.on(name, &[&["ravelin-db", "promote"], more].concat())
}

fn begin(lab: &Lab) -> Load {
    let load = Load::start(lab, "app1");
    lab.until("writes are acknowledged", |_| load.acknowledged() > 20);
    load
}

/// Both have what was acknowledged, and the same.
fn compare(lab: &Lab, load: Load, what: &str) {
    let (acknowledged, gap) = load.finish();
    println!("{what}: {acknowledged} writes acknowledged, longest gap {gap:.1?}");
    let counted = |name: &str| lab.sql(name, "SELECT value FROM app.acknowledged");
    let counts = || ["db1", "db2"].map(counted);
    lab.until("both have the same", |_| {
        let [first, second] = counts();
        first == second
    });
    for counted in counts() {
        let counted: u64 = counted.parse().expect("a number");
        assert!(
            counted >= acknowledged,
            "{what}: {counted} of {acknowledged}"
        );
    }
    // The next round counts from zero.
    let primary = ["db1", "db2"]
        .into_iter()
        .find(|name| lab.sql(name, "SELECT @@read_only") == "0");
    let primary = primary.expect("a primary");
    lab.sql(primary, "UPDATE app.acknowledged SET value = 0");
}
