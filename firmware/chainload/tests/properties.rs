//! Whatever is in a slot: no panic, and no plan that touches what it must not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use chainload::{Check, LoadPlan, Refused};
use common::*;
use flashfmt::Chip;
use flashfmt::image::compose::Composer;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use sha2::{Digest, Sha256};

/// What a plan must never do; written without the crate's own memory map.
fn assert_harmless(plan: &LoadPlan) {
    let mut filled = Vec::new();
    for segment in plan.loaded() {
        let (start, end) = (segment.load_addr, segment.load_addr.checked_add(segment.len_bytes).unwrap());
        assert!(start % 4 == 0 && segment.len_bytes % 4 == 0 && segment.len_bytes > 0);
        let physical = match start {
            0x3FC8_0000..0x3FCD_8000 => start,
            0x4038_0000..0x403D_8000 => start - 0x70_0000,
            0x5000_0000..0x5000_2000 => {
                assert!(end <= 0x5000_2000);
                start
            }
            other => panic!("{other:#x} is not for applications"),
        };
        assert!(start >= 0x5000_0000 || physical + segment.len_bytes <= 0x3FCD_8000, "{segment:x?}");
        filled.push(physical..physical + segment.len_bytes);
        assert!(segment.flash_addr >= SLOT.offset);
        assert!(segment.flash_addr + segment.len_bytes <= SLOT.offset + SLOT.size_bytes);
    }
    filled.sort_by_key(|range| range.start);
    assert!(filled.is_sorted_by(|one, next| one.end <= next.start), "{filled:x?}");

    let mut table = [None; 128];
    for segment in plan.mapped() {
        assert!(segment.pages > 0);
        for index in 0..segment.pages {
            let page = segment.first_page + index;
            assert!((SLOT.offset / 0x1_0000..(SLOT.offset + SLOT.size_bytes) / 0x1_0000).contains(&page));
            let entry = &mut table[(segment.first_entry + index) as usize];
            assert!(entry.is_none_or(|other| other == page));
            *entry = Some(page);
        }
    }
}

fn judge(image: &[u8]) -> Result<(), TestCaseError> {
    for check in [Check::Full, Check::Structure] {
        match plan_bytes(image, check) {
            Ok(plan) => assert_harmless(&plan),
            Err(refused) => {
                let flash_fault = matches!(refused, Refused::Flash { .. });
                prop_assert!(!flash_fault, "read outside flash: {}", refused);
            }
        }
    }
    Ok(())
}

/// Where memories begin and end.
const BORDERS: [u32; 14] = [
    0,
    0x3C00_0000,
    0x3C80_0000,
    0x3FC8_0000,
    0x3FCD_8000,
    0x3FCE_0000,
    0x4037_C000,
    0x4038_0000,
    0x403D_8000,
    0x403E_0000,
    0x4200_0000,
    0x4280_0000,
    0x5000_0000,
    0x5000_2000,
];

/// Addresses at and around every border.
fn addr() -> impl Strategy<Value = u32> {
    let near = (select(&BORDERS[..]), -0x2_0000_i32..0x2_0000)
        .prop_map(|(border, distance)| border.wrapping_add_signed(distance));
    prop_oneof![8 => near.clone().prop_map(|addr| addr & !3), 2 => near, 1 => any::<u32>()]
}

proptest! {
    #[test]
    fn rubbish_is_never_started(bytes in proptest::collection::vec(any::<u8>(), 0..0x2000)) {
        judge(&bytes)?;
    }

    #[test]
    fn rubbish_behind_a_header_is_judged(
        mut bytes in proptest::collection::vec(any::<u8>(), 0x100..0x2000),
        segment_count in 0..=20_u8,
    ) {
        bytes[..2].copy_from_slice(&[0xE9, segment_count]);
        bytes[12..14].copy_from_slice(&[5, 0]);
        bytes[23] = 1;
        judge(&bytes)?;
    }

    /// Headers that pass the format's own checks, with addresses and lengths of all kinds.
    #[test]
    fn whole_images_for_any_address_are_judged(
        entry_addr in addr(),
        segments in proptest::collection::vec((addr(), 0..0x3_0000_usize), 1..8),
    ) {
        let image = segments.iter().fold(Composer::new(Chip::Esp32C3, entry_addr), |image, (addr, len)| {
            image.segment(*addr, &vec![0xA5; *len])
        });
        // Some addresses cannot be composed, and some images are larger than the slot and the flash.
        if let Ok(image) = image.build() && image.len() <= SLOT.size_bytes as usize {
            judge(&image)?;
        }
    }

    /// A good image with changed words, and with a hash that fits again.
    #[test]
    fn mutated_images_are_judged(
        changes in proptest::collection::vec((any::<Index>(), addr()), 1..4),
        rehash in any::<bool>(),
    ) {
        let image = program().build().unwrap();
        // Words of the headers: where each segment's header is, is known from a sound image.
        let mut header_words = vec![0, 1, 3, 5];
        let mut position = 24;
        for _ in 0..image[1] {
            header_words.extend([position / 4, position / 4 + 1]);
            let len = u32::from_le_bytes(image[position + 4..position + 8].try_into().unwrap());
            position += 8 + len as usize;
        }
        let mut mutated = image;
        for (index, word) in changes {
            let at = 4 * index.get(&header_words);
            mutated[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        if rehash {
            let end = mutated.len() - 32;
            let hash = Sha256::digest(&mutated[..end]);
            mutated[end..].copy_from_slice(&hash);
        }
        judge(&mutated)?;
    }
}
