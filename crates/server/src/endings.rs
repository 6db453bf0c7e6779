//! Certificates that are about to end. The server's are told in the log, by `GET /api/v1/ca`, by `/readyz` and as a metric; those
//! of devices by product, in the audit log, which webhooks follow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::app::App;
use crate::clock::rfc3339;
use crate::fleet::ENDS_SOON_DAYS;
use crate::store::{CertificateCount, Change, Record, StoreError};

/// A CA takes a rollover to replace, which takes as long as devices take to come: a year.
const CA_DAYS: i64 = 365;

/// The server's own certificate renews itself at a third of its life. One that is so near its end did not.
const SERVER_DAYS: i64 = 14;

/// The log tells once a day what is about to end.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The metric is set so often.
const PERIOD: Duration = Duration::from_secs(60);

/// What is about to end, and what to do; nothing when all is well.
pub(crate) fn notices(app: &App, now: OffsetDateTime) -> Vec<String> {
    let mut notices = Vec::new();
    let mut note = |what: &str, not_after: OffsetDateTime, within_days: i64, remedy: &str| {
        let days = (not_after - now).whole_days();
        if days < within_days {
            let at = rfc3339(not_after.unix_timestamp() * 1000);
            let end = if not_after <= now { "ended".to_owned() } else { format!("ends in {days} days,") };
            notices.push(format!("{what} {end} at {at}: {remedy}"));
        }
    };
    let authorities = app.ca.get();
    let newest = authorities.for_devices();
    let remedy = if authorities.rollover().is_some() {
        "no rollover was finished in time; devices that miss it need a cable"
    } else {
        "replace it by `pitstop ca rollover begin`, while devices that trust it still come"
    };
    note("the CA", newest.not_after(), CA_DAYS, remedy);
    let old = authorities.all().next().filter(|old| old.fingerprint() != newest.fingerprint());
    if let Some(old) = old {
        note("the old CA", old.not_after(), CA_DAYS, "go on with its rollover, see `pitstop ca status`");
    }
    let remedy = "it renews itself two weeks and more before; the log says why it did not";
    note("the server's certificate", app.ca.server_not_after(), SERVER_DAYS, remedy);
    notices
}

/// The certificates that everybody depends on, by name: when each ends, and how many days before that is to be told.
fn ends(app: &App) -> [(&'static str, OffsetDateTime, i64); 2] {
    [
        ("ca", app.ca.get().for_devices().not_after(), CA_DAYS),
        ("server", app.ca.server_not_after(), SERVER_DAYS),
    ]
}

/// Notes in the audit log what is about to end, once for each certificate.
async fn tell(app: &App) -> Result<(), StoreError> {
    let now = app.config.clock.now_utc();
    for (certificate, not_after, within_days) in ends(app) {
        if (not_after - now).whole_days() >= within_days {
            continue;
        }
        let at = rfc3339(not_after.unix_timestamp() * 1000);
        let record = Record {
            action: "certificate.end",
            kind: "certificate",
            subject: certificate,
            product: None,
            before: None,
            after: Some(json!({ "not_after": at })),
        };
        let change = Change::by_server(app.config.clock.now_ms());
        app.people.store.tell_once(&format!("end {certificate} {at}"), record, &change).await?;
    }
    Ok(())
}

/// Notes in the audit log the products with devices whose certificate has ended, ends soon, or was refused: once a month for
/// each. Whose has ended renews it when it comes; what asks for somebody are those that do not come, and the refused ones.
async fn tell_of_devices(app: &App) -> Result<(), StoreError> {
    let now = app.config.clock.now_utc();
    for CertificateCount { product, ended, ending, refused } in &app.fleet.get().await?.certificates {
        let record = Record {
            action: "certificate.devices-end",
            kind: "product",
            subject: product,
            product: Some(product),
            before: None,
            after: Some(json!({
                "ended": ended, "ending": ending, "within_days": ENDS_SOON_DAYS, "refused": refused
            })),
        };
        let change = Change::by_server(app.config.clock.now_ms());
        let once = format!("devices-end {product} {}-{}", now.year(), u8::from(now.month()));
        app.people.store.tell_once(&once, record, &change).await?;
    }
    Ok(())
}

/// Sets the metric and writes the log until the server stops.
pub(crate) async fn keep_watching(app: Arc<App>) {
    let mut until_told = Duration::ZERO;
    loop {
        for (certificate, not_after, _) in ends(&app) {
            let gauge =
                app.metrics.certificate_ends.get_or_create_owned(&[("certificate", certificate.to_owned())]);
            gauge.set(not_after.unix_timestamp());
        }
        if until_told.is_zero() {
            until_told = DAY;
            for notice in notices(&app, app.config.clock.now_utc()) {
                tracing::warn!("{notice}");
            }
            for told in [tell(&app).await, tell_of_devices(&app).await] {
                if let Err(error) = told {
                    tracing::error!("what ends is not in the audit log: {error}");
                }
            }
        }
        until_told = until_told.saturating_sub(PERIOD);
        if app.stop.run_until_cancelled(sleep(PERIOD)).await.is_none() {
            return;
        }
    }
}
