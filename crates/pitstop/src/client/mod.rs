//! The typed client of the admin API.
//!
//! Blocking, one method per operation. Errors of the server arrive as problem details (RFC 9457) and leave as
//! [`ClientError::Refused`].

mod access;
mod connection;
mod create;
mod error;
mod removal;
mod rollouts;
mod tls;

pub(crate) use connection::{Connection, TOKEN_FILE, admin_token};
pub(crate) use error::ClientError;
pub(crate) use rollouts::{Watch, Watched};

use std::io::Read;
use std::time::Duration;

use api::bulk::{BulkOutcome, ImportBody, ImportedDevice};
use api::device::{
    Created, CreatedDevices, Device, DeviceSettingsBody, Event, ListParams, NewDeviceBody, NewDevicesBody,
    NewToken, RevokeBody,
};
use api::info::Info;
use api::page::Page;
use api::problem::{self, Problem};
use api::product::{Channel, NewChannel, NewProductBody, Product, ProductSettingsBody};
use api::publisher_key::{Key, NewKey, RevokeKey};
use api::release::{PublishBody, Release};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, RequestBuilder, SendBody};

/// A server on this machine or behind a tunnel answers a handshake in far less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest silence of a server: it verifies a 16 MiB image and syncs it to disk before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read: a full page of devices stays far below it.
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// The entries asked for at once.
const PAGE_ENTRIES: usize = 100;

/// The server makes no more devices at once.
const MOST_AT_ONCE: u16 = 1000;

/// Any number of devices, in requests that the server takes.
pub(crate) fn in_parts(devices: NewDevicesBody) -> impl Iterator<Item = NewDevicesBody> {
    let count = devices.count;
    let left = move |made: i64| (count - made).min(MOST_AT_ONCE.into());
    let made = (0..count).step_by(MOST_AT_ONCE.into());
    made.map(move |made| NewDevicesBody { count: left(made), ..devices.clone() })
}

/// A client of one server's admin listener.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// Without the slash at its end.
    url: String,
    authorization: String,
}

impl Client {
    /// A client for the admin listener at `url`, such as `http://127.0.0.1:8080`. Nothing is sent yet.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        Self::over(url, token, TlsConfig::default())
    }

    /// The same with a choice of whom it trusts, for `https://`.
    fn over(url: &str, token: &str, tls: TlsConfig) -> Self {
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // The admin listener is reached directly: the token is not shown to a proxy.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(ANSWER_TIMEOUT))
            .user_agent(concat!("pitstop/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, url: url.trim_end_matches('/').to_owned(), authorization: format!("Bearer {token}") }
    }

    /// What the server says of itself.
    pub(crate) fn info(&self) -> Result<Info, ClientError> {
        self.get("/info")
    }

    /// Makes a product.
    pub(crate) fn create_product(&self, product: &NewProductBody) -> Result<Product, ClientError> {
        self.create("/products", product)
    }

    /// One product.
    pub(crate) fn product(&self, name: &str) -> Result<Product, ClientError> {
        self.get(&format!("/products/{name}"))
    }

    /// The first `limit` products.
    pub(crate) fn products(&self, limit: usize) -> Result<Page<Product>, ClientError> {
        self.list("/products", &(), limit)
    }

    /// Lets a product trust one more publisher key.
    pub(crate) fn add_publisher_key(&self, product: &str, key: &NewKey) -> Result<Key, ClientError> {
        self.create(&format!("/products/{product}/publisher-keys"), key)
    }

    /// The publisher keys of a product, revoked ones too.
    pub(crate) fn publisher_keys(&self, product: &str) -> Result<Page<Key>, ClientError> {
        self.list(&format!("/products/{product}/publisher-keys"), &(), PAGE_ENTRIES)
    }

    /// Revokes a publisher key by its key id.
    pub(crate) fn revoke_publisher_key(
        &self,
        product: &str,
        id: &str,
        force: bool,
    ) -> Result<Key, ClientError> {
        self.post(&format!("/products/{product}/publisher-keys/{id}/revoke"), &RevokeKey { force })
    }

    /// Changes the settings of a product.
    pub(crate) fn change_product(
        &self,
        name: &str,
        settings: &ProductSettingsBody,
    ) -> Result<Product, ClientError> {
        self.patch(&format!("/products/{name}"), settings)
    }

    /// The channels of a product.
    pub(crate) fn channels(&self, product: &str, limit: usize) -> Result<Page<Channel>, ClientError> {
        self.list(&format!("/products/{product}/channels"), &(), limit)
    }

    /// Adds a channel to a product.
    pub(crate) fn add_channel(&self, product: &str, name: &str) -> Result<Channel, ClientError> {
        self.create(&format!("/products/{product}/channels"), &NewChannel { name: name.to_owned() })
    }

    /// Makes a device id with its one-time enrollment token.
    pub(crate) fn create_device(&self, device: &NewDeviceBody) -> Result<Created, ClientError> {
        self.create("/devices", device)
    }

    /// Makes devices with ids by the server, each with its one-time enrollment token.
    pub(crate) fn create_devices(&self, devices: &NewDevicesBody) -> Result<Vec<NewToken>, ClientError> {
        self.create("/devices/bulk", devices).map(|made: CreatedDevices| made.items)
    }

    /// One device.
    pub(crate) fn device(&self, id: &str) -> Result<Device, ClientError> {
        self.get(&format!("/devices/{id}"))
    }

    /// The first `limit` devices.
    pub(crate) fn devices(&self, params: &ListParams, limit: usize) -> Result<Page<Device>, ClientError> {
        self.list("/devices", params, limit)
    }

    /// Changes the settings of a device.
    pub(crate) fn change_device(
        &self,
        id: &str,
        settings: &DeviceSettingsBody,
    ) -> Result<Device, ClientError> {
        self.patch(&format!("/devices/{id}"), settings)
    }

    /// Approves the enrollment of a device.
    pub(crate) fn approve_device(&self, id: &str) -> Result<Device, ClientError> {
        self.post(&format!("/devices/{id}/approve"), &serde_json::Map::new())
    }

    /// Forgets the failures of a device: the release is offered to it again.
    pub(crate) fn clear_quarantine(&self, id: &str) -> Result<Device, ClientError> {
        self.post(&format!("/devices/{id}/clear-quarantine"), &serde_json::Map::new())
    }

    /// The newest `limit` events of a device, newest first.
    pub(crate) fn device_events(&self, id: &str, limit: usize) -> Result<Page<Event>, ClientError> {
        self.list(&format!("/devices/{id}/events"), &(), limit)
    }

    /// Revokes a device: its next request is refused.
    pub(crate) fn revoke_device(&self, id: &str, reason: Option<&str>) -> Result<Device, ClientError> {
        self.end_device(id, "revoke", reason)
    }

    /// Suspends a device: its next request is refused, until it is resumed.
    pub(crate) fn suspend_device(&self, id: &str, reason: Option<&str>) -> Result<Device, ClientError> {
        self.end_device(id, "suspend", reason)
    }

    fn end_device(&self, id: &str, how: &str, reason: Option<&str>) -> Result<Device, ClientError> {
        let body = RevokeBody { reason: reason.map(str::to_owned) };
        self.post(&format!("/devices/{id}/{how}"), &body)
    }

    /// Takes the suspension of a device back.
    pub(crate) fn resume_device(&self, id: &str) -> Result<Device, ClientError> {
        self.post(&format!("/devices/{id}/resume"), &serde_json::Map::new())
    }

    /// Approves, revokes or changes all devices of a filter, 1000 at most.
    pub(crate) fn bulk(&self, action: &str, body: &impl Serialize) -> Result<BulkOutcome, ClientError> {
        self.post(&format!("/devices/bulk/{action}"), body)
    }

    /// Makes devices of ids that are there already, 1000 at most, all or none.
    pub(crate) fn import_devices(
        &self,
        product: &str,
        devices: &[ImportedDevice],
    ) -> Result<Vec<NewToken>, ClientError> {
        let body = ImportBody { product: product.to_owned(), devices: devices.to_vec() };
        self.create("/devices/bulk/import", &body).map(|made: CreatedDevices| made.items)
    }

    /// A new enrollment token; the old one is void.
    pub(crate) fn issue_enrollment_token(&self, id: &str) -> Result<NewToken, ClientError> {
        self.create(&format!("/devices/{id}/enrollment-token"), &serde_json::Map::new())
    }

    /// Uploads an artifact for a product, of `size_bytes` bytes that hash to `digest` (64 hexadecimal digits).
    pub(crate) fn upload_artifact(
        &self,
        product: &str,
        digest: &str,
        size_bytes: u64,
        mut content: impl Read,
    ) -> Result<(), ClientError> {
        let request = self.agent.put(self.address(&format!("/artifacts/{digest}?product={product}")));
        let request = self
            .signed(request)
            // The server may have the artifact already, or refuse: it then answers before the content is sent.
            .header("expect", "100-continue")
            .header("content-type", "application/octet-stream")
            .header("content-length", size_bytes.to_string());
        let answer = request.send(SendBody::from_reader(&mut content));
        self.accepted(answer).map(drop)
    }

    /// Publishes a release.
    pub(crate) fn create_release(
        &self,
        product: &str,
        release: &PublishBody,
    ) -> Result<Release, ClientError> {
        self.create(&format!("/products/{product}/releases"), release)
    }

    /// One release.
    pub(crate) fn release(&self, product: &str, sequence: i64) -> Result<Release, ClientError> {
        self.get(&format!("/products/{product}/releases/{sequence}"))
    }

    /// The newest `limit` releases of a product, newest first.
    pub(crate) fn releases(&self, product: &str, limit: usize) -> Result<Page<Release>, ClientError> {
        self.list(&format!("/products/{product}/releases"), &(), limit)
    }

    /// Follows the cursors of a list until `limit` entries are there; `next_cursor` tells whether there are more.
    fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &impl Serialize,
        limit: usize,
    ) -> Result<Page<T>, ClientError> {
        let mut all = Page::whole(Vec::new());
        loop {
            let ask_for = (limit - all.items.len()).min(PAGE_ENTRIES);
            let mut request = self.signed(self.agent.get(self.address(path)));
            request = request.query("limit", ask_for.to_string()).query_pairs(query(params));
            if let Some(cursor) = &all.next_cursor {
                request = request.query("cursor", cursor);
            }
            let page: Page<T> = self.read(self.accepted(request.call())?)?;
            let got = page.items.len();
            all.items.extend(page.items);
            all.next_cursor = page.next_cursor;
            // An empty page with a cursor would be asked for for ever.
            if all.next_cursor.is_none() || got == 0 || all.items.len() >= limit {
                return Ok(all);
            }
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_with(path, &())
    }

    fn get_with<T: DeserializeOwned>(&self, path: &str, params: &impl Serialize) -> Result<T, ClientError> {
        let request = self.agent.get(self.address(path)).query_pairs(query(params));
        self.read(self.accepted(self.signed(request).call())?)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let answer = self.signed(self.agent.post(self.address(path))).send_json(body);
        self.read(self.accepted(answer)?)
    }

    fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let answer = self.signed(self.agent.patch(self.address(path))).send_json(body);
        self.read(self.accepted(answer)?)
    }

    fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(self.accepted(self.signed(self.agent.delete(self.address(path))).call())?)
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.url)
    }

    fn signed<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        request.header("authorization", &self.authorization).header("accept", "application/json")
    }

    /// The answer when its status is 2xx, the problem that it tells of otherwise.
    fn accepted(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, ClientError> {
        let mut answer = answer.map_err(|source| ClientError::from_transport(&self.url, source))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let is_problem = answer.body().mime_type() == Some(problem::MEDIA_TYPE);
        let problem = is_problem.then(|| answer.body_mut().read_json::<Problem>().ok()).flatten();
        Err(match problem {
            Some(problem) => ClientError::Refused { problem },
            None => ClientError::NotPitstop { url: self.url.clone(), found: format!("status {status}") },
        })
    }

    fn read<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, ClientError> {
        answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_json().map_err(|source| {
            ClientError::NotPitstop {
                url: self.url.clone(),
                found: format!("an answer that is not ours ({source})"),
            }
        })
    }
}

/// The parameters that are given, as a query has them.
fn query(params: &impl Serialize) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match serde_json::to_value(params) {
        Ok(Value::Object(given)) => given.into_iter().map(|(name, value)| (name, text(value))).collect(),
        // Parameters are an object of plain values; `()` is none.
        Ok(_) | Err(_) => Vec::new(),
    }
}
