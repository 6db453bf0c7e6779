//! Any text as an address: of a server in the vault, of a database, of an artifact store.

/// The server's file itself: it is private there.
#[path = "../../../crates/server/src/location.rs"]
#[allow(dead_code, unreachable_pub, reason = "the server does more with an address, and shows it others")]
mod location;

use location::{Artifacts, Database};
use updater_io::vault::ServerUrl;
use url::Url;

pub type Input<'a> = &'a str;

pub fn run(text: Input<'_>) {
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
}
