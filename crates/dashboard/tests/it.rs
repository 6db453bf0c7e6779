//! Pages, sessions and forms, over an API that answers from memory.

#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use dashboard::Transport;
use fixture::World;
use futures_util::StreamExt as _;
use tower::ServiceExt as _;

const PAGES: [&str; 20] = [
    "/",
    "/devices",
    "/devices?health=failing&q=lamp",
    "/devices?rollout=ro-7&wave=1&attempt=crashed&epoch=0",
    "/devices/lamp-0009",
    "/devices/lamp-0011",
    "/devices/lamp-0050",
    "/devices/lamp-0000",
    "/approvals",
    "/approvals?product=lamp",
    "/products",
    "/products/lamp",
    "/releases",
    "/releases/lamp/3",
    "/rollouts",
    "/rollouts/ro-7",
    "/rollouts/new",
    "/audit",
    "/audit?kind=rollout&since=2026-01-01",
    "/tokens",
];

/// A browser: it keeps the cookie, and says where a change comes from.
struct Browser {
    dashboard: Router,
    world: Arc<World>,
    cookie: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Browser {
    fn new(empty: bool) -> Self {
        let (api, world) = fixture::api(empty);
        Self { dashboard: dashboard::router(api, Transport::Http), world, cookie: None }
    }

    async fn logged_in(role: &str) -> Self {
        Self::new(false).log_in(role).await
    }

    async fn log_in(self, role: &str) -> Self {
        let mut browser = self;
        let answer = browser.post("/login", &format!("token={role}-token")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
        browser.keep_cookie(&answer);
        browser
    }

    fn keep_cookie(&mut self, answer: &Answer) {
        let cookie = answer.header("set-cookie");
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    }

    async fn send(&self, request: axum::http::request::Builder, body: String) -> Answer {
        let request = match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        };
        let response = self.dashboard.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path), String::new()).await
    }

    /// As a form of our own page is sent.
    async fn post(&self, path: &str, form: &str) -> Answer {
        self.send(Request::post(path).header("sec-fetch-site", "same-origin"), form.to_owned()).await
    }

    /// The CSRF token of a page.
    async fn csrf(&self, path: &str) -> String {
        let page = self.get(path).await.body;
        let (_, rest) = page.split_once(r#"name="csrf" value=""#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn changes(&self) -> Vec<fixture::Change> {
        self.world.changes.lock().unwrap().clone()
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[tokio::test]
async fn every_page_is_shown_and_escapes_what_others_chose() {
    let browser = Browser::logged_in("admin").await;
    for path in PAGES {
        let page = browser.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        assert!(page.body.starts_with("<!DOCTYPE html>"), "{path}");
        // Our own script elements have a source, and nothing else.
        assert!(!page.body.contains("<script>"), "{path} has a script within");
        assert!(!page.body.contains(" style="), "{path} has a style within");
        assert!(!page.body.contains(" onclick="), "{path}");
    }
    assert!(browser.get("/").await.body.contains("the CA ends in 301 days"));
    let page = browser.get("/devices/lamp-0009").await.body;
    assert!(page.contains("&lt;script&gt;"), "the hostile text is on the page, as text");
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let browser = Browser::logged_in("admin").await;
    let css =
        browser.get("/").await.body.split_once("/assets/").unwrap().1.split('"').next().unwrap().to_owned();
    let asset = format!("/assets/{css}");
    for path in PAGES.into_iter().chain(["/login", "/nowhere", "/rollouts/none", asset.as_str()]) {
        let answer = browser.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        let caching = if path == asset { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), caching, "{path}");
    }
}

#[tokio::test]
async fn without_a_session_every_page_leads_to_the_login() {
    let browser = Browser::new(false);
    for path in PAGES.into_iter().chain(["/rollouts/ro-7/live", "/audit/export"]) {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(answer.header("location").starts_with("/login"), "{path}");
    }
    assert_eq!(browser.get("/login").await.status, StatusCode::OK);
    assert_eq!(browser.get("/nowhere").await.status, StatusCode::NOT_FOUND);
    let answer = browser.get("/devices?health=ok").await;
    assert_eq!(answer.header("location"), "/login?next=%2Fdevices%3Fhealth%3Dok");
    let htmx = browser.send(Request::get("/devices").header("hx-request", "true"), String::new()).await;
    assert_eq!(htmx.header("hx-redirect"), "/login?next=%2Fdevices");
}

#[tokio::test]
async fn a_login_is_a_cookie_for_this_browser() {
    let browser = Browser::new(false);
    let answer = browser.post("/login", "token=viewer-token&next=%2Fdevices").await;
    assert_eq!(answer.header("location"), "/devices");
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("pitstop="), "{cookie}");
    assert!(!cookie.contains("viewer-token"), "the API token is no cookie: {cookie}");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/"));
    assert!(
        !cookie.contains("Secure") && !cookie.contains("Max-Age") && !cookie.contains("Expires"),
        "{cookie}"
    );

    let elsewhere = browser.post("/login", "token=viewer-token&next=%2F%2Fevil.example").await;
    assert_eq!(elsewhere.header("location"), "/");

    for wrong in ["", "token=", "token=wrong", "token=%00%0d%0aSet-Cookie", "token=%FF"] {
        let answer = browser.post("/login", wrong).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(answer.body.contains("does not know this token"), "{wrong}");
        assert_eq!(answer.header("set-cookie"), "", "{wrong}");
    }
}

#[tokio::test]
async fn behind_https_the_cookie_is_secure() {
    let (api, world) = fixture::api(false);
    let browser = Browser { dashboard: dashboard::router(api, Transport::Https), world, cookie: None };
    let cookie = browser.post("/login", "token=viewer-token").await.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-pitstop=") && cookie.contains("; Secure"), "{cookie}");
}

#[tokio::test]
async fn forwarded_headers_change_nothing() {
    let browser = Browser::new(false);
    let request =
        Request::post("/login").header("sec-fetch-site", "same-origin").header("x-forwarded-proto", "https");
    let answer = browser.send(request, "token=viewer-token".to_owned()).await;
    assert!(answer.header("set-cookie").starts_with("pitstop="));
}

#[tokio::test]
async fn logging_out_ends_the_session_and_the_cookie() {
    let browser = Browser::logged_in("viewer").await;
    let csrf = browser.csrf("/").await;
    let answer = browser.post("/logout", &format!("csrf={csrf}")).await;
    assert_eq!(answer.header("location"), "/login");
    assert!(answer.header("set-cookie").contains("Max-Age=0"), "{}", answer.header("set-cookie"));
    // Whoever has kept the cookie has nothing.
    let answer = browser.get("/devices").await;
    assert_eq!(answer.header("location"), "/login?next=%2Fdevices&ended=1");
    let other = Browser::logged_in("viewer").await;
    assert_eq!(other.get("/devices").await.status, StatusCode::OK);
}

#[tokio::test]
async fn changes_need_the_token_of_this_session() {
    let browser = Browser::logged_in("admin").await;
    let mut other = Browser { cookie: None, ..Browser::logged_in("admin").await };
    other.dashboard = browser.dashboard.clone();
    let answer = other.post("/login", "token=admin-token").await;
    other.keep_cookie(&answer);
    let foreign = other.csrf("/").await;
    let own = browser.csrf("/").await;
    assert_ne!(foreign, own, "two sessions of one token have two CSRF tokens");
    let changes = [
        "/logout",
        "/devices",
        "/devices/lamp-0001",
        "/devices/lamp-0001/revoke",
        "/devices/lamp-0001/suspend",
        "/approvals/ask",
        "/approvals",
        "/products/lamp",
        "/products/lamp/layout",
        "/products/lamp/channels",
        "/products/lamp/publisher-keys",
        "/products/lamp/publisher-keys/a1b2c3d4e5f60718/revoke",
        "/rollouts",
        "/rollouts/ro-7/abort",
        "/tokens",
        "/tokens/tok-viewer/revoke",
    ];
    for path in changes {
        for csrf in ["", "csrf=", "csrf=AAAA", &format!("csrf={foreign}")] {
            let answer = browser.post(path, csrf).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {csrf}");
            assert!(answer.body.contains("not from this session"), "{path}");
        }
        for site in ["cross-site", "same-site", "none"] {
            let request = Request::post(path).header("sec-fetch-site", site);
            let answer = browser.send(request, format!("csrf={own}")).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {site}");
        }
        let answer = browser.send(Request::post(path), format!("csrf={own}")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} without an origin");
    }
    assert_eq!(browser.changes().len(), 0, "nothing reached the API");
}

#[tokio::test]
async fn a_login_form_of_another_site_is_refused() {
    let browser = Browser::new(false);
    let request = Request::post("/login").header("sec-fetch-site", "cross-site");
    let answer = browser.send(request, "token=admin-token".to_owned()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.header("set-cookie"), "");
}

#[tokio::test]
async fn controls_are_for_those_who_may_use_them() {
    let controls = [
        ("/devices/lamp-0009", "/devices/lamp-0009/revoke"),
        ("/devices/lamp-0009", "/devices/lamp-0009/suspend"),
        ("/devices/lamp-0011", "/devices/lamp-0011/resume"),
        ("/devices/lamp-0009", "/devices/lamp-0009/clear-quarantine"),
        ("/devices/lamp-0009", "pinned_sequence"),
        ("/rollouts/ro-7", "/rollouts/ro-7/abort"),
        ("/rollouts/ro-7", "/rollouts/ro-7/pause"),
        ("/rollouts", "/rollouts/new"),
        ("/releases/lamp/3", "/rollouts/new"),
        ("/devices", "new-device"),
        ("/approvals", "/approvals/ask"),
    ];
    for (role, operates) in [("viewer", false), ("publisher", false), ("operator", true), ("admin", true)] {
        let browser = Browser::logged_in(role).await;
        for (page, control) in controls {
            let shown = browser.get(page).await.body.contains(control);
            assert_eq!(shown, operates, "{role}: {control} on {page}");
        }
        let product = browser.get("/products/lamp").await.body;
        assert!(product.contains("Partition table"), "{role}");
        for control in ["silence_unit", "Add channel", "Add key", "/revoke"] {
            assert_eq!(product.contains(control), role == "admin", "{role}: {control}");
        }
        let tokens = browser.get("/tokens").await;
        assert_eq!(tokens.status == StatusCode::OK, role == "admin", "{role}");
        assert_eq!(browser.get("/").await.body.contains(r#"href="/tokens""#), role == "admin", "{role}");
    }
}

#[tokio::test]
async fn what_the_api_refuses_is_shown_in_its_words() {
    let browser = Browser::logged_in("viewer").await;
    let csrf = browser.csrf("/").await;
    let answer = browser.post("/rollouts/ro-7/abort", &format!("csrf={csrf}")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("this needs the role operator"));
    assert!(answer.body.contains("lamp 1.3.0"), "the page that it is about is there too");

    let missing = browser.get("/devices/toaster%2F1").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.body.contains("there is no device toaster/1"));
}

#[tokio::test]
async fn a_change_carries_the_revision_that_was_looked_at() {
    let browser = Browser::logged_in("operator").await;
    let csrf = browser.csrf("/").await;
    let form =
        format!("csrf={csrf}&revision=5&channel=beta&tags=lab%2C+office&note=by+the+door&pinned_sequence=2");
    let answer = browser.post("/devices/lamp-0001", &form).await;
    assert_eq!(answer.header("location"), "/devices/lamp-0001");
    let stale = browser.post("/devices/lamp-0001", &form.replace("revision=5", "revision=4")).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    assert!(stale.body.contains("somebody else changed it"));
    let (method, path, revision, body) = browser.changes().remove(0);
    assert_eq!(
        (method, path.as_str(), revision.as_deref()),
        (Method::PATCH, "/devices/lamp-0001", Some("\"r5\""))
    );
    let expected = serde_json::json!({
        "channel": "beta", "tags": ["lab", "office"], "note": "by the door", "pinned_sequence": 2,
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_abort_reaches_the_api_and_the_audit() {
    let browser = Browser::logged_in("operator").await;
    let csrf = browser.csrf("/rollouts/ro-7").await;
    let answer = browser.post("/rollouts/ro-7/abort", &format!("csrf={csrf}&revision=3")).await;
    assert_eq!(answer.header("location"), "/rollouts/ro-7");
    assert!(browser.get("/audit").await.body.contains("rollout.abort"));
    let again = browser.post("/rollouts/ro-7/abort", &format!("csrf={csrf}&revision=3")).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.body.contains("found an aborted one"));
}

#[tokio::test]
async fn a_new_token_is_shown_once() {
    let browser = Browser::logged_in("admin").await;
    let csrf = browser.csrf("/tokens").await;
    let made =
        browser.post("/tokens", &format!("csrf={csrf}&name=ci&role=publisher&expires=2030-12-31")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert!(made.body.contains("pt_shown-once"));
    assert_eq!(made.header("cache-control"), "no-store");
    assert!(!browser.get("/tokens").await.body.contains("pt_shown-once"));
    let (_, _, _, body) = browser.changes().remove(0);
    let expected =
        serde_json::json!({ "name": "ci", "role": "publisher", "expires_at": "2030-12-31T23:59:59Z" });
    assert_eq!(body, expected);
    let wrong = browser.post("/tokens", &format!("csrf={csrf}&name=ci&role=viewer&expires=tomorrow")).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_rollout_halts_before_ones_eyes() {
    let browser = Browser::logged_in("operator").await;
    let request =
        Request::get("/rollouts/ro-7/live").header(header::COOKIE, browser.cookie.as_ref().unwrap());
    let response = browser.dashboard.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut seen = String::new();
    while seen.matches("event: ").count() < 2 {
        seen += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(seen.contains("event: state") && seen.contains("event: waves"), "{seen}");
    assert!(seen.contains(">running<"), "{seen}");
    seen.clear();
    browser.world.halt();
    while seen.matches("event: ").count() < 2 {
        seen += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(seen.contains(">halted<"), "{seen}");
    assert!(seen.contains("It halted itself: crashes. "), "{seen}");
    // The halt leads to all devices that did it, and each counter to its devices.
    for (link, text) in [
        (
            "/devices?rollout=ro-7&amp;wave=1&amp;attempt=crashed&amp;epoch=0",
            "Show all 5 devices that crashed",
        ),
        ("/devices?rollout=ro-7&amp;wave=1&amp;attempt=crashed", "5"),
        ("/devices?rollout=ro-7&amp;wave=1&amp;attempt=healthy", "9"),
        ("/devices?rollout=ro-7&amp;wave=1&amp;attempt=installed", "6"),
        ("/devices?rollout=ro-7&amp;wave=1", "20"),
    ] {
        assert!(seen.contains(&format!(r#"<a href="{link}">{text}</a>"#)), "{link}: {seen}");
    }
}

#[tokio::test]
async fn empty_states_tell_the_next_command() {
    let mut browser = Browser::new(true);
    let answer = browser.post("/login", "token=admin-token").await;
    browser.keep_cookie(&answer);
    for path in ["/", "/devices", "/releases"] {
        assert!(browser.get(path).await.body.contains("pitstop product new lamp"), "{path}");
    }
    assert!(browser.get("/rollouts").await.body.contains("pitstop release publish"));
    assert!(browser.get("/audit").await.body.contains("Nothing was changed yet"));
}

#[tokio::test]
async fn the_audit_is_exported_as_it_is() {
    let browser = Browser::logged_in("viewer").await;
    let export = browser.get("/audit/export?kind=rollout").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    assert!(export.header("content-disposition").contains("pitstop-audit.ndjson"));
    assert!(export.body.contains("rollout.start"));
}

#[tokio::test]
async fn large_forms_are_refused() {
    let browser = Browser::logged_in("admin").await;
    let answer = browser.post("/tokens", &format!("name={}", "x".repeat(70_000))).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_devices_of_a_counter_are_listed_with_their_number() {
    let browser = Browser::logged_in("viewer").await;
    let page = browser.get("/devices?rollout=ro-7&wave=1&attempt=crashed&epoch=0").await.body;
    for text in ["wave 2 of the rollout of ", "<strong>crashed</strong>", ">5 devices<", "/devices/lamp-0043"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    // The next search is within them.
    for (name, value) in [("rollout", "ro-7"), ("wave", "1"), ("epoch", "0")] {
        assert!(page.contains(&format!(r#"<input type="hidden" name="{name}" value="{value}">"#)), "{page}");
    }
    assert_eq!(browser.get("/devices?rollout=ro-8").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_list_is_read_both_ways_and_says_how_long_it_is() {
    let browser = Browser::logged_in("viewer").await;
    let first = browser.get("/devices?product=lamp").await.body;
    assert!(first.contains(">200 devices<") && !first.contains("Previous page"), "{first}");
    let (_, rest) = first.split_once(r#"<a href="/devices?product=lamp&amp;cursor="#).unwrap();
    let cursor = rest.split('"').next().unwrap();
    let second = browser.get(&format!("/devices?product=lamp&cursor={cursor}")).await.body;
    assert!(second.contains("/devices/lamp-0050") && !second.contains("/devices/lamp-0049"), "{second}");
    let (_, rest) = second.split_once(r#"<a href="/devices?product=lamp&amp;before="#).unwrap();
    let before = rest.split('"').next().unwrap();
    let again = browser.get(&format!("/devices?product=lamp&before={before}")).await.body;
    assert!(again.contains("/devices/lamp-0000") && again.contains("/devices/lamp-0049"), "{again}");
    assert!(!again.contains("Previous page") && again.contains("Next page"), "{again}");
}

#[tokio::test]
async fn a_bulk_event_is_folded() {
    let browser = Browser::logged_in("viewer").await;
    let page = browser.get("/audit").await.body;
    assert!(page.contains("<summary>1\u{202f}000 entries</summary>"), "{page}");
    assert!(page.contains("and 900 others"), "{page}");
    assert!(page.len() < 30_000, "{} bytes", page.len());
}

#[tokio::test]
async fn many_devices_are_approved_after_a_question_with_their_number() {
    let browser = Browser::logged_in("operator").await;
    let page = browser.get("/approvals").await.body;
    assert!(page.contains(">3 devices<"), "{page}");
    for from in ["/", "/devices", "/products/lamp"] {
        assert!(browser.get(from).await.body.contains("3 devices wait for approval"), "{from}");
    }
    let csrf = browser.csrf("/approvals").await;
    let form = format!("csrf={csrf}&product=lamp&device=lamp-0007&device=lamp-0021");
    let question = browser.post("/approvals/ask", &form).await;
    assert_eq!(question.status, StatusCode::OK);
    assert!(question.body.contains("Approve 2 devices?"), "{}", question.body);
    assert_eq!(browser.changes().len(), 0, "a question approves nobody");
    let approved = browser.post("/approvals", &form).await;
    assert_eq!(approved.header("location"), "/approvals?product=lamp&approved=2");
    let paths = browser.changes().into_iter().map(|(_, path, _, _)| path).collect::<Vec<_>>();
    assert_eq!(paths, ["/devices/lamp-0007/approve", "/devices/lamp-0021/approve"]);
    assert!(browser.get("/approvals?approved=2").await.body.contains("2 devices were approved"));
    let nobody = browser.post("/approvals/ask", &format!("csrf={csrf}")).await;
    assert_eq!(nobody.status, StatusCode::BAD_REQUEST);
    assert!(nobody.body.contains("expected at least one device"), "{}", nobody.body);

    let viewer = Browser::logged_in("viewer").await;
    let csrf = viewer.csrf("/").await;
    let refused = viewer.post("/approvals", &format!("csrf={csrf}&device=lamp-0007")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("0 devices were approved"), "{}", refused.body);
}

#[tokio::test]
async fn an_enrollment_token_is_shown_once() {
    let browser = Browser::logged_in("operator").await;
    let csrf = browser.csrf("/devices").await;
    let form = format!("csrf={csrf}&product=lamp&id=&channel=beta&tags=lab%2C+attic&note=shelf");
    let made = browser.post("/devices", &form).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert!(made.body.contains("et_shown-once"), "{}", made.body);
    assert_eq!(made.header("cache-control"), "no-store");
    let (_, path, _, body) = browser.changes().remove(0);
    let expected = serde_json::json!({ "product": "lamp", "channel": "beta", "tags": ["lab", "attic"], "note": "shelf" });
    assert_eq!((path.as_str(), body), ("/devices", expected));
    for page in ["/devices", "/devices/lamp-0001"] {
        assert!(!browser.get(page).await.body.contains("et_shown-once"), "{page}");
    }
}

#[tokio::test]
async fn a_product_is_changed_by_those_who_may() {
    let browser = Browser::logged_in("admin").await;
    let page = browser.get("/products/lamp").await.body;
    for text in ["waits for approval", "02a5c1f7d3e9b8a7", "vault, data, nvs", "1.50 MiB", ">beta<", "7 d"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let csrf = browser.csrf("/products/lamp").await;
    let form = format!(
        "csrf={csrf}&revision=5&approval=automatic&silence=36&silence_unit=hours&quarantine_after=2&min_run_s=0\
         &rotate_keys=rotated&chip_revision=v0.4"
    );
    let answer = browser.post("/products/lamp", &form).await;
    assert_eq!(answer.header("location"), "/products/lamp");
    let key = format!("csrf={csrf}&revision=5&name=ci&key=02ab");
    assert_eq!(
        browser.post("/products/lamp/publisher-keys", &key).await.header("location"),
        "/products/lamp"
    );
    browser.post("/products/lamp/channels", &format!("csrf={csrf}&name=nightly")).await;
    let revoke = "/products/lamp/publisher-keys/a1b2c3d4e5f60718/revoke";
    browser.post(revoke, &format!("csrf={csrf}&revision=5")).await;
    assert!(page.contains(r#"name="force""#) && page.contains("the last key of lamp"), "{page}");
    browser.post(revoke, &format!("csrf={csrf}&revision=5&force=yes")).await;
    let changes = browser.changes();
    let expected = serde_json::json!({
        "silence_deadline_s": 129_600, "enrollment_approval": false, "quarantine_after": 2, "min_run_s": 0,
        "rotate_keys": true, "chip_revision": 4,
    });
    let revision = Some("\"r5\"".to_owned());
    assert_eq!(changes[0], (Method::PATCH, "/products/lamp".to_owned(), revision.clone(), expected));
    assert_eq!(changes[1].3, serde_json::json!({ "name": "ci", "key": "02ab" }));
    assert_eq!(
        (changes[2].1.as_str(), &changes[2].3["name"]),
        ("/products/lamp/channels", &"nightly".into())
    );
    assert_eq!((changes[3].1.as_str(), &changes[3].2), (revoke, &revision));
    let forced = [&changes[3].3, &changes[4].3];
    assert_eq!(forced, [&serde_json::json!({}), &serde_json::json!({ "force": true })]);
    let stale = browser.post("/products/lamp", &form.replace("revision=5", "revision=4")).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn heads_of_columns_sort_lists() {
    let browser = Browser::logged_in("admin").await;
    let devices = browser.get("/devices?product=lamp&sort=last-seen&order=descending").await.body;
    for part in [
        r#"aria-sort="descending"><a href="/devices?product=lamp&amp;sort=last-seen">Last seen</a>"#,
        r#"<a href="/devices?product=lamp">Device</a>"#,
        r#"<option value="last-seen" selected"#,
        "sort=last-seen&amp;order=descending&amp;cursor=",
    ] {
        assert!(devices.contains(part), "{part}: {devices}");
    }
    let releases = browser.get("/releases?sort=number").await.body;
    let number = releases.find("/releases/lamp/1\"").unwrap();
    assert!(number < releases.find("/releases/lamp/3\"").unwrap(), "{releases}");
    assert!(
        browser
            .get("/releases")
            .await
            .body
            .contains(r#"aria-sort="descending"><a href="/releases?sort=number""#)
    );
    for path in ["/products?sort=chip&order=descending", "/tokens?sort=name"] {
        let page = browser.get(path).await.body;
        assert!(page.contains("aria-sort="), "{path}: {page}");
    }
}

#[tokio::test]
async fn a_device_is_suspended_and_resumed() {
    let browser = Browser::logged_in("operator").await;
    let csrf = browser.csrf("/").await;
    let page = browser.get("/devices/lamp-0001").await.body;
    assert!(page.contains("Suspend lamp-0001?") && !page.contains("/resume"), "{page}");
    let form = format!("csrf={csrf}&revision=5&reason=lent+out");
    let answer = browser.post("/devices/lamp-0001/suspend", &form).await;
    assert_eq!(answer.header("location"), "/devices/lamp-0001");

    let page = browser.get("/devices/lamp-0011").await.body;
    for text in ["Suspended ", "until somebody resumes it", "Resume lamp-0011?", "/revoke"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("/suspend") && !page.contains("Revoked "), "{page}");
    browser.post("/devices/lamp-0011/resume", &format!("csrf={csrf}&revision=5")).await;
    let changes: Vec<_> = browser.changes().into_iter().map(|(_, path, _, body)| (path, body)).collect();
    let expected = [
        ("/devices/lamp-0001/suspend".to_owned(), serde_json::json!({ "reason": "lent out" })),
        ("/devices/lamp-0011/resume".to_owned(), serde_json::json!({})),
    ];
    assert_eq!(changes, expected);
}

#[tokio::test]
async fn two_boards_with_one_identity_stand_on_the_device_s_page() {
    let browser = Browser::logged_in("viewer").await;
    let page = browser.get("/devices/lamp-0050").await.body;
    assert!(page.contains("Two boards seem to have this identity"), "{page}");
    assert!(page.contains("pitstop device token lamp-0050"), "{page}");
    assert!(!browser.get("/devices/lamp-0001").await.body.contains("Two boards"));
    let list = browser.get("/devices?clone_suspected=true").await.body;
    assert!(list.contains("lamp-0050") && !list.contains("lamp-0001"), "{list}");
}

#[tokio::test]
async fn a_certificate_that_was_refused_after_its_end_stands_on_the_device_s_page() {
    let browser = Browser::logged_in("viewer").await;
    let page = browser.get("/devices/lamp-0007").await.body;
    assert!(page.contains("with a certificate that has ended") && page.contains("may renew that"), "{page}");
    let page = browser.get("/devices/lamp-0008").await.body;
    assert!(page.contains("cannot be renewed (certificate-ended-too-long)"), "{page}");
    assert!(!browser.get("/devices/lamp-0001").await.body.contains("certificate that has ended"));
    // The way to all of them.
    let fleet = browser.get("/?product=lamp").await.body;
    for link in
        ["certificate_ends_within_days=0", "certificate_ends_within_days=30", "certificate_refused=true"]
    {
        let link = format!("/devices?product=lamp&amp;{link}");
        assert!(fleet.contains(&link), "{link} in {fleet}");
    }
    let list = browser.get("/devices?certificate_ends_within_days=30").await.body;
    assert!(list.contains("ends within 30 days"), "{list}");
}

#[tokio::test]
async fn a_product_without_devices_gets_another_layout() {
    let browser = Browser::new(true).log_in("admin").await;
    let page = browser.get("/products/lamp").await.body;
    assert!(page.contains("Change the layout"), "{page}");
    let csrf = browser.csrf("/products/lamp").await;
    let form = format!("csrf={csrf}&revision=5&layout-name=mine&layout-csv=a%2Cb%0Ac%2Cd%0A");
    assert_eq!(browser.post("/products/lamp/layout", &form).await.header("location"), "/products/lamp");
    let (method, path, revision, body) = browser.changes().remove(0);
    assert_eq!(
        (method, path.as_str(), revision.as_deref()),
        (Method::PATCH, "/products/lamp", Some("\"r5\""))
    );
    assert_eq!(body, serde_json::json!({ "layout": { "name": "mine", "csv": "a,b\nc,d" } }));

    let with_devices = Browser::logged_in("admin").await.get("/products/lamp").await.body;
    assert!(!with_devices.contains("Change the layout"));
}
