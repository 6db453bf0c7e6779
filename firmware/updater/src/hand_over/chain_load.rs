//! Chain-load: the updater starts the application itself.

use chainload::{ChainLoader, Check, LoadPlan, Slot};
use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::image::{ImageHeader, Segments};
use updater_io::early::Depth;
use updater_io::region::Region;

use crate::chip::Loader;
use crate::entry;

/// The chip's SHA engine.
pub(crate) type Sha256 = <Loader as ChainLoader>::Sha256;

/// What the chain-loader would do.
pub(super) type Plan = LoadPlan;

/// Whether an image can be started does not depend on its slot: each begins at a page of the MMU.
const ANY_SLOT: Slot = Slot { offset: 0, size_bytes: 16 << 20 };

/// Whether the chain-loader has room to start an image with these headers.
pub(crate) fn can_start(header: &ImageHeader, segments: &Segments) -> bool {
    LoadPlan::new(Loader::MEMORY, ANY_SLOT, header, segments).is_ok()
}

/// Judges what is in a slot.
pub(super) fn check<F: ReadNorFlash>(flash: &mut F, region: Region, depth: Depth) -> Option<Plan> {
    let slot = Slot { offset: region.offset, size_bytes: region.size_bytes };
    let check = match depth {
        Depth::Full => Check::Full,
        Depth::Structure => Check::Structure,
    };
    Loader::plan(slot, check, flash).ok()
}

/// Starts the application. To be called before any peripheral is.
pub(super) fn start(plan: &Plan) -> ! {
    // SAFETY: the plan was made for this chip and is on the stack; no peripheral has been started.
    unsafe { Loader::start(plan, entry::found()) }
}
