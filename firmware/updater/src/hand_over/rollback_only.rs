//! A chip without a chain-loader of ours: the bootloader starts the application, by otadata. Such a chip needs the
//! rollback layout.

use core::convert::Infallible;

use flashfmt::image::{ImageHeader, Segments};
use updater_io::early::Depth;
use updater_io::region::Region;

/// There is no driver of ours for this chip's SHA engine.
pub(crate) use sha2::Sha256;

/// What the chain-loader would start.
pub(super) type Plan = Infallible;

/// Asked for layouts without otadata only: in these nothing could start an application here.
pub(crate) fn can_start(_: &ImageHeader, _: &Segments) -> bool {
    false
}

/// See [`can_start`].
pub(super) fn check<F>(_: &mut F, _: Region, _: Depth) -> Option<Plan> {
    None
}

/// There is no plan to perform.
pub(super) fn start(plan: &Plan) -> ! {
    match *plan {}
}
