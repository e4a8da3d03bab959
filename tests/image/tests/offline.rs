//! A bundle makes the very same image where there is no network, and a full disk leaves nothing half-done.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use build::{Bundle, Options, Places, Verification};
use miette::Diagnostic;

#[test]
fn a_bundle_makes_the_same_image_without_a_network() {
    // Tools, base and role from nothing take minutes.
    if !is_root() || std::env::var_os("RAVELIN_SOAK").is_none() {
        return;
    }
    let state = state("offline");
    let plan = image_test::example();
    let images = image_test::build(&plan, &state, Some(&["lb1"]), &|_| ()).unwrap();
    let bill = fs::read_to_string(&images[0].sbom).unwrap();
    for part in [
        "pkg:deb/debian/haproxy@",
        "pkg:cargo/ravelin-init@",
        "CycloneDX",
    ] {
        assert!(bill.contains(part), "{part}");
    }
    let bundle = state.join("bundle.tar");
    Bundle::write(
        &image_test::places(&state),
        &plan,
        &options(None),
        &[],
        &bundle,
    )
    .unwrap();
    let mut unshare = Command::new("unshare");
    let status = child(unshare.arg("--net"), "build_again_from_the_bundle", &state);
    fs::remove_file(bundle).unwrap();
    assert!(status.success(), "see above");
}

/// Not a test by itself: what the one above runs in a network namespace.
#[test]
#[ignore = "belongs into a network namespace"]
fn build_again_from_the_bundle() {
    let routes = fs::read_to_string("/proc/net/route").unwrap();
    assert!(routes.lines().count() < 2, "more than a heading: {routes}");
    assert!(TcpStream::connect("127.0.0.1:9").is_err());
    let state = PathBuf::from(std::env::var_os(STATE).unwrap());
    let (places, plan) = (image_test::places(&state), image_test::example());
    let pki = build::pki::open(&state, &plan).unwrap();
    let bundle = Bundle::open(&places, &state.join("bundle.tar")).unwrap();
    let options = options(Some(bundle));
    let images = build::images(&places, &plan, &pki, &options, &|_| ()).unwrap();
    assert!(!images[0].built, "it is made of the same as with a network");
    let again = build::verify(&places, &plan, &pki, &options, &images, &|event| {
        println!("{event:?}");
    });
    let Verification {
        images,
        differences,
        details,
    } = again.unwrap();
    assert!(differences.is_empty(), "{differences:?}\n{details:?}");
    assert_eq!(images, 1);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    if !is_root() {
        return;
    }
    let state = state("full");
    let plan = image_test::example();
    image_test::build(&plan, &state, Some(&["lb1"]), &|_| ()).unwrap();
    let bundle = state.join("bundle.tar");
    Bundle::write(
        &image_test::places(&state),
        &plan,
        &options(None),
        &[],
        &bundle,
    )
    .unwrap();
    let size = fs::metadata(&bundle).unwrap().len();
    // Room for the packages, and for the packages and a part of the trees.
    for room in [size / 2, size + (80 << 20)] {
        let mut unshare = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={room} tmpfs \"$0\"; exec \"$@\"");
        let cache = state.join("small");
        fs::create_dir_all(&cache).unwrap();
        unshare.args(["--mount", "sh", "-ec", &mount]).arg(&cache);
        let status = child(&mut unshare, "build_where_there_is_little_room", &state);
        assert!(status.success(), "see above");
    }
    fs::remove_file(bundle).unwrap();
}

/// Not a test by itself: what the one above runs on a small disk.
#[test]
#[ignore = "belongs onto a small disk"]
fn build_where_there_is_little_room() {
    let state = PathBuf::from(std::env::var_os(STATE).unwrap());
    let places = Places {
        cache: state.join("small/cache"),
        ..image_test::places(&state)
    };
    let plan = image_test::example();
    let pki = build::pki::open(&state, &plan).unwrap();
    let built = Bundle::open(&places, &state.join("bundle.tar"))
        .and_then(|bundle| build::images(&places, &plan, &pki, &options(Some(bundle)), &|_| ()));
    let error = built.map(|images| images.len()).unwrap_err();
    let help = error
        .help()
        .map(|help| help.to_string())
        .unwrap_or_default();
    assert!(help.starts_with("the disk is full"), "{error}\n{help}");
    for kind in ["tools", "base", "roots", "tmp"] {
        let left = fs::read_dir(places.cache.join(kind)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{kind}");
    }
}

fn child(namespace: &mut Command, test: &str, state: &Path) -> ExitStatus {
    namespace.arg(std::env::current_exe().expect("this program"));
    namespace.args(["--ignored", "--exact", "--nocapture", test]);
    namespace.env(STATE, state).status().expect("unshare")
}

fn options(bundle: Option<Bundle>) -> Options {
    Options {
        only: Some(vec!["lb1".to_owned()]),
        bundle,
        ..Options::default()
    }
}

fn state(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt as _;
        meta.uid() == 0
    });
    if !root {
        eprintln!("skipped: namespaces need root");
    }
    root
}

const STATE: &str = "RAVELIN_TEST_STATE";
