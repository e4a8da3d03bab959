//! The lab's pair as our appliances: their configurations, and the operator who talks to them.

use std::time::Duration;

use manage::{Device, ManageError};
use mgmt::Peer;
use policy::Config;
use policy::rule::Rule;
use site::Boards;

use crate::{Error, GATEWAYS, Lab, OWN};

/// The site file of the pair; `INTERVAL` stands for the advertisement interval.
const SITE: &str = include_str!("site.toml");

/// How the appliances are configured.
#[derive(Clone, Copy, Debug)]
pub struct Appliances<'a> {
    /// Time between two adverts.
    pub interval: Duration,
    /// Whether they talk apart from VRRP.
    pub pair: bool,
    /// What else the site file says.
    pub more: &'a str,
}

impl Appliances<'_> {
    /// The compiled configurations.
    ///
    /// # Errors
    /// If the site is not a good one.
    pub fn blobs(&self) -> Result<[Vec<u8>; 2], Error> {
        let interval = format!("{}ms", self.interval.as_millis());
        let text = SITE.replace("INTERVAL", &interval) + self.more;
        let boards = Boards::new([("linux", 2)]);
        let plan = site::parse("lab.toml", &text, &boards).map_err(|why| wrong(&why))?;
        let blob = |name| {
            let policy = render::appliance::policy(&plan, name);
            let (mut config, rules): (Config, Vec<Rule>) = policy.map_err(|why| wrong(&why))?;
            match &mut config.availability.pair {
                Some(pair) if self.pair => {
                    pair.key = [7; 32];
                    pair.operator = OPERATOR;
                }
                pair => *pair = None,
            }
            classifier::blob(&config, &rules, policy::MAX_BLOB).map_err(|why| wrong(&why))
        };
        let [first, second] = GATEWAYS.map(blob);
        Ok([first?, second?])
    }
}

fn wrong(why: &impl ToString) -> Error {
    Error::Site(why.to_string())
}

impl Lab {
    /// Does something with an appliance as its operator, who sits among the clients. Only those of a pair listen.
    ///
    /// # Errors
    /// If it does not answer, or refuses.
    pub fn operate<T: Send>(
        &self,
        gateway: usize,
        work: impl FnOnce(&mut Device) -> Result<T, ManageError> + Send,
    ) -> Result<T, Error> {
        let address = (OWN[gateway], mgmt::PORT).into();
        let result = self.clients().enter(|| {
            let (mut device, _) = Device::find(&[address], &OPERATOR)?;
            work(&mut device)
        })?;
        Ok(result?)
    }

    /// Whether an appliance's peer is there, and the Backup of the two knows all flows.
    #[must_use]
    pub fn is_in_sync(&self, gateway: usize) -> bool {
        let status = self.operate(gateway, Device::status);
        let peer = status.ok().and_then(|status| status.peer);
        peer.is_some_and(|peer| matches!(peer.peer, Peer::Alive { .. }) && peer.in_sync)
    }
}

/// The operators' secret.
const OPERATOR: [u8; 32] = [8; 32];
