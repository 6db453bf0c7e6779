//! A TLS 1.3 server that can leave out what proves who it is. rustls cannot, so it is written by hand: one cipher
//! suite (TLS_CHACHA20_POLY1305_SHA256), one curve (P-256), no HelloRetryRequest, no client certificate.
//!
//! ```text
//! client                                            server
//! ClientHello                ->
//!                            <-                ServerHello
//!                                    {EncryptedExtensions}
//!                                            {Certificate}   unless Proof::Nothing
//!                                      {CertificateVerify}   Proof::Complete only
//!                                               {Finished}
//! {Finished}                 ->
//! [application data]         ->
//!                            <-                   [ANSWER]
//! ```
//!
//! (RFC 8446 section 2, figure 1.) Everything else about it is right, so that a client that does not insist on the
//! missing messages goes on.

mod keys;
mod messages;
#[cfg(test)]
mod tests;

use std::io;

use p256::ecdh::EphemeralSecret;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use rand::RngCore;
use rand::rngs::OsRng;
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ANSWER, Observation, TrapError, chain, private_key};
use crate::pki::Identity;
use keys::{RecordKeys, Secret, application_secrets, handshake_secrets};
use messages::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, ClientHello, FINISHED, HANDSHAKE, RECORD_HEADER_BYTES,
    certificate, certificate_verify, encrypted_extensions, message, record, server_hello, to_be_signed,
};

/// How much of its identity the server proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Certificate and CertificateVerify.
    Complete,
    /// Certificate.
    CertificateAlone,
    /// Neither.
    Nothing,
}

/// The server.
pub(super) struct HandmadeServer {
    chain: Vec<CertificateDer<'static>>,
    key: SigningKey,
    proof: Proof,
}

/// Why a handshake came to no end.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    #[error("the client sent the alert {0:?}")]
    Alert(AlertDescription),
    #[error("expected {0}, found something else")]
    Malformed(&'static str),
    #[error("a record could not be encrypted or decrypted")]
    Cipher,
}

impl HandmadeServer {
    pub(super) fn new(identity: &Identity, proof: Proof) -> Result<Self, TrapError> {
        let key = SigningKey::from_pkcs8_der(private_key(identity)?.secret_der())?;
        Ok(Self { chain: chain(identity)?, key, proof })
    }

    pub(super) async fn serve(&self, mut stream: TcpStream) -> Observation {
        let mut keys = match self.handshake(&mut stream).await {
            Ok(keys) => keys,
            Err(Fault::Alert(alert)) => return Observation::Refused { alert },
            Err(fault) => return Observation::Broken { why: fault.to_string() },
        };
        let mut received = Vec::new();
        // An alert, the end, or rubbish: the client is done.
        while let Ok((APPLICATION_DATA, content)) = read_protected(&mut stream, &mut keys.client).await {
            if received.is_empty() {
                received = content;
                // A client that left needs no answer.
                if let Ok(answer) = keys.server.seal(APPLICATION_DATA, ANSWER) {
                    let _ = stream.write_all(&answer).await;
                }
            }
        }
        Observation::Trusted { client_certificate: None, received }
    }

    /// Shakes hands; returns the keys for application data.
    async fn handshake(&self, stream: &mut TcpStream) -> Result<ConnectionKeys, Fault> {
        let client_hello = read_message(stream).await?;
        let offer = ClientHello::parse(&client_hello).ok_or(Fault::Malformed("a ClientHello for P-256"))?;
        let ours = EphemeralSecret::random(&mut OsRng);
        let mut random = [0; 32];
        OsRng.fill_bytes(&mut random);
        let server_hello = server_hello(&offer.session_id, &random, &ours.public_key());
        let mut transcript = Sha256::new().chain_update(&client_hello).chain_update(&server_hello);
        let shared = ours.diffie_hellman(&offer.public_key);
        let (handshake, master) = handshake_secrets(shared.raw_secret_bytes(), &hash(&transcript));

        let mut sealing = RecordKeys::new(&handshake.server);
        let mut flight = record(HANDSHAKE, &server_hello);
        for message in self.proof_messages(&mut transcript, &handshake.server) {
            flight.extend(sealing.seal(HANDSHAKE, &message)?);
        }
        stream.write_all(&flight).await?;

        let expected = message(FINISHED, &handshake.client.finished(&hash(&transcript)));
        match read_protected(stream, &mut RecordKeys::new(&handshake.client)).await? {
            (HANDSHAKE, found) if found == expected => {}
            _ => return Err(Fault::Malformed("the client's Finished")),
        }
        let application = application_secrets(&master, &hash(&transcript));
        Ok(ConnectionKeys {
            client: RecordKeys::new(&application.client),
            server: RecordKeys::new(&application.server),
        })
    }

    /// The messages after ServerHello, which go into the transcript.
    fn proof_messages(&self, transcript: &mut Sha256, secret: &Secret) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut add = |transcript: &mut Sha256, message: Vec<u8>| {
            transcript.update(&message);
            messages.push(message);
        };
        add(transcript, encrypted_extensions());
        match self.proof {
            Proof::Complete | Proof::CertificateAlone => add(transcript, certificate(&self.chain)),
            Proof::Nothing => {}
        }
        match self.proof {
            Proof::Complete => {
                let signature: DerSignature = self.key.sign(&to_be_signed(&hash(transcript)));
                add(transcript, certificate_verify(signature.as_bytes()));
            }
            Proof::CertificateAlone | Proof::Nothing => {}
        }
        add(transcript, message(FINISHED, &secret.finished(&hash(transcript))));
        messages
    }
}

/// The keys of both directions.
struct ConnectionKeys {
    client: RecordKeys,
    server: RecordKeys,
}

/// The hash of all messages so far.
fn hash(transcript: &Sha256) -> [u8; keys::HASH_BYTES] {
    transcript.clone().finalize().into()
}

/// One handshake message in unprotected records; all of the last record belongs to it.
async fn read_message(stream: &mut TcpStream) -> Result<Vec<u8>, Fault> {
    let mut message = Vec::new();
    loop {
        let (header, body) = read_record(stream).await?;
        match header[0] {
            HANDSHAKE => message.extend(body),
            ALERT => return Err(alert(&body)),
            _ => return Err(Fault::Malformed("a handshake message")),
        }
        if let [_type, high, middle, low, ref rest @ ..] = message[..]
            && rest.len() >= u32::from_be_bytes([0, high, middle, low]) as usize
        {
            return Ok(message);
        }
    }
}

/// Content type and content of the next protected record. Alerts are errors.
async fn read_protected(stream: &mut TcpStream, keys: &mut RecordKeys) -> Result<(u8, Vec<u8>), Fault> {
    loop {
        let (header, body) = read_record(stream).await?;
        match header[0] {
            // For middleboxes, of no meaning (RFC 8446 appendix D.4).
            CHANGE_CIPHER_SPEC => {}
            // Before it has keys, a client cannot protect its alert.
            ALERT => return Err(alert(&body)),
            APPLICATION_DATA => match keys.open(&header, &body)? {
                (ALERT, content) => return Err(alert(&content)),
                opened => return Ok(opened),
            },
            _ => return Err(Fault::Malformed("a record")),
        }
    }
}

/// Header and body of the next record.
async fn read_record(stream: &mut TcpStream) -> Result<([u8; RECORD_HEADER_BYTES], Vec<u8>), Fault> {
    let mut header = [0; RECORD_HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    stream.read_exact(&mut body).await?;
    Ok((header, body))
}

/// An alert is its level, which says nothing any more, and its description (section 6).
fn alert(content: &[u8]) -> Fault {
    match content {
        [_level, description] => Fault::Alert(AlertDescription::from(*description)),
        _ => Fault::Malformed("an alert"),
    }
}
