//! What goes to standard error while a server runs.

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::options::{LogFormat, LogOptions};
use crate::failure::Failure;

/// Sets up the log of this process.
pub(super) fn init(options: &LogOptions) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&options.filter).map_err(|error| {
        Failure::usage(format!("expected a log filter, found {:?}: {error}", options.filter))
            .hint("such as --log info, or --log warn,server=debug")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match options.format {
        LogFormat::Text => {
            let has_colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
            lines.with_ansi(has_colours).with_target(false).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only when a log is set up already, and then there is one.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(())
}
