//! Where the parts of an image are, from its headers alone.

use super::header::SegmentHeader;
use super::{
    HASH_BYTES, HEADER_BYTES, ImageError, ImageHeader, SEGMENT_BYTES_LIMIT, SEGMENT_HEADER_BYTES, Segment,
    Segments, trailer_bytes,
};
use crate::app_desc::{APP_DESC_BYTES, APP_DESC_OFFSET, AppDescriptor};

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
        let mut glance = Glance::new(&record, limit_bytes)?;
        loop {
            match glance.missing() {
                Missing::Header { offset } => {
                    let mut record = [0; SEGMENT_HEADER_BYTES];
                    read(offset, &mut record)?;
                    glance.push(&record)?;
                }
                Missing::Nothing(outline) => return Ok(outline),
            }
        }
    }
}

/// What the first bytes of an image show, and what has to be read to see the rest of its headers.
///
/// A segment's header stands behind the data of the segment before, so a prefix that ends within a segment shows no
/// header after that. Each further one is read by itself, 8 bytes at the offset that [`Glance::missing`] names: at most
/// 15 of them, and far fewer when the mapped segments come last.
///
/// ```text
/// Glance::new(prefix) ── missing() = Header { offset } ── push(8 bytes at offset) ──┐
///                             ▲                                                 │
///                             └─────────────────────────────────────────────────┘
///                          missing() = Nothing(outline): all headers are known
/// ```
///
/// The rules are those of [`Outline`]. Nothing is said of data: it may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    header: ImageHeader,
    segments: Segments,
    app_desc: Option<AppDescriptor>,
    /// Where the next segment header is, or the end of the last segment.
    position: u32,
    limit_bytes: u32,
}

/// What a [`Glance`] still lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "no heap, and it lives for a moment")]
pub enum Missing {
    /// The segment header at this offset of the image, [`SEGMENT_HEADER_BYTES`] long. It is within the slot.
    Header {
        /// In bytes from the start of the image, a multiple of 4.
        offset: u32,
    },
    /// Nothing: this is what all headers say.
    Nothing(Outline),
}

impl Glance {
    /// Looks at the start of an image that must fit `limit_bytes`, the size of the slot. `prefix` has at least the
    /// [`HEADER_BYTES`] of the header.
    ///
    /// # Errors
    /// [`ImageError`], the first that applies to what is seen.
    pub fn new(prefix: &[u8], limit_bytes: u32) -> Result<Self, ImageError> {
        let header = ImageHeader::parse(prefix)?;
        if !header.hash_appended {
            return Err(ImageError::HashNotAppended);
        }
        let (segments, position) = (Segments::default(), HEADER_BYTES as u32);
        let mut glance = Self { header, segments, app_desc: None, position, limit_bytes };
        while let Missing::Header { offset } = glance.missing() {
            let seen = prefix.get(offset as usize..).and_then(<[u8]>::first_chunk);
            let Some(record) = seen else { break };
            glance.push(record)?;
        }
        // As everywhere: a descriptor that reaches into the next segment is none.
        let is_whole = glance.segments().first().is_some_and(|first| first.len >= APP_DESC_BYTES as u32);
        let app_desc = prefix.get(APP_DESC_OFFSET as usize..).filter(|_| is_whole);
        glance.app_desc = app_desc.and_then(|bytes| AppDescriptor::parse(bytes).ok());
        Ok(glance)
    }

    /// The image's header.
    #[must_use]
    pub fn header(&self) -> &ImageHeader {
        &self.header
    }

    /// The segments whose headers are known, in file order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        self.segments.as_slice()
    }

    /// The app descriptor, when the prefix shows one.
    #[must_use]
    pub fn app_desc(&self) -> Option<&AppDescriptor> {
        self.app_desc.as_ref()
    }

    /// What has to be read next.
    #[must_use]
    pub fn missing(&self) -> Missing {
        let position = self.position;
        if self.segments().len() < usize::from(self.header.segment_count) {
            return Missing::Header { offset: position };
        }
        let image_bytes = position + trailer_bytes(position) + HASH_BYTES as u32;
        Missing::Nothing(Outline { header: self.header, segments: self.segments, image_bytes })
    }

    /// Takes the segment header that [`Glance::missing`] asks for; without effect when it asks for nothing.
    ///
    /// # Errors
    /// [`ImageError`]: the segment breaks the format.
    pub fn push(&mut self, record: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(), ImageError> {
        let Missing::Header { offset } = self.missing() else { return Ok(()) };
        let data_offset = offset + SEGMENT_HEADER_BYTES as u32;
        let index = self.segments().len() as u8;
        let segment =
            check_segment(&self.header, index, SegmentHeader::parse(record), data_offset, self.limit_bytes)?;
        self.segments.push(segment);
        self.position = data_offset + segment.len;
        Ok(())
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
