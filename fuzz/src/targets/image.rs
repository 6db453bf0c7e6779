//! Any bytes as an application image; an odd first byte makes checksum and hash right. The second byte says in which
//! pieces the image arrives.

use flashfmt::image::{ImageHeader, Outline, StreamVerifier, verify};
use flashfmt::{AppDescriptor, ImageError};
use sha2::{Digest, Sha256};

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (choice, data) = crate::choice(data);
    let (piece_bytes, bytes) = crate::choice(data);
    let image = if choice & 1 == 1 { crate::image::repaired(bytes) } else { bytes.to_vec() };

    let whole = verify(&image);
    let in_pieces = |limit_bytes: u32| {
        let mut verifier = StreamVerifier::new(limit_bytes);
        for piece in crate::pieces(&image, piece_bytes) {
            verifier.update(piece)?;
        }
        verifier.finish()
    };
    assert_eq!(in_pieces(u32::MAX), whole);

    let size_bytes = image.len() as u32;
    let outline = Outline::read(size_bytes.next_multiple_of(4096), |offset, buffer: &mut [u8]| {
        buffer.fill(0xFF);
        for (place, byte) in (offset as usize..).zip(buffer) {
            *byte = image.get(place).copied().unwrap_or(0xFF);
        }
        Ok::<_, ImageError>(())
    });
    let Ok(summary) = whole else { return };
    let image_bytes = summary.image_bytes;
    assert!(image_bytes <= size_bytes && image_bytes.is_multiple_of(16));
    let digest: [u8; 32] = Sha256::digest(&image[..image_bytes as usize]).into();
    assert_eq!(summary.digest, digest);
    let mut end = 24;
    for segment in summary.segments.as_slice() {
        assert_eq!(segment.data_offset, end + 8);
        end = segment.data_offset + segment.len;
    }
    assert!(end < image_bytes);
    assert_eq!(summary.segments.as_slice().len(), usize::from(summary.header.segment_count));
    assert_eq!(ImageHeader::parse(&summary.header.emit()), Ok(summary.header));
    if let Some(app_desc) = summary.app_desc {
        assert_eq!(AppDescriptor::parse(&image[32..]), Ok(app_desc));
    }

    // The headers alone say the same, and a slot that is too small is too small.
    let outline = outline.unwrap();
    assert_eq!((outline.header, outline.segments), (summary.header, summary.segments));
    assert_eq!(outline.image_bytes, image_bytes);
    assert_eq!(in_pieces(image_bytes), whole);
    assert!(in_pieces(image_bytes - 1).is_err());
}
