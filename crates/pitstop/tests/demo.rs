//! `pitstop demo`, whole: server, device, updates, refusals; on the virtual device and on the emulated chip.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flashfmt::AppDescriptor;
use flashfmt::image::compose;
use serde_json::Value;

/// Two images of the user's own; the version says nothing, as with many real applications.
fn images(folder: &Path) -> [PathBuf; 2] {
    [1u8, 2].map(|build| {
        let app_desc = AppDescriptor::new("blinky", "1");
        let bytes = compose::esp32c3(&app_desc, &vec![build; 70_000], &[build; 100], &[build; 100]).unwrap();
        let path = folder.join(format!("v{build}.bin"));
        std::fs::write(&path, bytes).unwrap();
        path
    })
}

/// The events of a demo that ends well; the last one is `done`.
fn events(command: &mut Command) -> Vec<Value> {
    let output = command.assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.lines().last().unwrap().starts_with(r#"{"event":"done""#), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_story_ends_well_with_the_users_images_and_everything_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = images(folder.path());
    let mut command = support::pitstop(folder.path());
    command.args(["demo", "--json", "--keep", "kept", "--app"]).arg(&first).arg("--app").arg(&second);
    let events = events(&mut command);
    let done = events.last().unwrap();
    assert_eq!(done["ok"], true);
    assert_eq!(done["version"], "1-b");
    assert_eq!(done["refusals"], 8);
    let sizes = [&first, &second].map(|path| std::fs::metadata(path).unwrap().len());
    // Before the only application is given up, the first chunk of the next one is looked at, and the headers of its other
    // three segments.
    let previewed = 65_536 + 3 * 8;
    assert_eq!(done["downloaded_bytes"], sizes[0] + sizes[1] + previewed);
    assert!(done["flash_erased_bytes"].as_u64().unwrap() >= sizes[0] + sizes[1]);
    assert!(done["requests"].as_u64().unwrap() >= 8);
    assert_eq!(done["steps"].as_array().unwrap().len(), 5);

    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    let attacks: Vec<_> = named("refused").iter().map(|event| event["attack"].clone()).collect();
    let all = [
        "stranger",
        "changed-byte",
        "older-sequence",
        "another-chip",
        "too-large",
        "token-used-twice",
        "revoked",
        "another-ca",
    ];
    assert_eq!(attacks, all);
    assert_eq!(named("nothing-new")[0]["flash_operations"], 0);
    assert_eq!(named("nothing-new")[0]["requests"], 1);

    // The flash file is that of the device, byte for byte: the second image is in its slot.
    let kept = folder.path().join("kept");
    let flash = std::fs::read(kept.join("flash.bin")).unwrap();
    assert_eq!(flash.len(), 4 * 1024 * 1024);
    let image = std::fs::read(&second).unwrap();
    assert!(flash[0x11_0000..].starts_with(&image));
    assert!(kept.join("server/pitstop.db").is_file());
    assert!(kept.join("publisher.key").is_file());
}

#[test]
fn wrong_options_say_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = images(folder.path());
    let output = support::pitstop(folder.path()).args(["demo", "--app"]).arg(&first).assert().code(2);
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.contains("expected --app twice"), "{text}");

    let output = support::pitstop(folder.path())
        .args(["demo", "--keep", ".", "--app"])
        .arg(&first)
        .arg("--app")
        .arg(&first)
        .assert()
        .code(1);
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.contains("--keep takes a directory that does not exist yet"), "{text}");
}

#[test]
#[ignore = "needs an emulator (PITSTOP_QEMU) and the firmware's toolchain: cargo test -p pitstop --test demo -- --ignored"]
fn the_story_ends_well_on_the_emulated_chip() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = support::pitstop(folder.path());
    let events = events(command.args(["demo", "--chip", "--json", "--keep", "kept"]));

    let done = events.last().unwrap();
    assert_eq!(done["ok"], true);
    assert_eq!(done["version"], "1.1.0");
    let names: Vec<_> = done["steps"].as_array().unwrap().iter().map(|step| step["name"].clone()).collect();
    assert_eq!(names, ["setup", "first-start", "update", "nothing-new", "revoked", "server-down"]);

    let named = |name: &str| events.iter().filter(|event| event["event"] == name).collect::<Vec<_>>();
    assert_eq!(named("enrolled").len(), 1);
    let downloads: Vec<_> = named("downloading").iter().map(|event| event["version"].clone()).collect();
    assert_eq!(downloads, ["1.0.0", "1.1.0"]);
    let said: Vec<_> = named("running").iter().map(|event| event["said"].as_str().unwrap()).collect();
    let greetings = ["hello 1.0.0 ", "hello 1.1.0 ", "hello 1.1.0 ", "hello 1.1.0 ", "hello 1.1.0 "];
    assert_eq!(said.len(), greetings.len());
    assert!(said.iter().zip(greetings).all(|(said, greeting)| said.starts_with(greeting)), "{said:?}");
    assert_eq!(named("nothing-new")[0]["changed_bytes"], 0);
    assert_eq!(named("refused")[0]["reason"], "device-refused");
    // A device that is refused asks once whether it is because its certificate has ended, and is refused again.
    let faults: Vec<_> = named("fault").iter().map(|event| event["text"].as_str().unwrap()).collect();
    let starts = ["fault 307", "fault 308", "fault 302"];
    assert_eq!(faults.len(), starts.len(), "{faults:?}");
    assert!(faults.iter().zip(starts).all(|(fault, start)| fault.starts_with(start)), "{faults:?}");

    let kept = folder.path().join("kept");
    assert_eq!(std::fs::read(kept.join("flash.bin")).unwrap().len(), 4 * 1024 * 1024);
    let console = std::fs::read_to_string(kept.join("console.log")).unwrap();
    assert_eq!(console.matches("--- power on").count(), 5);
    let token = std::fs::read_to_string(kept.join("server/admin.token")).unwrap();
    assert!(!console.contains(token.trim()));
}

#[test]
fn without_an_emulator_it_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = support::pitstop(folder.path());
    command.args(["demo", "--chip", "--keep", "kept"]).env("PITSTOP_QEMU", folder.path().join("nothing"));
    let text = String::from_utf8(command.assert().code(1).get_output().stderr.clone()).unwrap();
    assert!(text.contains("cannot start") && text.contains("nothing"), "{text}");
    assert!(text.contains("install Espressif's QEMU for RISC-V") && text.contains("PITSTOP_QEMU"), "{text}");
    assert!(!folder.path().join("kept").exists());
}

/// A shell script stands in for the emulator: what its console says decides, and words alone do not do.
#[cfg(unix)]
#[test]
fn a_chip_that_does_not_run_the_application_fails_the_demo() {
    use std::os::unix::fs::PermissionsExt as _;

    let hand_over = "pitstop hands over to slot 0: the release was installed (1)\n\
                     I (9) boot: Loaded app from partition at offset 0x10000\n";
    let consoles = [
        ("pitstop breaks: exception 0x2\n".to_owned(), "the updater breaks: exception 0x2"),
        ("pitstop has nothing to start, tries again in 5 s\n".to_owned(), "the updater has nothing to start"),
        (
            format!("{hand_over}ESP-ROM:esp32c3\n"),
            "after the hand-over, found a reset: the application was silent",
        ),
        (
            format!("{hand_over}chip: Store of register GPIO.out, which is not modelled\n"),
            "the emulated chip stops: Store of register GPIO.out",
        ),
        (format!("{hand_over}pitstop joins the network\n"), "after the hand-over, found \"pitstop joins"),
        (format!("{hand_over}hello 1\n"), "byte for byte, found something else"),
        ("rst:0x1\n".to_owned(), "the emulator ended before the application's first line"),
    ];
    for (console, expected) in consoles {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = images(folder.path());
        let updater = folder.path().join("updater.bin");
        std::fs::write(&updater, support::updater(1_000)).unwrap();
        let [draft, emulator] = ["draft", "emulator"].map(|name| folder.path().join(name));
        let script = format!("#!/bin/sh\n[ $2 = help ] && echo esp32c3 && exit\ncat <<'END'\n{console}END\n");
        std::fs::write(&draft, script).unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        // By another process: a program that is open for writing here is so in a child of another test as well, and
        // then cannot be started (ETXTBSY).
        std::process::Command::new("cp").arg(&draft).arg(&emulator).status().unwrap();
        let mut command = support::pitstop(folder.path());
        command.args(["demo", "--chip", "--updater"]).arg(&updater).arg("--app").arg(&first).arg("--app");
        let failed = command.arg(&second).env("PITSTOP_QEMU", &emulator).assert().code(1);
        let text = String::from_utf8(failed.get_output().stderr.clone()).unwrap();
        assert!(text.contains(expected), "{console}{text}");
    }
}

#[test]
fn an_updater_is_for_the_chip_only() {
    let folder = tempfile::tempdir().unwrap();
    let output = support::pitstop(folder.path()).args(["demo", "--updater", "updater.bin"]).assert().code(2);
    let text = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(text.contains("--chip"), "{text}");
}

#[test]
fn the_dashboard_has_a_fleet_in_the_middle_of_a_rollout() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = support::pitstop(folder.path());
    let events = events(command.args(["demo", "--dashboard", "--for", "1", "--json"]));
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["product-created", "enrolled", "updated", "rollout-started", "ready", "done"]);
    assert_eq!(events[1]["devices"], 200);
    assert!(events[4]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert!(events[4]["token"].as_str().is_some_and(|token| !token.is_empty()));
}
