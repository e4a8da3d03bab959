//! The command line: arguments in, text or JSON out. Decisions are made in the libraries below.

#![forbid(unsafe_code)]

mod appliances;
mod args;
mod bench;
mod build;
mod bundle;
mod cache;
mod check;
mod doctor;
mod events;
mod export;
mod failure;
mod flash;
mod import;
mod label;
mod lock;
mod logs;
mod manage;
mod manifest;
mod new;
mod pki;
mod plan;
mod progress;
mod push;
mod rehearse;
mod run;
mod run_elf;
mod servers;
mod site_file;
mod source;
mod table;
mod trace;
mod update;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    failure::install_hooks();
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let site = arguments.site.as_deref();
    match &arguments.command {
        Command::New(options) => new::new(options),
        Command::Check(options) => check::check(site, options),
        Command::Import(options) => import::import(options),
        Command::Export(options) => export::export(site, options),
        Command::Trace(options) => trace::trace(site, options),
        Command::Plan(options) => plan::plan(site, options),
        Command::Build(options) => build::build(site, options),
        Command::Lock(options) => lock::lock(site, options),
        Command::Bundle(options) => bundle::bundle(site, options),
        Command::Cache(what) => cache::cache(site, what),
        Command::Pki(command) => pki::pki(site, command),
        Command::Rehearse(options) => rehearse::rehearse(site, options),
        Command::Flash(options) => flash::flash(site, options),
        Command::Logs(options) => logs::logs(site, options),
        Command::RunElf(options) => run_elf::run_elf(options),
        Command::Label(options) => label::label(site, options),
        Command::Status(options) => manage::status(site, options),
        Command::Events(options) => events::events(site, options),
        Command::Handover(options) => manage::hand_over(site, options),
        Command::Maintenance(options) => manage::maintenance(site, options),
        Command::Post(options) => manage::post(site, options),
        Command::Push(options) => push::push(site, options),
        Command::Update(options) if !options.server.is_empty() => servers::update(site, options),
        Command::Update(options) => update::update(site, options),
        Command::Run(options) => run::run(site, options),
        Command::Bench(options) => bench::bench(site, options),
        Command::Doctor(options) => doctor::doctor(options),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Arguments::command(),
                "ravelin",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}
