//! The shell: performs the engine's actions on a board, and makes no choice of its own.

mod account;
mod fault;
mod flash;
mod known_damage;
mod online;
mod vaulted;

use alloc::boxed::Box;
use core::error::Error;

use manifest::Digest;
use sha2::digest::consts::U32;
use updater::{Action, Event, Failure, Key, NextKey, Retained, SlotIndex, Start, Verdict, policy};
use wire::Reason;

use crate::board::{Board, Observed};
pub use crate::flash::FlashFault;
use crate::handover;
use crate::map::Map;
use crate::region::Region;
use crate::time::FloorClock;

pub use fault::ProtocolFault;
pub use known_damage::{KnownDamage, with_vault};

use account::Account;
use online::Ask;

/// Runs one pit stop to its verdict. `start` is what [`crate::early::begin`] made of the retained register.
///
/// `known_damage` is one for the whole start: whoever writes to the vault before or after the pit stop uses it too. The
/// board's retained register is kept up to date on the way. What remains for the caller is to carry out the verdict.
pub async fn pit_stop<B: Board>(board: &mut B, start: Start, known_damage: &mut KnownDamage) -> Ended {
    let (mut state, mut action) = updater::start(start);
    let mut shell = Shell::new(board, start.retained.starts, known_damage);
    let mut account = None;
    loop {
        shell.board.observe(Observed::Acting { state: &state, action: &action });
        if let Action::Finish(verdict) = action {
            shell.disconnect(account).await;
            return shell.finish(verdict, state.retained(), start.retained.failures);
        }
        shell.board.retain_bits(state.retained().to_bits());
        let event = shell.perform(&mut account, action).await.unwrap_or_else(Event::from);
        let now_ms = shell.now_ms();
        (state, action) = updater::step(state, event, now_ms);
    }
}

/// How a pit stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Reset the chip to hand over (with chain-load the register then says [`updater::Phase::Ticket`], and the next start
    /// hands over by [`crate::early`]; by otadata the bootloader has been told), or wait and reset.
    pub verdict: Verdict,
    /// What to write to the retained register when nothing but that reset or wait is left to do: until then an end is a
    /// crash of the updater.
    pub retained_bits: u32,
}

/// A board, and what the shell holds between two actions.
struct Shell<'b, B: Board> {
    board: &'b mut B,
    clock: FloorClock,
    map: Map,
    /// Starts since power was applied.
    starts: u16,
    known_damage: &'b mut KnownDamage,
}

impl<'b, B: Board> Shell<'b, B> {
    fn new(board: &'b mut B, starts: u16, known_damage: &'b mut KnownDamage) -> Self {
        let clock = FloorClock::new(board.facts().build_time_s);
        Self { board, clock, map: Map::default(), starts, known_damage }
    }

    /// A survey that finds one fills in the account, without which there is nobody to speak for on the network.
    async fn perform(&mut self, account: &mut Option<Account<B>>, action: Action) -> Result<Event, Failure> {
        match action {
            Action::Survey(scope) => {
                let (survey, found) = self.survey(scope)?;
                *account = found;
                Ok(Event::Surveyed(Box::new(survey)))
            }
            Action::Join { timeout_ms } => Ok(self.join(known(account)?, timeout_ms).await?),
            Action::MakeKey => Ok(self.make_key()?),
            Action::Enroll { key, token, timeout_ms } => {
                self.exchange(known(account)?, Ask::Enroll { key, token }, timeout_ms).await
            }
            Action::Renew { key, timeout_ms } => {
                let key = match key {
                    NextKey::Same(key) => key,
                    NextKey::New => Key(self.new_key()?),
                };
                self.exchange(known(account)?, Ask::Renew { key }, timeout_ms).await
            }
            Action::SaveCertificate { key, chain, time_floor_s } => {
                Ok(self.save_certificate(known(account)?, key, &chain, time_floor_s)?)
            }
            Action::FetchAnchors { timeout_ms } => {
                self.exchange(known(account)?, Ask::Anchors, timeout_ms).await
            }
            Action::SaveAnchors { anchors } => Ok(self.save_anchors(known(account)?, &anchors)?),
            Action::CheckIn { check_in, timeout_ms } => {
                self.exchange(known(account)?, Ask::CheckIn(check_in), timeout_ms).await
            }
            Action::HashChunk { slot, offset_bytes, length_bytes } => {
                let slot = self.slot(slot)?;
                Ok(Event::ChunkHashed(self.hash(slot, offset_bytes, length_bytes)?))
            }
            Action::Preview(preview) => self.preview(known(account)?, &preview).await,
            Action::Invalidate { slot } => {
                let slot = self.slot(slot)?;
                self.invalidate(slot)?;
                Ok(Event::Invalidated)
            }
            Action::FetchChunk(fetch) => self.fetch_chunk(known(account)?, &fetch).await,
            Action::Seal { slot, first_sector } => {
                let slot = self.slot(slot)?;
                self.seal(slot, &first_sector)?;
                Ok(Event::Sealed)
            }
            Action::VerifySlot { slot } => {
                let slot = self.slot(slot)?;
                Ok(Event::SlotVerified(self.verify(slot)?))
            }
            Action::SaveRecord { record, outcome, time_floor_s } => {
                Ok(self.save_record(known(account)?, &record, outcome, time_floor_s)?)
            }
            Action::SaveNote { outcome } => Ok(self.save_note(outcome)?),
            Action::SaveTimeFloor { time_floor_s } => Ok(self.save_time_floor(time_floor_s)?),
            Action::ClearCrashes => Ok(self.clear_crashes()?),
            Action::CountCritical { reason } => Ok(self.count_critical(reason)?),
            Action::Report { report, timeout_ms } => {
                self.exchange(known(account)?, Ask::Report(report), timeout_ms).await
            }
            // `pit_stop` returns before it gets here.
            Action::Finish(_) => Err(Reason::Internal.into()),
        }
    }

    /// Prepares a hand-over. When it cannot be done, the device waits as without an application, after `failures` waits.
    fn finish(&mut self, verdict: Verdict, retained: Retained, failures: u8) -> Ended {
        let prepared = match verdict {
            Verdict::HandOver { slot, .. } => handover::prepare(self.board.flash(), &self.map, slot),
            Verdict::Restart { .. } => Ok(()),
        };
        let (verdict, retained) = match prepared {
            Ok(()) => (verdict, retained),
            Err(fault) => {
                let reason = self.fault(fault.reason(), &fault);
                let jitter = self.jitter();
                let verdict = policy::verdict(None, Some(reason), failures, None, jitter);
                (verdict, policy::at_restart(Retained { failures, ..retained }))
            }
        };
        Ended { verdict, retained_bits: retained.to_bits() }
    }

    fn slot(&self, slot: SlotIndex) -> Result<Region, Reason> {
        self.map.slots.get(usize::from(slot.0)).map(|slot| slot.region).ok_or(Reason::Internal)
    }

    fn now_ms(&self) -> u64 {
        use crate::platform::Timer as _;

        let now_ms = self.board.timer().now_ms();
        self.clock.set_uptime_ms(now_ms);
        now_ms
    }

    /// Tells the board of a fault and gives the engine its reason.
    fn fault(&mut self, reason: Reason, error: &(dyn Error + 'static)) -> Reason {
        self.board.observe(Observed::Fault { reason, error });
        reason
    }
}

/// The account that the survey found. The engine asks for none of this without one.
fn known<B: Board>(account: &mut Option<Account<B>>) -> Result<&mut Account<B>, Reason> {
    account.as_mut().ok_or(Reason::NotProvisioned)
}

fn digest<H: sha2::Digest<OutputSize = U32>>(hash: H) -> Digest {
    Digest(hash.finalize().into())
}
