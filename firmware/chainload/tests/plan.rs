//! What is planned for a good image, and each reason to refuse one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use chainload::plan::{LoadSegment, MapSegment};
use chainload::{Check, LoadPlan, MemoryMap, Misfit, Refused, Slot, plan};
use common::*;
use embedded_storage::nor_flash::NorFlashErrorKind;
use flashfmt::image::Unbootable;
use flashfmt::image::compose::Composer;
use flashfmt::{Chip, ImageError};
use sha2::{Digest, Sha256};

/// Why the chain-loader cannot start this whole image.
fn misfit(image: &Composer) -> Misfit {
    match plan_of(image, Check::Full) {
        Err(Refused::Misfit(misfit)) => {
            assert_eq!(plan_of(image, Check::Structure), Err(Refused::Misfit(misfit)));
            misfit
        }
        other => panic!("expected a misfit, found {other:?}"),
    }
}

/// Repairs the appended hash after a change.
fn rehash(image: &mut [u8]) {
    let end = image.len() - 32;
    let hash = Sha256::digest(&image[..end]);
    image[end..].copy_from_slice(&hash);
}

#[test]
fn every_segment_has_its_place_in_the_plan() {
    let image = program().build().unwrap();
    let plan = plan_bytes(&image, Check::Full).unwrap();
    assert_eq!(plan.entry_addr(), IRAM + 4);
    assert_eq!(
        plan.mapped(),
        [
            // The last entry: there the application finds its partition.
            MapSegment { first_entry: 127, first_page: 0x11, pages: 1 },
            MapSegment { first_entry: 2, first_page: 0x11, pages: 1 },
            MapSegment { first_entry: 0, first_page: 0x12, pages: 2 },
        ]
    );
    let data_of = |offset: u32, len: usize| &image[offset as usize - SLOT.offset as usize..][..len];
    let [iram, dram, rtc] = plan.loaded() else { panic!("{plan:?}") };
    assert_eq!(*iram, LoadSegment { load_addr: IRAM, flash_addr: SLOT.offset + 0x328, len_bytes: 0x1000 });
    assert_eq!(data_of(iram.flash_addr, 0x1000), pattern(0x1000, 2));
    assert_eq!((dram.load_addr, dram.len_bytes), (DRAM, 0x804));
    assert_eq!(data_of(dram.flash_addr, 0x804), pattern(0x804, 3));
    assert_eq!((rtc.load_addr, rtc.len_bytes), (RTC, 0x20));
}

#[test]
fn after_deep_sleep_rtc_memory_is_not_loaded() {
    let full = plan_of(&program(), Check::Full).unwrap();
    let woken = plan_of(&program(), Check::Structure).unwrap();
    assert_eq!(woken.loaded(), &full.loaded()[..2]);
    assert_eq!(woken.mapped(), full.mapped());
    assert_eq!(woken.entry_addr(), full.entry_addr());
}

#[test]
fn the_last_entry_maps_the_first_read_only_data_whatever_its_place_in_the_image() {
    let image = Composer::new(Chip::Esp32C3, IROM)
        .segment(IROM, &pattern(0x100, 1))
        .segment(DROM, &pattern(0x100, 2))
        .segment(DROM + 0x1_0000, &pattern(0x100, 3));
    let plan = plan_of(&image, Check::Full).unwrap();
    let last = plan.mapped().iter().find(|segment| segment.first_entry == 127).unwrap();
    let data = plan.mapped().iter().find(|segment| segment.first_entry == 2).unwrap();
    assert_eq!((last.first_page, last.pages), (data.first_page, 1));
    assert_eq!(plan.mapped().len(), 4);
}

#[test]
fn ram_is_loaded_up_to_the_bootloaders_own_and_no_further() {
    for (bootloader_addr, reserved_addr) in [(0x3FCC_E710, 0x3FCD_8000), (0x403C_E710, 0x403D_8000)] {
        let fits = program_with(bootloader_addr - 0x100, 0x100);
        assert_eq!(plan_of(&fits, Check::Full).unwrap().loaded().len(), 2);
        for (load_addr, len) in [(bootloader_addr - 0x100, 0x104), (reserved_addr - 4, 4)] {
            let over = Unbootable::OverBootloader { index: 1, load_addr, len_bytes: len as u32 };
            assert_eq!(misfit(&program_with(load_addr, len)), Misfit::Unbootable(over), "{load_addr:#x}");
        }
        for (load_addr, len) in
            [(reserved_addr - 0x100, 0x104), (reserved_addr, 4), (reserved_addr + 0x7FFC, 4)]
        {
            assert_eq!(
                misfit(&program_with(load_addr, len)),
                Misfit::OverLoader { index: 1, load_addr, len_bytes: len as u32, reserved_addr: 0x3FCD_8000 }
            );
        }
    }
}

/// The bootloader that espflash 4.7 brings: it would run in the updater's place, over the loader.
#[test]
fn a_second_stage_bootloader_is_not_started() {
    let bootloader = Composer::new(Chip::Esp32C3, 0x403C_BF1A)
        .segment(0x3FCD_5830, &pattern(0x1404, 1))
        .segment(0x403C_BF10, &pattern(0xC98, 2))
        .segment(0x403C_E710, &pattern(0x2F5C, 3));
    let over = Unbootable::OverBootloader { index: 0, load_addr: 0x3FCD_5830, len_bytes: 0x1404 };
    assert_eq!(misfit(&bootloader), Misfit::Unbootable(over));
}

#[test]
fn segments_outside_the_memories_are_refused() {
    for (load_addr, len) in [
        (0x3FC7_FFFC, 8),
        (0x3FCD_FFFC, 8),
        // The cache.
        (0x4037_C000, 0x100),
        (0x4037_FFFC, 8),
        (0x403D_FFFC, 8),
        (0x5000_1FFC, 8),
        // ROM, a register, and the end of all addresses.
        (0x4000_0000, 4),
        (0x6000_8000, 4),
        (0xFFFF_FFFC, 8),
        // Beyond the windows of flash.
        (0x3C7F_FFF0, 0x14),
        (0x427F_FFF0, 0x14),
    ] {
        assert_eq!(
            misfit(&program_with(load_addr, len)),
            Misfit::OutsideMemory { index: misfit_index(load_addr), load_addr, len_bytes: len as u32 },
            "{load_addr:#x}"
        );
    }
}

/// The composer puts padding before a mapped segment.
fn misfit_index(load_addr: u32) -> usize {
    if Chip::Esp32C3.is_flash_mapped(load_addr) { 2 } else { 1 }
}

#[test]
fn segments_for_the_same_memory_are_refused_on_both_buses() {
    let overlap = Misfit::Overlap { first: 0, second: 1 };
    assert_eq!(misfit(&program_with(IRAM + 0xFC, 8)), overlap);
    assert_eq!(misfit(&program_with(IRAM - 0x70_0000 + 0xFC, 8)), overlap);
    assert!(plan_of(&program_with(IRAM + 0x100, 8), Check::Full).is_ok());
    assert!(plan_of(&program_with(IRAM - 0x70_0000 + 0x100, 8), Check::Full).is_ok());
}

#[test]
fn segments_between_words_are_refused() {
    assert_eq!(misfit(&program_with(DRAM + 2, 8)), Misfit::Unaligned { index: 1, load_addr: DRAM + 2 });
}

#[test]
fn two_flash_pages_for_one_entry_are_refused() {
    // Both windows share the entries: code and data 0x10000 apart in flash, at the same place in their windows.
    let image = Composer::new(Chip::Esp32C3, IROM)
        .segment(IROM, &pattern(0x100, 1))
        .segment(0x3C00_0020, &pattern(0x100, 2));
    assert_eq!(misfit(&image), Misfit::PageTaken { index: 2, entry: 0 });
    // The last entry is taken.
    let image = program_with(0x3C00_0020, 0x100).segment(0x427F_0020, &pattern(0x100, 3));
    assert_eq!(misfit(&image), Misfit::PageTaken { index: 4, entry: 127 });
    // A shared page that is the same page is not a conflict.
    let image = Composer::new(Chip::Esp32C3, IROM)
        .segment(0x3C00_0020, &pattern(0x100, 1))
        .segment(0x4200_0128, &pattern(0x100, 2))
        .segment(IRAM, &pattern(0x10, 3));
    let mut bytes = image.build().unwrap();
    bytes[4..8].copy_from_slice(&0x4200_0128_u32.to_le_bytes());
    rehash(&mut bytes);
    assert!(plan_bytes(&bytes, Check::Full).is_ok());
}

#[test]
fn the_entry_point_must_be_code_of_the_image() {
    let with_entry = |entry_addr| {
        Composer::new(Chip::Esp32C3, entry_addr)
            .segment(DROM, &pattern(0x100, 1))
            .segment(IRAM, &pattern(0x100, 2))
            .segment(DRAM, &pattern(0x100, 3))
            .segment(IROM, &pattern(0x100, 4))
    };
    // The third is in the segment for DRAM, seen from the instruction bus.
    for entry_addr in [IRAM, IROM + 0xFE, DRAM + 0x70_0000 + 0x10] {
        assert_eq!(plan_of(&with_entry(entry_addr), Check::Full).unwrap().entry_addr(), entry_addr);
    }
    for entry_addr in
        [0, DROM, DRAM, IRAM - 0x70_0000, IRAM + 0x100, IROM + 0x100, IROM - 1, 0x4000_0000, u32::MAX]
    {
        assert_eq!(misfit(&with_entry(entry_addr)), Misfit::Entry { entry_addr }, "{entry_addr:#x}");
    }
}

#[test]
fn images_for_another_chip_are_refused() {
    let image = Composer::new(Chip::Esp32C6, 0x4080_0000).segment(0x4080_0000, &pattern(0x100, 1));
    assert_eq!(misfit(&image), Misfit::Chip { expected: Chip::Esp32C3, found: Chip::Esp32C6 });
}

#[test]
fn an_image_of_the_esp32c6_is_planned_with_its_own_map() {
    let image = Composer::new(Chip::Esp32C6, 0x4080_0000)
        .segment(0x4201_0020, &pattern(0x100, 1))
        .segment(0x4080_0000, &pattern(0x100, 2))
        .segment(0x4200_0020, &pattern(0x100, 3))
        .build()
        .unwrap();
    let mut flash = Flash::with(SLOT, &image);
    let plan = plan::<Sha256, _>(&MemoryMap::ESP32C6, SLOT, Check::Full, &mut flash).unwrap();
    assert_eq!(
        plan.mapped(),
        [
            MapSegment { first_entry: 255, first_page: 0x11, pages: 1 },
            MapSegment { first_entry: 1, first_page: 0x11, pages: 1 },
            MapSegment { first_entry: 0, first_page: 0x12, pages: 1 },
        ]
    );
}

#[test]
fn slots_that_cannot_be_mapped_are_refused() {
    let image = program().build().unwrap();
    for (offset, size_bytes) in
        [(0x11_0004, 0xF_0000), (0x11_0000, 0xF_0004), (0xFF_0000, 0x2_0000), (0x1000, u32::MAX - 0xFFF)]
    {
        let slot = Slot { offset, size_bytes };
        let mut flash = Flash::with(SLOT, &image);
        let found = plan::<Sha256, _>(&MemoryMap::ESP32C3, slot, Check::Full, &mut flash);
        assert_eq!(found, Err(Refused::Misfit(Misfit::Slot { offset, size_bytes })));
    }
    // A slot between pages suits only images without mapped segments.
    let slot = Slot { offset: 0x11_1000, size_bytes: 0xE_F000 };
    let found = plan::<Sha256, _>(&MemoryMap::ESP32C3, slot, Check::Full, &mut Flash::with(slot, &image));
    let flash_addr = 0x11_1020;
    assert_eq!(
        found,
        Err(Refused::Misfit(Misfit::MappingUnaligned { index: 0, load_addr: DROM, flash_addr }))
    );
}

#[test]
fn images_larger_than_their_slot_are_refused() {
    let image = program().build().unwrap();
    let size_bytes = (image.len() as u32).next_multiple_of(0x1000);
    let slot = |size_bytes| Slot { size_bytes, ..SLOT };
    for check in [Check::Full, Check::Structure] {
        let found = |size_bytes| {
            plan::<Sha256, _>(&MemoryMap::ESP32C3, slot(size_bytes), check, &mut Flash::with(SLOT, &image))
        };
        assert!(found(size_bytes).is_ok());
        assert!(matches!(found(size_bytes - 0x1000), Err(Refused::Image(ImageError::TooLarge { .. }))));
        assert!(found(0).is_err());
    }
}

#[test]
fn damaged_images_are_refused() {
    let image = program().build().unwrap();
    let damaged = |offset: usize, mask: u8| {
        let mut image = image.clone();
        image[offset] ^= mask;
        image
    };
    let full = |image: &[u8]| plan_bytes(image, Check::Full).unwrap_err();
    assert_eq!(full(&damaged(0, 1)), Refused::Image(ImageError::BadMagic { found: 0xE8 }));
    assert_eq!(full(&damaged(1, 0x10)), Refused::Image(ImageError::SegmentCount { found: 0x16 }));
    assert!(matches!(full(&damaged(0x200, 1)), Refused::Image(ImageError::Checksum { .. })));
    // Two flips that the checksum does not see.
    let mut twice = damaged(0x200, 1);
    twice[0x201] ^= 1;
    assert!(matches!(full(&twice), Refused::Image(ImageError::Hash { .. })));
    assert_eq!(full(&[]), Refused::Image(ImageError::NoImage));
    let unhashed = program().without_hash().build().unwrap();
    assert_eq!(full(&unhashed), Refused::Image(ImageError::HashNotAppended));
    // After deep sleep the data is not looked at, the headers are.
    assert!(plan_bytes(&twice, Check::Structure).is_ok());
    assert!(plan_bytes(&damaged(0, 1), Check::Structure).is_err());
    assert!(plan_bytes(&damaged(1, 0x10), Check::Structure).is_err());
}

#[test]
fn unreadable_flash_is_told_with_its_address() {
    let mut flash = Flash::with(SLOT, &program().build().unwrap());
    flash.broken_addr = Some(SLOT.offset + 0x801);
    let found = plan::<Sha256, _>(&MemoryMap::ESP32C3, SLOT, Check::Full, &mut flash);
    assert_eq!(found, Err(Refused::Flash { addr: SLOT.offset + 0x800, kind: NorFlashErrorKind::Other }));
}

#[test]
fn segments_without_data_and_padding_are_skipped() {
    let image = program_with(0x3FCD_F000, 0).segment(0, &pattern(0x40, 1)).segment(0x4200_0000, &[]);
    let plan = plan_of(&image, Check::Full).unwrap();
    assert_eq!((plan.loaded().len(), plan.mapped().len()), (1, 0));
}

/// Who has verified an image already can plan its start without reading it again.
#[test]
fn a_plan_needs_no_flash() {
    let image = program().build().unwrap();
    let summary = flashfmt::image::verify(&image).unwrap();
    let new = |slot| LoadPlan::new(&MemoryMap::ESP32C3, slot, &summary.header, &summary.segments);
    assert_eq!(new(SLOT).unwrap(), plan_bytes(&image, Check::Full).unwrap());
    // The last segment, behind its padding, ends after this slot.
    assert_eq!(new(Slot { size_bytes: 0x2_0000, ..SLOT }), Err(Misfit::OutsideSlot { index: 5 }));
}
