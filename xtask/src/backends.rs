//! `server-backends`: the server's suite on PostgreSQL and an S3 store instead of SQLite and local files.
//!
//! Both are started for this run, on free ports of the loopback address, and stopped after it. PostgreSQL takes connections
//! with TLS only, and the server checks its certificate (`sslmode=verify-full`).

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::{process, workspace};

/// Where Debian's packages have PostgreSQL's programs, one folder for each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The oldest version that is supported.
const OLDEST: u32 = 15;

/// Who runs PostgreSQL when root asks for it, which PostgreSQL refuses to be run by.
const SERVICE_USER: &str = "postgres";

/// Time for a server to start.
const START_DEADLINE: Duration = Duration::from_secs(60);

const BUCKET: &str = "pitstop-test";

/// What is needed and is not there.
pub(crate) struct Missing(pub(crate) String);

/// The programs that are needed.
pub(crate) struct Tools {
    postgres: PathBuf,
    /// Options of `unshare` with which a test may mount a small disk; none where the kernel lets nobody.
    mounting: Option<&'static str>,
}

/// Ways to mount something for one process alone: as anybody, in a user namespace, or as root.
const MOUNTING: [&str; 2] = ["--map-root-user --mount", "--mount"];

/// What is said where none of them is allowed.
pub(crate) const NO_SMALL_DISK: &str = "a full disk was not tried: no mount namespaces here; be root, or see `sysctl kernel.unprivileged_userns_clone`";

/// Finds PostgreSQL and the S3 server.
pub(crate) fn find() -> Result<Tools, Missing> {
    if !process::succeeds(Command::new("moto_server").arg("--help")) {
        return Err(Missing(
            "moto_server is not installed: `pip install 'moto[s3]' flask flask-cors`".into(),
        ));
    }
    if !process::succeeds(Command::new("openssl").arg("version")) {
        return Err(Missing("openssl is not installed: `apt-get install openssl`".into()));
    }
    let may_mount = |options: &&str| {
        // As the test does, for a kernel may allow the one and not the other.
        let mount = "mount -t tmpfs -o size=1m tmpfs /mnt";
        process::succeeds(Command::new("unshare").args(options.split(' ')).args(["sh", "-c", mount]))
    };
    let mounting = MOUNTING.into_iter().find(may_mount);
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let version = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    match version {
        Some(version) if version >= OLDEST => {
            Ok(Tools { postgres: Path::new(DEBIAN).join(version.to_string()).join("bin"), mounting })
        }
        Some(_) | None => Err(Missing(format!(
            "PostgreSQL {OLDEST} or later is not installed: `apt-get install postgresql` (looked in {DEBIAN})"
        ))),
    }
}

/// PostgreSQL and an S3 store, until they are dropped.
pub(crate) struct Backends {
    postgres: Postgres,
    s3: S3,
}

impl Backends {
    pub(crate) fn start(tools: &Tools) -> anyhow::Result<Self> {
        Ok(Self { postgres: Postgres::start(&tools.postgres)?, s3: S3::start()? })
    }

    /// Has the server's tests use them.
    pub(crate) fn tell(&self, tests: &mut Command) {
        tests
            .env("PITSTOP_TEST_DATABASE", self.postgres.url())
            .env("PITSTOP_TEST_ARTIFACTS", format!("s3://{BUCKET}"))
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.s3.addr))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
    }
}

impl Tools {
    /// Has a test find PostgreSQL's programs that stops and starts a server of its own, and one find the way to mount a
    /// small disk.
    pub(crate) fn tell(&self, tests: &mut Command) {
        tests.env("PITSTOP_TEST_POSTGRES_PROGRAMS", &self.postgres);
        if let Some(options) = self.mounting {
            tests.env("PITSTOP_TEST_UNSHARE", options);
        }
    }

    /// Whether a disk can be full.
    pub(crate) fn has_small_disk(&self) -> bool {
        self.mounting.is_some()
    }
}

/// Runs the whole suite, the tests that need two instances too.
pub(crate) fn run(root: &Path, tools: &Tools) -> anyhow::Result<()> {
    let backends = Backends::start(tools)?;
    let passed = suite(root, tools, &backends)?;
    let Backends { postgres, s3 } = &backends;
    let schemas = postgres.query("SELECT COUNT(*) FROM pg_namespace WHERE nspname LIKE 'test\\_%'")?;
    let schemas: usize = schemas.parse().with_context(|| format!("{schemas} is no number of schemas"))?;
    let objects = s3.request("GET", &format!("/{BUCKET}"))?.matches("<Key>").count();
    println!("{passed} tests passed, with {schemas} schemas in PostgreSQL and {objects} objects in S3");
    // A suite that used SQLite and local files passes as well.
    ensure!(schemas > 0 && objects > 0, "the tests did not use PostgreSQL and S3");
    Ok(())
}

/// Runs `cargo test` and returns how many tests passed.
fn suite(root: &Path, tools: &Tools, backends: &Backends) -> anyhow::Result<usize> {
    let mut command = workspace::test(root);
    command
        .args(["--test", "it", "--", "--include-ignored"])
        // The step `api-fuzz` is for that.
        .args(["--skip", "fuzz::"])
        .args(if tools.has_small_disk() { &[][..] } else { &["--skip", "faults::disk::"] })
        .stdout(Stdio::piped());
    tools.tell(&mut command);
    backends.tell(&mut command);
    let mut tests = command.spawn().context("cannot start cargo")?;
    let output = tests.stdout.take().context("no standard output")?;
    let mut passed = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        passed = passed_tests(&line).or(passed);
    }
    let status = tests.wait()?;
    ensure!(status.success(), "the server's suite failed on PostgreSQL and S3: {status}");
    match passed {
        Some(count) if count > 0 => Ok(count),
        Some(_) | None => bail!("no test ran"),
    }
}

/// The count in `test result: ok. 12 passed; 0 failed; …`.
fn passed_tests(line: &str) -> Option<usize> {
    line.strip_prefix("test result: ok. ")?.split_once(" passed;")?.0.parse().ok()
}

/// A PostgreSQL cluster that is thrown away.
struct Postgres {
    programs: PathBuf,
    server: Child,
    port: u16,
    // Removed last.
    folder: Folder,
}

impl Postgres {
    fn start(programs: &Path) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let data = folder.0.join("data");
        make_certificate(&folder.0)?;
        let as_root = process::read(Command::new("id").arg("-u"))? == "0";
        if as_root {
            process::run(Command::new("chown").args(["-R", SERVICE_USER]).arg(&folder.0))?;
        }
        let program = |name: &str| service(as_root, &programs.join(name));
        let settings = ["--auth=trust", "--username=pitstop", "--encoding=UTF8", "--locale=C.UTF-8"];
        process::read(program("initdb").arg("--pgdata").arg(&data).args(settings))?;
        fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n")?;
        let file = |name: &str| folder.0.join(name).display().to_string();
        let tls = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
        ];
        let port = free_port()?;
        let log = fs::File::create(folder.0.join("log"))?;
        let server = program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "max_connections=500"])
            // The machine is not switched off in these tests, and the cluster lives for a minute.
            .args(["-c", "fsync=off"])
            .args(tls.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start postgres")?;
        let mut postgres = Self { programs: programs.to_owned(), server, port, folder };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.query("SELECT 1").is_err() {
            let ended = self.server.try_wait()?.is_some();
            if ended || start.elapsed() > START_DEADLINE {
                let log = fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
                bail!("PostgreSQL did not start:\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn url(&self) -> String {
        let anchor = self.folder.0.join("ca.pem");
        let tls = format!("sslmode=verify-full&sslrootcert={}", anchor.display());
        format!("postgres://pitstop@127.0.0.1:{}/postgres?{tls}", self.port)
    }

    fn query(&self, query: &str) -> anyhow::Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        process::read(
            psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", query]).arg(self.url()),
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: it ends at once and takes its processes along; nobody needs the data.
        let id = self.server.id().to_string();
        if process::succeeds(Command::new("kill").args(["-QUIT", &id])) {
            let _ = self.server.wait();
        }
    }
}

/// A CA (`ca.pem`), and what it issued for 127.0.0.1 (`server.pem`, `server.key`).
fn make_certificate(folder: &Path) -> anyhow::Result<()> {
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    for line in [
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=postgres",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out server.pem -days 2",
    ] {
        process::read(Command::new("openssl").current_dir(folder).args(line.split(' ')))?;
    }
    Ok(())
}

/// A program of PostgreSQL, as a user that it lets itself be run by. `setpriv` becomes the program, so that its process
/// is the one to stop.
fn service(as_root: bool, program: &Path) -> Command {
    if !as_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", SERVICE_USER, "--regid", SERVICE_USER, "--init-groups", "--"])
        .arg(program)
        .current_dir("/");
    command
}

/// An S3 server with an empty bucket, which keeps everything in memory.
struct S3 {
    server: Child,
    addr: SocketAddr,
}

impl S3 {
    fn start() -> anyhow::Result<Self> {
        let port = free_port()?;
        let server = Command::new("moto_server")
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start moto_server")?;
        let s3 = Self { server, addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        let start = Instant::now();
        while TcpStream::connect(s3.addr).is_err() {
            ensure!(start.elapsed() < START_DEADLINE, "moto_server did not start");
            thread::sleep(Duration::from_millis(100));
        }
        s3.request("PUT", &format!("/{BUCKET}"))?;
        Ok(s3)
    }

    /// The answer to a request without a body.
    fn request(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.addr)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.addr
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1);
        ensure!(status == Some("200"), "{method} {path}: {}", answer.lines().next().unwrap_or_default());
        Ok(answer)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A temporary folder; another user may own it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let made = process::read(
            Command::new("mktemp").args([OsStr::new("-d"), OsStr::new("-t")]).arg("pitstop-XXXXXXXX"),
        )?;
        Ok(Self(PathBuf::from(made)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted() {
        let line =
            "test result: ok. 74 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 20.11s";
        assert_eq!(passed_tests(line), Some(74));
        assert_eq!(passed_tests("test result: FAILED. 1 passed; 1 failed; 0 ignored"), None);
        assert_eq!(passed_tests("running 74 tests"), None);
    }
}
