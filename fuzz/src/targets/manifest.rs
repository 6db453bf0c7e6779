//! Signed manifests: any bytes, any payload under a good signature, and a good manifest with changed bytes.

use std::sync::OnceLock;

use arbitrary::Arbitrary;
use manifest::{CHUNK_BYTES, Manifest, PublisherKeys, PublisherSigningKey, Sequence, Signed};
use minicbor::Encoder;
use minicbor::data::Tag;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};

#[derive(Arbitrary, Debug)]
pub enum Input<'a> {
    Bytes(&'a [u8]),
    /// The publisher signs whatever this is.
    Signed {
        protected: Option<&'a [u8]>,
        payload: &'a [u8],
    },
    /// Bytes of a good message that become others; what lies outside is added at its end.
    Changed {
        changes: Vec<(u16, u8)>,
        added: &'a [u8],
    },
}

pub fn run(input: Input<'_>) {
    let good = good();
    match input {
        Input::Bytes(bytes) => {
            // Whoever is lucky enough to sign has the key.
            if let Ok(manifest) = verify(bytes) {
                assert_eq!(manifest, good.manifest);
            }
        }
        Input::Signed { protected, payload } => {
            let message = sign(protected.unwrap_or(&[0xa1, 0x01, 0x26]), payload);
            let Ok(manifest) = verify(&message) else { return };
            assert!(
                protected.is_none_or(|header| header.last() == Some(&0x26)),
                "another algorithm than ES256"
            );
            check(&manifest);
        }
        Input::Changed { changes, added } => {
            let mut message = good.message.clone();
            for (place, byte) in changes {
                let place = usize::from(place) % message.len();
                message[place] = byte;
            }
            message.extend_from_slice(added);
            // The unprotected header and the form of lengths may change, and nothing that is signed.
            if let Ok(manifest) = verify(&message) {
                assert_eq!(manifest, good.manifest);
                assert!(added.is_empty());
            }
        }
    }
}

struct Good {
    keys: PublisherKeys,
    secret: SigningKey,
    manifest: Manifest,
    message: Vec<u8>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let secret = || p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let key = PublisherSigningKey::new(secret());
        let mut manifest = Manifest::describe(&[1; 70_000], Sequence(7), "lamp", 5, "1.2.0").unwrap();
        manifest.revert_to = Some(vec![Sequence(6)]);
        let message = Signed::sign(&manifest, &key).unwrap().as_bytes().to_vec();
        let keys = PublisherKeys::from_iter([key.publisher_key()]);
        Good { keys, secret: secret().into(), manifest, message }
    })
}

fn verify(message: &[u8]) -> Result<Manifest, manifest::VerifyError> {
    Signed::<Manifest>::from_bytes(message.to_vec()).verify(&good().keys)
}

/// A COSE_Sign1 (RFC 9052 section 4.2) around anything.
fn sign(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let encode = |write: &dyn Fn(&mut Encoder<&mut Vec<u8>>)| {
        let mut bytes = Vec::new();
        write(&mut Encoder::new(&mut bytes));
        bytes
    };
    let to_be_signed = encode(&|encoder| {
        let parts = encoder.array(4).unwrap().str("Signature1").unwrap();
        parts.bytes(protected).unwrap().bytes(&[]).unwrap().bytes(payload).unwrap();
    });
    let signature: Signature = good().secret.sign(&to_be_signed);
    encode(&|encoder| {
        let parts = encoder.tag(Tag::new(18)).unwrap().array(4).unwrap().bytes(protected).unwrap();
        parts.map(0).unwrap().bytes(payload).unwrap().bytes(&signature.to_bytes()).unwrap();
    })
}

/// What everybody relies on who holds a manifest.
fn check(manifest: &Manifest) {
    let artifact = &manifest.artifact;
    assert!((1..=16 * 1024 * 1024).contains(&artifact.size_bytes));
    assert_eq!(artifact.chunks.len(), artifact.size_bytes.div_ceil(CHUNK_BYTES) as usize);
    assert!(manifest.min_slot_bytes >= artifact.size_bytes);
    assert!((1..=64).contains(&manifest.product.len()) && (1..=64).contains(&manifest.version.len()));
    assert!(manifest.reverts().len() <= 16);
    let mut covered_bytes = 0;
    for index in 0..artifact.chunks.len() as u32 {
        let (offset_bytes, length_bytes) = artifact.chunk(index).unwrap();
        assert_eq!(offset_bytes, covered_bytes);
        covered_bytes += length_bytes;
    }
    assert_eq!(covered_bytes, artifact.size_bytes);
    // It can be signed again, and says the same.
    let key = PublisherSigningKey::new(p256::SecretKey::from_slice(&[7; 32]).unwrap());
    let again = Signed::sign(manifest, &key).unwrap();
    assert_eq!(&again.verify(&good().keys).unwrap(), manifest);
}
