//! What cannot be undone: it is asked about, and nobody loses more than was shown.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use serde_json::{Value, json};
use support::Bench;

impl Bench {
    fn devices(&self, filter: &[&str]) -> usize {
        let list = [&["device", "list", "--limit", "1000"][..], filter].concat();
        self.json(&list)["items"].as_array().unwrap().len()
    }
}

#[test]
fn commands_that_cannot_be_undone_ask_with_numbers() {
    let bench = Bench::start();
    let key = bench.make_lamp()["publisher_keys"][0]["id"].as_str().unwrap().to_owned();
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-1"]);
    let token = bench.json(&["token", "new", "ci", "--role", "viewer"])["id"].as_str().unwrap().to_owned();
    let webhook = bench.json(&["webhook", "new", "http://127.0.0.1:9/"])["id"].as_str().unwrap().to_owned();
    for (arguments, expected) in [
        (&["device", "revoke", "lamp-1"][..], "Revoke 1 device of product lamp, lamp-1? It is final"),
        (&["product", "key", "revoke", "lamp", &key], "of alice, which leaves product lamp with 0 of them?"),
        (&["token", "revoke", &token], "of ci (viewer)? It is final"),
        (&["webhook", "remove", &webhook], "to http://127.0.0.1:9/?"),
        (&["ca", "rollover", "begin"], "Make the next CA? It is not taken back"),
        (&["ca", "rollover", "switch"], "0 devices do not trust it yet"),
        (&["ca", "rollover", "finish"], "Drop the old CA? It is final"),
    ] {
        let question = bench.question(arguments);
        assert!(question.contains(expected), "{arguments:?}: {question}");
    }
    assert_eq!(bench.json(&["device", "show", "lamp-1"])["state"], "new");
    assert_eq!(bench.json(&["ca", "status"])["phase"], "steady");

    let unknown = bench.refusal(&["product", "key", "revoke", "lamp", "0011223344556677"]);
    assert!(unknown.contains("product lamp has no publisher key 0011223344556677"), "{unknown}");
    bench.write("app.bin", &support::image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("app.bin", &[]);
    let rollouts = "1 rollout goes on to bring devices what it signed: ro-lamp-1.";
    let question = bench.question(&["product", "key", "revoke", "lamp", &key]);
    assert!(question.contains(rollouts), "{question}");
    let last = bench.refusal(&["product", "key", "revoke", "lamp", &key, "--yes"]);
    assert!(last.contains("is the last publisher key of product lamp") && last.contains("--force"), "{last}");
    let revoked = bench.text(&["product", "key", "revoke", "lamp", &key, "--yes", "--force"]);
    assert!(revoked.contains(rollouts) && revoked.contains("pitstop rollout abort ro-lamp-1"), "{revoked}");
    let again = bench.text(&["product", "key", "revoke", "lamp", &key]);
    assert!(again.contains("is revoked already"), "{again}");
    bench.json(&["rollout", "abort", "ro-lamp-1", "--yes"]);
    let keys = bench.json(&["product", "key", "list", "lamp"]);
    assert_eq!(keys["items"][0]["rollouts"], Value::Null);
    bench.json(&["device", "set", "lamp-1", "--pin", "1.0.0"]);
    let archived = bench.text(&["release", "archive", "1.0.0", "--product", "lamp"]);
    assert!(archived.contains("lamp-1, which are offered nothing"), "{archived}");
    bench.json(&["token", "revoke", &token, "--yes"]);
    bench.json(&["webhook", "remove", &webhook, "--yes"]);
    let behind = bench.json(&["ca", "rollover", "begin", "--yes"]);
    assert_eq!(behind["phase"], "begun");
    let switch = bench.question(&["ca", "rollover", "switch"]);
    assert!(switch.contains("1 device do not trust it yet"), "{switch}");
}

#[test]
fn a_suspension_is_taken_back() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.json(&["device", "new", "--product", "lamp", "--id", "AA:BB:CC:DD:EE:FF"]);
    let suspended = bench.text(&["device", "suspend", "AA:BB:CC:DD:EE:FF", "--reason", "lent"]);
    assert!(suspended.contains("pitstop device resume AA:BB:CC:DD:EE:FF"), "{suspended}");
    let shown = bench.text(&["device", "show", "AA:BB:CC:DD:EE:FF"]);
    assert!(shown.contains("state      suspended") && shown.contains("lent"), "{shown}");
    let token = bench.refusal(&["device", "token", "AA:BB:CC:DD:EE:FF"]);
    assert!(token.contains("is suspended; resume it first") && token.contains("device resume"), "{token}");
    let again = bench.text(&["device", "suspend", "AA:BB:CC:DD:EE:FF", "--reason", "stolen"]);
    assert!(again.contains("is suspended already") && again.contains("because: lent"), "{again}");
    assert_eq!(bench.json(&["device", "resume", "AA:BB:CC:DD:EE:FF"])["state"], "new");
    let again = bench.text(&["device", "resume", "AA:BB:CC:DD:EE:FF"]);
    assert!(again.contains("is not suspended") && again.contains("Nothing was changed"), "{again}");
    bench.json(&["device", "revoke", "AA:BB:CC:DD:EE:FF", "--yes"]);
    let again = bench.text(&["device", "revoke", "AA:BB:CC:DD:EE:FF"]);
    assert!(again.contains("is revoked already"), "{again}");
    let refused = bench.refusal(&["device", "resume", "AA:BB:CC:DD:EE:FF"]);
    assert!(refused.contains("is revoked, which is final"), "{refused}");
}

#[test]
fn all_suspended_devices_of_a_filter_are_listed_and_resumed() {
    let bench = Bench::start();
    bench.make_lamp();
    bench
        .command(&["device", "new", "--product", "lamp", "--count", "1002", "--csv", "many.csv"])
        .assert()
        .success();
    bench.json(&["device", "new", "--product", "lamp", "--id", "other"]);
    let suspended = bench.text(&["device", "suspend", "--filter", "product=lamp,search=lamp-", "--yes"]);
    assert!(suspended.contains("pitstop device resume --filter product=lamp"), "{suspended}");
    let listed = bench.text(&["device", "list", "--suspended", "--limit", "1"]);
    assert!(listed.contains("suspended") && !listed.contains("revoked"), "{listed}");
    let asked = bench.question(&["device", "resume", "--filter", "product=lamp"]);
    assert!(asked.contains("Resume 1002 devices of product lamp, all that are suspended"), "{asked}");
    let resumed = bench.json(&["device", "resume", "--filter", "product=lamp", "--yes"]);
    assert_eq!(resumed, json!({ "count": 1002, "changed": 1002 }));
    assert_eq!(bench.devices(&["--suspended"]), 0);
    let none = bench.text(&["device", "resume", "--filter", "product=lamp,clone-suspected=true"]);
    assert!(none.contains("No device of the filter is suspended"), "{none}");
}

#[test]
fn all_devices_of_a_filter_are_approved_changed_and_revoked() {
    let bench = Bench::start();
    bench.make_lamp();
    bench
        .command(&["device", "new", "--product", "lamp", "--count", "1001", "--csv", "many.csv"])
        .assert()
        .success();
    bench.json(&["device", "new", "--product", "lamp", "--id", "other", "--tags", "keep"]);
    let all = ["--filter", "product=lamp,search=lamp-"];
    let with = |arguments: &[&'static str]| [arguments, &all[..]].concat();

    let asked = bench.question(&with(&["device", "set", "--channel", "beta"]));
    assert!(asked.contains("Change 1001 devices of product lamp?"), "{asked}");
    let set = with(&["device", "set", "--channel", "beta", "--add-tags", "lab", "--yes"]);
    assert_eq!(bench.json(&set), json!({ "count": 1001, "changed": 1001 }));
    assert_eq!(
        (bench.devices(&["--tag", "lab", "--channel", "beta"]), bench.devices(&["--tag", "keep"])),
        (1000, 1)
    );
    let approved = bench.text(&with(&["device", "approve", "--yes"]));
    assert!(approved.contains("Approved the enrollment of 1001 devices"), "{approved}");
    let again = bench.text(&with(&["device", "approve", "--yes"]));
    assert!(again.contains("1001 devices were approved or revoked before"), "{again}");

    let asked = bench.question(&with(&["device", "revoke"]));
    assert!(asked.contains("Revoke 1001 devices of product lamp? It is final"), "{asked}");
    let revoked = bench.json(&with(&["device", "revoke", "--reason", "sold", "--yes"]));
    assert_eq!(revoked["changed"], 1001);
    assert_eq!(bench.devices(&["--state", "new"]), 1);
    let none = bench.json(&["device", "revoke", "--filter", "product=lamp,tag=nobody"]);
    assert_eq!(none, json!({ "count": 0, "changed": 0 }));
    for wrong in [
        &["device", "revoke"][..],
        &["device", "revoke", "other", "--filter", "product=lamp"],
        &["device", "revoke", "--filter", "health=silent"],
        &["device", "set", "--filter", "product=lamp", "--note", "x"],
        &["device", "set", "other", "--add-tags", "x"],
    ] {
        bench.command(wrong).assert().code(2);
    }
}

#[test]
fn devices_are_listed_in_the_order_that_is_asked_for() {
    let bench = Bench::start();
    bench.make_lamp();
    for id in ["b", "c", "a"] {
        bench.json(&["device", "new", "--product", "lamp", "--id", id]);
        // Of one millisecond they go by their ids.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let ids = |more: &[&str]| {
        let list = bench.json(&[&["device", "list"][..], more].concat());
        let ids: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|device| device["id"].clone()).collect();
        ids
    };
    assert_eq!(ids(&[]), ["a", "b", "c"]);
    assert_eq!(ids(&["--sort", "created"]), ["b", "c", "a"]);
    assert_eq!(ids(&["--sort", "created", "--descending", "--limit", "2"]), ["a", "c"]);
    assert_eq!(ids(&["--sort", "last-seen", "--descending"]), ["c", "b", "a"]);
    let table = bench.text(&["device", "list", "--sort", "created"]);
    assert!(table.contains("MADE") && !table.contains("never"), "{table}");
    bench.command(&["device", "list", "--sort", "health"]).assert().code(2);
}

fn lines(bench: &Bench, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(bench.folder.path().join(file)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ids_of_a_file_become_devices_and_a_broken_import_goes_on() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("ids.csv", b"\xef\xbb\xbfid,channel,tags\r\nAA:BB:CC:DD:EE:FF,beta,hall,attic\r\nSN-2\r\n");
    let import = ["device", "import", "ids.csv", "--product", "lamp", "--csv", "tokens.csv"];
    let made = bench.json(&import);
    assert_eq!(made, json!({ "count": 2, "renewed": 0, "skipped": 0, "csv": "tokens.csv" }));
    let written = lines(&bench, "tokens.csv");
    assert_eq!((written.len(), written[0].as_str()), (3, "device_id,enrollment_token"));
    assert!(written[1].starts_with("AA:BB:CC:DD:EE:FF,"), "{written:?}");
    let device = bench.json(&["device", "show", "AA:BB:CC:DD:EE:FF"]);
    assert_eq!((&device["channel"], &device["tags"]), (&"beta".into(), &json!(["attic", "hall"])));

    let again = bench.refusal(&import);
    assert!(again.contains("could not write tokens.csv") && again.contains("--resume"), "{again}");
    // More than the server makes at once, and the second part has one that there is: a device of before the import.
    let ids: String = (0..1500).map(|index| format!("SN-1{index:04}\n")).collect();
    bench.write("more.csv", ids.as_bytes());
    bench.json(&["device", "new", "--product", "lamp", "--id", "SN-11234"]);
    let import = ["device", "import", "more.csv", "--product", "lamp", "--csv", "more-tokens.csv"];
    let broken = bench.refusal(&import);
    assert!(broken.contains("there is a device SN-11234 already"), "{broken}");
    assert!(broken.contains("1000 of the devices are in more-tokens.csv"), "{broken}");
    assert_eq!(lines(&bench, "more-tokens.csv").len(), 1001);
    bench.write("more.csv", ids.replace("SN-11234\n", "").as_bytes());
    let resumed: Value = bench.json(&[&import[..], &["--resume"]].concat());
    assert_eq!(resumed, json!({ "count": 499, "renewed": 0, "skipped": 1000, "csv": "more-tokens.csv" }));
    assert_eq!(lines(&bench, "more-tokens.csv").len(), 1500);

    bench.write("wrong.csv", b"SN-7\n-rf\n");
    let wrong =
        bench.refusal(&["device", "import", "wrong.csv", "--product", "lamp", "--csv", "wrong-tokens.csv"]);
    assert!(wrong.contains("wrong.csv, line 2: expected an id that begins with"), "{wrong}");
    assert!(!bench.folder.path().join("wrong-tokens.csv").exists());
    let unknown = bench.refusal(&["device", "import", "ids.csv", "--product", "fan", "--csv", "fan.csv"]);
    assert!(unknown.contains("there is no product fan"), "{unknown}");
}
