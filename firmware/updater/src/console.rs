//! The console: what the updater does, for a person at the serial port.
//!
//! ```text
//! pitstop 0.1.0 on ESP32-C3, reset by power-on
//! pitstop joins the network
//! pitstop installs 1.1.0 into slot 0: 42 %
//! pitstop fault 302: the server cannot be reached: the server did not accept a connection
//! pitstop hands over to slot 0
//! ```
//!
//! Nothing secret is ever printed: no key, no token, no passphrase.

use core::error::Error;
use core::fmt;

use updater::{Action, State, Verdict};
use updater_io::board::Observed;
use wire::ResetCause;

use crate::chip::CHIP;

/// Prints one line.
macro_rules! line {
    ($($argument:tt)*) => { esp_println::println!("pitstop {}", format_args!($($argument)*)) };
}
pub(crate) use line;

/// An install says how far it is at every so many percent.
const PERCENT_STEP: u8 = 5;

/// The first line of a pit stop.
pub(crate) fn print_start(reset_cause: ResetCause) {
    line!("{} on {CHIP}, reset by {}", env!("CARGO_PKG_VERSION"), told(reset_cause));
}

fn told(reset_cause: ResetCause) -> &'static str {
    match reset_cause {
        ResetCause::Unknown => "an unknown cause",
        ResetCause::PowerOn => "power-on",
        ResetCause::Software => "software",
        ResetCause::Panic => "panic",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Brownout => "brownout",
        ResetCause::DeepSleep => "deep sleep",
        ResetCause::UpdaterCrash => "a crash of the updater",
        ResetCause::External => "the reset pin",
    }
}

/// The last line of a pit stop.
pub(crate) fn print_verdict(verdict: &Verdict) {
    match verdict {
        Verdict::HandOver { slot, reason: None } => line!("hands over to slot {}", slot.0),
        Verdict::HandOver { slot, reason: Some(reason) } => {
            line!("hands over to slot {}: {reason} ({})", slot.0, reason.code());
        }
        Verdict::Restart { after_ms, reason } => {
            line!("has nothing to start, tries again in {} s: {reason} ({})", after_ms / 1000, reason.code());
        }
    }
}

/// Tells what happens at a pit stop.
#[derive(Default)]
pub(crate) struct Console {
    /// Percent that were told last, while there is an install.
    told_percent: Option<u8>,
}

impl Console {
    pub(crate) fn print(&mut self, observed: Observed<'_>) {
        match observed {
            Observed::Acting { state, action } => {
                if let Some(text) = narration(action) {
                    line!("{text}");
                }
                self.print_progress(state);
            }
            Observed::Received { .. } => {}
            Observed::Fault { reason, error } => {
                line!("fault {}: {reason}: {}", reason.code(), Causes(error));
            }
        }
    }

    fn print_progress(&mut self, state: &State) {
        let Some(progress) = state.install_progress() else {
            self.told_percent = None;
            return;
        };
        let percent = u64::from(progress.verified_bytes) * 100 / u64::from(progress.size_bytes).max(1);
        let step = percent as u8 / PERCENT_STEP * PERCENT_STEP;
        if self.told_percent != Some(step) {
            line!("installs {}: {step} %", progress.version);
            self.told_percent = Some(step);
        }
    }
}

/// What an action is called; nothing for those that progress tells of, or that are over at once.
fn narration(action: &Action) -> Option<&'static str> {
    match action {
        Action::Survey(_) => Some("looks at the slots"),
        Action::Join { .. } => Some("joins the network"),
        Action::MakeKey => Some("makes its key"),
        Action::Enroll { .. } => Some("enrolls"),
        Action::Renew { .. } => Some("renews its certificate"),
        Action::SaveCertificate { .. } => Some("has a new certificate"),
        Action::FetchAnchors { .. } => Some("asks for trust anchors"),
        Action::SaveAnchors { .. } => Some("has new trust anchors"),
        Action::CheckIn { .. } => Some("checks in"),
        Action::Preview(_) => Some("looks at the new image"),
        Action::VerifySlot { .. } => Some("verifies the image"),
        Action::SaveRecord { .. } => Some("has installed the release"),
        Action::Report { .. } => Some("reports"),
        Action::HashChunk { .. }
        | Action::Invalidate { .. }
        | Action::FetchChunk(_)
        | Action::Seal { .. }
        | Action::SaveNote { .. }
        | Action::SaveTimeFloor { .. }
        | Action::ClearCrashes
        | Action::CountCritical { .. }
        | Action::Finish(_) => None,
    }
}

/// An error with all that caused it.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
