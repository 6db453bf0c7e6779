//! Any text as a layout in CSV.

use flashfmt::Layout;
use flashfmt::partition::PartitionTable;

pub type Input<'a> = &'a str;

pub fn run(text: Input<'_>) {
    let Ok(layout) = Layout::parse_csv(text) else { return };
    let written = layout.to_csv();
    assert_eq!(Layout::parse_csv(&written).as_ref(), Ok(&layout), "{written}");
    let binary = layout.to_binary();
    let table = PartitionTable::parse(&binary).unwrap();
    assert!(table.iter().eq(layout.partitions().iter().copied()));
    assert!(table.check_fits(layout.needed_flash_bytes()).is_ok());
    assert!(layout.slots().eq(table.app_slots()));
    assert_eq!(layout.hands_over_by_otadata(), table.hands_over_by_otadata());
}
