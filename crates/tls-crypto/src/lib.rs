//! What rustls computes with on the chip: a [`CryptoProvider`] over the libraries of RustCrypto, for TLS 1.3 alone.
//!
//! | for | there is | from |
//! | --- | --- | --- |
//! | records | [`TLS13_CHACHA20_POLY1305_SHA256`], and with the feature `aes-gcm` `TLS13_AES_128_GCM_SHA256` | chacha20poly1305, aes-gcm |
//! | key exchange | [`Secp256r1`] | p256 |
//! | key schedule, transcript | HKDF and HMAC with SHA-256 | hmac, sha2 |
//! | certificates, CertificateVerify | ECDSA with P-256 and SHA-256 | p256 |
//!
//! Random numbers are the machine's: [`Secp256r1`] is given a [`SecureRandom`], and rustls gets the same one.
//!
//! Records are encrypted and decrypted in place. Keys and shared secrets are wiped when they are dropped. What the
//! libraries below leave on the stack while they compute is not.
//!
//! ```
//! # #[derive(Debug)]
//! # struct Trng;
//! # impl rustls::crypto::SecureRandom for Trng {
//! #     fn fill(&self, _: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> { Ok(()) }
//! # }
//! static KEY_EXCHANGE: tls_crypto::Secp256r1 = tls_crypto::Secp256r1::new(&Trng);
//! let provider = tls_crypto::provider(&KEY_EXCHANGE);
//! assert_eq!(provider.kx_groups.len(), 1);
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod aead;
mod hkdf;
mod hmac;
mod kx;
mod point;
mod sha256;
mod sign;
mod suite;
mod verify;
#[cfg(test)]
mod wycheproof;

pub use kx::Secp256r1;
#[cfg(feature = "aes-gcm")]
pub use suite::TLS13_AES_128_GCM_SHA256;
pub use suite::TLS13_CHACHA20_POLY1305_SHA256;

use alloc::vec;

use rustls::crypto::{CryptoProvider, SecureRandom};

/// The provider. `key_exchange` holds the source of random numbers, which rustls uses as well; it is a `static`
/// because rustls asks for references that never end.
pub fn provider(key_exchange: &'static Secp256r1) -> CryptoProvider {
    let random: &'static dyn SecureRandom = key_exchange.random();
    CryptoProvider {
        cipher_suites: vec![
            TLS13_CHACHA20_POLY1305_SHA256,
            #[cfg(feature = "aes-gcm")]
            TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![key_exchange],
        signature_verification_algorithms: verify::ALGORITHMS,
        secure_random: random,
        key_provider: &sign::P256Keys,
    }
}
