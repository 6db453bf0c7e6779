//! No image writes flash with interrupts on: what they run is in flash, which cannot be read while it is busy. Asked of
//! the features that cargo resolves, since a crate in between can switch one on.

use anyhow::ensure;

/// The crate that writes flash.
const DRIVER: &str = "esp-storage";
/// Its feature that keeps interrupts off meanwhile.
const FEATURE: &str = "critical-section";

/// What `cargo tree` is to print of each package, with `--prefix none`.
pub(super) const FORMAT: &str = "{p}|{f}";

/// Checks the packages of an image as `cargo tree` printed them.
///
/// Errors: the flash driver is among them, without the feature.
pub(super) fn check(tree: &str) -> anyhow::Result<()> {
    let drivers = tree.lines().filter_map(|line| {
        let (package, features) = line.split_once('|')?;
        (package.split(' ').next() == Some(DRIVER)).then_some(features)
    });
    for features in drivers {
        // A package that was listed before ends in ` (*)`.
        let mut features = features.trim_end_matches(" (*)").split(',');
        ensure!(
            features.any(|feature| feature == FEATURE),
            "expected the feature {FEATURE} on {DRIVER}, found it without (firmware/Cargo.toml)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_without_the_feature_is_found() {
        let others = "hello v0.1.0 (/x)|\nesp-hal v1.2.2|critical-section-impl,rt\n";
        assert!(check(others).is_ok());
        assert!(check(&format!("{others}esp-storage v0.10.0|critical-section,esp32c3\n")).is_ok());
        assert!(check(&format!("{others}esp-storage v0.10.0|esp32c3,critical-section (*)\n")).is_ok());
        for features in ["", "esp32c3", "esp32c3,embedded-storage (*)"] {
            let error = check(&format!("{others}esp-storage v0.10.0|{features}\n")).unwrap_err();
            assert!(error.to_string().contains("critical-section"), "{features:?}");
        }
    }
}
