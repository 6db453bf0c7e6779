//! A server in a process of its own, which can be killed.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use server::{Config, Limits};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::app::TestApp;
use crate::client::{Answer, Connection, Identity, request};
use crate::place::Place;

/// In the environment of a process that is to serve: the configuration, as JSON.
const SERVE: &str = "PITSTOP_TEST_SERVE";

/// What is logged, as by default (crates/pitstop/src/commands/serve/options.rs).
const LOG: &str = "info,rustls=off";

/// What a server prints when it serves, before JSON.
const SERVING: &str = "serving: ";

/// In a process that was started by [`Instance::start`]: serves until it is killed, or its standard input ends.
///
/// A test calls this first, and is then both the test and the server that it kills.
pub(crate) fn serve_if_told() {
    let Ok(told) = env::var(SERVE) else { return };
    let told: Value = serde_json::from_str(&told).unwrap();
    let text = |name: &str| told[name].as_str().unwrap();
    let mut config = Config::new(text("data"));
    config.database = text("database").parse().unwrap();
    config.artifacts = text("artifacts").parse().unwrap();
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    change(&mut config.limits, &told["limits"]);
    if told["log"] == true {
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
        tracing_subscriber::registry().with(LOG.parse::<Targets>().unwrap()).with(lines).init();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(server::start(config)).unwrap();
    let serving = json!({
        "device": server.device_addr(),
        "admin": server.admin_addr(),
        "ca": BASE64_STANDARD.encode(server.ca_certificate_der()),
    });
    println!("\n{SERVING}{serving}");
    // A test that fails leaves no server behind.
    let _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

/// Changes the bounds that are named.
fn change(limits: &mut Limits, told: &Value) {
    for (name, value) in told.as_object().into_iter().flatten() {
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match name.as_str() {
            "max_connections" => limits.max_connections = count.unwrap(),
            "max_connections_per_address" => limits.max_connections_per_address = count.unwrap(),
            "limit_loopback" => limits.limit_loopback = value.as_bool().unwrap(),
            name => panic!("no bound {name}"),
        }
    }
}

/// A server in a process of its own.
pub(crate) struct Instance {
    process: Child,
    pub(crate) remote: Remote,
    log_bytes: Arc<AtomicU64>,
}

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct Remote {
    admin: SocketAddr,
    device: SocketAddr,
    ca: Vec<u8>,
    token: String,
}

impl Instance {
    /// Starts a server in a process that runs `test`, which calls [`serve_if_told`].
    pub(crate) fn start(place: &Place, token: &str, test: &str) -> Self {
        Self::start_with(place, token, test, &json!({}))
    }

    /// The same with other bounds (`limits`), and with a log that is counted (`log`).
    pub(crate) fn start_with(place: &Place, token: &str, test: &str, options: &Value) -> Self {
        let mut told = place.to_json();
        for (name, value) in options.as_object().into_iter().flatten() {
            told[name.as_str()] = value.clone();
        }
        let log = if told["log"] == true { Stdio::piped() } else { Stdio::inherit() };
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env(SERVE, told.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let log_bytes = Arc::new(AtomicU64::new(0));
        if let Some(log) = process.stderr.take() {
            let log_bytes = log_bytes.clone();
            std::thread::spawn(move || count(log, &log_bytes));
        }
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let serving = lines.find_map(|line| Some(line.strip_prefix(SERVING)?.to_owned()));
        // After a minute the harness prints that the test is slow, and ends when nobody reads it.
        std::thread::spawn(move || lines.for_each(drop));
        let serving: Value = serde_json::from_str(&serving.expect("the server did not start")).unwrap();
        let text = |name: &str| serving[name].as_str().unwrap();
        let remote = Remote {
            admin: text("admin").parse().unwrap(),
            device: text("device").parse().unwrap(),
            ca: BASE64_STANDARD.decode(text("ca")).unwrap(),
            token: token.to_owned(),
        };
        Self { process, remote, log_bytes }
    }

    /// Bytes of its log until now.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Counts the bytes of a log; its first lines are shown.
fn count(mut log: ChildStderr, bytes: &AtomicU64) {
    const SHOWN_BYTES: u64 = 4096;
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = log.read(&mut buffer) {
        let before = bytes.fetch_add(read as u64, Ordering::Relaxed);
        if before < SHOWN_BYTES {
            eprint!("{}", String::from_utf8_lossy(&buffer[..read]));
        }
    }
}

impl Remote {
    /// A server in this process.
    pub(crate) fn of(app: &TestApp) -> Self {
        Self {
            admin: app.server.admin_addr(),
            device: app.device_addr(),
            ca: app.server.ca_certificate_der().to_vec(),
            token: app.token.clone(),
        }
    }

    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn device_addr(&self) -> SocketAddr {
        self.device
    }

    /// The CA of the server's certificate, in DER.
    pub(crate) fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let mut connection = Connection::plain(self.admin).await.unwrap();
        connection.get("/metrics", &[]).await.expect(200).text().to_owned()
    }

    /// The same server for somebody else.
    pub(crate) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    pub(crate) async fn admin(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> std::io::Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let mut connection = Connection::plain(self.admin).await?;
        connection.send(request(method, &format!("/api/v1{path}"), &headers, body)).await
    }

    /// Everything that a path lists, page after page.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.admin(Method::GET, &format!("{path}?limit=100{cursor}"), "").await.unwrap();
            let page = page.expect(200).json();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                None => return items,
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
    }

    pub(crate) async fn device(&self, identity: Option<&Identity>) -> std::io::Result<Connection> {
        Connection::tls(self.device, &self.ca, identity).await
    }

    pub(crate) async fn enroll(&self, id: &str, token: &str, csr: &[u8]) -> std::io::Result<Answer> {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{token}")));
        let headers = [("authorization", basic.as_str()), ("content-type", "application/pkcs10")];
        let body = BASE64_STANDARD.encode(csr);
        let request = request(Method::POST, "/.well-known/est/simpleenroll", &headers, body);
        self.device(None).await?.send(request).await
    }

    pub(crate) async fn renew(&self, identity: &Identity, csr: &[u8]) -> std::io::Result<Answer> {
        let headers = [("content-type", "application/pkcs10")];
        let body = BASE64_STANDARD.encode(csr);
        let request = request(Method::POST, "/.well-known/est/simplereenroll", &headers, body);
        self.device(Some(identity)).await?.send(request).await
    }
}
