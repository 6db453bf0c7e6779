//! The dashboard in a real browser: its tests, and the screenshots of `docs/screenshots/`.
//!
//! Chromium is driven by playwright-core from Node.js (`crates/dashboard/browser`); neither brings a browser of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::{process, workspace};

/// Where Debian has it; `CHROMIUM` names another.
const CHROMIUM: &str = "/usr/bin/chromium";
/// The oldest Node.js that playwright-core runs on.
const NODE_MAJOR: u32 = 18;

/// Runs the tests. Errors: a test that failed.
pub(crate) fn test(root: &Path) -> anyhow::Result<()> {
    node(root, &["--test", "--test-reporter=spec"])
}

/// Makes the screenshots anew. Errors: a missing tool, or a page that did not come.
pub(crate) fn screenshots(root: &Path) -> anyhow::Result<()> {
    if let Some(missing) = missing() {
        bail!(missing);
    }
    node(root, &["screenshots.mjs"])
}

/// Which tool is missing, and how to get it.
pub(crate) fn missing() -> Option<String> {
    if !chromium().is_file() {
        return Some(format!(
            "no Chromium at {}: `apt-get install chromium`, or set CHROMIUM",
            chromium().display()
        ));
    }
    if !process::succeeds(Command::new("npm").arg("--version")) {
        return Some("npm is not installed: `apt-get install nodejs npm`".into());
    }
    let version = process::read(Command::new("node").arg("--version")).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_none_or(|major| major < NODE_MAJOR).then(|| {
        format!("expected Node.js {NODE_MAJOR} or later, found {version:?}: `apt-get install nodejs`")
    })
}

fn chromium() -> PathBuf {
    env::var_os("CHROMIUM").map_or_else(|| PathBuf::from(CHROMIUM), PathBuf::from)
}

fn node(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let folder = root.join("crates/dashboard/browser");
    // Built before the tests' clock runs.
    let pitstop = workspace::pitstop(root)?;
    process::run(Command::new("npm").args(["ci", "--no-fund", "--no-audit"]).current_dir(&folder))?;
    process::run(
        Command::new("node")
            .args(arguments)
            .env("CHROMIUM", chromium())
            .env("DASHBOARD_STAGE", pitstop)
            .current_dir(&folder),
    )
}
