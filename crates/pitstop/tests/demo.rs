//! `pitstop demo`, whole: server, device, updates, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};

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

#[test]
fn the_story_ends_well_with_the_users_images_and_everything_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = images(folder.path());
    let mut command = support::pitstop(folder.path());
    command.args(["demo", "--json", "--keep", "kept", "--app"]).arg(&first).arg("--app").arg(&second);
    let output = command.assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    assert!(text.lines().last().unwrap().starts_with(r#"{"event":"done""#), "{text}");
    let done = events.last().unwrap();
    assert_eq!(done["ok"], true);
    assert_eq!(done["version"], "1-b");
    assert_eq!(done["refusals"], 8);
    let sizes = [&first, &second].map(|path| std::fs::metadata(path).unwrap().len());
    assert_eq!(done["downloaded_bytes"], sizes[0] + sizes[1]);
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
