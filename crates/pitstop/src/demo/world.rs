//! What the demo plays with: the real server, a publisher, a product, a virtual device.

use std::path::{Path, PathBuf};

use flashfmt::layout::{BUILTIN, Layout};
use manifest::{Manifest, PublisherKeys, Sequence, Signed};
use rustls::pki_types::CertificateDer;
use server::{Config, RunningServer};
use sim::device::host_time_s;
use sim::net::{Link, SimNetwork};
use sim::{End, PowerSwitch, RunningApp, SimFlash, VirtualDevice};
use updater_io::platform::WifiCredentials;
use updater_io::vault::{Provisioning, ServerUrl};

use super::images::Application;
use super::stage::{Stage, Witness};
use crate::client::Client;
use crate::client::types::{Layout as NewLayout, NewDevice, NewProduct, NewPublisherKey, Product, Release};
use crate::failure::Failure;
use crate::keyfile::KeyFile;
use crate::publish::{self, Proposal};

pub(super) const PRODUCT: &str = "lamp";
pub(super) const DEVICE: &str = "lamp-0001";
const SSID: &str = "workshop";
const PASSPHRASE: &str = "an unguessable passphrase";

/// Everything that is on stage.
pub(super) struct World {
    pub(super) server: RunningServer,
    pub(super) client: Client,
    pub(super) data: PathBuf,
    pub(super) key: KeyFile,
    pub(super) product: Product,
    pub(super) device: VirtualDevice,
    pub(super) witness: Witness,
    /// The flash as it left the factory, with the enrollment token in its vault.
    pub(super) factory_flash: Vec<u8>,
}

/// Starts a server with the embedded defaults on free ports.
pub(super) async fn start_server(data: &Path) -> Result<RunningServer, Failure> {
    let mut config = Config::new(data);
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    server::start(config).await.map_err(|error| Failure::new(format!("the server did not start: {error}")))
}

/// A client call from the demo's own task; it blocks.
pub(super) fn ask<T, E: Into<Failure>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, Failure> {
    tokio::task::block_in_place(call).map_err(Into::into)
}

/// The smallest built-in layout with chain-load hand-over whose slots hold both images.
fn layout_for(images: [&Application; 2]) -> Result<(&'static str, Layout), Failure> {
    let needed_bytes = images.map(|application| application.image.summary.image_bytes).into_iter().max();
    BUILTIN
        .iter()
        .filter_map(|(name, _)| Some((*name, Layout::builtin(name)?)))
        .filter(|(_, layout)| layout.otadata().is_none())
        .find(|(_, layout)| layout.slots().all(|slot| Some(slot.size) >= needed_bytes))
        .ok_or_else(|| {
            Failure::new(format!(
                "expected images that fit a slot of a built-in layout, found one of {} bytes",
                needed_bytes.unwrap_or(0)
            ))
        })
}

impl World {
    /// Sets the stage; `folder` receives the server's data, the publisher's key and the flash file.
    pub(super) async fn build(
        folder: &Path,
        images: [&Application; 2],
        stage: Stage,
    ) -> Result<Self, Failure> {
        let data = folder.join("server");
        let server = start_server(&data).await?;
        let token = server.first_admin_token().unwrap_or_default().to_owned();
        let client = Client::new(&server.admin_url(), &token);
        stage.event(
            "server-started",
            &format!("the server listens at {} with a CA and an admin token of its own", server.device_url()),
            serde_json::json!({
                "device_url": server.device_url(), "admin_url": server.admin_url(), "data": data,
            }),
        )?;

        let key = KeyFile::create(&folder.join("publisher.key"), "alice")?;
        let public = hex::encode(key.public().to_sec1());
        let chip = images[0].image.summary.header.chip;
        let (layout_name, layout) = layout_for(images)?;
        let csv = BUILTIN.iter().find(|(name, _)| *name == layout_name).map_or("", |(_, csv)| csv);
        let new_product = NewProduct {
            name: PRODUCT.into(),
            chip: chip.name().into(),
            layout: NewLayout { name: layout_name.into(), csv: csv.into() },
            publisher_keys: vec![NewPublisherKey { name: key.name.clone(), key: public }],
        };
        let product = ask(|| client.create_product(&new_product))?;
        stage.event(
            "product-created",
            &format!("product {PRODUCT}: {chip}, layout {layout_name}, publisher key of {}", key.name),
            serde_json::json!({ "product": PRODUCT, "chip": chip.name(), "layout": layout_name }),
        )?;

        let new_device = NewDevice { id: Some(DEVICE.into()), product: PRODUCT.into(), note: None };
        let issued = ask(|| client.create_device(&new_device))?;
        stage.event(
            "device-created",
            &format!("device {DEVICE} with a one-time enrollment token"),
            serde_json::json!({ "device": DEVICE }),
        )?;

        let flash_bytes = layout.needed_flash_bytes().next_power_of_two();
        let flash = SimFlash::create(folder.join("flash.bin"), flash_bytes)
            .map_err(|error| Failure::new(format!("the flash file cannot be made: {error}")))?;
        let witness = Witness::new(stage);
        let wifi = [WifiCredentials { ssid: SSID.into(), passphrase: PASSPHRASE.to_owned().into() }];
        let url = ServerUrl::parse(server.device_url())
            .map_err(|error| Failure::new(format!("the server has no usable address: {error}")))?;
        let provisioning = Provisioning {
            device_id: DEVICE,
            product: PRODUCT,
            server: &url,
            token: Some(&issued.enrollment_token),
            anchors: &[CertificateDer::from(server.ca_certificate_der())],
            publishers: &PublisherKeys::from_iter([key.public()]),
            wifi: &wifi,
            time_floor_s: Some(host_time_s()),
        };
        let power = PowerSwitch::new();
        let mut flash = flash;
        flash.set_power(power.clone());
        let network = SimNetwork::new(Link::Wifi(wifi.to_vec()), power);
        let seed = rand::random();
        let mut device = VirtualDevice::manufacture(flash, network, chip, layout, &provisioning, seed)
            .map_err(|error| Failure::new(format!("the virtual device cannot be made: {error}")))?;
        let observer = witness.clone();
        device.set_observer(move |news| observer.observe(news));
        let factory_flash = device.flash.bytes().to_vec();
        stage.event(
            "device-built",
            &format!("a virtual {chip} with {} MB of flash, provisioned", flash_bytes >> 20),
            serde_json::json!({ "chip": chip.name(), "flash_bytes": flash_bytes }),
        )?;
        Ok(Self { server, client, data, key, product, device, witness, factory_flash })
    }

    /// Publishes an application as a person would: parsed, checked, signed here, uploaded, published.
    pub(super) fn publish(&self, application: &Application) -> Result<Release, Failure> {
        let newest = ask(|| self.client.releases(PRODUCT, 1))?;
        let plan = publish::plan(Proposal {
            product: &self.product,
            image: &application.image,
            key: &self.key,
            sequence: publish::choose_sequence(None, newest.items.first())?,
            version: Some(&application.version),
            expires_at_s: None,
            revert_to: Vec::new(),
        })?;
        self.send(&plan.manifest, &plan.signed, &application.image.bytes)
    }

    /// Uploads an image and publishes its manifest; nothing is checked on this side.
    pub(super) fn send(
        &self,
        manifest: &Manifest,
        signed: &Signed<Manifest>,
        image: &[u8],
    ) -> Result<Release, Failure> {
        let digest = manifest.artifact.digest.to_string();
        ask(|| self.client.upload_artifact(&digest, image.len() as u64, image))?;
        ask(|| self.client.create_release(PRODUCT, signed.as_bytes(), None))
    }

    /// A manifest of this publisher, whatever it says.
    pub(super) fn sign(
        &self,
        image: &[u8],
        sequence: u64,
        chip_id: u16,
        version: &str,
    ) -> Result<Manifest, Failure> {
        Manifest::describe(image, Sequence(sequence), PRODUCT, chip_id, version)
            .map_err(|error| Failure::new(format!("the demo's manifest is wrong: {error}")))
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
