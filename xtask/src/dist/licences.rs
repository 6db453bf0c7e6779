//! The licences of what others wrote: each text once, with the packages that it is for.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use cargo_metadata::Package;

use super::packages::Packages;

/// What the files are called that have to go with a program.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// Texts, or what stands for one, by package.
pub(super) type Licences = BTreeMap<String, Vec<String>>;

/// The texts that packages bring along.
pub(super) fn collect(packages: &Packages) -> anyhow::Result<Licences> {
    packages.foreign().map(|package| Ok((name(package), texts(package)?))).collect()
}

fn name(package: &Package) -> String {
    let license = package.license.as_deref().unwrap_or("see its text");
    format!("{} {} ({license})", package.name, package.version)
}

fn texts(package: &Package) -> anyhow::Result<Vec<String>> {
    let folder = package.manifest_path.parent().context("a package is in a folder")?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {folder}"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        texts.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
    }
    if texts.is_empty() {
        // Some have none in what they publish.
        let authors = package.authors.join(", ");
        let place = package.repository.as_deref().unwrap_or_default();
        texts.push(format!("It brings no text along. Authors: {authors}. {place}").trim_end().to_owned());
    }
    Ok(texts)
}

/// All of it for people: texts that are equal stand once.
pub(super) fn text(licences: &Licences) -> String {
    let mut by_text: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (package, texts) in licences {
        for text in texts {
            by_text.entry(text).or_default().push(package);
        }
    }
    let mut sections: Vec<_> = by_text.into_iter().map(|(text, packages)| (packages, text)).collect();
    sections.sort();
    let rule = "-".repeat(78);
    let mut all = String::from("What others wrote and is in these programs, and under which licences.\n");
    for (packages, text) in sections {
        all += &format!("\n{rule}\n{}\n{rule}\n\n{text}\n", packages.join("\n"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_two_packages_share_stands_once() {
        let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let licences = Licences::from([
            ("a 1.0.0 (MIT)".to_owned(), of(&["may be used"])),
            ("b 1.0.0 (MIT OR ISC)".to_owned(), of(&["may be used", "may be used too"])),
        ]);
        let text = text(&licences);
        assert_eq!(text.matches("may be used\n").count(), 1);
        assert!(text.contains("a 1.0.0 (MIT)\nb 1.0.0 (MIT OR ISC)\n"), "{text}");
        assert!(text.contains("b 1.0.0 (MIT OR ISC)\n------"), "{text}");
    }

    #[test]
    fn every_package_of_the_program_has_a_text_or_says_why_not() {
        let packages = Packages::of_program(crate::repository_root(), "x86_64-unknown-linux-gnu").unwrap();
        let licences = collect(&packages).unwrap();
        assert_eq!(licences.len(), packages.foreign().count());
        let without =
            licences.values().flatten().filter(|text| text.starts_with("It brings no text")).count();
        assert!(without * 10 < licences.len(), "{without} of {}", licences.len());
    }
}
