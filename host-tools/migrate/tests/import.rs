//! Every file in `tests/conf` becomes the site file and the notes that stand beside it in `snapshots`.

use std::{fs, path::Path};

use migrate::{
    conf::{self, NoFiles},
    import::{self, Node},
    model::Keepalived,
};
use proptest::prelude::*;
use site::Boards;

#[test]
fn configurations_become_site_files() {
    insta::glob!("conf/*.conf", |path| {
        let ids: &[Option<&str>] = match path.file_name().and_then(|name| name.to_str()) {
            Some("cloud.conf") => &[Some("lb-a"), Some("lb-b")],
            _ => &[None],
        };
        let nodes: Vec<Node> = ids.iter().map(|id| node(path, *id)).collect();
        let imported = import::site(&nodes);
        let notes: Vec<String> = (imported.notes.iter())
            .map(|note| format!("{}: {}: {}: {}", note.place, note.kind, note.what, note.why))
            .collect();
        insta::assert_snapshot!(format!("{}\n--\n{}", imported.site, notes.join("\n")));
    });
}

fn node(path: &Path, id: Option<&str>) -> Node {
    let text = fs::read_to_string(path).expect("a readable file");
    let name = Path::new(path.file_name().expect("a file"));
    let statements = conf::read(name, &text, id, &NoFiles).expect("a good configuration");
    Node {
        name: id.unwrap_or("gw1").to_owned(),
        keepalived: Keepalived::of(&statements),
    }
}

/// Every line of every file.
fn lines() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conf");
    let files = folder.read_dir().expect("a folder");
    let text = files.map(|file| fs::read_to_string(file.expect("a file").path()).expect("text"));
    text.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Reads and imports a text, if it can be read at all; what comes out is TOML, and its site is refused, never a fault.
fn survives(text: &str) {
    for id in [None, Some("lb-a")] {
        let Ok(statements) = conf::read(Path::new("k.conf"), text, id, &NoFiles) else {
            continue;
        };
        let node = |name: &str| Node {
            name: name.to_owned(),
            keepalived: Keepalived::of(&statements),
        };
        for nodes in [vec![node("gw1")], vec![node("gw1"), node("gw2")]] {
            let site = import::site(&nodes).site;
            assert!(site.parse::<toml_edit::DocumentMut>().is_ok(), "{site}");
            let refused = site::parse("site.toml", &site, &Boards::new([("linux", 2)]));
            assert!(refused.is_err(), "nobody filled in what is open");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\t{}$@~\"'\\\\!#=é]{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_order_of_lines_is_read_or_refused(picked in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let lines = lines();
        let mut text = String::new();
        let mut depth = 0;
        for index in picked {
            let line = index.get(&lines);
            depth += line.matches('{').count();
            depth = depth.saturating_sub(line.matches('}').count());
            text += line;
            text.push('\n');
        }
        text += &"}\n".repeat(depth);
        survives(&text);
    }

    /// Whole files of which some lines are missing, or stand twice, or elsewhere.
    #[test]
    fn files_with_mistakes_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3), 1..6)) {
        let mut lines = lines();
        for (index, change) in changes {
            let at = index.index(lines.len());
            match change {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                _ => lines.swap(at, 0),
            }
        }
        survives(&lines.join("\n"));
    }
}
