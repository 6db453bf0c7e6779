//! Whether a second-stage bootloader was built with `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`.
//!
//! Its machine code does not tell in a way that holds across versions and chips, and the app descriptor's counterpart
//! (`esp_bootloader_desc_t`) has no field for it. What can be known comes from three places, each of them sure.

use flashfmt::image::{HASH_BYTES, HEADER_BYTES};

use super::bootloader;
use crate::inspect::ImageFile;

/// Only code for rollback has these words (ESP-IDF 4.x to v6.1, `bootloader_support/src/bootloader_utility.c`): the first
/// in a log message of level debug, the second of a bootloader with anti-rollback, which has rollback too.
const WITH: [&[u8]; 2] =
    [b"is selected as new and marked PENDING_VERIFY", b"check secure version of app for anti rollback"];

/// A log message of level debug that every bootloader has whose log level is as high (same file). With it and without
/// [`WITH`] there is no rollback.
const DEBUG_LOG: &[u8] = b": sequence values 0x";

/// As the configuration header beside the bootloader has it (`build/bootloader/config/sdkconfig.h`).
const CONFIG: &str = "CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE";

/// What is known of a bootloader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// It has rollback.
    Enabled,
    /// It has none; how that is known.
    Disabled(&'static str),
    /// Nothing tells.
    Unknown,
}

impl Rollback {
    /// Looks at a bootloader, and at the `sdkconfig.h` of its build if there is one.
    pub(crate) fn of(bootloader: &ImageFile, sdkconfig_h: Option<&str>) -> Self {
        let has = |words: &[u8]| bootloader.bytes.windows(words.len()).any(|window| window == words);
        if WITH.iter().any(|words| has(words)) {
            return Self::Enabled;
        }
        if has(DEBUG_LOG) {
            return Self::Disabled("its debug messages say nothing of rollback");
        }
        if is_bundled(bootloader) {
            return Self::Disabled("it is the one that espflash brings");
        }
        match sdkconfig_h {
            Some(config) if is_defined(config) => Self::Enabled,
            Some(_) => Self::Disabled("config/sdkconfig.h beside it does not enable it"),
            None => Self::Unknown,
        }
    }
}

/// `#define CONFIG_… 1`; what is off is not defined at all.
fn is_defined(config: &str) -> bool {
    config.lines().any(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next(), words.next()) == (Some("#define"), Some(CONFIG), Some("1"))
    })
}

/// Whether it is one of espflash's, whatever flash its header was made for.
fn is_bundled(image: &ImageFile) -> bool {
    fn body(bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(HEADER_BYTES..bytes.len().checked_sub(HASH_BYTES)?)
    }
    let header = image.summary.header;
    let flash_bytes = header.flash_bytes().unwrap_or(4 << 20);
    bootloader::bundled(header.chip, flash_bytes).is_ok_and(|bundled| body(&bundled) == body(&image.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashfmt::Chip;
    use flashfmt::image::compose::Composer;

    fn with(words: &[u8]) -> ImageFile {
        let bytes = Composer::new(Chip::Esp32C3, 0x403D_0000).segment(0x403D_0000, words).build().unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    #[test]
    fn what_the_bytes_tell_is_sure() {
        let enabled = with(b"otadata[%d] is selected as new and marked PENDING_VERIFY state");
        assert_eq!(Rollback::of(&enabled, None), Rollback::Enabled);
        assert_eq!(Rollback::of(&enabled, Some("")), Rollback::Enabled, "the bytes are what runs");
        let debug = with(b"otadata[0]: sequence values 0x%08x");
        assert!(matches!(Rollback::of(&debug, None), Rollback::Disabled(_)));
        assert_eq!(Rollback::of(&with(b"Defaulting to factory image"), None), Rollback::Unknown);
    }

    #[test]
    fn the_bundled_ones_have_none() {
        for (chip, flash_bytes) in
            [(Chip::Esp32C3, 4 << 20), (Chip::Esp32C6, 8 << 20), (Chip::Esp32, 16 << 20)]
        {
            let image = ImageFile::parse(bootloader::bundled(chip, flash_bytes).unwrap()).unwrap();
            assert_eq!(
                Rollback::of(&image, None),
                Rollback::Disabled("it is the one that espflash brings"),
                "{chip}"
            );
        }
    }

    #[test]
    fn the_configuration_of_the_build_tells() {
        let silent = with(b"Defaulting to factory image");
        let on = "#pragma once\n#define CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE 1\n";
        assert_eq!(Rollback::of(&silent, Some(on)), Rollback::Enabled);
        for off in ["", "#define CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE_X 1\n"] {
            assert!(matches!(Rollback::of(&silent, Some(off)), Rollback::Disabled(_)), "{off}");
        }
    }
}
