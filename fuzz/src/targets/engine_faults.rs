//! Several starts of a device whose actions fail, take too long, lose the power or crash, with a server that offers what it
//! likes: each pit stop keeps to `crates/updater/tests/world/promise.rs`, what runs is what the world holds, and once all is
//! well again the device reaches the target.

use crate::engine::{Made, Offer, Sometimes};
use crate::world::promise::{Watch, limit_ms};
use crate::world::{World, enrolling, token};
use arbitrary::Arbitrary;
use manifest::Manifest;
use updater::{Action, Event, Identity, InstallRecord, Retained, SlotIndex, Verdict, start, step};
use wire::{Decision, HandOverStrategy, Reason, ResetCause};

#[derive(Arbitrary, Debug)]
pub struct Input {
    two_slots: bool,
    otadata: bool,
    identity: u8,
    runs: Option<Offer>,
    /// Whether Pitstop installed it.
    recorded: bool,
    starts: Vec<Start>,
}

#[derive(Arbitrary, Clone, Debug)]
struct Start {
    offer: Option<Offer>,
    cause: u8,
    server_time_s: u64,
    other_anchors: bool,
    renew: bool,
    /// All other actions go well.
    ways: Vec<(u8, Way)>,
}

/// How an action goes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Way {
    /// It works, and takes so much of its time.
    Slowly(u8),
    /// It does nothing, and says so.
    Fails(u8),
    /// It is done, and yet is said to have failed.
    DoneAndFails(u8),
    PutOff(u8, u32),
    /// The server sends bytes that nobody asked for.
    WrongChunk,
    PowerBefore,
    PowerInside,
    PowerAfter,
    Crash,
}

pub fn run(input: Input) {
    let mut world = World::new(if input.two_slots { 2 } else { 1 });
    if input.otadata {
        world.strategy = HandOverStrategy::OtadataRollback;
    }
    world.identity = match input.identity % 3 {
        0 => world.identity,
        1 => enrolling(),
        _ => Identity::Token(token()),
    };
    let mut trusted = Vec::new();
    if let Some(made) = input.runs.map(Offer::made) {
        world.put(0, &made.manifest);
        if input.recorded && made.is_trusted {
            world.record = Some(InstallRecord::of(&made.manifest, SlotIndex(0)));
            trusted.push(made.manifest);
        }
    }
    for start in input.starts.iter().take(4) {
        pit_stop(&mut world, start, &mut trusted);
    }

    // All is well again: the device reaches the target, and stays there.
    let target = Made::target();
    world.decision = Decision::new(world.time_floor_s, None);
    world.retained = Retained::default();
    offer(&mut world, target);
    trusted.push(target.manifest.clone());
    let target = |world: &World| {
        let record = world.record.as_ref().filter(|record| record.sequence == target.manifest.sequence)?;
        world.image(usize::from(record.slot.0)).filter(|image| image.digest == record.digest)?;
        Some(Verdict::HandOver { slot: record.slot, reason: None })
    };
    let expected = (0..3).find_map(|_| {
        world.power_on();
        target(&world)
    });
    let expected =
        expected.unwrap_or_else(|| panic!("not at the target: {:?} {:?}", world.slots, world.record));
    let writes = (world.vault_writes, world.slot_writes);
    assert_eq!(world.power_on(), expected);
    assert_eq!(
        (world.vault_writes, world.slot_writes),
        writes,
        "a start that changes nothing writes nothing"
    );
}

fn offer(world: &mut World, made: &Made) {
    world.decision.manifest = Some(made.message.clone().into());
    world.serves = Some(made.manifest.clone());
    world.know(&made.manifest);
}

fn pit_stop(world: &mut World, input: &Start, trusted: &mut Vec<Manifest>) {
    world.decision.manifest = None;
    if let Some(made) = input.offer.map(Offer::made) {
        offer(world, &made);
        if made.is_trusted {
            trusted.push(made.manifest);
        }
    }
    world.decision.server_time_s = input.server_time_s;
    world.decision.renew = Some(input.renew);
    world.decision.rotate_key = Some(input.server_time_s % 2 == 1);
    world.decision.anchors = input.other_anchors.then_some([2; 8].into());
    world.served_anchors = [2; 8].into();

    world.hands_over();
    let begun = world.start(ResetCause::from_code(u32::from(input.cause % 10)));
    let (state, action) = start(begun);
    world.retained = state.retained();
    let Action::Survey(scope) = action else { panic!("{action:?} at first") };
    let survey = world.survey(scope);
    let mut watch = Watch::new(&begun, &survey, trusted);
    // With two slots the application that would be started stays what it is, when it can be read.
    let recorded = world.record.as_ref().map_or(begun.retained.slot, |record| record.slot);
    let boot_slot = Some(recorded).filter(|slot| world.image(usize::from(slot.0)).is_some());
    let mut is_read = false;
    let (mut state, mut action) = step(state, Event::Surveyed(Box::new(survey)), 0);
    let (mut now_ms, mut ways) = (0, Sometimes::new(input.ways.clone()));
    loop {
        world.retained = state.retained();
        if let (Some(slot), 2, true) = (boot_slot, world.slots.len(), is_read) {
            assert!(world.image(usize::from(slot.0)).is_some(), "{slot:?} is lost before {action:?}");
        }
        if let Action::Finish(verdict) = action {
            watch.ended(verdict);
            if let Verdict::HandOver { slot, .. } = verdict {
                assert!(world.image(usize::from(slot.0)).is_some(), "hands over to nothing");
            }
            return;
        }
        let way = ways.take();
        let mut took_ms = 0;
        let event = match way.unwrap_or(Way::Slowly(0)) {
            Way::Slowly(took) => {
                took_ms = limit_ms(&action) * u64::from(took) / 255;
                world.perform(&action)
            }
            Way::Fails(reason) => Event::Failed(reason_at(reason)),
            Way::DoneAndFails(reason) => {
                world.perform(&action);
                Event::Failed(reason_at(reason))
            }
            Way::PutOff(reason, retry_after_s) => Event::PutOff { reason: reason_at(reason), retry_after_s },
            Way::WrongChunk => {
                let served = world.serves.take();
                let event = world.perform(&action);
                world.serves = served;
                event
            }
            Way::PowerBefore => return lose_power(world),
            Way::PowerInside => {
                *world = world.torn(&action).unwrap_or_else(|| world.clone());
                return lose_power(world);
            }
            Way::PowerAfter => {
                world.perform(&action);
                return lose_power(world);
            }
            Way::Crash => return,
        };
        now_ms += took_ms;
        is_read |= matches!(&event, Event::SlotVerified(_))
            && matches!(action, Action::VerifySlot { slot } if Some(slot) == boot_slot);
        watch.saw(&action, &event, took_ms);
        (state, action) = step(state, event, now_ms);
    }
}

fn lose_power(world: &mut World) {
    world.retained = Retained::default();
}

fn reason_at(index: u8) -> Reason {
    Reason::ALL[usize::from(index) % Reason::ALL.len()]
}
