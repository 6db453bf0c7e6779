//! No absence locks a device out: however long its application ran, and however long it was off, its next start is served,
//! by the real server over real TCP and TLS.

use std::collections::BTreeMap;

use crate::common::{Bed, application};
use serde_json::json;
use server::Clock;
use sim::{End, PowerCut, RunningApp, Tear, VirtualDevice};
use updater_io::pki;
use updater_io::vault::Vault;
use wire::{Reason, ResetCause};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

/// A server that issues certificates of so many days, and its clock.
async fn bed(certificate_days: u32) -> (Bed, Clock) {
    let clock = Clock::default();
    let bed = Bed::start_with("4mb", |config| {
        config.clock = clock.clone();
        config.device_certificate_days = certificate_days;
        config.limits.certificate_requests_per_s = 100_000;
    })
    .await;
    (bed, clock)
}

fn serial(bed: &Bed, id: &str) -> String {
    bed.device(id)["certificate"]["serial"].as_str().unwrap().to_owned()
}

/// Key and certificate in the vault belong to each other; when the certificate ends, in seconds since 1970.
fn own_end_s(device: &mut VirtualDevice) -> u64 {
    let region = device.vault_region().unwrap();
    let contents = Vault::open(&mut device.flash, region).unwrap().load().unwrap();
    let chain = contents.chain.unwrap().expect("a certificate");
    let key = pki::DeviceKey::from_pkcs8(&contents.key.unwrap().expect("a key")).unwrap();
    let leaf = pki::leaf_facts(&chain[0]).unwrap();
    assert_eq!(leaf.public_key, key.public_key(), "the certificate is for the key");
    leaf.not_after_s
}

/// The application runs for so long without a reset, or the device is off for so long: in the pit stop after that the device
/// is served, and what was released meanwhile runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_served_after_any_absence() {
    for certificate_days in [90, 365] {
        for (days, cause) in [
            (91, ResetCause::Software),
            (400, ResetCause::Software),
            (3 * 365, ResetCause::Software),
            (3 * 365, ResetCause::PowerOn),
        ] {
            let what = format!("{days} days ({cause:?}) with a certificate of {certificate_days}");
            let (bed, clock) = bed(certificate_days).await;
            let mut device = bed.manufacture("lamp-1");
            bed.publish(1, "1.0.0", &application("1.0.0", 3));
            assert_eq!(running(device.power_on().await.unwrap()).version(), "1.0.0");
            let first = serial(&bed, "lamp-1");

            clock.advance_ms(days * DAY_MS);
            bed.publish(2, "1.1.0", &application("1.1.0", 3));
            let app = running(device.reset(cause).await.unwrap());
            assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)), "{what}");
            let had_ended = days > i64::from(certificate_days);
            assert_eq!(serial(&bed, "lamp-1") != first, had_ended, "{what}");

            // From then on as before: one connection, and not a byte of flash.
            let connections = device.network.counters().connections();
            device.flash.reset_stats();
            assert_eq!(running(device.power_on().await.unwrap()).reason, None, "{what}");
            assert_eq!(device.network.counters().connections() - connections, 1, "{what}");
            assert!(!device.flash.stats().is_mutated(), "{what}: {:?}", device.flash.stats());
            assert!(device.flash.violations().is_empty(), "{what}");
        }
    }
}

/// Nobody lets it in, and it does not ask without end: its application is started at once, start after start.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_revoked_while_it_was_off_runs_its_application_and_is_refused() {
    for refusal in ["revoke", "suspend"] {
        let (bed, clock) = bed(90).await;
        let mut device = bed.manufacture("lamp-1");
        bed.publish(1, "1.0.0", &application("1.0.0", 3));
        running(device.power_on().await.unwrap());
        let first = serial(&bed, "lamp-1");
        bed.post(&format!("devices/lamp-1/{refusal}"), &json!({ "reason": "lost" }));
        clock.advance_ms(91 * DAY_MS);
        bed.publish(2, "1.1.0", &application("1.1.0", 3));
        for _ in 0..3 {
            let connections = device.network.counters().connections();
            let app = running(device.power_on().await.unwrap());
            assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::DeviceRefused)), "{refusal}");
            assert_eq!(device.network.counters().connections() - connections, 2, "{refusal}");
        }
        assert_eq!(serial(&bed, "lamp-1"), first, "{refusal}");
        if refusal == "suspend" {
            bed.post("devices/lamp-1/resume", &json!({}));
            let app = running(device.power_on().await.unwrap());
            assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)), "{refusal}");
        }
    }
}

/// Power is lost at every flash operation of a renewal after the end, before, inside and after it: whichever of the two
/// certificates the vault has then, the server takes it.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_while_an_ended_certificate_is_replaced_lock_no_device_out() {
    const STARTS: usize = 3;
    let (bed, clock) = bed(90).await;
    bed.publish(1, "1.0.0", &application("1.0.0", 2));
    let mut probe = bed.manufacture("probe");
    running(probe.power_on().await.unwrap());
    clock.advance_ms(91 * DAY_MS);
    probe.flash.take_log();
    assert_eq!(running(probe.power_on().await.unwrap()).reason, None);
    let operations = probe.flash.take_log();
    assert!(!operations.is_empty(), "the renewal writes");

    let mut devices = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        for (class, tear) in Tear::samples(operation.length_bytes).into_iter().enumerate() {
            let id = format!("lamp-{index:02}-{class}");
            let mut device = bed.manufacture(&id);
            running(device.power_on().await.unwrap());
            let end_s = own_end_s(&mut device);
            devices.push((format!("{id} ({operation:?}), {tear:?}"), index, tear, device, end_s));
        }
    }
    clock.advance_ms(91 * DAY_MS);
    let (mut outcomes, mut past_the_end) = (BTreeMap::<String, usize>::new(), 0);
    for (number, (what, index, tear, device, end_s)) in devices.iter_mut().enumerate() {
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
            assert!(starts < STARTS, "{what}: {:?} after {starts} starts", app.reason);
        }
        assert!(own_end_s(device) > *end_s, "{what}: it has the next certificate");
        *outcomes.entry(format!("served at start {starts}")).or_default() += 1;
    }
    println!("renewal after the end: {} operations: {outcomes:?}", operations.len());
    assert!(devices.len() >= 20 && past_the_end * 10 < devices.len(), "{past_the_end} of {}", devices.len());
}

/// The CA is being replaced when it comes back, and it knows the old one alone: it gets a certificate that it trusts, and
/// then what all get.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_follows_a_rollover_that_was_begun_meanwhile() {
    let (bed, clock) = bed(90).await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    bed.post("ca/rollover/begin", &json!({}));
    clock.advance_ms(91 * DAY_MS);
    let behind = bed.get("ca")["behind"].clone();
    assert_eq!((&behind["ended"], &behind["without_new_anchor"]), (&json!(1), &json!(0)), "{behind}");

    assert_eq!(running(device.power_on().await.unwrap()).reason, None);
    assert_eq!(running(device.power_on().await.unwrap()).reason, None);
    let behind = bed.get("ca")["behind"].clone();
    for left in ["ended", "without_new_anchor", "with_old_certificate"] {
        assert_eq!(behind[left], 0, "{left}: {behind}");
    }
    for step in ["switch", "finish"] {
        bed.post(&format!("ca/rollover/{step}"), &json!({}));
        assert_eq!(running(device.power_on().await.unwrap()).reason, None, "{step}");
    }
}
