use proptest::prelude::*;

use super::*;

const SECTOR: usize = SECTOR_BYTES as usize;

/// A flash of two blocks whose bytes are all `byte`.
fn flash_of(byte: u8) -> SimFlash {
    SimFlash::from_bytes(vec![byte; 2 * BLOCK_BYTES as usize])
}

fn cut(operation: u64, tear: Tear) -> PowerCut {
    PowerCut { operation, tear, seed: 7 }
}

#[test]
fn a_write_over_unerased_bytes_is_caught_and_leaves_the_and() {
    let mut flash = SimFlash::new(SECTOR_BYTES);
    flash.write(8, &[0xF0; 4]).unwrap();
    // Clearing more bits is allowed.
    flash.write(8, &[0x70; 4]).unwrap();
    assert!(flash.violations().is_empty());

    let violation = Violation { address: 9, found: 0x70, wanted: 0x0F };
    assert_eq!(flash.write(8, &[0x30, 0x0F, 0x70, 0x70]), Err(FlashError::NotErased(violation)));
    assert_eq!(flash.bytes()[8..12], [0x30, 0x00, 0x70, 0x70]);
    assert_eq!((flash.violations(), flash.stats().violations), (&[violation][..], 1));

    flash.set_on_violation(OnViolation::Pass);
    assert_eq!(flash.write(8, &[0xFF; 4]), Ok(()));
    assert_eq!(flash.bytes()[8..12], [0x30, 0x00, 0x70, 0x70]);
    assert_eq!(flash.stats().violations, 2);

    flash.erase(0, SECTOR_BYTES).unwrap();
    assert_eq!(flash.write(8, &[0x0F; 4]), Ok(()));
}

#[test]
fn ranges_are_checked_before_anything_is_done() {
    let mut flash = SimFlash::new(2 * SECTOR_BYTES);
    let end = 2 * SECTOR_BYTES;
    let mut word = [0; 4];
    assert!(matches!(flash.read(2, &mut word), Err(FlashError::NotAligned { unit_bytes: 4, .. })));
    assert!(matches!(flash.read(end - 4, &mut [0; 8]), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.write(4, &[0; 3]), Err(FlashError::NotAligned { .. })));
    assert!(matches!(flash.write(end, &word), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.write(u32::MAX - 3, &word), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.erase(0, 4), Err(FlashError::NotAligned { unit_bytes: 4096, .. })));
    assert!(matches!(flash.erase(SECTOR_BYTES, 0), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.erase(0, end + SECTOR_BYTES), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.flip_bit(end, 0), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.fill(end - 1..end + 1, 0), Err(FlashError::OutOfBounds { .. })));
    assert!(matches!(flash.put(end - 1, &[0, 0]), Err(FlashError::OutOfBounds { .. })));
    assert_eq!(flash.stats(), &FlashStats { sector_erases: vec![0, 0], ..FlashStats::default() });
    assert!(flash.log().is_empty());
    assert!(flash.bytes().iter().all(|byte| *byte == 0xFF));
}

#[test]
fn counters_and_log_tell_what_was_done() {
    let mut flash = flash_of(0);
    // One sector up to the block, the block, one sector after it.
    flash.erase(BLOCK_BYTES - SECTOR_BYTES, 2 * BLOCK_BYTES).unwrap();
    flash.erase(0, SECTOR_BYTES).unwrap();
    flash.erase(0, SECTOR_BYTES).unwrap();
    flash.write(16, &[1; 8]).unwrap();
    flash.read(0, &mut [0; 32]).unwrap();
    let stats = flash.stats();
    assert_eq!((stats.reads, stats.read_bytes), (1, 32));
    assert_eq!((stats.writes, stats.written_bytes), (1, 8));
    assert_eq!((stats.erases, stats.erased_bytes), (4, u64::from(BLOCK_BYTES + 3 * SECTOR_BYTES)));
    assert_eq!(stats.sector_erases[0], 2);
    assert_eq!(stats.sector_erases[1..15], [0; 14]);
    assert_eq!(stats.sector_erases[15..], [1; 17]);
    assert_eq!(stats.max_sector_erases(), 2);
    let erase = |address, length_bytes| Operation { kind: OperationKind::Erase, address, length_bytes };
    let log = flash.take_log();
    assert_eq!(
        log[..3],
        [
            erase(BLOCK_BYTES - SECTOR_BYTES, SECTOR_BYTES),
            erase(BLOCK_BYTES, BLOCK_BYTES),
            erase(0, SECTOR_BYTES)
        ]
    );
    assert_eq!(log[4], Operation { kind: OperationKind::Write, address: 16, length_bytes: 8 });
    assert!(flash.log().is_empty());
    flash.reset_stats();
    assert!(!flash.stats().is_mutated());
}

#[test]
fn a_torn_erase_leaves_exactly_what_its_tear_says() {
    for (tear, done) in [
        (Tear::Before, 0),
        (Tear::Prefix { bytes: 0 }, 0),
        (Tear::Prefix { bytes: 100 }, 100),
        // A torn operation is never a whole one.
        (Tear::Prefix { bytes: u32::MAX }, SECTOR - 1),
        (Tear::After, SECTOR),
    ] {
        let mut flash = flash_of(0x00);
        flash.arm(cut(1, tear));
        assert_eq!(flash.erase(0, SECTOR_BYTES), Err(FlashError::PowerLost));
        assert!(flash.bytes()[..done].iter().all(|byte| *byte == 0xFF), "{tear:?}");
        // The byte at the boundary may be anything.
        assert!(flash.bytes()[done + 1..].iter().all(|byte| *byte == 0x00), "{tear:?}");
        if tear == Tear::Before || tear == Tear::After {
            assert_eq!(flash.bytes()[done], 0x00);
        }
    }
}

#[test]
fn the_byte_at_the_boundary_is_half_way() {
    for bytes in [0, 100, u32::MAX] {
        let boundary = (bytes as usize).min(SECTOR - 1);
        let found: std::collections::BTreeSet<u8> = (0..64)
            .map(|seed| {
                let mut flash = flash_of(0x00);
                flash.arm(PowerCut { operation: 1, tear: Tear::Prefix { bytes }, seed });
                assert_eq!(flash.erase(0, SECTOR_BYTES), Err(FlashError::PowerLost));
                flash.bytes()[boundary]
            })
            .collect();
        assert!(found.len() > 16, "{bytes}: {found:x?}");
    }
}

#[test]
fn a_torn_write_changes_only_bits_that_it_would_change() {
    let wanted: Vec<u8> = (0..=255).collect();
    for tear in Tear::samples(256) {
        let mut flash = SimFlash::new(SECTOR_BYTES);
        flash.arm(cut(1, tear));
        assert_eq!(flash.write(256, &wanted), Err(FlashError::PowerLost));
        for (found, wanted) in flash.bytes()[256..512].iter().zip(&wanted) {
            assert_eq!(found & wanted, *wanted, "{tear:?} cleared a bit that was to stay");
        }
        assert!(flash.bytes()[..256].iter().chain(&flash.bytes()[512..]).all(|byte| *byte == 0xFF));
        let is_done = flash.bytes()[256..512] == wanted[..];
        let is_untouched = flash.bytes()[256..512].iter().all(|byte| *byte == 0xFF);
        match tear {
            Tear::Before => assert!(is_untouched),
            Tear::After => assert!(is_done),
            Tear::Prefix { bytes } => {
                let bytes = bytes as usize;
                assert_eq!(flash.bytes()[256..256 + bytes], wanted[..bytes]);
                assert!(flash.bytes()[256 + bytes + 1..512].iter().all(|byte| *byte == 0xFF));
            }
            Tear::Bits | Tear::Unstable => assert!(!is_done && !is_untouched),
        }
    }
}

#[test]
fn unstable_bits_flicker_until_an_erase_or_a_write_that_clears_them() {
    let read = |flash: &mut SimFlash| {
        let mut bytes = vec![0; SECTOR_BYTES as usize];
        flash.read(0, &mut bytes).unwrap();
        bytes
    };
    let mut flash = flash_of(0x00);
    flash.arm(cut(1, Tear::Unstable));
    assert!(flash.erase(0, SECTOR_BYTES).is_err());
    flash.power().restore();
    assert!(flash.unstable_bytes() > 1000);
    assert_ne!(read(&mut flash), read(&mut flash));
    flash.set_on_violation(OnViolation::Pass);
    flash.write(0, &[0; 256]).unwrap();
    assert!(read(&mut flash)[..256].iter().all(|byte| *byte == 0));
    assert_ne!(read(&mut flash)[256..], read(&mut flash)[256..]);
    flash.erase(0, SECTOR_BYTES).unwrap();
    assert_eq!((flash.unstable_bytes(), read(&mut flash)), (0, vec![0xff; SECTOR_BYTES as usize]));
}

#[test]
fn a_defective_sector_does_nothing_and_says_so_or_not() {
    let mut flash = SimFlash::new(2 * SECTOR_BYTES);
    for (kind, said) in
        [(DefectKind::Fails, Err(FlashError::Defect { address: 8 })), (DefectKind::DoesNothing, Ok(()))]
    {
        let operation = OperationKind::Write;
        flash.set_defects(vec![Defect { addresses: 0..SECTOR_BYTES, operation, kind }]);
        assert_eq!(flash.write(8, &[0; 4]), said);
        assert!(flash.bytes().iter().all(|byte| *byte == 0xff));
        flash.write(SECTOR_BYTES, &[0; 4]).unwrap();
        flash.erase(0, 2 * SECTOR_BYTES).unwrap();
    }
}

#[test]
fn random_bits_are_half_way_and_the_same_for_the_same_seed() {
    let torn = |seed| {
        let mut flash = flash_of(0x00);
        flash.arm(PowerCut { operation: 1, tear: Tear::Bits, seed });
        assert!(flash.erase(0, SECTOR_BYTES).is_err());
        flash.bytes().to_vec()
    };
    assert_eq!(torn(1), torn(1));
    assert_ne!(torn(1), torn(2));
    let set: u32 = torn(1).iter().map(|byte| byte.count_ones()).sum();
    let bits = SECTOR_BYTES * 8;
    assert!((bits * 2 / 5..bits * 3 / 5).contains(&set), "{set} of {bits} bits");
}

#[test]
fn after_a_cut_nothing_works_until_power_is_back() {
    let mut flash = SimFlash::new(2 * SECTOR_BYTES);
    flash.arm(cut(2, Tear::After));
    flash.write(0, &[0; 4]).unwrap();
    assert!(flash.is_armed());
    assert_eq!(flash.write(4, &[0; 4]), Err(FlashError::PowerLost));
    assert!(!flash.is_armed() && !flash.power().is_on());

    let before = flash.bytes().to_vec();
    assert_eq!(flash.read(0, &mut [0; 4]), Err(FlashError::PowerLost));
    assert_eq!(flash.write(8, &[0; 4]), Err(FlashError::PowerLost));
    assert_eq!(flash.erase(0, SECTOR_BYTES), Err(FlashError::PowerLost));
    // Without power even a wrong range is only a loss of power.
    assert_eq!(flash.write(1, &[0; 4]), Err(FlashError::PowerLost));
    assert_eq!(flash.bytes(), before);
    assert_eq!(flash.log().len(), 2);

    flash.power().restore();
    assert_eq!(flash.write(8, &[0; 4]), Ok(()));
}

#[test]
fn an_erase_of_several_units_can_be_cut_between_them() {
    let mut flash = flash_of(0x00);
    flash.arm(cut(2, Tear::Before));
    assert!(flash.erase(0, 3 * SECTOR_BYTES).is_err());
    assert!(flash.bytes()[..SECTOR].iter().all(|byte| *byte == 0xFF));
    assert!(flash.bytes()[SECTOR..].iter().all(|byte| *byte == 0x00));
}

#[test]
fn a_shared_power_switch_turns_the_flash_off() {
    let mut flash = SimFlash::new(SECTOR_BYTES);
    let power = PowerSwitch::new();
    flash.set_power(power.clone());
    power.cut();
    assert_eq!(flash.erase(0, SECTOR_BYTES), Err(FlashError::PowerLost));
}

#[test]
fn faults_from_outside_obey_no_rules_and_are_not_counted() {
    let mut flash = SimFlash::new(SECTOR_BYTES);
    flash.fill(0..16, 0xA5).unwrap();
    flash.put(3, &[1, 2]).unwrap();
    flash.flip_bit(0, 0).unwrap();
    flash.flip_bit(0, 7).unwrap();
    assert_eq!(flash.bytes()[..6], [0x24, 0xA5, 0xA5, 1, 2, 0xA5]);
    flash.flip_bit(0, 7).unwrap();
    assert_eq!(flash.bytes()[0], 0xA4);
    assert!(!flash.stats().is_mutated() && flash.log().is_empty());
}

#[test]
fn a_file_holds_the_contents_byte_for_byte() {
    const SIZE: u32 = 4 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash.bin");
    let mut flash = SimFlash::create(&path, SIZE).unwrap();
    assert!(std::fs::read(&path).unwrap() == vec![0xFF; SIZE as usize]);

    flash.write(SIZE - 4, &[1, 2, 3, 4]).unwrap();
    flash.persist().unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[SIZE as usize - 4..], [1, 2, 3, 4]);

    // Dropping writes back, also what was torn.
    flash.arm(cut(1, Tear::Prefix { bytes: 2 }));
    assert!(flash.write(0, &[0; 4]).is_err());
    let expected = flash.bytes().to_vec();
    drop(flash);
    assert!(std::fs::read(&path).unwrap() == expected);

    let flash = SimFlash::open(&path, SIZE).unwrap();
    assert!(flash.bytes() == expected);
    drop(flash);
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["flash.bin"], "temporary files are gone");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flash.bin");
    drop(SimFlash::create(&path, SECTOR_BYTES).unwrap());
    let wrong = SimFlash::open(&path, 2 * SECTOR_BYTES);
    assert!(matches!(wrong, Err(FlashFileError::Size { found_bytes: 4096, wanted_bytes: 8192, .. })));
    assert!(matches!(SimFlash::open(&path, 100), Err(FlashFileError::NoSuchFlash { wanted_bytes: 100 })));
    assert!(matches!(SimFlash::create(&path, 0), Err(FlashFileError::NoSuchFlash { .. })));
    let nowhere = folder.path().join("missing").join("flash.bin");
    assert!(matches!(SimFlash::open(&nowhere, SECTOR_BYTES), Err(FlashFileError::Io { .. })));
    assert!(matches!(SimFlash::create(&nowhere, SECTOR_BYTES), Err(FlashFileError::Io { .. })));
}

proptest! {
    /// Whatever is written over whatever, whole or torn: bits only go to 0, and every difference from what was
    /// wanted in a whole write is a violation.
    #[test]
    fn writes_only_clear_bits(
        old in proptest::collection::vec(any::<u8>(), 16..=16),
        new in proptest::collection::vec(any::<u8>(), 16..=16),
        seed: u64,
        tear in prop_oneof![
            Just(None),
            Just(Some(Tear::Bits)),
            (0u32..20).prop_map(|bytes| Some(Tear::Prefix { bytes })),
        ],
    ) {
        let mut flash = SimFlash::from_bytes(old.clone());
        if let Some(tear) = tear {
            flash.arm(PowerCut { operation: 1, tear, seed });
        }
        let result = flash.write(0, &new);
        let found = &flash.bytes()[..16];
        for ((found, old), new) in found.iter().zip(&old).zip(&new) {
            prop_assert_eq!(found & !old, 0);
            prop_assert_eq!(found & old & new, old & new);
        }
        match tear {
            Some(_) => prop_assert_eq!(result, Err(FlashError::PowerLost)),
            None => prop_assert_eq!(result.is_ok(), found == &new[..]),
        }
        prop_assert_eq!(flash.stats().violations == 0, old.iter().zip(&new).all(|(old, new)| new & !old == 0));
    }
}

#[test]
fn operations_take_the_time_of_their_pace() {
    let took = |pace: Pace, act: fn(&mut SimFlash)| {
        let mut flash = SimFlash::new(4 * BLOCK_BYTES);
        flash.replace_pace(pace);
        act(&mut flash);
        flash.power().clock().worked().as_micros()
    };
    let erase_sector: fn(&mut SimFlash) = |flash| flash.erase(0, SECTOR_BYTES).unwrap();
    let erase_block: fn(&mut SimFlash) = |flash| flash.erase(0, BLOCK_BYTES).unwrap();
    let write: fn(&mut SimFlash) = |flash| flash.write(252, &[0; 264]).unwrap();
    let read: fn(&mut SimFlash) = |flash| flash.read(0, &mut [0; 1024]).unwrap();
    for (act, typical_us, worst_us) in [
        (erase_sector, 45_000, 400_000),
        (erase_block, 150_000, 2_000_000),
        // The end of one page, all of the next, the beginning of a third.
        (write, 1_200, 9_000),
        (read, 976, 1_269),
    ] {
        assert_eq!(took(Pace::None, act), 0);
        assert_eq!(took(Pace::Typical, act), typical_us);
        assert_eq!(took(Pace::Worst, act), worst_us);
        let mixed: Vec<_> = (0..20).map(|seed| took(Pace::mixed(seed), act)).collect();
        assert!(mixed.contains(&typical_us) && mixed.contains(&worst_us), "{mixed:?}");
        assert_eq!(mixed, (0..20).map(|seed| took(Pace::mixed(seed), act)).collect::<Vec<_>>());
    }
}

#[test]
fn a_misread_bit_is_wrong_in_every_read_and_right_in_the_cell() {
    let mut flash = SimFlash::new(BLOCK_BYTES);
    flash.set_misread(Some(Misread { address: 17, mask: 0x40 }));
    let read = |flash: &mut SimFlash, address| {
        let mut bytes = [0; 4];
        flash.read(address, &mut bytes).unwrap();
        bytes
    };
    assert_eq!([12, 16, 20, 16].map(|at| read(&mut flash, at)[1]), [0xff, 0xbf, 0xff, 0xbf]);
    flash.set_misread(None);
    assert_eq!(read(&mut flash, 16), [0xff; 4]);
}

#[test]
fn a_flicker_inverts_a_bit_of_some_reads_and_changes_nothing() {
    let reads = |seed| {
        let mut flash = SimFlash::new(BLOCK_BYTES);
        flash.set_flickers(vec![Flicker { addresses: 16..24, one_in: 4 }], seed);
        let read = |flash: &mut SimFlash, address| {
            let mut bytes = [0; 32];
            flash.read(address, &mut bytes).unwrap();
            bytes
        };
        let struck: Vec<_> = (0..100).map(|_| read(&mut flash, 0)).collect();
        assert!((0..100).all(|_| read(&mut flash, 24) == [0xff; 32]), "beside the addresses");
        assert!(flash.bytes().iter().all(|byte| *byte == 0xff));
        struck
    };
    let zeros = |bytes: &[u8; 32]| bytes.iter().map(|byte| byte.count_zeros()).sum::<u32>();
    let struck = reads(1);
    assert!(struck.iter().all(|bytes| zeros(bytes) <= 1));
    assert!(struck.iter().all(|bytes| bytes[..16] == [0xff; 16] && bytes[24..] == [0xff; 8]));
    let wrong = struck.iter().filter(|bytes| zeros(bytes) == 1).count();
    assert!((10..40).contains(&wrong), "{wrong} of 100");
    assert_eq!(struck, reads(1));
    assert_ne!(struck, reads(2));
}
