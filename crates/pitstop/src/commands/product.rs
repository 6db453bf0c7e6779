//! `pitstop product`: what kinds of device there are.

use std::path::Path;

use clap::{Args, Subcommand};
use flashfmt::{Chip, Layout};
use manifest::PublisherKey;

use crate::client::Connection;
use crate::client::types::{self, NewProduct, NewPublisherKey, Product};
use crate::commands::options;
use crate::failure::Failure;
use crate::keyfile::KeyFile;
use crate::ui::{Cell, Page, Ui, ago, bytes};

const EXAMPLES: &str = "\
Examples:
  pitstop product new lamp --chip esp32c3 --key publisher.key
  pitstop product new lamp --chip esp32s3 --layout partitions.csv \\
      --key alice.key --key bob=02a1…";

/// Digits of a public key.
const KEY_DIGITS: usize = 2 * PublisherKey::BYTES;

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
    #[arg(long, value_name = "CHIP", value_parser = chip)]
    chip: Chip,

    /// Its flash layout: 4mb, 8mb, 16mb, 8mb-rollback, or a partition CSV of your own
    #[arg(long, value_name = "LAYOUT", default_value = "4mb")]
    layout: String,

    /// Whose releases its devices accept: a key file, or a public key as [NAME=]HEX; may be given more than once
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

    /// A key file, or a public key as [NAME=]HEX
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
                let key = connection.client()?.add_publisher_key(&name, &publisher_key(&key)?)?;
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
        let publisher_keys = keys.iter().map(|key| publisher_key(key)).collect::<Result<_, _>>()?;
        let product =
            NewProduct { name, chip: chip.name().to_owned(), layout: self::layout(&layout)?, publisher_keys };
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

fn chip(text: &str) -> Result<Chip, String> {
    text.parse().map_err(|error: flashfmt::chip::UnknownChipName| error.to_string())
}

/// A built-in layout by its name, or a CSV file, checked here so that an error names the file's line.
fn layout(text: &str) -> Result<types::Layout, Failure> {
    if let Some((name, csv)) = flashfmt::layout::BUILTIN.into_iter().find(|(name, _)| *name == text) {
        return Ok(types::Layout { name: name.to_owned(), csv: csv.to_owned() });
    }
    let path = Path::new(text);
    let known = flashfmt::layout::BUILTIN.map(|(name, _)| name).join(", ");
    let csv = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("expected a layout ({known}) or a CSV file, found {text}: {error}"))
    })?;
    let layout = Layout::parse_csv(&csv).map_err(|error| {
        Failure::new(format!("the layout {text}: {error}"))
            .hint("the format is ESP-IDF's partition CSV; begin with one of layouts/*.csv")
    })?;
    if layout.slots().next().is_none() {
        return Err(Failure::new(format!(
            "the layout {text} has no slot for an application (type app, subtype ota_0)"
        ))
        .hint("begin with one of layouts/*.csv and add partitions of your own"));
    }
    let name = path.file_stem().map_or_else(|| text.to_owned(), |stem| stem.to_string_lossy().into_owned());
    Ok(types::Layout { name, csv })
}

/// A publisher key given as a key file or as `[NAME=]HEX`.
fn publisher_key(text: &str) -> Result<NewPublisherKey, Failure> {
    let (name, digits) = text.split_once('=').map_or((None, text), |(name, digits)| (Some(name), digits));
    let is_hex = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex || Path::new(text).exists() {
        let file = KeyFile::read(Path::new(text))?;
        return Ok(NewPublisherKey { name: file.name.clone(), key: hex::encode(file.public().to_sec1()) });
    }
    if digits.len() != KEY_DIGITS {
        return Err(Failure::usage(format!(
            "expected a key file, or a public key of {KEY_DIGITS} hexadecimal digits, found {}",
            digits.len()
        ))
        .hint("`pitstop keys show FILE` prints the public key"));
    }
    let key =
        hex::decode(digits).ok().and_then(|point| PublisherKey::from_sec1(&point).ok()).ok_or_else(|| {
            Failure::usage(format!("{digits} is no public key: not a point of the curve P-256"))
        })?;
    let name = name.map_or_else(|| hex::encode(key.id()), str::to_owned);
    Ok(NewPublisherKey { name, key: hex::encode(key.to_sec1()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_digits() -> String {
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        hex::encode(manifest::PublisherSigningKey::new(secret).publisher_key().to_sec1())
    }

    #[test]
    fn keys_are_files_or_digits() {
        let digits = key_digits();
        let named = publisher_key(&format!("bob={}", digits.to_uppercase())).unwrap();
        assert_eq!(named, NewPublisherKey { name: "bob".to_owned(), key: digits.clone() });
        assert_eq!(publisher_key(&digits).unwrap().name.len(), 16);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alice.key");
        let file = KeyFile::create(&path, "alice").unwrap();
        let read = publisher_key(path.to_str().unwrap()).unwrap();
        assert_eq!(
            read,
            NewPublisherKey { name: "alice".to_owned(), key: hex::encode(file.public().to_sec1()) }
        );
    }

    #[test]
    fn wrong_keys_are_refused() {
        let short = publisher_key(&key_digits()[2..]).unwrap_err();
        assert!(short.message().contains("66 hexadecimal digits, found 64"), "{}", short.message());
        assert!(publisher_key(&"f".repeat(66)).unwrap_err().message().contains("not a point"));
        assert!(publisher_key("nowhere.key").unwrap_err().message().contains("nowhere.key cannot be read"));
    }

    #[test]
    fn layouts_are_built_in_or_files() {
        assert_eq!(layout("4mb").unwrap().name, "4mb");
        assert!(layout("5mb").unwrap_err().message().contains("4mb, 8mb"));

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, csv: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, csv).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let own = layout(&write("own.csv", "factory,app,factory,0x10000,1M\nota_0,app,ota_0,,1M\n")).unwrap();
        assert_eq!(own.name, "own");
        let broken = layout(&write("broken.csv", "factory,app,factory,0x10000,1M\nota_0,app,ota_0,,big\n"))
            .unwrap_err();
        assert!(broken.message().contains("line 2"), "{}", broken.message());
        let slotless = layout(&write("slotless.csv", "factory,app,factory,0x10000,1M\n")).unwrap_err();
        assert!(slotless.message().contains("no slot"), "{}", slotless.message());
    }
}
