//! The commands and their options, by clap. Each resource keeps its own in its file under `commands/`.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    admin, artifact, audit, ca, completions, device, event, flash, fleet, image, keys, layout, product,
    provision, quickstart, release, rollout, serve, token, webhook,
};
use crate::demo::Demo;
use crate::failure::Failure;
use crate::simulate::Simulate;
use crate::ui::{CLAP_STYLES, Ui};

const EXAMPLES: &str = "\
Examples:
  pitstop demo                         the main job, on a virtual device
  pitstop quickstart                   from nothing to a board that runs it
  pitstop serve                        run the server
  pitstop keys new                     make a publisher key
  pitstop product new lamp --chip esp32c3 --key publisher.key
  pitstop device new --product lamp    make a device and its enrollment token
  pitstop flash --port /dev/ttyUSB0 --product lamp --wifi workshop
  pitstop release publish app.bin --product lamp --key publisher.key
  pitstop rollout new 1.4.0 --product lamp --plan '1%,10%,100%' --soak 1h
  pitstop fleet status                 devices by health and by what they run
  pitstop image inspect app.bin        look into an image, without a server

Exit codes: 0 done, 1 failed, 2 wrong usage. NO_COLOR is respected. With --json,
results are JSON on standard output, and the last line of standard error is the
problem (RFC 9457) when there is one.";

/// Behind the options of every command, before `--help`.
const JSON_ORDER: usize = 900;

/// Over-the-air updates for ESP32 applications that never know they are being updated.
#[derive(Debug, Parser)]
#[command(name = "pitstop", version, styles = CLAP_STYLES, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print the result as JSON, for scripts
    #[arg(long, global = true, display_order = JSON_ORDER)]
    pub(crate) json: bool,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From nothing to a board that runs a release: key, server, product, flash
    Quickstart(Box<quickstart::Quickstart>),

    /// Run the server
    Serve(serve::Serve),

    /// The server's own files: backup and restore
    #[command(subcommand)]
    Admin(admin::Admin),

    /// Show the main job end to end, on a virtual device
    Demo(Demo),

    /// Many light devices against a server: load, herds, releases that go wrong
    Simulate(Box<Simulate>),

    /// Publisher keys: who may publish
    #[command(subcommand)]
    Keys(keys::Keys),

    /// Products: a chip, a flash layout, publisher keys
    #[command(subcommand)]
    Product(product::ProductCommand),

    /// Devices: ids, enrollment tokens, state
    #[command(subcommand)]
    Device(device::DeviceCommand),

    /// Releases: publish an application
    #[command(subcommand)]
    Release(release::ReleaseCommand),

    /// Artifacts: what was uploaded, and what of it nobody needs
    #[command(subcommand)]
    Artifact(artifact::ArtifactCommand),

    /// Rollouts: bring a release to devices in waves, which stop themselves
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),

    /// The fleet: how all devices do
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),

    /// API tokens: who may do what
    #[command(subcommand)]
    Token(token::TokenCommand),

    /// Webhooks: a backend of your own is told what happens
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),

    /// Show whose token this is, and what it is good for
    Whoami(token::Whoami),

    /// The audit log: who changed what
    #[command(subcommand)]
    Audit(audit::AuditCommand),

    /// Events: what happened to devices, all of it
    #[command(subcommand)]
    Event(event::EventCommand),

    /// The CA of devices and server, and replacing it
    #[command(subcommand)]
    Ca(ca::CaCommand),

    /// Make a device: updater, layout and vault, written to a chip or into a flash file
    Flash(Box<flash::Flash>),

    /// Rewrite only the vault of a device: identity, server, Wi-Fi
    Provision(Box<provision::Provision>),

    /// Flash layouts: does it fit, and how would it
    #[command(subcommand)]
    Layout(layout::LayoutCommand),

    /// Image files, without a server
    #[command(subcommand)]
    Image(image::Image),

    /// Print a script by which a shell completes these commands
    Completions(completions::Completions),

    /// Write the manual: a page for each command
    Man(completions::Man),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// [`Failure`]: what a person reads, with the next step and the exit code.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Quickstart(quickstart) => quickstart.run(ui),
            Self::Serve(serve) => serve.run(ui),
            Self::Admin(admin) => admin.run(ui),
            Self::Demo(demo) => demo.run(ui),
            Self::Simulate(simulate) => simulate.run(ui),
            Self::Keys(keys) => keys.run(ui),
            Self::Product(product) => product.run(ui),
            Self::Device(device) => device.run(ui),
            Self::Release(release) => release.run(ui),
            Self::Artifact(artifact) => artifact.run(ui),
            Self::Rollout(rollout) => rollout.run(ui),
            Self::Fleet(fleet) => fleet.run(ui),
            Self::Token(token) => token.run(ui),
            Self::Webhook(webhook) => webhook.run(ui),
            Self::Whoami(whoami) => whoami.run(ui),
            Self::Audit(audit) => audit.run(ui),
            Self::Event(event) => event.run(ui),
            Self::Ca(ca) => ca.run(ui),
            Self::Flash(flash) => flash.run(ui),
            Self::Provision(provision) => provision.run(ui),
            Self::Layout(layout) => layout.run(ui),
            Self::Image(image) => image.run(ui),
            Self::Completions(completions) => completions.run(Cli::command(), ui),
            Self::Man(man) => man.run(Cli::command(), ui),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_may_stand_anywhere() {
        for line in [["pitstop", "--json", "product", "list"], ["pitstop", "product", "list", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().json);
        }
    }
}
