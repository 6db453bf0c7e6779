//! Questions with one answer, as pure functions that return their reason.

use wire::{HandOverStrategy, Reason, ResetCause};

use crate::action::Verdict;
use crate::facts::{CertificateLife, SlotIndex};
use crate::limits;
use crate::retained::Retained;

/// Why the network is skipped at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The updater reset the chip itself, to hand over from pristine hardware.
    Ticket,
    /// The application woke from deep sleep.
    DeepSleepWake,
    /// The updater died too often in the network phase.
    Deaths,
}

impl Skip {
    /// The reason that the verdict carries.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Ticket | Self::DeepSleepWake => None,
            Self::Deaths => Some(Reason::NetworkPhaseDeaths),
        }
    }
}

/// May this start skip the network? Asked before anything is initialised, and again with a bootable slot known:
/// without one there is nothing to skip to. By then a ticket has not led to a hand-over, and counts no more.
#[must_use]
pub fn skip_network(retained: Retained, reset_cause: ResetCause) -> Option<Skip> {
    if retained.ticket {
        Some(Skip::Ticket)
    } else if reset_cause == ResetCause::DeepSleep {
        Some(Skip::DeepSleepWake)
    } else if retained.deaths >= limits::NETWORK_PHASE_DEATHS {
        Some(Skip::Deaths)
    } else {
        None
    }
}

/// The retained bits at the start: one more start, and one more death when the last one ended in the network
/// phase by a crash.
#[must_use]
pub fn at_start(mut retained: Retained, reset_cause: ResetCause) -> Retained {
    retained.one_more_start();
    if retained.network_phase {
        retained.network_phase = false;
        if reset_cause.is_crash() {
            retained.one_more_death();
        }
    }
    retained
}

/// The retained bits at a hand-over to `slot`. `ticket` says whether it still needs a reset of the chip.
#[must_use]
pub fn at_hand_over(retained: Retained, slot: SlotIndex, ticket: bool) -> Retained {
    Retained { slot, ticket, failures: 0, network_phase: false, ..retained }
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

/// Who is to blame for a failure, and so what is done about it besides the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody: the install went well.
    Nobody,
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

/// Who is to blame for a reason.
#[must_use]
pub fn blame(reason: Reason) -> Blame {
    match reason {
        Reason::Installed => Blame::Nobody,
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
        | Reason::NotStartable => Blame::Release,
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
        | Reason::ServerAlert => Blame::Network,
        Reason::FlashRead
        | Reason::FlashWrite
        | Reason::PartitionTable
        | Reason::Vault
        | Reason::IdentityDamaged
        | Reason::Randomness
        | Reason::Crypto
        | Reason::Internal => Blame::Device,
        Reason::NotProvisioned
        | Reason::NetworkPhaseDeaths
        | Reason::BudgetSpent
        | Reason::NothingToRun
        | Reason::UpdaterCrashes => Blame::Circumstances,
        Reason::ApplicationConfirmedItself => Blame::Application,
    }
}

/// Is a chunk that failed for this reason worth another try at this start? Not when the answer is known.
#[must_use]
pub fn worth_another_try(reason: Reason) -> bool {
    match reason {
        Reason::ChunkDigest | Reason::FlashWrite => true,
        Reason::DeviceRefused | Reason::ArtifactMissing => false,
        other => blame(other) == Blame::Network,
    }
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

/// How much of the server's time is believed. The floor never goes back, so a wrong clock at the server must not
/// move it to where no certificate is valid any more: a server that has just accepted the device's certificate cannot
/// be past the end of that, and one whose own certificate was accepted not past the end of its own.
#[must_use]
pub fn believable_time_s(
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
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_death_is_a_crash_in_the_network_phase() {
        let in_phase = Retained { network_phase: true, deaths: 2, ..Retained::default() };
        assert_eq!(at_start(in_phase, ResetCause::Watchdog).deaths, 3);
        assert_eq!(at_start(in_phase, ResetCause::External).deaths, 2);
        assert_eq!(at_start(Retained { network_phase: false, ..in_phase }, ResetCause::Panic).deaths, 2);
        assert!(!at_start(in_phase, ResetCause::Watchdog).network_phase);
    }

    #[test]
    fn the_network_is_skipped_for_three_reasons_only() {
        let retained = Retained::default();
        assert_eq!(skip_network(retained, ResetCause::PowerOn), None);
        assert_eq!(skip_network(retained, ResetCause::DeepSleep), Some(Skip::DeepSleepWake));
        assert_eq!(skip_network(Retained { deaths: 2, ..retained }, ResetCause::Panic), None);
        assert_eq!(skip_network(Retained { deaths: 3, ..retained }, ResetCause::Panic), Some(Skip::Deaths));
        let ticket = Retained { ticket: true, ..retained };
        assert_eq!(skip_network(ticket, ResetCause::Software), Some(Skip::Ticket));
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
        assert_eq!(believable_time_s(5_000_000, Some(own), Some(20_000_000)), 5_000_000);
        assert_eq!(believable_time_s(u64::MAX, Some(own), Some(20_000_000)), 10_000_000);
        let end_s = 5_000_000 - limits::TIME_FLOOR_MARGIN_S;
        assert_eq!(believable_time_s(u64::MAX, Some(own), Some(5_000_000)), end_s);
        assert_eq!(believable_time_s(u64::MAX, None, Some(0)), 0);
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

    /// The hundreds of the codes say who is to blame.
    #[test]
    fn blame_follows_the_hundreds() {
        for &reason in Reason::ALL {
            let expected = match reason.code() {
                1 => Blame::Nobody,
                100..300 => Blame::Release,
                300..400 => Blame::Network,
                400..500 | 503 | 504 => Blame::Device,
                500..503 | 505 | 506 => Blame::Circumstances,
                600..700 => Blame::Application,
                code => panic!("code {code} is in no hundred"),
            };
            assert_eq!(blame(reason), expected, "{reason:?}");
        }
    }
}
