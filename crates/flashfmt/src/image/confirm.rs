//! Applications that are known to confirm themselves: then the bootloader of the otadata-rollback layout does not return
//! to the updater any more.

use crate::app_desc::AppDescriptor;
use crate::text::Text;

/// Files of the Arduino core (`cores/esp32/esp32-hal-*.c`) are named in its log messages: an image with these bytes has the
/// core, whatever its project name.
pub const ARDUINO_FILES: &[u8] = b"esp32-hal-";

/// The first ESP-IDF that confirms an image before `app_main` by default: "Application Rollback Enabled by Default" of its
/// migration guide, `release-6.x/6.2/system` (`CONFIG_BOOTLOADER_APP_ROLLBACK_CONFIRM_ON_STARTUP`).
const CONFIRMS_SINCE: (u32, u32) = (6, 2);

/// Why an image is known to confirm itself. Displays as a warning with what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmsItself {
    /// `initArduino` of arduino-esp32 `cores/esp32/esp32-hal-misc.c`, before `setup()`.
    ArduinoCore,
    /// ESP-IDF of this version does it by default, before `app_main()`.
    EspIdf(Text<32>),
}

impl ConfirmsItself {
    /// What is known of an image with this descriptor; `names_arduino_files` says whether [`ARDUINO_FILES`] are in it.
    /// `None`: nothing is known, which is not to say that it does not.
    #[must_use]
    pub fn of(app_desc: Option<&AppDescriptor>, names_arduino_files: bool) -> Option<Self> {
        if names_arduino_files || app_desc.is_some_and(AppDescriptor::is_of_arduino_libraries) {
            return Some(Self::ArduinoCore);
        }
        let idf = app_desc?.idf_ver;
        (idf_version(idf.as_str())? >= CONFIRMS_SINCE).then_some(Self::EspIdf(idf))
    }
}

impl core::fmt::Display for ConfirmsItself {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let consequence =
            "the updater does not start again after it ran, so that the device gets no update any more";
        match self {
            Self::ArduinoCore => write!(
                f,
                "the image has the Arduino core, which confirms itself before setup(): {consequence}. Define \
                 `extern \"C\" bool verifyRollbackLater() {{ return true; }}`, or use a chain-load layout"
            ),
            Self::EspIdf(version) => write!(
                f,
                "the image was built with ESP-IDF {}, which confirms itself before app_main() unless told otherwise: \
                 {consequence}. Build it with CONFIG_BOOTLOADER_APP_ROLLBACK_CONFIRM_BY_APP, or use a chain-load layout",
                version.as_str()
            ),
        }
    }
}

/// Major and minor of a version such as `v6.2`, `v5.3.2-584-g489d7a2b3a-dirty` or `6.2-dev`.
fn idf_version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim_start_matches('v');
    let (major, rest) = text.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((major.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_desc::ARDUINO_PROJECT;

    fn built_with(project: &str, idf: &str) -> Option<ConfirmsItself> {
        let mut app_desc = AppDescriptor::new(project, "1");
        app_desc.idf_ver = Text::truncated(idf);
        ConfirmsItself::of(Some(&app_desc), false)
    }

    #[test]
    fn who_confirms_itself_is_known_by_descriptor_and_file_names() {
        for idf in ["v6.2", "6.2-dev-1234", "v6.10.1", "v7.0-beta1"] {
            assert_eq!(built_with("lamp", idf), Some(ConfirmsItself::EspIdf(Text::truncated(idf))), "{idf}");
        }
        for idf in ["", "v6.1", "v5.3.2-584-g489d7a2b3a-dirty", "v4.4.3", "esp-hal", "v6.x"] {
            assert_eq!(built_with("lamp", idf), None, "{idf}");
        }
        assert_eq!(built_with(ARDUINO_PROJECT, "v4.4.3"), Some(ConfirmsItself::ArduinoCore));
        assert_eq!(ConfirmsItself::of(None, true), Some(ConfirmsItself::ArduinoCore));
        assert_eq!(ConfirmsItself::of(None, false), None);
    }
}
