//! Operators' way into servers: by their key and from their address, in no other way; and no way at all where nobody
//! asked for one. Linux appliances and real roots as containers. Needs root; builds the images.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use build::{Options, Places};
use rehearse::rack::{Machine, Rack};
use rehearse::{Appliance, ServerBody};
use site::Boards;

#[test]
fn operators_get_in_with_their_key_from_their_place_and_nobody_else_does() {
    // Servers with one package more: all roles' trees are built for it.
    if std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }
    let site = tempfile::tempdir().expect("temporary directory");
    let site = site.path();
    let [operator, stranger] = ["operator", "stranger"].map(|name| {
        let key = site.join(name);
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
        assert!(command.arg(&key).status().expect("it runs").success());
        key
    });
    let public = std::fs::read_to_string(operator.with_extension("pub")).expect("a key");
    let text = format!(
        "{}\n[ssh]\nkeys = [\"{}\"]\nfrom = [\"{OPERATOR}\"]\n",
        include_str!("../../../examples/foobar/site.toml"),
        public.trim()
    );
    let plan = site::parse_on_board("site.toml", &text, &Boards::new([("linux", 2)]), "linux");
    let plan = plan.unwrap_or_else(|errors| panic!("{errors:?}"));
    let state = site.join(".ravelin");
    let places = Places {
        // Their packages are not those of the other tests.
        lock: site.join("ravelin.lock"),
        ..image_test::places(&state)
    };
    let pki = build::pki::open(&state, &plan).expect("certificates");
    let options = Options {
        only: Some(vec!["web1".to_owned(), "web2".to_owned()]),
        ..Options::default()
    };
    let mut images = build::images(&places, &plan, &pki, &options, &image_test::tell)
        .unwrap_or_else(|error| panic!("{error}"));
    let known_hosts = build::write_known_hosts(&state, &plan).expect("keys");
    let known_hosts = known_hosts.expect("somebody logs in");
    let keys = images[0].root_tree.join("etc/ssh");
    let keys = std::fs::read_dir(keys).expect("OpenSSH is there");
    let names = keys.map(|entry| entry.expect("an entry").file_name().into_string());
    let names: Vec<String> = names.map(|name| name.expect("text")).collect();
    assert!(
        !names.iter().any(|name| name.starts_with("ssh_host_")),
        "every server would have the same: {names:?}"
    );

    // Nobody asked for one here.
    let plain = image_test::example();
    let monitor = image_test::build(
        &plain,
        &site.join("plain"),
        Some(&["mon1"]),
        &image_test::tell,
    );
    images.extend(monitor.unwrap_or_else(|error| panic!("{error}")));
    for program in ["usr/sbin/sshd", "usr/lib/openssh", "usr/bin/ssh"] {
        assert!(images[0].root_tree.join(program).exists(), "{program}");
        assert!(!images[2].root_tree.join(program).exists(), "{program}");
    }

    let mut rack = Rack::new(&plan, Vec::new(), &state).expect("rack");
    for appliance in &plan.appliances {
        let body = Appliance::Process {
            program: Path::new(env!("CARGO_BIN_EXE_rack-appliance")).to_path_buf(),
            config: rack_test::config_blob(&plan, &appliance.name, &state),
        };
        rack.start_appliance(&appliance.name, &body)
            .expect("appliance starts");
    }
    for image in images {
        let body = ServerBody::Light {
            root: image.root_tree,
            files: image.host_files,
        };
        rack.start_server(&image.server, &body).expect("it starts");
    }
    let machine = |name: &str| rack.machine(name).expect("it runs");
    let client = Client {
        known_hosts: &known_hosts,
        to: &plan.server("web1").expect("a server").address.to_string(),
    };

    // The operator sits beside the monitor, in its network; what a firewall of their own would do is of no interest.
    let desk = machine("mon1");
    let ok = |command: &[&str]| {
        let output = desk.inside(command).expect("it runs");
        output.status.success().then_some(output)
    };
    until("the monitor has its address", || {
        ok(&["ip", "-4", "addr", "show", "to", MONITOR]).filter(|output| !output.stdout.is_empty())
    });
    let links = ok(&["ip", "-o", "-4", "addr", "show", "to", MONITOR]).expect("it has");
    let links = String::from_utf8(links.stdout).expect("text");
    let card = links.split_whitespace().nth(1).expect("a name").to_owned();
    ok(&["ip", "addr", "add", &format!("{OPERATOR}/24"), "dev", &card]).expect("one more address");
    open(desk);

    let inside = until("the operator gets in", || {
        let output = client.ask(desk, OPERATOR, &operator, &[]);
        output.status.success().then_some(output)
    });
    let said = String::from_utf8_lossy(&inside.stdout).into_owned();
    assert_eq!(said, "web1\nactive\n");

    // At the door, with the wrong key, or with none.
    let other_key = client.ask(desk, OPERATOR, &stranger, &[]);
    refused(&other_key, "Permission denied (publickey)");
    let none = [
        "-o",
        "PubkeyAuthentication=no",
        "-o",
        "PreferredAuthentications=password,keyboard-interactive",
    ];
    let password = client.ask(desk, OPERATOR, &operator, &none);
    refused(&password, "Permission denied (publickey)");
    // From other addresses there is no door, however good the key is: of another tier, and of a neighbour.
    refused(&client.ask(desk, MONITOR, &operator, &[]), "timed out");
    let neighbour = machine("web2");
    let address = plan.server("web2").expect("a server").address.to_string();
    open(neighbour);
    refused(
        &client.ask(neighbour, &address, &operator, &[]),
        "timed out",
    );
    // That was not because nobody was at home.
    assert!(client.ask(desk, OPERATOR, &operator, &[]).status.success());
}

struct Client<'a> {
    known_hosts: &'a Path,
    to: &'a str,
}

impl Client<'_> {
    /// Asks the server for its name, and for the state of its web server.
    fn ask(&self, from: &Machine, address: &str, key: &Path, more: &[&str]) -> Output {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let (key, to) = (key.display().to_string(), format!("root@{}", self.to));
        let mut command = vec!["ssh", "-F", "none", "-b", address, "-i", &key, "-o", &known];
        for option in [
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ConnectTimeout=8",
        ] {
            command.extend(["-o", option]);
        }
        command.extend(more);
        command.extend([
            to.as_str(),
            "cat /proc/sys/kernel/hostname; systemctl is-active nginx",
        ]);
        from.inside(&command).expect("ssh runs")
    }
}

/// Lets a server send what it wants, as soon as its own firewall is there.
fn open(server: &Machine) {
    let nft = |command: &[&str]| {
        let output = server.run(&[&["nft"], command].concat()).ok()?;
        output.status.success().then_some(())
    };
    until("its firewall is there", || {
        nft(&["list", "table", "inet", "ravelin"])
    });
    nft(&["flush", "ruleset"]).expect("nft runs");
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{output:?}");
}

fn until<T>(what: &str, mut come: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(it) = come() {
            return it;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

const OPERATOR: &str = "10.20.5.100";
const MONITOR: &str = "10.20.5.11";
/// Until something has come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
