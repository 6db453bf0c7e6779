//! Takes the updaters' images into the program, for `flash` without a toolchain.
//!
//! `cargo xtask dist` names their folder in `PITSTOP_DIST_UPDATERS`, with one `updater-<chip>.bin` each. Any other build
//! carries none.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FOLDER: &str = "PITSTOP_DIST_UPDATERS";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={FOLDER}");
    let mut images = Vec::new();
    if let Some(folder) = env::var_os(FOLDER) {
        println!("cargo::rerun-if-changed={}", Path::new(&folder).display());
        for entry in fs::read_dir(&folder)? {
            let path = fs::canonicalize(entry?.path())?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(chip) = name.strip_prefix("updater-").and_then(|name| name.strip_suffix(".bin")) {
                images.push((chip.to_owned(), path));
            }
        }
        if images.is_empty() {
            return Err(format!("{FOLDER}: expected updater-<chip>.bin, found none").into());
        }
    }
    // The order of a folder is not that of its names.
    images.sort();
    let code = code(&images)?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("carried.rs"), code)?;
    Ok(())
}

/// A table of chips and bytes.
fn code(images: &[(String, PathBuf)]) -> Result<String, std::fmt::Error> {
    let mut code = String::from("&[\n");
    for (chip, path) in images {
        let path = path.display().to_string();
        writeln!(code, "    ({chip:?}, include_bytes!({path:?})),")?;
    }
    code.push(']');
    Ok(code)
}
