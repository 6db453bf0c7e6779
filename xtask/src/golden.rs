//! `cargo xtask golden`: golden files are never edited.
//!
//! A golden file pins the bytes of a protocol or format version. Editing one to make a test pass breaks every device
//! in the field that speaks that version. So each tracked file below `crates/*/tests/golden/` must be, in the working
//! tree, what it was in the commit that first added its path. A new version gets a new file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::process;

/// As git understands it; `glob` keeps `*` from matching more than one folder.
const GOLDEN_FILES: &str = ":(glob)crates/*/tests/golden/**";

/// Starts the line of a commit in the log; a path cannot start with it, git prints paths from the root.
const COMMIT_MARK: &str = "/commit ";

/// Result of a check that found no fault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This many files are as they were first committed.
    Unchanged(usize),
    /// History is not there to compare with; the reason.
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Unchanged(count) => write!(f, "golden: {count} files are as they were first committed"),
            Outcome::Skipped(reason) => write!(f, "golden: SKIPPED, {reason}"),
        }
    }
}

/// Compares every tracked golden file with its first commit.
///
/// Errors: the paths that differ.
pub(crate) fn run(root: &Path) -> anyhow::Result<Outcome> {
    let git = |arguments: &[&str]| process::read(Command::new("git").args(arguments).current_dir(root));
    match git(&["rev-parse", "--is-shallow-repository"]).as_deref() {
        Ok("false") => {}
        Ok(_) => return Ok(Outcome::Skipped("a shallow clone has no history to compare with".into())),
        // An unpacked archive, or a folder that git refuses for its owner: git's own words tell which.
        Err(error) => return Ok(Outcome::Skipped(format!("git has no answer here: {error:#}"))),
    }
    if git(&["rev-parse", "--verify", "HEAD"]).is_err() {
        return Ok(Outcome::Skipped("no commit yet".into()));
    }

    let log = format!("--format={COMMIT_MARK}%H");
    // Oldest first. Without rename detection: a file that was moved and edited is a new file, its old path a lost one.
    let log =
        ["-c", "core.quotePath=false", "log", "--reverse", "--diff-filter=A", "--no-renames", "--name-only"]
            .into_iter()
            .chain([log.as_str(), "--", GOLDEN_FILES])
            .collect::<Vec<_>>();
    let log = git(&log)?;
    let first_commits = first_commits(&log);

    let tracked = git(&["-c", "core.quotePath=false", "ls-files", "--", GOLDEN_FILES])?;
    let mut unchanged = 0;
    let mut edited = Vec::new();
    for path in tracked.lines() {
        // Staged, not committed yet: nothing to compare with.
        let Some(commit) = first_commits.get(path) else { continue };
        let first = git(&["rev-parse", &format!("{commit}:{path}")])?;
        // Fails when the file was deleted from the working tree only: an edit as well.
        match git(&["hash-object", "--", path]) {
            Ok(now) if now == first => unchanged += 1,
            Ok(_) | Err(_) => edited.push(format!("  {path} (first committed in {commit})")),
        }
    }
    if !edited.is_empty() {
        bail!(
            "golden files were edited; restore them, and add a new file for a new version:\n{}",
            edited.join("\n")
        );
    }
    Ok(Outcome::Unchanged(unchanged))
}

/// Path -> commit that added it first, of a log with its oldest commit first.
fn first_commits(log: &str) -> HashMap<&str, &str> {
    let mut commits = HashMap::new();
    let mut commit = "";
    for line in log.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix(COMMIT_MARK) {
            Some(id) => commit = id,
            None => {
                commits.entry(line).or_insert(commit);
            }
        }
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn git(root: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
        process::read(Command::new("git").args(identity).args(arguments).current_dir(root)).unwrap();
    }

    /// A repository with one golden file, committed.
    fn repository() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        git(root.path(), &["init", "--quiet"]);
        fs::create_dir_all(root.path().join("crates/wire/tests/golden")).unwrap();
        fs::write(root.path().join("crates/wire/tests/golden/v1.hex"), "a1").unwrap();
        commit(root.path());
        root
    }

    fn commit(root: &Path) {
        git(root, &["add", "--all"]);
        git(root, &["commit", "--quiet", "--message", "test"]);
    }

    #[test]
    fn untouched_and_new_files_pass() {
        let root = repository();
        fs::write(root.path().join("crates/wire/tests/golden/v2.hex"), "a2").unwrap();
        fs::write(root.path().join("crates/wire/tests/other.rs"), "").unwrap();
        assert_eq!(run(root.path()).unwrap(), Outcome::Unchanged(1));
        commit(root.path());
        fs::write(root.path().join("crates/wire/tests/other.rs"), "// edited").unwrap();
        assert_eq!(run(root.path()).unwrap(), Outcome::Unchanged(2));
    }

    #[test]
    fn an_edit_is_caught_before_and_after_its_commit() {
        let root = repository();
        fs::write(root.path().join("crates/wire/tests/golden/v1.hex"), "a2").unwrap();
        assert!(run(root.path()).unwrap_err().to_string().contains("v1.hex"));
        commit(root.path());
        assert!(run(root.path()).unwrap_err().to_string().contains("v1.hex"));
    }

    #[test]
    fn delete_and_add_again_is_an_edit() {
        let root = repository();
        let file = root.path().join("crates/wire/tests/golden/v1.hex");
        fs::remove_file(&file).unwrap();
        commit(root.path());
        fs::write(&file, "a2").unwrap();
        commit(root.path());
        assert!(run(root.path()).is_err());
    }

    #[test]
    fn without_history_it_says_skipped() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(run(folder.path()).unwrap(), Outcome::Skipped(_)));
    }
}
