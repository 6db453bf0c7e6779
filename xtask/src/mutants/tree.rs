//! A copy of the repository in which faults are planted. The repository itself is never touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cargo_metadata::{Message, TargetKind};

use super::fault::{Fault, Suite, TestId};
use crate::lab::checks::Check;
use crate::lab::{self, Images};
use crate::{firmware, process, toolchain};

/// How long a test may take: five times the slowest one here on two busy cores. One that takes longer does not end.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// The copy.
pub(super) struct Tree {
    folder: PathBuf,
    /// One for all faults, so that each costs no more than what it changes.
    target_dir: PathBuf,
    /// Two runs at a time would plant faults in each other's copy.
    _lock: File,
}

/// A built program of tests.
pub(super) struct Program {
    pub(super) suite: Suite,
    executable: PathBuf,
    package_dir: PathBuf,
}

/// How tests ended.
pub(super) enum Ran {
    /// All of them passed.
    Passed,
    /// These did not.
    Failed(Vec<String>),
    /// The program died before it could tell.
    Died,
    /// Not within [`TEST_LIMIT`].
    DidNotEnd,
}

impl Tree {
    /// Brings the copy up to date. Only files that differ are written, so that only what they are of is built again.
    pub(super) fn of(root: &Path) -> anyhow::Result<Self> {
        let scratch = root.join("target/mutants");
        std::fs::create_dir_all(&scratch)?;
        let lock = File::create(scratch.join("lock"))?;
        if lock.try_lock().is_err() {
            bail!("another run of `cargo xtask mutants` is under way here; wait for its end");
        }
        let tree = Self { folder: scratch.join("tree"), target_dir: scratch.join("build"), _lock: lock };
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let list = process::read(Command::new("git").args(list).current_dir(root))?;
        let wanted: BTreeSet<_> =
            list.split('\0').map(PathBuf::from).filter(|path| root.join(path).is_file()).collect();
        for path in &wanted {
            let (from, to) = (root.join(path), tree.folder.join(path));
            if std::fs::read(&to).ok() != Some(std::fs::read(&from)?) {
                to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                std::fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        tree.remove_others(&tree.folder, &wanted)?;
        Ok(tree)
    }

    fn remove_others(&self, folder: &Path, wanted: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.remove_others(&path, wanted)?;
            } else if path.strip_prefix(&self.folder).is_ok_and(|relative| !wanted.contains(relative)) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Runs `with` while the fault is in the copy.
    pub(super) fn with_fault<T>(
        &self,
        fault: &Fault,
        with: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.folder.join(&fault.file);
        let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", fault.file))?;
        std::fs::write(&path, fault.planted(&source)?)?;
        let result = with();
        std::fs::write(&path, source)?;
        result
    }

    /// Builds tests of a package: those of `suites`, or all when there are none.
    ///
    /// Errors: they cannot be built; the compiler's words.
    pub(super) fn build(&self, package: &str, suites: &BTreeSet<Suite>) -> anyhow::Result<Vec<Program>> {
        let mut command = Command::new("cargo");
        command.args([
            "test",
            "--no-run",
            "--quiet",
            "--locked",
            "--message-format",
            "json-render-diagnostics",
        ]);
        match package {
            // It is in the firmware's workspace.
            "chainload" => command.args(["--manifest-path", "firmware/chainload/Cargo.toml"]),
            package => command.args(["--package", package]),
        };
        if suites.is_empty() {
            command.args(["--lib", "--tests"]);
        }
        for suite in suites {
            match suite {
                Suite::Unit => command.arg("--lib"),
                Suite::Integration(target) => command.args(["--test", target]),
            };
        }
        // Whatever builds the repository: the compiler is not to find the fault by a lint, and what is built is thrown
        // away with the next fault.
        command
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("RUSTFLAGS", "--cap-lints allow")
            .env("CARGO_INCREMENTAL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        let output = command.current_dir(&self.folder).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("the tests of {package} do not build:\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut programs = Vec::new();
        for message in Message::parse_stream(output.stdout.as_slice()) {
            let Message::CompilerArtifact(artifact) = message? else { continue };
            let Some(executable) = artifact.executable.filter(|_| artifact.profile.test) else { continue };
            let suite = match artifact.target.kind.contains(&TargetKind::Test) {
                true => Suite::Integration(artifact.target.name),
                false => Suite::Unit,
            };
            let package_dir = artifact.manifest_path.parent().context("a manifest is in a folder")?;
            programs.push(Program {
                suite,
                executable: executable.into(),
                package_dir: package_dir.to_owned().into(),
            });
        }
        programs.sort_by(|one, other| one.suite.cmp(&other.suite));
        Ok(programs)
    }

    /// Builds the updater as it stands in the copy, and asks it a question; returns what went wrong.
    ///
    /// Errors: it cannot be built.
    pub(super) fn ask(&self, check: Check) -> anyhow::Result<Option<String>> {
        let toolchain = toolchain::find_or_install(&self.folder)?;
        let images = self.target_dir.join("firmware");
        firmware::make_some(&self.folder, &toolchain, &images, &lab::IMAGES)?;
        let images = Images::read(&images)?;
        Ok(check.run(images).err().map(|error| format!("{error:#}")))
    }

    /// Builds and runs one test.
    ///
    /// Errors: it cannot be built, or there is no such test.
    pub(super) fn run(&self, test: &TestId) -> anyhow::Result<Ran> {
        let programs = self.build(&test.package, &BTreeSet::from([test.suite.clone()]))?;
        let program = programs.first().with_context(|| format!("expected the tests of `{test}`"))?;
        program.run(Some(&test.name))
    }
}

impl Program {
    /// Runs one test, or all.
    ///
    /// Errors: there is no such test.
    pub(super) fn run(&self, test: Option<&str>) -> anyhow::Result<Ran> {
        let mut command = Command::new(&self.executable);
        command.args(test.map(|name| ["--exact", name]).into_iter().flatten());
        command
            .current_dir(&self.package_dir)
            .env("CARGO_MANIFEST_DIR", &self.package_dir)
            // A failure here is meant, and none to try first next time.
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(Stdio::piped());
        let line = self.executable.display();
        let child = command.spawn().with_context(|| format!("cannot start {line}"))?;
        let Some(output) = output_in_time(child)? else { return Ok(Ran::DidNotEnd) };
        let text = String::from_utf8_lossy(&output.stdout);
        if let Some(name) = test.filter(|_| !text.contains("\nrunning 1 test\n")) {
            bail!("expected a test `{name}`, found none");
        }
        let failed: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
            .map(str::to_owned)
            .collect();
        Ok(match (output.status.success(), failed.is_empty()) {
            (true, _) => Ran::Passed,
            (false, false) => Ran::Failed(failed),
            (false, true) => Ran::Died,
        })
    }
}

struct Output {
    status: std::process::ExitStatus,
    stdout: Vec<u8>,
}

/// What a child says until it ends; nothing when it does not in time, and is killed.
fn output_in_time(mut child: Child) -> anyhow::Result<Option<Output>> {
    let mut pipe = child.stdout.take().context("its output is piped")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut stdout = Vec::new();
        let read = pipe.read_to_end(&mut stdout).map(|_| stdout);
        // Nobody listens any more when it took too long.
        let _ = sender.send(read);
    });
    let stdout = match receiver.recv_timeout(TEST_LIMIT) {
        Ok(stdout) => Some(stdout?),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            child.kill()?;
            None
        }
    };
    let status = child.wait()?;
    let _ = reader.join();
    Ok(stdout.map(|stdout| Output { status, stdout }))
}
