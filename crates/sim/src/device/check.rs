//! What is looked at before an application is started without a pit stop.

use std::error::Error;

use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::AppDescriptor;
use flashfmt::image::{ImageSummary, Outline, Progress, StreamVerifier};
use sha2::{Digest, Sha256};
use updater_io::early::Depth;
use updater_io::region::Region;

use crate::flash::{SECTOR_BYTES, SimFlash};

/// What a chain-loader looks at before it starts an image.
// By its name `tests/heap.rs` tells the host's memory from the device's.
#[inline(never)]
pub(super) fn check(
    flash: &mut SimFlash,
    region: Region,
    depth: Depth,
) -> Result<ImageSummary, Box<dyn Error>> {
    match depth {
        Depth::Full => {
            let mut verifier = StreamVerifier::new(region.size_bytes);
            let mut sector = [0; SECTOR_BYTES as usize];
            for offset in (0..region.size_bytes).step_by(sector.len()) {
                flash.read(region.offset + offset, &mut sector)?;
                if let Progress::Done { .. } = verifier.update(&sector)? {
                    break;
                }
            }
            Ok(verifier.finish()?)
        }
        Depth::Structure => {
            let outline = Outline::read(region.size_bytes, |offset, bytes| {
                flash.read(region.offset + offset, bytes).map_err(Box::<dyn Error>::from)
            })?;
            Ok(seen_from_outside(flash, region, &outline))
        }
    }
}

/// The rest of a summary, for whoever watches the simulation. The device itself reads no more than the outline.
fn seen_from_outside(flash: &SimFlash, region: Region, outline: &Outline) -> ImageSummary {
    let Outline { header, segments, image_bytes } = *outline;
    let image = &flash.bytes()[region.offset as usize..][..image_bytes as usize];
    let first = segments.as_slice().first();
    let app_desc = first.and_then(|segment| {
        AppDescriptor::parse(&image[segment.data_offset as usize..][..segment.len as usize]).ok()
    });
    ImageSummary { header, image_bytes, digest: Sha256::digest(image).into(), segments, app_desc }
}
