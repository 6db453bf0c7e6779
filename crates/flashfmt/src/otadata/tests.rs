use super::*;

const COUNT: u8 = 2;

fn entry(seq: u32, state: OtaState) -> Option<OtaEntry> {
    Some(OtaEntry::new(seq, state))
}

fn torn(seq: u32) -> Option<OtaEntry> {
    let mut record = OtaEntry::new(seq, OtaState::Valid).emit();
    record[28] ^= 1;
    OtaEntry::parse(&record)
}

#[test]
fn bytes_are_those_of_otatool() {
    // What `esp_ota_set_boot_partition` writes for sequence number 1; the CRC is 0x4743989A in every dump.
    let record = OtaEntry::new(1, OtaState::Undefined).emit();
    assert_eq!(record[..4], [1, 0, 0, 0]);
    assert_eq!(record[4..28], [0xFF; 24]);
    assert_eq!(record[28..], [0x9A, 0x98, 0x43, 0x47]);
}

#[test]
fn crc_parameters_are_consistent() {
    assert_eq!(OTA_CRC.checksum(b"123456789"), OTA_CRC.algorithm.check);
}

#[test]
fn erased_and_short_partitions_have_no_entries() {
    assert_eq!(parse(&[0xFF; OTADATA_BYTES as usize]), [None, None]);
    assert_eq!(parse(&[]), [None, None]);
    assert_eq!(parse(&[0; 31]), [None, None]);
}

#[test]
fn the_higher_sequence_number_wins_and_a_tie_goes_to_copy_0() {
    let slot_of = |entries: &OtaEntries| select(entries, COUNT).map(|active| (active.copy, active.slot));
    assert_eq!(slot_of(&[entry(1, OtaState::Valid), entry(2, OtaState::Valid)]), Some((1, 1)));
    assert_eq!(slot_of(&[entry(3, OtaState::Valid), entry(2, OtaState::Valid)]), Some((0, 0)));
    assert_eq!(slot_of(&[entry(2, OtaState::Valid), entry(2, OtaState::New)]), Some((0, 1)));
    assert_eq!(slot_of(&[None, entry(2, OtaState::Undefined)]), Some((1, 1)));
    assert_eq!(slot_of(&[None, None]), None);
    assert_eq!(select(&[entry(1, OtaState::Valid), None], 0), None);
    // ESP-IDF computes (0 - 1) % count on u32.
    assert_eq!(slot_of(&[entry(0, OtaState::Valid), None]), Some((0, 1)));
}

#[test]
fn a_torn_copy_never_loses_the_other() {
    for good in [entry(1, OtaState::Valid), entry(7, OtaState::Undefined)] {
        assert_eq!(select(&[torn(9), good], COUNT).map(|active| active.copy), Some(1));
        assert_eq!(select(&[good, torn(9)], COUNT).map(|active| active.copy), Some(0));
    }
}

#[test]
fn refused_states_are_skipped() {
    for state in [OtaState::Invalid, OtaState::Aborted] {
        let entries = [entry(5, state), entry(4, OtaState::Valid)];
        assert_eq!(select(&entries, COUNT).map(|active| active.copy), Some(1));
    }
    assert!(select(&[entry(5, OtaState::Other(77)), None], COUNT).is_some());
}

#[test]
fn an_unconfirmed_application_is_rolled_back_at_its_second_boot() {
    let start = [entry(1, OtaState::Valid), entry(2, OtaState::New)];

    let first = on_boot(start, COUNT);
    assert_eq!(first.rewritten, [false, true]);
    assert_eq!(
        first.active.map(|active| (active.slot, active.entry.state)),
        Some((1, OtaState::PendingVerify))
    );

    let second = on_boot(first.entries, COUNT);
    assert_eq!(second.rewritten, [false, true]);
    assert_eq!(second.entries[1].map(|copy| copy.state), Some(OtaState::Aborted));
    assert_eq!(second.active.map(|active| active.slot), Some(0));

    let third = on_boot(second.entries, COUNT);
    assert_eq!(third.rewritten, [false, false]);
    assert_eq!(third.active, second.active);
}

#[test]
fn a_switch_replaces_the_copy_not_in_force_and_selects_the_slot() {
    for seq in 1..40 {
        for other in [None, torn(90), entry(seq - 1, OtaState::Valid), entry(99, OtaState::Aborted)] {
            for slot in 0..COUNT {
                let mut entries = [other, entry(seq, OtaState::Valid)];
                let switch = switch_to_slot(&entries, slot, COUNT, OtaState::New).unwrap();
                assert_eq!(switch.copy, 0);
                assert!(switch.entry.seq > seq && switch.entry.seq <= seq + u32::from(COUNT));
                entries[switch.copy] = Some(switch.entry);
                assert_eq!(select(&entries, COUNT).map(|active| active.slot), Some(slot));
            }
        }
    }
}

#[test]
fn sequence_numbers_end_before_that_of_erased_flash() {
    let entries = [entry(u32::MAX - 2, OtaState::Valid), None];
    // u32::MAX - 1 selects slot 1 of 2; u32::MAX would select slot 0.
    assert_eq!(next_seq_for_slot(&entries, 1, COUNT), Some(u32::MAX - 1));
    assert_eq!(next_seq_for_slot(&entries, 0, COUNT), None);
    assert_eq!(next_seq_for_slot(&entries, 2, COUNT), None);
    assert_eq!(next_seq_for_slot(&[None, None], 1, COUNT), Some(2));
}
