//! `pitstop release`: publishing applications.

use std::io::Cursor;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use manifest::Sequence;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime};

use crate::client::types::Release;
use crate::client::{Client, Connection};
use crate::commands::options;
use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::keyfile::KeyFile;
use crate::publish::{self, Plan, Proposal};
use crate::ui::{Cell, Page, Ui, ago, bytes, short_digest, size};

const PUBLISH_EXAMPLES: &str = "\
Examples:
  pitstop release publish build/lamp.bin --product lamp --key publisher.key
  pitstop release publish app.bin --product lamp --key publisher.key \\
      --version 1.4.0 --notes-file NOTES.md --revert-to 1.3.0

The image is parsed and compared with the product before anything is sent.
The manifest is signed here: the key never leaves this machine.";

/// As many releases are looked through for --revert-to.
const REVERT_SEARCH_RELEASES: usize = 1000;

/// Releases.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Sign and publish an application: every device of the product runs it after its next start
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(Publish),

    /// List the releases of a product, newest first
    List(List),

    /// Show one release
    Show(Show),
}

/// `release publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The application: an ESP image
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The product to publish for
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// The publisher's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Version for people [default: that of the image's app descriptor]
    #[arg(long, value_name = "TEXT")]
    version: Option<String>,

    /// Sequence number, higher than that of every release before [default: the newest one's plus 1]
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,

    /// A file with notes for people
    #[arg(long, value_name = "FILE")]
    notes_file: Option<PathBuf>,

    /// A version that devices may go back to from this one; may be given more than once
    #[arg(long, value_name = "VERSION")]
    revert_to: Vec<String>,

    /// Devices refuse the release after this moment (UTC): 2027-06-30T12:00:00Z, or 2027-06-30 for the end of that day
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires: Option<OffsetDateTime>,

    #[command(flatten)]
    connection: Connection,
}

/// `release list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `release show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Sequence number of the release
    #[arg(value_name = "SEQUENCE")]
    sequence: u64,

    /// The product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    #[command(flatten)]
    connection: Connection,
}

impl ReleaseCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Publish(publish) => publish.run(ui),
            Self::List(list) => list.run(ui),
            Self::Show(Show { sequence, product, connection }) => {
                let release = connection.client()?.release(&product, sequence)?;
                ui.result(&release, || page(&release, format!("Release #{sequence} of product {product}")))
            }
        }
    }
}

impl Publish {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let expires_at_s = self.expires.map(seconds_ahead).transpose()?;
        let image = ImageFile::read(&self.file)?;
        let key = KeyFile::read(&self.key)?;
        let notes = self.notes_file.as_deref().map(read_notes).transpose()?;

        let client = self.connection.client()?;
        let product = client.product(&self.product)?;
        let newest = client.releases(&product.name, 1)?;
        let sequence = publish::choose_sequence(self.sequence, newest.items.first())?;
        let plan = publish::plan(Proposal {
            product: &product,
            image: &image,
            key: &key,
            sequence,
            version: self.version.as_deref(),
            expires_at_s,
            revert_to: self.revert_to(&client)?,
        })?;

        let release = send(ui, &client, &image, &plan, notes)?;
        ui.result(&release, || {
            page(&release, format!("Published {} {}", release.product, release.version)).note(format!(
                "Signed by {} ({}). Every device of product {} runs it after its next start.",
                key.name,
                hex::encode(key.public().id()),
                release.product
            ))
        })
    }

    fn revert_to(&self, client: &Client) -> Result<Vec<Sequence>, Failure> {
        if self.revert_to.is_empty() {
            return Ok(Vec::new());
        }
        let published = client.releases(&self.product, REVERT_SEARCH_RELEASES)?;
        Ok(publish::sequences_of(&self.revert_to, &published.items)?)
    }
}

/// Uploads the artifact, then publishes its manifest.
fn send(
    ui: &Ui,
    client: &Client,
    image: &ImageFile,
    plan: &Plan,
    notes: Option<String>,
) -> Result<Release, Failure> {
    let size_bytes = image.bytes.len() as u64;
    let progress = ui.byte_progress("uploading", size_bytes);
    let content = progress.watch(Cursor::new(&image.bytes));
    client.upload_artifact(&plan.manifest.artifact.digest.to_string(), size_bytes, content)?;
    drop(progress);
    Ok(client.create_release(&plan.manifest.product, plan.signed.as_bytes(), notes)?)
}

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let releases = self.connection.client()?.releases(&self.product, self.limit)?;
        ui.result(&releases, || {
            if releases.items.is_empty() {
                let command =
                    format!("pitstop release publish app.bin --product {} --key publisher.key", self.product);
                return Page::plain().next("No releases yet. Publish one:", [command]);
            }
            let now = OffsetDateTime::now_utc();
            let rows = releases.items.iter().map(|release| {
                [
                    Cell::from(release.sequence.to_string()),
                    Cell::from(&release.version),
                    size(release.size_bytes).into(),
                    short_digest(&release.digest).into(),
                    ago(&release.created_at, now).into(),
                ]
            });
            let page = Page::plain().table(["SEQUENCE", "VERSION", "SIZE", "DIGEST", "PUBLISHED"], rows);
            if releases.next_cursor.is_some() { page.more(self.limit) } else { page }
        })
    }
}

fn page(release: &Release, heading: String) -> Page {
    let mut facts = vec![
        ("version", Cell::from(&release.version)),
        ("sequence", release.sequence.to_string().into()),
        ("chip", Cell::from(&release.chip)),
        ("size", format!("{} ({})", bytes(release.size_bytes), size(release.size_bytes)).into()),
        ("digest", Cell::from(&release.digest)),
    ];
    if let Some(app) = &release.app {
        let idf =
            if app.idf_version.is_empty() { String::new() } else { format!(", ESP-IDF {}", app.idf_version) };
        facts.push(("app", format!("{} {}{idf}", app.project_name, app.version).into()));
    }
    facts.push(("published", ago(&release.created_at, OffsetDateTime::now_utc()).into()));
    let page = Page::titled(heading).facts(facts);
    match release.notes.as_deref().map(str::trim).filter(|notes| !notes.is_empty()) {
        Some(notes) => page.note(notes),
        None => page,
    }
}

fn read_notes(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("the notes {} cannot be read: {error}", path.display())))
}

/// A moment: RFC 3339, or a date for the end of that day in UTC.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let end_of_day = |date: Date| date.next_day().map(|next| next.midnight().assume_utc());
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| Date::parse(text, &Iso8601::DATE).ok().and_then(end_of_day))
        .ok_or_else(|| {
            "expected a date such as 2027-06-30, or a moment such as 2027-06-30T12:00:00Z".to_owned()
        })
}

/// Seconds since 1970 of a moment that is still to come.
fn seconds_ahead(moment: OffsetDateTime) -> Result<u64, Failure> {
    let is_ahead = moment > OffsetDateTime::now_utc();
    u64::try_from(moment.unix_timestamp()).ok().filter(|_| is_ahead).ok_or_else(|| {
        Failure::usage("expected a moment to come for --expires, found one that has passed: no device would take the release")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_times() {
        let seconds = |text: &str| moment(text).map(OffsetDateTime::unix_timestamp);
        assert_eq!(seconds("1970-01-01"), Ok(86_400), "the end of the day");
        assert_eq!(seconds("1970-01-01T00:00:10Z"), Ok(10));
        assert_eq!(seconds("1970-01-01T01:00:10+01:00"), Ok(10));
        for wrong in ["", "tomorrow", "2027-13-01", "2027-06-30 12:00", "30.6.2027"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_release_does_not_expire_before_it_is_published() {
        assert!(seconds_ahead(OffsetDateTime::UNIX_EPOCH).is_err());
        let tomorrow = OffsetDateTime::now_utc() + time::Duration::days(1);
        assert_eq!(seconds_ahead(tomorrow), Ok(tomorrow.unix_timestamp() as u64));
    }
}
