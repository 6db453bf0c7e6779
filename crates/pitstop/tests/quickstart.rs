//! `pitstop quickstart`: from nothing to a device that runs a release, and again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpListener;

use flashfmt::Chip;
use serde_json::Value;
use support::pty::Terminal;
use support::rom::{Fault, MockChip};
use support::{Bench, image, pitstop, start, updater};
use tempfile::TempDir;

const PASSPHRASE: &str = "an unguessable passphrase";

/// Commands of the steps, and whether each was kept.
fn steps(report: &Value) -> Vec<(String, bool)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            let verb =
                step["command"].as_str().unwrap().split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
            (verb, step["kept"] == true)
        })
        .collect()
}

/// What there is before the first `quickstart`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    write("updater.bin", &updater(5000));
    write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    write("pass", format!("{PASSPHRASE}\n").as_bytes());
    folder
}

/// For an admin listener.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_board_on_a_port_from_nothing_and_again() {
    let folder = folder();
    // 8 MB: the layout is chosen by what the board says.
    let chip = MockChip::start(Chip::Esp32C3, vec![0xFF; 0x80_0000], Fault::None);
    let admin = free_address();
    let line = [
        "quickstart",
        "--port",
        &chip.port,
        "--no-reset",
        "--address",
        "127.0.0.1",
        "--allow-loopback",
        "--device-port",
        "0",
        "--admin",
        &admin,
        "--once",
        "--updater",
        "updater.bin",
        "--app",
        "app.bin",
        "--wifi",
        "workshop",
        "--wifi-passphrase-file",
        "pass",
        "--json",
    ];
    let run = || -> Value {
        let output = pitstop(folder.path()).args(line).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    };
    let report = run();
    let expected = ["serve --listen", "keys new", "product new", "release publish", "flash --port"];
    assert_eq!(steps(&report), expected.map(|verb| (verb.to_owned(), false)));
    let product = report["steps"][2]["command"].as_str().unwrap();
    assert!(product.contains("--chip esp32c3 --layout 8mb"), "{product}");
    let vault = chip.flash()[0x10_0000..0x10_8000].to_vec();
    assert!(vault.windows(6).any(|window| window == b"lamp-1"));
    assert!(!report.to_string().contains(PASSPHRASE));

    let again = run();
    let kept: Vec<_> = steps(&again).into_iter().filter(|(_, kept)| *kept).map(|(verb, _)| verb).collect();
    assert_eq!(kept, ["keys new", "product new"]);
}

#[test]
fn a_virtual_device_runs_what_was_published_and_is_kept() {
    let bench = Bench::start();
    let admin = bench.url.strip_prefix("http://").unwrap().to_owned();
    bench.write("updater.bin", &updater(5000));
    bench.write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    bench.write("pass", format!("{PASSPHRASE}\n").as_bytes());
    let line = [
        "quickstart",
        "lamp",
        "--chip",
        "esp32c3",
        "--flash-size",
        "4MB",
        "--image",
        "flash.bin",
        "--admin",
        &admin,
        "--updater",
        "updater.bin",
        "--app",
        "app.bin",
        "--wifi",
        "workshop",
        "--wifi-passphrase-file",
        "pass",
    ];
    let run = || -> Value {
        let mut command = pitstop(bench.folder.path());
        let command = command.args(line).args(["--json", "--data"]).arg(&bench.data);
        serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
    };
    // The server that is there is taken, and so is the key.
    let kept = |report: &Value| {
        steps(report).into_iter().filter(|(_, kept)| *kept).map(|(verb, _)| verb).collect::<Vec<_>>()
    };
    assert_eq!(kept(&run()), ["serve", "keys new"]);

    let app = start(&bench.folder.path().join("flash.bin"), PASSPHRASE);
    assert_eq!(app.version(), "1.0.0");
    // What it did is copyable: the last step, as it is shown, again.
    let report = run();
    assert_eq!(kept(&report), ["serve", "keys new", "product new", "flash --image"]);
    let publish = report["steps"][3]["command"].as_str().unwrap().replace("pitstop ", "");
    bench.command(&publish.split(' ').collect::<Vec<_>>()).assert().success();

    // A board of another kind is no more of this product.
    let chip = MockChip::start(Chip::Esp32C6, vec![0xFF; 0x40_0000], Fault::None);
    let other = ["quickstart", "lamp", "--port", &chip.port, "--no-reset", "--no-app", "--no-wifi"];
    let output = pitstop(bench.folder.path())
        .args(other)
        .args(["--admin", &admin, "--data"])
        .arg(&bench.data)
        .assert()
        .code(1)
        .get_output()
        .clone();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(
        refused.contains("expected a board with an esp32c3, as the product lamp is for, found esp32c6"),
        "{refused}"
    );
}

#[test]
fn what_is_missing_is_asked_for() {
    let folder = folder();
    let admin = free_address();
    let server = [
        "quickstart",
        "--address",
        "127.0.0.1",
        "--allow-loopback",
        "--device-port",
        "0",
        "--admin",
        &admin,
        "--once",
        "--updater",
        "updater.bin",
    ];
    let mut terminal = Terminal::new(100);
    let start = |terminal: &Terminal, more: &[&str]| {
        let mut command = terminal.command(folder.path(), &[&server[..], more].concat());
        command.env("PITSTOP_WIFI_PASSPHRASE", PASSPHRASE).spawn().unwrap()
    };

    // A port where nothing is, then the right one.
    let chip = MockChip::start(Chip::Esp32C3, vec![0xFF; 0x80_0000], Fault::None);
    let mut child = start(&terminal, &["--port", "/dev/absent", "--no-reset"]);
    terminal.see("warning: the serial port /dev/absent cannot be opened");
    terminal.answer("without a board", &chip.port);
    terminal.answer("Application to publish", "absent.bin");
    terminal.see("absent.bin cannot be read");
    terminal.answer("Application to publish", "app.bin");
    terminal.answer("Wi-Fi that the board joins", "workshop");
    let (status, shown) = terminal.end(&mut child);
    assert!(status.success(), "{shown}");
    // What was answered is in the commands that it stands for.
    for part in [
        "product new lamp --chip esp32c3 --layout 8mb",
        "release publish app.bin",
        &format!("flash --port {}", chip.port),
        "--wifi workshop",
        &format!("The dashboard is at http://{admin}"),
    ] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    assert!(chip.flash()[0x10_0000..0x10_8000].windows(8).any(|window| window == b"workshop"));

    // Without a board its chip and the size of its flash are asked for, what is none is told, and Enter is what is usual.
    let image = ["fan", "--image", "fan.bin"];
    let mut child = start(&terminal, &image);
    terminal.answer("Chip of the boards", "esp8266");
    terminal.see("unknown chip name");
    terminal.answer("Chip of the boards", "esp32c3");
    terminal.answer("Size of their flash [4MB]", "");
    terminal.answer("Application to publish", "");
    terminal.answer("Wi-Fi that the board joins", "");
    let (status, shown) = terminal.end(&mut child);
    assert!(status.success(), "{shown}");
    assert!(shown.contains("product new fan --chip esp32c3 --layout 4mb"), "{shown}");
    assert!(shown.contains("release publish app.bin --product fan"), "what is left to do: {shown}");
    assert_eq!(std::fs::metadata(folder.path().join("fan.bin")).unwrap().len(), 0x40_0000);

    // The product says which chip, and how large its flash is: what is there is not asked for again.
    let mut child =
        start(&terminal, &["fan", "--image", "fan-2.bin", "--device", "fan-2", "--no-app", "--no-wifi"]);
    let (status, shown) = terminal.end(&mut child);
    assert!(status.success() && shown.contains("the product fan is there"), "{shown}");
    assert!(!shown.contains("Chip of the boards") && !shown.contains("Size of"), "{shown}");
    // A smaller flash than its layout needs is refused.
    let mut child = start(&terminal, &["fan", "--image", "fan-3.bin", "--flash-size", "2MB", "--no-app"]);
    let (status, shown) = terminal.end(&mut child);
    assert!(
        !status.success() && shown.contains("expected a flash of 4.00 MiB or more, as the layout 4mb"),
        "{shown}"
    );
}

/// Who goes away while he is asked leaves nothing behind but the server's folder.
#[test]
fn all_is_asked_before_anything_is_made() {
    let folder = folder();
    let admin = free_address();
    let mut terminal = Terminal::new(100);
    let line =
        ["quickstart", "fan", "--image", "fan.bin", "--chip", "esp32c3", "--flash-size", "4MB", "--address"];
    let line =
        [&line[..], &["127.0.0.1", "--allow-loopback", "--device-port", "0", "--admin", &admin]].concat();
    let mut child = terminal.command(folder.path(), &line).spawn().unwrap();
    terminal.answer("Application to publish", "");
    terminal.see("Wi-Fi that the board joins");
    child.kill().unwrap();
    child.wait().unwrap();
    let found = |name: &str| folder.path().join(name).exists();
    assert!(found("pitstop-data") && !found("publisher.key") && !found("fan.bin"));
}

#[test]
fn without_a_terminal_a_missing_option_is_named_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |more: &[&str]| {
        let mut command = pitstop(folder.path());
        let command = command.args(["quickstart", "lamp"]).args(more);
        String::from_utf8(command.assert().code(2).get_output().stderr.clone()).unwrap()
    };
    for (line, option) in [
        (&["--image", "x.bin"][..], "--app FILE"),
        (&["--image", "x.bin", "--no-app"], "--wifi SSID"),
        (&["--no-app"], "--chip CHIP"),
        (&["--no-app", "--chip", "esp32c3"], "--flash-size SIZE"),
    ] {
        let told = refused(line);
        assert!(told.contains(option), "{option} in {told}");
    }
    // There is no updater for every chip.
    let line = [
        "quickstart",
        "--chip",
        "esp32h2",
        "--flash-size",
        "4MB",
        "--image",
        "x.bin",
        "--no-app",
        "--no-wifi",
    ];
    let output = pitstop(folder.path()).args(line).assert().code(1).get_output().clone();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("expected a chip that an updater is built for"), "{told}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
