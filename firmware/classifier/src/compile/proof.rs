//! Holds finished tables against the plain evaluation, with packets at the boundaries of every piece.

use alloc::format;

use policy::rule::Rule;

use super::CompileError;
use super::piece::{Family, Piece};
use crate::generate::Random;
use crate::key::TAIL;
use crate::{Addresses, Key, State, Tables, linear};

/// Fails with the first packet about which the tables decide otherwise.
pub fn check(
    rules: &[Rule],
    pieces: [&[Piece]; 2],
    tables: &Tables<'_>,
) -> Result<(), CompileError> {
    let mut random = Random::new(rules.len() as u64);
    let affordable = WORK / (rules.len() + 1);
    for (family, pieces) in [Family::V4, Family::V6].into_iter().zip(pieces) {
        let rounds = affordable.min(ROUNDS_PER_PIECE * (pieces.len() + 1));
        for round in 0..rounds {
            // Every piece has its turn as far as there are rounds for them.
            let turn = if rounds >= pieces.len() {
                round
            } else {
                random.below(pieces.len())
            };
            let piece = pieces.get(turn % pieces.len().max(1));
            let key = boundary(family, piece, &mut random);
            if tables.lookup(&key) != linear::first_match(rules, &key) {
                return Err(CompileError::Differs(format!("{key:?}")));
            }
        }
    }
    Ok(())
}

/// A key with each word at, beside, or inside an end of the piece, or anywhere.
fn boundary(family: Family, piece: Option<&Piece>, random: &mut Random) -> Key {
    let everything = family.everything();
    let mut words = everything.map(|(first, last)| random.between(first, last));
    // Most keys leave the piece in one dimension at most, so that what is behind it decides.
    let leaves = random.below(2 * family.dimensions());
    for (dimension, word) in words.iter_mut().enumerate().take(family.dimensions()) {
        let (first, last) = everything[dimension];
        let Some(piece) = piece else { continue };
        let Some((low, high)) = piece.clip(family, &everything, dimension) else {
            continue;
        };
        *word = match (dimension == leaves, random.below(4)) {
            (false, 0 | 1) => low,
            (false, 2) => high,
            (false, _) => random.between(low, high),
            (true, 0 | 1) => low.saturating_sub(1).max(first),
            (true, 2) => high.saturating_add(1).min(last),
            (true, _) => *word,
        };
    }
    key(family, &words)
}

fn key(family: Family, words: &[u32]) -> Key {
    let four = |start: usize| core::array::from_fn(|index| words[start + index]);
    let addresses = match family {
        Family::V4 => Addresses::V4 {
            source: words[0],
            destination: words[1],
        },
        Family::V6 => Addresses::V6 {
            source: four(0),
            destination: four(4),
        },
    };
    let tail: [u32; TAIL] = core::array::from_fn(|index| words[family.tail() + index]);
    let [source_port, destination_port, protocol, from, to, state] = tail;
    Key {
        addresses,
        source_port: source_port as u16,
        destination_port: destination_port as u16,
        protocol: protocol as u8,
        from: from as u8,
        to: to as u8,
        state: if state == 0 {
            State::New
        } else {
            State::Invalid
        },
    }
}

const ROUNDS_PER_PIECE: usize = 16;
/// Comparisons of a packet with a rule that a check may cost.
const WORK: usize = 4_000_000;
