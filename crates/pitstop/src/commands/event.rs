//! `pitstop event`: what happened to all devices.

use api::event::Filter;
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use crate::client::Connection;
use crate::commands::export::Target;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  pitstop event export --product lamp --since 2026-11-01 --out events.ndjson
  pitstop event export | jq -r 'select(.kind == \"crashed\") | .device'

One device's events are in `pitstop device show`. The server keeps events for
a year unless its setting keep-events-days says otherwise.";

/// Events of devices.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Write them, newest first, as one JSON document a line
    #[command(after_help = EXAMPLES)]
    Export(Export),
}

/// `event export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Only events of devices of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only events from this moment on (UTC), such as 2026-11-01
    #[arg(long, value_name = "TIME", value_parser = options::start)]
    since: Option<OffsetDateTime>,

    /// Only events before this moment (UTC), or up to the end of this day, such as 2026-11-30
    #[arg(long, value_name = "TIME", value_parser = options::end)]
    until: Option<OffsetDateTime>,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    connection: Connection,
}

impl EventCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self::Export(Export { product, since, until, target, connection }) = self;
        let client = connection.client()?;
        let (since, until) =
            (since.map(options::rfc3339).transpose()?, until.map(options::rfc3339).transpose()?);
        target.check()?;
        let filter = Filter { product: product.unwrap_or_default(), since, until };
        target.take(ui, "the events", client.export_events(&filter)?)
    }
}
