//! Questions with one answer, as pure functions that return their reason.

use wire::{Decision, HandOverStrategy, Reason, ResetCause};

use crate::action::{NextKey, Verdict};
use crate::facts::{CertificateLife, Certified};
use crate::limits;
use crate::retained::{CRASHES_MAX, Phase, Retained};
use crate::slot::SlotIndex;

/// What a start begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The retained register for this start, this start counted, and an end that was not announced.
    pub retained: Retained,
    /// Why the chip reset.
    pub reset_cause: ResetCause,
    /// Whose end the reset was.
    pub last_run: LastRun,
}

/// Whose end a reset was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// The application's, or that of an updater which announced it.
    Application,
    /// The updater's, so that this start hands over from pristine hardware.
    Ticket,
    /// The updater's, which did not announce it: a crash, a hang, a supply that broke down, anywhere in it.
    Updater,
    /// That of a hand-over which did not come to its jump.
    HandOver,
    /// Nobody's: this start's own hand-over accepted no slot, so that a pit stop follows.
    Refused,
    /// The updater's, although it had skipped everything for its crashes; or it could hand over to nothing then. This start
    /// waits before it does anything.
    Stuck,
    /// Not known: the retained register did not survive.
    Unknown,
}

impl Start {
    /// Reads the retained register. Every end that the updater did not announce is a crash, whatever the cause of the
    /// reset and wherever it came. Only power on says nothing about an end: what it leaves in the register may be anything
    /// ([`crate::reset`]), and somebody who switches the supply is not made to wait.
    #[must_use]
    pub fn new(retained_bits: u32, reset_cause: ResetCause) -> Self {
        let survived = Retained::from_bits(retained_bits).filter(|_| reset_cause != ResetCause::PowerOn);
        let (retained, last_run) = match survived.map(Retained::one_more_start) {
            None => (Retained::default().one_more_start(), LastRun::Unknown),
            Some(retained) => match retained.phase {
                Phase::Application => (retained, LastRun::Application),
                Phase::Ticket => (retained, LastRun::Ticket),
                Phase::Updater if retained.crashes >= limits::CRASHES => {
                    (retained.one_more_failure(), LastRun::Stuck)
                }
                Phase::Updater => (retained.one_more_crash(), LastRun::Updater),
                // The crash of a hand-over at once, which was to end the crashes; or the third in a row, over a slot.
                Phase::HandingOver if retained.crashes + 1 >= limits::CRASHES => {
                    (retained.one_more_failure().one_more_crash(), LastRun::HandOver)
                }
                Phase::HandingOver => (retained.one_more_failure(), LastRun::HandOver),
            },
        };
        Self { retained: Retained { phase: Phase::Updater, ..retained }, reset_cause, last_run }
    }

    /// Whether the reset may have been a crash of the updater that cleared the register which would tell: brownouts do,
    /// and the RTC watchdog where it resets the RTC domain too ([`crate::reset`]). The journal counts these starts.
    #[must_use]
    pub fn may_hide_a_crash(&self) -> bool {
        self.last_run == LastRun::Unknown
            && match self.reset_cause {
                ResetCause::Brownout | ResetCause::Watchdog | ResetCause::Unknown => true,
                ResetCause::PowerOn
                | ResetCause::Software
                | ResetCause::Panic
                | ResetCause::DeepSleep
                | ResetCause::External
                | ResetCause::UpdaterCrash => false,
            }
    }

    /// Whether this start is to wait before it does anything: whatever it does may be what crashes the updater.
    #[must_use]
    pub fn waits_first(&self) -> bool {
        self.last_run == LastRun::Stuck
    }

    /// This start on a device with so many slots: when a hand-over at once has crashed over each of them, it waits.
    #[must_use]
    pub fn with_slots(self, slots: u8) -> Self {
        let most = limits::CRASHES.saturating_add(slots.max(1)).min(CRASHES_MAX);
        let last_run = if self.retained.crashes >= most { LastRun::Stuck } else { self.last_run };
        Self { last_run, ..self }
    }

    /// This start with the crashes that the journal has counted, on a device with so many slots. More than
    /// [`limits::CRASHES`] are only counted when what is done about them did not help. Which slot was looked at is lost with
    /// the register: each has its turn to be the first, and after them a start waits.
    #[must_use]
    pub fn with_crashes(self, counted: u32, slots: u8) -> Self {
        let in_vain = counted.saturating_sub(limits::CRASHES.into());
        let turn = (in_vain % (u32::from(slots) + 1)) as u8;
        let last_run = if in_vain > 0 && turn == slots { LastRun::Stuck } else { self.last_run };
        let crashes = counted.min(limits::CRASHES.into()) as u8;
        let failures = (in_vain.min(u8::MAX.into()) as u8).max(self.retained.failures);
        let retained = Retained { crashes, failures, slot: SlotIndex(turn), ..self.retained };
        Self { retained, last_run, ..self }
    }

    /// This start after its own hand-over accepted no slot. A ticket is spent by then.
    #[must_use]
    pub fn refused(self) -> Self {
        let last_run = match skip_network(&self) {
            Some(Skip::Ticket) => LastRun::Refused,
            Some(Skip::Crashes) => LastRun::Stuck,
            Some(Skip::DeepSleepWake) | None => return self,
        };
        Self { retained: self.retained.one_more_failure(), last_run, ..self }
    }

    /// Whether an announced end of this start shows that the crashes which the journal has counted are over: the
    /// application ran before it, or somebody has switched the supply.
    #[must_use]
    pub fn ends_crashes(&self) -> bool {
        match self.last_run {
            // Failures are there when it was no application that ran, but a wait.
            LastRun::Application => self.retained.failures == 0,
            LastRun::Unknown => !self.may_hide_a_crash(),
            LastRun::Ticket | LastRun::Updater | LastRun::HandOver | LastRun::Refused | LastRun::Stuck => {
                false
            }
        }
    }

    /// The slot that must not be handed over to at this start: the last hand-over to it did not come to its end.
    #[must_use]
    pub fn suspect(&self) -> Option<SlotIndex> {
        match self.last_run {
            LastRun::HandOver | LastRun::Refused => Some(self.retained.slot),
            LastRun::Application | LastRun::Ticket | LastRun::Updater | LastRun::Stuck | LastRun::Unknown => {
                None
            }
        }
    }

    /// What the server is told about the end of the last run: a crash of the updater is not the application's.
    #[must_use]
    pub fn told_cause(&self) -> ResetCause {
        match self.last_run {
            LastRun::Updater | LastRun::HandOver | LastRun::Stuck => ResetCause::UpdaterCrash,
            LastRun::Application | LastRun::Ticket | LastRun::Refused | LastRun::Unknown => self.reset_cause,
        }
    }
}

/// Why the network is skipped at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The updater reset the chip itself, to hand over from pristine hardware.
    Ticket,
    /// The application woke from deep sleep.
    DeepSleepWake,
    /// The updater crashed too often.
    Crashes,
}

impl Skip {
    /// The reason that the verdict carries.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Ticket | Self::DeepSleepWake => None,
            Self::Crashes => Some(Reason::UpdaterCrashes),
        }
    }
}

/// May this start skip the network? Asked before anything is initialised, and again at a pit stop: without a bootable
/// slot there is nothing to skip to, and a ticket is spent by then.
#[must_use]
pub fn skip_network(start: &Start) -> Option<Skip> {
    if start.last_run == LastRun::Ticket {
        Some(Skip::Ticket)
    } else if start.retained.crashes >= limits::CRASHES {
        Some(Skip::Crashes)
    } else if start.reset_cause == ResetCause::DeepSleep {
        Some(Skip::DeepSleepWake)
    } else {
        None
    }
}

/// The retained register after the network was skipped for its crashes: the next start tries again, and one more
/// crash skips again.
#[must_use]
pub fn after_skip(retained: Retained) -> Retained {
    Retained { crashes: retained.crashes.min(limits::CRASHES - 1), ..retained }
}

/// The retained register at a hand-over to `slot`. With the ticket it still needs a reset of the chip: that the
/// application starts is known when that has gone well.
#[must_use]
pub fn at_hand_over(retained: Retained, slot: SlotIndex, ticket: bool) -> Retained {
    if ticket {
        Retained { slot, phase: Phase::Ticket, ..retained }
    } else {
        Retained { slot, phase: Phase::Application, failures: 0, ..retained }
    }
}

/// The retained register when the updater waits and resets the chip.
#[must_use]
pub fn at_restart(retained: Retained) -> Retained {
    Retained { phase: Phase::Application, ..retained }.one_more_failure()
}

/// Does a hand-over after a pit stop need the ticket? With chain-load always: the pit stop has changed watchdogs,
/// clocks and perhaps the radio, and the application is given pristine hardware. By otadata the bootloader starts it.
#[must_use]
pub fn needs_ticket(strategy: HandOverStrategy) -> bool {
    match strategy {
        HandOverStrategy::ChainLoad => true,
        HandOverStrategy::OtadataRollback | HandOverStrategy::Other => false,
    }
}

/// What kind of failure a reason is, and so what is done about it besides the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// None: the install went well.
    None,
    /// The release: remembered in the vault and reported, so that it is not tried endlessly.
    Release,
    /// The network or the server: nothing is written; the next start tries again.
    Network,
    /// This device: a critical error, counted in the journal.
    Device,
    /// Circumstances of this start, which the next one will not share.
    Circumstances,
    /// The application: remembered in the vault and reported; the pit stop goes on.
    Application,
}

/// The failure class of a reason.
#[must_use]
pub fn failure_class(reason: Reason) -> FailureClass {
    match reason {
        Reason::Installed => FailureClass::None,
        Reason::ManifestMalformed
        | Reason::ManifestSignature
        | Reason::SequenceOlder
        | Reason::SequenceReused
        | Reason::ProductMismatch
        | Reason::ChipMismatch
        | Reason::ImageTooLarge
        | Reason::ManifestExpired
        | Reason::ManifestUnsupported
        | Reason::ChunkDigest
        | Reason::ImageDigest
        | Reason::ImageInvalid
        | Reason::NotStartable => FailureClass::Release,
        Reason::NetworkUnreachable
        | Reason::NameResolution
        | Reason::ServerUnreachable
        | Reason::TlsRefused
        | Reason::ConnectionLost
        | Reason::Timeout
        | Reason::ServerProtocol
        | Reason::DeviceRefused
        | Reason::EnrollmentRefused
        | Reason::EnrollmentPending
        | Reason::ServerFailed
        | Reason::ArtifactMissing
        | Reason::CertificateMismatch
        | Reason::CertificateUntrusted
        | Reason::WifiWpa3Only
        | Reason::ServerAlert => FailureClass::Network,
        Reason::FlashRead
        | Reason::FlashWrite
        | Reason::PartitionTable
        | Reason::Vault
        | Reason::IdentityDamaged
        | Reason::Randomness
        | Reason::Crypto
        | Reason::Internal => FailureClass::Device,
        Reason::NotProvisioned
        | Reason::NetworkPhaseCrashes
        | Reason::BudgetSpent
        | Reason::NothingToRun
        | Reason::UpdaterCrashes
        | Reason::HandOverFailed => FailureClass::Circumstances,
        Reason::ApplicationConfirmedItself => FailureClass::Application,
    }
}

/// Is a chunk that failed for this reason worth another try at this start? Not when the answer is known.
#[must_use]
pub fn worth_another_try(reason: Reason) -> bool {
    match reason {
        Reason::ChunkDigest | Reason::FlashWrite => true,
        Reason::DeviceRefused | Reason::ArtifactMissing => false,
        other => failure_class(other) == FailureClass::Network,
    }
}

/// Why a release that is whole in its slot is not started: the last hand-over to it did not come to its end. Once that may
/// be the supply; again and again it is the release.
#[must_use]
pub fn hand_over_failure(failures: u8) -> Reason {
    if failures < limits::HAND_OVER_FAILURES { Reason::HandOverFailed } else { Reason::NotStartable }
}

/// The recovery policy: how a pit stop ends. An application that can be started is started, whatever happened;
/// without one the updater tries again, later and later. `docs/recovery.md` holds the table, kept by a test.
#[must_use]
pub fn verdict(
    boot_slot: Option<SlotIndex>,
    reason: Option<Reason>,
    failures: u8,
    server_backoff_s: Option<u32>,
    jitter: u32,
) -> Verdict {
    match boot_slot {
        Some(slot) => Verdict::HandOver { slot, reason },
        None => Verdict::Restart {
            after_ms: backoff_ms(failures, server_backoff_s, jitter),
            reason: reason.unwrap_or(Reason::NothingToRun),
        },
    }
}

/// The wait before try `failures + 1`, spread at random so that a fleet does not return as one: doubling from
/// [`limits::BACKOFF_MS`], between half and all of it; and not before the server asks for, up to a quarter later. Both
/// end at [`limits::BACKOFF_MAX_MS`].
#[must_use]
pub fn backoff_ms(failures: u8, server_backoff_s: Option<u32>, jitter: u32) -> u64 {
    let part_ms = |whole_ms: u64| whole_ms * u64::from(jitter) / u64::from(u32::MAX);
    let doubled_ms = (limits::BACKOFF_MS << failures.min(15)).min(limits::BACKOFF_MAX_MS);
    let asked_ms = u64::from(server_backoff_s.unwrap_or(0)).saturating_mul(1000).min(limits::ASKED_MAX_MS);
    let own_ms = doubled_ms / 2 + part_ms(doubled_ms / 2);
    own_ms.max(asked_ms + part_ms(asked_ms / 4))
}

/// Is it time for the next certificate? Yes from two thirds of its life on.
#[must_use]
pub fn renewal_due(life: CertificateLife, now_s: u64) -> bool {
    let life_s = life.not_after_s.saturating_sub(life.not_before_s);
    now_s >= life.not_before_s.saturating_add(life_s - life_s / 3)
}

/// What the next certificate is to be for; `None` while it is not time to ask for one. An identity of which the vault holds
/// one copy is stored anew at once, with the key that it has.
#[must_use]
pub fn renewal(certified: &Certified, decision: &Decision, now_s: u64) -> Option<NextKey> {
    let is_time = decision.renew == Some(true) || renewal_due(certified.life, now_s);
    match decision.rotate_key {
        Some(true) if is_time => Some(NextKey::New),
        Some(_) | None if is_time || certified.is_half_saved => Some(NextKey::Same(certified.key.clone())),
        Some(_) | None => None,
    }
}

/// Has the certificate ended, as far as the device knows?
#[must_use]
pub fn has_ended(life: CertificateLife, now_s: u64) -> bool {
    now_s > life.not_after_s
}

/// The server's time as far as it is credible. The floor never goes back, so a wrong clock at the server must not
/// move it to where no certificate is valid any more: a server that has just accepted the device's certificate cannot
/// be past the end of that, and one whose own certificate was accepted not past the end of its own.
#[must_use]
pub fn credible_time_s(
    server_time_s: u64,
    own: Option<CertificateLife>,
    server_not_after_s: Option<u64>,
) -> u64 {
    let own_end_s = own.map_or(u64::MAX, |life| life.not_after_s);
    // The margin leaves the server's certificate acceptable during the pit stops to come.
    let server_end_s =
        server_not_after_s.map_or(u64::MAX, |end_s| end_s.saturating_sub(limits::TIME_FLOOR_MARGIN_S));
    server_time_s.min(own_end_s).min(server_end_s)
}

/// Must the stored time floor be raised by a write of its own?
#[must_use]
pub fn time_floor_due(stored_s: u64, server_time_s: u64) -> bool {
    server_time_s >= stored_s.saturating_add(limits::TIME_FLOOR_STEP_S)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    fn begun(retained: Retained, cause: ResetCause) -> Start {
        Start::new(retained.to_bits(), cause)
    }

    #[test]
    fn every_end_that_was_not_announced_is_a_crash() {
        let retained = Retained { crashes: 1, ..Retained::default() };
        for cause in (0..=8).map(ResetCause::from_code).filter(|cause| *cause != ResetCause::PowerOn) {
            let crashes = |phase| begun(Retained { phase, ..retained }, cause).retained.crashes;
            assert_eq!(crashes(Phase::Updater), 2, "{cause:?}");
            assert_eq!(crashes(Phase::Application), 1, "{cause:?}");
            assert_eq!(crashes(Phase::Ticket), 1, "{cause:?}");
        }
    }

    /// A start is the updater's until it says otherwise, and the slot of a hand-over that did not end is suspect.
    #[test]
    fn a_start_knows_whose_end_the_reset_was() {
        let retained = Retained { slot: SlotIndex(1), phase: Phase::HandingOver, ..Retained::default() };
        let start = begun(retained, ResetCause::Watchdog);
        assert_eq!((start.last_run, start.suspect()), (LastRun::HandOver, Some(SlotIndex(1))));
        assert_eq!((start.retained.phase, start.retained.failures), (Phase::Updater, 1));
        assert_eq!(skip_network(&start), None, "the ticket is spent");
        let lost = Start::new(u32::MAX, ResetCause::Watchdog);
        assert_eq!((lost.last_run, lost.suspect()), (LastRun::Unknown, None));
    }

    /// A supply that was off for so short a time that the register survived, and noise that looks like one.
    #[test]
    fn power_on_begins_anew() {
        for (phase, crashes) in
            Phase::ALL.into_iter().flat_map(|phase| (0..=CRASHES_MAX).map(move |crashes| (phase, crashes)))
        {
            let retained =
                Retained { phase, crashes, failures: 3, slot: SlotIndex(1), ..Retained::default() };
            let start = begun(retained, ResetCause::PowerOn);
            assert_eq!(start, Start::new(0, ResetCause::PowerOn), "{retained:?}");
            assert_eq!((start.with_slots(2).waits_first(), skip_network(&start)), (false, None));
        }
    }

    #[test]
    fn a_lost_register_may_hide_a_crash_unless_the_supply_came_up() {
        let hides = |bits, code| Start::new(bits, ResetCause::from_code(code)).may_hide_a_crash();
        let causes = |bits| {
            (0..=8).filter(|code| hides(bits, *code)).map(ResetCause::from_code).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(causes(0), [ResetCause::Unknown, ResetCause::Watchdog, ResetCause::Brownout]);
        assert_eq!(causes(Retained::default().to_bits()), []);
        let counted = Start::new(0, ResetCause::Brownout).with_crashes(70_000, 2);
        assert_eq!(skip_network(&counted), Some(Skip::Crashes));
        // Each slot has its turn to be the first, and after them a start waits.
        let turns = (3..=7).map(|counted| {
            let start = Start::new(0, ResetCause::Brownout).with_crashes(counted, 2);
            (start.last_run != LastRun::Stuck).then_some(start.retained.slot.0)
        });
        assert!(turns.eq([Some(0), Some(1), None, Some(0), Some(1)]));
        // However many they are.
        for counted in [254, 65_533, u32::MAX - 3] {
            let waits = |counted| Start::new(0, ResetCause::Brownout).with_crashes(counted, 2).waits_first();
            assert_eq!((counted..counted + 3).filter(|counted| waits(*counted)).count(), 1, "{counted}");
        }
    }

    #[test]
    fn the_network_is_skipped_for_three_reasons_only() {
        let retained = Retained::default();
        assert_eq!(skip_network(&begun(retained, ResetCause::PowerOn)), None);
        assert_eq!(skip_network(&begun(retained, ResetCause::DeepSleep)), Some(Skip::DeepSleepWake));
        let crashed = |crashes| Retained { crashes, phase: Phase::Updater, ..retained };
        assert_eq!(skip_network(&begun(crashed(1), ResetCause::Panic)), None);
        assert_eq!(skip_network(&begun(crashed(2), ResetCause::Panic)), Some(Skip::Crashes));
        let ticket = Retained { phase: Phase::Ticket, ..retained };
        assert_eq!(skip_network(&begun(ticket, ResetCause::Software)), Some(Skip::Ticket));
    }

    #[test]
    fn a_device_does_not_return_before_it_was_asked_to() {
        assert_eq!(backoff_ms(0, Some(60), 0), 60_000);
        assert_eq!(backoff_ms(0, Some(60), u32::MAX), 75_000);
        assert_eq!(backoff_ms(0, Some(1), 0), limits::BACKOFF_MS / 2, "its own backoff is longer");
        assert_eq!(backoff_ms(0, Some(u32::MAX), 0), limits::ASKED_MAX_MS);
        assert_eq!(backoff_ms(15, Some(u32::MAX), u32::MAX), limits::BACKOFF_MAX_MS);
    }

    #[test]
    fn renewal_starts_at_two_thirds() {
        let life = CertificateLife { not_before_s: 1000, not_after_s: 1000 + 90 };
        assert!(!renewal_due(life, 1059));
        assert!(renewal_due(life, 1060));
        assert!(renewal_due(CertificateLife { not_before_s: 9, not_after_s: 3 }, 9));
    }

    #[test]
    fn a_wrong_clock_is_believed_up_to_the_end_of_the_certificates() {
        let own = CertificateLife { not_before_s: 0, not_after_s: 10_000_000 };
        assert_eq!(credible_time_s(5_000_000, Some(own), Some(20_000_000)), 5_000_000);
        assert_eq!(credible_time_s(u64::MAX, Some(own), Some(20_000_000)), 10_000_000);
        let end_s = 5_000_000 - limits::TIME_FLOOR_MARGIN_S;
        assert_eq!(credible_time_s(u64::MAX, Some(own), Some(5_000_000)), end_s);
        assert_eq!(credible_time_s(u64::MAX, None, Some(0)), 0);
    }

    proptest! {
        #[test]
        fn backoff_is_bounded_and_never_nothing(failures: u8, asked: Option<u32>, jitter: u32) {
            let wait_ms = backoff_ms(failures, asked, jitter);
            prop_assert!(wait_ms >= limits::BACKOFF_MS / 2);
            prop_assert!(wait_ms <= limits::BACKOFF_MAX_MS);
        }

        #[test]
        fn a_bootable_application_is_always_started(failures: u8, jitter: u32, code in 0..Reason::ALL.len()) {
            let slot = SlotIndex(1);
            let reason = Some(Reason::ALL[code]);
            prop_assert_eq!(
                verdict(Some(slot), reason, failures, Some(u32::MAX), jitter),
                Verdict::HandOver { slot, reason }
            );
        }
    }

    /// The hundreds of the codes say what kind of failure it is.
    #[test]
    fn the_class_follows_the_hundreds() {
        for &reason in Reason::ALL {
            let expected = match reason.code() {
                1 => FailureClass::None,
                100..300 => FailureClass::Release,
                300..400 => FailureClass::Network,
                400..500 | 503 | 504 => FailureClass::Device,
                500..503 | 505..=507 => FailureClass::Circumstances,
                600..700 => FailureClass::Application,
                code => panic!("code {code} is in no hundred"),
            };
            assert_eq!(failure_class(reason), expected, "{reason:?}");
        }
    }
}
