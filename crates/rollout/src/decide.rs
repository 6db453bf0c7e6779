//! What a device is to run.

use manifest::{Digest, Sequence};

use crate::{Failure, OnHalt, Plan, StandIn, State};

/// What is known of a device at a check-in.
#[derive(Clone, Copy, Debug)]
pub struct DeviceFacts<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its channel.
    pub channel: &'a str,
    /// Its tags.
    pub tags: &'a [String],
    /// What it runs; `None` when no slot is bootable.
    pub running: Option<Running>,
    /// The release that an operator wants it to run.
    pub pinned: Option<Sequence>,
    /// The release that failed here last.
    pub failure: Option<Failure>,
    /// The server's clock, in milliseconds since 1970.
    pub now_ms: i64,
    /// How long a release is not offered again after its first failure, in seconds.
    pub refusal_backoff_s: u32,
}

/// The application that runs on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// SHA-256 of the whole image.
    pub digest: Digest,
    /// Sequence number of its release; `None` for an image that Pitstop did not install.
    pub sequence: Option<Sequence>,
}

/// What a decision needs to know of a product.
#[derive(Clone, Debug, Default)]
pub struct ProductFacts {
    /// Its releases, the newest first.
    pub releases: Vec<ReleaseFacts>,
    /// The last rollout of each release on each channel, those of the newest release first.
    pub rollouts: Vec<RolloutFacts>,
}

/// What a decision needs to know of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFacts {
    /// Its sequence number.
    pub sequence: Sequence,
    /// SHA-256 of its image.
    pub digest: Digest,
    /// Releases that its signed manifest allows to return to.
    pub revert_to: Vec<Sequence>,
    /// The release that a device must run, or a newer one, before it is offered this one.
    pub requires: Option<Sequence>,
    /// Whether it is archived: it is known, and offered to nobody.
    pub is_archived: bool,
}

/// What a decision needs to know of a rollout.
#[derive(Clone, Debug)]
pub struct RolloutFacts {
    /// Its id.
    pub id: String,
    /// The channel whose devices it is for.
    pub channel: String,
    /// The release that it brings.
    pub sequence: Sequence,
    /// Its state.
    pub state: State,
    /// The newest wave that is open, from 0.
    pub wave: usize,
    /// Its plan.
    pub plan: Plan,
    /// Devices that stand in for waves without another one.
    pub stand_ins: Vec<StandIn>,
}

/// What a device is to do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing(NoOffer),
    /// Ask again later.
    Wait {
        /// In how many seconds.
        wait_s: u32,
        /// Why.
        reason: WaitReason,
    },
    /// Run this release.
    Offer {
        /// Its sequence number.
        sequence: Sequence,
        /// Why.
        reason: OfferReason,
    },
}

/// Why a device is offered nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOffer {
    /// No rollout brings the device anything.
    NoRollout,
    /// It runs what it is to run.
    UpToDate,
    /// It runs something newer, and going back is the publisher's to allow.
    Ahead,
    /// The wave that it is in is not open, or no wave takes it.
    NotItsTurn,
    /// It is pinned to an older release, and what it runs does not allow to return to that.
    PinNotAllowed,
    /// It is pinned to a release that is not there, or is archived.
    PinUnknown,
    /// The release failed here too often, and waits for an operator.
    Quarantined,
    /// The rollout of what it runs was taken back, and what it runs allows no return.
    NoWayBack,
    /// It runs less than the release requires, and nothing brings it what is in between.
    NeedsIntermediate,
}

/// Why a device is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The release failed here a short while ago.
    Backoff,
    /// The rollout's window is closed.
    Window,
}

/// Why a device is offered a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferReason {
    /// A rollout brings it.
    Rollout {
        /// Which: index in [`ProductFacts::rollouts`].
        index: usize,
        /// The wave that the device is in, from 0.
        wave: usize,
    },
    /// The device is pinned to it.
    Pinned,
    /// The rollout of what it runs was taken back.
    Revert,
}

/// Decides what a device is to run. Nothing is offered that goes back without a signed revert.
///
/// In this order: a pin decides alone; the newest rollout of the device's channel that brings it something newer; a
/// return when the rollout of what it runs was taken back.
///
/// A device that runs less than a release requires is offered what older rollouts bring it, and a pinned one what its
/// release requires: it gets there in steps.
///
/// An image that runs without a number, or under an older one, is offered again under the newest: nothing is
/// downloaded for it, and the device then knows the number that it must not go back from.
#[must_use]
pub fn decide(device: &DeviceFacts<'_>, product: &ProductFacts) -> Verdict {
    if let Some(pinned) = device.pinned {
        return pin(device, product, pinned);
    }
    let forward = forward(device, product);
    match forward {
        Verdict::Offer { .. } => forward,
        Verdict::Nothing(_) | Verdict::Wait { .. } => back(device, product).unwrap_or(forward),
    }
}

fn pin(device: &DeviceFacts<'_>, product: &ProductFacts, pinned: Sequence) -> Verdict {
    let Some(mut release) = product.release(pinned) else { return Verdict::Nothing(NoOffer::PinUnknown) };
    match device.compare(release) {
        Compared::Same => return Verdict::Nothing(NoOffer::UpToDate),
        Compared::Newer => {}
        Compared::Older { installed } => {
            let allows = product.release(installed).is_some_and(|from| from.revert_to.contains(&pinned));
            if !allows {
                return Verdict::Nothing(NoOffer::PinNotAllowed);
            }
        }
    }
    if release.is_archived {
        return Verdict::Nothing(NoOffer::PinUnknown);
    }
    while let Some(required) = device.lacks(release, product) {
        // A release requires an older one.
        let step = product.release(required);
        let step = step.filter(|step| step.sequence < release.sequence && !step.is_archived);
        match step.filter(|step| !product.is_stopped(step.sequence, device.channel)) {
            Some(step) => release = step,
            None => return Verdict::Nothing(NoOffer::NeedsIntermediate),
        }
    }
    let sequence = release.sequence;
    device.held_back(sequence).unwrap_or(Verdict::Offer { sequence, reason: OfferReason::Pinned })
}

/// The newest rollout that brings the device something.
fn forward(device: &DeviceFacts<'_>, product: &ProductFacts) -> Verdict {
    // The first reason that is found: that of the newest rollout.
    let mut reason = None;
    for (index, rollout) in product.rollouts.iter().enumerate() {
        if rollout.channel != device.channel || rollout.state == State::Draft {
            continue;
        }
        let Some(release) = product.release(rollout.sequence) else { continue };
        match device.compare(release) {
            // What is older does not come up again.
            Compared::Same => return Verdict::Nothing(reason.unwrap_or(NoOffer::UpToDate)),
            Compared::Older { .. } => return Verdict::Nothing(reason.unwrap_or(NoOffer::Ahead)),
            Compared::Newer => {}
        }
        if release.is_archived || !rollout.state.offers(device.running.is_some()) {
            continue;
        }
        let wave = rollout.plan.wave_of(&rollout.id, device.id, device.tags, &rollout.stand_ins);
        let Some(wave) = wave.filter(|wave| *wave <= rollout.wave) else {
            reason = reason.or(Some(NoOffer::NotItsTurn));
            continue;
        };
        if device.lacks(release, product).is_some() {
            reason = reason.or(Some(NoOffer::NeedsIntermediate));
            continue;
        }
        match device.held_back(release.sequence) {
            Some(Verdict::Nothing(held_back)) => {
                reason = reason.or(Some(held_back));
                continue;
            }
            Some(wait) => return wait,
            None => {}
        }
        if let Some(closed_ms) = rollout.plan.window().and_then(|window| window.closed_for_ms(device.now_ms))
        {
            let wait_s = u32::try_from((closed_ms + 999) / 1000).unwrap_or(u32::MAX);
            return Verdict::Wait { wait_s, reason: WaitReason::Window };
        }
        return Verdict::Offer { sequence: release.sequence, reason: OfferReason::Rollout { index, wave } };
    }
    Verdict::Nothing(reason.unwrap_or(NoOffer::NoRollout))
}

/// Where a device goes whose release was taken back; `None` when it was not.
fn back(device: &DeviceFacts<'_>, product: &ProductFacts) -> Option<Verdict> {
    let running = device.running?;
    let from = product.release(running.sequence?)?;
    if !product.is_taken_back(from.sequence, device.channel) {
        return None;
    }
    // `releases` begins with the newest.
    let target = product.releases.iter().find(|release| {
        release.sequence < from.sequence
            && !release.is_archived
            && from.revert_to.contains(&release.sequence)
            && !product.is_stopped(release.sequence, device.channel)
    });
    Some(match target {
        None => Verdict::Nothing(NoOffer::NoWayBack),
        Some(release) => device
            .held_back(release.sequence)
            .unwrap_or(Verdict::Offer { sequence: release.sequence, reason: OfferReason::Revert }),
    })
}

/// A release against what runs.
enum Compared {
    /// It runs.
    Same,
    /// It may follow.
    Newer,
    /// It is older than what is installed.
    Older { installed: Sequence },
}

impl DeviceFacts<'_> {
    fn compare(&self, release: &ReleaseFacts) -> Compared {
        match self.running {
            Some(Running { sequence: Some(installed), .. }) if installed > release.sequence => {
                Compared::Older { installed }
            }
            Some(Running { sequence: Some(installed), digest })
                if installed == release.sequence && digest == release.digest =>
            {
                Compared::Same
            }
            Some(_) | None => Compared::Newer,
        }
    }

    /// The release that it has to run first. Nothing to run is less than everything: data of an old application may be there.
    fn lacks(&self, release: &ReleaseFacts, product: &ProductFacts) -> Option<Sequence> {
        let required = release.requires?;
        // An image that runs without a number, or under an older one, is known by its digest.
        let by_digest = |running: Running| {
            product
                .releases
                .iter()
                .find(|release| release.digest == running.digest)
                .map(|known| known.sequence)
        };
        let runs = self.running.and_then(|running| running.sequence.max(by_digest(running)));
        runs.is_none_or(|runs| runs < required).then_some(required)
    }

    /// Why a release that is to be offered is not, because it failed here.
    fn held_back(&self, sequence: Sequence) -> Option<Verdict> {
        let failure = self.failure.filter(|failure| failure.sequence == sequence)?;
        if failure.is_quarantined {
            return Some(Verdict::Nothing(NoOffer::Quarantined));
        }
        // A device with nothing to run has nothing to lose: it waits for no backoff but its own.
        self.running?;
        let wait_s = failure.wait_s(self.refusal_backoff_s, self.now_ms)?;
        Some(Verdict::Wait { wait_s, reason: WaitReason::Backoff })
    }
}

impl ProductFacts {
    /// A release by its number.
    #[must_use]
    pub fn release(&self, sequence: Sequence) -> Option<&ReleaseFacts> {
        self.releases.iter().find(|release| release.sequence == sequence)
    }

    /// The rollout that brings a release to the devices of a channel; for a device that has it from another channel, that
    /// of the other one.
    fn rollout(&self, sequence: Sequence, channel: &str) -> Option<&RolloutFacts> {
        let mut of_release = self.rollouts.iter().filter(|rollout| rollout.sequence == sequence);
        of_release.clone().find(|rollout| rollout.channel == channel).or_else(|| of_release.next())
    }

    /// Whether devices that run a release are to leave it.
    fn is_taken_back(&self, sequence: Sequence, channel: &str) -> bool {
        self.rollout(sequence, channel).is_some_and(|rollout| {
            rollout.state.is_stopped()
                && (rollout.state != State::Halted || rollout.plan.on_halt() == OnHalt::Revert)
        })
    }

    /// Whether a release is nothing to go back to.
    fn is_stopped(&self, sequence: Sequence, channel: &str) -> bool {
        self.rollout(sequence, channel).is_some_and(|rollout| rollout.state.is_stopped())
    }
}

impl Verdict {
    /// Every name, for those who count verdicts.
    pub const NAMES: [&str; 11] = [
        "offer",
        "wait",
        "no-rollout",
        "up-to-date",
        "ahead",
        "not-its-turn",
        "pin-not-allowed",
        "pin-unknown",
        "quarantined",
        "no-way-back",
        "needs-intermediate",
    ];

    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Offer { .. } => "offer",
            Self::Wait { .. } => "wait",
            Self::Nothing(NoOffer::NoRollout) => "no-rollout",
            Self::Nothing(NoOffer::UpToDate) => "up-to-date",
            Self::Nothing(NoOffer::Ahead) => "ahead",
            Self::Nothing(NoOffer::NotItsTurn) => "not-its-turn",
            Self::Nothing(NoOffer::PinNotAllowed) => "pin-not-allowed",
            Self::Nothing(NoOffer::PinUnknown) => "pin-unknown",
            Self::Nothing(NoOffer::Quarantined) => "quarantined",
            Self::Nothing(NoOffer::NoWayBack) => "no-way-back",
            Self::Nothing(NoOffer::NeedsIntermediate) => "needs-intermediate",
        }
    }
}
