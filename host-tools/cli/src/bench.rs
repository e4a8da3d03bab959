//! `ravelin bench`: measures, prints, judges nothing.

use std::collections::BTreeSet;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::bench::goals::{Goal, Sense};
use ::bench::{BenchError, failover, flash as flashing, images, packet, peers};
use serde::Serialize;

use crate::args::{Bench, BenchBuild, BenchFailover};
use crate::build::jobs;
use crate::failure::Failure;
use crate::progress::spinner;
use crate::site_file::SiteFile;
use crate::{source, table};

/// Measures what is named.
pub fn bench(site: Option<&Path>, what: &Bench) -> Result<ExitCode, Failure> {
    match what {
        Bench::Failover(options) => failover(options),
        Bench::Packet(options) => packet(options.json),
        Bench::Treadmill { blob } => {
            peers::tread(blob).map_err(Failure::machine)?;
            Ok(ExitCode::SUCCESS)
        }
        Bench::Flash(options) => flash(options.json),
        Bench::Build(options) => images(site, options),
    }
}

fn failover(options: &BenchFailover) -> Result<ExitCode, Failure> {
    let source = source::root()?;
    let settings = failover::Settings {
        repetitions: options.repeat,
        boards: !options.without_boards,
        program: this_program()?,
    };
    let status = spinner("laying cables");
    let report = failover::measure(&source, &settings, &|text| {
        status.set_message(text.to_owned())
    });
    status.finish_and_clear();
    let report = report.map_err(Failure::machine)?;
    if options.json {
        return print(&report);
    }
    let spread = |spread: &failover::Spread| {
        let failover::Spread {
            min, median, max, ..
        } = spread;
        format!("{min:.0} / {median:.0} / {max:.0}")
    };
    let rows = report.rows.iter().map(|row| {
        let mut cells = vec![
            row.event.name().to_owned(),
            format!("{} ms", row.interval_ms),
            row.who.clone(),
            spread(&row.address_ms),
        ];
        cells.extend(match &row.service {
            Some(service) => [
                spread(&service.blackout_ms),
                spread(&service.lost),
                spread(&service.stall_ms),
                format!("{} of {}", service.broken, service.open),
            ],
            None => Default::default(),
        });
        cells
    });
    table::print(
        &format!(
            "What users notice, {} times each: min / median / max. Times in ms; a ping and a datagram every ms",
            options.repeat
        ),
        &[
            "event",
            "adverts",
            "who",
            "address silent",
            "service silent",
            "datagrams lost",
            "connections stall",
            "broken",
        ],
        &rows.collect::<Vec<_>>(),
    );
    goals("Goals", &report.goals);
    Ok(ExitCode::SUCCESS)
}

fn flash(json: bool) -> Result<ExitCode, Failure> {
    let source = source::root()?;
    let status = spinner("building the firmware and flashing emulated boards");
    let report = flashing::measure(&source);
    status.finish_and_clear();
    let report = report.map_err(Failure::machine)?;
    if json {
        return print(&report);
    }
    let seconds = |seconds: f64| format!("{seconds:.1} s");
    let rows = [
        ("one blank board".to_owned(), seconds(report.one_seconds)),
        (
            format!("{} at once", report.many),
            seconds(report.many_seconds),
        ),
        (
            "nothing to do".to_owned(),
            seconds(report.unchanged_seconds),
        ),
        (
            "one line of the site file".to_owned(),
            format!("{} bytes written", report.one_line_bytes),
        ),
    ];
    let heading = format!(
        "Flashing {} kB into {}, emulated",
        report.bytes / 1000,
        report.board
    );
    let rows = rows.map(|(what, measured)| vec![what, measured]);
    table::print(&heading, &["what", "measured"], &rows);
    goals("Goals", &report.goals);
    Ok(ExitCode::SUCCESS)
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|cause| {
        Failure::machine(BenchError::Start {
            program: "this program".into(),
            cause,
        })
    })
}

fn packet(json: bool) -> Result<ExitCode, Failure> {
    let source = source::root()?;
    let program = this_program()?;
    let status = spinner("building the firmware and counting instructions");
    let report = packet::measure(&source, &program);
    status.finish_and_clear();
    let report = report.map_err(Failure::machine)?;
    if json {
        return print(&report);
    }
    packet_paths(&report);
    let rules = report.rules.iter().map(|cost| {
        let numbers = [cost.rules, cost.bytes, cost.trees].map(|number| number.to_string());
        let [rules, bytes, trees] = numbers;
        let [average, most, nodes] =
            [cost.average, cost.most, cost.worst_nodes].map(|number| number.to_string());
        vec![cost.set.clone(), rules, average, most, nodes, bytes, trees]
    });
    table::print(
        "Instructions per look-up in compiled rules",
        &[
            "set",
            "rules",
            "average",
            "most",
            "nodes, proved",
            "bytes",
            "trees",
        ],
        &rules.collect::<Vec<_>>(),
    );
    let tls = report.handshake;
    let numbers = [tls.instructions, tls.longest_step, tls.longest_wait];
    let mut row = numbers.map(|number| number.to_string()).to_vec();
    row.push(tls.heap.to_string());
    table::print(
        "A check's TLS handshake, instructions",
        &["all", "longest step", "packets wait at most", "heap, bytes"],
        &[row],
    );
    let images = report.images.iter().map(|image| {
        vec![
            image.board.clone(),
            image.flash.to_string(),
            image.ram.to_string(),
            image.flows.to_string(),
            image.flows6.to_string(),
        ]
    });
    table::print(
        "Firmware images, bytes, and the flows that they have room for",
        &["board", "flash", "RAM", "flows", "of IPv6"],
        &images.collect::<Vec<_>>(),
    );
    if let Some([v4, v6]) = report.flow_bytes {
        println!(
            "A flow takes {v4} bytes, one of IPv6 {v6}: both directions and their share of the index"
        );
    }
    let peers = report.peers.rows.iter().map(|row| {
        let instructions = row
            .instructions
            .map(|instructions| instructions.to_string());
        let ratio = row.ratio.map(|ratio| format!("{ratio:.1} times ours"));
        let bytes = row.bytes.map(|bytes| bytes.to_string());
        vec![
            row.what.clone(),
            row.who.to_owned(),
            format!("{:.0}", row.ns),
            ratio.unwrap_or_default(),
            instructions.unwrap_or_default(),
            bytes.unwrap_or_default(),
        ]
    });
    table::print(
        "On this machine's processor, in one run",
        &["what", "who", "ns", "", "instructions", "bytes of tables"],
        &peers.collect::<Vec<_>>(),
    );
    for note in &report.peers.notes {
        println!("{note}");
    }
    goals("Other goals", &report.goals);
    Ok(ExitCode::SUCCESS)
}

fn goals(heading: &str, goals: &[Goal]) {
    let goals = goals.iter().map(|goal| {
        let sense = match goal.sense {
            Sense::AtMost => "at most",
            Sense::AtLeast => "at least",
        };
        let [measured, aim] = [goal.measured, goal.goal].map(short);
        let aim = format!("{sense} {aim}");
        vec![goal.what.clone(), measured, aim, verdict(goal.met)]
    });
    let columns = ["what", "measured", "goal", ""];
    table::print(heading, &columns, &goals.collect::<Vec<_>>());
}

/// One column for each number of rules.
fn packet_paths(report: &packet::Report) {
    let numbers: BTreeSet<usize> = report
        .paths
        .iter()
        .flat_map(|path| path.instructions.keys().copied())
        .collect();
    let rows = report.paths.iter().map(|path| {
        let cost = |rules| match path.instructions.get(rules) {
            Some(instructions) => instructions.to_string(),
            None => String::new(),
        };
        let goal = path.goal.map(|goal| format!("at most {goal}"));
        let met = path.met.map(verdict);
        let row = iter::once(path.path.clone()).chain(numbers.iter().map(cost));
        row.chain([goal, met].map(Option::unwrap_or_default))
            .collect()
    });
    let numbers: Vec<String> = numbers.iter().map(|n| format!("{n} rules")).collect();
    let columns = iter::once("path").chain(numbers.iter().map(String::as_str));
    let columns: Vec<&str> = columns.chain(["goal", ""]).collect();
    let heading = format!(
        "Instructions per packet, {}, without driver and MAC",
        report.core
    );
    table::print(&heading, &columns, &rows.collect::<Vec<_>>());
}

fn verdict(met: bool) -> String {
    if met { "met" } else { "missed" }.to_owned()
}

/// Whole numbers as such, others with two places.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        return format!("{number:.0}");
    }
    format!("{number:.2}")
}

fn images(site: Option<&Path>, options: &BenchBuild) -> Result<ExitCode, Failure> {
    let source = source::root()?;
    let plan = SiteFile::read(site)?.plan(&source::boards(&source)?)?;
    let status = spinner("building");
    let busy = |what: &str| status.set_message(what.to_owned());
    let report = images::measure(&source, &plan, jobs(), !options.without_boots, &busy);
    status.finish_and_clear();
    let report = report.map_err(Failure::machine)?;
    if options.json {
        return print(&report);
    }
    let time = |what: &str, who: &str, seconds: f64| {
        vec![what.to_owned(), who.to_owned(), format!("{seconds:.1}")]
    };
    let all = format!("all {} images", report.images);
    let mut rows = vec![
        time("one image from nothing", "ravelin", report.one_seconds),
        time(
            &format!("{all} from nothing"),
            "ravelin",
            report.cold_seconds,
        ),
        time(
            &format!("{all} after a one-line change"),
            "ravelin",
            report.change_seconds,
        ),
        time("nothing changed", "ravelin", report.warm_seconds),
    ];
    let peers = report.peers.iter();
    rows.extend(peers.map(|peer| time("one image from nothing", &peer.who, peer.seconds)));
    table::print(
        "Seconds, packages downloaded",
        &["what", "who", "seconds"],
        &rows,
    );
    if !report.nothing_built {
        println!("the last build did not recognise that nothing had changed");
    }
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let mut rows: Vec<Vec<String>> = Vec::new();
    for size in &report.sizes {
        let sizes = [size.disk, size.written, size.root, size.kernel].map(megabytes);
        rows.push([std::slice::from_ref(&size.server), &sizes].concat());
    }
    for peer in &report.peers {
        rows.push(vec![
            peer.who.clone(),
            megabytes(peer.disk),
            megabytes(peer.written),
        ]);
    }
    let columns = ["image", "disk", "of it written", "root", "kernel"];
    table::print("Sizes, MB", &columns, &rows);
    let rows = report.boots.iter().map(|boot| {
        let seconds = [boot.seconds, boot.processor_seconds].map(|seconds| format!("{seconds:.1}"));
        let memory = [boot.memory, boot.least_memory].map(|mebibytes| mebibytes.to_string());
        [std::slice::from_ref(&boot.server), &seconds, &memory].concat()
    });
    if !report.boots.is_empty() {
        table::print(
            "From power on until all services run, one emulated processor, alone; the database as a single primary",
            &[
                "image",
                "seconds",
                "of processor time",
                "with MiB",
                "least MiB",
            ],
            &rows.collect::<Vec<_>>(),
        );
    }
    for note in &report.notes {
        println!("{note}");
    }
    let [begun, ended] = report.load;
    println!("load average {begun:.1} at the beginning, {ended:.1} at the end");
    goals("Goals", &report.goals);
    Ok(ExitCode::SUCCESS)
}

fn print(report: &impl Serialize) -> Result<ExitCode, Failure> {
    println!("{:#}", serde_json::json!(report));
    Ok(ExitCode::SUCCESS)
}
