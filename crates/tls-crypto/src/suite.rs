//! The cipher suites (RFC 8446 appendix B.4).

use rustls::crypto::CipherSuiteCommon;
use rustls::{CipherSuite, SupportedCipherSuite, Tls13CipherSuite};

use crate::aead::RecordProtection;
use crate::hkdf::HkdfSha256;
use crate::sha256::Sha256;

/// ChaCha20-Poly1305 (RFC 8439) with SHA-256: small and in constant time on a core without AES instructions.
pub const TLS13_CHACHA20_POLY1305_SHA256: SupportedCipherSuite =
    SupportedCipherSuite::Tls13(&Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            hash_provider: &Sha256,
            // The sequence number runs out first (RFC 8446 section 5.5).
            confidentiality_limit: u64::MAX,
        },
        hkdf_provider: &HkdfSha256,
        aead_alg: &RecordProtection::<chacha20poly1305::ChaCha20Poly1305>::new(),
        quic: None,
    });

/// AES-128 in Galois/Counter Mode (NIST SP 800-38D) with SHA-256.
#[cfg(feature = "aes-gcm")]
pub const TLS13_AES_128_GCM_SHA256: SupportedCipherSuite = SupportedCipherSuite::Tls13(&Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &Sha256,
        // RFC 8446 section 5.5 allows 2^24.5 full-size records for one key.
        confidentiality_limit: 1 << 24,
    },
    hkdf_provider: &HkdfSha256,
    aead_alg: &RecordProtection::<aes_gcm::Aes128Gcm>::new(),
    quic: None,
});
