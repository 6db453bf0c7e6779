//! What a chip has already: which of its data a new layout would not find again.

use flashfmt::partition::DataSubtype;
use flashfmt::{Layout, Partition, PartitionKind, PartitionTable};

use super::data::is_of_data;

/// A data partition of the chip that the new layout does not have at the same place and of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    before: Partition,
    /// The partition of this name in the new layout.
    after: Option<Partition>,
}

/// The data partitions of a chip whose place changes with the layout `new`. A chip without a table that can be read has no data
/// that anybody could find.
pub(crate) fn moved(table: &[u8], new: &Layout) -> Vec<Moved> {
    let Ok(present) = PartitionTable::parse(table) else { return Vec::new() };
    let holds_data = |partition: &Partition| {
        // Calibration is made anew, and a core dump is of the application that is replaced.
        let is_made_anew =
            matches!(partition.kind, PartitionKind::Data(DataSubtype::Phy | DataSubtype::CoreDump));
        is_of_data(partition) && !is_made_anew
    };
    let found = present.iter().filter(holds_data).map(|before| {
        let after = new.find_label(before.label.as_str()).filter(|after| after.kind == before.kind);
        Moved { before, after }
    });
    let stays = |moved: &Moved| {
        let Moved { before, after } = moved;
        after.is_some_and(|after| (after.offset, after.size) == (before.offset, before.size))
    };
    found.filter(|moved| !stays(moved)).collect()
}

impl Moved {
    /// Its name.
    pub(crate) fn label(&self) -> String {
        self.before.label.to_string()
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after } = self;
        let place = |partition: &Partition| format!("{:#x}+{:#x}", partition.offset, partition.size);
        match after {
            Some(after) => write!(f, "`{}` ({}, then {})", before.label, place(before), place(after)),
            None => write!(f, "`{}` ({}, not in the layout)", before.label, place(before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(csv: &str) -> Vec<u8> {
        Layout::parse_csv(csv).unwrap().to_binary()
    }

    #[test]
    fn data_that_the_new_layout_would_not_find_is_named() {
        let new = Layout::builtin("4mb").unwrap();
        let arduino = table(
            "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\napp0,app,ota_0,0x10000,0x140000\n\
             spiffs,data,spiffs,0x290000,0x160000\nown,0x50,0,0x3f0000,0x8000\ncoredump,data,coredump,0x3f8000,0x8000\n",
        );
        let told: Vec<_> = moved(&arduino, &new).iter().map(ToString::to_string).collect();
        let expected = [
            "`nvs` (0x9000+0x5000, then 0x9000+0x6000)",
            "`spiffs` (0x290000+0x160000, not in the layout)",
            "`own` (0x3f0000+0x8000, not in the layout)",
        ];
        assert_eq!(told, expected);
        assert_eq!(moved(&new.to_binary(), &new), [], "the same layout again");
        assert_eq!(moved(&[0xFF; 0xC00], &new), [], "a blank chip");
    }
}
