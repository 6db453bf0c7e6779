//! A path to a database that can be cut, stopped and frozen.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The path. Dropped, it takes its connections along.
pub(super) struct Proxy {
    pub(super) addr: SocketAddr,
    path: watch::Sender<Path>,
}

/// What becomes of connections, which are numbered in the order in which they came.
#[derive(Clone, Copy, Default)]
struct Path {
    connections: u64,
    /// Nothing moves.
    stands_still: bool,
    /// Nothing moves any more on those before this one.
    frozen_before: u64,
    /// Those before this one are closed.
    cut_before: u64,
}

impl Path {
    fn moves(&self, connection: u64) -> bool {
        !self.stands_still && connection >= self.frozen_before
    }
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let path = watch::Sender::new(Path::default());
        let watched = path.clone();
        tokio::spawn(async move {
            while let Some(Ok((near, _))) = gone_or(&watched, listener.accept()).await {
                let number = watched.borrow().connections;
                watched.send_modify(|path| path.connections += 1);
                tokio::spawn(carry(near, to, number, watched.subscribe()));
            }
        });
        Self { addr, path }
    }

    /// Every connection is closed; the next ones are not.
    pub(super) fn cut(&self) {
        self.path.send_modify(|path| path.cut_before = path.connections);
    }

    /// Nothing moves, on no connection, until it goes on.
    pub(super) fn stand_still(&self, stands_still: bool) {
        self.path.send_modify(|path| path.stands_still = stands_still);
    }

    /// Nothing moves on any connection that there is, for ever; the next ones are good.
    pub(super) fn freeze(&self) {
        self.path.send_modify(|path| path.frozen_before = path.connections);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.path.send_modify(|path| path.cut_before = u64::MAX);
    }
}

/// `None` once the path is dropped.
async fn gone_or<T>(path: &watch::Sender<Path>, future: impl Future<Output = T>) -> Option<T> {
    let mut path = path.subscribe();
    tokio::select! {
        _ = path.wait_for(|path| path.cut_before == u64::MAX) => None,
        done = future => Some(done),
    }
}

async fn carry(near: TcpStream, to: SocketAddr, number: u64, mut path: watch::Receiver<Path>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let ways = (path.clone(), path.clone());
    tokio::select! {
        _ = path.wait_for(|path| number < path.cut_before) => {}
        _ = one_way(near_read, far_write, number, ways.0) => {}
        _ = one_way(far_read, near_write, number, ways.1) => {}
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut path: watch::Receiver<Path>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).await?;
        if path.wait_for(|path| path.moves(number)).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
