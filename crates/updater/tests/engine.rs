//! The engine against a world at the level of its own actions: what it does on good days, and what it never does.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod world;

use manifest::{Digest, PublisherKey, PublisherSigningKey, Sequence};
use proptest::prelude::*;

use updater::{
    Action, Anchors, CertificateLife, Chain, Event, Identity, ImageFacts, InstallRecord, NextKey, Phase,
    Retained, Scope, SlotIndex, Start, Verdict, Writes, limits,
};
use wire::{Decision, HandOverStrategy, Outcome, Reason, ResetCause};
use world::promise::Watch;
use world::{World, YEAR_S, certified, enrolling, first_chunk, key, new_key, release, sign, token};

fn handed_over(slot: u8, reason: Option<Reason>) -> Verdict {
    Verdict::HandOver { slot: SlotIndex(slot), reason }
}

fn outcome(sequence: u64, reason: Reason) -> Outcome {
    Outcome { sequence: Some(sequence), reason: reason.code() }
}

#[test]
fn first_start_enrolls_installs_and_hands_over() {
    let mut world = World::new(1);
    world.identity = Identity::Token(token());
    let first = release(1, 1, 4);
    world.offer(&first);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_eq!(world.fetched, [1, 2, 3, 0], "the chunk with the header comes last");
    assert_eq!(world.record, Some(InstallRecord::of(&first, SlotIndex(0))));
    assert_eq!(world.reports, [outcome(1, Reason::Installed)]);
    assert!(matches!(world.identity, Identity::Certified(_)));
    assert_eq!(world.retained.phase, Phase::Ticket, "the hand-over goes through a reset");

    // With the ticket the start after the reset hands over before the engine runs.
    let (verdict, _) = world.pit_stop(ResetCause::Software, |_, _| None);
    assert_eq!(verdict, handed_over(0, None));
}

/// The early hand-over of the next start looks there first.
#[test]
fn the_slot_that_was_handed_over_to_is_retained() {
    let mut world = World::new(2);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    assert_eq!(world.power_on(), handed_over(1, Some(Reason::Installed)));
    assert_eq!(world.retained.slot, SlotIndex(1));
}

/// By otadata the bootloader starts the application; a ticket would only be found by the updater.
#[test]
fn a_hand_over_by_otadata_leaves_no_ticket() {
    let mut world = World::new(1);
    world.strategy = HandOverStrategy::OtadataRollback;
    world.install(0, &release(1, 1, 2));
    assert_eq!(world.power_on(), handed_over(0, None));
    assert_eq!(world.retained.phase, Phase::Application);
}

#[test]
fn nothing_new_writes_nothing() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 3));
    assert_eq!(world.power_on(), handed_over(0, None));
    // Even when the server offers what runs already.
    world.offer(&release(1, 1, 3));
    assert_eq!(world.power_on(), handed_over(0, None));
    assert_eq!((world.vault_writes, world.slot_writes), (0, 0));
    assert!(world.reports.is_empty());
}

#[test]
fn one_slot_is_updated_in_place_and_keeps_equal_chunks() {
    let mut world = World::new(1);
    let old = release(1, 1, 4);
    world.install(0, &old);
    let mut new = release(2, 2, 4);
    new.artifact.chunks[2] = old.artifact.chunks[2];
    world.offer(&new);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_eq!(world.fetched, [1, 3, 0], "chunk 2 is the same in both");
}

#[test]
fn two_slots_leave_the_running_application_alone() {
    let mut world = World::new(2);
    world.install(0, &release(1, 1, 3));
    world.offer(&release(2, 2, 3));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        assert!(world.image(0).is_some(), "slot 0 stays bootable through {action:?}");
        assert_ne!(action.writes(), Writes::Slot(SlotIndex(0)));
        None
    });
    assert_eq!(verdict, handed_over(1, Some(Reason::Installed)));
    // The next one goes back to slot 0.
    world.offer(&release(3, 3, 3));
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
}

/// Whatever interrupts an install: the slot does not look like an image before all of it is there.
#[test]
fn a_slot_has_no_header_until_the_rest_of_the_image_is_there() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 4));
    world.offer(&release(2, 2, 4));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        if let Action::FetchChunk(fetch) = action {
            assert!(!world.slots[0].first_sector, "{fetch:?} below the old header");
            assert_eq!(fetch.hold_first_sector, fetch.offset_bytes == 0, "{fetch:?}");
        }
        None
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
}

#[test]
fn a_recorded_slot_that_is_not_bootable_is_not_handed_over_to() {
    let mut world = World::new(2);
    world.put(1, &release(1, 1, 2));
    world.record = Some(InstallRecord::of(&release(2, 2, 2), SlotIndex(0)));
    assert_eq!(world.power_on(), handed_over(1, None));
}

#[test]
fn an_interrupted_install_goes_on_at_the_first_chunk_that_differs() {
    let mut world = World::new(1);
    world.offer(&release(1, 1, 5));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        let lost = matches!(action, Action::FetchChunk(_)) && world.fetched.len() >= 2;
        lost.then_some(Event::Failed(Reason::ConnectionLost))
    });
    assert!(matches!(verdict, Verdict::Restart { reason: Reason::ConnectionLost, .. }));
    world.fetched.clear();
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_eq!(world.fetched, [3, 4, 0]);
}

#[test]
fn refusals_are_noted_once_and_reported_each_time() {
    let running = release(5, 1, 2);
    type Prepare = Box<dyn Fn(&mut World)>;
    let cases: [(&str, Prepare, Outcome); 9] = [
        (
            "signed by a stranger",
            Box::new(|world: &mut World| {
                let stranger =
                    manifest::PublisherSigningKey::new(p256::SecretKey::from_slice(&[9; 32]).unwrap());
                let signed = manifest::Signed::sign(&release(6, 2, 2), &stranger).unwrap();
                world.decision = Decision::new(YEAR_S, Some(signed.as_bytes().to_vec()));
            }),
            Outcome { sequence: None, reason: Reason::ManifestSignature.code() },
        ),
        (
            "a changed byte",
            Box::new(|world: &mut World| {
                let mut bytes = sign(&release(6, 2, 2));
                bytes[40] ^= 1;
                world.decision = Decision::new(YEAR_S, Some(bytes));
            }),
            Outcome { sequence: None, reason: Reason::ManifestSignature.code() },
        ),
        (
            "rubbish",
            Box::new(|world: &mut World| world.decision = Decision::new(YEAR_S, Some(vec![0; 50]))),
            Outcome { sequence: None, reason: Reason::ManifestMalformed.code() },
        ),
        (
            "older",
            Box::new(|world: &mut World| world.offer(&release(4, 2, 2))),
            outcome(4, Reason::SequenceOlder),
        ),
        (
            "the same number, another image",
            Box::new(|world: &mut World| world.offer(&release(5, 2, 2))),
            outcome(5, Reason::SequenceReused),
        ),
        (
            "another product",
            Box::new(|world: &mut World| {
                let mut other = release(6, 2, 2);
                other.product = "oven".into();
                world.offer(&other);
            }),
            outcome(6, Reason::ProductMismatch),
        ),
        (
            "another chip",
            Box::new(|world: &mut World| {
                let mut other = release(6, 2, 2);
                other.chip_id = 9;
                world.offer(&other);
            }),
            outcome(6, Reason::ChipMismatch),
        ),
        (
            "too large",
            Box::new(|world: &mut World| world.offer(&release(6, 2, 6))),
            outcome(6, Reason::ImageTooLarge),
        ),
        (
            "expired",
            Box::new(|world: &mut World| {
                let mut expired = release(6, 2, 2);
                expired.expires_at_s = Some(YEAR_S - 1);
                world.offer(&expired);
            }),
            outcome(6, Reason::ManifestExpired),
        ),
    ];
    for (name, prepare, expected) in cases {
        let mut world = World::new(1);
        world.install(0, &running);
        prepare(&mut world);
        let reason = Reason::from_code(expected.reason);
        assert_eq!(world.power_on(), handed_over(0, reason), "{name}");
        assert_eq!(world.power_on(), handed_over(0, reason), "{name}");
        assert_eq!(world.reports, [expected; 2], "{name}");
        assert_eq!((world.vault_writes, world.slot_writes), (1, 0), "{name}: noted once, flash left alone");
    }
}

#[test]
fn a_manifest_is_good_up_to_the_second_in_which_it_expires() {
    let mut world = World::new(1);
    let mut last = release(1, 1, 2);
    last.expires_at_s = Some(YEAR_S);
    world.offer(&last);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
}

/// The number of a release stands for its image; an application that came in another way has none.
#[test]
fn a_check_in_names_what_runs_and_its_number_only_if_it_is_the_recorded_image() {
    let told = |world: &mut World| {
        let mut told = None;
        world.pit_stop(ResetCause::PowerOn, |_, action| {
            if let Action::CheckIn { check_in, .. } = action {
                told = Some(check_in.running.clone());
            }
            None
        });
        told.expect("a check-in").map(|running| (Digest(*running.digest), running.sequence))
    };
    let mut world = World::new(1);
    assert_eq!(told(&mut world), None);
    world.install(0, &release(1, 1, 2));
    assert_eq!(told(&mut world), Some((release(1, 1, 2).artifact.digest, Some(1))));
    world.put(0, &release(2, 2, 2));
    assert_eq!(told(&mut world), Some((release(2, 2, 2).artifact.digest, None)));
}

#[test]
fn a_check_in_names_the_publisher_keys_that_the_vault_has_or_none_of_too_many() {
    let key = |seed: u8| {
        PublisherSigningKey::new(p256::SecretKey::from_slice(&[seed; 32]).unwrap()).publisher_key()
    };
    let keys: Vec<_> = (1..=17).map(key).collect();
    let told = |keys: &[PublisherKey]| {
        let mut world = World::new(1);
        world.publishers = keys.iter().copied().collect();
        let mut told = None;
        world.pit_stop(ResetCause::PowerOn, |_, action| {
            if let Action::CheckIn { check_in, .. } = action {
                told = Some(check_in.publishers.clone());
            }
            None
        });
        told.expect("a check-in")
    };
    let ids = |keys: &[PublisherKey]| Some(keys.iter().map(|key| key.id().into()).collect::<Vec<_>>());
    assert_eq!(told(&keys[..2]), ids(&keys[..2]));
    assert_eq!(told(&keys[..16]), ids(&keys[..16]));
    assert_eq!(told(&keys), None, "a part would say that the others are not trusted");
}

#[test]
fn a_chunk_that_is_not_what_the_manifest_says_is_tried_again_and_then_given_up() {
    let wrong = Event::ChunkHashed(Digest([1; 32]));
    let mut world = World::new(2);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 3));
    // Wrong every time: three tries, the release is blamed, the application still starts.
    let mut tries = 0;
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
        let Action::FetchChunk(fetch) = action else { return None };
        assert_eq!(fetch.delay_ms, limits::CHUNK_RETRY_MS * tries);
        tries += 1;
        Some(wrong.clone())
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::ChunkDigest)));
    assert_eq!(tries, u64::from(limits::CHUNK_TRIES));
    assert_eq!(world.reports, [outcome(2, Reason::ChunkDigest)]);
    // Wrong once: the next try makes it good.
    let mut first = Some(wrong);
    world.retained = Retained::default();
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
        if matches!(action, Action::FetchChunk(_)) { first.take() } else { None }
    });
    assert_eq!(verdict, handed_over(1, Some(Reason::Installed)));
}

/// A manifest whose chunks are of one image and whose digest is of another is signed nonsense, and not recorded.
#[test]
fn an_image_with_another_digest_than_the_manifest_says_is_not_recorded() {
    let mut world = World::new(2);
    let old = release(1, 1, 2);
    world.install(0, &old);
    let mut contradictory = release(2, 2, 2);
    world.know(&release(2, 2, 2));
    contradictory.artifact.digest = Digest([3; 32]);
    world.decision = Decision::new(YEAR_S, Some(sign(&contradictory)));
    world.serves = Some(contradictory);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::ImageDigest)));
    assert_eq!(world.record, Some(InstallRecord::of(&old, SlotIndex(0))));
}

#[test]
fn a_signed_revert_goes_back() {
    let mut world = World::new(2);
    let old = release(1, 1, 2);
    let mut new = release(2, 2, 2);
    new.revert_to = Some(vec![Sequence(1)]);
    world.install(0, &new);
    world.offer(&old);
    assert_eq!(world.power_on(), handed_over(1, Some(Reason::Installed)));
    assert_eq!(world.record.as_ref().map(|record| record.sequence), Some(Sequence(1)));
}

#[test]
fn a_damaged_slot_is_repaired_under_the_same_number() {
    let mut world = World::new(1);
    let release = release(3, 1, 4);
    world.install(0, &release);
    world.slots[0].chunks[2] = Some(Digest([1; 32]));
    world.offer(&release);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_eq!(world.fetched, [2, 0]);
}

#[test]
fn an_application_is_started_whatever_the_network_does() {
    let network = Reason::ALL.iter().copied().filter(|reason| matches!(reason.code(), 300..400));
    for reason in network {
        for at in ["Join", "CheckIn"] {
            let mut world = World::new(1);
            world.install(0, &release(1, 1, 2));
            let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
                let action = format!("{action:?}");
                // A device that is refused asks for another certificate.
                (action.starts_with(at) || action.starts_with("Renew")).then_some(Event::Failed(reason))
            });
            assert_eq!(verdict, handed_over(0, Some(reason)), "{at}");
            assert_eq!((world.vault_writes, world.slot_writes), (0, 0), "{at}: {reason:?} writes nothing");
        }
    }
}

#[test]
fn without_an_application_it_keeps_trying_later_and_later() {
    let mut world = World::new(1);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (verdict, _) = world.pit_stop(ResetCause::Software, |_, action| {
            matches!(action, Action::Join { .. }).then_some(Event::Failed(Reason::NetworkUnreachable))
        });
        let Verdict::Restart { after_ms, reason: Reason::NetworkUnreachable } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(world.retained.phase, Phase::Application, "a restart comes back to the network");
        waits.push(after_ms);
    }
    assert!(waits.is_sorted());
    assert!(waits[1] > waits[0]);
    assert!(*waits.last().unwrap() <= limits::BACKOFF_MAX_MS);
    // The server has nothing for it either: the server's wish for patience is heard.
    world.retained = Retained::default();
    world.decision.backoff_s = Some(600);
    let (verdict, _) = world.pit_stop(ResetCause::Software, |_, _| None);
    assert!(
        matches!(verdict, Verdict::Restart { after_ms: 600_000..=750_000, reason: Reason::NothingToRun }),
        "{verdict:?}"
    );
}

/// The updater crashes at its first action: the register stands as it was when the action began.
fn crash_at_once(world: &mut World, cause: ResetCause) {
    let (state, _) = updater::start(world.start(cause));
    world.retained = state.retained();
}

/// Every end that was not announced counts, whatever the cause, and wherever it came.
#[test]
fn three_crashes_skip_everything_once() {
    let causes = [ResetCause::Panic, ResetCause::Watchdog, ResetCause::Software, ResetCause::External];
    for cause in causes {
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        world.vault = Err(Reason::Vault);
        (0..3).for_each(|_| crash_at_once(&mut world, cause));
        let mut actions = Vec::new();
        let (verdict, _) = world.pit_stop(cause, |_, action| {
            actions.push(action.clone());
            None
        });
        assert_eq!(verdict, handed_over(0, Some(Reason::UpdaterCrashes)), "{cause:?}");
        assert_eq!(actions, [Action::Survey(Scope::Slots), Action::VerifySlot { slot: SlotIndex(0) }]);
        // The next start tries again, and a good one clears the count.
        world.hands_over();
        world.vault = Ok(());
        assert_eq!(world.retained.crashes, 2);
        assert_eq!(world.pit_stop(ResetCause::Software, |_, _| None).0, handed_over(0, None));
        assert_eq!(world.retained.crashes, 0);
    }
}

#[test]
fn a_dead_updater_without_an_application_waits_longer_and_longer() {
    let mut world = World::new(1);
    let mut waits = Vec::new();
    (0..2).for_each(|_| crash_at_once(&mut world, ResetCause::Panic));
    for _ in 0..10 {
        crash_at_once(&mut world, ResetCause::Panic);
        let (verdict, _) = world.pit_stop(ResetCause::Panic, |_, _| None);
        let Verdict::Restart { after_ms, reason: Reason::UpdaterCrashes } = verdict else {
            panic!("{verdict:?}")
        };
        waits.push(after_ms);
    }
    assert!(waits.is_sorted() && waits[9] > 100 * waits[0], "{waits:?}");
}

#[test]
fn the_server_hears_that_the_updater_crashed_and_not_the_application() {
    for (phase, cause, expected) in [
        (Phase::Application, ResetCause::Panic, ResetCause::Panic),
        (Phase::Updater, ResetCause::Panic, ResetCause::UpdaterCrash),
        (Phase::Updater, ResetCause::Software, ResetCause::UpdaterCrash),
        (Phase::HandingOver, ResetCause::Watchdog, ResetCause::UpdaterCrash),
    ] {
        let mut world = World::new(2);
        world.install(1, &release(1, 1, 2));
        world.retained = Retained { phase, ..Retained::default() };
        let mut told = None;
        world.pit_stop(cause, |_, action| {
            if let Action::CheckIn { check_in, .. } = action {
                told = Some(check_in.reset_cause);
            }
            None
        });
        assert_eq!(told, Some(expected), "{phase:?}, {cause:?}");
    }
}

/// The register is gone after these, so that the journal has counted them.
#[test]
fn an_announced_end_clears_what_the_journal_has_counted() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.journal_crashes = 2;
    assert_eq!(world.power_on(), handed_over(0, None));
    assert_eq!((world.journal_crashes, world.vault_writes), (0, 0));
}

/// One slot that the early hand-over does not come through with: the pit stops do not go round and round with it.
#[test]
fn a_hand_over_that_never_ends_is_backed_off_and_another_slot_is_taken() {
    let mut world = World::new(1);
    let release_1 = release(1, 1, 2);
    world.install(0, &release_1);
    world.offer(&release_1);
    let mut waits = Vec::new();
    let mut reasons = Vec::new();
    for _ in 0..6 {
        assert_eq!(world.pit_stop(ResetCause::Software, |_, _| None).0, handed_over(0, None));
        // Spent, and then the hand-over crashes.
        world.retained.phase = Phase::HandingOver;
        let (verdict, _) = world.pit_stop(ResetCause::Watchdog, |_, _| None);
        let Verdict::Restart { after_ms, reason } = verdict else { panic!("{verdict:?}") };
        waits.push(after_ms);
        reasons.push(reason);
    }
    assert!(waits.is_sorted() && waits[5] > 10 * waits[0], "{waits:?}");
    assert_eq!(reasons[..2], [Reason::HandOverFailed; 2]);
    assert_eq!(reasons[5], Reason::NotStartable);

    let mut world = World::new(2);
    world.install(0, &release_1);
    world.put(1, &release(2, 2, 2));
    world.retained = Retained { phase: Phase::HandingOver, ..Retained::default() };
    assert_eq!(world.pit_stop(ResetCause::Watchdog, |_, _| None).0, handed_over(1, None));
}

#[test]
fn a_release_that_was_changed_after_a_failed_hand_over_is_handed_over_to() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    world.retained = Retained { phase: Phase::HandingOver, ..Retained::default() };
    assert_eq!(world.pit_stop(ResetCause::Watchdog, |_, _| None).0, handed_over(0, Some(Reason::Installed)));
}

/// Nothing is erased for an artifact that is away, that is another one, or that could not be started.
#[test]
fn the_only_application_is_given_up_for_nothing_unseen() {
    let answers = [
        Event::Failed(Reason::ArtifactMissing),
        Event::Failed(Reason::ServerFailed),
        Event::Failed(Reason::DeviceRefused),
        Event::Failed(Reason::NotStartable),
        Event::PutOff { reason: Reason::ServerFailed, retry_after_s: 9 },
        Event::Previewed(Digest([1; 32])),
    ];
    for answer in answers {
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        world.offer(&release(2, 2, 2));
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| match action {
            Action::Preview(_) => Some(answer.clone()),
            _ => None,
        });
        assert!(matches!(verdict, Verdict::HandOver { .. }), "{answer:?}: {verdict:?}");
        assert_eq!(world.slot_writes, 0, "{answer:?}");
        // And without one to lose, an interrupted install goes on at once.
        world.slots[0].first_sector = false;
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            assert!(!matches!(action, Action::Preview(_)));
            None
        });
        assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
    }
}

/// A read that differs once shows another chunk than the one that is there: the release that runs is left alone.
#[test]
fn one_wrong_read_gives_up_nothing() {
    let mut world = World::new(1);
    let release = release(1, 1, 2);
    world.install(0, &release);
    world.record = None;
    world.offer(&release);
    let mut once = Some(Event::ChunkHashed(Digest([1; 32])));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| match action {
        Action::HashChunk { .. } => once.take(),
        _ => None,
    });
    assert_eq!((verdict, once), (handed_over(0, Some(Reason::Installed)), None));
    assert_eq!((world.slot_writes, &*world.fetched), (0, &[][..]));
}

#[test]
fn a_key_is_made_only_with_a_token_and_only_where_none_is() {
    for (identity, reason) in
        [(Identity::Missing, Reason::NotProvisioned), (Identity::Damaged, Reason::IdentityDamaged)]
    {
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        world.identity = identity;
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            assert!(!matches!(action, Action::MakeKey | Action::Join { .. }), "{action:?}");
            None
        });
        assert_eq!(verdict, handed_over(0, Some(reason)));
    }
}

/// Damage that no start before has seen: the server hears of the device, and nothing is begun that would have to be written
/// down.
#[test]
fn a_start_with_a_vault_that_cannot_be_written_changes_nothing() {
    for identity in [World::new(1).identity, enrolling(), Identity::Token(token())] {
        let is_certified = matches!(identity, Identity::Certified(_));
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        world.offer(&release(2, 2, 2));
        world.decision.renew = Some(true);
        world.decision.anchors = Some(wire::anchors_digest([&b"others"[..]]));
        world.decision.server_time_s = 3 * YEAR_S;
        (world.identity, world.is_writable) = (identity, false);
        let mut check_ins = 0;
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            check_ins += u32::from(matches!(action, Action::CheckIn { .. }));
            None
        });
        assert_eq!(verdict, handed_over(0, Some(Reason::Vault)));
        assert_eq!(check_ins, u32::from(is_certified));
        assert_eq!((world.vault_writes, world.slot_writes, world.reports.len()), (0, 0, 0));
        assert_eq!(world.criticals, [Reason::Vault]);
        assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    }
}

/// Only the slot that is to be started is verified; the next one when it is not as recorded.
#[test]
fn slots_are_verified_when_it_is_their_turn() {
    let verified = |world: &mut World| {
        let mut slots = Vec::new();
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            if let Action::VerifySlot { slot } = action {
                slots.push(slot.0);
            }
            None
        });
        (slots, verdict)
    };
    let mut world = World::new(2);
    world.put(0, &release(1, 1, 2));
    world.install(1, &release(2, 2, 2));
    assert_eq!(verified(&mut world), (vec![1], handed_over(1, None)));
    // A read that fails once is read again.
    let mut once = Some(Event::Failed(Reason::ImageInvalid));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| match action {
        Action::VerifySlot { .. } => once.take(),
        _ => None,
    });
    assert_eq!(verdict, handed_over(1, None));
    world.slots[1].chunks[1] = None;
    world.retained = Retained::default();
    assert_eq!(verified(&mut world), (vec![1, 1, 0], handed_over(0, None)));
    // Something else is in the recorded slot, and what was recorded is in the other.
    world.put(1, &release(3, 3, 2));
    world.record = Some(InstallRecord::of(&release(1, 1, 2), SlotIndex(1)));
    world.retained = Retained::default();
    assert_eq!(verified(&mut world), (vec![1, 0], handed_over(0, None)));
}

/// A survey that took long leaves a join and an exchange something; larger slots do not lock the server out.
#[test]
fn a_slow_survey_leaves_time_for_the_server() {
    for (survey_ms, join_ms) in [(10, limits::JOIN_MS), (8_000, 7_000), (16_000, 7_000), (60_000, 7_000)] {
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        let start = Start::new(Retained::default().to_bits(), ResetCause::PowerOn);
        let (state, action) = updater::start(start);
        let (state, action) = updater::step(state, world.perform(&action), 0);
        let (_, action) = updater::step(state, world.perform(&action), survey_ms);
        assert_eq!(action, Action::Join { timeout_ms: join_ms }, "{survey_ms}");
    }
}

#[test]
fn what_is_installed_is_repaired_although_its_manifest_has_expired() {
    let mut world = World::new(1);
    let mut installed = release(1, 1, 2);
    installed.expires_at_s = Some(YEAR_S - 10);
    world.install(0, &installed);
    world.offer(&installed);
    world.slots[0].chunks[1] = None;
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
}

/// The record is gone, and its number is not.
#[test]
fn a_lost_record_lets_nothing_older_in() {
    let refused = |offered: u64| {
        let mut world = World::new(1);
        world.install(0, &release(5, 1, 2));
        world.offer(&release(offered, 2, 2));
        world
            .pit_stop(ResetCause::PowerOn, |world, action| {
                let Event::Surveyed(mut survey) = world.perform(action) else { return None };
                survey.vault.as_mut().unwrap().record = None;
                Some(Event::Surveyed(survey))
            })
            .0
    };
    assert_eq!(refused(4), handed_over(0, Some(Reason::SequenceOlder)));
    assert_eq!(refused(5), handed_over(0, Some(Reason::Installed)));
}

/// Many images name no version; the release that brought it does.
#[test]
fn a_check_in_names_the_version_of_the_release_where_the_image_has_none() {
    for own in [None, Some(String::new()), Some("own".to_owned())] {
        let mut world = World::new(1);
        world.install(0, &release(7, 1, 2));
        let mut told = None;
        world.pit_stop(ResetCause::PowerOn, |world, action| match action {
            Action::VerifySlot { .. } => {
                let Event::SlotVerified(image) = world.perform(action) else { panic!() };
                Some(Event::SlotVerified(ImageFacts { version: own.clone(), ..image }))
            }
            Action::CheckIn { check_in, .. } => {
                told = check_in.running.clone();
                None
            }
            _ => None,
        });
        let expected = own.filter(|own| !own.is_empty()).unwrap_or("7.0.0".into());
        assert_eq!(told.unwrap().version, Some(expected));
    }
}

#[test]
fn a_deep_sleep_wake_goes_straight_to_the_application() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    let (verdict, steps) = world.pit_stop(ResetCause::DeepSleep, |_, _| None);
    assert_eq!((verdict, steps), (handed_over(0, None), 2));
    assert_eq!(world.retained.phase, Phase::Ticket, "the pit stop has left its traces on the hardware");
}

/// The check-in that follows tells it, whether the vault could be written or not, and the vault is written once.
#[test]
fn an_application_that_confirmed_itself_is_remembered_and_reported() {
    let said = |world: &mut World, note: Option<Event>| {
        let mut told = None;
        let (verdict, _) = world.pit_stop(ResetCause::Software, |_, action| match action {
            Action::SaveNote { .. } => note.clone(),
            Action::CheckIn { check_in, .. } => {
                told = Some(check_in.last_outcome);
                None
            }
            _ => None,
        });
        assert_eq!(verdict, handed_over(0, None));
        told.expect("a check-in")
    };
    let confirmed = Some(outcome(7, Reason::ApplicationConfirmedItself));
    let mut world = World::new(1);
    world.install(0, &release(7, 1, 2));
    world.last_outcome = Some(outcome(7, Reason::Installed));
    assert_eq!(said(&mut world, None), world.last_outcome);

    world.confirmed_itself = true;
    assert_eq!(said(&mut world, Some(Event::Failed(Reason::Vault))), confirmed);
    assert_eq!(world.last_outcome, Some(outcome(7, Reason::Installed)));
    assert_eq!(said(&mut world, None), confirmed);
    assert_eq!((world.last_outcome, world.vault_writes), (confirmed, 1));
    assert_eq!(said(&mut world, None), confirmed);
    assert_eq!(world.vault_writes, 1, "known already");
    // It is repeated when nothing new has happened since.
    world.confirmed_itself = false;
    assert_eq!(said(&mut world, None), confirmed);
}

#[test]
fn the_certificate_is_renewed_at_two_thirds_and_the_update_goes_on() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    let life = CertificateLife { not_before_s: YEAR_S, not_after_s: YEAR_S + 90 };
    world.identity = certified(life);
    world.decision.server_time_s = YEAR_S + 60;
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_ne!(world.identity, certified(life));
    // A renewal that fails does not hold up the update.
    world.identity = certified(life);
    world.offer(&release(3, 3, 2));
    world.retained = Retained::default();
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
        matches!(action, Action::Renew { .. }).then_some(Event::Failed(Reason::ServerFailed))
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
}

/// A world with an application, whose certificate has ended by the server's clock, and a release for it.
fn away() -> World {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    world.stay_away();
    world
}

/// The names of the actions between joining and the next step with flash or the end, and the verdict.
fn asked(
    world: &mut World,
    mut meddle: impl FnMut(&mut World, &Action) -> Option<Event>,
) -> (Vec<String>, Verdict) {
    let mut asked = Vec::new();
    world.retained = Retained::default();
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        let name = format!("{action:?}").split([' ', '(']).next().unwrap().to_owned();
        if ["CheckIn", "Renew", "SaveCertificate"].contains(&name.as_str()) {
            asked.push(name);
        }
        meddle(world, action)
    });
    (asked, verdict)
}

#[test]
fn a_refused_check_in_is_tried_again_with_a_new_certificate_in_the_same_pit_stop() {
    let mut world = away();
    let floor_s = world.time_floor_s;
    let (told, verdict) = asked(&mut world, |world, action| {
        if let Action::SaveCertificate { time_floor_s, .. } = action {
            assert_eq!((*time_floor_s, world.time_floor_s), (None, floor_s), "no server has told the time");
        }
        None
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
    assert_eq!(told, ["CheckIn", "Renew", "SaveCertificate", "CheckIn"]);
    // From then on as ever.
    assert_eq!(asked(&mut world, |_, _| None), (vec!["CheckIn".to_owned()], handed_over(0, None)));
}

/// A revoked device, a replaced certificate, a server that takes none back: one try, and the application is started.
#[test]
fn a_device_that_stays_refused_asks_once_for_another_certificate_at_each_start() {
    let refused = Event::Failed(Reason::DeviceRefused);
    for (no, reason) in [
        (Event::Failed(Reason::EnrollmentRefused), Reason::DeviceRefused),
        (refused.clone(), Reason::DeviceRefused),
        (Event::Failed(Reason::ConnectionLost), Reason::DeviceRefused),
        (Event::PutOff { reason: Reason::ServerFailed, retry_after_s: 60 }, Reason::ServerFailed),
    ] {
        let mut world = away();
        for _ in 0..3 {
            let (told, verdict) =
                asked(&mut world, |_, action| matches!(action, Action::Renew { .. }).then(|| no.clone()));
            assert_eq!(
                (told, verdict),
                (vec!["CheckIn".into(), "Renew".into()], handed_over(0, Some(reason)))
            );
        }
        assert_eq!((world.vault_writes, world.slot_writes), (0, 0));
    }
    // Refused with the new one too.
    let mut world = away();
    let (told, verdict) =
        asked(&mut world, |_, action| matches!(action, Action::CheckIn { .. }).then(|| refused.clone()));
    assert_eq!(told, ["CheckIn", "Renew", "SaveCertificate", "CheckIn"]);
    assert_eq!(verdict, handed_over(0, Some(Reason::DeviceRefused)));
    // What is issued to a vault that cannot be written would be lost, and so would it be again.
    let mut world = away();
    world.is_writable = false;
    let (told, verdict) = asked(&mut world, |_, _| None);
    assert_eq!((told, verdict), (vec!["CheckIn".into()], handed_over(0, Some(Reason::DeviceRefused))));
}

/// The server would refuse it; and where the floor is ahead of the time, the old certificate may serve all the same.
#[test]
fn a_certificate_that_has_ended_by_the_floor_is_renewed_before_the_check_in() {
    let mut world = away();
    world.time_floor_s = 2 * YEAR_S + 1;
    let (told, verdict) = asked(&mut world, |_, _| None);
    assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
    assert_eq!(told, ["Renew", "SaveCertificate", "CheckIn"]);

    for (server_time_s, reason) in [(YEAR_S, Reason::Installed), (4 * YEAR_S, Reason::DeviceRefused)] {
        let mut world = away();
        world.time_floor_s = 2 * YEAR_S + 1;
        world.decision.server_time_s = server_time_s;
        let (told, verdict) = asked(&mut world, |_, action| {
            matches!(action, Action::Renew { .. }).then_some(Event::Failed(Reason::EnrollmentRefused))
        });
        assert_eq!(told[..2], ["Renew", "CheckIn"], "{reason:?}");
        assert_eq!(verdict, handed_over(0, Some(reason)));
        assert!(!told.contains(&"SaveCertificate".to_owned()));
    }
    let mut world = away();
    world.time_floor_s = 2 * YEAR_S;
    assert_eq!(asked(&mut world, |_, _| None).0[0], "CheckIn", "it is good up to its last second");
}

#[test]
fn other_trust_anchors_are_fetched_once_and_the_update_goes_on() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.anchors = Some(world.anchors);
    assert_eq!(world.power_on(), handed_over(0, None));
    assert_eq!(world.vault_writes, 0, "the same anchors");

    world.served_anchors = [2; 8].into();
    world.offer(&release(2, 2, 2));
    world.decision.anchors = Some(world.served_anchors);
    let mut told = Vec::new();
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
        told.push(format!("{action:?}").split(' ').next().unwrap().to_owned());
        None
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
    assert_eq!(told[3..6], ["CheckIn", "FetchAnchors", "SaveAnchors"]);
    let writes = world.vault_writes;
    assert_eq!(world.power_on(), handed_over(0, None));
    assert_eq!(world.vault_writes, writes, "they are in the vault now");
}

/// Another instance of the server answers, or the server contradicts itself: stored, they would be fetched and stored
/// again at every start.
#[test]
fn anchors_other_than_announced_are_not_stored_and_hold_up_nothing() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 2));
    world.decision.anchors = Some([3; 8].into());
    for answer in [None, Some(Event::Failed(Reason::Timeout))] {
        world.retained = Retained::default();
        world.install(0, &release(1, 1, 2));
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| match action {
            Action::FetchAnchors { .. } => answer.clone(),
            Action::SaveAnchors { .. } => panic!("stored"),
            _ => None,
        });
        assert_eq!(verdict, handed_over(0, Some(Reason::Installed)));
    }
}

#[test]
fn the_certificate_is_renewed_when_the_server_asks_for_it() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    let renewed = |world: &mut World| {
        let mut renewed = 0;
        world.retained = Retained::default();
        world.pit_stop(ResetCause::PowerOn, |_, action| {
            renewed += u32::from(matches!(action, Action::Renew { .. }));
            None
        });
        renewed
    };
    assert_eq!(renewed(&mut world), 0);
    world.decision.renew = Some(false);
    assert_eq!(renewed(&mut world), 0);
    world.decision.renew = Some(true);
    assert_eq!(renewed(&mut world), 1);
}

/// What a renewal asks a certificate for, and which key is in the vault at the end. The event's answer counts, not a guess of
/// it: the shell makes the key.
#[test]
fn a_renewal_is_with_a_new_key_only_when_the_server_asks_for_one() {
    let ask = |world: &mut World| {
        let mut asked = Vec::new();
        world.retained = Retained::default();
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            if let Action::Renew { key, .. } = action {
                asked.push(key.clone());
            }
            None
        });
        assert_eq!(verdict, handed_over(0, None));
        let Identity::Certified(certified) = &world.identity else { panic!("{:?}", world.identity) };
        (asked, certified.key.clone())
    };
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.rotate_key = Some(true);
    assert_eq!(ask(&mut world), (vec![], key()), "the hint alone renews nothing");
    for hint in [None, Some(false)] {
        (world.decision.renew, world.decision.rotate_key) = (Some(true), hint);
        assert_eq!(ask(&mut world), (vec![NextKey::Same(key())], key()));
    }
    world.decision.rotate_key = Some(true);
    for number in 1..4 {
        assert_eq!(ask(&mut world), (vec![NextKey::New], new_key(number)));
    }
    // The life of the certificate is reason enough too.
    world.decision.renew = None;
    world.decision.server_time_s = YEAR_S + YEAR_S / 3 * 2 + 1;
    assert_eq!(ask(&mut world), (vec![NextKey::New], new_key(4)));
}

/// Who has an ended certificate got no decision that would ask for a new key.
#[test]
fn a_renewal_after_the_end_keeps_the_key() {
    let mut world = away();
    world.decision.rotate_key = Some(true);
    let (told, _) = asked(&mut world, |_, action| {
        assert!(!matches!(action, Action::Renew { key: NextKey::New, .. }));
        None
    });
    assert!(told.contains(&"Renew".to_owned()));
}

/// Power was lost between the two copies of an identity: one of them may be lost some day.
#[test]
fn a_half_saved_identity_is_renewed_at_once_with_its_key() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    for rotate_key in [None, Some(true)] {
        world.decision.rotate_key = rotate_key;
        let Identity::Certified(certified) = &mut world.identity else { panic!("{:?}", world.identity) };
        certified.is_half_saved = true;
        let (told, _) = asked(&mut world, |_, action| {
            assert!(!matches!(action, Action::Renew { key: NextKey::New, .. }));
            None
        });
        assert_eq!(told, ["CheckIn", "Renew", "SaveCertificate"]);
        assert_eq!(asked(&mut world, |_, _| None).0, ["CheckIn"], "once");
    }
}

/// With an application to start the server's wish is no reason to wait; without one it is the least that is waited.
#[test]
fn a_device_that_is_put_off_waits_as_told_only_when_it_has_nothing_to_start() {
    let put_off = |at: &'static str, reason: Reason| {
        move |_: &mut World, action: &Action| {
            let event = Event::PutOff { reason, retry_after_s: 300 };
            format!("{action:?}").starts_with(at).then_some(event)
        }
    };
    for (at, reason) in [("CheckIn", Reason::ServerFailed), ("Enroll", Reason::EnrollmentPending)] {
        let mut world = World::new(1);
        world.identity = if at == "Enroll" { enrolling() } else { world.identity };
        world.offer(&release(2, 2, 2));
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, put_off(at, reason));
        let Verdict::Restart { after_ms, reason: found } = verdict else { panic!("{verdict:?}") };
        assert_eq!(found, reason);
        assert!((300_000..=375_000).contains(&after_ms), "{after_ms}");

        world.install(0, &release(1, 1, 2));
        world.retained = Retained::default();
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, put_off(at, reason));
        assert_eq!(verdict, handed_over(0, Some(reason)));
    }
}

/// No second try, and no report: the server asked for patience.
#[test]
fn an_install_that_is_put_off_ends_and_goes_on_at_the_next_start() {
    let mut world = World::new(1);
    world.offer(&release(1, 1, 5));
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        let event = Event::PutOff { reason: Reason::ServerFailed, retry_after_s: 60 };
        (matches!(action, Action::FetchChunk(_)) && world.fetched.len() == 2).then_some(event)
    });
    let Verdict::Restart { after_ms, reason: Reason::ServerFailed } = verdict else { panic!("{verdict:?}") };
    assert!((60_000..=75_000).contains(&after_ms), "{after_ms}");
    assert!(world.reports.is_empty());
    world.fetched.clear();
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Installed)));
    assert_eq!(world.fetched, [3, 4, 0]);
}

#[test]
fn the_time_floor_rises_by_the_week_and_never_falls() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.server_time_s = YEAR_S + limits::TIME_FLOOR_STEP_S - 1;
    world.power_on();
    assert_eq!((world.time_floor_s, world.vault_writes), (YEAR_S, 0));
    world.decision.server_time_s += 1;
    world.power_on();
    assert_eq!((world.time_floor_s, world.vault_writes), (YEAR_S + limits::TIME_FLOOR_STEP_S, 1));
    // A server whose clock goes back: an install keeps the higher floor.
    world.decision.server_time_s = 1;
    world.offer(&release(2, 2, 2));
    world.power_on();
    assert_eq!(world.time_floor_s, YEAR_S + limits::TIME_FLOOR_STEP_S);
}

/// A clock that is wrong at the server, or a lie, must not lock the device out for good: the floor stays where the
/// certificates of both sides are valid.
#[test]
fn a_server_clock_far_ahead_does_not_spoil_the_time_floor() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.server_time_s = u64::MAX;
    world.power_on();
    assert_eq!(world.time_floor_s, 2 * YEAR_S, "the end of the device's own certificate");
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.server_time_s = u64::MAX;
    world.server_not_after_s = Some(YEAR_S + YEAR_S / 2);
    world.power_on();
    assert_eq!(world.time_floor_s, YEAR_S + YEAR_S / 2 - limits::TIME_FLOOR_MARGIN_S);
}

#[test]
fn a_critical_error_is_counted_and_the_application_started() {
    for (reason, at) in [(Reason::FlashWrite, "SaveTimeFloor"), (Reason::Vault, "SaveNote")] {
        let mut world = World::new(1);
        world.install(0, &release(1, 1, 2));
        world.decision.server_time_s = 3 * YEAR_S;
        let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |_, action| {
            format!("{action:?}").starts_with(at).then_some(Event::Failed(reason))
        });
        assert_eq!(verdict, handed_over(0, None));
    }
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.vault = Err(Reason::Vault);
    assert_eq!(world.power_on(), handed_over(0, Some(Reason::Vault)));
    assert_eq!(world.criticals, [Reason::Vault]);
}

#[test]
fn an_install_beside_a_bootable_application_ends_in_time() {
    let mut world = World::new(2);
    world.install(0, &release(1, 1, 3));
    world.offer(&release(2, 2, 5));
    world.tick_ms = 3_000;
    let mut first_fetch_ms = None;
    let mut now_ms = 0;
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        now_ms += world.tick_ms;
        if let Action::FetchChunk(_) = action {
            first_fetch_ms.get_or_insert(now_ms);
            // A link so slow that the chunk takes its whole limit.
            world.tick_ms = limits::CHUNK_MS * 5;
        }
        None
    });
    assert_eq!(verdict, handed_over(0, Some(Reason::BudgetSpent)));
    // Nothing that was downloaded is lost.
    world.tick_ms = 10;
    world.fetched.clear();
    assert_eq!(world.power_on(), handed_over(1, Some(Reason::Installed)));
    assert!(world.fetched.len() < 5, "{:?}", world.fetched);
}

#[test]
fn a_chunk_that_fails_after_the_deadline_of_the_install_is_not_tried_again() {
    let mut world = World::new(2);
    world.install(0, &release(1, 1, 2));
    world.offer(&release(2, 2, 3));
    let mut tries = 0;
    let (verdict, _) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        let Action::FetchChunk(_) = action else { return None };
        tries += 1;
        world.tick_ms = limits::INSTALL_WITH_APP_MS;
        Some(Event::Failed(Reason::Timeout))
    });
    assert_eq!((verdict, tries), (handed_over(0, Some(Reason::Timeout)), 1));
}

/// Every step has what the steps before it have left of the budget, and nothing begins after it.
#[test]
fn an_application_waits_no_longer_than_its_budget() {
    let mut world = World::new(1);
    world.install(0, &release(1, 1, 2));
    world.decision.anchors = Some([2; 8].into());
    world.decision.renew = Some(true);
    let mut now_ms = 0;
    let (verdict, steps) = world.pit_stop(ResetCause::PowerOn, |world, action| {
        let timeout_ms = match action {
            Action::Join { timeout_ms }
            | Action::CheckIn { timeout_ms, .. }
            | Action::FetchAnchors { timeout_ms }
            | Action::Renew { timeout_ms, .. } => *timeout_ms,
            _ => 0,
        };
        assert!(now_ms + timeout_ms <= limits::BUDGET_MS, "{action:?} after {now_ms} ms");
        // Each takes nearly all of the time that it has.
        world.tick_ms = timeout_ms.saturating_sub(1);
        now_ms += world.tick_ms;
        None
    });
    assert_eq!(verdict, handed_over(0, None));
    assert!(steps > 4 && now_ms > limits::BUDGET_MS - 10, "{steps} steps, {now_ms} ms");
}

/// 16 MB of flash, the longest texts and the most reverts.
#[test]
fn the_longest_manifest_fits_into_a_decision() {
    use wire::Message as _;

    let image = vec![0xa5; 16 << 20];
    let text = "x".repeat(64);
    let mut manifest = manifest::Manifest::describe(&image, Sequence(u64::MAX), &text, 5, &text).unwrap();
    manifest.expires_at_s = Some(u64::MAX);
    manifest.revert_to = Some(vec![Sequence(u64::MAX); 16]);
    let decision = Decision {
        next_check_s: Some(u32::MAX),
        backoff_s: Some(u32::MAX),
        anchors: Some([2; 8].into()),
        renew: Some(true),
        rotate_key: Some(true),
        ..Decision::new(u64::MAX, Some(sign(&manifest)))
    };
    let found_bytes = decision.to_cbor().len();
    assert!(found_bytes <= wire::MAX_DECISION_BYTES, "{found_bytes} bytes");
}

/// Any event at all, mostly ones that a hostile or broken shell would send.
fn any_event() -> impl Strategy<Value = Event> {
    let image = ImageFacts { digest: release(2, 2, 3).artifact.digest, version: None };
    let chunks = release(2, 2, 3).artifact.chunks;
    let life = CertificateLife { not_before_s: 0, not_after_s: u64::MAX };
    prop_oneof![
        Just(Event::Joined { free_heap_bytes: None }),
        Just(Event::KeyStored(key())),
        Just(Event::CertificateIssued { key: key(), life, chain: Chain(vec![]) }),
        Just(Event::Saved),
        Just(Event::AnchorsFetched { digest: [2; 8].into(), anchors: Anchors(vec![]) }),
        any::<u32>().prop_map(|retry_after_s| Event::PutOff { reason: Reason::ServerFailed, retry_after_s }),
        Just(Event::Decided {
            decision: Decision {
                anchors: Some([2; 8].into()),
                renew: Some(true),
                rotate_key: Some(true),
                ..Decision::new(YEAR_S, None)
            },
            server_not_after_s: None,
        }),
        Just(Event::Decided {
            decision: Decision::new(u64::MAX, Some(sign(&release(2, 2, 3)))),
            server_not_after_s: None,
        }),
        Just(Event::Previewed(chunks[0])),
        Just(first_chunk(chunks[0])),
        (0..3usize).prop_map(move |index| Event::ChunkHashed(chunks[index])),
        any::<[u8; 32]>().prop_map(|digest| Event::ChunkHashed(Digest(digest))),
        Just(Event::Invalidated),
        Just(Event::Sealed),
        Just(Event::SlotVerified(image)),
        Just(Event::Reported),
        (0..Reason::ALL.len()).prop_map(|index| Event::Failed(Reason::ALL[index])),
    ]
}

fn any_cause() -> impl Strategy<Value = ResetCause> {
    (0..10u32).prop_map(ResetCause::from_code)
}

/// Slots of a random world: blank, the old release, the new one, or a torn mix.
fn any_world() -> impl Strategy<Value = World> {
    let content = prop_oneof![Just(0), Just(1), Just(2), Just(3)];
    let slots = proptest::collection::vec(content, 1..=2);
    let phases = [Phase::Application, Phase::Updater, Phase::Ticket, Phase::HandingOver];
    (slots, any::<Option<bool>>(), 0..4u8, proptest::sample::select(phases.to_vec()), any::<u32>()).prop_map(
        |(slots, recorded, crashes, phase, serves)| {
            let (old, new) = (release(1, 1, 3), release(2, 2, 3));
            let mut world = World::new(slots.len());
            world.offer(&new);
            world.know(&old);
            for (slot, content) in slots.into_iter().enumerate() {
                match content {
                    1 => world.put(slot, &old),
                    2 => world.put(slot, &new),
                    3 => {
                        world.put(slot, &old);
                        world.slots[slot].chunks[1] = Some(new.artifact.chunks[1]);
                    }
                    _ => {}
                }
            }
            world.record = recorded.map(|new_one| {
                InstallRecord::of(if new_one { &new } else { &old }, SlotIndex(serves as u8 & 1))
            });
            world.retained = Retained { crashes, phase, ..Retained::default() };
            world.confirmed_itself = serves & 2 != 0;
            world.is_writable = serves & 12 != 0;
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever fails, and whenever: the pit stop ends in bounded steps, hands over only to a slot that is bootable
    /// in truth, and hands over whenever one is.
    #[test]
    fn failures_at_any_point(
        mut world in any_world(),
        cause in any_cause(),
        failures in proptest::collection::vec((any::<bool>(), 0..Reason::ALL.len()), 0..60),
    ) {
        let mut failures = failures.into_iter();
        let (verdict, steps) = world.pit_stop(cause, |_, action| match failures.next() {
            Some((true, index)) if !matches!(action, Action::Survey(_)) => Some(Event::Failed(Reason::ALL[index])),
            _ => None,
        });
        prop_assert!(steps < 80, "{steps} steps");
        match verdict {
            Verdict::HandOver { slot, .. } => prop_assert!(world.image(usize::from(slot.0)).is_some()),
            Verdict::Restart { after_ms, .. } => prop_assert!(after_ms <= limits::BACKOFF_MAX_MS),
        }
        // And when the failures stop, the device reaches the target.
        let mut starts = 0;
        while world.record.as_ref().map(|record| record.sequence) != Some(Sequence(2))
            || !matches!(world.power_on(), Verdict::HandOver { .. })
        {
            world.power_on();
            starts += 1;
            prop_assert!(starts < 3, "not at the target after {starts} good starts");
        }
    }

    /// Any answers in any order, true or not.
    #[test]
    fn any_events_in_any_order(
        mut world in any_world(),
        cause in any_cause(),
        events in proptest::collection::vec(proptest::option::weighted(0.4, any_event()), 0..80),
    ) {
        let start = world.start(cause);
        let scope = if start.retained.crashes < limits::CRASHES { Scope::All } else { Scope::Slots };
        let mut watch = Watch::new(&start, &world.survey(scope), &[release(2, 2, 3)]);
        let mut events = events.into_iter();
        let (verdict, _) = world.pit_stop(cause, |world, action| {
            let event = match events.next().flatten() {
                Some(event) if !matches!(action, Action::Survey(_)) => event,
                _ => world.perform(action),
            };
            if !matches!(action, Action::Survey(_)) {
                watch.saw(action, &event, world.tick_ms);
            }
            Some(event)
        });
        watch.ended(verdict);
    }
}
