//! `pitstop artifact`: what was uploaded, and what of it nobody needs.

use api::artifact::Artifact;
use clap::{Args, Subcommand};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Connection;
use crate::commands::consent::Consent;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago, counted, short_digest, size};

const EXAMPLES: &str = "\
Examples:
  pitstop artifact list --product lamp --unused
  pitstop artifact prune --product lamp
  pitstop artifact prune --yes --json | jq .freed_bytes

An artifact is unused when no release has it, as its image or as its ELF file;
archived releases count. What was uploaded within a day may be about to be
published, and stays.";

/// Artifacts: images and ELF files.
#[derive(Debug, Subcommand)]
pub(crate) enum ArtifactCommand {
    /// List what was uploaded
    #[command(after_help = EXAMPLES)]
    List(List),

    /// Delete what no release has: shows it, asks, then deletes
    #[command(after_help = EXAMPLES)]
    Prune(Prune),
}

/// `artifact list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only what counts towards the quota of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only what no release has
    #[arg(long)]
    unused: bool,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `artifact prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only what counts towards the quota of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// What came of a prune.
#[derive(Debug, Default, Serialize)]
struct Pruned {
    deleted: Vec<Artifact>,
    kept: Vec<Kept>,
    freed_bytes: u64,
}

/// An artifact that the server kept.
#[derive(Debug, Serialize)]
struct Kept {
    digest: String,
    because: String,
}

impl ArtifactCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(ui),
            Self::Prune(prune) => prune.run(ui),
        }
    }
}

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { product, unused, limit, connection } = self;
        let artifacts = connection.client()?.artifacts(product.as_deref(), unused, limit)?;
        ui.result(&artifacts, || {
            if artifacts.items.is_empty() {
                return Page::plain().note("No such artifacts.");
            }
            let page = table(Page::plain(), &artifacts.items);
            if artifacts.next_cursor.is_some() { page.more(limit) } else { page }
        })
    }
}

impl Prune {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let now = OffsetDateTime::now_utc();
        let (unused, young): (Vec<_>, Vec<_>) = client
            .unused_artifacts(self.product.as_deref())?
            .into_iter()
            .partition(|artifact| is_over(artifact.deletable_at.as_deref(), now));
        let mut pruned = Pruned::default();
        if unused.is_empty() {
            let note = match young.len() {
                0 => "Every artifact is that of a release.".to_owned(),
                count => format!("Nothing to delete yet: {count} were uploaded within a day."),
            };
            return ui.result(&pruned, || Page::plain().note(note));
        }
        let total = unused.iter().map(|artifact| artifact.size_bytes.unsigned_abs()).sum();
        ui.line(table(Page::plain(), &unused))?;
        let what = if unused.len() == 1 {
            "this artifact".to_owned()
        } else {
            format!("these {} artifacts", unused.len())
        };
        self.consent.to(&format!("Delete {what}, {} in all?", size(total)))?;
        let progress = ui.count_progress("deleting", unused.len() as u64);
        for (done, artifact) in unused.into_iter().enumerate() {
            match client.delete_artifact(&artifact.digest) {
                Ok(deleted) => {
                    pruned.freed_bytes += deleted.size_bytes.unsigned_abs();
                    pruned.deleted.push(deleted);
                }
                // Somebody published it meanwhile, or deleted it.
                Err(error) if error.is_refused() => {
                    pruned.kept.push(Kept { digest: artifact.digest, because: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            }
            progress.set(done as u64 + 1, "");
        }
        drop(progress);
        ui.result(&pruned, || {
            let heading = format!(
                "Deleted {}, {}",
                counted(pruned.deleted.len() as u64, "artifact"),
                size(pruned.freed_bytes)
            );
            pruned.kept.iter().fold(Page::titled(heading), |page, kept| {
                page.note(format!("{} stays: {}", short_digest(&kept.digest), kept.because))
            })
        })
    }
}

fn is_over(at: Option<&str>, now: OffsetDateTime) -> bool {
    at.and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok()).is_some_and(|at| at <= now)
}

fn table(page: Page, artifacts: &[Artifact]) -> Page {
    let now = OffsetDateTime::now_utc();
    let rows = artifacts.iter().map(|artifact| {
        [
            Cell::from(short_digest(&artifact.digest)),
            Cell::from(artifact.product.as_deref().unwrap_or("-")),
            size(artifact.size_bytes.unsigned_abs()).into(),
            Cell::new(Tone::Dim, ago(&artifact.uploaded_at, now)),
            if artifact.used { Cell::from("a release") } else { Cell::new(Tone::Warn, "nobody") },
        ]
    });
    page.table(["DIGEST", "PRODUCT", "SIZE", "UPLOADED", "NEEDED BY"], rows)
}
