//! API tokens, webhooks, the audit log and the CA.

use std::io::Read;

use super::rollouts::given;
use super::types::{
    ApiToken, AuditFilter, AuditLine, Ca, CreatedApiToken, CreatedWebhook, Delivery, EventFilter,
    ListedWebhook, NewApiToken, NewWebhook, Page, Webhook, Whoami,
};
use super::{Client, ClientError};

impl Client {
    /// Whose token this client shows.
    pub(crate) fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get("/whoami")
    }

    /// Makes an API token.
    pub(crate) fn create_token(&self, token: &NewApiToken) -> Result<CreatedApiToken, ClientError> {
        self.create("/tokens", token)
    }

    /// The first `limit` API tokens.
    pub(crate) fn tokens(&self, limit: usize) -> Result<Page<ApiToken>, ClientError> {
        self.list("/tokens", &[], limit)
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
        self.list(&format!("/webhooks/{id}/deliveries"), &[], limit)
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
        self.post(&format!("/ca/rollover/{step}"), &serde_json::json!({ "force": force }))
    }

    /// The newest `limit` lines of the audit log, newest first.
    pub(crate) fn audit(&self, filter: &AuditFilter, limit: usize) -> Result<Page<AuditLine>, ClientError> {
        self.list("/audit", &filter.query(), limit)
    }

    /// The audit log as lines of JSON, however long.
    pub(crate) fn export_audit(&self, filter: &AuditFilter) -> Result<impl Read + use<>, ClientError> {
        let request = self.agent.get(self.address("/audit/export")).query_pairs(filter.query());
        let answer = self.signed(request).config().timeout_recv_body(None).build().call();
        Ok(self.accepted(answer)?.into_body().into_reader())
    }
}

impl Client {
    /// What happened to devices as lines of JSON, however long.
    pub(crate) fn export_events(&self, filter: &EventFilter) -> Result<impl Read + use<>, ClientError> {
        let query = given([
            ("product", filter.product.as_deref()),
            ("since", filter.since.as_deref()),
            ("until", filter.until.as_deref()),
        ]);
        let request = self.agent.get(self.address("/events/export")).query_pairs(query);
        let answer = self.signed(request).config().timeout_recv_body(None).build().call();
        Ok(self.accepted(answer)?.into_body().into_reader())
    }
}

impl AuditFilter {
    fn query(&self) -> Vec<(&'static str, &str)> {
        given([
            ("actor", self.actor.as_deref()),
            ("kind", self.kind.as_deref()),
            ("subject", self.subject.as_deref()),
            ("product", self.product.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ])
    }
}
