//! An image file: what it says of itself, and which layouts it fits.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flashfmt::image::{ARDUINO_FILES, ConfirmsItself, Kind, NotAnApplication, Segment};
use flashfmt::partition::{PartitionKind, TABLE_OFFSET};
use flashfmt::{Chip, ImageError, ImageSummary, Layout, Partition, PartitionTable, StreamVerifier, layout};
use manifest::Digest;
use serde::Serialize;
use server::{check_image, check_start};

use crate::failure::Failure;

/// No image is longer: the largest flash that a slot can lie in, as in the manifest.
pub(crate) const MAX_FILE_BYTES: u64 = manifest::CHUNK_BYTES as u64 * manifest::MAX_CHUNKS as u64;

/// Magic of ELF files (System V ABI, `e_ident`).
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Where merged flash files begin in the flash: at the bootloader, which the ROM looks for at 0x1000 on ESP32 and
/// ESP32-S2, at 0x2000 on ESP32-P4 and ESP32-C5, and at 0 on the others; or at the flash's start.
const MERGED_STARTS: [u32; 3] = [0, 0x1000, 0x2000];

/// Start of the memory that deep sleep retains, on every chip but ESP32-P4 and ESP32-S31 (`SOC_RTC_DATA_LOW` and
/// kin in ESP-IDF `soc/<chip>/include/soc/soc.h`).
const RTC_RAM: std::ops::Range<u32> = 0x5000_0000..0x5001_0000;

/// An image file that was read and verified.
pub(crate) struct ImageFile {
    /// All bytes of the file.
    pub(crate) bytes: Vec<u8>,
    /// What the verifier found.
    pub(crate) summary: ImageSummary,
}

/// Why a file is no image that Pitstop can publish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    /// The file cannot be read.
    #[error("the image {} cannot be read: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Longer than any image.
    #[error("expected an image of at most {MAX_FILE_BYTES} bytes, found {found_bytes} bytes in {}", .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
    },
    /// What the compiler makes, before it is an image.
    #[error("expected an ESP image, found an ELF file: {}", .path.display())]
    Elf {
        /// Which file.
        path: PathBuf,
    },
    /// Bootloader, partition table and application in one file.
    #[error("expected the image of one application, found a merged flash file with a partition table: {}", .path.display())]
    MergedFlash {
        /// Which file.
        path: PathBuf,
        /// The first application in it.
        app: Option<Embedded>,
    },
    /// Not an image, or a damaged one.
    #[error("{}: {source}", .path.display())]
    Image {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
}

/// An application within a merged flash file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Embedded {
    /// Where its image begins in the file.
    offset_bytes: usize,
    /// How long its image is.
    length_bytes: u32,
}

impl ImageFile {
    /// Reads a file and verifies the image in it; one without appended hash is accepted here.
    ///
    /// # Errors
    /// [`InspectError`]; an ELF file or a merged flash file given by mistake is called so.
    pub(crate) fn read(path: &Path) -> Result<Self, InspectError> {
        let bytes = read_bounded(path)?;
        if bytes.starts_with(ELF_MAGIC) {
            return Err(InspectError::Elf { path: path.to_owned() });
        }
        // A merged file begins with a bootloader, which is an image too, so this is looked at before.
        if let Some(merged) = MergedFlash::find(&bytes) {
            return Err(InspectError::MergedFlash { path: path.to_owned(), app: merged.app() });
        }
        Self::parse(bytes).map_err(|source| InspectError::Image { path: path.to_owned(), source })
    }

    /// Verifies the image at the start of `bytes`; one without appended hash is accepted here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, ImageError> {
        let mut verifier = StreamVerifier::new(u32::MAX).allow_missing_hash();
        let summary = verifier.update(&bytes).and_then(|_| verifier.finish())?;
        Ok(Self { bytes, summary })
    }

    /// Bytes of the file after the image's end.
    pub(crate) fn trailing_bytes(&self) -> u64 {
        self.bytes.len() as u64 - u64::from(self.summary.image_bytes)
    }

    /// Whether it may go into a slot.
    ///
    /// # Errors
    /// [`NotAnApplication`].
    pub(crate) fn check_application(&self, without_descriptor: bool) -> Result<(), NotAnApplication> {
        self.summary.check_application(without_descriptor)
    }

    /// What to know of an image that says nothing of itself.
    pub(crate) fn undescribed(&self) -> Option<&'static str> {
        (self.summary.kind() == Kind::Undescribed).then_some(
            "nothing in this image says that it is an application: it has no app descriptor, and `release publish` and `flash \
             --app` take it with --without-descriptor only",
        )
    }

    /// Why it is known to confirm itself, which matters in layouts that hand over by otadata.
    pub(crate) fn confirms_itself(&self) -> Option<ConfirmsItself> {
        let names_arduino_files =
            self.bytes.windows(ARDUINO_FILES.len()).any(|window| window == ARDUINO_FILES);
        ConfirmsItself::of(self.summary.app_desc.as_ref(), names_arduino_files)
    }

    /// What there is to say about it.
    pub(crate) fn report(&self) -> Report {
        let ImageSummary { header, image_bytes, digest, segments, app_desc } = &self.summary;
        let (kind, problem) = (self.summary.kind(), self.problem());
        let goes_into_a_slot = kind != Kind::Updater && problem.is_none();
        Report {
            kind: kind.name(),
            problem,
            chip: header.chip.name(),
            entry: Address(header.entry_addr),
            file_bytes: self.bytes.len() as u64,
            image_bytes: u64::from(*image_bytes),
            trailing_bytes: self.trailing_bytes(),
            file_sha256: Digest::of(&self.bytes).to_string(),
            image_sha256: hex::encode(digest),
            checksum: "ok",
            hash: if header.hash_appended { "ok" } else { "not appended" },
            flash_size_bytes: header.flash_bytes().map(u64::from),
            min_chip_revision: header.min_chip_rev_full,
            max_chip_revision: header.max_chip_rev_full,
            app: app_desc.map(|app| AppReport {
                project_name: app.project_name.as_str().to_owned(),
                version: app.version.as_str().to_owned(),
                idf_version: app.idf_ver.as_str().to_owned(),
                built: format!("{} {}", app.date.as_str(), app.time.as_str()).trim().to_owned(),
                secure_version: app.secure_version,
                elf_sha256: hex::encode(app.app_elf_sha256),
            }),
            segments: segments
                .as_slice()
                .iter()
                .map(|segment| SegmentReport {
                    load_address: Address(segment.load_addr),
                    offset: segment.data_offset,
                    length_bytes: segment.len,
                    kind: segment_kind(header.chip, segment),
                })
                .collect(),
            warnings: self.undescribed().into_iter().collect(),
            fits: if goes_into_a_slot { fits(&self.summary) } else { Vec::new() },
        }
    }

    /// Why the server would refuse it as a release of any layout, of what is no matter of its kind.
    pub(crate) fn unpublishable(&self) -> Option<String> {
        if !self.summary.header.hash_appended {
            return Some(ImageError::HashNotAppended.to_string());
        }
        check_image(&self.summary, self.bytes.len() as u64).err().map(|problem| problem.to_string())
    }

    /// Why it cannot be an application. That it is the updater, or says nothing of itself, is no fault of a file.
    fn problem(&self) -> Option<String> {
        match self.check_application(true) {
            Ok(()) | Err(NotAnApplication::Updater | NotAnApplication::NoDescriptor) => self.unpublishable(),
            Err(problem @ (NotAnApplication::Bootloader { .. } | NotAnApplication::Unbootable(_))) => {
                Some(problem.to_string())
            }
        }
    }
}

/// What `image inspect` tells; its JSON form is for scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// `application`, `updater`, `bootloader`, or `undescribed` without app descriptor.
    pub(crate) kind: &'static str,
    /// Why it cannot be an application.
    pub(crate) problem: Option<String>,
    /// What to know of it all the same.
    pub(crate) warnings: Vec<&'static str>,
    pub(crate) chip: &'static str,
    pub(crate) entry: Address,
    pub(crate) file_bytes: u64,
    pub(crate) image_bytes: u64,
    /// After the image's end, such as a signature block or padding.
    pub(crate) trailing_bytes: u64,
    /// Of the whole file: the digest that a manifest names.
    pub(crate) file_sha256: String,
    /// Of the image, with its appended hash; the same when nothing follows the image.
    pub(crate) image_sha256: String,
    pub(crate) checksum: &'static str,
    pub(crate) hash: &'static str,
    pub(crate) flash_size_bytes: Option<u64>,
    /// Major times 100 plus minor.
    pub(crate) min_chip_revision: u16,
    /// Major times 100 plus minor; 65535 is any.
    pub(crate) max_chip_revision: u16,
    pub(crate) app: Option<AppReport>,
    pub(crate) segments: Vec<SegmentReport>,
    /// Built-in layouts; none for what goes into no slot.
    pub(crate) fits: Vec<Fit>,
}

/// The app descriptor.
#[derive(Debug, Serialize)]
pub(crate) struct AppReport {
    pub(crate) project_name: String,
    pub(crate) version: String,
    pub(crate) idf_version: String,
    pub(crate) built: String,
    pub(crate) secure_version: u32,
    pub(crate) elf_sha256: String,
}

/// One segment.
#[derive(Debug, Serialize)]
pub(crate) struct SegmentReport {
    pub(crate) load_address: Address,
    pub(crate) offset: u32,
    pub(crate) length_bytes: u32,
    pub(crate) kind: &'static str,
}

/// Whether the image fits the slots of a built-in layout, and can be started from them.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fit {
    pub(crate) layout: &'static str,
    /// The smallest slot: every slot has to hold the application.
    pub(crate) slot: String,
    pub(crate) slot_bytes: u32,
    pub(crate) fits: bool,
    /// Why it could not be started from a slot of the layout.
    pub(crate) problem: Option<String>,
}

/// An address, written in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) u32);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn fits(summary: &ImageSummary) -> Vec<Fit> {
    let fit = |name: &'static str| {
        let layout = Layout::builtin(name)?;
        let smallest = layout.slots().min_by_key(|slot| slot.size)?;
        let has_room = summary.image_bytes <= smallest.size;
        let problem = check_start(summary, &layout).err().filter(|_| has_room);
        Some(Fit {
            layout: name,
            slot: smallest.label.to_string(),
            slot_bytes: smallest.size,
            fits: has_room && problem.is_none(),
            problem: problem.map(|problem| problem.to_string()),
        })
    };
    layout::BUILTIN.into_iter().filter_map(|(name, _)| fit(name)).collect()
}

fn segment_kind(chip: Chip, segment: &Segment) -> &'static str {
    let [data, code] = chip.flash_windows();
    let address = segment.load_addr;
    match (data.contains(&address), code.contains(&address)) {
        _ if address == 0 => "padding",
        (true, true) => "flash",
        (true, false) => "flash, data",
        (false, true) => "flash, code",
        (false, false) if RTC_RAM.contains(&address) => "RTC RAM",
        (false, false) => "RAM",
    }
}

/// A file with bootloader, partition table and application.
struct MergedFlash<'a> {
    /// All of it.
    bytes: &'a [u8],
    /// Where in the flash the file begins.
    start: u32,
    table: PartitionTable<'a>,
}

impl<'a> MergedFlash<'a> {
    /// Finds a partition table where the bootloader looks for one. In an application, code or data stands there, and
    /// that has no table's magic, entries and MD5.
    fn find(bytes: &'a [u8]) -> Option<Self> {
        MERGED_STARTS.into_iter().find_map(|start| {
            let table = bytes.get((TABLE_OFFSET - start) as usize..)?;
            PartitionTable::parse(table).ok().map(|table| Self { bytes, start, table })
        })
    }

    /// The first application in it, if the file goes so far.
    fn app(&self) -> Option<Embedded> {
        let is_app = |partition: &Partition| matches!(partition.kind, PartitionKind::App(_));
        self.table.iter().filter(is_app).find_map(|partition| {
            let offset_bytes = partition.offset.checked_sub(self.start)? as usize;
            let image = ImageFile::parse(self.bytes.get(offset_bytes..)?.to_vec()).ok()?;
            let is_application = image.summary.kind() == Kind::Application;
            is_application.then_some(Embedded { offset_bytes, length_bytes: image.summary.image_bytes })
        })
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, InspectError> {
    let failed = |source| InspectError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let found_bytes = file.metadata().map_err(failed)?.len();
    // A merged flash file is as long as the flash; it is read as far as its table, to be called what it is.
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES
        && MergedFlash::find(&bytes).is_none()
        && !bytes.starts_with(ELF_MAGIC)
    {
        return Err(InspectError::TooLong { path: path.to_owned(), found_bytes });
    }
    Ok(bytes)
}

impl InspectError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } | Self::TooLong { .. } => None,
            Self::Elf { path } => Some(format!(
                "make the image: espflash save-image --chip CHIP {} app.bin (or esptool elf2image)",
                path.display()
            )),
            Self::MergedFlash { path, app: Some(Embedded { offset_bytes, length_bytes }) } => Some(format!(
                "cut the application out of it: tail -c +{} {} | head -c {length_bytes} > app-only.bin",
                offset_bytes + 1,
                path.display()
            )),
            Self::MergedFlash { app: None, .. } => Some(
                "give the application alone, such as build/PROJECT.bin of ESP-IDF or what `espflash save-image` \
                 writes without --merge"
                    .to_owned(),
            ),
            Self::Image { source, .. } => image_hint(source).map(str::to_owned),
        }
    }
}

fn image_hint(error: &ImageError) -> Option<&'static str> {
    match error {
        ImageError::NoImage | ImageError::BadMagic { .. } => {
            Some("give the .bin that you would flash to an app partition; it begins with the byte 0xe9")
        }
        ImageError::Truncated { .. } | ImageError::Checksum { .. } | ImageError::Hash { .. } => {
            Some("build or copy the file again; it is incomplete or damaged")
        }
        ImageError::SegmentMisplaced { .. } => {
            Some("make the image for this chip's MMU page size (esptool elf2image, espflash save-image)")
        }
        ImageError::SegmentCount { .. }
        | ImageError::UnknownChip { .. }
        | ImageError::HashFlag { .. }
        | ImageError::HashNotAppended
        | ImageError::SegmentLength { .. }
        | ImageError::TooLarge { .. } => None,
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Failure::new(error.to_string()).maybe_hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashfmt::AppDescriptor;
    use flashfmt::image::compose::{Composer, esp32c3_addr};

    fn image() -> Vec<u8> {
        Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
            .segment_with_app_desc(esp32c3_addr::DROM + 0x20, &AppDescriptor::new("lamp", "1.0.0"), &[1; 64])
            .segment(esp32c3_addr::IRAM, &[2; 64])
            .build()
            .unwrap()
    }

    /// With the load addresses of the one that espflash brings.
    fn bootloader() -> Vec<u8> {
        Composer::new(Chip::Esp32C3, 0x403C_BF1A)
            .segment(0x3FCD_5830, &[1; 64])
            .segment(0x403C_E710, &[2; 64])
            .build()
            .unwrap()
    }

    fn read(bytes: &[u8]) -> Result<ImageFile, InspectError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        ImageFile::read(file.path())
    }

    #[test]
    fn a_report_tells_what_is_in_the_image() {
        let file = read(&image()).unwrap();
        let report = file.report();
        assert_eq!((report.chip, report.hash, report.trailing_bytes), ("esp32c3", "ok", 0));
        assert_eq!(report.file_sha256, report.image_sha256);
        let kinds: Vec<_> = report.segments.iter().map(|segment| segment.kind).collect();
        assert_eq!(kinds, ["flash, data", "RAM"]);
        assert!(report.fits.iter().all(|fit| fit.fits));
        assert_eq!(report.fits.len(), layout::BUILTIN.len());
    }

    #[test]
    fn fits_every_slot_of_the_layout_or_none() {
        let good = ImageFile::parse(image()).unwrap().summary;
        let fit = |summary: &ImageSummary, layout| {
            fits(summary).into_iter().find(|fit| fit.layout == layout).unwrap()
        };
        let (slot, slot_bytes) = ("ota_0".to_owned(), 0x2f_0000);
        assert_eq!(fit(&good, "4mb"), Fit { layout: "4mb", slot, slot_bytes, fits: true, problem: None });
        let exact = ImageSummary { image_bytes: 0x2f_0000, ..good };
        let too_long = ImageSummary { image_bytes: 0x2f_0001, ..good };
        assert!(fit(&exact, "4mb").fits && !fit(&too_long, "4mb").fits);
        // What only the updater's chain-loader cannot start, a bootloader can.
        let mut nowhere = good;
        nowhere.header.entry_addr = 0;
        let refused = fit(&nowhere, "4mb");
        assert!(!refused.fits && refused.problem.is_some_and(|problem| problem.contains("slot ota_0")));
        assert_eq!(fit(&nowhere, "8mb-rollback").problem, None);
    }

    #[test]
    fn mistaken_files_are_called_what_they_are() {
        assert!(matches!(read(b"\x7fELF\x01\x01"), Err(InspectError::Elf { .. })));
        let mut merged = image();
        merged.resize(TABLE_OFFSET as usize, 0xff);
        merged.extend_from_slice(&Layout::builtin("4mb").unwrap().to_binary());
        assert!(matches!(read(&merged), Err(InspectError::MergedFlash { app: None, .. })));
        assert!(matches!(read(&[]), Err(InspectError::Image { source: ImageError::Truncated { .. }, .. })));
        assert!(matches!(
            read(&[0; 64]),
            Err(InspectError::Image { source: ImageError::BadMagic { .. }, .. })
        ));
    }

    /// As distributions for ESP32 and ESP32-S2 (0x1000), ESP32-P4 and -C5 (0x2000) and the others (0) come.
    #[test]
    fn a_merged_file_is_known_wherever_it_begins_and_its_application_is_found() {
        let (bootloader, app) = (bootloader(), image());
        for start in [0, 0x1000, 0x2000_usize] {
            let mut merged = bootloader.clone();
            merged.resize(0x8000 - start, 0xff);
            merged.extend_from_slice(&Layout::builtin("4mb").unwrap().to_binary());
            merged.resize(0x1_0000 - start, 0xff);
            merged.extend_from_slice(&app);
            merged.resize(0x2_0000, 0xff);
            let found = read(&merged).err().unwrap();
            let Some(hint) = found.hint() else { panic!("{found}") };
            let cut = format!("tail -c +{} ", 0x1_0000 - start + 1);
            assert!(
                hint.contains(&cut) && hint.contains(&format!("head -c {} ", app.len())),
                "{start:#x}: {hint}"
            );
            assert_eq!(&merged[0x1_0000 - start..][..app.len()], &app, "the hint cuts the application out");
        }
    }

    #[test]
    fn a_bootloader_is_told_and_is_no_application() {
        let file = read(&bootloader()).unwrap();
        let report = file.report();
        assert_eq!(report.kind, "bootloader");
        let problem = report.problem.unwrap();
        assert!(problem.starts_with("expected an application, found a second-stage bootloader"), "{problem}");
        assert_eq!(read(&image()).unwrap().report().problem, None);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = image();
        for position in 0..good.len() {
            let mut broken = good.clone();
            broken[position] ^= 0x10;
            assert!(read(&broken).is_err(), "byte {position}");
        }
    }

    #[test]
    fn bytes_after_the_image_are_counted() {
        let mut padded = image();
        let image_bytes = padded.len();
        padded.resize(image_bytes + 100, 0xff);
        let file = read(&padded).unwrap();
        assert_eq!(file.trailing_bytes(), 100);
        assert_eq!(file.summary.image_bytes as usize, image_bytes);
    }

    #[test]
    fn kinds_follow_the_memory_map() {
        let kind = |chip, load_addr| segment_kind(chip, &Segment { load_addr, data_offset: 0, len: 4 });
        assert_eq!(kind(Chip::Esp32C3, 0), "padding");
        assert_eq!(kind(Chip::Esp32C3, 0x3c00_0020), "flash, data");
        assert_eq!(kind(Chip::Esp32C3, 0x4200_0020), "flash, code");
        assert_eq!(kind(Chip::Esp32C3, 0x4038_0000), "RAM");
        assert_eq!(kind(Chip::Esp32C3, 0x5000_0000), "RTC RAM");
        assert_eq!(kind(Chip::Esp32C6, 0x4200_0020), "flash");
    }
}
