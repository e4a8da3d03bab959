//! defmt over a blocking byte writer, for a board's `global_logger`.

use core::cell::UnsafeCell;

use defmt::Encoder;

/// What a serial port has to offer.
pub trait WriteByte {
    /// Sends one byte; gives up on a part that does not take it.
    fn write_byte(&self, byte: u8);
}

/// The encoder and the state of the one log frame that is being written.
pub struct Channel<W> {
    state: UnsafeCell<State>,
    writer: W,
}

struct State {
    encoder: Encoder,
    open: bool,
}

// SAFETY: boards log from one core with interrupts masked; the fault and watchdog handlers, which
// interrupt nevertheless, never return, and `acquire` starts over for them.
unsafe impl<W: Sync> Sync for Channel<W> {}

impl<W: WriteByte> Channel<W> {
    /// A channel that writes to `writer`.
    pub const fn new(writer: W) -> Self {
        let state = State {
            encoder: Encoder::new(),
            open: false,
        };
        Self {
            state: UnsafeCell::new(state),
            writer,
        }
    }

    /// Begins a log frame. One that a panic interrupted is ended first.
    pub fn acquire(&self) {
        self.with(|state, write| {
            if state.open {
                state.encoder = Encoder::new();
                write(&[0]); // ends the broken frame for the decoder
            }
            state.open = true;
            state.encoder.start_frame(write);
        });
    }

    /// Adds bytes to the frame.
    pub fn write(&self, bytes: &[u8]) {
        self.with(|state, write| state.encoder.write(bytes, write));
    }

    /// Ends the frame.
    pub fn release(&self) {
        self.with(|state, write| {
            state.encoder.end_frame(write);
            state.open = false;
        });
    }

    fn with(&self, act: impl FnOnce(&mut State, &mut dyn FnMut(&[u8]))) {
        // SAFETY: see `Sync` above; `act` does not come back here.
        let state = unsafe { &mut *self.state.get() };
        act(state, &mut |bytes| {
            bytes.iter().for_each(|byte| self.writer.write_byte(*byte))
        });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::sync::Mutex;
    use std::vec::Vec;

    use super::*;

    struct Sink(Mutex<Vec<u8>>);

    impl WriteByte for &Sink {
        fn write_byte(&self, byte: u8) {
            self.0.lock().unwrap().push(byte);
        }
    }

    #[test]
    fn frames_end_with_a_zero_even_after_a_panic_inside_of_one() {
        let sink = Sink(Mutex::new(Vec::new()));
        let channel = Channel::new(&sink);
        let frame = |bytes: &[u8]| {
            channel.acquire();
            channel.write(bytes);
            channel.release();
            core::mem::take(&mut *sink.0.lock().unwrap())
        };
        let alone = frame(b"message");
        assert_eq!(
            alone.iter().rposition(|byte| *byte == 0),
            Some(alone.len() - 1)
        );

        channel.acquire();
        channel.write(b"broken off");
        sink.0.lock().unwrap().clear();
        let after = frame(b"message");
        assert_eq!(after[0], 0, "the broken frame is ended");
        assert!(after.ends_with(&alone), "{after:?} is decoded as {alone:?}");
    }
}
