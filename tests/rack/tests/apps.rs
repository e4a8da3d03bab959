//! An application of an operator's from each place that it can come from: its server's real root as a container, in which
//! it answers. Needs root; builds the images.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use build::{Options, Places};
use rehearse::ServerBody;
use rehearse::rack::Rack;
use site::Boards;

#[test]
fn applications_come_from_packages_directories_and_container_images() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let site = dir.path();
    secrets(site);

    debian_package(site);
    let root = boots_and_answers(site, "package = \"shop_1_amd64.deb\"");
    // The package brought it along.
    let busybox = root.join("usr/bin/busybox");

    directory(site, &busybox);
    boots_and_answers(site, "directory = \"dist\"");

    container_image(site, &busybox, "amd64");
    boots_and_answers(site, "oci = \"app.tar\"");
}

/// Returns the root tree of the server.
fn boots_and_answers(site: &Path, source: &str) -> PathBuf {
    let example = include_str!("../../../examples/foobar/site.toml");
    let text = format!(
        "{example}\n[app]\n{source}\nport = 3000\nhealth = \"/alive\"\nsecrets = \"secrets.env\"\n\
         environment = {{ GREETING = \"good \\\"day\\\" $HOME 5%\" }}\n"
    );
    let plan = site::parse_on_board("site.toml", &text, &Boards::new([("linux", 2)]), "linux");
    let plan = plan.unwrap_or_else(|errors| panic!("{errors:?}"));
    let places = Places {
        // Their packages are not those of the other tests.
        lock: site.join("ravelin.lock"),
        ..image_test::places(&site.join(".ravelin"))
    };
    let pki = build::pki::open(&places.state, &plan).expect("certificates");
    let options = Options {
        only: Some(vec!["app1".to_owned()]),
        ..Options::default()
    };
    let images = build::images(&places, &plan, &pki, &options, &|_| ());
    let [image] = images
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .try_into()
        .ok()
        .expect("one image");
    let root = image.root_tree.clone();
    for demo in ["usr/bin/ravelin-demo-app", "etc/ravelin/app-secrets.env"] {
        assert!(
            !root.join(demo).exists(),
            "{source}: {demo} is in the image"
        );
    }

    let local = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    let listeners = local.map(|local| TcpListener::bind((local, 0)).expect("a free port"));
    let state = tempfile::tempdir().expect("temporary directory");
    let [listener, _] = listeners;
    let mut rack = Rack::new(&plan, vec![listener], state.path()).expect("rack");
    let body = ServerBody::Light {
        root: image.root_tree,
        files: image.host_files,
    };
    rack.start_server("app1", &body).expect("it starts");
    let machine = &rack.machines()[0];
    let deadline = Instant::now() + PATIENCE;
    loop {
        let url = "http://127.0.0.1:3000/alive";
        let answer = machine.inside(&["curl", "--silent", "--max-time", "5", url]);
        let answer = answer.expect("curl runs");
        if answer.status.success() {
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            assert_eq!(
                text, "good \"day\" $HOME 5% top secret app1 3306\n",
                "{source}"
            );
            return root;
        }
        if Instant::now() > deadline {
            let journal = machine
                .run(&["journalctl", "--no-pager", "--lines=60"])
                .expect("it runs");
            panic!("{source}: {}", String::from_utf8_lossy(&journal.stdout));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn secrets(site: &Path) {
    let path = site.join("secrets.env");
    fs::write(&path, "# of the shop\nSECRET=top secret\n").expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("for us alone");
}

/// A web server that tells what it was told.
fn script(busybox: &str) -> String {
    format!(
        "#!{busybox} sh\nset -e\n{busybox} mkdir -p /tmp/www\n\
         echo \"$GREETING $SECRET $SERVER_NAME $DATABASE_PORT\" > /tmp/www/alive\n\
         exec {busybox} httpd -f -p \"$HOST:$PORT\" -h /tmp/www\n"
    )
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
}

fn unit(program: &str) -> String {
    format!(
        "[Service]\nExecStart={program}\nDynamicUser=yes\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

fn debian_package(site: &Path) {
    let tree = site.join("shop");
    let control = "Package: shop\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@localhost>\n\
                   Depends: busybox-static (>= 1:1.0) | busybox\nDescription: a shop\n";
    fs::create_dir_all(tree.join("DEBIAN")).expect("made");
    fs::write(tree.join("DEBIAN/control"), control).expect("written");
    program(&tree.join("usr/lib/shop/run"), &script("/bin/busybox"));
    let units = tree.join("usr/lib/systemd/system");
    fs::create_dir_all(&units).expect("made");
    fs::write(units.join("shop.service"), unit("/usr/lib/shop/run")).expect("written");
    command(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .args([tree, site.join("shop_1_amd64.deb")]),
    );
}

fn directory(site: &Path, busybox: &Path) {
    let dist = site.join("dist");
    program(&dist.join("run"), &script("/srv/app/busybox"));
    fs::copy(busybox, dist.join("busybox")).expect("copied");
    fs::write(dist.join("app.service"), unit("/srv/app/run")).expect("written");
}

/// What `docker save` writes.
fn container_image(site: &Path, busybox: &Path, architecture: &str) {
    let image = site.join("image");
    let layer = image.join("layer");
    program(&layer.join("serve"), &script("/bin/busybox"));
    fs::create_dir_all(layer.join("bin")).expect("made");
    fs::copy(busybox, layer.join("bin/busybox")).expect("copied");
    let config = format!(
        r#"{{"architecture": "{architecture}", "os": "linux", "rootfs": {{"type": "layers", "diff_ids": []}},
        "config": {{"Env": ["PATH=/bin"], "Entrypoint": ["busybox"], "Cmd": ["sh", "/serve"]}}}}"#
    );
    fs::write(image.join("config.json"), config).expect("written");
    let manifest = r#"[{"Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"]}]"#;
    fs::write(image.join("manifest.json"), manifest).expect("written");
    let tar = |archive: PathBuf, dir: &Path, what: &[&str]| {
        command(
            Command::new("tar")
                .arg("-cf")
                .arg(archive)
                .arg("-C")
                .arg(dir)
                .args(what),
        );
    };
    tar(image.join("layer.tar"), &layer, &["."]);
    let members = ["config.json", "manifest.json", "layer.tar"];
    tar(site.join("app.tar"), &image, &members);
}

fn command(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Until the application answers.
const PATIENCE: Duration = Duration::from_secs(180);
