//! What the device does about commands.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::command::{Command, CommandId, ProtocolError};
use crate::response::{CurrentState, ErrorState, MAX_LIST_BYTES, Response, StringList, TooLong};
use crate::settings::{Ssid, WifiSettings};

/// What the device tells about itself ("RPC Command: Request device information").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInformation<'a> {
    /// The firmware's name.
    pub firmware: &'a str,
    /// The firmware's version.
    pub version: &'a str,
    /// The chip or the board.
    pub chip: &'a str,
    /// The device's name.
    pub device_name: &'a str,
}

/// A network that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub ssid: Ssid,
    /// How strong it is here, in dBm.
    pub rssi_dbm: i8,
    /// Whether it wants a passphrase.
    pub secured: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The parser found this.
    Received(Result<Command, ProtocolError>),
    /// [`Action::Join`] is done: the device is in the network, and has kept the settings.
    Joined {
        /// Where the user goes next, the first one first. May be empty.
        urls: StringList,
    },
    /// [`Action::Join`] failed.
    JoinFailed,
    /// [`Action::Scan`] is done. A scan that failed has found nothing.
    Scanned(Vec<Network>),
}

/// An order to the firmware, answered with one event. No other order comes before that event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Join this network and, if that works, keep the settings: [`Event::Joined`] or [`Event::JoinFailed`].
    Join(WifiSettings),
    /// Look for networks: [`Event::Scanned`].
    Scan,
}

/// What follows from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes to write first, without a break. May be empty.
    pub send: Vec<u8>,
    /// What to do then.
    pub action: Option<Action>,
}

/// The provisioning service of a device that has no Wi-Fi yet.
#[derive(Clone, Debug)]
pub struct Service {
    device_information: StringList,
    state: State,
}

/// What the service is about. Every state but `Idle` waits for the event that answers its order.
///
/// ```text
///          ┌──────────── failed, Wi-Fi unset ─────────────┐
///          ▼                                              │
///        Idle ────────────────── settings ───────────► Joining
///        │  ▲▲                                            │
///   scan │  │└─────────────── joined, Wi-Fi joined ───────┘
///        ▼  │ networks
///      Scanning
/// ```
#[derive(Clone, Debug)]
enum State {
    Idle(Wifi),
    Scanning(Wifi),
    Joining,
}

/// Whether the device is in a network.
#[derive(Clone, Debug)]
enum Wifi {
    Unset,
    Joined { urls: StringList },
}

/// The strings for a network fit: an SSID, "-128" at the longest, and "YES" at the longest.
const _: () = assert!((1 + Ssid::MAX_BYTES) + (1 + 4) + (1 + 3) <= MAX_LIST_BYTES);

impl Service {
    /// A service that is ready for settings.
    ///
    /// Errors: the device's information does not fit one packet.
    pub fn new(device: DeviceInformation<'_>) -> Result<Self, TooLong> {
        let DeviceInformation { firmware, version, chip, device_name } = device;
        let device_information = StringList::new(&[firmware, version, chip, device_name])?;
        Ok(Self { device_information, state: State::Idle(Wifi::Unset) })
    }

    /// Takes an event. An event that answers no order changes nothing.
    pub fn step(&mut self, event: Event) -> Step {
        match event {
            Event::Received(Ok(command)) => self.received(command),
            Event::Received(Err(error)) => Step::sending(&[Response::ErrorState(error.into())]),
            Event::Joined { urls } => self.joined(urls),
            Event::JoinFailed => self.join_failed(),
            Event::Scanned(networks) => self.scanned(networks),
        }
    }

    /// How far provisioning is.
    pub fn current_state(&self) -> CurrentState {
        match &self.state {
            State::Idle(wifi) | State::Scanning(wifi) => match wifi {
                Wifi::Unset => CurrentState::Ready,
                Wifi::Joined { .. } => CurrentState::Provisioned,
            },
            State::Joining => CurrentState::Provisioning,
        }
    }

    /// "When an RPC command is sent, the device should sent an update to the client to set the error state to 0": the
    /// answer to every command that is carried out begins with it.
    fn received(&mut self, command: Command) -> Step {
        match command {
            Command::SendWifiSettings(settings) => self.join(settings),
            Command::RequestCurrentState => self.tell_state(),
            Command::RequestDeviceInformation => Step::sending(&[
                Response::ErrorState(ErrorState::None),
                Response::RpcResult {
                    command: CommandId::RequestDeviceInformation,
                    strings: &self.device_information,
                },
            ]),
            Command::RequestScannedNetworks => self.scan(),
            Command::Unknown(_) => Step::sending(&[Response::ErrorState(ErrorState::UnknownRpc)]),
        }
    }

    /// The state and, in a network, what the settings were answered with.
    fn tell_state(&self) -> Step {
        let mut step = Step::sending(&[
            Response::ErrorState(ErrorState::None),
            Response::CurrentState(self.current_state()),
        ]);
        match &self.state {
            State::Idle(Wifi::Joined { urls }) | State::Scanning(Wifi::Joined { urls }) => {
                step.send(Response::RpcResult { command: CommandId::RequestCurrentState, strings: urls });
            }
            State::Idle(Wifi::Unset) | State::Scanning(Wifi::Unset) | State::Joining => {}
        }
        step
    }

    fn join(&mut self, settings: WifiSettings) -> Step {
        match self.state {
            State::Idle(_) => self.state = State::Joining,
            State::Scanning(_) | State::Joining => return Step::busy(),
        }
        let mut step = Step::sending(&[
            Response::ErrorState(ErrorState::None),
            Response::CurrentState(CurrentState::Provisioning),
        ]);
        step.action = Some(Action::Join(settings));
        step
    }

    /// Two requests during one scan have one answer.
    fn scan(&mut self) -> Step {
        let mut step = Step::sending(&[Response::ErrorState(ErrorState::None)]);
        match &self.state {
            State::Idle(wifi) => {
                self.state = State::Scanning(wifi.clone());
                step.action = Some(Action::Scan);
            }
            State::Scanning(_) => {}
            State::Joining => return Step::busy(),
        }
        step
    }

    fn joined(&mut self, urls: StringList) -> Step {
        match self.state {
            State::Joining => {}
            State::Idle(_) | State::Scanning(_) => return Step::default(),
        }
        let step = Step::sending(&[
            Response::CurrentState(CurrentState::Provisioned),
            Response::RpcResult { command: CommandId::SendWifiSettings, strings: &urls },
        ]);
        self.state = State::Idle(Wifi::Joined { urls });
        step
    }

    fn join_failed(&mut self) -> Step {
        match self.state {
            State::Joining => self.state = State::Idle(Wifi::Unset),
            State::Idle(_) | State::Scanning(_) => return Step::default(),
        }
        Step::sending(&[
            Response::ErrorState(ErrorState::UnableToConnect),
            Response::CurrentState(CurrentState::Ready),
        ])
    }

    /// One result a network, the strongest first, and an empty one. A network with several access points is told once.
    fn scanned(&mut self, mut networks: Vec<Network>) -> Step {
        match &self.state {
            State::Scanning(wifi) => self.state = State::Idle(wifi.clone()),
            State::Idle(_) | State::Joining => return Step::default(),
        }
        networks.sort_by_key(|network| Reverse(network.rssi_dbm));
        let mut step = Step::default();
        for (index, network) in networks.iter().enumerate() {
            if !networks[..index].iter().any(|stronger| stronger.ssid == network.ssid) {
                step.send_networks(&network.strings());
            }
        }
        step.send_networks(&StringList::default());
        step
    }
}

impl Network {
    /// Name, strength, and whether it wants a passphrase ("RPC Command: Request scanned Wi-Fi networks").
    fn strings(&self) -> StringList {
        let secured = if self.secured { "YES" } else { "NO" };
        StringList::join(&[self.ssid.as_str(), &self.rssi_dbm.to_string(), secured])
    }
}

impl Step {
    fn sending(responses: &[Response<'_>]) -> Self {
        let mut step = Self::default();
        for response in responses {
            step.send(*response);
        }
        step
    }

    /// The protocol has no error for "not now".
    fn busy() -> Self {
        Self::sending(&[Response::ErrorState(ErrorState::Unknown)])
    }

    fn send(&mut self, response: Response<'_>) {
        response.write(&mut self.send);
    }

    fn send_networks(&mut self, strings: &StringList) {
        self.send(Response::RpcResult { command: CommandId::RequestScannedNetworks, strings });
    }
}
