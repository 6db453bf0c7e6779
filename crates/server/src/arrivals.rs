//! New connections, with the address of who is at the other end: behind a balancer it stands in a PROXY protocol header
//! (version 2, haproxy.org/download/3.2/doc/proxy-protocol.txt), before the TLS handshake.
//!
//! Only addresses that the operator named are believed, and they have to send a header: without one every device behind
//! them would be counted as one client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use proxy_protocol_rs::parse::V2_SIGNATURE;
use proxy_protocol_rs::{Command, parse};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::metrics::Metrics;

/// A balancer sends the header with the first packet.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections whose header is awaited; past that, new ones wait in the system's backlog.
const MAX_AWAITED: usize = 1024;

/// Signature, version and command, family, and the length of what follows (section 2.2).
const HEAD_BYTES: usize = 16;

/// The longest rest of a header that is read: addresses take up to 216 bytes, and what is beside them is of no use here.
const MAX_REST_BYTES: usize = 2048;

/// A kind of connection that does not suit is told so often.
const TELL_PERIOD: Duration = Duration::from_secs(60);

/// The connections that come to a socket.
pub(crate) struct Arrivals {
    tcp: TcpListener,
    proxies: Vec<IpNet>,
    misfits: Arc<Misfits>,
    awaited: JoinSet<Option<(TcpStream, IpAddr)>>,
}

impl Arrivals {
    pub(crate) fn new(tcp: TcpListener, proxies: Vec<IpNet>, misfits: Arc<Misfits>) -> Self {
        Self { tcp, proxies, misfits, awaited: JoinSet::new() }
    }

    /// The next connection. Nothing is lost when this is given up.
    pub(crate) async fn next(&mut self) -> io::Result<(TcpStream, IpAddr)> {
        loop {
            tokio::select! {
                accepted = self.tcp.accept(), if self.awaited.len() < MAX_AWAITED => {
                    let (tcp, address) = accepted?;
                    let address = address.ip().to_canonical();
                    if !self.is_proxy(address) {
                        return Ok((tcp, address));
                    }
                    self.awaited.spawn(introduce(tcp, address, self.misfits.clone()));
                }
                Some(introduced) = self.awaited.join_next() => {
                    if let Ok(Some(arrival)) = introduced {
                        return Ok(arrival);
                    }
                }
            }
        }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

/// Connections that do not suit `proxy-protocol-from`: each is counted, and one a minute of each kind is told in the log, for
/// a balancer that is set up wrongly sends many.
#[derive(Debug)]
pub(crate) struct Misfits {
    metrics: Arc<Metrics>,
    /// When each kind was told last, and how many were not told since.
    told: Mutex<[Option<(Instant, u64)>; 2]>,
}

/// What does not suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    /// An address that was named sends no header, or a broken one.
    Missing,
    /// An address that was not named sends one.
    Unexpected,
}

impl Misfits {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, told: Mutex::default() }
    }

    /// A connection of an address that was named and sends no header.
    fn missing(&self, from: IpAddr, why: &str) {
        self.metrics.proxy_misfits.add("missing");
        if let Some(others) = self.untold(Misfit::Missing) {
            warn!(
                "a connection of {from} is closed, and {others} before it were: {why}; have the balancer send PROXY protocol \
                 version 2, or leave its address out of proxy-protocol-from"
            );
        }
    }

    /// A connection of an address that was not named and sends one.
    fn unexpected(&self, from: IpAddr) {
        self.metrics.proxy_misfits.add("unexpected");
        if let Some(others) = self.untold(Misfit::Unexpected) {
            warn!(
                "a connection of {from} begins with a PROXY protocol header, and {others} before it did: it is not believed, \
                 and no TLS follows; name the address in proxy-protocol-from if it is your balancer's"
            );
        }
    }

    /// How many were not told since the last one that was, when this one is to be.
    fn untold(&self, misfit: Misfit) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let [missing, unexpected] = &mut *told;
        let last = match misfit {
            Misfit::Missing => missing,
            Misfit::Unexpected => unexpected,
        };
        match last {
            Some((at, others)) if at.elapsed() < TELL_PERIOD => {
                *others += 1;
                None
            }
            other => {
                let others = other.map_or(0, |(_, others)| others);
                *other = Some((Instant::now(), 0));
                Some(others)
            }
        }
    }

    /// Notes a connection that begins with a header although its address was not named; nothing of it is read.
    pub(crate) async fn look(&self, tcp: &TcpStream, from: IpAddr) {
        let mut start = [0; V2_SIGNATURE.len()];
        // What fails here fails again where it is read.
        if tcp.peek(&mut start).await.is_ok_and(|count| start[..count] == V2_SIGNATURE[..]) {
            self.unexpected(from);
        }
    }
}

/// Reads the header of a connection, and nothing past it; `None` when there is none.
async fn introduce(mut tcp: TcpStream, proxy: IpAddr, misfits: Arc<Misfits>) -> Option<(TcpStream, IpAddr)> {
    match timeout(HEADER_TIMEOUT, read_header(&mut tcp)).await {
        // By the balancer itself, to see that somebody is here.
        Ok(Ok(client)) => Some((tcp, client.map_or(proxy, |client| client.ip().to_canonical()))),
        // A balancer that only looks whether somebody is here may send nothing.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            debug!("a connection of {proxy} ended before its PROXY protocol header");
            None
        }
        Ok(Err(error)) => {
            misfits.missing(proxy, &error.to_string());
            None
        }
        Err(_) => {
            misfits.missing(proxy, "no PROXY protocol header came in time");
            None
        }
    }
}

async fn read_header(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let broken = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut header = vec![0; HEAD_BYTES];
    tcp.read_exact(&mut header).await?;
    let (signature, [_, _, high, low]) = header.split_at(V2_SIGNATURE.len()) else {
        return Err(broken(format!("{} bytes are no header", header.len())));
    };
    if signature != V2_SIGNATURE {
        return Err(broken("expected a PROXY protocol header, version 2".to_owned()));
    }
    let rest = usize::from(u16::from_be_bytes([*high, *low]));
    if rest > MAX_REST_BYTES {
        return Err(broken(format!(
            "expected a PROXY protocol header of up to {MAX_REST_BYTES} bytes, found {rest}"
        )));
    }
    header.resize(HEAD_BYTES + rest, 0);
    tcp.read_exact(&mut header[HEAD_BYTES..]).await?;
    let (info, _) = parse::parse(&header).map_err(|error| broken(error.to_string()))?;
    match (info.command, info.source_inet()) {
        (Command::Proxy, None) => {
            Err(broken("expected an IP address in the PROXY protocol header".to_owned()))
        }
        (Command::Proxy, source) => Ok(source),
        (_, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proxy_protocol_rs::HeaderBuilder;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn arrivals(proxies: &[&str]) -> (Arrivals, SocketAddr) {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let misfits = Arc::new(Misfits::new(Arc::new(Metrics::new())));
        let proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
        (Arrivals::new(tcp, proxies, misfits), address)
    }

    fn header(client: &str) -> Vec<u8> {
        HeaderBuilder::v2_proxy(client.parse().unwrap(), client.parse().unwrap()).build()
    }

    /// The address of the next connection, and what comes on it.
    async fn next(arrivals: &mut Arrivals) -> (String, String) {
        let (mut tcp, address) = timeout(Duration::from_secs(5), arrivals.next()).await.unwrap().unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        (address.to_string(), text)
    }

    async fn send(address: SocketAddr, parts: &[&[u8]]) {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        for part in parts {
            tcp.write_all(part).await.unwrap();
            tcp.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many connections did not suit: without a header, and with one that nobody expected.
    fn counted(arrivals: &Arrivals) -> (u64, u64) {
        let text = arrivals.misfits.metrics.encode().unwrap();
        let of = |kind: &str| {
            let start = format!("pitstop_proxy_protocol_misfits_total{{kind=\"{kind}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
        };
        (of("missing"), of("unexpected"))
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_many_in_a_minute_is_told() {
        let misfits = Misfits::new(Arc::new(Metrics::new()));
        assert_eq!(misfits.untold(Misfit::Missing), Some(0));
        assert_eq!([(); 3].map(|()| misfits.untold(Misfit::Missing)), [None; 3]);
        assert_eq!(misfits.untold(Misfit::Unexpected), Some(0), "each kind for itself");
        tokio::time::advance(TELL_PERIOD).await;
        assert_eq!(misfits.untold(Misfit::Missing), Some(3));
    }

    #[tokio::test]
    async fn a_named_balancer_tells_the_address_of_its_client() {
        let (mut arrivals, address) = arrivals(&["127.0.0.0/8"]).await;
        send(address, &[&header("192.0.2.7:5000"), b"hello"]).await;
        assert_eq!(next(&mut arrivals).await, ("192.0.2.7".to_owned(), "hello".to_owned()));
        send(address, &[&header("[2001:db8::7]:5000"), b"hello"]).await;
        assert_eq!(next(&mut arrivals).await.0, "2001:db8::7");
        // In pieces, and what follows in the same packet.
        let bytes = [header("192.0.2.8:5000"), b"there".to_vec()].concat();
        send(address, &[&bytes[..5], &bytes[5..20], &bytes[20..]]).await;
        assert_eq!(next(&mut arrivals).await, ("192.0.2.8".to_owned(), "there".to_owned()));
        send(address, &[&HeaderBuilder::v2_local().build(), b"alive"]).await;
        assert_eq!(next(&mut arrivals).await, ("127.0.0.1".to_owned(), "alive".to_owned()));
    }

    #[tokio::test]
    async fn nobody_else_is_believed_and_who_has_to_send_a_header_does() {
        let (mut stranger, address) = arrivals(&["192.0.2.0/24"]).await;
        let bytes = [header("192.0.2.7:5000"), b"hello".to_vec()].concat();
        send(address, &[&bytes]).await;
        let (mut tcp, from) = stranger.next().await.unwrap();
        let mut read = vec![0; bytes.len()];
        tcp.read_exact(&mut read).await.unwrap();
        assert_eq!((from.to_string().as_str(), read), ("127.0.0.1", bytes));
        for (start, unexpected) in [(header("192.0.2.7:5000"), 1), (b"\x16\x03\x01 a handshake".to_vec(), 1)]
        {
            send(address, &[&start]).await;
            let (tcp, from) = stranger.next().await.unwrap();
            stranger.misfits.look(&tcp, from).await;
            assert_eq!(counted(&stranger), (0, unexpected));
        }

        let (mut arrivals, address) = arrivals(&["127.0.0.1/32"]).await;
        let mut long = header("192.0.2.7:5000");
        long[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        let mut unix = header("192.0.2.7:5000");
        unix[13] = 0;
        for wrong in
            [b"\x16\x03\x01\x02\x00 a handshake".to_vec(), long, unix, b"PROXY TCP4 192.0.2.7 ".to_vec()]
        {
            send(address, &[&wrong]).await;
        }
        // It only looks whether somebody is here.
        send(address, &[b""]).await;
        send(address, &[&header("192.0.2.9:5000"), b"last"]).await;
        assert_eq!(next(&mut arrivals).await, ("192.0.2.9".to_owned(), "last".to_owned()));
        assert_eq!(counted(&arrivals), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_no_header_holds_up_nobody() {
        let (mut arrivals, address) = arrivals(&["127.0.0.1/32"]).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let other = tokio::spawn(async move {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            tcp.write_all(&header("192.0.2.7:5000")).await.unwrap();
            tcp
        });
        let (_tcp, from) = arrivals.next().await.unwrap();
        assert_eq!(from.to_string(), "192.0.2.7");
        drop(other);
        // The clock goes on by itself where all wait.
        let closed = async { silent.read(&mut [0; 1]).await };
        let closed = tokio::select! {
            closed = closed => closed,
            _ = arrivals.next() => unreachable!(),
        };
        assert!(matches!(closed, Ok(0) | Err(_)));
    }
}
