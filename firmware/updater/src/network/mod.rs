//! The way to the server: a link (radio or Ethernet) under embassy-net's IP stack.

#[cfg(all(feature = "qemu-eth", feature = "wifi"))]
compile_error!("choose one network: `wifi` for a real chip, `qemu-eth` for an emulator");

mod connection;
#[cfg(feature = "qemu-eth")]
mod open_eth;
#[cfg(feature = "wifi")]
mod wifi;

use core::mem;

use embassy_executor::Spawner;
use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::TcpSocket;
use embassy_net::{Config, IpEndpoint, Runner, Stack, StackResources};
use embassy_time::{Duration, with_timeout};
use rand_core::RngCore as _;
use static_cell::StaticCell;
use updater_io::platform::{AccessPoint, Network, NetworkError, WifiCredentials};

use crate::console::line;
use crate::random::HardwareRandom;
pub(crate) use connection::Connection;
use connection::{Buffers, SocketHome};

#[cfg(feature = "qemu-eth")]
pub(crate) use open_eth::Hardware;
#[cfg(feature = "qemu-eth")]
use open_eth::{Driver, Link};
#[cfg(feature = "wifi")]
pub(crate) use wifi::Hardware;
#[cfg(feature = "wifi")]
use wifi::{Driver, Link};

/// Sockets of the stack: DHCP, DNS, and the one TCP connection.
const SOCKETS: usize = 3;

/// A server that does not take the last packets in this time is not waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(300);

/// The chip's network. It comes up at the first join: a radio that breaks the updater does so where the engine counts it.
pub(crate) struct ChipNetwork {
    spawner: Spawner,
    state: State,
}

enum State {
    Down(Hardware),
    Up(Up),
    /// Between the two.
    Starting,
    /// Off for the rest of this start.
    Stopped,
}

struct Up {
    link: Link,
    stack: Stack<'static>,
    socket: &'static SocketHome,
}

impl ChipNetwork {
    /// A network that is down.
    pub(crate) fn new(spawner: Spawner, hardware: Hardware) -> Self {
        Self { spawner, state: State::Down(hardware) }
    }

    fn up(&mut self) -> Result<&mut Up, NetworkError> {
        self.state = match mem::replace(&mut self.state, State::Starting) {
            State::Down(hardware) => State::Up(Up::start(self.spawner, hardware)?),
            state @ (State::Up(_) | State::Starting | State::Stopped) => state,
        };
        match &mut self.state {
            State::Up(up) => Ok(up),
            State::Down(_) | State::Starting | State::Stopped => Err(NetworkError::Join),
        }
    }

    /// Looks for networks.
    #[cfg(feature = "wifi")]
    pub(crate) async fn scan(&mut self) -> alloc::vec::Vec<improv::Network> {
        match self.up() {
            Ok(up) => up.link.scan().await,
            Err(_) => alloc::vec::Vec::new(),
        }
    }

    /// Turns the radio off, for good: dropping the link does it. The TRNG has no source of entropy from then on.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// Gives the last packets of a closed connection their time, so that the server hears of its end.
    pub(crate) async fn leave(&mut self) {
        let State::Up(up) = &self.state else { return };
        if let Some(mut socket) = up.socket.take() {
            socket.close();
            // No harm when the time was too short: the server has been told by close_notify.
            let _ = with_timeout(LEAVE_TIMEOUT, socket.flush()).await;
        }
    }
}

impl Up {
    fn start(spawner: Spawner, hardware: Hardware) -> Result<Self, NetworkError> {
        static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
        static BUFFERS: StaticCell<Buffers> = StaticCell::new();
        static SOCKET: StaticCell<SocketHome> = StaticCell::new();

        let (link, driver) = hardware.start(spawner)?;
        let resources = RESOURCES.init(StackResources::new());
        let seed = HardwareRandom.next_u64();
        let (stack, runner) = embassy_net::new(driver, Config::dhcpv4(Default::default()), resources, seed);
        spawner.spawn(run_stack(runner).map_err(|_| NetworkError::Join)?);
        let buffers = BUFFERS.init(Buffers::new());
        let socket = SOCKET.init(SocketHome::new(TcpSocket::new(stack, &mut buffers.rx, &mut buffers.tx)));
        Ok(Self { link, stack, socket })
    }
}

impl Network for ChipNetwork {
    type Connection = Connection;

    async fn join(
        &mut self,
        networks: &[WifiCredentials],
        last: Option<AccessPoint>,
    ) -> Result<Option<AccessPoint>, NetworkError> {
        let up = self.up()?;
        let joined = up.link.join(networks, last).await?;
        up.stack.wait_config_up().await;
        if let Some(config) = up.stack.config_v4() {
            line!("has the address {}", config.address);
        }
        Ok(joined)
    }

    async fn connect(&mut self, host: &str, port: u16) -> Result<Connection, NetworkError> {
        let up = self.up()?;
        let addresses = up.stack.dns_query(host, DnsQueryType::A).await.map_err(|_| NetworkError::Resolve)?;
        let address = *addresses.first().ok_or(NetworkError::Resolve)?;
        let mut socket = up.socket.take().ok_or(NetworkError::Connect)?;
        // What is left of an earlier connection is of no use to anybody.
        socket.abort();
        let connected = socket.connect(IpEndpoint::new(address, port)).await;
        let connection = Connection::new(socket, up.socket);
        connected.map_err(|_| NetworkError::Connect)?;
        Ok(connection)
    }
}

#[embassy_executor::task]
async fn run_stack(mut runner: Runner<'static, Driver>) {
    runner.run().await
}
