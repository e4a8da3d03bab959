//! Every file in `tests/broken-sites` is refused with the message that stands beside it in `snapshots`.
//! Messages are part of the interface: read a changed one as its operator would before accepting it.

use std::{fs, path::Path};

use miette::{GraphicalReportHandler, GraphicalTheme};
use site::Boards;

#[test]
fn broken_sites_are_refused_with_a_place_and_a_cure() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../tests/broken-sites/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::glob!("../../../tests/broken-sites", "*.toml", |path| {
            insta::assert_snapshot!("message", refusal(path));
        });
    });
}

/// The message as it appears on a terminal of 100 columns without colours.
fn refusal(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable file");
    let boards = Boards::new([("trunk", 1), ("twin", 2)]);
    let name = path.file_name().expect("a file").to_string_lossy();
    let errors = site::parse(&name, &text, &boards).expect_err("a broken site");
    let mut message = String::new();
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler.render_report(&mut message, &errors).expect("text");
    message
}
