//! The refusals: what must not happen, tried for real, each with the reason that stopped it.
//!
//! For the first four the attacker has the server itself: its TLS key and its certificate. What it lacks is the
//! publisher's key.

use std::path::Path;

use flashfmt::image::compose::Composer;
use flashfmt::{AppDescriptor, Chip};
use manifest::{PublisherSigningKey, Signed};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use sim::End;
use sim::impostor::{Impostor, Reply, Rule};
use sim::net::Route;
use sim::pki::Identity;
use wire::{Decision, Message, Reason};

use super::backend::{DEVICE, PRODUCT, ask, start_server};
use super::images::Images;
use super::stage::Stage;
use super::world::World;
use crate::client::ClientError;
use crate::failure::Failure;
use crate::publish;

/// An address that is not flash-mapped on any chip, so that one small composer serves all.
const RAM_ADDR: u32 = 0x4037_0000;

/// How many refusals there are.
pub(super) const COUNT: usize = 8;

/// Tries everything that must be refused.
///
/// # Errors
/// When something was not refused, or for another reason than it should.
pub(super) async fn run(
    world: &mut World,
    stage: Stage,
    images: &Images,
    folder: &Path,
) -> Result<(), Failure> {
    stolen_server(world, stage, images).await?;
    too_large(world, stage)?;
    token_used_twice(world, stage).await?;
    revoked(world, stage, images).await?;
    another_ca(world, stage, folder).await
}

/// The attacker answers in place of the server, with the server's own key.
async fn stolen_server(world: &mut World, stage: Stage, images: &Images) -> Result<(), Failure> {
    let impostor = Impostor::start(&stolen_identity(&world.backend.data)?, Vec::new())
        .await
        .map_err(|error| Failure::new(format!("the impostor did not start: {error}")))?;
    let chip = images.first.image.summary.header.chip;
    let next = &images.second.image.bytes;

    let stranger = PublisherSigningKey::new(p256::SecretKey::random(&mut rand::rngs::OsRng));
    let newer = world.backend.sign(next, 99, chip.id(), "9.9.9")?;
    let by_stranger = sign(&newer, &stranger)?;
    let mut changed = sign(&newer, &world.backend.key.key)?;
    // A byte of the payload, which the signature covers: the head of the message is 15 bytes long at most.
    changed[40] ^= 1;
    let older = sign(
        &world.backend.sign(&images.first.image.bytes, 1, chip.id(), &images.first.version)?,
        &world.backend.key.key,
    )?;
    let other = if chip == Chip::Esp32S3 { Chip::Esp32C3 } else { Chip::Esp32S3 };
    let for_another = sign(&world.backend.sign(next, 99, other.id(), "9.9.9")?, &world.backend.key.key)?;

    let attempts = [
        ("stranger", "a release signed by a stranger", by_stranger, Reason::ManifestSignature),
        ("changed-byte", "a manifest with a changed byte", changed, Reason::ManifestSignature),
        ("older-sequence", "an older sequence number", older, Reason::SequenceOlder),
        ("another-chip", "an image for another chip", for_another, Reason::ChipMismatch),
    ];
    for (name, attack, manifest, expected) in attempts {
        let decision = Decision::new(sim::device::host_time_s().into(), Some(manifest));
        impostor.set_rules(vec![
            Rule::new("POST", wire::CHECK_IN_PATH, Reply::ok(wire::MEDIA_TYPE, &decision.to_cbor())),
            Rule::new("POST", wire::REPORTS_PATH, Reply::status(204)),
            Rule::new("GET", wire::ARTIFACTS_PATH, Reply::artifact(next)),
        ]);
        route(world, Some(impostor.address()));
        let app = world.run().await?;
        let text = format!("{expected}; {} keeps running", app.version());
        expect(name, app.reason, expected)?;
        stage.refusal(attack, &text, json!({ "attack": name, "by": "device", "reason": expected.name() }))?;
    }
    route(world, None);
    Ok(())
}

/// The server's own check when an image is published that no slot holds.
fn too_large(world: &World, stage: Stage) -> Result<(), Failure> {
    let slot_bytes = world.backend.product.slots.iter().map(|slot| slot.size_bytes).min().unwrap_or(0);
    let chip: Chip = world.backend.product.chip.parse().map_err(|error| Failure::new(format!("{error}")))?;
    let image = Composer::new(chip, RAM_ADDR)
        .segment_with_app_desc(
            RAM_ADDR,
            &AppDescriptor::new("hello", "9.9.9"),
            &vec![0; usize::try_from(slot_bytes).unwrap_or(usize::MAX)],
        )
        .build()
        .map_err(|error| Failure::new(format!("the demo's large image cannot be composed: {error}")))?;
    let manifest = world.backend.sign(&image, 99, chip.id(), "9.9.9")?;
    let signed =
        Signed::sign(&manifest, &world.backend.key.key).map_err(|error| Failure::new(error.to_string()))?;
    let digest = manifest.artifact.digest.to_string();
    ask(|| {
        world.backend.client.upload_artifact(
            &world.backend.product.name,
            &digest,
            image.len() as u64,
            image.as_slice(),
        )
    })?;
    let refused =
        tokio::task::block_in_place(|| world.backend.client.create_release(PRODUCT, &publish::body(&signed)));
    let text = match refused {
        Err(error @ ClientError::Refused { .. }) => error.to_string(),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(not_refused("too-large")),
    };
    if !(text.contains(&slot_bytes.to_string()) && text.contains(&image.len().to_string())) {
        return Err(Failure::new(format!("expected both sizes in the refusal, found: {text}")));
    }
    let fields = json!({
        "attack": "too-large", "by": "server", "reason": Reason::ImageTooLarge.name(),
        "slot_bytes": slot_bytes, "image_bytes": image.len(),
    });
    stage.refusal("an image larger than the slot, at publish time", &text, fields)
}

async fn revoked(world: &mut World, stage: Stage, images: &Images) -> Result<(), Failure> {
    ask(|| world.backend.client.revoke_device(DEVICE, Some("shown in the demo")))?;
    world.backend.publish(&images.first)?;
    let app = world.run().await?;
    expect("revoked", app.reason, Reason::DeviceRefused)?;
    let text =
        format!("{}; {} keeps running, the new release stays away", Reason::DeviceRefused, app.version());
    let fields = json!({ "attack": "revoked", "by": "server", "reason": Reason::DeviceRefused.name() });
    stage.refusal("a revoked device", &text, fields)
}

/// A copy of the flash as it left the factory: the same id and the same token, and no certificate.
async fn token_used_twice(world: &mut World, stage: Stage) -> Result<(), Failure> {
    let original = world.device.flash.bytes().to_vec();
    let copy = world.factory_flash.clone();
    restore(world, &copy)?;
    let end = world.power_cycle().await?;
    restore(world, &original)?;
    let End::Waiting { reason, .. } = end else { return Err(not_refused("token-used-twice")) };
    expect("token-used-twice", Some(reason), Reason::EnrollmentRefused)?;
    let fields = json!({ "attack": "token-used-twice", "by": "server", "reason": reason.name() });
    let text = format!("{reason}; the copy gets no certificate and no application");
    stage.refusal("an enrollment token used twice", &text, fields)
}

/// Another Pitstop server, honest and with a CA of its own, at the address of the first.
async fn another_ca(world: &mut World, stage: Stage, folder: &Path) -> Result<(), Failure> {
    let other = start_server(&folder.join("other-server"), None).await?;
    route(world, Some(other.device_addr()));
    let app = world.run().await?;
    route(world, None);
    other.shutdown().await;
    expect("another-ca", app.reason, Reason::TlsRefused)?;
    let text = format!("{} ({}); {} keeps running", Reason::TlsRefused, cause(world), app.version());
    let fields = json!({ "attack": "another-ca", "by": "device", "reason": Reason::TlsRefused.name() });
    stage.refusal("a server with another CA", &text, fields)
}

fn sign(manifest: &manifest::Manifest, key: &PublisherSigningKey) -> Result<Vec<u8>, Failure> {
    let signed = Signed::sign(manifest, key).map_err(|error| Failure::new(error.to_string()))?;
    Ok(signed.as_bytes().to_vec())
}

/// Leads the server's name to another address, as whoever owns the network can; `None` leads it back.
fn route(world: &mut World, address: Option<std::net::SocketAddr>) {
    let real = world.backend.server.device_addr();
    let name = world.backend.server.device_url().trim_start_matches("https://");
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host).to_owned();
    world.device.network.set_route(&host, real.port(), Route::To(address.unwrap_or(real)));
}

fn restore(world: &mut World, flash: &[u8]) -> Result<(), Failure> {
    let restored = world.device.flash.put(0, flash);
    restored.map_err(|error| Failure::new(format!("the virtual flash failed: {error}")))
}

/// The innermost cause of the device's last fault.
fn cause(world: &World) -> String {
    world.witness.seen().last_cause.clone().unwrap_or_default()
}

fn expect(attack: &str, found: Option<Reason>, expected: Reason) -> Result<(), Failure> {
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.map_or("no reason at all", Reason::name);
    Err(Failure::new(format!(
        "expected `{attack}` to be refused for {}, found {found}; this is a bug of Pitstop",
        expected.name()
    )))
}

fn not_refused(attack: &str) -> Failure {
    Failure::new(format!("expected `{attack}` to be refused, and it was not; this is a bug of Pitstop"))
}

/// The server's key and certificate, as a thief finds them in its data directory.
fn stolen_identity(data: &Path) -> Result<Identity, Failure> {
    let read = |name: &str| {
        let path = data.join("tls").join(name);
        std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))
    };
    let (chain_pem, key_pem) = (read("server.pem")?, read("server.key")?);
    let certificate = CertificateDer::from_pem_slice(chain_pem.as_bytes())
        .map_err(|error| Failure::new(format!("the server's certificate cannot be read: {error}")))?;
    Ok(Identity { chain_pem, certificate_der: certificate.to_vec(), key_pem })
}
