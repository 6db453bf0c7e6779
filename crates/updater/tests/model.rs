//! The engine's transition system, walked exhaustively: every answer in every state, with at most two faults on a path.
//!
//! From each state go: the good answer; a failure of each class; the good answer after the budget is spent; a
//! loss of power before, inside and after what the action does; a crash. A start that ends is followed by the next one.
//! States that were reached before, with as many faults or fewer, are not walked again, so that the walk ends.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod world;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use manifest::Sequence;
use updater::{Action, Event, Identity, Retained, SlotIndex, State, Verdict, Writes, limits};
use wire::ResetCause;
use world::{REASONS, World, release, token};

/// Faults on a path.
const FAULTS: u8 = 2;

#[derive(Clone)]
struct Node {
    world: World,
    state: State,
    action: Action,
    faults: u8,
    /// Steps since the start.
    steps: u32,
}

impl Node {
    /// A start with the retained bits of the world.
    fn start(mut world: World, cause: ResetCause, faults: u8) -> Self {
        // The count of starts decides nothing, and what was counted is not part of the device.
        world.retained.starts = 0;
        (world.vault_writes, world.slot_writes) = (0, 0);
        world.fetched.clear();
        world.reports.clear();
        world.criticals.clear();
        let (state, action) = updater::start(world.start(cause));
        Self { world, state, action, faults, steps: 0 }
    }

    fn answered(&self, world: World, event: Event, now_ms: u64, faults: u8) -> Self {
        let (state, action) = updater::step(self.state.clone(), event, now_ms);
        Self { world, state, action, faults, steps: self.steps + 1 }
    }

    fn lost(&self, mut world: World) -> Self {
        world.retained = Retained::default();
        Self::start(world, ResetCause::PowerOn, self.faults + 1)
    }

    fn next(&self) -> Vec<Self> {
        if let Action::Finish(_) = self.action {
            let mut world = self.world.clone();
            world.retained = self.state.retained();
            world.hands_over();
            return vec![Self::start(world, ResetCause::Software, self.faults)];
        }
        let mut done = self.world.clone();
        let good = done.perform(&self.action);
        let mut nodes = vec![self.answered(done.clone(), good.clone(), 10, self.faults)];
        if self.faults == FAULTS {
            return nodes;
        }
        let late_ms = limits::BUDGET_WITHOUT_APP_MS + limits::INSTALL_WITH_APP_MS;
        nodes.push(self.answered(done.clone(), good, late_ms, self.faults + 1));
        // A survey fails when there is no partition table to be read, and then nothing is promised.
        let reasons = REASONS.into_iter().filter(|_| !matches!(self.action, Action::Survey(_)));
        for reason in reasons {
            nodes.push(self.answered(self.world.clone(), Event::Failed(reason), 10, self.faults + 1));
        }
        nodes.push(self.lost(self.world.clone()));
        nodes.push(self.lost(done));
        if let Some(torn) = self.world.torn(&self.action) {
            nodes.push(self.lost(torn));
        }
        let mut world = self.world.clone();
        world.retained = self.state.retained();
        nodes.push(Self::start(world, ResetCause::Watchdog, self.faults + 1));
        nodes
    }

    /// What tells this node from others.
    fn key(&self) -> u64 {
        let World { slots, record, last_outcome, anchors, identity, time_floor_s, retained, .. } =
            &self.world;
        let world = (slots, record, last_outcome, anchors, identity, time_floor_s, retained);
        let mut hasher = DefaultHasher::new();
        format!("{world:?} {:?} {:?}", self.state, self.action).hash(&mut hasher);
        hasher.finish()
    }
}

/// What the engine alone decides of the promise, at one node.
fn check(node: &Node, keeps_an_app: bool) {
    let Node { world, action, steps, .. } = node;
    let bootable = |slot: SlotIndex| world.image(usize::from(slot.0)).is_some();
    assert!(*steps < 60, "the pit stop does not end: {action:?}");
    if keeps_an_app {
        assert!((0..2).map(SlotIndex).any(bootable), "nothing is bootable: {action:?}");
        if let Writes::Slot(slot) = action.writes() {
            assert!(bootable(SlotIndex(1 - slot.0)), "{action:?} with nothing in the other slot");
        }
    }
    match action {
        Action::Finish(Verdict::HandOver { slot, .. }) => assert!(bootable(*slot), "hands over to nothing"),
        Action::Finish(Verdict::Restart { reason, .. }) => {
            assert!(!keeps_an_app, "waits for {reason:?} although an application is bootable");
        }
        Action::SaveRecord { record, .. } => {
            let image = world.image(usize::from(record.slot.0));
            assert_eq!(image.map(|image| image.digest), Some(record.digest), "records what is not there");
            let before = world.record.as_ref().map(|record| record.sequence);
            assert!(before.is_none_or(|before| before <= record.sequence), "{before:?} back to {record:?}");
        }
        _ => {}
    }
}

/// From a flash that a start can find, starts without faults lead to the target.
fn reaches_the_target(world: &World) {
    let mut world = world.clone();
    for _ in 0..3 {
        let verdict = world.power_on();
        let recorded = world.record.as_ref().map(|record| record.sequence);
        if recorded == Some(Sequence(2)) && matches!(verdict, Verdict::HandOver { .. }) {
            return;
        }
    }
    panic!("not at the target after three good starts: {:?} {:?}", world.slots, world.record);
}

/// Walks everything from here; returns the number of states.
fn walk(world: World) -> usize {
    let keeps_an_app = world.slots.len() == 2 && world.image(0).is_some();
    let mut seen: HashMap<u64, u8> = HashMap::new();
    let mut waiting = vec![Node::start(world, ResetCause::PowerOn, 0)];
    while let Some(node) = waiting.pop() {
        let key = node.key();
        let before = seen.get(&key).copied();
        if before.is_some_and(|faults| faults <= node.faults) {
            continue;
        }
        seen.insert(key, node.faults);
        if before.is_none() {
            check(&node, keeps_an_app);
            if node.steps == 0 {
                reaches_the_target(&node.world);
            }
        }
        waiting.extend(node.next());
    }
    seen.len()
}

#[test]
fn every_reachable_state_keeps_the_promise() {
    let (old, new) = (release(1, 1, 2), release(2, 2, 2));
    let mut states = Vec::new();
    for slots in [1, 2] {
        let mut fresh = World::new(slots);
        fresh.identity = Identity::Token(token());
        fresh.offer(&new);
        let mut running = World::new(slots);
        running.install(0, &old);
        running.offer(&new);
        let mut away = running.clone();
        away.stay_away();
        states.extend([walk(fresh), walk(running), walk(away)]);
    }
    let total: usize = states.iter().sum();
    println!("{states:?}: {total} states");
    let report = include_str!("../../../docs/reliability.md");
    let documented = format!("{total} states");
    assert!(report.contains(&documented), "docs/reliability.md does not say {documented}");
}
