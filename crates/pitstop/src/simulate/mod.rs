//! `pitstop simulate`: many light devices against a server, with real keys, certificates, TLS and HTTP.
//!
//! A light device is an identity and a memory: it has no flash and no updater, so that one process holds tens of
//! thousands. It enrolls, checks in, takes releases and reports as a real one does.
//!
//! | module | what |
//! | --- | --- |
//! | `fleet` | the devices: made through the API, enrolled over EST, kept in a directory |
//! | `device`, `habits` | what one remembers and says; what becomes of a release on it |
//! | `pit_stop`, `tls` | one connection of one device |
//! | `load` | which device makes its pit stop when |
//! | `moving` | a fleet for `pitstop demo --dashboard` |
//! | `tally`, `report` | what is counted, and how it reads |

mod device;
mod fleet;
mod habits;
mod load;
mod moving;
mod pit_stop;
mod report;
mod tally;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::device::NewDevicesBody;
use api::info::Info;
use api::product::Product;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{ArgGroup, Args};
use hyper::Uri;
use manifest::PublisherKeys;
use rustls::pki_types::{CertificateDer, ServerName};
use wire::HandOverStrategy;

pub(crate) use habits::Habits;
pub(crate) use moving::MovingFleet;

use crate::client::{self, Client, Connection};
use crate::commands::options;
use crate::failure::Failure;
use crate::publisher::Publisher;
use crate::ui::Ui;
use device::{LightDevice, Model};
use fleet::StateDir;
use load::{Load, Pace};
use pit_stop::{CheckInErrand, Errand, Target};
use report::{Report, Scenario};
use tally::Tally;
use tls::Tls;

const EXAMPLES: &str = "\
Examples:
  pitstop simulate --product lamp --devices 1000 --state fleet
  pitstop simulate --product lamp --devices 1000 --state fleet --rate 200 --seconds 60
  pitstop simulate --product lamp --devices 1000 --state fleet --resume
  pitstop simulate --product lamp --devices 1000 --state fleet --download
  pitstop simulate --product lamp --devices 20000 --state fleet --herd
  pitstop simulate --product lamp --devices 200 --rate 20 --crash-percent 10

The devices are made and enrolled first; with --state they are kept, and a second
run begins at once. A rollout of a release that crashes shows how it halts.

They stay on the server. With --tags load, this deletes them when all is over:
  pitstop device revoke --filter product=lamp,tag=load
  pitstop device delete --filter product=lamp,tag=load";

/// A time that is no limit; its end can still be added to a clock.
const NO_LIMIT: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// File descriptors that are left for anything but devices' connections.
const SPARE_FILES: u64 = 64;

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group(ArgGroup::new("scenario").multiple(false)))]
pub(crate) struct Simulate {
    /// The product that the devices are of
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    devices: usize,

    /// Keep the devices' keys and certificates in this directory, and take those that are there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// The channel that new devices are put on [default: stable]
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    channel: Option<String>,

    /// Tags that new devices get: lab,office
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,

    /// Stop after so many seconds [default: 10, a herd: 300, with --count: no limit]
    #[arg(long, value_name = "S", value_parser = options::count)]
    seconds: Option<u64>,

    /// Stop after so many check-ins
    #[arg(long, value_name = "N", value_parser = options::count)]
    count: Option<u64>,

    /// So many check-ins a second, whether the server keeps up or not; without it, as many as it can
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "herd")]
    rate: Option<f64>,

    /// Connections at the same time [default: 64, a herd: as many as there may be open files]
    #[arg(long, value_name = "N", value_parser = options::limit)]
    connections: Option<usize>,

    /// All devices return at once, and each tries until it is served
    #[arg(long, group = "scenario")]
    herd: bool,

    /// Resume TLS sessions where the server gives tickets
    #[arg(long, group = "scenario")]
    resume: bool,

    /// Download the newest release at every check-in, chunk by chunk as an install does
    #[arg(long)]
    download: bool,

    /// Take TLS records of 16 KiB, as clients with more memory than a chip do
    #[arg(long)]
    full_records: bool,

    /// Only GET this address, for a comparison with another TLS server that has the same CA; with --download in chunks
    #[arg(long, value_name = "URL", conflicts_with_all = ["herd", "fail_percent", "crash_percent", "silent_percent"])]
    get: Option<Uri>,

    /// So many of the devices refuse a release
    #[arg(long, value_name = "P", value_parser = percent, default_value = "0")]
    fail_percent: f64,

    /// So many of the devices crash with a release
    #[arg(long, value_name = "P", value_parser = percent, default_value = "0")]
    crash_percent: f64,

    /// So many of the devices take a release and are not seen again
    #[arg(long, value_name = "P", value_parser = percent, default_value = "0")]
    silent_percent: f64,

    /// Also when the devices' server is not on this machine
    #[arg(long)]
    allow_remote: bool,

    #[command(flatten)]
    connection: Connection,
}

impl Simulate {
    /// Runs the command. It fails when no device was served, and when a herd lost one.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let habits = Habits {
            fail_percent: self.fail_percent,
            crash_percent: self.crash_percent,
            silent_percent: self.silent_percent,
        };
        if !habits.are_shares() {
            return Err(Failure::usage(
                "expected --fail-percent, --crash-percent and --silent-percent to be 0 or more, and 100 together at most",
            ));
        }
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("the threads cannot be started: {error}")))?
            .block_on(self.simulate(habits, ui))
    }

    async fn simulate(self, habits: Habits, ui: &Ui) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let (info, product) = tokio::task::block_in_place(|| {
            Ok::<_, Failure>((client.info()?, client.product(&self.product)?))
        })?;
        let server: Uri = info.device_url.parse().map_err(|_| unusable(&info.device_url))?;
        let home = target(&server, self.allow_remote).await?;
        let mut tls = Tls::new(ca(&info)?).map_err(Failure::new)?;
        tls.is_resuming = self.resume;
        tls.has_full_records = self.full_records;
        let temporary;
        let dir = match &self.state {
            Some(dir) => dir.as_path(),
            None => {
                temporary = tempfile::tempdir()
                    .map_err(|error| Failure::new(format!("no temporary directory can be made: {error}")))?;
                temporary.path()
            }
        };
        let state = StateDir::open(dir, &self.product, &ca(&info)?)?;
        let devices = self.gather(&state, &client, &tls, &home, ui).await?;

        let load = self.load(habits, &product, home, &client).await?;
        let scenario = self.scenario();
        let mut tally = Tally::new().map_err(|error| Failure::new(error.to_string()))?;
        let count = devices.len();
        let ended = self.watched(load, devices, &mut tally, ui).await;
        state.save(&ended.devices)?;
        let report = Report::new(scenario, count, &ended, &tally);
        ui.result(&report, || report.page())?;
        report.verdict()
    }

    /// The devices that are there, and as many new ones as are missing.
    async fn gather(
        &self,
        state: &StateDir,
        client: &Client,
        tls: &Tls,
        home: &Target,
        ui: &Ui,
    ) -> Result<Vec<LightDevice>, Failure> {
        let mut devices = state.load(self.devices, tls)?;
        let missing = self.devices - devices.len();
        if missing == 0 {
            return Ok(devices);
        }
        let progress = ui.count_progress("enrolling", missing as u64);
        let new = NewDevicesBody {
            product: self.product.clone(),
            count: options::signed(missing as u64),
            prefix: Some("sim".to_owned()),
            channel: self.channel.clone(),
            tags: self.tags.clone(),
        };
        for new in client::in_parts(new) {
            let issued = tokio::task::block_in_place(|| client.create_devices(&new))?;
            devices.extend(state.enroll(issued, tls, home, || progress.one()).await?);
        }
        Ok(devices)
    }

    async fn load(
        &self,
        habits: Habits,
        product: &Product,
        home: Target,
        client: &Client,
    ) -> Result<Load, Failure> {
        let (target, errand) = match &self.get {
            Some(url) => {
                let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
                (target(url, self.allow_remote).await?, Errand::Get { path, in_ranges: self.download })
            }
            None => {
                let download = if self.download { Some(newest(client, &self.product)?) } else { None };
                let errand = CheckInErrand {
                    model: model(product)?,
                    publishers: publishers(product)?,
                    habits,
                    download,
                };
                (home, Errand::CheckIn(errand))
            }
        };
        let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024);
        let most = usize::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(usize::MAX);
        let (connections, seconds) = if self.herd { (most, Some(300)) } else { (64, Some(10)) };
        let seconds = self.seconds.or(if self.count.is_some() { None } else { seconds });
        Ok(Load {
            target,
            errand,
            pace: match self.rate {
                Some(rate) => Pace::Rate(rate),
                None if self.herd => Pace::Herd,
                None => Pace::Max,
            },
            time: seconds.map_or(NO_LIMIT, Duration::from_secs),
            count: self.count.unwrap_or(u64::MAX),
            connections: self.connections.unwrap_or(connections).min(most),
        })
    }

    async fn watched(
        &self,
        load: Load,
        devices: Vec<LightDevice>,
        tally: &mut Tally,
        ui: &Ui,
    ) -> load::Ended {
        let by_time = self.count.is_none() && !self.herd;
        let total = match (self.count, self.herd) {
            (_, true) => devices.len() as u64,
            (Some(count), false) => count,
            (None, false) => load.time.as_secs(),
        };
        let progress = ui.count_progress(if by_time { "seconds" } else { "check-ins" }, total);
        let stop = async {
            // Without the signal there is the time.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        load.run(devices, tally, stop, |tally, elapsed| {
            let rate = tally.done as f64 / elapsed.as_secs_f64();
            let p99_ms = tally.latency_us.value_at_quantile(0.99) as f64 / 1000.0;
            let failed = if tally.failed > 0 { format!(", {} failed", tally.failed) } else { String::new() };
            let at = if by_time { elapsed.as_secs() } else { tally.done };
            progress.set(at, format!("{rate:.0}/s, p99 {p99_ms:.0} ms{failed}"));
        })
        .await
    }

    fn scenario(&self) -> Scenario {
        match (self.get.is_some(), self.herd, self.download, self.resume) {
            (true, _, true, _) => Scenario::GetInRanges,
            (true, _, false, _) => Scenario::Get,
            (false, true, _, _) => Scenario::Herd,
            (false, false, true, _) => Scenario::Download,
            (false, false, false, true) => Scenario::Resume,
            (false, false, false, false) => Scenario::CheckIn,
        }
    }
}

/// Where `url` leads. What is not on this machine is refused unless it is allowed: this is a load generator.
async fn target(url: &Uri, allow_remote: bool) -> Result<Target, Failure> {
    let authority = url.authority().filter(|_| url.scheme_str() == Some("https"));
    let authority = authority.ok_or_else(|| unusable(&url.to_string()))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| unusable(&url.to_string()))?;
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, authority.port_u16().unwrap_or(443)))
        .await
        .map_err(|error| Failure::new(format!("{host} has no address: {error}")))?
        .collect();
    let is_here = found.iter().all(|addr| addr.ip().is_loopback());
    // The device listener of an embedded server is on IPv4.
    let addr = found.iter().find(|addr| addr.is_ipv4()).or(found.first()).copied();
    let addr = addr.ok_or_else(|| Failure::new(format!("{host} has no address")))?;
    if !is_here && !allow_remote {
        let message = format!("expected a server on this machine, found {host} at {}", addr.ip());
        return Err(Failure::new(message)
            .hint("give --allow-remote if you may put that server under load, and it is not in use"));
    }
    Ok(Target { addr, name, host: authority.as_str().to_owned() })
}

fn unusable(url: &str) -> Failure {
    Failure::new(format!("expected an address such as https://localhost:8443, found {url}"))
}

fn ca(info: &Info) -> Result<CertificateDer<'static>, Failure> {
    let der = BASE64_STANDARD.decode(&info.ca_der_base64);
    der.map(CertificateDer::from)
        .map_err(|error| Failure::new(format!("the server's CA cannot be read: {error}")))
}

fn newest(client: &Client, product: &str) -> Result<manifest::Digest, Failure> {
    let releases = tokio::task::block_in_place(|| client.releases(product, 1))?;
    let newest = releases.items.first().ok_or_else(|| {
        Failure::new(format!("expected a release of {product} to download, found none"))
            .hint(format!("`pitstop release publish app.bin --product {product}`"))
    })?;
    newest.digest.parse().map_err(|_| Failure::new("the server's digest cannot be read"))
}

fn model(product: &Product) -> Result<Model, Failure> {
    let chip = product.chip.parse().map_err(|_| Failure::new(format!("unknown chip {}", product.chip)))?;
    let strategy = match product.strategy.as_str() {
        "chain-load" => HandOverStrategy::ChainLoad,
        "otadata-rollback" => HandOverStrategy::OtadataRollback,
        _ => HandOverStrategy::Other,
    };
    let slots = product.slots.iter().map(|slot| (slot.label.clone(), slot.size_bytes));
    Ok(Model { chip, slots: slots.collect(), strategy })
}

fn publishers(product: &Product) -> Result<PublisherKeys, Failure> {
    product
        .publisher_keys
        .iter()
        .map(|key| Publisher::read(&key.key).map(|publisher| publisher.key))
        .collect()
}

/// A share in percent.
fn percent(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim_end().parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| "expected a share from 0 to 100 percent, such as 10 or 2.5".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_told_in_a_sentence() {
        assert_eq!((percent("10"), percent("2.5%"), percent("0")), (Ok(10.0), Ok(2.5), Ok(0.0)));
        for wrong in ["", "x", "-1", "101", "NaN", "inf", "1e9"] {
            assert!(percent(wrong).unwrap_err().starts_with("expected "), "{wrong}");
        }
        for wrong in ["", "0", "-1", "NaN", "inf", "fast"] {
            assert!(rate(wrong).unwrap_err().starts_with("expected "), "{wrong}");
        }
    }
}
