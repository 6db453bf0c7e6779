//! What makes something is made once, also when the answer is lost on its way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{self, Read as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use support::Bench;

/// A way to the server on which the first answer is lost.
fn lossy(bench: &Bench) -> String {
    let server = bench.url.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let client = client.unwrap();
            let server = TcpStream::connect(&server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            thread::spawn(move || carry_back(server, client, number == 0));
        }
    });
    url
}

fn carry_back(mut server: TcpStream, mut client: TcpStream, is_lost: bool) {
    if is_lost {
        // The server has answered.
        let _ = server.read(&mut [0; 64]);
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    } else {
        let _ = io::copy(&mut server, &mut client);
    }
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
