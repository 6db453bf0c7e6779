//! Any bytes as a message of the protocol; the first byte says which.

use std::fmt::Debug;

use wire::{CheckIn, Decision, Message, Report};

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (choice, bytes) = crate::choice(data);
    match choice % 3 {
        0 => check::<CheckIn>(bytes),
        1 => check::<Decision>(bytes),
        _ => check::<Report>(bytes),
    }
}

/// What was understood is written in one way, and understood the same.
fn check<T: Message + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = T::from_cbor(bytes) else { return };
    let written = message.to_cbor();
    let again = T::from_cbor(&written).unwrap();
    assert_eq!(again, message);
    assert_eq!(again.to_cbor(), written);
    // Lists cannot be longer than the bytes that say them.
    assert!(written.len() <= 2 * bytes.len() + 64, "{} of {}", written.len(), bytes.len());
}
