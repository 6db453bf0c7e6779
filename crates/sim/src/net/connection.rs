//! A connection of a virtual device, over a path that can be bad.
//!
//! What a path does to bytes on their way is done here, at the device's end: the same for a connection over the host's
//! sockets and for one within the process.

use std::future::pending;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use embedded_io_async::{ErrorType, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use super::{ConnectionBytes, NetworkCounters};
use crate::power::Session;
use crate::proxy::{Direction, Fault, Portion, Strike, next_portion};

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    InProcess(DuplexStream),
    /// The path has closed it.
    Closed,
}

/// A connection of a virtual device.
#[derive(Debug)]
pub struct SimConnection {
    stream: Stream,
    fault: Option<Fault>,
    received_bytes: u64,
    sent_bytes: u64,
    /// Bytes that passed once and pass again.
    again: Vec<u8>,
    session: Session,
    counters: NetworkCounters,
}

impl SimConnection {
    pub(super) fn new(
        stream: Stream,
        fault: Option<Fault>,
        session: Session,
        counters: NetworkCounters,
    ) -> Self {
        Self { stream, fault, received_bytes: 0, sent_bytes: 0, again: Vec::new(), session, counters }
    }

    fn portion(&self, direction: Direction) -> Portion {
        let passed_bytes = match direction {
            Direction::ToServer => self.sent_bytes,
            Direction::ToDevice => self.received_bytes,
        };
        next_portion(self.fault.filter(|fault| fault.direction == direction), passed_bytes)
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.again.is_empty() {
            let count = self.again.len().min(buffer.len());
            self.again.drain(..count).zip(buffer).for_each(|(from, to)| *to = from);
            return Ok(count);
        }
        let count = match self.portion(Direction::ToDevice) {
            Portion::Whole { limit_bytes } => {
                let limit = limit_bytes.min(buffer.len());
                self.stream.read(&mut buffer[..limit]).await?
            }
            Portion::OneByte { mask, delay } => {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let count = self.stream.read(&mut buffer[..1]).await?;
                buffer[..count].iter_mut().for_each(|byte| *byte ^= mask);
                if mask != 0 && count > 0 {
                    self.fault = None;
                }
                count
            }
            Portion::Twice => {
                let count = self.stream.read(buffer).await?;
                self.again = buffer[..count].to_vec();
                self.fault = None;
                count
            }
            Portion::Struck(Strike::Close) => {
                self.stream = Stream::Closed;
                0
            }
            Portion::Struck(Strike::Truncate) => 0,
            Portion::Struck(Strike::Reset) => {
                self.stream = Stream::Closed;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Portion::Struck(Strike::Stall) => pending().await,
        };
        self.received_bytes += count as u64;
        Ok(count)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.portion(Direction::ToServer) {
            Portion::Whole { limit_bytes } => {
                let limit = limit_bytes.min(bytes.len());
                self.stream.write(&bytes[..limit]).await?
            }
            Portion::OneByte { mask, delay } => {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let byte: Vec<_> = bytes.iter().take(1).map(|byte| byte ^ mask).collect();
                self.stream.write_all(&byte).await?;
                if mask != 0 {
                    self.fault = None;
                }
                byte.len()
            }
            Portion::Twice => {
                self.stream.write_all(bytes).await?;
                self.stream.write_all(bytes).await?;
                self.fault = None;
                bytes.len()
            }
            Portion::Struck(Strike::Close) => {
                self.stream = Stream::Closed;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Portion::Struck(Strike::Reset) => {
                self.stream = Stream::Closed;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            // The device's stack takes the bytes; they do not arrive.
            Portion::Struck(Strike::Stall) => bytes.len(),
            Portion::Struck(Strike::Truncate) => {
                self.stream.shutdown().await?;
                bytes.len()
            }
        };
        self.sent_bytes += count as u64;
        Ok(count)
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        let carried = ConnectionBytes { sent: self.sent_bytes, received: self.received_bytes };
        self.counters.0.ended.lock().unwrap_or_else(PoisonError::into_inner).push(carried);
    }
}

impl Stream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::InProcess(stream) => stream.read(buffer).await,
            Self::Closed => Ok(0),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes).await,
            Self::InProcess(stream) => stream.write(bytes).await,
            Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush().await,
            Self::InProcess(stream) => stream.flush().await,
            Self::Closed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::InProcess(stream) => stream.shutdown().await,
            Self::Closed => Ok(()),
        }
    }
}

impl ErrorType for SimConnection {
    type Error = io::Error;
}

impl Read for SimConnection {
    /// Safe to cancel as long as the path is good: no byte is lost.
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let session = self.session.clone();
        let count = session.run(self.receive(buf)).await?;
        self.counters.0.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Write for SimConnection {
    /// Safe to cancel as long as the path is good: bytes are sent and counted, or neither.
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let session = self.session.clone();
        let count = session.run(self.send(buf)).await?;
        self.counters.0.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    async fn flush(&mut self) -> io::Result<()> {
        let session = self.session.clone();
        session.run(self.stream.flush()).await
    }
}
