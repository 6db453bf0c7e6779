//! What makes something is made once, also when the answer is lost on its way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::Bench;

/// A way to the server on which the answer to the first POST is lost.
fn lossy(bench: &Bench) -> String {
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
            carry(server, client, move |_| {
                !makes.load(Ordering::SeqCst) || was_lost.swap(true, Ordering::SeqCst)
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
