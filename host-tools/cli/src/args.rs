//! What can be typed.

use std::{net::IpAddr, num::NonZero, path::PathBuf};

use board_linux::PortSpec;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use rehearse::Scenario;
use site::plan::Role;

/// One site file to a working, failing-over website: appliances' firmware, servers' images, rehearsal.
#[derive(Debug, Parser)]
#[command(name = "ravelin", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Site file [default: ./site.toml, or the reference site inside the repository].
    #[arg(long, global = true, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 the answer is no, 2 wrong input, 3 machine or device trouble.";

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented site file to start from.
    New(New),
    /// Turn the configuration of a keepalived, or of both of a pair, into a site file to go on with.
    Import(Import),
    /// Write the configuration of other software that takes part in the site.
    #[command(subcommand)]
    Export(Export),
    /// Check the site file: every problem with its place, and proof that its flows get through and nothing else.
    Check(Check),
    /// Follow one packet through the site: what each machine does with it, and which rule says so.
    Trace(Trace),
    /// Show what follows from the site file: addresses, cables, rules, images.
    Plan(Json),
    /// Build firmware for the appliances and disk images for the servers; what has not changed is left alone.
    Build(Build),
    /// Choose the Debian packages of the images, and lock their versions and hashes beside the site file.
    Lock(Lock),
    /// Make one file of all that a build fetches and compiles; `build --bundle` needs no network.
    Bundle(Bundle),
    /// Show what the cache has, or make room.
    #[command(subcommand)]
    Cache(Cache),
    /// Show the site's certificates, or replace them.
    #[command(subcommand)]
    Pki(Pki),
    /// Boot the whole rack in emulation and open a local port into it.
    Rehearse(Rehearse),
    /// Bring the appliances at debug probes up to date: compare, write what differs, read it back, and wait until they live.
    Flash(Flash),
    /// Show what an appliance says to its debug probe.
    Logs(Logs),
    /// Write a program into the one board that is connected, and show what it says: what `cargo run` does in a board's folder.
    RunElf(RunElf),
    /// Make labels for an appliance that was flashed and verified, and for both ends of its cables.
    Label(Label),
    /// Ask the running appliances how they are.
    Status(Status),
    /// Ask the running appliances what happened to them.
    Events(Events),
    /// Let an appliance's peer take over without losing a frame; it stands back until `maintenance NAME off`.
    Handover(Order),
    /// Let an appliance stand back, so that its peer does the work, or end that.
    Maintenance(Maintenance),
    /// Tell an appliance a value that the site file tracks; without news it is bad again.
    Post(Post),
    /// Give running appliances the site's configuration, the Backup first; each goes back by itself if it cannot be reached
    /// afterwards.
    Push(Push),
    /// Renew a pair one by one without losing a connection, by a command of yours that starts an appliance anew.
    Update(Update),
    /// Run an appliance as a process on interfaces of this machine (needs root or CAP_NET_RAW).
    Run(Run),
    /// Measure the numbers that the project shows.
    #[command(subcommand)]
    Bench(Bench),
    /// List what this machine lacks, and the commands that mend it.
    Doctor(Json),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum Pki {
    /// List them: whose they are, who signed them, until when they are good.
    Show(Json),
    /// Make new keys and certificates; without names and tiers those of all servers and the site.
    Rotate(Rotate),
    /// Give running servers the certificates that they should have, without a restart; without names, all servers.
    Deploy(Deploy),
}

/// Options of `pki deploy`.
#[derive(Debug, Args)]
pub struct Deploy {
    /// Servers, one after another.
    pub names: Vec<String>,
    /// Where a server is reached, if not at its own address.
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = reached)]
    pub at: Vec<(String, std::net::SocketAddr)>,
}

/// Options of `pki rotate`.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Servers, or the site's domain.
    pub names: Vec<String>,
    /// All servers of a role.
    #[arg(long = "tier", value_name = "ROLE", value_parser = crate::pki::tier)]
    pub tiers: Vec<Role>,
    /// New authorities of the tiers (all, without --tier) as well; needs the root's key.
    #[arg(long, conflicts_with = "names")]
    pub intermediates: bool,
    /// A new root; needs the old one's key.
    #[arg(long, conflicts_with_all = ["names", "tiers"])]
    pub root: bool,
    /// End the trust in former authorities; every machine must have been brought up to date since the rotation.
    #[arg(long, conflicts_with_all = ["names", "tiers", "intermediates", "root"])]
    pub retire: bool,
    /// Give them to the servers that run, as `ravelin pki deploy` does.
    #[arg(long)]
    pub deploy: bool,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// What users notice when the Active fails, is cut off, stops or hands over; keepalived and conntrackd beside us.
    Failover(BenchFailover),
    /// Instructions per packet on the Cortex-M7, the size of each firmware image, and this machine's processor beside peers.
    Packet(Json),
    /// Take every path through a node once: what `bench packet` runs under valgrind.
    #[command(hide = true)]
    Treadmill {
        /// The node's policy, encoded.
        blob: PathBuf,
    },
    /// Seconds to flash one emulated board and ten at once, to find nothing to do, and what one line of the site file costs.
    Flash(Json),
    /// Time to build all images from nothing, after a change, and with nothing changed, their sizes, and how each role boots;
    /// mkosi beside us.
    Build(BenchBuild),
}

/// Options of `bench build`.
#[derive(Debug, Args)]
pub struct BenchBuild {
    /// Leave out how long each role takes to boot in emulation, and with how little memory.
    #[arg(long)]
    pub without_boots: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `bench failover`.
#[derive(Debug, Args)]
pub struct BenchFailover {
    /// How often each thing happens to each contender.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: u16,
    /// Leave out the emulated boards, whose firmware has to be built.
    #[arg(long)]
    pub without_boards: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `new`.
#[derive(Debug, Args)]
pub struct New {
    /// Name of the site: lower-case letters, digits, hyphens. A directory of this name is made.
    pub name: String,
    /// DNS name that users type [default: www.NAME.com].
    #[arg(long)]
    pub domain: Option<String>,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// One machine's keepalived.conf, and the other one's.
    #[arg(required = true, num_args = 1..=2, value_name = "KEEPALIVED.CONF")]
    pub files: Vec<PathBuf>,
    /// What lines that begin with @ are compared with (keepalived's own option); twice for two machines, also if they share
    /// one file.
    #[arg(long = "config-id", value_name = "NAME")]
    pub ids: Vec<String>,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// What can be exported.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// The keepalived.conf of a Debian machine in the place of an appliance.
    Keepalived(ExportKeepalived),
}

/// Options of `export keepalived`.
#[derive(Debug, Args)]
pub struct ExportKeepalived {
    /// The appliance that it stands in for.
    pub name: String,
    /// A port of the machine: `wan=eno1`, `lan=eno2`; VLANs on it are called `eno2.21` [default: eth0 and eth1].
    #[arg(long = "port", value_name = "NAME=INTERFACE", value_parser = named_interface)]
    pub ports: Vec<(Side, String)>,
    /// Write nothing; compare with the configuration that the machine has.
    #[arg(long, value_name = "KEEPALIVED.CONF")]
    pub check: Option<PathBuf>,
    /// What lines that begin with @ in that file are compared with.
    #[arg(long = "config-id", value_name = "NAME", requires = "check")]
    pub id: Option<String>,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

fn named_interface(text: &str) -> Result<(Side, String), String> {
    match text.split_once('=') {
        Some(("wan", name)) => Ok((Side::Wan, name.to_owned())),
        Some(("lan", name)) => Ok((Side::Lan, name.to_owned())),
        Some((other, _)) => Err(format!("no port is called `{other}`: use wan or lan")),
        None => Err("write NAME=INTERFACE, such as wan=eth0".to_owned()),
    }
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Show who reaches whom.
    #[arg(long)]
    pub matrix: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// The packet: `tcp 198.51.100.7:40000 -> 203.0.113.10:443`, `udp [2001:db8::7]:53 -> [2001:db8::8]:53`, `ping lb1 ->
    /// web1`; after it `flags ack`, `ttl 1`, `type 13`.
    pub packet: String,
    /// Who sends it: internet or a machine [default: whoever has its source address].
    #[arg(long, value_name = "COMPONENT")]
    pub from: Option<String>,
    /// The appliance that is Active [default: the one of the highest priority].
    #[arg(long, value_name = "NAME")]
    pub appliance: Option<String>,
    /// The packet belongs to a flow that was opened before, by its sender or its receiver.
    #[arg(long, conflicts_with = "taken_over")]
    pub established: bool,
    /// These servers do not answer.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    pub down: Vec<String>,
    /// These servers keep their flows and get no new ones.
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    pub drained: Vec<String>,
    /// Its sender has opened so many other flows just before.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=i64::from(prove::MOST_BEFORE)))]
    pub after: u16,
    /// The appliance became Active within the last minute, and knows no flow.
    #[arg(long)]
    pub taken_over: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this appliance.
    pub appliance: Option<String>,
    /// Where it answers [default: its own addresses of the site file].
    #[arg(long, value_name = "ADDRESS", requires = "appliance")]
    pub address: Option<IpAddr>,
    /// Machine-readable output, in the names of RFC 8347.
    #[arg(long)]
    pub json: bool,
}

/// Options of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Only these appliances.
    #[arg(value_name = "NAME")]
    pub appliances: Vec<String>,
    /// Go on with what happens from now on, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// Where it answers [default: its own addresses of the site file].
    #[arg(long, value_name = "ADDRESS", requires = "appliances")]
    pub address: Option<IpAddr>,
    /// Machine-readable output, one event a line, in the names of RFC 8347.
    #[arg(long)]
    pub json: bool,
}

/// Options of orders to an appliance.
#[derive(Debug, Args)]
pub struct Order {
    /// The appliance.
    pub appliance: String,
    /// Where it answers [default: its own addresses of the site file].
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `maintenance`.
#[derive(Debug, Args)]
pub struct Maintenance {
    /// Which appliance.
    #[command(flatten)]
    pub order: Order,
    /// Whether it stands back.
    pub switch: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// Options of `flash`.
#[derive(Debug, Args)]
pub struct Flash {
    /// An appliance that is meant [default: all of the site, as many as are connected].
    #[arg(long = "appliance", value_name = "NAME")]
    pub appliances: Vec<String>,
    /// A probe that is meant, by VID:PID:SERIAL or USB port [default: all]. With --appliance: the appliance that is behind it, one
    /// of each for every device, in the same order.
    #[arg(long = "probe", value_name = "PROBE")]
    pub probes: Vec<String>,
    /// Devices at once [default: all].
    #[arg(long, value_name = "N")]
    pub jobs: Option<u16>,
    /// Only compare; exit code 1 if something differs.
    #[arg(long)]
    pub check: bool,
    /// Do all of it at emulated boards; for a board that no emulator has, all but the writing.
    #[arg(long, conflicts_with = "probes")]
    pub dry_run: bool,
    /// Erase everything in the flash first, which also unlocks a locked chip.
    #[arg(long, conflicts_with = "check")]
    pub erase_all: bool,
    /// Make a new device key, even if the device has a good one.
    #[arg(long, conflicts_with = "check")]
    pub rotate: bool,
    /// Leave out what the journal says was done with the same firmware and configuration.
    #[arg(long)]
    pub resume: bool,
    /// Another board than the site file names.
    #[arg(long, value_name = "BOARD")]
    pub board: Option<String>,
    /// List the debug probes that are connected, and do nothing else.
    #[arg(long)]
    pub list: bool,
    /// One JSON object a line for each thing that happens.
    #[arg(long)]
    pub json: bool,
}

/// Options of `run-elf`.
#[derive(Debug, Args)]
pub struct RunElf {
    /// The program [default: the board's appliance, built first].
    #[arg(value_name = "ELF")]
    pub elf: Option<PathBuf>,
    /// The board, a folder under boards/.
    #[arg(long, value_name = "BOARD")]
    pub board: String,
    /// Its probe, by VID:PID:SERIAL or USB port [default: the one that is connected].
    #[arg(long, value_name = "PROBE", env = "RAVELIN_PROBE")]
    pub probe: Option<String>,
    /// End after so many seconds [default: at Ctrl-C].
    #[arg(long, value_name = "N", env = "RAVELIN_SECONDS")]
    pub seconds: Option<u32>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// How labels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelFormat {
    /// A picture that prints in millimetres.
    Svg,
    /// A document with a page for each label.
    Pdf,
    /// For label printers.
    Zpl,
}

/// Options of `label`.
#[derive(Debug, Args)]
pub struct Label {
    /// The appliance.
    #[arg(value_name = "NAME")]
    pub appliance: String,
    /// A picture, a document, or for a label printer.
    #[arg(long, value_enum, default_value_t = LabelFormat::Svg)]
    pub format: LabelFormat,
    /// Into this file [default: stdout].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Another board than the site file names.
    #[arg(long, value_name = "BOARD")]
    pub board: Option<String>,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The appliance.
    #[arg(value_name = "NAME")]
    pub appliance: String,
    /// Its probe, by VID:PID:SERIAL or USB port [default: the one whose device says that it is this appliance].
    #[arg(long, value_name = "PROBE")]
    pub probe: Option<String>,
    /// Another board than the site file names.
    #[arg(long, value_name = "BOARD")]
    pub board: Option<String>,
    /// End after so many seconds [default: at Ctrl-C].
    #[arg(long, value_name = "N")]
    pub seconds: Option<u32>,
    /// Instead: how its last failure since power came on came about. Exit code 1 if it had none.
    #[arg(long, conflicts_with = "seconds")]
    pub last_crash: bool,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Options of `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Which appliances [default: all].
    #[arg(value_name = "NAME")]
    pub appliances: Vec<String>,
    /// Where the one appliance answers [default: its own addresses of the site file].
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// How long the new configuration runs before the old one comes back, if nobody confirms it.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = seconds)]
    pub confirm_within: u16,
    /// Leave it to you to confirm, with `push --confirm`.
    #[arg(long)]
    pub no_confirm: bool,
    /// Confirm what runs, and do nothing else.
    #[arg(long, conflicts_with_all = ["no_confirm", "revert", "dry_run"])]
    pub confirm: bool,
    /// Bring back what ran before a configuration that nobody has confirmed yet, and do nothing else.
    #[arg(long, conflicts_with_all = ["no_confirm", "dry_run"])]
    pub revert: bool,
    /// Compare, and ask the appliances whether they could run it; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Both appliances of the pair.
    #[arg(
        value_name = "NAME",
        required_unless_present = "server",
        conflicts_with = "server"
    )]
    pub appliances: Vec<String>,
    /// What starts an appliance anew, with its name for `{name}`.
    #[arg(long, value_name = "COMMAND", required_unless_present = "server")]
    pub run: Option<String>,
    /// A server, which gets what the site file says now; may be given again. One after another, each only while the others of
    /// its role serve.
    #[arg(long, value_name = "NAME")]
    pub server: Vec<String>,
    /// Where a server is reached, if not at its own address.
    #[arg(long, value_name = "NAME=ADDRESS:PORT", value_parser = reached)]
    pub at: Vec<(String, std::net::SocketAddr)>,
    /// How long it may take to be back.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = seconds)]
    pub within: u16,
    /// Begin with the first one again, even if an update was interrupted.
    #[arg(long)]
    pub anew: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

impl Update {
    /// What starts an appliance anew.
    pub fn command(&self) -> &str {
        self.run.as_deref().unwrap_or_default()
    }
}

fn reached(text: &str) -> Result<(String, std::net::SocketAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("NAME=ADDRESS:PORT is expected")?;
    let address = address
        .parse()
        .map_err(|_| format!("`{address}` is not ADDRESS:PORT"))?;
    Ok((name.to_owned(), address))
}

/// Seconds as people write them: `90`, `90s`, `5m`.
fn seconds(text: &str) -> Result<u16, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds = number
        .parse::<u16>()
        .ok()
        .and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write a time such as 60s or 5m, at most 65535s".to_owned())
}

/// Options of `post`.
#[derive(Debug, Args)]
pub struct Post {
    /// Which appliance.
    #[command(flatten)]
    pub order: Order,
    /// The value's name in the site file's `[[track]]`.
    pub value: String,
    /// How it is.
    pub verdict: Verdict,
    /// Seconds until it is bad without news.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: u16,
}

/// Good or bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not.
    Bad,
}

/// Options of commands that only report.
#[derive(Debug, Args)]
pub struct Json {
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// Only these machines.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Lock today's versions of all packages first, as `ravelin lock --update` does.
    #[arg(long, conflicts_with = "locked")]
    pub refresh: bool,
    /// Where packages come from.
    #[command(flatten)]
    pub packages: Packages,
    /// Build from this bundle, without a network.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["refresh", "mirrors"])]
    pub bundle: Option<PathBuf>,
    /// Build the images once more from nothing, and compare bit for bit; exit code 1 if they differ.
    #[arg(long)]
    pub verify: bool,
    /// Room for the cache.
    #[command(flatten)]
    pub room: Room,
    /// Steps that run at once [default: one for each processor].
    #[arg(long, value_name = "NUMBER")]
    pub jobs: Option<NonZero<usize>>,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Size of the cache.
#[derive(Clone, Debug, Args)]
pub struct Room {
    /// What the cache may grow to, such as 10G; what was not used for longest goes first [default: 20G].
    #[arg(long = "cache-max", env = "RAVELIN_CACHE_MAX", value_name = "SIZE", value_parser = bytes)]
    pub cache_max: Option<u64>,
}

/// `10G`, `500M` or plain bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.to_ascii_uppercase().trim_end_matches('B') {
        number if number.ends_with('K') => (number.trim_end_matches('K').to_owned(), 1_000),
        number if number.ends_with('M') => (number.trim_end_matches('M').to_owned(), 1_000_000),
        number if number.ends_with('G') => (number.trim_end_matches('G').to_owned(), 1_000_000_000),
        number if number.ends_with('T') => {
            (number.trim_end_matches('T').to_owned(), 1_000_000_000_000)
        }
        number => (number.to_owned(), 1),
    };
    let number: u64 = digits
        .trim()
        .parse()
        .map_err(|_| format!("`{text}` is no size: write it like 10G or 500M"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("`{text}` is more than any disk has"))
}

/// Options of `bundle`.
#[derive(Debug, Args)]
pub struct Bundle {
    /// The bundle [default: NAME-bundle.tar here, of the site's name].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only for these machines.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where packages come from.
    #[command(flatten)]
    pub packages: Packages,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// What can be asked of the cache.
#[derive(Debug, Subcommand)]
pub enum Cache {
    /// How much of what it has, and since when it was not used.
    Show(Json),
    /// Remove what was not used for longest, until so much is left.
    Gc {
        /// What is left, such as 10G.
        #[arg(long, env = "RAVELIN_CACHE_MAX", value_name = "SIZE", value_parser = bytes)]
        max: u64,
        /// Machine-readable output.
        #[arg(long)]
        json: bool,
    },
}

/// Where Debian packages come from.
#[derive(Clone, Debug, Args)]
pub struct Packages {
    /// Fail if the lock does not have all packages, instead of adding them to it.
    #[arg(long)]
    pub locked: bool,
    /// A mirror, as in apt's sources.list; may be given again [default: those of this machine].
    #[arg(long = "mirror", value_name = "'deb URI SUITE main'")]
    pub mirrors: Vec<String>,
}

/// Options of `lock`.
#[derive(Debug, Args)]
pub struct Lock {
    /// Choose the versions that the mirror has today, instead of only adding what is missing.
    #[arg(long, conflicts_with = "locked")]
    pub update: bool,
    /// Where packages come from.
    #[command(flatten)]
    pub packages: Packages,
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `rehearse`.
#[derive(Debug, Args)]
pub struct Rehearse {
    /// Carry out a scenario and report: steady, kill-active, restart-active, hand-over, cut-wan, cut-lan, stop-haproxy, kill-each (with --servers light).
    #[arg(long, value_name = "NAME")]
    pub scenario: Option<Scenario>,
    /// Run the appliances on this board (linux: as processes) [default: as the site file says].
    #[arg(long, value_name = "BOARD")]
    pub appliances: Option<String>,
    /// Emulate whole servers, or run their file systems as processes (quick, needs root).
    #[arg(long, value_enum, default_value_t = Servers::Qemu)]
    pub servers: Servers,
    /// Only these servers.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Local port that leads to the site, on 127.0.0.1 and, if the site has IPv6, on [::1]; 0 takes free ones.
    #[arg(long, default_value_t = 8443)]
    pub port: u16,
    /// Requests of the scenario `steady`.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: u64,
    /// Report in JSON.
    #[arg(long, requires = "scenario")]
    pub json: bool,
}

/// How servers are rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Servers {
    /// Their disk images in emulated PCs.
    Qemu,
    /// Their root file systems in containers.
    Light,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The appliance, as the site file calls it.
    #[arg(required_unless_present = "config_blob")]
    pub appliance: Option<String>,
    /// A port: `wan=eth0`, `lan=eth1` (or `trunk=eth0` for both); also `wan=tap:NAME`.
    #[arg(long = "port", value_name = "NAME=INTERFACE", required = true, value_parser = named_port)]
    pub ports: Vec<NamedPort>,
    /// Lock memory and run under SCHED_FIFO: adverts are on time on a busy machine.
    #[arg(long)]
    pub realtime: bool,
    /// Run this compiled configuration instead of one from the site file.
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "appliance")]
    pub config_blob: Option<PathBuf>,
}

/// One `--port`.
#[derive(Clone, Debug)]
pub struct NamedPort {
    /// Side of the appliance.
    pub side: Side,
    /// What it is on this machine.
    pub spec: PortSpec,
}

/// Sides of an appliance as `--port` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the provider.
    Wan,
    /// Towards the rack.
    Lan,
    /// Everything on one cable, tagged.
    Trunk,
}

fn named_port(text: &str) -> Result<NamedPort, String> {
    let (side, spec) = text
        .split_once('=')
        .ok_or("write NAME=INTERFACE, such as wan=eth0")?;
    let side = match side {
        "wan" => Side::Wan,
        "lan" => Side::Lan,
        "trunk" => Side::Trunk,
        other => {
            return Err(format!(
                "no port is called `{other}`: use wan, lan or trunk"
            ));
        }
    };
    Ok(NamedPort {
        side,
        spec: spec.parse().map_err(|error| format!("{error}"))?,
    })
}
