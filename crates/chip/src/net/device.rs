//! The cable between the chip and the host's stack, as smoltcp wants to see it.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::MAX_FRAME_BYTES;

/// A full receive window of a chip is 4 frames (lwIP in ESP-IDF: 5760 bytes by default). 64 keep 16 connections busy, in
/// less than 100 kB.
const MAX_WAITING: usize = 64;

/// One end of the cable.
#[derive(Default)]
pub(super) struct Port {
    delivered: Option<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
}

impl Port {
    /// The frame that the stack sees next.
    pub(super) fn deliver(&mut self, frame: &[u8]) {
        self.delivered = Some(frame.to_vec());
    }

    /// The next frame from the stack.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }

    /// Adds a frame behind those from the stack, if there is room.
    pub(super) fn queue(&mut self, frame: Vec<u8>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(frame);
        }
    }

    /// Whether no frame from the stack waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Device for Port {
    type RxToken<'a> = Delivered;
    type TxToken<'a> = Waiting<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Delivered, Waiting<'_>)> {
        let frame = self.delivered.take()?;
        Some((Delivered(frame), Waiting(self)))
    }

    // Without room the stack keeps its data and tries again at the next poll.
    fn transmit(&mut self, _now: Instant) -> Option<Waiting<'_>> {
        (self.waiting.len() < MAX_WAITING).then_some(Waiting(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME_BYTES;
        capabilities
    }
}

/// A frame on its way into the stack.
pub(super) struct Delivered(Vec<u8>);

impl RxToken for Delivered {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame from the stack.
pub(super) struct Waiting<'a>(&'a mut Port);

impl TxToken for Waiting<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.queue(frame);
        result
    }
}
