//! `ravelin check`: is this a site that can be built, and does it let through what it should?

use std::{path::Path, process::ExitCode};

use build::{Places, pki};
use miette::Diagnostic as _;
use prove::{Finding, Matrix, Proof, Rack};
use serde_json::{Value, json};
use site::SiteErrors;

use crate::{
    args::Check,
    failure::{Failure, Message},
    site_file::SiteFile,
    source, table,
};

/// Checks the site file, that every appliance can hold what follows from it, and that exactly its flows get through.
pub fn check(site: Option<&Path>, options: &Check) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let boards = source::boards(&root)?;
    let file = SiteFile::read(site)?;
    let plan = match file.problems(&boards) {
        Ok(plan) => plan,
        Err(errors) if options.json => {
            println!("{:#}", problems_json(&file, &errors));
            return Ok(ExitCode::from(2));
        }
        Err(errors) => return Err(Failure::input(errors)),
    };
    let state = Places::new(&root, &file.path).state;
    if let Some(warning) = pki::check(&state, &plan).map_err(crate::pki::failure)? {
        eprintln!("warning: {warning}");
    }
    let rack = Rack::of(&plan).map_err(|error| Failure::input(Message::new(error.to_string())))?;
    let proof = rack.prove();
    if options.json {
        println!("{:#}", proof_json(&file, &proof));
        return Ok(ExitCode::from(u8::from(!proof.holds())));
    }
    if options.matrix {
        matrix(&proof.matrix);
    }
    let (errors, warnings): (Vec<&Finding>, Vec<&Finding>) = proof
        .findings
        .iter()
        .partition(|finding| finding.code.is_error());
    show(&warnings, "warning");
    show(&errors, "error");
    let Some(_) = errors.first() else {
        let rules = rack
            .appliances
            .iter()
            .map(|appliance| appliance.rules.len())
            .max();
        println!(
            "{} is good: {}, {}, {}, {} ({} on each appliance); exactly these flows get through",
            file.path.display(),
            count(plan.networks.len(), "network"),
            count(plan.appliances.len(), "appliance"),
            count(plan.servers.len(), "server"),
            count(plan.flows.len(), "flow"),
            count(rules.unwrap_or(0), "rule"),
        );
        return Ok(ExitCode::SUCCESS);
    };
    Err(Failure::no(
        Message::new(format!(
            "{} does not let through exactly what its flows say: {}",
            file.path.display(),
            count(errors.len(), "difference"),
        ))
        .help("`ravelin trace PACKET` follows any packet, `ravelin check --matrix` shows who reaches whom"),
    ))
}

/// Prints findings, of many only the first: they tend to have one cause.
fn show(findings: &[&Finding], kind: &str) {
    for finding in findings.iter().take(SHOWN) {
        eprintln!("{:?}", miette::Report::new((*finding).clone()));
    }
    if let Some(more @ 1..) = findings.len().checked_sub(SHOWN) {
        eprintln!(
            "… and {} (see --json)\n",
            count(more, &format!("more {kind}"))
        );
    }
}

const SHOWN: usize = 8;

/// Who reaches whom: a grid while that fits a screen, then a list.
fn matrix(matrix: &Matrix) {
    let traffic = |cell: &prove::Cell| -> String {
        // TCP is what nearly everything is.
        let parts = cell
            .traffic
            .iter()
            .map(|part| part.strip_prefix("tcp ").unwrap_or(part).to_owned());
        parts.collect::<Vec<_>>().join(" ")
    };
    if matrix.components.len() > WIDEST {
        let rows: Vec<Vec<String>> = (matrix.cells.iter())
            .map(|cell| vec![cell.from.clone(), cell.to.clone(), traffic(cell)])
            .collect();
        table::print(
            "Who reaches whom (TCP ports unless said otherwise)",
            &["from", "to", "what"],
            &rows,
        );
        println!();
        return;
    }
    let columns: Vec<&str> = [""]
        .into_iter()
        .chain(matrix.components.iter().map(String::as_str))
        .collect();
    let row = |from: &String| -> Vec<String> {
        let cell = |to: &String| {
            let cell = matrix
                .cells
                .iter()
                .find(|cell| cell.from == *from && cell.to == *to);
            cell.map_or("·".to_owned(), traffic)
        };
        [from.clone()]
            .into_iter()
            .chain(matrix.components.iter().map(cell))
            .collect()
    };
    let rows: Vec<Vec<String>> = matrix.components.iter().map(row).collect();
    table::print(
        "Who (rows) reaches whom (TCP ports unless said otherwise)",
        &columns,
        &rows,
    );
    println!();
}

/// Most components of a grid.
const WIDEST: usize = 14;

fn proof_json(file: &SiteFile, proof: &Proof) -> Value {
    let list = |error: bool| -> Vec<Value> {
        let findings = proof
            .findings
            .iter()
            .filter(|finding| finding.code.is_error() == error);
        findings.map(|finding| json!(finding)).collect()
    };
    json!({
        "file": file.path,
        "good": proof.holds(),
        "problems": list(true),
        "warnings": list(false),
        "matrix": proof.matrix,
    })
}

fn problems_json(file: &SiteFile, errors: &SiteErrors) -> Value {
    let label = |label: miette::LabeledSpan| {
        let (line, column) = file.position(label.offset());
        json!({ "line": line, "column": column, "length": label.len(), "text": label.label() })
    };
    let problems: Vec<Value> = errors
        .problems()
        .iter()
        .map(|problem| {
            json!({
                "code": problem.code(),
                "message": problem.to_string(),
                "help": problem.help().map(|help| help.to_string()),
                "labels": problem.labels().into_iter().flatten().map(label).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "file": file.path, "good": false, "problems": problems })
}

fn count(number: usize, thing: &str) -> String {
    if number == 1 {
        format!("1 {thing}")
    } else {
        format!("{number} {thing}s")
    }
}
