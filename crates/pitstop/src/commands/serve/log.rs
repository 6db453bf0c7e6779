//! What goes to standard error while a server runs, and to a collector if there is one.

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
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

/// Levels, and modules with theirs. [`Targets`] takes any word for a module of which everything is logged, also a level that is
/// misspelt.
fn filter(text: &str) -> Result<Targets, String> {
    let is_module =
        |text: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter));
    for part in text.split(',') {
        match part.split_once('=') {
            Some((module, _)) if module.is_empty() || !is_module(module) => {
                return Err(format!("{module:?} is no module"));
            }
            None if part.is_empty() || part.parse::<LevelFilter>().is_err() => {
                return Err(format!("{part:?} is no level"));
            }
            Some(_) | None => {}
        }
    }
    text.parse::<Targets>().map_err(|error| error.to_string())
}

impl Log {
    /// Sets up the log of this process, before there is an async runtime.
    pub(super) fn init(options: &LogOptions) -> Result<Self, Failure> {
        let filter = filter(&options.filter).map_err(|why| {
            Failure::usage(format!("expected a log filter, found {:?}: {why}", options.filter))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_of_levels_and_modules() {
        for good in ["info", "off", "warn,server=debug", "info,rustls=off", "server::api=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in
            ["", ",", "nonsense", "info;warn", "/re/", "server=loud", "=info", "info,server[span]=debug"]
        {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
    }
}
