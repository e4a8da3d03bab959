//! `ravelin new`: a site file to start from.

use std::{fs, io::Write as _, path::Path, process::ExitCode};

use site::Boards;

use crate::{
    args,
    failure::{Failure, Message},
    source,
};

const TEMPLATE: &str = include_str!("../../../examples/foobar/site.toml");

/// Writes `NAME/site.toml`; never over an existing file.
pub fn new(options: &args::New) -> Result<ExitCode, Failure> {
    let domain = options
        .domain
        .clone()
        .unwrap_or_else(|| format!("www.{}.com", options.name));
    let text = TEMPLATE
        .replace(
            "name = \"foobar\"",
            &format!("name = {}", quoted(&options.name)),
        )
        .replace(
            "domain = \"www.foobar.com\"",
            &format!("domain = {}", quoted(&domain)),
        );
    let boards: Boards = source::boards(&source::root()?)?;
    site::parse("the new site file", &text, &boards).map_err(Failure::input)?;

    let folder = Path::new(&options.name);
    let path = folder.join("site.toml");
    fs::create_dir_all(folder)
        .map_err(|error| Failure::machine(Message::file("make", folder, &error)))?;
    let mut file = fs::File::create_new(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::input(
            Message::new(format!("{} exists", path.display()))
                .help("choose another name, or remove it first"),
        ),
        _ => Failure::machine(Message::file("write", &path, &error)),
    })?;
    if let Err(error) = file.write_all(text.as_bytes()) {
        // Half a site file is worse than none.
        let _ = fs::remove_file(&path);
        return Err(Failure::machine(Message::file("write", &path, &error)));
    }
    println!("{}", path.display());
    eprintln!(
        "next: edit it, then `ravelin check --site {}`",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// As a TOML text, so that a strange name is refused by the checks and not by the parser.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
