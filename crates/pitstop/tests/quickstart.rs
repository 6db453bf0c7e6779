//! `pitstop quickstart`: from nothing to a device that runs a release, and again.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpListener;

use flashfmt::Chip;
use serde_json::Value;
use support::rom::{Fault, MockChip};
use support::{Bench, image, pitstop, start, updater};

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

#[test]
fn a_board_on_a_port_from_nothing_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    write("updater.bin", &updater(5000));
    write("app.bin", &image(Chip::Esp32C3, "1.0.0", 30_000));
    write("pass", format!("{PASSPHRASE}\n").as_bytes());
    // 8 MB: the layout is chosen by what the board says.
    let chip = MockChip::start(Chip::Esp32C3, vec![0xFF; 0x80_0000], Fault::None);
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
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
    assert_eq!(kept(&run()), ["serve --listen", "keys new"]);

    let app = start(&bench.folder.path().join("flash.bin"), PASSPHRASE);
    assert_eq!(app.version(), "1.0.0");
    // What it did is copyable: the last step, as it is shown, again.
    let report = run();
    assert_eq!(kept(&report), ["serve --listen", "keys new", "product new", "flash --image"]);
    let publish = report["steps"][3]["command"].as_str().unwrap().replace("pitstop ", "");
    bench.command(&publish.split(' ').collect::<Vec<_>>()).assert().success();

    // A board of another kind is no more of this product.
    let chip = MockChip::start(Chip::Esp32C6, vec![0xFF; 0x40_0000], Fault::None);
    let other = ["quickstart", "lamp", "--port", &chip.port, "--no-reset", "--admin", &admin, "--data"];
    let output =
        pitstop(bench.folder.path()).args(other).arg(&bench.data).assert().code(1).get_output().clone();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains("the product lamp is for esp32c3, the board is an esp32c6"), "{refused}");
}
