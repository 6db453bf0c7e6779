//! Any image, its checksum and hash made right, as the chain-loader judges it.

use std::ops::Range;

use crate::flash::NorMock;
use chainload::memory::PAGE_BYTES;
use chainload::{Check, LoadPlan, MemoryMap, Slot, plan};
use sha2::Sha256;

/// Where the slot is in the flash, and how long it is.
const SLOT: Slot = Slot { offset: 0x1_0000, size_bytes: 0x1_2000 };

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (choice, bytes) = crate::choice(data);
    let map = if choice & 1 == 0 { MemoryMap::ESP32C3 } else { MemoryMap::ESP32C6 };
    let image = crate::image::repaired(bytes);
    let mut flash = NorMock::blank((SLOT.offset + SLOT.size_bytes) as usize);
    let start = SLOT.offset as usize;
    let length = image.len().min(SLOT.size_bytes as usize);
    flash.bytes[start..start + length].copy_from_slice(&image[..length]);

    let structure = plan::<Sha256, _>(&map, SLOT, Check::Structure, &mut flash);
    if let Ok(awake) = &structure {
        check(&map, awake);
    }
    let Ok(full) = plan::<Sha256, _>(&map, SLOT, Check::Full, &mut flash) else { return };
    check(&map, &full);
    // A wake from deep sleep does the same, and leaves out what was kept.
    let awake = structure.unwrap();
    assert_eq!((awake.entry_addr(), awake.mapped()), (full.entry_addr(), full.mapped()));
    assert!(awake.loaded().iter().all(|segment| full.loaded().contains(segment)));
}

/// No step touches the chain-loader, reads past the slot or leaves the memory of the chip.
fn check(map: &MemoryMap, plan: &LoadPlan) {
    let slot = u64::from(SLOT.offset)..u64::from(SLOT.offset + SLOT.size_bytes);
    let mut taken: Vec<Range<u64>> = Vec::new();
    taken.push(u64::from(map.reserved.start)..u64::from(map.reserved.end));
    for segment in plan.loaded() {
        let from = u64::from(segment.flash_addr);
        assert!(slot.contains(&from) && from + u64::from(segment.len_bytes) <= slot.end, "{segment:?}");
        let addrs = u64::from(segment.load_addr)..u64::from(segment.load_addr) + u64::from(segment.len_bytes);
        let region = map.regions.iter().find(|region| {
            u64::from(region.range.start) <= addrs.start && addrs.end <= u64::from(region.range.end)
        });
        let shift = u64::from(region.expect("outside the memory").from_data_bus);
        let on_data_bus = addrs.start - shift..addrs.end - shift;
        for other in &taken {
            assert!(
                on_data_bus.end <= other.start || other.end <= on_data_bus.start,
                "{segment:?} {other:?}"
            );
        }
        taken.push(on_data_bus);
    }
    for mapped in plan.mapped() {
        assert!(mapped.entries().end <= map.mmu.entries, "{mapped:?}");
        let first = u64::from(mapped.first_page) * u64::from(PAGE_BYTES);
        let end = u64::from(mapped.first_page + mapped.pages) * u64::from(PAGE_BYTES);
        assert!(
            first + u64::from(PAGE_BYTES) > slot.start && end < slot.end + u64::from(PAGE_BYTES),
            "{mapped:?}"
        );
    }
}
