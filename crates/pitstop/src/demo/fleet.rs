//! `pitstop demo --dashboard`: a fleet of 200 light devices in the middle of a rollout that will halt itself.
//!
//! Server, TLS, protocol, signatures and decisions are the real ones; the devices have no flash and no updater (see
//! `simulate`). Everything is made through the admin API, as a person would.

use std::path::Path;
use std::time::Duration;

use api::access::{NewApiToken, Role};
use api::device::NewDevicesBody;
use api::product::{LayoutBody, NewProductBody, Product, ProductSettingsBody};
use api::publisher_key::NewKey;
use api::release::{PublishBody, StartRollout};
use api::rollout::NewRolloutBody;
use manifest::Sequence;
use rollout::Plan;
use serde_json::json;
use server::{Config, RunningServer};

use super::backend::ask;
use super::images::{self, Application};
use super::stage::Stage;
use crate::client::Client;
use crate::failure::Failure;
use crate::keyfile::KeyFile;
use crate::publish::{self, Proposal};
use crate::simulate::{Habits, MovingFleet};

const PRODUCT: &str = "lamp";
/// Devices by where they stand: prefix of the id, tag, how many. 200 together.
const PLACES: [(&str, &str, i64); 3] =
    [("lamp-lab", "lab", 20), ("lamp-hall", "hall", 80), ("lamp-yard", "yard", 100)];
/// Every device is seen about once in 10 s: 200 / 20.
const CHECK_INS_PER_S: f64 = 20.0;
/// Six turns that a device misses.
const SILENCE_DEADLINE_S: i64 = 60;
/// The plots have a point for every two seconds.
const SAMPLE: Duration = Duration::from_secs(2);
/// Releases 1.0.0 and 1.1.0 are well.
const WELL: Habits = Habits { fail_percent: 0.0, crash_percent: 0.0, silent_percent: 0.0 };
/// Release 1.2.0 is not.
const ILL: Habits = Habits { fail_percent: 4.0, crash_percent: 20.0, silent_percent: 3.0 };

/// Serves and moves the fleet until Ctrl-C, or for `time`.
pub(super) async fn show(folder: &Path, time: Option<Duration>, stage: Stage) -> Result<(), Failure> {
    let server = start(&folder.join("server")).await?;
    let token = server.first_admin_token().unwrap_or_default().to_owned();
    let client = Client::new(&server.admin_url(), &token);
    let key = KeyFile::create(&folder.join("publisher.key"), "alice")?;
    let product = make_product(&client, &key)?;
    stage.event("product-created", "a server, a product, a publisher", json!({ "product": PRODUCT }))?;

    let mut issued = Vec::new();
    for (prefix, tag, count) in PLACES {
        let devices = NewDevicesBody {
            product: PRODUCT.to_owned(),
            count,
            prefix: Some(prefix.to_owned()),
            channel: None,
            tags: vec![tag.to_owned()],
        };
        issued.extend(ask(|| client.create_devices(&devices))?);
    }
    let count = issued.len();
    let info = ask(|| client.info())?;
    let fleet = MovingFleet::enroll(&info, &product, issued, &folder.join("devices")).await?;
    stage.event("enrolled", &format!("{count} devices enrolled"), json!({ "devices": count }))?;

    let publisher = Publisher { client: &client, key: &key, product: &product };
    publisher.publish(&images::compose("1.0.0")?, &[], "First release.", StartRollout::Default)?;
    let fleet = fleet.go_round(WELL).await?.go_round(WELL).await?;
    publisher.publish(
        &images::compose("1.1.0")?,
        &[1],
        "Dimming in steps of one percent.",
        StartRollout::Default,
    )?;
    let fleet = fleet.go_round(WELL).await?.go_round(WELL).await?;
    stage.event("updated", "all of them run 1.1.0", json!({ "version": "1.1.0" }))?;
    make_colleagues(&client)?;
    publisher.publish(
        &images::compose("1.2.0")?,
        &[1, 2],
        "Fades. Crashes on some of the devices.",
        StartRollout::None,
    )?;
    let ill = NewRolloutBody {
        product: PRODUCT.to_owned(),
        sequence: 3,
        channel: None,
        plan: Some(plan()?),
        start: true,
    };
    ask(|| client.create_rollout(&ill))?;
    stage.event(
        "rollout-started",
        "a rollout of 1.2.0, which crashes on every fifth device",
        json!({ "sequence": 3 }),
    )?;
    let address = format!("{}/", server.admin_url());
    let text = format!("open {address} and log in with the token {token}");
    stage.event("ready", &text, json!({ "url": address, "token": token }))?;
    stage
        .note("the rollout halts itself within a minute; look at its page meanwhile. Ctrl-C ends the demo")?;

    let interrupted = async {
        // Without the signal there is the time.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let stop = async {
        tokio::select! { () = interrupted => {}, () = over => {} }
    };
    fleet.move_on(ILL, CHECK_INS_PER_S, stop).await?;
    server.shutdown().await;
    stage.done("Done.", json!({ "ok": true }))
}

/// The embedded defaults on free ports, with more samples than a server needs.
async fn start(data: &Path) -> Result<RunningServer, Failure> {
    let mut config = Config::new(data);
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    config.fleet_sample = SAMPLE;
    config.limits.shutdown_grace = Duration::from_secs(1);
    server::start(config).await.map_err(|error| Failure::new(format!("the server did not start: {error}")))
}

fn make_product(client: &Client, key: &KeyFile) -> Result<Product, Failure> {
    let csv = flashfmt::layout::BUILTIN.iter().find(|(name, _)| *name == "4mb").map_or("", |(_, csv)| csv);
    let product = NewProductBody {
        name: PRODUCT.to_owned(),
        chip: "esp32c3".to_owned(),
        layout: LayoutBody { name: "4mb".to_owned(), csv: csv.to_owned() },
        publisher_keys: vec![NewKey { name: key.name.clone(), key: hex::encode(key.public().to_sec1()) }],
        chip_revision: None,
        min_run_s: None,
        rotate_keys: None,
    };
    ask(|| client.create_product(&product))?;
    let settings = ProductSettingsBody {
        silence_deadline_s: Some(SILENCE_DEADLINE_S),
        ..ProductSettingsBody::default()
    };
    ask(|| client.change_product(PRODUCT, &settings))
}

/// Tokens of people and machines who work with the server.
fn make_colleagues(client: &Client) -> Result<(), Failure> {
    for (name, role, product) in [
        ("night shift", Role::Operator, None),
        ("build machine", Role::Publisher, Some(PRODUCT.to_owned())),
        ("wall display", Role::Viewer, None),
    ] {
        let token = NewApiToken { name: name.to_owned(), role, product, expires_at: None };
        ask(|| client.create_token(&token))?;
    }
    Ok(())
}

/// The lab first, then a quarter, and all once somebody said so.
fn plan() -> Result<Plan, Failure> {
    let limits = |crashes_percent: f64| {
        json!({
            "failures_percent": 20.0, "crashes_percent": crashes_percent, "silence_percent": 20.0,
            "min_sample": 10,
        })
    };
    serde_json::from_value(json!({
        "waves": [
            // It is what a lab is for.
            { "select": { "tags": ["lab"] }, "soak_s": 12, "limits": limits(80.0) },
            { "select": { "percent": 25.0 }, "soak_s": 300, "limits": limits(5.0) },
            { "select": { "percent": 100.0 }, "soak_s": 3600, "approval": "manual", "limits": limits(2.0) },
        ],
        "on_halt": "pause",
    }))
    .map_err(|error| Failure::new(format!("the demo's plan is wrong: {error}")))
}

/// Somebody with the publisher's key.
struct Publisher<'a> {
    client: &'a Client,
    key: &'a KeyFile,
    product: &'a Product,
}

impl Publisher<'_> {
    fn publish(
        &self,
        application: &Application,
        revert_to: &[u64],
        notes: &str,
        rollout: StartRollout,
    ) -> Result<(), Failure> {
        let newest = ask(|| self.client.releases(PRODUCT, 1))?;
        let plan = publish::plan(Proposal {
            product: self.product,
            image: &application.image,
            key: self.key,
            sequence: publish::choose_sequence(None, newest.items.first())?,
            version: Some(&application.version),
            without_descriptor: true,
            expires_at_s: None,
            revert_to: revert_to.iter().copied().map(Sequence).collect(),
        })?;
        let image = application.image.bytes.as_slice();
        let digest = plan.manifest.artifact.digest.to_string();
        ask(|| self.client.upload_artifact(PRODUCT, &digest, image.len() as u64, image))?;
        let release = PublishBody {
            notes: notes.to_owned(),
            rollout,
            without_descriptor: true,
            ..publish::body(&plan.signed)
        };
        ask(|| self.client.create_release(PRODUCT, &release)).map(|_| ())
    }
}
