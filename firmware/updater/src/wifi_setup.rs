//! Setting up Wi-Fi over the serial port while no network is configured (Improv-WiFi): by a browser with Web Serial, or
//! a phone.

use alloc::string::ToString as _;

use embassy_time::{Duration, Instant, Timer, with_timeout};
use esp_storage::FlashStorage;
use improv::{Action, DeviceInformation, Event, Parser, SILENCE_MS, Service, StringList};
use updater_io::board::Board as _;
use updater_io::country::CountryCode;
use updater_io::map::Map;
use updater_io::platform::{JoinRequest, Network as _, WifiCredentials};
use updater_io::shell::{KnownDamage, with_vault};
use updater_io::vault::{self, VaultError};

use crate::board::ChipBoard;
use crate::chip::CHIP;
use crate::console::line;
use crate::serial::Serial;

/// How long a device with nothing to say waits for a setup to begin: browsers ask once a second after they have
/// opened the port, and opening it has reset many boards.
pub(crate) const FIRST_WORD: Duration = Duration::from_secs(3);
/// How long a setup that has begun may be silent: somebody is looking for the passphrase.
const NEXT_WORD: Duration = Duration::from_secs(300);
/// Joining, DHCP included.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at the serial port; its hardware holds 64 bytes, 5 ms of traffic.
const POLL: Duration = Duration::from_millis(2);

/// What became of the setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// There is no vault, it names a network, or the device cannot be described to who sets it up.
    NotDue,
    /// Nobody has said anything for too long.
    GivenUp,
    /// A network was joined, and is in the vault. A pit stop begins with a radio that is in no network: reset the chip.
    Done,
}

/// Serves the setup when it is due, which it is when the vault is there and names no network, until it is done or nobody has
/// said anything for `patience`.
pub(crate) async fn serve_if_due(
    board: &mut ChipBoard,
    serial: &mut Serial,
    known_damage: &mut KnownDamage,
    patience: Duration,
) -> Setup {
    let Ok(map) = Map::read(board.flash()) else { return Setup::NotDue };
    let mut vault = Vault { map, known_damage };
    let settings = vault.with(board, |vault| vault.settings());
    match settings.filter(|settings| settings.wifi.is_empty()) {
        Some(settings) => serve(board, serial, &mut vault, &settings.device_id, patience).await,
        None => Setup::NotDue,
    }
}

/// Where the vault is, and what this start knows of its damage.
struct Vault<'k> {
    map: Map,
    known_damage: &'k mut KnownDamage,
}

impl Vault<'_> {
    fn with<T>(
        &mut self,
        board: &mut ChipBoard,
        act: impl FnOnce(&mut vault::Vault<'_, FlashStorage<'static>>) -> Result<T, VaultError>,
    ) -> Option<T> {
        with_vault(board.flash(), &self.map, self.known_damage, act)?.ok()
    }
}

async fn serve(
    board: &mut ChipBoard,
    serial: &mut Serial,
    vault: &mut Vault<'_>,
    device_id: &str,
    patience: Duration,
) -> Setup {
    let device = DeviceInformation {
        firmware: "Pitstop updater",
        version: env!("CARGO_PKG_VERSION"),
        chip: &CHIP.to_string(),
        device_name: device_id,
    };
    let Ok(mut service) = Service::new(device) else { return Setup::NotDue };
    line!("waits for Wi-Fi settings on this port (Improv)");

    let mut parser = Parser::new();
    let mut last_byte = Instant::now();
    let mut give_up = Instant::now() + patience;
    let mut is_refused = false;
    while Instant::now() < give_up {
        let received = match serial.read() {
            Some(byte) => {
                last_byte = Instant::now();
                parser.push(byte)
            }
            None => {
                Timer::after(POLL).await;
                let is_silent = last_byte.elapsed() >= Duration::from_millis(SILENCE_MS.into());
                if is_silent { parser.silence() } else { None }
            }
        };
        let mut event = received.map(Event::Received);
        while let Some(happened) = event.take() {
            give_up = Instant::now() + NEXT_WORD;
            let is_joined = matches!(happened, Event::Joined { .. });
            let step = service.step(happened);
            serial.write(&step.send);
            if is_joined {
                return Setup::Done;
            }
            if is_refused {
                // The vault may be written at the next start, and never at this one.
                return Setup::GivenUp;
            }
            event = match step.action {
                Some(Action::Join(settings)) => {
                    let network = WifiCredentials {
                        ssid: settings.ssid.into_string(),
                        passphrase: settings.passphrase.into_string(),
                    };
                    let joined = join(board, &network).await;
                    let kept = joined.then(|| vault.with(board, |vault| vault.add_wifi(&network)));
                    is_refused = kept == Some(None);
                    Some(match (kept, StringList::new(&[])) {
                        (Some(Some(())), Ok(urls)) => Event::Joined { urls },
                        (_, _) => Event::JoinFailed,
                    })
                }
                Some(Action::Scan) => Some(Event::Scanned(board.network.scan().await)),
                None => None,
            };
        }
    }
    Setup::GivenUp
}

/// Whether the network can be joined.
async fn join(board: &mut ChipBoard, network: &WifiCredentials) -> bool {
    let request = JoinRequest {
        networks: core::slice::from_ref(network),
        country: CountryCode::WORLD,
        last: None,
        turn: 0,
    };
    matches!(with_timeout(JOIN_TIMEOUT, board.network.join(request)).await, Ok(Ok(_)))
}
