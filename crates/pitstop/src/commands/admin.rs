//! `pitstop admin`: what is done on the server's own machine, with its files.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use server::{BackupError, BackupSummary};

use crate::failure::Failure;
use crate::ui::{ByteProgress, Cell, Page, Spinner, Ui, bytes, hints};

const BACKUP_EXAMPLES: &str = "\
Examples:
  pitstop admin backup /backups/monday
  pitstop admin backup /backups/monday --data /var/lib/pitstop

The server may be running. The backup holds the CA's key: whoever has it can
make devices and servers. A database in PostgreSQL and artifacts in an S3 store
are not in it: see docs/storage.md.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  pitstop admin restore /backups/monday --data /var/lib/pitstop
  pitstop serve --data /var/lib/pitstop";

/// The server's own files.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Copy the data directory, also while the server runs
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup(Backup),

    /// Make a data directory of a backup; what is there is never overwritten
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
}

/// `admin backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to put the backup: a directory that is not there yet, or empty
    #[arg(value_name = "DIR")]
    to: PathBuf,

    #[command(flatten)]
    data: Data,
}

/// `admin restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "DIR")]
    from: PathBuf,

    #[command(flatten)]
    data: Data,
}

/// Which data directory.
#[derive(Debug, Args)]
struct Data {
    /// The server's data directory
    #[arg(
        long,
        env = "PITSTOP_DATA",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "pitstop-data"
    )]
    data: PathBuf,
}

impl Admin {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Backup(Backup { to, data: Data { data } }) => {
                let mut progress = Progress::new(ui, "copying the database", "backing up");
                let summary = server::backup(&data, &to, |done, total| progress.tell(done, total));
                drop(progress);
                let summary = summary.map_err(failure)?;
                ui.result(&summary, || backup_page(&summary, &data, &to))
            }
            Self::Restore(Restore { from, data: Data { data } }) => {
                let mut progress = Progress::new(ui, "reading the backup", "restoring");
                let summary = server::restore(&from, &data, |done, total| progress.tell(done, total));
                drop(progress);
                let summary = summary.map_err(failure)?;
                ui.result(&summary, || restore_page(&summary, &from, &data))
            }
        }
    }
}

/// A sign of life, and a bar once it is known how much there is to do.
struct Progress<'a> {
    ui: &'a Ui,
    label: &'static str,
    spinner: Option<Spinner>,
    bar: Option<ByteProgress>,
}

impl<'a> Progress<'a> {
    fn new(ui: &'a Ui, first: &str, label: &'static str) -> Self {
        Self { ui, label, spinner: Some(ui.spinner(first)), bar: None }
    }

    fn tell(&mut self, done_bytes: u64, total_bytes: u64) {
        self.spinner = None;
        self.bar.get_or_insert_with(|| self.ui.byte_progress(self.label, total_bytes)).set(done_bytes);
    }
}

fn backup_page(summary: &BackupSummary, data: &Path, to: &Path) -> Page {
    let page = page("Backed up", summary, data, to);
    let page = if summary.has_database {
        page
    } else {
        page.note(
            "There is no pitstop.db in the data directory: this backup has the CA, the keys and the files. If the \
             database is in PostgreSQL, copy it with pg_dump.",
        )
    };
    page.note("It holds the CA's key: keep it as safe as the server.")
}

fn restore_page(summary: &BackupSummary, from: &Path, data: &Path) -> Page {
    page("Restored", summary, data, from).next(
        "Next, start the server:",
        [format!("pitstop serve --data {}", hints::word(&data.display().to_string()))],
    )
}

fn page(heading: &str, summary: &BackupSummary, data: &Path, backup: &Path) -> Page {
    Page::titled(heading).facts([
        ("data", Cell::from(data.display().to_string())),
        ("backup", Cell::from(format!("{} of {}", backup.display(), summary.created_at))),
        ("files", Cell::from(format!("{}, {}", summary.files, bytes(summary.bytes)))),
    ])
}

fn failure(error: BackupError) -> Failure {
    let hint = match &error {
        BackupError::NoData { .. } => Some("name the server's directory with --data"),
        BackupError::NoBackup { .. } => Some("make one with `pitstop admin backup DIR`"),
        BackupError::NoCa { .. } => Some("no device trusts a server without it: name another directory"),
        BackupError::NotEmpty { .. }
        | BackupError::File { .. }
        | BackupError::Inside { .. }
        | BackupError::Database(_)
        | BackupError::Format { .. }
        | BackupError::Damaged { .. } => None,
    };
    Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
}
