//! Commands that a page or a hint proposes: they go to the server that this command talked to.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Commands that talk to no server.
const LOCAL: [&str; 9] =
    ["serve", "demo", "keys", "image", "layout", "admin", "quickstart", "completions", "man"];

/// The options by which this command found its server, such as ` --url http://127.0.0.1:9000`.
static SERVER: OnceLock<String> = OnceLock::new();

/// Notes the options that name the server: every command that is proposed from now on has them. The token is not among
/// them, for it is not shown.
pub(crate) fn talks_to(options: String) {
    // A command talks to one server.
    let _ = SERVER.set(options);
}

/// A word of a command as a shell takes it: quoted when it has blanks or anything else that a shell would heed.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "-._/:@%+=,~".contains(char);
    if !text.is_empty() && !text.starts_with('~') && text.chars().all(is_plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', "'\\''")).into()
    }
}

/// A command that is proposed, with the options that name the server.
pub(super) fn command(text: &str) -> String {
    to_server(text, SERVER.get().map_or("", String::as_str))
}

/// A sentence with commands between backticks, each with the options that name the server.
pub(super) fn prose(text: &str) -> String {
    prose_to(text, SERVER.get().map_or("", String::as_str))
}

fn to_server(text: &str, options: &str) -> String {
    let words: Vec<_> = text.split_ascii_whitespace().take(3).collect();
    match words.as_slice() {
        ["pitstop", "whoami"] => format!("{text}{options}"),
        // Of a resource and a verb: `pitstop release list`. Less is a name, not a command to run.
        ["pitstop", resource, _]
            if !LOCAL.contains(resource) && !resource.starts_with('-') && !text.ends_with("--help") =>
        {
            format!("{text}{options}")
        }
        _ => text.to_owned(),
    }
}

fn prose_to(text: &str, options: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts =
        parts.map(|(index, part)| if index % 2 == 1 { to_server(part, options) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_word_to_a_shell() {
        for plain in ["app.bin", "/srv/p", "http://127.0.0.1:9000", "AA:BB", "1%,10%"] {
            assert_eq!(word(plain), plain);
        }
        for (text, quoted) in [
            ("my app.bin", "'my app.bin'"),
            ("", "''"),
            ("~x", "'~x'"),
            ("it's", "'it'\\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(word(text), quoted);
        }
    }

    #[test]
    fn commands_go_to_the_same_server() {
        let options = " --url http://127.0.0.1:9000";
        let of = |text: &str| to_server(text, options);
        assert_eq!(
            of("pitstop rollout watch ro-1"),
            "pitstop rollout watch ro-1 --url http://127.0.0.1:9000"
        );
        assert_eq!(of("pitstop whoami"), "pitstop whoami --url http://127.0.0.1:9000");
        for local in [
            "pitstop serve",
            "pitstop image inspect app.bin",
            "pitstop --help",
            "pitstop device set --help",
            "ssh HOST",
        ] {
            assert_eq!(of(local), local);
        }
        assert_eq!(
            prose_to("start one with `pitstop serve`, or see `pitstop device list`", options),
            "start one with `pitstop serve`, or see `pitstop device list --url http://127.0.0.1:9000`"
        );
    }
}
