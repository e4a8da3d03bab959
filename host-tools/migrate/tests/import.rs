//! Every file in `tests/conf` becomes the site file and the notes that stand beside it in `snapshots`.

use std::{fs, path::Path};

use migrate::{
    conf::{self, NoFiles},
    import::{self, Node},
    model::Keepalived,
};

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
