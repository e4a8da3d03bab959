//! `Plan` in, every configuration out: the appliances' [`policy::Config`] and the servers' files.
//! Pure: no files, no clocks, no randomness; the same plan renders to the same bytes.

#![forbid(unsafe_code)]

pub mod appliance;

/// Why a plan cannot be rendered. The numbers are the appliance's limits in `policy`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
}
