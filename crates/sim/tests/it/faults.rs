//! Faults that a real chip showed and a kind world hid, each as the device must behave.

use std::time::Duration;

use sim::campaign::fake_server::{Apply, Exchange, Twist};
use sim::campaign::in_paused_time;
use sim::campaign::lifecycle::{Lifecycle, prepare};
use sim::campaign::world::{DEVICE, World, application, is_new};
use sim::device::{Moment, OWN_RESET, Standing, Step, Strike};
use sim::flash::{Flicker, Pace};
use sim::impostor::Reply;
use sim::{End, RunningApp};
use updater::reset::{Hint, Reset};
use updater_io::journal::Journal;
use updater_io::region::Region;
use wire::{Reason, ResetCause};

fn running(end: End) -> RunningApp {
    match end {
        End::Running(app) => app,
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

/// A device that runs 1.0.0, while 1.1.0 is offered.
async fn installing(layout: &'static str) -> World {
    prepare(layout, Lifecycle::Install).await.unwrap().world.restore(1).unwrap()
}

fn in_time(test: impl Future<Output = ()>) {
    in_paused_time(async {
        test.await;
        Ok(())
    })
    .unwrap();
}

/// How many starts of the chip pass until an application runs.
async fn starts_until_it_runs(
    world: &mut World,
    (mut reset, mut hint): (Reset, Option<Hint>),
) -> Option<u32> {
    for start in 1..=50 {
        match world.device.start_once(reset, hint).await.unwrap() {
            Step::Ended(End::Running(_)) => return Some(start),
            Step::Ended(End::Waiting { after_ms, .. }) => {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                (reset, hint) = OWN_RESET;
            }
            Step::Ended(end) => panic!("{end:?}"),
            Step::Resets => (reset, hint) = OWN_RESET,
            Step::Struck(by, why) => (reset, hint) = (by, why),
        }
    }
    None
}

/// A watchdog that takes the retained register with it, and a supply that gives way, at each join.
#[test]
fn a_radio_that_ends_each_start_does_not_keep_the_application() {
    for how in [
        Strike::Hang,
        Strike::Reset(Reset::RtcWatchdogSystem, None),
        Strike::Reset(Reset::Brownout, None),
        Strike::Reset(Reset::SoftwareSystem, None),
    ] {
        in_time(async {
            let mut world = installing("4mb").await;
            world.device.set_standing(Some(Standing { at: Moment::Action("Join"), how }));
            let starts = starts_until_it_runs(&mut world, (Reset::PowerOn, None)).await;
            assert!(starts.is_some_and(|starts| starts <= 4), "{how:?} at each join: {starts:?}");
        });
    }
}

#[test]
fn a_crash_outside_the_network_counts_too() {
    let panic = Strike::Reset(Reset::SoftwareSystem, Some(Hint::Panic));
    for at in [Moment::Setup, Moment::Action("Survey"), Moment::Reads("vault"), Moment::Departure] {
        in_time(async {
            let mut world = installing("8mb").await;
            world.device.set_standing(Some(Standing { at, how: panic }));
            let starts = starts_until_it_runs(&mut world, (Reset::PowerOn, None)).await;
            assert!(starts.is_some_and(|starts| starts <= 4), "a panic at {at:?}: {starts:?}");
        });
    }
}

/// The early path breaks over the newest application: the ticket must not lead there again.
#[test]
fn a_ticket_is_good_for_one_try() {
    let ends = [Strike::Refusal, Strike::Hang, Strike::Reset(Reset::SoftwareSystem, Some(Hint::Panic))];
    for how in ends {
        in_time(async {
            let mut world = installing("8mb").await;
            // Installs 1.1.0 into the other slot, which then cannot be started.
            world.device.set_standing(Some(Standing { at: Moment::EarlyCheck("ota_1"), how }));
            let starts = starts_until_it_runs(&mut world, (Reset::PowerOn, None)).await;
            assert!(starts.is_some_and(|starts| starts <= 6), "{how:?} at the early check: {starts:?}");
        });
    }
}

/// Two images of 7 MB take longer to hash than the application may be kept waiting.
#[test]
fn a_device_with_large_images_reaches_its_server() {
    in_time(async {
        let mut world = World::manufacture("16mb").unwrap();
        for (sequence, version) in [(1, "1.0.0"), (2, "1.1.0")] {
            let image = application(version, 108).unwrap();
            let release = world.server.state().publish(sequence, version, image, Vec::new()).unwrap();
            world.server.state().offer = Some(release);
            world.device.flash.replace_pace(Pace::Typical);
            assert_eq!(running(world.device.power_on().await.unwrap()).version(), version);
        }
        let check_ins = world.server.state().picture(DEVICE).check_ins;
        let start = world.device.power().clock().mark();
        running(world.device.power_on().await.unwrap());
        let took = start.elapsed();
        assert!(world.server.state().picture(DEVICE).check_ins > check_ins, "no check-in after {took:?}");
        // The hash of what is started, before and after the reset that hands over, is the chip's own.
        assert!(took < Duration::from_secs(30), "{took:?}");
    });
}

#[test]
fn an_artifact_that_cannot_be_had_costs_no_application() {
    let answers: [fn(Reply) -> Reply; 3] =
        [|_| Reply::status(404), |_| Reply::status(503), |_| Reply::status(200)];
    for (status, answer) in [404, 503, 200].into_iter().zip(answers) {
        in_time(async {
            let mut world = installing("4mb").await;
            let twist = Twist { exchange: Exchange::Artifact, apply: Apply::ToReply(answer) };
            world.server.state().twists = vec![twist];
            for start in 1..=3 {
                let end = world.device.power_on().await.unwrap();
                let runs = matches!(&end, End::Running(app) if app.version() == "1.0.0");
                assert!(runs, "status {status}, start {start}: {end:?}");
            }
        });
    }
}

/// What the chain-loader refuses is known before the only slot is erased.
#[test]
fn a_release_that_cannot_be_started_costs_no_application() {
    for layout in ["4mb", "8mb"] {
        in_time(async {
            let mut world = installing(layout).await;
            world.device.set_can_start(|_, segments| !is_new(segments));
            for start in 1..=3 {
                let end = world.device.power_on().await.unwrap();
                let runs = matches!(&end, End::Running(app) if app.version() == "1.0.0");
                assert!(runs, "{layout}, start {start}: {end:?}");
            }
        });
    }
}

/// The key reads wrong now and then: it stays the device's key.
#[test]
fn a_key_that_reads_differently_stays() {
    for layout in ["4mb", "8mb", "8mb-rollback"] {
        for seed in 0..4 {
            in_time(async {
                let prepared = prepare(layout, Lifecycle::Install).await.unwrap();
                let mut world = prepared.world.restore(1).unwrap();
                let vault = world.device.layout().find_label("vault").unwrap();
                // PKCS#8 of an EC key: SEQUENCE, INTEGER 0, SEQUENCE, OID ecPublicKey.
                let bytes = &world.device.flash.bytes()[vault.offset as usize..vault.end() as usize];
                let keys = bytes.windows(7).enumerate();
                let keys = keys.filter(|(_, found)| *found == [0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07]);
                let flickers = keys
                    .map(|(at, _)| vault.offset + at as u32 + 40)
                    .map(|start| Flicker { addresses: start..start + 32, one_in: 2 })
                    .collect::<Vec<_>>();
                assert!(!flickers.is_empty());
                world.device.flash.set_flickers(flickers, seed);
                for _ in 0..3 {
                    running(world.device.power_on().await.unwrap());
                }
                world.device.flash.set_flickers(Vec::new(), 0);
                let app = running(world.device.power_on().await.unwrap());
                assert_eq!(app.version(), "1.1.0", "{layout}, seed {seed}: {:?}", app.reason);
            });
        }
    }
}

/// A lost record does not open the way back to an older release.
#[test]
fn a_lost_record_does_not_lose_the_sequence() {
    in_time(async {
        let mut world = installing("8mb").await;
        let digest = world.server.state().releases[1].manifest.artifact.digest;
        assert_eq!(running(world.device.power_on().await.unwrap()).version(), "1.1.0");
        let vault = world.device.layout().find_label("vault").unwrap();
        let bytes = world.device.flash.bytes()[vault.offset as usize..vault.end() as usize].to_vec();
        // The newest record is the last one that was written.
        let at = bytes.windows(32).rposition(|found| found == digest.0).expect("no record");
        world.device.flash.flip_bit(vault.offset + at as u32, 0).unwrap();
        world.server.state().offer = Some(0);
        for reason in [Reason::Vault, Reason::SequenceOlder] {
            assert_eq!(running(world.device.power_on().await.unwrap()).reason, Some(reason));
        }
        world.server.state().offer = Some(1);
        let app = running(world.device.power_on().await.unwrap());
        assert_eq!(app.version(), "1.1.0", "{:?}", app.reason);
    });
}

/// Damage in the vault that no start before has seen is left alone for a start: the server hears of the device, and the
/// release waits.
#[test]
fn a_start_that_finds_damage_checks_in_and_begins_nothing() {
    in_time(async {
        let mut world = installing("4mb").await;
        let vault = world.device.layout().find_label("vault").unwrap();
        let bytes = &world.device.flash.bytes()[vault.offset as usize..vault.end() as usize];
        let at = bytes.windows(9).rposition(|found| found == b"sequence\0").unwrap();
        world.device.flash.flip_bit(vault.offset + at as u32 - 4, 3).unwrap();
        let check_ins = |world: &World| world.server.state().picture(DEVICE).check_ins;
        let (before, check_ins_before) = (world.device.flash.bytes().to_vec(), check_ins(&world));
        let app = running(world.device.power_on().await.unwrap());
        assert_eq!((app.version(), app.reason), ("1.0.0", Some(Reason::Vault)));
        assert_eq!(check_ins(&world), check_ins_before + 1);
        let journal = world.device.layout().find_label("journal").unwrap();
        for (address, (now, before)) in (0..).zip(world.device.flash.bytes().iter().zip(&before)) {
            let is_journal = (journal.offset..journal.end()).contains(&address);
            assert!(now == before || is_journal, "{address:#x} was changed");
        }
        assert_eq!(running(world.device.power_on().await.unwrap()).version(), "1.1.0");
    });
}

/// Neither does a vault that has lost the record and the number beside it: the journal has the number too. Of settings for
/// another product it is not.
#[test]
fn a_vault_without_record_and_sequence_lets_nothing_older_in() {
    in_time(async {
        let mut world = installing("4mb").await;
        assert_eq!(running(world.device.power_on().await.unwrap()).version(), "1.1.0");
        let vault = world.device.layout().find_label("vault").unwrap();
        for key in ["record", "sequence"] {
            let mut name = [0; 16];
            name[..key.len()].copy_from_slice(key.as_bytes());
            let bytes = world.device.flash.bytes()[vault.offset as usize..vault.end() as usize].to_vec();
            for (at, _) in bytes.windows(16).enumerate().filter(|(_, found)| **found == name) {
                world.device.flash.flip_bit(vault.offset + at as u32 - 1, 0).unwrap();
            }
        }
        world.server.state().offer = Some(0);
        for reason in [Reason::Vault, Reason::SequenceOlder, Reason::SequenceOlder] {
            let app = running(world.device.power_on().await.unwrap());
            assert_eq!((app.version(), app.reason), ("1.1.0", Some(reason)));
        }
        // Settings for another product, as a cable brings them: the journal's number is not theirs.
        let journal = world.device.layout().find_label("journal").unwrap();
        let region = Region { offset: journal.offset, size_bytes: journal.size };
        let mut entries = Journal::open(&mut world.device.flash, region).unwrap();
        let mut entry = entries.latest().unwrap();
        assert_eq!(entry.sequence_floor.sequence, 2);
        entry.sequence_floor.settings ^= 1;
        entries.append(&mut world.device.flash, entry).unwrap();
        let app = running(world.device.power_on().await.unwrap());
        assert_eq!(app.version(), "1.0.0", "{:?}", app.reason);
    });
}

/// A register that nobody can read is no reason to start a slot without looking at all of it.
#[test]
fn a_wake_with_an_unreadable_register_starts_what_the_record_says() {
    in_time(async {
        let mut world = installing("8mb").await;
        assert_eq!(running(world.device.power_on().await.unwrap()).version(), "1.1.0");
        world.device.set_retained_bits(0x1234_5678);
        let app = running(world.device.reset(ResetCause::DeepSleep).await.unwrap());
        assert_eq!(app.version(), "1.1.0");
    });
}

/// There the bootloader starts the application; what the updater's own chain-loader could start does not matter.
#[test]
fn by_otadata_the_chain_loader_is_not_asked() {
    in_time(async {
        let mut world = installing("8mb-rollback").await;
        world.device.set_can_start(|_, _| false);
        for start in 1..=3 {
            let app = running(world.device.power_on().await.unwrap());
            assert_eq!(app.version(), "1.1.0", "start {start}: {:?}", app.reason);
        }
    });
}
