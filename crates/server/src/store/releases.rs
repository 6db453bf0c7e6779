//! Table `releases`.

use std::collections::BTreeSet;

use rollout::Plan;
use serde_json::json;
use sqlx::AnyConnection;

use super::archived::archived;
use super::artifacts::{claim_artifact, hold_artifact};
use super::product_row::bump_generation;
use super::rollout_changes::create_rollout;
use super::{Change, NewRollout, Record, RolloutRefusal, Store, StoreError, json_or_text};

row! {
    /// A release as it is stored.
    #[derive(Clone, Debug)]
    pub(crate) struct ReleaseRow {
        pub(crate) product: String,
        pub(crate) sequence: i64,
        pub(crate) version: String,
        pub(crate) channel: String,
        pub(crate) digest: String,
        pub(crate) size_bytes: i64,
        pub(crate) chip: String,
        /// JSON of the app descriptor.
        pub(crate) app: Option<String>,
        pub(crate) min_slot_bytes: i64,
        /// JSON list of the sequence numbers that the signed manifest allows to return to.
        pub(crate) revert_to: String,
        /// Sequence number of the release that a device must run before it is offered this one.
        pub(crate) requires: Option<i64>,
        pub(crate) elf_digest: Option<String>,
        pub(crate) notes: String,
        /// JSON list of texts.
        pub(crate) warnings: String,
        pub(crate) manifest_base64: String,
        pub(crate) created_at_ms: i64,
        /// Since when it is offered to nobody.
        pub(crate) archived_at_ms: Option<i64>,
    }
}

row! {
    /// What decisions need of a release.
    #[derive(Clone, Debug)]
    pub(crate) struct ReleaseFactsRow {
        pub(crate) sequence: i64,
        pub(crate) digest: String,
        pub(crate) size_bytes: i64,
        /// JSON list of sequence numbers.
        pub(crate) revert_to: String,
        pub(crate) requires: Option<i64>,
        pub(crate) archived_at_ms: Option<i64>,
        pub(crate) manifest_base64: String,
    }
}

/// A release to add.
pub(crate) type NewRelease = ReleaseRow;

/// What became of a release that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is there, and its rollout has started if one was to start.
    Done,
    /// Its sequence number is not higher than all others of its product; nothing was added.
    NotNewer,
    /// An older release that it names was archived meanwhile; nothing was added.
    Archived(i64),
    /// An artifact of it is not there any more; nothing was added.
    ArtifactGone(String),
    /// An artifact of it was uploaded for no product, and the product's quota has no room for it; nothing was added.
    OverQuota(String),
    /// Its rollout would not start; nothing was added.
    NoRollout(RolloutRefusal),
}

row! {
    /// A release that is there already.
    #[derive(Clone, Debug)]
    pub(crate) struct Namesake {
        pub(crate) sequence: i64,
        pub(crate) version: String,
        pub(crate) digest: String,
    }
}

impl Store {
    /// Version, sequence number and digest of the newest releases of a product that are not archived.
    pub(crate) async fn images(
        &self,
        product: &str,
        limit: i64,
    ) -> Result<Vec<(String, i64, String)>, StoreError> {
        let images = sqlx::query_as(
            "SELECT version, sequence, digest FROM releases WHERE product = $1 AND archived_at_ms IS NULL \
             ORDER BY sequence DESC LIMIT $2",
        );
        Ok(images.bind(product).bind(limit).fetch_all(&self.pool).await?)
    }

    /// The artifacts that devices may be told to install, by their SHA-256.
    pub(crate) async fn artifact_digests(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT DISTINCT digest FROM releases ORDER BY digest")
            .fetch_all(&self.pool)
            .await?)
    }

    /// Adds a release when its sequence number is higher than all others of its product. Its rollout starts in the same
    /// transaction, if one is to start, and its artifacts are the product's from then on, within `quota_bytes`.
    pub(crate) async fn add_release(
        &self,
        release: &NewRelease,
        starts_rollout: bool,
        quota_bytes: u64,
        change: &Change,
    ) -> Result<Added, StoreError> {
        let mut transaction = self.pool.begin().await?;
        // Takes the product: of two publishers at once, one waits, and finds what the other one added.
        bump_generation(&mut transaction, &release.product).await?;
        if let Some(sequence) = archived_of(&mut transaction, release).await? {
            return Ok(Added::Archived(sequence));
        }
        // Takes the artifacts: from here on they are somebody's, and nobody deletes them.
        let digests: BTreeSet<&str> = [Some(&release.digest), release.elf_digest.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        for digest in digests {
            if !hold_artifact(&mut transaction, digest).await? {
                return Ok(Added::ArtifactGone(digest.to_owned()));
            }
            if !claim_artifact(&mut transaction, digest, &release.product, quota_bytes).await? {
                return Ok(Added::OverQuota(digest.to_owned()));
            }
        }
        let added = sqlx::query(
            "INSERT INTO releases (product, sequence, version, channel, digest, size_bytes, chip, app, \
                 min_slot_bytes, revert_to, elf_digest, notes, warnings, manifest_base64, created_at_ms, \
                 requires, strategy) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
                 (SELECT strategy FROM products WHERE name = $1) \
             WHERE NOT EXISTS (SELECT 1 FROM releases WHERE product = $1 AND sequence >= $2)",
        )
        .bind(&release.product)
        .bind(release.sequence)
        .bind(&release.version)
        .bind(&release.channel)
        .bind(&release.digest)
        .bind(release.size_bytes)
        .bind(&release.chip)
        .bind(&release.app)
        .bind(release.min_slot_bytes)
        .bind(&release.revert_to)
        .bind(&release.elf_digest)
        .bind(&release.notes)
        .bind(&release.warnings)
        .bind(&release.manifest_base64)
        .bind(release.created_at_ms)
        .bind(release.requires)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if added == 0 {
            transaction.rollback().await?;
            return Ok(Added::NotNewer);
        }
        let subject = format!("{} {}", release.product, release.sequence);
        let after = json!({
            "version": release.version,
            "channel": release.channel,
            "digest": release.digest,
            "revert_to": json_or_text(&release.revert_to),
            "requires": release.requires,
            "warnings": json_or_text(&release.warnings),
        });
        let record = Record {
            action: "release.publish",
            kind: "release",
            subject: &subject,
            product: Some(&release.product),
            before: None,
            after: Some(after),
        };
        change.record(&mut transaction, record).await?;
        let mut rollout = None;
        if starts_rollout {
            let (product, sequence) = (&release.product, release.sequence);
            let default_plan: Option<String> =
                sqlx::query_scalar("SELECT default_plan FROM products WHERE name = $1")
                    .bind(product)
                    .fetch_one(&mut *transaction)
                    .await?;
            let (channel, plan) = (&release.channel, default_plan.as_deref());
            match start_default(&mut transaction, product, channel, sequence, plan, change).await? {
                Ok(id) => rollout = Some(id),
                Err(refusal) => {
                    transaction.rollback().await?;
                    return Ok(Added::NoRollout(refusal));
                }
            }
        }
        transaction.commit().await?;
        if let Some(id) = rollout {
            self.tell_moved(&id);
        }
        Ok(Added::Done)
    }

    /// Releases of a product with this digest or this version, newest first.
    pub(crate) async fn namesakes(
        &self,
        product: &str,
        digest: &str,
        version: &str,
    ) -> Result<Vec<Namesake>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT sequence, version, digest FROM releases \
             WHERE product = $1 AND (digest = $2 OR version = $3) ORDER BY sequence DESC LIMIT 10",
        )
        .bind(product)
        .bind(digest)
        .bind(version)
        .fetch_all(&self.pool)
        .await?)
    }

    /// What the newest release that was published to a channel requires: its own number, and that of the other one.
    pub(crate) async fn newest_requirement(
        &self,
        product: &str,
        channel: &str,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        let newest: Option<(i64, Option<i64>)> = sqlx::query_as(
            "SELECT sequence, requires FROM releases \
             WHERE product = $1 AND channel = $2 AND archived_at_ms IS NULL \
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(product)
        .bind(channel)
        .fetch_optional(&self.pool)
        .await?;
        Ok(newest.and_then(|(sequence, requires)| Some((sequence, requires?))))
    }

    /// The newest release of an image.
    pub(crate) async fn release_of_image(
        &self,
        product: &str,
        digest: &str,
    ) -> Result<Option<ReleaseRow>, StoreError> {
        let sequence: Option<i64> =
            sqlx::query_scalar("SELECT MAX(sequence) FROM releases WHERE product = $1 AND digest = $2")
                .bind(product)
                .bind(digest)
                .fetch_one(&self.pool)
                .await?;
        match sequence {
            Some(sequence) => self.release(product, sequence).await,
            None => Ok(None),
        }
    }

    /// The newest release that was published to a channel.
    pub(crate) async fn newest_on_channel(
        &self,
        product: &str,
        channel: &str,
    ) -> Result<Option<Namesake>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT sequence, version, digest FROM releases \
             WHERE product = $1 AND channel = $2 AND archived_at_ms IS NULL \
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(product)
        .bind(channel)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The newest release of a product.
    pub(crate) async fn newest_release(&self, product: &str) -> Result<Option<ReleaseRow>, StoreError> {
        Ok(self.releases(product, i64::MAX, 1).await?.into_iter().next())
    }

    /// Releases of a product, newest first, with a sequence number of at most `up_to`.
    pub(crate) async fn releases(
        &self,
        product: &str,
        up_to: i64,
        limit: i64,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT product, sequence, version, channel, digest, size_bytes, chip, app, min_slot_bytes, \
                 revert_to, requires, elf_digest, notes, warnings, manifest_base64, created_at_ms, \
                 archived_at_ms \
             FROM releases WHERE product = $1 AND sequence <= $2 ORDER BY sequence DESC LIMIT $3",
        )
        .bind(product)
        .bind(up_to)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// What decisions need of all releases of a product, newest first.
    pub(crate) async fn release_facts(&self, product: &str) -> Result<Vec<ReleaseFactsRow>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT sequence, digest, size_bytes, revert_to, requires, archived_at_ms, manifest_base64 FROM releases \
             WHERE product = $1 ORDER BY sequence DESC",
        )
        .bind(product)
        .fetch_all(&self.pool)
        .await?)
    }

    /// A release by its sequence number.
    pub(crate) async fn release(
        &self,
        product: &str,
        sequence: i64,
    ) -> Result<Option<ReleaseRow>, StoreError> {
        let newest = self.releases(product, sequence, 1).await?.into_iter().next();
        Ok(newest.filter(|release| release.sequence == sequence))
    }
}

/// The first of the releases that a new one requires or may return to that is archived.
async fn archived_of(
    connection: &mut AnyConnection,
    release: &NewRelease,
) -> Result<Option<i64>, StoreError> {
    let named = named(release)?;
    Ok(archived(connection, &release.product, &named).await?.first().copied())
}

/// The releases that a release requires or may return to, in their order.
pub(super) fn named(release: &ReleaseRow) -> Result<BTreeSet<i64>, StoreError> {
    let reverts: Vec<i64> =
        serde_json::from_str(&release.revert_to).map_err(|error| StoreError::Unreadable {
            what: format!("release {} of product {}", release.sequence, release.product),
            error: error.to_string(),
        })?;
    Ok(reverts.into_iter().chain(release.requires).collect())
}

/// The plan of a rollout that brings none: the product's, whose JSON is given, or all devices at once.
pub(crate) fn default_plan(product: &str, json: Option<&str>) -> Result<Plan, StoreError> {
    let Some(json) = json else { return Ok(Plan::all_at_once()) };
    serde_json::from_str(json).map_err(|error| StoreError::Unreadable {
        what: format!("the default plan of product {product}"),
        error: error.to_string(),
    })
}

/// Starts the rollout of a release that was just published, within the transaction of that: by the product's plan, or to
/// all devices at once. Returns the rollout's id, or why the plan does not fit the release.
async fn start_default(
    connection: &mut AnyConnection,
    product: &str,
    channel: &str,
    sequence: i64,
    default_plan: Option<&str>,
    change: &Change,
) -> Result<Result<String, RolloutRefusal>, StoreError> {
    let plan = self::default_plan(product, default_plan)?;
    let new = NewRollout { product, channel, sequence, plan: &plan, start: true };
    create_rollout(connection, &new, change).await
}
