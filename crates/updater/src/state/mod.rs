//! The states of a pit stop and the transitions between them.

mod choice;
mod closing;
mod install;
mod session;

use alloc::boxed::Box;

use manifest::Signed;
use wire::{Decision, Reason};

use crate::action::{Action, NextKey, Scope, Verdict};
use crate::carried::{Chain, Key, Token};
use crate::event::{Event, Failure};
use crate::facts::{CertificateLife, Certified, Identity};
use crate::limits;
use crate::plan::{self, Decided};
use crate::policy::{self, Skip, Start};
use crate::retained::Retained;
use choice::Choice;
use closing::{Closing, close, refuse};
use install::{Install, Progress};
use session::{Link, Session};

/// Where a pit stop stands. Every state waits for the answer to exactly one action.
///
/// ```text
///  Surveying ──► Choosing ──(the application confirmed itself)──► Remembering
///                    │                                                  │
///                    ◄──────────────────────────────────────────────────┘
///                    │
///      ┌─────────────┴─(deep-sleep wake or three crashes)──────────────────────────────────────────► Done
///      ▼                     token               key
///   Joining ───────────► MakingKey ───────► Enrolling ───────► SavingCertificate ◄──┐
///      │                                        ▲                  │      │         │
///      │ certified                     key only │                  │      │         │
///      ├────────────────────────────────────────┘                  │      │         │
///      ├──(certificate at its end)──► RenewingEnded ───────────────┼──────┼─────────┤
///      ▼                                    ▲                      │      │         │
///  CheckingIn ◄─────────────────────────────┼──────────────────────┘      │         │
///      │    └──(refused for the first time)─┘                             │         │
///      │ decision                                                         │         │
///      ├──(other trust anchors)──► FetchingAnchors ──► SavingAnchors      │         │
///      │                                  │                  │            │         │
///      │◄─────────────────────────────────┴──────────────────┘            │         │
///      ├──(at two thirds, told to, or half saved)─── Renewing ─────────────┼─────────┘
///      ▼                                                                  │
///   judge ◄───────────────────────────────────────────────────────────────┘
///      │ install
///      ▼ differs      the only application is there
///   Scanning ──────────► Previewing ──► Invalidating ───► Fetching ─────────────► Sealing
///      │  ▲ └───────────────────────────────▲                │ (others)  first      │
///      │  └─────────────────────────────────┼────────────────┘           chunk      │
///      │ all chunks equal                                                           │
///      ▼                                                                            │
///   Verifying ◄─────────────────────────────────────────────────────────────────────┘
///      │
///      ▼
///   Recording ──┐
///               ▼
///  from every state after the choice, with its reason:  Closing ► Done
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for the facts of this start.
    Surveying(Start),
    /// Waits for the verification of a slot that may be started.
    Choosing(Box<Choice>),
    /// Waits for the vault to hold that the application confirmed itself.
    Remembering(Box<Session>),
    /// Waits for a network.
    Joining(Box<Session>),
    /// Waits for the device's key to be in the vault.
    MakingKey(Box<Session>, Token),
    /// Waits for the first certificate.
    Enrolling(Box<Session>),
    /// Waits for a certificate to be in the vault.
    SavingCertificate(Box<Session>, Certified, AfterCertificate),
    /// Waits for the decision.
    CheckingIn(Box<Session>, Renewal),
    /// Waits for a certificate in place of one that may have ended; nothing is decided yet.
    RenewingEnded(Box<Session>, Sign),
    /// Waits for the server's trust anchors; the decision is known, and says that the vault has others.
    FetchingAnchors(Box<Session>, Decision),
    /// Waits for the trust anchors to be in the vault.
    SavingAnchors(Box<Session>, Decision),
    /// Waits for the next certificate; the decision is known.
    Renewing(Box<Session>, Decision),
    /// Waits for the digest of a chunk in the slot.
    Scanning(Box<Install>),
    /// Waits for the judgement on the new image, before the only application is given up for it.
    Previewing(Box<Install>),
    /// Waits for the slot's first sector to be blank.
    Invalidating(Box<Install>),
    /// Waits for a chunk to be downloaded and in flash.
    Fetching(Box<Install>),
    /// Waits for the first sector to be written.
    Sealing(Box<Install>),
    /// Waits for the whole image to be verified.
    Verifying(Box<Install>),
    /// Waits for the install record to be in the vault.
    Recording(Box<Install>),
    /// Waits for one of the last steps: what is written and said before the end.
    Closing(Box<Closing>),
    /// The pit stop is over.
    Done {
        /// How.
        verdict: Verdict,
        /// The retained register for the next start.
        retained: Retained,
    },
}

/// What to do once a certificate is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterCertificate {
    /// It is the first one, or in place of one that had ended: check in.
    CheckIn,
    /// It is a renewal: act on the decision.
    Act(Decision),
}

/// What a refused check-in leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Another certificate: this one may have ended.
    Possible,
    /// The end of the pit stop: that was tried at this start, or the certificate is new.
    Tried,
}

/// What shows that a certificate has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The time floor is past its end.
    Floor,
    /// The server has refused the check-in.
    Refusal,
}

/// Begins a pit stop. After crashes in a row it looks at nothing but the slots, and where that did not help either it
/// waits first.
#[must_use]
pub fn start(start: Start) -> (State, Action) {
    if start.waits_first() {
        let retained = policy::after_skip(start.retained);
        let verdict = policy::verdict(None, Some(Reason::UpdaterCrashes), retained.failures, None, 0);
        return end(verdict, retained, false);
    }
    let scope = match policy::skip_network(&start) {
        Some(Skip::Crashes) => Scope::Slots,
        Some(Skip::Ticket | Skip::DeepSleepWake) | None => Scope::All,
    };
    (State::Surveying(start), Action::Survey(scope))
}

/// Goes one step: `event` answers the action that came with `state`, `now_ms` is the time since the start of the
/// updater.
///
/// An event that does not answer the action ends the pit stop with [`Reason::Internal`]: the shell is wrong, and
/// an application that can be started is still started.
#[must_use]
pub fn step(state: State, event: Event, now_ms: u64) -> (State, Action) {
    match state {
        State::Surveying(start) => match event {
            Event::Surveyed(survey) => Choice::begin(Box::new(Session::new(*survey, start)), now_ms),
            other => unsurveyed(failure(other).reason, start),
        },
        State::Choosing(choice) => match event {
            Event::SlotVerified(image) => choice.verified(image, now_ms),
            // Whatever it is, this slot is not known to be good.
            _ => choice.not_verified(now_ms),
        },
        // Noted or not: what is in memory goes out with the check-in.
        State::Remembering(session) => set_out(*session, now_ms),
        State::Joining(mut session) => match event {
            Event::Joined { free_heap_bytes } => {
                session.free_heap_bytes = free_heap_bytes;
                joined(session, now_ms)
            }
            other => close(*session, failure(other)),
        },
        State::MakingKey(session, token) => match event {
            Event::KeyStored(key) => enroll(session, key, token, now_ms),
            other => close(*session, failure(other)),
        },
        State::Enrolling(session) => match event {
            Event::CertificateIssued { key, life, chain } => save_and_check_in(session, key, life, chain),
            other => close(*session, failure(other)),
        },
        State::SavingCertificate(mut session, certified, after) => match event {
            Event::Saved => {
                if let Ok(vault) = &mut session.survey.vault {
                    vault.identity = Identity::Certified(certified);
                }
                match after {
                    AfterCertificate::CheckIn => check_in(session, Renewal::Tried, now_ms),
                    AfterCertificate::Act(decision) => {
                        session.floor_is_stored();
                        act(*session, decision, now_ms)
                    }
                }
            }
            other => close(*session, failure(other)),
        },
        State::CheckingIn(session, renewal) => match (event, renewal) {
            (Event::Decided { decision, server_not_after_s }, _) => {
                decided(session, decision, server_not_after_s, now_ms)
            }
            (Event::Failed(Reason::DeviceRefused), Renewal::Possible) => {
                renew_ended(session, Sign::Refusal, now_ms)
            }
            (other, _) => close(*session, failure(other)),
        },
        State::RenewingEnded(session, sign) => match (event, sign) {
            (Event::CertificateIssued { key, life, chain }, _) => {
                save_and_check_in(session, key, life, chain)
            }
            // Whatever became of that, it is refused.
            (Event::Failed(_), Sign::Refusal) => close(*session, Reason::DeviceRefused),
            // The floor may be ahead of the time.
            (Event::Failed(_), Sign::Floor) => check_in(session, Renewal::Tried, now_ms),
            (other, _) => close(*session, failure(other)),
        },
        // Without the anchors the pit stop goes on with those that led here.
        State::FetchingAnchors(session, decision) => match event {
            Event::AnchorsFetched { digest, anchors } if decision.anchors == Some(digest) => {
                (State::SavingAnchors(session, decision), Action::SaveAnchors { anchors })
            }
            // Not those of the decision: stored, they would be fetched again at every start.
            Event::AnchorsFetched { .. } | Event::Failed(_) | Event::PutOff { .. } => {
                renew_or_act(session, decision, now_ms)
            }
            other => close(*session, failure(other)),
        },
        State::SavingAnchors(session, decision) => match event {
            Event::Saved | Event::Failed(_) => renew_or_act(session, decision, now_ms),
            other => close(*session, failure(other)),
        },
        State::Renewing(session, decision) => match event {
            Event::CertificateIssued { key, life, chain } => {
                let time_floor_s = Some(session.now_s());
                save(session, key, life, chain, time_floor_s, AfterCertificate::Act(decision))
            }
            // A third of the old certificate's life is left for another try; an update does not wait for it.
            Event::Failed(_) | Event::PutOff { .. } => act(*session, decision, now_ms),
            other => close(*session, failure(other)),
        },
        State::Scanning(install) => match event {
            Event::ChunkHashed(digest) => install.scanned(digest, now_ms),
            other => install.failed(failure(other)),
        },
        State::Previewing(install) => match event {
            Event::Previewed(digest) => install.previewed(digest, now_ms),
            other => install.not_previewed(failure(other), now_ms),
        },
        State::Invalidating(install) => match event {
            Event::Invalidated => install.invalidated(),
            other => install.failed(failure(other)),
        },
        State::Fetching(install) => match event {
            Event::ChunkHashed(digest) => install.fetched(digest, now_ms),
            Event::FirstChunkHashed { digest, first_sector } => {
                install.first_fetched(digest, first_sector, now_ms)
            }
            other => install.not_fetched(failure(other), now_ms),
        },
        State::Sealing(install) => match event {
            Event::Sealed => install.verify(),
            other => install.failed(failure(other)),
        },
        State::Verifying(install) => match event {
            Event::SlotVerified(image) => install.verified(image),
            other => install.failed(failure(other)),
        },
        State::Recording(install) => match event {
            Event::Saved => install.recorded(),
            other => install.failed(failure(other)),
        },
        // The last steps are done for the sake of the server's picture; whether they work or not, the pit stop ends.
        State::Closing(closing) => closing.next(),
        State::Done { verdict, retained } => (State::Done { verdict, retained }, Action::Finish(verdict)),
    }
}

/// The failure in an event that is not the one hoped for.
fn failure(event: Event) -> Failure {
    match event {
        Event::Failed(reason) => reason.into(),
        Event::PutOff { reason, retry_after_s } => Failure { reason, retry_after_s: Some(retry_after_s) },
        Event::Surveyed(_)
        | Event::Joined { .. }
        | Event::KeyStored(_)
        | Event::CertificateIssued { .. }
        | Event::AnchorsFetched { .. }
        | Event::Saved
        | Event::Decided { .. }
        | Event::Previewed(_)
        | Event::ChunkHashed(_)
        | Event::FirstChunkHashed { .. }
        | Event::Invalidated
        | Event::Sealed
        | Event::SlotVerified(_)
        | Event::Reported => Reason::Internal.into(),
    }
}

impl State {
    /// How far an install has come, once it is known what is in the slot already.
    #[must_use]
    pub fn install_progress(&self) -> Option<Progress<'_>> {
        match self {
            Self::Scanning(install)
            | Self::Previewing(install)
            | Self::Invalidating(install)
            | Self::Fetching(install)
            | Self::Sealing(install)
            | Self::Verifying(install)
            | Self::Recording(install) => install.progress(),
            Self::Surveying(_)
            | Self::Choosing(_)
            | Self::Remembering(_)
            | Self::Joining(_)
            | Self::MakingKey(..)
            | Self::Enrolling(..)
            | Self::SavingCertificate(..)
            | Self::CheckingIn(..)
            | Self::RenewingEnded(..)
            | Self::FetchingAnchors(..)
            | Self::SavingAnchors(..)
            | Self::Renewing(..)
            | Self::Closing(_)
            | Self::Done { .. } => None,
        }
    }

    /// What the retained register must hold while the action of this state is performed.
    #[must_use]
    pub fn retained(&self) -> Retained {
        match self {
            Self::Surveying(start) => start.retained,
            Self::Choosing(choice) => choice.retained(),
            Self::Remembering(session)
            | Self::Joining(session)
            | Self::MakingKey(session, _)
            | Self::Enrolling(session)
            | Self::SavingCertificate(session, ..)
            | Self::CheckingIn(session, _)
            | Self::RenewingEnded(session, ..)
            | Self::FetchingAnchors(session, _)
            | Self::SavingAnchors(session, _)
            | Self::Renewing(session, ..) => session.start.retained,
            Self::Scanning(install)
            | Self::Previewing(install)
            | Self::Invalidating(install)
            | Self::Fetching(install)
            | Self::Sealing(install)
            | Self::Verifying(install)
            | Self::Recording(install) => install.session.start.retained,
            Self::Closing(closing) => closing.session().start.retained,
            Self::Done { retained, .. } => *retained,
        }
    }
}

/// It is known what can be started.
pub(crate) fn chosen(mut session: Box<Session>, now_ms: u64) -> (State, Action) {
    let budget_ms =
        if session.boot_slot().is_some() { limits::BUDGET_MS } else { limits::BUDGET_WITHOUT_APP_MS };
    session.deadline_ms = budget_ms.max(now_ms.saturating_add(limits::NETWORK_MS));
    match session.remember_confirmation() {
        Some(outcome) => (State::Remembering(session), Action::SaveNote { outcome }),
        None => set_out(*session, now_ms),
    }
}

/// Hand over at once, or go to the network.
fn set_out(mut session: Session, now_ms: u64) -> (State, Action) {
    match policy::skip_network(&session.start) {
        // With nothing to start it waits all the same: whatever crashes the updater would do so again.
        Some(skip @ Skip::Crashes) => {
            session.start.retained = policy::after_skip(session.start.retained);
            return session.finish(skip.reason());
        }
        Some(skip @ Skip::DeepSleepWake) if session.boot_slot().is_some() => {
            return session.finish(skip.reason());
        }
        // A ticket that comes to a pit stop is spent.
        Some(Skip::DeepSleepWake | Skip::Ticket) | None => {}
    }
    let is_writable = session.vault_is_writable();
    match session.survey.vault.as_ref().map(|vault| &vault.identity) {
        Err(&reason) => close(session, reason),
        // What a server sends could not be kept.
        Ok(Identity::Token(_) | Identity::Key { .. }) if !is_writable => close(session, Reason::Vault),
        Ok(Identity::Damaged) => close(session, Reason::IdentityDamaged),
        Ok(Identity::Missing) => close(session, Reason::NotProvisioned),
        Ok(Identity::Token(_) | Identity::Key { .. } | Identity::Certified(_)) => {
            match session.timeout_ms(limits::JOIN_MS, now_ms + limits::EXCHANGE_LEAST_MS) {
                Some(timeout_ms) => (State::Joining(Box::new(session)), Action::Join { timeout_ms }),
                None => close(session, Reason::BudgetSpent),
            }
        }
    }
}

fn joined(session: Box<Session>, now_ms: u64) -> (State, Action) {
    match session.survey.vault.as_ref().map(|vault| vault.identity.clone()) {
        Ok(Identity::Token(token)) => (State::MakingKey(session, token), Action::MakeKey),
        Ok(Identity::Key { key, token }) => enroll(session, key, token, now_ms),
        Ok(Identity::Certified(certified)) if policy::has_ended(certified.life, session.now_s()) => {
            renew_ended(session, Sign::Floor, now_ms)
        }
        Ok(Identity::Certified(_)) => check_in(session, Renewal::Possible, now_ms),
        Ok(Identity::Damaged) => close(*session, Reason::IdentityDamaged),
        Ok(Identity::Missing) => close(*session, Reason::NotProvisioned),
        Err(&reason) => close(*session, reason),
    }
}

fn enroll(session: Box<Session>, key: Key, token: Token, now_ms: u64) -> (State, Action) {
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) => (State::Enrolling(session), Action::Enroll { key, token, timeout_ms }),
        None => close(*session, Reason::BudgetSpent),
    }
}

fn save_and_check_in(
    session: Box<Session>,
    key: Key,
    life: CertificateLife,
    chain: Chain,
) -> (State, Action) {
    save(session, key, life, chain, None, AfterCertificate::CheckIn)
}

fn save(
    session: Box<Session>,
    key: Key,
    life: CertificateLife,
    chain: Chain,
    time_floor_s: Option<u64>,
    after: AfterCertificate,
) -> (State, Action) {
    let certified = Certified { key: key.clone(), life, is_half_saved: false };
    (
        State::SavingCertificate(session, certified, after),
        Action::SaveCertificate { key, chain, time_floor_s },
    )
}

fn check_in(session: Box<Session>, renewal: Renewal, now_ms: u64) -> (State, Action) {
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) => {
            let check_in = session.check_in();
            (State::CheckingIn(session, renewal), Action::CheckIn { check_in, timeout_ms })
        }
        None => close(*session, Reason::BudgetSpent),
    }
}

/// Asks for a certificate before anything is decided, once at a start: whether the present one has ended the server knows,
/// and whether it may be renewed. What is issued to a vault that cannot be written would be lost.
fn renew_ended(session: Box<Session>, sign: Sign, now_ms: u64) -> (State, Action) {
    let key =
        certified(&session).filter(|_| session.vault_is_writable()).map(|certified| certified.key.clone());
    match (key, session.timeout_ms(limits::EXCHANGE_MS, now_ms), sign) {
        (Some(key), Some(timeout_ms), _) => {
            // It has no decision to know by whether the key is to be a new one.
            (State::RenewingEnded(session, sign), Action::Renew { key: NextKey::Same(key), timeout_ms })
        }
        (None, _, Sign::Floor) | (_, None, Sign::Floor) => check_in(session, Renewal::Tried, now_ms),
        (None, _, Sign::Refusal) | (_, None, Sign::Refusal) => close(*session, Reason::DeviceRefused),
    }
}

fn decided(
    mut session: Box<Session>,
    decision: Decision,
    server_not_after_s: Option<u64>,
    now_ms: u64,
) -> (State, Action) {
    let own = certified(&session).map(|certified| certified.life);
    let server_time_s = policy::credible_time_s(decision.server_time_s, own, server_not_after_s);
    session.link = Link::Authenticated { server_time_s, backoff_s: decision.backoff_s };
    if !session.vault_is_writable() {
        // The server knows how the device is. What it wants done would have to be written down.
        return Closing::begin(*session, Some(Reason::Vault), None);
    }
    let own_anchors = session.survey.vault.as_ref().map(|vault| vault.anchors).ok();
    let others = decision.anchors.is_some() && decision.anchors != own_anchors;
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) if others => {
            (State::FetchingAnchors(session, decision), Action::FetchAnchors { timeout_ms })
        }
        Some(_) | None => renew_or_act(session, decision, now_ms),
    }
}

/// Renews the certificate when it is time, or when the server asks for it; else acts on the decision.
fn renew_or_act(session: Box<Session>, decision: Decision, now_ms: u64) -> (State, Action) {
    let due =
        certified(&session).and_then(|certified| policy::renewal(certified, &decision, session.now_s()));
    match (due, session.timeout_ms(limits::EXCHANGE_MS, now_ms)) {
        (Some(key), Some(timeout_ms)) => {
            (State::Renewing(session, decision), Action::Renew { key, timeout_ms })
        }
        (None, _) | (_, None) => act(*session, decision, now_ms),
    }
}

fn certified(session: &Session) -> Option<&Certified> {
    match &session.survey.vault.as_ref().ok()?.identity {
        Identity::Certified(certified) => Some(certified),
        Identity::Missing | Identity::Token(_) | Identity::Key { .. } | Identity::Damaged => None,
    }
}

/// Acts on a decision: verify first, judge then, plan last.
fn act(session: Session, decision: Decision, now_ms: u64) -> (State, Action) {
    let vault = match &session.survey.vault {
        Ok(vault) => vault,
        Err(reason) => {
            let reason = *reason;
            return close(session, reason);
        }
    };
    let Some(bytes) = decision.manifest else {
        return Closing::begin(session, None, None);
    };
    let signed = Signed::from_bytes(bytes.into());
    let manifest = match signed.verify(&vault.publishers) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(session, None, manifest_reason(&error)),
    };
    let sequence = manifest.sequence;
    match plan::plan(&session.survey, vault, session.boot_slot(), manifest, session.now_s()) {
        Decided::UpToDate => Closing::begin(session, None, None),
        Decided::Refuse(reason) => refuse(session, Some(sequence.0), reason),
        Decided::Install(plan) => Install::begin(session, plan, now_ms),
    }
}

fn manifest_reason(error: &manifest::VerifyError) -> Reason {
    match error {
        manifest::VerifyError::Malformed(_) => Reason::ManifestMalformed,
        manifest::VerifyError::Signature => Reason::ManifestSignature,
        manifest::VerifyError::Algorithm { .. }
        | manifest::VerifyError::Manifest(manifest::ManifestError::Format { .. }) => {
            Reason::ManifestUnsupported
        }
        manifest::VerifyError::Manifest(_) => Reason::ManifestMalformed,
    }
}

/// Ends a pit stop whose survey failed: nothing is known that could be started.
fn unsurveyed(reason: Reason, start: Start) -> (State, Action) {
    let retained = policy::after_skip(start.retained);
    end(policy::verdict(None, Some(reason), retained.failures, None, 0), retained, false)
}

/// `ticket` is for a hand-over; a restart must come back to the network.
pub(crate) fn end(verdict: Verdict, retained: Retained, ticket: bool) -> (State, Action) {
    let retained = match verdict {
        Verdict::HandOver { slot, .. } => policy::at_hand_over(retained, slot, ticket),
        Verdict::Restart { .. } => policy::at_restart(retained),
    };
    (State::Done { verdict, retained }, Action::Finish(verdict))
}
