//! `pitstop product`: what kinds of device there are.

use clap::{Args, Subcommand};
use flashfmt::Chip;

use crate::client::Connection;
use crate::client::types::{self, NewProduct, NewPublisherKey, Product};
use crate::commands::options;
use crate::failure::Failure;
use crate::layouts::NamedLayout;
use crate::publisher::Publisher;
use crate::ui::{Cell, Page, Ui, ago, bytes};

const EXAMPLES: &str = "\
Examples:
  pitstop product new lamp --chip esp32c3 --key publisher.key
  pitstop product new lamp --chip esp32s3 --layout partitions.csv \\
      --key alice.key --key bob=02a1…";

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

    /// Trust one more publisher key
    AddKey(AddKey),
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

/// `product add-key`.
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
            Self::AddKey(AddKey { name, key, connection }) => {
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
        }
    }
}

impl New {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { name, chip, layout, keys, connection } = self;
        let publisher_keys = keys
            .iter()
            .map(|key| Publisher::read(key).map(NewPublisherKey::from))
            .collect::<Result<_, _>>()?;
        let NamedLayout { name: layout_name, csv, .. } = NamedLayout::read(&layout)?;
        let layout = types::Layout { name: layout_name, csv };
        let product = NewProduct { name, chip: chip.name().to_owned(), layout, publisher_keys };
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

fn page(product: &Product, heading: String) -> Page {
    let slots = product.slots.iter().map(|slot| [Cell::from(&slot.label), bytes(slot.size_bytes).into()]);
    let keys = product.publisher_keys.iter().map(|key| [Cell::from(&key.name), (&key.id).into()]);
    Page::titled(heading)
        .facts([
            ("chip", Cell::from(&product.chip)),
            ("layout", Cell::from(&product.layout.name)),
            ("hand-over", Cell::from(&product.strategy)),
            ("made", ago(&product.created_at, time::OffsetDateTime::now_utc()).into()),
        ])
        .table(["SLOT", "SIZE"], slots)
        .table(["PUBLISHER", "KEY ID"], keys)
}
