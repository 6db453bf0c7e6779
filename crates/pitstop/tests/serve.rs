//! `pitstop serve` as a process: what it prints, how it ends, what it keeps.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{pitstop, pitstop_variables};

/// A `serve --json` on free ports.
struct Served {
    process: Child,
    places: Value,
}

impl Served {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, Stdio::inherit())
    }

    fn start_with(folder: &Path, stderr: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
        for variable in pitstop_variables() {
            command.env_remove(variable);
        }
        let mut process = command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--json"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, places: serde_json::from_str(&line).unwrap() }
    }

    fn url(&self) -> &str {
        self.places["admin_url"].as_str().unwrap()
    }

    fn signal(&mut self, name: &str) -> ExitStatus {
        self.send(name);
        self.process.wait().unwrap()
    }

    fn send(&self, signal: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.url().strip_prefix("http://").unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already when the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Behind a balancer with a port of its own.
#[test]
fn devices_are_given_the_public_url() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pitstop-data")).unwrap();
    let settings = "public-url = \"https://updates.example.org\"\n";
    std::fs::write(folder.path().join("pitstop-data/pitstop.toml"), settings).unwrap();
    let served = Served::start(folder.path());
    assert_eq!(served.places["device_url"], "https://updates.example.org");
    let run = |arguments: &[&str]| {
        let output = pitstop(folder.path()).args(arguments).args(["--url", served.url()]).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    pitstop(folder.path()).args(["keys", "new"]).assert().success();
    run(&["product", "new", "lamp", "--chip", "esp32c3", "--key", "publisher.key"]);
    let made = run(&["device", "new", "--product", "lamp"]);
    assert!(made.contains("server URL        https://updates.example.org\n"), "{made}");
}

#[test]
fn state_survives_a_restart_and_signals_end_it_well() {
    let folder = tempfile::tempdir().unwrap();
    let list = |url: &str| {
        let output = pitstop(folder.path()).args(["product", "list", "--url", url]).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };

    let mut first = Served::start(folder.path());
    assert_eq!(first.places["first_start"], true);
    for place in ["database", "artifacts", "ca", "admin_token"] {
        let path = folder.path().join(first.places[place].as_str().unwrap());
        assert!(path.exists(), "{place}: {}", path.display());
    }
    pitstop(folder.path()).args(["keys", "new"]).assert().success();
    pitstop(folder.path())
        .args(["product", "new", "lamp", "--chip", "esp32c3", "--key", "publisher.key", "--url", first.url()])
        .assert()
        .success();
    assert!(first.signal("-TERM").success());

    let mut second = Served::start(folder.path());
    assert_eq!(second.places["first_start"], false);
    assert!(list(second.url()).contains("lamp"));
    assert!(second.signal("-INT").success());
}

/// Anybody can fail in a handshake as often as they like: that is counted, and no line of the log.
#[test]
fn strangers_write_nothing_into_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start_with(folder.path(), Stdio::piped());
    let device = served.places["device_address"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let mut stranger = TcpStream::connect(&device).unwrap();
        // `Finished` in place of a hello: rustls would warn of it.
        stranger.write_all(&[22, 3, 1, 0, 4, 20, 0, 0, 0]).unwrap();
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    let mut metrics = served.connect().unwrap();
    metrics.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    metrics.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("pitstop_tls_handshakes_total{outcome=\"failed\"} 3"), "{answer}");
    assert!(served.signal("-TERM").success());
    let mut log = String::new();
    served.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log, "");
}

/// An upload is open when SIGTERM comes: it may end, nobody else may begin, and the exit code says that all is well.
#[test]
fn an_open_request_ends_before_the_server_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path());
    let token = std::fs::read_to_string(folder.path().join("pitstop-data/admin.token")).unwrap();
    let body = vec![7; 100_000];
    let digest = sha256(&body);
    let mut open = served.connect().unwrap();
    write!(
        open,
        "PUT /api/v1/artifacts/{digest} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        token.trim(),
        body.len()
    )
    .unwrap();
    // The handler reads the body when it says so: the request is open from then on.
    let mut answer = BufReader::new(open.try_clone().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    open.write_all(&body[..50_000]).unwrap();

    served.send("-TERM");
    // The listener is closed at once; how soon is the kernel's and the scheduler's business.
    let deadline = Instant::now() + Duration::from_secs(5);
    while served.connect().is_ok() {
        assert!(Instant::now() < deadline, "connections are still taken");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(served.process.try_wait().unwrap().is_none(), "it waits for the open request");
    open.write_all(&body[50_000..]).unwrap();
    line.clear();
    while !line.starts_with("HTTP/1.1 ") {
        line.clear();
        assert_ne!(answer.read_line(&mut line).unwrap(), 0, "an answer");
    }
    assert!(line.starts_with("HTTP/1.1 201"), "{line}");
    assert_eq!(served.process.wait().unwrap().code(), Some(0));
    let artifact = folder.path().join("pitstop-data/artifacts").join(&digest[..2]).join(&digest);
    assert_eq!(std::fs::read(artifact).unwrap(), body);
}

fn sha256(bytes: &[u8]) -> String {
    manifest::Digest::of(bytes).to_string()
}

#[test]
fn a_directory_in_use_and_a_port_in_use_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path());
    let serve = |arguments: &[&str]| {
        let output = pitstop(folder.path()).arg("serve").args(arguments).assert().code(1);
        String::from_utf8(output.get_output().stderr.clone()).unwrap()
    };
    let locked = serve(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert!(locked.contains("error: another server uses pitstop-data"), "{locked}");
    let taken = served.places["device_address"].as_str().unwrap();
    let port = serve(&["--data", "other", "--listen", taken, "--admin", "127.0.0.1:0"]);
    assert!(port.contains("could not listen on") && port.contains("hint: "), "{port}");
}

#[test]
fn the_page_names_the_next_commands() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_pitstop"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", "here"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut page = String::new();
    while !page.contains("Ctrl-C") {
        assert_ne!(output.read_line(&mut page).unwrap(), 0, "{page}");
    }
    assert!(Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap().success());
    output.read_to_string(&mut page).unwrap();
    assert!(process.wait().unwrap().success());
    for line in [
        "admin token  here/admin.token",
        "  pitstop keys new\n",
        "  pitstop device new --product lamp --url http://127.0.0.1:",
        "Stopped.\n",
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }
    assert!(!page.contains('\x1b'), "{page}");
}

#[test]
fn a_setting_is_taken_from_flag_environment_file_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("pitstop-data")).unwrap();
    std::fs::write(
        folder.path().join("pitstop-data/pitstop.toml"),
        "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:1\"\nmax-connections = 1\nlog = \"trace\"\n",
    )
    .unwrap();
    let mut command = pitstop(folder.path());
    command
        .args(["serve", "--show-config", "--json", "--listen", "127.0.0.1:3"])
        .env("PITSTOP_LISTEN", "127.0.0.1:2")
        .env("PITSTOP_ADMIN", "127.0.0.1:2");
    let output = command.assert().success().get_output().stdout.clone();
    let settings: Value = serde_json::from_slice(&output).unwrap();
    let found = |name: &str| {
        let setting = settings.as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap();
        (setting["value"].as_str().unwrap().to_owned(), setting["source"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(found("listen"), pair("127.0.0.1:3", "flag"));
    assert_eq!(found("admin"), pair("127.0.0.1:2", "PITSTOP_ADMIN"));
    assert_eq!(found("max-connections"), pair("1", "pitstop-data/pitstop.toml"));
    assert_eq!(found("shutdown-grace-s"), pair("10", "default"));
    assert!(!folder.path().join("pitstop-data/lock").exists(), "nothing was started");

    let refused = pitstop(folder.path()).args(["serve", "--log", "server=loud"]).assert().code(2);
    let text = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(text.contains("expected a log filter, found \"server=loud\""), "{text}");
}
