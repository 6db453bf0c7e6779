//! Wi-Fi or Ethernet, name resolution and the clock of a virtual device.
//!
//! Connections are real TCP connections of the host, or lead to a server in the same process
//! ([`SimNetwork::set_in_process`]); the path of each can be bad ([`SimNetwork::queue_fault`]). Without power every operation stays pending for ever, and what
//! was opened before a loss of power stays dead after it, as nothing on a chip outlives one. Unlike a chip, the
//! host closes the connection when it is dropped; the server sees the end rather than silence.

mod connection;

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use updater_io::platform::{AccessPoint, JoinRequest, Network, NetworkError, Timer, WifiCredentials};
use updater_io::wifi::{self, Attempt, Security, Sighting};

pub use connection::SimConnection;

use crate::clock::Mark;
use crate::power::{PowerSwitch, Session};
use crate::proxy::Fault;
use connection::Stream;

/// How the device gets onto a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet: the list of credentials does not matter.
    Wired,
    /// The access points in reach. One is joined when its name and passphrase are both known.
    Wifi(Vec<WifiCredentials>),
    /// The same, but they ask for WPA3.
    Wpa3Only(Vec<WifiCredentials>),
    /// There is a network, and nobody on it gives the device an address (DHCP): joining it stays pending.
    NoLease,
}

/// Where connections to one host and port lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this address, whatever the name: a test server, a proxy, a hijacked name.
    To(SocketAddr),
    /// The name has no address.
    NoAddress,
    /// There is a host, and nothing listens there.
    Refused,
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
    ended: Mutex<Vec<ConnectionBytes>>,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBytes {
    /// To the server.
    pub sent: u64,
    /// To the device.
    pub received: u64,
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

    /// The connections that are over, in the order of their ends.
    pub fn ended(&self) -> Vec<ConnectionBytes> {
        self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The network of one device.
#[derive(Debug)]
pub struct SimNetwork {
    link: Link,
    power: PowerSwitch,
    routes: HashMap<(String, u16), Route>,
    system_names: bool,
    in_process: Option<UnboundedSender<DuplexStream>>,
    faults: VecDeque<Option<Fault>>,
    joined: Option<Session>,
    counters: NetworkCounters,
}

/// What the TLS handshake on a new connection makes an ESP32-C3 compute: a key exchange, two signatures verified and
/// one made (`updater::limits::EXCHANGE_MS` reckons with as much).
const HANDSHAKE: Duration = Duration::from_millis(1000);

/// Buffer of a connection within the process, each way.
const IN_PROCESS_BYTES: usize = 64 * 1024;

impl SimNetwork {
    /// A network without routes: IP addresses lead to themselves, `localhost` to 127.0.0.1, other names nowhere.
    pub fn new(link: Link, power: PowerSwitch) -> Self {
        Self {
            link,
            power,
            routes: HashMap::new(),
            system_names: false,
            in_process: None,
            faults: VecDeque::new(),
            joined: None,
            counters: NetworkCounters::default(),
        }
    }

    /// Sets where connections to `host` (as the device writes it) and `port` lead.
    pub fn set_route(&mut self, host: &str, port: u16, route: Route) {
        self.routes.insert((host.to_owned(), port), route);
    }

    /// Leads every connection without a route to a server in this process, without the host's sockets: with tokio's
    /// clock paused, time passes only where the device waits for it.
    pub fn set_in_process(&mut self, server: UnboundedSender<DuplexStream>) {
        self.in_process = Some(server);
    }

    /// Plans one further connection: with this fault, or unharmed. Connections after the planned ones are unharmed.
    pub fn queue_fault(&mut self, fault: Option<Fault>) {
        self.faults.push_back(fault);
    }

    /// Changes how the device gets onto a network.
    pub fn set_link(&mut self, link: Link) {
        self.link = link;
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

    /// Looks for a known network that is in reach; at the access point of last time it need not look.
    fn find(&self, request: JoinRequest<'_>) -> Result<Option<AccessPoint>, NetworkError> {
        let (access_points, is_wpa3) = match &self.link {
            Link::Wired | Link::NoLease => return Ok(None),
            Link::Wifi(access_points) => (access_points, false),
            Link::Wpa3Only(access_points) => (access_points, true),
        };
        let air: Vec<_> =
            access_points.iter().zip(0..).map(|(network, number)| seen(network, number, is_wpa3)).collect();
        let lets_in = |access_point: &AccessPoint| {
            let network = request.networks.get(usize::from(access_point.network));
            let knows = |(credentials, seen): (&WifiCredentials, &Sighting)| {
                Some(credentials) == network && seen.bssid == access_point.bssid
            };
            let joined = !is_wpa3 && access_points.iter().zip(&air).any(knows);
            joined.then_some(*access_point)
        };
        if let Some(last) = request.last.as_ref().and_then(lets_in) {
            return Ok(Some(last));
        }
        self.counters.0.scans.fetch_add(1, Ordering::Relaxed);
        let plan = wifi::plan(request.networks, Some(&air), request.last, request.turn);
        let joined = plan.attempts.iter().find_map(|attempt| match attempt {
            Attempt::At(access_point) => lets_in(access_point),
            // None of them hides its name.
            Attempt::Hidden { .. } => None,
        });
        joined.map(Some).ok_or(plan.otherwise)
    }

    async fn open(&self, host: &str, port: u16) -> Result<Stream, NetworkError> {
        let address = match self.routes.get(&(host.to_owned(), port)) {
            Some(Route::To(address)) => *address,
            Some(Route::NoAddress) => return Err(NetworkError::Resolve),
            Some(Route::Refused) => return Err(NetworkError::Connect),
            Some(Route::Silence) => pending().await,
            None => match &self.in_process {
                Some(server) => {
                    let (ours, theirs) = tokio::io::duplex(IN_PROCESS_BYTES);
                    server.send(theirs).map_err(|_| NetworkError::Connect)?;
                    return Ok(Stream::InProcess(ours));
                }
                None => self.resolve(host, port).await?,
            },
        };
        let stream = TcpStream::connect(address).await.map_err(|_| NetworkError::Connect)?;
        // A chip's stack sends small segments at once; without this a handshake waits for acknowledgements.
        stream.set_nodelay(true).map_err(|_| NetworkError::Connect)?;
        Ok(Stream::Tcp(stream))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, NetworkError> {
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

/// What a scan finds of the access point that is number `number` of those in reach.
fn seen(network: &WifiCredentials, number: u8, is_wpa3: bool) -> Sighting {
    let security = match (network.passphrase.is_empty(), is_wpa3) {
        (true, _) => Security::Open,
        (false, false) => Security::Wpa2,
        (false, true) => Security::Wpa3Only,
    };
    Sighting {
        ssid: network.ssid.clone(),
        bssid: [0x02, 0, 0, 0, 0, number],
        channel: 1 + number,
        signal_dbm: -40,
        security,
    }
}

impl Network for SimNetwork {
    type Connection = SimConnection;

    async fn join(&mut self, request: JoinRequest<'_>) -> Result<Option<AccessPoint>, NetworkError> {
        self.joined = None;
        let session = self.power.session();
        // Being asked without power is the only thing that can wait here.
        session.run(async {}).await;
        if self.link == Link::NoLease {
            session.run(pending::<()>()).await;
        }
        let access_point = self.find(request)?;
        self.counters.0.joins.fetch_add(1, Ordering::Relaxed);
        self.joined = Some(session);
        Ok(access_point)
    }

    async fn connect(&mut self, host: &str, port: u16) -> Result<SimConnection, NetworkError> {
        let now = self.power.session();
        now.run(async {}).await;
        // Without a join since power came on there is no name server to ask.
        let session = self.joined.clone().filter(Session::is_current).ok_or(NetworkError::Resolve)?;
        let fault = self.faults.pop_front().flatten();
        let stream = session.run(self.open(host, port)).await?;
        self.counters.0.connections.fetch_add(1, Ordering::Relaxed);
        self.power.clock().spend(HANDSHAKE);
        Ok(SimConnection::new(stream, fault, session, self.counters.clone()))
    }
}

/// The timer of a virtual device ([`crate::clock`]).
#[derive(Clone, Debug)]
pub struct SimTimer {
    start: Mark,
    power: PowerSwitch,
    session: Session,
}

impl SimTimer {
    /// A clock that starts now. It belongs to the present stretch of power: make a new one at every start.
    pub fn start(power: &PowerSwitch) -> Self {
        Self { start: power.clock().mark(), power: power.clone(), session: power.session() }
    }
}

impl Timer for SimTimer {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep_ms(&self, duration_ms: u64) -> impl Future<Output = ()> {
        self.session.run(self.power.clock().mark().passed(Duration::from_millis(duration_ms)))
    }
}

#[cfg(test)]
mod tests;
