//! Releases that are put away: they are known, and offered to nobody.

use std::collections::BTreeSet;

use api::product::SlotSize;
use rollout::State;
use serde_json::json;
use sqlx::AnyConnection;

use super::archived::archived;
use super::product_row::{ProductRow, take};
use super::releases::named;
use super::{Change, Changed, IfMatch, Record, ReleaseRow, Store, StoreError};

/// So many releases are named as the reason for a refusal.
const MAX_NAMED: usize = 10;

/// Why a release stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveRefusal {
    #[error("rollout {id} of release {sequence} is {state}; abort it first, or wait until it is completed")]
    Rollout { sequence: i64, id: String, state: State },
    #[error(
        "release {sequence} is what {} may return to (revert_to); archive the newer ones first",
        Releases(.by)
    )]
    RevertTarget { sequence: i64, by: Vec<i64> },
    #[error("release {sequence} is required by {}; archive the newer ones first", Releases(.by))]
    Required { sequence: i64, by: Vec<i64> },
    #[error(
        "release {sequence} requires or may return to {}, archived too; take the older ones out of the archive first",
        Releases(.of)
    )]
    NeedsArchived { sequence: i64, of: Vec<i64> },
    #[error(
        "expected a release for slots of {slot_bytes} bytes that are handed over to by {strategy}, as the product's layout has \
         them now, found {sequence} for {found_bytes} bytes by {found}; publish the application again"
    )]
    Layout { sequence: i64, slot_bytes: i64, strategy: String, found_bytes: i64, found: String },
}

/// What became of it.
type Archived = Result<ReleaseRow, ArchiveRefusal>;

/// `release 3`, or `releases 3, 4`.
struct Releases<'a>(&'a [i64]);

impl std::fmt::Display for Releases<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<_> = self.0.iter().take(MAX_NAMED).map(i64::to_string).collect();
        let more = if self.0.len() > MAX_NAMED { ", …" } else { "" };
        write!(f, "release{} {}{more}", if numbers.len() == 1 { "" } else { "s" }, numbers.join(", "))
    }
}

impl Store {
    /// Archives a release that is there, once. It is a change of the product.
    pub(crate) async fn archive_release(
        &self,
        release: &ReleaseRow,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<Archived>, StoreError> {
        let (product, sequence) = (&release.product, release.sequence);
        let mut transaction = self.pool.begin().await?;
        // Of a publisher and of whoever starts a rollout at the same time, one waits for the other.
        if let Changed::Not(why) = take(&mut transaction, product, if_match).await? {
            return Ok(Changed::Not(why));
        }
        if archived(&mut transaction, product, &BTreeSet::from([sequence])).await? == [sequence] {
            return Ok(Changed::Done(Ok(release.clone())));
        }
        if let Some(refusal) = refusal(&mut transaction, product, sequence).await? {
            return Ok(Changed::Done(Err(refusal)));
        }
        let after = ReleaseRow { archived_at_ms: Some(change.at_ms), ..release.clone() };
        set(&mut transaction, &after, "release.archive", change).await?;
        transaction.commit().await?;
        Ok(Changed::Done(Ok(after)))
    }

    /// Takes a release out of the archive, once: what brought it to devices before does so again.
    pub(crate) async fn unarchive_release(
        &self,
        release: &ReleaseRow,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<Archived>, StoreError> {
        let (product, sequence) = (&release.product, release.sequence);
        let mut transaction = self.pool.begin().await?;
        let owner = match take(&mut transaction, product, if_match).await? {
            Changed::Done(owner) => owner,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        if archived(&mut transaction, product, &BTreeSet::from([sequence])).await?.is_empty() {
            return Ok(Changed::Done(Ok(release.clone())));
        }
        if let Some(misfit) = misfit(&mut transaction, &owner, release).await? {
            return Ok(Changed::Done(Err(misfit)));
        }
        let of = archived(&mut transaction, product, &named(release)?).await?;
        if !of.is_empty() {
            return Ok(Changed::Done(Err(ArchiveRefusal::NeedsArchived { sequence, of })));
        }
        let after = ReleaseRow { archived_at_ms: None, ..release.clone() };
        set(&mut transaction, &after, "release.unarchive", change).await?;
        transaction.commit().await?;
        Ok(Changed::Done(Ok(after)))
    }
}

/// Whether the layout of a product that is taken changed so that devices could not install a release.
async fn misfit(
    connection: &mut AnyConnection,
    product: &ProductRow,
    release: &ReleaseRow,
) -> Result<Option<ArchiveRefusal>, StoreError> {
    let strategy: Option<String> =
        sqlx::query_scalar("SELECT strategy FROM releases WHERE product = $1 AND sequence = $2")
            .bind(&release.product)
            .bind(release.sequence)
            .fetch_one(connection)
            .await?;
    let slots: Vec<SlotSize> = serde_json::from_str(&product.slots).map_err(|error| {
        StoreError::Unreadable { what: format!("product {}", product.name), error: error.to_string() }
    })?;
    let slot_bytes = slots.iter().map(|slot| i64::from(slot.size_bytes)).min().unwrap_or_default();
    let found = strategy.unwrap_or_else(|| product.strategy.clone());
    if release.min_slot_bytes <= slot_bytes && found == product.strategy {
        return Ok(None);
    }
    Ok(Some(ArchiveRefusal::Layout {
        sequence: release.sequence,
        slot_bytes,
        strategy: product.strategy.clone(),
        found_bytes: release.min_slot_bytes,
        found,
    }))
}

/// What is against archiving a release of a product that is taken.
async fn refusal(
    connection: &mut AnyConnection,
    product: &str,
    sequence: i64,
) -> Result<Option<ArchiveRefusal>, StoreError> {
    let rollouts: Vec<(String, String)> = sqlx::query_as(
        "SELECT id, state FROM rollouts WHERE product = $1 AND sequence = $2 ORDER BY created_at_ms, id",
    )
    .bind(product)
    .bind(sequence)
    .fetch_all(&mut *connection)
    .await?;
    for (id, state) in rollouts {
        let unreadable = |error| StoreError::Unreadable { what: format!("rollout {id}"), error };
        let state = state.parse::<State>().map_err(|error| unreadable(error.to_string()))?;
        if !state.is_finished() {
            return Ok(Some(ArchiveRefusal::Rollout { sequence, id, state }));
        }
    }
    let newer: Vec<(i64, String, Option<i64>)> = sqlx::query_as(
        "SELECT sequence, revert_to, requires FROM releases \
         WHERE product = $1 AND sequence > $2 AND archived_at_ms IS NULL ORDER BY sequence",
    )
    .bind(product)
    .bind(sequence)
    .fetch_all(connection)
    .await?;
    let (mut reverting, mut requiring) = (Vec::new(), Vec::new());
    for (by, revert_to, requires) in newer {
        let unreadable = |error: serde_json::Error| StoreError::Unreadable {
            what: format!("release {by} of product {product}"),
            error: error.to_string(),
        };
        if serde_json::from_str::<Vec<i64>>(&revert_to).map_err(unreadable)?.contains(&sequence) {
            reverting.push(by);
        }
        if requires == Some(sequence) {
            requiring.push(by);
        }
    }
    Ok(if !reverting.is_empty() {
        Some(ArchiveRefusal::RevertTarget { sequence, by: reverting })
    } else if !requiring.is_empty() {
        Some(ArchiveRefusal::Required { sequence, by: requiring })
    } else {
        None
    })
}

async fn set(
    connection: &mut AnyConnection,
    release: &ReleaseRow,
    action: &'static str,
    change: &Change,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE releases SET archived_at_ms = $1 WHERE product = $2 AND sequence = $3")
        .bind(release.archived_at_ms)
        .bind(&release.product)
        .bind(release.sequence)
        .execute(&mut *connection)
        .await?;
    let subject = format!("{} {}", release.product, release.sequence);
    let is_archived = release.archived_at_ms.is_some();
    let record = Record {
        action,
        kind: "release",
        subject: &subject,
        product: Some(&release.product),
        before: Some(json!({ "archived": !is_archived })),
        after: Some(json!({ "archived": is_archived })),
    };
    change.record(connection, record).await
}
