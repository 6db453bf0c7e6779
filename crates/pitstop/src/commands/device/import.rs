//! `pitstop device import`: devices of ids that are there already, such as serial numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use api::bulk::ImportedDevice;
use api::device::NewToken;
use clap::Args;
use serde::Serialize;

use super::private_file;
use crate::client::Connection;
use crate::commands::consent::devices as counted_devices;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Ui, hints};

pub(super) const EXAMPLES: &str = "\
Examples:
  pitstop device import ids.csv --product lamp --csv tokens.csv
  pitstop device import ids.csv --product lamp --csv tokens.csv --resume

A line has an id, then a channel if there is to be one, then tags:

  id,channel,tags
  SN-0001
  AA:BB:CC:DD:EE:FF,beta,hall,attic

The whole file is read before the first device is made. Each thousand devices
are made all or none.";

/// The server makes no more at once.
const PART: usize = 1000;

/// `device import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A CSV file with ids
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The product that the devices are of
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// Write ids and enrollment tokens into this new file, which only you may read
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,

    /// Go on with a --csv file that is there: devices in it were made before
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    connection: Connection,
}

/// What was made.
#[derive(Serialize)]
struct Report<'a> {
    count: usize,
    /// Made before.
    skipped: usize,
    csv: &'a Path,
}

impl Import {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { file, product, csv, resume, connection } = self;
        let devices = read_devices(&file)?;
        let made_before = if resume { ids_of(&csv)? } else { BTreeSet::new() };
        let (before, devices): (Vec<_>, Vec<_>) =
            devices.into_iter().partition(|device| made_before.contains(&device.id));
        let client = connection.client()?;
        client.product(&product)?;
        let cannot = |error: std::io::Error| {
            Failure::new(format!("could not write {}: {error}", csv.display()))
                .hint("--csv takes a file that does not exist yet, or with --resume the one of an import that broke off")
        };
        // Before the server is asked: a token that cannot be kept is lost.
        let mut out = if resume {
            OpenOptions::new().append(true).open(&csv).map_err(cannot)?
        } else {
            let mut out = private_file(&csv).map_err(cannot)?;
            writeln!(out, "device_id,enrollment_token").map_err(cannot)?;
            out
        };
        let progress = ui.count_progress("making devices", devices.len() as u64);
        let mut made = 0;
        for part in devices.chunks(PART) {
            let issued = client.import_devices(&product, part).map_err(|error| {
                let failure = Failure::from(error);
                match made + before.len() {
                    0 => failure,
                    made => failure.hint(format!(
                        "{made} of the devices were made and are in {0}; `pitstop device import {1} --product {product} --csv \
                         {0} --resume` makes the others",
                        hints::word(&csv.display().to_string()),
                        hints::word(&file.display().to_string())
                    )),
                }
            })?;
            write_tokens(&mut out, &issued).map_err(cannot)?;
            made += part.len();
            progress.set(made as u64, "");
        }
        drop(progress);
        let report = Report { count: made, skipped: before.len(), csv: &csv };
        ui.result(&report, || {
            Page::titled(format!("Made {} of product {product}", counted_devices(made as u64)))
                .facts([
                    ("made before", Cell::from(before.len().to_string())),
                    ("ids and tokens", Cell::from(csv.display().to_string())),
                ])
                .note(
                    "Each token is good once. The server does not have them: whoever has this file can enroll these \
                     devices.",
                )
                .next("Afterwards:", [format!("pitstop device list --product {product} --health new")])
        })
    }
}

fn write_tokens(out: &mut File, issued: &[NewToken]) -> std::io::Result<()> {
    // Ids are letters, digits and `._:-`, tokens are too: nothing needs quotes.
    let lines: String =
        issued.iter().map(|NewToken { id, enrollment_token }| format!("{id},{enrollment_token}\n")).collect();
    out.write_all(lines.as_bytes())?;
    out.sync_data()
}

fn read(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("could not read {}: {error}", path.display())))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(format!("expected text in UTF-8 in {}, found something else", path.display()))
            .hint("save it as \"CSV UTF-8\"")
    })
}

/// The ids in the file of an import that broke off.
fn ids_of(csv: &Path) -> Result<BTreeSet<String>, Failure> {
    let rows = rows(&read(csv)?).map_err(|problem| in_file(csv, &problem))?;
    Ok(rows.into_iter().filter_map(|(_, cells)| cells.into_iter().next()).collect())
}

fn read_devices(path: &Path) -> Result<Vec<ImportedDevice>, Failure> {
    let devices = devices(&read(path)?).map_err(|problem| in_file(path, &problem))?;
    if devices.is_empty() {
        return Err(Failure::new(format!("expected device ids in {}, found none", path.display())));
    }
    Ok(devices)
}

fn in_file(path: &Path, problem: &str) -> Failure {
    Failure::new(format!("{}, {problem}", path.display()))
        .hint("`pitstop device import --help` shows such a file; nothing was made")
}

/// The devices of a file, or what is wrong with it and in which line.
fn devices(text: &str) -> Result<Vec<ImportedDevice>, String> {
    let mut lines = BTreeMap::new();
    let mut devices = Vec::new();
    for (line, cells) in rows(text)? {
        let wrong = |problem: String| format!("line {line}: {problem}");
        let mut cells = cells.into_iter();
        let id = options::new_device(&cells.next().unwrap_or_default()).map_err(wrong)?;
        let channel = cells.next().filter(|channel| !channel.is_empty());
        let channel = channel.map(|channel| options::product(&channel)).transpose().map_err(wrong)?;
        let tags: Vec<_> = cells.filter(|tag| !tag.is_empty()).collect();
        for tag in &tags {
            rollout::check_tag(tag).map_err(wrong)?;
        }
        if let Some(first) = lines.insert(id.clone(), line) {
            return Err(wrong(format!("expected each id once, found {id} in line {first} already")));
        }
        devices.push(ImportedDevice { id, channel, tags });
    }
    Ok(devices)
}

/// The cells of a CSV file (RFC 4180) with their line numbers, without a heading and empty lines. A cell ends with its line.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    // Spreadsheets begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        let cells = cells(line).ok_or_else(|| format!("line {line_number}: a quote that does not end"))?;
        let is_heading = matches!(cells[0].to_ascii_lowercase().as_str(), "id" | "device_id");
        if !(rows.is_empty() && is_heading) {
            rows.push((line_number, cells));
        }
    }
    Ok(rows)
}

/// The cells of a line, without the blanks around them; `None` when a quote does not end. There is at least one.
fn cells(line: &str) -> Option<Vec<String>> {
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(std::mem::take(&mut cell).trim().to_owned()),
            _ => cell.push(char),
        }
    }
    cells.push(cell.trim().to_owned());
    (!is_quoted).then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_spreadsheets_and_of_scripts_are_read() {
        let of = |text: &str| {
            let devices = devices(text).unwrap();
            let told = devices.into_iter();
            told.map(|device| (device.id, device.channel.unwrap_or_default(), device.tags.join("+")))
                .collect::<Vec<_>>()
        };
        let row = |id: &str, channel: &str, tags: &str| (id.to_owned(), channel.to_owned(), tags.to_owned());
        let both = [row("SN-1", "", ""), row("AA:BB:CC:DD:EE:FF", "beta", "hall+attic")];
        for text in [
            "SN-1\nAA:BB:CC:DD:EE:FF,beta,hall,attic\n",
            "\u{feff}ID,channel,tags\r\nSN-1,,\r\n\r\nAA:BB:CC:DD:EE:FF,beta,hall,attic\r\n",
            "device_id\n \"SN-1\" \n\"AA:BB:CC:DD:EE:FF\" , beta,\"hall\",attic",
        ] {
            assert_eq!(of(text), both, "{text:?}");
        }
        // A device may have the name that a heading has, but not in the first line.
        assert_eq!(of("SN-1\nid\n"), [row("SN-1", "", ""), row("id", "", "")]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, expected) in [
            ("id\nSN-1\nSN 2\n", "line 3: expected letters, digits"),
            ("SN-1\n\nSN-1\n", "line 3: expected each id once, found SN-1 in line 1 already"),
            ("-rf\n", "line 1: expected"),
            ("a\n..\n", "line 2: expected"),
            ("a\n.\n", "line 2: expected"),
            (":a\n", "line 1: expected"),
            ("a,Beta\n", "line 1: expected lower-case letters"),
            ("a,beta,UPPER\n", "line 1: "),
            ("a;beta\n", "line 1: expected letters, digits"),
            ("a\n\"b\n", "line 2: a quote that does not end"),
            (",beta\n", "line 1: expected 1 to 64 characters"),
        ] {
            let told = devices(text).unwrap_err();
            assert!(told.starts_with(expected), "{text:?}: {told}");
        }
    }
}
