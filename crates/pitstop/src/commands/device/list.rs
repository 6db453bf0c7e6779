//! `pitstop device list`.

use api::device::{Device, DeviceSort, DeviceState, Health, ListParams};
use api::page::Order;
use clap::Args;
use time::OffsetDateTime;

use super::page::outcome;
use crate::client::Connection;
use crate::commands::fleet::health_tone;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago};

pub(super) const EXAMPLES: &str = "\
Examples:
  pitstop device list --product lamp --health crashing
  pitstop device list --tag lab --channel beta
  pitstop device list --suspended
  pitstop device list --product lamp --sort last-seen
  pitstop device list --sort created --descending --limit 10
  pitstop device list --clone-suspected
  pitstop device list --certificate-ends-within 30d
  pitstop device list --search 0001 --json | jq -r '.items[].id'";

/// What `--health` takes, from good to bad.
const HEALTHS: [Health; 9] = [
    Health::Ok,
    Health::New,
    Health::Updating,
    Health::Silent,
    Health::Unheard,
    Health::Crashing,
    Health::Failing,
    Health::Suspended,
    Health::Revoked,
];

/// `device list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only devices of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only devices of this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// Only devices with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,

    /// Only devices in this state
    #[arg(long, value_name = "STATE", value_parser = options::one_of::<DeviceState>(DeviceState::ALL.map(DeviceState::name)))]
    state: Option<DeviceState>,

    /// Only devices that do like this
    #[arg(long, value_name = "HEALTH", value_parser = options::one_of::<Health>(HEALTHS.map(Health::name)))]
    health: Option<Health>,

    /// Only devices that run the release with this sequence number
    #[arg(long, value_name = "N", value_parser = options::number)]
    sequence: Option<u64>,

    /// Only devices with this in their id
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,

    /// Only devices that are suspended
    #[arg(long)]
    suspended: bool,

    /// Only devices of which two boards seem to have the identity
    #[arg(long)]
    clone_suspected: bool,

    /// Only devices whose certificate ends within this, or has ended; 0d: has ended
    #[arg(long, value_name = "DURATION", value_parser = options::days)]
    certificate_ends_within: Option<i64>,

    /// Only devices that were refused with a certificate that had ended
    #[arg(long)]
    certificate_refused: bool,

    /// What they are ordered by: the longest not seen first, or the oldest. Of more than 5,000 devices last-seen is to the hour
    #[arg(long, value_name = "ORDER", value_parser = options::one_of::<DeviceSort>(DeviceSort::ALL.map(DeviceSort::name)))]
    sort: Option<DeviceSort>,

    /// The other way round
    #[arg(long)]
    descending: bool,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

impl List {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self {
            product,
            channel,
            tag,
            state,
            health,
            sequence,
            search,
            suspended,
            clone_suspected,
            certificate_ends_within,
            certificate_refused,
            sort,
            descending,
            limit,
            connection,
        } = self;
        let filter = ListParams {
            product: product.unwrap_or_default(),
            channel: channel.unwrap_or_default(),
            tag: tag.unwrap_or_default(),
            state,
            health,
            sequence: sequence.map(options::signed),
            q: search.unwrap_or_default(),
            suspended,
            clone_suspected,
            certificate_refused,
            certificate_ends_within_days: certificate_ends_within,
            sort,
            order: descending.then_some(Order::Descending),
            ..ListParams::default()
        };
        let devices = connection.client()?.devices(&filter, limit)?;
        ui.result(&devices, || {
            if devices.items.is_empty() {
                return empty(&filter);
            }
            let now = OffsetDateTime::now_utc();
            // The time by which they are ordered.
            let (heading, at): (_, fn(&Device) -> Option<&str>) = match sort.unwrap_or_default() {
                DeviceSort::Id | DeviceSort::LastSeen => {
                    ("LAST SEEN", |device| device.last_seen_at.as_deref())
                }
                DeviceSort::Created => ("MADE", |device| Some(&device.created_at)),
            };
            let rows = devices.items.iter().map(|device| row(device, at(device), now));
            let headers = ["ID", "PRODUCT", "CHANNEL", "HEALTH", "RUNS", heading, "LAST OUTCOME"];
            let page = Page::plain().table(headers, rows);
            if devices.next_cursor.is_some() { page.more(limit) } else { page }
        })
    }
}

fn empty(filter: &ListParams) -> Page {
    let ListParams { product, sort, order, .. } = filter.clone();
    let all = ListParams { product, sort, order, ..ListParams::default() };
    if *filter != all {
        return Page::plain().next("No such devices. All of them:", ["pitstop device list"]);
    }
    let product = if filter.product.is_empty() { "NAME" } else { &filter.product };
    Page::plain().next("No devices yet. Make one:", [format!("pitstop device new --product {product}")])
}

fn row(device: &Device, at: Option<&str>, now: OffsetDateTime) -> [Cell; 7] {
    let runs = device.running.as_ref().map(|running| {
        running.version.clone().unwrap_or_else(|| crate::ui::short_digest(&running.digest).to_owned())
    });
    [
        Cell::from(&device.id),
        Cell::from(&device.product),
        Cell::from(&device.channel),
        Cell::new(health_tone(device.health), device.health.name()),
        Cell::or_dash(runs),
        at.map_or_else(|| Cell::new(Tone::Dim, "never"), |at| ago(at, now).into()),
        device.last_outcome.as_ref().map_or_else(|| Cell::or_dash(None::<String>), outcome),
    ]
}
