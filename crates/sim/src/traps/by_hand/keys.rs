//! The key schedule of TLS 1.3 with SHA-256 (RFC 8446 section 7.1), and the protection of records with
//! ChaCha20-Poly1305 (section 5.2).

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::Fault;
use super::messages::{APPLICATION_DATA, record};

/// Length of hashes, secrets and ChaCha20's key in bytes.
pub(super) const HASH_BYTES: usize = 32;

/// Length of a block of SHA-256 in bytes.
const BLOCK_BYTES: usize = 64;

/// Length of ChaCha20-Poly1305's nonce in bytes.
const NONCE_BYTES: usize = 12;

/// A secret of the schedule.
#[derive(Clone)]
pub(super) struct Secret([u8; HASH_BYTES]);

/// The secrets from which one side's record keys come.
pub(super) struct TrafficSecrets {
    pub(super) client: Secret,
    pub(super) server: Secret,
}

/// The handshake's traffic secrets, and the master secret. `shared` is the Diffie-Hellman secret, `hello_hash` the
/// hash of ClientHello and ServerHello.
pub(super) fn handshake_secrets(shared: &[u8], hello_hash: &[u8]) -> (TrafficSecrets, Secret) {
    let nothing = Sha256::digest([]);
    // No PSK: zeros take its place.
    let early = Secret([0; HASH_BYTES]).extract(&[0; HASH_BYTES]);
    let handshake = early.derive("derived", &nothing).extract(shared);
    let traffic = TrafficSecrets {
        client: handshake.derive("c hs traffic", hello_hash),
        server: handshake.derive("s hs traffic", hello_hash),
    };
    let master = handshake.derive("derived", &nothing).extract(&[0; HASH_BYTES]);
    (traffic, master)
}

/// The traffic secrets of application data; `hash` is that of all messages to the server's Finished.
pub(super) fn application_secrets(master: &Secret, hash: &[u8]) -> TrafficSecrets {
    TrafficSecrets {
        client: master.derive("c ap traffic", hash),
        server: master.derive("s ap traffic", hash),
    }
}

impl Secret {
    /// HKDF-Extract with this as salt.
    fn extract(&self, input: &[u8]) -> Self {
        Self(hmac(&self.0, &[input]))
    }

    /// Derive-Secret, with the transcript already hashed.
    fn derive(&self, label: &str, hash: &[u8]) -> Self {
        Self(self.expand(label, hash))
    }

    /// `verify_data` of a Finished (section 4.4.4), with the transcript already hashed.
    pub(super) fn finished(&self, hash: &[u8]) -> [u8; HASH_BYTES] {
        hmac(&self.expand("finished", &[]), &[hash])
    }

    /// HKDF-Expand-Label. What is longer than one hash is never asked for, so one round of HKDF-Expand (RFC 5869
    /// section 2.3) is all of it.
    fn expand<const BYTES: usize>(&self, label: &str, context: &[u8]) -> [u8; BYTES] {
        const { assert!(BYTES <= HASH_BYTES) };
        let lengths = [0, BYTES as u8, (b"tls13 ".len() + label.len()) as u8];
        let context_length = [context.len() as u8];
        let block = hmac(&self.0, &[&lengths, b"tls13 ", label.as_bytes(), &context_length, context, &[1]]);
        let mut expanded = [0; BYTES];
        expanded.copy_from_slice(&block[..BYTES]);
        expanded
    }
}

/// HMAC-SHA256 of the parts one after the other.
fn hmac(key: &[u8; HASH_BYTES], parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    // A key shorter than a block is filled up with zeros (RFC 2104 section 2).
    let mut block = [0; BLOCK_BYTES];
    block[..HASH_BYTES].copy_from_slice(key);
    let mut hmac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into());
    for part in parts {
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}

/// Protects the records in one direction, in order.
pub(super) struct RecordKeys {
    cipher: ChaCha20Poly1305,
    iv: [u8; NONCE_BYTES],
    sequence: u64,
}

impl RecordKeys {
    /// Keys from a traffic secret (section 7.3).
    pub(super) fn new(secret: &Secret) -> Self {
        let key: [u8; HASH_BYTES] = secret.expand("key", &[]);
        Self { cipher: ChaCha20Poly1305::new(&key.into()), iv: secret.expand("iv", &[]), sequence: 0 }
    }

    /// A protected record with this content.
    pub(super) fn seal(&mut self, content_type: u8, content: &[u8]) -> Result<Vec<u8>, Fault> {
        const TAG_BYTES: usize = 16;
        let inner = [content, &[content_type]].concat();
        let mut sealed = record(APPLICATION_DATA, &vec![0; inner.len() + TAG_BYTES]);
        let (header, body) = sealed.split_at_mut(super::messages::RECORD_HEADER_BYTES);
        let payload = Payload { msg: &inner, aad: header };
        let nonce = self.next_nonce();
        let ciphertext = self.cipher.encrypt(&nonce, payload).map_err(|_| Fault::Cipher)?;
        body.copy_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Content type and content of a protected record.
    pub(super) fn open(&mut self, header: &[u8], body: &[u8]) -> Result<(u8, Vec<u8>), Fault> {
        let nonce = self.next_nonce();
        let mut inner =
            self.cipher.decrypt(&nonce, Payload { msg: body, aad: header }).map_err(|_| Fault::Cipher)?;
        // The content type is the last byte that is not zero; what follows it is padding.
        let end = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::Malformed("a record"))?;
        let content_type = inner[end];
        inner.truncate(end);
        Ok((content_type, inner))
    }

    /// Section 5.3.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_BYTES - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        nonce.into()
    }
}
