//! Wi-Fi or Ethernet, name resolution and the clock of a virtual device.
//!
//! Connections are real TCP connections of the host. Without power every operation stays pending for ever, and what
//! was opened before a loss of power stays dead after it, as nothing on a chip outlives one. Unlike a chip, the
//! host closes the connection when it is dropped; the server sees the end rather than silence.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embedded_io_async::{ErrorType, Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use updater_io::platform::{AccessPoint, Network, NetworkError, Timer, WifiCredentials};

use crate::power::{PowerSwitch, Session};

/// How the device gets onto a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet: the list of credentials does not matter.
    Wired,
    /// The access points in reach. One is joined when its name and passphrase are both known.
    Wifi(Vec<WifiCredentials>),
}

/// Where connections to one host and port lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this address, whatever the name: a test server, a proxy, a hijacked name.
    To(SocketAddr),
    /// The name has no address.
    NoAddress,
    /// Nobody answers: the connection attempt stays pending.
    Silence,
}

/// What a device did on the network. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct NetworkCounters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    joins: AtomicU64,
    scans: AtomicU64,
    connections: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl NetworkCounters {
    /// Successful joins.
    pub fn joins(&self) -> u64 {
        self.0.joins.load(Ordering::Relaxed)
    }

    /// Scans of all channels: joins that did not find the access point of last time.
    pub fn scans(&self) -> u64 {
        self.0.scans.load(Ordering::Relaxed)
    }

    /// TCP connections opened.
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Bytes sent over TCP.
    pub fn sent_bytes(&self) -> u64 {
        self.0.sent_bytes.load(Ordering::Relaxed)
    }

    /// Bytes received over TCP.
    pub fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }
}

/// The network of one device.
#[derive(Debug)]
pub struct SimNetwork {
    link: Link,
    power: PowerSwitch,
    routes: HashMap<(String, u16), Route>,
    system_names: bool,
    joined: Option<Session>,
    counters: NetworkCounters,
}

impl SimNetwork {
    /// A network without routes: IP addresses lead to themselves, `localhost` to 127.0.0.1, other names nowhere.
    pub fn new(link: Link, power: PowerSwitch) -> Self {
        Self {
            link,
            power,
            routes: HashMap::new(),
            system_names: false,
            joined: None,
            counters: NetworkCounters::default(),
        }
    }

    /// Sets where connections to `host` (as the device writes it) and `port` lead.
    pub fn set_route(&mut self, host: &str, port: u16, route: Route) {
        self.routes.insert((host.to_owned(), port), route);
    }

    /// Asks the host's resolver for names without a route, for a device that talks to a real server.
    #[must_use]
    pub fn with_system_names(mut self) -> Self {
        self.system_names = true;
        self
    }

    /// The counters, which stay readable when the network has been given away.
    pub fn counters(&self) -> NetworkCounters {
        self.counters.clone()
    }

    /// Looks for the first known network that is in reach; at `last` it need not look.
    fn find(
        &self,
        known: &[WifiCredentials],
        last: Option<AccessPoint>,
    ) -> Result<Option<AccessPoint>, NetworkError> {
        let Link::Wifi(access_points) = &self.link else { return Ok(None) };
        let at = |index: usize| {
            let network = known.get(index)?;
            let position = access_points.iter().position(|access_point| access_point == network)?;
            let (network, number) = (u8::try_from(index).ok()?, u8::try_from(position).ok()?);
            Some(AccessPoint { network, bssid: [0x02, 0, 0, 0, 0, number], channel: 1 + number })
        };
        if let Some(last) = last.filter(|last| at(last.network.into()) == Some(*last)) {
            return Ok(Some(last));
        }
        self.counters.0.scans.fetch_add(1, Ordering::Relaxed);
        (0..known.len()).find_map(at).map(Some).ok_or(NetworkError::Join)
    }

    async fn route(&self, host: &str, port: u16) -> Result<SocketAddr, NetworkError> {
        match self.routes.get(&(host.to_owned(), port)) {
            Some(Route::To(address)) => return Ok(*address),
            Some(Route::NoAddress) => return Err(NetworkError::Resolve),
            Some(Route::Silence) => pending().await,
            None => {}
        }
        // In URLs IPv6 addresses stand in brackets.
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        if host == "localhost" {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        if !self.system_names {
            return Err(NetworkError::Resolve);
        }
        let mut found = tokio::net::lookup_host((host, port)).await.map_err(|_| NetworkError::Resolve)?;
        found.next().ok_or(NetworkError::Resolve)
    }
}

impl Network for SimNetwork {
    type Connection = SimConnection;

    async fn join(
        &mut self,
        networks: &[WifiCredentials],
        last: Option<AccessPoint>,
    ) -> Result<Option<AccessPoint>, NetworkError> {
        self.joined = None;
        let session = self.power.session();
        // Being asked without power is the only thing that can wait here.
        session.run(async {}).await;
        let access_point = self.find(networks, last)?;
        self.counters.0.joins.fetch_add(1, Ordering::Relaxed);
        self.joined = Some(session);
        Ok(access_point)
    }

    async fn connect(&mut self, host: &str, port: u16) -> Result<SimConnection, NetworkError> {
        let now = self.power.session();
        now.run(async {}).await;
        // Without a join since power came on there is no name server to ask.
        let session = self.joined.clone().filter(Session::is_current).ok_or(NetworkError::Resolve)?;
        let attempt = async {
            let address = self.route(host, port).await?;
            let stream = TcpStream::connect(address).await.map_err(|_| NetworkError::Connect)?;
            // A chip's stack sends small segments at once; without this a handshake waits for acknowledgements.
            stream.set_nodelay(true).map_err(|_| NetworkError::Connect)?;
            Ok(stream)
        };
        let stream = session.run(attempt).await?;
        self.counters.0.connections.fetch_add(1, Ordering::Relaxed);
        Ok(SimConnection { stream, session, counters: self.counters.clone() })
    }
}

/// A TCP connection of a virtual device.
#[derive(Debug)]
pub struct SimConnection {
    stream: TcpStream,
    session: Session,
    counters: NetworkCounters,
}

impl ErrorType for SimConnection {
    type Error = io::Error;
}

impl Read for SimConnection {
    /// Safe to cancel: no byte is lost.
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.session.run(self.stream.read(buf)).await?;
        self.counters.0.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Write for SimConnection {
    /// Safe to cancel: bytes are sent and counted, or neither.
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.session.run(self.stream.write(buf)).await?;
        self.counters.0.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.session.run(self.stream.flush()).await
    }
}

/// The clock of a virtual device: tokio's, so that tests can pause and advance it.
#[derive(Clone, Debug)]
pub struct SimTimer {
    start: Instant,
    session: Session,
}

impl SimTimer {
    /// A clock that starts now. It belongs to the present stretch of power: make a new one at every start.
    pub fn start(power: &PowerSwitch) -> Self {
        Self { start: Instant::now(), session: power.session() }
    }
}

impl Timer for SimTimer {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep_ms(&self, duration_ms: u64) -> impl Future<Output = ()> {
        self.session.run(tokio::time::sleep(Duration::from_millis(duration_ms)))
    }
}

#[cfg(test)]
mod tests;
