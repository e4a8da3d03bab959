//! `ravelin bundle`: all that a build fetches and compiles, in one file.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use build::{Bundle, Options, Places};

use crate::{
    appliances, args, build::choose, failure::Failure, lock, progress::Progress,
    site_file::SiteFile, source,
};

/// Makes a bundle of a site.
pub fn bundle(site: Option<&Path>, options: &args::Bundle) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&root)?)?;
    let places = Places::new(&root, &file.path);
    let (chosen, servers) = choose(&plan, &options.only)?;
    let progress = Progress::new();
    let mut firmware: Vec<(String, PathBuf)> = Vec::new();
    for made in appliances::build(&places, &plan, &chosen, None, &progress)? {
        if let Some(elf) = made.elf
            && !firmware.iter().any(|(board, _)| *board == made.board)
        {
            firmware.push((made.board, elf));
        }
    }
    let to = match &options.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("{}-bundle.tar", plan.name)),
    };
    let build_options = Options {
        only: servers,
        choice: lock::choice(&options.packages, false),
        mirrors: options.packages.mirrors.clone(),
        ..Options::default()
    };
    let contents = progress.during("bundle", || {
        Bundle::write(&places, &plan, &build_options, &firmware, &to)
    });
    drop(progress);
    let contents = contents.map_err(lock::failure)?;
    if options.json {
        println!("{:#}", serde_json::json!(contents));
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} MB, {} Debian packages, programs {}, firmware of {}",
        contents.bundle.display(),
        contents.bytes / 1_000_000,
        contents.packages,
        contents.programs.join(", "),
        if contents.firmware.is_empty() {
            "no board".to_owned()
        } else {
            contents.firmware.join(", ")
        },
    );
    println!(
        "Without a network: ravelin build --bundle {}",
        contents.bundle.display()
    );
    Ok(ExitCode::SUCCESS)
}
