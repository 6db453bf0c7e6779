use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::*;

const ANSWER: &[u8] = b"0123456789";

/// A server that reads until the client has said all, then answers with [`ANSWER`] and what it got.
async fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await?;
                stream.write_all(ANSWER).await?;
                stream.write_all(&got).await?;
                stream.shutdown().await
            });
        }
    });
    address
}

/// One exchange through the proxy: what came back, or the error and what came before it.
async fn exchange(proxy: &FaultProxy, say: &[u8]) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut got = Vec::new();
    let talk = async {
        stream.write_all(say).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut got).await
    };
    let outcome = match timeout(Duration::from_millis(500), talk).await {
        Ok(outcome) => outcome.map(drop).map_err(|error| error.kind()),
        Err(_) => Err(io::ErrorKind::TimedOut),
    };
    (got, outcome)
}

async fn with_fault(
    direction: Direction,
    after_bytes: u64,
    action: Action,
) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let proxy = FaultProxy::start(server().await).await.unwrap();
    proxy.set_fault(Some(Fault { direction, after_bytes, action }));
    exchange(&proxy, b"ab").await
}

#[tokio::test]
async fn without_a_fault_all_passes() {
    let proxy = FaultProxy::start(server().await).await.unwrap();
    assert_eq!(exchange(&proxy, b"ab").await, (b"0123456789ab".to_vec(), Ok(())));
    assert_eq!(proxy.stats(), ProxyStats { connections: 1, to_server_bytes: 2, to_device_bytes: 12 });
}

#[tokio::test]
async fn faults_to_the_device() {
    use Direction::ToDevice;
    for (action, expected) in [
        (Action::Close, ("0123", Ok(()))),
        (Action::Truncate, ("0123", Ok(()))),
        (Action::Stall, ("0123", Err(io::ErrorKind::TimedOut))),
        (Action::Corrupt { mask: 0x40 }, ("0123t56789ab", Ok(()))),
    ] {
        let (got, outcome) = with_fault(ToDevice, 4, action).await;
        assert_eq!((String::from_utf8(got).unwrap().as_str(), outcome), expected, "{action:?}");
    }
    assert_eq!(with_fault(ToDevice, 0, Action::Close).await.0, b"");
    assert_eq!(with_fault(ToDevice, 1000, Action::Close).await, (b"0123456789ab".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_reset_is_seen_as_one() {
    // A reset may overtake the bytes before it.
    let (got, outcome) = with_fault(Direction::ToDevice, 4, Action::Reset).await;
    assert!(b"0123".starts_with(&got), "{got:?}");
    assert_eq!(outcome, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn faults_to_the_server() {
    use Direction::ToServer;
    assert_eq!(with_fault(ToServer, 1, Action::Truncate).await, (b"0123456789a".to_vec(), Ok(())));
    assert_eq!(
        with_fault(ToServer, 0, Action::Corrupt { mask: 0x20 }).await,
        (b"0123456789Ab".to_vec(), Ok(()))
    );
    let (got, outcome) = with_fault(ToServer, 1, Action::Stall).await;
    assert_eq!((got.as_slice(), outcome), (&b""[..], Err(io::ErrorKind::TimedOut)));
    let (got, _) = with_fault(ToServer, 1, Action::Close).await;
    assert_eq!(got, b"");
}

#[tokio::test]
async fn delayed_bytes_take_their_time() {
    let start = Instant::now();
    let (got, outcome) = with_fault(Direction::ToDevice, 2, Action::Delay { per_byte_ms: 10 }).await;
    assert_eq!((got.as_slice(), outcome), (&b"0123456789ab"[..], Ok(())));
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
}

#[tokio::test]
async fn queued_connections_come_first() {
    let proxy = FaultProxy::start(server().await).await.unwrap();
    let fault =
        |after_bytes| Some(Fault { direction: Direction::ToDevice, after_bytes, action: Action::Close });
    proxy.set_fault(fault(1));
    proxy.queue(fault(2));
    proxy.queue(None);
    for expected in ["01", "0123456789", "0", "0"] {
        assert_eq!(exchange(&proxy, b"").await.0, expected.as_bytes());
    }
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections() {
    let proxy = FaultProxy::start(server().await).await.unwrap();
    let address = proxy.address();
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(proxy);
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), open.read_to_end(&mut rest)).await.unwrap();
    assert!(ended.is_err() || rest.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}
