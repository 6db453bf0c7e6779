//! Shares of a fleet.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A share from 0 % to 100 %, exact to 0.01 %. In JSON it is a number such as `0.5` or `100`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = f64))]
pub struct Percent(u16);

/// A number that is no share.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("expected a percentage from 0 to 100 in steps of 0.01, found {found}")]
pub struct PercentError {
    found: String,
}

impl Percent {
    /// The whole: 100 %.
    pub const ALL: Self = Self(Self::PARTS);

    /// 50 %.
    pub const HALF: Self = Self(Self::PARTS / 2);

    /// How many parts the whole has: one is 0.01 %.
    pub const PARTS: u16 = 10_000;

    /// The share in parts of 0.01 %.
    #[must_use]
    pub fn hundredths(self) -> u16 {
        self.0
    }

    /// Whether `part` of `whole` is more than this share. Exact: no rounding.
    #[must_use]
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::PARTS) > u128::from(whole) * u128::from(self.0)
    }

    /// Whether `part` of `whole` is at least this share. Exact: no rounding.
    #[must_use]
    pub fn is_reached_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(Self::PARTS) >= u128::from(whole) * u128::from(self.0)
    }

    /// The least number that is at least this share of `whole`.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let parts = u128::from(whole) * u128::from(self.0);
        // A share of a number is no larger than the number.
        u64::try_from(parts.div_ceil(u128::from(Self::PARTS))).unwrap_or(whole)
    }
}

impl TryFrom<f64> for Percent {
    type Error = PercentError;

    fn try_from(value: f64) -> Result<Self, PercentError> {
        let hundredths = (value * 100.0).round();
        // 0.07 * 100.0 is 7.000000000000001.
        if (0.0..=f64::from(Self::PARTS)).contains(&hundredths) && (value * 100.0 - hundredths).abs() < 1e-6 {
            // In range by the check above: the cast is exact.
            Ok(Self(hundredths as u16))
        } else {
            Err(PercentError { found: value.to_string() })
        }
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0) / 100.0
    }
}

impl FromStr for Percent {
    type Err = PercentError;

    /// A number with or without `%`.
    fn from_str(text: &str) -> Result<Self, PercentError> {
        let error = || PercentError { found: format!("{text:?}") };
        let number = text.trim().trim_end_matches('%').trim_end();
        Self::try_from(number.parse::<f64>().map_err(|_| error())?).map_err(|_| error())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hundredth_survives_json_and_text() {
        for hundredths in 0..=Percent::PARTS {
            let percent = Percent(hundredths);
            let json = serde_json::to_string(&percent).unwrap();
            assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), percent, "{json}");
            assert_eq!(percent.to_string().parse::<Percent>().unwrap(), percent);
        }
        assert_eq!(serde_json::from_str::<Percent>("100").unwrap(), Percent::ALL);
    }

    #[test]
    fn other_numbers_are_refused() {
        for text in ["-1", "100.01", "0.001", "1e300", "NaN", "inf", "", "ten"] {
            let error = text.parse::<Percent>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("expected a percentage from 0 to 100 in steps of 0.01, found {text:?}")
            );
        }
        assert!(serde_json::from_str::<Percent>("0.005").is_err());
    }

    #[test]
    fn a_share_is_exceeded_by_one_more_and_not_by_itself() {
        let five = "5".parse::<Percent>().unwrap();
        assert!(!five.is_exceeded_by(5, 100));
        assert!(five.is_exceeded_by(6, 100));
        assert!(five.is_exceeded_by(1, 19));
        assert!(!five.is_exceeded_by(1, 20));
        assert!(!Percent::ALL.is_exceeded_by(u64::MAX, u64::MAX));
        assert!(!Percent(0).is_exceeded_by(0, 0));
        assert!(Percent(0).is_exceeded_by(1, u64::MAX));
    }

    #[test]
    fn a_share_is_reached_by_the_least_number_that_it_is_of() {
        let five = "5".parse::<Percent>().unwrap();
        assert_eq!([0, 1, 20, 21, 100].map(|whole| five.of(whole)), [0, 1, 1, 2, 5]);
        assert!(five.is_reached_by(1, 20) && !five.is_reached_by(1, 21) && five.is_reached_by(0, 0));
        assert_eq!((Percent::ALL.of(u64::MAX), Percent(0).of(u64::MAX)), (u64::MAX, 0));
        assert!(Percent::ALL.is_reached_by(7, 7) && !Percent::ALL.is_reached_by(6, 7));
    }
}
