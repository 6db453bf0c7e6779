//! API tokens, webhooks, the audit log and the CA.

use std::io::Read;

use api::access::{ApiToken, CreatedToken, NewApiToken, Whoami};
use api::ca::{Ca, Step};
use api::page::Page;
use api::webhook::{CreatedWebhook, Delivery, ListedWebhook, NewWebhook, Webhook};
use api::{audit, event};

use super::{Client, ClientError, query};

impl Client {
    /// Whose token this client shows.
    pub(crate) fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get("/whoami")
    }

    /// Makes an API token.
    pub(crate) fn create_token(&self, token: &NewApiToken) -> Result<CreatedToken, ClientError> {
        self.create("/tokens", token)
    }

    /// The first `limit` API tokens.
    pub(crate) fn tokens(&self, limit: usize) -> Result<Page<ApiToken>, ClientError> {
        self.list("/tokens", &(), limit)
    }

    /// Revokes an API token.
    pub(crate) fn revoke_token(&self, id: &str) -> Result<ApiToken, ClientError> {
        self.post(&format!("/tokens/{id}/revoke"), &serde_json::Map::new())
    }

    /// Adds a webhook.
    pub(crate) fn create_webhook(&self, webhook: &NewWebhook) -> Result<CreatedWebhook, ClientError> {
        self.create("/webhooks", webhook)
    }

    /// All webhooks.
    pub(crate) fn webhooks(&self) -> Result<Page<ListedWebhook>, ClientError> {
        self.get("/webhooks")
    }

    /// The newest `limit` deliveries of a webhook, newest first.
    pub(crate) fn deliveries(&self, id: &str, limit: usize) -> Result<Page<Delivery>, ClientError> {
        self.list(&format!("/webhooks/{id}/deliveries"), &(), limit)
    }

    /// Sends a webhook an event of its own.
    pub(crate) fn test_webhook(&self, id: &str) -> Result<Webhook, ClientError> {
        self.post(&format!("/webhooks/{id}/test"), &serde_json::Map::new())
    }

    /// Removes a webhook.
    pub(crate) fn remove_webhook(&self, id: &str) -> Result<Webhook, ClientError> {
        self.delete(&format!("/webhooks/{id}"))
    }

    /// Which CAs are in force.
    pub(crate) fn ca(&self) -> Result<Ca, ClientError> {
        self.get("/ca")
    }

    /// Makes the next CA.
    pub(crate) fn begin_ca_rollover(&self) -> Result<Ca, ClientError> {
        self.post("/ca/rollover/begin", &serde_json::Map::new())
    }

    /// The next step of a rollover, `switch` or `finish`.
    pub(crate) fn step_ca_rollover(&self, step: &str, force: bool) -> Result<Ca, ClientError> {
        self.post(&format!("/ca/rollover/{step}"), &Step { force })
    }

    /// The newest `limit` lines of the audit log, newest first.
    pub(crate) fn audit(
        &self,
        filter: &audit::Filter,
        limit: usize,
    ) -> Result<Page<audit::Line>, ClientError> {
        self.list("/audit", filter, limit)
    }

    /// The audit log as lines of JSON, however long.
    pub(crate) fn export_audit(&self, filter: &audit::Filter) -> Result<impl Read + use<>, ClientError> {
        let request = self.agent.get(self.address("/audit/export")).query_pairs(query(filter));
        let answer = self.signed(request).config().timeout_recv_body(None).build().call();
        Ok(self.accepted(answer)?.into_body().into_reader())
    }

    /// What happened to devices as lines of JSON, however long.
    pub(crate) fn export_events(&self, filter: &event::Filter) -> Result<impl Read + use<>, ClientError> {
        let request = self.agent.get(self.address("/events/export")).query_pairs(query(filter));
        let answer = self.signed(request).config().timeout_recv_body(None).build().call();
        Ok(self.accepted(answer)?.into_body().into_reader())
    }
}
