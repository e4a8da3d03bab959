//! `ravelin logs`: what an appliance says to its debug probe, and how it failed last.

use std::{
    io::{self, IsTerminal as _, Write as _},
    ops::ControlFlow,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use build::{Firmware, Places, defmt_log::Line};
use serde_json::json;
use site::plan::Appliance;

use crate::{
    args,
    failure::{Failure, Message},
    flash::{devices, firmware_of, meant, plan, refused},
    site_file::SiteFile,
    source,
};

/// Prints lines until Ctrl-C, or for as long as was asked.
pub fn logs(site: Option<&Path>, options: &args::Logs) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = plan(&file, options.board.as_deref(), &root)?;
    let places = Places::new(&root, &file.path);
    let appliance = meant(&plan, std::slice::from_ref(&options.appliance))?[0];
    let named: Vec<String> = options.probe.iter().cloned().collect();
    let devices = devices(&named)?;
    let firmware = firmware_of(&plan, &places, appliance)?;
    let mut probe = None;
    for device in devices {
        let is_it = match options.probe {
            Some(_) => true,
            None => {
                let name = flash::identify(&device.selector, &firmware.board).map_err(refused)?;
                name.as_deref() == Some(&appliance.name)
            }
        };
        if is_it {
            probe = Some(device.selector);
        }
    }
    let probe = probe.ok_or_else(|| {
        Failure::machine(
            Message::new(format!(
                "no connected device says that it is {}",
                appliance.name
            ))
            .help("`ravelin flash` makes one of it; --probe names its probe"),
        )
    })?;
    if options.last_crash {
        return last_crash(appliance, &probe, &firmware, options.json);
    }
    follow(
        &probe,
        &firmware,
        &appliance.name,
        options.seconds,
        options.json,
    )
}

/// Prints what the device `name` at a probe says.
pub fn follow(
    probe: &str,
    firmware: &Firmware,
    name: &str,
    seconds: Option<u32>,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    let mut print = |line: Option<Line>| {
        if let Some(line) = line {
            let text = match as_json {
                true => json!({
                    "appliance": name, "time": line.time, "level": line.level,
                    "text": line.text, "file": line.file, "line": line.line,
                })
                .to_string(),
                false => in_words(&line, colours),
            };
            if writeln!(io::stdout(), "{text}").is_err() {
                return ControlFlow::Break(()); // whoever read it has seen enough
            }
        }
        match until {
            Some(until) if Instant::now() >= until => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    flash::tail(probe, firmware, &mut print).map_err(Failure::machine)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what is known of the last failure.
fn last_crash(
    appliance: &Appliance,
    probe: &str,
    firmware: &Firmware,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let crash = flash::last_crash(probe, &firmware.board).map_err(refused)?;
    let failure = crash.map(|crash| flash::Failure::new(&crash, Some(firmware)));
    if as_json {
        let line = json!({ "appliance": appliance.name, "crash": failure });
        println!("{line}");
    }
    let Some(failure) = failure else {
        if !as_json {
            println!("{} has not failed since power came on", appliance.name);
        }
        return Ok(ExitCode::from(1));
    };
    if !as_json {
        print!("{}", told(&appliance.name, &failure));
    }
    Ok(ExitCode::SUCCESS)
}

/// A failure in lines: the cause first, then where, then the registers.
fn told(appliance: &str, failure: &flash::Failure) -> String {
    let mut text = format!("{appliance}: {}", failure.cause);
    if let Some(part) = failure.stopped {
        text += &format!(", {part} stopped");
    }
    if let Some(message) = &failure.message {
        text += &format!(": {message}");
    }
    text.push('\n');
    if let (Some(file), Some(line)) = (&failure.file, failure.line) {
        text += &format!("  at {file}:{line}\n");
    }
    text += &format!(
        "  firmware {}, configuration {}, start {} since power came on, after {} s\n",
        failure.firmware, failure.configuration, failure.start, failure.uptime_seconds
    );
    for word in &failure.registers {
        text += &format!("  {:<5} {:#010x}", word.name, word.value);
        for known in [&word.function, &word.place].into_iter().flatten() {
            text += &format!("  {known}");
        }
        text.push('\n');
    }
    text
}

fn in_words(line: &Line, colours: bool) -> String {
    let (colour, dim, plain) = match (colours, line.level) {
        (false, _) => ("", "", ""),
        (true, "error") => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
        (true, "warn") => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
        (true, _) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
    };
    let place = match (&line.file, line.line) {
        (Some(file), Some(number)) => format!("  {dim}({file}:{number}){plain}"),
        _ => String::new(),
    };
    format!(
        "{:>14} {colour}{:<5}{plain} {}{place}",
        line.time, line.level, line.text
    )
}
