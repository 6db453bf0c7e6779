//! A TCP listener on loopback whose connections end with it.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// A running listener. Dropping it closes the listener and all its connections.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    task: AbortHandle,
}

impl Service {
    /// Listens on a free port of 127.0.0.1 and gives each connection to `handle`.
    pub(crate) async fn start<H, F>(handle: H) -> io::Result<Self>
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(handle(stream));
                        }
                        // The peer was gone before it was accepted, or there are no more file descriptors.
                        Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
                    },
                    // Finished connections are taken out, so that a long test does not collect them.
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, task: task.abort_handle() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
