//! nginx with the server's certificates.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::served::Served;
use crate::process::{read, succeeds};

/// What nginx sends by itself.
const NGINX_RECORDS: &str = "16k";

/// How often, and how many times, the port is tried until nginx listens.
const TRY_INTERVAL: Duration = Duration::from_millis(50);
const TRIES: usize = 100;

/// A running nginx; it ends with this value.
pub(super) struct Nginx {
    process: Child,
    port: u16,
    resuming_port: u16,
    small_records_port: u16,
    pub(super) version: String,
}

impl Nginx {
    /// Starts one that asks for client certificates of the server's CA and serves the files of `dir`/www.
    pub(super) fn start(dir: &Path, served: &Served) -> anyhow::Result<Self> {
        // Debian has it where a user's PATH does not look.
        let program =
            ["nginx", "/usr/sbin/nginx"].into_iter().find(|name| succeeds(Command::new(name).arg("-v")));
        let program = program.context("no nginx: apt-get install nginx-light")?;
        let [port, resuming_port, small_records_port] = [free_port()?, free_port()?, free_port()?];
        let config = dir.join("nginx.conf");
        std::fs::write(&config, text(dir, served, port, resuming_port, small_records_port)?)?;
        // -e: its log is opened before the configuration is read.
        let process = Command::new(program)
            .args(["-e", "stderr", "-p"])
            .arg(dir)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let version =
            read(Command::new("sh").arg("-c").arg(format!("{program} -V 2>&1 | head -n 2 | tr '\\n' ' '")))?;
        let mut nginx = Self { process, port, resuming_port, small_records_port, version };
        for _ in 0..TRIES {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(nginx);
            }
            if let Some(status) = nginx.process.try_wait()? {
                bail!("nginx ended at once: {status}");
            }
            sleep(TRY_INTERVAL);
        }
        bail!("nginx does not listen on port {port}")
    }

    pub(super) fn url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.port)
    }

    /// The same with session tickets.
    pub(super) fn resuming_url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.resuming_port)
    }

    /// The same with records of 2 KiB, as our server sends them to chips.
    pub(super) fn small_records_url(&self, file: &str) -> String {
        format!("https://localhost:{}/{file}", self.small_records_port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGQUIT lets it end its workers; killed, the master would leave them behind.
        let id = self.process.id().to_string();
        if !succeeds(Command::new("kill").args(["-QUIT", &id])) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// As a Debian machine has it, without an access log, and with what a fair comparison needs: a worker per core, TLS 1.3,
/// the same certificate and key, and client certificates of the same CA.
fn text(
    dir: &Path,
    served: &Served,
    port: u16,
    resuming_port: u16,
    small_records_port: u16,
) -> anyhow::Result<String> {
    let is_root = read(Command::new("id").arg("-u"))? == "0";
    let user = if is_root { "user root;" } else { "" };
    let (dir, data) = (dir.display(), served.data().display().to_string());
    let server = |port: u16, tickets: &str, record_size: &str| {
        format!(
            "server {{
                listen 127.0.0.1:{port} ssl backlog=4096;
                ssl_certificate {data}/tls/server.pem;
                ssl_certificate_key {data}/tls/server.key;
                ssl_client_certificate {data}/ca/ca.pem;
                ssl_verify_client on;
                ssl_protocols TLSv1.3;
                ssl_session_tickets {tickets};
                ssl_session_cache none;
                ssl_buffer_size {record_size};
                root {dir}/www;
            }}"
        )
    };
    Ok(format!(
        "{user}
        daemon off;
        pid {dir}/nginx.pid;
        error_log stderr error;
        worker_processes auto;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 8192; }}
        http {{
            access_log off;
            sendfile on;
            tcp_nopush on;
            default_type application/octet-stream;
            client_body_temp_path {dir}/nginx-body;
            proxy_temp_path {dir}/nginx-proxy;
            fastcgi_temp_path {dir}/nginx-fastcgi;
            uwsgi_temp_path {dir}/nginx-uwsgi;
            scgi_temp_path {dir}/nginx-scgi;
            {}
            {}
            {}
        }}
        ",
        server(port, "off", NGINX_RECORDS),
        server(resuming_port, "on", NGINX_RECORDS),
        server(small_records_port, "off", "2k"),
    ))
}

/// A port that is free now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
