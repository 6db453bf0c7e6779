//! Tokens, the audit log, and the settings of products and devices, against a real server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::Bench;

#[test]
fn tokens_have_roles_and_end() {
    let bench = Bench::start();
    bench.make_lamp();
    let me = bench.json(&["whoami"]);
    assert_eq!((&me["role"], &me["product"]), (&"admin".into(), &serde_json::Value::Null));

    let made = bench.json(&[
        "token",
        "new",
        "ci",
        "--role",
        "viewer",
        "--product",
        "lamp",
        "--expires",
        "2999-12-31",
    ]);
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let whoami = bench.text(&["whoami", "--token", token]);
    assert!(whoami.contains("viewer") && whoami.contains("lamp") && whoami.contains("3000"), "{whoami}");
    assert_eq!(made["expires_at"], "3000-01-01T00:00:00Z", "the end of that day");
    let log = bench.text(&["audit", "list", "--kind", "token", "--actor", me["name"].as_str().unwrap()]);
    assert!(log.contains("role viewer"), "{log}");
    let refused = bench.refusal(&["device", "new", "--product", "lamp", "--token", token]);
    assert!(refused.contains("operator") && refused.contains("hint: "), "{refused}");

    assert!(bench.text(&["token", "list"]).contains(id));
    bench.command(&["token", "revoke", id, "--yes"]).assert().success();
    assert!(bench.text(&["token", "list"]).contains("revoked"));
    bench.refusal(&["whoami", "--token", token]);
    bench.command(&["token", "new", "x", "--role", "king"]).assert().code(2);
}

#[test]
fn every_change_is_in_the_audit_log() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-1"]);
    bench.json(&[
        "device",
        "set",
        "lamp-1",
        "--channel",
        "beta",
        "--tags",
        "lab, office",
        "--note",
        "by the door",
    ]);
    let list = bench.text(&["audit", "list", "--subject", "lamp-1"]);
    assert!(list.contains("channel stable -> beta"), "{list}");
    let nobody = bench.text(&["audit", "list", "--actor", "tok-nobody"]);
    assert!(nobody.contains("No such changes"), "{nobody}");

    let export = ["audit", "export", "--kind", "device", "--out", "audit.ndjson"];
    bench.json(&export);
    let again = bench.refusal(&export);
    assert!(again.contains("does not exist yet, found audit.ndjson") && again.contains("--force"), "{again}");
    bench.json(&[&export[..], &["--force"]].concat());
    let exported = std::fs::read_to_string(bench.folder.path().join("audit.ndjson")).unwrap();
    let lines: Vec<serde_json::Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "made, and changed");
    assert_eq!(lines[0]["after"]["channel"], "beta");
}

#[test]
fn devices_are_made_by_the_hundred_and_found_again() {
    let bench = Bench::start();
    bench.make_lamp();
    let many = ["device", "new", "--product", "lamp", "--count", "1003", "--prefix", "bulk", "--tags", "lab"];
    bench.json(&[&many[..], &["--csv", "devices.csv"]].concat());
    let path = bench.folder.path().join("devices.csv");
    let csv = std::fs::read_to_string(&path).unwrap();
    let ids: std::collections::BTreeSet<_> =
        csv.lines().skip(1).map(|line| line.split_once(',').unwrap().0.to_owned()).collect();
    assert_eq!((csv.lines().next(), ids.len()), (Some("device_id,enrollment_token"), 1003));
    assert!(ids.iter().all(|id| id.starts_with("bulk-")));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // Tokens that are nowhere else are not written over.
    let again = bench.refusal(&[&many[..], &["--csv", "devices.csv"]].concat());
    assert!(again.contains("devices.csv") && again.contains("does not exist yet"), "{again}");

    let one = ids.first().unwrap();
    bench.json(&["device", "set", one, "--channel", "beta"]);
    let count = |filter: &[&str]| {
        let list = bench.json(&[&["device", "list", "--limit", "2000"], filter].concat());
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--tag", "lab", "--health", "new"]), 1003);
    assert_eq!(
        (count(&["--channel", "beta"]), count(&["--search", one]), count(&["--tag", "none"])),
        (1, 1, 0)
    );
    let nothing = bench.text(&["device", "list", "--health", "crashing"]);
    assert!(nothing.contains("No such devices"), "{nothing}");
    bench.command(&["device", "set", one]).assert().code(2);
    bench.json(&["device", "clear-quarantine", one]);
    bench.json(&["device", "approve", one]);
}

#[test]
fn a_product_has_a_chip_revision_and_another_layout_until_it_has_devices() {
    let bench = Bench::start();
    let fan =
        ["product", "new", "fan", "--chip", "esp32c3", "--chip-revision", "v0.3", "--key", "publisher.key"];
    bench.make_lamp();
    assert_eq!(bench.json(&fan)["chip_revision"], 3);
    let shown = bench.text(&["product", "set", "fan", "--chip-revision", "v1.1", "--layout", "8mb"]);
    assert!(shown.contains("esp32c3, v1.1 and up") && shown.contains("8mb"), "{shown}");
    let any = bench.json(&["product", "set", "fan", "--chip-revision", "any"]);
    assert_eq!((&any["chip_revision"], &any["layout"]["name"]), (&serde_json::Value::Null, &"8mb".into()));
    bench.json(&["device", "new", "--product", "fan", "--id", "fan-1"]);
    let refused = bench.refusal(&["product", "set", "fan", "--layout", "4mb"]);
    assert!(refused.contains("fan with 1 device:"), "{refused}");
    assert!(bench.text(&["device", "list", "--clone-suspected"]).contains("No such devices"));
    let wrong = bench.command(&["product", "set", "fan", "--chip-revision", "new"]).assert().code(2);
    assert!(String::from_utf8_lossy(&wrong.get_output().stderr).contains("such as v0.4, or any"));
}

#[test]
fn products_have_settings_keys_and_channels() {
    let bench = Bench::start();
    bench.make_lamp();
    let nothing = bench.command(&["product", "set", "lamp"]).assert().code(2).get_output().stderr.clone();
    assert!(String::from_utf8(nothing).unwrap().contains("--silence-deadline"));
    let plan =
        ["--plan", "1%,100%", "--soak", "1h", "--silence-deadline", "12h", "--enrollment-approval", "true"];
    let changed = bench.json(&[&["product", "set", "lamp"], &plan[..]].concat());
    assert_eq!(
        (&changed["silence_deadline_s"], &changed["enrollment_approval"]),
        (&43_200.into(), &true.into())
    );
    let shown = bench.text(&["product", "show", "lamp"]);
    assert!(shown.contains("1 %, then 100 %; soak 1h") && shown.contains("12h"), "{shown}");
    let changed = bench.json(&["product", "set", "lamp", "--no-plan"]);
    assert!(changed["default_plan"].is_null() && changed["enrollment_approval"] == true);

    bench.json(&["product", "channel", "add", "lamp", "factory-floor"]);
    assert!(bench.text(&["product", "channel", "list", "lamp"]).contains("factory-floor"));
    let unknown = bench.refusal(&["device", "new", "--product", "lamp", "--channel", "night"]);
    assert!(unknown.contains("night"), "{unknown}");

    bench.command(&["keys", "new", "--out", "bob.key", "--name", "bob"]).assert().success();
    let key = bench.json(&["product", "key", "add", "lamp", "--key", "bob.key"]);
    bench.json(&["product", "key", "revoke", "lamp", key["id"].as_str().unwrap(), "--yes"]);
    let keys = bench.text(&["product", "key", "list", "lamp"]);
    assert!(keys.contains("alice") && keys.contains("revoked"), "{keys}");
}
