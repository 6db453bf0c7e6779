//! A test bed: the real server on loopback, a product, and virtual devices for it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flashfmt::image::compose;
use flashfmt::layout::Layout;
use flashfmt::{AppDescriptor, Chip};
use manifest::{Digest, Manifest, PublisherKeys, PublisherSigningKey, Sequence, Signed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use server::{Config, RunningServer};
use sim::device::host_time_s;
use sim::impostor::{Impostor, Reply, Rule};
use sim::net::{Link, Route, SimNetwork};
use sim::pki::Identity;
use sim::{PowerSwitch, SimFlash, VirtualDevice};
use updater_io::country::CountryCode;
use updater_io::platform::WifiCredentials;
use updater_io::vault::{Provisioning, ServerUrl};
use wire::Message;

pub(crate) const PRODUCT: &str = "lamp";

/// An answer to check-ins that offers this manifest.
pub(crate) fn offer(manifest: &Signed<Manifest>) -> Rule {
    let bytes = manifest.as_bytes().to_vec();
    let decision = wire::Decision::new(u64::from(host_time_s()), Some(bytes)).to_cbor();
    Rule::new("POST", wire::CHECK_IN_PATH, Reply::ok(wire::MEDIA_TYPE, &decision))
}

/// An application of `chunks` chunks of 64 KiB, its version in the app descriptor.
pub(crate) fn application(version: &str, chunks: usize) -> Vec<u8> {
    let mut rodata = vec![0; chunks.saturating_sub(2) * 65_536 + 4096];
    // Different bytes in every version and every chunk.
    for (index, byte) in rodata.iter_mut().enumerate() {
        *byte = (index >> 8) as u8 ^ version.bytes().fold(index as u8, u8::wrapping_add);
    }
    let app_desc = AppDescriptor::new("hello", version);
    compose::esp32c3(&app_desc, &rodata, version.as_bytes(), &[7; 256]).unwrap()
}

pub(crate) fn publisher(seed: u8) -> PublisherSigningKey {
    PublisherSigningKey::new(p256::SecretKey::from_slice(&[seed; 32]).unwrap())
}

pub(crate) struct Bed {
    pub(crate) server: RunningServer,
    pub(crate) layout: Layout,
    token: String,
    folder: tempfile::TempDir,
}

impl Bed {
    /// A server with the product `lamp` on a built-in layout.
    pub(crate) async fn start(layout: &str) -> Self {
        Self::start_with(layout, |_| {}).await
    }

    /// The same with a server that is set up in another way.
    pub(crate) async fn start_with(layout: &str, set_up: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path());
        config.device_addr.set_port(0);
        config.admin_addr.set_port(0);
        set_up(&mut config);
        let server = server::start(config).await.unwrap();
        let token = server.first_admin_token().unwrap().to_owned();
        let csv = flashfmt::layout::BUILTIN.iter().find(|(name, _)| *name == layout).unwrap().1;
        let bed = Self { server, layout: Layout::builtin(layout).unwrap(), token, folder };
        let key = hex::encode(publisher(1).publisher_key().to_sec1());
        bed.post(
            "products",
            &json!({
                "name": PRODUCT,
                "chip": "esp32c3",
                // Devices of tests run for milliseconds.
                "min_run_s": 0,
                "layout": { "name": layout, "csv": csv },
                "publisher_keys": [{ "name": "alice", "key": key }],
            }),
        );
        bed
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.server.admin_url().trim_end_matches('/'))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        tokio::task::block_in_place(|| {
            let request = ureq::post(self.url(path)).header("authorization", &bearer);
            request.send_json(body).unwrap().body_mut().read_json().unwrap()
        })
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        let bearer = format!("Bearer {}", self.token);
        tokio::task::block_in_place(|| {
            let request = ureq::patch(self.url(path)).header("authorization", &bearer);
            request.send_json(body).unwrap().body_mut().read_json().unwrap()
        })
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let bearer = format!("Bearer {}", self.token);
        tokio::task::block_in_place(|| {
            let request = ureq::get(self.url(path)).header("authorization", &bearer);
            request.call().unwrap().body_mut().read_json().unwrap()
        })
    }

    /// Signs and publishes.
    pub(crate) fn publish(&self, sequence: u64, version: &str, image: &[u8]) -> Manifest {
        let chip_id = Chip::Esp32C3.id();
        let manifest = Manifest::describe(image, Sequence(sequence), PRODUCT, chip_id, version).unwrap();
        let signed = Signed::sign(&manifest, &publisher(1)).unwrap();
        let bearer = format!("Bearer {}", self.token);
        tokio::task::block_in_place(|| {
            let url = self.url(&format!("artifacts/{}", Digest::of(image)));
            ureq::put(url).header("authorization", &bearer).send(image).unwrap();
        });
        let manifest_base64 = STANDARD.encode(signed.as_bytes());
        self.post(&format!("products/{PRODUCT}/releases"), &json!({ "manifest": manifest_base64 }));
        manifest
    }

    /// A new device id and its enrollment token.
    pub(crate) fn enrollment_token(&self, id: &str) -> String {
        let device = self.post("devices", &json!({ "id": id, "product": PRODUCT }));
        device["enrollment_token"].as_str().unwrap().to_owned()
    }

    /// What the server knows of a device.
    pub(crate) fn device(&self, id: &str) -> Value {
        self.get(&format!("devices/{id}"))
    }

    /// What a thief of the whole server holds: the certificate and key of its device listener.
    pub(crate) fn stolen_identity(&self) -> Identity {
        let tls = self.folder.path().join("tls");
        let chain_pem = std::fs::read_to_string(tls.join("server.pem")).unwrap();
        let key_pem = std::fs::read_to_string(tls.join("server.key")).unwrap();
        let certificate_der = CertificateDer::from_pem_slice(chain_pem.as_bytes()).unwrap().to_vec();
        Identity { chain_pem, certificate_der, key_pem }
    }

    /// Leads the device to another server instead of this one, as a hijacked name does, or back again.
    pub(crate) fn lead(&self, device: &mut VirtualDevice, impostor: Option<&Impostor>) {
        let url = ServerUrl::parse(self.server.device_url()).unwrap();
        let address = impostor.map_or(self.server.device_addr(), Impostor::address);
        device.network.set_route(&url.host, url.port, Route::To(address));
    }

    /// A device fresh from the factory.
    pub(crate) fn manufacture(&self, id: &str) -> VirtualDevice {
        self.manufacture_trusting(id, &[self.server.ca_certificate_der()])
    }

    /// A device fresh from the factory that trusts these CAs (DER).
    pub(crate) fn manufacture_trusting(&self, id: &str, anchors: &[&[u8]]) -> VirtualDevice {
        let token = self.enrollment_token(id);
        let power = PowerSwitch::new();
        let flash_bytes = self.layout.needed_flash_bytes().next_power_of_two();
        let mut flash = SimFlash::new(flash_bytes);
        flash.set_power(power.clone());
        let network = SimNetwork::new(Link::Wifi(vec![workshop()]), power);
        let (chip, layout) = (Chip::Esp32C3, self.layout.clone());
        let server = ServerUrl::parse(self.server.device_url()).unwrap();
        let anchors: Vec<_> = anchors.iter().map(|anchor| CertificateDer::from(*anchor)).collect();
        let publishers = PublisherKeys::from_iter([publisher(1).publisher_key()]);
        let provisioning = Provisioning {
            device_id: id,
            product: PRODUCT,
            server: &server,
            token: Some(&token),
            anchors: &anchors,
            publishers: &publishers,
            wifi: &[workshop()],
            country: CountryCode::WORLD,
            time_floor_s: Some(host_time_s()),
        };
        VirtualDevice::manufacture(flash, network, chip, layout, &provisioning, 1).unwrap()
    }
}

pub(crate) fn workshop() -> WifiCredentials {
    WifiCredentials { ssid: "workshop".into(), passphrase: "correct horse".to_owned().into() }
}
