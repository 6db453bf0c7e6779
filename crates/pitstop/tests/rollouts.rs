//! Rollouts by the command line, with light devices that take releases, against a real server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::Chip;
use serde_json::Value;
use support::{Bench, image};

/// A bench with 40 devices that run 1.0.0.
fn bench_with_a_fleet() -> Bench {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 1000));
    bench.publish("app.bin", &[]);
    assert_eq!(starts(&bench, SETTLED, &[]), 40);
    bench.write("app.bin", &image(Chip::Esp32C3, "1.1.0", 1000));
    bench
}

/// Lets every device start as often; how many took a release and are well with it.
fn starts(bench: &Bench, count: u32, more: &[&str]) -> u64 {
    let fleet = ["simulate", "--product", "lamp", "--devices", "40", "--state", "fleet", "--herd"];
    let runs = (0..count).map(|_| bench.json(&[&fleet[..], more].concat()));
    runs.map(|run| run["releases"]["healthy"].as_u64().unwrap()).sum()
}

/// Starts until a release is known to be well: it is taken, it is seen, it is seen again.
const SETTLED: u32 = 3;

#[test]
fn a_rollout_completes_wave_by_wave() {
    let bench = bench_with_a_fleet();
    let plan = ["--plan", "50%,100%", "--approve-each", "--revert-to", "1"];
    let published = bench.publish("app.bin", &plan);
    let id = published["rollout"]["id"].as_str().unwrap();
    let watch = |until: &str, code: i32| {
        let watch = ["rollout", "watch", id, "--until", until, "--timeout", "1s"];
        let output = bench.command(&watch).assert().code(code).get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let late = watch("healthy", 4);
    assert!(late.contains("is not healthy in time: wave 1 has soaked and waits for evidence"), "{late}");
    let taken = starts(&bench, SETTLED, &[]);
    assert!((5..=35).contains(&taken), "about half of 40: {taken}");

    // The soak is over at once; the next wave waits for its approval.
    let waiting = until(&bench, id, "awaiting-approval");
    assert_eq!(waiting["waves"][0]["counters"]["healthy"], taken);
    assert_eq!(watch("healthy", 0), "");
    let healthy = bench.text(&["rollout", "watch", id, "--until", "healthy"]);
    let said = format!("healthy: of {taken} devices of wave 1 that were offered it {taken} are,");
    assert!(
        healthy.contains(&said) && healthy.contains("0 are not heard again, up to 5 % may be"),
        "{healthy}"
    );
    watch("completed", 4);
    let shown = bench.text(&["rollout", "show", id]);
    assert!(
        shown.contains("50 %, then 100 %") && shown.contains(&format!("rollout approve {id}")),
        "{shown}"
    );
    for term in [
        "each wave but the first by `pitstop rollout approve`",
        "3 devices healthy, of fewer all, and 50 %",
        "5 % failures, 2 % crashes, 5 % silent or missing",
    ] {
        assert!(shown.contains(term), "{term} in {shown}");
    }
    let list = bench.text(&["rollout", "list"]);
    assert!(list.contains("50 %, then 100 %; each wave but the first by approval"), "{list}");
    bench.json(&["rollout", "approve", id]);
    assert_eq!(starts(&bench, SETTLED, &[]), 40 - taken);
    let watched = bench.text(&["rollout", "watch", id]);
    // A line of a log begins with its time.
    let (at, line) = watched.lines().last().unwrap().split_once(' ').unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z') && at.len() == 20, "{at}");
    assert!(line.starts_with("completed wave 2 of 2: of 40 offered 0 installed, 40 healthy"), "{line}");
    assert!(bench.text(&["rollout", "list", "--state", "completed"]).contains("40 of 40"));
    assert_eq!(watch("healthy", 0), "", "more than healthy");
    let fleet = bench.text(&["fleet", "status"]);
    assert!(fleet.contains("1.1.0") && fleet.contains("40"), "{fleet}");
}

#[test]
fn a_release_that_crashes_halts_its_rollout() {
    let bench = bench_with_a_fleet();
    let published = bench.publish("app.bin", &["--revert-to", "1.0.0", "--plan", "100%", "--soak", "1h"]);
    let id = published["rollout"]["id"].as_str().unwrap();
    starts(&bench, SETTLED, &["--crash-percent", "50"]);
    // Not `refusal`: what halted is on the page, on standard output.
    let watch = bench.command(&["rollout", "watch", id]).assert().code(3).get_output().clone();
    let (page, error) = (String::from_utf8(watch.stdout).unwrap(), String::from_utf8(watch.stderr).unwrap());
    assert!(page.contains("halted wave 1 of 1") && page.contains("halted by crashes in wave 1: "), "{page}");
    assert!(
        error.contains("halted by crashes in wave 1: ") && error.contains("more than 2 %: sim-"),
        "{error}"
    );
    assert!(error.contains(&format!("pitstop rollout abort {id}")), "{error}");
    let shown = bench.text(&["rollout", "show", id]);
    assert!(shown.contains("Halted by crashes in wave 1") && shown.contains("sim-"), "{shown}");

    let aborted = bench.json(&["rollout", "abort", id, "--yes"]);
    assert_eq!(aborted["state"], "aborted");
    // Sent back, all of them, by the signed manifest.
    starts(&bench, SETTLED, &[]);
    let devices = bench.json(&["device", "list", "--product", "lamp"]);
    let devices = devices["items"].as_array().unwrap();
    assert!(devices.iter().all(|device| device["running"]["version"] == "1.0.0"), "{devices:?}");
    assert!(bench.text(&["audit", "list", "--kind", "rollout"]).contains("abort"));
}

#[test]
fn held_releases_drafts_and_pins() {
    let bench = bench_with_a_fleet();
    let held = bench.publish("app.bin", &["--hold"]);
    assert!(held["rollout"].is_null());
    assert_eq!(starts(&bench, 1, &[]), 0);

    let draft = bench.json(&[
        "rollout",
        "new",
        "1.1.0",
        "--product",
        "lamp",
        "--tags",
        "lab",
        "--approve-each",
        "--draft",
    ]);
    assert_eq!(draft["state"], "draft");
    let id = draft["id"].as_str().unwrap();
    let refused = bench.refusal(&["rollout", "resume", id]);
    assert!(refused.contains("draft"), "{refused}");
    bench.json(&["rollout", "start", id]);
    bench.json(&["rollout", "pause", id]);
    assert_eq!(bench.json(&["rollout", "resume", id])["state"], "running");

    let devices = bench.json(&["device", "list", "--limit", "1"]);
    let device = devices["items"][0]["id"].as_str().unwrap();
    assert_eq!(bench.json(&["device", "set", device, "--pin", "1.1.0"])["pinned_sequence"], 2);
    assert_eq!(starts(&bench, SETTLED, &[]), 1, "the pinned one alone: no device has the tag");
    assert_eq!(bench.json(&["device", "show", device])["running"]["version"], "1.1.0");
    assert!(bench.json(&["device", "set", device, "--unpin"])["pinned_sequence"].is_null());
    let unknown = bench.refusal(&["rollout", "new", "9.9", "--product", "lamp"]);
    assert!(unknown.contains("found 9.9; published are 1.1.0, 1.0.0"), "{unknown}");
}

#[test]
fn commands_that_are_proposed_go_to_the_same_server() {
    let bench = bench_with_a_fleet();
    let (data, url) = (bench.data.display().to_string(), bench.url.clone());
    let ask = |arguments: &[&str]| {
        let given = ["--url", &url, "--data", &data];
        let command = support::pitstop(bench.folder.path()).args([arguments, &given[..]].concat()).assert();
        let output = command.get_output().clone();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let publish = ["release", "publish", "app.bin", "--product", "lamp", "--key", "publisher.key"];
    let published = ask(&publish);
    let server = format!(" --url {url} --data {data}");
    assert!(published.contains(&format!("pitstop rollout watch ro-lamp-2{server}\n")), "{published}");
    let refused = ask(&[&publish[..], &["--hold"]].concat());
    assert!(refused.contains(&format!("`pitstop rollout pause ro-lamp-2{server}`")), "{refused}");
    // What the environment says need not be said again.
    let published = bench.text(&publish);
    assert!(!published.contains("--url"), "{published}");
}

/// Waits for a state as a script would: line by line of `rollout watch --json`.
fn until(bench: &Bench, id: &str, state: &str) -> Value {
    for _ in 0..100 {
        let rollout = bench.json(&["rollout", "show", id]);
        if rollout["state"] == state {
            return rollout;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("the rollout {id} is not {state}: {}", bench.json(&["rollout", "show", id]));
}
