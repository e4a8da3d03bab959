//! `[db]`: how the database servers share one database, and where its backups go.

use toml::de::DeValue;

use crate::{
    derive,
    error::Problem,
    file::{self, SiteFile},
    flow,
    plan::{Backup, Database, DbMode, Flow, Party, PortRange, Ports, Role, Traffic, ports},
    read::{At, Table, Value, Wrong, number, text},
    service_file::part,
};

/// The table as written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    mode: Option<At<DbMode>>,
    arbiter: Option<At<String>>,
    backup: BackupEntry,
}

#[derive(Default)]
struct BackupEntry {
    every: Option<At<Every>>,
    keep: Option<At<Keep>>,
    to: Option<At<String>>,
}

pub(crate) const DB: [&str; 3] = ["mode", "arbiter", "backup"];
pub(crate) const BACKUP: [&str; 3] = ["every", "keep", "to"];

impl Entry {
    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let backup = part(table, "backup", &BACKUP, backup, problems);
        Self {
            mode: table.optional("mode", problems).flatten(),
            arbiter: table.optional("arbiter", problems).flatten(),
            backup: backup.flatten().unwrap_or_default(),
        }
    }
}

fn backup(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<BackupEntry> {
    Some(BackupEntry {
        every: table.optional("every", problems).flatten(),
        keep: table.optional("keep", problems).flatten(),
        to: table.optional("to", problems).flatten(),
    })
}

impl Value for DbMode {
    const WANTED: &'static str = "\"galera\", \"semisync\" or \"primary\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "galera" => Ok(Self::Galera),
            "semisync" => Ok(Self::Semisync),
            "primary" => Ok(Self::Primary),
            _ => Err(Wrong::Content(
                "not a way to share a database that is known".to_owned(),
            )),
        }
    }
}

/// Seconds between two backups.
struct Every(u32);

impl Value for Every {
    const WANTED: &'static str = "a time from \"10m\" to \"7d\", such as \"6h\" or \"1d\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = |label: &str| Err(Wrong::Content(label.to_owned()));
        let text = text(value)?.trim();
        let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
        let found = units
            .iter()
            .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
        let Some((digits, scale)) = found else {
            return wrong("no unit: m, h or d");
        };
        let Ok(count) = digits.trim().parse::<u32>() else {
            return wrong("not a whole number of m, h or d");
        };
        match count.checked_mul(scale) {
            Some(seconds) if (600..=7 * 86_400).contains(&seconds) => Ok(Self(seconds)),
            _ => wrong("not between 10 minutes and 7 days"),
        }
    }
}

/// How many backups are kept.
struct Keep(u16);

impl Value for Keep {
    const WANTED: &'static str = "a whole number from 1 to 1000";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        u16::try_from(number(value, 1..=1000)?)
            .map(Self)
            .map_err(|_| Wrong::Type)
    }
}

/// Names of the servers of a role, in the order of the file.
fn of_role(file: &SiteFile, role: Role) -> Vec<&(At<String>, file::Server)> {
    (file.servers.entries.iter())
        .filter(|(_, server)| server.role.get_ref() == role.name())
        .collect()
}

fn mode(file: &SiteFile) -> DbMode {
    let written = file.db.mode.as_ref().map(|mode| *mode.get_ref());
    written.unwrap_or(match of_role(file, Role::Db).len() {
        0 | 1 => DbMode::Primary,
        _ => DbMode::Galera,
    })
}

/// Completes the table.
pub(crate) fn database(file: &SiteFile) -> Database {
    let entry = &file.db;
    let watcher = || {
        let monitors = of_role(file, Role::Monitor);
        monitors.first().map(|(name, _)| name.get_ref().clone())
    };
    let named = |name: &Option<At<String>>| {
        let written = name.as_ref().map(|name| name.get_ref().clone());
        written.or_else(watcher)
    };
    let mode = mode(file);
    let votes = of_role(file, Role::Db).len();
    let arbiter =
        (mode == DbMode::Galera && votes.is_multiple_of(2)).then(|| named(&entry.arbiter));
    Database {
        mode,
        arbiter: arbiter.flatten(),
        backup: Backup {
            every: entry.backup.every.as_ref().map_or(DAILY, |e| e.get_ref().0),
            keep: entry
                .backup
                .keep
                .as_ref()
                .map_or(WEEK, |keep| keep.get_ref().0),
            // There is always a monitor server: `check` asks for one.
            to: named(&entry.backup.to).unwrap_or_default(),
        },
    }
}

const DAILY: u32 = 86_400;
const WEEK: u16 = 7;

/// What database servers, their arbiter and the keeper of backups need among themselves.
pub(crate) fn flows(database: &Database) -> Vec<Flow> {
    let tcp = |name: &str, from: &Party, to: &Party, port, why| {
        flow::plain(
            name.to_owned(),
            from.clone(),
            to.clone(),
            Traffic::tcp(port),
            why,
        )
    };
    let (app, db) = (Party::Role(Role::App), Party::Role(Role::Db));
    let mut flows = vec![tcp(
        "app-db-state",
        &app,
        &db,
        ports::DB_STATE,
        "the app's proxy asks which database server may be written to",
    )];
    match database.mode {
        DbMode::Galera => {
            let transfer = Ports {
                source: Vec::new(),
                destination: vec![
                    PortRange::one(ports::DB_SST),
                    PortRange {
                        first: ports::DB_GROUP,
                        last: ports::DB_IST,
                    },
                ],
            };
            flows.push(flow::plain(
                "db-db".to_owned(),
                db.clone(),
                db.clone(),
                Traffic::Tcp(transfer),
                "database servers agree on every transaction, and bring each other up to date",
            ));
            flows.push(tcp(
                "db-db-state",
                &db,
                &db,
                ports::DB_STATE,
                "database servers find out who of them knows most",
            ));
        }
        DbMode::Semisync => {
            flows.push(tcp(
                "db-db",
                &db,
                &db,
                ports::DB,
                "the replica follows the primary",
            ));
            flows.push(tcp(
                "db-db-state",
                &db,
                &db,
                ports::DB_STATE,
                "database servers find out who of them is the primary",
            ));
        }
        DbMode::Primary => {}
    }
    if let Some(arbiter) = &database.arbiter {
        let arbiter = Party::Server(arbiter.clone());
        let why = "the arbiter votes on who goes on when database servers lose each other";
        flows.push(tcp("db-arbiter", &db, &arbiter, ports::DB_GROUP, why));
        flows.push(tcp("arbiter-db", &arbiter, &db, ports::DB_GROUP, why));
        let why = "the arbiter joins only a database that runs";
        flows.push(tcp("db-arbiter-state", &db, &arbiter, ports::DB_STATE, why));
        flows.push(tcp("arbiter-db-state", &arbiter, &db, ports::DB_STATE, why));
    }
    let keeper = Party::Server(database.backup.to.clone());
    flows.push(tcp(
        "db-backup",
        &db,
        &keeper,
        ports::DB_BACKUP,
        "backups of the database leave its servers",
    ));
    flows
}

/// Whether a flow of this name may be derived, in any mode.
pub(crate) fn has_flow(name: &str) -> bool {
    [
        "app-db-state",
        "db-db",
        "db-db-state",
        "db-arbiter",
        "arbiter-db",
        "db-arbiter-state",
        "arbiter-db-state",
        "db-backup",
    ]
    .contains(&name)
}

/// Reports what does not fit the servers.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    let entry = &file.db;
    for (key, name) in [("arbiter", &entry.arbiter), ("to", &entry.backup.to)] {
        if let Some(name) = name {
            monitor(file, key, name, problems);
        }
    }
    let misspelt = (file.servers.entries.iter())
        .any(|(_, server)| derive::role(server.role.get_ref()).is_none());
    if misspelt || !file.servers.is_complete() {
        return;
    }
    let servers = of_role(file, Role::Db);
    let Some((last, server)) = servers.last() else {
        return;
    };
    let count = servers.len();
    let mode = mode(file);
    let fits = match mode {
        DbMode::Primary => count == 1,
        DbMode::Semisync => count == 2,
        DbMode::Galera => count == 2 || !count.is_multiple_of(2) && count >= 3,
    };
    if !fits {
        let (wants, help) = match mode {
            DbMode::Primary => (
                "one server",
                "keep one server of role db, or write mode = \"galera\" for several",
            ),
            DbMode::Semisync => (
                "two servers",
                "give two servers the role db: a primary and a replica",
            ),
            DbMode::Galera => (
                "two servers and an arbiter, or three, five … servers",
                "use two servers of role db, or an odd number: with an even one, a cut through the middle would stop both halves",
            ),
        };
        let problem = Problem::new(
            "site::database_servers",
            format!(
                "{count} database {} cannot share a database by \"{}\"",
                if count == 1 { "server" } else { "servers" },
                mode.name()
            ),
        )
        .at(
            server.role.span(),
            format!("`{}` is the last of {count}", last.get_ref()),
        );
        let problem = match &entry.mode {
            Some(mode) => problem.at(mode.span(), format!("takes {wants}")),
            None => problem,
        };
        problems.push(problem.help(help));
    }
    if let Some(arbiter) = &entry.arbiter
        && (mode != DbMode::Galera || !count.is_multiple_of(2))
    {
        let label = match mode {
            DbMode::Galera => "would make the number of votes even",
            DbMode::Semisync | DbMode::Primary => "nobody votes in this mode",
        };
        problems.push(
            Problem::new("site::needless_arbiter", "this database needs no arbiter")
                .at(arbiter.span(), label)
                .help(
                    "remove `arbiter`: it is the third vote of two servers with mode = \"galera\"",
                ),
        );
    }
}

/// Arbiter and keeper of backups are programs of the monitor's image.
fn monitor(file: &SiteFile, key: &str, name: &At<String>, problems: &mut Vec<Problem>) {
    let monitors: Vec<&str> = (of_role(file, Role::Monitor).iter())
        .map(|(name, _)| name.get_ref().as_str())
        .collect();
    if monitors.contains(&name.get_ref().as_str()) {
        return;
    }
    let server = file.servers.get(name.get_ref());
    let label = match server {
        Some(server) if server.role.get_ref() == Role::Db.name() => {
            "a database server must not depend on itself for this"
        }
        Some(_) => "only servers of role monitor can do this",
        None => "there is no such server",
    };
    problems.push(
        Problem::new(
            "site::database_helper",
            format!("`{key}` of the database names no monitor server"),
        )
        .at(name.span(), label)
        .suggest(name.get_ref(), monitors.into_iter()),
    );
}
