//! The hand-over by otadata: layout `8mb-rollback`, the modelled bootloader with rollback, the real server.

use crate::common::{Bed, application};
use flashfmt::otadata::{OtaState, select};
use sim::flash::Operation;
use sim::net::{Link, SimNetwork};
use sim::{End, PowerCut, RunningApp, Tear, VirtualDevice};
use wire::{Reason, ResetCause};

/// `ota_0` is the updater's, `ota_1` the application's.
const OTA_COUNT: u8 = 2;
const UPDATER: u8 = 0;
const APPLICATION: u8 = 1;

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

/// Number and state of the entry in force.
fn in_force(device: &VirtualDevice) -> Option<(u8, OtaState)> {
    select(&device.otadata().unwrap(), OTA_COUNT).map(|active| (active.slot, active.entry.state))
}

fn touches_otadata_only(device: &VirtualDevice, operations: &[Operation]) -> bool {
    let otadata = device.layout().otadata().unwrap();
    operations.iter().all(|operation| (otadata.offset..otadata.end()).contains(&operation.address))
}

/// A device that has enrolled and runs 1.0.0.
async fn enrolled() -> (Bed, VirtualDevice) {
    let bed = Bed::start("8mb-rollback").await;
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    let mut device = bed.manufacture("lamp-1");
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.slot.as_str(), app.by_updater), ("1.0.0", "ota_1", true));
    (bed, device)
}

/// Reasons of the outcomes in the device's events, newest first.
fn outcomes(bed: &Bed) -> Vec<String> {
    let events = bed.get("devices/lamp-1/events");
    let items = events["items"].as_array().unwrap().iter();
    items
        .filter_map(|event| {
            event["detail"]["outcome"]["reason"].as_str().or(event["detail"]["reason"].as_str())
        })
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_cycles_with_an_update_in_between() {
    let (bed, mut device) = enrolled().await;
    for cycle in 1..=10 {
        if cycle == 5 {
            bed.publish(2, "1.1.0", &application("1.1.0", 4));
        }
        let (version, reason) = match cycle {
            1..5 => ("1.0.0", None),
            5 => ("1.1.0", Some(Reason::Installed)),
            _ => ("1.1.0", None),
        };
        assert_eq!(in_force(&device), Some((APPLICATION, OtaState::PendingVerify)), "cycle {cycle}");
        let connections = device.network.counters().connections();
        device.flash.take_log();
        let app = running(device.reset(ResetCause::Software).await.unwrap());
        let ran = (app.version(), app.slot.as_str(), app.reason, app.by_updater);
        assert_eq!(ran, (version, "ota_1", reason, true), "cycle {cycle}");
        assert_eq!(device.network.counters().connections() - connections, 1, "cycle {cycle}: a check-in");
        if reason.is_none() {
            // The bootloader aborts, the updater selects, the bootloader starts: an erasure and a write each.
            let operations = device.flash.take_log();
            assert_eq!(operations.len(), 6, "cycle {cycle}: {operations:?}");
            assert!(touches_otadata_only(&device, &operations), "cycle {cycle}: {operations:?}");
        }
    }
    let known = bed.device("lamp-1");
    assert_eq!(
        (&known["strategy"], &known["running"]["version"]),
        (&"otadata-rollback".into(), &"1.1.0".into())
    );
    assert_eq!(device.flash.violations(), []);
}

/// The bootloader knows nothing of deep sleep: it starts the updater, which hands over without the network.
#[tokio::test(flavor = "multi_thread")]
async fn a_wake_from_deep_sleep_writes_otadata_and_uses_no_network() {
    let (bed, mut device) = enrolled().await;
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    let connections = device.network.counters().connections();
    device.flash.take_log();
    let app = running(device.reset(ResetCause::DeepSleep).await.unwrap());
    assert_eq!((app.version(), app.reason, app.by_updater), ("1.0.0", None, true));
    assert_eq!(device.network.counters().connections(), connections);
    let operations = device.flash.take_log();
    assert_eq!(operations.len(), 6);
    assert!(touches_otadata_only(&device, &operations), "{operations:?}");
}

/// The limit of this layout. The application runs on, and the updater hears of it when the bootloader comes back.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_confirms_itself_keeps_the_updater_out_until_it_is_damaged() {
    let (bed, mut device) = enrolled().await;
    device.app_confirms_itself().unwrap();
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    let connections = device.network.counters().connections();
    for cause in [ResetCause::Software, ResetCause::PowerOn, ResetCause::Watchdog] {
        let app = running(device.reset(cause).await.unwrap());
        assert_eq!((app.version(), app.by_updater), ("1.0.0", false), "the update does not come");
    }
    assert_eq!(device.network.counters().connections(), connections);

    let slot = device.layout().find_label("ota_1").unwrap();
    device.flash.flip_bit(slot.offset + 70_000, 3).unwrap();
    let app = running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!((app.version(), app.reason, app.by_updater), ("1.1.0", Some(Reason::Installed), true));
    assert_eq!(outcomes(&bed)[..3], ["installed", "application-confirmed-itself", "installed"]);
    // 1.1.0 does not confirm itself, and is not accused of it.
    running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!(bed.device("lamp-1")["last_outcome"]["reason"], "installed");
    assert_eq!(device.flash.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_confirmed_itself_and_selects_the_updater_is_reported() {
    let (bed, mut device) = enrolled().await;
    device.app_confirms_itself().unwrap();
    device.app_selects(UPDATER).unwrap();
    // Found without a network, and told when there is one.
    let nowhere = SimNetwork::new(Link::Wifi(Vec::new()), device.power());
    let network = std::mem::replace(&mut device.network, nowhere);
    let app = running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::NetworkUnreachable)));
    device.network = network;
    let app = running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!((app.version(), app.reason, app.by_updater), ("1.0.0", None, true));
    let known = bed.device("lamp-1");
    assert_eq!(known["last_outcome"]["reason"], "application-confirmed-itself");
    assert_eq!(
        (&known["last_outcome"]["code"], &known["last_outcome"]["sequence"]),
        (&600.into(), &1.into())
    );
    // The updater has its place again, and an update comes.
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    let app = running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)));
}

/// What a device is in when the power fails at its next start.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// The application ran: PENDING_VERIFY.
    Ran,
    /// otadata as a factory leaves it.
    Erased,
    /// The application confirmed itself and selected the updater.
    Confirmed,
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_at_every_operation_of_a_hand_over() {
    let (_bed, mut device) = enrolled().await;
    let enrolled = device.flash.bytes().to_vec();
    for before in [Before::Ran, Before::Erased, Before::Confirmed] {
        device.power().restore();
        device.flash.put(0, &enrolled).unwrap();
        match before {
            Before::Ran => {}
            Before::Erased => {
                let otadata = device.layout().otadata().unwrap();
                device.flash.fill(otadata.offset..otadata.end(), 0xff).unwrap();
            }
            Before::Confirmed => {
                device.app_confirms_itself().unwrap();
                device.app_selects(UPDATER).unwrap();
            }
        }
        let snapshot = device.flash.bytes().to_vec();
        device.flash.take_log();
        assert!(running(device.power_on().await.unwrap()).by_updater);
        let operations = device.flash.take_log();
        assert!(operations.len() >= 6, "{before:?}: {operations:?}");

        for (index, operation) in operations.iter().enumerate() {
            for tear in Tear::samples(operation.length_bytes) {
                let what = format!("{before:?}, operation {} ({operation:?}), {tear:?}", index + 1);
                device.power().restore();
                device.flash.put(0, &snapshot).unwrap();
                device.flash.arm(PowerCut { operation: index as u64 + 1, tear, seed: index as u64 });
                let end = device.power_on().await.unwrap();
                assert!(matches!(end, End::PowerLost), "{what}: {end:?}");
                // Erased otadata has nothing to lose; the bootloader writes the first entry.
                let has_entry = in_force(&device).is_some();
                assert!(has_entry || matches!(before, Before::Erased), "{what}: both copies are lost");
                // At once or through the updater, and from then on as ever.
                running(device.power_on().await.unwrap());
                if in_force(&device) == Some((APPLICATION, OtaState::Valid)) {
                    // The bootloader starts the updater unconfirmed too. Up to the updater's own first write a loss
                    // of power undoes what the application selected, and the application has the chip again.
                    assert!(matches!(before, Before::Confirmed) && index <= 2, "{what}");
                    continue;
                }
                for _ in 0..2 {
                    let app = running(device.reset(ResetCause::Software).await.unwrap());
                    assert_eq!((app.version(), app.by_updater), ("1.0.0", true), "{what}");
                    assert_eq!(in_force(&device), Some((APPLICATION, OtaState::PendingVerify)), "{what}");
                }
                assert_eq!(device.flash.violations(), [], "{what}");
            }
        }
        println!("{before:?}: {} operations", operations.len());
    }
}

/// A torn confirmation is the application's own doing; it leads back to the updater.
#[tokio::test(flavor = "multi_thread")]
async fn any_torn_copy_leads_to_the_updater_and_to_the_application() {
    let (_bed, mut device) = enrolled().await;
    let offset = device.layout().otadata().unwrap().offset;
    let snapshot = device.flash.bytes().to_vec();
    for copy in [0, 0x1000] {
        // In the sequence number, and in the CRC.
        for byte in [0, 28, 31] {
            for bit in 0..8 {
                device.flash.put(0, &snapshot).unwrap();
                device.flash.flip_bit(offset + copy + byte, bit).unwrap();
                for _ in 0..2 {
                    let app = running(device.reset(ResetCause::Software).await.unwrap());
                    assert_eq!((app.version(), app.by_updater), ("1.0.0", true), "{copy:#x} {byte} {bit}");
                }
            }
        }
    }
    for tear in Tear::samples(32) {
        for operation in [1, 2] {
            device.power().restore();
            device.flash.put(0, &snapshot).unwrap();
            device.flash.arm(PowerCut { operation, tear, seed: 5 });
            assert!(device.app_confirms_itself().is_err());
            let app = running(device.power_on().await.unwrap());
            // After the last one the confirmation is whole.
            let is_confirmed = operation == 2 && tear == Tear::After;
            assert_eq!(app.by_updater, !is_confirmed, "operation {operation}, {tear:?}");
        }
    }
}

/// Why this layout needs a bootloader with rollback: without it the first hand-over is for good.
#[tokio::test(flavor = "multi_thread")]
async fn without_rollback_in_the_bootloader_the_updater_does_not_come_back() {
    let bed = Bed::start("8mb-rollback").await;
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    let mut device = bed.manufacture("lamp-1");
    device.set_bootloader_rollback(false);
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.by_updater), ("1.0.0", true));
    assert_eq!(in_force(&device), Some((APPLICATION, OtaState::New)), "nobody counts the start");
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    for _ in 0..3 {
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.by_updater), ("1.0.0", false));
    }
    // With the right bootloader the device is well again after one more start.
    device.set_bootloader_rollback(true);
    assert!(!running(device.power_on().await.unwrap()).by_updater);
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason, app.by_updater), ("1.1.0", Some(Reason::Installed), true));
}
