//! Where keys come from.

use core::sync::atomic::{AtomicU32, Ordering};

use rustls::crypto::{GetRandomFailed, SecureRandom};
use sha2::{Digest, Sha256};

/// Hashes of a seed and a counter. Rustls wants one source for the whole program, so the seed is a static.
#[derive(Debug)]
pub struct Random;

static SEED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Sets the seed, once: keys come again if it comes again. The appliance's own is 64 bits, which is enough for checks: they send nothing that is secret.
pub fn seed(seed: u64) {
    SEED[0].store((seed >> 32) as u32, Ordering::Relaxed);
    SEED[1].store(seed as u32, Ordering::Relaxed);
    COUNTER.store(0, Ordering::Relaxed);
}

impl SecureRandom for Random {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        for chunk in buffer.chunks_mut(32) {
            let mut hash = Sha256::new();
            for word in &SEED {
                hash.update(word.load(Ordering::Relaxed).to_be_bytes());
            }
            hash.update(COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            let block = hash.finalize();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}
