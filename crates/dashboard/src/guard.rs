//! What holds for every request and every answer.

use axum::extract::Request;
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::layout;

/// Nothing but what this server sends, and no script or style within a page (CSP Level 3).
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // Not `no-referrer`: with it browsers send `Origin: null` with our own forms (Fetch, "append a request Origin
    // header"), and the check below would have nothing to look at. Other sites learn nothing either way.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Refuses changes that another site asks for, and adds the headers.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let mut response = if request.method().is_safe() || is_ours(request.headers()) {
        next.run(request).await
    } else {
        layout::message(
            StatusCode::FORBIDDEN,
            "A change must come from a page of this dashboard",
            "Nothing was changed. Open the dashboard by its own address, in one tab, and repeat what you did.",
        )
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Whether a request comes from a page of this dashboard.
///
/// Browsers say so in `Sec-Fetch-Site` where the address is HTTPS or loopback (Fetch Metadata section 2.3), and in
/// `Origin` everywhere. A request with neither is from no browser that has a session worth taking.
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text(&header::ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    origin.is_some() && origin == text(&header::HOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        is_ours(&headers)
    }

    #[test]
    fn changes_come_from_our_own_pages() {
        assert!(ours(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(ours(&[("origin", "http://pit.example:8080"), ("host", "pit.example:8080")]));
        for headers in [
            &[][..],
            &[("host", "pit.example")],
            &[("origin", "null"), ("host", "pit.example")],
            &[("origin", "http://evil.example"), ("host", "pit.example")],
            &[("origin", "http://pit.example:81"), ("host", "pit.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://p.example"), ("host", "p.example")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!ours(headers), "{headers:?}");
        }
    }
}
