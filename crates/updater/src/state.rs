//! The states of a pit stop and the transitions between them.

use alloc::boxed::Box;

use manifest::Signed;
use wire::{CheckIn, Decision, Outcome, PROTOCOL_VERSION, Reason, Report, ResetCause};

use crate::action::{Action, Verdict};
use crate::event::{Event, Failure};
use crate::facts::{CertificateLife, Identity, Survey};
use crate::install::{Install, Progress};
use crate::plan::{self, Decided};
use crate::policy::{self, Blame, Skip};
use crate::retained::Retained;
use crate::{limits, record};

/// Where a pit stop stands. Every state waits for the answer to exactly one action.
///
/// ```text
///  Surveying ──(the application confirmed itself)──► Remembering
///      │                                                  │
///      ◄──────────────────────────────────────────────────┘
///      │
///      ├──(deep-sleep wake or three deaths; a slot is bootable)────────────────────────────────────────► Done
///      ▼                  no key            no certificate
///   Joining ───────────► MakingKey ───────► Enrolling ───────► SavingCertificate ◄──┐
///      │                                        ▲                  │      │         │
///      │ certified                     key only │                  │      │         │
///      ├────────────────────────────────────────┘                  │      │         │
///      ▼                                                           │      │         │
///  CheckingIn ◄────────────────────────────────────────────────────┘      │         │
///      │ decision                                                         │         │
///      ├──(other trust anchors)──► FetchingAnchors ──► SavingAnchors      │         │
///      │                                  │                  │            │         │
///      │◄─────────────────────────────────┴──────────────────┘            │         │
///      ├──(certificate at two thirds, or told to)── Renewing ─────────────┼─────────┘
///      ▼                                                                  │
///   judge ◄───────────────────────────────────────────────────────────────┘
///      │ install
///      ▼          differs                                 first chunk
///   Scanning ───────────► Invalidating ───► Fetching ────────────────► Sealing
///      │  ▲                                    │ (others)                 │
///      │  └────────────────────────────────────┘                         │
///      │ all chunks equal                                                │
///      ▼                                                                 │
///   Verifying ◄──────────────────────────────────────────────────────────┘
///      │
///      ▼
///   Recording ──┐
///               ▼
///  from every state after the survey, with its reason:  Counting ► Noting ► RaisingFloor ► Reporting ► Done
///  (Counting only for critical errors, Noting only for refusals that the vault does not hold yet,
///  RaisingFloor only when server time is a week ahead, Reporting only online)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for the facts of this start.
    Surveying {
        /// The retained bits, this start counted.
        retained: Retained,
        /// Why the chip reset.
        reset_cause: ResetCause,
    },
    /// Waits for the vault to hold that the application confirmed itself.
    Remembering(Box<Session>),
    /// Waits for a network.
    Joining(Box<Session>),
    /// Waits for the device's key to be in the vault.
    MakingKey(Box<Session>),
    /// Waits for the first certificate.
    Enrolling(Box<Session>),
    /// Waits for a certificate to be in the vault.
    SavingCertificate(Box<Session>, CertificateLife, AfterCertificate),
    /// Waits for the decision.
    CheckingIn(Box<Session>),
    /// Waits for the server's trust anchors; the decision is known, and says that the vault has others.
    FetchingAnchors(Box<Session>, Decision),
    /// Waits for the trust anchors to be in the vault.
    SavingAnchors(Box<Session>, Decision),
    /// Waits for the next certificate; the decision is known.
    Renewing(Box<Session>, Decision),
    /// Waits for the digest of a chunk in the slot.
    Scanning(Box<Install>),
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
    /// Waits for a critical error to be in the journal.
    Counting(Box<Closing>),
    /// Waits for a refusal to be in the vault.
    Noting(Box<Closing>),
    /// Waits for the time floor to be in the vault.
    RaisingFloor(Box<Closing>),
    /// Waits for the server to hear of it.
    Reporting(Box<Closing>),
    /// The pit stop is over.
    Done {
        /// How.
        verdict: Verdict,
        /// The retained bits for the next start.
        retained: Retained,
    },
}

/// What to do once a certificate is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterCertificate {
    /// It is the first one: check in.
    CheckIn,
    /// It is a renewal: act on the decision.
    Act(Decision),
}

/// What a pit stop knows while it may still end in many ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(crate) survey: Survey,
    pub(crate) retained: Retained,
    reset_cause: ResetCause,
    /// The decision must have come by then.
    deadline_ms: u64,
    free_heap_bytes: Option<u32>,
    pub(crate) link: Link,
    /// What the server said, when it put the device off: not before so many seconds.
    put_off_s: Option<u32>,
    pub(crate) downloaded_bytes: u32,
    pub(crate) erased_bytes: u32,
}

/// How far this start has come on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The server has not spoken with authority yet.
    Silent,
    /// The server has answered a check-in over mutual TLS; its time as far as it is believable.
    Authenticated { server_time_s: u64, backoff_s: Option<u32> },
}

/// The end of a pit stop, of which a few steps are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    session: Session,
    /// Why it ends; `None` when there was nothing to do.
    reason: Option<Reason>,
    /// What the server shall know.
    outcome: Option<Outcome>,
}

/// Begins a pit stop.
#[must_use]
pub fn start(retained: Retained, reset_cause: ResetCause) -> (State, Action) {
    let retained = policy::at_start(retained, reset_cause);
    (State::Surveying { retained, reset_cause }, Action::Survey)
}

/// Goes one step: `event` answers the action that came with `state`, `now_ms` is the time since the start of the
/// updater.
///
/// An event that does not answer the action ends the pit stop with [`Reason::Internal`]: the shell is wrong, and
/// an application that can be started is still started.
#[must_use]
pub fn step(state: State, event: Event, now_ms: u64) -> (State, Action) {
    match state {
        State::Surveying { retained, reset_cause } => match event {
            Event::Surveyed(survey) => surveyed(*survey, retained, reset_cause, now_ms),
            other => unsurveyed(failure(other).reason, retained),
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
        State::MakingKey(session) => match event {
            Event::KeyStored => enroll(session, now_ms),
            other => close(*session, failure(other)),
        },
        State::Enrolling(session) => match event {
            Event::CertificateIssued(life) => (
                State::SavingCertificate(session, life, AfterCertificate::CheckIn),
                Action::SaveCertificate { time_floor_s: None },
            ),
            other => close(*session, failure(other)),
        },
        State::SavingCertificate(mut session, life, after) => match event {
            Event::Saved => {
                if let Ok(vault) = &mut session.survey.vault {
                    vault.identity = Identity::Certified(life);
                }
                match after {
                    AfterCertificate::CheckIn => check_in(session, now_ms),
                    AfterCertificate::Act(decision) => {
                        session.floor_is_stored();
                        act(*session, decision, now_ms)
                    }
                }
            }
            other => close(*session, failure(other)),
        },
        State::CheckingIn(session) => match event {
            Event::Decided { decision, server_not_after_s } => {
                decided(session, decision, server_not_after_s, now_ms)
            }
            other => close(*session, failure(other)),
        },
        // Without the anchors the pit stop goes on with those that led here.
        State::FetchingAnchors(session, decision) => match event {
            Event::AnchorsFetched(digest) if decision.anchors == Some(digest) => {
                (State::SavingAnchors(session, decision), Action::SaveAnchors)
            }
            // Not those of the decision: stored, they would be fetched again at every start.
            Event::AnchorsFetched(_) | Event::Failed(_) | Event::PutOff { .. } => {
                renew_or_act(session, decision, now_ms)
            }
            other => close(*session, failure(other)),
        },
        State::SavingAnchors(session, decision) => match event {
            Event::Saved | Event::Failed(_) => renew_or_act(session, decision, now_ms),
            other => close(*session, failure(other)),
        },
        State::Renewing(session, decision) => match event {
            Event::CertificateIssued(life) => {
                let time_floor_s = Some(session.now_s());
                (
                    State::SavingCertificate(session, life, AfterCertificate::Act(decision)),
                    Action::SaveCertificate { time_floor_s },
                )
            }
            // A third of the old certificate's life is left for another try; an update does not wait for it.
            Event::Failed(_) | Event::PutOff { .. } => act(*session, decision, now_ms),
            other => close(*session, failure(other)),
        },
        State::Scanning(install) => match event {
            Event::ChunkHashed(digest) => install.scanned(digest, now_ms),
            other => install.failed(failure(other)),
        },
        State::Invalidating(install) => match event {
            Event::Invalidated => install.invalidated(),
            other => install.failed(failure(other)),
        },
        State::Fetching(install) => match event {
            Event::ChunkHashed(digest) => install.fetched(digest, now_ms),
            other => install.not_fetched(failure(other), now_ms),
        },
        State::Sealing(install) => match event {
            Event::Sealed => install.sealed(),
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
        State::Counting(closing) => closing.note(),
        State::Noting(closing) => closing.raise_floor(),
        State::RaisingFloor(closing) => closing.report(),
        State::Reporting(closing) => closing.finish(),
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
        | Event::KeyStored
        | Event::CertificateIssued(_)
        | Event::AnchorsFetched(_)
        | Event::Saved
        | Event::Decided { .. }
        | Event::ChunkHashed(_)
        | Event::Invalidated
        | Event::Sealed
        | Event::SlotVerified(_)
        | Event::Reported => Reason::Internal.into(),
    }
}

impl State {
    /// How far an install has come, while there is one.
    #[must_use]
    pub fn install_progress(&self) -> Option<Progress<'_>> {
        match self {
            Self::Scanning(install)
            | Self::Invalidating(install)
            | Self::Fetching(install)
            | Self::Sealing(install)
            | Self::Verifying(install)
            | Self::Recording(install) => Some(install.progress()),
            Self::Surveying { .. }
            | Self::Remembering(_)
            | Self::Joining(_)
            | Self::MakingKey(_)
            | Self::Enrolling(_)
            | Self::SavingCertificate(..)
            | Self::CheckingIn(_)
            | Self::FetchingAnchors(..)
            | Self::SavingAnchors(..)
            | Self::Renewing(..)
            | Self::Counting(_)
            | Self::Noting(_)
            | Self::RaisingFloor(_)
            | Self::Reporting(_)
            | Self::Done { .. } => None,
        }
    }

    /// The retained bits as they must stand while the action of this state is performed.
    #[must_use]
    pub fn retained(&self) -> Retained {
        match self {
            Self::Surveying { retained, .. } | Self::Done { retained, .. } => *retained,
            Self::Remembering(session)
            | Self::Joining(session)
            | Self::MakingKey(session)
            | Self::Enrolling(session)
            | Self::SavingCertificate(session, ..)
            | Self::CheckingIn(session)
            | Self::FetchingAnchors(session, _)
            | Self::SavingAnchors(session, _)
            | Self::Renewing(session, _) => session.retained,
            Self::Scanning(install)
            | Self::Invalidating(install)
            | Self::Fetching(install)
            | Self::Sealing(install)
            | Self::Verifying(install)
            | Self::Recording(install) => install.session.retained,
            Self::Counting(closing)
            | Self::Noting(closing)
            | Self::RaisingFloor(closing)
            | Self::Reporting(closing) => closing.session.retained,
        }
    }
}

fn surveyed(survey: Survey, retained: Retained, reset_cause: ResetCause, now_ms: u64) -> (State, Action) {
    let boot_slot = survey.boot_slot();
    // A ticket that comes to a pit stop found nothing that could be started before it. Skipping the network for it
    // again would be a way round and round without an update that could help.
    let retained = Retained { ticket: false, ..retained };
    let budget_ms = if boot_slot.is_some() { limits::BUDGET_MS } else { limits::BUDGET_WITHOUT_APP_MS };
    let mut session = Session {
        survey,
        retained,
        reset_cause,
        deadline_ms: budget_ms,
        free_heap_bytes: None,
        link: Link::Silent,
        put_off_s: None,
        downloaded_bytes: 0,
        erased_bytes: 0,
    };
    match session.remember_confirmation() {
        Some(outcome) => (State::Remembering(Box::new(session)), Action::SaveNote { outcome }),
        None => set_out(session, now_ms),
    }
}

/// The facts are known: hand over at once, or go to the network.
fn set_out(mut session: Session, now_ms: u64) -> (State, Action) {
    let skip = policy::skip_network(session.retained, session.reset_cause);
    if let (Some(skip), Some(_)) = (skip, session.survey.boot_slot()) {
        if skip == Skip::Deaths {
            // Skip once: the next start tries again, and one more death skips again.
            session.retained.deaths = limits::NETWORK_PHASE_DEATHS - 1;
        }
        return session.finish(skip.reason());
    }
    if let Err(reason) = session.survey.vault {
        return close(session, reason);
    }
    match session.timeout_ms(limits::JOIN_MS, now_ms) {
        Some(timeout_ms) => {
            session.retained.network_phase = true;
            (State::Joining(Box::new(session)), Action::Join { timeout_ms })
        }
        None => close(session, Reason::BudgetSpent),
    }
}

fn joined(session: Box<Session>, now_ms: u64) -> (State, Action) {
    match session.survey.vault.as_ref().map(|vault| vault.identity) {
        Ok(Identity::Nothing) => (State::MakingKey(session), Action::MakeKey),
        Ok(Identity::Key) => enroll(session, now_ms),
        Ok(Identity::Certified(_)) => check_in(session, now_ms),
        Err(&reason) => close(*session, reason),
    }
}

fn enroll(session: Box<Session>, now_ms: u64) -> (State, Action) {
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) => (State::Enrolling(session), Action::Enroll { timeout_ms }),
        None => close(*session, Reason::BudgetSpent),
    }
}

fn check_in(session: Box<Session>, now_ms: u64) -> (State, Action) {
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) => {
            let check_in = session.check_in();
            (State::CheckingIn(session), Action::CheckIn { check_in, timeout_ms })
        }
        None => close(*session, Reason::BudgetSpent),
    }
}

fn decided(
    mut session: Box<Session>,
    decision: Decision,
    server_not_after_s: Option<u64>,
    now_ms: u64,
) -> (State, Action) {
    let own = match session.survey.vault.as_ref().map(|vault| vault.identity) {
        Ok(Identity::Certified(life)) => Some(life),
        Ok(Identity::Nothing | Identity::Key) | Err(_) => None,
    };
    let server_time_s = policy::believable_time_s(decision.server_time_s, own, server_not_after_s);
    session.link = Link::Authenticated { server_time_s, backoff_s: decision.backoff_s };
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
    let due = match session.survey.vault.as_ref().map(|vault| vault.identity) {
        Ok(Identity::Certified(life)) => {
            decision.renew == Some(true) || policy::renewal_due(life, session.now_s())
        }
        Ok(Identity::Nothing | Identity::Key) | Err(_) => false,
    };
    match session.timeout_ms(limits::EXCHANGE_MS, now_ms) {
        Some(timeout_ms) if due => (State::Renewing(session, decision), Action::Renew { timeout_ms }),
        Some(_) | None => act(*session, decision, now_ms),
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
        return Closing { session, reason: None, outcome: None }.note();
    };
    let signed = Signed::from_bytes(bytes.into());
    let manifest = match signed.verify(&vault.publishers) {
        Ok(manifest) => manifest,
        Err(error) => return refuse(session, None, manifest_reason(&error)),
    };
    let sequence = manifest.sequence;
    match plan::plan(&session.survey, vault, manifest, session.now_s()) {
        Decided::UpToDate => Closing { session, reason: None, outcome: None }.note(),
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

pub(crate) fn refuse(
    mut session: Session,
    sequence: Option<u64>,
    failure: impl Into<Failure>,
) -> (State, Action) {
    let Failure { reason, retry_after_s } = failure.into();
    session.put_off_s = retry_after_s;
    let outcome = Some(Outcome { sequence, reason: reason.code() });
    Closing { session, reason: Some(reason), outcome }.count()
}

/// Ends a pit stop that found no release to blame.
pub(crate) fn close(session: Session, failure: impl Into<Failure>) -> (State, Action) {
    refuse(session, None, failure)
}

/// Ends a pit stop that installed a release.
pub(crate) fn close_installed(session: Session, outcome: Outcome) -> (State, Action) {
    Closing { session, reason: Some(Reason::Installed), outcome: Some(outcome) }.raise_floor()
}

impl Closing {
    fn count(self) -> (State, Action) {
        match self.reason {
            Some(reason) if policy::blame(reason) == Blame::Device => {
                (State::Counting(Box::new(self)), Action::CountCritical { reason })
            }
            Some(_) | None => self.note(),
        }
    }

    fn note(self) -> (State, Action) {
        let known = self.session.survey.vault.as_ref().ok().and_then(|vault| vault.last_outcome);
        let blames_release = self.reason.is_some_and(|reason| policy::blame(reason) == Blame::Release);
        match self.outcome {
            Some(outcome) if blames_release && known != Some(outcome) => {
                (State::Noting(Box::new(self)), Action::SaveNote { outcome })
            }
            Some(_) | None => self.raise_floor(),
        }
    }

    fn raise_floor(self) -> (State, Action) {
        match (self.session.link, &self.session.survey.vault) {
            (Link::Authenticated { server_time_s, .. }, Ok(vault))
                if policy::time_floor_due(vault.time_floor_s, server_time_s) =>
            {
                let action = Action::SaveTimeFloor { time_floor_s: server_time_s };
                (State::RaisingFloor(Box::new(self)), action)
            }
            (Link::Silent | Link::Authenticated { .. }, Ok(_) | Err(_)) => self.report(),
        }
    }

    fn report(self) -> (State, Action) {
        // A server that asks for patience is not asked to listen.
        let heard = self.outcome.filter(|_| self.session.put_off_s.is_none());
        match (self.session.link, heard) {
            (Link::Authenticated { .. }, Some(outcome)) => {
                let report = Report {
                    protocol: PROTOCOL_VERSION,
                    outcome,
                    running_digest: self.session.survey.running().map(|running| running.digest),
                    downloaded_bytes: Some(self.session.downloaded_bytes),
                    erased_bytes: Some(self.session.erased_bytes),
                };
                let timeout_ms = limits::REPORT_MS;
                (State::Reporting(Box::new(self)), Action::Report { report, timeout_ms })
            }
            (Link::Silent | Link::Authenticated { .. }, _) => self.finish(),
        }
    }

    fn finish(self) -> (State, Action) {
        let mut session = self.session;
        session.retained.deaths = 0;
        session.finish(self.reason)
    }
}

impl Session {
    fn finish(self, reason: Option<Reason>) -> (State, Action) {
        let boot_slot = self.survey.boot_slot();
        let backoff_s = match self.link {
            Link::Silent => None,
            Link::Authenticated { backoff_s, .. } => backoff_s,
        };
        let (failures, jitter) = (self.retained.failures, self.survey.jitter);
        let asked_s = self.put_off_s.max(backoff_s);
        let verdict = policy::verdict(boot_slot, reason, failures, asked_s, jitter);
        end(verdict, self.retained, policy::needs_ticket(self.survey.strategy))
    }

    /// What is left of `timeout_ms` and of the budget; `None` when nothing is.
    pub(crate) fn timeout_ms(&self, timeout_ms: u64, now_ms: u64) -> Option<u64> {
        Some(self.deadline_ms.saturating_sub(now_ms).min(timeout_ms)).filter(|left_ms| *left_ms > 0)
    }

    /// The best knowledge of the time: never before the time floor, whatever a server says.
    pub(crate) fn now_s(&self) -> u64 {
        let floor_s = self.survey.vault.as_ref().map_or(0, |vault| vault.time_floor_s);
        match self.link {
            Link::Silent => floor_s,
            Link::Authenticated { server_time_s, .. } => server_time_s.max(floor_s),
        }
    }

    /// Notes that the vault holds the present time as its floor.
    pub(crate) fn floor_is_stored(&mut self) {
        let now_s = self.now_s();
        if let Ok(vault) = &mut self.survey.vault {
            vault.time_floor_s = now_s;
        }
    }

    pub(crate) fn store_record(&mut self, record: record::InstallRecord) {
        if let Ok(vault) = &mut self.survey.vault {
            vault.record = Some(record);
        }
    }

    /// Takes an application that confirmed itself for the last outcome, under the number of its release. Returns it
    /// when the vault does not hold it yet.
    fn remember_confirmation(&mut self) -> Option<Outcome> {
        let vault = self.survey.vault.as_mut().ok().filter(|_| self.survey.confirmed_itself)?;
        let sequence = vault.record.as_ref().map(|record| record.sequence.0);
        let outcome = Outcome { sequence, reason: Reason::ApplicationConfirmedItself.code() };
        (vault.last_outcome.replace(outcome) != Some(outcome)).then_some(outcome)
    }

    fn check_in(&self) -> CheckIn {
        CheckIn {
            protocol: PROTOCOL_VERSION,
            running: self.survey.running(),
            slots: self
                .survey
                .slots
                .iter()
                .map(|slot| wire::Slot {
                    label: slot.label.clone(),
                    size_bytes: slot.size_bytes,
                    bootable: slot.image.is_some(),
                })
                .collect(),
            chip_id: self.survey.chip_id,
            updater_version: self.survey.updater_version.clone(),
            reset_cause: self.reset_cause,
            starts: u32::from(self.retained.starts),
            last_outcome: self.survey.vault.as_ref().ok().and_then(|vault| vault.last_outcome),
            free_heap_bytes: self.free_heap_bytes,
            strategy: self.survey.strategy,
            critical_errors: self.survey.critical_errors,
            last_critical: self.survey.last_critical,
            anchors: self.survey.vault.as_ref().ok().map(|vault| vault.anchors),
        }
    }
}

/// Ends a pit stop whose survey failed: nothing is known that could be started.
fn unsurveyed(reason: Reason, retained: Retained) -> (State, Action) {
    end(policy::verdict(None, Some(reason), retained.failures, None, 0), retained, false)
}

/// `ticket` is for a hand-over; a restart must come back to the network.
fn end(verdict: Verdict, retained: Retained, ticket: bool) -> (State, Action) {
    let retained = match verdict {
        Verdict::HandOver { slot, .. } => policy::at_hand_over(retained, slot, ticket),
        Verdict::Restart { .. } => {
            let mut retained = Retained { network_phase: false, ticket: false, ..retained };
            retained.one_more_failure();
            retained
        }
    };
    (State::Done { verdict, retained }, Action::Finish(verdict))
}
