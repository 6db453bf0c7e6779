//! How large an image is, what of it grew since the sizes of `firmware/sizes.csv`, and how large it may be.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::image::{self, Segment};

/// Where code runs from flash on the RISC-V chips (`SOC_IROM_LOW`, ESP-IDF 5.5, soc/esp32c3 and esp32c6/include/soc/soc.h).
const FLASH_CODE: std::ops::Range<u32> = 0x4200_0000..0x4280_0000;

/// First line of the record.
const COLUMNS: &str = "image,bytes,data,code,ram";

/// Bytes of an image, as a whole and by what its segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// Of the file: with headers, padding and digest.
    pub(super) bytes: usize,
    /// Read from flash: constants, texts.
    data: usize,
    /// Run from flash.
    code: usize,
    /// Copied to RAM at the start.
    ram: usize,
}

impl Size {
    /// Measures an image.
    ///
    /// Errors: a segment that ends beyond the file.
    pub(super) fn of(image: &[u8]) -> anyhow::Result<Self> {
        let mut size = Self { bytes: image.len(), data: 0, code: 0, ram: 0 };
        for (index, Segment { address, size_bytes }) in image::segments(image)?.into_iter().enumerate() {
            let part = match address {
                // The app descriptor is at the beginning of what is read from flash, and the first of all.
                _ if index == 0 => &mut size.data,
                // Fills up to the next 64 KiB.
                0 => continue,
                address if FLASH_CODE.contains(&address) => &mut size.code,
                _ => &mut size.ram,
            };
            *part += size_bytes;
        }
        Ok(size)
    }

    /// What changed since `before`, such as `+1204 bytes: data +104, code +1100`; empty when nothing did.
    pub(super) fn since(self, before: Self) -> String {
        let change = |now: usize, before: usize| now as i128 - before as i128;
        let parts = [
            ("data", change(self.data, before.data)),
            ("code", change(self.code, before.code)),
            ("RAM", change(self.ram, before.ram)),
        ];
        let told = |(name, change): (&str, i128)| (change != 0).then(|| format!("{name} {change:+}"));
        let parts = parts.into_iter().filter_map(told).collect::<Vec<_>>().join(", ");
        match (change(self.bytes, before.bytes), parts.is_empty()) {
            (0, true) => String::new(),
            (bytes, true) => format!("{bytes:+} bytes"),
            (bytes, false) => format!("{bytes:+} bytes: {parts}"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.bytes, self.data, self.code, self.ram)
    }
}

/// The sizes that were recorded, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record(Vec<(String, Size)>);

impl Record {
    /// Where it is.
    pub(super) fn path(root: &Path) -> PathBuf {
        root.join("firmware/sizes.csv")
    }

    /// Reads it. Errors: a line that is none of ours.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let path = Self::path(root);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        ensure!(lines.next() == Some(COLUMNS), "expected {COLUMNS:?} in the first line");
        let row = |line: &str| {
            let (name, numbers) = line.split_once(',')?;
            let numbers: Vec<usize> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
            let [bytes, data, code, ram] = *numbers else { return None };
            Some((name.to_owned(), Size { bytes, data, code, ram }))
        };
        lines
            .map(|line| row(line).with_context(|| format!("cannot read {line:?}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The size of an image, when it was last recorded.
    pub(super) fn of(&self, image: &str) -> Option<Size> {
        self.0.iter().find(|(name, _)| name == image).map(|(_, size)| *size)
    }

    /// Takes sizes into the record, and leaves those of other images.
    pub(super) fn set(&mut self, image: &str, size: Size) {
        match self.0.iter_mut().find(|(name, _)| name == image) {
            Some((_, old)) => *old = size,
            None => self.0.push((image.to_owned(), size)),
        }
    }

    /// Writes it.
    pub(super) fn write(&self, root: &Path) -> anyhow::Result<()> {
        let path = Self::path(root);
        let mut text = format!("{COLUMNS}\n");
        for (name, size) in &self.0 {
            let _ = writeln!(text, "{name},{size}");
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { bytes: 1000, data: 200, code: 500, ram: 100 };

    #[test]
    fn segments_are_summed_up_by_what_they_are() {
        let mut image = vec![0; 24];
        image[1] = 5;
        for (address, bytes) in
            [(0x3C00_0020_u32, 8_u32), (0x3FC8_0000, 12), (0, 4), (0x4201_0020, 16), (0x4038_0000, 20)]
        {
            image.extend(address.to_le_bytes().into_iter().chain(bytes.to_le_bytes()));
            image.resize(image.len() + bytes as usize, 0);
        }
        let bytes = image.len();
        assert_eq!(Size::of(&image).unwrap(), Size { bytes, data: 8, code: 16, ram: 32 });
        image.truncate(bytes - 1);
        assert!(Size::of(&image).is_err());
    }

    #[test]
    fn what_grew_is_told() {
        assert_eq!(SIZE.since(SIZE), "");
        assert_eq!(Size { bytes: 1016, ..SIZE }.since(SIZE), "+16 bytes");
        let now = Size { bytes: 990, data: 180, code: 510, ram: 100 };
        assert_eq!(now.since(SIZE), "-10 bytes: data -20, code +10");
    }

    #[test]
    fn the_record_is_read_as_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("firmware")).unwrap();
        let mut record = Record::default();
        record.set("a", SIZE);
        record.set("b", Size { bytes: 7, ..SIZE });
        record.set("a", Size { bytes: 9, ..SIZE });
        record.write(root.path()).unwrap();
        let read = Record::read(root.path()).unwrap();
        assert_eq!(read, record);
        assert_eq!((read.of("a").unwrap().bytes, read.of("c")), (9, None));
        for broken in
            ["", "image\n", "image,bytes,data,code,ram\na,1,2,3", "image,bytes,data,code,ram\na,1,2,3,x"]
        {
            assert!(Record::parse(broken).is_err(), "{broken:?}");
        }
    }
}
