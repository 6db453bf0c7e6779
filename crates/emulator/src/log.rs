//! The console in a file.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::LogError;

/// What machines print, in a file that stays. A clone writes to the same file.
#[derive(Clone, Debug)]
pub struct Log {
    file: Arc<Mutex<File>>,
    start: Instant,
}

impl Log {
    /// A new file; one that is there is replaced.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        let file = File::create(path).map_err(|source| LogError { path: path.to_owned(), source })?;
        Ok(Self { file: Arc::new(Mutex::new(file)), start: Instant::now() })
    }

    /// One line, after the seconds since the log began.
    pub fn line(&self, text: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for a person who looks for a reason; a full disk shows elsewhere.
        let _ = writeln!(file, "{:8.3} {text}", self.start.elapsed().as_secs_f64());
    }
}
