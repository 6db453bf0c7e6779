//! Ephemeral Diffie-Hellman on P-256 (RFC 8446 section 7.4.2).

use alloc::boxed::Box;

use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::{EncodedPoint, FieldBytes, NonZeroScalar, PublicKey};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

use crate::point;

/// How often 32 random bytes may fail to be a private key before the source is called broken. One try in 2^32 fails
/// (the group order n of P-256 is about 2^256 - 2^224), so three in a row do not happen by chance.
const MAX_TRIES: usize = 3;

/// The group secp256r1, with the random numbers that its private keys are made from.
#[derive(Clone, Copy, Debug)]
pub struct Secp256r1 {
    random: &'static dyn SecureRandom,
}

impl Secp256r1 {
    /// `random` is a cryptographic source that is ready whenever a connection is made: on a chip the TRNG with its
    /// entropy source running.
    pub const fn new(random: &'static dyn SecureRandom) -> Self {
        Self { random }
    }

    pub(crate) fn random(&self) -> &'static dyn SecureRandom {
        self.random
    }

    /// A number from 1 to n - 1 with equal chances (NIST SP 800-56A revision 3 section 5.6.1.2.2, testing candidates).
    fn private_key(&self) -> Result<Zeroizing<NonZeroScalar>, Error> {
        let mut candidate = Zeroizing::new(FieldBytes::default());
        for _ in 0..MAX_TRIES {
            self.random.fill(&mut candidate)?;
            if let Some(scalar) = NonZeroScalar::from_repr(*candidate).into_option() {
                return Ok(Zeroizing::new(scalar));
            }
        }
        Err(GetRandomFailed.into())
    }
}

impl SupportedKxGroup for Secp256r1 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = self.private_key()?;
        let public = PublicKey::from_secret_scalar(&private).to_encoded_point(false);
        Ok(Box::new(KeyExchange { private, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }
}

/// A key exchange that waits for the other side.
struct KeyExchange {
    private: Zeroizing<NonZeroScalar>,
    public: EncodedPoint,
}

impl ActiveKeyExchange for KeyExchange {
    fn complete(self: Box<Self>, peer_public: &[u8]) -> Result<SharedSecret, Error> {
        let peer = point::uncompressed(peer_public).ok_or(PeerMisbehaved::InvalidKeyShare)?;
        // The group has prime order: a point that is not the identity, times a number that is not 0, is not either.
        let shared = diffie_hellman(*self.private, peer.as_affine());
        Ok(SharedSecret::from(&shared.raw_secret_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fills with the byte `.0` in its first `.1` answers, and with 1 after that.
    #[derive(Debug)]
    struct Stuck(u8, usize, AtomicUsize);

    impl SecureRandom for Stuck {
        fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
            let asked = self.2.fetch_add(1, Ordering::Relaxed);
            buffer.fill(if asked < self.1 { self.0 } else { 1 });
            Ok(())
        }
    }

    /// A source that has nothing to give.
    #[derive(Debug)]
    struct Dry;

    impl SecureRandom for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), GetRandomFailed> {
            Err(GetRandomFailed)
        }
    }

    static ONES: Stuck = Stuck(1, 0, AtomicUsize::new(0));

    fn refusal(peer_public: &[u8]) -> Option<Error> {
        Secp256r1::new(&ONES).start().unwrap().complete(peer_public).err()
    }

    #[test]
    fn a_share_is_an_uncompressed_point() {
        let own = Secp256r1::new(&ONES).start().unwrap().pub_key().to_vec();
        assert_eq!((own.len(), own[0]), (65, 4));
        assert_eq!(refusal(&own), None);
        let invalid = Some(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare));
        assert_eq!(refusal(b""), invalid);
        assert_eq!(refusal(&[0]), invalid, "the identity");
        assert_eq!(refusal(&[0; 65]), invalid, "the identity, padded");
        assert_eq!(refusal(&own[..64]), invalid);
        assert_eq!(refusal(&[&own[..], &[0]].concat()), invalid);
        for tag in [2, 3, 5] {
            assert_eq!(refusal(&[&[tag], &own[1..33]].concat()), invalid, "compressed, tag {tag}");
        }
        // Tags of the hybrid form of ANSI X9.62.
        for tag in [6, 7] {
            assert_eq!(refusal(&[&[tag], &own[1..]].concat()), invalid, "hybrid, tag {tag}");
        }
        let mut beside = own.clone();
        beside[64] ^= 1;
        assert_eq!(refusal(&beside), invalid, "not on the curve");
        beside = own;
        beside[1..33].fill(0xff);
        assert_eq!(refusal(&beside), invalid, "not a number of the field");
    }

    #[test]
    fn numbers_that_are_no_private_key_are_drawn_again() {
        // 0, and 2^256 - 1, which is more than n.
        for byte in [0, 0xff] {
            let start =
                |wrong| Secp256r1::new(Box::leak(Box::new(Stuck(byte, wrong, AtomicUsize::new(0))))).start();
            assert!(start(2).is_ok());
            assert_eq!(start(3).err(), Some(Error::FailedToGetRandomBytes));
        }
        assert_eq!(Secp256r1::new(&Dry).start().err(), Some(Error::FailedToGetRandomBytes));
    }
}
