//! `pitstop device import`: devices of ids that are there already, such as serial numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use api::bulk::ImportedDevice;
use api::device::{Device, DeviceState, NewToken};
use clap::Args;
use serde::Serialize;

use super::private_file;
use crate::client::{Client, Connection};
use crate::commands::consent::devices as counted_devices;
use crate::commands::options;
use crate::failure::Failure;
use crate::text_file;
use crate::ui::{Cell, Page, Ui, hints};

pub(super) const EXAMPLES: &str = "\
Examples:
  pitstop device import ids.csv --product lamp --csv tokens.csv
  pitstop device import ids.csv --product lamp --csv tokens.csv --resume

A line has an id, then a channel if there is to be one, then tags, or in the
order that a heading says:

  id,channel,tags
  SN-0001
  AA:BB:CC:DD:EE:FF,beta,hall,attic

A first line with id, device, device_id, serial, serial_number, sn, mac or
mac_address in place of an id is a heading. A device that is called so has
its line further below.

The whole file is read before the first device is made. Each thousand devices
are made all or none. With --resume a half line at the end of the --csv file is
dropped. A device that is there without a line in it, and never enrolled, gets
a new token: the one that it had is void.";

/// The server makes no more at once.
const PART: usize = 1000;

/// What the file with tokens begins with.
const HEADING: &[u8] = b"device_id,enrollment_token\n";

/// What stands above ids, in small letters.
const HEADINGS: [&str; 8] =
    ["id", "device", "device_id", "serial", "serial_number", "sn", "mac", "mac_address"];

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Channel,
    Tag,
}

/// Columns without a heading, and behind one that names the ids alone.
const COLUMNS: [Column; 3] = [Column::Id, Column::Channel, Column::Tag];

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
    #[arg(long, value_name = "FILE", value_parser = new_file)]
    csv: PathBuf,

    /// Go on with the --csv file of an import that broke off: devices with a whole line in it were made before
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    connection: Connection,
}

/// What was made.
#[derive(Serialize)]
struct Report<'a> {
    count: usize,
    /// Made before, without a line: they got new tokens.
    renewed: usize,
    /// Made before.
    skipped: usize,
    csv: &'a Path,
}

impl Import {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { file, product, csv, resume, connection } = self;
        let devices = read_devices(&file)?;
        let client = connection.client()?;
        client.product(&product)?;
        // Before the server is asked for tokens: one that cannot be kept is lost.
        let (out, before) = if resume { go_on(&csv)? } else { (begin(&csv)?, BTreeSet::new()) };
        let (skipped, devices): (Vec<_>, Vec<_>) =
            devices.into_iter().partition(|device: &ImportedDevice| before.contains(&device.id));
        let mut making = Making { client: &client, product: &product, csv: &csv, out, count: 0, renewed: 0 };
        let progress = ui.count_progress("making devices", devices.len() as u64);
        for part in devices.chunks(PART) {
            making.make(part, resume).map_err(|failure| match before.len() + making.count + making.renewed {
                0 => {
                    // Nothing is in it, and the next try makes it again.
                    let _ = std::fs::remove_file(&csv);
                    failure
                }
                made => failure.hint(format!(
                    "{made} of the devices are in {0}; `pitstop device import {1} --product {product} --csv {0} --resume` \
                     makes the others",
                    hints::word(&csv.display().to_string()),
                    hints::word(&file.display().to_string())
                )),
            })?;
            progress.set((making.count + making.renewed) as u64, "");
        }
        drop(progress);
        let Making { count, renewed, .. } = making;
        let report = Report { count, renewed, skipped: skipped.len(), csv: &csv };
        ui.result(&report, || {
            let page = Page::titled(format!("Made {} of product {product}", counted_devices(count as u64)))
                .facts([
                    ("made before", Cell::from((skipped.len() + renewed).to_string())),
                    ("of these, new tokens", Cell::from(renewed.to_string())),
                    ("ids and tokens", Cell::from(csv.display().to_string())),
                ]);
            let page = match renewed {
                0 => page,
                _ => page.note(format!(
                    "{} made before and had no line in the file. The tokens that they had are void.",
                    if renewed == 1 { "1 device was".to_owned() } else { format!("{renewed} devices were") }
                )),
            };
            page.note(
                "Each token is good once. The server does not have them: whoever has this file can enroll these \
                 devices.",
            )
            .next("Afterwards:", [format!("pitstop device list --product {product} --health new")])
        })
    }
}

/// An import under way.
struct Making<'a> {
    client: &'a Client,
    product: &'a str,
    csv: &'a Path,
    out: File,
    count: usize,
    renewed: usize,
}

impl Making<'_> {
    /// Makes some devices, and has their tokens on the disk when it returns.
    fn make(&mut self, part: &[ImportedDevice], is_resumed: bool) -> Result<(), Failure> {
        match self.client.import_devices(self.product, part) {
            Ok(issued) => {
                self.write(&issued)?;
                self.count += issued.len();
                Ok(())
            }
            Err(error) if is_resumed && error.is_taken() => self.make_rest(part),
            Err(error) if error.is_taken() => Err(Failure::from(error).hint(
                "leave out devices that are there; those of an import that broke off get new tokens with --resume",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Some of these were made by the import that broke off, and their tokens are lost.
    fn make_rest(&mut self, part: &[ImportedDevice]) -> Result<(), Failure> {
        let (mut there, mut missing) = (Vec::new(), Vec::new());
        for device in part {
            match self.client.device(&device.id) {
                Ok(found) => there.push(self.never_enrolled(found)?),
                Err(error) if error.is_not_found() => missing.push(device.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        for id in there {
            let issued = self.client.issue_enrollment_token(&id)?;
            self.write(&[issued])?;
            self.renewed += 1;
        }
        if missing.is_empty() { Ok(()) } else { self.make(&missing, false) }
    }

    /// The id of a device that may have another token.
    fn never_enrolled(&self, device: Device) -> Result<String, Failure> {
        let found = match device.state {
            DeviceState::New if device.product == self.product => return Ok(device.id),
            DeviceState::New => format!("of product {}", device.product),
            DeviceState::Enrolled | DeviceState::Revoked => device.state.name().to_owned(),
        };
        Err(Failure::new(format!(
            "expected devices that are new, found {} without a line in {}, which is {found}; leave it out",
            device.id,
            self.csv.display()
        )))
    }

    /// In one go, so that at most one line is torn by whatever happens.
    fn write(&mut self, issued: &[NewToken]) -> Result<(), Failure> {
        // Ids are letters, digits and `._:-`, tokens are too: nothing needs quotes.
        let lines: String = issued
            .iter()
            .map(|NewToken { id, enrollment_token }| format!("{id},{enrollment_token}\n"))
            .collect();
        let written = self.out.write_all(lines.as_bytes()).and_then(|()| self.out.sync_data());
        written.map_err(|error| cannot_write(self.csv, &error))
    }
}

/// Goes on where an import broke off: the ids of its whole lines. What is behind them was being written, and is dropped.
fn go_on(csv: &Path) -> Result<(File, BTreeSet<String>), Failure> {
    // One that broke off before its first line left no file.
    let mut out = private_file(csv, OpenOptions::new().create(true).append(true))
        .map_err(|error| cannot_write(csv, &error))?;
    lock(&out, csv)?;
    let bytes = bytes_of(csv)?;
    let whole_bytes = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let whole = text_of(csv, bytes.into_iter().take(whole_bytes).collect())?;
    let rows = rows(&whole).map_err(|problem| in_file(csv, &problem))?;
    let ids = rows.lines.into_iter().map(|(line, cells)| match <[String; 2]>::try_from(cells) {
        Ok([id, token]) if !id.is_empty() && !token.is_empty() => Ok(id),
        Ok(_) | Err(_) => Err(Failure::new(format!(
            "{}, line {line}: expected an id and a token, found something else",
            csv.display()
        ))
        .hint("delete that line: its device gets a new token")),
    });
    let ids = ids.collect::<Result<_, _>>()?;
    let cut = out.set_len(whole_bytes as u64).and_then(|()| match whole_bytes {
        0 => out.write_all(HEADING),
        _ => Ok(()),
    });
    cut.map_err(|error| cannot_write(csv, &error))?;
    Ok((out, ids))
}

/// A path that is none of standard output: what breaks off there cannot be gone on with.
fn new_file(text: &str) -> Result<PathBuf, String> {
    if text == "-" { Err("expected a file, found - for standard output".to_owned()) } else { Ok(text.into()) }
}

fn begin(csv: &Path) -> Result<File, Failure> {
    let out = private_file(csv, OpenOptions::new().create_new(true).write(true));
    let mut out = out.map_err(|error| cannot_write(csv, &error))?;
    lock(&out, csv)?;
    out.write_all(HEADING).map_err(|error| cannot_write(csv, &error))?;
    Ok(out)
}

/// Keeps other imports out until the file is closed: each would void tokens that the other has written.
fn lock(out: &File, csv: &Path) -> Result<(), Failure> {
    match out.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
            "expected to write {} alone, found another import at it",
            csv.display()
        ))
        .hint("wait until it has ended; --resume goes on where it broke off")),
        Err(TryLockError::Error(error)) => Err(cannot_write(csv, &error)),
    }
}

fn cannot_write(csv: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("could not write {}: {error}", csv.display())).hint(
        "--csv takes a file that does not exist yet, or with --resume the one of an import that broke off",
    )
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::new(format!("could not read {}: {error}", path.display())))
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    text_file::text_of(bytes).map_err(|error| {
        Failure::new(format!("{}: {error}, found something else", path.display()))
            .hint("save it as \"CSV UTF-8\"")
    })
}

fn read_devices(path: &Path) -> Result<Vec<ImportedDevice>, Failure> {
    let devices = devices(&text_of(path, bytes_of(path)?)?).map_err(|problem| in_file(path, &problem))?;
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
    let Rows { heading, lines: rows } = rows(text)?;
    let columns = match heading {
        Some((line, cells)) if cells.len() > 1 => {
            columns(&cells).map_err(|problem| format!("line {line}: {problem}"))?
        }
        Some(_) | None => COLUMNS.to_vec(),
    };
    for (line, cells) in rows {
        let wrong = |problem: String| format!("line {line}: {problem}");
        let (mut id, mut channel, mut tags) = (String::new(), None, Vec::new());
        // More cells than columns are of the last one.
        let last = columns.last().copied().into_iter().cycle();
        for (column, cell) in columns.iter().copied().chain(last).zip(cells) {
            let is_empty = cell.is_empty();
            match column {
                Column::Id => id = cell,
                _ if is_empty => {}
                Column::Channel if channel.is_some() => {
                    return Err(wrong(format!("expected one channel, found {cell:?} too")));
                }
                Column::Channel => {
                    let of_channel = |problem| wrong(format!("{problem} in the channel, found {cell:?}"));
                    channel = Some(options::product(&cell).map_err(of_channel)?);
                }
                Column::Tag => {
                    rollout::check_tag(&cell).map_err(wrong)?;
                    tags.push(cell);
                }
            }
        }
        let id = options::new_device(&id).map_err(|problem| {
            let is_separated = id.contains([';', '\t']);
            let commas = if is_separated { "; separate cells with commas" } else { "" };
            wrong(format!("{problem}, found {id:?}{commas}"))
        })?;
        if let Some(first) = lines.insert(id.clone(), line) {
            return Err(wrong(format!("expected each id once, found {id} in line {first} already")));
        }
        devices.push(ImportedDevice { id, channel, tags });
    }
    Ok(devices)
}

/// What the columns below a heading are.
fn columns(heading: &[String]) -> Result<Vec<Column>, String> {
    let named = |cell: &String| match name_of(cell).as_str() {
        "channel" => Ok(Column::Channel),
        "tag" | "tags" => Ok(Column::Tag),
        name if HEADINGS.contains(&name) => Ok(Column::Id),
        _ => Err(format!("expected columns id, channel and tags, found {cell:?}; take it out")),
    };
    let columns: Vec<_> = heading.iter().map(named).collect::<Result<_, _>>()?;
    for once in [Column::Id, Column::Channel] {
        if columns.iter().filter(|column| **column == once).count() > 1 {
            return Err(format!("expected one column of each kind, found {heading:?}"));
        }
    }
    Ok(columns)
}

/// A name in a heading, as it is known here.
fn name_of(cell: &str) -> String {
    cell.to_ascii_lowercase().replace([' ', '-'], "_")
}

/// A line of a CSV file: its number, and its cells.
type Line = (usize, Vec<String>);

/// The cells of a CSV file.
struct Rows {
    heading: Option<Line>,
    lines: Vec<Line>,
}

/// The cells of a CSV file (RFC 4180) with their line numbers, without empty lines. A cell ends with its line.
fn rows(text: &str) -> Result<Rows, String> {
    // Spreadsheets begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Old ones end lines with CR alone.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut rows = Rows { heading: None, lines: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if line.trim().is_empty() {
            continue;
        }
        let cells = cells(line).ok_or_else(|| format!("line {line_number}: a quote that does not end"))?;
        // The ids need not be the first column, as long as the others are known.
        let is_heading = |cell: &String| HEADINGS.contains(&name_of(cell).as_str());
        let is_first = rows.heading.is_none() && rows.lines.is_empty();
        if is_first && (is_heading(&cells[0]) || cells.iter().any(is_heading) && columns(&cells).is_ok()) {
            rows.heading = Some((line_number, cells));
        } else {
            rows.lines.push((line_number, cells));
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
            "id\rSN-1\r\rAA:BB:CC:DD:EE:FF,beta,hall,attic\r",
            "device_id\n \"SN-1\" \n\"AA:BB:CC:DD:EE:FF\" , beta,\"hall\",attic",
        ] {
            assert_eq!(of(text), both, "{text:?}");
        }
        for text in [
            "id,tags,channel\nSN-1\nAA:BB:CC:DD:EE:FF,hall,beta\n",
            "Tag,Channel,Serial-Number\n,,SN-1\nhall,beta,AA:BB:CC:DD:EE:FF\n",
        ] {
            let expected = [row("SN-1", "", ""), row("AA:BB:CC:DD:EE:FF", "beta", "hall")];
            assert_eq!(of(text), expected, "{text:?}");
        }
        // A device may have the name that a heading has, but not in the first line.
        assert_eq!(of("SN-1\nid\n"), [row("SN-1", "", ""), row("id", "", "")]);
        for heading in ["serial", "Serial Number", "SN", "MAC", "mac-address", "Device", "device_id,channel"]
        {
            assert_eq!(of(&format!("{heading}\nSN-1\nmac\n")), [row("SN-1", "", ""), row("mac", "", "")]);
        }
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
            (
                "serial_number,model\nZ1,beta\n",
                "line 1: expected columns id, channel and tags, found \"model\"",
            ),
            ("id,channel,channel\nZ1\n", "line 1: expected one column of each kind"),
            ("id,tags,channel\na,b,beta,gamma\n", "line 2: expected one channel, found \"gamma\" too"),
            ("a,Beta\n", "line 1: expected lower-case letters"),
            ("a,beta,UPPER\n", "line 1: "),
            (
                "a;beta\n",
                "line 1: expected letters, digits, `.`, `_`, `:` and `-` only, found \"a;beta\"; separate cells with commas",
            ),
            ("a\n\"b\n", "line 2: a quote that does not end"),
            (",beta\n", "line 1: expected 1 to 64 characters"),
        ] {
            let told = devices(text).unwrap_err();
            assert!(told.starts_with(expected), "{text:?}: {told}");
        }
    }
}
