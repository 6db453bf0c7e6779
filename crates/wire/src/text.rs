//! Texts of others, as they may be shown.

/// Whether a character may be shown as it is. Control characters are obeyed by terminals, and those that set the direction
/// of text (UAX #9 section 2) have a text read as another one.
#[must_use]
pub fn is_printable(char: char) -> bool {
    !char.is_control()
        && !matches!(char, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}
