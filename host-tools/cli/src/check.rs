//! `ravelin check`: is this a site that can be built?

use std::{path::Path, process::ExitCode};

use miette::Diagnostic as _;
use serde_json::{Value, json};
use site::{Plan, SiteErrors};

use crate::{
    args::Json,
    failure::{Failure, Message},
    site_file::SiteFile,
    source,
};

/// Checks the site file and that every appliance can hold what follows from it.
pub fn check(site: Option<&Path>, options: &Json) -> Result<ExitCode, Failure> {
    let boards = source::boards(&source::root()?)?;
    let file = SiteFile::read(site)?;
    let plan = match file.problems(&boards) {
        Ok(plan) => plan,
        Err(errors) if options.json => {
            println!("{:#}", problems_json(&file, &errors));
            return Ok(ExitCode::from(2));
        }
        Err(errors) => return Err(Failure::input(errors)),
    };
    let rules = rules(&plan)?;
    if options.json {
        println!(
            "{:#}",
            json!({ "file": file.path, "good": true, "problems": [] })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} is good: {}, {}, {}, {} ({} on each appliance)",
        file.path.display(),
        count(plan.networks.len(), "network"),
        count(plan.appliances.len(), "appliance"),
        count(plan.servers.len(), "server"),
        count(plan.flows.len(), "flow"),
        count(rules, "rule"),
    );
    Ok(ExitCode::SUCCESS)
}

/// Compiles every appliance's configuration; the number of rules of the longest.
fn rules(plan: &Plan) -> Result<usize, Failure> {
    let mut most = 0;
    for appliance in &plan.appliances {
        let (_, rules) = render::appliance::policy(plan, &appliance.name)
            .map_err(|error| Failure::input(Message::new(error.to_string())))?;
        most = most.max(rules.len());
    }
    Ok(most)
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
