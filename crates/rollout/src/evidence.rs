//! How much evidence a wave needs that a release is good.

use serde::{Deserialize, Serialize};

use crate::Percent;

/// How many devices of a wave must be healthy with the release before the next wave opens: a share of the wave, but no
/// fewer than a minimum, and of a wave that has fewer devices than that, all.
///
/// | devices of the wave | healthy ones that the default asks for |
/// | --- | --- |
/// | 1 | 1 |
/// | 3 | 3 |
/// | 20 | 10 |
/// | 2,000 | 1,000 |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = RolloutEvidence))]
pub struct Evidence {
    /// No fewer devices than this, at least 1; of a smaller wave all.
    pub min_healthy: u64,
    /// No smaller share of the wave's devices than this.
    pub min_healthy_percent: Percent,
}

impl Default for Evidence {
    /// Half of the wave, and at least 3 devices.
    fn default() -> Self {
        Self { min_healthy: 3, min_healthy_percent: Percent::HALF }
    }
}

impl Evidence {
    /// How many healthy devices a wave of so many needs: at least one, and no more than it has.
    #[must_use]
    pub fn needed(&self, devices: u64) -> u64 {
        let share = self.min_healthy_percent.of(devices);
        share.max(self.min_healthy.min(devices)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_waves_need_all_and_large_ones_half() {
        let needed = [0, 1, 2, 3, 4, 6, 7, 20, 2000].map(|devices| Evidence::default().needed(devices));
        assert_eq!(needed, [1, 1, 2, 3, 3, 3, 4, 10, 1000]);
        let strict = Evidence { min_healthy: 50, min_healthy_percent: Percent::default() };
        assert_eq!([1, 49, 51, 2000].map(|devices| strict.needed(devices)), [1, 49, 50, 50]);
    }

    proptest! {
        /// Every wave can show what it needs, and none without a device.
        #[test]
        fn what_is_needed_is_possible(
            min_healthy in 1..10_000_u64,
            hundredths in 0..=10_000_u32,
            devices in 1..5_000_000_u64,
        ) {
            let percent = Percent::try_from(f64::from(hundredths) / 100.0).unwrap();
            let needed = Evidence { min_healthy, min_healthy_percent: percent }.needed(devices);
            prop_assert!((1..=devices).contains(&needed), "{needed} of {devices}");
        }
    }
}
