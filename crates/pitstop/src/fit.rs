//! Whether an application fits a layout, and what would make it fit. Without IO.

use flashfmt::partition::{AppSubtype, DataSubtype, PartitionKind};
use flashfmt::{Layout, Partition};
use serde::Serialize;
use server::check_start;

use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Places, Strategy, flash_bytes, next_step};

/// Applications begin at multiples of this: the MMU's page on most chips.
const SLOT_ALIGNMENT_BYTES: u32 = PartitionKind::App(AppSubtype::Factory).offset_alignment_bytes();

/// The largest flash that ESP32 modules come with.
const LARGEST_FLASH_BYTES: u32 = 128 << 20;

/// What `layout check` tells; its JSON form is for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything fits.
    pub(crate) ok: bool,
    pub(crate) layout: String,
    pub(crate) flash_bytes: u32,
    pub(crate) strategy: &'static str,
    /// The application's.
    pub(crate) chip: &'static str,
    /// The application in each slot.
    pub(crate) slots: Vec<Fit>,
    /// The updater in its partition; `None` when no updater image was there to look at.
    pub(crate) updater: Option<Fit>,
    /// Why it is not ok.
    pub(crate) problems: Vec<String>,
    /// What to know of it all the same, as `release publish` warns.
    pub(crate) warnings: Vec<String>,
    /// What would give the application more room; only when it does not fit.
    pub(crate) ways: Vec<Way>,
}

/// An image and the partition it would go to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fit {
    pub(crate) label: String,
    pub(crate) size_bytes: u32,
    pub(crate) image_bytes: u64,
    /// What is left; negative when it does not fit.
    pub(crate) margin_bytes: i64,
    /// How much of the partition the image takes, to a tenth.
    pub(crate) used_percent: f64,
    /// Whether it has room for the image, and takes it.
    pub(crate) fits: bool,
}

/// A change of the layout after which the application fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Way {
    /// What to do, and what it costs.
    pub(crate) what: String,
    pub(crate) flash_bytes: u32,
    /// The lines of the CSV that change.
    pub(crate) lines: Vec<String>,
}

/// Judges an application, and an updater if there is one, by a layout.
pub(crate) fn check(named: &NamedLayout, app: &ImageFile, updater: Option<&ImageFile>) -> Report {
    let layout = &named.layout;
    let chip = app.summary.header.chip;
    let mut slots: Vec<Fit> = layout.slots().map(|slot| Fit::of(app, &slot)).collect();
    let mut problems: Vec<String> = slots.iter().filter_map(|fit| fit.problem("the application")).collect();
    let mut updater_fit = None;
    match Places::find(layout) {
        Ok(places) => {
            updater_fit = updater.map(|updater| Fit::of(updater, &places.updater));
            problems.extend(updater_fit.as_ref().and_then(|fit| fit.problem("the updater")));
        }
        Err(problem) => problems.push(format!("{problem}; {}", next_step(problem))),
    }
    if let Some(found) = updater.map(|image| image.summary.header.chip).filter(|found| *found != chip) {
        problems.push(format!("the application is for {chip}, the updater for {found}"));
    }
    let too_small = slots.iter().any(|slot| !slot.fits);
    let refusals = refusals(app, layout, too_small);
    for slot in &mut slots {
        slot.fits &= refusals.is_empty();
    }
    problems.extend(refusals);
    let strategy = Strategy::of(layout);
    let confirms_itself = match strategy {
        Strategy::ChainLoad => None,
        Strategy::OtadataRollback => app.confirms_itself().map(|known| known.to_string()),
    };
    Report {
        ok: problems.is_empty(),
        warnings: app.undescribed().map(str::to_owned).into_iter().chain(confirms_itself).collect(),
        layout: named.name.clone(),
        flash_bytes: named.flash_bytes(),
        strategy: strategy.name(),
        chip: chip.name(),
        slots,
        updater: updater_fit,
        problems,
        ways: if too_small { ways(layout, app.bytes.len() as u64) } else { Vec::new() },
    }
}

/// Why the server would refuse the image as a release of this layout, besides its size.
fn refusals(app: &ImageFile, layout: &Layout, too_small: bool) -> Vec<String> {
    // Without descriptor: to look at an image here needs no word of its publisher.
    if let Err(problem) = app.check_application(true) {
        return vec![problem.to_string()];
    }
    let unstarted = check_start(&app.summary, layout).err().filter(|_| !too_small);
    let unstarted = unstarted.map(|problem| problem.to_string());
    app.unpublishable().into_iter().chain(unstarted).collect()
}

impl Fit {
    fn of(image: &ImageFile, partition: &Partition) -> Self {
        let (image_bytes, size_bytes) = (image.bytes.len() as u64, partition.size);
        let thousandths = (image_bytes * 1000).div_ceil(u64::from(size_bytes.max(1)));
        Self {
            label: partition.label.as_str().to_owned(),
            size_bytes,
            image_bytes,
            margin_bytes: i64::from(size_bytes) - image_bytes.cast_signed(),
            used_percent: thousandths as f64 / 10.0,
            fits: image_bytes <= u64::from(size_bytes),
        }
    }

    fn problem(&self, what: &str) -> Option<String> {
        let Self { label, size_bytes, image_bytes, .. } = self;
        let problem = || {
            let over_bytes = self.margin_bytes.unsigned_abs();
            format!("{what} has {image_bytes} bytes, `{label}` {size_bytes}: {over_bytes} bytes too many")
        };
        (!self.fits).then(problem)
    }
}

/// A layout made anew from another.
#[derive(Clone, Copy)]
struct Change {
    flash_bytes: u32,
    slots: usize,
    coredump: bool,
}

/// The changes that give every slot at least `image_bytes`, cheapest first.
fn ways(layout: &Layout, image_bytes: u64) -> Vec<Way> {
    let now = Change { flash_bytes: flash_bytes(layout), slots: layout.slots().count(), coredump: true };
    let has_coredump = layout.partitions().iter().any(is_coredump);
    let try_change = |what: String, change: Change| {
        let changed = rearrange(layout, change)?;
        let holds = changed.slots().all(|slot| u64::from(slot.size) >= image_bytes);
        holds.then(|| Way { what, flash_bytes: change.flash_bytes, lines: changed_lines(layout, &changed) })
    };

    let mut ways = Vec::new();
    ways.extend(try_change("use the flash that no partition uses".into(), now));
    if has_coredump {
        let change = Change { coredump: false, ..now };
        ways.extend(try_change("drop `coredump`: there are no crash dumps in flash then".into(), change));
    }
    if now.slots > 1 {
        let what = "use one slot: the application is then updated in place, and the one before is gone";
        let one = Change { slots: 1, ..now };
        let with_coredump = try_change(what.into(), one);
        if with_coredump.is_none() && has_coredump {
            ways.extend(try_change(
                format!("{what}; and drop `coredump`"),
                Change { coredump: false, ..one },
            ));
        }
        ways.extend(with_coredump);
    }
    let larger = |flash_bytes: &u32| flash_bytes.checked_mul(2).filter(|size| *size <= LARGEST_FLASH_BYTES);
    let sizes = std::iter::successors(larger(&now.flash_bytes), larger);
    ways.extend(sizes.into_iter().find_map(|flash_bytes| {
        try_change(format!("use a flash of {} MB", flash_bytes >> 20), Change { flash_bytes, ..now })
    }));
    ways
}

/// The same partitions with slots as large as they can be, all of one size. Slots and coredump are moved, the rest
/// stays where it is.
fn rearrange(layout: &Layout, change: Change) -> Option<Layout> {
    let Change { flash_bytes, slots, coredump } = change;
    let old_slots: Vec<Partition> = layout.slots().collect();
    let stays = |partition: &&Partition| !old_slots.contains(partition) && !is_coredump(partition);
    let mut partitions: Vec<Partition> = layout.partitions().iter().filter(stays).copied().collect();
    if let Some(dump) = layout.partitions().iter().find(|partition| coredump && is_coredump(partition)) {
        partitions.push(Partition { offset: flash_bytes.checked_sub(dump.size)?, ..*dump });
    }
    let (start, end) = largest_gap(&partitions, flash_bytes)?;
    let slot_bytes = (end - start) / u32::try_from(slots).ok()?;
    let slot_bytes = slot_bytes - slot_bytes % SLOT_ALIGNMENT_BYTES;
    for (index, slot) in (0..).zip(old_slots.into_iter().take(slots)) {
        partitions.push(Partition { offset: start + index * slot_bytes, size: slot_bytes, ..slot });
    }
    partitions.sort_by_key(|partition| partition.offset);
    Layout::new(partitions).ok()
}

/// The largest range that no partition uses and a slot can begin at.
fn largest_gap(partitions: &[Partition], flash_bytes: u32) -> Option<(u32, u32)> {
    let after = |partition: &Partition| partition.end().checked_next_multiple_of(SLOT_ALIGNMENT_BYTES);
    let gaps = partitions.iter().filter_map(after).filter_map(|start| {
        let inside = partitions.iter().any(|other| (other.offset..other.end()).contains(&start));
        let next = partitions.iter().map(|other| other.offset).filter(|offset| *offset >= start).min();
        let end = next.unwrap_or(flash_bytes);
        (!inside && end > start).then_some((start, end))
    });
    gaps.max_by_key(|(start, end)| end - start)
}

/// The lines of `changed` that are not in `layout`.
fn changed_lines(layout: &Layout, changed: &Layout) -> Vec<String> {
    let csv = changed.to_csv();
    let partitions = changed.partitions().iter();
    // The first line of the CSV is a comment, then there is one line for each partition.
    let lines = csv.lines().skip(1).zip(partitions);
    lines
        .filter(|(_, partition)| !layout.partitions().contains(partition))
        .map(|(line, _)| line.to_owned())
        .collect()
}

fn is_coredump(partition: &Partition) -> bool {
    partition.kind == PartitionKind::Data(DataSubtype::CoreDump)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashfmt::image::compose::{Composer, esp32c3_addr};
    use flashfmt::{AppDescriptor, Chip};

    /// Mapped from flash: ESP32-C3 and ESP32-S3 have the same window for data.
    const DATA_ADDR: u32 = esp32c3_addr::DROM + 0x20;

    fn image(chip: Chip, filling_bytes: usize) -> ImageFile {
        let app_desc = AppDescriptor::new("lamp", "1.0.0");
        let bytes = Composer::new(chip, esp32c3_addr::IRAM)
            .segment_with_app_desc(DATA_ADDR, &app_desc, &vec![5; filling_bytes])
            .segment(esp32c3_addr::IRAM, &[0; 16])
            .build()
            .unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    fn check_builtin(name: &str, filling_bytes: usize) -> Report {
        check(&NamedLayout::read(name).unwrap(), &image(Chip::Esp32C3, filling_bytes), None)
    }

    fn whats(report: &Report) -> Vec<&str> {
        report.ways.iter().map(|way| way.what.as_str()).collect()
    }

    #[test]
    fn margin_and_percent() {
        let app = image(Chip::Esp32C3, 1_000_000);
        let report = check(&NamedLayout::read("4mb").unwrap(), &app, Some(&image(Chip::Esp32C3, 5000)));
        assert!(report.ok && report.ways.is_empty(), "{report:?}");
        let [slot] = report.slots.as_slice() else { panic!("{report:?}") };
        assert_eq!(slot.margin_bytes, 0x2F_0000 - app.bytes.len() as i64);
        assert_eq!(slot.used_percent, 32.5);
        assert_eq!(report.updater.unwrap().label, "factory");
    }

    /// What `release publish` refuses is no fit here either.
    #[test]
    fn what_the_server_would_refuse_does_not_fit() {
        let problem = |layout, change: &dyn Fn(&mut ImageFile)| {
            let mut app = image(Chip::Esp32C3, 1000);
            change(&mut app);
            let report = check(&NamedLayout::read(layout).unwrap(), &app, None);
            assert_eq!(report.ok, report.problems.is_empty());
            report.problems.join("; ")
        };
        assert_eq!(problem("4mb", &|_| {}), "");
        let trailing = problem("4mb", &|app| app.bytes.extend([0xff; 16]));
        assert!(trailing.starts_with("expected nothing after the image's"), "{trailing}");
        let no_hash = problem("4mb", &|app| app.summary.header.hash_appended = false);
        assert!(no_hash.contains("--dont-append-digest"), "{no_hash}");
        let revisions = |app: &mut ImageFile| {
            (app.summary.header.min_chip_rev_full, app.summary.header.max_chip_rev_full) = (200, 100);
        };
        assert!(problem("4mb", &revisions).contains("found 200 to 100"));
        let no_entry = |app: &mut ImageFile| app.summary.header.entry_addr = 0;
        assert!(problem("4mb", &no_entry).starts_with("the updater cannot start this image from slot ota_0"));
        assert_eq!(problem("8mb-rollback", &no_entry), "", "there the bootloader starts it");
    }

    #[test]
    fn every_way_gives_enough_room_and_is_a_layout() {
        for (name, _) in flashfmt::layout::BUILTIN {
            for filling_bytes in [0x2F_0000, 0x37_0000, 0x6E_0000, 0x78_0000, 0xF0_0000] {
                let report = check_builtin(name, filling_bytes);
                for way in &report.ways {
                    let slots = way.lines.iter().filter(|line| line.starts_with("ota_"));
                    let sizes: Vec<u32> = slots
                        .map(|line| {
                            let size = line.split(", ").nth(4).unwrap();
                            u32::from_str_radix(size.strip_prefix("0x").unwrap(), 16).unwrap()
                        })
                        .collect();
                    assert!(!sizes.is_empty(), "{name} {way:?}");
                    assert!(sizes.iter().all(|size| *size as usize > filling_bytes), "{name} {way:?}");
                }
            }
        }
    }

    #[test]
    fn two_slots_become_one_or_the_flash_grows() {
        let report = check_builtin("8mb", 0x38_0000);
        assert!(!report.ok);
        assert_eq!(report.problems.len(), 2);
        let [one, larger] = report.ways.as_slice() else { panic!("{:?}", whats(&report)) };
        assert!(one.what.starts_with("use one slot"));
        assert_eq!(one.lines, ["ota_0, app, ota_0, 0x110000, 0x6e0000"]);
        assert_eq!((larger.what.as_str(), larger.flash_bytes), ("use a flash of 16 MB", 16 << 20));
        assert_eq!(
            larger.lines,
            [
                "ota_0, app, ota_0, 0x110000, 0x770000",
                "ota_1, app, ota_1, 0x880000, 0x770000",
                "coredump, data, coredump, 0xff0000, 0x10000",
            ]
        );
    }

    #[test]
    fn coredump_and_unused_flash_are_offered_where_they_are_enough() {
        let csv = "factory,app,factory,0x10000,960K\nvault,data,nvs,,32K\njournal,0x40,0,,8K\n\
                   ota_0,app,ota_0,0x110000,1M\ncoredump,data,coredump,0x3f0000,64K\n";
        let layout = NamedLayout::parse("own", csv).unwrap();
        let ways_for = |bytes| check(&layout, &image(Chip::Esp32C3, bytes), None).ways;
        let unused = ways_for(0x20_0000);
        assert_eq!(unused[0].lines, ["ota_0, app, ota_0, 0x110000, 0x2e0000"]);
        let tight = ways_for(0x2E_8000);
        assert!(tight[0].what.starts_with("drop `coredump`"), "{tight:?}");
        assert_eq!(tight[0].lines, ["ota_0, app, ota_0, 0x110000, 0x2f0000"]);
    }

    #[test]
    fn what_publishing_would_say_is_said_here_too() {
        let arduino = Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
            .segment_with_app_desc(DATA_ADDR, &AppDescriptor::new("lamp", "1"), b"esp32-hal-misc.c")
            .build()
            .unwrap();
        let arduino = ImageFile::parse(arduino).unwrap();
        let check_in = |layout: &str| check(&NamedLayout::read(layout).unwrap(), &arduino, None);
        let report = check_in("8mb-rollback");
        assert!(report.ok, "{report:?}");
        let [warning] = report.warnings.as_slice() else { panic!("{report:?}") };
        assert!(warning.contains("Arduino core") && warning.contains("gets no update any more"), "{warning}");
        assert!(check_in("8mb").warnings.is_empty(), "where it does not matter");

        let bootloader = Composer::new(Chip::Esp32C3, 0).segment(0x403D_0000, &[1; 64]).build().unwrap();
        let report = check(&NamedLayout::read("4mb").unwrap(), &ImageFile::parse(bootloader).unwrap(), None);
        assert!(!report.ok && report.problems[0].contains("second-stage bootloader"), "{report:?}");
    }

    #[test]
    fn what_else_is_wrong_is_told() {
        let layout = NamedLayout::parse("bare", "factory,app,factory,,1M\nota_0,app,ota_0,,1M\n").unwrap();
        let report = check(&layout, &image(Chip::Esp32C3, 100), Some(&image(Chip::Esp32S3, 2 << 20)));
        assert!(!report.ok);
        assert!(report.problems[0].contains("no partition `vault`"), "{report:?}");
        assert!(report.problems[1].contains("the application is for esp32c3, the updater for esp32s3"));

        let large = image(Chip::Esp32C3, 0xF_0000);
        let report = check(&NamedLayout::read("4mb").unwrap(), &image(Chip::Esp32C3, 100), Some(&large));
        assert!(report.problems[0].starts_with("the updater has"), "{report:?}");
        assert!(report.ways.is_empty());
    }
}
