//! What the suite needs of a device.

use crate::{Cable, Profile};

/// A running device with the tester at the other end of its first port.
pub trait Device: Send {
    /// The tester's end of the cable.
    fn cable(&self) -> &Cable;
    /// Takes the carrier of the first port away, or gives it back.
    fn set_link(&mut self, up: bool);
    /// Asks it to end in good order.
    fn stop(&mut self);
    /// What it has said so far.
    fn log(&self) -> String;
}

/// Where devices come from.
pub trait Bench: Send + Sync {
    /// Starts one.
    fn start(&self, profile: &Profile) -> Box<dyn Device>;
    /// Whether a device can be asked to end in good order.
    fn can_stop(&self) -> bool;
    /// Whether devices are so cheap that every bad advert can be a case of its own.
    fn is_quick(&self) -> bool;
}
