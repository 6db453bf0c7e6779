//! Who is logged in.
//!
//! The cookie is the secret of a session that the API keeps, until the browser is closed or somebody logs out. Any
//! instance answers any request, and a token that is revoked or expires ends its sessions at their next request.

use std::sync::Arc;

use api::access::{BegunSession, Whoami};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::api::{Api, Failed, Query};
use crate::layout;
use crate::{Dashboard, Transport};

/// The name of the field that proves a form to be from one of our pages.
pub(crate) const CSRF_FIELD: &str = "csrf";

/// The longest token or secret that is passed on, in bytes. The API's have 32 characters.
const MAX_SECRET_BYTES: usize = 256;

/// One person at one browser, as the API knows them at this request.
pub(crate) struct Session {
    pub(crate) api: Api,
    pub(crate) who: Whoami,
    pub(crate) now: OffsetDateTime,
    secret: Secret,
}

/// What the cookie holds.
struct Secret(String);

impl Session {
    /// Stands in every form of this session and nowhere else: HMAC-SHA-256 (RFC 2104), keyed with the session's secret. Who
    /// does not know the cookie cannot compute it.
    pub(crate) fn csrf_token(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.secret.mac().finalize().into_bytes())
    }

    /// The same session at this moment, for what goes on after the request.
    pub(crate) fn refresh(&mut self) {
        self.now = OffsetDateTime::now_utc();
    }

    /// Compares in constant time.
    pub(crate) fn is_csrf_token(&self, found: &str) -> bool {
        BASE64_URL_SAFE_NO_PAD.decode(found).is_ok_and(|found| self.secret.mac().verify_slice(&found).is_ok())
    }
}

impl Secret {
    fn mac(&self) -> Hmac<Sha256> {
        // As HMAC itself does with long keys (RFC 2104 section 2).
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        let (front, _) = key.split_at_mut(32);
        front.copy_from_slice(&Sha256::digest(self.0.as_bytes()));
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&key);
        mac.update(b"pitstop dashboard form");
        mac
    }
}

impl FromRequestParts<Arc<Dashboard>> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Dashboard>) -> Result<Self, Response> {
        let next = match parts.method {
            Method::GET => parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            _ => "/".to_owned(),
        };
        let Some(secret) = find(&parts.headers, state.transport) else {
            return Err(to_login(&parts.headers, &next, false));
        };
        match open(state, secret).await {
            Ok(session) => Ok(session),
            Err(failed) if failed.status().as_u16() == 401 => Err(to_login(&parts.headers, &next, true)),
            Err(failed) => Err(layout::failure_alone(&failed)),
        }
    }
}

/// Begins a session of this token, if the API takes it; the value is that of `Set-Cookie`.
///
/// # Errors
/// 401 for a token that is wrong, revoked or expired. What it costs is the same for each: the API looks up its hash.
pub(crate) async fn log_in(state: &Dashboard, token: &str) -> Result<HeaderValue, Failed> {
    let begun: BegunSession = client(state, token)?.post("/sessions", None, &json!({})).await?;
    set_cookie(state.transport, &begun.secret, false)
}

/// Ends a session; the value is that of the `Set-Cookie` that takes its cookie away.
///
/// # Errors
/// What the API says: the session has not ended then.
pub(crate) async fn log_out(session: &Session, transport: Transport) -> Result<HeaderValue, Failed> {
    session.api.delete("/sessions/current").await?;
    set_cookie(transport, "", true)
}

async fn open(state: &Dashboard, secret: Secret) -> Result<Session, Failed> {
    let api = client(state, &secret.0)?;
    let who = api.get("/whoami").await?;
    Ok(Session { api, who, now: OffsetDateTime::now_utc(), secret })
}

/// The API with this token or secret, if it can be one.
fn client(state: &Dashboard, secret: &str) -> Result<Api, Failed> {
    let unauthorized =
        || Failed::refused(StatusCode::UNAUTHORIZED, "No valid token", "expected an API token");
    if secret.is_empty() || secret.len() > MAX_SECRET_BYTES {
        return Err(unauthorized());
    }
    Api::new(state.api.clone(), secret).ok_or_else(unauthorized)
}

fn find(headers: &HeaderMap, transport: Transport) -> Option<Secret> {
    let mut cookies = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok);
    let cookie = cookies.find(|cookie| cookie.name() == cookie_name(transport))?;
    Some(Secret(cookie.value().to_owned()))
}

fn cookie_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Http => "pitstop",
        // The browser takes this prefix from HTTPS only, for this host only (RFC 6265bis section 4.1.3.2).
        Transport::Https => "__Host-pitstop",
    }
}

/// Without `Max-Age` the cookie goes when the browser closes.
fn set_cookie(transport: Transport, value: &str, expired: bool) -> Result<HeaderValue, Failed> {
    let mut cookie = Cookie::build((cookie_name(transport), value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(transport == Transport::Https);
    if expired {
        cookie = cookie.max_age(cookie::time::Duration::ZERO);
    }
    HeaderValue::try_from(cookie.build().to_string()).map_err(|_| Failed::Unexpected {
        path: "/sessions".to_owned(),
        found: "a secret that no cookie can hold".to_owned(),
    })
}

/// The way to the login page. htmx would follow a redirect within a part of the page, so it is told otherwise.
fn to_login(headers: &HeaderMap, next: &str, ended: bool) -> Response {
    let query = Query::new().maybe("next", (next != "/").then_some(next));
    let login = query.maybe("ended", ended.then_some("1")).on("/login");
    if headers.contains_key("hx-request")
        && let Ok(login) = HeaderValue::try_from(&login)
    {
        return ([("hx-redirect", login)], ()).into_response();
    }
    Redirect::to(&login).into_response()
}
