//! Layouts for chips that have data already.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use flashfmt::layout::{AdoptError, Places};
use flashfmt::partition::AppSubtype;
use flashfmt::{Layout, Partition, PartitionError, PartitionKind};
use proptest::prelude::*;

/// `default.csv` of Arduino's core for ESP32, version 3.
const ARDUINO: &str = "\
# Name,   Type, SubType, Offset,  Size, Flags
nvs,      data, nvs,     0x9000,  0x5000,
otadata,  data, ota,     0xe000,  0x2000,
app0,     app,  ota_0,   0x10000, 0x140000,
app1,     app,  ota_1,   0x150000,0x140000,
spiffs,   data, spiffs,  0x290000,0x160000,
coredump, data, coredump,0x3F0000,0x10000,
";

const MB: u32 = 1 << 20;

fn place(layout: &Layout, label: &str) -> (u32, u32) {
    let found = layout.find_label(label).unwrap_or_else(|| panic!("no {label}"));
    (found.offset, found.size)
}

fn kept(layout: &Layout) -> impl Iterator<Item = &Partition> {
    layout.partitions().iter().filter(|partition| {
        let is_otadata = partition.label.as_str() == "otadata";
        !matches!(partition.kind, PartitionKind::App(_)) && !is_otadata
    })
}

#[test]
fn arduinos_layout_keeps_its_file_system_and_its_nvs() {
    let before = Layout::parse_csv(ARDUINO).unwrap();
    let after = before.adopt(4 * MB).unwrap();
    for partition in kept(&before) {
        assert_eq!(after.find_label(partition.label.as_str()), Some(*partition));
    }
    assert!(after.otadata().is_none());
    assert_eq!(place(&after, "factory"), (0x1_0000, 0xF_0000));
    assert_eq!(place(&after, "journal"), (0xe000, 0x2000), "where otadata was, which costs nothing");
    assert_eq!(place(&after, "vault"), (0x28_8000, 0x8000), "at the end, so that the slot can begin early");
    assert_eq!(place(&after, "ota_0"), (0x10_0000, 0x18_8000));
    Places::find(&after).unwrap();
    assert_eq!(after.adopt(4 * MB), Ok(after.clone()), "what was adopted is left as it is");
}

#[test]
fn two_slots_where_both_hold_what_was_there() {
    let text = "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\n\
                app0,app,ota_0,0x10000,3M\napp1,app,ota_1,0x310000,3M\nstore,data,fat,0x610000,0x1f0000\n";
    let after = Layout::parse_csv(text).unwrap().adopt(8 * MB).unwrap();
    assert_eq!(after.slots().count(), 1, "half of 5 MB is less than 3 MB");
    let small = text.replace("3M", "2M");
    let after = Layout::parse_csv(&small).unwrap().adopt(8 * MB).unwrap();
    let slots: Vec<_> = after.slots().map(|slot| slot.size).collect();
    assert!(slots.len() == 2 && slots[0] == slots[1] && slots[0] >= 2 * MB, "{slots:?}");
}

#[test]
fn what_leaves_no_room_is_told_with_numbers() {
    let text =
        "nvs,data,nvs,0x9000,0x5000\napp,app,factory,0x10000,0xe0000\nweb,data,spiffs,0xf0000,0x310000\n";
    let refused = Layout::parse_csv(text).unwrap().adopt(4 * MB).unwrap_err();
    let expected = AdoptError::NoRoom {
        what: "the updater",
        needed_bytes: 0xF_0000,
        alignment_bytes: 0x1_0000,
        found_bytes: 0xE_0000,
    };
    assert_eq!(refused, expected);
    let just =
        "nvs,data,nvs,0x9000,0x5000\napp,app,factory,0x10000,0xf0000\nweb,data,spiffs,0x100000,0x300000\n";
    let refused = Layout::parse_csv(just).unwrap().adopt(4 * MB).unwrap_err();
    assert!(matches!(refused, AdoptError::NoRoom { what: "the vault", .. }), "{refused}");
    let taken = "vault,data,spiffs,0x9000,0x5000\napp,app,factory,0x10000,1M\n";
    let refused = Layout::parse_csv(taken).unwrap().adopt(4 * MB).unwrap_err();
    assert!(matches!(refused, AdoptError::NameTaken { label } if label.as_str() == "vault"), "{refused}");
    let beyond = Layout::parse_csv(ARDUINO).unwrap().adopt(2 * MB).unwrap_err();
    assert!(matches!(beyond, AdoptError::Partition(PartitionError::BeyondFlash { .. })), "{beyond}");
}

proptest! {
    /// Whatever stays, it stays exactly; and what comes out is a layout that the updater works on.
    #[test]
    fn data_never_moves(
        parts in prop::collection::vec((0_u32..0x3F0, 1_u32..0x100, any::<bool>()), 0..12),
        flash in prop::sample::select(vec![4 * MB, 8 * MB]),
    ) {
        let mut free_from = 0x9000;
        let mut text = String::new();
        for (index, (skip, sectors, is_app)) in parts.into_iter().enumerate() {
            let alignment = if is_app { 0x1_0000 } else { 0x1000 };
            let offset = (free_from + (skip % 16) * 0x1000_u32).next_multiple_of(alignment);
            let size = sectors * 0x1000;
            let kind = if is_app { format!("app,ota_{index}") } else { "data,fat".to_owned() };
            text += &format!("p{index},{kind},{offset:#x},{size:#x}\n");
            free_from = offset + size;
        }
        let Ok(before) = Layout::parse_csv(&text) else { return Ok(()) };
        let Ok(after) = before.adopt(flash) else { return Ok(()) };
        for partition in kept(&before) {
            prop_assert_eq!(after.find_label(partition.label.as_str()), Some(*partition));
        }
        prop_assert_eq!(after.check_fits(flash), Ok(()));
        prop_assert!(Places::find(&after).is_ok());
        let updater = after.factory().unwrap();
        prop_assert_eq!(updater.kind, PartitionKind::App(AppSubtype::Factory));
    }
}
