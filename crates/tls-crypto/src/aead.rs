//! Record protection (RFC 8446 section 5.2) in place, over any AEAD of RustCrypto.

use alloc::boxed::Box;
use core::marker::PhantomData;

use chacha20poly1305::aead::consts::{U12, U16};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, NONCE_LEN,
    Nonce, OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion};

/// Length of the tag of every AEAD in TLS 1.3, in bytes.
const TAG_BYTES: usize = 16;

/// An AEAD with the sizes that TLS 1.3 uses: a nonce of 12 bytes, a tag of 16.
pub(crate) trait RecordAead:
    AeadInPlace<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static
{
}

impl<A> RecordAead for A where A: AeadInPlace<NonceSize = U12, TagSize = U16> + KeyInit + Send + Sync + 'static
{}

/// Makes the record ciphers of a suite. Keys go in and never come out again.
pub(crate) struct RecordProtection<A>(PhantomData<A>);

impl<A> RecordProtection<A> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A: RecordAead> Tls13AeadAlgorithm for RecordProtection<A> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(RecordCipher::<A>::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(RecordCipher::<A>::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        A::key_size()
    }

    fn extract_keys(&self, _: AeadKey, _: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Err(UnsupportedOperationError)
    }
}

/// One direction of a connection until its next key.
struct RecordCipher<A> {
    aead: A,
    iv: Iv,
}

impl<A: RecordAead> RecordCipher<A> {
    /// `key` has the length that [`RecordProtection::key_len`] asked for.
    fn new(key: &AeadKey, iv: Iv) -> Self {
        Self { aead: A::new(key.as_ref().into()), iv }
    }
}

impl<A: RecordAead> MessageEncrypter for RecordCipher<A> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let sealed_bytes = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(sealed_bytes);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let nonce = Nonce::new(&self.iv, sequence);
        seal(&self.aead, &nonce.0, &make_tls13_aad(sealed_bytes), &mut payload)?;
        // The record says TLS 1.2 for the sake of old middleboxes (RFC 8446 section 5.2).
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    /// Plaintext, content type, tag.
    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + TAG_BYTES
    }
}

impl<A: RecordAead> MessageDecrypter for RecordCipher<A> {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let nonce = Nonce::new(&self.iv, sequence);
        let aad = make_tls13_aad(message.payload.len());
        let plain_bytes = open(&self.aead, &nonce.0, &aad, &mut message.payload)?;
        message.payload.truncate(plain_bytes);
        message.into_tls13_unpadded_message()
    }
}

/// Encrypts `payload` and appends the tag.
pub(crate) fn seal<A: RecordAead>(
    aead: &A,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    payload: &mut PrefixedPayload,
) -> Result<(), Error> {
    let sealed = aead.encrypt_in_place_detached(nonce.into(), aad, payload.as_mut());
    let tag = sealed.map_err(|_| Error::EncryptError)?;
    payload.extend_from_slice(&tag);
    Ok(())
}

/// Decrypts `sealed`, ciphertext and tag, and returns the number of bytes at its start that are plaintext.
pub(crate) fn open<A: RecordAead>(
    aead: &A,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &mut [u8],
) -> Result<usize, Error> {
    let (text, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(Error::DecryptError)?;
    let opened = aead.decrypt_in_place_detached(nonce.into(), aad, text, (&*tag).into());
    opened.map_err(|_| Error::DecryptError)?;
    Ok(text.len())
}
