//! Liveness: the same fault at every start, for ever, in the engine's own model.
//!
//! Every reset that the table of resets knows, and every kind of failure, at every action, with and without an application,
//! with one slot and two, by both strategies. A device is followed until it is where it was before, however many starts
//! that takes: then it goes on like this for ever.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod world;

use std::collections::BTreeSet;

use flashfmt::Chip;
use manifest::Manifest;
use updater::policy::Skip;
use updater::reset::{self, Content, Hint, Reset};
use updater::{
    Action, CertificateLife, Event, Identity, Phase, Retained, SlotIndex, Start, Verdict, limits, policy,
};
use wire::{HandOverStrategy, Outcome, Reason, ResetCause};
use world::promise::limit_ms;
use world::{REASONS, World, YEAR_S, certified, release, token};

/// Starts after which a bootable application has been started (docs/fault-model.md).
const STARTS: u32 = 4;
/// Starts after which a device that is never where it was before is given up.
const MAX_STARTS: u32 = 400;

/// What happens at the struck action.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// The chip resets: what the next start learns of it, and what is left of the retained register.
    Reset(ResetCause, Content),
    /// The action fails.
    Fails(Reason),
    /// The action takes as long as it may, and works.
    Slow,
}

/// Every way, but for the resets after which nobody can tell the fault from a person with a switch.
fn ways() -> Vec<How> {
    let mut ways: Vec<_> = REASONS.into_iter().map(How::Fails).collect();
    ways.push(How::Slow);
    for (chip, reset) in CHIPS.into_iter().flat_map(|chip| Reset::ALL.map(|reset| (chip, reset))) {
        let (Some(entry), false) =
            (reset.on(chip), matches!(reset, Reset::PowerOn | Reset::EnPin | Reset::DeepSleep))
        else {
            continue;
        };
        let left = match entry.remains.rtc {
            Content::Undefined => vec![Content::Kept, Content::Cleared],
            remains => vec![remains],
        };
        // The engine is told the cause and no more: many resets are one to it.
        let hints: &[_] = match reset {
            Reset::SoftwareSystem | Reset::SoftwareCpu => &[None, Some(Hint::Panic)],
            Reset::BrownoutInterrupt => &[Some(Hint::Brownout)],
            _ => &[None],
        };
        for hint in hints {
            let cause = reset::cause(entry.codes[0], *hint);
            ways.extend(left.iter().map(|remains| How::Reset(cause, *remains)));
        }
    }
    let mut different = Vec::new();
    for way in ways {
        if !different.contains(&way) {
            different.push(way);
        }
    }
    different
}

const CHIPS: [Chip; 4] = [Chip::Esp32, Chip::Esp32C3, Chip::Esp32C6, Chip::Esp32S3];

/// How the names of [`early_check`] and [`every_look`] begin.
const EARLY_CHECK: &str = "early check of slot";
const EVERY_LOOK: &str = "every look at slot";

/// The moment at which a slot is looked at before anything is initialised.
fn early_check(slot: SlotIndex) -> String {
    format!("{EARLY_CHECK} {}", slot.0)
}

/// Every look at a slot: then, and when a pit stop verifies it.
fn every_look(slot: SlotIndex) -> String {
    format!("{EVERY_LOOK} {}", slot.0)
}

/// Whether a look at this slot before anything is initialised is struck.
fn is_looked_at(at: &str, slot: SlotIndex) -> bool {
    at == early_check(slot) || at == every_look(slot)
}

/// Starts after which it is started when each of them loses the register that says which slot was looked at: the journal
/// counts them, and each slot has its turn (docs/fault-model.md).
const STARTS_WITHOUT_REGISTER: u32 = 6;

/// The name of an action's kind.
fn name(action: &Action) -> String {
    format!("{action:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

/// How one start of the chip ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// The application runs, by the early path or by the bootloader.
    Started(SlotIndex),
    /// The pit stop hands over: the chip resets.
    HandsOver(SlotIndex),
    Waits(u64),
    Struck(ResetCause, Content),
}

struct Device {
    world: World,
    bits: u32,
}

impl Device {
    /// What the firmware does before anything else (`updater_io::early::begin`).
    fn begin(&mut self, cause: ResetCause, at: &str, how: How) -> Result<Start, Ends> {
        let slots = self.world.slots.len() as u8;
        let mut start = Start::new(self.bits, cause).with_slots(slots);
        self.bits = start.retained.to_bits();
        if start.may_hide_a_crash() {
            self.world.journal_crashes += 1;
            start = start.with_crashes(self.world.journal_crashes, slots);
            self.bits = start.retained.to_bits();
        }
        let skip = policy::skip_network(&start);
        let by_chain_load = self.world.strategy == HandOverStrategy::ChainLoad;
        if start.waits_first() || skip.is_none() || (!by_chain_load && skip != Some(Skip::Crashes)) {
            return Ok(start);
        }
        let last = start.retained.slot.0.min(slots);
        for slot in (last..slots).chain(0..last).map(SlotIndex).filter(|slot| Some(*slot) != start.suspect())
        {
            self.bits = Retained { slot, phase: Phase::HandingOver, ..start.retained }.to_bits();
            let mut accepted = self.can_be_started(slot);
            if is_looked_at(at, slot) {
                match how {
                    How::Reset(cause, remains) => return Err(Ends::Struck(cause, remains)),
                    How::Fails(_) => accepted = false,
                    How::Slow => {}
                }
            }
            if accepted {
                if start.may_hide_a_crash() {
                    self.world.journal_crashes = u32::from(limits::CRASHES) - 2;
                }
                self.bits = policy::at_hand_over(policy::after_skip(start.retained), slot, false).to_bits();
                return Err(Ends::Started(slot));
            }
        }
        let start = start.refused();
        self.bits = start.retained.to_bits();
        Ok(start)
    }

    fn can_be_started(&self, slot: SlotIndex) -> bool {
        let slot = usize::from(slot.0);
        self.world.image(slot).is_some() && self.world.startable[slot]
    }

    /// One start of the chip, with this fault in it. Returns how it ends and how long that takes.
    fn start(&mut self, cause: ResetCause, at: &str, how: How) -> (Ends, u64) {
        let start = match self.begin(cause, at, how) {
            Ok(start) => start,
            Err(ends) => return (ends, 0),
        };
        let mut now_ms = 0;
        let (mut state, mut action) = updater::start(start);
        for _ in 0..10_000 {
            self.bits = state.retained().to_bits();
            if let Action::Finish(verdict) = action {
                return match verdict {
                    Verdict::HandOver { slot, .. } => (Ends::HandsOver(slot), now_ms),
                    Verdict::Restart { after_ms, .. } => (Ends::Waits(after_ms), now_ms),
                };
            }
            let struck = match action {
                Action::VerifySlot { slot } if at == every_look(slot) => true,
                _ => name(&action) == at,
            };
            let event = match how {
                How::Reset(reset, remains) if struck => return (Ends::Struck(reset, remains), now_ms),
                How::Fails(reason) if struck => Event::Failed(reason),
                How::Slow if struck => {
                    now_ms += limit_ms(&action);
                    self.world.perform(&action)
                }
                How::Reset(..) | How::Fails(_) | How::Slow => self.world.perform(&action),
            };
            now_ms += 10;
            (state, action) = updater::step(state, event, now_ms);
        }
        panic!("the pit stop does not end");
    }

    /// Whether there is something to start; not the slot over which the updater breaks.
    fn is_bootable(&self, at: &str) -> bool {
        let slots = (0..self.world.slots.len()).map(|slot| SlotIndex(slot as u8));
        slots.into_iter().any(|slot| self.can_be_started(slot) && !is_looked_at(at, slot))
    }

    /// What decides how the device goes on: all but the count of starts.
    fn key(&self, cause: ResetCause, drought: &Drought) -> String {
        let World { slots, record, last_outcome, anchors, identity, time_floor_s, journal_crashes, .. } =
            &self.world;
        let world = (slots, record, last_outcome, anchors, identity, time_floor_s, journal_crashes.min(&9));
        let retained = Retained::from_bits(self.bits).map(|retained| Retained { starts: 0, ..retained });
        format!("{world:?} {retained:?} {cause:?} {drought:?}")
    }
}

/// The starts since the application ran last.
#[derive(Clone, Debug, Default)]
struct Drought {
    /// With an application that could be started.
    starts: u32,
    /// Resets that were to lead to it.
    hand_overs: u32,
    /// Ends in a row that the updater did not announce, without one.
    struck: u32,
}

/// Follows a device until it is where it was before; says what is wrong with its life.
fn live(world: &World, at: &str, how: How) -> Result<(), String> {
    let mut device = Device { world: world.clone(), bits: 0 };
    let (mut cause, mut drought) = (ResetCause::PowerOn, Drought::default());
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_STARTS {
        if !seen.insert(device.key(cause, &drought)) {
            return Ok(());
        }
        let bootable = device.is_bootable(at);
        let (mut ends, took_ms) = device.start(cause, at, how);
        if let (Ends::HandsOver(slot), HandOverStrategy::OtadataRollback) = (ends, device.world.strategy) {
            ends = Ends::Started(slot);
        }
        let budget_ms = limits::BUDGET_MS + limits::REPORT_MS + 1_000;
        // An install into the other slot has a limit of its own, which the promise in `world` watches.
        let installs = !device.world.fetched.is_empty();
        if bootable && !installs && took_ms > budget_ms {
            return Err(format!("the application was kept for {took_ms} ms"));
        }
        device.world.fetched.clear();
        match ends {
            Ends::Started(slot) => {
                if device.world.image(usize::from(slot.0)).is_none() {
                    return Err(format!("{slot:?} is started, and nothing is in it"));
                }
                drought = Drought::default();
                cause = ResetCause::Software;
            }
            // The start after it belongs to this one.
            Ends::HandsOver(_) => {
                cause = ResetCause::Software;
                drought.hand_overs += 1;
            }
            Ends::Waits(_) if bootable && device.is_bootable(at) => {
                return Err("waits beside an application".to_owned());
            }
            Ends::Waits(after_ms) if after_ms < limits::BACKOFF_MS / 2 => {
                return Err(format!("waits for {after_ms} ms"));
            }
            Ends::Waits(_) => {
                drought = Drought::default();
                cause = ResetCause::Software;
            }
            Ends::Struck(reset_cause, remains) => {
                if remains == Content::Cleared {
                    device.bits = 0;
                }
                cause = reset_cause;
                if bootable && device.is_bootable(at) {
                    drought.starts += 1;
                } else {
                    drought.struck += 1;
                }
            }
        }
        // Each start may announce a reset that hands over, and one of them is refused.
        let starts = match how {
            How::Reset(_, Content::Cleared) if at.starts_with(EARLY_CHECK) || at.starts_with(EVERY_LOOK) => {
                STARTS_WITHOUT_REGISTER
            }
            How::Reset(..) | How::Fails(_) | How::Slow => STARTS,
        };
        if drought.starts >= starts || bootable && drought.hand_overs > starts {
            return Err(format!("{drought:?}"));
        }
        // Three crashes, and a hand-over at once of each slot. The first may be an accident; what comes after them is a loop.
        if drought.struck > STARTS + 1 {
            return Err(format!("{} tries in a row without a wait", drought.struck));
        }
    }
    Err(format!("{MAX_STARTS} starts, and still no end of new states"))
}

/// Devices among which every action of the engine happens.
fn worlds() -> Vec<(String, World)> {
    let mut worlds = Vec::new();
    for strategy in [HandOverStrategy::ChainLoad, HandOverStrategy::OtadataRollback] {
        for slots in [1, 2] {
            let mut add = |what: &str, change: &dyn Fn(&mut World, &Manifest, &Manifest)| {
                let mut world = World::new(slots);
                world.strategy = strategy;
                change(&mut world, &release(1, 1, 2), &release(2, 2, 2));
                worlds.push((format!("{strategy:?}, {slots} slots, {what}"), world));
            };
            add("nothing new", &|world, old, _| world.install(0, old));
            if slots == 2 {
                add("two applications", &|world, old, new| {
                    world.put(1, old);
                    world.install(0, new);
                });
            }
            add("a release", &|world, old, new| {
                world.install(0, old);
                world.offer(new);
            });
            add("fresh", &|world, old, _| {
                world.identity = Identity::Token(token());
                world.offer(old);
            });
            add("fresh with an application", &|world, old, new| {
                world.identity = Identity::Token(token());
                world.put(0, old);
                world.offer(new);
            });
            add("a renewal and a new CA", &|world, old, _| {
                world.install(0, old);
                let life = CertificateLife { not_before_s: YEAR_S, not_after_s: YEAR_S + 90 };
                world.identity = certified(life);
                world.decision.server_time_s = YEAR_S + 80;
                world.decision.anchors = Some([2; 8].into());
                world.served_anchors = [2; 8].into();
            });
            add("a certificate that has ended", &|world, old, new| {
                world.install(0, old);
                world.offer(new);
                world.stay_away();
            });
            add("a release that nobody signed, a week later", &|world, old, _| {
                world.install(0, old);
                world.decision.manifest = Some(vec![0; 40].into());
                world.decision.server_time_s = YEAR_S + 2 * limits::TIME_FLOOR_STEP_S;
            });
            add(
                "a release on flash that fails, and an application that confirmed itself",
                &|world, old, _| {
                    world.install(0, old);
                    world.confirmed_itself = true;
                    world.last_outcome = Some(Outcome { sequence: None, reason: 1 });
                    world.vault = Err(Reason::Vault);
                },
            );
        }
    }
    worlds
}

/// The actions of a start in which nothing goes wrong.
fn actions(world: &World) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut world = world.clone();
    for cause in [ResetCause::PowerOn, ResetCause::Software] {
        world.pit_stop(cause, |_, action| {
            names.insert(name(action));
            None
        });
    }
    names
}

#[test]
fn with_the_same_fault_for_ever_an_application_is_started_and_tries_are_backed_off() {
    let (mut cases, mut wrong, mut struck) = (0, Vec::new(), BTreeSet::new());
    for (what, world) in worlds() {
        let slots = (0..world.slots.len()).map(|slot| SlotIndex(slot as u8));
        let slots = slots.flat_map(|slot| [early_check(slot), every_look(slot)]);
        for action in actions(&world).into_iter().chain(slots) {
            // A survey fails when there is no partition table to be read, a verification when the image is none; the only
            // slot that cannot be erased is given up for the install that tried it (docs/fault-model.md).
            let only = world.slots.len() == 1;
            let fails_for_good = ["Survey", "VerifySlot"].contains(&&*action)
                || action.starts_with(EVERY_LOOK)
                || only && action == "Invalidate";
            let possible = |how: &How| !(matches!(how, How::Fails(_)) && fails_for_good);
            for how in ways().into_iter().filter(possible) {
                cases += 1;
                if let Err(found) = live(&world, &action, how) {
                    wrong.push(format!("{what}: {how:?} at each {action}: {found}"));
                }
            }
            struck.insert(action);
        }
    }
    println!("{cases} cases at {struck:?}");
    for line in &wrong {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} of {cases} devices do not live, see above", wrong.len());
}
