//! `pitstop release`: publishing applications.

use std::io::Cursor;
use std::path::PathBuf;

use api::release::{PublishBody, Release, StartRollout};
use api::rollout::{ListParams, NewRolloutBody, Rollout};
use clap::{Args, Subcommand};
use manifest::Sequence;
use rollout::{OnHalt, Plan};
use serde::Serialize;
use time::OffsetDateTime;

use crate::client::{Client, Connection};
use crate::commands::options;
use crate::commands::plan::{self, PlanOptions};
use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::keyfile::KeyFile;
use crate::publish::{self, Proposal};
use crate::ui::{Cell, Page, Tone, Ui, ago, bytes, short_digest, size};

const PUBLISH_EXAMPLES: &str = "\
Examples:
  pitstop release publish build/lamp.bin --product lamp --key publisher.key
  pitstop release publish app.bin --product lamp --key publisher.key \\
      --version 1.4.0 --notes-file NOTES.md --revert-to 1.3.0 --elf app.elf
  pitstop release publish app.bin --product lamp --key publisher.key \\
      --plan '1%,10%,50%,100%' --soak 1h --approve-each
  pitstop release publish app.bin --product lamp --key publisher.key --hold

The image is parsed and compared with the product before anything is sent.
The manifest is signed here: the key never leaves this machine.";

const ARCHIVE_EXAMPLES: &str = "\
Examples:
  pitstop release archive 1.3.2 --product lamp
  pitstop release unarchive 1.3.2 --product lamp

A release is archived once its rollout is over, and no newer one that is not
archived requires it or may return to it. Devices keep it. Those that are pinned
to it are named: they are offered nothing until they are unpinned.";

/// The rollout that a release started is among so many of its product's newest.
const NEWEST_ROLLOUTS: usize = 20;

/// Releases.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Sign and publish an application, and roll it out
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(Box<Publish>),

    /// List the releases of a product, newest first
    List(List),

    /// Show one release
    Show(Show),

    /// Archive a release: it is known, and offered to nobody
    #[command(after_help = ARCHIVE_EXAMPLES)]
    Archive(PutAway),

    /// Take a release out of the archive: what brought it to devices before does so again
    #[command(after_help = ARCHIVE_EXAMPLES)]
    Unarchive(PutAway),
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

    /// Publish an image that has no app descriptor: nothing in it says that it is an application
    #[arg(long)]
    without_descriptor: bool,

    /// Publish it although it is known to confirm itself, where the bootloader starts the application
    #[arg(long)]
    confirms_itself: bool,

    /// Publish the image of another release as a new one, such as to go back to it
    #[arg(long)]
    same_image: bool,

    /// Publish it although no device is known to trust the key: those that tell theirs refuse it
    #[arg(long)]
    untrusted_key: bool,

    /// Sequence number, higher than that of every release before [default: the newest one's plus 1]
    #[arg(long, value_name = "N", value_parser = options::number)]
    sequence: Option<u64>,

    /// A file with notes for people
    #[arg(long, value_name = "FILE")]
    notes_file: Option<PathBuf>,

    /// The channel whose devices get it [default: stable]
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    channel: Option<String>,

    /// The ELF file of the build: kept on the server beside the image, to find it again. Nothing reads it yet
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,

    /// A release that devices may go back to from this one, by version or number; may be given more than once
    #[arg(long, value_name = "RELEASE")]
    revert_to: Vec<String>,

    /// A release that a device must run, or a newer one, before it is offered this one; by version or number. A device that
    /// runs less is offered that one first
    #[arg(long, value_name = "RELEASE")]
    requires: Option<String>,

    /// Devices refuse the release after this moment (UTC): 2027-06-30T12:00:00Z, or 2027-06-30 for the end of that day
    #[arg(long, value_name = "TIME", value_parser = options::end)]
    expires: Option<OffsetDateTime>,

    /// Publish it and offer it to no device: `pitstop rollout new` does that later
    #[arg(long, conflicts_with_all = plan::OPTIONS)]
    hold: bool,

    #[command(flatten)]
    plan: PlanOptions,

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

/// `release archive` and `release unarchive`.
#[derive(Debug, Args)]
pub(crate) struct PutAway {
    /// The release: a version, or its sequence number
    #[arg(value_name = "RELEASE")]
    release: String,

    /// The product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    #[command(flatten)]
    connection: Connection,
}

impl PutAway {
    /// `archive` or `unarchive`.
    fn run(self, ui: &Ui, action: &str) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let sequence = options::sequence_of(&client, &self.product, &self.release)?;
        let release = client.put_release(&self.product, sequence, action)?;
        let heading = match release.archived_at {
            Some(_) => format!("Release {sequence} is archived: it is offered to nobody"),
            None => format!("Release {sequence} is not archived"),
        };
        ui.result(&release, || page(&release, heading))
    }
}

/// `release show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The release: a version, or its sequence number
    #[arg(value_name = "RELEASE")]
    release: String,

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
            Self::Archive(put) => put.run(ui, "archive"),
            Self::Unarchive(put) => put.run(ui, "unarchive"),
            Self::Show(Show { release, product, connection }) => {
                let client = connection.client()?;
                let sequence = options::sequence_of(&client, &product, &release)?;
                let release = client.release(&product, sequence)?;
                ui.result(&release, || page(&release, format!("Release #{sequence} of product {product}")))
            }
        }
    }
}

/// What was published, and how it gets to devices.
#[derive(Serialize)]
struct Published {
    /// Whether it was published before, and nothing is new.
    was_there: bool,
    #[serde(flatten)]
    release: Release,
    /// The rollout that brings it to devices; `None` with `--hold`.
    rollout: Option<Rollout>,
}

impl Publish {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let rollout_plan = self.plan.plan()?;
        let reverts = rollout_plan.as_ref().is_some_and(|plan| plan.on_halt() == OnHalt::Revert);
        if reverts && self.revert_to.is_empty() {
            return Err(Failure::usage(
                "expected --revert-to with --on-halt revert, found none: devices would have no way back",
            )
            .hint("name the releases that devices may return to, such as --revert-to 1.3.2"));
        }
        let expires_at_s = self.expires.map(seconds_ahead).transpose()?;
        let image = ImageFile::read(&self.file)?;
        let key = KeyFile::read(&self.key)?;
        let notes = self.notes_file.as_deref().map(read_notes).transpose()?;
        let elf = self.elf.as_deref().map(read_elf).transpose()?;

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
            without_descriptor: self.without_descriptor,
            expires_at_s,
            revert_to: self.revert_to(&client)?,
        })?;
        let requires = self.requires(&client)?;

        let digest = plan.manifest.artifact.digest.to_string();
        upload(ui, &client, &self.product, "uploading the image", &digest, &image.bytes)?;
        let elf_digest = match &elf {
            Some(elf) => {
                let digest = manifest::Digest::of(elf).to_string();
                upload(ui, &client, &self.product, "uploading the ELF file", &digest, elf)?;
                Some(digest)
            }
            None => None,
        };
        let by_default = !self.hold && rollout_plan.is_none();
        let release = client.create_release(
            &product.name,
            &PublishBody {
                notes: notes.unwrap_or_default(),
                channel: self.channel,
                requires,
                elf_digest,
                without_descriptor: self.without_descriptor,
                confirms_itself: self.confirms_itself,
                same_image: self.same_image,
                untrusted_key: self.untrusted_key,
                rollout: if by_default { StartRollout::Default } else { StartRollout::None },
                ..publish::body(&plan.signed)
            },
        )?;
        for warning in &release.warnings {
            ui.warning(warning);
        }
        let was_there = release.sequence.unsigned_abs() != sequence.0;
        let known = if was_there || by_default { rollout_of(&client, &release)? } else { None };
        if was_there {
            suits(&release, known.as_ref(), rollout_plan.as_ref(), self.hold)?;
            ui.warning(&format!(
                "nothing was published: this image is release #{} ({}) already; --same-image publishes it as a new one",
                release.sequence, release.version
            ));
        }
        let rollout = match (known, rollout_plan) {
            (None, Some(plan)) => {
                plan::warn_of_rest(ui, &plan);
                let (product, sequence) = (product.name.clone(), release.sequence);
                let new = NewRolloutBody { product, sequence, channel: None, plan: Some(plan), start: true };
                Some(client.create_rollout(&new)?)
            }
            (known, _) => known,
        };
        let published = Published { was_there, release, rollout };
        ui.result(&published, || published.page(&key))
    }

    fn requires(&self, client: &Client) -> Result<Option<i64>, Failure> {
        let release = self.requires.as_deref();
        release.map(|release| options::sequence_of(client, &self.product, release)).transpose()
    }

    fn revert_to(&self, client: &Client) -> Result<Vec<Sequence>, Failure> {
        if self.revert_to.is_empty() {
            return Ok(Vec::new());
        }
        let published = client.releases(&self.product, options::SEARCHED_RELEASES)?;
        Ok(publish::sequences_of(&self.revert_to, &published.items)?)
    }
}

/// Whether a release that was there before is rolled out as it is asked for now: by the same plan, or not at all. An image
/// may be published again and again, and nothing that somebody asks for is passed over in silence.
fn suits(
    release: &Release,
    rollout: Option<&Rollout>,
    asked: Option<&Plan>,
    hold: bool,
) -> Result<(), Failure> {
    let Some(rollout) = rollout else { return Ok(()) };
    let Release { product, sequence, version, .. } = release;
    let Rollout { id, state, plan, .. } = rollout;
    let is_held = !state.offers(true);
    let found = match asked {
        Some(asked) if asked != plan => format!("by another plan: {}", plan::in_a_line(plan)),
        None if hold && !is_held => "and --hold would have it offered to nobody".to_owned(),
        Some(_) | None => return Ok(()),
    };
    let message = format!(
        "this image is release {sequence} ({version}) already, and its rollout {id} is {state}, {found}"
    );
    let again = format!("pitstop rollout new {sequence} --product {product}");
    let hint = match (asked, state.is_finished()) {
        (None, _) => format!("to offer it to nobody, run `pitstop rollout pause {id}`"),
        (Some(_), true) => format!("to roll it out with this plan, run `{again}` with its options"),
        (Some(_), false) => format!(
            "to roll it out with this plan, stop that one with `pitstop rollout abort {id}` and run `{again}` with the \
             options of the plan"
        ),
    };
    Err(Failure::new(message).hint(hint))
}

/// The newest rollout of a release on its own channel.
fn rollout_of(client: &Client, release: &Release) -> Result<Option<Rollout>, Failure> {
    let filter = ListParams { product: Some(release.product.clone()), ..ListParams::default() };
    let newest = client.rollouts(&filter, NEWEST_ROLLOUTS)?.items;
    let is_of_it = |rollout: &Rollout| {
        rollout.release.sequence == release.sequence && rollout.channel == release.channel
    };
    Ok(newest.into_iter().find(is_of_it))
}

impl Published {
    fn page(&self, key: &KeyFile) -> Page {
        let Self { was_there, release, rollout } = self;
        let Release { product, channel, version, sequence, .. } = release;
        let (signed, heading) = if *was_there {
            ("Nothing is new.".to_owned(), format!("Release #{sequence} of {product} is {version} already"))
        } else {
            let signed = format!("Signed by {} ({}).", key.name, hex::encode(key.public().id()));
            (signed, format!("Published {product} {version}"))
        };
        // Its warnings were told on standard error.
        let page = page(&Release { warnings: Vec::new(), ..release.clone() }, heading);
        let Some(Rollout { id, state, next, plan, supersedes, .. }) = rollout else {
            let command =
                format!("pitstop rollout new {} --product {product} --plan '10%,100%'", release.sequence);
            return page
                .note(format!("{signed} No device is offered it yet."))
                .next("Roll it out:", [command]);
        };
        let devices = if *was_there {
            format!("Its rollout {id} is {state}: {next}.")
        } else if *plan == Plan::all_at_once() {
            format!("Every device of product {product} on {channel} runs it after its next start.")
        } else {
            format!("It goes to devices of product {product} on {channel}: {}.", plan::in_a_line(plan))
        };
        let superseded = match supersedes.as_slice() {
            [] => String::new(),
            ids if !was_there => {
                format!(" It supersedes {}, of which no further wave opens.", ids.join(", "))
            }
            _ => String::new(),
        };
        page.note(format!("{signed} {devices}{superseded}"))
            .next("Watch it:", [format!("pitstop rollout watch {id}")])
    }
}

fn upload(
    ui: &Ui,
    client: &Client,
    product: &str,
    label: &str,
    digest: &str,
    bytes: &[u8],
) -> Result<(), Failure> {
    let progress = ui.byte_progress(label, bytes.len() as u64);
    let content = progress.watch(Cursor::new(bytes));
    Ok(client.upload_artifact(product, digest, bytes.len() as u64, content)?)
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
                    Cell::from(&release.channel),
                    size(release.size_bytes.unsigned_abs()).into(),
                    short_digest(&release.digest).into(),
                    ago(&release.created_at, now).into(),
                    if release.archived_at.is_some() {
                        Cell::new(Tone::Dim, "archived")
                    } else {
                        Cell::from("")
                    },
                ]
            });
            let page = Page::plain()
                .table(["SEQUENCE", "VERSION", "CHANNEL", "SIZE", "DIGEST", "PUBLISHED", ""], rows);
            if releases.next_cursor.is_some() { page.more(self.limit) } else { page }
        })
    }
}

fn page(release: &Release, heading: String) -> Page {
    let size_bytes = release.size_bytes.unsigned_abs();
    let mut facts = vec![
        ("version", Cell::from(&release.version)),
        ("sequence", release.sequence.to_string().into()),
        ("chip", Cell::from(&release.chip)),
        ("size", format!("{} ({})", bytes(size_bytes), size(size_bytes)).into()),
        ("digest", Cell::from(&release.digest)),
        ("channel", Cell::from(&release.channel)),
    ];
    if !release.revert_to.is_empty() {
        let numbers = release.revert_to.iter().map(|sequence| format!("#{sequence}"));
        facts.push(("returns to", numbers.collect::<Vec<_>>().join(", ").into()));
    }
    if let Some(required) = release.requires {
        facts.push(("requires", format!("#{required}").into()));
    }
    if let Some(digest) = &release.elf_digest {
        facts.push(("ELF file", Cell::from(digest)));
    }
    for warning in &release.warnings {
        facts.push(("warning", Cell::new(Tone::Warn, warning)));
    }
    if let Some(app) = &release.app {
        let idf =
            if app.idf_version.is_empty() { String::new() } else { format!(", ESP-IDF {}", app.idf_version) };
        facts.push(("app", format!("{} {}{idf}", app.project_name, app.version).into()));
    }
    if !release.pinned.is_empty() {
        let what = if release.archived_at.is_some() {
            ", which are offered nothing: device set ID --unpin"
        } else {
            ""
        };
        facts.push(("pinned", Cell::new(Tone::Warn, format!("{}{what}", release.pinned.join(", ")))));
    }
    if let Some(at) = &release.archived_at {
        facts.push(("archived", Cell::new(Tone::Warn, ago(at, OffsetDateTime::now_utc()))));
    }
    facts.push(("published", ago(&release.created_at, OffsetDateTime::now_utc()).into()));
    let page = Page::titled(heading).facts(facts);
    match release.notes.trim() {
        "" => page,
        notes => page.note(notes),
    }
}

fn read_notes(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("the notes {} cannot be read: {error}", path.display())))
}

fn read_elf(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    const ELF: &[u8] = b"\x7fELF";
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("the ELF file {} cannot be read: {error}", path.display())))?;
    if !bytes.starts_with(ELF) {
        let message = format!("expected an ELF file at {}, found another one", path.display());
        return Err(
            Failure::new(message).hint("it is what the linker writes, beside the .bin: build/lamp.elf")
        );
    }
    Ok(bytes)
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
    fn a_release_does_not_expire_before_it_is_published() {
        assert!(seconds_ahead(OffsetDateTime::UNIX_EPOCH).is_err());
        let tomorrow = OffsetDateTime::now_utc() + time::Duration::days(1);
        assert_eq!(seconds_ahead(tomorrow), Ok(tomorrow.unix_timestamp() as u64));
    }
}
