//! Small things that many pages show.

use api::device::Health;
use api::page::Page as Items;
use maud::{Markup, html};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::api::Query;

/// What a label's colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Busy,
    Plain,
    Warn,
    Bad,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Plain => "plain",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A label with a dot in its colour; the text says it as well.
pub(crate) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (text) } }
}

/// Healths in the order in which plots stack them, from good to bad, with what each means.
pub(crate) const HEALTHS: [(Health, Tone, &str); 9] = [
    (Health::Ok, Tone::Good, "seen lately, nothing wrong"),
    (Health::Updating, Tone::Busy, "was offered a release"),
    (Health::New, Tone::Plain, "never seen"),
    (
        Health::Unheard,
        Tone::Plain,
        "not seen within the product's deadline, and nobody knows how often it is seen",
    ),
    (Health::Silent, Tone::Warn, "not seen for longer than is usual for it"),
    (Health::Failing, Tone::Warn, "refused or failed to install a release"),
    (Health::Crashing, Tone::Bad, "its application crashed after an update"),
    (Health::Suspended, Tone::Warn, "refused until somebody resumes it"),
    (Health::Revoked, Tone::Plain, "refused for good"),
];

pub(crate) fn health(health: Health) -> Markup {
    let known = HEALTHS.iter().find(|(known, _, _)| *known == health);
    badge(known.map_or(Tone::Plain, |(_, tone, _)| *tone), health.name())
}

/// How long ago, and on hovering when exactly. As all times it is in UTC; `pitstop.js` makes it the reader's zone.
pub(crate) fn when(rfc3339: &str, now: OffsetDateTime) -> Markup {
    let Some(at) = parse(rfc3339) else { return html! { (rfc3339) } };
    html! { time.ago datetime=(rfc3339) title=(exact(at)) { (relative((now - at).whole_seconds())) } }
}

pub(crate) fn when_or(at: Option<&str>, now: OffsetDateTime, none: &str) -> Markup {
    at.map_or_else(|| html! { span.muted { (none) } }, |at| when(at, now))
}

/// To the second, in UTC; for logs.
pub(crate) fn timestamp(rfc3339: &str) -> Markup {
    let Some(at) = parse(rfc3339) else { return html! { (rfc3339) } };
    html! { time.stamp datetime=(rfc3339) { (exact(at)) } }
}

/// A time that stands on the page in UTC, by its class for `pitstop.js`: `stamp`, `clock` or `day`.
pub(crate) fn time_as(class: &str, at: OffsetDateTime, text: &str) -> Markup {
    html! { time class=(class) datetime=(at.format(&Rfc3339).unwrap_or_default()) { (text) } }
}

pub(crate) fn parse(rfc3339: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(rfc3339, &Rfc3339).ok()
}

fn exact(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

/// `3 min ago`, or `in 3 min`.
fn relative(ago_s: i64) -> String {
    match ago_s {
        -4..=4 => "now".to_owned(),
        5.. => format!("{} ago", duration(ago_s)),
        _ => format!("in {}", duration(-ago_s)),
    }
}

/// Seconds in the unit that says enough: `45 s`, `3 min`, `5 h`, `12 d`.
pub(crate) fn duration(seconds: i64) -> String {
    const UNITS: [(i64, i64, &str); 3] = [(2 * 86_400, 86_400, "d"), (2 * 3600, 3600, "h"), (120, 60, "min")];
    match UNITS.iter().find(|(from, _, _)| seconds >= *from) {
        Some((_, unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

/// Seconds without loss: `1 d`, `90 min`, `45 s`, and `none` for 0.
pub(crate) fn exact_duration(seconds: impl Into<i128>) -> String {
    const UNITS: [(i128, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    let seconds = seconds.into();
    if seconds == 0 {
        return "none".to_owned();
    }
    match UNITS.iter().find(|(unit, _)| seconds % unit == 0) {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

/// Groups of three digits: `12 345`, with a thin space that does not break.
pub(crate) fn number(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    if number < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1.25 MiB`, or exact below 1 KiB.
pub(crate) fn bytes(bytes: impl Into<i128>) -> String {
    let bytes = bytes.into();
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64;
    match bytes {
        1_073_741_824.. => format!("{:.2} GiB", number / 1_073_741_824.0),
        1_048_576.. => format!("{:.2} MiB", number / 1_048_576.0),
        1024.. => format!("{:.1} KiB", number / 1024.0),
        _ => format!("{bytes} B"),
    }
}

/// A part of a whole to a tenth of a percent, rounded down: only the whole is 100 %.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let tenths = part.min(whole) * 1000 / whole.max(1);
    match tenths % 10 {
        0 => format!("{} %", tenths / 10),
        rest => format!("{}.{rest} %", tenths / 10),
    }
}

/// `1 device`, `2 devices`.
pub(crate) fn count(many: impl Into<i128>, one: &str) -> String {
    let many = many.into();
    let plural = if many == 1 { "" } else { "s" };
    format!("{} {one}{plural}", number(many))
}

/// A digest by its first 12 digits; all of it on hovering and for copying.
pub(crate) fn digest(digest: &str) -> Markup {
    let short = digest.get(..12).unwrap_or(digest);
    html! { code title=(digest) { (short) @if short.len() < digest.len() { "…" } } }
}

/// Facts as a list of names and values; those without a value are left out.
pub(crate) fn facts<const N: usize>(facts: [(&str, Option<Markup>); N]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

pub(crate) fn some(text: impl AsRef<str>) -> Option<Markup> {
    let text = text.as_ref();
    (!text.is_empty()).then(|| html! { (text) })
}

/// What to do where there is nothing yet: commands to type.
pub(crate) fn empty(title: &str, text: &str, commands: &[&str]) -> Markup {
    html! {
        section.empty {
            h2 { (title) }
            p { (text) }
            @if !commands.is_empty() {
                pre tabindex="0" aria-label="Commands to type" { code { @for command in commands { (command) "\n" } } }
            }
        }
    }
}

/// A button that opens a question, and the form that is the answer. It needs no JavaScript: a popover closes with
/// Escape, and the focus goes back to the button.
pub(crate) fn confirm(id: &str, button: &str, class: &str, question: Markup) -> Markup {
    html! {
        button class=(class) type="button" popovertarget=(id) { (button) }
        div #(id).question popover role="dialog" aria-label=(button) { (question) }
    }
}

/// Closes the question that it is in.
pub(crate) fn cancel(id: &str) -> Markup {
    html! { button type="button" popovertarget=(id) popovertargetaction="hide" { "Cancel" } }
}

/// JSON of an event or an audit row as short pairs; what is nested stays JSON.
pub(crate) fn pairs(value: &Value) -> Markup {
    match value {
        Value::Null => html! {},
        Value::Object(map) if map.is_empty() => html! {},
        Value::Object(map) => html! {
            div.pairs {
                @for (name, value) in map {
                    @if !value.is_null() { div.pair { span.key { (name.replace('_', " ")) } " " (folded(value)) } }
                }
            }
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => html! { (plain(value)) },
    }
}

/// Of a list that is longer, the entries are folded.
const MAX_ENTRIES: usize = 12;
/// So many entries of a folded list are on the page; an event of the API may have thousands.
const MAX_FOLDED: usize = 100;

/// A JSON value that may be large: a whole document, such as a rollout's plan, and a long list are folded.
pub(crate) fn folded(value: &Value) -> Markup {
    let is_document = match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(|item| item.is_object() || item.is_array()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if is_document {
        let document = serde_json::to_string_pretty(value).unwrap_or_default();
        return html! { details { summary { "document" } pre tabindex="0" aria-label="JSON" { (document) } } };
    }
    match value {
        Value::Array(items) if items.len() > MAX_ENTRIES => {
            let left_out = items.len().saturating_sub(MAX_FOLDED);
            html! {
                details {
                    summary { (number(i64::try_from(items.len()).unwrap_or(i64::MAX))) " entries" }
                    pre.pre tabindex="0" aria-label="Entries" {
                        @for item in items.iter().take(MAX_FOLDED) { (plain(item)) "\n" }
                        @if left_out > 0 { "and " (count(i64::try_from(left_out).unwrap_or(i64::MAX), "other")) }
                    }
                }
            }
        }
        _ => html! { (plain(value)) },
    }
}

/// A JSON value as text; strings without quotes.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// An option of a `select`.
pub(crate) fn option(value: &str, text: &str, selected: bool) -> Markup {
    html! { option value=(value) selected[selected] { (text) } }
}

/// In which order a list is: values of the API, and what they mean here.
pub(crate) fn order(chosen: &str, orders: [(&str, &str); 2]) -> Markup {
    html! {
        div.field {
            label for="order" { "Order" }
            select #order name="order" {
                @for (value, meaning) in orders { (option(value, meaning, value == chosen)) }
            }
        }
    }
}

/// How many entries a list has, and links to its other pages. `here` is the list's address with its filter.
pub(crate) fn pager<T>(page: &Items<T>, path: &str, here: &Query, entry: &str) -> Markup {
    let link = |name: &str, cursor: &Option<String>| {
        cursor.as_ref().map(|cursor| here.clone().and(name, cursor).on(path))
    };
    let (previous, next) = (link("before", &page.previous_cursor), link("cursor", &page.next_cursor));
    html! {
        nav.pager aria-label="Pages" {
            @if let Some(total) = &page.total {
                p.total {
                    @if total.has_more { "more than " }
                    (count(total.count, entry))
                }
            }
            @if previous.is_some() { a href=(here.on(path)) { "First page" } }
            @if let Some(previous) = previous { a href=(previous) rel="prev" { "Previous page" } }
            @if let Some(next) = next { a href=(next) rel="next" { "Next page" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(number(-999), "-999");
        assert_eq!(bytes(900), "900 B");
        assert_eq!(bytes(1_310_720), "1.25 MiB");
        assert_eq!(bytes(1_610_612_736), "1.50 GiB");
        assert_eq!(duration(119), "119 s");
        assert_eq!(duration(120), "2 min");
        assert_eq!(duration(3 * 86_400), "3 d");
        assert_eq!(exact_duration(5400), "90 min");
        assert_eq!(exact_duration(0), "none");
        assert_eq!(relative(-90), "in 90 s");
        assert_eq!(count(1, "device"), "1 device");
        assert_eq!(count(0, "device"), "0 devices");
    }

    #[test]
    fn a_long_list_is_folded_and_its_page_stays_small() {
        let list = |length: usize| {
            let ids = (0..length).map(|id| format!("hall-{id}")).collect::<Vec<_>>();
            folded(&serde_json::json!(ids)).into_string()
        };
        assert!(!list(MAX_ENTRIES).contains("<details"));
        let long = list(1000);
        assert!(long.starts_with("<details><summary>1\u{202f}000 entries</summary>"), "{long}");
        assert!(long.contains("hall-99\n") && !long.contains("hall-100\n"), "{long}");
        assert!(long.contains("and 900 others"), "{long}");
        assert!(long.len() < 2000, "{}", long.len());
    }

    #[test]
    fn text_from_devices_is_escaped() {
        let hostile = "<script>alert(1)</script>\"'";
        for markup in [
            badge(Tone::Bad, hostile),
            digest(hostile),
            when(hostile, OffsetDateTime::UNIX_EPOCH),
            timestamp(hostile),
            pairs(&serde_json::json!({ hostile: hostile })),
            empty(hostile, hostile, &[hostile]),
            option(hostile, hostile, true),
        ] {
            let markup = markup.into_string();
            assert!(!markup.contains("<script"), "{markup}");
            assert!(!markup.contains("\"'"), "{markup}");
        }
    }
}
