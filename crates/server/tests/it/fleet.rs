//! The fleet as a whole: counts now, samples over time, and the metrics that come of them.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, check_in};
use crate::client::Connection;

/// Asks until the answer is as it should be: samples are taken by a clock.
async fn eventually(app: &TestApp, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..200 {
        let answer = app.get(path).await;
        if is_right(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} did not become right: {}", app.get(path).await);
}

#[tokio::test]
async fn the_fleet_is_counted_now_and_over_time() {
    let app = TestApp::start_with(|config| config.fleet_sample = Duration::from_millis(100)).await;
    let empty = app.get("/fleet/summary").await;
    assert_eq!(empty["devices"], 0);
    assert_eq!(empty["by_health"]["ok"], 0);
    assert_eq!(empty["by_release"], json!([]));

    let (_, identity) = app.enrolled().await;
    app.create_device("lamp-2", "lamp").await;
    app.create_product("fan").await;
    app.create_device("fan-1", "fan").await;
    let image = app.release(1, "1.0.0").await;
    let running = check_in(Some((&image, 1)));
    app.connect(Some(&identity)).await.check_in(&running).await.expect(200);
    app.admin(Method::POST, "/devices/lamp-2/revoke", "").await.expect(200);
    app.admin(Method::POST, "/devices/fan-1/suspend", "").await.expect(200);

    let summary = eventually(&app, "/fleet/summary", |summary| summary["by_health"]["suspended"] == 1).await;
    assert_eq!(summary["devices"], 3);
    assert_eq!(summary["seen_last_24h"], 1);
    let by_health = json!({ "crashing": 0, "failing": 0, "new": 0, "ok": 1, "revoked": 1, "silent": 0, "suspended": 1, "unheard": 0, "updating": 0 });
    assert_eq!(summary["by_health"], by_health);
    let nothing =
        |product: &str| json!({ "product": product, "sequence": null, "version": null, "devices": 1 });
    let first = json!({ "product": "lamp", "sequence": 1, "version": "1.0.0", "devices": 1 });
    assert_eq!(summary["by_release"], json!([nothing("fan"), first, nothing("lamp")]));

    let of_lamp = app.get("/fleet/summary?product=lamp").await;
    assert_eq!(of_lamp["by_release"], json!([first, nothing("lamp")]));
    assert_eq!(of_lamp["devices"], 2);

    let last = |history: &Value| history["samples"].as_array().unwrap().last().cloned().unwrap_or_default();
    let history =
        eventually(&app, "/fleet/history", |history| last(history)["by_health"]["suspended"] == 1).await;
    assert_eq!(last(&history)["by_health"], by_health);
    assert_eq!(last(&history)["by_release"], summary["by_release"]);
    let of_fan = last(&app.get("/fleet/history?product=fan").await);
    assert_eq!(of_fan["by_release"], json!([nothing("fan")]));
    let later = app.get("/fleet/history?since=2999-01-01T00:00:00Z").await;
    assert_eq!(later["samples"], json!([]));
    let long_ago = app.get("/fleet/history?since=1970-01-01T00:00:00Z").await;
    assert!(long_ago["samples"].as_array().unwrap().len() <= 2, "{long_ago}");
    app.admin(Method::GET, "/fleet/history?since=yesterday", "").await.expect(400);

    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let metrics = connection.get("/metrics", &[]).await.expect(200);
    for line in [
        "pitstop_devices{product=\"lamp\",health=\"ok\"} 1",
        "pitstop_devices{product=\"lamp\",health=\"revoked\"} 1",
        "pitstop_devices{product=\"lamp\",health=\"silent\"} 0",
        "pitstop_devices{product=\"fan\",health=\"suspended\"} 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in\n{}", metrics.text());
    }
}
