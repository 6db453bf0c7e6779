//! `pitstop flash` and `pitstop provision`, into flash files that virtual devices then start from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;

use flashfmt::{Chip, StreamVerifier};
use predicates::Predicate;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use sim::RunningApp;
use support::{Bench, bootloader, image, pitstop, updater};

const PASSPHRASE: &str = "an unguessable passphrase";
const FLASH_BYTES: u32 = 0x40_0000;
/// `vault` of the layout 4mb.
const VAULT: std::ops::Range<usize> = 0x10_0000..0x10_8000;
/// The journal follows it.
const JOURNAL: std::ops::Range<usize> = 0x10_8000..0x10_a000;

/// A server with the product `lamp`, an updater's image, and a file with a passphrase.
fn bench() -> Bench {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("updater.bin", &updater(5000));
    bench.write("pass", format!("{PASSPHRASE}\n").as_bytes());
    bench
}

const FLASH: [&str; 10] = [
    "flash",
    "--image",
    "flash.bin",
    "--updater",
    "updater.bin",
    "--wifi",
    "workshop",
    "--wifi-passphrase-file",
    "pass",
    "--product",
];

fn flash<'a>(more: &[&'a str]) -> Vec<&'a str> {
    FLASH.into_iter().chain(["lamp"]).chain(more.iter().copied()).collect()
}

/// Starts a device from a flash file, in reach of the network `workshop`.
fn start(path: &Path) -> RunningApp {
    support::start(path, PASSPHRASE)
}

fn printed(command: &mut assert_cmd::Command) -> String {
    let output = command.assert().success().get_output().clone();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
}

#[test]
fn a_device_starts_from_the_file_enrolls_and_installs() {
    let bench = bench();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 150_000));
    bench.publish("app.bin", &[]);
    let text = printed(&mut bench.command(&flash(&["--device", "lamp-0001"])));
    assert!(text.contains("lamp-0001 (made at the server)") && text.contains("0x100000"), "{text}");
    assert!(!text.contains(PASSPHRASE) && !text.contains('\x1b'), "{text}");

    let path = bench.folder.path().join("flash.bin");
    let app = start(&path);
    assert_eq!((app.version(), app.slot.as_str(), app.by_updater), ("1.0.0", "ota_0", true));
    let device = bench.json(&["device", "show", "lamp-0001"]);
    assert_eq!(
        (&device["state"], &device["last_outcome"]["reason"]),
        (&"enrolled".into(), &"installed".into())
    );
}

#[test]
fn the_file_is_what_the_chip_wants() {
    let bench = bench();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 3000));
    let report = bench.json(&flash(&["--app", "app.bin"]));
    // The server chose the id.
    assert!(report["device"].as_str().unwrap().starts_with("lamp-"), "{report}");
    assert_eq!((&report["chip"], &report["strategy"]), (&"esp32c3".into(), &"chain-load".into()));
    assert_eq!(report["wifi"], serde_json::json!(["workshop"]));
    assert!(!report.to_string().contains(PASSPHRASE));

    let path = bench.folder.path().join("flash.bin");
    let flash = std::fs::read(&path).unwrap();
    assert_eq!(flash.len(), FLASH_BYTES as usize);
    // Verifies checksum and SHA-256 of the bootloader after its header was changed.
    let mut verifier = StreamVerifier::new(0x8000);
    let bootloader = verifier.update(&flash[..0x8000]).and_then(|_| verifier.finish()).unwrap();
    assert_eq!((bootloader.header.chip, bootloader.header.flash_bytes()), (Chip::Esp32C3, Some(FLASH_BYTES)));

    let mut covered = vec![false; flash.len()];
    for part in report["parts"].as_array().unwrap() {
        let number = |key: &str| part[key].as_u64().unwrap() as usize;
        covered[number("offset")..][..number("size_bytes")].fill(true);
    }
    let uncovered = flash.iter().zip(&covered).filter(|(_, covered)| !**covered);
    assert!(uncovered.clone().count() > 1_000_000);
    assert!(uncovered.into_iter().all(|(byte, _)| *byte == 0xFF));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // A first application is there before the server has any release.
    assert_eq!(start(&path).version(), "1.0.0");
}

#[test]
fn values_that_are_given_need_no_connection_to_the_server() {
    let bench = bench();
    let made = bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-7"]);
    let key = bench.json(&["keys", "show"]);
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    bench.publish("app.bin", &[]);

    let token = std::fs::read_to_string(bench.data.join("admin.token")).unwrap();
    let info: Value = ureq::get(format!("{}/api/v1/info", bench.url))
        .header("authorization", format!("Bearer {}", token.trim()))
        .call()
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap();
    let anchor = bench.data.join("ca/ca.pem");
    let given = [
        "--device",
        "lamp-7",
        "--server-url",
        info["device_url"].as_str().unwrap(),
        "--anchor",
        anchor.to_str().unwrap(),
        "--publisher",
        key["public_key"].as_str().unwrap(),
    ];
    let offline = |arguments: &[&str]| {
        let mut command = pitstop(bench.folder.path());
        command
            .args(flash(arguments))
            .env("PITSTOP_ENROLLMENT_TOKEN", made["enrollment_token"].as_str().unwrap());
        command
    };
    let missing = offline(&[&given[..6], &["--layout", "4mb"]].concat()).assert().code(2);
    missing.stderr(contains("--publisher is needed"));
    let text = printed(&mut offline(&given));
    assert!(!text.contains(made["enrollment_token"].as_str().unwrap()), "{text}");
    assert_eq!(start(&bench.folder.path().join("flash.bin")).version(), "1.0.0");
}

#[test]
fn provision_changes_the_vault_and_erases_the_journal() {
    let bench = bench();
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 150_000));
    bench.publish("app.bin", &[]);
    bench.command(&flash(&["--device", "lamp-0001"])).assert().success();
    let path = bench.folder.path().join("flash.bin");
    start(&path);
    let first = bench.json(&["device", "show", "lamp-0001"])["certificate"]["serial"].clone();
    let before = std::fs::read(&path).unwrap();

    let provision = ["provision", "--image", "flash.bin", "--device", "lamp-0001", "--wifi", "workshop"];
    let with_file = [&provision[..], &["--wifi-passphrase-file", "pass"]].concat();
    let report = bench.json(&with_file);
    assert_eq!((&report["vault_offset"], &report["vault_bytes"]), (&0x10_0000.into(), &0x8000.into()));
    let after = std::fs::read(&path).unwrap();
    assert_ne!(before[VAULT], after[VAULT]);
    // What was learned with the vault before, such as the number of the last release.
    assert!(
        before[JOURNAL].iter().any(|byte| *byte != 0xff) && after[JOURNAL].iter().all(|byte| *byte == 0xff)
    );
    let rest = |flash: &[u8]| [&flash[..VAULT.start], &flash[JOURNAL.end..]].concat();
    assert!(rest(&before) == rest(&after));
    // The slot still has the application; the device enrolls with the new token.
    assert_eq!(start(&path).version(), "1.0.0");
    let second = bench.json(&["device", "show", "lamp-0001"])["certificate"]["serial"].clone();
    assert_ne!(first, second);

    // A mistake is found before a device is made or its token is void, and before the file changes.
    let before = std::fs::read(&path).unwrap();
    bench.write("pass", b"short\n");
    let new = ["provision", "--image", "flash.bin", "--device", "lamp-0002", "--product", "lamp"];
    let refused =
        bench.refusal(&[&new[..], &["--wifi", "workshop", "--wifi-passphrase-file", "pass"]].concat());
    assert!(refused.contains("8 to 63 bytes of text") && refused.contains("found 5 bytes"), "{refused}");
    assert!(bench.refusal(&["device", "show", "lamp-0002"]).contains("no device lamp-0002"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    bench.write("other.bin", &[0xFF; 0x1_0000]);
    let refused = bench.refusal(&["provision", "--image", "other.bin", "--device", "lamp-0001"]);
    assert!(refused.contains("no partition table") && refused.contains("pitstop flash --help"), "{refused}");
}

#[test]
fn the_classic_layout_asks_for_a_bootloader_with_rollback() {
    let bench = bench();
    let refused = bench.refusal(&flash(&["--device", "lamp-1", "--layout", "8mb-rollback"]));
    assert!(refused.contains("needs a bootloader built with rollback"), "{refused}");
    assert!(refused.contains("CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE=y"), "{refused}");
    // Nothing was made at the server, and no file.
    assert!(bench.refusal(&["device", "show", "lamp-1"]).contains("no device"));
    assert!(!bench.folder.path().join("flash.bin").exists());

    // As ESP-IDF's build leaves it: what it was built with lies beside it.
    let beside = bench.folder.path().join("config");
    std::fs::create_dir(&beside).unwrap();
    let configure = |text: &str| std::fs::write(beside.join("sdkconfig.h"), text).unwrap();
    bench.write("bootloader.bin", &bootloader());
    configure("#define CONFIG_IDF_TARGET_ESP32C3 1\n");
    let own = flash(&["--layout", "8mb-rollback", "--bootloader", "bootloader.bin"]);
    let refused = bench.refusal(&own);
    assert!(refused.contains("this one has none") && refused.contains("ROLLBACK_ENABLE=y"), "{refused}");
    configure("#define CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE 1\n");
    bench.command(&own).assert().success().stderr(contains("bootloader was built").not());
    std::fs::remove_file(bench.folder.path().join("flash.bin")).unwrap();
    std::fs::remove_file(beside.join("sdkconfig.h")).unwrap();
    bench
        .command(&own)
        .assert()
        .success()
        .stderr(contains("warning: it cannot be known whether this bootloader"));
    std::fs::remove_file(bench.folder.path().join("flash.bin")).unwrap();
    let report = bench.json(&flash(&["--layout", "8mb-rollback", "--bootloader", "bootloader.bin"]));
    assert_eq!(
        (&report["strategy"], &report["flash_bytes"]),
        (&"otadata-rollback".into(), &0x80_0000.into())
    );
    let flash = std::fs::read(bench.folder.path().join("flash.bin")).unwrap();
    let mut verifier = StreamVerifier::new(0x8000);
    let header = verifier.update(&flash[..0x8000]).and_then(|_| verifier.finish()).unwrap().header;
    assert_eq!(header.flash_bytes(), Some(0x80_0000));
}

#[test]
fn what_does_not_suit_is_refused_before_anything_is_made() {
    let bench = bench();
    let refuse = |more: &[&str], reasons: [&str; 2]| {
        let text = bench.refusal(&flash(more));
        for reason in reasons {
            assert!(text.contains(reason), "{reason:?} in {text}");
        }
    };
    bench.write("s3.bin", &image(Chip::Esp32S3, "1.0.0", 100));
    refuse(&["--app", "s3.bin"], ["expected an application for esp32c3, found one for esp32s3", "hint: "]);
    bench.write("large.bin", &image(Chip::Esp32C3, "1.0.0", 0x2F_0000));
    refuse(&["--app", "large.bin"], ["partition ota_0", "pitstop layout check"]);
    bench.write("bootloader.bin", &bootloader());
    refuse(
        &["--app", "bootloader.bin"],
        ["found a second-stage bootloader", "hint: give the application alone"],
    );
    bench.write("lamp.bin", &image(Chip::Esp32C3, "1.0.0", 100));
    for (file, found) in
        [("bootloader.bin", "a second-stage bootloader"), ("lamp.bin", "an application (project lamp)")]
    {
        let arguments: Vec<_> =
            flash(&[]).into_iter().map(|word| if word == "updater.bin" { file } else { word }).collect();
        let refused = bench.refusal(&arguments);
        assert!(
            refused.contains(&format!("expected the updater (project pitstop-updater), found {found}")),
            "{refused}"
        );
    }
    refuse(&["--app", "updater.bin"], ["found the updater itself", "hint: "]);
    refuse(&["--bootloader", "lamp.bin"], ["expected a second-stage bootloader", "(application)"]);
    refuse(&["--chip", "esp32s3"], ["the product lamp is for esp32c3", "leave --chip away"]);
    refuse(&["--layout", "5mb"], ["expected a layout (4mb, 8mb", "5mb"]);
    refuse(&["--bootloader", "pass"], ["not an ESP image", "hint: "]);
    bench.write("none.csv", b"factory,app,factory,0x10000,1M\nota_0,app,ota_0,,1M\n");
    refuse(&["--layout", "none.csv"], ["there is no partition `vault`", "pitstop layout show 4mb"]);
    assert!(bench.text(&["device", "list"]).contains("No devices yet"));

    // A device keeps its product, and a revoked one is not brought back.
    bench.json(&["device", "new", "--product", "lamp", "--id", "lamp-9"]);
    let mut other = bench.command(&FLASH);
    other.args(["plug", "--device", "lamp-9"]).assert().code(1).stderr(contains("the server has it as lamp"));
    bench.json(&["device", "revoke", "lamp-9", "--yes"]);
    refuse(&["--device", "lamp-9"], ["lamp-9 is revoked", "another id"]);
}

#[test]
fn a_file_that_is_there_is_asked_for_and_a_loopback_warned_of() {
    let bench = bench();
    bench.write("flash.bin", b"mine");
    let asked = bench.question(&flash(&["--device", "lamp-1"]));
    assert!(asked.contains("Overwrite flash.bin, which is there already?"), "{asked}");
    assert_eq!(std::fs::read(bench.folder.path().join("flash.bin")).unwrap(), b"mine");
    assert!(bench.refusal(&["device", "show", "lamp-1"]).contains("no device lamp-1"));
    let warned =
        |more: &[&str]| contains("nothing but an emulator").eval(&printed(&mut bench.command(&flash(more))));
    assert!(warned(&["--yes"]) && !warned(&["--yes", "--allow-loopback"]));

    // A folder that nothing can be written to costs no token either.
    let mut line = flash(&["--device", "lamp-2"]);
    line[2] = "absent/flash.bin";
    assert!(bench.refusal(&line).contains("cannot be written"));
    assert!(bench.refusal(&["device", "show", "lamp-2"]).contains("no device lamp-2"));
}

#[test]
fn data_for_a_partition_has_its_name_and_its_size() {
    let bench = bench();
    bench.write("parts.csv", support::with_storage().as_bytes());
    bench.write("fs.bin", &[7; 5000]);
    let with = |data: &str| -> Vec<String> {
        let line = flash(&["--layout", "parts.csv", "--yes", "--partition", data]);
        line.into_iter().map(str::to_owned).collect()
    };
    let refusal = |data: &str| bench.refusal(&with(data).iter().map(String::as_str).collect::<Vec<_>>());
    for (data, reason) in [
        ("spiffs=fs.bin", "expected a data partition of the layout (nvs, phy_init, storage), found spiffs"),
        ("vault=fs.bin", "found vault"),
        ("factory=fs.bin", "found factory"),
        ("storage=absent.bin", "cannot be read"),
    ] {
        assert!(refusal(data).contains(reason), "{data}");
    }
    bench.write("large.bin", &[7; 0x1_0001]);
    let refused = refusal("storage=large.bin");
    assert!(refused.contains("expected at most 65536 bytes for `storage`, found 65537"), "{refused}");
    bench.write("empty.bin", b"");
    assert!(refusal("storage=empty.bin").contains("found an empty file"));

    bench.command(&with("storage=fs.bin").iter().map(String::as_str).collect::<Vec<_>>()).assert().success();
    let file = std::fs::read(bench.folder.path().join("flash.bin")).unwrap();
    let storage = &file[0x3f_0000..0x40_0000];
    assert!(
        storage[..5000].iter().all(|byte| *byte == 7) && storage[5000..].iter().all(|byte| *byte == 0xFF)
    );
}

#[test]
fn options_that_contradict_are_matters_of_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["flash", "--product", "lamp"][..],
        &["flash", "--port", "a", "--image", "b"],
        &["flash", "--image", "b", "--no-reset"],
        &["flash", "--image", "b", "--wifi", ""],
        &["flash", "--image", "b", "--anchor", "ca.pem"],
        &["flash", "--image", "b", "--server-url", "http://localhost"],
        &["flash", "--image", "b", "--chip", "esp8266"],
        &["provision", "--device", "lamp-1"],
    ] {
        pitstop(folder.path()).args(arguments).assert().code(2).stderr(contains("error: "));
    }
}

#[test]
fn a_passphrase_that_nobody_can_be_asked_for_is_told() {
    let folder = tempfile::tempdir().unwrap();
    pitstop(folder.path())
        .args(["flash", "--image", "b", "--product", "lamp", "--wifi", "workshop"])
        .env_remove("PITSTOP_WIFI_PASSPHRASE")
        .assert()
        .code(1)
        .stderr(contains("no terminal to ask on").and(contains("--wifi-passphrase-file")));
}

#[cfg(unix)]
mod serial {
    use super::*;
    use serialport::{SerialPort, TTYPort};

    #[test]
    fn a_port_that_is_not_there_and_one_where_nothing_answers() {
        let bench = bench();
        let mut arguments =
            vec!["provision", "--device", "lamp-0001", "--product", "lamp", "--allow-loopback", "--port"];
        let absent = bench.refusal(&[&arguments[..], &["/dev/absent"]].concat());
        assert!(absent.contains("the serial port /dev/absent cannot be opened"), "{absent}");
        assert!(absent.contains("hint: "), "{absent}");

        let (_master, slave) = TTYPort::pair().unwrap();
        let name = slave.name().unwrap();
        drop(slave);
        arguments.push(&name);
        let silent = bench.refusal(&arguments);
        assert!(silent.contains(&format!("no chip answers on {name}")), "{silent}");
        assert!(silent.contains("hold BOOT"), "{silent}");
        assert!(bench.text(&["device", "list"]).contains("No devices yet"));
    }
}
