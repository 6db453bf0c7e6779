//! Byte streams for tests.

use embedded_io_async::{ErrorKind, ErrorType, Read, Write};

/// Reads what a script says, in pieces of a given size, and keeps what is written.
pub struct Script {
    pub pieces: std::collections::VecDeque<Vec<u8>>,
    pub written: Vec<u8>,
    pub reads: usize,
}

impl Script {
    pub fn new(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, written: Vec::new(), reads: 0 }
    }

    pub fn whole(bytes: &[u8]) -> Self {
        Self::new([bytes.to_vec()])
    }
}

impl ErrorType for Script {
    type Error = ErrorKind;
}

impl Read for Script {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        assert!(!buffer.is_empty(), "a read of nothing cannot make progress");
        self.reads += 1;
        let Some(piece) = self.pieces.front_mut() else {
            return Ok(0);
        };
        let bytes = piece.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&piece[..bytes]);
        piece.drain(..bytes);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(bytes)
    }
}

impl Write for Script {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// What a [`Tampered`] stream does to the bytes that are read through it.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// The stream ends after so many bytes.
    CutAt(usize),
    /// A bit of the byte at this place is flipped.
    FlipAt(usize, u8),
}

/// A stream that hands out at most `piece_bytes` at a time, with one fault.
pub struct Tampered<S> {
    pub inner: S,
    pub piece_bytes: usize,
    pub fault: Fault,
    pub read_bytes: usize,
}

impl<S> Tampered<S> {
    pub fn new(inner: S, piece_bytes: usize, fault: Fault) -> Self {
        Self { inner, piece_bytes, fault, read_bytes: 0 }
    }
}

impl<S: ErrorType> ErrorType for Tampered<S> {
    type Error = S::Error;
}

impl<S: Read> Read for Tampered<S> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, S::Error> {
        let mut wanted_bytes = buffer.len().min(self.piece_bytes);
        if let Fault::CutAt(end) = self.fault {
            wanted_bytes = wanted_bytes.min(end.saturating_sub(self.read_bytes));
            if wanted_bytes == 0 {
                return Ok(0);
            }
        }
        let bytes = self.inner.read(&mut buffer[..wanted_bytes]).await?;
        if let Fault::FlipAt(place, bit) = self.fault
            && (self.read_bytes..self.read_bytes + bytes).contains(&place)
        {
            buffer[place - self.read_bytes] ^= 1 << bit;
        }
        self.read_bytes += bytes;
        Ok(bytes)
    }
}

impl<S: Write> Write for Tampered<S> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, S::Error> {
        // Never all at once, so that callers must count.
        self.inner.write(&bytes[..bytes.len().div_ceil(2)]).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.inner.flush().await
    }
}
