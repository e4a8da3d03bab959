//! A mirror made here, which changes under a lock.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::debs::Supply;
use crate::lock::Package;

#[test]
fn what_is_locked_stays_until_an_update() {
    let here = Here::new();
    let first = here.lock(Choice::Keep).unwrap();
    assert_eq!(first.version("libsite"), "1.0");
    assert_eq!(first.sets("libsite"), ["base", "tools"]);
    assert_eq!(
        first.sets("web"),
        ["nginx"],
        "what the base has is not the role's once more"
    );
    here.fetch(&first).unwrap();

    // The mirror moves on.
    here.mirror.remove("libsite_1.0");
    here.mirror.package("libsite", "2.0+new1", "");
    here.mirror.index();
    let same = here.lock(Choice::Keep).unwrap();
    assert_eq!(same, first);
    here.fetch(&same).expect("the cache has the old one");

    // A role gets one more package, and the others keep their versions.
    here.role(r#"packages = ["web", "extra"]"#);
    let error = here.lock(Choice::Locked).unwrap_err();
    assert!(matches!(error, BuildError::NotLocked { .. }), "{error}");
    let more = here.lock(Choice::Keep).unwrap();
    assert_eq!(more.version("extra"), "1.0");
    assert_eq!(more.version("libsite"), "1.0");
    let changes = first.changes(&more);
    assert_eq!(changes.len(), 1, "{changes:?}");

    let newer = here.lock(Choice::Update).unwrap();
    assert_eq!(newer.version("libsite"), "2.0+new1");
    let [change] = &more.changes(&newer)[..] else {
        panic!("one package is newer")
    };
    assert_eq!(
        (change.before.as_str(), change.after.as_str()),
        ("1.0", "2.0+new1")
    );
    here.fetch(&newer).unwrap();
}

#[test]
fn a_locked_version_that_the_mirror_has_no_more_is_named() {
    let here = Here::new();
    let lock = here.lock(Choice::Keep).unwrap();
    here.mirror.remove("libsite_1.0");
    here.mirror.package("libsite", "2.0", "");
    here.mirror.index();
    let error = here.fetch(&lock).unwrap_err();
    assert!(matches!(error, BuildError::Vanished { .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("libsite 1.0 is locked"),
        "{error}"
    );
}

#[test]
fn a_package_with_another_hash_is_refused() {
    let here = Here::new();
    let lock = here.lock(Choice::Keep).unwrap();
    // The same version, other bytes, in the mirror.
    here.mirror
        .package("libsite", "1.0", "Homepage: https://other.example/\n");
    here.mirror.index();
    let found = debs::hash(&here.mirror.deb("libsite_1.0")).unwrap();
    let error = here.fetch(&lock).unwrap_err();
    let wanted = &lock.package("libsite").sha256;
    assert!(
        matches!(&error, BuildError::WrongHash { package, wanted: w, found: f }
            if package == "libsite 1.0" && w == wanted && *f == found),
        "{error:?}"
    );

    // An edited lock.
    let here = Here::new();
    let lock = here.lock(Choice::Keep).unwrap();
    here.fetch(&lock).unwrap();
    let hash = &lock.package("web").sha256;
    let edited = lock.text().replace(hash, &"0".repeat(64));
    fs::write(&here.places.lock, edited).unwrap();
    let lock = here.lock(Choice::Locked).unwrap();
    let error = here.fetch(&lock).unwrap_err();
    assert!(
        matches!(&error, BuildError::WrongHash { package, found, .. } if package == "web 1.0" && found == hash),
        "{error:?}"
    );
}

#[test]
fn a_file_that_the_disk_has_spoilt_is_fetched_again() {
    let here = Here::new();
    let lock = here.lock(Choice::Keep).unwrap();
    here.fetch(&lock).unwrap();
    let cache = here.cache();
    let path = debs::path(&cache, lock.package("web"));
    fs::write(&path, "spoilt").unwrap();
    drop(cache);
    here.fetch(&lock).unwrap();
    assert_eq!(debs::hash(&path).unwrap(), lock.package("web").sha256);
}

#[test]
fn unknown_packages_are_named_with_their_line_and_what_may_have_been_meant() {
    let here = Here::new();
    here.role("# \"wbe\" is explained here\npackages = [\n    \"web\",\n    \"extar\",\n]");
    let error = here.lock(Choice::Keep).unwrap_err();
    let BuildError::NoPackage { place, name, help } = &error else {
        panic!("{error:?}")
    };
    assert!(place.ends_with("image/roles/nginx/role.toml:4"), "{place}");
    assert_eq!(
        (name.as_str(), help.as_str()),
        ("extar", "did you mean extra?")
    );
    assert!(!here.places.lock.exists());
}

#[test]
fn packages_that_exclude_each_other_are_told_in_apts_words() {
    let here = Here::new();
    here.role(r#"packages = ["web", "foe"]"#);
    let error = here.lock(Choice::Keep).unwrap_err();
    assert!(matches!(error, BuildError::Conflict { .. }), "{error:?}");
    assert!(
        error.to_string().contains("foe : Conflicts: libsite"),
        "{error}"
    );
}

#[test]
fn a_mirror_that_does_not_answer_is_told_apart() {
    let mut here = Here::new();
    // The port of discarded packets, where nobody listens.
    here.lines = vec!["deb [trusted=yes] http://127.0.0.1:9/debian trixie main".to_owned()];
    let error = here.lock(Choice::Keep).unwrap_err();
    assert!(
        matches!(&error, BuildError::Mirror { uri, reason } if uri.contains("127.0.0.1") && reason.contains("connect")),
        "{error:?}"
    );
    let good = Here::new();
    let lock = good.lock(Choice::Keep).unwrap();
    let error = here.fetch(&lock).unwrap_err();
    assert!(matches!(error, BuildError::Mirror { .. }), "{error:?}");
}

/// A site with a server of one role, its own `image/`, cache and mirror.
struct Here {
    _dir: tempfile::TempDir,
    places: Places,
    plan: Plan,
    mirror: LocalMirror,
    lines: Vec<String>,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mirror = LocalMirror(dir.path().join("mirror/pool"));
        fs::create_dir_all(&mirror.0).unwrap();
        mirror.package("apt", "3.0", "Priority: important\n");
        mirror.package("essential", "1:1.0~rc1", "Essential: yes\n");
        mirror.package("required", "1.0", "Priority: required\n");
        mirror.package("libsite", "1.0", "");
        mirror.package("system", "1.0", "Depends: libsite\n");
        mirror.package("kernel", "1.0", "");
        mirror.package(
            "web",
            "1.0",
            "Depends: libsite (>= 1.0), system\nRecommends: foe\n",
        );
        mirror.package("extra", "1.0", "");
        mirror.package("foe", "1.0", "Conflicts: libsite\n");
        mirror.index();
        let uri = mirror
            .0
            .parent()
            .unwrap()
            .display()
            .to_string()
            .replace(' ', "%20");
        let lines = vec![format!("deb [trusted=yes] file:{uri} ./")];
        let source = dir.path().join("source");
        let here = Self {
            places: Places {
                cache: dir.path().join("cache"),
                state: dir.path().join("site/.ravelin"),
                lock: dir.path().join("site/ravelin.lock"),
                source: source.clone(),
            },
            plan: plan(),
            mirror,
            lines,
            _dir: dir,
        };
        let base = source.join("image/base");
        fs::create_dir_all(&base).unwrap();
        fs::create_dir_all(source.join("image/roles/nginx")).unwrap();
        fs::create_dir_all(&here.places.state).unwrap();
        fs::write(base.join("base.toml"), BASE).unwrap();
        here.role(r#"packages = ["web"]"#);
        here
    }

    fn role(&self, text: &str) {
        fs::write(self.places.source.join("image/roles/nginx/role.toml"), text).unwrap();
    }

    fn lock(&self, choice: Choice) -> Result<Lock, BuildError> {
        lock(&self.places, &self.plan, choice, &self.lines, || ()).map(|locked| locked.lock)
    }

    fn cache(&self) -> Cache {
        Cache::open(&self.places.cache, || ()).unwrap()
    }

    fn fetch(&self, lock: &Lock) -> Result<(), BuildError> {
        let supply = Supply::Mirror {
            lines: &self.lines,
            release: "trixie",
        };
        let packages: Vec<&Package> = lock.packages.iter().collect();
        debs::fetch(&self.cache(), &packages, supply)
    }
}

/// Only its web servers.
fn plan() -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let boards = site::Boards::new([("linux", 2), ("mps2-an500", 1), ("zynq7000", 2)]);
    let mut plan = site::parse("site.toml", text, &boards).unwrap();
    plan.servers.retain(|server| server.role == Role::Nginx);
    plan
}

/// A directory of packages with an index.
struct LocalMirror(PathBuf);

impl LocalMirror {
    fn package(&self, name: &str, version: &str, fields: &str) {
        let tree = self.0.join(name);
        let control = tree.join("DEBIAN");
        fs::create_dir_all(&control).unwrap();
        let text = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Test <test@example.com>\n\
             Description: for a test\n{fields}"
        );
        fs::write(control.join("control"), text).unwrap();
        let plain = version.split_once(':').map_or(version, |(_, plain)| plain);
        let deb = self.0.join(format!("{name}_{plain}_amd64.deb"));
        run(Command::new("dpkg-deb")
            .args(["--build", "--root-owner-group"])
            .args([&tree, &deb]));
        fs::remove_dir_all(tree).unwrap();
    }

    fn deb(&self, start: &str) -> PathBuf {
        let files = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let is_it = |path: &PathBuf| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(start)
        };
        files.into_iter().find(is_it).unwrap()
    }

    fn remove(&self, start: &str) {
        fs::remove_file(self.deb(start)).unwrap();
    }

    fn index(&self) {
        let mut index = String::new();
        for entry in fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            let control = run(Command::new("dpkg-deb").arg("--field").arg(&path));
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let size = fs::metadata(&path).unwrap().len();
            let hash = debs::hash(&path).unwrap();
            index += &format!("{control}Filename: ./pool/{name}\nSize: {size}\nSHA256: {hash}\n\n");
        }
        fs::write(self.0.parent().unwrap().join("Packages"), index).unwrap();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

trait Look {
    fn package(&self, name: &str) -> &Package;
    fn version(&self, name: &str) -> &str;
    fn sets(&self, name: &str) -> Vec<&str>;
}

impl Look for Lock {
    fn package(&self, name: &str) -> &Package {
        let mut packages = self.packages.iter();
        packages.find(|package| package.name == name).unwrap()
    }

    fn version(&self, name: &str) -> &str {
        &self.package(name).version
    }

    fn sets(&self, name: &str) -> Vec<&str> {
        self.package(name).sets.iter().map(String::as_str).collect()
    }
}

const BASE: &str = r#"
release = "trixie"
kernel = "kernel"
packages = ["system"]
services = []
masked = []
initrd_modules = []
cmdline = ""
[tools]
packages = ["libsite"]
"#;
