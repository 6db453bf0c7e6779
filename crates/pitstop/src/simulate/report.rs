//! A run as a page and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::load::Ended;
use super::tally::{Fates, Latency, Tally};
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, size};

/// Columns of the longest bar.
const BAR_COLUMNS: u64 = 40;

/// What the devices did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    CheckIn,
    Resume,
    Download,
    Herd,
    Get,
    GetInRanges,
}

/// How a run went.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: Scenario,
    devices: usize,
    elapsed_s: f64,
    check_ins: u64,
    check_ins_per_s: f64,
    failed: u64,
    latency: Latency,
    resumed: Option<Latency>,
    downloaded_bytes: u64,
    downloaded_bytes_per_s: f64,
    releases: Fates,
    /// Only of a herd.
    lost: Option<u64>,
    errors: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(scenario: Scenario, devices: usize, ended: &Ended, tally: &Tally) -> Self {
        let elapsed_s = ended.elapsed.as_secs_f64();
        Self {
            scenario,
            devices,
            elapsed_s,
            check_ins: tally.done,
            check_ins_per_s: tally.done as f64 / elapsed_s,
            failed: tally.failed,
            latency: Latency::of(&tally.latency_us),
            resumed: (!tally.resumed_us.is_empty()).then(|| Latency::of(&tally.resumed_us)),
            downloaded_bytes: tally.downloaded_bytes,
            downloaded_bytes_per_s: tally.downloaded_bytes as f64 / elapsed_s,
            releases: tally.fates,
            lost: (scenario == Scenario::Herd).then_some(ended.lost),
            errors: tally.errors.clone(),
        }
    }

    pub(super) fn page(&self) -> Page {
        let what = match self.scenario {
            Scenario::CheckIn => "full TLS handshake and check-in",
            Scenario::Resume => "resumed TLS session where there was one, and check-in",
            Scenario::Download => "full TLS handshake, check-in, and a download",
            Scenario::Herd => "all at once, each until it was served",
            Scenario::Get => "full TLS handshake and GET",
            Scenario::GetInRanges => "full TLS handshake and GET in ranges",
        };
        let mut facts = vec![
            ("each", Cell::from(what)),
            ("devices", self.devices.to_string().into()),
            ("time", format!("{:.1} s", self.elapsed_s).into()),
            ("served", format!("{} ({:.0} a second)", self.check_ins, self.check_ins_per_s).into()),
            ("not served", toned_count(self.failed, Tone::Warn)),
        ];
        if let Some(lost) = self.lost {
            facts.push(("lost", toned_count(lost, Tone::Bad)));
        }
        if let Some(resumed) = &self.resumed {
            let share = 100.0 * resumed.count as f64 / self.check_ins as f64;
            facts.push(("resumed", format!("{} ({share:.1} %)", resumed.count).into()));
        } else if self.scenario == Scenario::Resume {
            facts.push(("resumed", Cell::new(Tone::Warn, "none: the server gives no tickets")));
        }
        if self.downloaded_bytes > 0 {
            let rate = size(self.downloaded_bytes_per_s as u64);
            facts.push(("downloaded", format!("{} ({rate} a second)", size(self.downloaded_bytes)).into()));
        }
        let Fates { healthy, failed, crashing, silent } = self.releases;
        if healthy + failed + crashing + silent > 0 {
            let text = format!("{healthy} installed, {failed} refused, {crashing} crashing, {silent} silent");
            facts.push(("releases", text.into()));
        }
        let mut page = Page::titled("Simulated").facts(facts);
        page = latency_table(page, &self.latency, self.resumed.as_ref());
        page = bars(page, &self.latency);
        if !self.errors.is_empty() {
            let rows = self.errors.iter().map(|(error, count)| [count.to_string().into(), error.into()]);
            page = page.table(["TIMES", "NOT SERVED BECAUSE"], rows);
        }
        page
    }

    /// Whether the run is a success.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        match self.lost {
            Some(lost) if lost > 0 => {
                Err(Failure::new(format!("{lost} devices of the herd were not served"))
                    .hint("give it longer with --seconds, and look at what `pitstop serve` prints"))
            }
            Some(_) | None if self.check_ins == 0 => {
                let first = self.errors.keys().next();
                Err(Failure::new(format!(
                    "no device was served{}",
                    first.map_or_else(String::new, |error| format!(": {error}"))
                ))
                .hint("look at what `pitstop serve` prints"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn toned_count(count: u64, tone: Tone) -> Cell {
    Cell::new(if count == 0 { Tone::Good } else { tone }, count.to_string())
}

fn latency_table(page: Page, all: &Latency, resumed: Option<&Latency>) -> Page {
    let row = |name: &str, latency: &Latency| {
        let ms = |value: f64| Cell::from(format!("{value:.1} ms"));
        [
            name.into(),
            ms(latency.min_ms),
            ms(latency.p50_ms),
            ms(latency.p90_ms),
            ms(latency.p99_ms),
            ms(latency.p999_ms),
            ms(latency.max_ms),
        ]
    };
    let rows = std::iter::once(row("all", all)).chain(resumed.map(|resumed| row("resumed", resumed)));
    page.table(["LATENCY", "MIN", "P50", "P90", "P99", "P99.9", "MAX"], rows)
}

fn bars(page: Page, latency: &Latency) -> Page {
    let longest = latency.histogram.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let rows = latency.histogram.iter().map(|bar| {
        // What was seen at all is shown.
        let columns = (bar.count * BAR_COLUMNS).div_ceil(longest);
        let columns = usize::try_from(columns).unwrap_or_default();
        [
            Cell::from(format!("{:.1} ms", bar.up_to_ms)),
            bar.count.to_string().into(),
            Cell::new(Tone::Command, "█".repeat(columns)),
        ]
    });
    page.table(["UP TO", "COUNT", ""], rows)
}
