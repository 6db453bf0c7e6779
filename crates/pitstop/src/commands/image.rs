//! `pitstop image`: image files, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use flashfmt::image::Kind;

use crate::failure::Failure;
use crate::inspect::{ImageFile, Report};
use crate::ui::{Cell, Page, Tone, Ui, bytes, size};

const EXAMPLES: &str = "\
Examples:
  pitstop image inspect build/lamp.bin
  pitstop image inspect app.bin --json | jq -r .app.version";

/// Image files.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Verify an image and show what is in it: chip, segments, app descriptor, digests, layouts that it fits
    #[command(after_help = EXAMPLES)]
    Inspect(Inspect),
}

/// `image inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// An ESP image, as it would be flashed to an app partition
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Image {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Inspect(Inspect { file }) => {
                let report = ImageFile::read(&file)?.report();
                for warning in report.warnings.iter().filter(|_| report.problem.is_none()) {
                    ui.warning(warning);
                }
                ui.result(&report, || page(&file.display().to_string(), &report))?;
                report.problem.map_or(Ok(()), |problem| Err(Failure::new(problem)))
            }
        }
    }
}

fn page(name: &str, report: &Report) -> Page {
    let mut facts = vec![
        ("kind", Cell::from(report.kind)),
        ("chip", Cell::from(report.chip)),
        ("size", Cell::from(format!("{} ({})", bytes(report.image_bytes), size(report.image_bytes)))),
        ("entry", Cell::from(report.entry.to_string())),
        ("revisions", Cell::from(revisions(report))),
        ("checksum", Cell::new(Tone::Good, report.checksum)),
        ("hash", Cell::new(if report.hash == "ok" { Tone::Good } else { Tone::Warn }, report.hash)),
        ("SHA-256", Cell::from(&report.file_sha256)),
    ];
    if report.trailing_bytes > 0 {
        let text = format!("{} after the image's end", bytes(report.trailing_bytes));
        facts.push(("trailing", Cell::new(Tone::Warn, text)));
        facts.push(("of image", Cell::from(&report.image_sha256)));
    }
    let page = Page::titled(name).facts(facts);
    let page = match &report.app {
        Some(app) => page.note("Application").facts([
            ("project", Cell::or_dash(Some(&app.project_name))),
            ("version", Cell::or_dash(Some(&app.version))),
            ("built", Cell::or_dash(Some(&app.built))),
            ("ESP-IDF", Cell::or_dash(Some(&app.idf_version))),
            ("ELF SHA", Cell::from(&app.elf_sha256)),
        ]),
        // What is no application with one either says so below.
        None if report.problem.is_some() => page,
        None => page.note(
            "Application: no app descriptor; `release publish` then needs --without-descriptor and --version",
        ),
    };
    let segments = report.segments.iter().enumerate().map(|(index, segment)| {
        [
            Cell::from(index.to_string()),
            segment.load_address.to_string().into(),
            bytes(segment.length_bytes.into()).into(),
            segment.kind.into(),
        ]
    });
    let fits = report.fits.iter().map(|fit| {
        let verdict = if let Some(problem) = &fit.problem {
            Cell::new(Tone::Warn, problem.as_str())
        } else if fit.fits {
            let free = u64::from(fit.slot_bytes) - report.image_bytes;
            Cell::new(Tone::Good, format!("fits, {} free", size(free)))
        } else {
            let over = report.image_bytes - u64::from(fit.slot_bytes);
            Cell::new(Tone::Warn, format!("too large by {}", bytes(over)))
        };
        [fit.layout.into(), fit.slot.clone().into(), bytes(fit.slot_bytes.into()).into(), verdict]
    });
    let page = page.note("Segments").table(["#", "LOAD ADDRESS", "LENGTH", "KIND"], segments);
    if report.kind == Kind::Updater.name() {
        return page.note(
            "Layouts: an updater goes into no slot; `pitstop flash --updater` puts it where it belongs",
        );
    }
    if report.fits.is_empty() {
        return page;
    }
    page.note("Layouts").table(["LAYOUT", "SLOT", "SLOT SIZE", "VERDICT"], fits)
}

/// The chip revisions that it says it is for, as datasheets write them.
fn revisions(report: &Report) -> String {
    let name = |revision: u16| format!("v{}.{}", revision / 100, revision % 100);
    match (report.min_chip_revision, report.max_chip_revision) {
        (0, 0 | u16::MAX) => "any".to_owned(),
        (min, 0 | u16::MAX) => format!("{} and up", name(min)),
        (min, max) => format!("{} to {}", name(min), name(max)),
    }
}
