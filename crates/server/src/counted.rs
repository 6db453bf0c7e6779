//! How many there are of something, in words.

/// `1 device`, `2 devices`.
pub(crate) fn counted(count: i64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// As [`counted`], of what was counted up to `most`: `1000 or more devices`.
pub(crate) fn counted_up_to(count: i64, most: i64, what: &str) -> String {
    if count < most { counted(count, what) } else { format!("{most} or more {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "device")), ["0 devices", "1 device", "2 devices"]);
        let up_to_two = [0, 1, 2, 3].map(|count| counted_up_to(count, 2, "release"));
        assert_eq!(up_to_two, ["0 releases", "1 release", "2 or more releases", "2 or more releases"]);
    }
}
