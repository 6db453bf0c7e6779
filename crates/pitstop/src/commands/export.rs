//! What the server gives as lines of JSON, into a file or to standard output.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::ui::{Page, Ui};

/// Where the lines go.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Into this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Replace the file if it is there
    #[arg(long, requires = "out")]
    force: bool,
}

impl Target {
    /// Refuses a file that is there, before anything is asked for.
    ///
    /// # Errors
    /// When there is one, and it is not to be replaced.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.out.as_deref().filter(|path| !self.force && path.exists()) {
            Some(path) => Err(cannot(path, io::ErrorKind::AlreadyExists.into())),
            None => Ok(()),
        }
    }

    /// Writes all of `what`, such as `the audit log`.
    ///
    /// # Errors
    /// When the lines break off, or cannot be written.
    pub(crate) fn take(self, ui: &Ui, what: &str, lines: impl Read) -> Result<(), Failure> {
        let Some(path) = self.out else {
            let mut lines = lines;
            return match io::copy(&mut lines, &mut io::stdout().lock()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(Failure::new(format!("{what} broke off: {error}")))
                }
                Ok(_) | Err(_) => Ok(()),
            };
        };
        let progress = ui.spinner("exporting");
        let cannot = |error| cannot(&path, error);
        let mut open = File::options();
        open.write(true).truncate(true).create(self.force).create_new(!self.force);
        let mut file = open.open(&path).map_err(cannot)?;
        let mut lines = progress.watch(lines);
        let size =
            io::copy(&mut lines, &mut file).and_then(|size| file.flush().map(|()| size)).map_err(cannot)?;
        drop(lines);
        drop(progress);
        ui.result(&serde_json::json!({ "path": path, "size_bytes": size }), || {
            Page::titled(format!("Exported {what} to {}", path.display()))
        })
    }
}

fn cannot(path: &Path, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("expected a file that does not exist yet, found {}", path.display()))
                .hint("name another one with --out, or replace it with --force")
        }
        _ => Failure::new(format!("could not write {}: {error}", path.display())),
    }
}
