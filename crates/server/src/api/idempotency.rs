//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a POST whose answer was lost may be sent again.
//!
//! An answer may hold a secret that is shown once, so it is stored sealed, with a key that is made of the bearer's own secret
//! and of the key that came: neither is stored.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit as _, Nonce};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::auth::{Caller, bearer};
use crate::app::People;
use crate::problem::{Problem, Refused};
use crate::secret;
use crate::store::{Begun, Once};

/// The header.
pub(super) const NAME: &str = "idempotency-key";

/// The longest key.
const MAX_KEY_BYTES: usize = 255;

/// The longest body, as of the handlers.
const MAX_BODY_BYTES: usize = 2 << 20;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// What an answer has beside its status.
#[derive(Serialize, Deserialize)]
struct Answer {
    content_type: Option<String>,
    etag: Option<String>,
    /// In base64.
    body: String,
}

/// Seals answers of one request.
struct Seal {
    cipher: ChaCha20Poly1305,
    id: String,
}

/// Lets a request pass that has no key, or comes for the first time, and answers others as it did then.
pub(super) async fn once(
    State(people): State<People>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::POST {
        return Ok(next.run(request).await);
    }
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let secret = bearer(request.headers()).ok_or(Problem::Unauthorized)?.to_owned();
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| match error.into_inner() {
        error if error.is::<http_body_util::LengthLimitError>() => Problem::Json(
            format!("expected a body of at most {MAX_BODY_BYTES} bytes, found more"),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        error => Problem::BrokenBody(error.to_string()),
    })?;
    let mut hasher = Sha256::new();
    for part in [parts.method.as_str(), &parts.uri.to_string()] {
        hasher.update(part);
        hasher.update([0]);
    }
    hasher.update(&body);
    let request_hash = hex::encode(hasher.finalize());
    let id = secret::hash(&format!("{secret} {key}"));
    let once = Once { id: id.clone(), attempt: hex::encode(secret::random::<8>()) };
    let seal = Seal::new(&secret, &key, id)?;
    let now_ms = people.clock.now_ms();
    match people.store.begin_once(&once, &request_hash, now_ms).await? {
        Begun::First => {}
        Begun::Answered { status, answer } => return seal.open(status, &answer),
        Begun::OtherRequest => {
            return Err(refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-used",
                "The Idempotency-Key is that of another request",
                format!(
                    "expected the request that came with the Idempotency-Key {key} before, found another one; use another key"
                ),
            ));
        }
        Begun::InFlight => {
            return Err(refused(
                StatusCode::CONFLICT,
                "idempotency-in-flight",
                "The request is being done",
                format!(
                    "the request with the Idempotency-Key {key} is being done; ask again in a few seconds"
                ),
            ));
        }
        Begun::AnswerLost(made) => {
            return Err(refused(
                StatusCode::CONFLICT,
                "idempotency-answer-lost",
                "The answer is lost",
                format!(
                    "the request with the Idempotency-Key {key} was done ({made}), and its answer is lost; look at what it made"
                ),
            ));
        }
    }
    if let Some(caller) = parts.extensions.get_mut::<Caller>() {
        caller.once = Some(once.clone());
    }
    let request = Request::from_parts(parts, Body::from(body));
    // Also when the client does not wait for the answer: it may come back for it.
    let answering = async move {
        let response = next.run(request).await;
        keep(&people, &once, &seal, response).await
    };
    tokio::spawn(answering.in_current_span()).await.map_err(Problem::internal)?
}

/// Stores the answer of a request that went well, and forgets one that changed nothing.
async fn keep(people: &People, once: &Once, seal: &Seal, response: Response) -> Result<Response, Problem> {
    if !response.status().is_success() {
        people.store.forget_once(once).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(Problem::internal)?;
    let stored = match seal.close(&parts.headers, &body) {
        Ok(answer) => {
            people.store.finish_once(once, parts.status.as_u16(), &answer).await.map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    if let Err(problem) = stored {
        tracing::error!("an answer is not stored for its Idempotency-Key: {problem}");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// The key: a string of structured fields (RFC 9651 section 3.3.3), or the same without quotes.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(NAME) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let key = text.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(&text);
    let is_key = (1..=MAX_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if is_key && headers.get_all(NAME).iter().count() == 1 {
        return Ok(Some(key.to_owned()));
    }
    Err(Problem::Invalid(format!(
        "expected one Idempotency-Key of 1 to {MAX_KEY_BYTES} visible characters, such as a UUID, found {text:?}"
    )))
}

fn refused(status: StatusCode, kind: &'static str, title: &'static str, detail: String) -> Problem {
    Problem::Refused(Refused { status, kind, title, detail })
}

impl Seal {
    fn new(secret: &str, key: &str, id: String) -> Result<Self, Problem> {
        // A key of HMAC may have any length.
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).map_err(|_| unreadable())?;
        mac.update(b"pitstop: the answer to ");
        mac.update(key.as_bytes());
        let sealing: [u8; KEY_BYTES] = mac.finalize().into_bytes().into();
        Ok(Self { cipher: ChaCha20Poly1305::new(&Key::from(sealing)), id })
    }

    fn close(&self, headers: &HeaderMap, body: &Bytes) -> Result<String, Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let answer = Answer {
            content_type: text(header::CONTENT_TYPE),
            etag: text(header::ETAG),
            body: BASE64_STANDARD.encode(body),
        };
        let plain = serde_json::to_vec(&answer)?;
        let nonce = secret::random::<NONCE_BYTES>();
        let payload = Payload { msg: &plain, aad: self.id.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| unreadable())?;
        Ok(BASE64_STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, status: i64, sealed: &str) -> Result<Response, Problem> {
        let sealed = BASE64_STANDARD.decode(sealed).map_err(Problem::internal)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(unreadable)?;
        let payload = Payload { msg: sealed, aad: self.id.as_bytes() };
        let plain = self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| unreadable())?;
        let answer: Answer = serde_json::from_slice(&plain)?;
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let body = BASE64_STANDARD.decode(answer.body).map_err(Problem::internal)?;
        let mut response = (status.ok_or_else(unreadable)?, body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        for (name, value) in [(header::CONTENT_TYPE, answer.content_type), (header::ETAG, answer.etag)] {
            if let Some(value) = value {
                response.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Problem::internal)?);
            }
        }
        Ok(response)
    }
}

fn unreadable() -> Problem {
    Problem::internal(std::io::Error::other(
        "an answer that was stored for an Idempotency-Key cannot be read",
    ))
}
