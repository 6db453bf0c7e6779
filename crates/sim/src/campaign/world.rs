//! A device and the server that it belongs to, as one value that can be copied and started again.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use flashfmt::image::{Segments, compose};
use flashfmt::layout::Layout;
use flashfmt::{AppDescriptor, Chip};
use manifest::PublisherKeys;
use rustls::pki_types::CertificateDer;
use updater_io::board::Observed;
use updater_io::country::CountryCode;
use updater_io::platform::WifiCredentials;
use updater_io::vault::{Provisioning, ServerUrl};

use super::fake_server::{self, FakeServer, ServerState};
use crate::flash::Trace;
use crate::net::{Link, SimNetwork};
use crate::{PowerSwitch, SimFlash, VirtualDevice};

/// Id of the device.
pub const DEVICE: &str = "lamp-1";

/// A device and its server.
pub struct World {
    /// The device.
    pub device: VirtualDevice,
    /// Its server.
    pub server: FakeServer,
}

/// A world that stands still, the power off.
#[derive(Clone, Debug)]
pub struct Snapshot {
    layout: &'static str,
    flash: Arc<Vec<u8>>,
    state: ServerState,
}

impl World {
    /// A device fresh from the factory.
    ///
    /// # Errors
    /// There is no such built-in layout, or the device could not be made.
    pub fn manufacture(layout_name: &'static str) -> anyhow::Result<Self> {
        Self::manufacture_for(layout_name, fake_server::HOST)
    }

    /// The same with another name for the server.
    ///
    /// # Errors
    /// As for [`manufacture`](Self::manufacture); the name is none.
    pub fn manufacture_for(layout_name: &'static str, host: &str) -> anyhow::Result<Self> {
        let layout = Layout::builtin(layout_name)
            .with_context(|| format!("expected a built-in layout, found {layout_name}"))?;
        let mut state = ServerState::new();
        state.expect_device(DEVICE, "token");
        let server = FakeServer::open(state);
        let power = PowerSwitch::new();
        let mut flash = SimFlash::new(layout.needed_flash_bytes().next_power_of_two());
        flash.set_power(power.clone());
        let network = network(&server, power)?;
        let url = ServerUrl::parse(&format!("https://{host}:{}", fake_server::PORT))?;
        let provisioning = Provisioning {
            device_id: DEVICE,
            product: fake_server::PRODUCT,
            server: &url,
            token: Some("token"),
            anchors: &[CertificateDer::from(fake_server::anchor()?)],
            publishers: &PublisherKeys::from_iter([fake_server::publisher_key()?]),
            wifi: &[workshop()],
            country: CountryCode::WORLD,
            time_floor_s: Some(u32::try_from(fake_server::START_S)?),
        };
        let device = VirtualDevice::manufacture(flash, network, Chip::Esp32C3, layout, &provisioning, 1)?;
        Ok(Self { device, server })
    }

    /// The world as it stands.
    pub fn snapshot(&self, layout: &'static str) -> Snapshot {
        Snapshot {
            layout,
            flash: Arc::new(self.device.flash.bytes().to_vec()),
            state: self.server.state().clone(),
        }
    }

    /// Writes everything down that happens from now on: actions, faults and flash operations.
    pub fn trace(&mut self) -> Trace {
        let trace: Trace = Arc::new(Mutex::new(Vec::new()));
        self.device.flash.set_trace(Arc::clone(&trace));
        let lines = Arc::clone(&trace);
        self.device.set_observer(move |observed| {
            let line = match observed {
                Observed::Acting { action, .. } => format!("action: {}", shorten(&format!("{action:?}"))),
                Observed::Received { .. } => return,
                Observed::Fault { reason, error } => format!("fault: {} ({error})", reason.name()),
            };
            lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        });
        trace
    }
}

impl Snapshot {
    /// A world that goes on from here. Random numbers of the device come from `seed`.
    ///
    /// # Errors
    /// The layout is not built in.
    pub fn restore(&self, seed: u64) -> anyhow::Result<World> {
        let layout = Layout::builtin(self.layout).context("expected a built-in layout, found another")?;
        let server = FakeServer::open(self.state.clone());
        let power = PowerSwitch::new();
        let mut flash = SimFlash::from_bytes(self.flash.to_vec());
        flash.set_power(power.clone());
        let network = network(&server, power)?;
        let device = VirtualDevice::from_flash(flash, network, Chip::Esp32C3, layout, seed);
        Ok(World { device, server })
    }

    /// The same device with another flash and another server.
    #[must_use]
    pub fn with(&self, flash: Vec<u8>, state: ServerState) -> Self {
        Self { layout: self.layout, flash: Arc::new(flash), state }
    }

    /// The flash.
    pub fn flash(&self) -> &[u8] {
        &self.flash
    }
}

fn network(server: &FakeServer, power: PowerSwitch) -> anyhow::Result<SimNetwork> {
    let mut network = SimNetwork::new(link(), power);
    network.set_in_process(server.door()?);
    Ok(network)
}

/// The network in reach.
pub(super) fn link() -> Link {
    Link::Wifi(vec![workshop()])
}

fn workshop() -> WifiCredentials {
    WifiCredentials { ssid: "workshop".into(), passphrase: "correct horse".to_owned().into() }
}

/// The version of the release after the first one, and how much code it has: what tells it from others by its headers.
const NEW: &str = "1.1.0";
const NEW_CODE_BYTES: usize = 16;

/// Whether an image with these segments is the release after the first one.
pub fn is_new(segments: &Segments) -> bool {
    segments.as_slice().iter().any(|segment| segment.len as usize == NEW_CODE_BYTES)
}

/// An application of a little more than `chunks - 1` chunks of 64 KiB.
///
/// # Errors
/// The image could not be composed.
pub fn application(version: &str, chunks: usize) -> anyhow::Result<Vec<u8>> {
    let mut rodata = vec![0; chunks.saturating_sub(2) * 65_536 + 4096];
    // Different bytes in every version and every chunk.
    for (index, byte) in rodata.iter_mut().enumerate() {
        *byte = (index >> 8) as u8 ^ version.bytes().fold(index as u8, u8::wrapping_add);
    }
    let app_desc = AppDescriptor::new("hello", version);
    let code = if version == NEW { [0; NEW_CODE_BYTES].as_slice() } else { version.as_bytes() };
    Ok(compose::esp32c3(&app_desc, &rodata, code, &[7; 256])?)
}

/// Actions carry whole check-ins; a line is enough.
fn shorten(text: &str) -> String {
    const CHARS: usize = 160;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
