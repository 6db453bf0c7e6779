//! A bad network path: a TCP proxy on loopback that breaks connections at a chosen byte.
//!
//! It sits between a device and a real server and does not see through TLS, as a real path does not.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::service::Service;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device to the server.
    ToServer,
    /// From the server to the device.
    ToDevice,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Whose bytes are counted, and harmed.
    pub direction: Direction,
    /// How many bytes pass unharmed. At 0 the fault is there from the start.
    pub after_bytes: u64,
    /// What happens then.
    pub action: Action,
}

/// What happens after the bytes that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Both directions are closed in order (FIN).
    Close,
    /// The connection is reset (RST).
    Reset,
    /// Nothing more passes in this direction, and the connection stays open.
    Stall,
    /// This direction ends in order (FIN); the rest of it is swallowed, the other direction goes on.
    Truncate,
    /// The next byte is XORed with this mask; all else passes.
    Corrupt {
        /// Bits to invert; 0 changes nothing.
        mask: u8,
    },
    /// The next portion passes twice; all else once.
    Duplicate,
    /// Bytes go on one by one, each after this time.
    Delay {
        /// Milliseconds per byte.
        per_byte_ms: u64,
    },
}

/// A running proxy. Dropping it ends all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    service: Service,
    shared: Arc<Shared>,
}

/// What passed through a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes passed on to the server.
    pub to_server_bytes: u64,
    /// Bytes passed on to the device.
    pub to_device_bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Faults>,
    connections: AtomicU64,
    to_server_bytes: AtomicU64,
    to_device_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Faults {
    /// One entry for each of the next connections.
    next: VecDeque<Option<Fault>>,
    /// For connections after those.
    always: Option<Fault>,
}

impl FaultProxy {
    /// Starts a proxy that passes everything to `server`.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handler = Arc::clone(&shared);
        let service = Service::start(move |device| {
            let shared = Arc::clone(&handler);
            let fault = shared.begin_connection();
            async move {
                if let Err(error) = carry(device, server, fault, &shared).await {
                    tracing::debug!(%error, "a proxied connection broke");
                }
            }
        });
        Ok(Self { service: service.await?, shared })
    }

    /// Where devices connect to.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Sets the fault of every connection from now on that [`FaultProxy::queue`] says nothing of.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.faults().always = fault;
    }

    /// Plans one further connection: with this fault, or unharmed.
    pub fn queue(&self, fault: Option<Fault>) {
        self.faults().next.push_back(fault);
    }

    /// What has passed so far.
    pub fn stats(&self) -> ProxyStats {
        ProxyStats {
            connections: self.shared.connections.load(Ordering::Relaxed),
            to_server_bytes: self.shared.to_server_bytes.load(Ordering::Relaxed),
            to_device_bytes: self.shared.to_device_bytes.load(Ordering::Relaxed),
        }
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn begin_connection(&self) -> Option<Fault> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let next = faults.next.pop_front();
        next.unwrap_or(faults.always)
    }
}

/// Why a connection ends before both sides have said all.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("closed as planned")]
    Close,
    #[error("reset as planned")]
    Reset,
    #[error(transparent)]
    Io(#[from] io::Error),
}

async fn carry(
    mut device: TcpStream,
    server: SocketAddr,
    fault: Option<Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    // Bytes must leave in the portions in which they came for a fault to strike where it was planned.
    device.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let fault_in = |direction| fault.filter(|fault| fault.direction == direction);
    let ended = {
        let (device_read, device_write) = device.split();
        let (server_read, server_write) = server.split();
        tokio::try_join!(
            pump(device_read, server_write, fault_in(Direction::ToServer), &shared.to_server_bytes),
            pump(server_read, device_write, fault_in(Direction::ToDevice), &shared.to_device_bytes),
        )
    };
    match ended {
        // Dropping the streams closes them.
        Ok(_) | Err(Ending::Close) => Ok(()),
        Err(Ending::Io(error)) => Err(error),
        Err(Ending::Reset) => {
            // With no time to linger, the close becomes a reset.
            device.set_zero_linger()?;
            server.set_zero_linger()
        }
    }
}

/// Carries one direction to its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut fault: Option<Fault>,
    counter: &AtomicU64,
) -> Result<(), Ending> {
    let mut buffer = [0; 4096];
    let mut passed_bytes = 0;
    loop {
        let (limit, mask, delay, times) = match next_portion(fault, passed_bytes) {
            Portion::Whole { limit_bytes } => (limit_bytes.min(buffer.len()), 0, Duration::ZERO, 1),
            Portion::OneByte { mask, delay } => (1, mask, delay, 1),
            Portion::Twice => (buffer.len(), 0, Duration::ZERO, 2),
            Portion::Struck(Strike::Close) => return Err(Ending::Close),
            Portion::Struck(Strike::Reset) => return Err(Ending::Reset),
            Portion::Struck(Strike::Stall) => pending().await,
            Portion::Struck(Strike::Truncate) => {
                to.shutdown().await?;
                while from.read(&mut buffer).await? > 0 {}
                return Ok(());
            }
        };
        let count = from.read(&mut buffer[..limit]).await?;
        if count == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        buffer[0] ^= mask;
        if mask != 0 || times > 1 {
            fault = None;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        for _ in 0..times {
            to.write_all(&buffer[..count]).await?;
        }
        passed_bytes += count as u64;
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// How to treat the next bytes of a direction.
pub(crate) enum Portion {
    Whole { limit_bytes: usize },
    OneByte { mask: u8, delay: Duration },
    Twice,
    Struck(Strike),
}

pub(crate) enum Strike {
    Close,
    Reset,
    Stall,
    Truncate,
}

pub(crate) fn next_portion(fault: Option<Fault>, passed_bytes: u64) -> Portion {
    let Some(fault) = fault else {
        return Portion::Whole { limit_bytes: usize::MAX };
    };
    let unharmed_bytes = fault.after_bytes.saturating_sub(passed_bytes);
    if unharmed_bytes > 0 {
        return Portion::Whole { limit_bytes: usize::try_from(unharmed_bytes).unwrap_or(usize::MAX) };
    }
    match fault.action {
        Action::Close => Portion::Struck(Strike::Close),
        Action::Reset => Portion::Struck(Strike::Reset),
        Action::Stall => Portion::Struck(Strike::Stall),
        Action::Truncate => Portion::Struck(Strike::Truncate),
        Action::Corrupt { mask } => Portion::OneByte { mask, delay: Duration::ZERO },
        Action::Duplicate => Portion::Twice,
        Action::Delay { per_byte_ms } => {
            Portion::OneByte { mask: 0, delay: Duration::from_millis(per_byte_ms) }
        }
    }
}

#[cfg(test)]
mod tests;
