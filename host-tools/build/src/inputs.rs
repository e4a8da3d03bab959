//! Every input of a build is changed in turn: the steps that it goes into must get another name, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use site::plan::Role;

use crate::lock::{Index, Lock, Package};
use crate::packages;
use crate::payload::Payload;
use crate::recipes::Recipes;
use crate::resolve::Wanted;
use crate::roots::{Boot, Root};
use crate::sandbox::Privilege;
use crate::spec;
use crate::trees::Tree;

/// All that images are made of.
struct Inputs {
    dir: tempfile::TempDir,
    recipes: Recipes,
    lock: Lock,
    privilege: Privilege,
    /// What steps' results are called as long as nothing was changed.
    good: BTreeMap<String, String>,
}

#[test]
fn every_field_of_base_toml() {
    let mut inputs = Inputs::new();
    let path = spec::base_file(&inputs.source());
    let boot = &["boot"][..];
    for (field, changed) in fields(&path) {
        let expected = match field.as_str() {
            "programs" | "services" | "masked" => inputs.roots(),
            "initrd_modules" => set(boot),
            // Images alone.
            "cmdline" => set(&[]),
            // What the lock has to follow.
            "release" | "kernel" | "packages" | "tools.packages" => {
                let stale = inputs.with_file(&path, &changed, Inputs::stale);
                let wanted = if field == "tools.packages" {
                    "tools"
                } else {
                    "base"
                };
                let release = field == "release";
                assert!(release || stale == set(&[wanted]), "{field}: {stale:?}");
                continue;
            }
            other => panic!("say here which steps {other} goes into"),
        };
        assert_eq!(inputs.changed_by_file(&path, &changed), expected, "{field}");
    }
    inputs.lock.release = "forky".to_owned();
    assert_eq!(inputs.changed(), inputs.all());
}

#[test]
fn every_field_of_every_role_toml() {
    let inputs = Inputs::new();
    for role in ROLES {
        let path = spec::role_file(&inputs.source(), role);
        let name = spec::role_name(role);
        for (field, changed) in fields(&path) {
            match field.as_str() {
                "packages" => {
                    let stale = inputs.with_file(&path, &changed, Inputs::stale);
                    assert_eq!(stale, set(&[name]), "{name}: {field}");
                }
                "programs" | "services" | "masked" | "remove" | "var_mib" => {
                    let found = inputs.changed_by_file(&path, &changed);
                    assert_eq!(found, set(&[name]), "{name}: {field}");
                }
                other => panic!("say here which steps {other} goes into"),
            }
        }
    }
}

#[test]
fn every_file_its_content_and_whether_it_is_a_program() {
    let inputs = Inputs::new();
    let source = inputs.source();
    let mut dirs = vec![(source.join("image/base/files"), inputs.roots())];
    for role in ROLES {
        let files = spec::role_dir(&source, role).join("files");
        dirs.push((files, set(&[spec::role_name(role)])));
    }
    let mut seen = 0;
    for (dir, expected) in dirs {
        for path in files(&dir) {
            seen += 1;
            let content = fs::read(&path).unwrap();
            let mode = fs::metadata(&path).unwrap().permissions();
            fs::write(&path, [content.as_slice(), b"#"].concat()).unwrap();
            assert_eq!(inputs.changed(), expected, "content of {}", path.display());
            fs::write(&path, &content).unwrap();
            let other = fs::Permissions::from_mode(mode.mode() ^ 0o111);
            fs::set_permissions(&path, other).unwrap();
            assert_eq!(inputs.changed(), expected, "mode of {}", path.display());
            fs::set_permissions(&path, mode.clone()).unwrap();
            let moved = path.with_extension("moved");
            fs::rename(&path, &moved).unwrap();
            assert_eq!(inputs.changed(), expected, "name of {}", path.display());
            fs::remove_file(&moved).unwrap();
            symlink("/dev/null", &path).unwrap();
            assert_eq!(inputs.changed(), expected, "kind of {}", path.display());
            fs::remove_file(&path).unwrap();
            fs::write(&path, &content).unwrap();
            fs::set_permissions(&path, mode).unwrap();
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn every_recipe() {
    let mut inputs = Inputs::new();
    // Whoever adds a recipe says here what it makes.
    let Recipes {
        make_tree: _,
        tree_options: _,
        stage_role: _,
        install_role: _,
        pack_role: _,
        pack_boot: _,
        // Made once for each site, and an input of its images from then on.
        make_boot_keys: _,
        pack_image: _,
    } = Recipes::default();
    let good = Recipes::default;
    let (all, roots, boot) = (inputs.all(), inputs.roots(), set(&["boot"]));
    let table = [
        (
            "make_tree",
            Recipes {
                make_tree: "#",
                ..good()
            },
            &all,
        ),
        (
            "tree_options",
            Recipes {
                tree_options: &["#"],
                ..good()
            },
            &all,
        ),
        (
            "stage_role",
            Recipes {
                stage_role: "#",
                ..good()
            },
            &roots,
        ),
        (
            "install_role",
            Recipes {
                install_role: "#",
                ..good()
            },
            &roots,
        ),
        (
            "pack_role",
            Recipes {
                pack_role: "#",
                ..good()
            },
            &roots,
        ),
        (
            "pack_boot",
            Recipes {
                pack_boot: "#",
                ..good()
            },
            &boot,
        ),
    ];
    for (name, recipes, expected) in table {
        inputs.recipes = recipes;
        assert_eq!(inputs.changed(), *expected, "{name}");
    }
}

#[test]
fn every_program() {
    let inputs = Inputs::new();
    for (program, expected) in [("ravelin-init", "boot"), ("ravelin-demo-app", "app")] {
        let path = inputs.program(program);
        let found = inputs.changed_by_file(&path, "other bytes");
        assert!(found.contains(expected), "{program}: {found:?}");
        assert!(
            !found.contains("tools") && !found.contains("base"),
            "{program}: {found:?}"
        );
    }
}

#[test]
fn every_entry_of_the_lock() {
    let mut inputs = Inputs::new();
    let good = inputs.lock.clone();
    for index in 0..good.packages.len() {
        let sets = good.packages[index].sets.clone();
        let mut expected = BTreeSet::new();
        for one in &sets {
            match one.as_str() {
                // Both are what all else is made of, or with.
                "tools" => expected.extend(
                    ["tools".to_owned(), "boot".to_owned()]
                        .into_iter()
                        .chain(inputs.roots()),
                ),
                "base" => expected.extend(
                    ["base".to_owned(), "boot".to_owned()]
                        .into_iter()
                        .chain(inputs.roots()),
                ),
                role => expected.extend([role.to_owned()]),
            }
        }
        type Change = fn(&mut Package);
        let changes: [(&str, Change); 4] = [
            ("name", |package| package.name.push('x')),
            ("version", |package| package.version.push('x')),
            ("architecture", |package| package.architecture.push('x')),
            ("hash", |package| package.sha256 = "1".repeat(64)),
        ];
        for (what, change) in changes {
            inputs.lock = good.clone();
            change(&mut inputs.lock.packages[index]);
            assert_eq!(
                inputs.changed(),
                expected,
                "{what} of {}",
                good.packages[index]
            );
        }
        // Where a file comes from does not matter: it has a hash.
        inputs.lock = good.clone();
        inputs.lock.packages[index].file.push('x');
        inputs.lock.packages[index].suite.push('x');
        assert_eq!(
            inputs.changed(),
            set(&[]),
            "place of {}",
            good.packages[index]
        );
    }
    inputs.lock = good;
    inputs.lock.note(Index {
        suite: "trixie".to_owned(),
        date: 8,
    });
    assert_eq!(inputs.changed(), inputs.roots(), "what files are dated by");
}

#[test]
fn whose_the_files_of_a_tree_are() {
    let mut inputs = Inputs::new();
    inputs.privilege = Privilege::UserNamespace;
    assert_eq!(inputs.changed(), inputs.all());
}

impl Inputs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image");
        for part in ["base", "roles"] {
            copy(
                &ours.join(part),
                &dir.path().join("source/image").join(part),
            );
        }
        let programs = dir.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let mut inputs = Self {
            dir,
            recipes: Recipes::default(),
            lock: Lock::new("trixie", "amd64"),
            privilege: Privilege::Root,
            good: BTreeMap::new(),
        };
        inputs.lock.note(Index {
            suite: "trixie".to_owned(),
            date: 7,
        });
        for set in inputs.wanted() {
            let mut names = set.packages.clone();
            if !set.over_base {
                // What both trees have.
                names.push("libc6".to_owned());
            }
            let packages = names.iter().map(|name| package(name)).collect();
            inputs.lock.replace(set.set, &set.packages, packages);
        }
        fs::write(inputs.program("ravelin-init"), "init").unwrap();
        for program in spec::base(&inputs.source()).unwrap().programs {
            fs::write(inputs.program(&program), &program).unwrap();
        }
        for role in ROLES {
            for program in spec::role(&inputs.source(), role).unwrap().programs {
                fs::write(inputs.program(&program), &program).unwrap();
            }
        }
        inputs.good = inputs.names();
        inputs
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("programs").join(name)
    }

    fn wanted(&self) -> Vec<Wanted> {
        let text = include_str!("../../../examples/foobar/site.toml");
        let boards = site::Boards::new([("linux", 2), ("mps2-an500", 1), ("zynq7000", 2)]);
        let plan = site::parse("site.toml", text, &boards).unwrap();
        let base = spec::base(&self.source()).unwrap();
        packages::wanted(&self.source(), &self.source(), &plan, &base).unwrap()
    }

    /// The sets that the lock would have to be asked for anew.
    fn stale(&self) -> BTreeSet<String> {
        let wanted = self.wanted();
        let stale = wanted
            .iter()
            .filter(|set| !self.lock.has(set.set, &set.packages));
        stale.map(|set| set.set.to_owned()).collect()
    }

    /// What the steps' results are called.
    fn names(&self) -> BTreeMap<String, String> {
        let source = self.source();
        let spec = spec::base(&source).unwrap();
        let tree = |set| Tree::new(self.privilege, &self.recipes, set, &self.lock);
        let (tools, base) = (tree("tools"), tree("base"));
        let init = self.program("ravelin-init");
        let boot = Boot::new(&self.recipes, &init, &spec, &base, &tools).unwrap();
        let mut names = BTreeMap::new();
        names.insert("tools".to_owned(), tools.id().to_owned());
        names.insert("base".to_owned(), base.id().to_owned());
        names.insert("boot".to_owned(), boot.id().to_owned());
        for role in ROLES {
            let role_spec = spec::role(&source, role).unwrap();
            let programs = (spec.programs.iter()).chain(&role_spec.programs);
            let programs = programs.map(|name| self.program(name));
            // A program that nobody has built yet.
            let programs = programs.filter(|path| path.exists()).collect();
            let name = spec::role_name(role);
            let packages = self.lock.set(name);
            let root = Root::new(
                &source,
                &self.recipes,
                role,
                &spec,
                role_spec,
                &packages,
                programs,
                Payload::default(),
                &base,
                &tools,
            );
            names.insert(name.to_owned(), root.unwrap().id().to_owned());
        }
        names
    }

    /// The steps whose results have other names than those of unchanged inputs.
    fn changed(&self) -> BTreeSet<String> {
        let now = self.names();
        let keys = self
            .good
            .keys()
            .filter(|step| self.good[*step] != now[*step]);
        keys.cloned().collect()
    }

    fn with_file<T>(&self, path: &Path, content: &str, look: impl Fn(&Self) -> T) -> T {
        let good = fs::read(path).unwrap();
        fs::write(path, content).unwrap();
        let seen = look(self);
        fs::write(path, good).unwrap();
        seen
    }

    fn changed_by_file(&self, path: &Path, content: &str) -> BTreeSet<String> {
        self.with_file(path, content, Self::changed)
    }

    fn roots(&self) -> BTreeSet<String> {
        ROLES
            .iter()
            .map(|role| spec::role_name(*role).to_owned())
            .collect()
    }

    fn all(&self) -> BTreeSet<String> {
        self.names().into_keys().collect()
    }
}

/// Every field of a file that is a table of strings, numbers and lists, each with the file as it is when that field alone is another.
fn fields(path: &Path) -> Vec<(String, String)> {
    let table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let mut changed = Vec::new();
    for (key, value) in &table {
        if let toml::Value::Table(inner) = value {
            for (inner_key, value) in inner {
                let mut table = table.clone();
                table[key][inner_key] = other(value);
                changed.push((format!("{key}.{inner_key}"), table.to_string()));
            }
            continue;
        }
        let mut table = table.clone();
        table[key] = other(value);
        changed.push((key.clone(), table.to_string()));
    }
    changed
}

fn other(value: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => format!("{text}x").into(),
        toml::Value::Integer(number) => (number + 1).into(),
        toml::Value::Boolean(yes) => (!yes).into(),
        toml::Value::Array(list) => {
            let mut list = list.clone();
            // The first once more: it is of the right type, and a program that there is.
            list.push(list[0].clone());
            list.into()
        }
        other => panic!("a field of another type: {other}"),
    }
}

fn package(name: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        sha256: "0".repeat(64),
        suite: "trixie".to_owned(),
        file: format!("pool/{name}.deb"),
        sets: BTreeSet::new(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.is_file() && !path.is_symlink() {
            all.push(path);
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

const ROLES: [Role; 5] = [
    Role::Haproxy,
    Role::Nginx,
    Role::App,
    Role::Db,
    Role::Monitor,
];
