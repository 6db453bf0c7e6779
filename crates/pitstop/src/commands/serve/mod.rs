//! `pitstop serve`: the server, embedded.

#[cfg(test)]
mod docs;
mod host;
mod log;
mod options;
#[cfg(feature = "otlp")]
mod otlp;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use server::{Artifacts, Config, Database, RunningServer, StartError};
use tokio::signal;

use self::log::Log;
use self::options::ServeOptions;
use self::settings::{Setting, Settings};
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, hints};

const EXAMPLES: &str = "\
Examples:
  pitstop serve
  pitstop serve --data /var/lib/pitstop --listen 0.0.0.0:8443 \\
      --name updates.example.org
  PITSTOP_LOG=debug pitstop serve --config /etc/pitstop.toml
  pitstop serve --show-config

The first start makes CA, TLS certificate, database and admin token; later
starts find them. A setting is taken from its flag, else from the environment
(--max-connections: PITSTOP_MAX_CONNECTIONS), else from the file (max-connections
= 100). The log goes to standard error.";

/// `pitstop serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    // What clap says here is said again, with the file, by `settings::resolve`.
    #[command(flatten)]
    pub(crate) options: Box<ServeOptions>,
}

/// Where everything is.
#[derive(Serialize)]
struct Places {
    device_url: String,
    device_address: SocketAddr,
    admin_url: String,
    data: PathBuf,
    /// A file, or a URL without its password.
    database: String,
    /// A directory, or the URL of a bucket.
    artifacts: String,
    ca: PathBuf,
    admin_token: PathBuf,
    first_start: bool,
}

impl Serve {
    /// Serves until Ctrl-C or SIGTERM, then lets open requests end.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let show_config = self.options.show_config;
        settings::check_environment(std::env::vars_os().map(|(name, _)| name))?;
        let Settings { options, sources } = settings::resolve(std::env::args_os().collect())?;
        if show_config {
            return ui.result(&sources, || config_page(&sources));
        }
        let log = Log::init(&options.log)?;
        let config = options.server_config()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the server's threads cannot be started: {error}")))?;
        let ended = runtime.block_on(serve(config, ui));
        log.finish();
        ended
    }
}

fn config_page(sources: &[Setting]) -> Page {
    let rows = sources.iter().map(|setting| {
        [
            Cell::from(&setting.name),
            Cell::or_dash(setting.value.as_deref()),
            Cell::new(Tone::Dim, &setting.source),
        ]
    });
    Page::plain().table(["setting", "value", "from"], rows)
}

async fn serve(config: Config, ui: &Ui) -> Result<(), Failure> {
    let data = config.data_dir.clone();
    let database = match &config.database {
        Database::Sqlite => data.join("pitstop.db").display().to_string(),
        Database::Postgres(url) => url.to_string(),
    };
    let artifacts = match &config.artifacts {
        Artifacts::Local => data.join("artifacts").display().to_string(),
        Artifacts::S3(location) => location.to_string(),
    };
    // Before the start: a signal during the start is then not lost.
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let mut running = tokio::select! {
        started = server::start(config) => started.map_err(failure)?,
        // It may be waiting for its database.
        () = &mut stop => return ui.line("Stopped before it served."),
    };
    let places = Places::of(&running, &data, database, artifacts);
    ui.event(&places, || places.page())?;
    tokio::select! {
        () = &mut stop => {}
        () = running.wait() => {
            return Err(Failure::new("a listener ended by itself").hint("look at the log above, then start again"));
        }
    }
    ui.line("\nStopping: open requests may end.")?;
    running.shutdown().await;
    ui.line("Stopped.")
}

/// Ends at Ctrl-C, or at SIGTERM where there is one.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())
        .map_err(|error| Failure::new(format!("SIGTERM cannot be listened to: {error}")))?;
    #[cfg(unix)]
    let terminated = async move {
        terminate.recv().await;
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    Ok(async {
        tokio::select! {
            _ = signal::ctrl_c() => {}
            () = terminated => {}
        }
    })
}

impl Places {
    fn of(running: &RunningServer, data: &Path, database: String, artifacts: String) -> Self {
        Self {
            device_url: running.device_url().to_owned(),
            device_address: running.device_addr(),
            admin_url: running.admin_url(),
            data: data.to_owned(),
            database,
            artifacts,
            ca: data.join("ca").join("ca.pem"),
            admin_token: running.admin_token_path().to_owned(),
            first_start: running.first_admin_token().is_some(),
        }
    }

    fn page(&self) -> Page {
        let path = |path: &Path| Cell::from(path.display().to_string());
        let title = if self.first_start { "Pitstop serves, for the first time" } else { "Pitstop serves" };
        let page = Page::titled(title).facts([
            ("devices", Cell::from(format!("{} (listens on {})", self.device_url, self.device_address))),
            ("admin", Cell::from(&self.admin_url)),
            ("database", Cell::from(&self.database)),
            ("artifacts", Cell::from(&self.artifacts)),
            ("CA", path(&self.ca)),
            ("admin token", path(&self.admin_token)),
        ]);
        let page = if self.first_start {
            page.next("To the first device, in another terminal:", self.first_steps())
        } else {
            page
        };
        page.note("Ctrl-C stops it; everything is kept.")
    }

    /// Options that a client command needs to find this server.
    fn connection_options(&self) -> String {
        let mut options = String::new();
        if self.admin_url != "http://127.0.0.1:8080" {
            options += &format!(" --url {}", self.admin_url);
        }
        if self.data != Path::new("pitstop-data") {
            options += &format!(" --data {}", hints::word(&self.data.display().to_string()));
        }
        options
    }

    fn first_steps(&self) -> Vec<String> {
        let options = self.connection_options();
        vec![
            "pitstop keys new".to_owned(),
            format!("pitstop product new lamp --chip esp32c3 --key publisher.key{options}"),
            format!("pitstop device new --product lamp{options}"),
            format!("pitstop release publish app.bin --product lamp --key publisher.key{options}"),
        ]
    }
}

pub(crate) fn failure(error: StartError) -> Failure {
    let hint = match &error {
        StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => Some(
            "this machine has no such address: `ip address` shows those that it has; 0.0.0.0 is all of them",
        ),
        StartError::Listen { .. } => Some(
            "something else listens there, or the port is reserved: choose another with --listen or --admin",
        ),
        StartError::File { .. } => Some("choose a directory of your own with --data"),
        StartError::Locked { .. }
        | StartError::NoServerName
        | StartError::Threads { .. }
        | StartError::Clock { .. }
        | StartError::Certificate { .. }
        | StartError::CertificateFile { .. }
        | StartError::OtherCa { .. }
        | StartError::KeyMode { .. }
        | StartError::S3 { .. }
        | StartError::Tls(_)
        | StartError::Database(_)
        | StartError::NotBuilt { .. } => None,
    };
    Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(admin_url: &str, data: &str) -> Places {
        let data = PathBuf::from(data);
        Places {
            device_url: "https://localhost:8443".to_owned(),
            device_address: SocketAddr::from(([127, 0, 0, 1], 8443)),
            admin_url: admin_url.to_owned(),
            database: "data/pitstop.db".to_owned(),
            artifacts: "data/artifacts".to_owned(),
            ca: data.join("ca/ca.pem"),
            admin_token: data.join("admin.token"),
            data,
            first_start: true,
        }
    }

    #[test]
    fn next_commands_name_what_is_not_the_default() {
        assert_eq!(places("http://127.0.0.1:8080", "pitstop-data").connection_options(), "");
        assert_eq!(
            places("http://127.0.0.1:9000", "/srv/p").connection_options(),
            " --url http://127.0.0.1:9000 --data /srv/p"
        );
        assert_eq!(places("http://127.0.0.1:8080", "my data").connection_options(), " --data 'my data'");
    }
}
