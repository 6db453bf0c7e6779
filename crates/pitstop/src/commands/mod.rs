//! What each command does: one file per resource, options first, then the work.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod ca;
pub(crate) mod device;
pub(crate) mod flash;
pub(crate) mod fleet;
mod identity;
pub(crate) mod image;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod options;
mod plan;
pub(crate) mod product;
pub(crate) mod provision;
pub(crate) mod release;
pub(crate) mod rollout;
pub(crate) mod serve;
mod target;
pub(crate) mod token;
pub(crate) mod webhook;
mod wifi;

use crate::cli::Command;
use crate::failure::Failure;
use crate::ui::Ui;

/// Runs a command.
///
/// # Errors
/// [`Failure`]: what a person reads, with the next step and the exit code.
pub(crate) fn run(command: Command, ui: &Ui) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve.run(ui),
        Command::Admin(admin) => admin.run(ui),
        Command::Demo(demo) => demo.run(ui),
        Command::Simulate(simulate) => simulate.run(ui),
        Command::Keys(keys) => keys.run(ui),
        Command::Product(product) => product.run(ui),
        Command::Device(device) => device.run(ui),
        Command::Release(release) => release.run(ui),
        Command::Rollout(rollout) => rollout.run(ui),
        Command::Fleet(fleet) => fleet.run(ui),
        Command::Token(token) => token.run(ui),
        Command::Webhook(webhook) => webhook.run(ui),
        Command::Whoami(whoami) => whoami.run(ui),
        Command::Audit(audit) => audit.run(ui),
        Command::Ca(ca) => ca.run(ui),
        Command::Flash(flash) => flash.run(ui),
        Command::Provision(provision) => provision.run(ui),
        Command::Layout(layout) => layout.run(ui),
        Command::Image(image) => image.run(ui),
    }
}
