//! Images: composed ones verify, damaged ones do not, however the bytes are cut.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use flashfmt::app_desc::{APP_DESC_OFFSET, AppDescriptor};
use flashfmt::image::compose::{ComposeError, Composer, esp32c3, esp32c3_addr};
use flashfmt::image::{ImageHeader, Outline, verify};
use flashfmt::{Chip, ImageError, ImageSummary, Progress, StreamVerifier};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const SLOT_BYTES: u32 = 0x2f_0000;

/// A short image, so that every one of its bits can be tried: no flash-mapped code, hence no padding.
fn small_image() -> Vec<u8> {
    let desc = AppDescriptor::new("pitstop-demo", "1.0.0");
    Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
        .segment_with_app_desc(esp32c3_addr::DROM + 0x1_0020, &desc, b"rodata")
        .segment(esp32c3_addr::IRAM, &[0x6F, 0, 0, 0])
        .build()
        .unwrap()
}

fn full_image() -> Vec<u8> {
    let code: Vec<u8> = (0..9000_u32).map(|i| (i % 251) as u8).collect();
    esp32c3(&AppDescriptor::new("pitstop-demo", "1.1.0"), b"hello", &code, &[0x6F, 0, 0, 0]).unwrap()
}

fn stream(bytes: &[u8], pieces: impl IntoIterator<Item = usize>) -> Result<ImageSummary, ImageError> {
    let mut verifier = StreamVerifier::new(SLOT_BYTES);
    let mut rest = bytes;
    for piece_bytes in pieces {
        let (piece, later) = rest.split_at(piece_bytes.min(rest.len()));
        rest = later;
        verifier.update(piece)?;
    }
    verifier.update(rest)?;
    verifier.finish()
}

#[test]
fn a_composed_image_verifies_and_tells_what_it_is() {
    let image = full_image();
    let summary = verify(&image).unwrap();
    assert_eq!(summary.image_bytes as usize, image.len());
    assert_eq!(summary.digest, <[u8; 32]>::from(Sha256::digest(&image)));
    assert_eq!(summary.header.chip, Chip::Esp32C3);
    assert_eq!(summary.header.entry_addr, esp32c3_addr::IRAM);
    assert_eq!(summary.app_desc, Some(AppDescriptor::new("pitstop-demo", "1.1.0")));

    let segments = summary.segments.as_slice();
    assert_eq!(segments[0].data_offset, APP_DESC_OFFSET);
    assert_eq!(
        segments.iter().map(|segment| segment.load_addr).collect::<Vec<_>>(),
        [0x3C01_0020, 0x4038_0000, 0, 0x4200_0020]
    );
}

/// The outline of an image in memory. Reading past its end is an error, as reading past a slot would be.
fn outline(bytes: &[u8]) -> Result<Outline, ImageError> {
    Outline::read(SLOT_BYTES, |offset, buffer| {
        let wanted = offset as usize..offset as usize + buffer.len();
        let (expected_bytes, found_bytes) = (wanted.end as u32, bytes.len() as u32);
        let found = bytes.get(wanted).ok_or(ImageError::Truncated { expected_bytes, found_bytes })?;
        buffer.copy_from_slice(found);
        Ok(())
    })
}

#[test]
fn the_outline_is_that_of_the_whole_image() {
    let image = full_image();
    let summary = verify(&image).unwrap();
    let expected =
        Outline { header: summary.header, segments: summary.segments, image_bytes: summary.image_bytes };
    assert_eq!(outline(&image), Ok(expected));
}

/// The outline is the weaker check: what it refuses, verifying refuses too. It sees headers and not data.
#[test]
fn the_outline_refuses_only_what_verifying_refuses() {
    let image = small_image();
    let headers: Vec<_> = std::iter::once(0..24)
        .chain(
            verify(&image)
                .unwrap()
                .segments
                .as_slice()
                .iter()
                .map(|segment| segment.data_offset as usize - 8..segment.data_offset as usize),
        )
        .collect();
    let mut refused = 0;
    for bit in 0..image.len() * 8 {
        let mut damaged = image.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&damaged).is_err(), "bit {bit}");
        let found = outline(&damaged);
        if headers.iter().any(|header| header.contains(&(bit / 8))) {
            refused += usize::from(found.is_err());
        } else {
            assert_eq!(found, outline(&image), "bit {bit}");
        }
    }
    assert!(refused > 50, "only {refused} damaged headers were refused");
    let no_hash = Composer::new(Chip::Esp32C3, 0).segment(0x4038_0000, &[0; 4]).build().unwrap();
    let mut no_hash = no_hash;
    no_hash[23] = 0;
    assert_eq!(outline(&no_hash), Err(ImageError::HashNotAppended));
}

/// The hash engine of a chip stands behind the same trait: what matters is that all bytes go through it.
#[test]
fn the_sha256_is_the_callers() {
    #[derive(Clone)]
    struct Engine(Sha256, std::rc::Rc<std::cell::Cell<usize>>);
    impl sha2::digest::Update for Engine {
        fn update(&mut self, data: &[u8]) {
            self.1.set(self.1.get() + data.len());
            Digest::update(&mut self.0, data);
        }
    }
    impl sha2::digest::OutputSizeUser for Engine {
        type OutputSize = sha2::digest::consts::U32;
    }
    impl sha2::digest::FixedOutput for Engine {
        fn finalize_into(self, out: &mut sha2::digest::Output<Self>) {
            Digest::finalize_into(self.0, out);
        }
    }
    impl Default for Engine {
        fn default() -> Self {
            Self(Sha256::new(), std::rc::Rc::default())
        }
    }
    impl sha2::digest::HashMarker for Engine {}

    let image = full_image();
    let engine = Engine::default();
    let mut verifier = StreamVerifier::with_sha256(SLOT_BYTES, engine.clone());
    verifier.update(&image).unwrap();
    assert_eq!(verifier.finish(), verify(&image));
    assert_eq!(engine.1.get(), image.len());
}

#[test]
fn drom_and_irom_use_different_mmu_entries() {
    for code_bytes in [0, 4, 0xFFDC, 0xFFE0, 0xFFE4, 0x2_0000] {
        let image =
            esp32c3(&AppDescriptor::new("a", "1"), &[], &vec![0; code_bytes], &[0x6F, 0, 0, 0]).unwrap();
        let summary = verify(&image).unwrap();
        let pages = |low: u32| {
            let segment = *summary
                .segments
                .as_slice()
                .iter()
                .find(|segment| segment.load_addr >> 24 == low >> 24)
                .unwrap();
            assert_eq!(segment.data_offset % 0x1_0000, segment.load_addr % 0x1_0000);
            let first = (segment.load_addr & 0x7F_FFFF) >> 16;
            first..=((segment.load_addr & 0x7F_FFFF) + segment.len.max(1) - 1) >> 16
        };
        assert!(pages(esp32c3_addr::IROM).end() < pages(esp32c3_addr::DROM).start(), "{code_bytes}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let image = small_image();
    assert!(verify(&image).is_ok());
    for bit in 0..image.len() * 8 {
        let mut damaged = image.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // As in a slot: erased flash follows, so a segment made longer does not run out of bytes.
        damaged.resize(image.len() + 4096, 0xFF);
        assert!(stream(&damaged, []).is_err(), "bit {bit} of {}", image.len() * 8);
    }
}

#[test]
fn every_truncation_is_refused() {
    let image = small_image();
    for len in 0..image.len() {
        match verify(&image[..len]) {
            Err(ImageError::Truncated { expected_bytes, found_bytes }) => {
                assert_eq!(found_bytes as usize, len);
                assert!(expected_bytes as usize > len && expected_bytes as usize <= image.len());
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn bytes_after_the_image_are_ignored() {
    let image = small_image();
    let mut slot = image.clone();
    slot.resize(image.len() + 10_000, 0xA5);
    let mut verifier = StreamVerifier::new(SLOT_BYTES);
    let done = Progress::Done { image_bytes: image.len() as u32 };
    assert_eq!(verifier.update(&slot), Ok(done));
    assert_eq!(verifier.update(&slot), Ok(done));
    assert_eq!(verifier.finish(), verify(&image));
}

#[test]
fn the_limit_is_exact() {
    let image = small_image();
    let feed = |limit_bytes| StreamVerifier::new(limit_bytes).update(&image);
    assert!(feed(image.len() as u32).is_ok());
    let refused = feed(image.len() as u32 - 1);
    let expected =
        ImageError::TooLarge { needed_bytes: image.len() as u32, limit_bytes: image.len() as u32 - 1 };
    assert_eq!(refused, Err(expected));
}

#[test]
fn errors_name_what_was_found_and_stay() {
    let patched = |at: usize, byte: u8| {
        let mut image = small_image();
        image[at] = byte;
        verify(&image)
    };
    assert_eq!(verify(&[0xFF; 4096]), Err(ImageError::NoImage));
    assert_eq!(patched(0, 0x7F), Err(ImageError::BadMagic { found: 0x7F }));
    assert_eq!(patched(1, 0), Err(ImageError::SegmentCount { found: 0 }));
    assert_eq!(patched(1, 17), Err(ImageError::SegmentCount { found: 17 }));
    assert_eq!(patched(12, 0x77), Err(ImageError::UnknownChip { found_id: 0x77 }));
    assert_eq!(patched(23, 0), Err(ImageError::HashNotAppended));
    assert_eq!(patched(23, 2), Err(ImageError::HashFlag { found: 2 }));
    assert!(matches!(patched(28, 1), Err(ImageError::SegmentLength { index: 0, .. })));
    assert!(matches!(patched(24, 0x24), Err(ImageError::SegmentMisplaced { index: 0, .. })));
    assert!(matches!(patched(0x40, 0xAA), Err(ImageError::Checksum { .. })));

    let mut verifier = StreamVerifier::new(SLOT_BYTES);
    assert_eq!(verifier.update(&[0xFF; 24]), Err(ImageError::NoImage));
    assert_eq!(verifier.update(&small_image()), Err(ImageError::NoImage));
    assert_eq!(verifier.finish(), Err(ImageError::NoImage));
}

#[test]
fn an_image_without_hash_is_for_looking_only() {
    let image = Composer::new(Chip::Esp32S3, 0x4037_4000)
        .segment(0x4037_4000, &[1, 2, 3])
        .without_hash()
        .build()
        .unwrap();
    assert_eq!(verify(&image), Err(ImageError::HashNotAppended));
    let mut verifier = StreamVerifier::new(SLOT_BYTES).allow_missing_hash();
    verifier.update(&image).unwrap();
    let summary = verifier.finish().unwrap();
    assert_eq!(summary.app_desc, None);
    assert_eq!(summary.image_bytes as usize, image.len());
}

#[test]
fn a_descriptor_lies_in_the_first_segment_whole() {
    let desc = AppDescriptor::new("pitstop-demo", "1.0.0").emit();
    let (start, end) = desc.split_at(100);
    let image = Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
        .segment(esp32c3_addr::IRAM, start)
        .segment(esp32c3_addr::IRAM + 100, end)
        .build()
        .unwrap();
    assert_eq!(verify(&image).unwrap().app_desc, None);
}

#[test]
fn padding_goes_a_page_further_when_its_header_does_not_fit() {
    // The first segment's data ends at 24 + 8 + 4 = 36, the next one's would begin at 44: 4 bytes before 0x30, too
    // few for a padding segment's header.
    let image = Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
        .segment(esp32c3_addr::IRAM, &[0; 4])
        .segment(esp32c3_addr::IROM + 0x30, &[1; 4])
        .build()
        .unwrap();
    let summary = verify(&image).unwrap();
    assert_eq!(summary.segments.as_slice()[2].data_offset, 0x1_0030);
}

#[test]
fn composing_refuses_what_the_format_cannot_hold() {
    let empty = Composer::new(Chip::Esp32C3, 0);
    assert_eq!(empty.build(), Err(ComposeError::SegmentCount { found: 0 }));
    let many = (0..17).fold(empty.clone(), |composer, _| composer.segment(esp32c3_addr::IRAM, &[0; 4]));
    assert_eq!(many.build(), Err(ComposeError::SegmentCount { found: 17 }));
    let odd = empty.segment(esp32c3_addr::IROM + 2, &[0; 4]);
    assert_eq!(odd.build(), Err(ComposeError::AddressUnaligned { load_addr: 0x4200_0002 }));
}

/// Segments for a small image, in RAM or flash of the ESP32-C3.
fn any_segments() -> impl Strategy<Value = Vec<(u32, Vec<u8>)>> {
    let addr = prop_oneof![
        Just(esp32c3_addr::IRAM),
        (0_u32..0x1_0000).prop_map(|words| esp32c3_addr::IROM + words * 4),
        (0_u32..0x1_0000).prop_map(|words| esp32c3_addr::DROM + words * 4),
    ];
    prop::collection::vec((addr, prop::collection::vec(any::<u8>(), 0..600)), 1..6)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), has_magic: bool) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut().filter(|_| has_magic) {
            *first = 0xE9;
        }
        let _ = verify(&bytes);
        let _ = ImageHeader::parse(&bytes);
        let _ = AppDescriptor::parse(&bytes);
        let _ = outline(&bytes);
        let mut verifier = StreamVerifier::new(SLOT_BYTES).allow_missing_hash();
        let _ = verifier.update(&bytes);
        let _ = verifier.finish();
    }

    /// Bytes that get past the header: the interesting part of the parser.
    #[test]
    fn arbitrary_bodies_never_panic(
        count in 1_u8..=16,
        lengths in prop::collection::vec(0_u32..100, 16),
        body in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut image = ImageHeader::new(Chip::Esp32C3, 0, count).emit().to_vec();
        for length in lengths.into_iter().take(usize::from(count)) {
            image.extend_from_slice(&0x4038_0000_u32.to_le_bytes());
            image.extend_from_slice(&(length * 4).to_le_bytes());
            image.extend(body.iter().copied().take(length as usize * 4));
        }
        image.extend_from_slice(&body);
        prop_assert!(verify(&image).is_err());
        let _ = outline(&image);
    }

    #[test]
    fn the_verdict_does_not_depend_on_how_bytes_are_split(
        pieces in prop::collection::vec(0_usize..700, 0..300),
        damage in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut image = full_image();
        if let Some(at) = damage {
            let at = at.index(image.len());
            image[at] ^= 0x10;
        }
        let whole = stream(&image, []);
        prop_assert_eq!(whole.is_err(), damage.is_some());
        prop_assert_eq!(stream(&image, pieces), whole);
    }

    #[test]
    fn byte_by_byte_is_the_same(segments in any_segments()) {
        let composer = segments.iter().fold(Composer::new(Chip::Esp32C3, 0), |composer, (addr, data)| {
            composer.segment(*addr, data)
        });
        let image = composer.build().unwrap();
        let summary = verify(&image).unwrap();
        prop_assert_eq!(stream(&image, vec![1; image.len()]), Ok(summary));
        prop_assert_eq!(summary.image_bytes as usize, image.len());
        // Every segment given is found again, in order.
        let mut found = summary.segments.as_slice().iter().filter(|segment| segment.load_addr != 0);
        for (addr, data) in &segments {
            let segment = found.next().unwrap();
            let start = segment.data_offset as usize;
            prop_assert_eq!(segment.load_addr, *addr);
            prop_assert_eq!(&image[start..start + data.len()], &data[..]);
        }
    }

    #[test]
    fn headers_round_trip(
        segment_count in 1_u8..=16, spi_mode: u8, spi_speed in 0_u8..16, spi_size in 0_u8..16,
        entry_addr: u32, wp_pin: u8, spi_pin_drv: [u8; 3], chip in prop::sample::select(&Chip::ALL[..]),
        min_chip_rev: u8, min_chip_rev_full: u16, max_chip_rev_full: u16, reserved: [u8; 4], hash_appended: bool,
    ) {
        let header = ImageHeader {
            segment_count, spi_mode, spi_speed, spi_size, entry_addr, wp_pin, spi_pin_drv, chip, min_chip_rev,
            min_chip_rev_full, max_chip_rev_full, reserved, hash_appended,
        };
        prop_assert_eq!(ImageHeader::parse(&header.emit()), Ok(header));
    }

    #[test]
    fn descriptors_round_trip(
        project in "\\PC{0,40}", version in "\\PC{0,40}", secure_version: u32, app_elf_sha256: [u8; 32],
        revs: (u16, u16), mmu_page_size_log2: u8,
    ) {
        let desc = AppDescriptor {
            secure_version, app_elf_sha256, mmu_page_size_log2,
            min_efuse_blk_rev_full: revs.0, max_efuse_blk_rev_full: revs.1,
            ..AppDescriptor::new(&project, &version)
        };
        prop_assert!(project.starts_with(desc.project_name.as_str()));
        prop_assert_eq!(AppDescriptor::parse(&desc.emit()), Ok(desc));
    }
}
