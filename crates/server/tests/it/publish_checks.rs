//! What is refused or warned of because of what an image is, and which releases there are.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flashfmt::app_desc::AppDescriptor;
use flashfmt::image::compose::{self, Composer};
use flashfmt::{Chip, Text};
use hyper::Method;
use manifest::{Digest, Manifest, Sequence};
use serde_json::{Value, json};

use crate::app::{ESP32C3, TestApp, describe, image, product_body, publisher, sign};
use crate::rollouts::World;

const ROLLBACK_LAYOUT: &str = "nvs, data, nvs, 0x9000, 0x4000\notadata, data, ota, 0xd000, 0x2000\n\
    ota_0, app, ota_0, 0x10000, 1M\nota_1, app, ota_1, 0x110000, 2M\nvault, data, nvs, , 0x8000\n\
    journal, 0x40, 0, , 0x2000\n";

impl TestApp {
    async fn try_publish(&self, product: &str, image: &[u8], sequence: u64, version: &str) -> (u16, Value) {
        self.upload(image).await;
        let manifest = Manifest::describe(image, Sequence(sequence), product, ESP32C3, version).unwrap();
        let answer = self.publish(product, &sign(&manifest)).await;
        (answer.status.as_u16(), answer.json())
    }
}

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().strip_prefix("urn:pitstop:problem:").unwrap()
}

/// The image with a field of its header changed and its hash made right.
fn with_header(mut image: Vec<u8>, offset: usize, value: u16) -> Vec<u8> {
    image[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    let end = image.len() - 32;
    let hash = Digest::of(&image[..end]);
    image[end..].copy_from_slice(&hash.0);
    image
}

#[tokio::test]
async fn an_image_for_newer_chips_is_refused_where_the_product_has_older_ones() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    // ESP-IDF's `min_chip_rev_full` is at 15, `max_chip_rev_full` at 17.
    let newer = with_header(image("1.0.0"), 15, 101);
    app.admin(Method::PATCH, "/products/lamp", json!({ "chip_revision": 4 }).to_string()).await.expect(200);
    let (status, problem) = app.try_publish("lamp", &newer, 1, "1.0.0").await;
    assert_eq!((status, kind(&problem)), (422, "image-chip-revision"));
    assert!(
        problem["detail"].as_str().unwrap().contains("revision 4 and up, found one for 101"),
        "{problem}"
    );
    app.admin(Method::PATCH, "/products/lamp", json!({ "chip_revision": null }).to_string())
        .await
        .expect(200);
    assert_eq!(app.try_publish("lamp", &newer, 1, "1.0.0").await.0, 201);

    // What was published goes to chips that do not start it, so the number stays above.
    for (status, revision) in [(409, 4), (409, 100), (200, 101), (409, 100), (200, 102)] {
        let body = json!({ "chip_revision": revision }).to_string();
        let answer = app.admin(Method::PATCH, "/products/lamp", body).await.expect(status).json();
        if status == 409 {
            assert_eq!(kind(&answer), "releases-need-newer-chips");
            assert!(
                answer["detail"].as_str().unwrap().contains("1.0.0 (number 1, for 101 and up)"),
                "{answer}"
            );
        }
    }
    let impossible = with_header(newer, 17, 100);
    let (status, problem) = app.try_publish("lamp", &impossible, 2, "1.1.0").await;
    assert_eq!((status, kind(&problem)), (422, "image-invalid"));
}

#[tokio::test]
async fn an_image_over_the_chain_loader_is_refused_where_it_would_be_chain_loaded() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let mut classic = product_body("classic");
    classic["layout"] = json!({ "name": "classic", "csv": ROLLBACK_LAYOUT });
    app.post("/products", &classic).await.expect(201);
    // Above the memory of the bootloader, which refuses what is loaded over it, the chain-loader keeps the ROM's data whole.
    let over = Composer::new(Chip::Esp32C3, 0x4038_4000)
        .segment_with_app_desc(0x3C00_0020, &AppDescriptor::new("lamp-app", "1"), b"data")
        .segment(0x4038_4000, &[1; 64])
        .segment(0x3FCD_F000, &[2; 64])
        .build()
        .unwrap();
    let (status, problem) = app.try_publish("lamp", &over, 1, "1.0.0").await;
    assert_eq!((status, kind(&problem)), (422, "image-not-chain-loadable"));
    assert!(problem["detail"].as_str().unwrap().contains("loaded over the chain-loader"), "{problem}");
    assert_eq!(app.try_publish("classic", &over, 1, "1.0.0").await.0, 201);
}

/// The bootloader that espflash brings for the chip, by its segments; the updater, by its project name.
#[tokio::test]
async fn what_is_no_application_is_refused_on_every_layout() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let mut classic = product_body("classic");
    classic["layout"] = json!({ "name": "classic", "csv": ROLLBACK_LAYOUT });
    app.post("/products", &classic).await.expect(201);
    let bootloader = Composer::new(Chip::Esp32C3, 0x403C_BF1A)
        .segment(0x3FCD_5830, &[1; 64])
        .segment(0x403C_BF10, &[2; 64])
        .segment(0x403C_E710, &[3; 64])
        .build()
        .unwrap();
    let updater = AppDescriptor::new("pitstop-updater", "0.1.0");
    let updater = compose::esp32c3(&updater, b"data", b"code", &[1; 64]).unwrap();
    for product in ["lamp", "classic"] {
        for (image, found) in [(&bootloader, "second-stage bootloader"), (&updater, "the updater itself")] {
            let (status, problem) = app.try_publish(product, image, 1, "1.0.0").await;
            assert_eq!((status, kind(&problem)), (422, "image-not-an-application"), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(found), "{problem}");
        }
    }
}

#[tokio::test]
async fn an_image_without_descriptor_is_published_when_its_publisher_says_so() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let bare = Composer::new(Chip::Esp32C3, 0x4038_4000).segment(0x4038_4000, &[1; 64]).build().unwrap();
    let (status, problem) = app.try_publish("lamp", &bare, 1, "1.0.0").await;
    assert_eq!((status, kind(&problem)), (422, "image-without-descriptor"), "{problem}");
    let manifest = Manifest::describe(&bare, Sequence(1), "lamp", ESP32C3, "1.0.0").unwrap();
    let body = json!({
        "manifest": BASE64_STANDARD.encode(sign(&manifest)),
        "without_descriptor": true,
    });
    let answer = app.post("/products/lamp/releases", &body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["app"]), (201, &Value::Null));
}

#[tokio::test]
async fn an_image_that_confirms_itself_is_refused_where_that_matters_unless_it_is_meant() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let mut classic = product_body("classic");
    classic["layout"] = json!({ "name": "classic", "csv": ROLLBACK_LAYOUT });
    app.post("/products", &classic).await.expect(201);
    let built = |project: &str, idf: &str, code: &[u8]| {
        let mut descriptor = AppDescriptor::new(project, "1.0.0");
        descriptor.idf_ver = Text::truncated(idf);
        compose::esp32c3(&descriptor, b"data", code, &[1; 64]).unwrap()
    };
    // The name of the file lies across the border of two chunks.
    let mut code = vec![0; 0x2_0000];
    let at = 0x1_0000 - (0x20 + 256) - 100;
    for start in (at..at + 200).step_by(20) {
        code[start..start + 18].copy_from_slice(b"esp32-hal-misc.c:1");
    }
    let cases = [
        (built("arduino-lib-builder", "v5.5.1", b"code"), Some("Arduino")),
        (built("lamp", "v6.2", b"code"), Some("ESP-IDF v6.2")),
        (built("lamp", "v5.3", &code), Some("Arduino")),
        (built("lamp", "v6.1", b"code"), None),
    ];
    for (index, (image, warning)) in cases.into_iter().enumerate() {
        let (sequence, version) = (index as u64 + 1, format!("1.{index}"));
        let (mut status, mut release) = app.try_publish("classic", &image, sequence, &version).await;
        if warning.is_some() {
            assert_eq!((status, kind(&release)), (422, "image-confirms-itself"), "{release}");
            assert!(
                release["detail"].as_str().unwrap().contains("publish it with confirms_itself"),
                "{release}"
            );
            let manifest =
                Manifest::describe(&image, Sequence(sequence), "classic", ESP32C3, &version).unwrap();
            let body =
                json!({ "manifest": BASE64_STANDARD.encode(sign(&manifest)), "confirms_itself": true });
            let answer = app.post("/products/classic/releases", &body).await;
            (status, release) = (answer.status.as_u16(), answer.json());
        }
        assert_eq!(status, 201, "{release}");
        let warnings = release["warnings"].as_array().unwrap();
        match warning {
            None => assert!(warnings.is_empty(), "{release}"),
            Some(text) => {
                assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains(text), "{release}")
            }
        }
        assert_eq!(app.get(&format!("/products/classic/releases/{sequence}")).await, release);
        // The chain-loader does not mind.
        let (status, release) = app.try_publish("lamp", &image, sequence, &version).await;
        assert_eq!((status, &release["warnings"]), (201, &json!([])));
    }
}

#[tokio::test]
async fn the_same_manifest_again_is_the_same_release() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let signed = sign(&describe(&image, 1, "1.0.0"));
    let first = app.publish("lamp", &signed).await.expect(201).json();
    app.post("/rollouts/ro-lamp-1/pause", &Value::Null).await.expect(200);
    // The answer was lost.
    assert_eq!(app.publish("lamp", &signed).await.expect(200).json(), first);
    assert_eq!(app.get("/products/lamp/releases").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/rollouts/ro-lamp-1").await["state"], "paused", "nothing changes");
    // Another release of this number is refused.
    let (status, problem) = app.try_publish("lamp", &crate::app::image("1.0.1"), 1, "1.0.1").await;
    assert_eq!((status, kind(&problem)), (409, "sequence-not-newer"), "{problem}");
}

#[tokio::test]
async fn a_lower_version_than_the_newest_of_the_channel_is_warned_of() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.release(1, "1.10.0").await;
    let (_, lower) = app.try_publish("lamp", &image("1.9.0"), 2, "1.9.0").await;
    let expected =
        "version 1.9.0 is lower than 1.10.0, that of release 1, which is the newest on its channel";
    assert_eq!(lower["warnings"], json!([expected]));
    let (_, higher) = app.try_publish("lamp", &image("1.9.1"), 3, "1.9.1").await;
    assert_eq!(higher["warnings"], json!([]));
}

#[tokio::test]
async fn the_same_image_again_is_the_same_release_or_a_mistake() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let first = app.release(1, "1.0.0").await;
    let known = app.get("/products/lamp/releases/1").await;
    // A build that ran again, and took the next number.
    assert_eq!(app.try_publish("lamp", &first, 2, "1.0.0").await, (200, known));
    assert_eq!(app.get("/products/lamp/releases").await["items"].as_array().unwrap().len(), 1);

    let manifest = BASE64_STANDARD.encode(sign(&describe(&first, 2, "1.1.0")));
    let body = json!({ "manifest": manifest, "notes": "a test" });
    let problem = app.post("/products/lamp/releases", &body).await.expect(409).json();
    assert_eq!(kind(&problem), "image-published");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("found that of release 1 (1.0.0), which differs in the version;"), "{problem}");

    let mut reverts = describe(&first, 2, "1.0.0");
    (reverts.revert_to, reverts.expires_at_s) = (Some(vec![Sequence(1)]), Some(4_000_000_000));
    let elf = Digest::of(b"elf").to_string();
    let other = json!({
        "manifest": BASE64_STANDARD.encode(sign(&reverts)), "channel": "beta", "elf_digest": elf,
    });
    let problem = app.post("/products/lamp/releases", &other).await.expect(409).json();
    let differs = "which differs in revert_to, the expiry, the channel, the ELF file, the notes;";
    assert!(problem["detail"].as_str().unwrap().contains(differs), "{problem}");
    assert_eq!(app.get("/products/lamp/releases").await["items"].as_array().unwrap().len(), 1);

    // Whoever publishes an old image again once newer ones are there does not want it told that all is well.
    app.try_publish("lamp", &image("1.0.1"), 2, "1.0.1").await;
    let (status, problem) = app.try_publish("lamp", &first, 3, "1.0.0").await;
    assert_eq!((status, kind(&problem)), (409, "image-published"));
    let differs = "which differs in its place, for newer ones are on its channel;";
    assert!(problem["detail"].as_str().unwrap().contains(differs), "{problem}");

    let manifest = BASE64_STANDARD.encode(sign(&describe(&first, 3, "1.1.0")));
    let meant = json!({ "manifest": manifest, "notes": "a test", "same_image": true });
    let again = app.post("/products/lamp/releases", &meant).await.expect(201).json();
    assert!(
        again["warnings"][0].as_str().unwrap().starts_with("release 1 (1.0.0) is the same image"),
        "{again}"
    );
    let (_, namesake) = app.try_publish("lamp", &image("other"), 4, "1.1.0").await;
    let warning = "release 3 is called 1.1.0 too, and is another image";
    assert_eq!(namesake["warnings"], json!([warning]));
    let line = &app.get("/audit?kind=release&limit=1").await["items"][0];
    assert_eq!((&line["subject"], &line["after"]["warnings"]), (&json!("lamp 4"), &json!([warning])));
}

#[tokio::test]
async fn the_version_of_arduinos_libraries_is_none_of_a_sketch() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let constant = "esp-idf: v4.4.7 38eeba213a";
    let built = |project: &str| {
        compose::esp32c3(&AppDescriptor::new(project, constant), b"data", b"code", &[1; 64]).unwrap()
    };
    let sketch = built("arduino-lib-builder");
    let (status, problem) = app.try_publish("lamp", &sketch, 1, constant).await;
    assert_eq!((status, kind(&problem)), (422, "version-of-arduino"), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(constant) && detail.contains("--version"), "{problem}");
    assert_eq!(app.try_publish("lamp", &sketch, 1, "1.0.0").await.0, 201);
    // A project of its own may call its version what it likes.
    assert_eq!(app.try_publish("lamp", &built("lamp"), 2, constant).await.0, 201);
}

#[tokio::test]
async fn a_key_that_devices_do_not_trust_is_warned_of_and_refused_when_none_does() {
    let mut world = World::new().await;
    let mut lamps = world.lamps(4).await;
    let trusts = |seed: u8| {
        let key = manifest::PublisherSigningKey::new(p256::SecretKey::from_slice(&[seed; 32]).unwrap());
        key.publisher_key().id().into()
    };
    // Alice signs with 7; the last device tells nothing.
    lamps[0].said.publishers = Some(vec![trusts(8), trusts(7)]);
    lamps[1].said.publishers = Some(vec![trusts(8)]);
    lamps[2].said.publishers = Some(vec![trusts(8), trusts(9)]);
    for lamp in &mut lamps {
        assert_eq!(lamp.offered().await, None);
    }
    let alice = hex::encode(publisher().publisher_key().id());
    world.publish(&[], "none").await;
    let warning =
        format!("2 of 3 devices that tell their keys do not trust alice ({alice}), and refuse the release");
    assert_eq!(world.app.get("/products/lamp/releases/2").await["warnings"], json!([warning]));

    lamps[0].said.publishers = Some(vec![trusts(8)]);
    assert_eq!(lamps[0].offered().await, None);
    let image = image("3.0.0");
    let (status, problem) = world.app.try_publish("lamp", &image, 3, "3.0.0").await;
    assert_eq!((status, kind(&problem)), (422, "publisher-key-untrusted"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("3 of 3 devices"), "{problem}");
    let manifest = BASE64_STANDARD.encode(sign(&describe(&image, 3, "3.0.0")));
    let body = json!({ "manifest": manifest, "untrusted_key": true });
    let release = world.app.post("/products/lamp/releases", &body).await.expect(201).json();
    assert!(release["warnings"][0].as_str().unwrap().starts_with("3 of 3 devices"), "{release}");

    // A revoked device does not count, nor does one whose updater tells nothing.
    world.app.post("/devices/lamp-1/revoke", &Value::Null).await.expect(200);
    lamps[1].said.publishers = None;
    lamps[1].offered().await;
    lamps[2].said.publishers = Some(vec![trusts(8); 17]);
    lamps[2].offered().await;
    let (status, release) = world.app.try_publish("lamp", &crate::app::image("4.0.0"), 4, "4.0.0").await;
    assert_eq!((status, &release["warnings"]), (201, &json!([])), "{release}");
}

#[tokio::test]
async fn a_release_requires_an_older_one_that_devices_can_get() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.release(1, "1.0.0").await;
    let publish = async |sequence: u64, requires: Value| {
        let version = format!("{sequence}.0.0");
        let image = image(&version);
        app.upload(&image).await;
        let manifest = BASE64_STANDARD.encode(sign(&describe(&image, sequence, &version)));
        let body = json!({ "manifest": manifest, "requires": requires, "rollout": "none" });
        let answer = app.post("/products/lamp/releases", &body).await;
        (answer.status.as_u16(), answer.json())
    };
    for unknown in [2, 3, 0, -1] {
        let (status, problem) = publish(2, json!(unknown)).await;
        assert_eq!((status, kind(&problem)), (422, "requires-unknown"), "{problem}");
    }
    let (status, release) = publish(2, json!(1)).await;
    assert_eq!((status, &release["requires"], &release["warnings"]), (201, &json!(1), &json!([])));
    let (_, around) = publish(3, Value::Null).await;
    let text = "release 2 requires release 1, and this one requires none";
    assert!(around["warnings"][0].as_str().unwrap().starts_with(text), "{around}");
    let (_, unreachable) = publish(4, json!(3)).await;
    let text = "no rollout brings release 3 (3.0.0), which it requires, to channel stable";
    assert!(unreachable["warnings"][0].as_str().unwrap().starts_with(text), "{unreachable}");
    // It is part of what is published.
    let again = json!({
        "manifest": BASE64_STANDARD.encode(sign(&describe(&image("4.0.0"), 5, "4.0.0"))), "requires": 1,
    });
    let problem = app.post("/products/lamp/releases", &again).await.expect(409).json();
    assert!(problem["detail"].as_str().unwrap().contains("which differs in requires;"), "{problem}");
}

#[tokio::test]
async fn reverts_name_older_releases_that_are_there() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.release(1, "1.0.0").await;
    app.release(3, "1.1.0").await;
    let image = image("1.2.0");
    app.upload(&image).await.expect(201);
    let with = |reverts: &[u64]| {
        let mut manifest = describe(&image, 4, "1.2.0");
        manifest.revert_to = Some(reverts.iter().map(|sequence| Sequence(*sequence)).collect());
        sign(&manifest)
    };
    let problem = app.publish("lamp", &with(&[1, 2, 9])).await.expect(422).json();
    assert_eq!(kind(&problem), "revert-to-unknown");
    assert!(problem["detail"].as_str().unwrap().contains("found 2, 9"), "{problem}");
    let release = app.publish("lamp", &with(&[3, 1])).await.expect(201).json();
    assert_eq!(release["revert_to"], json!([3, 1]));
}

#[tokio::test]
async fn what_a_revoked_key_signed_is_refused() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.release(1, "1.0.0").await;
    let id = app.get("/products/lamp/publisher-keys").await["items"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/products/lamp/publisher-keys/{id}/revoke");
    let last = app.post(&path, &Value::Null).await.expect(409).json();
    assert_eq!(kind(&last), "last-publisher-key");
    let detail = last["detail"].as_str().unwrap();
    assert!(
        detail.contains("0 of 0 devices that tell their keys trust it") && detail.contains("alice"),
        "{last}"
    );
    let revoked = app.post(&path, &json!({ "force": true })).await.expect(200).json();
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(app.post(&path, &Value::Null).await.expect(200).json(), revoked);
    assert_eq!(app.get("/products/lamp").await["publisher_keys"], json!([]));
    let (status, problem) = app.try_publish("lamp", &image("2"), 2, "2").await;
    assert_eq!((status, kind(&problem)), (422, "no-publisher-key"));

    let bob = manifest::PublisherSigningKey::new(p256::SecretKey::from_slice(&[8; 32]).unwrap());
    let key = json!({ "name": "bob", "key": hex::encode(bob.publisher_key().to_sec1()) });
    app.post("/products/lamp/publisher-keys", &key).await.expect(201);
    let (status, problem) = app.try_publish("lamp", &image("2"), 2, "2").await;
    assert_eq!((status, kind(&problem)), (422, "publisher-key-revoked"));
    assert!(problem["detail"].as_str().unwrap().contains("alice, which was revoked at 20"), "{problem}");
    let signed = manifest::Signed::sign(&describe(&image("2"), 2, "2"), &bob).unwrap();
    app.publish("lamp", signed.as_bytes()).await.expect(201);
    // Revoked is final.
    let alice = json!({ "name": "alice", "key": revoked["key"] });
    app.post("/products/lamp/publisher-keys", &alice).await.expect(409);
    app.post("/products/lamp/publisher-keys/0011/revoke", &Value::Null).await.expect(404);
}

#[tokio::test]
async fn a_release_has_a_channel_of_its_product_and_an_elf_file_that_is_there() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    app.post("/products/lamp/channels", &json!({ "name": "nightly" })).await.expect(201);
    app.post("/products/lamp/channels", &json!({ "name": "nightly" })).await.expect(409);
    app.post("/products/lamp/channels", &json!({ "name": "Night" })).await.expect(400);
    let names: Vec<_> = app.get("/products/lamp/channels").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|channel| channel["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["beta", "nightly", "stable"]);

    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    let manifest = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(sign(&describe(&image, 1, "1.0.0")))
    };
    let elf = b"\x7fELF".to_vec();
    let body =
        json!({ "manifest": manifest, "channel": "nightly", "elf_digest": Digest::of(&elf).to_string() });
    let problem = app.post("/products/lamp/releases", &body).await.expect(422).json();
    assert_eq!(kind(&problem), "elf-missing");
    let mut elsewhere = body.clone();
    elsewhere["channel"] = json!("weekly");
    app.post("/products/lamp/releases", &elsewhere).await.expect(422);
    app.upload(&elf).await.expect(201);
    let release = app.post("/products/lamp/releases", &body).await.expect(201).json();
    assert_eq!((&release["channel"], &release["elf_digest"]), (&json!("nightly"), &body["elf_digest"]));
}
