//! The stages of `xtask test`, quick ones first.

use std::{env, process::Command};

use crate::{
    boards, fuzz, imports,
    stage::{Context, Outcome, Stage, succeed, tests},
};

/// Suites under `tests/` that have a stage of their own: they take long, or need root.
const OWN_STAGE: [&str; 9] = [
    "ravelin-differential",
    "ravelin-interop",
    "ravelin-qemu",
    "ravelin-survival",
    "ravelin-test-database",
    "ravelin-test-flash",
    "ravelin-test-image",
    "ravelin-test-rack",
    "ravelin-test-tls",
];

/// All stages.
pub const ALL: &[Stage] = &[
    Stage {
        name: "format",
        what: "every file is as rustfmt writes it",
        waits: false,
        run: format,
    },
    Stage {
        name: "imports",
        what: "crates import only what ARCHITECTURE.md allows, and none that boards share names one",
        waits: false,
        run: |c| {
            let unnamed = || boards::unnamed(&c.root);
            imports::check(&c.root).and_then(|()| unnamed()).into()
        },
    },
    Stage {
        name: "clippy",
        what: "no warning in any crate",
        waits: false,
        run: clippy,
    },
    Stage {
        name: "test",
        what: "unit, table, snapshot and simulation tests, and what RFCs ask of virtual routers on the Linux board",
        waits: false,
        run: test,
    },
    Stage {
        name: "no-std",
        what: "the firmware's libraries build without std for every board",
        waits: false,
        run: |c| boards::libraries(&c.root).into(),
    },
    Stage {
        name: "boards",
        what: "every board's firmware builds within its limits",
        waits: false,
        run: |c| boards::build(&c.root, &[]).into(),
    },
    Stage {
        name: "licences",
        what: "licences and sources of dependencies (cargo-deny)",
        waits: false,
        run: deny,
    },
    Stage {
        name: "interop",
        what: "the Linux board beside keepalived and FRR in all their modes, and beside real servers; an operator with a pair, and collectors of its events (needs root)",
        waits: false,
        run: interop,
    },
    Stage {
        name: "survival",
        what: "connections through a pair that fails, restarts and hands over (needs root)",
        waits: false,
        run: survival,
    },
    Stage {
        name: "differential",
        what: "the same packets through the node and the kernel's netfilter (needs root)",
        waits: false,
        run: differential,
    },
    Stage {
        name: "qemu",
        what: "both firmware images under QEMU, and what RFCs ask of virtual routers on both",
        waits: false,
        run: |c| suite(c, "ravelin-qemu", &["boards", "conformance", "serial"]),
    },
    Stage {
        name: "recovery",
        what: "firmware that panics, faults and hangs on both emulated boards: it leaves word and comes back",
        waits: false,
        run: |c| suite(c, "ravelin-qemu", &["recovery"]),
    },
    Stage {
        name: "flash",
        what: "appliances at virtual debug probes: flashed, compared, provisioned, and all that goes wrong on a bench",
        waits: false,
        run: flash,
    },
    Stage {
        name: "fuzz",
        what: "every parser, for a bounded number of inputs",
        waits: false,
        run: fuzzing,
    },
    Stage {
        name: "image",
        what: "images build once, and boot",
        waits: false,
        run: |c| suite(c, "ravelin-test-image", &[]),
    },
    Stage {
        name: "https",
        what: "checks over HTTPS on both emulated boards",
        waits: true,
        run: |c| suite(c, "ravelin-qemu", &["https"]),
    },
    Stage {
        name: "rack",
        what: "scenarios on linux appliances: with a fake site, and with every real server (needs root)",
        waits: true,
        run: |c| containers(c, "ravelin-test-rack"),
    },
    Stage {
        name: "tls",
        what: "every hop between real servers, asked by and asking impostors; new certificates under load (needs root)",
        waits: true,
        run: |c| containers(c, "ravelin-test-tls"),
    },
    Stage {
        name: "database",
        what: "database servers as containers: kills, power cuts, cut cables, strangers, backups (needs root)",
        waits: false,
        run: |c| containers(c, "ravelin-test-database"),
    },
    Stage {
        name: "rehearsal",
        what: "the whole rack: emulated appliances, servers as containers (emulated too with --soak), the active appliance killed (needs root)",
        waits: false,
        run: rehearsal,
    },
];

fn cargo(context: &Context) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&context.root);
    if context.soak {
        // More cases of every property.
        command.env("PROPTEST_CASES", "20000");
        command.env("RAVELIN_SOAK", "1");
    }
    command
}

fn format(context: &Context) -> Outcome {
    if !has(context, "fmt") {
        return Outcome::Skipped("rustfmt is not installed".to_owned());
    }
    succeed(cargo(context).args(["fmt", "--all", "--check"])).into()
}

fn clippy(context: &Context) -> Outcome {
    if !has(context, "clippy") {
        return Outcome::Skipped("clippy is not installed".to_owned());
    }
    let options = [
        "--quiet",
        "--locked",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    succeed(cargo(context).arg("clippy").args(options)).into()
}

/// Whether cargo has this sub-command.
fn has(context: &Context, command: &str) -> bool {
    let output = cargo(context).args([command, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn test(context: &Context) -> Outcome {
    let mut command = cargo(context);
    command.args(["test", "--locked", "--no-fail-fast", "--workspace"]);
    // The bare-metal boards build only for their own processors.
    for package in boards::bare_metal_packages(&context.root) {
        command.args(["--exclude", &package]);
    }
    for package in OWN_STAGE.iter().filter(|package| exists(context, package)) {
        command.args(["--exclude", package]);
    }
    tests(context, &mut command)
}

/// The tests of a package, one at a time: those in these files, or all.
fn suite(context: &Context, package: &str, files: &[&str]) -> Outcome {
    if !exists(context, package) {
        return Outcome::Failed(format!("there is no package {package}"));
    }
    let mut command = cargo(context);
    command.args(["test", "--locked", "--no-fail-fast", "-p", package]);
    command.args(files.iter().flat_map(|file| ["--test", *file]));
    tests(context, command.args(["--", "--test-threads=1"]))
}

fn exists(context: &Context, package: &str) -> bool {
    imports::packages(&context.root)
        .is_ok_and(|packages| packages.iter().any(|known| known.name == package))
}

fn interop(context: &Context) -> Outcome {
    if !is_root() {
        return Outcome::Skipped(
            "network namespaces with real interfaces need root: run with sudo".to_owned(),
        );
    }
    suite(context, "ravelin-interop", &[]).and(operator(context, "operate"))
}

fn flash(context: &Context) -> Outcome {
    suite(context, "ravelin-test-flash", &["bench"]).and(operator(context, "flash"))
}

/// Tests of the operator's tool that need more than a user of this machine has.
fn operator(context: &Context, file: &str) -> Outcome {
    let mut command = cargo(context);
    command.args(["test", "--locked", "-p", "ravelin"]);
    command.args(["--features", "root", "--test", file]);
    tests(context, &mut command)
}

fn survival(context: &Context) -> Outcome {
    if !is_root() {
        return Outcome::Skipped(
            "clients and servers in network namespaces need root: run with sudo".to_owned(),
        );
    }
    suite(context, "ravelin-survival", &[])
}

fn differential(context: &Context) -> Outcome {
    if !is_root() {
        return Outcome::Skipped(
            "the kernel's router needs a network namespace: run with sudo".to_owned(),
        );
    }
    suite(context, "ravelin-differential", &[])
}

fn containers(context: &Context, package: &str) -> Outcome {
    if !is_root() {
        return Outcome::Skipped("servers as containers need root: run with sudo".to_owned());
    }
    suite(context, package, &[])
}

fn deny(context: &Context) -> Outcome {
    if !has(context, "deny") {
        return Outcome::Skipped("cargo-deny is not installed".to_owned());
    }
    let checks = ["--all-features", "check", "bans", "licenses", "sources"];
    succeed(cargo(context).arg("deny").args(checks)).into()
}

fn fuzzing(context: &Context) -> Outcome {
    let runs = if context.soak { 2_000_000 } else { 20_000 };
    match fuzz::smoke(&context.root, runs) {
        Ok(targets) => {
            println!("{runs} inputs each: {}", targets.join(", "));
            Outcome::Passed
        }
        Err(why) => Outcome::Failed(why),
    }
}

/// The whole product, in the shape that users run.
fn rehearsal(context: &Context) -> Outcome {
    if !context.soak && !is_root() {
        return Outcome::Skipped("servers as containers need root: run with sudo".to_owned());
    }
    // None: as the site file has it.
    let mut rehearsals = vec![("foobar", "kill-active", None)];
    if context.soak {
        let others = [
            "steady",
            "kill-active",
            "restart-active",
            "cut-wan",
            "cut-lan",
            "stop-haproxy",
        ];
        let boards = build::emulated_boards(&context.root);
        let on_all = |name| (boards.iter()).map(move |board| ("foobar", name, Some(board.clone())));
        rehearsals = others.into_iter().flat_map(on_all).collect();
        rehearsals.push(("dualstack", "kill-active", None));
    }
    for (site, scenario, board) in rehearsals {
        let mut command = cargo(context);
        command.args(["run", "--quiet", "--locked", "-p", "ravelin"]);
        // Built for the tests already; one more build, as users have it, takes minutes.
        if context.soak {
            command.arg("--release");
        }
        command.arg("--");
        let file = format!("examples/{site}/site.toml");
        command.args(["rehearse", "--site", &file, "--port", "0", "--json"]);
        command.args(["--scenario", scenario]);
        if let Some(board) = &board {
            command.args(["--appliances", board]);
        }
        // Nine emulated servers beside the appliances have not been seen to serve on two processors.
        if !context.soak {
            command.args(["--servers", "light"]);
        }
        if let Err(why) = succeed(&mut command) {
            let board = board.unwrap_or_default();
            return Outcome::Failed(format!("{site}, {scenario} {board}: {why}"));
        }
    }
    Outcome::Passed
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}
