//! `--wifi`: which networks a device knows.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use console::Term;
use updater_io::country::{COUNTRIES, CountryCode};
use updater_io::platform::WifiCredentials;
use updater_io::vault::MAX_WIFI_NETWORKS;

use crate::failure::Failure;

/// Where passphrases are looked for when there is no file.
const PASSPHRASE_VARIABLE: &str = "PITSTOP_WIFI_PASSPHRASE";

/// What a passphrase is (IEEE 802.11-2020 section J.4.1; 64 digits are the key itself). Off-spec: access points take other
/// letters than those of ASCII as well.
const PASSPHRASE: &str = "8 to 63 bytes of text, or a key as 64 hexadecimal digits";

/// The longest network name, in bytes (IEEE 802.11-2020 section 9.4.2.2).
const MAX_SSID_BYTES: usize = 32;

/// Options for the networks. A passphrase is no option: other users of a machine can read those.
#[derive(Debug, Args)]
#[command(next_help_heading = "Wi-Fi")]
pub(crate) struct WifiOptions {
    /// A network that the device joins, best first; may be given up to 8 times
    #[arg(long = "wifi", value_name = "SSID", value_parser = ssid)]
    networks: Vec<String>,

    /// A file with the passphrases, one line for each --wifi in the same order; an empty line for an open network.
    /// Without it PITSTOP_WIFI_PASSPHRASE is read in the same form, and without that you are asked
    #[arg(long = "wifi-passphrase-file", value_name = "FILE", requires = "networks")]
    passphrase_file: Option<PathBuf>,

    /// Where the device is, in two letters such as DE: on which channels it may send. 01 keeps to the channels that are
    /// allowed everywhere
    #[arg(long = "wifi-country", value_name = "CODE", value_parser = country, default_value_t)]
    country: CountryCode,
}

/// What a device knows of Wi-Fi.
#[derive(Debug, Default)]
pub(crate) struct Wifi {
    /// The networks, best first.
    pub(crate) networks: Vec<WifiCredentials>,
    /// Where the device is.
    pub(crate) country: CountryCode,
}

const _: () = assert!(MAX_WIFI_NETWORKS == 8, "the help text above names the number");

impl WifiOptions {
    /// The networks with their passphrases, and the country.
    ///
    /// # Errors
    /// [`Failure`] when there are too many networks, or a passphrase is missing and nobody can be asked.
    pub(crate) fn wifi(self) -> Result<Wifi, Failure> {
        let country = self.country;
        Ok(Wifi { networks: self.credentials()?, country })
    }

    fn credentials(self) -> Result<Vec<WifiCredentials>, Failure> {
        let Self { networks, passphrase_file, country: _ } = self;
        if networks.len() > MAX_WIFI_NETWORKS {
            let found = networks.len();
            return Err(Failure::usage(format!(
                "expected at most {MAX_WIFI_NETWORKS} Wi-Fi networks, found {found}"
            )));
        }
        if networks.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(path) = passphrase_file {
            let lines = std::fs::read_to_string(&path).map_err(|error| {
                Failure::new(format!("the passphrases in {} cannot be read: {error}", path.display()))
            })?;
            return pair(networks, &lines, &path.display().to_string());
        }
        match std::env::var(PASSPHRASE_VARIABLE) {
            Ok(lines) => pair(networks, &lines, PASSPHRASE_VARIABLE),
            Err(_) => networks.into_iter().map(ask).collect(),
        }
    }
}

/// Each network with its line. Editors of Windows begin a file with a byte order mark.
fn pair(networks: Vec<String>, lines: &str, from: &str) -> Result<Vec<WifiCredentials>, Failure> {
    let lines = lines.strip_prefix('\u{FEFF}').unwrap_or(lines);
    let (expected, found) = (networks.len(), lines.lines().count());
    if expected != found {
        return Err(Failure::new(format!(
            "expected one passphrase in a line of its own for each --wifi ({expected}) in {from}, found {found}"
        ))
        .hint("an open network has an empty line"));
    }
    networks.into_iter().zip(lines.lines()).map(|(ssid, line)| credentials(ssid, line.to_owned())).collect()
}

/// A network and its passphrase, which may be none.
fn credentials(ssid: String, passphrase: String) -> Result<WifiCredentials, Failure> {
    let refuse = |found: &str| {
        let expected = format!("expected as passphrase of {ssid} {PASSPHRASE}, found {found}");
        Err(Failure::new(expected).hint("an open network has an empty line"))
    };
    let bytes = passphrase.as_bytes();
    match bytes.len() {
        0 => {}
        _ if passphrase.contains(char::is_control) => return refuse("control characters in it"),
        8..=63 => {}
        64 if bytes.iter().all(u8::is_ascii_hexdigit) => {}
        64 => return refuse("64 bytes that are not all hexadecimal digits"),
        found => return refuse(&format!("{found} bytes")),
    }
    Ok(WifiCredentials { ssid, passphrase: passphrase.into() })
}

/// Asks on the terminal, without showing what is typed.
fn ask(ssid: String) -> Result<WifiCredentials, Failure> {
    let terminal = Term::stderr();
    if !io::stdin().is_terminal() || !terminal.is_term() {
        return Err(Failure::new(format!(
            "the passphrase of {ssid} is not known, and there is no terminal to ask on"
        ))
        .hint(format!("give it with --wifi-passphrase-file or in {PASSPHRASE_VARIABLE}")));
    }
    let asked = terminal
        .write_str(&format!("Passphrase of {ssid} (empty for an open network): "))
        .and_then(|()| terminal.read_secure_line());
    let passphrase = asked.map_err(|error| Failure::new(format!("the terminal cannot be read: {error}")))?;
    credentials(ssid, passphrase)
}

fn country(text: &str) -> Result<CountryCode, String> {
    CountryCode::parse(text)
        .ok_or_else(|| format!("expected one of the country codes that the radio knows ({COUNTRIES})"))
}

/// A network's name.
pub(super) fn ssid(text: &str) -> Result<String, String> {
    if (1..=MAX_SSID_BYTES).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected a network name of 1 to {MAX_SSID_BYTES} bytes, found {}", text.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn lines_go_with_networks_in_their_order() {
        let paired = pair(names(&["home", "open"]), "a passphrase\r\n\r\n", "file").unwrap();
        let expected = [("home", "a passphrase"), ("open", "")];
        let found: Vec<_> =
            paired.iter().map(|network| (network.ssid.as_str(), network.passphrase.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_passphrase_is_one_that_a_radio_takes() {
        let key = "0123456789abcdef".repeat(4);
        for good in ["", "12345678", "schlüssel", &"x".repeat(63), &key, "\u{feff}secret123"] {
            let paired = pair(names(&["home"]), &format!("{good}\n"), "file").unwrap();
            assert_eq!(paired[0].passphrase.as_str(), good.trim_start_matches('\u{feff}'));
        }
        let not_a_key = format!("Z{}", &key[1..]);
        for (bad, found) in [
            ("1234567", "7 bytes"),
            (not_a_key.as_str(), "64 bytes that are not all hexadecimal digits"),
            ("secret\u{0}123", "control characters"),
            (&"x".repeat(65), "65 bytes"),
        ] {
            let failure = pair(names(&["home"]), bad, "file").unwrap_err();
            assert!(failure.message().contains(&format!("found {found}")), "{}", failure.message());
            assert!(!failure.message().contains(bad));
        }
    }

    #[test]
    fn a_missing_line_is_told_and_no_line_is_shown() {
        let failure = pair(names(&["home", "work"]), "secret words\n", "file").unwrap_err();
        assert!(failure.message().contains("(2) in file, found 1"), "{}", failure.message());
        assert!(!failure.message().contains("secret"));
    }
}
