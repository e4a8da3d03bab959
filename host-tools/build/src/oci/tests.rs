//! Archives as `podman save` and `docker save` make them, of layers that overlay each other in every way.

use std::collections::BTreeMap;
use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

/// An entry of a layer: name, and what it is.
enum Is<'a> {
    File(&'a str),
    Dir,
    Symlink(&'a str),
    Hardlink(&'a str),
}

fn archive(entries: &[(&str, Is<'_>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, is) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_size(0);
        match is {
            Is::File(text) => {
                header.set_size(text.len() as u64);
                builder
                    .append_data(&mut header, name, text.as_bytes())
                    .unwrap();
            }
            Is::Dir => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, name, io::empty()).unwrap();
            }
            Is::Symlink(target) | Is::Hardlink(target) => {
                header.set_entry_type(match is {
                    Is::Symlink(_) => EntryType::Symlink,
                    _ => EntryType::Link,
                });
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn layers() -> [Vec<u8>; 3] {
    let lowest = archive(&[
        ("etc/", Is::Dir),
        (
            "etc/passwd",
            Is::File("root:x:0:0::/:\nweb:x:101:102::/:\n"),
        ),
        ("bin", Is::Symlink("usr/bin")),
        ("usr/bin/server", Is::File("old")),
        ("usr/bin/alias", Is::Hardlink("usr/bin/server")),
        ("gone/deep/file", Is::File("x")),
        ("cache/", Is::Dir),
        ("cache/old", Is::File("x")),
        ("becomes-a-file/inside", Is::File("x")),
    ]);
    let middle = archive(&[
        (".wh.gone", Is::File("")),
        ("cache/.wh..wh..opq", Is::File("")),
        ("cache/new", Is::File("new")),
        ("./usr/bin/server", Is::File("new server")),
        ("becomes-a-file", Is::File("flat")),
        ("added", Is::File("x")),
    ]);
    let top = archive(&[(".wh.added", Is::File(""))]);
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&middle).unwrap();
    let zstd = compress_to_vec(top.as_slice(), CompressionLevel::Fastest);
    [lowest, gz.finish().unwrap(), zstd]
}

fn config(architecture: &str) -> Vec<u8> {
    let text = format!(
        r#"{{"architecture": "{architecture}", "os": "linux", "rootfs": {{"type": "layers", "diff_ids": []}},
        "config": {{"User": "web", "Env": ["PATH=/bin", "PRICE=5$ \"net\" 100%"], "WorkingDir": "/srv",
        "Entrypoint": ["server"], "Cmd": ["--motto", "a \"b\" $c %d"]}}}}"#
    );
    text.into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn save(path: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap();
}

/// The archive of `podman save --format oci-archive`, of an image for several machines.
fn oci(architecture: &str) -> Vec<(String, Vec<u8>)> {
    let mut members = Vec::new();
    let mut blob = |bytes: Vec<u8>, kind: &str| {
        let digest = sha256(&bytes);
        let size = bytes.len();
        members.push((format!("blobs/sha256/{digest}"), bytes));
        format!(
            r#"{{"mediaType": "application/vnd.oci.image.{kind}", "digest": "sha256:{digest}", "size": {size}}}"#
        )
    };
    let layers = layers().map(|layer| blob(layer, "layer.v1.tar"));
    let config = blob(config(architecture), "config.v1+json");
    let manifest = format!(
        r#"{{"schemaVersion": 2, "config": {config}, "layers": [{}]}}"#,
        layers.join(", ")
    );
    let manifest = blob(manifest.into_bytes(), "manifest.v1+json");
    let inner = format!(r#"{{"schemaVersion": 2, "manifests": [{manifest}]}}"#);
    let inner = blob(inner.into_bytes(), "index.v1+json");
    let index = format!(r#"{{"schemaVersion": 2, "manifests": [{inner}]}}"#);
    members.push(("index.json".to_owned(), index.into_bytes()));
    members
}

fn docker(architecture: &str) -> Vec<(String, Vec<u8>)> {
    let mut members: Vec<(String, Vec<u8>)> = (layers().into_iter().enumerate())
        .map(|(number, layer)| (format!("{number}/layer.tar"), layer))
        .collect();
    members.push(("config.json".to_owned(), config(architecture)));
    let manifest = r#"[{"Config": "config.json", "RepoTags": null,
        "Layers": ["0/layer.tar", "1/layer.tar", "2/layer.tar"]}]"#;
    members.push(("manifest.json".to_owned(), manifest.as_bytes().to_vec()));
    members
}

/// What an archive unpacks to.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    for entry in Archive::new(File::open(path).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        if header.entry_type() == EntryType::Regular && header.uid().unwrap() == 7 {
            assert_eq!(header.mode().unwrap(), 0o755, "no set-user-id");
        }
        let name = entry.path().unwrap().display().to_string();
        let link = entry
            .link_name()
            .unwrap()
            .map(|link| format!("-> {}", link.display()));
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        tree.insert(name, link.unwrap_or(text));
    }
    tree
}

#[test]
fn layers_become_one_tree_whoever_saved_them() {
    let dir = tempfile::tempdir().unwrap();
    for (name, members) in [("oci", oci("amd64")), ("docker", docker("amd64"))] {
        let file = dir.path().join(name);
        save(&file, &members);
        let image = Image::open(&file).unwrap();
        let target = dir.path().join("tree.tar");
        image.squash(&target).unwrap();
        let tree = unpacked(&target);
        let has = |path: &str| tree.get(path).map(String::as_str);
        assert_eq!(
            has("usr/bin/server"),
            Some("new server"),
            "{name}: {tree:?}"
        );
        assert_eq!(
            has("usr/bin/alias"),
            Some("old"),
            "the file goes on under its other name"
        );
        assert_eq!(has("bin"), Some("-> usr/bin"));
        assert_eq!(has("cache/new"), Some("new"));
        assert_eq!(has("becomes-a-file"), Some("flat"));
        assert_eq!(has("proc/").or(has("proc")), Some(""), "{tree:?}");
        for gone in [
            "gone/deep/file",
            "cache/old",
            "becomes-a-file/inside",
            "added",
        ] {
            assert_eq!(has(gone), None, "{name}");
        }
        assert!(!tree.keys().any(|path| path.contains(".wh.")), "{tree:?}");

        let unit = image.unit("www.example").unwrap();
        for line in [
            r#"ExecStart="/bin/server" "--motto" "a \"b\" $$c %%d""#,
            r#"Environment="PRICE=5$ \"net\" 100%%""#,
            "WorkingDirectory=/srv",
            "User=101",
            "Group=102",
        ] {
            assert!(unit.lines().any(|own| own == line), "{line}: {unit}");
        }
    }
}

#[test]
fn what_cannot_run_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.tar");
    let refused = |members: &[(String, Vec<u8>)]| {
        save(&file, members);
        match Image::open(&file) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("accepted"),
        }
    };
    let mut damaged = oci("amd64");
    damaged[0].1[600] ^= 1;
    let mut lacking = docker("amd64");
    lacking.retain(|(name, _)| name != "config.json");
    for (members, reason) in [
        (docker("arm64"), "it is for arm64, the servers are amd64"),
        (oci("arm64"), "it is for arm64, the servers are amd64"),
        (damaged, "is damaged"),
        (lacking, "it lacks config.json"),
        (vec![], "it has neither index.json nor manifest.json"),
    ] {
        let error = refused(&members);
        assert!(error.starts_with("[app] oci: "), "{error}");
        assert!(error.contains(reason), "{error}");
    }
    fs::remove_file(&file).unwrap();
    let error = Image::open(&file).unwrap_err().to_string();
    assert!(error.contains("there is no such file"), "{error}");
}
