//! Commands that need no server, and what is said when there is none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::{Chip, Layout};
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use support::{bootloader, image, image_with_segments, pitstop};
use tempfile::TempDir;

/// A port on which nobody listens: it was free a moment ago.
fn unused_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_key_is_made_once_and_shown_again() {
    let folder = folder();
    let made = pitstop(folder.path()).args(["keys", "new", "--name", "alice", "--json"]).assert().success();
    let shown = pitstop(folder.path()).args(["keys", "show", "--json"]).assert().success();
    assert_eq!(made.get_output().stdout, shown.get_output().stdout);
    let key: serde_json::Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    assert_eq!(key["name"], "alice");
    assert_eq!((key["public_key"].as_str().unwrap().len(), key["id"].as_str().unwrap().len()), (66, 16));

    let before = std::fs::read(folder.path().join("publisher.key")).unwrap();
    pitstop(folder.path())
        .args(["keys", "new"])
        .assert()
        .code(1)
        .stderr(contains("error: publisher.key exists; a key is never overwritten\nhint: "));
    assert_eq!(std::fs::read(folder.path().join("publisher.key")).unwrap(), before);
}

#[test]
fn proposed_commands_can_be_copied() {
    let folder = folder();
    pitstop(folder.path())
        .args(["keys", "new", "--out", "alice's key.pem"])
        .assert()
        .success()
        .stdout(contains(r"--key 'alice'\''s key.pem'"));
}

#[test]
fn numbers_that_are_none_are_told_in_a_sentence() {
    let folder = folder();
    for (arguments, expected) in [
        (
            &["simulate", "--product", "lamp", "--fail-percent", "many"][..],
            "expected a share from 0 to 100 percent",
        ),
        (&["simulate", "--product", "lamp", "--crash-percent=-1"], "expected a share from 0 to 100 percent"),
        (&["simulate", "--product", "lamp", "--seconds", "soon"], "expected a number from 1 on"),
        (&["demo", "--dashboard", "--for", "1h"], "expected a number from 1 on"),
    ] {
        pitstop(folder.path()).args(arguments).assert().code(2).stderr(contains(expected));
    }
}

#[cfg(unix)]
#[test]
fn a_key_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    pitstop(folder.path()).args(["keys", "new", "--out", "a.key"]).assert().success();
    let mode = std::fs::metadata(folder.path().join("a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_image_is_inspected() {
    let folder = folder();
    std::fs::write(folder.path().join("app.bin"), image_with_segments()).unwrap();
    let output = pitstop(folder.path()).args(["image", "inspect", "app.bin"]).assert().success();
    insta::assert_snapshot!(String::from_utf8_lossy(&output.get_output().stdout));
    let output = pitstop(folder.path()).args(["image", "inspect", "app.bin", "--json"]).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["app"]["version"], "1.0.0");
    assert_eq!(report["entry"], "0x40380000");
    assert_eq!(report["fits"][0]["fits"], true);
}

/// JSON escapes what a terminal would obey, and is not changed.
#[test]
fn texts_of_an_image_do_not_reach_a_terminal_as_they_are() {
    let folder = folder();
    let version = "1\x1b]0;title\x07\u{202e}2";
    std::fs::write(folder.path().join("app.bin"), image(Chip::Esp32C3, version, 1000)).unwrap();
    let output = pitstop(folder.path()).args(["image", "inspect", "app.bin"]).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(text.contains("1]0;title2"), "{text}");
    assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text:?}");
    let output = pitstop(folder.path()).args(["image", "inspect", "app.bin", "--json"]).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["app"]["version"], version);
}

#[test]
fn other_files_are_called_what_they_are() {
    let folder = folder();
    let refused = |content: &[u8], message: &'static str| {
        std::fs::write(folder.path().join("file"), content).unwrap();
        let assert = pitstop(folder.path()).args(["image", "inspect", "file"]).assert().code(1);
        assert.stdout("").stderr(contains(message)).stderr(contains("hint: "));
    };
    let good = image(Chip::Esp32C3, "1.0.0", 40_000);
    refused(&good[..good.len() / 2], "cut off");
    refused(b"\x7fELF\x01\x01\x01", "found an ELF file");
    refused(b"plain text, which is no image", "not an ESP image");
    let mut damaged = good.clone();
    damaged[1000] ^= 1;
    refused(&damaged, "damaged");
    let mut merged = good[..0x8000].to_vec();
    merged.extend(Layout::builtin("4mb").unwrap().to_binary());
    merged.resize(0x20_0000, 0xff);
    refused(&merged, "found a merged flash file");
}

#[test]
fn a_bootloader_is_inspected_and_refused() {
    let folder = folder();
    std::fs::write(folder.path().join("bootloader.bin"), bootloader()).unwrap();
    pitstop(folder.path())
        .args(["image", "inspect", "bootloader.bin"])
        .assert()
        .code(1)
        .stdout(contains("bootloader").and(contains("fits").not()))
        .stderr(contains("error: expected an application, found a second-stage bootloader"));
    pitstop(folder.path())
        .args(["layout", "check", "4mb", "bootloader.bin"])
        .assert()
        .code(1)
        .stderr(contains("found a second-stage bootloader"));
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = folder();
    for arguments in [
        &["product", "new", "Lamp", "--chip", "esp32c3", "--key", "k"][..],
        &["product", "new", "lamp", "--chip", "esp8266", "--key", "k"],
        &["product", "new", "lamp", "--chip", "esp32c3"],
        &["product", "new", "lamp", "--chip", "esp32c3", "--key", "02ab"],
        &["device", "new", "--product", "lamp", "--id", ".."],
        &["device", "list", "--limit", "0"],
        &["release", "publish", "app.bin", "--product", "lamp", "--key", "k", "--expires", "soon"],
        &["release", "publish", "app.bin", "--product", "lamp", "--key", "k", "--expires", "2020-01-01"],
        &["serve", "--listen", "8443"],
        &["nothing"],
    ] {
        pitstop(folder.path()).args(arguments).assert().code(2).stdout("").stderr(contains("error: "));
    }
}

#[test]
fn without_a_server_the_hint_names_serve() {
    let folder = folder();
    pitstop(folder.path())
        .args(["product", "list", "--token", "any", "--url", &unused_url()])
        .assert()
        .code(1)
        .stderr(contains("cannot be reached: Connection refused"))
        .stderr(contains("hint: start it with `pitstop serve`"));
}

#[test]
fn without_a_token_the_hint_names_the_data_directory() {
    let folder = folder();
    pitstop(folder.path())
        .args(["device", "list", "--data", "elsewhere"])
        .assert()
        .code(1)
        .stderr(contains("admin.token is not there"))
        .stderr(contains("--data DIR"));
}

#[test]
fn an_address_that_is_none_is_refused() {
    let folder = folder();
    for url in ["ftp://127.0.0.1:8080", "127.0.0.1:8080", "not an address", ""] {
        pitstop(folder.path())
            .args(["device", "list", "--token", "any", "--url", url])
            .assert()
            .code(2)
            .stderr(contains("expected an address such as http://127.0.0.1:8080"));
    }
}

#[test]
fn another_server_is_not_taken_for_pitstop() {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        for answer in ["404 Not Found", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            let body = "<html>hello</html>";
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    for _ in 0..2 {
        pitstop(folder().path())
            .args(["device", "list", "--token", "any", "--url", &url])
            .assert()
            .code(1)
            .stderr(contains("expected a Pitstop server at http://127.0.0.1"));
    }
    answers.join().unwrap();
}

#[test]
fn a_failure_with_json_is_a_problem_on_the_last_line() {
    let folder = folder();
    let problem = |arguments: &[&str], code: i32| -> serde_json::Value {
        let output = pitstop(folder.path()).args(arguments).assert().code(code).get_output().clone();
        let text = String::from_utf8(output.stderr).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|_| panic!("{text}"))
    };
    let failed = problem(&["image", "inspect", "absent.bin", "--json"], 1);
    assert_eq!(
        (&failed["type"], &failed["exit_code"]),
        (&"urn:pitstop:problem:command-failed".into(), &1.into())
    );
    assert!(failed["detail"].as_str().unwrap().contains("absent.bin cannot be read"), "{failed}");
    let url = unused_url();
    let failed = problem(&["product", "list", "--json", "--token", "t", "--url", &url], 1);
    assert!(failed["hint"].as_str().unwrap().contains("pitstop serve"), "{failed}");
    // What clap refuses, too.
    let usage = problem(&["--json", "product", "show"], 2);
    assert_eq!(
        (&usage["type"], &usage["exit_code"]),
        (&"urn:pitstop:problem:command-usage".into(), &2.into())
    );
    // For people it stays a sentence.
    pitstop(folder.path()).args(["product", "show"]).assert().code(2).stderr(contains("error: "));
    pitstop(folder.path()).args(["--json", "--version"]).assert().success().stdout(contains("pitstop"));
}

#[test]
fn shells_complete_and_every_command_has_a_page() {
    let folder = folder();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output =
            pitstop(folder.path()).args(["completions", shell]).assert().success().get_output().clone();
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["rollout", "adopt", "allow-loopback"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    pitstop(folder.path()).args(["completions", "cmd"]).assert().code(2);
    pitstop(folder.path()).args(["man", "man/man1"]).assert().success().stdout(contains("pages"));
    let page = |name: &str| std::fs::read_to_string(folder.path().join("man/man1").join(name)).unwrap();
    assert!(page("pitstop.1").contains(".TH pitstop 1"));
    let flash = page("pitstop-flash.1");
    assert!(flash.contains("allow\\-loopback") && flash.contains("pitstop flash"), "{flash}");
    assert!(page("pitstop-product-key-add.1").contains("Trust one more publisher key"));
    assert!(!folder.path().join("man/man1/pitstop-help.1").exists());
}
