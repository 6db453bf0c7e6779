//! A planted fault, as the files in `xtask/mutants/` describe it.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::lab::checks::Check;

/// The areas in the order of the table, each a file in `xtask/mutants/`.
const AREAS: [&str; 8] =
    ["engine", "shell", "formats", "hand-over", "firmware", "rollout", "server-access", "server"];

/// Faults in one part of the code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Area {
    /// Heading of its table.
    pub(super) title: String,
    /// In the order of the table.
    #[serde(rename = "fault")]
    pub(super) faults: Vec<Fault>,
}

/// A fault that somebody could make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// Its name on the command line.
    pub(super) name: String,
    /// What is wrong with the fault in it.
    pub(super) means: String,
    /// Where it is planted, from the root of the repository.
    pub(super) file: String,
    /// The code that is right. It occurs once in the file.
    pub(super) find: String,
    /// What stands there instead.
    pub(super) plant: String,
    /// What must fail.
    pub(super) caught_by: CaughtBy,
    /// What must be said then; for a question to the firmware, whose answers are many.
    pub(super) says: Option<String>,
    /// Whether it is among those of continuous integration.
    #[serde(default)]
    pub(super) quick: bool,
}

/// What shows a fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum CaughtBy {
    /// A test.
    Test(TestId),
    /// A question to the updater that is built with the fault, on the crate chip: `lab installs`.
    Lab(Check),
}

/// A test by nextest's binary id and its name: `updater::engine nothing_new_writes_nothing`; without the part behind
/// the colons a test within the library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TestId {
    pub(super) package: String,
    pub(super) suite: Suite,
    pub(super) name: String,
}

/// A program of tests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Suite {
    /// Those within the library.
    Unit,
    /// A file in `tests/`.
    Integration(String),
}

/// Reads all faults.
pub(super) fn load(root: &Path) -> anyhow::Result<Vec<Area>> {
    let area = |name: &&str| {
        let path = root.join("xtask/mutants").join(name).with_extension("toml");
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a list of faults", path.display()))
    };
    AREAS.iter().map(area).collect()
}

impl Fault {
    /// `source` with the fault in it.
    ///
    /// Errors: the code has changed, so that nobody knows where to plant it.
    pub(super) fn planted(&self, source: &str) -> anyhow::Result<String> {
        let found = source.matches(&self.find).count();
        ensure!(
            found == 1,
            "expected this code once in {}, found it {found} times; say in xtask/mutants/ where the fault belongs now:\n{}",
            self.file,
            self.find
        );
        ensure!(self.find != self.plant, "expected other code than what is there, found the same");
        Ok(source.replacen(&self.find, &self.plant, 1))
    }
}

impl TryFrom<String> for CaughtBy {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        if let Some(check) = text.strip_prefix("lab ").and_then(Check::named) {
            return Ok(Self::Lab(check));
        }
        let Some((binary, name)) = text.split_once(' ') else {
            bail!("expected a test such as `updater::engine nothing_new_writes_nothing`, found {text:?}")
        };
        let (package, suite) = match binary.split_once("::") {
            Some((package, target)) => (package, Suite::Integration(target.to_owned())),
            None => (binary, Suite::Unit),
        };
        Ok(Self::Test(TestId { package: package.to_owned(), suite, name: name.to_owned() }))
    }
}

impl std::fmt::Display for CaughtBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Test(test) => test.fmt(f),
            Self::Lab(check) => write!(f, "lab {}", check.name()),
        }
    }
}

impl std::fmt::Display for TestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.suite {
            Suite::Unit => write!(f, "{} {}", self.package, self.name),
            Suite::Integration(target) => write!(f, "{}::{target} {}", self.package, self.name),
        }
    }
}
