//! A PostgreSQL cluster of a test's own, which can be stopped and started.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

/// In the environment: where PostgreSQL's programs are. `cargo xtask ci --only server-backends` says so.
const PROGRAMS: &str = "PITSTOP_TEST_POSTGRES_PROGRAMS";

/// Who runs PostgreSQL when root asks for it, which PostgreSQL refuses to be run by.
const SERVICE_USER: &str = "postgres";

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A cluster that is thrown away.
pub(super) struct Cluster {
    dir: TempDir,
    programs: PathBuf,
    pub(super) addr: SocketAddr,
    server: Option<Child>,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let programs = PathBuf::from(env::var_os(PROGRAMS).expect(PROGRAMS));
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut cluster = Self { dir, programs, addr: listener.local_addr().unwrap(), server: None };
        drop(listener);
        if is_root() {
            assert!(
                Command::new("chown").arg(SERVICE_USER).arg(cluster.dir.path()).status().unwrap().success()
            );
        }
        let made = cluster
            .program("initdb")
            .arg("--pgdata")
            .arg(cluster.dir.path().join("data"))
            .args(["--auth=trust", "--username=pitstop", "--encoding=UTF8", "--locale=C.UTF-8"])
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        cluster.go().await;
        cluster
    }

    /// Starts the server and returns when it takes connections.
    pub(super) async fn go(&mut self) {
        let server = self
            .program("postgres")
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .args(["-p", &self.addr.port().to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.server = Some(server.unwrap());
        let start = Instant::now();
        while PgConnection::connect(&self.url(self.addr)).await.is_err() {
            assert!(start.elapsed() < START_DEADLINE, "PostgreSQL did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// As `pg_ctl stop -m immediate` does: nothing is finished or written, and the next start recovers from the log.
    pub(super) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        assert!(Command::new("kill").args(["-QUIT", &server.id().to_string()]).status().unwrap().success());
        server.wait().unwrap();
    }

    /// Ends every session but its own, as an operator does.
    pub(super) async fn end_sessions(&self) {
        let mut connection = PgConnection::connect(&self.url(self.addr)).await.unwrap();
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
             AND backend_type = 'client backend'",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        connection.close().await.unwrap();
    }

    /// The database, by this way.
    pub(super) fn url(&self, by: SocketAddr) -> String {
        format!("postgres://pitstop@{by}/postgres")
    }

    /// `setpriv` becomes the program, so that its process is the one to stop.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", SERVICE_USER, "--regid", SERVICE_USER, "--init-groups", "--"])
            .arg(program)
            .current_dir("/");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
