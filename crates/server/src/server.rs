//! Starting and stopping.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::api::access::Role;
use axum::Router;
use axum::response::IntoResponse as _;
use dashboard::Transport;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, People};
use crate::arrivals::{Arrivals, Misfits};
use crate::artifact_store::{ArtifactStore, Chunks, Damaged};
use crate::ca_keeper::CaKeeper;
use crate::config::Config;
use crate::crl::RevocationLists;
use crate::error::StartError;
use crate::fleet::{self, FleetCounts};
use crate::gate::Gate;
use crate::guesses::Guesses;
use crate::listener::Listener;
use crate::location::Database;
use crate::metrics::{self, Metrics};
use crate::observe::observed;
use crate::plans::Plans;
use crate::problem::Problem;
use crate::quota::Uploads;
use crate::refusal::Refusal;
use crate::retention::keep_sweeping;
use crate::scrub::keep_scrubbing;
use crate::store::{Change, Store, TokenRow};
use crate::{api, device, endings, files, rollouts, secret, webhooks};

/// Threads of the admin listener. It has its own: the system shares the processor between them and those of devices, however
/// long it takes to make a page.
const ADMIN_THREADS: usize = 2;

/// Connections that wait to be accepted: as many as are served at once by default. Who finds no room there tries again after a
/// second. Linux cuts it to `net.core.somaxconn`, which is 4096.
const BACKLOG: u32 = 4096;

/// So often an instance asks the database which CAs are in force.
const CA_PERIOD: Duration = Duration::from_secs(5);

/// Starts a server and returns when both listeners accept connections.
///
/// On the first start of a data directory it makes the CA, the TLS certificate, the database and an admin token.
///
/// # Errors
/// [`StartError`]; nothing keeps running then.
pub async fn start(config: Config) -> Result<RunningServer, StartError> {
    let now = config.clock.now_utc();
    let dir = config.data_dir.clone();
    files::create_private_dir(&dir).map_err(StartError::file("make", &dir))?;
    let lock = lock(&dir)?;
    let metrics = Arc::new(Metrics::new());
    if !cfg!(feature = "postgres") && matches!(config.database, Database::Postgres(_)) {
        return Err(StartError::NotBuilt { what: "PostgreSQL", feature: "postgres" });
    }
    let store = Store::open(&config.database, &dir, metrics.clone()).await?;
    let ca = Arc::new(CaKeeper::open(&store, &config, now).await?);
    let artifacts = ArtifactStore::open(&config.artifacts, &dir).await?;
    let admin_token_path = dir.join("admin.token");
    let first_admin_token = ensure_admin_token(&store, &admin_token_path, config.clock.now_ms()).await?;

    let device_tcp = listen(config.device_addr)?;
    let admin_tcp = listen(config.admin_addr)?;
    let device_addr = local_addr(&device_tcp, config.device_addr)?;
    let admin_addr = local_addr(&admin_tcp, config.admin_addr)?;
    let name = config.server_names.first().ok_or(StartError::NoServerName)?;
    let device_url = match &config.public_url {
        Some(url) => url.clone(),
        None => format!("https://{}:{}", url_host(name), device_addr.port()),
    };

    let limits = config.limits;
    let stop = CancellationToken::new();
    let people = People { store: store.for_people(), clock: config.clock.clone() };
    let app = Arc::new(App {
        crl: RevocationLists::new(store.clone(), ca.clone(), config.clock.clone()),
        fleet: Arc::new(FleetCounts::new(people.store.clone(), config.clock.clone())),
        config,
        people,
        store,
        plans: Plans::default(),
        artifacts,
        chunks: Chunks::default(),
        damaged: Damaged::default(),
        ca,
        metrics: metrics.clone(),
        guesses: Guesses::default(),
        uploads: Uploads::default(),
        device_url,
        stop: stop.clone(),
    });
    let threads = Builder::new_multi_thread().worker_threads(ADMIN_THREADS).enable_all().build();
    let threads = threads.map_err(|source| StartError::Threads { source })?;
    let mut listeners = JoinSet::new();
    let misfits = Arc::new(Misfits::new(metrics.clone()));
    let device = Listener {
        name: metrics::DEVICE,
        arrivals: Arrivals::new(device_tcp, app.config.proxies.clone(), misfits.clone()),
        misfits: misfits.clone(),
        tls: Some(app.ca.tls()),
        router: observed(device::router(app.clone()), metrics.clone(), metrics::DEVICE),
        limits,
        gate: Arc::new(Gate::new(limits, true, metrics.clone())),
        deny: |denial| Refusal::from(denial).into_response(),
        metrics: metrics.clone(),
    };
    let admin = Listener {
        name: metrics::ADMIN,
        arrivals: Arrivals::new(admin_tcp, Vec::new(), misfits.clone()),
        misfits,
        tls: None,
        router: observed(admin_router(&app), metrics.clone(), metrics::ADMIN),
        limits,
        gate: Arc::new(Gate::new(limits, false, metrics.clone())),
        deny: |denial| Problem::from(denial).into_response(),
        metrics,
    };
    listeners.spawn(device.serve(stop.clone()));
    let admin = threads.spawn(admin.serve(stop.clone()));
    listeners.spawn(async {
        // An error says that its threads have ended.
        let _ = admin.await;
    });
    let authorities = app.ca.get();
    listeners.spawn(keep_ca(app.clone()));
    listeners.spawn(fleet::keep_sampling(
        app.fleet.clone(),
        app.config.fleet_sample,
        app.metrics.clone(),
        stop.clone(),
    ));
    listeners.spawn(endings::keep_watching(app.clone()));
    listeners.spawn(keep_scrubbing(app.clone()));
    listeners.spawn(keep_sweeping(app.clone()));
    listeners.spawn(webhooks::keep_telling(app.clone()));
    listeners.spawn(rollouts::run(app.clone()));
    listeners.spawn(rollouts::keep_counting(app.clone()));
    Ok(RunningServer {
        ca_pem: authorities.pem(),
        ca_der: authorities.for_server().der().to_vec(),
        app,
        device_addr,
        admin_addr,
        admin_token_path,
        first_admin_token,
        listeners,
        people: Some(threads),
        stop,
        _lock: lock,
    })
}

/// A server that runs until it is shut down or dropped. Only [`RunningServer::shutdown`] lets open requests end.
pub struct RunningServer {
    ca_pem: String,
    ca_der: Vec<u8>,
    app: Arc<App>,
    device_addr: SocketAddr,
    admin_addr: SocketAddr,
    admin_token_path: PathBuf,
    first_admin_token: Option<String>,
    listeners: JoinSet<()>,
    /// The threads of the admin listener; until it is dropped.
    people: Option<Runtime>,
    stop: CancellationToken,
    _lock: File,
}

impl RunningServer {
    /// Where devices connect, with the port that was taken.
    #[must_use]
    pub fn device_addr(&self) -> SocketAddr {
        self.device_addr
    }

    /// Where the operator's tools connect, with the port that was taken.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// The URL that devices are given, such as `https://localhost:8443`.
    #[must_use]
    pub fn device_url(&self) -> &str {
        &self.app.device_url
    }

    /// The URL of the admin listener, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_addr)
    }

    /// The trust anchors of devices when the server started, PEM after PEM.
    #[must_use]
    pub fn ca_certificate_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA of the server's own certificate when it started, as DER.
    #[must_use]
    pub fn ca_certificate_der(&self) -> &[u8] {
        &self.ca_der
    }

    /// The admin token, when it was made by this start.
    #[must_use]
    pub fn first_admin_token(&self) -> Option<&str> {
        self.first_admin_token.as_deref()
    }

    /// The file that holds the first admin token, for tools on this machine.
    #[must_use]
    pub fn admin_token_path(&self) -> &Path {
        &self.admin_token_path
    }

    /// The device listener's routes without TLS, for benchmarks and tests within one process. A request is that of
    /// a device when [`crate::PeerCertificate`] is in its extensions.
    pub fn device_router(&self) -> Router {
        observed(device::router(self.app.clone()), self.app.metrics.clone(), metrics::DEVICE)
    }

    /// Waits until a listener ends, which it does only when told to.
    pub async fn wait(&mut self) {
        self.listeners.join_next().await;
    }

    /// Stops accepting, lets open requests end (at most [`crate::Limits::shutdown_grace`]), closes the database.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        while self.listeners.join_next().await.is_some() {}
        self.app.store.close().await;
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(people) = self.people.take() {
            people.shutdown_background();
        }
    }
}

/// The admin listener's routes: the API, and the dashboard for every path that the API does not have.
fn admin_router(app: &Arc<App>) -> Router {
    let api = api::router(app.clone());
    let transport = if app.config.admin_https { Transport::Https } else { Transport::Http };
    api.clone().fallback_service(dashboard::router(api, transport))
}

/// Takes the data directory for this process; the lock ends with the file handle.
fn lock(dir: &Path) -> Result<File, StartError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(StartError::file("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(StartError::File { action: "lock", path, source }),
    }
}

/// Takes over what another instance did with the CA, and renews the server's certificate in time.
async fn keep_ca(app: Arc<App>) {
    while app.stop.run_until_cancelled(tokio::time::sleep(CA_PERIOD)).await.is_some() {
        if let Err(error) = app.ca.refresh(&app.store, app.config.clock.now_utc()).await {
            tracing::error!("the CA is not what the database says it is: {error}");
        }
    }
}

/// Makes the first admin token; returns it when it is new.
///
/// The file is written before the database: after a power cut between the two, the token of the file is taken.
async fn ensure_admin_token(store: &Store, path: &Path, now_ms: i64) -> Result<Option<String>, StartError> {
    if store.has_admin_token().await? {
        return Ok(None);
    }
    let stored = files::read_if_there(path).map_err(StartError::file("read", path))?;
    let token = match stored {
        Some(token) => token.trim().to_owned(),
        None => {
            let token = secret::new_token();
            files::write_private(path, format!("{token}\n").as_bytes())
                .map_err(StartError::file("write", path))?;
            token
        }
    };
    let first = TokenRow {
        id: secret::new_token_id(),
        name: "first".to_owned(),
        role: Role::Admin.name().to_owned(),
        product: None,
        created_at_ms: now_ms,
        expires_at_ms: None,
        revoked_at_ms: None,
    };
    store.add_token(&first, &secret::hash(&token), &Change::by_server(now_ms)).await?;
    Ok(Some(token))
}

fn listen(addr: SocketAddr) -> Result<TcpListener, StartError> {
    let listen = || {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As `TcpListener::bind` does: a server that starts again need not wait for connections of before.
        socket.set_reuseaddr(cfg!(not(windows)))?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| StartError::Listen { addr, source })
}

fn local_addr(listener: &TcpListener, addr: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { addr, source })
}

/// A name as the host of a URL: IPv6 addresses stand in brackets (RFC 3986 section 3.2.2).
fn url_host(name: &str) -> String {
    if name.contains(':') { format!("[{name}]") } else { name.to_owned() }
}
