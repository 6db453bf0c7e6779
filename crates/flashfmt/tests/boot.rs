//! What the second-stage bootloader refuses, and what the first bytes of an image show.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use flashfmt::image::boot::{Revision, check, check_load_addresses};
use flashfmt::image::compose::{Composer, esp32c3};
use flashfmt::image::{
    Glance, ImageHeader, Kind, Missing, NotAnApplication, Outline, Segment, Target, UPDATER_PROJECT_NAME,
    Unbootable, verify,
};
use flashfmt::{AppDescriptor, Chip, ImageError};
use proptest::prelude::*;

/// Load address and length of a segment.
type Place = (u32, u32);

/// Segments of the bootloaders that espflash 4.7 brings (ESP-IDF v6.1), read from their files, with the lowest revision
/// in their headers: data, IRAM that is free again when an application is loaded, loader.
#[rustfmt::skip]
const BOOTLOADERS: [(Chip, u16, [Place; 3]); 14] = [
    (Chip::Esp32, 0, [(0x3fff_0040, 0x3fff_17f8), (0x4007_8000, 0x4007_bda0), (0x4008_0400, 0x4008_1350)]),
    (Chip::Esp32S2, 0, [(0x3ffe_5110, 0x3ffe_6578), (0x4004_a000, 0x4004_abf0), (0x4004_e000, 0x4005_1358)]),
    (Chip::Esp32S3, 0, [(0x3fce_2820, 0x3fce_3bd0), (0x403c_8700, 0x403c_9474), (0x403c_b700, 0x403c_e5f8)]),
    (Chip::Esp32C2, 100, [(0x3fcd_5c80, 0x3fcd_70c8), (0x403a_c370, 0x403a_cf6c), (0x403a_eb70, 0x403b_15c4)]),
    (Chip::Esp32C3, 3, [(0x3fcd_5830, 0x3fcd_6c34), (0x403c_bf10, 0x403c_cba8), (0x403c_e710, 0x403d_166c)]),
    (Chip::Esp32C5, 100, [(0x4085_56c0, 0x4085_6b28), (0x4084_bba0, 0x4084_c90c), (0x4084_e5a0, 0x4085_1648)]),
    (Chip::Esp32C6, 0, [(0x4087_5730, 0x4087_6c20), (0x4086_b910, 0x4086_c658), (0x4086_e610, 0x4087_1780)]),
    (Chip::Esp32C61, 100, [(0x4084_5790, 0x4084_6c88), (0x4083_b970, 0x4083_c648), (0x4083_e670, 0x4084_1760)]),
    (Chip::Esp32H2, 0, [(0x4084_60f0, 0x4084_75a0), (0x4083_c2d0, 0x4083_d17c), (0x4083_efd0, 0x4084_1ec4)]),
    (Chip::Esp32H21, 0, [(0x4084_2b90, 0x4084_40a4), (0x4083_8d80, 0x4083_9a9c), (0x4083_ba78, 0x4083_e8e8)]),
    (Chip::Esp32H4, 2, [(0x4085_6460, 0x4085_7b5c), (0x4084_c650, 0x4084_d338), (0x4084_f350, 0x4085_28c8)]),
    (Chip::Esp32P4, 100, [(0x4ff3_3ce0, 0x4ff3_5088), (0x4ff2_8ed0, 0x4ff2_9c34), (0x4ff2_bbd0, 0x4ff2_f138)]),
    (Chip::Esp32P4, 300, [(0x4ffb_60d0, 0x4ffb_747c), (0x4ffa_b2c0, 0x4ffa_c1e8), (0x4ffa_dfc0, 0x4ffb_15e4)]),
    (Chip::Esp32S31, 0, [(0x2f07_40c0, 0x2f07_55d0), (0x2f06_a2b0, 0x2f06_aebc), (0x2f06_cfb0, 0x2f06_ff98)]),
];

/// Where ESP-IDF's linker scripts (v6.1) put the first and let end the last static byte of an application's RAM, by
/// bus: `SRAM_IRAM_ORG` and kin of `esp_system/ld/<chip>/memory.ld.in`. ESP32's IRAM is that of
/// `CONFIG_ESP_SYSTEM_ESP32_SRAM1_REGION_AS_IRAM`.
const APPLICATIONS: [(Chip, u16, &[Place]); 8] = [
    (Chip::Esp32, 0, &[(0x4008_0000, 0x400A_A000), (0x3FFB_0000, 0x3FFD_BF20)]),
    (Chip::Esp32S2, 0, &[(0x4002_2000, 0x4004_E000), (0x3FFB_2000, 0x3FFD_E000)]),
    (Chip::Esp32S3, 0, &[(0x4037_4000, 0x403C_B700), (0x3FC8_8000, 0x3FCD_B700)]),
    (Chip::Esp32C2, 100, &[(0x4037_C000, 0x403A_EB70), (0x3FCA_0000, 0x3FCC_EB70)]),
    (Chip::Esp32C3, 3, &[(0x4038_0000, 0x403C_E710), (0x3FC8_0000, 0x3FCC_E710), (0x5000_0000, 0x5000_2000)]),
    (Chip::Esp32C6, 0, &[(0x4080_0000, 0x4086_E610), (0x5000_0000, 0x5000_4000)]),
    (Chip::Esp32H2, 0, &[(0x4080_0000, 0x4083_EFD0), (0x5000_0000, 0x5000_1000)]),
    (Chip::Esp32P4, 300, &[(0x4FF4_0000, 0x4FFA_DFC0)]),
];

fn header(chip: Chip, min_chip_rev_full: u16) -> ImageHeader {
    ImageHeader { min_chip_rev_full, ..ImageHeader::new(chip, 0, 1) }
}

fn segment((start, end): (u32, u32)) -> Segment {
    Segment { load_addr: start, data_offset: 0x20, len: end - start }
}

#[test]
fn no_bootloader_of_any_chip_is_an_application() {
    for (chip, revision, segments) in BOOTLOADERS {
        let header = header(chip, revision);
        let segments = segments.map(segment);
        let desc = AppDescriptor::new("lamp", "1.0.0");
        // Not even with a descriptor.
        assert_eq!(Kind::of(&header, &segments, Some(&desc)), Kind::Bootloader, "{chip}");
        let refused = check_load_addresses(&header, &segments);
        assert!(matches!(refused, Err(Unbootable::OverBootloader { .. })), "{chip}: {refused:?}");
    }
    // ESP-IDF 4.4 on ESP32-C3: `iram_seg`, `iram_loader_seg`, `dram_seg` as its linker script has them.
    let before =
        [(0x3fcd_6000, 0x3fcd_7000), (0x403c_e000, 0x403c_e600), (0x403d_0000, 0x403d_3000)].map(segment);
    assert_eq!(Kind::of(&header(Chip::Esp32C3, 0), &before, None), Kind::Bootloader);
}

#[test]
fn an_application_may_fill_the_ram_that_esp_idf_gives_it_and_no_more() {
    for (chip, revision, memories) in APPLICATIONS {
        let header = header(chip, revision);
        let full: Vec<_> = memories.iter().map(|memory| segment(*memory)).collect();
        assert_eq!(check_load_addresses(&header, &full), Ok(()), "{chip}");
        assert_eq!(Kind::of(&header, &full, None), Kind::Undescribed, "{chip}");
        for (index, (start, end)) in memories.iter().enumerate() {
            let longer = check_load_addresses(&header, &[segment((*start, end + 4))]);
            assert!(longer.is_err(), "{chip}: memory {index} ends at {end:#x}");
        }
    }
}

#[test]
fn what_is_no_memory_is_refused_and_what_is_not_loaded_is_not_looked_at() {
    let header = header(Chip::Esp32C3, 0);
    let judge =
        |load_addr, len| check_load_addresses(&header, &[Segment { load_addr, data_offset: 0x20, len }]);
    // ROM, a register, behind the RAM, the end of all addresses.
    for (load_addr, len) in
        [(0x4000_0000, 4), (0x6000_8000, 4), (0x3FCD_FFFC, 8), (0xFFFF_FFFC, 8), (0x1000_0000, 4)]
    {
        let outside = Unbootable::OutsideMemory { index: 0, load_addr, len_bytes: len };
        assert_eq!(judge(load_addr, len), Err(outside), "{load_addr:#x}");
    }
    // Padding, no data, and both windows of flash.
    for (load_addr, len) in
        [(0, 0x100), (4, 0x100), (0x403D_0000, 0), (0x3C00_0020, 0x100), (0x4200_0020, 0x100)]
    {
        assert_eq!(judge(load_addr, len), Ok(()), "{load_addr:#x}");
    }
}

#[test]
fn revisions_are_judged_as_the_bootloader_does() {
    let image = |min, max| ImageHeader {
        min_chip_rev_full: min,
        max_chip_rev_full: max,
        ..ImageHeader::new(Chip::Esp32C3, 0, 1)
    };
    let chip = |full, ignores_max| Target {
        chip: Chip::Esp32C3,
        revision: Some(Revision { full, ignores_max }),
        efuse_blocks: None,
    };
    let judge = |min, max, full| check(&image(min, max), &[], None, &chip(full, false));
    assert_eq!(judge(3, 199, 3), Ok(()));
    assert_eq!(judge(3, 199, 199), Ok(()));
    assert_eq!(judge(4, 199, 3), Err(Unbootable::ChipTooOld { min: 4, found: 3 }));
    assert_eq!(judge(3, 99, 101), Err(Unbootable::ChipTooNew { max: 99, found: 101 }));
    // No limit, and one that an eFuse lifts.
    assert_eq!(judge(0, 0, 101), Ok(()));
    assert_eq!(judge(0, u16::MAX, 101), Ok(()));
    assert_eq!(check(&image(3, 99), &[], None, &chip(101, true)), Ok(()));
    assert!(check(&image(102, 99), &[], None, &chip(101, true)).is_err(), "only the highest");
    // What is not known is not judged; the chip is.
    let unknown = Target { chip: Chip::Esp32C3, revision: None, efuse_blocks: None };
    assert_eq!(check(&image(400, 99), &[], None, &unknown), Ok(()));
    let other = Target { chip: Chip::Esp32C6, ..unknown };
    let refused = Unbootable::Chip { expected: Chip::Esp32C6, found: Chip::Esp32C3 };
    assert_eq!(check(&image(0, 0), &[], None, &other), Err(refused));
}

#[test]
fn efuse_blocks_are_judged_on_all_chips_but_the_first() {
    let desc = |min, max| AppDescriptor {
        min_efuse_blk_rev_full: min,
        max_efuse_blk_rev_full: max,
        ..AppDescriptor::new("lamp", "1.0.0")
    };
    let judge = |chip, min, max, ignores_max| {
        let target = Target { chip, revision: None, efuse_blocks: Some(Revision { full: 103, ignores_max }) };
        check(&ImageHeader::new(chip, 0, 1), &[], Some(&desc(min, max)), &target)
    };
    let refused = |min, max| Err(Unbootable::EfuseBlocks { min, max, found: 103 });
    for (min, max) in [(0, 199), (103, 103), (0, 0), (u16::MAX, u16::MAX)] {
        assert_eq!(judge(Chip::Esp32C3, min, max, false), Ok(()), "{min} to {max}");
    }
    assert_eq!(judge(Chip::Esp32C3, 104, 199, false), refused(104, 199));
    assert_eq!(judge(Chip::Esp32C3, 0, 99, false), refused(0, 99));
    assert_eq!(judge(Chip::Esp32C3, 0, 99, true), Ok(()));
    assert_eq!(judge(Chip::Esp32, 104, 99, false), Ok(()));
}

#[test]
fn the_updater_is_known_by_its_project_name() {
    let image =
        |project| esp32c3(&AppDescriptor::new(project, "1.0.0"), &[1; 16], &[2; 16], &[3; 16]).unwrap();
    assert_eq!(verify(&image("pitstop-updater")).unwrap().kind(), Kind::Updater);
    assert_eq!(verify(&image("pitstop-updater-2")).unwrap().kind(), Kind::Application);
}

#[test]
fn what_may_go_into_a_slot() {
    let judge = |image: Composer, without_descriptor| {
        verify(&image.build().unwrap()).unwrap().check_application(without_descriptor)
    };
    let composer = || Composer::new(Chip::Esp32C3, 0x4038_0000);
    let described = |project, load_addr| {
        composer().segment_with_app_desc(load_addr, &AppDescriptor::new(project, "1"), &[1; 64])
    };
    let bare = |load_addr| composer().segment(load_addr, &[1; 64]);
    for without_descriptor in [false, true] {
        assert_eq!(judge(described("lamp", 0x4038_0000), without_descriptor), Ok(()));
        let updater = judge(described(UPDATER_PROJECT_NAME, 0x4038_0000), without_descriptor);
        assert_eq!(updater, Err(NotAnApplication::Updater));
        let bootloader = NotAnApplication::Bootloader { index: 0, load_addr: 0x403D_0000 };
        assert_eq!(judge(bare(0x403D_0000), without_descriptor), Err(bootloader));
        // With a descriptor it is an application, which cannot be started all the same.
        let high = judge(described("lamp", 0x403D_0000), without_descriptor);
        assert!(
            matches!(high, Err(NotAnApplication::Unbootable(Unbootable::OverBootloader { .. }))),
            "{high:?}"
        );
        let nowhere = judge(described("lamp", 0x4000_0000), without_descriptor);
        assert!(matches!(nowhere, Err(NotAnApplication::Unbootable(Unbootable::OutsideMemory { .. }))));
    }
    assert_eq!(judge(bare(0x4038_0000), false), Err(NotAnApplication::NoDescriptor));
    assert_eq!(judge(bare(0x4038_0000), true), Ok(()));
}

/// An application with code behind a page of read-only data, as linkers make it.
fn app() -> Vec<u8> {
    esp32c3(&AppDescriptor::new("lamp", "1.2.0"), &vec![1; 0x1_2000], &vec![2; 0x8000], &[3; 0x400]).unwrap()
}

/// Fetches what the glance lacks, as a device does by ranges; tells how many it fetched.
fn fetch(image: &[u8], prefix_bytes: usize) -> Result<(Outline, u32), ImageError> {
    let mut glance = Glance::new(&image[..prefix_bytes.min(image.len())], u32::MAX)?;
    let mut fetched = 0;
    loop {
        match glance.missing() {
            Missing::Nothing(outline) => return Ok((outline, fetched)),
            Missing::Header { offset } => {
                assert!(offset.is_multiple_of(4));
                glance.push(image[offset as usize..].first_chunk().unwrap())?;
                fetched += 1;
            }
        }
    }
}

#[test]
fn a_prefix_shows_its_headers_and_names_the_others() {
    let image = app();
    let summary = verify(&image).unwrap();
    let glance = Glance::new(&image[..0x1_0000], u32::MAX).unwrap();
    assert_eq!(
        glance.segments(),
        &summary.segments.as_slice()[..1],
        "the second begins behind 72 KiB of data"
    );
    assert_eq!(glance.app_desc(), summary.app_desc.as_ref());
    let second = summary.segments.as_slice()[1];
    assert_eq!(glance.missing(), Missing::Header { offset: second.data_offset - 8 });

    for prefix_bytes in [24, 31, 32, 100, 0x1_0000, 0x1_2400, image.len()] {
        let (outline, fetched) = fetch(&image, prefix_bytes).unwrap();
        assert_eq!(outline.segments, summary.segments, "{prefix_bytes}");
        assert_eq!(outline.image_bytes as usize, image.len());
        let headers = u32::from(summary.header.segment_count);
        assert_eq!(
            fetched,
            match prefix_bytes {
                24 | 31 => headers,
                n if n == image.len() => 0,
                n if n < 0x1_2000 => headers - 1,
                _ => fetched,
            }
        );
    }
    assert!(matches!(Glance::new(&image[..23], u32::MAX), Err(ImageError::Truncated { .. })));
}

#[test]
fn a_prefix_is_judged_by_what_it_shows() {
    let image = app();
    let end = image.len() as u32;
    assert!(Glance::new(&image, end).is_ok());
    assert!(matches!(Glance::new(&image, end - 16), Err(ImageError::TooLarge { .. })));
    // Visible at once, and only with the second header.
    let bootloader = Composer::new(Chip::Esp32C3, 0).segment(0x3FCD_6000, &[1; 64]).build().unwrap();
    let glance = Glance::new(&bootloader[..64], u32::MAX).unwrap();
    assert_eq!(Kind::of(glance.header(), glance.segments(), glance.app_desc()), Kind::Bootloader);
    let mut glance = Glance::new(&image[..64], u32::MAX).unwrap();
    assert_eq!(
        Kind::of(glance.header(), glance.segments(), glance.app_desc()),
        Kind::Undescribed,
        "not seen yet"
    );
    let mut over = [0; 8];
    over[..4].copy_from_slice(&0x403D_0000_u32.to_le_bytes());
    over[4..].copy_from_slice(&4_u32.to_le_bytes());
    glance.push(&over).unwrap();
    assert!(matches!(
        check_load_addresses(glance.header(), glance.segments()),
        Err(Unbootable::OverBootloader { index: 1, .. })
    ));
    over[4] = 3;
    assert!(matches!(glance.push(&over), Err(ImageError::SegmentLength { .. })));
}

proptest! {
    #[test]
    fn glances_at_rubbish_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), count in 1..17_u8, limit: u32, records: [[u8; 8]; 16]) {
        if let Some(start) = bytes.first_chunk_mut::<24>() {
            start.copy_from_slice(&ImageHeader::new(Chip::Esp32, 0, count).emit());
        }
        if let Ok(mut glance) = Glance::new(&bytes, limit) {
            for record in records {
                if glance.push(&record).is_err() { break }
                let target = Target { chip: Chip::Esp32, revision: None, efuse_blocks: None };
                let _ = check(glance.header(), glance.segments(), glance.app_desc(), &target);
                let _ = glance.missing();
            }
        }
    }

    #[test]
    fn addresses_of_any_chip_never_panic(chip in prop::sample::select(Chip::ALL.to_vec()), load_addr: u32, len: u32, revision: u16) {
        let _ = check_load_addresses(&header(chip, revision), &[Segment { load_addr, data_offset: 0, len }]);
    }
}
