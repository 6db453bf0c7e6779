//! What goes on while a server is killed, and the ledger of what it acknowledged.

use std::io;
use std::sync::{Arc, Mutex};

use hyper::Method;
use manifest::Digest;
use rcgen::KeyPair;
use serde_json::{Value, json};
use wire::Running;

use super::instance::Remote;
use crate::app::{check_in, csr, describe, image_of, new_key, product_body, sign};
use crate::client::Identity;
use crate::place::Place;

/// What the server acknowledged, in the words of its clients.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Sequence numbers that were tried, and the last of them.
    tried_sequence: u64,
    /// Published: sequence number and digest.
    pub(crate) releases: Vec<(u64, Digest)>,
    pub(crate) devices: Vec<Device>,
    tried_devices: usize,
    pub(crate) check_ins: u64,
    /// Requests that got no answer.
    pub(crate) unanswered: u64,
}

/// A device that the server acknowledged to have made.
pub(crate) struct Device {
    id: String,
    token: String,
    key: Arc<KeyPair>,
    /// With the acknowledged certificate.
    identity: Option<Identity>,
    /// The sequence number that it said to run in the last check-in that was answered; 0 before.
    running: u64,
}

pub(crate) type Shared = Arc<Mutex<Ledger>>;

pub(crate) async fn make_product(remote: &Remote) {
    let body = product_body("lamp").to_string();
    remote.admin(Method::POST, "/products", body).await.unwrap().expect(201);
}

/// Publishes, enrolls and checks in, all at once, until the server is gone.
pub(crate) async fn work(remote: &Remote, ledger: &Shared) {
    let count = async |ended: io::Result<()>| {
        assert!(ended.is_err());
        ledger.lock().unwrap().unanswered += 1;
    };
    tokio::join!(
        async { count(publish(remote, ledger).await).await },
        async { count(enroll(remote, ledger).await).await },
        async { count(check_ins(remote, ledger).await).await },
    );
}

async fn publish(remote: &Remote, ledger: &Shared) -> io::Result<()> {
    loop {
        let sequence = {
            let mut ledger = ledger.lock().unwrap();
            ledger.tried_sequence += 1;
            ledger.tried_sequence
        };
        let version = format!("1.0.{sequence}");
        let image = image_of(&version, 300_000);
        let digest = Digest::of(&image);
        let put = remote.admin(Method::PUT, &format!("/artifacts/{digest}"), image.clone()).await?;
        assert!(put.status.is_success(), "{}", put.text());
        let manifest = base64::Engine::encode(
            &base64::prelude::BASE64_STANDARD,
            sign(&describe(&image, sequence, &version)),
        );
        let body = json!({ "manifest": manifest, "notes": "" }).to_string();
        remote.admin(Method::POST, "/products/lamp/releases", body).await?.expect(201);
        ledger.lock().unwrap().releases.push((sequence, digest));
    }
}

async fn enroll(remote: &Remote, ledger: &Shared) -> io::Result<()> {
    loop {
        let id = {
            let mut ledger = ledger.lock().unwrap();
            ledger.tried_devices += 1;
            format!("lamp-{}", ledger.tried_devices)
        };
        let body = json!({ "id": id, "product": "lamp" }).to_string();
        let made = remote.admin(Method::POST, "/devices", body).await?.expect(201).json();
        let token = made["enrollment_token"].as_str().unwrap().to_owned();
        let key = Arc::new(new_key());
        let index = {
            let mut ledger = ledger.lock().unwrap();
            let device =
                Device { id: id.clone(), token: token.clone(), key: key.clone(), identity: None, running: 0 };
            ledger.devices.push(device);
            ledger.devices.len() - 1
        };
        let certificate = remote.enroll(&id, &token, &csr(&key)).await?.expect(200).certificate();
        let identity = Identity { certificate, key_der: key.serialize_der() };
        ledger.lock().unwrap().devices[index].identity = Some(identity);
    }
}

async fn check_ins(remote: &Remote, ledger: &Shared) -> io::Result<()> {
    let mut turn = 0;
    loop {
        turn += 1;
        let next = {
            let ledger = ledger.lock().unwrap();
            let enrolled =
                || ledger.devices.iter().enumerate().filter(|(_, device)| device.identity.is_some());
            let chosen = enrolled().nth(turn % enrolled().count().max(1));
            chosen.map(|(index, device)| (index, device.identity.clone(), device.running + 1))
        };
        let Some((index, identity, running)) = next else {
            tokio::task::yield_now().await;
            remote.admin(Method::GET, "/info", "").await?;
            continue;
        };
        let mut message = check_in(None);
        message.running = Some(Running {
            digest: Digest::of(&running.to_be_bytes()).0.into(),
            sequence: Some(running),
            version: Some(format!("1.0.{running}")),
        });
        let mut connection = remote.device(identity.as_ref()).await?;
        let request = crate::client::request(
            Method::POST,
            wire::CHECK_IN_PATH,
            &[("content-type", wire::MEDIA_TYPE)],
            wire::Message::to_cbor(&message),
        );
        connection.send(request).await?.expect(200);
        let mut ledger = ledger.lock().unwrap();
        ledger.devices[index].running = running;
        ledger.check_ins += 1;
    }
}

/// Compares what a server has with what was acknowledged.
pub(crate) async fn check(remote: &Remote, place: &Place, ledger: &Shared) {
    for (name, content) in place.stored_artifacts().await {
        assert_eq!(name, content.to_string(), "half an artifact is left");
    }
    // Nobody works meanwhile.
    let mut taken = std::mem::take(&mut *ledger.lock().unwrap());
    check_devices(remote, &mut taken).await;
    check_releases(remote, &taken).await;
    *ledger.lock().unwrap() = taken;
}

async fn check_devices(remote: &Remote, ledger: &mut Ledger) {
    let shown = remote.list("/devices").await;
    for device in &mut ledger.devices {
        let shown = shown.iter().find(|shown| shown["id"] == device.id.as_str());
        let shown = shown.unwrap_or_else(|| panic!("{} was made and is lost", device.id));
        if device.identity.is_some() {
            assert_eq!(shown["state"], "enrolled", "{}", device.id);
            let running = shown["running"]["sequence"].as_u64().unwrap_or(0);
            assert!(running >= device.running, "{}: {running} of {}", device.id, device.running);
        } else {
            // It got no answer, and asks again with the same key, as devices do.
            let again = remote.enroll(&device.id, &device.token, &csr(&device.key)).await.unwrap();
            let certificate = again.expect(200).certificate();
            device.identity = Some(Identity { certificate, key_der: device.key.serialize_der() });
        }
    }
    // A token that was used up stays so.
    if let Some(device) = ledger.devices.iter().rfind(|device| device.running > 0) {
        remote.enroll(&device.id, &device.token, &csr(&new_key())).await.unwrap().expect(401);
    }
}

async fn check_releases(remote: &Remote, ledger: &Ledger) {
    let shown = remote.list("/products/lamp/releases").await;
    for (sequence, digest) in &ledger.releases {
        let is_it = |shown: &&Value| {
            shown["sequence"].as_u64() == Some(*sequence) && shown["digest"] == digest.to_string().as_str()
        };
        assert!(shown.iter().any(|shown| is_it(&shown)), "release {sequence} was published and is lost");
    }
    // What is served is whole, acknowledged or not.
    let device = ledger.devices.iter().find(|device| device.identity.is_some());
    let identity = device.and_then(|device| device.identity.as_ref());
    let Some(identity) = identity else { return };
    let mut connection = remote.device(Some(identity)).await.unwrap();
    for release in shown {
        let digest = release["digest"].as_str().unwrap();
        let image = connection.get(&format!("{}{digest}", wire::ARTIFACTS_PATH), &[]).await.expect(200).body;
        assert_eq!(Digest::of(&image).to_string(), digest);
    }
}
