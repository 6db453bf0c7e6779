//! `pitstop simulate` against a real server: small fleets, every scenario, in seconds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use serde_json::Value;
use support::{Bench, image};

const FLEET: [&str; 7] = ["simulate", "--product", "lamp", "--devices", "12", "--state", "fleet"];

fn simulate(bench: &Bench, more: &[&str]) -> Value {
    bench.json(&[&FLEET[..], more].concat())
}

#[test]
fn a_fleet_enrolls_once_and_takes_releases() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 150_000));
    bench.publish("app.bin", &[]);

    let first = simulate(&bench, &["--count", "24"]);
    assert_eq!((&first["check_ins"], &first["failed"]), (&24.into(), &0.into()));
    assert_eq!(first["releases"]["healthy"], 12, "each took the release once: {first}");
    assert!(first["latency"]["p99_ms"].as_f64().unwrap() > 0.0);

    // The same devices, with what they remember.
    let second = simulate(&bench, &["--rate", "50", "--count", "24"]);
    assert_eq!((&second["check_ins"], &second["releases"]["healthy"]), (&24.into(), &0.into()));
    assert!(second["elapsed_s"].as_f64().unwrap() > 0.4, "24 at 50 a second: {second}");
    let devices = bench.json(&["device", "list", "--product", "lamp"]);
    let devices = devices["items"].as_array().unwrap();
    assert_eq!(devices.len(), 12);
    assert!(devices.iter().all(|device| device["running"]["version"] == "1.0.0"), "{devices:?}");

    let herd = simulate(&bench, &["--herd"]);
    assert_eq!((&herd["check_ins"], &herd["lost"]), (&12.into(), &0.into()));
    let download = simulate(&bench, &["--download", "--count", "12"]);
    assert_eq!(download["downloaded_bytes"], 12 * 150_400_u64, "{download}");
    let full = simulate(&bench, &["--download", "--full-records", "--count", "12"]);
    assert_eq!(full["downloaded_bytes"], download["downloaded_bytes"]);
    let text = bench.text(&[&FLEET[..], &["--count", "12"]].concat());
    assert!(text.contains("P99.9") && text.contains("12 ("), "{text}");
}

#[test]
fn releases_go_wrong_as_asked() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("app.bin", &[]);
    let run = simulate(&bench, &["--silent-percent", "100", "--seconds", "20"]);
    assert_eq!(
        (&run["check_ins"], &run["releases"]["silent"]),
        (&12.into(), &12.into()),
        "they do not come back"
    );

    let percent = ["--fail-percent", "60", "--crash-percent", "60"];
    bench.command(&[&FLEET[..], &percent].concat()).assert().code(2);
}

#[test]
fn what_cannot_be_simulated_is_told() {
    let bench = Bench::start();
    bench.make_lamp();
    let nothing = bench.refusal(&[&FLEET[..], &["--download"]].concat());
    assert!(
        nothing.contains("expected a release of lamp to download") && nothing.contains("hint: "),
        "{nothing}"
    );
    let remote = bench.refusal(&[&FLEET[..], &["--get", "https://192.0.2.1/"]].concat());
    assert!(
        remote.contains("expected a server on this machine") && remote.contains("--allow-remote"),
        "{remote}"
    );

    bench.json(&["product", "new", "fan", "--chip", "esp32c3", "--key", "publisher.key"]);
    let other = bench.refusal(&["simulate", "--product", "fan", "--state", "fleet"]);
    assert!(other.contains("found those of product lamp") && other.contains("--state DIR"), "{other}");
}

#[test]
fn where_there_is_no_terminal_lines_say_how_far_it_is() {
    let bench = Bench::start();
    bench.make_lamp();
    let line = [&FLEET[..], &["--rate", "5", "--seconds", "4"]].concat();
    let told = bench.command(&line).assert().success().get_output().stderr.clone();
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("seconds: 3 of 4 (5/s, p99 "), "{told}");
    assert!(told.lines().count() < 5, "a line every few seconds: {told}");
}
