//! `pitstop flash`, `provision` and `layout adopt` on a serial port: a mock of a chip on a pseudo-terminal.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use flashfmt::{Chip, Layout};
use support::rom::{Fault, MockChip};
use support::{Bench, image, pitstop, updater};

const FLASH_BYTES: usize = 0x40_0000;

/// Whatever a chip does, an answer is there after this long. The longest is a write of 1 MB that nobody answers (espflash waits for
/// 40 s a megabyte), and tests share a machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Arduino's default layout with a file system, as far as it matters here.
const ARDUINO: &str = "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\napp0,app,ota_0,0x10000,0x140000\n\
                       app1,app,ota_1,0x150000,0x140000\nspiffs,data,spiffs,0x290000,0x160000\n\
                       coredump,data,coredump,0x3f0000,0x10000\n";

fn bench() -> Bench {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("updater.bin", &updater(5000));
    bench.write("pass", b"an unguessable passphrase\n");
    bench
}

fn blank() -> Vec<u8> {
    vec![0xFF; FLASH_BYTES]
}

/// A chip with Arduino's layout, and something in its file system.
fn with_arduino() -> Vec<u8> {
    let mut flash = blank();
    let table = Layout::parse_csv(ARDUINO).unwrap().to_binary();
    flash[0x8000..][..table.len()].copy_from_slice(&table);
    flash[0x29_0000..][..16].copy_from_slice(b"a file of theirs");
    flash
}

fn flash<'a>(port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let rest = ["--product", "lamp", "--wifi", "workshop", "--wifi-passphrase-file", "pass"];
    let mut line =
        vec!["flash", "--port", port, "--no-reset", "--allow-loopback", "--updater", "updater.bin"];
    line.extend(rest);
    line.extend(more);
    line
}

fn device_count(bench: &Bench) -> usize {
    bench.json(&["device", "list"])["items"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_chip_is_flashed_and_its_vault_comes_last() {
    let bench = bench();
    let chip = MockChip::start(Chip::Esp32C3, blank(), Fault::NoiseAtFirst);
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    let report = bench.json(&flash(&chip.port, &["--app", "app.bin", "--device", "lamp-1"]));
    assert_eq!((&report["port"], &report["lost_data"]), (&chip.port.as_str().into(), &serde_json::json!([])));

    // The same as in a file, but for the vault, which is made anew.
    let mut file = flash(&chip.port, &["--app", "app.bin", "--device", "lamp-1"]);
    file[1] = "--image";
    file[2] = "flash.bin";
    file.remove(3);
    bench.command(&file).assert().success();
    let file = std::fs::read(bench.folder.path().join("flash.bin")).unwrap();
    let on_chip = chip.flash();
    let vault = 0x10_0000..0x10_8000;
    assert!(on_chip[..vault.start] == file[..vault.start] && on_chip[vault.end..] == file[vault.end..]);
    assert!(on_chip[vault.clone()].windows(6).any(|window| window == b"lamp-1"));

    // Download mode is there again for the next command; the table is read from the chip.
    let provision =
        ["provision", "--port", &chip.port, "--no-reset", "--allow-loopback", "--device", "lamp-1"];
    let report = bench.json(&provision);
    assert_eq!(report["vault_offset"], 0x10_0000);
    assert!(chip.flash()[vault.clone()] != on_chip[vault]);
}

#[test]
fn data_that_would_be_lost_is_named_and_kept_unless_said() {
    let bench = bench();
    let chip = MockChip::start(Chip::Esp32C3, with_arduino(), Fault::None);
    let asked = bench.question(&flash(&chip.port, &[]));
    assert!(asked.contains("`spiffs` (0x290000+0x160000, not in the layout)"), "{asked}");
    assert!(asked.contains("`nvs` (0x9000+0x5000, then 0x9000+0x6000)"), "{asked}");
    assert!(asked.contains("layout adopt") && asked.contains("--yes"), "{asked}");
    assert_eq!((chip.flash() == with_arduino(), device_count(&bench)), (true, 0));

    let adopted = bench.text(&["layout", "adopt", "--port", &chip.port, "--no-reset"]);
    bench.write("parts.csv", adopted.as_bytes());
    bench.write("fs.bin", &[7; 5000]);
    let report = bench.json(&flash(&chip.port, &["--layout", "parts.csv"]));
    assert_eq!(report["lost_data"], serde_json::json!([]));
    assert!(chip.flash()[0x29_0000..].starts_with(b"a file of theirs"));

    // A file system of one's own in its place.
    let report = bench.json(&flash(&chip.port, &["--layout", "parts.csv", "--partition", "spiffs=fs.bin"]));
    let part = report["parts"].as_array().unwrap().iter().find(|part| part["name"] == "spiffs").unwrap();
    assert_eq!((&part["offset"], &part["size_bytes"]), (&0x29_0000.into(), &0x16_0000.into()));
    let flash_now = chip.flash();
    assert!(flash_now[0x29_0000..][..5000].iter().all(|byte| *byte == 7));
    assert!(
        flash_now[0x29_0000 + 5000..0x3f_0000].iter().all(|byte| *byte == 0xFF),
        "nothing of before is left"
    );

    let report = bench.json(&flash(&chip.port, &["--yes"]));
    assert_eq!(report["lost_data"], serde_json::json!(["nvs", "spiffs"]));
}

/// What is told of a chip on a bad cable, in bounded time; the server has made no device for it.
fn broken_cable(fault: Fault, reasons: [&str; 2]) {
    let bench = bench();
    let chip = MockChip::start(Chip::Esp32C3, blank(), fault);
    let begun = Instant::now();
    let refused = bench.refusal(&flash(&chip.port, &[]));
    let taken = begun.elapsed();
    for reason in reasons {
        assert!(refused.contains(reason), "{reason:?} in {refused}");
    }
    assert!(taken < LONGEST, "{taken:?}");
    assert_eq!(device_count(&bench), 0);
}

#[test]
fn a_cable_without_data_lines_is_told() {
    broken_cable(Fault::Silence, ["no chip answers on", "hold BOOT"]);
}

#[test]
fn noise_alone_is_told() {
    broken_cable(Fault::NoiseForEver, ["no chip answers on", "another USB cable"]);
}

#[test]
fn a_chip_that_falls_silent_is_told() {
    broken_cable(Fault::SilenceAfterSync, ["no chip answers on", "answered, and then no more"]);
}

#[test]
fn a_reset_in_the_middle_is_told_and_costs_no_token() {
    broken_cable(
        Fault::ResetAfterBlocks(1),
        ["could not be written", "see that cable and power supply hold"],
    );
}

#[test]
fn a_worn_flash_is_told_and_costs_no_token() {
    broken_cable(Fault::WornOut, ["could not be written", "the flash does not hold what was written"]);
}

#[test]
fn a_chip_that_does_not_suit_is_refused_before_anything_is_built_or_made() {
    let bench = bench();
    for (chip, bytes, reasons) in [
        (Chip::Esp32S3, FLASH_BYTES, ["expected esp32c3 on", "found esp32s3"]),
        (Chip::Esp32C3, 0x20_0000, ["the layout needs 4194304 bytes of flash", "has 2097152"]),
    ] {
        let mock = MockChip::start(chip, vec![0xFF; bytes], Fault::None);
        // Without --updater: it would be built, if it came to that.
        let mut line = flash(&mock.port, &[]);
        line.drain(5..7);
        let refused = bench.refusal(&line);
        for reason in reasons {
            assert!(refused.contains(reason), "{reason:?} in {refused}");
        }
        assert!(!refused.contains("building the updater"), "{refused}");
        assert_eq!((mock.state.lock().unwrap().blocks, device_count(&bench)), (0, 0));
    }
}

#[test]
fn what_a_board_could_not_do_is_said_before_its_port_is_opened() {
    let bench = bench();
    let mut line = flash("/dev/absent", &[]);
    line.retain(|word| *word != "--allow-loopback");
    let refused = bench.refusal(&line);
    assert!(refused.contains("expected a server that a board can reach"), "{refused}");
    assert!(refused.contains("--name 192.168.1.20") && refused.contains("--allow-loopback"), "{refused}");
    assert!(!refused.contains("/dev/absent"), "{refused}");
    // The port before the updater, which would be built.
    let mut line = flash("/dev/absent", &[]);
    line.drain(5..7);
    let refused = bench.refusal(&line);
    assert!(refused.contains("/dev/absent cannot be opened") && !refused.contains("building"), "{refused}");
    let without: Vec<_> = flash("/dev/absent", &[])
        .into_iter()
        .filter(|word| !["--wifi", "workshop", "--wifi-passphrase-file", "pass"].contains(word))
        .collect();
    let refused = bench.refusal(&without);
    assert!(refused.contains("warning: no Wi-Fi is given") && refused.contains("Improv"), "{refused}");
    bench.write("updater.bin", &support::image_of("pitstop-updater", Chip::Esp32C3, "0.1.0+emulator", 100));
    let refused = bench.refusal(&flash("/dev/absent", &[]));
    assert!(refused.contains("warning: this updater was built for emulators"), "{refused}");
}

#[test]
fn a_layout_of_a_chip_without_a_table_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let chip = MockChip::start(Chip::Esp32C3, blank(), Fault::None);
    let adopt = ["layout", "adopt", "--port", &chip.port, "--no-reset"];
    let output = pitstop(folder.path()).args(adopt).assert().code(1).get_output().clone();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains("has no data to keep") && refused.contains("layout list"), "{refused}");
}

#[test]
fn a_layout_is_adopted_for_the_chip_on_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let adopt = |chip: &MockChip, code: i32| {
        let line = ["layout", "adopt", "--port", &chip.port, "--no-reset", "--json"];
        let output = pitstop(folder.path()).args(line).assert().code(code).get_output().clone();
        String::from_utf8(if code == 0 { output.stdout } else { output.stderr }).unwrap()
    };
    let chip = MockChip::start(Chip::Esp32C6, with_arduino(), Fault::None);
    assert!(adopt(&chip, 0).contains("\"chip\": \"esp32c6\""));
    let chip = MockChip::start(Chip::Esp32S3, with_arduino(), Fault::None);
    let refused = adopt(&chip, 1);
    assert!(refused.contains("expected a layout with otadata"), "{refused}");
    let mut elsewhere = with_arduino();
    elsewhere.copy_within(0x8000..0x9000, 0x1_0000);
    elsewhere[0x8000..0x9000].fill(0xFF);
    let chip = MockChip::start(Chip::Esp32C3, elsewhere, Fault::None);
    let refused = adopt(&chip, 1);
    assert!(refused.contains("expected the partition table at 0x8000, found it at 0x10000"), "{refused}");
}
