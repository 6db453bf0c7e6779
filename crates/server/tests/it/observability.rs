//! What whoever watches the server sees: `/healthz`, `/readyz`, `/metrics`, request ids.

use std::fs;
use std::time::Duration;

use serde_json::json;
use server::{Artifacts, Clock};

use crate::app::{TestApp, check_in};
use crate::client::Connection;

async fn metrics(app: &TestApp) -> String {
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let answer = connection.get("/metrics", &[]).await.expect(200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    answer.text().to_owned()
}

#[track_caller]
fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
}

#[tokio::test]
async fn metrics_tell_what_devices_did() {
    let app = TestApp::start().await;
    let (device, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    let mut connection = app.connect(Some(&identity)).await;
    connection.check_in(&check_in(None)).await.expect(200);
    connection.check_in(&check_in(Some((&image, 1)))).await.expect(200);
    let artifact = format!("/v1/artifacts/{}", manifest::Digest::of(&image));
    connection.get(&artifact, &[("range", "bytes=0-999")]).await.expect(206);
    connection.get("/v1/nothing-of-ours", &[]).await.expect(404);
    app.enroll_as(&device.id, "wrong", "").await.expect(401);

    let text = metrics(&app).await;
    for line in [
        "pitstop_check_ins_total{verdict=\"offer\"} 1",
        "pitstop_check_ins_total{verdict=\"up-to-date\"} 1",
        "pitstop_enrollments_total{outcome=\"enrolled\"} 1",
        "pitstop_enrollments_total{outcome=\"refused\"} 1",
        "pitstop_artifact_sent_bytes_total 1000",
        "pitstop_tls_handshakes_total{outcome=\"full\"} 3",
        "pitstop_http_requests_total{listener=\"device\",method=\"POST\",route=\"/v1/check-in\",status=\"200\"} 2",
        "pitstop_http_requests_total{listener=\"device\",method=\"GET\",route=\"/v1/artifacts/{digest}\",status=\"206\"} 1",
        "pitstop_http_requests_total{listener=\"device\",method=\"GET\",route=\"other\",status=\"404\"} 1",
        "pitstop_http_requests_total{listener=\"admin\",method=\"POST\",route=\"/api/v1/products\",status=\"201\"} 1",
        "pitstop_connections_open{listener=\"admin\"} 1",
    ] {
        assert_has(&text, line);
    }
}

#[tokio::test]
async fn a_server_that_cannot_serve_is_alive_and_not_ready() {
    let app = TestApp::start_with(|config| config.artifacts = Artifacts::Local).await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let ready = connection.get("/readyz", &[]).await.expect(200);
    let well = json!({
        "ready": true, "database": "ok", "artifacts": "ok", "room": "ok", "clock": "ok", "notices": [],
    });
    assert_eq!(ready.json(), well);
    let artifacts = app.dir.path().join("artifacts");
    fs::rename(&artifacts, app.dir.path().join("elsewhere")).unwrap();
    let not_ready = connection.get("/readyz", &[]).await.expect(503);
    let not_ready = not_ready.json();
    let answers = ["ready", "database", "artifacts", "room"].map(|member| &not_ready[member]);
    assert_eq!(answers, [&json!(false), &json!("ok"), &json!("failed"), &json!("ok")]);
    connection.get("/healthz", &[]).await.expect(200);
}

#[tokio::test]
async fn answers_of_the_admin_listener_have_an_id_each() {
    let app = TestApp::start().await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let first = connection.get("/healthz", &[]).await;
    let second = connection.get("/api/v1/products", &[]).await.expect(401);
    for answer in [&first, &second] {
        let id = answer.header("x-request-id");
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let of_a_device = app.connect(None).await.get("/v1/nothing-of-ours", &[]).await.expect(404);
    assert_eq!(of_a_device.header("x-request-id"), "");
}

/// Name, type, unit and labels of a metric.
type Described = (String, String, String, String);

/// The table of docs/operations.md.
fn documented() -> Vec<Described> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md")).unwrap();
    let (_, rest) = text.split_once("<!-- metrics -->").unwrap();
    let (table, _) = rest.split_once("<!-- /metrics -->").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let mut rows: Vec<_> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            (cells[1].clone(), cells[2].clone(), cells[3].clone(), cells[4].clone())
        })
        .collect();
    rows.sort();
    rows
}

/// What `/metrics` says of itself.
fn served(text: &str) -> Vec<Described> {
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (family, kind) = line.split_once(' ').unwrap();
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let unit = if family.ends_with("_seconds") {
                "seconds"
            } else if family.ends_with("_bytes") {
                "bytes"
            } else {
                ""
            };
            let sample =
                if kind == "histogram" { format!("{family}_count") } else { format!("{family}{suffix}") };
            let sample = text.lines().find(|line| {
                line.strip_prefix(sample.as_str()).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            let sample = sample.unwrap_or_else(|| panic!("{family} has no sample"));
            let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
            let labels: Vec<_> = labels.split(',').filter_map(|label| label.split_once('=')).collect();
            let labels = labels.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            (format!("{family}{suffix}"), kind.to_owned(), unit.to_owned(), labels)
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn documents_dashboard_and_alerts_name_the_metrics_that_there_are() {
    let app = TestApp::start_with(|config| config.fleet_sample = Duration::from_millis(50)).await;
    app.create_product("lamp").await;
    app.create_device("lamp-1", "lamp").await;
    app.connect(None).await.get("/v1/nothing-of-ours", &[]).await.expect(404);
    let mut text = metrics(&app).await;
    for _ in 0..200 {
        if text.contains("pitstop_devices{") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        text = metrics(&app).await;
    }
    let served = served(&text);
    assert_eq!(documented(), served, "the table of metrics in docs/operations.md");

    let known: Vec<_> = served
        .iter()
        .flat_map(|(name, kind, ..)| match kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
            _ => vec![name.clone()],
        })
        .collect();
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/");
    let dashboard = fs::read_to_string(format!("{deploy}grafana/pitstop.json")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(parsed["panels"].as_array().unwrap().len() > 10);
    let alerts = fs::read_to_string(format!("{deploy}prometheus/pitstop.rules.yaml")).unwrap();
    let is_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    for (file, text) in [("grafana", &dashboard), ("prometheus", &alerts)] {
        let names = text.split(|letter| !is_of_a_name(letter)).filter(|word| word.starts_with("pitstop_"));
        let mut count = 0;
        for name in names {
            assert!(known.iter().any(|known| known == name), "{file} names {name}");
            count += 1;
        }
        assert!(count > 5, "{file}: {count}");
    }
}

#[tokio::test]
async fn what_is_about_to_end_is_told_before_it_does() {
    let clock = Clock::default();
    let app = TestApp::start_with(|config| config.clock = clock.clone()).await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let ca = app.get("/ca").await;
    assert_eq!(ca["notices"], json!([]));
    let text = connection.get("/metrics", &[]).await.text().to_owned();
    for certificate in ["ca", "server"] {
        let name = format!("pitstop_certificate_end_timestamp_seconds{{certificate=\"{certificate}\"}} ");
        let (_, value) = text.split_once(&name).unwrap_or_else(|| panic!("{name} in {text}"));
        let ends_s: i64 = value.lines().next().unwrap().parse().unwrap();
        assert!(ends_s * 1000 > clock.now_ms(), "{certificate}: {ends_s}");
    }

    // A CA lives for ten years. A jump over the server's certificate's life leaves it no time to renew itself.
    let day_ms = 24 * 3_600_000;
    clock.advance_ms((3652 - 364) * day_ms);
    let notices = app.get("/ca").await["notices"].clone();
    let told: Vec<_> = notices.as_array().unwrap().iter().map(|notice| notice.as_str().unwrap()).collect();
    assert!(told[0].starts_with("the CA ends in 36"), "{told:?}");
    assert!(told[0].contains("pitstop ca rollover begin"), "{told:?}");
    let ready = connection.get("/readyz", &[]).await.expect(200).json();
    assert_eq!(ready["notices"][0], told[0]);
    app.post("/ca/rollover/begin", &json!({})).await.expect(200);
    let ca = app.get("/ca").await;
    let notices = ca["notices"].as_array().unwrap();
    assert!(notices.iter().any(|notice| notice.as_str().unwrap().starts_with("the old CA ends")), "{ca}");
    clock.advance_ms(400 * day_ms);
    let ca = app.get("/ca").await;
    assert!(ca["notices"][0].as_str().unwrap().starts_with("the old CA ended at 20"), "{ca}");
}
