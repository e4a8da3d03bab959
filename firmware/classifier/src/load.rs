//! A whole policy: the configuration and the rules' tables, as they lie in the configuration region.

use policy::{Config, DecodeError, LimitKind};

use crate::{Match, TableError, Tables};

/// Everything one appliance does.
#[derive(Clone, Debug)]
pub struct Policy<'t> {
    /// Legs, services, translations, limits.
    pub config: Config,
    /// The rules for packets without a flow; what none of them accepts is dropped.
    pub tables: Tables<'t>,
}

/// Why a region has no usable policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LoadError {
    /// The region or the configuration in it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The rules behind the configuration.
    #[error("rules: {0}")]
    Tables(#[from] TableError),
    /// A rule's limit is not in the configuration, or is one of the other kind.
    #[error("rule {rule}: there is no such limit {limit}")]
    Limit {
        /// Index of the rule.
        rule: u16,
        /// Index of the limit.
        limit: u8,
    },
}

/// Reads and validates the policy at the front of `region`, which must be aligned to 4.
///
/// # Errors
/// If the region is erased, foreign or damaged, or if something in it contradicts itself.
pub fn load(region: &[u8]) -> Result<Policy<'_>, LoadError> {
    let (config, tables) = policy::decode(region)?;
    let tables = if tables.is_empty() {
        Tables::EMPTY
    } else {
        Tables::parse(tables)?
    };
    for found in tables.verdicts() {
        check_limits(&config, found)?;
    }
    Ok(Policy { config, tables })
}

fn check_limits(config: &Config, found: Match) -> Result<(), LoadError> {
    let kind = |index: u8| {
        config
            .limits
            .get(usize::from(index))
            .map(|limit| limit.kind)
    };
    let rate = |index: &u8| !matches!(kind(*index), Some(LimitKind::Rate { .. }));
    let flows = |index: &u8| !matches!(kind(*index), Some(LimitKind::Flows { .. }));
    let wrong = found.rate.filter(rate).or(found.flows.filter(flows));
    match wrong {
        Some(limit) => Err(LoadError::Limit {
            rule: found.rule,
            limit,
        }),
        None => Ok(()),
    }
}
