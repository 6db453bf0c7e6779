//! The certificate request: PKCS#10 (RFC 2986) in DER, put together by hand because its shape is fixed.

use alloc::vec::Vec;

use der::asn1::ObjectIdentifier;
use der::{Encode, Header, Tag, TagNumber};

use super::{DeviceKey, PkiError};

/// The longest device id in bytes: the longest common name (RFC 5280 appendix A.1, `ub-common-name`).
pub const MAX_DEVICE_ID_BYTES: usize = 64;

/// RFC 5280 appendix A.1, `id-at-commonName`.
pub(super) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// RFC 5758 section 3.2, `ecdsa-with-SHA256`.
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A request for a certificate for `key` with the common name `device_id`, as DER: about 220 bytes. The same key
/// and id give the same bytes.
///
/// # Errors
/// [`PkiError::BadDeviceId`]
pub fn csr(key: &DeviceKey, device_id: &str) -> Result<Vec<u8>, PkiError> {
    if device_id.is_empty() || device_id.len() > MAX_DEVICE_ID_BYTES {
        return Err(PkiError::BadDeviceId { found_bytes: device_id.len() });
    }
    let info = request_info(device_id, key.public_key_info().as_ref())
        .map_err(|_| PkiError::Malformed { expected: "a certificate request" })?;
    let signature = key.sign(&info);
    signed(&info, signature.as_bytes()).map_err(|_| PkiError::Malformed { expected: "a certificate request" })
}

/// `CertificationRequest ::= SEQUENCE { certificationRequestInfo, signatureAlgorithm, signature BIT STRING }`
fn signed(info: &[u8], signature: &[u8]) -> der::Result<Vec<u8>> {
    let algorithm = tlv(Tag::Sequence, &[&ECDSA_WITH_SHA256.to_der()?])?;
    // The first byte of a bit string counts the unused bits at its end.
    let signature = tlv(Tag::BitString, &[&[0], signature])?;
    tlv(Tag::Sequence, &[info, &algorithm, &signature])
}

/// `CertificationRequestInfo ::= SEQUENCE { version INTEGER (0), subject Name, subjectPKInfo, attributes [0] }`
fn request_info(common_name: &str, public_key_info: &[u8]) -> der::Result<Vec<u8>> {
    let version = tlv(Tag::Integer, &[&[0]])?;
    let value = tlv(Tag::Utf8String, &[common_name.as_bytes()])?;
    let attribute = tlv(Tag::Sequence, &[&COMMON_NAME.to_der()?, &value])?;
    let subject = tlv(Tag::Sequence, &[&tlv(Tag::Set, &[&attribute])?])?;
    // No attribute is asked for, but the set itself is not optional (RFC 2986 section 4.1).
    let attributes = tlv(Tag::ContextSpecific { constructed: true, number: TagNumber::N0 }, &[])?;
    tlv(Tag::Sequence, &[&version, &subject, public_key_info, &attributes])
}

/// Tag, length, and the parts one after the other as the value.
fn tlv(tag: Tag, parts: &[&[u8]]) -> der::Result<Vec<u8>> {
    let value_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut encoded = Vec::with_capacity(value_bytes + 4);
    Header::new(tag, value_bytes)?.encode_to_vec(&mut encoded)?;
    parts.iter().for_each(|part| encoded.extend_from_slice(part));
    Ok(encoded)
}
