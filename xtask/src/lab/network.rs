//! The way from the chip to its server, within this process: no sockets, no clock, no chance.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use chip::net::{Servers, Stream, Unconnected};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use tls_crypto::Secp256r1;
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc::UnboundedSender;

/// What a connection holds in each direction, as much as a socket's buffers would.
const BUFFER_BYTES: usize = 64 * 1024;

/// A server in this process, at every port.
pub(super) struct InProcess(pub(super) UnboundedSender<DuplexStream>);

impl Servers for InProcess {
    fn connect(&mut self, _port: u16) -> Result<Box<dyn Stream>, Unconnected> {
        let (near, far) = duplex(BUFFER_BYTES);
        self.0.send(far).map_err(|_| Unconnected::Refused)?;
        Ok(Box::new(Pipe(near)))
    }
}

/// The chip's end of a connection. Nobody needs to be woken by it: the network is looked at after every step of the chip.
struct Pipe(DuplexStream);

impl Pipe {
    fn now<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut DuplexStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match poll(Pin::new(&mut self.0), &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        self.now(|stream, context| stream.poll_read(context, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.now(|stream, context| stream.poll_write(context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Pipe {
    fn end(&mut self) -> io::Result<()> {
        self.now(DuplexStream::poll_shutdown)
    }
}

thread_local! {
    /// Of the server that this thread has.
    static RANDOM: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

static KEY_EXCHANGE: Secp256r1 = Secp256r1::new(&Seeded);

/// Random numbers that are the same in every run.
#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        RANDOM.with_borrow_mut(|random| random.fill_bytes(bytes));
        Ok(())
    }
}

/// What the server of this thread computes TLS with. Its random numbers begin anew.
pub(super) fn provider() -> CryptoProvider {
    RANDOM.set(StdRng::seed_from_u64(0));
    tls_crypto::provider(&KEY_EXCHANGE)
}
