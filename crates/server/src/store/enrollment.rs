//! Tables `devices` and `certificates`, as enrollment sees them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use sqlx::AnyConnection;
use time::{Duration, OffsetDateTime};

use super::{Change, Event, Record, Store, StoreError};
use crate::clock;

/// Certificates of devices start this long before they are made, because clocks differ.
pub(crate) const BACKDATED: Duration = Duration::days(1);

/// A certificate for a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCertificate {
    pub(crate) der: CertificateDer<'static>,
    /// In hexadecimal.
    pub(crate) serial: String,
    /// SHA-256 of the certificate of the CA that issued it, in hexadecimal.
    pub(crate) issuer: String,
    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub(crate) key_digest: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl DeviceCertificate {
    /// When it was issued, in milliseconds since 1970 and whole seconds.
    pub(crate) fn issued_at_ms(&self) -> i64 {
        (self.not_before + BACKDATED).unix_timestamp() * 1000
    }

    /// When it ends, as `issued_at_ms`.
    pub(crate) fn ends_at_ms(&self) -> i64 {
        self.not_after.unix_timestamp() * 1000
    }
}

row! {
    /// What enrollment needs to know of a device.
    #[derive(Clone, Debug)]
    pub(crate) struct EnrollmentRow {
        pub(crate) id: String,
        pub(crate) product: String,
        pub(crate) revoked_at_ms: Option<i64>,
        pub(crate) token_hash: String,
        pub(crate) token_redeemed_key: Option<String>,
        pub(crate) token_void_at_ms: Option<i64>,
        pub(crate) approved_at_ms: Option<i64>,
        /// Since when the enrollment waits for approval.
        pub(crate) enrollment_pending_at_ms: Option<i64>,
        /// Whether the product asks for approval (0, 1).
        pub(crate) enrollment_approval: i64,
    }
}

impl EnrollmentRow {
    /// Whether an operator has to approve before there is a certificate.
    pub(crate) fn waits_for_approval(&self) -> bool {
        self.enrollment_approval != 0 && self.approved_at_ms.is_none()
    }
}

/// How redeeming a token ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redemption {
    /// For the first time.
    First,
    /// Again, by the same key: the answer to the first time was lost.
    Again,
    /// By another key, or after the device was seen with its certificate. Nothing was stored.
    Used,
}

row! {
    /// A certificate that a device was issued lately and was not seen with.
    #[derive(Clone, Debug)]
    pub(crate) struct UnseenRow {
        pub(crate) serial: String,
        der_base64: String,
        /// SHA-256 of the CA's certificate, in hexadecimal; `None` before there was a second CA.
        pub(crate) issuer: Option<String>,
    }
}

impl UnseenRow {
    pub(crate) fn der(&self) -> Option<CertificateDer<'static>> {
        BASE64_STANDARD.decode(&self.der_base64).ok().map(CertificateDer::from)
    }
}

/// The certificate that asks for a renewal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedCertificate<'a> {
    /// In hexadecimal.
    pub(crate) serial: &'a str,
    /// When it ended, if it has.
    pub(crate) ended_at_ms: Option<i64>,
}

/// How a renewal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Done,
    /// The certificate that asked for it is good no longer. Nothing was stored.
    Replaced,
    /// The device got [`MAX_RENEWALS`] in [`RENEWALS_MS`]. Nothing was stored, and what it has stays good.
    TooMany,
}

/// Renewals of a device within [`RENEWALS_MS`]: a rollover of the CA asks for one, and each lost answer for one more.
const MAX_RENEWALS: i64 = 8;

const RENEWALS_MS: i64 = 24 * 3_600_000;

/// An enrollment that is asked for again within this time gets the same certificate, while more of its time is left than
/// passed: at the end of a short one the device would have nothing soon.
const SAME_CERTIFICATE_MS: i64 = 24 * 3_600_000;

/// Whether a device ($3) of a product ($4) may take a certificate that the database does not know, by its serial number ($1)
/// and its time ($2). A certificate has whole seconds, a device's making has not. What a device had that was deleted is
/// nobody's, also when another one has its id.
macro_rules! may_adopt {
    () => {
        "id = $3 AND product = $4 AND revoked_at_ms IS NULL AND created_at_ms < $2 + 1000 \
         AND NOT EXISTS (SELECT 1 FROM certificates WHERE serial = $1 OR (device = $3 AND issued_at_ms >= $2)) \
         AND NOT EXISTS (SELECT 1 FROM deleted_certificates WHERE serial = $1) \
         AND NOT EXISTS (SELECT 1 FROM deleted_devices WHERE id = $3 AND deleted_at_ms >= $2)"
    };
}

impl Store {
    /// When the newest certificate was issued, of those up to `latest_ms`; 0 before the first.
    pub(crate) async fn newest_certificate_ms(&self, latest_ms: i64) -> Result<i64, StoreError> {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT MAX(issued_at_ms) FROM certificates WHERE issued_at_ms <= $1")
                .bind(latest_ms)
                .fetch_one(&self.pool)
                .await?;
        Ok(newest.unwrap_or(0))
    }

    /// What enrollment needs to know of a device.
    pub(crate) async fn enrollment(&self, id: &str) -> Result<Option<EnrollmentRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT d.id, d.product, d.revoked_at_ms, d.token_hash, d.token_redeemed_key, d.token_void_at_ms, \
                 d.approved_at_ms, d.enrollment_pending_at_ms, p.enrollment_approval \
             FROM devices d JOIN products p ON p.name = d.product WHERE d.id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Notes that the enrollment of a device waits for approval, with this key (SHA-256 of the public key): what is
    /// approved is a key that is known, and no other one gets the certificate. `false`: another key waits, or the
    /// token is used. The same key asking again changes nothing.
    pub(crate) async fn await_approval(
        &self,
        device: &EnrollmentRow,
        key_digest: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        if device.enrollment_pending_at_ms.is_some()
            && device.token_redeemed_key.as_deref() == Some(key_digest)
        {
            return Ok(true);
        }
        let mut transaction = self.pool.begin().await?;
        let waits = sqlx::query(
            "UPDATE devices SET token_redeemed_key = $1, enrollment_pending_at_ms = $2 \
             WHERE id = $3 AND token_hash = $4 AND revoked_at_ms IS NULL AND token_void_at_ms IS NULL \
                 AND (token_redeemed_key IS NULL OR token_redeemed_key = $1)",
        )
        .bind(key_digest)
        .bind(now_ms)
        .bind(&device.id)
        .bind(&device.token_hash)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if waits != 1 {
            return Ok(false);
        }
        let detail = json!({ "key": key_digest });
        let event = Event { device: &device.id, at_ms: now_ms, kind: "enrollment-pending", detail };
        event.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The certificate that this key (SHA-256 of the public key) was issued for this device's token within
    /// [`SAME_CERTIFICATE_MS`], while the device was not seen with it.
    pub(crate) async fn unseen_certificate(
        &self,
        device: &EnrollmentRow,
        key_digest: &str,
        now_ms: i64,
    ) -> Result<Option<UnseenRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT c.serial, c.der_base64, c.issuer FROM devices d JOIN certificates c ON c.serial = d.certificate_serial \
             WHERE d.id = $1 AND d.token_hash = $2 AND d.token_redeemed_key = $3 AND c.key_digest = $3 \
                 AND d.revoked_at_ms IS NULL AND d.token_void_at_ms IS NULL \
                 AND d.enrollment_pending_at_ms IS NULL AND c.issued_at_ms > $4 AND c.issued_at_ms <= $5 \
                 AND c.not_after_ms - $5 > $5 - c.issued_at_ms",
        )
        .bind(&device.id)
        .bind(&device.token_hash)
        .bind(key_digest)
        .bind(now_ms - SAME_CERTIFICATE_MS)
        .bind(now_ms)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Redeems an enrollment token and stores the certificate, both or neither.
    pub(crate) async fn redeem_token(
        &self,
        device: &EnrollmentRow,
        certificate: &DeviceCertificate,
        now_ms: i64,
    ) -> Result<Redemption, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // The condition is judged by the statement that takes the token: of two requests at once, one wins. A
        // certificate of before is good no longer: whoever has the token has the device in hand.
        let redeemed = sqlx::query(
            "UPDATE devices SET token_redeemed_key = $1, certificate_serial = $2, previous_serial = NULL, \
                 enrolled_at_ms = COALESCE(enrolled_at_ms, $3), enrollment_pending_at_ms = NULL, \
                 other_starts = NULL, starts_returns = 0, starts_returned_at_ms = NULL, clone_suspected_at_ms = NULL, \
                 refused_at_ms = NULL, refused_cause = NULL, certificate_ends_at_ms = $6 \
             WHERE id = $4 AND token_hash = $5 AND revoked_at_ms IS NULL AND token_void_at_ms IS NULL \
                 AND (token_redeemed_key IS NULL OR token_redeemed_key = $1)",
        )
        .bind(&certificate.key_digest)
        .bind(&certificate.serial)
        .bind(now_ms)
        .bind(&device.id)
        .bind(&device.token_hash)
        .bind(certificate.ends_at_ms())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if redeemed != 1 {
            return Ok(Redemption::Used);
        }
        let (redemption, kind) = match (&device.token_redeemed_key, device.enrollment_pending_at_ms) {
            (None, _) | (Some(_), Some(_)) => (Redemption::First, "enrolled"),
            (Some(_), None) => (Redemption::Again, "enrolled-again"),
        };
        insert_certificate(&mut transaction, &device.id, certificate, now_ms).await?;
        let detail = json!({ "serial": certificate.serial });
        let event = Event { device: &device.id, at_ms: now_ms, kind, detail };
        match redemption {
            Redemption::First => event.insert(&mut transaction).await?,
            Redemption::Again | Redemption::Used => event.insert_within_bounds(&mut transaction).await?,
        }
        transaction.commit().await?;
        Ok(redemption)
    }

    /// Stores a renewed certificate. The one that asked for it stays good until the new one is first used. That it had
    /// ended stands in the audit log.
    pub(crate) async fn renew_certificate(
        &self,
        device: &str,
        product: &str,
        used: UsedCertificate<'_>,
        certificate: &DeviceCertificate,
        now_ms: i64,
    ) -> Result<Renewal, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let renewed = sqlx::query(
            "UPDATE devices SET certificate_serial = $1, previous_serial = $2, refused_at_ms = NULL, refused_cause = NULL, \
                 certificate_ends_at_ms = $4 \
             WHERE id = $3 AND revoked_at_ms IS NULL AND (certificate_serial = $2 OR previous_serial = $2)",
        )
        .bind(&certificate.serial)
        .bind(used.serial)
        .bind(device)
        .bind(certificate.ends_at_ms())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if renewed != 1 {
            return Ok(Renewal::Replaced);
        }
        // The device's row is taken: of renewals at once each counts those before it. The first certificate is no renewal.
        let renewals: i64 = sqlx::query_scalar(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM certificates c JOIN devices d ON d.id = c.device \
             WHERE c.device = $1 AND c.issued_at_ms > $2 AND c.issued_at_ms <= $3 \
                 AND c.issued_at_ms > COALESCE(d.enrolled_at_ms, 0)",
        )
        .bind(device)
        .bind(now_ms - RENEWALS_MS)
        .bind(now_ms)
        .fetch_one(&mut *transaction)
        .await?;
        if renewals >= MAX_RENEWALS {
            transaction.rollback().await?;
            return Ok(Renewal::TooMany);
        }
        insert_certificate(&mut transaction, device, certificate, now_ms).await?;
        let mut detail = json!({ "serial": certificate.serial, "replaces": used.serial });
        let kind = match used.ended_at_ms {
            None => "certificate-renewed",
            Some(ended_at_ms) => {
                detail["ended_at"] = clock::rfc3339(ended_at_ms).into();
                let record = Record {
                    action: "device.renew-ended-certificate",
                    kind: "device",
                    subject: device,
                    product: Some(product),
                    before: None,
                    after: Some(detail.clone()),
                };
                Change::by_server(now_ms).record(&mut transaction, record).await?;
                "ended-certificate-renewed"
            }
        };
        Event { device, at_ms: now_ms, kind, detail }.insert(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Renewal::Done)
    }

    /// Notes that a certificate of the device that has ended was refused.
    pub(crate) async fn note_refusal(
        &self,
        device: &str,
        cause: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET refused_at_ms = $1, refused_cause = $2 WHERE id = $3")
            .bind(now_ms)
            .bind(cause)
            .bind(device)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes a certificate of this server's CA that the database does not know for the device's own: it was issued after
    /// the backup that the database was restored from. `false`: no such device, a revoked one, or the database knows of a
    /// newer certificate.
    pub(crate) async fn adopt_certificate(
        &self,
        device: &str,
        product: &str,
        certificate: &DeviceCertificate,
        change: &Change,
    ) -> Result<bool, StoreError> {
        let issued_at_ms = certificate.issued_at_ms();
        // Whoever comes with such a certificate again and again only reads.
        let is_adoptable: Option<String> =
            sqlx::query_scalar(concat!("SELECT id FROM devices WHERE ", may_adopt!()))
                .bind(&certificate.serial)
                .bind(issued_at_ms)
                .bind(device)
                .bind(product)
                .fetch_optional(&self.pool)
                .await?;
        if is_adoptable.is_none() {
            return Ok(false);
        }
        let mut transaction = self.pool.begin().await?;
        let adopted = sqlx::query(concat!(
            "UPDATE devices SET certificate_serial = $1, previous_serial = NULL, \
                 enrolled_at_ms = COALESCE(enrolled_at_ms, $2), enrollment_pending_at_ms = NULL, \
                 token_redeemed_key = COALESCE(token_redeemed_key, $5), \
                 token_void_at_ms = COALESCE(token_void_at_ms, $6), certificate_ends_at_ms = $7 \
             WHERE ",
            may_adopt!()
        ))
        .bind(&certificate.serial)
        .bind(issued_at_ms)
        .bind(device)
        .bind(product)
        .bind(&certificate.key_digest)
        .bind(change.at_ms)
        .bind(certificate.ends_at_ms())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if adopted != 1 {
            return Ok(false);
        }
        insert_certificate(&mut transaction, device, certificate, issued_at_ms).await?;
        let detail = json!({ "serial": certificate.serial });
        let event =
            Event { device, at_ms: change.at_ms, kind: "certificate-adopted", detail: detail.clone() };
        event.insert(&mut transaction).await?;
        let record = Record {
            action: "device.adopt-certificate",
            kind: "device",
            subject: device,
            product: Some(product),
            before: None,
            after: Some(detail),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// The device was seen with its current certificate: it has stored it, so that neither the one before nor the
/// enrollment token is needed again.
pub(super) async fn confirm_certificate(
    connection: &mut AnyConnection,
    device: &str,
    serial: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE devices SET previous_serial = NULL, \
             token_void_at_ms = CASE WHEN token_redeemed_key IS NULL THEN token_void_at_ms \
                 ELSE COALESCE(token_void_at_ms, $1) END \
         WHERE id = $2 AND certificate_serial = $3",
    )
    .bind(now_ms)
    .bind(device)
    .bind(serial)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_certificate(
    connection: &mut AnyConnection,
    device: &str,
    certificate: &DeviceCertificate,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO certificates \
             (serial, device, key_digest, not_before_ms, not_after_ms, issued_at_ms, der_base64, issuer) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(&certificate.serial)
    .bind(device)
    .bind(&certificate.key_digest)
    .bind(certificate.not_before.unix_timestamp() * 1000)
    .bind(certificate.ends_at_ms())
    .bind(now_ms)
    .bind(BASE64_STANDARD.encode(&certificate.der))
    .bind(&certificate.issuer)
    .execute(connection)
    .await?;
    Ok(())
}
