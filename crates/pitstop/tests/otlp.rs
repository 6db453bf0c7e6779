//! Spans reach a collector: what is sent, and that nothing is left behind at the end.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(all(unix, feature = "otlp"))]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use support::pitstop_variables;

/// A collector that hands on the path and body of each request.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The client may keep a connection open; one request each is enough here.
            let request = read_request(&mut BufReader::new(stream.as_ref().unwrap()));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.unwrap().write_all(answer.as_bytes()).unwrap();
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> (String, Vec<u8>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut length = 0;
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (path, body)
}

fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_collector_gets_the_span_of_a_request() {
    let (url, requests) = collector();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
    for variable in pitstop_variables() {
        command.env_remove(variable);
    }
    let mut process = command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--json",
            "--otlp-endpoint",
            &url,
        ])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let places: Value = serde_json::from_str(&line).unwrap();
    let admin = places["admin_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let request_id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();

    // The batch goes out at the latest when the server ends.
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let (path, body) = requests.recv_timeout(Duration::from_secs(10)).expect("spans");
    assert_eq!(path, "/v1/traces");
    for text in ["service.name", "pitstop", "request", "/healthz", "admin", request_id] {
        assert!(has(&body, text), "{text} in {}", String::from_utf8_lossy(&body));
    }
}
