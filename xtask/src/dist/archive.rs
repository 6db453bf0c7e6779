//! Tar archives that come out the same each time: one owner, one time, files in the order in which they are put in.

use std::io::Write as _;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// An archive that is being written.
pub(super) struct Archive {
    builder: Builder<Vec<u8>>,
    at_s: u64,
}

impl Archive {
    /// Everything in it is of this time.
    pub(super) fn new(at_s: u64) -> Self {
        Self { builder: Builder::new(Vec::new()), at_s }
    }

    pub(super) fn file(&mut self, path: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        self.entry(EntryType::Regular, path, bytes, mode, 0)
    }

    /// A folder of the user and group `owner`.
    pub(super) fn folder(&mut self, path: &str, mode: u32, owner: u64) -> anyhow::Result<()> {
        self.entry(EntryType::Directory, path, &[], mode, owner)
    }

    fn entry(
        &mut self,
        kind: EntryType,
        path: &str,
        bytes: &[u8],
        mode: u32,
        owner: u64,
    ) -> anyhow::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.at_s);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(bytes.len() as u64);
        self.builder
            .append_data(&mut header, path, bytes)
            .with_context(|| format!("{path} cannot be put into an archive"))
    }

    pub(super) fn finish(self) -> anyhow::Result<Vec<u8>> {
        self.builder.into_inner().context("an archive cannot be ended")
    }
}

/// Compressed, without a time.
pub(super) fn gzip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(1_700_000_000);
        archive.folder("data", 0o700, 10_001).unwrap();
        archive.file("data/a", b"content", 0o644).unwrap();
        gzip(&archive.finish().unwrap()).unwrap()
    }

    #[test]
    fn an_archive_holds_what_was_put_in_and_is_the_same_again() {
        let bytes = archive();
        let mut archive_again = tar::Archive::new(GzDecoder::new(&bytes[..]));
        let mut found = Vec::new();
        for entry in archive_again.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let header = entry.header();
            let path = entry.path().unwrap().display().to_string();
            found.push((
                path,
                content,
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.mtime().unwrap(),
            ));
        }
        let at_s = 1_700_000_000;
        assert_eq!(
            found,
            [
                ("data".into(), String::new(), 0o700, 10_001, at_s),
                ("data/a".into(), "content".to_owned(), 0o644, 0, at_s)
            ]
        );
        assert_eq!(bytes, archive());
    }
}
