//! The clients that work while something happens to the server.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use manifest::{Digest, Sequence};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::{CheckIn, Message as _, Outcome, Reason, Report};

use super::instance::Remote;
use super::ledger::{Device, Settled, Shared, Stage};
use crate::app::{check_in, csr, describe, image_of, new_key, product_body, sign};
use crate::client::{Answer, Identity};

/// The release that all devices are offered, and its rollout.
pub(super) const ROLLOUT: &str = "ro-lamp-1";
/// The rollout that is paused and resumed.
pub(super) const VALVE: &str = "ro-valve-1";

/// Clients of a kind; each has devices of its own.
const CLIENTS: usize = 3;

/// Pause of a client that was refused or not answered.
const PAUSE: Duration = Duration::from_millis(20);

/// The image of release 1.
fn first_image() -> Vec<u8> {
    image_of("1.0.1", 20_000)
}

/// Two products with a release and a rollout each, of which one never ends and tolerates everything.
pub(super) async fn prepare(remote: &Remote) {
    for product in ["lamp", "valve"] {
        let ask = async |method, path: &str, body: Vec<u8>, status| {
            remote.admin(method, path, body).await.unwrap().expect(status)
        };
        ask(Method::POST, "/products", product_body(product).to_string().into(), 201).await;
        let image = first_image();
        ask(Method::PUT, &format!("/artifacts/{}", Digest::of(&image)), image.clone(), {
            if product == "lamp" { 201 } else { 200 }
        })
        .await;
        let mut manifest = describe(&image, 1, "1.0.1");
        product.clone_into(&mut manifest.product);
        let body = json!({ "manifest": BASE64_STANDARD.encode(sign(&manifest)), "rollout": "none" });
        ask(Method::POST, &format!("/products/{product}/releases"), body.to_string().into(), 201).await;
        let limits = json!({ "failures_percent": 100, "crashes_percent": 100, "silence_percent": 100 });
        let wave = json!({ "select": { "percent": 100 }, "soak_s": 7_000_000, "limits": limits });
        let body = json!({ "product": product, "sequence": 1, "plan": { "waves": [wave] }, "start": true });
        ask(Method::POST, "/rollouts", body.to_string().into(), 201).await;
    }
}

/// Lets all clients work until `until` ends; what is under way then is waited for.
pub(super) async fn work(remote: &Remote, ledger: &Shared, until: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let client =
        |number| Client { number, remote: remote.clone(), ledger: ledger.clone(), stop: stop.clone() };
    let mut clients = JoinSet::new();
    clients.spawn(client(0).publish());
    clients.spawn(client(0).upload());
    clients.spawn(client(0).tokens());
    clients.spawn(client(0).pause_and_resume());
    for number in 0..CLIENTS {
        clients.spawn(client(number).enroll());
        clients.spawn(client(number).live());
        clients.spawn(client(number).note());
    }
    tokio::select! {
        () = until => {}
        // One that found a fault; `until` may wait for what it will not do any more.
        ended = clients.join_next() => panic!("a client ended before its time: {ended:?}"),
    }
    stop.cancel();
    clients.join_all().await;
}

struct Client {
    number: usize,
    remote: Remote,
    ledger: Shared,
    stop: CancellationToken,
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// The answer, if it is an acknowledgement. Whatever was asked for may have been done all the same.
    async fn ask(
        &self,
        expected: &[u16],
        answer: impl Future<Output = io::Result<Answer>>,
    ) -> Option<Answer> {
        let started = Instant::now();
        let answer = answer.await;
        let took = started.elapsed();
        let settled = match &answer {
            Ok(answer) if expected.contains(&answer.status.as_u16()) => Settled::Acknowledged,
            Ok(answer) => {
                let status = answer.status.as_u16();
                assert!(matches!(status, 503 | 507), "{status}: {}", answer.text());
                assert!(status == 507 || !answer.header("retry-after").is_empty(), "{}", answer.text());
                Settled::Refused
            }
            Err(_) => Settled::Unanswered,
        };
        self.ledger.lock().unwrap().settle(settled, took);
        match settled {
            Settled::Acknowledged => answer.ok(),
            Settled::Refused | Settled::Unanswered => {
                tokio::time::sleep(PAUSE).await;
                None
            }
        }
    }

    async fn admin(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Vec<u8>>,
        expected: &[u16],
    ) -> Option<Answer> {
        self.ask(expected, self.remote.admin(method, path, body.into())).await
    }

    async fn publish(self) {
        while self.goes_on() {
            let sequence = {
                let mut ledger = self.ledger.lock().unwrap();
                ledger.tried_sequence += 1;
                ledger.tried_sequence
            };
            let version = format!("1.1.{sequence}");
            let image = image_of(&version, 300_000);
            let digest = Digest::of(&image);
            let path = format!("/artifacts/{digest}");
            if self.admin(Method::PUT, &path, image.clone(), &[200, 201]).await.is_none() {
                continue;
            }
            self.ledger.lock().unwrap().artifacts.push(digest);
            let manifest = BASE64_STANDARD.encode(sign(&describe(&image, sequence, &version)));
            let body = json!({ "manifest": manifest, "notes": "", "rollout": "none" }).to_string();
            if self.admin(Method::POST, "/products/lamp/releases", body, &[201]).await.is_some() {
                self.ledger.lock().unwrap().releases.push((sequence, digest));
            }
        }
    }

    /// Artifacts that no release needs.
    async fn upload(self) {
        while self.goes_on() {
            let mut artifact = vec![0xa5; 700_000];
            artifact[..16].copy_from_slice(&rand::random::<[u8; 16]>());
            let digest = Digest::of(&artifact);
            if self.admin(Method::PUT, &format!("/artifacts/{digest}"), artifact, &[201]).await.is_some() {
                self.ledger.lock().unwrap().artifacts.push(digest);
            }
        }
    }

    async fn tokens(self) {
        while self.goes_on() {
            let body = json!({ "name": "made under load", "role": "viewer" }).to_string();
            let Some(made) = self.admin(Method::POST, "/tokens", body, &[201]).await else { continue };
            let made = made.json();
            let text = |name: &str| made[name].as_str().unwrap().to_owned();
            let id = text("id");
            self.ledger.lock().unwrap().made_token(&id, text("token"));
            if rand::random() {
                self.ledger.lock().unwrap().revoking(&id, false);
                let revoked = self.admin(Method::POST, &format!("/tokens/{id}/revoke"), "", &[200]).await;
                self.ledger.lock().unwrap().revoking(&id, revoked.is_some());
            }
        }
    }

    async fn pause_and_resume(self) {
        while self.goes_on() {
            // What was asked for without an answer may be done.
            let path = format!("/rollouts/{VALVE}");
            let Some(shown) = self.admin(Method::GET, &path, "", &[200]).await else { continue };
            let shown = shown.json();
            let is_running = shown["state"] == "open";
            self.ledger.lock().unwrap().valve_is(is_running);
            let action = if is_running { "pause" } else { "resume" };
            self.ledger.lock().unwrap().valve_is_asked(!is_running);
            if self.admin(Method::POST, &format!("{path}/{action}"), "", &[200]).await.is_some() {
                self.ledger.lock().unwrap().valve_is(!is_running);
            }
        }
    }

    async fn enroll(self) {
        while self.goes_on() {
            let id = {
                let mut ledger = self.ledger.lock().unwrap();
                ledger.tried_devices += 1;
                format!("lamp-{}", ledger.tried_devices)
            };
            let body = json!({ "id": id, "product": "lamp" }).to_string();
            let Some(made) = self.admin(Method::POST, "/devices", body, &[201]).await else { continue };
            let token = made.json()["enrollment_token"].as_str().unwrap().to_owned();
            let key = Arc::new(new_key());
            let index = self.ledger.lock().unwrap().made_device(Device::new(&id, &token, key.clone()));
            let request = csr(&key);
            let Some(answer) = self.ask(&[200], self.remote.enroll(&id, &token, &request)).await else {
                continue;
            };
            let identity = Identity { certificate: answer.certificate(), key_der: key.serialize_der() };
            self.ledger.lock().unwrap().devices[index].identity = Some(identity);
        }
    }

    /// Changes the notes of devices.
    async fn note(self) {
        let mut turn = 0;
        while self.goes_on() {
            turn += 1;
            let Some((index, id)) = self.own_device(turn, |_| true, |device| device.id.clone()) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let note = {
                let mut ledger = self.ledger.lock().unwrap();
                ledger.devices[index].tried_note += 1;
                ledger.devices[index].tried_note
            };
            let body = json!({ "note": note.to_string() }).to_string();
            if self.admin(Method::PATCH, &format!("/devices/{id}"), body, &[200]).await.is_some() {
                self.ledger.lock().unwrap().devices[index].note = note;
            }
        }
    }

    /// What devices do: take the release, report it, run it, and check in from then on.
    async fn live(self) {
        let image = first_image();
        let mut turn = 0;
        while self.goes_on() {
            turn += 1;
            let is_enrolled = |device: &Device| device.identity.is_some();
            let facts = |device: &Device| (device.identity.clone(), device.stage, device.told + 1);
            let Some((index, (identity, stage, telling))) = self.own_device(turn, is_enrolled, facts) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let fails = index % 4 == 3;
            let mut said = check_in(match stage {
                Stage::New | Stage::Offered | Stage::Failed => None,
                Stage::Installed | Stage::Healthy => Some((&image, 1)),
            });
            said.starts = u32::try_from(telling).unwrap();
            said.updater_version = format!("0.1.{telling}");
            let (stage, told) = match stage {
                Stage::New => {
                    let Some(decision) = self.check_in(identity.as_ref(), &said).await else { continue };
                    assert!(decision.decision().manifest.is_some(), "the release is not offered");
                    (Stage::Offered, telling)
                }
                Stage::Offered => {
                    let reason = if fails { Reason::ImageDigest } else { Reason::Installed };
                    if self.report(identity.as_ref(), reason, &image).await.is_none() {
                        continue;
                    }
                    (if fails { Stage::Failed } else { Stage::Installed }, telling - 1)
                }
                Stage::Installed | Stage::Healthy => {
                    if self.check_in(identity.as_ref(), &said).await.is_none() {
                        continue;
                    }
                    (Stage::Healthy, telling)
                }
                Stage::Failed => {
                    if self.check_in(identity.as_ref(), &said).await.is_none() {
                        continue;
                    }
                    (Stage::Failed, telling)
                }
            };
            let mut ledger = self.ledger.lock().unwrap();
            (ledger.devices[index].stage, ledger.devices[index].told) = (stage, told);
        }
    }

    async fn check_in(&self, identity: Option<&Identity>, said: &CheckIn) -> Option<Answer> {
        self.device(identity, wire::CHECK_IN_PATH, said.to_cbor(), 200).await
    }

    async fn report(&self, identity: Option<&Identity>, reason: Reason, image: &[u8]) -> Option<Answer> {
        let report = Report {
            protocol: wire::PROTOCOL_VERSION,
            outcome: Outcome { sequence: Some(Sequence(1).0), reason: reason.code() },
            running_digest: (reason == Reason::Installed).then(|| Digest::of(image).0.into()),
            downloaded_bytes: Some(1000),
            erased_bytes: Some(4096),
        };
        self.device(identity, wire::REPORTS_PATH, report.to_cbor(), 204).await
    }

    async fn device(
        &self,
        identity: Option<&Identity>,
        path: &str,
        body: Vec<u8>,
        expected: u16,
    ) -> Option<Answer> {
        let headers = [("content-type", wire::MEDIA_TYPE)];
        let request = crate::client::request(Method::POST, path, &headers, body);
        let answer = async { self.remote.device(identity).await?.send(request).await };
        self.ask(&[expected], answer).await
    }

    /// One of the client's own devices, turn after turn: two clients do not act as one device.
    fn own_device<T>(
        &self,
        turn: usize,
        fits: impl Fn(&Device) -> bool,
        facts: impl Fn(&Device) -> T,
    ) -> Option<(usize, T)> {
        let ledger = self.ledger.lock().unwrap();
        let own = ledger
            .devices
            .iter()
            .enumerate()
            .filter(|(index, device)| index % CLIENTS == self.number && fits(device));
        let own: Vec<_> = own.collect();
        let (index, device) = own.get(turn % own.len().max(1))?;
        Some((*index, facts(device)))
    }
}
