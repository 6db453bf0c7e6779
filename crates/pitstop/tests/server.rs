//! The commands against a real server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use serde_json::Value;
use support::{Bench, image};

/// Slot `ota_0` of the layout 4mb.
const SLOT_BYTES: usize = 0x2f_0000;

#[test]
fn from_a_product_to_a_release() {
    let bench = Bench::start();
    let product = bench.make_lamp();
    assert_eq!(product["slots"][0]["size_bytes"], SLOT_BYTES);
    assert_eq!(product["publisher_keys"][0]["name"], "alice");
    assert!(bench.text(&["product", "list"]).contains("lamp  esp32c3  4mb     ota_0  alice"));

    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 300_000));
    bench.write("NOTES.md", b"Blinks more calmly.\n");
    let first = bench.publish("app.bin", &["--notes-file", "NOTES.md"]);
    assert_eq!((&first["sequence"], &first["version"]), (&1.into(), &"1.0.0".into()));
    assert_eq!(first["app"]["project_name"], "lamp");

    bench.write("app.bin", &image(Chip::Esp32C3, "1.1.0", 310_000));
    let second = bench.publish("app.bin", &["--revert-to", "1.0.0", "--expires", "2999-12-31"]);
    assert_eq!((&second["sequence"], &second["version"]), (&2.into(), &"1.1.0".into()));
    // The artifact is there already: the server answers before the content is sent.
    let third = bench.publish("app.bin", &["--version", "1.1.1", "--sequence", "7", "--same-image"]);
    assert_eq!((&third["sequence"], &third["version"]), (&7.into(), &"1.1.1".into()));

    let list = bench.json(&["release", "list", "--product", "lamp"]);
    let sequences: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|item| item["sequence"].clone()).collect();
    assert_eq!(sequences, [7, 2, 1]);
    let shown = bench.text(&["release", "show", "1", "--product", "lamp"]);
    assert!(shown.contains("300 400 bytes") && shown.contains("Blinks more calmly."), "{shown}");
    let more = bench.text(&["release", "list", "--product", "lamp", "--limit", "2"]);
    assert!(more.contains("There are more than 2") && !more.contains("1.0.0"), "{more}");
}

#[test]
fn an_elf_file_and_the_plan_of_the_documents_go_with_a_release() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "0.9.0", 1000));
    bench.publish("app.bin", &[]);
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.write("app.elf", b"\x7fELF and what a debugger reads");
    let documents = include_str!("../../../docs/rollouts.md");
    let plan = documents.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    bench.write("plan.json", plan.as_bytes());
    let options = ["--elf", "app.elf", "--plan-file", "plan.json"];
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let refused = bench.command(&[&publish[..], &options[..]].concat()).assert().code(2).get_output().clone();
    let refused = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.contains("expected --revert-to with --on-halt revert"), "{refused}");
    let published = bench.publish("app.bin", &[&options[..], &["--revert-to", "0.9.0"]].concat());

    let elf_digest = manifest::Digest::of(b"\x7fELF and what a debugger reads").to_string();
    assert_eq!(published["elf_digest"], elf_digest);
    assert!(bench.text(&["release", "show", "2", "--product", "lamp"]).contains(&elf_digest[..8]));
    assert_eq!(files_below(&bench.data.join("artifacts")), 3);
    let rollout = &published["rollout"];
    assert_eq!(rollout["plan"]["waves"][1]["limits"]["min_sample"], 20, "{rollout}");
    assert_eq!(rollout["waves"].as_array().unwrap().len(), 4);

    let refused = |option: &str, file: &str| bench.refusal(&[&publish[..], &[option, file]].concat());
    let no_elf = refused("--elf", "app.bin");
    assert!(no_elf.contains("expected an ELF file at app.bin") && no_elf.contains("hint: "), "{no_elf}");
    let no_plan = refused("--plan-file", "app.elf");
    assert!(
        no_plan.contains("app.elf cannot be read") || no_plan.contains("expected a plan as JSON"),
        "{no_plan}"
    );
}

#[test]
fn devices_come_and_go() {
    let bench = Bench::start();
    assert!(bench.text(&["device", "list"]).contains("No devices yet"));
    bench.make_lamp();
    let made = bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-0001", "--note", "kitchen"]);
    assert_eq!((&made["id"], &made["state"]), (&"lamp-0001".into(), &"new".into()));
    let token = made["enrollment_token"].as_str().unwrap().to_owned();
    let text = bench.text(&["device", "new", "--product", "lamp"]);
    assert!(text.starts_with("Made the device lamp-") && text.contains("enrollment token"), "{text}");

    let again = bench.refusal(&["device", "new", "--product", "lamp", "--id", "lamp-0001"]);
    assert!(again.contains("there is a device lamp-0001 already"), "{again}");
    let renewed = bench.json(&["device", "token", "lamp-0001"]);
    assert_ne!(renewed["enrollment_token"], token);

    let shown = bench.text(&["device", "show", "lamp-0001"]);
    assert!(shown.contains("kitchen") && shown.contains("not checked in yet"), "{shown}");
    bench.command(&["device", "revoke", "lamp-0001", "--reason", "stolen", "--yes"]).assert().success();
    let shown = bench.text(&["device", "show", "lamp-0001"]);
    assert!(shown.contains("revoked") && shown.contains("stolen"), "{shown}");
    let refused = bench.refusal(&["device", "token", "lamp-0001"]);
    assert!(refused.contains("revoked"), "{refused}");
    let unknown = bench.refusal(&["device", "show", "lamp-9999"]);
    assert!(unknown.contains("there is no device lamp-9999") && unknown.contains("hint: "), "{unknown}");
}

#[test]
fn lists_follow_their_cursors() {
    let bench = Bench::start();
    bench.make_lamp();
    // More than the client asks for at once.
    let client = ureq::Agent::new_with_defaults();
    let token = std::fs::read_to_string(bench.data.join("admin.token")).unwrap();
    for index in 0..130 {
        let body = serde_json::json!({ "id": format!("lamp-{index:04}"), "product": "lamp" });
        let request = client.post(format!("{}/api/v1/devices", bench.url));
        request.header("authorization", format!("Bearer {}", token.trim())).send_json(body).unwrap();
    }
    let listed = |limit: &str| {
        let list = bench.json(&["device", "list", "--product", "lamp", "--limit", limit]);
        (list["items"].as_array().unwrap().len(), list["next_cursor"].is_null())
    };
    assert_eq!(listed("100"), (100, false));
    assert_eq!(listed("129"), (129, false));
    assert_eq!(listed("130"), (130, true));
    assert_eq!(listed("1000"), (130, true));
}

#[test]
fn what_does_not_suit_is_refused_before_it_is_sent() {
    let bench = Bench::start();
    bench.make_lamp();
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key"];
    let with_key = |key: &str| bench.refusal(&[&publish[..], &[key]].concat());

    bench.write("app.bin", &image(Chip::Esp32S3, "1.0.0", 1000));
    let chip = with_key("publisher.key");
    assert!(chip.contains("expected an image for esp32c3 (product lamp), found one for esp32s3"), "{chip}");

    let large = image(Chip::Esp32C3, "1.0.0", SLOT_BYTES);
    bench.write("app.bin", &large);
    let size = with_key("publisher.key");
    let both = format!(
        "expected at most {SLOT_BYTES} bytes (slot ota_0 of product lamp), found {} bytes",
        large.len()
    );
    assert!(size.contains(&both), "{size}");

    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.command(&["keys", "new", "--out", "stranger.key", "--name", "mallory"]).assert().success();
    let stranger = with_key("stranger.key");
    assert!(stranger.contains("does not trust the key") && stranger.contains("(mallory)"), "{stranger}");

    assert!(bench.text(&["release", "list", "--product", "lamp"]).contains("No releases yet"));
    assert_eq!(files_below(&bench.data.join("artifacts")), 0);
}

#[test]
fn numbers_and_versions_that_do_not_fit() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("app.bin", &["--sequence", "5"]);
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let with = |more: &[&str]| bench.refusal(&[&publish[..], more].concat());
    let older = with(&["--sequence", "5"]);
    assert!(older.contains("expected a sequence number above 5, found 5"), "{older}");
    let version = with(&["--revert-to", "0.9"]);
    assert!(version.contains("found 0.9; published are 1.0.0"), "{version}");
}

#[test]
fn an_image_that_is_published_again_is_the_release_that_it_has() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    let first = bench.publish("app.bin", &[]);
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let again = bench.command(&[&publish[..], &["--json"]].concat()).assert().success().get_output().clone();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("nothing was published: this image is release #1 (1.0.0) already"), "{said}");
    let page = bench.text(&publish);
    assert!(page.contains("Release #1 of lamp is 1.0.0 already") && !page.contains("Published"), "{page}");
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&again["sequence"], &again["rollout"]["id"]), (&1.into(), &first["rollout"]["id"]));
    let refused = bench.refusal(&[&publish[..], &["--version", "1.1.0"]].concat());
    assert!(refused.contains("that of release 1 (1.0.0)") && refused.contains("--same-image"), "{refused}");
}

#[test]
fn what_is_asked_of_the_rollout_of_an_image_that_is_there_is_done_or_refused() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    bench.publish("app.bin", &["--hold"]);
    let held = bench.publish("app.bin", &["--hold"]);
    assert_eq!((&held["was_there"], &held["rollout"]), (&true.into(), &serde_json::Value::Null));
    // It has no rollout yet: it is started as asked for, and asking for the same again changes nothing.
    let plan = ["--plan", "10%,100%", "--soak", "1h"];
    let started = bench.publish("app.bin", &plan);
    let id = started["rollout"]["id"].as_str().unwrap();
    assert_eq!(started["rollout"]["plan"]["waves"][0]["soak_s"], 3600);
    assert_eq!(bench.publish("app.bin", &plan)["rollout"]["id"], id);
    for other in [&["--plan", "50%,100%"][..], &["--approve-each"], &["--hold"]] {
        let refused = bench.refusal(&[&publish[..], other].concat());
        assert!(refused.contains("this image is release 1 (1.0.0) already"), "{refused}");
        assert!(refused.contains(id) && refused.contains("pitstop rollout "), "{refused}");
    }
    bench.json(&["rollout", "abort", id, "--yes"]);
    let refused = bench.refusal(&[&publish[..], &["--plan", "50%,100%"]].concat());
    assert!(refused.contains("run `pitstop rollout new 1 --product lamp`"), "{refused}");
    bench.command(&[&publish[..], &["--hold", "--min-healthy", "5"]].concat()).assert().code(2);
}

#[test]
fn a_plan_that_leaves_devices_out_is_warned_of() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let says = |arguments: &[&str]| {
        let output = bench.command(arguments).assert().success().get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = "no wave of the plan takes 100 % of the devices";
    assert!(says(&[&publish[..], &["--plan", "1%,50%"]].concat()).contains(warning));
    bench.json(&["rollout", "abort", "ro-lamp-1", "--yes"]);
    let new = ["rollout", "new", "1", "--product", "lamp", "--plan", "50%", "--draft"];
    assert!(says(&new).contains(warning));
    assert!(says(&["rollout", "start", "ro-lamp-1.2"]).contains(warning));
    assert!(says(&["product", "set", "lamp", "--plan", "50%"]).contains(warning));
    // By the product's plan, of which the server warns.
    bench.write("app.bin", &image(Chip::Esp32C3, "1.1.0", 1000));
    let output = bench.command(&publish).assert().success().get_output().clone();
    let (page, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(
        (said.matches(warning).count(), page.matches(warning).count()),
        (1, 0),
        "said once: {page}{said}"
    );
    assert!(bench.text(&["release", "show", "2", "--product", "lamp"]).contains(warning));
    assert!(!says(&["product", "set", "lamp", "--plan", "50%,100%"]).contains(warning));
}

#[test]
fn a_release_is_named_by_its_version_or_number_and_one_name_of_two_is_refused() {
    let bench = Bench::start();
    bench.make_lamp();
    for (version, filling) in [("1.0.0", 1000), ("1.1.0", 1000), ("1.1.0", 2000)] {
        bench.write("app.bin", &image(Chip::Esp32C3, version, filling));
        bench.publish("app.bin", &["--hold"]);
    }
    for named in ["1.0.0", "1", "#1"] {
        let shown = bench.json(&["release", "show", named, "--product", "lamp"]);
        assert_eq!(shown["sequence"], 1);
    }
    let unknown = bench.refusal(&["release", "show", "9", "--product", "lamp"]);
    assert!(unknown.contains("found 9; published are 1.1.0"), "{unknown}");
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-1"]);
    bench.write("app.bin", &image(Chip::Esp32C3, "2.0.0", 1000));
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    for command in [
        vec!["release", "show", "1.1.0", "--product", "lamp"],
        vec!["rollout", "new", "1.1.0", "--product", "lamp"],
        vec!["device", "set", "lamp-1", "--pin", "1.1.0"],
        [&publish[..], &["--requires", "1.1.0"]].concat(),
    ] {
        let refused = bench.refusal(&command);
        assert!(refused.contains("several that 1.1.0 names: #3 (1.1.0), #2 (1.1.0)"), "{refused}");
    }
}

#[test]
fn a_release_requires_another_one_by_its_version() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("app.bin", &[]);
    bench.write("app.bin", &image(Chip::Esp32C3, "2.0.0", 1000));
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let refused = bench.refusal(&[&publish[..], &["--requires", "1.5.0"]].concat());
    assert!(refused.contains("found 1.5.0; published are 1.0.0"), "{refused}");
    let published = bench.publish("app.bin", &["--requires", "1.0.0"]);
    assert_eq!(
        (&published["requires"], &published["rollout"]["release"]["requires"]),
        (&1.into(), &1.into())
    );
    let shown = bench.text(&["release", "show", "2", "--product", "lamp"]);
    assert!(shown.contains("requires") && shown.contains("#1"), "{shown}");
}

#[test]
fn one_more_key_is_trusted() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.command(&["keys", "new", "--out", "bob.key", "--name", "bob"]).assert().success();
    let key = bench.json(&["product", "key", "add", "lamp", "--key", "bob.key"]);
    assert_eq!(key["name"], "bob");
    assert!(bench.text(&["product", "show", "lamp"]).contains(key["id"].as_str().unwrap()));
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "bob.key"];
    bench.command(&publish).assert().success();
}

#[test]
fn a_wrong_token_is_refused_with_the_way_to_the_right_one() {
    let bench = Bench::start();
    let refused = bench.refusal(&["product", "list", "--token", "wrong"]);
    assert!(
        refused.contains("error: this API token is not known here")
            && refused.contains("hint: see that --token"),
        "{refused}"
    );
    let none = bench.refusal(&["product", "list", "--token", ""]);
    assert!(none.contains("hint: name the server's data directory"), "{none}");
}

#[test]
fn an_unknown_product_is_named() {
    let bench = Bench::start();
    let refused = bench.refusal(&["release", "list", "--product", "lamp"]);
    assert!(
        refused.contains("there is no product lamp") && refused.contains("pitstop product list"),
        "{refused}"
    );
}

/// Regular files in a folder and its folders.
fn files_below(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}

#[test]
fn what_the_server_refuses_keeps_its_name_for_scripts() {
    let bench = Bench::start();
    let output =
        bench.command(&["product", "show", "absent", "--json"]).assert().code(1).get_output().clone();
    let text = String::from_utf8(output.stderr).unwrap();
    let problem: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(problem["type"], "urn:pitstop:problem:not-found");
    assert!(problem["detail"].as_str().unwrap().contains("absent"), "{problem}");
}

/// Every command that lists or shows, on the narrowest terminal: no word is broken or left out, and nothing is wider but what has no
/// place to be broken at, or is to be copied.
#[cfg(unix)]
#[test]
fn lists_are_whole_on_42_columns() {
    use support::pty::Terminal;

    const COLUMNS: usize = 42;

    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.10.0-rc.2", 30_000));
    bench.publish("app.bin", &["--plan", "1%,10%,100%", "--soak", "1h"]);
    let new = ["device", "new", "--product", "lamp", "--id", "AA:BB:CC:DD:EE:FF"];
    bench.json(&[&new[..], &["--tags", "hall,attic,second-floor", "--channel", "stable"]].concat());
    bench.json(&["device", "suspend", "AA:BB:CC:DD:EE:FF", "--reason", "lent to the workshop next door"]);
    bench.json(&["token", "new", "continuous-integration", "--role", "publisher", "--product", "lamp"]);
    bench.json(&["webhook", "new", "http://127.0.0.1:9/a/path/that/is/rather/long"]);
    let rollout = bench.json(&["rollout", "list"])["items"][0]["id"].as_str().unwrap().to_owned();
    let mut terminal = Terminal::new(COLUMNS as u16);
    for line in [
        &["product", "list"][..],
        &["product", "show", "lamp"],
        &["product", "key", "list", "lamp"],
        &["product", "channel", "list", "lamp"],
        &["device", "list"],
        &["device", "show", "AA:BB:CC:DD:EE:FF"],
        &["release", "list", "--product", "lamp"],
        &["artifact", "list"],
        &["rollout", "list"],
        &["rollout", "show", &rollout],
        &["fleet", "status"],
        &["token", "list"],
        &["webhook", "list"],
        &["audit", "list"],
        &["ca", "status"],
        &["whoami"],
        &["layout", "list"],
        &["image", "inspect", "app.bin"],
        &["layout", "check", "4mb", "app.bin"],
    ] {
        let wide = bench.text(line);
        let mut command = terminal.command(bench.folder.path(), line);
        command.env("PITSTOP_URL", &bench.url).env("PITSTOP_DATA", &bench.data);
        let (status, narrow) = terminal.end(&mut command.spawn().unwrap());
        assert!(status.success(), "{line:?}: {narrow}");
        for shown in narrow.lines().filter(|shown| shown.chars().count() > COLUMNS) {
            // A label, and a word that has no blank.
            let words = shown.split_whitespace().count();
            assert!(words <= 2 || shown.contains("pitstop "), "{line:?}: {shown:?} in\n{narrow}");
        }
        let words: Vec<_> = narrow.split_whitespace().collect();
        for word in wide.split_whitespace() {
            assert!(words.contains(&word), "{line:?}: {word:?} of\n{wide}\nis not in\n{narrow}");
        }
    }
}

/// What has scrolled away cannot be drawn over.
#[cfg(unix)]
#[test]
fn a_watched_rollout_fits_on_the_terminal() {
    use support::pty::Terminal;

    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    let published = bench.publish("app.bin", &["--plan", "1%,10%,30%,100%", "--soak", "1h"]);
    let id = published["rollout"]["id"].as_str().unwrap();
    for (rows, columns, is_whole) in [(24, 80, false), (50, 120, true)] {
        let mut terminal = Terminal::with_size(rows, columns);
        let line = ["rollout", "watch", id, "--timeout", "1s"];
        let mut command = terminal.command(bench.folder.path(), &line);
        command.env("PITSTOP_URL", &bench.url).env("PITSTOP_DATA", &bench.data);
        let (_, shown) = terminal.end(&mut command.spawn().unwrap());
        let drawn = shown.lines().take_while(|line| !line.starts_with("error: "));
        assert!(drawn.count() < usize::from(rows), "{rows}: {shown}");
        assert_eq!((shown.contains("BAD"), shown.contains("UNHEARD")), (!is_whole, is_whole), "{shown}");
    }
}

#[test]
fn with_json_every_failure_is_a_problem_in_the_last_line() {
    let bench = Bench::start();
    bench.make_lamp();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    for (line, code, kind) in [
        (&["device", "show"][..], 2, "command-usage"),
        (&["device", "list", "--limit", "0"], 2, "command-usage"),
        (&["device", "revoke", "--filter", "health=ok"], 2, "command-usage"),
        (&["device", "revoke", "absent"], 1, "not-found"),
        (&["device", "show", "absent"], 1, "not-found"),
        (&["product", "show", "absent"], 1, "not-found"),
        (&["product", "new", "lamp", "--chip", "esp32c3", "--key", "publisher.key"], 1, "exists"),
        (&["product", "delete", "lamp"], 2, "command-usage"),
        (
            &["release", "publish", "absent.bin", "--product", "lamp", "--key", "publisher.key"],
            1,
            "command-failed",
        ),
        (&["image", "inspect", "publisher.key"], 1, "command-failed"),
        (&["device", "import", "absent.csv", "--product", "lamp", "--csv", "out.csv"], 1, "command-failed"),
        (&["device", "list", "--url", &nobody], 1, "command-failed"),
        (&["device", "list", "--token", "nobodys"], 1, "token-unknown"),
        (&["flash", "--port", "/dev/absent", "--product", "lamp", "--allow-loopback"], 1, "command-failed"),
    ] {
        let output = bench.command(line).arg("--json").assert().code(code).get_output().clone();
        let told = String::from_utf8(output.stderr).unwrap();
        let last = told.lines().last().unwrap_or_default();
        let problem: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{line:?}: {told}"));
        assert_eq!(problem["type"], format!("urn:pitstop:problem:{kind}"), "{line:?}: {told}");
        assert_eq!(problem["exit_code"], code, "{line:?}");
        assert!(
            problem["title"].is_string() && problem["detail"].as_str().is_some_and(|text| !text.is_empty())
        );
        assert_eq!(output.stdout, b"", "{line:?}");
    }
}
