//! Table `settings`: which CAs are in force, and what devices have of them; when somebody watched last.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;

use super::{Change, Record, Store, StoreError};

/// How far a rollover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Both CAs are trust anchors; devices get certificates of the new one, the server shows one of the old one.
    Begun,
    /// The server shows a certificate of the new CA.
    Switched,
    /// The old CA is no longer in force.
    Finished,
}

/// A rollover as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollover {
    pub(crate) phase: Phase,
    /// SHA-256 of the new CA's certificate.
    pub(crate) next: String,
    pub(crate) begun_at_ms: i64,
}

/// What the database says is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// SHA-256 of the CA's certificate; of the old one's until a rollover is finished.
    pub(crate) ca: String,
    /// The last rollover, if there ever was one.
    pub(crate) rollover: Option<Rollover>,
}

/// SHA-256 of the CA's certificate; of the old one's until a rollover is finished.
const CA: &str = "ca";

/// JSON of the last rollover.
const ROLLOVER: &str = "ca_rollover";

/// JSON of the watch of rollouts.
const WATCH: &str = "watch";

/// Devices named in a refusal to go on.
const EXAMPLES: i64 = 20;

/// Devices that a rollover would leave behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind {
    /// Devices that do not trust the new CA yet, as far as they have said.
    pub(crate) without_new_anchor: i64,
    /// Devices whose certificate is one of the old CA.
    pub(crate) with_old_certificate: i64,
    /// Some of the first kind.
    pub(crate) examples: Vec<String>,
    /// Suspended devices that are of either kind. Nobody waits for them: they may never come back.
    pub(crate) suspended: i64,
    pub(crate) suspended_examples: Vec<String>,
    /// Devices of either kind whose certificate has ended and may still renew itself. Nobody waits for them either.
    pub(crate) ended: i64,
    pub(crate) ended_examples: Vec<String>,
}

/// What there is about a certificate that a device may come with: the one before, until the newest is first used.
const HELD: &str =
    "devices d LEFT JOIN certificates c ON c.serial = COALESCE(d.previous_serial, d.certificate_serial)";

/// `$1` anchors old and new, `$2` the new one alone, `$3` now, `$4` begin of the rollover. Devices with a certificate
/// that is good, and devices that were made before the rollover and have yet to enroll: their vault has the old anchor.
const WITHOUT_NEW_ANCHOR: &str = "d.revoked_at_ms IS NULL AND (d.anchors IS NULL OR (d.anchors <> $1 AND d.anchors <> $2)) \
     AND (c.not_after_ms > $3 OR (c.serial IS NULL AND d.created_at_ms < $4))";

/// `$1` and `$2` as above, `$3` the new CA; certificates that end after `$4`, and by `$5`. Devices that would need a new
/// vault when they come back.
const NEED_THE_OLD: &str = "c.not_after_ms > $4 AND c.not_after_ms <= $5 \
     AND (d.anchors IS NULL OR (d.anchors <> $1 AND d.anchors <> $2) OR c.issuer IS NULL OR c.issuer <> $3)";

const SUSPENDED: &str = "d.health = 'suspended'";

const NOT_REVOKED: &str = "d.revoked_at_ms IS NULL";

row! {
    /// The certificate of a revoked device.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Revoked {
        /// Its serial number in hexadecimal.
        pub(crate) serial: String,
        pub(crate) revoked_at_ms: i64,
        /// 1: it may be good again.
        pub(crate) suspended: i64,
    }
}

impl Store {
    /// When rollouts were watched last, as JSON; `None` before the first time.
    pub(crate) async fn watch(&self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(WATCH)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Stores when rollouts were watched last.
    pub(crate) async fn set_watch(&self, json: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
        )
        .bind(WATCH)
        .bind(json)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Which CAs are in force; `None` before the first start.
    pub(crate) async fn ca_in_force(&self) -> Result<Option<InForce>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM settings WHERE name IN ($1, $2)")
                .bind(CA)
                .bind(ROLLOVER)
                .fetch_all(&self.pool)
                .await?;
        let value =
            |wanted: &str| rows.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let Some(ca) = value(CA) else { return Ok(None) };
        let rollover = value(ROLLOVER).map(|json| read(&json)).transpose()?;
        Ok(Some(InForce { ca, rollover }))
    }

    /// Records the SHA-256 of the CA unless one is recorded, and returns the recorded one: of two first starts at
    /// once with two CAs, one wins.
    pub(crate) async fn record_ca(&self, fingerprint: &str) -> Result<String, StoreError> {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(CA)
            .bind(fingerprint)
            .execute(&self.pool)
            .await?;
        Ok(self.ca_in_force().await?.map(|in_force| in_force.ca).unwrap_or_default())
    }

    /// Goes from what was in force to the next phase; `false` when something else is in force by now. `ca` is the CA
    /// that is in force afterwards, apart from the rollover's.
    pub(crate) async fn change_ca(
        &self,
        was: &InForce,
        is: &InForce,
        action: &'static str,
        change: &Change,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let Some(rollover) = &is.rollover else { return Ok(false) };
        let changed = match &was.rollover {
            None => insert(&mut transaction, rollover).await?,
            Some(was) => update(&mut transaction, ROLLOVER, &written(was), &written(rollover)).await?,
        };
        if !changed || (was.ca != is.ca && !update(&mut transaction, CA, &was.ca, &is.ca).await?) {
            return Ok(false);
        }
        let facts = |in_force: &InForce| {
            let phase = in_force.rollover.as_ref().map(|rollover| rollover.phase);
            json!({ "ca": in_force.ca, "phase": phase })
        };
        let record = Record {
            action,
            kind: "ca",
            subject: &rollover.next,
            product: None,
            before: Some(facts(was)),
            after: Some(facts(is)),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Devices that the next step of a rollover to the CA `next` would leave behind. `both` and `new` are digests of
    /// trust anchors; certificates that ended after `renewable_after_ms` may renew themselves.
    pub(crate) async fn behind(
        &self,
        rollover: &Rollover,
        both: &str,
        new: &str,
        renewable_after_ms: i64,
        now_ms: i64,
    ) -> Result<Behind, StoreError> {
        let count = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {HELD} WHERE {WITHOUT_NEW_ANCHOR}");
        let without_new_anchor = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .bind(both)
            .bind(new)
            .bind(now_ms)
            .bind(rollover.begun_at_ms)
            .fetch_one(&self.pool)
            .await?;
        let some =
            format!("SELECT d.id FROM {HELD} WHERE {WITHOUT_NEW_ANCHOR} ORDER BY d.id LIMIT {EXAMPLES}");
        let examples = sqlx::query_scalar(sqlx::AssertSqlSafe(some))
            .bind(both)
            .bind(new)
            .bind(now_ms)
            .bind(rollover.begun_at_ms)
            .fetch_all(&self.pool)
            .await?;
        let old = format!(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM {HELD} WHERE d.revoked_at_ms IS NULL AND c.not_after_ms > $1 \
             AND (c.issuer IS NULL OR c.issuer <> $2)"
        );
        let with_old_certificate = sqlx::query_scalar(sqlx::AssertSqlSafe(old))
            .bind(now_ms)
            .bind(&rollover.next)
            .fetch_one(&self.pool)
            .await?;
        let left = |whose, until_ms| async move {
            let devices = format!("FROM {HELD} WHERE {whose} AND {NEED_THE_OLD}");
            let count: i64 =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT CAST(COUNT(*) AS BIGINT) {devices}")))
                    .bind(both)
                    .bind(new)
                    .bind(&rollover.next)
                    .bind(renewable_after_ms)
                    .bind(until_ms)
                    .fetch_one(&self.pool)
                    .await?;
            let examples: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT d.id {devices} ORDER BY d.id LIMIT {EXAMPLES}"
            )))
            .bind(both)
            .bind(new)
            .bind(&rollover.next)
            .bind(renewable_after_ms)
            .bind(until_ms)
            .fetch_all(&self.pool)
            .await?;
            Ok::<_, StoreError>((count, examples))
        };
        let (suspended, suspended_examples) = left(SUSPENDED, i64::MAX).await?;
        let (ended, ended_examples) = left(NOT_REVOKED, now_ms).await?;
        Ok(Behind {
            without_new_anchor,
            with_old_certificate,
            examples,
            suspended,
            suspended_examples,
            ended,
            ended_examples,
        })
    }

    /// Stores the digest of the trust anchors that a device said it has.
    pub(crate) async fn note_anchors(&self, device: &str, anchors: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET anchors = $1 WHERE id = $2")
            .bind(anchors)
            .bind(device)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Revoked devices' certificates by this CA that have not ended; those of devices that were deleted too.
    /// Certificates of before issuers were noted count as those of `first`.
    pub(crate) async fn revoked(
        &self,
        issuer: &str,
        first: &str,
        now_ms: i64,
    ) -> Result<Vec<Revoked>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT c.serial, d.revoked_at_ms, d.suspended FROM devices d JOIN certificates c ON c.device = d.id \
             WHERE d.health IN ('revoked', 'suspended') AND c.not_after_ms > $1 AND COALESCE(c.issuer, $2) = $3 \
             UNION ALL \
             SELECT serial, revoked_at_ms, CAST(0 AS BIGINT) AS suspended FROM deleted_certificates \
             WHERE not_after_ms > $1 AND COALESCE(issuer, $2) = $3 \
             ORDER BY 1",
        )
        .bind(now_ms)
        .bind(first)
        .bind(issuer)
        .fetch_all(&self.pool)
        .await?)
    }
}

async fn insert(connection: &mut AnyConnection, rollover: &Rollover) -> Result<bool, StoreError> {
    let inserted =
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(ROLLOVER)
            .bind(written(rollover))
            .execute(connection)
            .await?;
    Ok(inserted.rows_affected() == 1)
}

async fn update(connection: &mut AnyConnection, name: &str, was: &str, is: &str) -> Result<bool, StoreError> {
    let updated = sqlx::query("UPDATE settings SET value = $1 WHERE name = $2 AND value = $3")
        .bind(is)
        .bind(name)
        .bind(was)
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() == 1)
}

fn read(json: &str) -> Result<Rollover, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::from(sqlx::Error::Decode(Box::new(error))))
}

/// What is compared when it is changed: the same text for the same rollover.
fn written(rollover: &Rollover) -> String {
    json!(rollover).to_string()
}
