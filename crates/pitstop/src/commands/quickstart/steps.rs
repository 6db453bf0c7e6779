//! The steps of `quickstart`: commands of this program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{DEFAULT_ADMIN, DEFAULT_DATA};
use crate::client::{Client, admin_token};
use crate::failure::Failure;
use crate::ui::hints::word;
use crate::ui::{Tone, Ui, paint};

/// One step, for people and scripts.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// As a shell takes it.
    pub(super) command: String,
    /// Nothing was done, because it is there already.
    pub(super) kept: bool,
}

/// Runs steps, and keeps what it ran.
pub(super) struct Steps<'a> {
    ui: &'a Ui,
    data: PathBuf,
    admin: SocketAddr,
    done: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(ui: &'a Ui, data: PathBuf, admin: SocketAddr) -> Self {
        Self { ui, data, admin, done: Vec::new() }
    }

    /// What was done.
    pub(super) fn into_done(self) -> Vec<Step> {
        self.done
    }

    /// A client of the server that the steps talk to.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&format!("http://{}", self.admin), &admin_token(&self.data)?))
    }

    /// A command with the options by which it finds the server.
    pub(super) fn at_server(&self, line: &[String]) -> Vec<String> {
        let mut line = line.to_vec();
        if self.admin.to_string() != DEFAULT_ADMIN {
            line.extend(["--url".to_owned(), format!("http://{}", self.admin)]);
        }
        if self.data.as_os_str() != DEFAULT_DATA {
            line.extend(["--data".to_owned(), self.data.display().to_string()]);
        }
        line
    }

    /// Says a command that is done in this process.
    pub(super) fn shown(&mut self, line: &[String]) -> Result<(), Failure> {
        let command = shell(line);
        self.ui.line(format_args!("\n{} {}", paint(Tone::Dim, "$"), paint(Tone::Command, &command)))?;
        self.done.push(Step { command, kept: false });
        Ok(())
    }

    /// Says a command that is not run, and why.
    pub(super) fn kept(&mut self, line: &[String], why: &str) -> Result<(), Failure> {
        let command = shell(line);
        self.ui.line(format_args!(
            "\n{} {}",
            paint(Tone::Dim, "#"),
            paint(Tone::Dim, &format!("{command}   ({why})"))
        ))?;
        self.done.push(Step { command, kept: true });
        Ok(())
    }

    /// Runs a command of this program as the user would.
    pub(super) fn run(&mut self, line: &[String]) -> Result<(), Failure> {
        self.shown(line)?;
        let stdout = if self.ui.is_json() { Stdio::null() } else { Stdio::inherit() };
        let status = this_program(line)?.stdout(stdout).status().map_err(not_run)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("`{}` failed, as told above", shell(line)))
            .hint("when that is mended, or with --yes if it asked, give the same `pitstop quickstart` again: what is done is kept"))
    }
}

/// This program with a command. Which server it talks to is said by options alone.
fn this_program(line: &[String]) -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(not_run)?;
    let mut command = Command::new(program);
    command.args(line);
    for variable in ["PITSTOP_URL", "PITSTOP_TOKEN", "PITSTOP_DATA"] {
        command.env_remove(variable);
    }
    Ok(command)
}

fn not_run(error: std::io::Error) -> Failure {
    Failure::new(format!("pitstop could not be started once more: {error}"))
}

/// A command as a shell takes it.
pub(super) fn shell(line: &[String]) -> String {
    let words: Vec<_> = line.iter().map(|text| word(text)).collect();
    format!("pitstop {}", words.join(" "))
}
