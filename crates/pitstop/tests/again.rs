//! What makes something is made once, also when the answer is lost on its way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{Bench, pitstop_variables};

/// What becomes of answers to POST on the way from the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// The first one is lost, and the connection with it.
    FirstIsLost,
    /// None comes.
    HeldBack,
}

/// A way to the server on which the answer to the first POST is lost.
fn lossy(bench: &Bench) -> String {
    proxy(bench, Answers::FirstIsLost)
}

fn proxy(bench: &Bench, answers: Answers) -> String {
    let server = bench.url.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let was_lost = Arc::new(AtomicBool::new(false));
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
            let makes = Arc::new(AtomicBool::new(false));
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let makes_something = Arc::clone(&makes);
            carry(from, to, move |request| {
                makes_something.fetch_or(request.starts_with(b"POST "), Ordering::SeqCst);
                true
            });
            let was_lost = Arc::clone(&was_lost);
            carry(server, client, move |_| match (makes.load(Ordering::SeqCst), answers) {
                (false, _) => true,
                (true, Answers::FirstIsLost) => was_lost.swap(true, Ordering::SeqCst),
                (true, Answers::HeldBack) => {
                    thread::sleep(Duration::from_secs(600));
                    false
                }
            });
        }
    });
    url
}

/// Carries what comes, until something is to be kept back: the connection ends there.
fn carry(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool + Send + 'static) {
    thread::spawn(move || {
        let mut bytes = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if !goes_on(&bytes[..length]) || to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

#[test]
fn a_device_is_made_once_when_the_answer_is_lost() {
    let bench = Bench::start();
    bench.make_lamp();
    let arguments = ["device", "new", "--product", "lamp", "--json"];
    let output = bench.command(&arguments).env("PITSTOP_URL", lossy(&bench)).assert().success();
    let made: serde_json::Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let devices = bench.json(&["device", "list"]);
    let ids: Vec<_> = devices["items"].as_array().unwrap().iter().map(|device| &device["id"]).collect();
    assert_eq!(ids, [&made["id"]]);
    assert!(made["enrollment_token"].is_string(), "{made}");
}

#[test]
fn devices_are_imported_once_when_the_answer_is_lost() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("ids.csv", b"SN-1\nSN-2\n");
    let arguments = ["device", "import", "ids.csv", "--product", "lamp", "--csv", "tokens.csv"];
    bench.command(&arguments).env("PITSTOP_URL", lossy(&bench)).assert().success();
    let tokens = std::fs::read_to_string(bench.folder.path().join("tokens.csv")).unwrap();
    assert_eq!(tokens.lines().filter(|line| line.starts_with("SN-")).count(), 2, "{tokens}");
    assert_eq!(bench.json(&["device", "list"])["items"].as_array().unwrap().len(), 2);
}

fn tokens(bench: &Bench) -> String {
    std::fs::read_to_string(bench.folder.path().join("tokens.csv")).unwrap()
}

fn ids(csv: &str) -> Vec<&str> {
    csv.lines().skip(1).map(|line| line.split_once(',').unwrap().0).collect()
}

const IMPORT: [&str; 7] = ["device", "import", "ids.csv", "--product", "lamp", "--csv", "tokens.csv"];

fn resumed(bench: &Bench) -> serde_json::Value {
    bench.json(&[&IMPORT[..], &["--resume"]].concat())
}

#[test]
fn an_import_that_is_killed_before_the_tokens_come_goes_on() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("ids.csv", b"serial\nSN-1\nSN-2\nSN-3\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
    for variable in pitstop_variables() {
        command.env_remove(variable);
    }
    let mut import = command
        .args(IMPORT)
        .current_dir(bench.folder.path())
        .env("PITSTOP_URL", proxy(&bench, Answers::HeldBack))
        .env("PITSTOP_DATA", &bench.data)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let made = || bench.json(&["device", "list"])["items"].as_array().unwrap().len();
    while made() < 3 {
        thread::sleep(Duration::from_millis(20));
    }
    import.kill().unwrap();
    import.wait().unwrap();
    assert_eq!(tokens(&bench), "device_id,enrollment_token\n");

    // One more came to the list since.
    bench.write("ids.csv", b"serial\nSN-1\nSN-2\nSN-3\nSN-4\n");
    let told = bench.text(&[&IMPORT[..], &["--resume"]].concat());
    assert!(told.contains("3 devices were made before and had no line in the file"), "{told}");
    let written = tokens(&bench);
    assert_eq!(ids(&written), ["SN-1", "SN-2", "SN-3", "SN-4"]);
    assert_eq!(resumed(&bench), json!({ "count": 0, "renewed": 0, "skipped": 4, "csv": "tokens.csv" }));
    assert_eq!(tokens(&bench), written);
}

#[test]
fn a_half_line_is_no_token_and_whole_ones_stay() {
    let bench = Bench::start();
    bench.make_lamp();
    bench.write("ids.csv", b"SN-1\nSN-2\nSN-3\n");
    bench.json(&IMPORT);
    let whole = tokens(&bench);
    // Killed within the second line, and within the first one of all.
    let second = whole.find("SN-2").unwrap();
    bench.write("tokens.csv", &whole.as_bytes()[..second + 20]);
    assert_eq!(resumed(&bench), json!({ "count": 0, "renewed": 2, "skipped": 1, "csv": "tokens.csv" }));
    let resumed_once = tokens(&bench);
    assert_eq!(ids(&resumed_once), ["SN-1", "SN-2", "SN-3"]);
    assert!(
        resumed_once.starts_with(&whole[..second]) && !resumed_once.contains(&whole[second..second + 20])
    );
    bench.write("tokens.csv", b"device_id,enr");
    assert_eq!(resumed(&bench), json!({ "count": 0, "renewed": 3, "skipped": 0, "csv": "tokens.csv" }));
    assert!(tokens(&bench).starts_with("device_id,enrollment_token\nSN-1,"));

    bench.write("tokens.csv", b"device_id,enrollment_token\nSN-1,\nSN-2,abc\n");
    let wrong = bench.refusal(&[&IMPORT[..], &["--resume"]].concat());
    assert!(wrong.contains("tokens.csv, line 2: expected an id and a token"), "{wrong}");
    // Who has no line because it is none of this import's keeps what it has.
    bench.json(&["device", "revoke", "SN-3", "--yes"]);
    bench.write("tokens.csv", b"device_id,enrollment_token\nSN-1,abc\n");
    let revoked = bench.refusal(&[&IMPORT[..], &["--resume"]].concat());
    assert!(revoked.contains("found SN-3 without a line in tokens.csv, which is revoked"), "{revoked}");
    assert_eq!(ids(&tokens(&bench)), ["SN-1"]);
}
