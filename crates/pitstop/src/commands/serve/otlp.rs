//! Spans to a collector of OpenTelemetry: OTLP over HTTP, in protobuf, without TLS. A collector on the same machine
//! or network takes them on from there.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::failure::Failure;

/// Name of the service, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = "pitstop";

/// Where an exporter puts spans (OTLP 1.0, section "OTLP/HTTP request").
const PATH: &str = "v1/traces";

/// Spans on their way out.
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// An exporter to a collector such as `http://127.0.0.1:4318`. Not to be called within an async runtime: its
    /// HTTP client has one of its own.
    pub(super) fn new(endpoint: &str) -> Result<Self, Failure> {
        if !endpoint.starts_with("http://") {
            return Err(Failure::usage(
                "setting `otlp-endpoint`: expected `http://host:port`, found another URL",
            )
            .hint("send to a collector near by over HTTP, and let it use TLS for the rest of the way"));
        }
        // The HTTP client wants to know it even without TLS. Fails only when it is known already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/{PATH}", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| Failure::new(format!("setting `otlp-endpoint`: {error}")))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter);
        Ok(Self(provider.build()))
    }

    /// What gives spans to the exporter.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE))
    }

    /// Sends what is left.
    pub(super) fn finish(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last spans could not be sent: {error}");
        }
    }
}
