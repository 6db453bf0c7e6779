//! Child processes: run one and show what was run, or run one and read its answer.

use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

/// Runs `command` with its output on the terminal.
///
/// Prints the command line first, so that it can be repeated by hand. Errors name the command line and its exit status.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", display(command));
    }
    Ok(())
}

/// Like [`run`], for a caller to whom exit statuses mean different things.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    let line = display(command);
    eprintln!("$ {line}");
    command.status().with_context(|| format!("cannot start `{line}`"))
}

/// Runs `command` silently and says whether it succeeded; a program that cannot be started counts as failed.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Runs `command` and returns its standard output without surrounding white space.
///
/// Errors name the command line and what it wrote to standard error.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let line = display(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed: {}\n{}", output.status, stderr.trim());
    }
    let stdout =
        String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not answer in UTF-8"))?;
    Ok(stdout.trim().to_owned())
}

/// The command as one would type it into a shell: folder, variables that were set, program, arguments.
fn display(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quote(&value?.to_string_lossy())))
    });
    let program = std::iter::once(quote(&command.get_program().to_string_lossy()));
    let arguments = command.get_args().map(|argument| quote(&argument.to_string_lossy()));
    let line = variables.chain(program).chain(arguments).collect::<Vec<_>>().join(" ");
    match command.get_current_dir() {
        Some(folder) => format!("(cd {} && {line})", quote(&folder.to_string_lossy())),
        None => line,
    }
}

/// A word for a POSIX shell: in single quotes unless every character is plain.
fn quote(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./,:=+@%".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_displayed_command_can_be_typed_again() {
        let mut command = Command::new("cargo");
        command.args(["--config", "profile.'*'=0"]).env("RUSTFLAGS", "--deny warnings").current_dir("/a b");
        let expected = r"(cd '/a b' && RUSTFLAGS='--deny warnings' cargo --config 'profile.'\''*'\''=0')";
        assert_eq!(display(&command), expected);
    }

    #[test]
    fn failures_name_the_command_and_what_it_said() {
        let error = read(Command::new("git").arg("no-such-command")).unwrap_err().to_string();
        assert!(error.contains("`git no-such-command` failed"), "{error}");
        assert!(error.contains("is not a git command"), "{error}");
    }
}
