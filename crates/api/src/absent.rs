//! What is absent, and what is null.

use serde::{Deserialize, Deserializer};

/// Tells a member that is null from one that is absent: `#[serde(default, deserialize_with = "present")]`.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
