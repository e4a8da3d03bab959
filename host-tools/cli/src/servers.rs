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
        remotes: BTreeMap::new(),
        releases: images
            .iter()
            .map(|image| (image.server.clone(), image.update()))
            .collect(),
        status: spinner("asking"),
        waiting: None,
    };
    let at: BTreeMap<&str, SocketAddr> = (options.at.iter())
        .map(|(name, address)| (name.as_str(), *address))
        .collect();
    for Server { name, address, .. } in &plan.servers {
        let own = SocketAddr::new((*address).into(), ports::UPDATE);
        let remote = Remote {
            server: name.clone(),
            address: at.get(name.as_str()).copied().unwrap_or(own),
            papers: operator::to_reach(&places.state, name).map_err(Failure::machine)?,
        };
        rack.remotes.insert(name.clone(), remote);
    }
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
                Stopped::Failure(_) => {
                    "updates come from the network that the monitor is in: run this on a machine there"
                }
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

/// Three attempts to boot, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(1800);
