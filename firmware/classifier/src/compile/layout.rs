//! Forests to bytes: the splits of all trees, then the lists.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;

use policy::rule::Rule;
use zerocopy::IntoBytes;

use super::forest::Forest;
use super::tree::{CellId, Cells, Tree};
use crate::linear;
use crate::node::{GOTO, Node, SPLIT};
use crate::tables::{self, Header, NOTHING};

/// Bytes that the tables of these forests need.
pub fn size(forests: [&Forest; 2]) -> usize {
    let trees: usize = forests.iter().map(|forest| forest.trees.len()).sum();
    let nodes: usize = forests.iter().map(|forest| forest.nodes).sum();
    size_of::<Header>() + trees * size_of::<tables::Tree>() + (nodes + 1) * size_of::<Node>()
}

/// Writes the tables.
pub fn write(rules: &[Rule], forests: [&Forest; 2]) -> Vec<u8> {
    let trees: usize = forests.iter().map(|forest| forest.trees.len()).sum();
    let cells = forests.iter().map(|forest| forest.cells.nodes());
    let total = forests.iter().map(|forest| forest.nodes).sum::<usize>() + 1;
    let mut writer = Writer {
        rules,
        nodes: vec![NOTHING; total],
        free: trees as u32,
    };
    let mut starts = Vec::new();
    let mut start = total - 1 - cells.sum::<usize>();
    for forest in forests {
        starts.push(writer.cells(&forest.cells, &mut start));
    }
    let mut roots = Vec::new();
    for (forest, starts) in forests.into_iter().zip(&starts) {
        for (lowest, tree) in &forest.trees {
            let root = roots.len() as u32;
            writer.tree(tree, root, &forest.cells, starts);
            roots.push(tables::Tree {
                root: root.to_le(),
                lowest: u32::from(*lowest).to_le(),
            });
        }
    }
    let header = Header {
        magic: tables::MAGIC,
        rules: (rules.len() as u32).to_le(),
        nodes: (total as u32).to_le(),
        trees: forests.map(|forest| (forest.trees.len() as u16).to_le()),
        worst: forests.map(|forest| forest.worst.to_le()),
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(roots.as_bytes());
    bytes.extend_from_slice(writer.nodes.as_bytes());
    bytes
}

struct Writer<'r> {
    rules: &'r [Rule],
    /// The last one is the leaf that matches nothing.
    nodes: Vec<Node>,
    /// Where the next pair of children goes.
    free: u32,
}

impl Writer<'_> {
    fn put(&mut self, at: u32, node: Node) {
        if let Some(slot) = self.nodes.get_mut(at as usize) {
            *slot = node;
        }
    }

    /// Writes the lists, beginnings before ends; where each cell starts.
    fn cells(&mut self, cells: &Cells, free: &mut usize) -> Vec<u32> {
        let mut starts = vec![0; cells.iter().count()];
        let nothing = self.nodes.len() as u32 - 1;
        let mut at = *free as u32;
        for (id, cell) in cells.iter().rev() {
            if let Some(start) = starts.get_mut(id as usize) {
                *start = at;
            }
            at += cell.tests.len() as u32 + 1;
        }
        *free = at as usize;
        for (id, cell) in cells.iter() {
            let start_of = |id: CellId| starts.get(id as usize).copied();
            let target = cell.next.and_then(start_of).unwrap_or(nothing);
            let mut at = start_of(id).unwrap_or(nothing);
            for test in &cell.tests {
                self.put(at, test.node(target));
                at += 1;
            }
            self.put(at, self.leaf(cell.rule));
        }
        starts
    }

    fn leaf(&self, rule: u16) -> Node {
        let index = usize::from(rule);
        let rule = self.rules.get(index);
        rule.map_or(NOTHING, |rule| {
            tables::leaf_of(linear::match_of(index, rule))
        })
    }

    fn tree(&mut self, tree: &Tree, at: u32, cells: &Cells, starts: &[u32]) {
        match tree {
            Tree::Split {
                dimension,
                value,
                children,
            } => {
                let pair = self.free;
                self.free += 2;
                self.put(at, Node::new(SPLIT, *dimension, 0, pair, *value));
                for (child, at) in children.iter().zip(pair..) {
                    self.tree(child, at, cells, starts);
                }
            }
            Tree::Leaf(None) => self.put(at, NOTHING),
            Tree::Leaf(Some(id)) => {
                let cell = cells.get(*id);
                let node = match cell {
                    Some(cell) if cell.tests.is_empty() => self.leaf(cell.rule),
                    _ => {
                        let start = starts.get(*id as usize).copied().unwrap_or(0);
                        Node::new(GOTO, 0, 0, start, 0)
                    }
                };
                self.put(at, node);
            }
        }
    }
}
