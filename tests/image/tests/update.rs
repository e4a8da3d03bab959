//! Updates of servers that run in QEMU, through their own firewall: what is good stays, what does not boot or does not serve
//! is given up by the servers themselves, and a power cut leaves what was there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use build::{Options, Places, ServerImage};
use image_test::{Machine, Outcome, Running};
use site::Plan;
use update::client::{Release, Remote, Slice};
use update::message::State;

/// One server through all that can happen to it. A restart ends its QEMU, which is then started again on the same disk.
#[test]
fn a_server_keeps_what_serves_and_gives_up_what_does_not() {
    // A dozen boots.
    if !soak() {
        return;
    }
    let rack = Rack::new("update", &["web1"]);
    let web1 = &rack.servers["web1"];
    let first = rack.build("first")["web1"].update();
    let second = rack.build("second")["web1"].update();
    assert_ne!(first.root_hash, second.root_hash);
    rack.build("first");
    web1.unpack();

    let mut machine = web1.boot();
    expect(&mut machine, "ravelin: web1 is running");
    let before = web1.settled();
    assert_eq!((before.version, before.trial), (1, false));
    assert_eq!((before.ailing.len(), &before.failed), (0, &None));
    assert!(first.is(&before).unwrap());

    // The power fails when the spare slot has some of the new root, when it has nearly all, and when the kernel image comes.
    for part in ["some of the root", "most of the root", "a kernel image"] {
        let old = web1.written(part);
        let update = std::thread::spawn({
            let (remote, release) = (web1.remote.clone(), second.clone());
            move || remote.install(&release, &before_of(&remote))
        });
        let start = Instant::now();
        while web1.written(part) == old {
            assert!(start.elapsed() < PATIENCE, "{part} was never written");
            assert!(!update.is_finished(), "{part}: it was too quick for us");
            sleep(Duration::from_millis(2));
        }
        drop(machine);
        assert!(update.join().unwrap().is_err(), "{part}: it was not whole");
        machine = web1.boot();
        expect(&mut machine, "ravelin: web1 is running");
        let after = web1.settled();
        assert_eq!((after.version, after.trial), (1, false), "{part}");
        assert!(first.is(&after).unwrap(), "{part}");
    }

    // The same update again; now it is let finish.
    assert_eq!(web1.remote.install(&second, &web1.settled()).unwrap(), 2);
    machine = web1.restart(machine);
    expect(&mut machine, "ravelin: web1 is running");
    let good = web1.settled();
    assert_eq!((good.version, good.trial), (2, false));
    assert!(second.is(&good).unwrap());

    // New certificates, without a restart and for good.
    let old = web1.shown();
    let (renewed, promising) = web1.renewed(&rack, &second);
    assert!(web1.remote.renew(&renewed).unwrap() > 0);
    let new = web1.shown();
    assert_ne!(old, new);
    assert_eq!(web1.remote.renew(&renewed).unwrap(), 0);
    let refused = web1.remote.renew(&promising).unwrap_err().to_string();
    assert!(
        refused.contains("/etc/ravelin/update/serves has changed too"),
        "{refused}"
    );
    drop(machine);
    machine = web1.boot();
    expect(&mut machine, "ravelin: web1 is running");
    assert_eq!(web1.shown(), new);
    let good = web1.settled();
    assert_eq!((good.version, good.trial), (2, false));

    // A root that was damaged before anybody hashed it: three attempts, and the last version again.
    let damaged = damage(&first, &rack.dir.join("damaged.raw"));
    assert_eq!(web1.remote.install(&damaged, &good).unwrap(), 3);
    machine = web1.restart(machine);
    for attempt in 1..=3 {
        let cannot = "ravelin-init: cannot mount /dev/mapper/root at /sysroot";
        expect(&mut machine, cannot);
        ends(machine);
        println!("attempt {attempt} of a version that does not boot has ended");
        machine = web1.boot();
    }
    expect(&mut machine, "ravelin: web1 is running");
    let after = web1.settled();
    assert_eq!((after.version, after.trial), (2, false));
    let (version, why) = after.failed.clone().unwrap();
    assert_eq!(version, 3, "{why}");

    // One that boots, and does not do what it should.
    let bad = web1.promising(&rack, &second, "10.20.2.11:1");
    assert_eq!(web1.remote.install(&bad, &after).unwrap(), 4);
    machine = web1.restart(machine);
    let silent = "ravelin: web1 does not serve: nobody answers at 10.20.2.11:1";
    expect(&mut machine, silent);
    ends(machine);
    machine = web1.boot();
    expect(&mut machine, "ravelin: web1 is running");
    let after = web1.settled();
    assert_eq!((after.version, after.trial), (2, false));
    let (version, why) = after.failed.clone().unwrap();
    assert_eq!(version, 4);
    assert!(why.contains("10.20.2.11:1"), "{why}");

    // Both slots have been written to by now, and the first one is still taken.
    assert_eq!(web1.remote.install(&first, &after).unwrap(), 5);
    machine = web1.restart(machine);
    expect(&mut machine, "ravelin: web1 is running");
    let last = web1.settled();
    assert_eq!((last.version, last.trial), (5, false));
    assert!(first.is(&last).unwrap());
    assert_eq!(last.failed, None);
}

/// What an operator types: the second server is not touched before the first one serves again.
#[test]
fn a_pair_is_updated_one_after_another() {
    // Four boots, two at a time.
    if !soak() {
        return;
    }
    let rack = Rack::new("update-pair", &["web1", "web2"]);
    rack.build("first");
    let events = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        for server in rack.servers.values() {
            server.unpack();
            let (events, stop) = (Arc::clone(&events), Arc::clone(&stop));
            scope.spawn(move || server.keep_on(&events, &stop));
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for server in rack.servers.values() {
                server.settled();
            }
            rack.write("second");
            let said = rack.update_both();
            assert_eq!(
                said,
                "web1 serves with version 2\nweb2 serves with version 2\n"
            );
            let again = rack.update_both();
            assert!(again.contains("there was nothing to do"), "{again}");
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    let events = events.lock().unwrap();
    let restarts: Vec<&str> = events[events.len() - 4..]
        .iter()
        .map(String::as_str)
        .collect();
    let order = ["web1 ended", "web1 runs", "web2 ended", "web2 runs"];
    assert_eq!(restarts, order, "{events:?}");
}

/// A site with servers that run, and files that its web servers serve.
struct Rack {
    dir: PathBuf,
    plan: Plan,
    servers: BTreeMap<String, Server>,
}

/// One of them.
struct Server {
    name: String,
    mac: [u8; 6],
    /// Options of its network.
    network: String,
    /// Where its node exporter is reached, which the monitor may ask.
    exporter: SocketAddr,
    image: PathBuf,
    disk: PathBuf,
    remote: Remote,
}

impl Rack {
    fn new(name: &str, servers: &[&str]) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(dir.join("public")).expect("the test can do it");
        let site = image_test::source().join("examples/foobar/site.toml");
        let site = fs::read_to_string(site).expect("the test can do it");
        let site = format!("{site}\n{STATIC}");
        fs::write(dir.join("site.toml"), site).expect("the test can do it");
        let plan = image_test::example_with(STATIC);
        let state = dir.join(".ravelin");
        let server = |name: &&str| (name.to_string(), Server::new(&plan, &state, name));
        let servers = servers.iter().map(server).collect();
        Self { dir, plan, servers }
    }

    /// Gives the web servers another file to serve.
    fn write(&self, text: &str) {
        fs::write(self.dir.join("public/file.txt"), text).expect("the test can do it");
    }

    /// Builds what the servers are to run when they serve this text.
    fn build(&self, text: &str) -> BTreeMap<String, ServerImage> {
        self.write(text);
        let places = Places {
            state: self.dir.join(".ravelin"),
            ..image_test::places(&self.dir.join(".ravelin"))
        };
        let pki = build::pki::open(&places.state, &self.plan).expect("the test can do it");
        let options = Options {
            only: Some(self.servers.keys().cloned().collect()),
            ..Options::default()
        };
        let images = build::images(&places, &self.plan, &pki, &options, &image_test::tell);
        let mut named = BTreeMap::new();
        for mut image in images.expect("the test can do it") {
            // The next build puts other files in its place.
            let kept = self.dir.join(format!("{}-{text}", image.server));
            fs::create_dir_all(&kept).expect("the test can do it");
            for file in [
                &mut image.release.disk,
                &mut image.release.kernel,
                &mut image.identity,
            ] {
                let copy = kept.join(file.file_name().expect("a file"));
                image_test::copy(file, &copy);
                *file = copy;
            }
            named.insert(image.server.clone(), image);
        }
        fs::copy(places.lock, self.dir.join("ravelin.lock")).expect("the test can do it");
        named
    }

    /// `ravelin update --server web1 --server web2`; returns what it prints.
    fn update_both(&self) -> String {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([
            "run", "--quiet", "--locked", "-p", "ravelin", "--", "update",
        ]);
        cargo.current_dir(image_test::source());
        cargo.arg("--site").arg(self.dir.join("site.toml"));
        for (name, server) in &self.servers {
            let at = format!("{name}={}", server.remote.address);
            cargo.args(["--server", name, "--at", &at]);
        }
        let output = cargo.output().expect("cargo runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Server {
    fn new(plan: &Plan, state: &Path, name: &str) -> Self {
        let server = plan.servers.iter().find(|server| server.name == name);
        let server = server.expect("the example has it");
        let network = (plan.networks.iter()).find(|network| network.name == server.network);
        let gateway = network.expect("the example has it").virtual_address;
        let ports = [(); 2]
            .map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the test can do it"));
        let [from, exporter] = ports.map(|port| port.local_addr().expect("the test can do it"));
        let to = |port| SocketAddr::new(server.address.into(), port);
        let (to, to_exporter) = (to(9443), to(9100));
        build::pki::open(state, plan).expect("the test can do it");
        Self {
            name: name.to_owned(),
            mac: server.mac,
            // The test seems to be in the monitor's network, behind the gateway of the server's own.
            network: format!(
                "net=10.20.0.0/16,host=10.20.5.9,dns={gateway},hostfwd=tcp:{from}-{to},hostfwd=tcp:{exporter}-{to_exporter}"
            ),
            exporter,
            image: state.join("images").join(name).join("disk.raw"),
            disk: state.with_file_name(format!("{name}.raw")),
            remote: Remote {
                server: name.to_owned(),
                address: from,
                papers: build::operator::to_reach(state, name).expect("the test can do it"),
            },
        }
    }

    /// Gives it a disk of its own, as it was built.
    fn unpack(&self) {
        image_test::copy(&self.image, &self.disk);
    }

    fn boot(&self) -> Running {
        let machine = Machine::new(&self.disk, self.mac).keep_writes();
        machine.network(&self.network).boot()
    }

    /// Asks it to start again.
    fn restart(&self, machine: Running) -> Running {
        self.remote.reboot().expect("it runs");
        ends(machine);
        self.boot()
    }

    /// Its state when it has nothing more to prove.
    fn settled(&self) -> State {
        let start = Instant::now();
        loop {
            let state = self.remote.state();
            match &state {
                Ok(state) if !state.trial && state.ailing.is_empty() => return state.clone(),
                Ok(_) | Err(_) => assert!(start.elapsed() < PATIENCE, "{state:?}"),
            }
            sleep(Duration::from_secs(1));
        }
    }

    /// The serial number of the certificate that it shows.
    fn shown(&self) -> String {
        let mut shown = Command::new("sh");
        shown.args(["-c", SHOWN, "sh", &self.exporter.to_string()]);
        let output = shown.output().expect("sh runs");
        let serial = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(serial.starts_with("serial="), "{serial}");
        serial
    }

    /// Its identity with new certificates; and another one, in which more has changed.
    fn renewed(&self, rack: &Rack, release: &Release) -> (PathBuf, PathBuf) {
        let state = rack.dir.join(".ravelin");
        let rotation = build::pki::Rotation {
            names: [self.name.clone()].into(),
            ..build::pki::Rotation::default()
        };
        let pki = build::pki::rotate(&state, &rack.plan, &rotation).expect("new certificates");
        let places = Places {
            state: state.clone(),
            ..image_test::places(&state)
        };
        let only = [self.name.clone()];
        let identities = build::identities(&places, &rack.plan, &pki, Some(&only));
        let renewed = rack.dir.join("renewed.cred");
        fs::copy(&identities.expect("signed")[0].1, &renewed).expect("the test can do it");
        let promising = self.promising(rack, release, "10.20.2.11:1");
        (renewed, promising.identity)
    }

    /// Switches it on again whenever it ends.
    fn keep_on(&self, events: &Mutex<Vec<String>>, stop: &AtomicBool) {
        let tell = |what: &str| {
            let mut events = events.lock().expect("nobody panics with it");
            events.push(format!("{} {what}", self.name));
        };
        while !stop.load(Ordering::Relaxed) {
            let mut machine = self.boot();
            loop {
                match machine.wait_for(&["is running", "is degraded"], Duration::from_secs(1)) {
                    Outcome::Line(line) if line.ends_with("is running") => tell("runs"),
                    Outcome::Line(line) => tell(&line),
                    Outcome::Ended => break tell("ended"),
                    Outcome::TimedOut if stop.load(Ordering::Relaxed) => return,
                    Outcome::TimedOut => {}
                }
            }
        }
    }

    /// The release, with one more address that is promised to others.
    fn promising(&self, rack: &Rack, release: &Release, address: &str) -> Release {
        let mut files = rack
            .build("second")
            .remove(&self.name)
            .expect("it is built")
            .host_files;
        let serves = (files.iter_mut()).find(|file| file.path == "/etc/ravelin/update/serves");
        let serves = &mut serves.expect("every server has it").bytes;
        serves.extend_from_slice(format!("{address}\n").as_bytes());
        let server = rack
            .plan
            .servers
            .iter()
            .find(|server| server.name == self.name);
        let state = rack.dir.join(".ravelin");
        let archive = build::identity(&state, server.expect("it is of the plan"), &files);
        let identity = rack.dir.join("promising.cred");
        fs::write(&identity, archive.expect("the test can do it")).expect("the test can do it");
        Release {
            identity,
            ..release.clone()
        }
    }
}

impl Server {
    /// Something that is another when this part of an update has reached the disk.
    fn written(&self, part: &str) -> Vec<u8> {
        let disk = File::open(&self.disk).expect("the test can do it");
        let read = |from: u64, length: usize| {
            let mut bytes = vec![0; length];
            disk.read_exact_at(&mut bytes, from)
                .expect("the test can do it");
            bytes
        };
        // The table: 128 bytes for each partition, with its first and last sector.
        let partition = |index: usize| {
            let entry = read(1024 + 128 * index as u64, 48);
            let sector = |at: usize| {
                let number = entry[at..at + 8].try_into().expect("eight bytes");
                u64::from_le_bytes(number) * 512
            };
            (sector(32), sector(40))
        };
        match part {
            "some of the root" => read(partition(ROOT_B).0 + (8 << 20), 4096),
            "most of the root" => read(partition(ROOT_B).0 + (100 << 20), 4096),
            _ => {
                let (from, to) = partition(ESP);
                let esp = read(from, usize::try_from(to - from).expect("it is small"));
                let kernels = esp.chunks(512).filter(|sector| sector.starts_with(b"MZ"));
                vec![u8::try_from(kernels.count()).expect("a few")]
            }
        }
    }
}

fn before_of(remote: &Remote) -> State {
    remote.state().expect("it runs")
}

/// The release with one bit of its root flipped. Its hashes are not.
fn damage(release: &Release, file: &Path) -> Release {
    let [root, hashes] = &release.root;
    let mut bytes = vec![0; usize::try_from(root.length).expect("it fits into memory")];
    let disk = File::open(&root.path).expect("the test can do it");
    disk.read_exact_at(&mut bytes, root.offset)
        .expect("the test can do it");
    bytes[0] ^= 1;
    fs::write(file, bytes).expect("the test can do it");
    let root = Slice {
        path: file.to_owned(),
        offset: 0,
        length: root.length,
    };
    Release {
        root: [root, hashes.clone()],
        ..release.clone()
    }
}

fn expect(machine: &mut Running, text: &str) {
    let seen = machine.wait_for(&[text, "is degraded"], BOOT_TIMEOUT);
    assert!(
        matches!(&seen, Outcome::Line(line) if line.contains(text)),
        "{text}: {seen:?}\n{}",
        machine.console()
    );
}

/// A restart ends QEMU; the test switches it on again.
fn ends(mut machine: Running) {
    let seen = machine.wait_for(&["is running"], BOOT_TIMEOUT);
    assert_eq!(seen, Outcome::Ended, "{}", machine.console());
}

fn soak() -> bool {
    std::env::var_os("RAVELIN_SOAK").is_some()
}

/// Files that web servers serve are a part of their root.
const STATIC: &str = "[nginx]\nstatic = \"public/\"\n";
const SHOWN: &str =
    "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509 -noout -serial";
const ESP: usize = 0;
const ROOT_B: usize = 3;
const BOOT_TIMEOUT: Duration = Duration::from_secs(900);
const PATIENCE: Duration = Duration::from_secs(900);
