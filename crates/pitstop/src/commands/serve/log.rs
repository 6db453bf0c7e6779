//! What goes to standard error while a server runs, and to a collector if there is one.

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::options::{LogFormat, LogOptions};
#[cfg(feature = "otlp")]
use super::otlp::Exporter;
use crate::failure::Failure;

/// A log that was set up.
pub(super) struct Log {
    #[cfg(feature = "otlp")]
    exporter: Option<Exporter>,
}

impl Log {
    /// Sets up the log of this process, before there is an async runtime.
    pub(super) fn init(options: &LogOptions) -> Result<Self, Failure> {
        let filter = options.filter.parse::<Targets>().map_err(|error| {
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
        let log = tracing_subscriber::registry().with(filter).with(lines);
        #[cfg(feature = "otlp")]
        {
            let exporter = options.otlp_endpoint.as_deref().map(Exporter::new).transpose()?;
            // Fails only when a log is set up already, and then there is one.
            let _ = log.with(exporter.as_ref().map(Exporter::layer)).try_init();
            Ok(Self { exporter })
        }
        #[cfg(not(feature = "otlp"))]
        {
            if options.otlp_endpoint.is_some() {
                return Err(Failure::usage("this pitstop was built without OTLP").hint(
                    "build it with `cargo build --release --features otlp`, or leave otlp-endpoint out",
                ));
            }
            // As above.
            let _ = log.try_init();
            Ok(Self {})
        }
    }

    /// Sends what a collector has not got yet.
    pub(super) fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.finish();
        }
    }
}
