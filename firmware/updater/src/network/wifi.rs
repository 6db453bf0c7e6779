//! Wi-Fi station (IEEE 802.11) on the chip's radio.
//!
//! First the access point of last time, by its address on its channel: that saves the scan, about 2 s. Then the networks
//! of the vault in their order. An open network is one without a passphrase; with one, WPA2 is the least that is
//! accepted, and WPA3 (SAE) is used where the access point offers it: the driver takes the stored method as the lowest
//! acceptable one and announces protected management frames (ESP-IDF 5.5, "Wi-Fi Security").

use alloc::vec::Vec;

use embassy_executor::Spawner;
use esp_hal::peripherals::WIFI;
use esp_hal::rng::TrngSource;
use esp_radio::wifi::ap::AccessPointInfo;
use esp_radio::wifi::scan::ScanConfig;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{
    AuthenticationMethod, AuthenticationMethodConfig, Config, ConnectionError, ControllerConfig, Interface,
    WifiController, WifiError,
};
use updater_io::platform::{AccessPoint, NetworkError, WifiCredentials};

use crate::console::line;

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
            .with_rx_queue_size(4)
            .with_tx_queue_size(3)
            .with_static_rx_buf_num(4)
            .with_dynamic_rx_buf_num(8)
            .with_dynamic_tx_buf_num(8)
            .with_rx_ba_win(4);
        let controller = WifiController::new(self.wifi, config).map_err(|error| {
            line!("trouble: the radio does not start: {error:?}");
            NetworkError::Join
        })?;
        Ok((Link { controller }, Interface::station()))
    }
}

impl Link {
    /// Joins the access point of last time, or the first of `networks` that answers; says which one it was.
    pub(super) async fn join(
        &mut self,
        networks: &[WifiCredentials],
        last: Option<AccessPoint>,
    ) -> Result<Option<AccessPoint>, NetworkError> {
        if let Some(last) = last
            && let Some(network) = networks.get(usize::from(last.network))
            && let Some(found) = self.try_network(last.network, network, Some(last)).await
        {
            return Ok(Some(found));
        }
        for (index, network) in (0..).zip(networks) {
            if let Some(found) = self.try_network(index, network, None).await {
                return Ok(Some(found));
            }
        }
        Err(NetworkError::Join)
    }

    /// The networks in reach whose names can be shown; none when the scan fails.
    pub(super) async fn scan(&mut self) -> Vec<improv::Network> {
        let found = self.controller.scan_async(&ScanConfig::default()).await.unwrap_or_default();
        let network = |found: AccessPointInfo| {
            Some(improv::Network {
                ssid: improv::Ssid::new(found.ssid.as_str().as_bytes()).ok()?,
                rssi_dbm: found.signal_strength,
                secured: found.auth_method != Some(AuthenticationMethod::None),
            })
        };
        found.into_iter().filter_map(network).collect()
    }

    async fn try_network(
        &mut self,
        index: u8,
        network: &WifiCredentials,
        at: Option<AccessPoint>,
    ) -> Option<AccessPoint> {
        match self.associate(network, at).await {
            Ok((bssid, channel)) => {
                line!("joined {:?} on channel {channel}", network.ssid);
                Some(AccessPoint { network: index, bssid, channel })
            }
            Err(trouble) => {
                line!("cannot join {:?}: {trouble:?}", network.ssid);
                None
            }
        }
    }

    async fn associate(
        &mut self,
        network: &WifiCredentials,
        at: Option<AccessPoint>,
    ) -> Result<([u8; 6], u8), Trouble> {
        let mut station = StationConfig::default()
            .with_ssid(network.ssid.as_str().try_into()?)
            .with_authentication(authentication(network)?);
        if let Some(at) = at {
            station = station.with_bssid(at.bssid).with_channel(at.channel);
        }
        self.controller.set_config(&Config::Station(station))?;
        let info = self.controller.connect_async().await?;
        Ok((info.bssid, info.channel))
    }
}

fn authentication(network: &WifiCredentials) -> Result<AuthenticationMethodConfig, WifiError> {
    if network.passphrase.is_empty() {
        return Ok(AuthenticationMethodConfig::Open);
    }
    Ok(AuthenticationMethodConfig::Wpa2Personal(network.passphrase.as_str().try_into()?))
}

/// Why an access point could not be joined; for the console.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug")]
enum Trouble {
    Driver(WifiError),
    Association(ConnectionError),
}

impl From<WifiError> for Trouble {
    fn from(error: WifiError) -> Self {
        Self::Driver(error)
    }
}

impl From<ConnectionError> for Trouble {
    fn from(error: ConnectionError) -> Self {
        Self::Association(error)
    }
}
