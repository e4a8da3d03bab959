//! Plans to prove things about, and faults to put into them.

#![allow(dead_code)] // not every test file uses all of it

use prove::{Finding, Proof, Rack};
use site::{Boards, Plan};

/// The reference site.
pub const FOOBAR: &str = include_str!("../../../../examples/foobar/site.toml");

/// The example of everything that a site file can say.
pub const DUALSTACK: &str = include_str!("../../../../examples/dualstack/site.toml");

/// The plan of a site file.
pub fn plan(text: &str) -> Plan {
    let boards = Boards::new([("zynq7000", 2), ("mps2-an500", 1), ("linux", 2)]);
    site::parse("site.toml", text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The proof of a plan as it is rendered.
pub fn proof(plan: &Plan) -> Proof {
    Rack::of(plan).expect("a rack").prove()
}

/// A finding as a terminal without colours shows it.
pub fn message(finding: &Finding) -> String {
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(110);
    let mut text = String::new();
    handler.render_report(&mut text, finding).expect("text");
    text
}

/// All findings, for snapshots.
pub fn messages(proof: &Proof) -> String {
    proof
        .findings
        .iter()
        .map(message)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The matrix as a list.
pub fn matrix(proof: &Proof) -> String {
    let line = |cell: &prove::Cell| {
        format!(
            "{} -> {}: {} ({})\n",
            cell.from,
            cell.to,
            cell.traffic.join(", "),
            cell.flows.join(", ")
        )
    };
    proof.matrix.cells.iter().map(line).collect()
}
