//! CSV layouts, compared with the crate `esp-idf-part` as a second reader and writer of the same formats.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use flashfmt::layout::{BUILTIN, LayoutError, LineError};
use flashfmt::partition::{AppSubtype, DataSubtype, LabelError};
use flashfmt::{Layout, PartitionError, PartitionKind, PartitionTable};
use proptest::prelude::*;

fn line_error(text: &str) -> (usize, LineError) {
    match Layout::parse_csv(text).unwrap_err() {
        LayoutError::Line { line, error } => (line, error),
        LayoutError::Table(error) => panic!("{error}"),
    }
}

#[test]
fn built_in_layouts_become_tables_that_read_back() {
    for (name, csv) in BUILTIN {
        let layout = Layout::builtin(name).unwrap();
        let binary = layout.to_binary();
        let table = PartitionTable::parse(&binary).unwrap();
        assert_eq!(table.iter().collect::<Vec<_>>(), layout.partitions(), "{name}");
        assert_eq!(Layout::from(table), layout);
        assert_eq!(Layout::parse_csv(&layout.to_csv()).unwrap(), layout);

        let theirs = esp_idf_part::PartitionTable::try_from_str(csv).unwrap();
        assert_eq!(theirs.to_bin().unwrap()[..], binary[..theirs.to_bin().unwrap().len()], "{name}");
    }
}

#[test]
fn built_in_layouts_hold_what_the_design_says() {
    for (name, flash_bytes, slot_count, has_otadata) in
        [("4mb", 4, 1, false), ("8mb", 8, 2, false), ("16mb", 16, 2, false), ("8mb-rollback", 8, 1, true)]
    {
        let layout = Layout::builtin(name).unwrap();
        assert_eq!(layout.needed_flash_bytes(), flash_bytes << 20, "{name}");
        assert_eq!(layout.check_fits(flash_bytes << 20), Ok(()));
        assert!(layout.check_fits((flash_bytes << 20) - 1).is_err());
        assert_eq!(layout.slots().count(), slot_count);
        assert_eq!(layout.otadata().is_some(), has_otadata);
        // The updater starts from `factory`, except where otadata chooses between the slots.
        assert_eq!(layout.factory().is_some(), !has_otadata);
        let vault = layout.find_label("vault").unwrap();
        assert_eq!(vault.kind, PartitionKind::Data(DataSubtype::Nvs));
        let journal = layout.find_label("journal").unwrap();
        assert_eq!(journal.kind, PartitionKind::Custom { type_: 0x40, subtype: 0 });
        assert!(layout.find_label("nvs").is_some());
    }
    assert_eq!(Layout::builtin("2mb"), None);
}

/// The CSV of ESP-IDF's "Factory app, two OTA definitions", offsets left to the tool.
const TWO_OTA: &str = "\
# Name,   Type, SubType, Offset,  Size, Flags
nvs,      data, nvs,     ,        0x4000,
otadata,  data, ota,     ,        0x2000,
phy_init, data, phy,     ,        0x1000,
factory,  app,  factory, ,        1M,
ota_0,    app,  ota_0,   ,        1M,
ota_1,    app,  ota_1,   ,        1M,
";

#[test]
fn empty_offsets_go_to_the_next_aligned_place() {
    let layout = Layout::parse_csv(TWO_OTA).unwrap();
    let offsets: Vec<u32> = layout.partitions().iter().map(|part| part.offset).collect();
    assert_eq!(offsets, [0x9000, 0xD000, 0xF000, 0x1_0000, 0x11_0000, 0x21_0000]);
    let theirs = esp_idf_part::PartitionTable::try_from_str(TWO_OTA).unwrap().to_bin().unwrap();
    assert_eq!(theirs[..], layout.to_binary()[..theirs.len()]);
}

#[test]
fn fields_may_be_short_negative_or_flagged() {
    let layout = Layout::parse_csv(
        "\u{feff}\n  # comment\n\
         a,data,,,4K,encrypted:readonly\r\n\
         b,data,0x99,,100\n\
         c,app,test,,-0x40000\n\
         d,0x40,7,,1M,readonly,,\n\
         e,bootloader,primary,0x1000,0x7000,,# where it stands is known\n\
         f,partition_table,primary,N/A,N/A,\n\
         g,data,0xff,,4K\rh,bootloader,ota,,8192\r",
    )
    .unwrap();
    let [a, b, c, d, e, f, g, h] = layout.partitions() else { panic!("{layout:?}") };
    assert_eq!((a.kind, a.offset, a.size), (PartitionKind::Data(DataSubtype::Undefined), 0x9000, 0x1000));
    assert!(a.encrypted && a.readonly);
    assert_eq!((b.kind, b.offset), (PartitionKind::Data(DataSubtype::Other(0x99)), 0xA000));
    assert_eq!((c.kind, c.offset, c.end()), (PartitionKind::App(AppSubtype::Test), 0x1_0000, 0x4_0000));
    assert_eq!((d.kind, d.offset), (PartitionKind::Custom { type_: 0x40, subtype: 7 }, 0x4_0000));
    assert!(d.readonly && !d.encrypted);
    assert_eq!((e.kind, e.offset, e.size), (PartitionKind::Custom { type_: 2, subtype: 0 }, 0, 0x8000));
    assert_eq!((f.kind, f.offset, f.size), (PartitionKind::Custom { type_: 3, subtype: 0 }, 0x8000, 0x1000));
    assert_eq!((g.kind, g.offset), (PartitionKind::Data(DataSubtype::Other(0xFF)), 0x14_0000));
    assert_eq!((h.offset, h.size), (0x14_1000, 0x8000));
}

#[test]
fn errors_name_the_line_and_what_was_found() {
    let found = String::from;
    for (line, expected) in [
        (",data,nvs,,4K", LineError::Label(LabelError::Empty)),
        ("a_name_of_17_byte,data,nvs,,4K", LineError::Label(LabelError::TooLong { found_bytes: 17 })),
        ("a,dat,nvs,,4K", LineError::Type { found: found("dat") }),
        ("a,0xff,nvs,,4K", LineError::Type { found: found("0xff") }),
        ("a,data,ota_0,,4K", LineError::Subtype { type_: found("data"), found: found("ota_0") }),
        ("a,app,,,4K", LineError::Subtype { type_: found("app"), found: found("") }),
        ("a,data,256,,4K", LineError::Subtype { type_: found("data"), found: found("256") }),
        ("a,data,nvs,here,4K", LineError::Offset { found: found("here") }),
        ("a,data,nvs,,", LineError::Size { found: found("") }),
        ("a,data,nvs", LineError::Size { found: found("") }),
        ("a,data,nvs,,4G", LineError::Size { found: found("4G") }),
        ("a,data,nvs,,4K,secret", LineError::Flag { found: found("secret") }),
        ("a,data,nvs,,8K", LineError::NvsTooSmall { found: 0x2000 }),
        ("a,data,ota,,8K,readonly", LineError::Readonly { kind: PartitionKind::Data(DataSubtype::Ota) }),
        (
            "a,data,coredump,,64K,encrypted:readonly",
            LineError::Readonly { kind: PartitionKind::Data(DataSubtype::CoreDump) },
        ),
        ("a,data,tee_ota,,4K", LineError::TeeOtaSize { found: 0x1000 }),
        ("a,data,nvs,0x9000,4K", LineError::OffsetTooLow { found: 0x9000, free_from: 0xA000 }),
        ("a,data,nvs,,-0x9000", LineError::EndTooLow { end: 0x9000, offset: 0xA000 }),
        ("a,data,nvs,0xfffff000,4K", LineError::AddressOverflow),
    ] {
        let text = format!("# two lines above\nfirst,data,phy,0x9000,0x1000\n{line}\n");
        assert_eq!(line_error(&text), (3, expected), "{line}");
    }
    assert_eq!(Layout::parse_csv("# nothing\n"), Err(LayoutError::Table(PartitionError::Empty)));
    let shown = Layout::parse_csv("a,data,nvs,here,4K").unwrap_err();
    assert!(std::format!("{shown}").starts_with("line 1: offset is `here`, expected a number"));
}

#[test]
fn binaries_of_the_second_reader_are_read_the_same() {
    let theirs = esp_idf_part::PartitionTable::try_from_str(TWO_OTA).unwrap();
    let binary = theirs.to_bin().unwrap();
    let ours = PartitionTable::parse(&binary).unwrap();
    for (ours, theirs) in ours.iter().zip(theirs.partitions()) {
        assert_eq!(ours.label.as_str(), theirs.name());
        assert_eq!((ours.offset, ours.size), (theirs.offset(), theirs.size()));
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = Layout::parse_csv(&text);
    }

    /// Text made of the grammar's own pieces gets further into the parser.
    #[test]
    fn arbitrary_fields_never_panic(
        fields in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", ",", ",", ",", ",", "\n", "app", "data", "0x40", "ota_1", "nvs", "factory", "4K", "-1M",
                "0x10000", "0xffffffff", "encrypted", ":", "#", " ", "é",
            ]),
            0..60,
        ),
    ) {
        if let Ok(layout) = Layout::parse_csv(&fields.concat()) {
            prop_assert_eq!(Layout::parse_csv(&layout.to_csv()), Ok(layout));
        }
    }

    /// Layouts without offsets, as a user writes them, agree with the second tool byte for byte.
    #[test]
    fn filled_offsets_agree_with_the_second_tool(sizes in prop::collection::vec((1_u32..40, any::<bool>()), 1..16)) {
        let mut csv = String::from("factory, app, factory, , 64K\n");
        for (index, (sectors, is_app)) in sizes.into_iter().enumerate() {
            let size = sectors * 0x1000;
            let kind = if is_app { format!("app, ota_{index}") } else { String::from("data, fat") };
            csv.push_str(&format!("p{index}, {kind}, , {size:#x}\n"));
        }
        let ours = Layout::parse_csv(&csv).unwrap().to_binary();
        let theirs = esp_idf_part::PartitionTable::try_from_str(csv).unwrap().to_bin().unwrap();
        prop_assert_eq!(&ours[..theirs.len()], &theirs[..]);
    }
}
