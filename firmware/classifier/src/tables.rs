//! The tables where they lie: checked once, then looked up without a copy.
//!
//! | offset | size | content (little-endian) |
//! |---|---|---|
//! | 0 | 4 | `RVLT` |
//! | 4 | 4 | number of rules |
//! | 8 | 4 | number of nodes |
//! | 12 | 2 + 2 | trees for IPv4, trees for IPv6 |
//! | 16 | 4 + 4 | most nodes that one lookup visits, for IPv4 and IPv6 |
//! | 24 | 8 each | trees, IPv4's first: index of the root, lowest rule in it |
//! | … | 8 each | nodes (`node.rs`) |
//!
//! A tree is `SPLIT` nodes; each points to its two children, which stand side by side. Where it ends there is a
//! `LEAF`, or a `GOTO` to a list: for each piece of a rule its tests, then its leaf; a test that fails goes on at
//! the next piece. Every target is behind its node, so that a lookup ends.

use core::mem::size_of;

use policy::rule::{Action, MAX_RULES, Sharing};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::key::{Addresses, DIMENSIONS_V4, DIMENSIONS_V6, Key, State, words_v4, words_v6};
use crate::node::{
    AT_LEAST, AT_MOST, GOTO, LEAF, MAX_NODES, NO_RULE, Node, PREFIX, RANGE, SET, SPLIT,
};

/// Compiled rules, borrowed from flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables<'t> {
    nodes: &'t [Node],
    v4: &'t [Tree],
    v6: &'t [Tree],
    rules: u16,
    worst: [u32; 2],
}

/// The rule that decides, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Index of the rule in the list that was compiled.
    pub rule: u16,
    /// What happens.
    pub action: Action,
    /// Whether a match becomes an event.
    pub log: bool,
    /// Index of the limit on new flows.
    pub rate: Option<u8>,
    /// Index of the limit on flows at a time.
    pub flows: Option<u8>,
    /// What the other appliance of a pair is told of the flow.
    pub sharing: Sharing,
}

/// Why bytes are no tables. Nodes are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum TableError {
    #[error("tables at an address that is not a multiple of 4")]
    Misaligned,
    #[error("tables of {have} bytes, need {need}")]
    Length { need: usize, have: usize },
    #[error("not tables: they begin with {0:02x?}")]
    Magic([u8; 4]),
    #[error("{0} rules, more than 4096")]
    Rules(u32),
    #[error("{0} nodes, more than 1048576")]
    Nodes(u32),
    #[error("trees for IPv4 and IPv6: {v4} and {v6}, more than 8")]
    Trees { v4: u16, v6: u16 },
    #[error("tree {tree}: its trees are not in the order of their rules")]
    Order { tree: usize },
    #[error("node {node}: it refers to {target}, which is not a later node")]
    Target { node: usize, target: usize },
    #[error("node {node}: operation {operation} does not belong there")]
    Operation { node: usize, operation: u32 },
    #[error("node {node}: dimension {dimension} does not exist")]
    Dimension { node: usize, dimension: usize },
    #[error("node {node}: rule {rule} or its verdict does not exist, or its tree does not have it")]
    Leaf { node: usize, rule: u32 },
    #[error("node {node}: the tree is deeper than 64")]
    Depth { node: usize },
    #[error("node {node}: trees share nodes or lists are too long")]
    Shared { node: usize },
    #[error("a lookup visits {computed} nodes, the header promises {promised}")]
    Worst { computed: u32, promised: u32 },
}

/// Most trees of one IP version.
pub const MAX_TREES: usize = 8;
/// Most levels of a tree.
pub(crate) const MAX_DEPTH: usize = 64;
pub(crate) const MAGIC: [u8; 4] = *b"RVLT";
/// Nodes that the check of tables visits for each node that there is: lists are walked from each reference to them.
const VISITS_PER_NODE: usize = 64;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: [u8; 4],
    pub rules: u32,
    pub nodes: u32,
    pub trees: [u16; 2],
    pub worst: [u32; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Tree {
    pub root: u32,
    pub lowest: u32,
}

impl<'t> Tables<'t> {
    /// Tables without a rule: nothing matches.
    pub const EMPTY: Self = Self {
        nodes: &[],
        v4: &[],
        v6: &[],
        rules: 0,
        worst: [0; 2],
    };

    /// Checks everything that lookups rely on. `bytes` must be aligned to 4 and end with the tables.
    ///
    /// # Errors
    /// If a lookup could leave the tables, run for longer than the header says, or end with a rule that is none.
    pub fn parse(bytes: &'t [u8]) -> Result<Self, TableError> {
        let have = bytes.len();
        if !bytes.as_ptr().cast::<u32>().is_aligned() {
            return Err(TableError::Misaligned);
        }
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| TableError::Length {
            need: size_of::<Header>(),
            have,
        })?;
        if header.magic != MAGIC {
            return Err(TableError::Magic(header.magic));
        }
        let rules = u32::from_le(header.rules);
        let rules_limit = MAX_RULES as u32;
        let count = u32::from_le(header.nodes);
        let [v4, v6] = header.trees.map(u16::from_le);
        if rules > rules_limit {
            return Err(TableError::Rules(rules));
        }
        if count as usize > MAX_NODES {
            return Err(TableError::Nodes(count));
        }
        if usize::from(v4.max(v6)) > MAX_TREES {
            return Err(TableError::Trees { v4, v6 });
        }
        let need = size_of::<Header>()
            + usize::from(v4 + v6) * size_of::<Tree>()
            + count as usize * size_of::<Node>();
        let wrong = TableError::Length { need, have };
        let (v4, rest) =
            <[Tree]>::ref_from_prefix_with_elems(rest, v4.into()).map_err(|_| wrong)?;
        let (v6, rest) =
            <[Tree]>::ref_from_prefix_with_elems(rest, v6.into()).map_err(|_| wrong)?;
        let nodes = <[Node]>::ref_from_bytes_with_elems(rest, count as usize).map_err(|_| wrong)?;
        let tables = Self {
            nodes,
            v4,
            v6,
            rules: rules as u16,
            worst: header.worst.map(u32::from_le),
        };
        tables.check()?;
        Ok(tables)
    }

    /// How many rules were compiled.
    #[must_use]
    pub fn rules(&self) -> u16 {
        self.rules
    }

    /// Most nodes that a lookup visits, for IPv4 and IPv6.
    #[must_use]
    pub fn worst(&self) -> [u32; 2] {
        self.worst
    }

    /// The verdicts of all leaves, with their rules: some rules have several leaves, some none.
    pub fn verdicts(&self) -> impl Iterator<Item = Match> {
        let leaves = self.nodes.iter().copied();
        leaves
            .filter(|node| node.word().operation() == LEAF)
            .filter_map(leaf)
    }

    /// The first rule that matches.
    #[inline]
    #[must_use]
    pub fn lookup(&self, key: &Key) -> Option<Match> {
        match key.addresses {
            Addresses::V4 {
                source,
                destination,
            } => {
                let words = words_v4(source, destination, key.tail());
                leaf(self.best(self.v4, &words))
            }
            Addresses::V6 {
                source,
                destination,
            } => {
                let words = words_v6(source, destination, key.tail());
                leaf(self.best(self.v6, &words))
            }
        }
    }

    /// The leaf with the lowest rule; later trees are skipped when they have only higher ones.
    #[inline]
    fn best<const N: usize>(&self, trees: &[Tree], words: &[u32; N]) -> Node {
        let mut best = NOTHING;
        for tree in trees {
            if u32::from_le(tree.lowest) as usize >= best.word().target() {
                break;
            }
            let found = walk(self.nodes, u32::from_le(tree.root) as usize, words);
            if found.word().target() < best.word().target() {
                best = found;
            }
        }
        best
    }

    /// Whether some rule may match a packet of this state, whatever else it is: where the answer is no, nobody needs
    /// to look. For both IP versions.
    #[must_use]
    pub fn may_match(&self, state: State) -> bool {
        let v4 = || {
            self.v4
                .iter()
                .any(|tree| self.tree_may_match(tree, DIMENSIONS_V4 - 1, state))
        };
        let v6 = || {
            self.v6
                .iter()
                .any(|tree| self.tree_may_match(tree, DIMENSIONS_V6 - 1, state))
        };
        v4() || v6()
    }

    /// The same for one tree, whose keys have the state in this dimension.
    fn tree_may_match(&self, tree: &Tree, dimension: usize, state: State) -> bool {
        let key = state.word();
        // Second children that still have to be looked at.
        let mut waiting = [0_usize; MAX_DEPTH];
        let mut waits = 0;
        let mut next = Some(u32::from_le(tree.root) as usize);
        while let Some(node) = next.take().and_then(|at| self.nodes.get(at)) {
            let word = node.word();
            match word.operation() {
                SPLIT if word.dimension() == dimension => {
                    next = Some(word.target() + usize::from(key > node.value()));
                    continue;
                }
                SPLIT => {
                    // A checked tree is not deeper. Whoever is not sure says yes.
                    let Some(slot) = waiting.get_mut(waits) else {
                        return true;
                    };
                    *slot = word.target() + 1;
                    waits += 1;
                    next = Some(word.target());
                    continue;
                }
                GOTO if self.list_may_match(word.target(), dimension, key) => return true,
                LEAF if leaf(*node).is_some() => return true,
                _ => {}
            }
            if let Some(left) = waits.checked_sub(1) {
                waits = left;
                next = waiting.get(left).copied();
            }
        }
        false
    }

    /// The same for one list: a piece whose tests of the state hold and whose leaf is a match.
    fn list_may_match(&self, start: usize, dimension: usize, key: u32) -> bool {
        let mut at = start;
        while let Some(node) = self.nodes.get(at) {
            let word = node.word();
            let value = node.value();
            let about_state = word.dimension() == dimension;
            let fails = match word.operation() {
                LEAF => match leaf(*node) {
                    Some(_) => return true,
                    None => return false,
                },
                AT_MOST => about_state && key > value,
                AT_LEAST => about_state && key < value,
                SET => about_state && value >> (key & 31) & 1 == 0,
                _ => false,
            };
            at = if fails { word.target() } else { at + 1 };
        }
        false
    }

    fn check(&self) -> Result<(), TableError> {
        let mut visits = self.nodes.len() * VISITS_PER_NODE + VISITS_PER_NODE;
        for (trees, dimensions, promised) in [
            (self.v4, DIMENSIONS_V4, self.worst[0]),
            (self.v6, DIMENSIONS_V6, self.worst[1]),
        ] {
            let mut computed = 0_u32;
            let mut lowest = 0;
            for (index, tree) in trees.iter().enumerate() {
                if u32::from_le(tree.lowest) < lowest {
                    return Err(TableError::Order { tree: index });
                }
                lowest = u32::from_le(tree.lowest);
                let cost = self.check_tree(tree, dimensions, &mut visits)?;
                computed = computed.saturating_add(cost);
            }
            if computed > promised {
                return Err(TableError::Worst { computed, promised });
            }
        }
        Ok(())
    }

    /// The most nodes that a walk of this tree visits.
    fn check_tree(
        &self,
        tree: &Tree,
        dimensions: usize,
        visits: &mut usize,
    ) -> Result<u32, TableError> {
        let lowest = u32::from_le(tree.lowest);
        // Second children that still have to be looked at, each with its depth.
        let mut waiting = [(0_usize, 0_usize); MAX_DEPTH];
        let mut waits = 0;
        let mut worst = 0;
        let mut next = Some((u32::from_le(tree.root) as usize, 1));
        while let Some((at, depth)) = next.take() {
            let node = self.check_node(at, dimensions, lowest, visits)?;
            let (word, behind) = (node.word(), node.word().target() + 1);
            match word.operation() {
                SPLIT => {
                    let slot = waiting.get_mut(waits);
                    let (true, Some(slot)) = (depth < MAX_DEPTH, slot) else {
                        return Err(TableError::Depth { node: at });
                    };
                    self.check_target(at, behind)?;
                    *slot = (behind, depth + 1);
                    waits += 1;
                    next = Some((word.target(), depth + 1));
                    continue;
                }
                GOTO => {
                    let list = self.check_list(word.target(), dimensions, lowest, visits)?;
                    worst = worst.max(depth as u32 + list);
                }
                LEAF => worst = worst.max(depth as u32),
                operation => {
                    return Err(TableError::Operation {
                        node: at,
                        operation,
                    });
                }
            }
            if let Some(left) = waits.checked_sub(1) {
                waits = left;
                next = waiting.get(left).copied();
            }
        }
        Ok(worst)
    }

    /// The most nodes that a walk of this list visits.
    fn check_list(
        &self,
        start: usize,
        dimensions: usize,
        lowest: u32,
        visits: &mut usize,
    ) -> Result<u32, TableError> {
        let (mut at, mut cost) = (start, 0);
        loop {
            let mut target = None;
            loop {
                let node = self.check_node(at, dimensions, lowest, visits)?;
                cost += 1;
                let operation = node.word().operation();
                match operation {
                    LEAF => break,
                    // A piece's tests all go on at the same place, so that a list has one longest walk.
                    AT_MOST | AT_LEAST | PREFIX | RANGE | SET
                        if *target.get_or_insert(node.word().target()) == node.word().target() => {}
                    _ => {
                        return Err(TableError::Operation {
                            node: at,
                            operation,
                        });
                    }
                }
                at += 1;
            }
            match target {
                // The leaf itself is not on the longest walk if there is a way round it.
                Some(target) => {
                    at = target;
                    cost -= 1;
                }
                None => return Ok(cost),
            }
        }
    }

    /// What must hold for a node wherever it stands.
    fn check_node(
        &self,
        at: usize,
        dimensions: usize,
        lowest: u32,
        visits: &mut usize,
    ) -> Result<Node, TableError> {
        *visits = visits
            .checked_sub(1)
            .ok_or(TableError::Shared { node: at })?;
        let node = self.nodes.get(at).copied();
        let node = node.ok_or(TableError::Target {
            node: at,
            target: at,
        })?;
        let word = node.word();
        if word.operation() == LEAF {
            let rule = word.target() as u32;
            let known = match leaf(node) {
                Some(found) => found.rule < self.rules && rule >= lowest,
                None => rule == NO_RULE,
            };
            return if known {
                Ok(node)
            } else {
                Err(TableError::Leaf { node: at, rule })
            };
        }
        self.check_target(at, word.target())?;
        if word.dimension() >= dimensions {
            let dimension = word.dimension();
            return Err(TableError::Dimension {
                node: at,
                dimension,
            });
        }
        Ok(node)
    }

    fn check_target(&self, node: usize, target: usize) -> Result<(), TableError> {
        if target <= node || target >= self.nodes.len() {
            return Err(TableError::Target { node, target });
        }
        Ok(())
    }
}

/// From a root to a leaf. Targets are behind their nodes, so it ends.
#[inline]
fn walk<const N: usize>(nodes: &[Node], root: usize, words: &[u32; N]) -> Node {
    let mut at = root;
    // Two loops: most of the way is splits, and a split has only one way to be.
    let (mut node, mut word);
    loop {
        let Some(&found) = nodes.get(at) else {
            return NOTHING;
        };
        (node, word) = (found, found.word());
        if word.operation() != SPLIT {
            break;
        }
        let key = words[word.dimension() & (N - 1)];
        at = word.target() + usize::from(key > node.value());
    }
    loop {
        let (key, value) = (words[word.dimension() & (N - 1)], node.value());
        let holds = match word.operation() {
            AT_MOST => key <= value,
            AT_LEAST => key >= value,
            PREFIX => (key ^ value) >> word.shift() == 0,
            RANGE => {
                let (low, high) = (value & 0xffff, value >> 16);
                key.wrapping_sub(low) <= high.wrapping_sub(low)
            }
            SET => value >> (key & 31) & 1 != 0,
            GOTO => false,
            _ => return node,
        };
        at = if holds { at + 1 } else { word.target() };
        let Some(&found) = nodes.get(at) else {
            return NOTHING;
        };
        (node, word) = (found, found.word());
    }
}

/// What a leaf says; `None` if it is no match.
#[inline]
fn leaf(node: Node) -> Option<Match> {
    let (rule, verdict) = (node.word().target(), node.value());
    let action = match verdict & 3 {
        0 => Action::Accept,
        1 => Action::Drop,
        2 => Action::Reject,
        _ => return None,
    };
    let limit = |shift: u32| match (verdict >> shift) as u8 {
        NO_LIMIT => None,
        limit => Some(limit),
    };
    let sharing = match verdict >> SHARING & 3 {
        0 => Sharing::Usual,
        1 => Sharing::Never,
        2 => Sharing::Deferred,
        _ => return None,
    };
    if rule >= MAX_RULES {
        return None;
    }
    Some(Match {
        rule: rule as u16,
        action,
        log: verdict & LOG != 0,
        rate: limit(8),
        flows: limit(16),
        sharing,
    })
}

/// The leaf of a rule: action in the lowest two bits of the value, then whether to log, then what the peer is told; the
/// limits in the second and third byte.
#[cfg(feature = "compile")]
pub(crate) fn leaf_of(found: Match) -> Node {
    let action = match found.action {
        Action::Accept => 0,
        Action::Drop => 1,
        Action::Reject => 2,
    };
    let limit = |index: Option<u8>, shift: u32| u32::from(index.unwrap_or(NO_LIMIT)) << shift;
    let log = if found.log { LOG } else { 0 };
    let sharing = match found.sharing {
        Sharing::Usual => 0,
        Sharing::Never => 1,
        Sharing::Deferred => 2,
    };
    let value = action | log | sharing << SHARING | limit(found.rate, 8) | limit(found.flows, 16);
    Node::new(LEAF, 0, 0, found.rule.into(), value)
}

const LOG: u32 = 4;
/// Place of two bits.
const SHARING: u32 = 3;
const NO_LIMIT: u8 = 0xff;
/// The leaf that is no match.
pub(crate) const NOTHING: Node = Node::nothing();
