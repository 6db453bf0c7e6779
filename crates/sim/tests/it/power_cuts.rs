//! First campaign: power is lost at every flash operation of the first start and of one update, before, inside and
//! after it. Afterwards the device must reach the target version with its identity intact.

use std::collections::BTreeMap;

use crate::common::{Bed, PRODUCT, application};
use serde_json::json;
use sim::{End, PowerCut, Tear, VirtualDevice};
use updater_io::pki;
use updater_io::vault::Vault;

/// Starts that a device may need after a cut: one that repairs and finishes, one more for a cut that left it waiting.
const STARTS: usize = 3;

/// Where each cut left the device, for the table.
#[derive(Default)]
struct Outcomes(BTreeMap<&'static str, usize>);

impl Outcomes {
    fn count(&mut self, outcome: &'static str) {
        *self.0.entry(outcome).or_default() += 1;
    }
}

fn public_key(device: &mut VirtualDevice) -> Option<Vec<u8>> {
    let region = device.vault_region().unwrap();
    let mut vault = Vault::open(&mut device.flash, region).unwrap();
    let pkcs8 = vault.key().unwrap()?;
    Some(pki::DeviceKey::from_pkcs8(&pkcs8).unwrap().public_key().to_vec())
}

/// What must hold after any cut, once power is back: the application of `target` runs within a few starts, by
/// mutual TLS with a certificate for the device's one key.
async fn recover(device: &mut VirtualDevice, target: &str, what: &str) -> usize {
    let violations = device.flash.violations().len();
    assert_eq!(violations, 0, "{what}: wrote over bytes that were not erased");
    for start in 1..=STARTS {
        if let End::Running(app) = device.power_on().await.unwrap()
            && app.version() == target
        {
            let region = device.vault_region().unwrap();
            let contents = Vault::open(&mut device.flash, region).unwrap().load().unwrap();
            let chain = contents.chain.unwrap().expect("a certificate");
            let key = pki::DeviceKey::from_pkcs8(&contents.key.unwrap().expect("a key")).unwrap();
            let leaf = pki::leaf_facts(&chain[0]).unwrap();
            assert_eq!(leaf.public_key, key.public_key(), "{what}: the certificate is for the key");
            assert!(contents.settings.is_ok(), "{what}: settings are intact");
            return start;
        }
    }
    panic!("{what}: not at {target} after {STARTS} starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start() {
    let bed = Bed::start("4mb").await;
    bed.publish(1, "1.0.0", &application("1.0.0", 2));
    let mut probe = bed.manufacture("probe-0-0");
    probe.power_on().await.unwrap();
    let operations = probe.flash.log().to_vec();

    let mut outcomes = Outcomes::default();
    let (mut tried, mut past_the_end) = (0, 0);
    for (index, operation) in operations.iter().enumerate() {
        for (class, tear) in Tear::samples(operation.length_bytes).into_iter().enumerate() {
            let what = format!("operation {} ({operation:?}), {tear:?}", index + 1);
            let mut device = bed.manufacture(&format!("lamp-{index:02}-{class}"));
            let seed = (index * 8 + class) as u64;
            device.flash.arm(PowerCut { operation: index as u64 + 1, tear, seed });
            let end = device.power_on().await.unwrap();
            if device.flash.is_armed() {
                // Certificates differ by a byte or two, and so does the number of writes to store them: a device
                // may be through before the last operations of the probe.
                past_the_end += 1;
                assert!(matches!(end, End::Running(_)), "{what}: {end:?}");
                continue;
            }
            assert!(matches!(end, End::PowerLost), "{what}: {end:?}");
            device.power().restore();
            match recover(&mut device, "1.0.0", &what).await {
                1 => outcomes.count("target at the first start"),
                _ => outcomes.count("target at a later start"),
            }
            tried += 1;
        }
    }
    println!("first start: {} operations, {tried} cuts: {:?}", operations.len(), outcomes.0);
    assert!(tried >= 250 && past_the_end * 10 < tried, "{tried} cuts happened, {past_the_end} did not");
}

#[tokio::test(flavor = "multi_thread")]
async fn update() {
    for (layout, keeps_an_app) in [("4mb", false), ("8mb", true)] {
        // The device goes back in time again and again, which the server takes for a release that does not stay.
        let bed = Bed::start_with(layout, |config| {
            config.refusal_backoff_s = 0;
            config.limits.certificate_requests_per_s = 100_000;
        })
        .await;
        let limits = json!({ "failures_percent": 100, "crashes_percent": 100, "silence_percent": 100 });
        let tolerant = json!({ "waves": [{ "select": { "percent": 100 }, "limits": limits }] });
        bed.patch(
            &format!("products/{PRODUCT}"),
            &json!({ "quarantine_after": 1000, "default_plan": tolerant }),
        );
        bed.publish(1, "1.0.0", &application("1.0.0", 2));
        let mut device = bed.manufacture("lamp");
        device.power_on().await.unwrap();
        let before = device.flash.bytes().to_vec();
        let key = public_key(&mut device);
        bed.publish(2, "1.1.0", &application("1.1.0", 3));
        device.flash.take_log();
        device.power_on().await.unwrap();
        let operations = device.flash.take_log();

        let mut outcomes = Outcomes::default();
        let mut tried = 0;
        for (index, operation) in operations.iter().enumerate() {
            for (class, tear) in Tear::samples(operation.length_bytes).into_iter().enumerate() {
                let what = format!("{layout}, operation {} ({operation:?}), {tear:?}", index + 1);
                device.power().restore();
                device.flash.put(0, &before).unwrap();
                let seed = (index * 8 + class) as u64;
                device.flash.arm(PowerCut { operation: index as u64 + 1, tear, seed });
                let end = device.power_on().await.unwrap();
                assert!(matches!(end, End::PowerLost), "{what}: the cut did not happen: {end:?}");
                device.power().restore();
                if keeps_an_app {
                    // With a spare slot there is a bootable application at every moment.
                    let images = ["ota_0", "ota_1"].map(|label| {
                        let slot = device.layout().find_label(label).unwrap();
                        device.image_in(&slot).unwrap().is_ok()
                    });
                    assert!(images.contains(&true), "{what}: nothing is bootable");
                }
                match recover(&mut device, "1.1.0", &what).await {
                    1 => outcomes.count("target at the first start"),
                    _ => outcomes.count("target at a later start"),
                }
                assert_eq!(public_key(&mut device), key, "{what}: the key is the same");
                tried += 1;
            }
        }
        println!("update, {layout}: {} operations, {tried} cuts: {:?}", operations.len(), outcomes.0);
        assert!(tried >= 100);
    }
}
