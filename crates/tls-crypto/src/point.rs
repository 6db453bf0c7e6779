//! Points of the curve P-256 as others send them.

use p256::PublicKey;
use p256::elliptic_curve::sec1::Tag;

/// Reads an uncompressed point (SEC 1 section 2.3.4): 65 bytes, on the curve and not the identity, which has another
/// form. Compressed points are refused: TLS 1.3 has none (RFC 8446 section 4.2.8.2), and in certificates they are
/// optional (RFC 5480 section 2.2).
pub(crate) fn uncompressed(bytes: &[u8]) -> Option<PublicKey> {
    if bytes.first() != Some(&u8::from(Tag::Uncompressed)) {
        return None;
    }
    PublicKey::from_sec1_bytes(bytes).ok()
}
