//! Style, scripts and icon. They are part of the binary, and their addresses change with their content, so that
//! browsers may keep them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

/// A file of `assets/`.
pub(crate) struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static str,
}

macro_rules! asset {
    ($name:literal, $media_type:literal) => {
        Asset { name: $name, media_type: $media_type, content: include_str!(concat!("../assets/", $name)) }
    };
}

pub(crate) const STYLE: Asset = asset!("pitstop.css", "text/css; charset=utf-8");
/// Times in the reader's zone, and pages that stay up to date.
pub(crate) const SCRIPT: Asset = asset!("pitstop.js", "text/javascript; charset=utf-8");
pub(crate) const ICON: Asset = asset!("icon.svg", "image/svg+xml");
/// From the npm package htmx.org, unchanged; `assets/README.md` has version and licence.
pub(crate) const HTMX: Asset = asset!("htmx.min.js", "text/javascript; charset=utf-8");
/// From the npm package htmx-ext-sse, unchanged.
pub(crate) const HTMX_SSE: Asset = asset!("sse.min.js", "text/javascript; charset=utf-8");

const ALL: [Asset; 5] = [STYLE, SCRIPT, ICON, HTMX, HTMX_SSE];

/// Changes with every change to an asset.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let hash = ALL.iter().fold(Sha256::new(), |hash, asset| hash.chain_update(asset.content));
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

impl Asset {
    /// Where it is, as pages refer to it.
    pub(crate) fn href(&self) -> String {
        format!("/assets/{}/{}", *VERSION, self.name)
    }
}

/// `GET /assets/{version}/{name}`. Any version is answered: a page of before an upgrade still gets its style.
pub(crate) async fn serve(Path((_, name)): Path<(String, String)>) -> Response {
    match ALL.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            let keep = "public, max-age=31536000, immutable";
            ([(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, keep)], asset.content)
                .into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
