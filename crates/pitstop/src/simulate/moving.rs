//! A fleet that makes pit stops until it is told to stop: what `pitstop demo --dashboard` shows.

use std::path::Path;
use std::time::Duration;

use api::device::NewToken;
use api::info::Info;
use api::product::Product;
use hyper::Uri;

use super::device::{LightDevice, Model};
use super::fleet::StateDir;
use super::habits::Habits;
use super::load::{Load, Pace};
use super::pit_stop::{CheckInErrand, Errand, Target};
use super::tally::Tally;
use super::tls::Tls;
use super::{NO_LIMIT, ca, model, publishers, target, unusable};
use crate::failure::Failure;

/// Pit stops at the same time.
const CONNECTIONS: usize = 32;
/// A fleet of a few hundred devices comes round in a second; one that does not in this time never will.
const ROUND_TIME: Duration = Duration::from_secs(60);

/// Devices that enrolled.
pub(crate) struct MovingFleet {
    devices: Vec<LightDevice>,
    target: Target,
    model: Model,
    publishers: manifest::PublisherKeys,
}

impl MovingFleet {
    /// Enrolls devices with the server of `info`, which must be on this machine. `dir` keeps their keys.
    pub(crate) async fn enroll(
        info: &Info,
        product: &Product,
        issued: Vec<NewToken>,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let url: Uri = info.device_url.parse().map_err(|_| unusable(&info.device_url))?;
        let target = target(&url, false).await?;
        let tls = Tls::new(ca(info)?).map_err(Failure::new)?;
        let state = StateDir::open(dir, &product.name, &ca(info)?)?;
        let devices = state.enroll(issued, &tls, &target, || ()).await?;
        Ok(Self { devices, target, model: model(product)?, publishers: publishers(product)? })
    }

    /// Each device makes one pit stop.
    pub(crate) async fn go_round(self, habits: Habits) -> Result<Self, Failure> {
        self.run(habits, Pace::Herd, ROUND_TIME, std::future::pending()).await
    }

    /// `rate` pit stops a second until `stop`.
    pub(crate) async fn move_on(
        self,
        habits: Habits,
        rate: f64,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, Failure> {
        self.run(habits, Pace::Rate(rate), NO_LIMIT, stop).await
    }

    async fn run(
        self,
        habits: Habits,
        pace: Pace,
        time: Duration,
        stop: impl Future<Output = ()>,
    ) -> Result<Self, Failure> {
        let Self { devices, target, model, publishers } = self;
        let errand =
            CheckInErrand { model: model.clone(), publishers: publishers.clone(), habits, download: None };
        let load = Load {
            target: target.clone(),
            errand: Errand::CheckIn(errand),
            pace,
            time,
            count: u64::MAX,
            connections: CONNECTIONS,
        };
        let mut tally = Tally::new().map_err(|error| Failure::new(error.to_string()))?;
        let ended = load.run(devices, &mut tally, stop, |_, _| ()).await;
        if tally.done == 0 && !ended.devices.is_empty() {
            let why = tally.errors.keys().next().map_or("nothing said why", String::as_str);
            return Err(Failure::new(format!("no device was served: {why}")));
        }
        Ok(Self { devices: ended.devices, target, model, publishers })
    }
}
