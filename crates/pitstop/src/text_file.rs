//! Text files as people's programs write them.

use std::io;

/// The text of a file in UTF-8, or in UTF-16 with a byte order mark, as PowerShell 5 writes what is redirected.
pub(crate) fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    let is_little_endian = match bytes.get(..2) {
        Some([0xFF, 0xFE]) => true,
        Some([0xFE, 0xFF]) => false,
        Some(_) | None => {
            return String::from_utf8(bytes).map_err(|_| invalid("expected text in UTF-8 or UTF-16"));
        }
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| {
        if is_little_endian { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) }
    };
    let units: Vec<u16> = pairs.iter().skip(1).map(unit).collect();
    let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
    text.ok_or_else(|| invalid("expected text in UTF-16, as its byte order mark says"))
}

fn invalid(expected: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf_8_or_utf_16_with_a_mark() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}id\rlämp\r".encode_utf16().flat_map(unit).collect()
        };
        for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
            assert_eq!(text_of(bytes.clone()).unwrap(), "id\rlämp\r");
            let half = text_of(bytes[..bytes.len() - 1].to_vec()).unwrap_err().to_string();
            assert!(half.contains("expected text in UTF-16"), "{half}");
        }
        assert_eq!(text_of("\u{feff}id".into()).unwrap(), "\u{feff}id");
        assert!(text_of(vec![0x80]).unwrap_err().to_string().contains("UTF-8 or UTF-16"));
    }
}
