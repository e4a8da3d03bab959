//! Rules to tables, on the host.

use alloc::vec;
use alloc::vec::Vec;

use policy::rule::{MAX_RULES, Rule, RuleError};
use policy::{Config, EncodeError};

use crate::{Aligned, Policy, TableError, Tables};

mod forest;
mod layout;
mod piece;
mod proof;
mod tree;

use forest::Forest;
use piece::Family;

/// Tables, and what is known of them before a packet was seen.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What [`Tables::parse`] takes.
    pub bytes: Vec<u8>,
    /// Boxes that the rules' lists multiply out to, of both IP versions.
    pub pieces: usize,
    /// Trees for IPv4 and for IPv6.
    pub trees: [usize; 2],
    /// Most nodes that one lookup visits, for IPv4 and for IPv6.
    pub worst: [u32; 2],
}

/// Why rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More rules than tables can have.
    #[error("{0} rules, an appliance takes {MAX_RULES}")]
    Rules(usize),
    /// The lists of the rules multiply out to too much.
    #[error(
        "the lists of addresses and ports of {rules} rules multiply out to {pieces} combinations or more, \
         {MAX_PIECES} are possible"
    )]
    Pieces {
        /// Number of rules.
        rules: usize,
        /// Combinations up to the rule that was too much.
        pieces: usize,
    },
    /// The smallest tables are too large.
    #[error("{rules} rules need {need} bytes of tables, there is room for {have}")]
    TooLarge {
        /// Number of rules.
        rules: usize,
        /// Size of the smallest tables found.
        need: usize,
        /// Bytes allowed.
        have: usize,
    },
    /// The tables would be refused: a fault of the compiler.
    #[error("compiled tables are not valid: {0}")]
    Invalid(#[from] TableError),
    /// The tables would decide otherwise than the rules: a fault of the compiler.
    #[error("compiled tables decide about {0} otherwise than the rules")]
    Differs(alloc::string::String),
}

/// Why there is no blob for an appliance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// A rule is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The rules cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The configuration is wrong or too large.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Compiles rules to tables of at most `room` bytes: of those that fit, the ones with the fewest nodes to visit
/// in the worst case. They were compared with the plain evaluation on packets at the rules' boundaries.
///
/// # Errors
/// If the rules are too many, or their tables too large.
pub fn compile(rules: &[Rule], room: usize) -> Result<Compiled, CompileError> {
    if rules.len() > MAX_RULES {
        return Err(CompileError::Rules(rules.len()));
    }
    let pieces = |family| {
        piece::pieces(rules, family, MAX_PIECES).map_err(|pieces| CompileError::Pieces {
            rules: rules.len(),
            pieces,
        })
    };
    let (v4, v6) = (pieces(Family::V4)?, pieces(Family::V6)?);
    let candidates = |nodes, every| {
        [
            forest::candidates(Family::V4, &v4, nodes, every),
            forest::candidates(Family::V6, &v6, nodes, every),
        ]
    };
    let most = crate::node::MAX_NODES - 1;
    let mut found = candidates(most.min(room / NODE), false);
    if best(&found, room).is_none() {
        found = candidates(most, true);
    }
    let Some(best) = best(&found, room) else {
        let need = pairs(&found).map(layout::size).min();
        return Err(CompileError::TooLarge {
            rules: rules.len(),
            need: need.unwrap_or(crate::node::MAX_NODES * NODE),
            have: room,
        });
    };
    let bytes = layout::write(rules, best);
    let copy = Aligned::copy(&bytes);
    let tables = Tables::parse(&copy)?;
    proof::check(rules, [&v4, &v6], &tables)?;
    Ok(Compiled {
        bytes,
        pieces: v4.len() + v6.len(),
        trees: best.map(|forest| forest.trees.len()),
        worst: best.map(|forest| forest.worst),
    })
}

/// Compiles rules and encodes them with the configuration, in at most `room` bytes: what [`crate::load`] takes.
///
/// # Errors
/// If something is wrong, or too large for `room`.
pub fn blob(config: &Config, rules: &[Rule], room: usize) -> Result<Vec<u8>, BlobError> {
    policy::rule::validate(rules, config)?;
    let mut buffer = vec![0; room];
    // The configuration has its size whatever the tables are.
    let used = policy::encode(config, &[], &mut buffer)?.len();
    let compiled = compile(rules, room.saturating_sub(used).saturating_sub(PADDING))?;
    let len = policy::encode(config, &compiled.bytes, &mut buffer)?.len();
    buffer.truncate(len);
    Ok(buffer)
}

/// The policy that [`crate::load`] would give for a blob of these parts, for programs that need no blob. Its
/// tables stay for the rest of the process.
///
/// # Errors
/// If something is wrong.
pub fn policy(config: Config, rules: &[Rule]) -> Result<Policy<'static>, BlobError> {
    config.validate().map_err(EncodeError::from)?;
    policy::rule::validate(rules, &config)?;
    let compiled = compile(rules, policy::MAX_BLOB)?;
    let tables = Aligned::copy(&compiled.bytes).leak();
    let tables = Tables::parse(tables).map_err(CompileError::from)?;
    Ok(Policy { config, tables })
}

fn pairs(found: &[Vec<Forest>; 2]) -> impl Iterator<Item = [&Forest; 2]> {
    let [v4, v6] = found;
    v4.iter()
        .flat_map(move |v4| v6.iter().map(move |v6| [v4, v6]))
}

/// Of the pairs that fit the smallest whose worst case is near the lowest.
fn best(found: &[Vec<Forest>; 2], room: usize) -> Option<[&Forest; 2]> {
    let cost = |pair: &[&Forest; 2]| pair[0].worst + pair[1].worst;
    let fits = || pairs(found).filter(|pair| layout::size(*pair) <= room);
    let lowest = fits().map(|pair| cost(&pair)).min()?;
    fits()
        .filter(|pair| cost(pair) <= lowest + lowest / 10)
        .min_by_key(|pair| layout::size(*pair))
}

const NODE: usize = size_of::<crate::node::Node>();
/// Zeros before the tables, at most.
const PADDING: usize = 3;
/// Most boxes of one IP version.
const MAX_PIECES: usize = 65_536;
