//! Tables `webhooks` and `webhook_deliveries`: who is told what happens, and what became of it.

use serde_json::json;
use sqlx::AnyConnection;

use super::{AuditRow, Change, Record, Store, StoreError};

row! {
    /// A webhook.
    #[derive(Clone, Debug)]
    pub(crate) struct WebhookRow {
        pub(crate) id: String,
        pub(crate) url: String,
        /// Base64, with its prefix.
        pub(crate) secret: String,
        pub(crate) product: Option<String>,
        /// JSON list.
        pub(crate) events: String,
        pub(crate) created_at_ms: i64,
        pub(crate) told_until: String,
    }
}

row! {
    /// Something that is sent to a webhook.
    #[derive(Clone, Debug)]
    pub(crate) struct DeliveryRow {
        pub(crate) id: String,
        pub(crate) at_ms: i64,
        pub(crate) event: String,
        pub(crate) body: String,
        pub(crate) state: String,
        pub(crate) tries: i64,
        pub(crate) try_at_ms: i64,
        pub(crate) status: Option<i64>,
        pub(crate) error: Option<String>,
    }
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub(crate) struct NewDelivery {
    pub(crate) id: String,
    pub(crate) at_ms: i64,
    pub(crate) event: String,
    pub(crate) body: String,
}

/// How sending ended.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// `waiting`, `delivered` or `failed`.
    pub(crate) state: &'static str,
    pub(crate) try_at_ms: i64,
    pub(crate) status: Option<i64>,
    pub(crate) error: Option<String>,
}

impl NewDelivery {
    async fn insert(
        &self,
        connection: &mut AnyConnection,
        webhook: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO webhook_deliveries (id, webhook, at_ms, event, body, state, tries, try_at_ms) \
             VALUES ($1, $2, $3, $4, $5, 'waiting', 0, $6)",
        )
        .bind(&self.id)
        .bind(webhook)
        .bind(self.at_ms)
        .bind(&self.event)
        .bind(&self.body)
        .bind(now_ms)
        .execute(connection)
        .await?;
        Ok(())
    }
}

impl Store {
    /// Adds a webhook, which is told what happens from now on.
    pub(crate) async fn add_webhook(&self, webhook: &WebhookRow, change: &Change) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO webhooks (id, url, secret, product, events, created_at_ms, told_until) \
             VALUES ($1, $2, $3, $4, $5, $6, COALESCE((SELECT MAX(id) FROM audit), ''))",
        )
        .bind(&webhook.id)
        .bind(&webhook.url)
        .bind(&webhook.secret)
        .bind(&webhook.product)
        .bind(&webhook.events)
        .bind(webhook.created_at_ms)
        .execute(&mut *transaction)
        .await?;
        let record = Record {
            action: "webhook.create",
            kind: "webhook",
            subject: &webhook.id,
            product: webhook.product.as_deref(),
            before: None,
            after: Some(json!({ "url": webhook.url, "events": super::json_or_text(&webhook.events) })),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// All webhooks, in the order of their ids.
    pub(crate) async fn webhooks(&self) -> Result<Vec<WebhookRow>, StoreError> {
        let webhooks = sqlx::query_as(
            "SELECT id, url, secret, product, events, created_at_ms, told_until FROM webhooks ORDER BY id",
        );
        Ok(webhooks.fetch_all(&self.pool).await?)
    }

    /// How much is still to be sent to webhooks, and when the next of it is tried.
    pub(crate) async fn waiting_deliveries(&self) -> Result<Vec<(String, i64, i64)>, StoreError> {
        let waiting = sqlx::query_as(
            "SELECT webhook, COUNT(*), MIN(try_at_ms) FROM webhook_deliveries WHERE state = 'waiting' \
             GROUP BY webhook",
        );
        Ok(waiting.fetch_all(&self.pool).await?)
    }

    /// Removes a webhook and what is still to be sent to it; `false`: there is none.
    pub(crate) async fn remove_webhook(&self, id: &str, change: &Change) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let product: Option<Option<String>> =
            sqlx::query_scalar("SELECT product FROM webhooks WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *transaction)
                .await?;
        sqlx::query("DELETE FROM webhook_deliveries WHERE webhook = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        let removed = sqlx::query("DELETE FROM webhooks WHERE id = $1")
            .bind(id)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        let Some(product) = product.filter(|_| removed == 1) else { return Ok(false) };
        let record = Record {
            action: "webhook.remove",
            kind: "webhook",
            subject: id,
            product: product.as_deref(),
            before: Some(json!({ "id": id })),
            after: None,
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The newest line of the audit log.
    pub(crate) async fn newest_line(&self) -> Result<String, StoreError> {
        let newest: Option<String> =
            sqlx::query_scalar("SELECT MAX(id) FROM audit").fetch_one(&self.pool).await?;
        Ok(newest.unwrap_or_default())
    }

    /// Lines of the audit log after one and up to another, the oldest first.
    pub(crate) async fn lines_between(
        &self,
        after: &str,
        until: &str,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let lines = sqlx::query_as(
            "SELECT id, at_ms, actor, actor_name, action, kind, subject, product, before_json, after_json \
             FROM audit WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3",
        );
        Ok(lines.bind(after).bind(until).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Notes what is to be sent to a webhook, and up to which line the log was looked at. `false`: another instance was
    /// faster, and nothing is noted.
    pub(crate) async fn note_deliveries(
        &self,
        webhook: &WebhookRow,
        until: &str,
        deliveries: &[NewDelivery],
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let taken = sqlx::query("UPDATE webhooks SET told_until = $1 WHERE id = $2 AND told_until = $3")
            .bind(until)
            .bind(&webhook.id)
            .bind(&webhook.told_until)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        if taken != 1 {
            return Ok(false);
        }
        for delivery in deliveries {
            delivery.insert(&mut transaction, &webhook.id, now_ms).await?;
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Notes one thing to be sent to a webhook, wherever it is in the log.
    pub(crate) async fn note_delivery(
        &self,
        webhook: &str,
        delivery: &NewDelivery,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        delivery.insert(&mut connection, webhook, now_ms).await
    }

    /// The webhooks that something is to be sent to now, by id.
    pub(crate) async fn due_webhooks(&self, now_ms: i64) -> Result<Vec<String>, StoreError> {
        let due = sqlx::query_scalar(
            "SELECT DISTINCT webhook FROM webhook_deliveries WHERE state = 'waiting' AND try_at_ms <= $1",
        );
        Ok(due.bind(now_ms).fetch_all(&self.pool).await?)
    }

    /// What is to be sent to a webhook now, the oldest first.
    pub(crate) async fn due_deliveries(
        &self,
        webhook: &str,
        now_ms: i64,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let due = sqlx::query_as(
            "SELECT id, at_ms, event, body, state, tries, try_at_ms, status, error \
             FROM webhook_deliveries WHERE webhook = $1 AND state = 'waiting' AND try_at_ms <= $2 \
             ORDER BY try_at_ms, id LIMIT $3",
        );
        Ok(due.bind(webhook).bind(now_ms).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Takes a delivery for this instance until a time; `false`: another one has it, or it is gone.
    pub(crate) async fn take_delivery(
        &self,
        delivery: &DeliveryRow,
        until_ms: i64,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "UPDATE webhook_deliveries SET tries = tries + 1, try_at_ms = $1 \
             WHERE id = $2 AND state = 'waiting' AND tries = $3 AND try_at_ms = $4",
        )
        .bind(until_ms)
        .bind(&delivery.id)
        .bind(delivery.tries)
        .bind(delivery.try_at_ms)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Notes how sending ended.
    pub(crate) async fn note_sent(&self, delivery: &str, sent: &Sent) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE webhook_deliveries SET state = $1, try_at_ms = $2, status = $3, error = $4 WHERE id = $5",
        )
        .bind(sent.state)
        .bind(sent.try_at_ms)
        .bind(sent.status)
        .bind(&sent.error)
        .bind(delivery)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets what was delivered or given up before a time.
    pub(crate) async fn forget_deliveries(&self, before_ms: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM webhook_deliveries WHERE state <> 'waiting' AND at_ms < $1")
            .bind(before_ms)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What was sent to a webhook, newest first, older than the delivery `before` (empty: from the newest).
    pub(crate) async fn deliveries(
        &self,
        webhook: &str,
        before: &str,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let deliveries = sqlx::query_as(
            "SELECT id, at_ms, event, body, state, tries, try_at_ms, status, error \
             FROM webhook_deliveries WHERE webhook = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3",
        );
        Ok(deliveries.bind(webhook).bind(before).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Notes something in the audit log that the server has found out, once: `key` names it. `false`: it was noted before.
    pub(crate) async fn tell_once(
        &self,
        key: &str,
        record: Record<'_>,
        change: &Change,
    ) -> Result<bool, StoreError> {
        let name = format!("told {key}");
        // Whoever asks again and again only reads.
        let told: Option<String> = sqlx::query_scalar("SELECT name FROM settings WHERE name = $1")
            .bind(&name)
            .fetch_optional(&self.pool)
            .await?;
        if told.is_some() {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        let is_first =
            sqlx::query("INSERT INTO settings (name, value) VALUES ($1, '') ON CONFLICT (name) DO NOTHING")
                .bind(name)
                .execute(&mut *transaction)
                .await?
                .rows_affected()
                == 1;
        if is_first {
            change.record(&mut transaction, record).await?;
        }
        transaction.commit().await?;
        Ok(is_first)
    }
}
