//! Deleting and archiving, against a real server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use sha2::Digest as _;
use support::{Bench, image};

#[test]
fn devices_tokens_and_products_are_deleted_when_that_is_meant() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-1"]);
    let asked = bench.question(&["device", "delete", "lamp-1"]);
    assert!(asked.contains("Delete device lamp-1 and its events?") && asked.contains("--yes"), "{asked}");
    assert_eq!(bench.json(&["device", "show", "lamp-1"])["state"], "new");
    let refused = bench.refusal(&["product", "delete", "lamp", "--yes"]);
    assert!(refused.contains("1 device and") && refused.contains("pitstop device list"), "{refused}");
    assert_eq!(bench.json(&["device", "delete", "lamp-1", "--yes"])["id"], "lamp-1");
    bench.refusal(&["device", "show", "lamp-1"]);

    bench.json(&["device", "new", "--product", "lamp", "--count", "3", "--csv", "devices.csv"]);
    let filter = ["device", "delete", "--filter", "product=lamp,state=new"];
    let asked = bench.question(&filter);
    assert!(asked.contains("Delete 3 devices of product lamp and their events?"), "{asked}");
    let deleted = bench.json(&[&filter[..], &["--yes"]].concat());
    assert_eq!((&deleted["count"], &deleted["changed"]), (&3.into(), &3.into()));
    assert_eq!(bench.json(&["device", "list"])["items"], serde_json::json!([]));

    let id = bench.json(&["token", "new", "ci", "--role", "viewer"])["id"].as_str().unwrap().to_owned();
    let refused = bench.refusal(&["token", "delete", &id, "--yes"]);
    assert!(refused.contains("revoke it first") && refused.contains("hint: "), "{refused}");
    bench.command(&["token", "revoke", &id, "--yes"]).assert().success();
    bench.question(&["token", "delete", &id]);
    bench.command(&["token", "delete", &id, "--yes"]).assert().success();
    assert!(!bench.text(&["token", "list"]).contains(&id));

    bench.question(&["product", "delete", "lamp"]);
    bench.command(&["product", "delete", "lamp", "--yes"]).assert().success();
    bench.refusal(&["product", "show", "lamp"]);
}

#[test]
fn releases_are_archived_and_artifacts_that_nobody_needs_are_shown() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("lamp.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("lamp.bin", &["--hold"]);
    let archived = bench.json(&["release", "archive", "1.0.0", "--product", "lamp"]);
    assert!(archived["archived_at"].is_string(), "{archived}");
    assert!(bench.text(&["release", "list", "--product", "lamp"]).contains("archived"));
    let refused = bench.refusal(&["rollout", "new", "1.0.0", "--product", "lamp"]);
    assert!(refused.contains("archived") && refused.contains("pitstop release unarchive"), "{refused}");
    let taken_out = bench.json(&["release", "unarchive", "1", "--product", "lamp"]);
    assert!(taken_out["archived_at"].is_null(), "{taken_out}");

    let artifacts = bench.json(&["artifact", "list", "--product", "lamp"]);
    assert_eq!(
        (&artifacts["items"][0]["used"], &artifacts["items"][0]["deletable_at"]),
        (&true.into(), &().into())
    );
    assert!(bench.text(&["artifact", "prune"]).contains("Every artifact is that of a release"));
    assert_eq!(bench.json(&["artifact", "prune", "--yes"])["freed_bytes"], 0);
}

#[test]
fn what_no_release_has_is_pruned_a_day_later() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.clock.advance_ms(-25 * 3_600_000);
    let token = std::fs::read_to_string(bench.data.join("admin.token")).unwrap();
    let digest = hex::encode(sha2::Sha256::digest(b"spare"));
    ureq::put(format!("{}/api/v1/artifacts/{digest}?product=lamp", bench.url))
        .header("authorization", format!("Bearer {}", token.trim()))
        .send(&b"spare"[..])
        .unwrap();
    let listed = bench.text(&["artifact", "list", "--unused"]);
    assert!(listed.contains("nobody") && listed.contains("5 B"), "{listed}");
    bench.clock.advance_ms(25 * 3_600_000);
    let asked = bench.question(&["artifact", "prune", "--product", "lamp"]);
    assert!(asked.contains("Delete this artifact, 5 B in all?"), "{asked}");
    let pruned = bench.json(&["artifact", "prune", "--yes"]);
    assert_eq!((&pruned["freed_bytes"], pruned["deleted"].as_array().unwrap().len()), (&5.into(), 1));
    assert_eq!(bench.json(&["artifact", "list"])["items"].as_array().unwrap().len(), 0);
}

#[test]
fn events_are_exported() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-1"]);
    let line: serde_json::Value =
        serde_json::from_str(&bench.text(&["event", "export", "--product", "lamp"])).unwrap();
    assert_eq!((&line["device"], &line["kind"]), (&"lamp-1".into(), &"created".into()));
    let export = ["event", "export", "--since", "2020-01-01", "--out", "events.ndjson"];
    bench.json(&export);
    let again = bench.refusal(&export);
    assert!(again.contains("found events.ndjson") && again.contains("--force"), "{again}");
}
