//! Names for addresses: which function of which image is at one.
//!
//! Several images run on a chip, one after the other and at the same addresses. Each says in its description which ELF
//! file it was made from, by SHA-256 (`app_elf_sha256` of `esp_app_desc_t`, ESP-IDF 5.5,
//! `esp_app_format/include/esp_app_desc.h`).

use std::collections::HashMap;

use chip::Chip;
use flashfmt::AppDescriptor;
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use sha2::{Digest as _, Sha256};

/// From the beginning of an image to its description: the header of the image and that of its first segment.
const DESCRIPTION_OFFSET_BYTES: u32 = 24 + 8;

/// An ELF file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected an ELF file with symbols, found something else: {0}; take the one that the image was made from"
)]
pub struct SymbolsError(#[from] object::Error);

/// Which ELF file: its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ElfId([u8; 32]);

/// The functions of some images.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    files: HashMap<ElfId, File>,
}

#[derive(Clone, Debug)]
struct File {
    /// By address.
    functions: Vec<Symbol>,
    others: HashMap<String, u32>,
}

#[derive(Clone, Debug)]
struct Symbol {
    addr: u32,
    size: u32,
    name: String,
}

impl Symbols {
    /// Adds the symbols of an ELF file.
    ///
    /// # Errors
    /// [`SymbolsError`]
    pub fn add(&mut self, elf: &[u8]) -> Result<ElfId, SymbolsError> {
        let file = object::File::parse(elf)?;
        let mut functions = Vec::new();
        let mut others = HashMap::new();
        for symbol in file.symbols() {
            // What another file has to bring is not here.
            if symbol.is_undefined() {
                continue;
            }
            let (Ok(name), Ok(addr)) = (symbol.name(), u32::try_from(symbol.address())) else { continue };
            match symbol.kind() {
                SymbolKind::Text => {
                    let name = format!("{:#}", rustc_demangle::demangle(name));
                    let size = u32::try_from(symbol.size()).unwrap_or(u32::MAX);
                    functions.push(Symbol { addr, size, name });
                }
                _ => {
                    others.insert(name.to_owned(), addr);
                }
            }
        }
        functions.sort_by_key(|symbol| symbol.addr);
        let id = ElfId(Sha256::digest(elf).into());
        self.files.insert(id, File { functions, others });
        Ok(id)
    }

    /// The value of a symbol that is no function, such as one of the linker script.
    pub fn value(&self, elf: ElfId, name: &str) -> Option<u32> {
        self.files.get(&elf)?.others.get(name).copied()
    }

    /// The function at an address, and how far behind its beginning the address is.
    pub fn function(&self, elf: ElfId, addr: u32) -> Option<String> {
        let functions = &self.files.get(&elf)?.functions;
        let next = functions.partition_point(|symbol| symbol.addr <= addr);
        let symbol = functions.get(next.checked_sub(1)?)?;
        let offset = addr - symbol.addr;
        // A symbol of an assembler file has no size.
        (symbol.size == 0 || offset < symbol.size).then(|| format!("{} + {offset:#x}", symbol.name))
    }

    /// An address of the image that runs, with the function if one is known.
    pub fn describe(&self, chip: &Chip, addr: u32) -> String {
        match running(chip).and_then(|elf| self.function(elf, addr)) {
            Some(function) => format!("{addr:#010x} ({function})"),
            None => format!("{addr:#010x}"),
        }
    }
}

/// What the image was made from that runs.
fn running(chip: &Chip) -> Option<ElfId> {
    let at = chip.image_addr()? + DESCRIPTION_OFFSET_BYTES;
    let bytes = chip.flash().bytes().get(at as usize..)?;
    Some(ElfId(AppDescriptor::parse(bytes).ok()?.app_elf_sha256))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// This program is an ELF file with symbols too.
    #[test]
    fn an_address_in_a_function_has_its_name() {
        let elf = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut symbols = Symbols::default();
        let id = symbols.add(&elf).unwrap();
        let known = symbols.files[&id].functions.iter().find(|symbol| {
            symbol.name.contains("symbols::tests::an_address_in_a_function_has_its_name") && symbol.size > 1
        });
        let Symbol { addr, size, name } = known.unwrap().clone();
        assert_eq!(symbols.function(id, addr + 1), Some(format!("{name} + 0x1")));
        assert!(symbols.function(id, addr + size).is_none_or(|other| !other.starts_with(&name)));
        assert_eq!(symbols.function(id, 0), None);
        let unknown = ElfId([0; 32]);
        assert_eq!((symbols.function(unknown, addr), symbols.value(unknown, "main")), (None, None));
        let (other, value) = symbols.files[&id].others.iter().next().unwrap();
        assert_eq!(symbols.value(id, other), Some(*value));
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        let error = Symbols::default().add(b"\xe9 image").unwrap_err().to_string();
        assert!(error.contains("expected an ELF file"), "{error}");
    }
}
