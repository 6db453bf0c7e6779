//! The buffer for what the server sends.

use alloc::vec::Vec;

use super::{MAX_INCOMING_BYTES, TlsError};

/// Size of the buffer at first, in bytes: one record of 2 KiB as the server sends them, with its header, its tag
/// and some padding, or a short handshake flight.
pub const INITIAL_INCOMING_BYTES: usize = 2560;

const _: () = assert!(INITIAL_INCOMING_BYTES < MAX_INCOMING_BYTES);

/// Bytes that arrived and that rustls still needs. Records of one handshake message are kept until it is whole.
pub(super) struct Incoming {
    buffer: Vec<u8>,
    filled_bytes: usize,
}

impl Incoming {
    pub(super) fn new() -> Result<Self, TlsError> {
        let mut incoming = Self { buffer: Vec::new(), filled_bytes: 0 };
        incoming.grow_to(INITIAL_INCOMING_BYTES)?;
        Ok(incoming)
    }

    /// What has arrived. rustls decrypts in place.
    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.filled_bytes]
    }

    /// Forgets the first `bytes` of what has arrived.
    pub(super) fn discard(&mut self, bytes: usize) {
        let bytes = bytes.min(self.filled_bytes);
        self.buffer.copy_within(bytes..self.filled_bytes, 0);
        self.filled_bytes -= bytes;
    }

    /// Space for what arrives next, never empty. A full buffer grows: rustls has looked at all of it and needs
    /// more.
    pub(super) fn space(&mut self) -> Result<&mut [u8], TlsError> {
        if self.filled_bytes == self.buffer.len() {
            if self.buffer.len() >= MAX_INCOMING_BYTES {
                return Err(TlsError::RecordTooLong);
            }
            self.grow_to((self.buffer.len() * 2).min(MAX_INCOMING_BYTES))?;
        }
        Ok(&mut self.buffer[self.filled_bytes..])
    }

    /// Counts `bytes` of the space as arrived.
    pub(super) fn add(&mut self, bytes: usize) {
        self.filled_bytes = (self.filled_bytes + bytes).min(self.buffer.len());
    }

    /// Gives memory back that only the handshake needed.
    pub(super) fn shrink(&mut self) {
        let bytes = self.filled_bytes.max(INITIAL_INCOMING_BYTES);
        if bytes < self.buffer.len() {
            self.buffer.truncate(bytes);
            self.buffer.shrink_to_fit();
        }
    }

    fn grow_to(&mut self, size_bytes: usize) -> Result<(), TlsError> {
        let more_bytes = size_bytes - self.buffer.len();
        let room = self.buffer.try_reserve_exact(more_bytes);
        room.map_err(|_| TlsError::OutOfMemory { wanted_bytes: more_bytes })?;
        self.buffer.resize(size_bytes, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_grows_to_one_full_record_and_no_further() {
        let mut incoming = Incoming::new().unwrap();
        let mut filled_bytes = 0;
        let error = loop {
            match incoming.space() {
                Ok(space) => {
                    let bytes = space.len();
                    assert!(bytes > 0);
                    filled_bytes += bytes;
                    incoming.add(bytes);
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, TlsError::RecordTooLong));
        assert_eq!(filled_bytes, MAX_INCOMING_BYTES);
        incoming.discard(filled_bytes - 3);
        incoming.shrink();
        assert_eq!((incoming.filled_mut().len(), incoming.buffer.len()), (3, INITIAL_INCOMING_BYTES));
    }

    #[test]
    fn discarding_keeps_the_rest_in_order() {
        let mut incoming = Incoming::new().unwrap();
        incoming.space().unwrap()[..5].copy_from_slice(b"abcde");
        incoming.add(5);
        incoming.discard(2);
        assert_eq!(incoming.filled_mut(), b"cde");
        incoming.discard(99);
        assert_eq!(incoming.filled_mut(), b"");
    }
}
