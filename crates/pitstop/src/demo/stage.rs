//! What the demo shows: a timeline for people, one JSON object per event for scripts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value, json};
use updater::Action;
use updater_io::board::Observed;

use crate::failure::Failure;
use crate::ui::{ByteProgress, Spinner, Tone, Ui, bytes, paint};

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

    /// The same with a clock that begins now.
    pub(super) fn begun_now(self) -> Self {
        Self::new(self.ui)
    }

    /// A sign of life while something takes minutes.
    pub(super) fn working(&self, label: &str) -> Spinner {
        self.ui.spinner(label)
    }

    /// A new part of the story.
    pub(super) fn act(&self, title: &str) -> Result<(), Failure> {
        self.show("act", json!({ "title": title }), || format!("\n{}\n", paint(Tone::Heading, title)))
    }

    /// Something happened.
    pub(super) fn event(&self, event: &str, text: &str, fields: Value) -> Result<(), Failure> {
        self.show(event, fields, || self.line(Tone::Good, "·", text))
    }

    /// The device does something.
    pub(super) fn step(&self, step: Step) -> Result<(), Failure> {
        self.event(step.event, step.text, json!({ "by": "device" }))
    }

    /// The device begins to download; returns the bar that shows how far it is.
    pub(super) fn downloading(&self, version: &str, size_bytes: u64) -> Result<ByteProgress, Failure> {
        let text = format!("downloads release {version} in chunks of 64 KiB");
        let fields = json!({ "by": "device", "version": version, "size_bytes": size_bytes });
        self.event("downloading", &text, fields)?;
        Ok(self.ui.byte_progress(&format!("downloading {version}"), size_bytes))
    }

    /// The device has all of an image and verifies it.
    pub(super) fn verified(&self, size_bytes: u64) -> Result<(), Failure> {
        let text = format!("verified {} {}", paint(Tone::Command, "━".repeat(24)), bytes(size_bytes));
        self.event("verified", &text, json!({ "by": "device", "size_bytes": size_bytes }))
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

/// The parts of the story and how long each took.
pub(super) struct Steps {
    stage: Stage,
    begin_ms: u64,
    done: Vec<Value>,
}

impl Steps {
    /// The first part begins.
    pub(super) fn begin(stage: Stage) -> Self {
        Self { stage, begin_ms: stage.elapsed_ms(), done: Vec::new() }
    }

    /// A part ends, and the next begins.
    pub(super) fn end(&mut self, name: &str) {
        let now_ms = self.stage.elapsed_ms();
        self.done.push(json!({ "name": name, "duration_ms": now_ms - self.begin_ms }));
        self.begin_ms = now_ms;
    }

    /// The parts that ended, for the last event.
    pub(super) fn report(&self) -> Value {
        Value::Array(self.done.clone())
    }
}

/// What the device did, as its observer saw it.
#[derive(Default)]
pub(super) struct Seen {
    /// Requests that were begun.
    pub(super) requests: u64,
    /// Bytes of artifacts that arrived.
    pub(super) downloaded_bytes: u64,
    /// The innermost cause of the last fault.
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
    pub(super) fn observe(&self, observed: Observed<'_>) {
        let mut seen = self.seen();
        match observed {
            Observed::Acting { state, action } => {
                seen.requests += u64::from(is_request(action));
                if let Action::Seal { .. } = action {
                    // All is there: the bar goes before the next line comes.
                    seen.bar = None;
                }
                if seen.narrate
                    && let Some(step) = Step::of(action)
                {
                    let _ = self.stage.step(step);
                }
                let progress = state.install_progress();
                match (progress, action) {
                    (Some(progress), Action::FetchChunk(_)) if seen.narrate && seen.bar.is_none() => {
                        let size_bytes = progress.size_bytes.into();
                        seen.bar = self.stage.downloading(progress.version, size_bytes).ok();
                    }
                    (Some(progress), Action::VerifySlot { .. }) if seen.narrate => {
                        seen.bar = None;
                        let _ = self.stage.verified(progress.size_bytes.into());
                    }
                    (Some(_) | None, _) => {}
                }
            }
            Observed::Received { bytes } => {
                seen.downloaded_bytes += u64::from(bytes);
                if let Some(bar) = &seen.bar {
                    bar.advance(bytes.into());
                }
            }
            Observed::Fault { error, .. } => {
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
        | Action::FetchAnchors { .. }
        | Action::CheckIn { .. }
        | Action::Preview(_)
        | Action::FetchChunk(_)
        | Action::Report { .. } => true,
        Action::Survey(_)
        | Action::Join { .. }
        | Action::MakeKey
        | Action::SaveCertificate { .. }
        | Action::SaveAnchors { .. }
        | Action::HashChunk { .. }
        | Action::Invalidate { .. }
        | Action::Seal { .. }
        | Action::VerifySlot { .. }
        | Action::SaveRecord { .. }
        | Action::SaveNote { .. }
        | Action::SaveTimeFloor { .. }
        | Action::ClearCrashes
        | Action::CountCritical { .. }
        | Action::Finish(_) => false,
    }
}

/// A step of the device that is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// For scripts.
    pub(super) event: &'static str,
    /// For people.
    pub(super) text: &'static str,
}

impl Step {
    pub(super) const JOINING_WIFI: Self = Self::new("joining", "joins the Wi-Fi that its vault names");
    #[cfg(feature = "emulator")]
    pub(super) const JOINING_ETHERNET: Self =
        Self::new("joining", "joins the network: Ethernet, which is what emulators offer");
    pub(super) const MAKING_KEY: Self =
        Self::new("making-key", "finds no certificate in its vault: makes a P-256 key");
    pub(super) const ENROLLING: Self =
        Self::new("enrolling", "sends its CSR with the one-time token (EST simpleenroll)");
    pub(super) const ENROLLED: Self = Self::new("enrolled", "stores its certificate in the vault");
    pub(super) const CHECKING_IN: Self = Self::new("checking-in", "checks in over mutual TLS 1.3");
    pub(super) const PREVIEWING: Self =
        Self::new("previewing", "looks at the new image before it gives up the old one");
    pub(super) const SEALING: Self = Self::new("sealing", "writes the image header last");
    pub(super) const RECORDING: Self = Self::new("recording", "saves the install record");
    pub(super) const REPORTING: Self = Self::new("reporting", "reports to the server");
    pub(super) const RENEWING: Self = Self::new("renewing", "renews its certificate (EST simplereenroll)");

    pub(super) const FETCHING_ANCHORS: Self =
        Self::new("fetching-anchors", "asks for the server's trust anchors (EST cacerts)");

    const fn new(event: &'static str, text: &'static str) -> Self {
        Self { event, text }
    }

    fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Join { .. } => Some(Self::JOINING_WIFI),
            Action::MakeKey => Some(Self::MAKING_KEY),
            Action::Enroll { .. } => Some(Self::ENROLLING),
            Action::SaveCertificate { .. } => Some(Self::ENROLLED),
            Action::CheckIn { .. } => Some(Self::CHECKING_IN),
            Action::Seal { .. } => Some(Self::SEALING),
            Action::SaveRecord { .. } => Some(Self::RECORDING),
            Action::Report { .. } => Some(Self::REPORTING),
            Action::Renew { .. } => Some(Self::RENEWING),
            Action::FetchAnchors { .. } => Some(Self::FETCHING_ANCHORS),
            Action::Preview(_) => Some(Self::PREVIEWING),
            Action::Survey(_)
            | Action::HashChunk { .. }
            | Action::Invalidate { .. }
            | Action::FetchChunk(_)
            | Action::VerifySlot { .. }
            | Action::SaveNote { .. }
            | Action::SaveTimeFloor { .. }
            | Action::ClearCrashes
            | Action::CountCritical { .. }
            | Action::SaveAnchors { .. }
            | Action::Finish(_) => None,
        }
    }
}
