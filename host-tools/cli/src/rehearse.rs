//! `ravelin rehearse`: the whole rack in emulation.

use std::{cell::RefCell, io::IsTerminal as _, net::SocketAddr, path::Path, process::ExitCode};

use build::{Board, Options as BuildOptions, Places, ServerImage};
use indicatif::ProgressBar;
use rehearse::kill::Case;
use rehearse::scenario::UsersReport;
use rehearse::uplink::MAX_CONNECTIONS;
use rehearse::{Bodies, Event, Options, RehearseError, Report, ServerBody, Stop};
use site::Plan;

use crate::{
    appliances,
    args::{self, Servers},
    build::{images, jobs},
    failure::{Failure, Message},
    flash,
    progress::{Progress, spinner},
    site_file::SiteFile,
    source, table,
};

/// Builds what is needed, boots the rack, and runs a scenario or waits for Ctrl-C.
pub fn rehearse(site: Option<&Path>, options: &args::Rehearse) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let boards = source::boards(&root)?;
    let plan = match &options.appliances {
        None => file.plan(&boards)?,
        Some(board) if boards.get(board).is_some() => file.plan_on_board(&boards, board)?,
        Some(board) => {
            let known: Vec<&str> = boards.names().collect();
            let message = Message::new(format!("there is no board `{board}`"));
            return Err(Failure::input(
                message.help(format!("use one of {}", known.join(", "))),
            ));
        }
    };
    let servers = rehearse::select_servers(&plan, &options.only).map_err(Failure::input)?;
    if options.servers == Servers::Light && !nix::unistd::geteuid().is_root() {
        return Err(Failure::machine(RehearseError::NeedsRoot));
    }
    rehearse::check_port(&plan, options.port).map_err(Failure::machine)?;
    let places = Places::new(&root, &file.path);
    let on_boards = (plan.appliances.iter()).filter(|appliance| appliance.board != source::LINUX.0);
    for appliance in on_boards {
        let board = Board::read(&root, &appliance.board).map_err(appliances::failure)?;
        board.emulator().map_err(appliances::failure)?;
    }

    let progress = Progress::new();
    let mut firmware = appliances::build(
        &places,
        &plan,
        &plan.appliances.iter().collect::<Vec<_>>(),
        None,
        &progress,
    )?;
    let wanted = BuildOptions {
        only: Some(servers),
        jobs: jobs(),
        ..BuildOptions::default()
    };
    let (pki, images) = images(&places, &plan, wanted, &progress)?;
    for artifacts in &mut firmware {
        flash::rehearsed(&places, artifacts)?;
    }
    drop(progress);

    let stop = Stop::on_signals().map_err(|error| {
        Failure::machine(Message::new(format!("cannot catch signals: {error}")))
    })?;
    let authority = pki.ca_path();
    let bodies = Bodies {
        appliances: firmware
            .iter()
            .filter_map(|firmware| Some((firmware.name.clone(), firmware.body.clone()?)))
            .collect(),
        servers: images
            .into_iter()
            .map(|image| (image.server.clone(), body(options.servers, image)))
            .collect(),
    };
    let screen = Screen::new(&plan, &authority, options.scenario.is_some());
    let options_of_run = Options {
        plan: plan.clone(),
        state: places.state.clone(),
        authority: authority.clone(),
        bodies,
        port: options.port,
        scenario: options.scenario,
        requests: options.requests,
        stop,
    };
    let result = rehearse::run(&options_of_run, |event| screen.show(event));
    screen.finish();
    match result {
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(report)) => {
            if options.json {
                println!("{:#}", serde_json::json!(report));
            } else {
                print(&report);
            }
            Ok(ExitCode::from(u8::from(!report.passed)))
        }
        Err(error @ (RehearseError::UnknownServer { .. } | RehearseError::Unsuitable(_))) => {
            Err(Failure::input(error))
        }
        Err(error) => Err(Failure::machine(error)),
    }
}

fn body(servers: Servers, image: ServerImage) -> ServerBody {
    match servers {
        Servers::Qemu => ServerBody::Emulated { disk: image.disk },
        Servers::Light => ServerBody::Light {
            root: image.root_tree,
            files: image.host_files,
        },
    }
}

/// What the operator sees while the rack runs: lines for what happened, one moving line for now.
struct Screen<'a> {
    plan: &'a Plan,
    authority: &'a Path,
    scenario: bool,
    status: ProgressBar,
    terminal: bool,
    local: RefCell<Vec<SocketAddr>>,
    active: RefCell<String>,
}

impl<'a> Screen<'a> {
    fn new(plan: &'a Plan, authority: &'a Path, scenario: bool) -> Self {
        let active = RefCell::new("nobody".to_owned());
        let terminal = std::io::stderr().is_terminal();
        Self {
            plan,
            authority,
            scenario,
            status: spinner("starting"),
            terminal,
            local: RefCell::default(),
            active,
        }
    }

    fn show(&self, event: Event) {
        match event {
            Event::Begun { directory, local } => {
                self.line(&format!(
                    "consoles and recordings (pcap): {}",
                    directory.display()
                ));
                *self.local.borrow_mut() = local;
            }
            Event::Started { machine, console } => {
                self.line(&format!("{machine} starts, console: {}", console.display()))
            }
            Event::Up {
                machine,
                after,
                failed,
            } if failed.is_empty() => {
                self.line(&format!(
                    "{machine} is up after {:.0} s",
                    after.as_secs_f64()
                ));
            }
            Event::Up {
                machine, failed, ..
            } => {
                self.line(&format!(
                    "{machine} is up, but failed: {}",
                    failed.join(", ")
                ));
            }
            Event::Active { appliance } => {
                let name = appliance.unwrap_or_else(|| "nobody".to_owned());
                self.line(&format!("active appliance: {name}"));
                *self.active.borrow_mut() = name;
            }
            Event::Waiting { up, servers, last } => {
                self.now(&format!(
                    "{up} of {servers} servers are up; the site does not answer yet ({last})"
                ));
            }
            Event::Serving { after } => self.serving(after.as_secs_f64()),
            Event::Fault { machine, scenario } => {
                self.line(&format!("{scenario}: {machine} is hit"))
            }
            Event::Case(case) => self.line(&format!(
                "{}: {} of {} requests lost",
                case.name(),
                case.reads.lost + case.writes.lost,
                case.reads.sent + case.writes.sent
            )),
            Event::Restoring { machine, missing } => {
                self.now(&format!("{machine} failed; {missing}"));
            }
            Event::Requests { ok, lost } => self.now(&format!(
                "serving: {} is active, {ok} requests answered, {lost} lost",
                self.active.borrow()
            )),
            Event::Running { connections } => {
                let full = if connections >= MAX_CONNECTIONS {
                    " (all there can be: others wait)"
                } else {
                    ""
                };
                self.now(&format!(
                    "serving: {} is active, {connections} connections{full}; Ctrl-C ends it",
                    self.active.borrow()
                ));
            }
        }
    }

    fn serving(&self, after: f64) {
        let (domain, local) = (&self.plan.domain, self.local.borrow());
        let addresses = match local.len() {
            1 => "its virtual address",
            _ => "its virtual addresses",
        };
        self.line(&format!(
            "{domain} answers through {addresses} after {after:.0} s"
        ));
        if self.scenario {
            return;
        }
        self.line("try it:");
        for local in local.iter() {
            let port = local.port();
            // curl wants brackets around an IPv6 address here too, and some shells want quotes around those.
            let resolve = match local {
                SocketAddr::V4(local) => format!("{domain}:{port}:{}", local.ip()),
                SocketAddr::V6(local) => format!("'{domain}:{port}:[{}]'", local.ip()),
            };
            self.line(&format!(
                "  curl --cacert {} --resolve {resolve} https://{domain}:{port}/",
                self.authority.display(),
            ));
        }
        self.line("or in a browser, with this line in /etc/hosts:");
        for local in local.iter() {
            let (ip, port) = (local.ip(), local.port());
            self.line(&format!("  `{ip} {domain}` for https://{domain}:{port}/"));
        }
    }

    fn line(&self, text: &str) {
        if self.terminal {
            self.status.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    fn now(&self, text: &str) {
        self.status.set_message(text.to_owned());
    }

    fn finish(&self) {
        self.status.finish_and_clear();
    }
}

fn print(report: &Report) {
    if !report.cases.is_empty() {
        print_cases(&report.cases);
    }
    println!(
        "scenario {} on {}: {}",
        report.scenario,
        report.board,
        if report.passed { "passed" } else { "FAILED" }
    );
    for criterion in &report.criteria {
        println!(
            "  {} {}",
            if criterion.met { "yes" } else { "NO " },
            criterion.what
        );
    }
    for users in &report.users {
        let over = match report.users.len() {
            1 => String::new(),
            _ => format!(" over {}", users.ip),
        };
        print_users(users, &over);
    }
    if !report.cases.is_empty() {
        return;
    }
    for (what, servers) in [("web", &report.web), ("app", &report.app)] {
        let counts: Vec<String> = servers
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        println!("answers by {what} server: {}", counts.join(", "));
    }
    if let Some(fault) = &report.fault {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
        println!(
            "hit: {}; active before: {}, after: {}; take-over after {}",
            fault.machine,
            name(&fault.active_before),
            name(&fault.active_after),
            fault
                .takeover_ms
                .map_or_else(|| "-".to_owned(), |time| format!("{time:.0} ms")),
        );
    }
}

fn print_cases(cases: &[Case]) {
    let columns = [
        "machine", "what", "failed", "reads", "lost", "gap", "writes", "lost", "gap", "missing",
        "restored", "stalled",
    ];
    let ms = |time: f64| format!("{time:.0} ms");
    let rows = cases.iter().map(|case| {
        let service = case.service.clone();
        vec![
            case.machine.clone(),
            service.unwrap_or_else(|| "all of it".to_owned()),
            case.failure.to_string(),
            case.reads.sent.to_string(),
            case.reads.lost.to_string(),
            ms(case.reads.longest_gap_ms),
            case.writes.sent.to_string(),
            case.writes.lost.to_string(),
            ms(case.writes.longest_gap_ms),
            case.forgotten.to_string(),
            match (case.restored_ms, &case.missing) {
                (Some(time), _) => format!("{:.1} s", time / 1000.0),
                (None, missing) => format!("no: {}", missing.clone().unwrap_or_default()),
            },
            if case.tells() {
                String::new()
            } else {
                ms(case.stalled_ms)
            },
        ]
    });
    let rows: Vec<_> = rows.collect();
    let heading = "Requests from each failure until all was as before (gap: longest time without \
                   an answer; missing: acknowledged writes that a database lacks; stalled: this machine was too busy to tell)";
    table::print(heading, &columns, &rows);
    println!();
}

/// What the users of one version of IP met; `over` names it.
fn print_users(users: &UsersReport, over: &str) {
    let requests = &users.requests;
    println!(
        "requests{over}: {} sent, {} answered, {} lost; median {:.0} ms, slowest {:.0} ms",
        requests.sent, requests.ok, requests.lost, requests.median_ms, requests.slowest_ms
    );
    for (error, count) in &requests.errors {
        println!("  {count} x {error}");
    }
    if let Some(outage) = &users.outage {
        let ms = |time: Option<f64>| {
            time.map_or_else(|| "never".to_owned(), |time| format!("{time:.0} ms"))
        };
        println!(
            "  blackout of the virtual address {}, of the service behind it {}; first new request answered after {}",
            ms(outage.blackout_ms),
            ms(outage.service_blackout_ms),
            ms(outage.first_answer_ms)
        );
        let kept = &users.kept_connections;
        println!("  open connections: {} of {} broke", kept.broken, kept.open);
    }
}
