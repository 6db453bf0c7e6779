//! Verifying an image as its bytes come in.

use sha2::digest::consts::U32;
use sha2::{Digest, Sha256};

use super::header::SegmentHeader;
use super::outline::check_segment;
use super::{
    CHECKSUM_SEED, HASH_BYTES, HEADER_BYTES, ImageError, ImageHeader, ImageSummary, SEGMENT_HEADER_BYTES,
    Segments, trailer_bytes,
};
use crate::app_desc::{APP_DESC_BYTES, AppDescriptor};

/// Verifies a whole image in memory. Bytes after its end are ignored, as in a slot.
pub fn verify(bytes: &[u8]) -> Result<ImageSummary, ImageError> {
    // No limit: a file that ends too early is to be called cut off, not too large.
    let mut verifier = StreamVerifier::new(u32::MAX);
    verifier.update(bytes)?;
    verifier.finish()
}

/// Whether more bytes are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The image goes on.
    NeedMore,
    /// The image is complete and right. Further bytes are ignored.
    Done {
        /// Length of the image.
        image_bytes: u32,
    },
}

/// A verifier fed with consecutive slices of any size. It has no heap and does no IO.
///
/// ```text
/// Header -> SegmentHeader -> SegmentData -> SegmentHeader ... -> Trailer -> Hash -> Done
///                                                                    \-> Done (hash not required)
/// any stage -> Failed, which stays
/// ```
///
/// Checked: magic, segment count, chip known, segment lengths, the MMU's rule for flash-mapped segments (offset in
/// slot and address equal modulo the page), total length against the slot, checksum, appended SHA-256. Whether the
/// chip is the right one is the caller's to compare.
///
/// Off-spec: an image without appended SHA-256 is refused unless [`StreamVerifier::allow_missing_hash`] is set.
/// Otherwise one flipped bit, the hash flag, would switch the strongest check off.
///
/// `H` is a SHA-256: the `sha2` crate's in software, or a chip's SHA engine behind the same trait. It is cloned at
/// the end of the image, where the hash over all bytes so far is needed and more bytes follow.
#[derive(Clone, Debug)]
pub struct StreamVerifier<H = Sha256> {
    limit_bytes: u32,
    hash_required: bool,
    /// Bytes of the image seen so far.
    position: u32,
    sha: H,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Header(Gather<HEADER_BYTES>),
    SegmentHeader(Gather<SEGMENT_HEADER_BYTES>, Body),
    SegmentData { left_bytes: u32, body: Body },
    Trailer { left_bytes: u32, last: u8, body: Body },
    Hash { expected: [u8; HASH_BYTES], found: Gather<HASH_BYTES>, body: Body },
    Done(ImageSummary),
    Failed(ImageError),
}

/// What is known once the header is read.
#[derive(Clone, Debug)]
struct Body {
    header: ImageHeader,
    segments: Segments,
    checksum: u8,
    /// The first bytes of the first segment.
    app_desc: Gather<APP_DESC_BYTES>,
}

impl StreamVerifier {
    /// A verifier for an image that must fit `limit_bytes`, the size of the slot; it hashes in software.
    pub fn new(limit_bytes: u32) -> Self {
        Self::with_sha256(limit_bytes, Sha256::new())
    }
}

impl<H: Digest<OutputSize = U32> + Clone> StreamVerifier<H> {
    /// A verifier for an image that must fit `limit_bytes`, the size of the slot. `sha` is a SHA-256 that has not
    /// been fed yet.
    pub fn with_sha256(limit_bytes: u32, sha: H) -> Self {
        Self { limit_bytes, hash_required: true, position: 0, sha, stage: Stage::Header(Gather::new()) }
    }

    /// Accepts images without appended SHA-256: for looking at a file, not for starting it.
    #[must_use]
    pub fn allow_missing_hash(mut self) -> Self {
        self.hash_required = false;
        self
    }

    /// Bytes of the image seen so far.
    pub fn position_bytes(&self) -> u32 {
        self.position
    }

    /// Takes the next bytes. After an error every further call returns that error.
    pub fn update(&mut self, mut bytes: &[u8]) -> Result<Progress, ImageError> {
        while let Some(wanted_bytes) = self.wanted_bytes().filter(|_| !bytes.is_empty()) {
            let take_bytes = bytes.len().min(wanted_bytes as usize);
            let (part, rest) = bytes.split_at(take_bytes);
            bytes = rest;
            self.take(part);
        }
        match &self.stage {
            Stage::Done(summary) => Ok(Progress::Done { image_bytes: summary.image_bytes }),
            Stage::Failed(error) => Err(*error),
            Stage::Header(_)
            | Stage::SegmentHeader(..)
            | Stage::SegmentData { .. }
            | Stage::Trailer { .. }
            | Stage::Hash { .. } => Ok(Progress::NeedMore),
        }
    }

    /// The verdict. Bytes that ended too early give [`ImageError::Truncated`].
    pub fn finish(self) -> Result<ImageSummary, ImageError> {
        let expected_bytes = self.position.saturating_add(self.wanted_bytes().unwrap_or(0));
        match self.stage {
            Stage::Done(summary) => Ok(summary),
            Stage::Failed(error) => Err(error),
            Stage::Header(_)
            | Stage::SegmentHeader(..)
            | Stage::SegmentData { .. }
            | Stage::Trailer { .. }
            | Stage::Hash { .. } => Err(ImageError::Truncated { expected_bytes, found_bytes: self.position }),
        }
    }

    /// Bytes up to the end of the present stage; `None` when the verdict stands.
    fn wanted_bytes(&self) -> Option<u32> {
        match &self.stage {
            Stage::Header(gather) => Some(gather.wanted_bytes()),
            Stage::SegmentHeader(gather, _) => Some(gather.wanted_bytes()),
            Stage::SegmentData { left_bytes, .. } | Stage::Trailer { left_bytes, .. } => Some(*left_bytes),
            Stage::Hash { found, .. } => Some(found.wanted_bytes()),
            Stage::Done(_) | Stage::Failed(_) => None,
        }
    }

    /// Takes bytes that belong to the present stage, and leaves the stage when it is complete.
    fn take(&mut self, part: &[u8]) {
        self.sha.update(part);
        // `part` is at most `wanted_bytes()` long, which is a u32, and the position never passes 4 GiB (see the
        // assertion on the longest image).
        let part_bytes = part.len() as u32;
        self.position += part_bytes;
        match &mut self.stage {
            Stage::Header(gather) => gather.take(part),
            Stage::SegmentHeader(gather, _) => gather.take(part),
            Stage::SegmentData { left_bytes, body } => {
                *left_bytes -= part_bytes;
                body.take_data(part);
            }
            Stage::Trailer { left_bytes, last, .. } => {
                *left_bytes -= part_bytes;
                *last = part.last().copied().unwrap_or(*last);
            }
            Stage::Hash { found, .. } => found.take(part),
            Stage::Done(_) | Stage::Failed(_) => {}
        }
        // A segment without data is complete as soon as it begins, hence the loop.
        while self.wanted_bytes() == Some(0) {
            self.stage = self.next_stage().unwrap_or_else(Stage::Failed);
        }
    }

    /// The stage after the present, complete one.
    fn next_stage(&self) -> Result<Stage, ImageError> {
        match &self.stage {
            Stage::Header(gather) => self.after_header(ImageHeader::parse(&gather.bytes)?),
            Stage::SegmentHeader(gather, body) => {
                self.after_segment_header(SegmentHeader::parse(&gather.bytes), body.clone())
            }
            Stage::SegmentData { body, .. } => self.after_segment(body.clone()),
            Stage::Trailer { last, body, .. } => self.after_trailer(*last, body.clone()),
            Stage::Hash { expected, found, body } => {
                if *expected != found.bytes {
                    return Err(ImageError::Hash { expected: *expected, found: found.bytes });
                }
                Ok(Stage::Done(self.summary(body)))
            }
            Stage::Done(summary) => Ok(Stage::Done(*summary)),
            Stage::Failed(error) => Err(*error),
        }
    }

    fn after_header(&self, header: ImageHeader) -> Result<Stage, ImageError> {
        if self.hash_required && !header.hash_appended {
            return Err(ImageError::HashNotAppended);
        }
        let body =
            Body { header, segments: Segments::default(), checksum: CHECKSUM_SEED, app_desc: Gather::new() };
        Ok(Stage::SegmentHeader(Gather::new(), body))
    }

    fn after_segment_header(&self, header: SegmentHeader, mut body: Body) -> Result<Stage, ImageError> {
        let index = body.segments.count as u8;
        let segment = check_segment(&body.header, index, header, self.position, self.limit_bytes)?;
        body.segments.push(segment);
        Ok(Stage::SegmentData { left_bytes: segment.len, body })
    }

    fn after_segment(&self, body: Body) -> Result<Stage, ImageError> {
        if body.segments.count < usize::from(body.header.segment_count) {
            return Ok(Stage::SegmentHeader(Gather::new(), body));
        }
        Ok(Stage::Trailer { left_bytes: trailer_bytes(self.position), last: 0, body })
    }

    fn after_trailer(&self, found: u8, body: Body) -> Result<Stage, ImageError> {
        if found != body.checksum {
            return Err(ImageError::Checksum { expected: body.checksum, found });
        }
        if body.header.hash_appended {
            let expected = self.sha.clone().finalize().into();
            return Ok(Stage::Hash { expected, found: Gather::new(), body });
        }
        Ok(Stage::Done(self.summary(&body)))
    }

    fn summary(&self, body: &Body) -> ImageSummary {
        let has_app_desc = body.app_desc.wanted_bytes() == 0;
        ImageSummary {
            header: body.header,
            image_bytes: self.position,
            digest: self.sha.clone().finalize().into(),
            segments: body.segments,
            app_desc: has_app_desc.then(|| AppDescriptor::parse(&body.app_desc.bytes).ok()).flatten(),
        }
    }
}

impl Body {
    fn take_data(&mut self, data: &[u8]) {
        self.checksum = data.iter().fold(self.checksum, |sum, byte| sum ^ byte);
        if self.segments.count == 1 {
            self.app_desc.take(data);
        }
    }
}

/// A record of `N` bytes that arrives in pieces.
#[derive(Clone, Debug)]
struct Gather<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Gather<N> {
    fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    fn wanted_bytes(&self) -> u32 {
        (N - self.filled) as u32
    }

    /// Takes what is still wanted and drops the rest.
    fn take(&mut self, part: &[u8]) {
        for (free, byte) in self.bytes[self.filled..].iter_mut().zip(part) {
            *free = *byte;
            self.filled += 1;
        }
    }
}
