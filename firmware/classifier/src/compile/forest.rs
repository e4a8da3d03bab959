//! One tree if it fits, else several: pieces that are wide in the same fields do not cut each other up.

use alloc::vec;
use alloc::vec::Vec;

use super::piece::{Family, Piece};
use super::tree::{Builder, CellId, Cells, Tree};
use crate::tables::MAX_TREES;

/// The trees of one IP version, and what they cost.
#[derive(Debug)]
pub struct Forest {
    /// Each with its lowest rule, in that order.
    pub trees: Vec<(u16, Tree)>,
    pub cells: Cells,
    /// Number of nodes without the shared leaf that matches nothing.
    pub nodes: usize,
    /// Most nodes that a lookup visits.
    pub worst: u32,
}

/// Forests worth a choice, each of at most `most_nodes`; if `every`, those too that are small and slow.
pub fn candidates(family: Family, pieces: &[Piece], most_nodes: usize, every: bool) -> Vec<Forest> {
    if pieces.is_empty() {
        return vec![build(family, pieces, &[], 1, most_nodes)]
            .into_iter()
            .flatten()
            .collect();
    }
    let mut found: Vec<Forest> = Vec::new();
    for grouping in [Grouping::One, Grouping::Addresses, Grouping::Fields] {
        let groups = groups(family, pieces, grouping);
        if grouping != Grouping::One && groups.len() == 1 {
            continue;
        }
        // A forest is for pieces whose one tree is too large, which shows with the longest lists.
        for short in SHORT {
            match build(family, pieces, &groups, short, most_nodes) {
                Some(forest) => found.push(forest),
                None => break,
            }
        }
        if !every && found.iter().any(|forest| 4 * forest.nodes <= most_nodes) {
            break;
        }
    }
    found
}

fn build(
    family: Family,
    pieces: &[Piece],
    groups: &[Vec<u32>],
    short: usize,
    most_nodes: usize,
) -> Option<Forest> {
    let mut builder = Builder::new(family, pieces, short, most_nodes);
    let mut trees = Vec::new();
    for group in groups {
        let lowest = pieces.get(*group.first()? as usize)?.rule;
        trees.push((lowest, builder.tree(group.clone()).ok()?));
    }
    let worst = trees
        .iter()
        .map(|(_, tree)| cost(tree, &builder.cells))
        .sum();
    Some(Forest {
        nodes: builder.nodes() + trees.len(),
        trees,
        cells: builder.cells,
        worst,
    })
}

/// Most nodes that a walk of this tree visits.
fn cost(tree: &Tree, cells: &Cells) -> u32 {
    match tree {
        Tree::Split { children, .. } => {
            let [below, above] = &**children;
            1 + cost(below, cells).max(cost(above, cells))
        }
        Tree::Leaf(None) => 1,
        Tree::Leaf(Some(id)) => cost_of_leaf(*id, cells),
    }
}

fn cost_of_leaf(id: CellId, cells: &Cells) -> u32 {
    match cells.get(id) {
        Some(cell) if cell.tests.is_empty() => 1,
        _ => 1 + cells.cost(id),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grouping {
    /// All together.
    One,
    /// By whether source and destination are wide.
    Addresses,
    /// And whether both ports are.
    Fields,
}

/// Indices of pieces by group; groups and what is in them in ascending order.
fn groups(family: Family, pieces: &[Piece], grouping: Grouping) -> Vec<Vec<u32>> {
    let mut groups = vec![Vec::new(); MAX_TREES];
    for (index, piece) in (0..).zip(pieces) {
        let wide = |dimension: usize, size: u32| {
            let (low, high) = piece.extent(dimension);
            usize::from(high - low >= size)
        };
        let (source, destination, port) = match family {
            Family::V4 => (wide(0, WIDE), wide(1, WIDE), wide(3, WIDE_PORT)),
            Family::V6 => (wide(1, WIDE), wide(5, WIDE), wide(9, WIDE_PORT)),
        };
        let group = match grouping {
            Grouping::One => 0,
            Grouping::Addresses => source | destination << 1,
            Grouping::Fields => source | destination << 1 | port << 2,
        };
        if let Some(group) = groups.get_mut(group) {
            group.push(index);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups.sort_by_key(|group| group.first().copied());
    groups
}

/// Addresses of a wide field: a /8 and more, of IPv6 a /40 and more.
const WIDE: u32 = 0x00ff_ffff;
/// Ports of a wide field.
const WIDE_PORT: u32 = 0x0fff;
/// Lengths of lists that are tried, the smallest tables first.
const SHORT: [usize; 5] = [16, 8, 4, 2, 1];
