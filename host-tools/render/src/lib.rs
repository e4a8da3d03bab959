//! `Plan` in, every configuration out: the appliances' [`policy::Config`] and the servers' files.
//! Pure: no files, no clocks, no randomness; the same plan renders to the same bytes.

#![forbid(unsafe_code)]

pub mod appliance;
mod availability;
mod firewall;
mod rules;
pub mod server;
mod template;

pub use server::{HostFile, Identity, Material};
use site::Plan;
use site::plan::Network;

/// Why a plan cannot be rendered. The numbers are the appliance's limits in `policy`.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The plan has no such appliance.
    #[error("the site has no appliance named `{0}`")]
    NoSuchAppliance(String),
    /// A part of the plan names a network that is not in it.
    #[error("`{of}` is in network `{network}`, which the plan does not have")]
    NoSuchNetwork {
        /// The machine.
        of: String,
        /// The missing network.
        network: String,
    },
    /// A part of the plan names a server that is not in it.
    #[error("`{of}` needs server `{server}`, which the plan does not have")]
    NoSuchServer {
        /// The service or translation.
        of: String,
        /// The missing server.
        server: String,
    },
    /// A name does not fit the appliance's tables.
    #[error("the name `{name}` has {have} bytes, an appliance has room for {room}")]
    NameTooLong {
        /// The name.
        name: String,
        /// Its length.
        have: usize,
        /// The longest that fits.
        room: usize,
    },
    /// One of the appliance's tables is too small for the site.
    #[error("the site needs {need} {what}, an appliance has room for {room}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many the site needs.
        need: usize,
        /// How many fit.
        room: usize,
    },
    /// The plan asks for something that an appliance would not accept.
    #[error("appliance `{name}` would refuse its configuration: {cause}")]
    Refused {
        /// The appliance.
        name: String,
        /// Why.
        #[source]
        cause: policy::ConfigError,
    },
    /// The server cannot do its work without something that is not there.
    #[error("`{server}` cannot work without {what}")]
    Missing {
        /// The server.
        server: String,
        /// What it lacks.
        what: &'static str,
    },
    /// A password that would need quoting in SQL or in an environment file.
    #[error("the password of the database may have letters and digits only")]
    Password,
    /// A template asks for a value that it is not given: a mistake of ours.
    #[error("a template of this program is wrong")]
    Template(#[from] minijinja::Error),
}

fn network<'a>(plan: &'a Plan, of: &str, name: &str) -> Result<&'a Network, RenderError> {
    (plan.networks.iter())
        .find(|network| network.name == name)
        .ok_or_else(|| RenderError::NoSuchNetwork {
            of: of.to_owned(),
            network: name.to_owned(),
        })
}
