//! `pitstop product`: what kinds of device there are.

use std::time::Duration;

use api::product::{LayoutBody, NewProductBody, Product, ProductSettingsBody};
use api::publisher_key::NewKey;
use clap::{Args, Subcommand};
use flashfmt::Chip;
use serde_json::json;

use crate::client::Connection;
use crate::commands::consent::Consent;
use crate::commands::options::{self, MinRevision};
use crate::commands::plan::{self, PlanOptions};
use crate::failure::Failure;
use crate::layouts::NamedLayout;
use crate::publisher::Publisher;
use crate::ui::{Cell, Page, Tone, Ui, ago, bytes, counted, size};

const EXAMPLES: &str = "\
Examples:
  pitstop product new lamp --chip esp32c3 --key publisher.key
  pitstop product new lamp --chip esp32c3 --chip-revision v0.4 --key my.key
  pitstop product new lamp --chip esp32c6 --layout partitions.csv \\
      --key alice.key --key bob=02a1…";

const SET_EXAMPLES: &str = "\
Examples:
  pitstop product set lamp --silence-deadline 12h --quarantine-after 3
  pitstop product set lamp --plan '1%,10%,100%' --soak 1h     for every release from now on
  pitstop product set lamp --enrollment-approval true
  pitstop product set lamp --chip-revision v0.4
  pitstop product set lamp --layout partitions.csv   while it has no devices";

const DELETE_EXAMPLES: &str = "\
Examples:
  pitstop product delete lamp
  pitstop product delete lamp --yes

Its channels, publisher keys, API tokens and webhooks go with it. Its artifacts
are those of no product then: `pitstop artifact prune` deletes them.";

/// More channels than any product has.
const MOST_CHANNELS: usize = 1000;

/// Products.
#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// Make a product
    #[command(after_help = EXAMPLES)]
    New(New),

    /// List the products
    List(List),

    /// Show one product
    Show(Show),

    /// Change silence deadline, quarantine, approval of enrollments, new keys, chip revision, layout, or the default plan
    #[command(after_help = SET_EXAMPLES)]
    Set(Box<Set>),

    /// Delete a product without devices and releases
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(Delete),

    /// Publisher keys: whose releases its devices accept
    #[command(subcommand)]
    Key(KeyCommand),

    /// Channels: which devices get which releases
    #[command(subcommand)]
    Channel(ChannelCommand),
}

/// Publisher keys of a product.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Trust one more publisher key
    Add(AddKey),

    /// List the keys, revoked ones too
    List(Show),

    /// Take no more releases that this key signed
    Revoke(RevokeKey),
}

/// Rollouts that a revoked key leaves are named so far.
const NAMED_ROLLOUTS: usize = 10;

/// Channels of a product.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Add a channel
    Add(AddChannel),

    /// List the channels
    List(Show),
}

/// `product new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Name of the product: lower-case letters, digits and `-`
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    /// Its chip, such as esp32c3
    #[arg(long, value_name = "CHIP", value_parser = options::chip)]
    chip: Chip,

    /// Its flash layout: 4mb, 8mb, 16mb, 8mb-rollback, or a partition CSV of your own
    #[arg(long, value_name = "LAYOUT", default_value = "4mb")]
    layout: String,

    /// The lowest revision of its chips, as `pitstop image inspect` shows what an image asks for: v0.4. Images for newer
    /// ones are not published
    #[arg(long, value_name = "REVISION", value_parser = options::chip_revision)]
    chip_revision: Option<i64>,

    /// Its devices renew their certificates with new keys
    #[arg(long)]
    rotate_keys: bool,

    /// Whose releases its devices accept: a key file, a public key file (PEM), or a public key as [NAME=]HEX; may be
    /// given more than once
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<String>,

    #[command(flatten)]
    connection: Connection,
}

/// `product list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `product show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    #[command(flatten)]
    connection: Connection,
}

/// `product delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `product set`.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    /// A device that took a release is silent when it is not seen for so long, and for longer than is usual for it: 12h,
    /// 7d
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    silence_deadline: Option<Duration>,

    /// After so many failures of one release it is not offered to that device any more
    #[arg(long, value_name = "N", value_parser = options::count)]
    quarantine_after: Option<u64>,

    /// Whether an enrollment waits for `pitstop device approve`
    #[arg(long, value_name = "BOOL")]
    enrollment_approval: Option<bool>,

    /// A shorter run of the application shows nothing, and five in a row are a failure: 60s; 0s for none
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    min_run: Option<Duration>,

    /// Whether its devices renew their certificates with new keys
    #[arg(long, value_name = "BOOL")]
    rotate_keys: Option<bool>,

    /// The lowest revision of its chips: v0.4; any. Images for newer ones are not published
    #[arg(long, value_name = "REVISION", value_parser = options::chip_revision_or_any)]
    chip_revision: Option<MinRevision>,

    /// Its flash layout, while it has no devices: 4mb, 8mb, 16mb, 8mb-rollback, or a partition CSV of your own. Releases
    /// that would not fit are archived first
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<String>,

    /// Published releases go to all devices at once again
    #[arg(
        long,
        conflicts_with_all = plan::OPTIONS
    )]
    no_plan: bool,

    #[command(flatten)]
    plan: PlanOptions,

    #[command(flatten)]
    connection: Connection,
}

/// `product key revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeKey {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    /// Id of the key, as `pitstop product key list` shows it
    #[arg(value_name = "KEY-ID", value_parser = options::device)]
    id: String,

    /// Revoke it although it is the last one: nothing can be published until there is another
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `product channel add`.
#[derive(Debug, Args)]
pub(crate) struct AddChannel {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    /// Name of the channel: lower-case letters, digits and `-`
    #[arg(value_name = "CHANNEL", value_parser = options::product)]
    channel: String,

    #[command(flatten)]
    connection: Connection,
}

/// `product key add`.
#[derive(Debug, Args)]
pub(crate) struct AddKey {
    /// Name of the product
    #[arg(value_name = "NAME", value_parser = options::product)]
    name: String,

    /// A key file, a public key file (PEM), or a public key as [NAME=]HEX
    #[arg(long, value_name = "KEY")]
    key: String,

    #[command(flatten)]
    connection: Connection,
}

impl ProductCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(ui),
            Self::List(list) => list.run(ui),
            Self::Show(Show { name, connection }) => {
                let product = connection.client()?.product(&name)?;
                ui.result(&product, || page(&product, format!("Product {name}")))
            }
            Self::Set(set) => set.run(ui),
            Self::Delete(Delete { name, consent, connection }) => {
                let client = connection.client()?;
                consent.to(&format!(
                    "Delete product {name}, with its channels, publisher keys, API tokens and webhooks?"
                ))?;
                let product = client.delete_product(&name)?;
                ui.result(&product, || Page::titled(format!("Deleted the product {name}")))
            }
            Self::Key(key) => key.run(ui),
            Self::Channel(channel) => channel.run(ui),
        }
    }
}

impl Set {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let default_plan = if self.no_plan { Some(None) } else { self.plan.plan()?.map(Some) };
        if let Some(Some(plan)) = &default_plan {
            plan::warn_of_rest(ui, plan);
        }
        let layout = self.layout.as_deref().map(NamedLayout::read).transpose()?;
        let seconds = |time: Duration| options::signed(time.as_secs());
        let settings = ProductSettingsBody {
            layout: layout.map(|NamedLayout { name, csv, .. }| LayoutBody { name, csv }),
            chip_revision: self.chip_revision.map(|MinRevision(revision)| revision),
            silence_deadline_s: self.silence_deadline.map(seconds),
            quarantine_after: self.quarantine_after.map(options::signed),
            enrollment_approval: self.enrollment_approval,
            min_run_s: self.min_run.map(seconds),
            rotate_keys: self.rotate_keys,
            default_plan: default_plan.map(|plan| plan.map(|plan| json!(plan))),
        };
        if settings == ProductSettingsBody::default() {
            return Err(Failure::usage("expected something to change, found nothing")
                .hint("such as --silence-deadline 12h; `pitstop product set --help` lists what there is"));
        }
        let product = self.connection.client()?.change_product(&self.name, &settings)?;
        ui.result(&product, || page(&product, format!("Product {}", self.name)))
    }
}

impl KeyCommand {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Add(AddKey { name, key, connection }) => {
                let key = connection.client()?.add_publisher_key(&name, &Publisher::read(&key)?.into())?;
                ui.result(&key, || {
                    Page::titled(format!("Product {name} trusts one more key"))
                        .facts([("publisher", Cell::from(&key.name)), ("key id", Cell::from(&key.id))])
                        .note(
                            "Devices learn publisher keys when they are provisioned: those that are out already \
                             do not trust the new key.",
                        )
                })
            }
            Self::List(Show { name, connection }) => {
                let keys = connection.client()?.publisher_keys(&name)?;
                ui.result(&keys, || {
                    let rows = keys.items.iter().map(|key| {
                        let state = match &key.revoked_at {
                            Some(at) => Cell::new(Tone::Bad, format!("revoked {at}")),
                            None => Cell::new(Tone::Good, "good"),
                        };
                        [Cell::from(&key.name), Cell::from(&key.id), state]
                    });
                    Page::plain().table(["PUBLISHER", "KEY ID", "STATE"], rows)
                })
            }
            Self::Revoke(RevokeKey { name, id, force, consent, connection }) => {
                let client = connection.client()?;
                let keys = client.publisher_keys(&name)?.items;
                let good = keys.iter().filter(|key| key.revoked_at.is_none());
                let left = good.filter(|key| key.id != id).count();
                let key = keys.iter().find(|key| key.id == id).ok_or_else(|| {
                    Failure::new(format!("product {name} has no publisher key {id}"))
                        .hint(format!("`pitstop product key list {name}` shows their ids"))
                })?;
                if let Some(at) = &key.revoked_at {
                    return ui.result(key, || {
                        Page::titled(format!("The key {id} of {} is revoked already", key.name))
                            .note(format!("Nothing was changed: it is revoked since {at}."))
                    });
                }
                consent.to(&format!(
                    "Revoke the publisher key {id} of {}, which leaves product {name} with {left} of them? It is \
                     final: what it signs is not published any more.{}",
                    key.name,
                    going_on(&key.rollouts).map_or_else(String::new, |told| format!(" {told}"))
                ))?;
                let key = client.revoke_publisher_key(&name, &id, force)?;
                ui.result(&key, || {
                    let page = Page::titled(format!("Revoked the key {id} of {}", key.name)).note(
                        "The server takes no more releases that it signed. Releases of before stay, and devices \
                         trust the keys in their vaults until they are provisioned again.",
                    );
                    let Some(told) = going_on(&key.rollouts) else { return page };
                    let commands = key.rollouts.iter().take(NAMED_ROLLOUTS);
                    page.toned_note(Tone::Warn, told)
                        .next("To end them:", commands.map(|id| format!("pitstop rollout abort {id}")))
                })
            }
        }
    }
}

/// What a revocation does not end.
fn going_on(rollouts: &[String]) -> Option<String> {
    let named = rollouts.iter().take(NAMED_ROLLOUTS).map(String::as_str).collect::<Vec<_>>().join(", ");
    let others = rollouts.len().saturating_sub(NAMED_ROLLOUTS);
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    match rollouts.len() {
        0 => None,
        1 => Some(format!("1 rollout goes on to bring devices what it signed: {named}.")),
        count => Some(format!("{count} rollouts go on to bring devices what it signed: {named}{more}.")),
    }
}

impl ChannelCommand {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::Add(AddChannel { name, channel, connection }) => {
                let channel = connection.client()?.add_channel(&name, &channel)?;
                ui.result(&channel, || {
                    Page::titled(format!("Product {name} has the channel {}", channel.name)).next(
                        "Put devices on it, and publish to it:",
                        [
                            format!("pitstop device set ID --channel {}", channel.name),
                            format!(
                                "pitstop release publish app.bin --product {name} --channel {}",
                                channel.name
                            ),
                        ],
                    )
                })
            }
            Self::List(Show { name, connection }) => {
                let channels = connection.client()?.channels(&name, MOST_CHANNELS)?;
                ui.result(&channels, || {
                    let now = time::OffsetDateTime::now_utc();
                    let rows = channels
                        .items
                        .iter()
                        .map(|channel| [Cell::from(&channel.name), ago(&channel.created_at, now).into()]);
                    Page::plain().table(["CHANNEL", "MADE"], rows)
                })
            }
        }
    }
}

impl New {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { name, chip, layout, chip_revision, rotate_keys, keys, connection } = self;
        let publisher_keys =
            keys.iter().map(|key| Publisher::read(key).map(NewKey::from)).collect::<Result<_, _>>()?;
        let NamedLayout { name: layout_name, csv, .. } = NamedLayout::read(&layout)?;
        let layout = LayoutBody { name: layout_name, csv };
        let chip = chip.name().to_owned();
        let rotate_keys = rotate_keys.then_some(true);
        let min_run_s = None;
        let product =
            NewProductBody { name, chip, layout, chip_revision, min_run_s, rotate_keys, publisher_keys };
        let product = connection.client()?.create_product(&product)?;
        ui.result(&product, || {
            page(&product, format!("Made the product {}", product.name)).next(
                "Next, make a device and publish a release:",
                [
                    format!("pitstop device new --product {}", product.name),
                    format!("pitstop release publish app.bin --product {} --key publisher.key", product.name),
                ],
            )
        })
    }
}

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let products = self.connection.client()?.products(self.limit)?;
        ui.result(&products, || {
            if products.items.is_empty() {
                return Page::plain().next(
                    "No products yet. Make one:",
                    ["pitstop product new NAME --chip CHIP --key publisher.key"],
                );
            }
            let rows = products.items.iter().map(|product| {
                let slots: Vec<&str> = product.slots.iter().map(|slot| slot.label.as_str()).collect();
                let keys: Vec<&str> = product.publisher_keys.iter().map(|key| key.name.as_str()).collect();
                [
                    Cell::from(&product.name),
                    Cell::from(&product.chip),
                    Cell::from(&product.layout.name),
                    slots.join(", ").into(),
                    keys.join(", ").into(),
                ]
            });
            let page = Page::plain().table(["NAME", "CHIP", "LAYOUT", "SLOTS", "PUBLISHERS"], rows);
            if products.next_cursor.is_some() { page.more(self.limit) } else { page }
        })
    }
}

/// With the lowest revision, when that is set.
fn chip(product: &Product) -> String {
    match product.chip_revision {
        Some(revision) => format!("{}, {} and up", product.chip, api::chip_revision::text(revision)),
        None => product.chip.clone(),
    }
}

fn page(product: &Product, heading: String) -> Page {
    let slots =
        product.slots.iter().map(|slot| [Cell::from(&slot.label), bytes(slot.size_bytes.into()).into()]);
    let keys = product.publisher_keys.iter().map(|key| [Cell::from(&key.name), (&key.id).into()]);
    let plan = product.default_plan.as_ref().map_or_else(|| "100 % at once".to_owned(), plan::in_a_line);
    let enrollment = if product.enrollment_approval { "waits for an approval" } else { "by token alone" };
    let keys_of_devices = if product.rotate_keys { "new at each renewal" } else { "kept" };
    Page::titled(heading)
        .facts([
            ("chip", chip(product).into()),
            ("layout", Cell::from(&product.layout.name)),
            ("hand-over", Cell::from(&product.strategy)),
            ("default plan", plan.into()),
            ("silent after", plan::time(product.silence_deadline_s.unsigned_abs()).into()),
            ("short run", format!("less than {}", plan::time(product.min_run_s.unsigned_abs())).into()),
            (
                "quarantine",
                format!(
                    "after {} of one release",
                    counted(product.quarantine_after.unsigned_abs(), "failure")
                )
                .into(),
            ),
            ("enrollment", Cell::from(enrollment)),
            ("device keys", Cell::from(keys_of_devices)),
            (
                "artifacts",
                format!("{} of {}", size(product.artifact_bytes), size(product.artifact_quota_bytes)).into(),
            ),
            ("made", ago(&product.created_at, time::OffsetDateTime::now_utc()).into()),
        ])
        .table(["SLOT", "SIZE"], slots)
        .table(["PUBLISHER", "KEY ID"], keys)
}
