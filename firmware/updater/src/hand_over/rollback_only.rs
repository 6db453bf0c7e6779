//! A chip without a chain-loader of ours: the bootloader starts the application, by otadata. Such a chip needs the
//! rollback layout.

use flashfmt::image::ImageSummary;

/// There is no driver of ours for this chip's SHA engine.
pub(crate) use sha2::Sha256;

/// No start belongs to the application before the updater has written otadata.
pub(crate) fn hand_over_if_due() {}

/// Asked for layouts without otadata only: in these nothing could start an application here.
pub(crate) fn can_start(_: &ImageSummary) -> bool {
    false
}
