//! Any text as an address: of a server in the vault, of a database, of an artifact store.

#![no_main]

/// The server's file itself: the crate `server` would take minutes to build.
#[path = "../../crates/server/src/location.rs"]
#[expect(dead_code, reason = "what the server does with an address is not done here")]
mod location;

use libfuzzer_sys::fuzz_target;
use location::{Artifacts, Database};
use updater_io::vault::ServerUrl;
use url::Url;

fuzz_target!(|text: &str| {
    if let Ok(url) = ServerUrl::parse(text) {
        assert_eq!(ServerUrl::parse(&url.to_string()), Ok(url.clone()));
        assert!(url.port != 0 && (1..=253).contains(&url.host.len()));
        // It is the value of the Host field.
        assert!(url.authority().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(artifacts) = text.parse::<Artifacts>() {
        assert_eq!(artifacts.to_string().parse(), Ok(artifacts));
    }
    if let Ok(database) = text.parse::<Database>() {
        // What is shown of it is an address too, and holds no password.
        let shown = database.to_string();
        assert!(shown.parse::<Database>().is_ok(), "{shown}");
        let url = Url::parse(&shown).ok();
        assert!(url.is_none_or(|url| url.password().is_none() && url.query().is_none()), "{shown}");
    }
});
