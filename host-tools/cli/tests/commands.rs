//! Commands as their users meet them: exit codes, what goes to stdout, what to stderr.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

#[test]
fn the_reference_site_is_good() {
    let output = ravelin(&["check", "--site", REFERENCE]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("is good: 6 networks, 2 appliances, 9 servers, 28 flows"));
    let output = ravelin(&["check", "--json", "--site", REFERENCE]);
    assert_eq!(json(&output)["good"], true);
}

#[test]
fn the_matrix_shows_who_reaches_whom() {
    let output = ravelin(&["check", "--matrix", "--site", REFERENCE]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let row = text
        .lines()
        .find(|line| line.trim_start().starts_with("app1"));
    let row = row.expect("a row");
    assert!(row.contains("3306") && !row.contains("9000"), "{row}");
    let report = json(&ravelin(&["check", "--json", "--site", REFERENCE]));
    assert_eq!(report["matrix"]["cells"].as_array().map(Vec::len), Some(44));
}

#[test]
fn a_packet_is_followed_to_its_end() {
    let trace = |packet: &str| ravelin(&["trace", "--site", REFERENCE, packet]);
    let users = "tcp 198.51.100.7:40000 -> 203.0.113.10:443";
    let output = trace(users);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = stdout(&output);
    let ends = "\ndelivered to lb1 as tcp 198.51.100.7:40000 -> 10.20.1.11:443\n\
                its answer is delivered to internet as tcp 203.0.113.10:443 -> 198.51.100.7:40000 flags syn,ack\n";
    assert!(text.ends_with(ends), "{text}");
    assert!(text.contains("likewise if it is lb2's turn"), "{text}");
    let output = trace("tcp internet -> db1:3306");
    assert_eq!(code(&output), 1);
    let last = "dropped at gw1: default deny";
    assert_eq!(stdout(&output).lines().last(), Some(last));
    let output = trace("tcp internet => db1:3306");
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    assert!(
        stderr(&output).contains("`->` belongs between"),
        "{}",
        stderr(&output)
    );
    let output = ravelin(&["trace", "--json", "--site", REFERENCE, "ping web1 -> db1"]);
    assert_eq!(code(&output), 1);
    assert_eq!(json(&output)["traces"][0]["end"]["at"], "web1");
    let with = |options: &[&str]| {
        let asked = [&["trace", "--json", "--site", REFERENCE, users], options].concat();
        ravelin(&asked)
    };
    let output = with(&["--down", "lb1"]);
    assert_eq!(code(&output), 0);
    assert_eq!(json(&output)["traces"][0]["decision"]["server"], "lb2");
    let output = with(&["--down", "lb1,lb2"]);
    assert_eq!(code(&output), 1);
    let reason = &json(&output)["traces"][0]["decision"]["reason"];
    assert_eq!(reason, "no healthy server");
    let output = with(&["--established"]);
    assert_eq!(code(&output), 0);
    assert!(json(&output)["traces"][0]["decision"]["rule"].is_null());
    let output = with(&["--down", "lb3"]);
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    let message = stderr(&output);
    assert!(message.contains("no server is called `lb3`"), "{message}");
}

#[test]
fn a_trace_names_the_line_that_its_rule_comes_from() {
    let site = "../../examples/dualstack/site.toml";
    let packet = "tcp 198.51.100.7:40000 -> lb1:8405";
    let output = ravelin(&["trace", "--json", "--site", site, packet]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let rule = &json(&output)["traces"][0]["decision"]["rule"];
    let place = rule["place"].as_str().expect("a place");
    let line: usize = place
        .strip_prefix(&format!("{site}:"))
        .and_then(|line| line.parse().ok())
        .expect("a line");
    let text = include_str!("../../../examples/dualstack/site.toml");
    let named = text.lines().nth(line - 1).expect("such a line");
    assert!(named.starts_with("name = \"office-metrics\""), "{named}");
}

#[test]
fn the_plan_names_everything_that_will_exist() {
    let output = ravelin(&["plan", "--site", REFERENCE]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    for part in [
        "203.0.113.10",
        "gw2 port 1",
        "nginx-app",
        "tcp 3306",
        "mon1",
        "disk.raw",
    ] {
        assert!(stdout(&output).contains(part), "{part}");
    }
    let plan = json(&ravelin(&["plan", "--json", "--site", REFERENCE]));
    assert_eq!(plan["plan"]["servers"].as_array().map(Vec::len), Some(9));
    assert_eq!(
        plan["appliances"][0]["rules"].as_array().map(Vec::len),
        Some(21)
    );
    assert_eq!(plan["cables"].as_array().map(Vec::len), Some(13));
}

#[test]
fn a_broken_site_is_wrong_input() {
    let site = format!("{SOURCE}/tests/broken-sites/duplicate-vrid.toml");
    for command in ["check", "plan", "build", "rehearse"] {
        let output = ravelin(&[command, "--site", &site]);
        assert_eq!(code(&output), 2, "{command}");
        assert_eq!(stdout(&output), "", "{command}");
        assert!(
            stderr(&output).contains("site::duplicate_vrid"),
            "{command}"
        );
    }
    let report = json(&ravelin(&["check", "--json", "--site", &site]));
    let problem = report["problems"].as_array().and_then(|problems| {
        problems
            .iter()
            .find(|problem| problem["code"] == "site::duplicate_vrid")
    });
    assert_eq!(
        problem.map(|problem| &problem["labels"][1]["line"]),
        Some(&Value::from(19))
    );
}

#[test]
fn unreadable_site_files_are_named() {
    let folder = Folder::new("unreadable");
    let binary = folder.path("binary.toml");
    fs::write(&binary, b"[site]\n\xff\xfe").expect("a file");
    let missing = folder.path("missing.toml");
    for (path, message) in [
        (binary.as_path(), "is not UTF-8 text: see line 2"),
        (missing.as_path(), "no such file or directory"),
        (folder.0.as_path(), "is a directory"),
    ] {
        let output = ravelin(&["check", "--site", &path.display().to_string()]);
        assert_eq!(code(&output), 2);
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn a_new_site_is_good_and_never_written_over() {
    let folder = Folder::new("new");
    let new = |arguments: &[&str]| folder.ravelin(arguments);
    let output = new(&["new", "shop", "--domain", "www.shop.example"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "shop/site.toml\n");
    let text = fs::read_to_string(folder.path("shop/site.toml")).expect("a site file");
    assert!(text.contains("name = \"shop\"") && text.contains("domain = \"www.shop.example\""));
    assert_eq!(code(&new(&["check", "--site", "shop/site.toml"])), 0);

    let again = new(&["new", "shop"]);
    assert_eq!(code(&again), 2);
    assert!(stderr(&again).contains("shop/site.toml exists"));
    let bad = new(&["new", "No Name"]);
    assert_eq!(code(&bad), 2);
    assert!(!folder.path("No Name").exists());
}

#[test]
fn names_that_do_not_exist_are_refused_before_anything_is_built() {
    for (arguments, message) in [
        (
            &["build", "--only", "web9"][..],
            "the site has no machine `web9`",
        ),
        (&["rehearse", "--only", "web9"], "there is no server `web9`"),
        (
            &["rehearse", "--appliances", "abacus"],
            "there is no board `abacus`",
        ),
        (
            &["rehearse", "--scenario", "earthquake"],
            "there is no scenario `earthquake`",
        ),
        (
            &["run", "gw9", "--port", "wan=lo", "--port", "lan=lo"],
            "no appliance named `gw9`",
        ),
        (
            &["run", "gw1", "--port", "wan=lo"],
            "two ports, or one trunk",
        ),
        (
            &["run", "gw1", "--port", "dmz=lo"],
            "no port is called `dmz`",
        ),
        (&["fly"], "unrecognized subcommand"),
    ] {
        let output = ravelin(&[arguments, &["--site", REFERENCE]].concat());
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(message),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_configuration_that_is_none_does_not_run() {
    let folder = Folder::new("blob");
    let blob = folder.path("gw1.config");
    fs::write(&blob, [0; 64]).expect("a file");
    let path = blob.display().to_string();
    let output = ravelin(&["run", "--config-blob", &path, "--port", "trunk=lo"]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("is not a configuration"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_interface_that_is_missing_is_machine_trouble() {
    let output = ravelin(&[
        "run",
        "gw1",
        "--site",
        REFERENCE,
        "--port",
        "wan=nowhere0",
        "--port",
        "lan=nowhere1",
    ]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("nowhere0"), "{}", stderr(&output));
}

#[test]
fn doctor_knows_every_prerequisite() {
    let output = ravelin(&["doctor", "--json"]);
    let report = json(&output);
    let findings = report["findings"].as_array().expect("a list");
    for what in [
        "qemu-system-arm",
        "mmdebstrap",
        "rustc and cargo",
        "/dev/net/tun",
        "memory",
    ] {
        assert!(
            findings.iter().any(|finding| finding["what"] == what),
            "{what}"
        );
    }
    for finding in findings
        .iter()
        .filter(|finding| finding["state"] == "missing")
    {
        assert!(finding["mend"].is_string(), "{finding}");
    }
    assert_eq!(code(&output), i32::from(report["healthy"] == false));
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let script = format!("{PROGRAM} plan --site {REFERENCE} | head -n 1");
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &script])
        .output()
        .expect("bash");
    assert_eq!(stderr(&output), "");
    assert_eq!(stdout(&output).lines().count(), 1);
}

#[test]
fn a_keepalived_becomes_a_site_that_says_what_is_missing() {
    let folder = Folder::new("import");
    fs::create_dir_all(folder.path("conf.d")).expect("a directory");
    fs::write(folder.path("a.conf"), "include conf.d/*.conf\n").expect("room");
    let instance = "vrrp_instance VI {\n interface eth0\n @a priority 150\n @b priority 120\n virtual_router_id 5\n \
                    notify /bin/x\n virtual_ipaddress { 203.0.113.5/24 }\n}\n";
    fs::write(folder.path("conf.d/vi.conf"), instance).expect("room");
    let output = folder.ravelin(&["import", "a.conf", "--config-id", "a", "--config-id", "b"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let site = stdout(&output);
    assert!(
        site.contains("virtual = \"203.0.113.5\"  # conf.d/vi.conf:7"),
        "{site}"
    );
    assert!(
        site.contains("priority = 150") && site.contains("priority = 120"),
        "{site}"
    );
    assert!(
        stderr(&output).contains("conf.d/vi.conf:6: notify /bin/x: appliances run no programs")
    );
    fs::write(folder.path("site.toml"), &site).expect("room");
    let check = folder.ravelin(&["check", "--site", "site.toml"]);
    assert_eq!(code(&check), 2);
    assert!(
        stderr(&check).contains("`domain` is still to be filled in"),
        "{}",
        stderr(&check)
    );
    let report = json(&folder.ravelin(&["import", "a.conf", "--config-id", "a", "--json"]));
    assert_eq!(report["notes"][0]["file"], "conf.d/vi.conf");
    assert_eq!(
        (&report["notes"][0]["line"], &report["notes"][0]["kind"]),
        (&6.into(), &"lost".into())
    );
    assert!(
        report["site"]
            .as_str()
            .is_some_and(|site| site.contains("vrid = 5"))
    );
}

#[test]
fn configurations_that_keepalived_would_not_read_are_refused() {
    let folder = Folder::new("refused");
    fs::write(folder.path("open.conf"), "vrrp_instance a {\n").expect("room");
    fs::write(folder.path("asks.conf"), "@a vrrp_version 3\n").expect("room");
    for (arguments, message) in [
        (
            &["import", "none.conf"][..],
            "cannot read the configuration none.conf",
        ),
        (
            &["import", "open.conf"],
            "open.conf:1: the block that begins here has no end",
        ),
        (&["import", "asks.conf"], "--config-id NAME"),
        (
            &["import", "open.conf", "asks.conf", "--config-id", "a"],
            "each machine needs a --config-id",
        ),
        (&["import"], "KEEPALIVED.CONF"),
    ] {
        let output = folder.ravelin(arguments);
        assert_eq!(
            (code(&output), stdout(&output)),
            (2, String::new()),
            "{arguments:?}"
        );
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn a_site_becomes_a_keepalived_that_agrees_with_it() {
    let folder = Folder::new("export");
    let export = |more: &[&str]| {
        let asked = ["export", "keepalived", "gw2", "--site", REFERENCE];
        folder.ravelin(&[&asked, more].concat())
    };
    let output = export(&["--port", "wan=eno1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let conf = stdout(&output);
    assert!(
        conf.contains("interface eno1\n") && conf.contains("interface eth1.21\n"),
        "{conf}"
    );
    assert!(
        stderr(&output).contains("keepalived is no firewall"),
        "{}",
        stderr(&output)
    );
    fs::write(folder.path("same.conf"), &conf).expect("room");
    let output = export(&["--check", "same.conf"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let other = conf.replacen("priority 150", "priority 200", 1).replacen(
        "203.0.113.10/24",
        "203.0.113.11/24",
        1,
    );
    fs::write(folder.path("other.conf"), other).expect("room");
    let output = export(&["--check", "other.conf"]);
    assert_eq!(code(&output), 1);
    let said = stderr(&output);
    assert!(
        said.contains("priority 200 of wan-10-ipv4: is 150 in the site"),
        "{said}"
    );
    assert!(
        said.contains("virtual_ipaddress of wan-10-ipv4: is another"),
        "{said}"
    );
    let output = export(&["--check", "other.conf", "--json"]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        json(&output)["disagreements"].as_array().map(Vec::len),
        Some(2)
    );
    fs::write(folder.path("empty.conf"), "").expect("room");
    let output = export(&["--check", "empty.conf"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("vrrp_instance wan-10-ipv4: is missing"),
        "{}",
        stderr(&output)
    );
    assert!(
        json(&export(&["--json"]))["missing"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    );
    let output = folder.ravelin(&["export", "keepalived", "gw3", "--site", REFERENCE]);
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    assert!(
        stderr(&output).contains("its appliances are gw1 and gw2"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_are_scripts() {
    let output = ravelin(&["completions", "bash"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).contains("rehearse"));
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_ravelin");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const REFERENCE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/foobar/site.toml"
);

#[test]
fn certificates_are_listed_and_replaced() {
    let folder = Folder::new("pki");
    let site = folder.path("site.toml");
    fs::copy(REFERENCE, &site).expect("a copy");
    let site = site.to_str().expect("a path");
    let none = ravelin(&["pki", "show", "--site", site]);
    assert_eq!(code(&none), 0, "{}", stderr(&none));
    assert!(stdout(&none).contains("no certificates yet"));
    let output = ravelin(&["pki", "rotate", "web1", "--site", site]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let serials = || -> Vec<(String, String)> {
        let report = json(&ravelin(&["pki", "show", "--json", "--site", site]));
        let all = report["certificates"].as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        all.iter()
            .map(|one| (text(&one["file"]), text(&one["serial"])))
            .collect()
    };
    let before = serials();
    assert_eq!(before.len(), 1 + 6 + 1 + 9 * 2 + 3);
    let output = ravelin(&[
        "pki",
        "rotate",
        "--tier",
        "app",
        "www.foobar.com",
        "--site",
        site,
    ]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("app2.client.pem"),
        "{}",
        stdout(&output)
    );
    assert!(!stdout(&output).contains("web1"), "{}", stdout(&output));
    let after = serials();
    let changed = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| old != new)
        .count();
    assert_eq!(changed, 5, "two of either app server, and the site's");
    let table = ravelin(&["pki", "show", "--site", site]);
    assert!(stdout(&table).contains("app1"), "{}", stdout(&table));
    let output = ravelin(&["pki", "rotate", "web9", "--site", site]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("nothing has a certificate under `web9`"));
    let key = folder.path(".ravelin/pki/root.key");
    fs::remove_file(&key).expect("moved away");
    let output = ravelin(&["pki", "rotate", "--intermediates", "--site", site]);
    assert_eq!(code(&output), 2);
    assert!(
        stderr(&output).contains("put the root's key back"),
        "{}",
        stderr(&output)
    );
}

fn ravelin(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("the program")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// In one line: where a message is wrapped depends on the length of the paths in it.
fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).replace('│', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON on stdout and nothing else")
}

/// A directory for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a directory");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn ravelin(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(arguments)
            .current_dir(&self.0)
            .output()
            .expect("the program")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A left-over directory in target/ harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
