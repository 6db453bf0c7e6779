//! Images whose checksum and hash are right, whatever else is wrong with them.

use sha2::{Digest, Sha256};

/// No image in a fuzz target is longer, in bytes.
const MAX_IMAGE_BYTES: usize = 64 * 1024;

/// Gives `bytes` a magic, and behind the segments that its headers announce the checksum and the SHA-256 that belong
/// there. Segments are filled up with zeros; what follows the image is cut off.
pub fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut image = bytes.to_vec();
    image.resize(image.len().max(24), 0);
    image[0] = 0xE9;
    image[23] = 1;
    let mut checksum = 0xEF_u8;
    let mut end = 24;
    for _ in 0..image[1] {
        image.resize(image.len().max(end + 8), 0);
        let length = [4, 5, 6, 7].map(|index| image[end + index]);
        let length = u32::from_le_bytes(length) as usize;
        let start = end + 8;
        if start + length > MAX_IMAGE_BYTES {
            return image;
        }
        end = start + length;
        image.resize(image.len().max(end), 0);
        checksum = image[start..end].iter().fold(checksum, |sum, byte| sum ^ byte);
    }
    image.truncate(end);
    image.resize((end + 1).next_multiple_of(16) - 1, 0);
    image.push(checksum);
    let hash: [u8; 32] = Sha256::digest(&image).into();
    image.extend(hash);
    image
}
