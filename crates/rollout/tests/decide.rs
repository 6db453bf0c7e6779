//! Decisions: one case after the other, and what must hold for all of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use manifest::{Digest, Sequence};
use proptest::prelude::*;
use rollout::{
    DeviceFacts, Failure, NoOffer, OfferReason, Plan, ProductFacts, ReleaseFacts, RolloutFacts, Running,
    StandIn, State, Verdict, WaitReason, bucket, decide,
};

const HOUR_MS: i64 = 3_600_000;
const NO_TAGS: &[String] = &[];

fn release(sequence: u64, revert_to: &[u64]) -> ReleaseFacts {
    ReleaseFacts {
        sequence: Sequence(sequence),
        digest: Digest([sequence as u8; 32]),
        revert_to: revert_to.iter().copied().map(Sequence).collect(),
        requires: None,
        is_archived: false,
    }
}

fn rollout(sequence: u64, state: State, plan: &str) -> RolloutFacts {
    RolloutFacts {
        id: format!("ro-{sequence}"),
        channel: "stable".to_owned(),
        sequence: Sequence(sequence),
        state,
        wave: 0,
        plan: serde_json::from_str(plan).unwrap(),
        stand_ins: Vec::new(),
    }
}

const ALL: &str = r#"{"waves":[{"select":{"percent":100}}]}"#;
const REVERTS: &str = r#"{"waves":[{"select":{"percent":100}}],"on_halt":"revert"}"#;

/// Releases 1 to 3, of which 3 allows to return to 1 and 2, with a rollout in each of these states.
fn product(states: [State; 3]) -> ProductFacts {
    ProductFacts {
        releases: vec![release(3, &[1, 2]), release(2, &[]), release(1, &[])],
        rollouts: (1..=3)
            .rev()
            .zip(states.into_iter().rev())
            .map(|(n, state)| rollout(n, state, ALL))
            .collect(),
    }
}

fn device(running: Option<(Option<u64>, u8)>) -> DeviceFacts<'static> {
    DeviceFacts {
        id: "lamp-1",
        channel: "stable",
        tags: NO_TAGS,
        running: running.map(|(sequence, digest)| Running {
            digest: Digest([digest; 32]),
            sequence: sequence.map(Sequence),
        }),
        pinned: None,
        failure: None,
        now_ms: 10 * HOUR_MS,
        refusal_backoff_s: 3600,
    }
}

fn runs(sequence: u64) -> DeviceFacts<'static> {
    device(Some((Some(sequence), sequence as u8)))
}

fn failed(sequence: u64, at_ms: i64) -> Option<Failure> {
    Some(Failure {
        sequence: Sequence(sequence),
        count: 1,
        at_ms,
        is_quarantined: false,
        is_offered_again: false,
    })
}

fn offer(sequence: u64, index: usize) -> Verdict {
    Verdict::Offer { sequence: Sequence(sequence), reason: OfferReason::Rollout { index, wave: 0 } }
}

fn revert(sequence: u64) -> Verdict {
    Verdict::Offer { sequence: Sequence(sequence), reason: OfferReason::Revert }
}

#[test]
fn the_newest_release_is_offered_until_it_runs() {
    let product = product([State::Completed; 3]);
    assert_eq!(decide(&device(None), &product), offer(3, 0));
    assert_eq!(decide(&runs(1), &product), offer(3, 0));
    assert_eq!(decide(&runs(2), &product), offer(3, 0));
    assert_eq!(decide(&runs(3), &product), Verdict::Nothing(NoOffer::UpToDate));
    assert_eq!(decide(&runs(4), &product), Verdict::Nothing(NoOffer::Ahead));
    assert_eq!(decide(&runs(1), &ProductFacts::default()), Verdict::Nothing(NoOffer::NoRollout));
}

#[test]
fn the_image_without_its_number_is_offered_again() {
    let product = product([State::Completed; 3]);
    assert_eq!(decide(&device(Some((None, 3))), &product), offer(3, 0));
    assert_eq!(decide(&device(Some((Some(2), 3))), &product), offer(3, 0));
    assert_eq!(decide(&device(Some((Some(3), 9))), &product), offer(3, 0), "same number, another image");
}

#[test]
fn a_failed_release_waits_and_no_other_does() {
    let product = product([State::Completed; 3]);
    let wait = |wait_s| Verdict::Wait { wait_s, reason: WaitReason::Backoff };
    let after = |failure| decide(&DeviceFacts { failure, ..runs(1) }, &product);
    assert_eq!(after(failed(3, 10 * HOUR_MS)), wait(3600));
    assert_eq!(after(failed(3, 9 * HOUR_MS + 1)), wait(1));
    assert_eq!(after(failed(3, 9 * HOUR_MS)), offer(3, 0));
    assert_eq!(after(failed(2, 10 * HOUR_MS)), offer(3, 0));
    assert_eq!(after(failed(3, 11 * HOUR_MS)), wait(3600), "the clock was set back by an hour");
    assert_eq!(after(failed(3, 500 * HOUR_MS)), offer(3, 0), "it was set right: a wait would not end");
    let nothing_to_run = DeviceFacts { failure: failed(3, 10 * HOUR_MS), ..device(None) };
    assert_eq!(decide(&nothing_to_run, &product), offer(3, 0));
}

#[test]
fn a_quarantined_release_is_not_offered_and_another_one_is() {
    let quarantined = Some(Failure {
        sequence: Sequence(3),
        count: 3,
        at_ms: 0,
        is_quarantined: true,
        is_offered_again: false,
    });
    let product = product([State::Completed; 3]);
    let device = |running| DeviceFacts { failure: quarantined, now_ms: 1000 * HOUR_MS, ..running };
    assert_eq!(decide(&device(runs(2)), &product), Verdict::Nothing(NoOffer::Quarantined));
    assert_eq!(decide(&device(runs(1)), &product), offer(2, 1));
    assert_eq!(
        decide(&DeviceFacts { pinned: Some(Sequence(3)), ..device(runs(1)) }, &product),
        Verdict::Nothing(NoOffer::Quarantined)
    );
}

#[test]
fn a_promoted_release_is_taken_back_on_one_channel_alone() {
    // Release 3 was on beta first, and is on stable by a rollout of its own.
    let mut product = product([State::Completed, State::Completed, State::Completed]);
    let beta = RolloutFacts { channel: "beta".to_owned(), ..rollout(3, State::Aborted, ALL) };
    product.rollouts.insert(0, beta);
    assert_eq!(decide(&runs(3), &product), Verdict::Nothing(NoOffer::UpToDate));
    assert_eq!(decide(&runs(2), &product), offer(3, 1));
    let on_beta = DeviceFacts { channel: "beta", ..runs(3) };
    assert_eq!(decide(&on_beta, &product), revert(2));
    // A device that came from a channel without a rollout of it goes by that of the other one.
    product.rollouts.remove(1);
    assert_eq!(decide(&runs(3), &product), revert(2));
}

#[test]
fn only_a_rollout_that_is_in_force_offers() {
    for state in State::ALL {
        let product = product([State::Completed, State::Completed, state]);
        let expected = match state {
            State::Running | State::AwaitingApproval | State::Open | State::Completed => offer(3, 0),
            State::Draft | State::Paused | State::Halted | State::Aborted | State::Superseded => offer(2, 1),
        };
        assert_eq!(decide(&runs(1), &product), expected, "{state}");
        // What a newer rollout replaced is better than nothing.
        let expected = if state == State::Superseded { offer(3, 0) } else { expected };
        assert_eq!(decide(&device(None), &product), expected, "{state}");
        let expected = match state {
            State::Aborted => revert(2),
            // A draft is not there yet, for a device that got the release in another way.
            State::Draft => Verdict::Nothing(NoOffer::Ahead),
            State::Running
            | State::AwaitingApproval
            | State::Open
            | State::Paused
            | State::Halted
            | State::Completed
            | State::Superseded => Verdict::Nothing(NoOffer::UpToDate),
        };
        assert_eq!(decide(&runs(3), &product), expected, "{state}");
    }
}

#[test]
fn a_release_that_was_taken_back_goes_to_the_newest_that_it_allows() {
    use State::{Aborted, Completed, Draft, Halted, Paused};
    assert_eq!(decide(&runs(3), &product([Completed, Completed, Aborted])), revert(2));
    assert_eq!(decide(&runs(3), &product([Completed, Aborted, Aborted])), revert(1));
    assert_eq!(decide(&runs(3), &product([Completed, Halted, Aborted])), revert(1));
    assert_eq!(decide(&runs(3), &product([Completed, Paused, Aborted])), revert(2));
    assert_eq!(decide(&runs(3), &product([Draft, Aborted, Aborted])), revert(1));
    let nowhere = Verdict::Nothing(NoOffer::NoWayBack);
    assert_eq!(decide(&runs(3), &product([Aborted, Aborted, Aborted])), nowhere);
    assert_eq!(decide(&runs(2), &product([Completed, Aborted, Aborted])), nowhere, "2 allows nothing");

    let mut halted = product([Completed, Completed, Halted]);
    assert_eq!(decide(&runs(3), &halted), Verdict::Nothing(NoOffer::UpToDate));
    halted.rollouts[0].plan = serde_json::from_str(REVERTS).unwrap();
    assert_eq!(decide(&runs(3), &halted), revert(2));
    let failure = failed(2, 10 * HOUR_MS);
    let wait = Verdict::Wait { wait_s: 3600, reason: WaitReason::Backoff };
    assert_eq!(decide(&DeviceFacts { failure, ..runs(3) }, &halted), wait);

    // A newer release comes first, if the device is in its wave.
    halted.releases.insert(0, release(4, &[]));
    halted.rollouts.insert(0, rollout(4, State::Running, ALL));
    assert_eq!(decide(&runs(3), &halted), offer(4, 0));
    halted.rollouts[0].plan = serde_json::from_str(r#"{"waves":[{"select":{"tags":["lab"]}}]}"#).unwrap();
    assert_eq!(decide(&runs(3), &halted), revert(2));
}

#[test]
fn a_pin_decides_alone() {
    let product = product([State::Completed; 3]);
    let pinned = |to, device| decide(&DeviceFacts { pinned: Some(Sequence(to)), ..device }, &product);
    let offer = |to| Verdict::Offer { sequence: Sequence(to), reason: OfferReason::Pinned };
    assert_eq!(pinned(2, runs(1)), offer(2));
    assert_eq!(pinned(2, device(None)), offer(2));
    assert_eq!(pinned(2, runs(2)), Verdict::Nothing(NoOffer::UpToDate));
    assert_eq!(pinned(2, runs(3)), offer(2), "3 allows to return to 2");
    assert_eq!(pinned(1, runs(2)), Verdict::Nothing(NoOffer::PinNotAllowed));
    assert_eq!(pinned(9, runs(2)), Verdict::Nothing(NoOffer::PinUnknown));
    let failure = failed(2, 10 * HOUR_MS);
    let wait = Verdict::Wait { wait_s: 3600, reason: WaitReason::Backoff };
    assert_eq!(pinned(2, DeviceFacts { failure, ..runs(1) }), wait);
}

#[test]
fn waves_channels_and_tags_choose_devices() {
    let mut product = product([State::Completed, State::Completed, State::Running]);
    let plan =
        r#"{"waves":[{"select":{"tags":["lab"]}},{"select":{"percent":50}},{"select":{"percent":100}}]}"#;
    product.rollouts[0].plan = serde_json::from_str(plan).unwrap();
    let lab = ["lab".to_owned()];
    let not_its_turn = Verdict::Nothing(NoOffer::NotItsTurn);
    assert_eq!(decide(&runs(2), &product), not_its_turn);
    assert_eq!(decide(&runs(1), &product), offer(2, 1), "the release before is for it");
    assert_eq!(decide(&DeviceFacts { tags: &lab, ..runs(2) }, &product), offer(3, 0));
    product.rollouts[0].wave = 2;
    let wave = if bucket("ro-3", "lamp-1") < 5000 { 1 } else { 2 };
    let expected = Verdict::Offer { sequence: Sequence(3), reason: OfferReason::Rollout { index: 0, wave } };
    assert_eq!(decide(&runs(2), &product), expected);
    let beta = DeviceFacts { channel: "beta", ..runs(2) };
    assert_eq!(decide(&beta, &product), Verdict::Nothing(NoOffer::NoRollout));
    product.rollouts[0].channel = "beta".to_owned();
    assert_eq!(decide(&beta, &product), expected);
    assert_eq!(decide(&runs(2), &product), Verdict::Nothing(NoOffer::UpToDate));
}

#[test]
fn outside_the_window_a_device_waits_until_it_opens() {
    let mut product = product([State::Completed, State::Completed, State::Running]);
    let plan = r#"{"waves":[{"select":{"percent":100}}],"window":{"from":"11:00","to":"12:00"}}"#;
    product.rollouts[0].plan = serde_json::from_str(plan).unwrap();
    let wait = Verdict::Wait { wait_s: 3600, reason: WaitReason::Window };
    assert_eq!(decide(&runs(2), &product), wait);
    assert_eq!(decide(&DeviceFacts { now_ms: 11 * HOUR_MS, ..runs(2) }, &product), offer(3, 0));
    assert_eq!(decide(&runs(3), &product), Verdict::Nothing(NoOffer::UpToDate));
}

#[test]
fn who_stands_in_for_an_empty_wave_gets_its_release_with_it() {
    let plan = r#"{"waves":[{"select":{"percent":1}},{"select":{"percent":100}}]}"#;
    let mut product = product([State::Completed, State::Completed, State::Running]);
    product.rollouts[0] = rollout(3, State::Running, plan);
    assert_eq!(decide(&runs(2), &product), Verdict::Nothing(NoOffer::NotItsTurn));
    product.rollouts[0].stand_ins.push(StandIn { wave: 0, device: "lamp-1".to_owned() });
    assert_eq!(decide(&runs(2), &product), offer(3, 0));
    let other = DeviceFacts { id: "lamp-2", ..runs(2) };
    assert_eq!(decide(&other, &product), Verdict::Nothing(NoOffer::NotItsTurn));
}

/// Releases 1 to 3 with rollouts in these states; 3 requires 2.
fn with_a_step(states: [State; 3]) -> ProductFacts {
    let mut product = product(states);
    product.releases[0].requires = Some(Sequence(2));
    product
}

#[test]
fn a_device_goes_by_the_release_that_is_required() {
    let product = with_a_step([State::Completed, State::Open, State::Open]);
    assert_eq!(decide(&runs(2), &product), offer(3, 0));
    assert_eq!(decide(&runs(1), &product), offer(2, 1));
    assert_eq!(decide(&device(None), &product), offer(2, 1), "its data may be old");
    assert_eq!(decide(&device(Some((None, 9))), &product), offer(2, 1));
    // What runs is release 2, whatever number it has.
    assert_eq!(decide(&device(Some((None, 2))), &product), offer(3, 0));
    assert_eq!(decide(&device(Some((Some(1), 2))), &product), offer(3, 0));
    // It failed here: no way around it.
    let failed = DeviceFacts { failure: failed(2, 10 * HOUR_MS), ..runs(1) };
    assert!(matches!(decide(&failed, &product), Verdict::Wait { reason: WaitReason::Backoff, .. }));
}

#[test]
fn without_the_release_that_is_required_a_device_is_told_nothing() {
    for state in [State::Paused, State::Halted, State::Aborted, State::Superseded] {
        let product = with_a_step([State::Completed, state, State::Open]);
        assert_eq!(decide(&runs(1), &product), Verdict::Nothing(NoOffer::NeedsIntermediate), "{state}");
        // An older one that it can take is offered all the same.
        assert_eq!(decide(&device(Some((Some(0), 9))), &product), offer(1, 2), "{state}");
    }
    // The rollout of the newest does not take it: that is the reason.
    let mut product = with_a_step([State::Completed, State::Paused, State::Running]);
    product.rollouts[0].plan = serde_json::from_str(r#"{"waves":[{"select":{"tags":["lab"]}}]}"#).unwrap();
    assert_eq!(decide(&runs(1), &product), Verdict::Nothing(NoOffer::NotItsTurn));
}

#[test]
fn a_pinned_device_goes_by_the_release_that_is_required_too() {
    let pinned = |sequence: Option<u64>, to: u64| DeviceFacts {
        pinned: Some(Sequence(to)),
        ..device(sequence.map(|sequence| (Some(sequence), sequence as u8)))
    };
    let to = |sequence| Verdict::Offer { sequence: Sequence(sequence), reason: OfferReason::Pinned };
    let product = with_a_step([State::Completed, State::Paused, State::Open]);
    assert_eq!(decide(&pinned(Some(1), 3), &product), to(2));
    assert_eq!(decide(&pinned(None, 3), &product), to(2));
    assert_eq!(decide(&pinned(Some(2), 3), &product), to(3));
    // Back by what release 3 signed; and forward again by way of release 2.
    assert_eq!(decide(&pinned(Some(3), 1), &product), to(1));
    let stopped = with_a_step([State::Completed, State::Aborted, State::Open]);
    assert_eq!(decide(&pinned(Some(1), 3), &stopped), Verdict::Nothing(NoOffer::NeedsIntermediate));
    let mut longer = with_a_step([State::Completed, State::Open, State::Open]);
    longer.releases[1].requires = Some(Sequence(1));
    assert_eq!(decide(&pinned(None, 3), &longer), to(1));
}

/// Half of the rollouts were taken back: that is where a release might go back.
fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Aborted), prop::sample::select(State::ALL.to_vec())]
}

fn any_product() -> impl Strategy<Value = ProductFacts> {
    let plans = [
        ALL,
        REVERTS,
        r#"{"waves":[{"select":{"percent":1}},{"select":{"tags":["lab"]}},{"select":{"percent":60}}]}"#,
        r#"{"waves":[{"select":{"percent":100}}],"window":{"days":["sat"],"from":"11:00","to":"12:00"}}"#,
    ];
    let one = (
        prop::collection::vec(1_u64..6, 0..3),
        any_state(),
        0_usize..3,
        prop::sample::select(vec!["stable", "beta"]),
        prop::sample::select(plans.to_vec()),
        any::<bool>(),
        prop::option::weighted(0.3, 1_u64..6),
    );
    prop::collection::vec(one, 0..6).prop_map(|parts| {
        let mut product = ProductFacts::default();
        for (sequence, (revert_to, state, wave, channel, plan, has_rollout, requires)) in (1..).zip(parts) {
            let requires = requires.filter(|required| *required < sequence).map(Sequence);
            product.releases.insert(0, ReleaseFacts { requires, ..release(sequence, &revert_to) });
            if has_rollout {
                let facts =
                    RolloutFacts { wave, channel: channel.to_owned(), ..rollout(sequence, state, plan) };
                product.rollouts.insert(0, facts);
            }
        }
        product
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_goes_back_without_a_signed_revert(
        product in any_product(),
        running in prop::option::weighted(0.9, (prop::option::weighted(0.9, 1_u64..7), 1_u8..7)),
        pinned in prop::option::weighted(0.3, 1_u64..8),
        lab in any::<bool>(),
        failure in prop::option::of((1_u64..7, 1_u32..5, -5_i64..20, any::<bool>())),
        id in "[a-z]{1,8}",
    ) {
        let tags = if lab { vec!["lab".to_owned()] } else { Vec::new() };
        let failure = failure.map(|(sequence, count, hours, is_quarantined)| Failure {
            sequence: Sequence(sequence), count, at_ms: hours * HOUR_MS, is_quarantined, is_offered_again: false,
        });
        let facts = DeviceFacts {
            id: &id, tags: &tags, pinned: pinned.map(Sequence), failure, ..device(running)
        };
        match decide(&facts, &product) {
            Verdict::Offer { sequence, reason } => {
                prop_assert!(product.release(sequence).is_some());
                if let Some(installed) = facts.running.and_then(|running| running.sequence)
                    && sequence < installed
                {
                    let from = product.release(installed).expect("an unknown release allows nothing");
                    prop_assert!(from.revert_to.contains(&sequence));
                    let by_rollout = matches!(reason, OfferReason::Rollout { .. });
                    prop_assert!(!by_rollout);
                }
                if let Some(failure) = failure {
                    prop_assert!(failure.sequence != sequence || !failure.is_quarantined);
                }
                if let OfferReason::Rollout { index, wave } = reason {
                    let rollout = &product.rollouts[index];
                    prop_assert!(rollout.state.offers(facts.running.is_some()));
                    prop_assert!(wave <= rollout.wave);
                    prop_assert_eq!(&rollout.channel, "stable");
                    prop_assert_eq!(rollout.sequence, sequence);
                }
                let offered = product.release(sequence).unwrap();
                let runs = facts.running.and_then(|running| {
                    let by_image = product.releases.iter().find(|known| known.digest == running.digest);
                    running.sequence.max(by_image.map(|known| known.sequence))
                });
                let goes_back = reason == OfferReason::Revert || runs.is_some_and(|runs| runs > sequence);
                prop_assert!(goes_back || offered.requires.is_none_or(|required| runs >= Some(required)));
                // A pinned device may be on its way.
                prop_assert!(pinned.is_none_or(|pinned| sequence <= Sequence(pinned)));
            }
            Verdict::Wait { wait_s, .. } => prop_assert!(wait_s > 0 && wait_s <= 7 * 24 * 3600),
            Verdict::Nothing(_) => {}
        }
    }

    #[test]
    fn waves_only_grow(
        shares in prop::collection::btree_set(1_u16..=10_000, 1..6),
        id in "[A-Za-z0-9]{1,12}",
        device in "[A-Za-z0-9]{1,12}",
    ) {
        let waves: Vec<_> = shares
            .iter()
            .map(|share| format!(r#"{{"select":{{"percent":{}}}}}"#, f64::from(*share) / 100.0))
            .collect();
        let plan: Plan = serde_json::from_str(&format!(r#"{{"waves":[{}]}}"#, waves.join(","))).unwrap();
        let wave = plan.wave_of(&id, &device, NO_TAGS, &[]);
        // Exact to 0.01 %: the device is in the first wave whose share is above its place.
        let place = bucket(&id, &device);
        prop_assert!(place < 10_000);
        prop_assert_eq!(wave, shares.iter().position(|share| place < *share));
    }
}

#[test]
fn an_archived_release_is_known_and_offered_to_nobody() {
    let archive = |states, sequence: u64| {
        let mut product = product(states);
        let archived = product.releases.iter_mut().filter(|release| release.sequence.0 == sequence);
        archived.for_each(|release| release.is_archived = true);
        product
    };
    let offer = |sequence, index| Verdict::Offer {
        sequence: Sequence(sequence),
        reason: OfferReason::Rollout { index, wave: 0 },
    };
    let newest = archive([State::Completed; 3], 3);
    assert_eq!(decide(&device(None), &newest), offer(2, 1));
    assert_eq!(decide(&runs(1), &newest), offer(2, 1));
    for running in [2, 3] {
        assert_eq!(decide(&runs(running), &newest), Verdict::Nothing(NoOffer::UpToDate), "{running}");
    }
    let pinned = DeviceFacts { pinned: Some(Sequence(3)), ..runs(2) };
    assert_eq!(decide(&pinned, &newest), Verdict::Nothing(NoOffer::PinUnknown));
    // Who leaves a release does not go to an archived one.
    let target = archive([State::Completed, State::Completed, State::Aborted], 2);
    let back = Verdict::Offer { sequence: Sequence(1), reason: OfferReason::Revert };
    assert_eq!(decide(&runs(3), &target), back);
}
