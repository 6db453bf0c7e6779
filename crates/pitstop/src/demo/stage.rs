//! What the demo shows: a timeline for people, one JSON object per event for scripts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use updater::Action;
use updater_io::board::News;

use crate::failure::Failure;
use crate::ui::{ByteProgress, Tone, Ui, bytes, paint};

/// Prints the timeline.
#[derive(Clone, Copy)]
pub(super) struct Stage {
    ui: Ui,
    start: Instant,
}

impl Stage {
    pub(super) fn new(ui: Ui) -> Self {
        Self { ui, start: Instant::now() }
    }

    /// A new part of the story.
    pub(super) fn act(&self, title: &str) -> Result<(), Failure> {
        self.show("act", json!({ "title": title }), || format!("\n{}\n", paint(Tone::Heading, title)))
    }

    /// Something happened.
    pub(super) fn event(&self, event: &str, text: &str, fields: Value) -> Result<(), Failure> {
        self.show(event, fields, || self.line(Tone::Good, "·", text))
    }

    /// Something was refused, as it should be.
    pub(super) fn refusal(&self, attack: &str, reason: &str, fields: Value) -> Result<(), Failure> {
        self.show("refused", fields, || {
            let text = format!("{attack}: {}", paint(Tone::Dim, reason));
            self.line(Tone::Good, "✗", &text)
        })
    }

    /// The last event.
    pub(super) fn done(&self, text: &str, fields: Value) -> Result<(), Failure> {
        self.show("done", fields, || format!("\n{}\n", paint(Tone::Good, text)))
    }

    /// The last event of a story that went wrong; people read the failure itself on standard error.
    pub(super) fn failed(&self, failure: &Failure) -> Result<(), Failure> {
        let fields = json!({ "ok": false, "error": failure.message() });
        self.show("done", fields, || format!("\n{}\n", paint(Tone::Bad, "The demo failed.")))
    }

    /// A line for people only.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        self.ui.line(format_args!("           {}", paint(Tone::Dim, text)))
    }

    fn show(&self, event: &str, fields: Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let mut object = Map::new();
        object.insert("event".into(), event.into());
        object.insert("at_ms".into(), self.elapsed_ms().into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        self.ui.event(&object, text)
    }

    fn line(&self, tone: Tone, mark: &str, text: &str) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!("{} {} {text}\n", paint(Tone::Dim, format!("{seconds:7.2} s")), paint(tone, mark))
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the device did, as its observer saw it.
#[derive(Default)]
pub(super) struct Seen {
    /// Requests that were begun.
    pub(super) requests: u64,
    /// Bytes of artifacts that arrived.
    pub(super) downloaded_bytes: u64,
    /// The innermost cause of the last trouble.
    pub(super) last_cause: Option<String>,
    /// Whether the device's steps are shown.
    pub(super) narrate: bool,
    bar: Option<ByteProgress>,
}

/// Sees what the device does; a handle of it is the device's observer.
#[derive(Clone)]
pub(super) struct Witness {
    stage: Stage,
    seen: Arc<Mutex<Seen>>,
}

impl Witness {
    pub(super) fn new(stage: Stage) -> Self {
        Self { stage, seen: Arc::default() }
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        // What was seen before a panic elsewhere is still true.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's observer. A line that cannot be printed is not printed: the story's own lines tell of it.
    pub(super) fn observe(&self, news: News<'_>) {
        let mut seen = self.seen();
        match news {
            News::Acting { state, action } => {
                seen.requests += u64::from(is_request(action));
                if seen.narrate
                    && let Some((event, text)) = narration(action)
                {
                    let _ = self.stage.event(event, text, json!({ "by": "device" }));
                }
                let progress = state.install_progress();
                match (progress, action) {
                    (Some(progress), Action::FetchChunk(_)) if seen.narrate && seen.bar.is_none() => {
                        let label = format!("downloading {}", progress.version);
                        let total_bytes = u64::from(progress.size_bytes);
                        let text = format!("downloads release {} in chunks of 64 KiB", progress.version);
                        let fields = json!({
                            "by": "device", "version": progress.version, "size_bytes": total_bytes,
                        });
                        let _ = self.stage.event("downloading", &text, fields);
                        seen.bar = Some(self.stage.ui.byte_progress(&label, total_bytes));
                    }
                    (Some(progress), Action::VerifySlot { .. }) if seen.narrate => {
                        seen.bar = None;
                        let text = format!(
                            "verified {} {}",
                            paint(Tone::Command, "━".repeat(24)),
                            bytes(progress.size_bytes.into())
                        );
                        let fields = json!({ "by": "device", "size_bytes": progress.size_bytes });
                        let _ = self.stage.event("verified", &text, fields);
                    }
                    (Some(_) | None, _) => {}
                }
            }
            News::Received { bytes } => {
                seen.downloaded_bytes += u64::from(bytes);
                if let Some(bar) = &seen.bar {
                    bar.advance(bytes.into());
                }
            }
            News::Trouble { error, .. } => {
                let mut innermost = error;
                while let Some(source) = innermost.source() {
                    innermost = source;
                }
                seen.last_cause = Some(innermost.to_string());
            }
        }
    }
}

fn is_request(action: &Action) -> bool {
    match action {
        Action::Enroll { .. }
        | Action::Renew { .. }
        | Action::CheckIn { .. }
        | Action::FetchChunk(_)
        | Action::Report { .. } => true,
        Action::Survey
        | Action::Join { .. }
        | Action::MakeKey
        | Action::SaveCertificate { .. }
        | Action::HashChunk { .. }
        | Action::Invalidate { .. }
        | Action::Seal { .. }
        | Action::VerifySlot { .. }
        | Action::SaveRecord { .. }
        | Action::SaveNote { .. }
        | Action::SaveTimeFloor { .. }
        | Action::CountCritical { .. }
        | Action::Finish(_) => false,
    }
}

/// The steps that are worth a line.
fn narration(action: &Action) -> Option<(&'static str, &'static str)> {
    match action {
        Action::Join { .. } => Some(("joining", "joins the Wi-Fi that its vault names")),
        Action::MakeKey => Some(("making-key", "finds no certificate in its vault: makes a P-256 key")),
        Action::Enroll { .. } => {
            Some(("enrolling", "sends its CSR with the one-time token (EST simpleenroll)"))
        }
        Action::SaveCertificate { .. } => Some(("enrolled", "stores its certificate in the vault")),
        Action::CheckIn { .. } => Some(("checking-in", "checks in over mutual TLS 1.3")),
        Action::Seal { .. } => Some(("sealing", "writes the image header last")),
        Action::SaveRecord { .. } => Some(("recording", "saves the install record")),
        Action::Report { .. } => Some(("reporting", "reports to the server")),
        Action::Renew { .. } => Some(("renewing", "renews its certificate (EST simplereenroll)")),
        Action::Survey
        | Action::HashChunk { .. }
        | Action::Invalidate { .. }
        | Action::FetchChunk(_)
        | Action::VerifySlot { .. }
        | Action::SaveNote { .. }
        | Action::SaveTimeFloor { .. }
        | Action::CountCritical { .. }
        | Action::Finish(_) => None,
    }
}
