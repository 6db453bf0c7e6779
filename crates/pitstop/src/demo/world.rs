//! The virtual device of the demo, with its server, publisher and product.

use std::path::Path;

use sim::net::{Link, SimNetwork};
use sim::{End, PowerSwitch, RunningApp, SimFlash, VirtualDevice};
use updater_io::platform::WifiCredentials;

use super::backend::Backend;
use super::images::Application;
use super::stage::{Stage, Witness};
use crate::failure::Failure;

const SSID: &str = "workshop";
const PASSPHRASE: &str = "an unguessable passphrase";

/// Everything that is on stage.
pub(super) struct World {
    pub(super) backend: Backend,
    pub(super) device: VirtualDevice,
    pub(super) witness: Witness,
    /// The flash as it left the factory, with the enrollment token in its vault.
    pub(super) factory_flash: Vec<u8>,
}

impl World {
    /// Sets the stage; `folder` receives the server's data, the publisher's key and the flash file.
    pub(super) async fn build(
        folder: &Path,
        images: [&Application; 2],
        stage: Stage,
    ) -> Result<Self, Failure> {
        let chip = images[0].image.summary.header.chip;
        let backend = Backend::open(folder, images, chip, None, stage).await?;
        let flash_bytes = backend.layout.flash_bytes();
        let mut flash = SimFlash::create(folder.join("flash.bin"), flash_bytes)
            .map_err(|error| Failure::new(format!("the flash file cannot be made: {error}")))?;
        let witness = Witness::new(stage);
        let wifi = [WifiCredentials { ssid: SSID.into(), passphrase: PASSPHRASE.to_owned().into() }];
        let power = PowerSwitch::new();
        flash.set_power(power.clone());
        let network = SimNetwork::new(Link::Wifi(wifi.to_vec()), power);
        let (layout, provisioning) = (backend.layout.layout.clone(), backend.provisioning(&wifi));
        let mut device =
            VirtualDevice::manufacture(flash, network, chip, layout, &provisioning, rand::random())
                .map_err(|error| Failure::new(format!("the virtual device cannot be made: {error}")))?;
        let observer = witness.clone();
        device.set_observer(move |news| observer.observe(news));
        let factory_flash = device.flash.bytes().to_vec();
        stage.event(
            "device-built",
            &format!("a virtual {chip} with {} MB of flash, provisioned", flash_bytes >> 20),
            serde_json::json!({ "chip": chip.name(), "flash_bytes": flash_bytes }),
        )?;
        Ok(Self { backend, device, witness, factory_flash })
    }

    /// Power off, power on, and what the device does then.
    pub(super) async fn power_cycle(&mut self) -> Result<End, Failure> {
        self.witness.seen().last_cause = None;
        self.device
            .power_on()
            .await
            .map_err(|error| Failure::new(format!("the virtual flash failed: {error}")))
    }

    /// Power-cycles and expects an application.
    pub(super) async fn run(&mut self) -> Result<RunningApp, Failure> {
        match self.power_cycle().await? {
            End::Running(app) => Ok(app),
            End::Waiting { reason, .. } => Err(Failure::new(format!(
                "expected an application to run, found the device waiting: {reason}"
            ))),
            End::Dead(reason) => Err(Failure::new(format!("the virtual chip starts nothing: {reason}"))),
            End::PowerLost => Err(Failure::new("the virtual device lost its power")),
        }
    }
}
