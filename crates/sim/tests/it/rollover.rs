//! The CA is replaced under devices in the field, and enrollments wait for an operator, over real TCP and TLS.

use crate::common::{Bed, PRODUCT, application};
use serde_json::{Value, json};
use sim::{End, PowerCut, RunningApp, Tear, VirtualDevice};
use updater_io::vault::Vault;
use wire::Reason;

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

fn step(bed: &Bed, step: &str) -> Value {
    bed.post(&format!("ca/rollover/{step}"), &json!({}))
}

fn anchors(device: &mut VirtualDevice) -> usize {
    let region = device.vault_region().unwrap();
    Vault::open(&mut device.flash, region).unwrap().settings().unwrap().anchors.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_follow_a_rollover_of_the_ca_and_updates_go_on() {
    let bed = Bed::start("4mb").await;
    let (mut awake, mut asleep) = (bed.manufacture("awake"), bed.manufacture("asleep"));
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    for device in [&mut awake, &mut asleep] {
        assert_eq!(running(device.power_on().await.unwrap()).version(), "1.0.0");
    }

    step(&bed, "begin");
    assert_eq!(bed.get("ca")["behind"]["without_new_anchor"], 2);
    assert_eq!(running(awake.power_on().await.unwrap()).reason, None);
    assert_eq!(anchors(&mut awake), 2);
    // The second start tells the server what the first one stored, and writes nothing.
    awake.flash.reset_stats();
    running(awake.power_on().await.unwrap());
    assert!(!awake.flash.stats().is_mutated(), "{:?}", awake.flash.stats());
    let behind = bed.get("ca")["behind"].clone();
    assert_eq!((&behind["without_new_anchor"], &behind["examples"]), (&json!(1), &json!(["asleep"])));

    // The one that slept through it gets the new anchor while the old CA still serves.
    for _ in 0..2 {
        running(asleep.power_on().await.unwrap());
    }
    let ca = step(&bed, "switch");
    let nobody = json!({
        "without_new_anchor": 0, "with_old_certificate": 0, "examples": [], "suspended": 0, "suspended_examples": [],
        "ended": 0, "ended_examples": [],
    });
    assert_eq!(ca["behind"], nobody);
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    for device in [&mut awake, &mut asleep] {
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)));
    }

    step(&bed, "finish");
    bed.publish(3, "1.2.0", &application("1.2.0", 3));
    for device in [&mut awake, &mut asleep] {
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.reason), ("1.2.0", Some(Reason::Installed)));
        assert_eq!(anchors(device), 1, "the old one is dropped");
        assert!(device.flash.violations().is_empty());
    }
}

/// Devices with a vault of before the rollover, switched on for the first time: key, certificate and anchors are stored,
/// and power is cut at every operation.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_while_new_anchors_are_stored_lock_no_device_out() {
    let bed = Bed::start("4mb").await;
    step(&bed, "begin");
    let mut probe = bed.manufacture("probe");
    probe.power_on().await.unwrap();
    assert_eq!(anchors(&mut probe), 2);
    let operations = probe.flash.log().to_vec();
    let mut tried = 0;
    for (index, operation) in operations.iter().enumerate() {
        for (class, tear) in [Tear::Before, Tear::Bits, Tear::After].into_iter().enumerate() {
            let what = format!("operation {} ({operation:?}), {tear:?}", index + 1);
            let mut device = bed.manufacture(&format!("lamp-{index}-{class}"));
            device.flash.arm(PowerCut { operation: index as u64 + 1, tear, seed: index as u64 });
            device.power_on().await.unwrap();
            tried += usize::from(!device.flash.is_armed());
            device.flash.disarm();
            for _ in 0..3 {
                device.power_on().await.unwrap();
            }
            assert_eq!(anchors(&mut device), 2, "{what}");
            assert!(device.flash.violations().is_empty(), "{what}");
        }
    }
    println!("{} operations, {tried} cuts", operations.len());
    assert!(tried >= 30, "{tried} cuts happened");
    let behind = bed.get("ca")["behind"].clone();
    assert_eq!(behind["without_new_anchor"], 1, "all but the probe have told what they store: {behind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrollment_waits_for_an_operator_as_long_as_it_is_told_to() {
    let bed = Bed::start("4mb").await;
    bed.patch(&format!("products/{PRODUCT}"), &json!({ "enrollment_approval": true }));
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    for _ in 0..2 {
        let end = device.power_on().await.unwrap();
        let End::Waiting { after_ms, reason: Reason::EnrollmentPending } = end else { panic!("{end:?}") };
        assert!(after_ms >= 60_000, "{after_ms}");
    }
    bed.post("devices/lamp-1/approve", &json!({}));
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::Installed)));
}
