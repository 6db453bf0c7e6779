//! `pitstop layout`: flash layouts, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flashfmt::layout::BUILTIN;
use serde::Serialize;

use crate::commands::adopt::Adopt;
use crate::failure::Failure;
use crate::fit::{self, Fit, Report};
use crate::flash::plan::check_updater;
use crate::flash::updater;
use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Strategy};
use crate::ui::{Cell, Page, Tone, Ui, bytes, size};

const CHECK_EXAMPLES: &str = "\
Examples:
  pitstop layout check parts.csv build/lamp.bin
  pitstop layout check 8mb app.bin --json | jq .slots

Exit code 0 when everything fits, 1 when not.";

const SHOW_EXAMPLES: &str = "\
Examples:
  pitstop layout show 4mb
  pitstop layout show 4mb > parts.csv      the beginning of a layout of your own";

/// A slot that is fuller than this leaves little for the next release.
const TIGHT_PERCENT: f64 = 90.0;

/// Layouts.
#[derive(Debug, Subcommand)]
pub(crate) enum LayoutCommand {
    /// Say whether an application fits a layout, and how to make room when it does not
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),

    /// Make a layout that leaves a chip's file systems and NVS where they are
    Adopt(Adopt),

    /// List the built-in layouts
    List,

    /// Print a layout as ESP-IDF's partition CSV
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
}

/// `layout check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A built-in name or a partition CSV
    #[arg(value_name = "LAYOUT")]
    layout: String,

    /// The application, as it would be flashed to an app partition
    #[arg(value_name = "APP")]
    app: PathBuf,

    /// The updater's image [default: the one built in this repository, if there is one]
    #[arg(long, value_name = "FILE")]
    updater: Option<PathBuf>,
}

/// `layout show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A built-in name or a partition CSV
    #[arg(value_name = "LAYOUT")]
    layout: String,
}

/// A layout in the list.
#[derive(Serialize)]
struct Entry {
    name: String,
    flash_bytes: u32,
    strategy: &'static str,
    slots: Vec<PartitionReport>,
}

/// A layout with everything in it.
#[derive(Serialize)]
struct Shown {
    name: String,
    flash_bytes: u32,
    strategy: &'static str,
    partitions: Vec<PartitionReport>,
    csv: String,
}

#[derive(Serialize)]
struct PartitionReport {
    label: String,
    kind: String,
    offset: u32,
    size_bytes: u32,
}

impl From<flashfmt::Partition> for PartitionReport {
    fn from(partition: flashfmt::Partition) -> Self {
        Self {
            label: partition.label.as_str().to_owned(),
            kind: partition.kind.to_string(),
            offset: partition.offset,
            size_bytes: partition.size,
        }
    }
}

impl LayoutCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(ui),
            Self::Adopt(adopt) => adopt.run(ui),
            Self::List => list(ui),
            Self::Show(Show { layout }) => {
                let named = NamedLayout::read(&layout)?;
                let shown = Shown {
                    flash_bytes: named.flash_bytes(),
                    strategy: Strategy::of(&named.layout).name(),
                    partitions: named.layout.partitions().iter().copied().map(Into::into).collect(),
                    name: named.name,
                    csv: named.csv,
                };
                // Nothing but the file, so that it can be written to one.
                ui.result(&shown, || Page::verbatim(&shown.csv))
            }
        }
    }
}

impl Check {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { layout, app, updater } = self;
        let layout = NamedLayout::read(&layout)?;
        let image = ImageFile::read(&app)?;
        let updater = updater.or_else(|| updater::built_before(image.summary.header.chip));
        let updater = updater.map(|path| ImageFile::read(&path)).transpose()?;
        updater.as_ref().map_or(Ok(()), check_updater)?;
        let report = fit::check(&layout, &image, updater.as_ref());
        for warning in &report.warnings {
            ui.warning(warning);
        }
        ui.result(&report, || page(&report, &app.display().to_string()))?;
        match report.problems.as_slice() {
            [] => Ok(()),
            [problem] => Err(Failure::new(problem)),
            [problem, rest @ ..] => Err(Failure::new(format!("{problem}; and {} more above", rest.len()))),
        }
    }
}

fn list(ui: &Ui) -> Result<(), Failure> {
    let entries = BUILTIN.map(|(name, _)| {
        let named = NamedLayout::read(name)?;
        Ok::<_, Failure>(Entry {
            flash_bytes: named.flash_bytes(),
            strategy: Strategy::of(&named.layout).name(),
            slots: named.layout.slots().map(Into::into).collect(),
            name: named.name,
        })
    });
    let entries = entries.into_iter().collect::<Result<Vec<_>, _>>()?;
    ui.result(&entries, || {
        let rows = entries.iter().map(|entry| {
            let slots = entry.slots.iter();
            let slots = slots.map(|slot| format!("{} {}", slot.label, size(slot.size_bytes.into())));
            [
                Cell::from(&entry.name),
                size(entry.flash_bytes.into()).into(),
                slots.collect::<Vec<_>>().join(", ").into(),
                entry.strategy.into(),
            ]
        });
        Page::plain()
            .table(["NAME", "FLASH", "SLOTS", "HAND-OVER"], rows)
            .next("Begin one of your own:", ["pitstop layout show 4mb > parts.csv"])
    })
}

fn page(report: &Report, app: &str) -> Page {
    let fits = report.slots.iter().map(|fit| row(app, fit));
    let updater = report.updater.iter().map(|fit| row("updater", fit));
    let mut page = Page::titled(format!("{app} in layout {}", report.layout))
        .facts([
            ("chip", Cell::from(report.chip)),
            ("flash", Cell::from(size(report.flash_bytes.into()))),
            ("hand-over", Cell::from(report.strategy)),
        ])
        .table(["IMAGE", "PARTITION", "SIZE", "USED", "VERDICT"], fits.chain(updater));
    if report.updater.is_none() {
        page = page.note("The updater was not looked at: no image of it is here (--updater FILE).");
    }
    // The first one is why the command fails, which is told below.
    for problem in report.problems.iter().skip(1) {
        page = page.note(problem);
    }
    for way in &report.ways {
        page = page.next(&format!("To make room, {}:", way.what), &way.lines);
    }
    if !report.ways.is_empty() {
        page = page.note(
            "Devices get another layout by cable only (pitstop flash); a product keeps the one it was made with.",
        );
    }
    page
}

fn row(what: &str, fit: &Fit) -> [Cell; 5] {
    let margin = fit.margin_bytes.unsigned_abs();
    let verdict = match (fit.fits, fit.used_percent > TIGHT_PERCENT) {
        (true, false) => Cell::new(Tone::Good, format!("fits, {} free", size(margin))),
        (true, true) => Cell::new(Tone::Warn, format!("fits, only {} free", size(margin))),
        (false, _) if fit.margin_bytes >= 0 => Cell::new(Tone::Bad, "refused"),
        (false, _) => Cell::new(Tone::Bad, format!("too large by {}", bytes(margin))),
    };
    [
        what.into(),
        fit.label.clone().into(),
        bytes(fit.size_bytes.into()).into(),
        format!("{:.1} %", fit.used_percent).into(),
        verdict,
    ]
}
