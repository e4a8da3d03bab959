//! Pieces to one binary tree, after the manner of HyperSplit (Qi et al., INFOCOM 2009): every split is one
//! comparison of one word, placed where the fewest pieces are on both sides.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::piece::{Family, Piece, Region};
use crate::node::{AT_LEAST, AT_MOST, Node, PREFIX, RANGE, SET};
use crate::tables::MAX_DEPTH;

/// A tree, or what is below one of its splits.
#[derive(Debug)]
pub enum Tree {
    /// At most the value to the first, above to the second.
    Split {
        dimension: usize,
        value: u32,
        children: Box<[Tree; 2]>,
    },
    /// A list of pieces; `None` if nothing matches.
    Leaf(Option<CellId>),
}

/// Index into [`Cells`].
pub type CellId = u32;

/// One piece of a list, in a region: what is left to test, the rule, and where to go on if a test fails.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub tests: Vec<Test>,
    pub rule: u16,
    pub next: Option<CellId>,
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    operation: u32,
    dimension: usize,
    shift: u32,
    value: u32,
}

impl Test {
    /// The node that goes on at `target` if the test fails.
    pub fn node(self, target: u32) -> Node {
        Node::new(
            self.operation,
            self.dimension,
            self.shift,
            target,
            self.value,
        )
    }
}

/// All lists of a forest; lists that end alike share their ends.
#[derive(Debug, Default)]
pub struct Cells {
    cells: Vec<Cell>,
    /// Nodes that the longest walk from a cell visits.
    costs: Vec<u32>,
    known: BTreeMap<Cell, CellId>,
    nodes: usize,
}

impl Cells {
    /// In the order they were made: ends of lists before their beginnings.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (CellId, &Cell)> {
        (0..self.cells.len() as CellId).zip(&self.cells)
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    pub fn get(&self, id: CellId) -> Option<&Cell> {
        self.cells.get(id as usize)
    }

    /// Most nodes that a walk from here visits.
    pub fn cost(&self, id: CellId) -> u32 {
        self.costs.get(id as usize).copied().unwrap_or(0)
    }

    fn insert(&mut self, cell: Cell) -> CellId {
        if let Some(id) = self.known.get(&cell) {
            return *id;
        }
        let id = self.cells.len() as CellId;
        let tests = cell.tests.len() as u32;
        self.nodes += cell.tests.len() + 1;
        let rest = cell.next.map_or(1, |next| self.cost(next));
        self.costs.push(if tests == 0 { 1 } else { tests + rest });
        self.known.insert(cell.clone(), id);
        self.cells.push(cell);
        id
    }
}

/// Builds the trees of a forest.
#[derive(Debug)]
pub struct Builder<'p> {
    family: Family,
    pieces: &'p [Piece],
    /// A region with so many pieces is not split further.
    short: usize,
    most_nodes: usize,
    pub cells: Cells,
    pub splits: usize,
}

/// There would be more nodes than allowed.
#[derive(Clone, Copy, Debug)]
pub struct TooMany;

impl<'p> Builder<'p> {
    pub fn new(family: Family, pieces: &'p [Piece], short: usize, most_nodes: usize) -> Self {
        Self {
            family,
            pieces,
            short,
            most_nodes,
            cells: Cells::default(),
            splits: 0,
        }
    }

    /// The tree of some pieces, given by their indices in ascending order.
    pub fn tree(&mut self, chosen: Vec<u32>) -> Result<Tree, TooMany> {
        self.build(chosen, &self.family.everything(), 1)
    }

    /// Nodes so far.
    pub fn nodes(&self) -> usize {
        2 * self.splits + self.cells.nodes()
    }

    fn build(&mut self, chosen: Vec<u32>, region: &Region, depth: usize) -> Result<Tree, TooMany> {
        let chosen = self.prune(chosen, region);
        let split = if chosen.len() <= self.short || depth >= MAX_DEPTH {
            None
        } else {
            self.split(&chosen, region)
        };
        let Some((dimension, value)) = split else {
            return self.list(&chosen, region);
        };
        let (mut lower, mut upper) = (*region, *region);
        lower[dimension].1 = value;
        upper[dimension].0 = value + 1;
        let below = self.within(&chosen, &lower, dimension);
        let above = self.within(&chosen, &upper, dimension);
        drop(chosen);
        self.splits += 1;
        if self.nodes() > self.most_nodes {
            return Err(TooMany);
        }
        let children = [
            self.build(below, &lower, depth + 1)?,
            self.build(above, &upper, depth + 1)?,
        ];
        if let [Tree::Leaf(a), Tree::Leaf(b)] = children
            && a == b
        {
            self.splits -= 1;
            return Ok(Tree::Leaf(a));
        }
        Ok(Tree::Split {
            dimension,
            value,
            children: Box::new(children),
        })
    }

    fn piece(&self, index: u32) -> &'p Piece {
        &self.pieces[index as usize]
    }

    /// Those that are in the region, which differs from their own in one dimension.
    fn within(&self, chosen: &[u32], region: &Region, dimension: usize) -> Vec<u32> {
        let inside = |index: &&u32| {
            let piece = self.piece(**index);
            piece.clip(self.family, region, dimension).is_some()
        };
        chosen.iter().filter(inside).copied().collect()
    }

    /// Without pieces that an earlier one hides.
    fn prune(&self, mut chosen: Vec<u32>, region: &Region) -> Vec<u32> {
        let covers = |index: &u32| {
            let piece = self.piece(*index);
            (0..self.family.dimensions())
                .all(|dimension| piece.covers(self.family, region, dimension))
        };
        if let Some(last) = chosen.iter().position(covers) {
            chosen.truncate(last + 1);
        }
        if chosen.len() > FEW {
            return chosen;
        }
        let mut kept: Vec<u32> = Vec::with_capacity(chosen.len());
        for index in chosen {
            let piece = self.piece(index);
            let hidden = kept
                .iter()
                .any(|other| self.piece(*other).shadows(self.family, region, piece));
            if !hidden {
                kept.push(index);
            }
        }
        kept
    }

    /// The dimension and value with the fewest pieces on both sides; `None` if no split parts them.
    fn split(&self, chosen: &[u32], region: &Region) -> Option<(usize, u32)> {
        let mut best: Option<(u64, usize, u32)> = None;
        let (mut lows, mut highs, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for dimension in 0..self.family.dimensions() {
            let (first, last) = region[dimension];
            lows.clear();
            highs.clear();
            values.clear();
            let clips = chosen
                .iter()
                .filter_map(|index| self.piece(*index).clip(self.family, region, dimension));
            for (low, high) in clips {
                lows.push(low);
                highs.push(high);
                // Only the value before a low end and the one at a high end part pieces.
                values.extend((low > first).then(|| low - 1));
                values.extend((high < last).then_some(high));
            }
            values.sort_unstable();
            values.dedup();
            if values.is_empty() {
                continue;
            }
            lows.sort_unstable();
            highs.sort_unstable();
            let (mut begun, mut ended) = (0, 0);
            for &value in &values {
                while lows.get(begun).is_some_and(|low| *low <= value) {
                    begun += 1;
                }
                while highs.get(ended).is_some_and(|high| *high <= value) {
                    ended += 1;
                }
                let (below, above) = (begun as u64, (highs.len() - ended) as u64);
                let score = weight(below) + weight(above);
                if best.is_none_or(|(least, ..)| score < least) {
                    best = Some((score, dimension, value));
                }
            }
        }
        let (score, dimension, value) = best?;
        (score < 2 * weight(chosen.len() as u64)).then_some((dimension, value))
    }

    /// The list of pieces that are left in a region.
    fn list(&mut self, chosen: &[u32], region: &Region) -> Result<Tree, TooMany> {
        let mut next = None;
        for index in chosen.iter().rev() {
            let piece = self.piece(*index);
            let tests = tests(self.family, piece, region);
            next = Some(self.cells.insert(Cell {
                next: next.filter(|_| !tests.is_empty()),
                tests,
                rule: piece.rule,
            }));
        }
        if self.nodes() > self.most_nodes {
            return Err(TooMany);
        }
        Ok(Tree::Leaf(next))
    }
}

/// What so many pieces on one side of a split are worth: their number to the power of 1.25. More would favour
/// halves at the price of pieces on both sides, and so of memory; 1 would not favour halves at all.
fn weight(pieces: u64) -> u64 {
    pieces * (pieces << 32).isqrt().isqrt()
}

/// What tells keys of the piece from other keys of the region, the strictest test first.
fn tests(family: Family, piece: &Piece, region: &Region) -> Vec<Test> {
    let mut tests: Vec<(u64, Test)> = Vec::new();
    for dimension in 0..family.dimensions() {
        if piece.covers(family, region, dimension) {
            continue;
        }
        let Some((low, high)) = piece.clip(family, region, dimension) else {
            continue;
        };
        let (first, last) = region[dimension];
        let part = (u64::from(high - low) + 1) * 1024 / (u64::from(last - first) + 1);
        let mut push = |operation, shift, value| {
            let test = Test {
                operation,
                dimension,
                shift,
                value,
            };
            tests.push((part, test));
        };
        if family.is_set(dimension) {
            push(SET, 0, piece.extent(dimension).0);
            continue;
        }
        let size = high - low;
        let aligned = size & size.wrapping_add(1) == 0 && low & size == 0 && size != u32::MAX;
        if aligned {
            push(PREFIX, size.count_ones(), low);
        } else if low == first {
            push(AT_MOST, 0, high);
        } else if high == last {
            push(AT_LEAST, 0, low);
        } else if last <= 0xffff {
            push(RANGE, 0, low | high << 16);
        } else {
            push(AT_LEAST, 0, low);
            push(AT_MOST, 0, high);
        }
    }
    tests.sort_by_key(|(part, _)| *part);
    tests.into_iter().map(|(_, test)| test).collect()
}

/// Up to so many pieces are compared with each other.
const FEW: usize = 48;
