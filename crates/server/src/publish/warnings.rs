//! What a publisher is warned of: it is published all the same, and the warning stays with the release.

use flashfmt::app_desc::AppDescriptor;

/// Project name in every image of the Arduino core (arduino-esp32): its libraries are built beforehand, the app descriptor
/// with them. Only a sketch that is built as a component of an ESP-IDF project has a name of its own.
const ARDUINO_PROJECT: &str = "arduino-lib-builder";

/// Files of the Arduino core (`cores/esp32/esp32-hal-*.c`) are named in its log messages: an image with these bytes has the
/// core, whatever its project name.
pub(super) const ARDUINO_FILES: &[u8] = b"esp32-hal-";

/// The first ESP-IDF that confirms an image before `app_main` by default: "Application Rollback Enabled by Default" of its
/// migration guide, `release-6.x/6.2/system` (`CONFIG_BOOTLOADER_APP_ROLLBACK_CONFIRM_ON_STARTUP`).
const CONFIRMS_SINCE: (u32, u32) = (6, 2);

/// Why an image is known to confirm itself: then the bootloader of the otadata-rollback layout does not return to the
/// updater any more. `None`: nothing is known, which is not to say that it does not.
pub(super) fn confirms_itself(app: Option<&AppDescriptor>, names_arduino_files: bool) -> Option<String> {
    let consequence =
        "the updater does not start again after it ran, so that the device gets no update any more";
    let project = app.map_or("", |app| app.project_name.as_str());
    // `initArduino` of arduino-esp32 `cores/esp32/esp32-hal-misc.c`, before `setup()`.
    if project == ARDUINO_PROJECT || names_arduino_files {
        return Some(format!(
            "the image has the Arduino core, which confirms itself before setup(): {consequence}. Define \
             `extern \"C\" bool verifyRollbackLater() {{ return true; }}`, or use a chain-load layout"
        ));
    }
    let idf = app?.idf_ver.as_str();
    (idf_version(idf)? >= CONFIRMS_SINCE).then(|| {
        format!(
            "the image was built with ESP-IDF {idf}, which confirms itself before app_main() unless told otherwise: \
             {consequence}. Build it with CONFIG_BOOTLOADER_APP_ROLLBACK_CONFIRM_BY_APP, or use a chain-load layout"
        )
    })
}

/// Major and minor of a version such as `v6.2`, `v5.3.2-584-g489d7a2b3a-dirty` or `6.2-dev`.
fn idf_version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim_start_matches('v');
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A release that is there already.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Namesake {
    pub(crate) sequence: i64,
    pub(crate) version: String,
    pub(crate) digest: String,
}

/// What is odd about a release in the light of the releases that have its digest or its version.
pub(super) fn mix_ups(digest: &str, version: &str, namesakes: &[Namesake]) -> impl Iterator<Item = String> {
    namesakes.iter().map(move |other| {
        let Namesake { sequence, version: their_version, .. } = other;
        if other.digest == digest {
            format!(
                "release {sequence} ({their_version}) is the same image: devices tell releases apart by the digest, and \
                 one that runs it needs no install"
            )
        } else {
            format!("release {sequence} is called {version} too, and is another image")
        }
    })
}

#[cfg(test)]
mod tests {
    use flashfmt::Text;

    use super::*;

    fn built_with(project: &str, idf: &str) -> Option<String> {
        let mut app = AppDescriptor::new(project, "1");
        app.idf_ver = Text::truncated(idf);
        confirms_itself(Some(&app), false)
    }

    #[test]
    fn who_confirms_itself_is_known_by_descriptor_and_file_names() {
        for idf in ["v6.2", "6.2-dev-1234", "v6.10.1", "v7.0-beta1"] {
            assert!(built_with("lamp", idf).unwrap().contains(idf), "{idf}");
        }
        for idf in ["", "v6.1", "v5.3.2-584-g489d7a2b3a-dirty", "v4.4.3", "esp-hal", "v6.x"] {
            assert_eq!(built_with("lamp", idf), None, "{idf}");
        }
        assert!(built_with(ARDUINO_PROJECT, "v4.4.3").unwrap().contains("Arduino"));
        assert!(confirms_itself(None, true).unwrap().contains("Arduino"));
        assert_eq!(confirms_itself(None, false), None);
    }
}
