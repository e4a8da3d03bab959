//! `ravelin update --server`: servers that run get what the site file says now.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use build::{Options, Places, ServerImage, operator};
use indicatif::ProgressBar;
use site::{
    Plan,
    plan::{Server, ports},
};
use update::{
    client::{Failure as Unanswered, Release, Remote},
    message::State,
    rollout::{self, Event, Fleet, Stopped, Target},
};

use crate::{
    args,
    build::{images, jobs},
    failure::{Failure, Message},
    lock, pki,
    progress::{Progress, spinner},
    site_file::SiteFile,
    source,
};

/// Builds what the servers are to run, and updates one after another.
pub fn update(site: Option<&Path>, options: &args::Update) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&root)?)?;
    let places = Places::new(&root, &file.path);
    let progress = Progress::new();
    let wanted = Options {
        only: (!options.server.is_empty()).then(|| options.server.clone()),
        jobs: jobs(),
        ..Options::default()
    };
    let (_, images) = images(&places, &plan, wanted, &progress)?;
    drop(progress);

    let targets = targets(&plan, &images);
    let mut rack = Rack {
        remotes: remotes(&places, &plan, &options.at)?,
        releases: images
            .iter()
            .map(|image| (image.server.clone(), image.update()))
            .collect(),
        status: spinner("asking"),
        waiting: None,
    };
    let status = rack.status.clone();
    let rolled = rollout::roll(&targets, &mut rack, |event| tell(&status, &event));
    status.finish_and_clear();
    match rolled {
        Ok(0) => {
            println!("All of these servers run what the site file says; there was nothing to do.");
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(stopped) => {
            let help = match &stopped {
                Stopped::Failure(_) => HERE,
                Stopped::Partner { .. } => {
                    "mend that server first: no two of a role are ever down at once"
                }
                Stopped::FellBack { .. } | Stopped::Silent { .. } => {
                    "its console says more; no other server was touched after it, and the same command goes on from here"
                }
            };
            Err(Failure::no(Message::new(stopped.to_string()).help(help)))
        }
    }
}

/// Gives running servers their certificates, one after another; stops at the first that does not take them.
pub fn renew(
    places: &Places,
    plan: &Plan,
    names: &[String],
    at: &[(String, SocketAddr)],
) -> Result<ExitCode, Failure> {
    let pki = build::pki::open(&places.state, plan).map_err(pki::failure)?;
    let only = (!names.is_empty()).then_some(names);
    let identities = build::identities(places, plan, &pki, only).map_err(lock::failure)?;
    let remotes = remotes(places, plan, at)?;
    for (server, identity) in identities {
        let renewed = remotes[&server].renew(&identity);
        let files = renewed.map_err(|refused| {
            let help = match &refused {
                Unanswered::Refused { .. } => {
                    "`ravelin update --server` gives it all that has changed"
                }
                Unanswered::Unreachable { .. } | Unanswered::Read { .. } => HERE,
            };
            Failure::no(Message::new(refused.to_string()).help(help))
        })?;
        match files {
            0 => println!("{server} had its certificates"),
            _ => println!("{server} has new certificates"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How all servers are reached.
fn remotes(
    places: &Places,
    plan: &Plan,
    at: &[(String, SocketAddr)],
) -> Result<BTreeMap<String, Remote>, Failure> {
    let remote = |server: &Server| {
        let own = SocketAddr::new(server.address.into(), ports::UPDATE);
        let elsewhere = at.iter().find(|(name, _)| *name == server.name);
        let remote = Remote {
            server: server.name.clone(),
            address: elsewhere.map_or(own, |(_, address)| *address),
            papers: operator::to_reach(&places.state, &server.name).map_err(Failure::machine)?,
        };
        Ok((server.name.clone(), remote))
    };
    plan.servers.iter().map(remote).collect()
}

/// The servers that there are images for, in the order of the plan, each with the others of its role.
fn targets(plan: &Plan, images: &[ServerImage]) -> Vec<Target> {
    let servers = plan.servers.iter();
    let wanted = servers.filter(|server| images.iter().any(|image| image.server == server.name));
    let target = |server: &Server| {
        let partners = plan
            .servers
            .iter()
            .filter(|other| other.role == server.role && other.name != server.name);
        Target {
            server: server.name.clone(),
            partners: partners.map(|other| other.name.clone()).collect(),
        }
    };
    wanted.map(target).collect()
}

fn tell(status: &ProgressBar, event: &Event) {
    match event {
        Event::Current(server) => println!("{server} is up to date"),
        Event::Installing(server) => status.set_message(format!("{server} gets its new version")),
        Event::Restarting(server, version) => {
            status.set_message(format!("{server} starts version {version}"));
        }
        Event::Updated(server, version) => println!("{server} serves with version {version}"),
    }
}

/// The servers of the site, over the network.
struct Rack {
    remotes: BTreeMap<String, Remote>,
    releases: BTreeMap<String, Release>,
    status: ProgressBar,
    waiting: Option<(String, Instant)>,
}

impl Rack {
    fn remote(&self, server: &str) -> &Remote {
        &self.remotes[server]
    }
}

impl Fleet for Rack {
    fn state(&mut self, server: &str) -> Result<State, Unanswered> {
        self.remote(server).state()
    }

    fn is_current(&mut self, server: &str, state: &State) -> Result<bool, Unanswered> {
        self.releases[server].is(state)
    }

    fn install(&mut self, server: &str, state: &State) -> Result<u32, Unanswered> {
        self.remote(server).install(&self.releases[server], state)
    }

    fn reboot(&mut self, server: &str) -> Result<(), Unanswered> {
        self.remote(server).reboot()
    }

    fn wait(&mut self, server: &str) -> bool {
        sleep(Duration::from_secs(2));
        match &self.waiting {
            Some((name, since)) if name == server => since.elapsed() < PATIENCE,
            Some(_) | None => {
                self.waiting = Some((server.to_owned(), Instant::now()));
                true
            }
        }
    }
}

const HERE: &str =
    "updates come from the network that the monitor is in: run this on a machine there";
/// Three attempts to boot, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(1800);
