//! Partition tables: damage is refused, every legal table survives the round trip.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use flashfmt::otadata::{self, OtaEntry, OtaState};
use flashfmt::partition::{
    AppSubtype, DataSubtype, FIRST_PARTITION_OFFSET, Label, LabelError, MAX_PARTITIONS, TABLE_BYTES, emit,
};
use flashfmt::{Partition, PartitionError, PartitionKind, PartitionTable};
use proptest::prelude::*;

fn part(label: &str, kind: PartitionKind, offset: u32, size: u32) -> Partition {
    let label = Label::new(label).unwrap();
    Partition { label, kind, offset, size, encrypted: false, readonly: false }
}

fn data(label: &str, offset: u32, size: u32) -> Partition {
    part(label, PartitionKind::Data(DataSubtype::Nvs), offset, size)
}

fn app(label: &str, subtype_byte: u8, offset: u32) -> Partition {
    part(label, PartitionKind::App(AppSubtype::from_byte(subtype_byte)), offset, 0x1_0000)
}

fn binary(partitions: &[Partition]) -> [u8; TABLE_BYTES] {
    let mut out = [0; TABLE_BYTES];
    emit(partitions, &mut out).unwrap();
    out
}

fn refusal(partitions: &[Partition]) -> PartitionError {
    emit(partitions, &mut [0; TABLE_BYTES]).unwrap_err()
}

fn sample() -> Vec<Partition> {
    vec![
        app("ota_1", 0x11, 0x3_0000),
        data("nvs", 0x9000, 0x6000),
        app("ota_0", 0x10, 0x2_0000),
        app("factory", 0x00, 0x1_0000),
        part("journal", PartitionKind::Custom { type_: 0x40, subtype: 0 }, 0x4_0000, 0x2000),
    ]
}

#[test]
fn look_ups_do_not_depend_on_the_order() {
    let bytes = binary(&sample());
    let table = PartitionTable::parse(&bytes).unwrap();
    assert_eq!(table.iter().len(), 5);
    assert_eq!(table.factory().unwrap().offset, 0x1_0000);
    assert_eq!(table.find_label("journal").unwrap().end(), 0x4_2000);
    assert_eq!(table.find_label("vault"), None);
    assert_eq!(table.otadata(), None);
    let slots: Vec<_> = table.app_slots().map(|slot| (slot.slot().unwrap().get(), slot.offset)).collect();
    assert_eq!(slots, [(0, 0x2_0000), (1, 0x3_0000)]);
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = binary(&sample());
    // Five partitions, the MD5 entry and the end mark; what follows is not part of the table.
    for bit in 0..7 * 32 * 8 {
        let mut damaged = bytes;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(PartitionTable::parse(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = binary(&sample());
    for len in 0..7 * 32 {
        let expected = PartitionError::Truncated { found_bytes: len };
        assert_eq!(PartitionTable::parse(&bytes[..len]).unwrap_err(), expected);
    }
    assert!(PartitionTable::parse(&bytes[..7 * 32]).is_ok());
}

#[test]
fn faults_in_the_table_are_named() {
    let erased = PartitionTable::parse(&[0xFF; TABLE_BYTES]).unwrap_err();
    assert_eq!(erased, PartitionError::Erased);
    let zeros = PartitionTable::parse(&[0; TABLE_BYTES]).unwrap_err();
    assert_eq!(zeros, PartitionError::BadMagic { index: 0, found: [0, 0] });

    let mut bytes = binary(&sample());
    bytes[5 * 32..6 * 32].fill(0xFF);
    assert_eq!(PartitionTable::parse(&bytes).unwrap_err(), PartitionError::NoMd5);

    let mut bytes = binary(&sample());
    bytes[6 * 32] = 0xAA;
    assert_eq!(PartitionTable::parse(&bytes).unwrap_err(), PartitionError::NoEndMark { index: 6 });
}

#[test]
fn faults_between_partitions_are_named() {
    let label = |text: &str| Label::new(text).unwrap();
    assert_eq!(refusal(&[]), PartitionError::Empty);
    assert_eq!(
        refusal(&[data("a", 0x9000, 0x1000), data("a", 0xA000, 0x1000)]),
        PartitionError::DuplicateLabel { label: label("a") }
    );
    for (first, second) in [
        (data("a", 0x9000, 0x2000), data("b", 0xA000, 0x1000)),
        (data("a", 0xA000, 0x1000), data("b", 0x9000, 0x2000)),
        (data("a", 0x9000, 0x4000), data("b", 0xA000, 0x1000)),
    ] {
        let overlap = PartitionError::Overlap { first: label("a"), second: label("b") };
        assert_eq!(refusal(&[first, second]), overlap);
    }
    assert!(matches!(
        refusal(&[app("a", 0x10, 0x1_0000), app("b", 0x10, 0x2_0000)]),
        PartitionError::DuplicateKind { .. }
    ));
    assert!(matches!(refusal(&[app("a", 0x10, 0x1_1000)]), PartitionError::MisalignedOffset { .. }));
    assert!(matches!(refusal(&[data("a", 0x9004, 0x1000)]), PartitionError::MisalignedOffset { .. }));
    assert!(matches!(refusal(&[data("a", 0x9000, 0)]), PartitionError::BadSize { .. }));
    assert!(matches!(refusal(&[data("a", 0x8000, 0x1000)]), PartitionError::OverTable { .. }));
    assert!(matches!(refusal(&[data("a", 0xFFFF_F000, 0x1000)]), PartitionError::AddressOverflow { .. }));
    let otadata = part("otadata", PartitionKind::Data(DataSubtype::Ota), 0x9000, 0x1000);
    assert!(matches!(refusal(&[otadata]), PartitionError::OtadataSize { .. }));
    // The table's own entries may lie where they are.
    let table = part("table", PartitionKind::from_bytes(3, 0), 0x8000, 0x1000);
    assert!(PartitionTable::parse(&binary(&[table])).is_ok());
}

#[test]
fn the_flash_size_is_checked_on_request() {
    let bytes = binary(&sample());
    let table = PartitionTable::parse(&bytes).unwrap();
    assert_eq!(table.check_fits(0x4_2000), Ok(()));
    let label = Label::new("journal").unwrap();
    assert_eq!(
        table.check_fits(0x4_1FFF),
        Err(PartitionError::BeyondFlash { label, end: 0x4_2000, flash_bytes: 0x4_1FFF })
    );
}

#[test]
fn a_table_holds_94_partitions() {
    let many = |count: usize| -> Vec<Partition> {
        (0..count as u32)
            .map(|i| data(&format!("p{i}"), FIRST_PARTITION_OFFSET + i * 0x1000, 0x1000))
            .collect()
    };
    let full = binary(&many(MAX_PARTITIONS));
    assert_eq!(PartitionTable::parse(&full).unwrap().iter().len(), 94);
    assert_eq!(refusal(&many(95)), PartitionError::TooMany { found: 95 });
}

#[test]
fn labels_fill_their_field_at_most() {
    assert_eq!(Label::new("0123456789abcdef").unwrap().as_str(), "0123456789abcdef");
    assert_eq!(Label::new("0123456789abcdefg"), Err(LabelError::TooLong { found_bytes: 17 }));
    assert_eq!(Label::new(""), Err(LabelError::Empty));
    assert_eq!(Label::new("a\0b"), Err(LabelError::Nul));
    let bytes = binary(&[data("0123456789abcdef", 0x9000, 0x1000)]);
    let table = PartitionTable::parse(&bytes).unwrap();
    assert!(table.find_label("0123456789abcdef").is_some());
}

/// Legal tables: partitions one after the other, of any kind that may come more than once.
fn any_table() -> impl Strategy<Value = Vec<Partition>> {
    let row = ("[a-zA-Z0-9_]{1,13}", 0x02_u8..=0xFE, any::<u8>(), 0_u32..4, 1_u32..64, any::<[bool; 2]>());
    prop::collection::vec(row, 1..30).prop_map(|rows| {
        let mut free_from = FIRST_PARTITION_OFFSET;
        let place = |(index, (name, type_, subtype, gap, sectors, flags)): (
            usize,
            (String, _, _, u32, u32, [bool; 2]),
        )| {
            let offset = free_from + gap * 0x1000;
            free_from = offset + sectors * 0x1000;
            let label = Label::new(&format!("{index}_{name}")).unwrap();
            let kind = PartitionKind::from_bytes(type_, subtype);
            let [encrypted, readonly] = flags;
            Partition { label, kind, offset, size: sectors * 0x1000, encrypted, readonly }
        };
        rows.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let _ = PartitionTable::parse(&bytes);
        let _ = otadata::on_boot(otadata::parse(&bytes), bytes.first().copied().unwrap_or(0));
    }

    /// Entries of any content under a right MD5: whatever passes the checks has no overlap.
    #[test]
    fn arbitrary_entries_never_panic(entries in prop::collection::vec(any::<[u8; 32]>(), 0..20)) {
        use md5::{Digest, Md5};
        let mut bytes: Vec<u8> = Vec::new();
        for mut entry in entries {
            entry[..2].copy_from_slice(&[0xAA, 0x50]);
            bytes.extend_from_slice(&entry);
        }
        let digest = Md5::digest(&bytes);
        bytes.extend_from_slice(&[0xEB, 0xEB]);
        bytes.extend_from_slice(&[0xFF; 14]);
        bytes.extend_from_slice(&digest);
        bytes.extend_from_slice(&[0xFF; 32]);
        if let Ok(table) = PartitionTable::parse(&bytes) {
            prop_assert_eq!(table.iter().filter(|part| part.end() == u32::MAX).count(), 0);
        }
    }

    #[test]
    fn tables_round_trip(partitions in any_table()) {
        let bytes = binary(&partitions);
        let table = PartitionTable::parse(&bytes).unwrap();
        prop_assert_eq!(table.iter().collect::<Vec<_>>(), partitions);
    }

    #[test]
    fn otadata_entries_round_trip(record: [u8; 32]) {
        match OtaEntry::parse(&record) {
            Some(entry) => prop_assert_eq!(entry.emit(), record),
            None => prop_assert_eq!(&record[..4], &[0xFF; 4]),
        }
    }

    /// Whatever stands in both copies, a switch never replaces the one in force and always takes effect.
    #[test]
    fn a_switch_takes_effect(records: [[u8; 32]; 2], seqs in prop::collection::vec(0_u32..50, 2), good: [bool; 2],
        states: [u8; 2], count in 1_u8..=16, slot in 0_u8..16) {
        let copy = |i: usize| if good[i] {
            Some(OtaEntry::new(seqs[i], OtaState::from_raw(u32::from(states[i] % 6))))
        } else {
            OtaEntry::parse(&records[i])
        };
        let mut entries = [copy(0), copy(1)];
        let before = otadata::select(&entries, count);
        if let Some(switch) = otadata::switch_to_slot(&entries, slot, count, OtaState::New) {
            prop_assert!(before.is_none_or(|active| active.copy != switch.copy));
            // Power lost during the write: the copy is gone, and the selection is what it was.
            entries[switch.copy] = None;
            prop_assert_eq!(otadata::select(&entries, count), before);
            entries[switch.copy] = Some(switch.entry);
            prop_assert_eq!(otadata::select(&entries, count).map(|active| active.slot), Some(slot));
        } else {
            prop_assert!(slot >= count || before.is_some_and(|active| active.entry.seq > u32::MAX - 32));
        }
    }
}
