//! What every device of the demo is made for: the real server, a publisher, a product.

use std::path::{Path, PathBuf};

use api::device::NewDeviceBody;
use api::product::{LayoutBody, NewProductBody, Product};
use api::publisher_key::NewKey;
use api::release::{PublishBody, Release};
use flashfmt::{Chip, layout};
use manifest::{Manifest, PublisherKeys, Sequence, Signed};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use server::{Config, RunningServer};
use sim::device::host_time_s;
use updater_io::country::CountryCode;
use updater_io::platform::WifiCredentials;
use updater_io::vault::{Provisioning, ServerUrl};

use super::images::Application;
use super::stage::Stage;
use crate::client::Client;
use crate::failure::Failure;
use crate::keyfile::KeyFile;
use crate::layouts::{NamedLayout, Strategy};
use crate::publish::{self, Proposal};

pub(super) const PRODUCT: &str = "lamp";
pub(super) const DEVICE: &str = "lamp-0001";

/// A server with a product, a publisher, and a device that has not enrolled yet.
pub(super) struct Backend {
    pub(super) server: RunningServer,
    pub(super) client: Client,
    pub(super) data: PathBuf,
    pub(super) key: KeyFile,
    pub(super) product: Product,
    /// The product's layout.
    pub(super) layout: NamedLayout,
    url: ServerUrl,
    anchors: [CertificateDer<'static>; 1],
    publishers: PublisherKeys,
    enrollment_token: String,
}

/// Starts a server with the embedded defaults on free ports. `name` is how devices reach it, unless it is by the
/// default name.
pub(super) async fn start_server(data: &Path, name: Option<&str>) -> Result<RunningServer, Failure> {
    let mut config = Config::new(data);
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    if let Some(name) = name {
        config.server_names = vec![name.to_owned()];
    }
    server::start(config).await.map_err(|error| Failure::new(format!("the server did not start: {error}")))
}

/// A client call from the demo's own task; it blocks.
pub(super) fn ask<T, E: Into<Failure>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, Failure> {
    tokio::task::block_in_place(call).map_err(Into::into)
}

/// The smallest built-in layout with chain-load hand-over whose slots hold both images.
fn layout_for(images: [&Application; 2]) -> Result<NamedLayout, Failure> {
    let needed_bytes = images.map(|application| application.image.summary.image_bytes).into_iter().max();
    layout::BUILTIN
        .iter()
        .filter_map(|(name, csv)| NamedLayout::parse(name, csv).ok())
        .filter(|named| Strategy::of(&named.layout) == Strategy::ChainLoad)
        .find(|named| named.layout.slots().all(|slot| Some(slot.size) >= needed_bytes))
        .ok_or_else(|| {
            Failure::new(format!(
                "expected images that fit a slot of a built-in layout, found one of {} bytes",
                needed_bytes.unwrap_or(0)
            ))
        })
}

impl Backend {
    /// Starts the server, and makes the product for `chip` and the device; `folder` receives the server's data and the
    /// publisher's key. `server_name` is as in [`start_server`].
    pub(super) async fn open(
        folder: &Path,
        images: [&Application; 2],
        chip: Chip,
        server_name: Option<&str>,
        stage: Stage,
    ) -> Result<Self, Failure> {
        let data = folder.join("server");
        let server = start_server(&data, server_name).await?;
        let token = server.first_admin_token().unwrap_or_default().to_owned();
        let client = Client::new(&server.admin_url(), &token);
        let seen_by = if server_name.is_some() { " (this computer, as the device sees it)" } else { "" };
        let url = server.device_url();
        stage.event(
            "server-started",
            &format!("the server listens at {url}{seen_by} with a CA and an admin token of its own"),
            json!({ "device_url": server.device_url(), "admin_url": server.admin_url(), "data": data }),
        )?;

        let key = KeyFile::create(&folder.join("publisher.key"), "alice")?;
        let layout = layout_for(images)?;
        let public = hex::encode(key.public().to_sec1());
        let new_product = NewProductBody {
            name: PRODUCT.into(),
            chip: chip.name().into(),
            layout: LayoutBody { name: layout.name.clone(), csv: layout.csv.clone() },
            publisher_keys: vec![NewKey { name: key.name.clone(), key: public }],
            // The demo's devices run for moments.
            min_run_s: Some(0),
            rotate_keys: None,
            chip_revision: None,
        };
        let product = ask(|| client.create_product(&new_product))?;
        stage.event(
            "product-created",
            &format!("product {PRODUCT}: {chip}, layout {}, publisher key of {}", layout.name, key.name),
            json!({ "product": PRODUCT, "chip": chip.name(), "layout": layout.name }),
        )?;

        let new_device =
            NewDeviceBody { id: Some(DEVICE.into()), product: PRODUCT.into(), ..NewDeviceBody::default() };
        let issued = ask(|| client.create_device(&new_device))?;
        stage.event(
            "device-created",
            &format!("device {DEVICE} with a one-time enrollment token"),
            json!({ "device": DEVICE }),
        )?;

        let url = ServerUrl::parse(server.device_url())
            .map_err(|error| Failure::new(format!("the server has no usable address: {error}")))?;
        let anchors = [CertificateDer::from(server.ca_certificate_der()).into_owned()];
        let publishers = PublisherKeys::from_iter([key.public()]);
        let enrollment_token = issued.enrollment_token;
        Ok(Self { server, client, data, key, product, layout, url, anchors, publishers, enrollment_token })
    }

    /// What the device's vault is to hold.
    pub(super) fn provisioning<'a>(&'a self, wifi: &'a [WifiCredentials]) -> Provisioning<'a> {
        Provisioning {
            device_id: DEVICE,
            product: PRODUCT,
            server: &self.url,
            token: Some(&self.enrollment_token),
            anchors: &self.anchors,
            publishers: &self.publishers,
            wifi,
            country: CountryCode::WORLD,
            time_floor_s: Some(host_time_s()),
        }
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
            without_descriptor: true,
            expires_at_s: None,
            revert_to: Vec::new(),
        })?;
        self.send(&plan.manifest, &plan.signed, &application.image.bytes)
    }

    /// Publishes an application and tells of it.
    pub(super) fn show_publish(&self, application: &Application, stage: Stage) -> Result<(), Failure> {
        let release = self.publish(application)?;
        stage.event(
            "published",
            &format!("{} publishes release {} (number {})", self.key.name, release.version, release.sequence),
            json!({ "version": release.version, "sequence": release.sequence, "digest": release.digest }),
        )
    }

    /// Uploads an image and publishes its manifest; nothing is checked on this side.
    pub(super) fn send(
        &self,
        manifest: &Manifest,
        signed: &Signed<Manifest>,
        image: &[u8],
    ) -> Result<Release, Failure> {
        let digest = manifest.artifact.digest.to_string();
        ask(|| self.client.upload_artifact(PRODUCT, &digest, image.len() as u64, image))?;
        ask(|| {
            self.client.create_release(
                PRODUCT,
                // The last act brings the first image again, under a number of its own.
                &PublishBody { without_descriptor: true, same_image: true, ..publish::body(signed) },
            )
        })
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
}
