//! What `cargo xtask firmware` builds: one table, one row for each image.

use crate::image::Chip;
use crate::toolchain::{TARGET, TARGET_ESP32C6};

/// Size of the partition `factory` in every built-in layout (`layouts/*.csv`).
pub(super) const UPDATER_SLOT_BYTES: usize = 0xF_0000;

/// What the names of updaters begin with, before their chip.
#[cfg(feature = "gate")]
pub(crate) const UPDATER_PREFIX: &str = "updater-";

/// The images, in the order in which they are built.
pub(crate) const IMAGES: &[Image] = &[
    hello("hello-1.0.0", "1.0.0", Chip::Esp32c3),
    hello("hello-1.1.0", "1.1.0", Chip::Esp32c3),
    hello("hello-esp32c6", "1.0.0", Chip::Esp32c6),
    application("panicky"),
    application("hang"),
    application("sleeper"),
    application("nvs-eraser"),
    application("rubbish"),
    application("entry-state"),
    application("ticker"),
    updater("updater-esp32c3", Chip::Esp32c3, &["esp32c3", "wifi"]),
    updater("updater-esp32c3-qemu", Chip::Esp32c3, &["esp32c3", "qemu-eth"]),
    updater("updater-esp32c6", Chip::Esp32c6, &["esp32c6", "wifi"]),
];

/// One image.
pub(crate) struct Image {
    /// Of the file, without `.bin`; also what `--only` takes.
    pub(crate) name: &'static str,
    pub(crate) chip: Chip,
    pub(super) package: &'static str,
    /// Name of the program, and the project name in its app descriptor.
    pub(super) binary: &'static str,
    /// Version in the app descriptor; `None`: that of the package.
    pub(super) version: Option<&'static str>,
    pub(super) features: &'static [&'static str],
    pub(super) kind: Kind,
}

impl Image {
    /// The target's name as rustc has it built in.
    pub(super) fn target(&self) -> &'static str {
        match self.chip {
            Chip::Esp32c3 => TARGET,
            Chip::Esp32c6 => TARGET_ESP32C6,
        }
    }

    /// Whether a release has it: an updater for a chip, and not for an emulator.
    #[cfg(feature = "gate")]
    pub(crate) fn is_released(&self) -> bool {
        self.kind == Kind::Updater && self.features.contains(&"wifi")
    }

    /// The most bytes that it may have; `None` for applications, whose slot is their product's choice.
    ///
    /// What an updater leaves free of its slot is for what is fixed and added in the years a device is in use. The
    /// ESP32-C6's radio library is 80 KB larger than the ESP32-C3's.
    pub(super) fn most_bytes(&self) -> Option<usize> {
        match (self.kind, self.chip) {
            (Kind::Application, _) => None,
            (Kind::Updater, Chip::Esp32c3) => Some(829_000),
            (Kind::Updater, Chip::Esp32c6) => Some(UPDATER_SLOT_BYTES - 48 * 1024),
        }
    }
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes into an app slot. Uses nothing that its chip lacks.
    Application,
    /// Goes into `factory`. Uses rustls, which needs `Arc`.
    Updater,
}

/// `hello` takes its version from the environment, and its chip from a feature.
const fn hello(name: &'static str, version: &'static str, chip: Chip) -> Image {
    let features: &[&str] = match chip {
        Chip::Esp32c3 => &["esp32c3"],
        Chip::Esp32c6 => &["esp32c6"],
    };
    Image {
        name,
        chip,
        package: "hello",
        binary: "hello",
        version: Some(version),
        features,
        kind: Kind::Application,
    }
}

/// An application for the ESP32-C3 whose package, program and image have one name.
const fn application(name: &'static str) -> Image {
    Image {
        name,
        chip: Chip::Esp32c3,
        package: name,
        binary: name,
        version: Some("1.0.0"),
        features: &[],
        kind: Kind::Application,
    }
}

const fn updater(name: &'static str, chip: Chip, features: &'static [&'static str]) -> Image {
    Image {
        name,
        chip,
        package: "updater-firmware",
        binary: "pitstop-updater",
        version: None,
        features,
        kind: Kind::Updater,
    }
}

/// Names of all images, as `--only` takes them.
pub(super) fn names() -> Vec<&'static str> {
    IMAGES.iter().map(|image| image.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names = names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), IMAGES.len());
    }

    #[test]
    fn every_application_has_a_row() {
        let folder = crate::repository_root().join("firmware/apps");
        for application in std::fs::read_dir(folder).unwrap() {
            let application = application.unwrap().file_name();
            let built = IMAGES.iter().any(|image| *image.package == *application);
            assert!(built, "{} is not in the table", application.display());
        }
    }
}
