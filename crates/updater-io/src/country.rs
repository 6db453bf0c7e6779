//! Where the device is, as the radio has to know.

use core::fmt;

/// Where the device is, which says on which channels it may send: two letters (ISO 3166-1 alpha-2), or `01`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CountryCode([u8; 2]);

/// The codes that the radio knows, with spaces between them (ESP-IDF 5.5, `components/esp_wifi/include/esp_wifi.h`, `esp_wifi_set_country_code`).
pub const COUNTRIES: &str = "01 AT AU BE BG BR CA CH CN CY CZ DE DK EE ES FI FR GB GR HK HR HU IE IN IS IT JP KR LI LT LU LV \
     MT MX NL NO NZ PL PT RO SE SI SK TW US";

impl CountryCode {
    /// `01`, the radio's "world safe mode": sends on channels 1 to 11, which are allowed everywhere, and on others only
    /// where an access point's beacon says that it may (IEEE 802.11d).
    pub const WORLD: Self = Self(*b"01");

    /// Reads a code as [`CountryCode::as_str`] writes it; `None` for one that the radio does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        COUNTRIES.split(' ').any(|known| known == text).then_some(Self(code))
    }

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Nothing else than ASCII comes in.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Default for CountryCode {
    fn default() -> Self {
        Self::WORLD
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn countries() {
        for good in ["01", "DE", "US"] {
            assert_eq!(CountryCode::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "D", "de", "XX", "DEU", "01 ", " A", "ü"] {
            assert_eq!(CountryCode::parse(bad), None, "{bad:?}");
        }
        assert_eq!(CountryCode::default().as_str(), "01");
    }
}
