use std::time::Duration;

use embedded_io_async::{Read, Write};
use tokio::net::TcpListener;
use tokio::time::timeout;
use updater_io::country::CountryCode;
use zeroize::Zeroizing;

use super::*;

fn credentials(ssid: &str, passphrase: &str) -> WifiCredentials {
    WifiCredentials { ssid: ssid.to_owned(), passphrase: Zeroizing::new(passphrase.to_owned()) }
}

fn request(networks: &[WifiCredentials], last: Option<AccessPoint>) -> JoinRequest<'_> {
    JoinRequest { networks, country: CountryCode::WORLD, last, turn: 0 }
}

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    address
}

async fn is_pending(operation: impl Future) -> bool {
    timeout(Duration::from_millis(50), operation).await.is_err()
}

#[tokio::test]
async fn joins_a_network_that_is_in_reach_and_known() {
    let office = credentials("office", "right");
    let mut network = SimNetwork::new(Link::Wifi(vec![office.clone()]), PowerSwitch::new());
    assert_eq!(network.join(request(&[], None)).await, Err(NetworkError::Join));
    assert_eq!(network.join(request(&[credentials("office", "wrong")], None)).await, Err(NetworkError::Join));
    let known = [credentials("home", "right"), office.clone()];
    let found = network.join(request(&known, None)).await.unwrap();
    assert_eq!(found.map(|access_point| access_point.network), Some(1));
    assert_eq!((network.counters().joins(), network.counters().scans()), (1, 3));
    assert_eq!(network.join(request(&known, found)).await, Ok(found));
    assert_eq!((network.counters().joins(), network.counters().scans()), (2, 3), "no scan for a known one");
    network.set_link(Link::Wpa3Only(vec![office.clone()]));
    assert_eq!(network.join(request(&known, found)).await, Err(NetworkError::Wpa3Only));
    let mut nothing_in_reach = SimNetwork::new(Link::Wifi(Vec::new()), PowerSwitch::new());
    assert_eq!(nothing_in_reach.join(request(&[office], None)).await, Err(NetworkError::Join));
    assert_eq!(SimNetwork::new(Link::Wired, PowerSwitch::new()).join(request(&[], None)).await, Ok(None));
}

#[tokio::test]
async fn routes_decide_where_a_name_leads() {
    let server = echo().await;
    let mut network = SimNetwork::new(Link::Wired, PowerSwitch::new());
    assert_eq!(
        network.connect("127.0.0.1", server.port()).await.unwrap_err(),
        NetworkError::Resolve,
        "not joined"
    );
    network.join(request(&[], None)).await.unwrap();
    network.set_route("updates.example", 8443, Route::To(server));
    network.set_route("gone.example", 8443, Route::NoAddress);
    network.set_route("silent.example", 8443, Route::Silence);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    network.set_route("closed.example", 8443, Route::To(closed));

    let mut connection = network.connect("updates.example", 8443).await.unwrap();
    connection.write_all(b"hello").await.unwrap();
    connection.flush().await.unwrap();
    let mut answer = [0; 5];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    assert!(network.connect("localhost", server.port()).await.is_ok());
    assert!(network.connect("127.0.0.1", server.port()).await.is_ok());

    for name in ["gone.example", "unknown.example"] {
        assert_eq!(network.connect(name, 8443).await.unwrap_err(), NetworkError::Resolve);
    }
    // The route is for one port.
    assert_eq!(network.connect("updates.example", 443).await.unwrap_err(), NetworkError::Resolve);
    assert_eq!(network.connect("closed.example", 8443).await.unwrap_err(), NetworkError::Connect);
    assert!(is_pending(network.connect("silent.example", 8443)).await);
    let counters = network.counters();
    assert_eq!((counters.connections(), counters.sent_bytes(), counters.received_bytes()), (3, 5, 5));
}

#[tokio::test]
async fn without_power_everything_stays_pending() {
    let server = echo().await;
    let power = PowerSwitch::new();
    let mut network = SimNetwork::new(Link::Wired, power.clone());
    network.join(request(&[], None)).await.unwrap();
    let mut connection = network.connect("localhost", server.port()).await.unwrap();
    let timer = SimTimer::start(&power);
    connection.write_all(b"echo").await.unwrap();

    power.cut();
    let mut byte = [0];
    assert!(is_pending(connection.read(&mut byte)).await);
    assert!(is_pending(connection.write(b"x")).await);
    assert!(is_pending(network.join(request(&[], None))).await);
    assert!(is_pending(network.connect("localhost", server.port())).await);
    assert!(is_pending(timer.sleep_ms(1)).await);

    // What was there before stays dead; a new start works.
    power.restore();
    assert!(is_pending(connection.read(&mut byte)).await);
    assert!(is_pending(timer.sleep_ms(1)).await);
    assert_eq!(network.connect("localhost", server.port()).await.unwrap_err(), NetworkError::Resolve);
    network.join(request(&[], None)).await.unwrap();
    assert!(network.connect("localhost", server.port()).await.is_ok());
    SimTimer::start(&power).sleep_ms(1).await;
}

#[tokio::test]
async fn a_join_does_not_outlive_a_loss_of_power() {
    let server = echo().await;
    let power = PowerSwitch::new();
    let mut network = SimNetwork::new(Link::Wired, power.clone());
    network.join(request(&[], None)).await.unwrap();
    power.cut();
    power.restore();
    let attempt = timeout(Duration::from_secs(1), network.connect("localhost", server.port()));
    assert_eq!(attempt.await.unwrap().unwrap_err(), NetworkError::Resolve);
}

#[tokio::test]
async fn a_read_under_way_is_cut_off() {
    let server = echo().await;
    let power = PowerSwitch::new();
    let mut network = SimNetwork::new(Link::Wired, power.clone());
    network.join(request(&[], None)).await.unwrap();
    let mut connection = network.connect("localhost", server.port()).await.unwrap();
    let mut byte = [0];
    let device = async {
        connection.read(&mut byte).await.unwrap();
        "read"
    };
    let cut = async {
        tokio::task::yield_now().await;
        power.cut();
    };
    let (lost, ()) = tokio::join!(
        async {
            tokio::select! {
                biased;
                () = power.lost() => "lost",
                outcome = device => outcome,
            }
        },
        cut
    );
    assert_eq!(lost, "lost");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_tokios() {
    let timer = SimTimer::start(&PowerSwitch::new());
    assert_eq!(timer.now_ms(), 0);
    timer.sleep_ms(3_600_000).await;
    assert_eq!(timer.now_ms(), 3_600_000);
}
