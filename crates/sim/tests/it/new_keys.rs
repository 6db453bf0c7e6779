//! Devices that renew with new keys, as their product asks for: over a life, through power cuts and lost answers, by the real
//! server over real TCP and TLS.

use std::collections::BTreeMap;

use crate::common::{Bed, PRODUCT, application};
use serde_json::json;
use server::Clock;
use sim::{End, PowerCut, RunningApp, Tear, VirtualDevice};
use updater_io::pki;
use updater_io::vault::Vault;
use wire::Reason;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Past two thirds of the 90 days that a certificate lives.
const RENEWAL_MS: i64 = 61 * DAY_MS;

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

/// A server whose product asks for new keys, its clock, and release 1.
async fn bed(layout: &str) -> (Bed, Clock) {
    let clock = Clock::default();
    let bed = Bed::start_with(layout, |config| {
        config.clock = clock.clone();
        config.device_certificate_days = 90;
        config.limits.certificate_requests_per_s = 100_000;
    })
    .await;
    rotate(&bed, true);
    bed.publish(1, "1.0.0", &application("1.0.0", 2));
    (bed, clock)
}

fn rotate(bed: &Bed, rotate_keys: bool) {
    let product = bed.patch(&format!("products/{PRODUCT}"), &json!({ "rotate_keys": rotate_keys }));
    assert_eq!(product["rotate_keys"], rotate_keys);
}

/// The key in the vault, by its public half; the certificate is for it, and both copies are the same.
fn whole_key(device: &mut VirtualDevice, what: &str) -> Vec<u8> {
    let region = device.vault_region().unwrap();
    let contents = Vault::open(&mut device.flash, region).unwrap().load().unwrap();
    let chain = contents.chain.unwrap().expect("a certificate");
    let key = pki::DeviceKey::from_pkcs8(&contents.key.unwrap().expect("a key")).unwrap();
    let leaf = pki::leaf_facts(&chain[0]).unwrap();
    assert_eq!(leaf.public_key, key.public_key(), "{what}: the certificate is for the key");
    assert!(!contents.is_half_saved, "{what}: the copies differ");
    key.public_key().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_renewal_brings_a_new_key_as_long_as_the_product_asks_for_it() {
    let (bed, clock) = bed("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    running(device.power_on().await.unwrap());
    let mut keys = vec![whole_key(&mut device, "enrolled")];
    for renewal in 1..=8 {
        let is_asked = renewal != 5;
        rotate(&bed, is_asked);
        // Asked for or not, nothing is renewed before its time.
        device.flash.reset_stats();
        assert_eq!(running(device.power_on().await.unwrap()).reason, None);
        assert!(!device.flash.stats().is_mutated(), "{:?}", device.flash.stats());
        clock.advance_ms(RENEWAL_MS);
        let version = format!("1.{renewal}.0");
        bed.publish(renewal + 1, &version, &application(&version, 2));
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.reason), (version.as_str(), Some(Reason::Installed)));
        let key = whole_key(&mut device, &version);
        assert_eq!(!keys.contains(&key), is_asked, "{version}");
        keys.push(key);
    }
    assert!(device.flash.violations().is_empty());
    let events = bed.get("devices/lamp-1/events?limit=100");
    let renewals = events["items"].as_array().unwrap().iter();
    assert_eq!(renewals.filter(|event| event["kind"] == "certificate-renewed").count(), 8, "{events}");
}

/// Who finds a device that was away does not find one that was renewed: its key stays, and is replaced at the next renewal.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_after_the_end_keeps_the_key() {
    let (bed, clock) = bed("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    running(device.power_on().await.unwrap());
    let first = whole_key(&mut device, "enrolled");
    clock.advance_ms(91 * DAY_MS);
    assert_eq!(running(device.power_on().await.unwrap()).reason, None);
    assert_eq!(whole_key(&mut device, "after the end"), first);
    clock.advance_ms(RENEWAL_MS);
    assert_eq!(running(device.power_on().await.unwrap()).reason, None);
    assert_ne!(whole_key(&mut device, "in time"), first);
}

/// Power is lost at every flash operation of a renewal with a new key, before, inside and after it; the cut before the first
/// one is an answer that got lost. Within a few starts the device is served, has a new key in both copies, and nobody made a
/// token for it.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_while_a_new_key_is_stored_lock_no_device_out() {
    const STARTS: usize = 4;
    for layout in ["4mb", "8mb", "8mb-rollback"] {
        let (bed, clock) = bed(layout).await;
        let mut probe = bed.manufacture("probe");
        running(probe.power_on().await.unwrap());
        clock.advance_ms(RENEWAL_MS);
        probe.flash.take_log();
        assert_eq!(running(probe.power_on().await.unwrap()).reason, None);
        let operations = probe.flash.take_log();

        let mut devices = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            for (class, tear) in Tear::samples(operation.length_bytes).into_iter().enumerate() {
                let id = format!("lamp-{index:02}-{class}");
                let mut device = bed.manufacture(&id);
                running(device.power_on().await.unwrap());
                let key = whole_key(&mut device, &id);
                devices.push((format!("{layout}, {id} ({operation:?}), {tear:?}"), index, tear, device, key));
            }
        }
        clock.advance_ms(RENEWAL_MS);
        let (mut outcomes, mut past_the_end) = (BTreeMap::<String, usize>::new(), 0);
        for (number, (what, index, tear, device, old)) in devices.iter_mut().enumerate() {
            device.flash.arm(PowerCut { operation: *index as u64 + 1, tear: *tear, seed: number as u64 });
            let end = device.power_on().await.unwrap();
            if device.flash.is_armed() {
                // Certificates differ by a byte or two, and so does the number of writes to store them.
                past_the_end += 1;
                device.flash.disarm();
                assert!(matches!(end, End::Running(_)), "{what}: {end:?}");
                continue;
            }
            assert!(matches!(end, End::PowerLost), "{what}: {end:?}");
            device.power().restore();
            assert!(device.flash.violations().is_empty(), "{what}");
            let mut starts = 0;
            loop {
                starts += 1;
                let app = running(device.power_on().await.unwrap());
                assert_eq!(app.version(), "1.0.0", "{what}");
                if app.reason.is_none() {
                    break;
                }
                // A vault that is damaged is written at the second start that finds it so.
                assert_eq!(app.reason, Some(Reason::Vault), "{what}, start {starts}");
                assert!(starts < STARTS, "{what}: {:?} after {starts} starts", app.reason);
            }
            assert_ne!(whole_key(device, what), *old, "{what}: it has a new key");
            let connections = device.network.counters().connections();
            device.flash.reset_stats();
            assert_eq!(running(device.power_on().await.unwrap()).reason, None, "{what}");
            assert_eq!(device.network.counters().connections() - connections, 1, "{what}");
            // A hand-over by otadata writes at every start.
            let is_mutated = device.flash.stats().is_mutated() && layout != "8mb-rollback";
            assert!(!is_mutated, "{what}: {:?}", device.flash.stats());
            *outcomes.entry(format!("served at start {starts}")).or_default() += 1;
        }
        println!("a new key, {layout}: {} operations: {outcomes:?}", operations.len());
        assert!(
            devices.len() >= 100 && past_the_end * 10 < devices.len(),
            "{past_the_end} of {}",
            devices.len()
        );
    }
}
