//! Updates of a server that runs in QEMU: by the operator's own code, through the server's own firewall.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use build::ServerImage;
use image_test::{Machine, Outcome, Running};
use site::Plan;
use update::client::{Release, Remote, Slice};
use update::message::State;

/// A version that boots but does not serve is given up by the server itself; a good one stays.
#[test]
#[ignore = "six boots: minutes, or many on a busy machine"]
fn what_does_not_serve_is_given_up_and_what_does_stays() {
    let site = Site::new("update");
    let mut machine = site.boot();
    expect(&mut machine, "ravelin: lb1 is running");
    let before = site.remote.state().unwrap();
    assert_eq!((before.version, before.trial), (1, false));
    assert_eq!(before.ailing, [""; 0]);
    assert!(site.release.is(&before).unwrap());

    let bad = site.release_with("bad", |files| {
        let serves = find(files, "/etc/ravelin/update/serves");
        serves.bytes.extend_from_slice(b"10.20.1.11:1\n");
    });
    assert_eq!(site.remote.install(&bad, &before).unwrap(), 2);
    site.remote.reboot().unwrap();
    expect(
        &mut machine,
        "ravelin: lb1 does not serve: nobody answers at 10.20.1.11:1",
    );
    expect(&mut machine, "ravelin: lb1 is running");
    let after = site.remote.state().unwrap();
    assert_eq!((after.version, after.trial), (1, false));
    let (version, why) = after.failed.clone().unwrap();
    assert_eq!(version, 2);
    assert!(why.contains("10.20.1.11:1"), "{why}");

    // The other slot is written too, as for a new root.
    let good = site.release_with("good", |files| {
        find(files, "/etc/hosts")
            .bytes
            .extend_from_slice(b"# new\n");
    });
    let other_root = State {
        root_hash: String::new(),
        ..after
    };
    let version = site.remote.install(&good, &other_root).unwrap();
    assert_eq!(version, 3);
    site.remote.reboot().unwrap();
    ends(machine);
    let mut machine = site.boot();
    expect(&mut machine, "ravelin: lb1 is running");
    let start = Instant::now();
    let proved = loop {
        let state = site.remote.state().unwrap();
        if !state.trial || start.elapsed() > PATIENCE {
            break state;
        }
        sleep(Duration::from_secs(1));
    };
    assert_eq!((proved.version, proved.trial), (3, false));
    assert!(good.is(&proved).unwrap());

    // Without the hashes of the first slot, the root is found in the second.
    drop(machine);
    let disk = File::options().write(true).open(&site.disk).unwrap();
    disk.write_all_at(&[0; 8192], site.release.root[1].offset)
        .unwrap();
    let mut machine = site.boot();
    expect(&mut machine, "ravelin: lb1 is running");
    assert_eq!(site.remote.state().unwrap().version, 3);
}

/// lb1 of the example, on a disk of its own, and what reaches it.
struct Site {
    plan: Plan,
    image: ServerImage,
    state: PathBuf,
    disk: PathBuf,
    remote: Remote,
    release: Release,
}

impl Site {
    fn new(name: &str) -> Self {
        let state = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let plan = image_test::example();
        let mut images =
            image_test::build(&plan, &state, Some(&["lb1"]), &|_| ()).expect("the test can do it");
        let image = images.remove(0);
        let disk = state.join("running.raw");
        image_test::copy(&image.disk, &disk);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the test can do it");
        let remote = Remote {
            server: "lb1".to_owned(),
            address: port.local_addr().expect("the test can do it"),
            papers: build::operator::to_reach(&state, "lb1").expect("the test can do it"),
        };
        let release = release(&image);
        Self {
            plan,
            image,
            state,
            disk,
            remote,
            release,
        }
    }

    /// Switches the server on. The test seems to be in the monitor's network, behind the gateway of the server's own.
    fn boot(&self) -> Running {
        let server = &self.plan.servers[0];
        let network = |name: &str| {
            self.plan
                .networks
                .iter()
                .find(|network| network.name == name)
        };
        let gateway = network(&server.network)
            .expect("the test can do it")
            .virtual_address;
        let to = SocketAddr::new(server.address.into(), 9443);
        let from = self.remote.address;
        let options =
            format!("net=10.20.0.0/16,host=10.20.5.9,dns={gateway},hostfwd=tcp:{from}-{to}");
        Machine::new(&self.disk, server.mac)
            .keep_writes()
            .network(&options)
            .boot()
    }

    /// The release with other files of the server, signed by the site.
    fn release_with(&self, name: &str, change: impl FnOnce(&mut Vec<build::HostFile>)) -> Release {
        let mut files = self.image.host_files.clone();
        change(&mut files);
        let server = &self.plan.servers[0];
        let identity = self.state.join(format!("{name}.cred"));
        fs::write(
            &identity,
            build::identity(&self.state, server, &files).expect("the test can do it"),
        )
        .expect("the test can do it");
        Release {
            identity,
            ..self.release.clone()
        }
    }
}

fn release(image: &ServerImage) -> Release {
    let slice = |(offset, length)| Slice {
        path: image.release.disk.clone(),
        offset,
        length,
    };
    Release {
        root_hash: image.release.root_hash.clone(),
        root: image.release.root.map(slice),
        kernel: image.release.kernel.clone(),
        identity: image.identity.clone(),
    }
}

fn find<'a>(files: &'a mut [build::HostFile], path: &str) -> &'a mut build::HostFile {
    files
        .iter_mut()
        .find(|file| file.path == path)
        .expect("the server has it")
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
    let seen = machine.wait_for(&["Kernel panic"], BOOT_TIMEOUT);
    assert_eq!(seen, Outcome::Ended, "{}", machine.console());
}

const BOOT_TIMEOUT: Duration = Duration::from_secs(900);
const PATIENCE: Duration = Duration::from_secs(120);
