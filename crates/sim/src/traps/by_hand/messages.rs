//! The few messages of a TLS 1.3 handshake (RFC 8446 section 4), and records (section 5.1).

use p256::PublicKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rustls::pki_types::CertificateDer;

/// Content types of records (section 5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// Type, version, and length in two bytes.
pub(super) const RECORD_HEADER_BYTES: usize = 5;

/// Types of handshake messages (section 4).
pub(super) const CLIENT_HELLO: u8 = 1;
pub(super) const SERVER_HELLO: u8 = 2;
pub(super) const ENCRYPTED_EXTENSIONS: u8 = 8;
pub(super) const CERTIFICATE: u8 = 11;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
pub(super) const FINISHED: u8 = 20;

/// Type, and length in three bytes.
pub(super) const MESSAGE_HEADER_BYTES: usize = 4;

/// `legacy_version` of all messages.
pub(super) const TLS_1_2: [u8; 2] = [3, 3];
const TLS_1_3: [u8; 2] = [3, 4];

/// TLS_CHACHA20_POLY1305_SHA256 (appendix B.4).
pub(super) const CHACHA20_POLY1305_SHA256: [u8; 2] = [0x13, 0x03];
/// secp256r1 (section 4.2.7).
pub(super) const SECP256R1: [u8; 2] = [0x00, 0x17];
/// ecdsa_secp256r1_sha256 (section 4.2.3).
const ECDSA_SECP256R1_SHA256: [u8; 2] = [0x04, 0x03];

/// Types of extensions (section 4.2).
const SUPPORTED_VERSIONS: [u8; 2] = [0, 43];
pub(super) const KEY_SHARE: [u8; 2] = [0, 51];

/// One record.
pub(super) fn record(content_type: u8, content: &[u8]) -> Vec<u8> {
    [&[content_type], &TLS_1_2[..], &vector::<2>(content)].concat()
}

/// One handshake message.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &vector::<3>(body)[..]].concat()
}

/// What is needed of a ClientHello.
pub(super) struct ClientHello {
    /// To be sent back.
    pub(super) session_id: Vec<u8>,
    /// The client's half of the key exchange.
    pub(super) public_key: PublicKey,
}

impl ClientHello {
    /// Reads the message (section 4.1.2). Nothing when it is none, or offers no TLS_CHACHA20_POLY1305_SHA256 with a key
    /// share for P-256.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut body = Reader(message);
        if body.take(MESSAGE_HEADER_BYTES)?.first() != Some(&CLIENT_HELLO) {
            return None;
        }
        let _version_and_random = body.take(TLS_1_2.len() + 32)?;
        let session_id = body.vector::<1>()?.to_vec();
        let mut suites = body.vector::<2>()?.chunks_exact(2);
        suites.find(|suite| *suite == CHACHA20_POLY1305_SHA256)?;
        let _compression = body.vector::<1>()?;
        let mut extensions = Reader(body.vector::<2>()?);
        let shares = extensions.find(&KEY_SHARE)?;
        let point = Reader(Reader(shares).vector::<2>()?).find(&SECP256R1)?;
        Some(Self { session_id, public_key: PublicKey::from_sec1_bytes(point).ok()? })
    }
}

/// A ServerHello (section 4.1.3).
pub(super) fn server_hello(session_id: &[u8], random: &[u8; 32], public_key: &PublicKey) -> Vec<u8> {
    let point = public_key.to_encoded_point(false);
    let share = [&SECP256R1[..], &vector::<2>(point.as_bytes())].concat();
    let extensions = [extension(SUPPORTED_VERSIONS, &TLS_1_3), extension(KEY_SHARE, &share)].concat();
    let no_compression = [0];
    let body = [
        &TLS_1_2[..],
        random,
        &vector::<1>(session_id),
        &CHACHA20_POLY1305_SHA256,
        &no_compression,
        &vector::<2>(&extensions),
    ];
    message(SERVER_HELLO, &body.concat())
}

/// EncryptedExtensions without any (section 4.3.1).
pub(super) fn encrypted_extensions() -> Vec<u8> {
    message(ENCRYPTED_EXTENSIONS, &vector::<2>(&[]))
}

/// A Certificate without extensions (section 4.4.2).
pub(super) fn certificate(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let entry = |der: &CertificateDer<'_>| [vector::<3>(der), vector::<2>(&[])].concat();
    let entries = chain.iter().flat_map(entry).collect::<Vec<u8>>();
    message(CERTIFICATE, &[vector::<1>(&[]), vector::<3>(&entries)].concat())
}

/// What a server's CertificateVerify signs (section 4.4.3), with the transcript already hashed.
pub(super) fn to_be_signed(hash: &[u8]) -> Vec<u8> {
    [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", hash].concat()
}

/// A CertificateVerify with an ECDSA signature in DER.
pub(super) fn certificate_verify(signature: &[u8]) -> Vec<u8> {
    message(CERTIFICATE_VERIFY, &[&ECDSA_SECP256R1_SHA256[..], &vector::<2>(signature)].concat())
}

pub(super) fn extension(kind: [u8; 2], content: &[u8]) -> Vec<u8> {
    [&kind[..], &vector::<2>(content)].concat()
}

/// Bytes behind their length, which takes `LENGTH_BYTES`. All that is written here is much shorter than fits.
pub(super) fn vector<const LENGTH_BYTES: usize>(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    [&length[length.len() - LENGTH_BYTES..], content].concat()
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes behind their length, which takes `LENGTH_BYTES`.
    fn vector<const LENGTH_BYTES: usize>(&mut self) -> Option<&'a [u8]> {
        let length = self.take(LENGTH_BYTES)?;
        self.take(length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// The content behind this kind, in a list of extensions or key shares.
    fn find(&mut self, kind: &[u8; 2]) -> Option<&'a [u8]> {
        loop {
            let found = self.take(kind.len())?;
            let content = self.vector::<2>()?;
            if found == kind {
                return Some(content);
            }
        }
    }
}
