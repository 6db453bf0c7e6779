//! Where the parts of an image are, from its headers alone.

use super::header::SegmentHeader;
use super::{
    HASH_BYTES, HEADER_BYTES, ImageError, ImageHeader, SEGMENT_BYTES_LIMIT, SEGMENT_HEADER_BYTES, Segment,
    Segments, trailer_bytes,
};

/// What the headers of an image say. Its data has not been looked at: it may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The header.
    pub header: ImageHeader,
    /// The segments.
    pub segments: Segments,
    /// Length of the image with padding, checksum and appended hash.
    pub image_bytes: u32,
}

impl Outline {
    /// Reads the header and the segment headers of an image that must fit `limit_bytes`, the size of the slot, and
    /// checks them by the rules of [`StreamVerifier`](super::StreamVerifier). `read` fills its buffer from an offset
    /// in the slot; offsets and lengths are multiples of 4.
    ///
    /// # Errors
    /// [`ImageError`], and what `read` returns.
    pub fn read<E: From<ImageError>>(
        limit_bytes: u32,
        mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut record = [0; HEADER_BYTES];
        read(0, &mut record)?;
        let header = ImageHeader::parse(&record)?;
        if !header.hash_appended {
            return Err(ImageError::HashNotAppended.into());
        }
        let mut segments = Segments::default();
        let mut position = HEADER_BYTES as u32;
        for index in 0..header.segment_count {
            let mut record = [0; SEGMENT_HEADER_BYTES];
            read(position, &mut record)?;
            let data_offset = position + SEGMENT_HEADER_BYTES as u32;
            let segment =
                check_segment(&header, index, SegmentHeader::parse(&record), data_offset, limit_bytes)?;
            segments.push(segment);
            position = data_offset + segment.len;
        }
        let image_bytes = position + trailer_bytes(position) + HASH_BYTES as u32;
        Ok(Self { header, segments, image_bytes })
    }
}

/// The rules for segment number `index`: its length, the MMU's rule for mapped data, and that the image with it and
/// the least that must follow fits `limit_bytes`. Then the next header, if any, is inside the slot too.
pub(super) fn check_segment(
    header: &ImageHeader,
    index: u8,
    segment: SegmentHeader,
    data_offset: u32,
    limit_bytes: u32,
) -> Result<Segment, ImageError> {
    let SegmentHeader { load_addr, data_bytes } = segment;
    if !data_bytes.is_multiple_of(4) || data_bytes >= SEGMENT_BYTES_LIMIT {
        return Err(ImageError::SegmentLength { index, found_bytes: data_bytes });
    }
    let page_bytes = header.chip.min_mmu_page_bytes();
    if header.chip.is_flash_mapped(load_addr) && data_offset % page_bytes != load_addr % page_bytes {
        return Err(ImageError::SegmentMisplaced { index, load_addr, data_offset, page_bytes });
    }
    // The rest of the image is at least the headers of the segments to come, the trailer and the hash.
    let later_segments = u32::from(header.segment_count) - u32::from(index) - 1;
    let unpadded_bytes = data_offset + data_bytes + later_segments * SEGMENT_HEADER_BYTES as u32;
    let hash_bytes = if header.hash_appended { HASH_BYTES as u32 } else { 0 };
    let needed_bytes = unpadded_bytes + trailer_bytes(unpadded_bytes) + hash_bytes;
    if needed_bytes > limit_bytes {
        return Err(ImageError::TooLarge { needed_bytes, limit_bytes });
    }
    Ok(Segment { load_addr, data_offset, len: data_bytes })
}
