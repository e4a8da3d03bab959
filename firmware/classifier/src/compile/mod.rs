//! Rules to tables, on the host.

use alloc::vec::Vec;

use policy::rule::{MAX_RULES, Rule};

use crate::{Aligned, TableError, Tables};

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

fn pairs(found: &[Vec<Forest>; 2]) -> impl Iterator<Item = [&Forest; 2]> {
    let [v4, v6] = found;
    v4.iter()
        .flat_map(move |v4| v6.iter().map(move |v6| [v4, v6]))
}

/// The pair with the lowest worst cases that fits; of equal ones the smaller.
fn best(found: &[Vec<Forest>; 2], room: usize) -> Option<[&Forest; 2]> {
    let fits = pairs(found).filter(|pair| layout::size(*pair) <= room);
    fits.min_by_key(|pair| {
        let [v4, v6] = pair.map(|forest| forest.worst);
        (v4 + v6, layout::size(*pair))
    })
}

const NODE: usize = size_of::<crate::node::Node>();
/// Most boxes of one IP version.
const MAX_PIECES: usize = 65_536;
