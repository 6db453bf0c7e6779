//! Wi-Fi station (IEEE 802.11) on the chip's radio.
//!
//! First the access point of last time, by its address on its channel: that saves the scan, about 2 s. Then one scan, and
//! what `updater_io::wifi::plan` makes of it. An open network is one without a passphrase; with one it is WPA2-Personal.
//! WPA3 is not there: esp-radio 1.0.0-beta.1 does not support it, its supplicant library has no SAE. Access points that
//! offer both are joined by WPA2.

use alloc::vec::Vec;
use core::ffi::{CStr, c_char};
use core::fmt;

use embassy_executor::Spawner;
use embassy_time::{Duration, with_timeout};
use esp_hal::peripherals::WIFI;
use esp_hal::rng::TrngSource;
use esp_hal::time::Duration as HalDuration;
use esp_radio::wifi::ap::AccessPointInfo;
use esp_radio::wifi::scan::{ScanConfig, ScanTypeConfig};
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    AuthenticationMethod, AuthenticationMethodConfig, Config, ConnectionError, ControllerConfig,
    DisconnectReason, Interface, WifiController, WifiError,
};
use updater_io::country::CountryCode;
use updater_io::platform::{AccessPoint, JoinRequest, NetworkError, WifiCredentials};
use updater_io::wifi::{self, Attempt, CANCEL_MS, PROBE_MS, SCAN_MS, Security, Sighting};

use crate::console::line;

/// Frames that the radio holds while interrupts are off: during an erase of one sector, at most
/// [`super::INTERRUPTS_OFF_MS`]. The server sends no more than the receive window, so [`super::WINDOW_FRAMES`]; an access
/// point sends a beacon every 102.4 ms, and what it sends to all right behind one. A frame too many is not acknowledged:
/// the access point sends it again at once, and after that TCP does.
const STATIC_RX_BUFFERS: u8 = 8;
const BEACON_INTERVAL_MS: u64 = 102;
const _: () = assert!(
    super::WINDOW_FRAMES as u64 + super::INTERRUPTS_OFF_MS.div_ceil(BEACON_INTERVAL_MS)
        <= STATIC_RX_BUFFERS as u64
);

/// Frames between the radio's thread and the IP stack, which does not run before the erase is over either: the window's,
/// and as many again of others' making (ARP, broadcasts).
const RX_QUEUE_FRAMES: usize = 2 * super::WINDOW_FRAMES;

/// Where received frames are kept from the radio's buffers to the end of the queue. The driver asks for at least as many as
/// it has static buffers.
const DYNAMIC_RX_BUFFERS: u16 = 10;
const _: () =
    assert!(RX_QUEUE_FRAMES < DYNAMIC_RX_BUFFERS as usize && STATIC_RX_BUFFERS as u16 <= DYNAMIC_RX_BUFFERS);

unsafe extern "C" {
    /// Of the radio's library (ESP-IDF 5.5, `components/esp_wifi/include/esp_wifi.h`), which esp-radio links and does not
    /// pass on: what it sets itself names 13 channels for every country.
    fn esp_wifi_set_country_code(country: *const c_char, ieee80211d_enabled: bool) -> i32;
}

/// The station's side of the radio, as embassy-net drives it.
pub(super) type Driver = Interface;

/// The radio.
pub(super) struct Link {
    controller: WifiController<'static>,
}

/// What the network starts with.
pub(crate) struct Hardware {
    pub(crate) wifi: WIFI<'static>,
    /// Feeds the TRNG until the radio does.
    pub(crate) entropy: TrngSource<'static>,
}

impl Hardware {
    /// Starts the radio.
    pub(super) fn start(self, _: Spawner) -> Result<(Link, Driver), NetworkError> {
        // The ADC's noise and the radio exclude each other (ESP-IDF 5.5, "Random Number Generation").
        drop(self.entropy);
        // Buffers for one connection that moves 64 KiB chunks; the driver's defaults are for many.
        let config = ControllerConfig::default()
            .with_rx_queue_size(RX_QUEUE_FRAMES)
            .with_tx_queue_size(3)
            .with_static_rx_buf_num(STATIC_RX_BUFFERS)
            .with_dynamic_rx_buf_num(DYNAMIC_RX_BUFFERS)
            .with_dynamic_tx_buf_num(8)
            .with_rx_ba_win(4);
        let controller = WifiController::new(self.wifi, config).map_err(|error| {
            line!("fault: the radio does not start: {error}");
            NetworkError::Join
        })?;
        Ok((Link { controller }, Interface::station()))
    }
}

impl Link {
    /// Joins the access point of last time, or else one that the plan names; says which one it was.
    pub(super) async fn join(
        &mut self,
        request: JoinRequest<'_>,
    ) -> Result<Option<AccessPoint>, NetworkError> {
        set_country(request.country);
        let known = |last: &AccessPoint| usize::from(last.network) < request.networks.len();
        let last = request.last.filter(known);
        if let Some(last) = last
            && let Some(found) = self.attempt(request.networks, Attempt::At(last)).await
        {
            return Ok(Some(found));
        }
        let seen = self.sightings().await;
        let plan = wifi::plan(request.networks, seen.as_deref(), last, request.turn);
        for attempt in plan.attempts {
            if let Some(found) = self.attempt(request.networks, attempt).await {
                return Ok(Some(found));
            }
        }
        Err(plan.otherwise)
    }

    /// The networks in reach whose names can be shown; none when the scan fails.
    pub(super) async fn scan(&mut self) -> Vec<improv::Network> {
        set_country(CountryCode::WORLD);
        let network = |found: Sighting| {
            Some(improv::Network {
                ssid: improv::Ssid::new(found.ssid.as_bytes()).ok()?,
                rssi_dbm: found.signal_dbm,
                secured: found.security != Security::Open,
            })
        };
        self.sightings().await.unwrap_or_default().into_iter().filter_map(network).collect()
    }

    /// One scan of all channels; `None` when it fails or does not end in time.
    async fn sightings(&mut self) -> Option<Vec<Sighting>> {
        let most = HalDuration::from_millis(PROBE_MS);
        let config = ScanConfig::default()
            .with_show_hidden(true)
            .with_scan_type(ScanTypeConfig::Active { min: most, max: most });
        let scan = with_timeout(Duration::from_millis(SCAN_MS), self.controller.scan_async(&config)).await;
        match scan {
            Ok(Ok(found)) => Some(found.into_iter().map(sighting).collect()),
            Ok(Err(error)) => {
                line!("cannot scan: {error}");
                None
            }
            Err(_) => {
                line!("cannot scan: not done within {SCAN_MS} ms");
                None
            }
        }
    }

    async fn attempt(&mut self, networks: &[WifiCredentials], attempt: Attempt) -> Option<AccessPoint> {
        let network = networks.get(usize::from(attempt.network()))?;
        let limit_ms = attempt.limit_ms();
        let joined = with_timeout(Duration::from_millis(limit_ms), self.associate(network, attempt)).await;
        let error = match joined {
            Ok(Ok(found)) => {
                line!("joined \"{}\" on channel {}", network.ssid, found.channel);
                return Some(found);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                // Else the driver refuses the next attempt.
                let _ =
                    with_timeout(Duration::from_millis(CANCEL_MS), self.controller.disconnect_async()).await;
                JoinError::Slow { limit_ms }
            }
        };
        line!("cannot join \"{}\": {error}", network.ssid);
        None
    }

    async fn associate(
        &mut self,
        network: &WifiCredentials,
        attempt: Attempt,
    ) -> Result<AccessPoint, JoinError> {
        let mut station = StationConfig::default()
            .with_ssid(network.ssid.as_str().try_into()?)
            .with_authentication(authentication(network)?);
        if let Attempt::At(at) = attempt {
            station = station.with_bssid(at.bssid).with_channel(at.channel);
        }
        self.controller.set_config(&Config::Station(station))?;
        let info = self.controller.connect_async().await?;
        Ok(AccessPoint { network: attempt.network(), bssid: info.bssid, channel: info.channel })
    }
}

/// Tells the radio where it is. Until then it takes itself to be in China, which is what esp-radio begins with.
fn set_country(country: CountryCode) {
    let mut code = [0; 3];
    code[..2].copy_from_slice(country.as_str().as_bytes());
    let Ok(text) = CStr::from_bytes_with_nul(&code) else { return };
    // SAFETY: the library is initialised, since there is a controller; it copies the text, which has its end.
    let error = unsafe { esp_wifi_set_country_code(text.as_ptr(), true) };
    if error != 0 {
        line!("fault: the radio does not take the country {country} (error {error:#x})");
    }
}

fn sighting(found: AccessPointInfo) -> Sighting {
    let security = match found.auth_method {
        Some(AuthenticationMethod::None) => Security::Open,
        Some(
            AuthenticationMethod::Wpa2Personal
            | AuthenticationMethod::WpaWpa2Personal
            | AuthenticationMethod::Wpa2Wpa3Personal
            | AuthenticationMethod::Wpa3ExtPskMixed,
        ) => Security::Wpa2,
        Some(AuthenticationMethod::Wpa3Personal | AuthenticationMethod::Wpa3ExtPsk) => Security::Wpa3Only,
        _ => Security::Other,
    };
    Sighting {
        ssid: found.ssid.as_str().into(),
        bssid: found.bssid,
        channel: found.channel,
        signal_dbm: found.signal_strength,
        security,
    }
}

fn authentication(network: &WifiCredentials) -> Result<AuthenticationMethodConfig, WifiError> {
    if network.passphrase.is_empty() {
        return Ok(AuthenticationMethodConfig::Open);
    }
    Ok(AuthenticationMethodConfig::Wpa2Personal(network.passphrase.as_str().try_into()?))
}

/// Why an access point could not be joined; for the console.
enum JoinError {
    Driver(WifiError),
    Association(ConnectionError),
    Slow { limit_ms: u64 },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => write!(f, "{error}"),
            Self::Association(ConnectionError::Failed(info)) => f.write_str(told(info.reason)),
            Self::Association(error) => write!(f, "{error}"),
            Self::Slow { limit_ms } => write!(f, "not joined within {limit_ms} ms"),
        }
    }
}

/// The causes that somebody can do something about.
fn told(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::FourWayHandshakeTimeout
        | DisconnectReason::HandshakeTimeout
        | DisconnectReason::MicFailure
        | DisconnectReason::AuthenticationFailed => "the passphrase was not accepted",
        DisconnectReason::NoAccessPointFound => "no access point of this name answers",
        DisconnectReason::NoAccessPointFoundWithCompatibleSecurity
        | DisconnectReason::NoAccessPointFoundInAuthmodeThreshold => {
            "its access points ask for another security (WPA2-Personal is what this radio has)"
        }
        DisconnectReason::AssociationTooMany => "the access point has too many devices",
        _ => "the access point did not let the device in",
    }
}

impl From<WifiError> for JoinError {
    fn from(error: WifiError) -> Self {
        Self::Driver(error)
    }
}

impl From<ConnectionError> for JoinError {
    fn from(error: ConnectionError) -> Self {
        Self::Association(error)
    }
}
