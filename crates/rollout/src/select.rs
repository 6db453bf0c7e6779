//! Which devices a wave takes.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Percent;

/// The most tags that one wave names.
pub const MAX_TAGS: usize = 20;

/// The longest tag, in bytes.
const MAX_TAG_BYTES: usize = 64;

/// Which devices a wave takes. In JSON `{"percent": 10}` or `{"tags": ["lab"]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutSelect))]
pub enum Select {
    /// So large a share of the fleet, chosen by [`bucket`].
    Percent(Percent),
    /// Devices with any of these tags.
    Tags(Vec<String>),
}

/// The one device of a wave by share in which nobody else is. A share of a small fleet may be less than a device, and a
/// wave without a device shows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The wave, from 0.
    pub wave: usize,
    /// The device's id.
    pub device: String,
}

impl Select {
    /// Whether a device is taken. `bucket` is its place in the rollout's order of the fleet.
    pub(crate) fn takes(&self, bucket: u16, tags: &[String]) -> bool {
        match self {
            Self::Percent(percent) => bucket < percent.hundredths(),
            Self::Tags(wanted) => wanted.iter().any(|tag| tags.contains(tag)),
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => percent.fmt(f),
            Self::Tags(tags) => write!(f, "tags {}", tags.join(", ")),
        }
    }
}

/// A device's place in a rollout's order of the fleet, from 0 to 9,999: the first 100 places are the first 1 %.
///
/// SHA-256 over rollout id, NUL and device id: the same at every check-in and on every instance of the server, and
/// another one in the next rollout, so that it is not always the same devices that go first.
#[must_use]
pub fn bucket(rollout: &str, device: &str) -> u16 {
    let digest = Sha256::new().chain_update(rollout).chain_update([0]).chain_update(device).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // Scales 0..2^64 down to 0..10,000; the quotient is below 10,000, the cast is exact.
    ((u128::from(u64::from_be_bytes(first)) * u128::from(Percent::PARTS)) >> 64) as u16
}

/// Checks a tag: 1 to 64 characters out of a-z 0-9 . _ -.
///
/// # Errors
/// What was expected and found.
pub fn check_tag(tag: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=MAX_TAG_BYTES).contains(&tag.len()) && tag.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = tag.chars().take(2 * MAX_TAG_BYTES).collect();
    Err(format!("expected a tag of 1 to {MAX_TAG_BYTES} characters out of a-z 0-9 . _ -, found {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_never_change() {
        // If this fails, do not change the test: running rollouts would choose other devices.
        assert_eq!(bucket("ro-1", "lamp-1"), 3221);
        assert_eq!(bucket("ro-1", "lamp-2"), 8995);
        assert_eq!(bucket("ro-2", "lamp-1"), 2347);
    }

    #[test]
    fn a_share_ends_before_its_own_number() {
        let first: Select = serde_json::from_str(r#"{"percent":1}"#).unwrap();
        assert_eq!([0, 99, 100, 9999].map(|place| first.takes(place, &[])), [true, true, false, false]);
        let all: Select = serde_json::from_str(r#"{"percent":100}"#).unwrap();
        assert!(all.takes(9999, &[]));
    }

    #[test]
    fn a_million_devices_spread_evenly() {
        let mut counts = vec![0_u32; 100];
        for number in 0..1_000_000 {
            counts[usize::from(bucket("ro-million", &format!("lamp-{number:07}"))) / 100] += 1;
        }
        // 10,000 expected in each per cent; the standard deviation is 100. Six of them never happen by chance.
        for (percent, count) in counts.into_iter().enumerate() {
            assert!((9_400..=10_600).contains(&count), "per cent {percent} has {count} devices");
        }
    }

    #[test]
    fn tags_are_checked() {
        assert_eq!(check_tag("lab.eu-1_a"), Ok(()));
        for tag in ["", "Lab", "a b", &"x".repeat(65)] {
            assert!(check_tag(tag).unwrap_err().contains("found"), "{tag:?}");
        }
    }
}
