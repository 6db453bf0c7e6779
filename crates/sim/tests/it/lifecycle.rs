//! The life of a device against the real server, over real TCP and TLS.

use crate::common::{Bed, application};
use sim::flash::OperationKind;
use sim::{End, RunningApp};
use wire::{Reason, ResetCause};

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enroll_install_update_and_then_nothing() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));

    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.slot.as_str(), app.reason), ("1.0.0", "ota_0", Some(Reason::Installed)));
    assert_eq!(bed.device("lamp-1")["state"], "enrolled");
    assert_eq!(bed.device("lamp-1")["last_outcome"]["reason"], "installed");

    bed.publish(2, "1.1.0", &application("1.1.0", 4));
    let app = running(device.reset(ResetCause::Software).await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)));

    // Nothing new: one connection, one request, and not a byte of flash.
    device.flash.reset_stats();
    let connections = device.network.counters().connections();
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.1.0", None));
    assert!(!device.flash.stats().is_mutated(), "{:?}", device.flash.stats());
    assert_eq!(device.network.counters().connections() - connections, 1);
    assert_eq!(
        device.network.counters().scans(),
        1,
        "the access point is found by the first start and known then"
    );
    let known = bed.device("lamp-1");
    assert_eq!(known["running"]["sequence"], 2);
    assert_eq!(known["running"]["version"], "1.1.0");
    assert!(device.flash.violations().is_empty());
}

/// A slot that is half written does not look like an image. The header goes into a sector that is erased right before: one
/// whose erasure lost power may read blank and still not keep what is written to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_loses_its_header_first_and_gets_the_new_one_last() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    device.flash.take_log();
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.1.0", Some(Reason::Installed)));

    let slot = device.layout().find_label("ota_0").unwrap();
    let log =
        device.flash.log().iter().filter(|operation| (slot.offset..slot.end()).contains(&operation.address));
    let log: Vec<_> = log.map(|operation| (operation.kind, operation.address - slot.offset)).collect();
    let header = (OperationKind::Write, 0);
    assert_eq!(log[0], (OperationKind::Erase, 0));
    assert_eq!(log[log.len() - 2..], [(OperationKind::Erase, 0), header]);
    assert_eq!(log.iter().filter(|operation| **operation == header).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_slots_take_turns() {
    let bed = Bed::start("8mb").await;
    let mut device = bed.manufacture("lamp-1");
    for (sequence, version, slot) in [(1, "1.0.0", "ota_0"), (2, "1.1.0", "ota_1"), (3, "1.2.0", "ota_0")] {
        bed.publish(sequence, version, &application(version, 3));
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.slot.as_str()), (version, slot));
    }
    // The previous application is still there: when the newest is damaged, it is started.
    let newest = device.layout().find_label("ota_0").unwrap();
    device.flash.flip_bit(newest.offset + 70_000, 3).unwrap();
    bed.server.shutdown().await;
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.slot.as_str()), ("1.1.0", "ota_1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_starts_without_server_network_or_updater() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    let written = device.flash.bytes().to_vec();

    bed.server.shutdown().await;
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::ServerUnreachable)));
    device.network = sim::net::SimNetwork::new(sim::net::Link::Wifi(Vec::new()), device.power());
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::NetworkUnreachable)));
    device.network.set_link(sim::net::Link::Wpa3Only(vec![crate::common::workshop()]));
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::WifiWpa3Only)));
    assert!(device.flash.bytes() == written, "no server and no network: nothing is written");

    // Deep sleep: at once. Updater damaged: by the bootloader itself.
    let app = running(device.reset(ResetCause::DeepSleep).await.unwrap());
    assert_eq!((app.version(), app.reason, app.by_updater), ("1.0.0", None, true));
    let factory = device.layout().factory().unwrap();
    device.flash.flip_bit(factory.offset + 100, 0).unwrap();
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.by_updater), ("1.0.0", false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_from_deep_sleep_reads_headers_and_writes_nothing() {
    let bed = Bed::start("8mb").await;
    let mut device = bed.manufacture("lamp-1");
    for (sequence, version) in [(1, "1.0.0"), (2, "1.1.0")] {
        bed.publish(sequence, version, &application(version, 8));
        running(device.power_on().await.unwrap());
    }
    // The application is in the second slot, and the first one holds one too.
    let starts = device.retained().starts;
    device.flash.reset_stats();
    let connections = device.network.counters().connections();
    let app = running(device.reset(ResetCause::DeepSleep).await.unwrap());
    assert_eq!((app.version(), app.slot.as_str(), app.reason), ("1.1.0", "ota_1", None));
    assert_eq!(device.retained().starts, starts + 1);
    assert_eq!(device.network.counters().connections(), connections);
    let stats = device.flash.stats();
    assert!(!stats.is_mutated(), "{stats:?}");
    // The bootloader verifies the updater as at any start; the updater reads the table and the headers of one slot.
    let updater_bytes = read_by_the_bootloader(&mut device);
    let read_bytes = device.flash.stats().read_bytes - 2 * updater_bytes;
    assert!(read_bytes < 4096, "{read_bytes} bytes read");

    // A damaged header: the other slot. Damage behind the headers is not seen before the next pit stop.
    let slot = device.layout().find_label("ota_1").unwrap();
    device.flash.flip_bit(slot.offset + 1, 7).unwrap();
    let app = running(device.reset(ResetCause::DeepSleep).await.unwrap());
    assert_eq!((app.version(), app.slot.as_str()), ("1.0.0", "ota_0"));
}

/// Bytes that the bootloader reads at a start; reading them again counts once more.
fn read_by_the_bootloader(device: &mut sim::VirtualDevice) -> u64 {
    let before = device.flash.stats().read_bytes;
    sim::Bootloader::new(flashfmt::Chip::Esp32C3).boot(&mut device.flash).unwrap();
    device.flash.stats().read_bytes - before
}

/// The chain-loader needs memory of its own; an image that loads there is whole and yet cannot be started.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_the_chain_loader_cannot_start_is_refused() {
    let bed = Bed::start("8mb").await;
    let mut device = bed.manufacture("lamp-1");
    device.set_can_start(|_, segments| {
        segments.as_slice().iter().map(|segment| segment.len).sum::<u32>() < 2 << 16
    });
    for (sequence, version, chunks, reason) in
        [(1, "1.0.0", 3, "installed"), (2, "1.1.0", 5, "not-startable")]
    {
        bed.publish(sequence, version, &application(version, chunks));
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.slot.as_str()), ("1.0.0", "ota_0"));
        assert_eq!(bed.device("lamp-1")["last_outcome"]["reason"], reason);
    }
}

/// Certificates end (RFC 5280's notAfter), here after 90 days. A device that starts once a day renews its own when two thirds
/// are over, and again, without a person: after half a year it is still served. What becomes of one that does not start for
/// so long is in `absence.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_renews_its_certificate_at_two_thirds_of_its_time_again_and_again() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let mut clock = None;
    let bed = Bed::start_with("4mb", |config| {
        clock = Some(config.clock.clone());
        config.device_certificate_days = 90;
    })
    .await;
    let clock = clock.unwrap();
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    assert_eq!(running(device.power_on().await.unwrap()).version(), "1.0.0");
    let serial = || bed.device("lamp-1")["certificate"]["serial"].as_str().unwrap().to_owned();

    let (mut current, mut renewed_on) = (serial(), Vec::new());
    for day in 1..=185 {
        clock.advance_ms(DAY_MS);
        assert_eq!(running(device.power_on().await.unwrap()).reason, None, "day {day}");
        let now = serial();
        if now != current {
            renewed_on.push(day);
            current = now;
        }
    }
    assert_eq!(renewed_on, [60, 120, 180]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_runs_its_application_and_gets_nothing_new() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    bed.post("devices/lamp-1/revoke", &serde_json::json!({ "reason": "lost" }));
    bed.publish(2, "1.1.0", &application("1.1.0", 3));
    let app = running(device.power_on().await.unwrap());
    assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::DeviceRefused)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_one_device_only() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    // A copy of the flash as it left the factory: same id, same token, and it will make another key.
    let stolen = device.flash.bytes().to_vec();
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    let mut copy = bed.manufacture("lamp-2");
    copy.flash.put(0, &stolen).unwrap();
    let end = copy.power_on().await.unwrap();
    assert!(matches!(end, End::Waiting { reason: Reason::EnrollmentRefused, .. }), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_critical_error_is_counted_in_the_journal_and_told_when_the_device_is_well_again() {
    let bed = Bed::start("4mb").await;
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    running(device.power_on().await.unwrap());
    let good = device.layout().to_binary();

    // A table with a vault of two sectors: too small for the format, so that the vault cannot be opened.
    let csv = flashfmt::layout::BUILTIN[0].1.replace("0x100000, 0x8000", "0x100000, 0x2000, readonly");
    let table = flashfmt::layout::Layout::parse_csv(&csv).unwrap().to_binary();
    device.flash.put(flashfmt::partition::TABLE_OFFSET, &table).unwrap();
    for _ in 0..2 {
        let app = running(device.power_on().await.unwrap());
        assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::Vault)));
    }

    device.flash.put(flashfmt::partition::TABLE_OFFSET, &good).unwrap();
    running(device.power_on().await.unwrap());
    let known = bed.device("lamp-1");
    assert_eq!(known["critical_errors"], 2);
    assert_eq!(known["last_critical"], Reason::Vault.code());
}
