//! SHA-256 for the transcript (RFC 8446 section 4.4.1). What it digests has been sent or received: no secret.

use alloc::boxed::Box;

use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use sha2::Digest;

/// Length of a digest, in bytes.
pub(crate) const DIGEST_BYTES: usize = 32;

/// SHA-256 (FIPS 180-4).
pub(crate) struct Sha256;

impl Hash for Sha256 {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Transcript(sha2::Sha256::new()))
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(&sha2::Sha256::digest(data))
    }

    fn output_len(&self) -> usize {
        DIGEST_BYTES
    }

    fn algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }
}

struct Transcript(sha2::Sha256);

impl Context for Transcript {
    fn fork_finish(&self) -> Output {
        Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_digest_gives_the_same() {
        // The example of one block in NIST's collection for FIPS 180-4.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(Sha256.hash(b"abc")), abc);
        let mut context = Sha256.start();
        context.update(b"ab");
        let mut fork = context.fork();
        fork.update(b"c");
        assert_eq!(hex::encode(fork.fork_finish()), abc);
        assert_eq!(hex::encode(fork.finish()), abc);
        assert_eq!(hex::encode(context.finish()), hex::encode(Sha256.hash(b"ab")));
    }
}
