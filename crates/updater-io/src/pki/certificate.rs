//! Reading certificates and the bundles they come in.

use alloc::vec::Vec;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

use super::PkiError;

/// The most certificates in a chain, in a bundle, or among the trust anchors.
pub const MAX_CERTIFICATES: usize = 8;

/// RFC 5652 section 5.1, `id-signedData`.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// RFC 5480 section 2.1.1, `id-ecPublicKey`.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 5480 section 2.1.1.1, `secp256r1`.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// What the device wants to know of its own certificate. Borrowed from the certificate's DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafFacts<'a> {
    /// Start of the validity, in seconds since 1970-01-01 UTC.
    pub not_before_s: u64,
    /// End of the validity, in seconds since 1970-01-01 UTC.
    pub not_after_s: u64,
    /// The EC P-256 public key as a SEC1 point.
    pub public_key: &'a [u8],
}

/// Reads a certificate (RFC 5280 section 4.1). Its signature is not checked here.
///
/// # Errors
/// [`PkiError::Malformed`], and [`PkiError::NotP256`] for a certificate for another kind of key.
pub fn leaf_facts(der: &[u8]) -> Result<LeafFacts<'_>, PkiError> {
    let malformed = |_| PkiError::Malformed { expected: "an X.509 certificate" };
    walk_certificate(der).map_err(malformed)?.ok_or(PkiError::NotP256)
}

/// Whether issuer and subject of a certificate are the same (RFC 5280 section 3.2), as with a trust anchor and with no
/// other certificate of a CA in rollover. Its signature is not checked here.
///
/// # Errors
/// [`PkiError::Malformed`]
pub fn is_self_issued(der: &[u8]) -> Result<bool, PkiError> {
    walk_names(der).map_err(|_| PkiError::Malformed { expected: "an X.509 certificate" })
}

/// Reads the certificates out of a "certs-only" message: CMS SignedData without content and without signatures
/// (RFC 7030 section 4.1.3, RFC 5652 section 5), in the order in which they come. At least one, at most
/// [`MAX_CERTIFICATES`]; each is one whole DER value, which is not looked into.
///
/// # Errors
/// [`PkiError::Malformed`] and [`PkiError::TooManyCertificates`].
pub fn certs_only(der: &[u8]) -> Result<Vec<&[u8]>, PkiError> {
    let malformed = |_| PkiError::Malformed { expected: "a certs-only CMS message" };
    split(walk_signed_data(der).map_err(malformed)?, "a certs-only CMS message")
}

/// Splits certificates that lie one after the other, as the vault keeps chains and trust anchors. At least one, at
/// most [`MAX_CERTIFICATES`].
///
/// # Errors
/// [`PkiError::Malformed`] and [`PkiError::TooManyCertificates`].
pub fn split_certificates(der: &[u8]) -> Result<Vec<&[u8]>, PkiError> {
    split(der, "certificates one after the other")
}

fn split<'a>(der: &'a [u8], expected: &'static str) -> Result<Vec<&'a [u8]>, PkiError> {
    let malformed = |_| PkiError::Malformed { expected };
    let mut reader = SliceReader::new(der).map_err(malformed)?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(PkiError::TooManyCertificates);
        }
        let tag = reader.peek_tag().map_err(malformed)?;
        tag.assert_eq(Tag::Sequence).map_err(malformed)?;
        certificates.push(reader.tlv_bytes().map_err(malformed)?);
    }
    if certificates.is_empty() { Err(PkiError::Malformed { expected }) } else { Ok(certificates) }
}

/// The value of the field `certificates` of SignedData.
fn walk_signed_data(der: &[u8]) -> der::Result<&[u8]> {
    // ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT } (RFC 5652 section 3)
    let mut content_info = enter(AnyRef::from_der(der)?, Tag::Sequence)?;
    if ObjectIdentifier::decode(&mut content_info)? != SIGNED_DATA {
        return Err(der::ErrorKind::OidUnknown { oid: SIGNED_DATA }.into());
    }
    let mut content = enter(AnyRef::decode(&mut content_info)?, context(TagNumber::N0))?;
    // SignedData ::= SEQUENCE { version, digestAlgorithms SET, encapContentInfo SEQUENCE,
    //     certificates [0] IMPLICIT OPTIONAL, crls [1] IMPLICIT OPTIONAL, signerInfos SET } (section 5.1)
    let mut signed_data = enter(AnyRef::decode(&mut content)?, Tag::Sequence)?;
    for tag in [Tag::Integer, Tag::Set, Tag::Sequence] {
        skip(&mut signed_data, tag)?;
    }
    let certificates = AnyRef::decode(&mut signed_data)?;
    der::Tagged::tag(&certificates).assert_eq(context(TagNumber::N0))?;
    Ok(certificates.value())
}

/// Nothing for a key of another kind.
fn walk_certificate(der: &[u8]) -> der::Result<Option<LeafFacts<'_>>> {
    // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
    let mut certificate = enter(AnyRef::from_der(der)?, Tag::Sequence)?;
    // TBSCertificate ::= SEQUENCE { version [0] EXPLICIT DEFAULT v1, serialNumber, signature, issuer, validity,
    //     subject, subjectPublicKeyInfo, ... }
    let mut tbs = enter(AnyRef::decode(&mut certificate)?, Tag::Sequence)?;
    skip(&mut certificate, Tag::Sequence)?;
    skip(&mut certificate, Tag::BitString)?;
    if tbs.peek_tag()? == context(TagNumber::N0) {
        skip(&mut tbs, context(TagNumber::N0))?;
    }
    for tag in [Tag::Integer, Tag::Sequence, Tag::Sequence] {
        skip(&mut tbs, tag)?;
    }
    let mut validity = enter(AnyRef::decode(&mut tbs)?, Tag::Sequence)?;
    let (not_before_s, not_after_s) = (time(&mut validity)?, time(&mut validity)?);
    skip(&mut tbs, Tag::Sequence)?;
    let mut key_info = enter(AnyRef::decode(&mut tbs)?, Tag::Sequence)?;
    let public_key = p256_key(&mut key_info)?;
    Ok(public_key.map(|public_key| LeafFacts { not_before_s, not_after_s, public_key }))
}

fn walk_names(der: &[u8]) -> der::Result<bool> {
    let mut certificate = enter(AnyRef::from_der(der)?, Tag::Sequence)?;
    let mut tbs = enter(AnyRef::decode(&mut certificate)?, Tag::Sequence)?;
    if tbs.peek_tag()? == context(TagNumber::N0) {
        skip(&mut tbs, context(TagNumber::N0))?;
    }
    skip(&mut tbs, Tag::Integer)?;
    skip(&mut tbs, Tag::Sequence)?;
    let issuer = AnyRef::decode(&mut tbs)?;
    skip(&mut tbs, Tag::Sequence)?;
    Ok(issuer == AnyRef::decode(&mut tbs)?)
}

/// `Time ::= CHOICE { utcTime, generalTime }` (RFC 5280 section 4.1.2.5); years before 1970 are refused.
fn time(reader: &mut SliceReader<'_>) -> der::Result<u64> {
    let duration = match reader.peek_tag()? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration(),
    };
    Ok(duration.as_secs())
}

/// `SubjectPublicKeyInfo ::= SEQUENCE { SEQUENCE { algorithm, parameters }, subjectPublicKey BIT STRING }`
/// (RFC 5480 section 2); nothing for another algorithm or curve.
fn p256_key<'a>(key_info: &mut SliceReader<'a>) -> der::Result<Option<&'a [u8]>> {
    let mut algorithm = enter(AnyRef::decode(key_info)?, Tag::Sequence)?;
    let key = BitStringRef::decode(key_info)?;
    if ObjectIdentifier::decode(&mut algorithm)? != EC_PUBLIC_KEY {
        return Ok(None);
    }
    let curve = AnyRef::decode(&mut algorithm)?;
    Ok(key.as_bytes().filter(|_| curve.decode_as() == Ok(P256)))
}

fn context(number: TagNumber) -> Tag {
    Tag::ContextSpecific { constructed: true, number }
}

/// A reader of what a constructed value contains.
fn enter(value: AnyRef<'_>, tag: Tag) -> der::Result<SliceReader<'_>> {
    der::Tagged::tag(&value).assert_eq(tag)?;
    SliceReader::new(value.value())
}

fn skip(reader: &mut SliceReader<'_>, tag: Tag) -> der::Result<()> {
    der::Tagged::tag(&AnyRef::decode(reader)?).assert_eq(tag).map(|_| ())
}
