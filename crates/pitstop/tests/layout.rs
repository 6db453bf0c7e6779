//! `pitstop layout`, without a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::{Chip, Layout};
use serde_json::Value;
use support::{image, pitstop, updater};
use tempfile::TempDir;

/// A folder with an application and an updater.
fn folder(app_bytes: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.bin"), image(Chip::Esp32C3, "1.0.0", app_bytes)).unwrap();
    std::fs::write(folder.path().join("updater.bin"), updater(700_000)).unwrap();
    folder
}

fn check(folder: &TempDir, layout: &str, more: &[&str], code: i32) -> (String, String) {
    let arguments = ["layout", "check", layout, "app.bin", "--updater", "updater.bin"];
    let output = pitstop(folder.path()).args(arguments).args(more).assert().code(code).get_output().clone();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_updaters_place_is_the_updaters() {
    let folder = folder(1000);
    let arguments = ["layout", "check", "4mb", "app.bin", "--updater", "app.bin"];
    let output = pitstop(folder.path()).args(arguments).assert().code(1).get_output().clone();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(
        refused.contains("expected the updater (project pitstop-updater), found an application"),
        "{refused}"
    );
}

#[test]
fn what_fits_ends_with_0() {
    let folder = folder(300_000);
    insta::assert_snapshot!(check(&folder, "4mb", &[], 0).0);
    let report: Value = serde_json::from_str(&check(&folder, "4mb", &["--json"], 0).0).unwrap();
    assert_eq!((&report["ok"], &report["slots"][0]["used_percent"]), (&true.into(), &9.8.into()));
    assert_eq!(report["updater"]["label"], "factory");
}

#[test]
fn what_does_not_fit_ends_with_1_and_says_how_it_would() {
    let folder = folder(3_800_000);
    let (page, error) = check(&folder, "8mb", &[], 1);
    insta::assert_snapshot!(format!("{page}{error}"));
    let report: Value = serde_json::from_str(&check(&folder, "8mb", &["--json"], 1).0).unwrap();
    assert_eq!(report["ok"], false);
    let problem = report["problems"][0].as_str().unwrap();
    let told = format!("{page}{error}").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(told.matches(problem).count(), 1, "{told}");
    assert_eq!(report["ways"].as_array().unwrap().len(), 2);
    assert!(report["slots"][0]["margin_bytes"].as_i64().unwrap() < 0);
}

#[test]
fn a_layout_that_the_updater_cannot_use_is_told() {
    let folder = folder(1000);
    let csv = "nvs,data,nvs,,24K\notadata,data,ota,,8K\nfactory,app,factory,,1M\nota_0,app,ota_0,,1M\n";
    std::fs::write(folder.path().join("parts.csv"), csv).unwrap();
    let (_, error) = check(&folder, "parts.csv", &[], 1);
    assert!(error.contains("an application can select itself"), "{error}");
}

#[test]
fn a_built_in_layout_is_a_beginning() {
    let folder = folder(1000);
    let output = pitstop(folder.path()).args(["layout", "show", "4mb"]).assert().success();
    let csv = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert_eq!(Layout::parse_csv(&csv).unwrap(), Layout::builtin("4mb").unwrap());
    std::fs::write(folder.path().join("parts.csv"), csv).unwrap();
    check(&folder, "parts.csv", &[], 0);

    let output = pitstop(folder.path()).args(["layout", "list"]).assert().success();
    insta::assert_snapshot!(String::from_utf8_lossy(&output.get_output().stdout));
}

#[test]
fn an_image_that_says_nothing_of_itself_is_no_plain_ok() {
    let folder = folder(1000);
    let bare =
        flashfmt::image::compose::Composer::new(Chip::Esp32C3, flashfmt::image::compose::esp32c3_addr::IRAM)
            .segment(flashfmt::image::compose::esp32c3_addr::IRAM, &[5; 100])
            .build()
            .unwrap();
    std::fs::write(folder.path().join("app.bin"), bare).unwrap();
    let (output, error) = check(&folder, "4mb", &["--json"], 0);
    let report: Value = serde_json::from_str(&output).unwrap();
    assert!(report["warnings"][0].as_str().unwrap().contains("--without-descriptor"), "{report}");
    assert!(error.contains("warning: nothing in this image says that it is an application"), "{error}");
    let inspected = pitstop(folder.path()).args(["image", "inspect", "app.bin"]).assert().success();
    assert!(
        String::from_utf8_lossy(&inspected.get_output().stderr)
            .contains("warning: nothing in this image says")
    );
}

const ARDUINO: &str = "nvs,data,nvs,0x9000,0x5000,\notadata,data,ota,0xe000,0x2000,\napp0,app,ota_0,0x10000,0x140000,\n\
                       app1,app,ota_1,0x150000,0x140000,\nspiffs,data,spiffs,0x290000,0x160000,\n\
                       coredump,data,coredump,0x3F0000,0x10000,\n";

#[test]
fn a_layout_is_adopted_from_a_table_of_any_form() {
    let folder = folder(1000);
    let present = Layout::parse_csv(ARDUINO).unwrap();
    let mut flash = vec![0xFF; 0x1_0000];
    flash[0x8000..][..present.to_binary().len()].copy_from_slice(&present.to_binary());
    for (name, content) in
        [("arduino.csv", ARDUINO.as_bytes()), ("table.bin", &present.to_binary()), ("flash.bin", &flash)]
    {
        std::fs::write(folder.path().join(name), content).unwrap();
        let output = pitstop(folder.path()).args(["layout", "adopt", name, "--json"]).assert().success();
        let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        assert_eq!(report["kept"], serde_json::json!(["nvs", "spiffs", "coredump"]), "{name}");
        let csv = report["csv"].as_str().unwrap();
        assert_eq!(Layout::parse_csv(csv).unwrap(), present.adopt(0x40_0000).unwrap(), "{name}");
        std::fs::write(folder.path().join("parts.csv"), csv).unwrap();
        check(&folder, "parts.csv", &[], 0);
    }
    let refuse = |content: &str, more: &[&str]| {
        std::fs::write(folder.path().join("other.csv"), content).unwrap();
        let arguments = [&["layout", "adopt", "other.csv"], more].concat();
        let output = pitstop(folder.path()).args(arguments).assert().code(1).get_output().clone();
        String::from_utf8(output.stderr).unwrap()
    };
    let full =
        "nvs,data,nvs,0x9000,0x5000\napp,app,factory,0x10000,0xe0000\nweb,data,spiffs,0xf0000,0x310000\n";
    let refused = refuse(full, &[]);
    for part in
        ["no layout of 4.00 MiB", "expected 983040 bytes in a row", "found 917504", "web 0xf0000 to 0x400000"]
    {
        assert!(refused.contains(part), "{part:?} in {refused}");
    }
    let larger = pitstop(folder.path())
        .args(["layout", "adopt", "other.csv", "--flash-size", "8MB"])
        .assert()
        .success();
    Layout::parse_csv(&String::from_utf8_lossy(&larger.get_output().stdout)).unwrap();
    assert!(refuse(ARDUINO, &["--flash-size", "2MB"]).contains("--flash-size"));
    assert!(refuse("no table", &[]).contains("expected a partition table, as CSV or binary, in other.csv"));
    // Without a table nothing is adopted; nor with two.
    pitstop(folder.path()).args(["layout", "adopt"]).assert().code(2);
    pitstop(folder.path()).args(["layout", "adopt", "other.csv", "--flash-size", "4"]).assert().code(2);
}

#[test]
fn a_layout_is_adopted_for_a_chip() {
    let folder = folder(1000);
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    let adopt = |file: &str, more: &[&str], code: i32| {
        let arguments = [&["layout", "adopt", file], more].concat();
        let output = pitstop(folder.path()).args(arguments).assert().code(code).get_output().clone();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let report = |file: &str, more: &[&str]| -> Value {
        serde_json::from_str(&adopt(file, &[more, &["--json"]].concat(), 0).0).unwrap()
    };
    write("arduino.csv", ARDUINO.as_bytes());
    assert_eq!(report("arduino.csv", &[])["chip"], Value::Null);
    assert_eq!(report("arduino.csv", &["--chip", "esp32c6"])["chip"], "esp32c6");
    // There is no chain-loader for it, so that no layout of this kind would ever hand over.
    let refused = adopt("arduino.csv", &["--chip", "esp32s3"], 1).1;
    assert!(
        refused.contains("expected a layout with otadata and without `factory` for esp32s3"),
        "{refused}"
    );
    let refused = adopt("arduino.csv", &["--chip", "esp32h2"], 1).1;
    assert!(refused.contains("expected a chip that there is an updater for"), "{refused}");
    let classic = pitstop(folder.path()).args(["layout", "show", "8mb-rollback"]).assert().success();
    write("classic.csv", &classic.get_output().stdout);
    assert_eq!(report("classic.csv", &["--chip", "esp32s3"])["strategy"], "otadata-rollback");

    // All of a flash says which chip it is of, by its bootloader, and how large it is.
    let table = Layout::parse_csv(ARDUINO).unwrap().to_binary();
    let mut flash = vec![0xFF; 0x80_0000];
    flash[..support::bootloader().len()].copy_from_slice(&support::bootloader());
    flash[0x8000..][..table.len()].copy_from_slice(&table);
    write("flash.bin", &flash);
    let of_flash = report("flash.bin", &[]);
    assert_eq!((&of_flash["chip"], &of_flash["flash_bytes"]), (&"esp32c3".into(), &0x80_0000.into()));
    let refused = adopt("flash.bin", &["--chip", "esp32c6"], 1).1;
    assert!(refused.contains("expected a flash of esp32c6, found the bootloader of esp32c3"), "{refused}");

    // The application would not find its data through a table that is moved.
    flash.copy_within(0x8000..0x9000, 0x1_0000);
    flash[0x8000..0x9000].fill(0xFF);
    write("flash.bin", &flash);
    let refused = adopt("flash.bin", &[], 1).1;
    for part in [
        "expected the partition table at 0x8000, found it at 0x10000",
        "CONFIG_PARTITION_TABLE_OFFSET=0x8000",
    ] {
        assert!(refused.contains(part), "{part:?} in {refused}");
    }
}
