//! Releases that a server may offer, and how the engine is told of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use manifest::{Manifest, PublisherSigningKey, Sequence, Signed};

/// What happens at some of many steps: how many are left alone before it, and what.
pub struct Sometimes<T> {
    things: std::vec::IntoIter<(u8, T)>,
    next: Option<(u8, T)>,
}

impl<T> Sometimes<T> {
    pub fn new(things: Vec<(u8, T)>) -> Self {
        let mut things = things.into_iter();
        let next = things.next();
        Self { things, next }
    }

    /// What happens at this step.
    pub fn take(&mut self) -> Option<T> {
        match self.next.take()? {
            (0, thing) => {
                self.next = self.things.next();
                Some(thing)
            }
            (left, thing) => {
                self.next = Some((left - 1, thing));
                None
            }
        }
    }
}

/// One offer; equal offers are the same bytes.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    sequence: u8,
    /// What the image is made of.
    build: u8,
    chunks: u8,
    /// A release that may be returned to.
    revert_to: Option<u8>,
    twist: Twist,
}

/// What is wrong with an offer.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Twist {
    Nothing,
    /// Somebody else signed it.
    Stranger,
    OtherProduct,
    OtherChip,
    Expired,
    LargeSlot,
    /// A bit of the signed message is flipped.
    Flipped(u16),
    CutOff(u16),
}

/// An offer as bytes.
#[derive(Clone)]
pub struct Made {
    /// What was signed.
    pub manifest: Manifest,
    pub message: Vec<u8>,
    /// Whether the publisher signed it, for this device. It may have expired.
    pub is_trusted: bool,
}

/// The product and the chip of the devices in `crates/updater/tests/world`, and their publisher's key.
const PRODUCT: &str = "lamp";
const CHIP_ID: u16 = 5;
const PUBLISHER: [u8; 32] = [7; 32];

thread_local! {
    /// Signing and hashing take longer than everything else here; there are few different releases.
    static MADE: RefCell<HashMap<Offer, Made>> = RefCell::default();
}

impl Offer {
    /// A good release with the number 1.
    pub const GOOD: Self = Self { sequence: 0, build: 0, chunks: 1, revert_to: None, twist: Twist::Nothing };

    pub fn made(self) -> Made {
        // Few numbers and few images, so that they meet each other.
        let offer = Self {
            sequence: self.sequence % 4,
            build: self.build % 4,
            chunks: self.chunks % 3,
            revert_to: self.revert_to.map(|sequence| sequence % 4),
            twist: match self.twist {
                Twist::Flipped(_) | Twist::CutOff(_) => Twist::Nothing,
                other => other,
            },
        };
        let made = MADE.with_borrow_mut(|made| made.entry(offer).or_insert_with(|| offer.make()).clone());
        match self.twist {
            Twist::Flipped(bit) => made.damaged(|message| {
                let place = usize::from(bit) / 8 % message.len();
                message[place] ^= 1 << (bit % 8);
            }),
            Twist::CutOff(length) => made.damaged(|message| message.truncate(usize::from(length))),
            _ => made,
        }
    }

    fn make(self) -> Made {
        let chunks = usize::from(self.chunks) + 1;
        let mut image = vec![self.build; chunks * 65_536 - 100];
        for (index, chunk) in image.chunks_mut(65_536).enumerate() {
            chunk[0] = index as u8;
        }
        let mut manifest = describe(&image, u64::from(self.sequence) + 1);
        manifest.revert_to = self.revert_to.map(|sequence| vec![Sequence(u64::from(sequence) + 1)]);
        match self.twist {
            Twist::OtherProduct => manifest.product = "door".into(),
            Twist::OtherChip => manifest.chip_id = 13,
            Twist::Expired => manifest.expires_at_s = Some(0),
            Twist::LargeSlot => manifest.min_slot_bytes = u32::MAX,
            Twist::Nothing | Twist::Stranger | Twist::Flipped(_) | Twist::CutOff(_) => {}
        }
        let secret = if self.twist == Twist::Stranger { [8; 32] } else { PUBLISHER };
        Made::signed(manifest, &secret, matches!(self.twist, Twist::Nothing | Twist::Expired))
    }
}

impl Made {
    /// A good release that comes after every other.
    pub fn target() -> &'static Self {
        static TARGET: OnceLock<Made> = OnceLock::new();
        TARGET.get_or_init(|| Self::signed(describe(&[9; 2 * 65_536 - 100], u64::MAX), &PUBLISHER, true))
    }

    fn signed(manifest: Manifest, secret: &[u8; 32], is_trusted: bool) -> Self {
        let key = PublisherSigningKey::new(p256::SecretKey::from_slice(secret).unwrap());
        let message = Signed::sign(&manifest, &key).unwrap().as_bytes().to_vec();
        Self { manifest, message, is_trusted }
    }

    /// What is not signed may change: the hint in the unprotected header.
    fn damaged(self, damage: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut message = self.message.clone();
        damage(&mut message);
        let payload = minicbor::to_vec(&self.manifest).unwrap();
        let has_payload = message.windows(payload.len()).any(|part| part == payload);
        let has_signature = message.ends_with(&self.message[self.message.len() - 64..]);
        Self { message, is_trusted: self.is_trusted && has_payload && has_signature, ..self }
    }
}

fn describe(image: &[u8], sequence: u64) -> Manifest {
    Manifest::describe(image, Sequence(sequence), PRODUCT, CHIP_ID, "1.0.0").unwrap()
}
