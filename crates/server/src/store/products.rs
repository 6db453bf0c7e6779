//! Table `products`.

use super::product_row::{ProductRow, SELECT_PRODUCTS, take};
use super::publisher_keys::INSERT_KEY;
use super::{
    Change, Changed, IfMatch, KeyRow, MAX_COUNTED, Record, Store, StoreError, differences, json_or_text,
};
use serde_json::{Value, json};
use sqlx::AnyConnection;

/// A product to add, with its first publisher keys.
#[derive(Clone, Debug)]
pub(crate) struct NewProduct {
    pub(crate) row: ProductRow,
    pub(crate) keys: Vec<KeyRow>,
}

/// Settings to change; `None` leaves one as it is.
#[derive(Clone, Debug)]
pub(crate) struct SettingsChange {
    pub(crate) silence_deadline_s: Option<i64>,
    pub(crate) quarantine_after: Option<i64>,
    pub(crate) enrollment_approval: Option<bool>,
    /// JSON; `Some(None)` takes the plan away.
    pub(crate) default_plan: Option<Option<String>>,
    /// `Some(None)`: nobody knows any more.
    pub(crate) chip_revision: Option<Option<i64>>,
    pub(crate) min_run_s: Option<i64>,
    pub(crate) rotate_keys: Option<bool>,
    pub(crate) layout: Option<LayoutChange>,
}

/// A layout that a product is to have.
#[derive(Clone, Debug)]
pub(crate) struct LayoutChange {
    pub(crate) name: String,
    pub(crate) csv: String,
    pub(crate) strategy: &'static str,
    /// JSON list of slots.
    pub(crate) slots: String,
    /// Of the smallest slot.
    pub(crate) slot_bytes: i64,
}

/// How the change of a product's settings ended.
#[derive(Clone, Debug)]
pub(crate) enum ProductChange {
    Done(Box<ProductRow>),
    /// It has devices, counted up to [`MAX_COUNTED`], and its layout was to be another one; nothing was changed.
    HasDevices {
        devices: i64,
    },
    /// These releases, which are not archived, do not fit the layout; nothing was changed.
    DoNotFit {
        releases: Vec<String>,
        slot_bytes: i64,
        strategy: &'static str,
    },
}

/// Releases that do not fit a layout are named so far.
const MAX_NAMED: usize = 10;

impl ProductRow {
    /// What operators can set, as an audit line tells it.
    fn settings(&self) -> Value {
        json!({
            "silence_deadline_s": self.silence_deadline_s,
            "quarantine_after": self.quarantine_after,
            "enrollment_approval": self.enrollment_approval != 0,
            "default_plan": self.default_plan.as_deref().map(json_or_text),
            "chip_revision": self.chip_revision,
            "min_run_s": self.min_run_s,
            "rotate_keys": self.rotate_keys != 0,
            "layout": { "name": self.layout_name, "csv": self.layout_csv },
        })
    }
}

impl Store {
    /// Adds a product; [`StoreError::is_duplicate`] when the name is taken.
    pub(crate) async fn add_product(&self, product: &NewProduct, change: &Change) -> Result<(), StoreError> {
        let row = &product.row;
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, silence_deadline_s, \
                 quarantine_after, enrollment_approval, default_plan, chip_revision, min_run_s, rotate_keys, \
                 created_at_ms, revision, generation) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                 COALESCE((SELECT generation FROM deleted_products WHERE name = $1), 0) + 1)",
        )
        .bind(&row.name)
        .bind(&row.chip)
        .bind(&row.layout_name)
        .bind(&row.layout_csv)
        .bind(&row.strategy)
        .bind(&row.slots)
        .bind(row.silence_deadline_s)
        .bind(row.quarantine_after)
        .bind(row.enrollment_approval)
        .bind(&row.default_plan)
        .bind(row.chip_revision)
        .bind(row.min_run_s)
        .bind(row.rotate_keys)
        .bind(row.created_at_ms)
        .bind(row.revision)
        .execute(&mut *transaction)
        .await?;
        for key in &product.keys {
            sqlx::query(INSERT_KEY)
                .bind(&row.name)
                .bind(&key.key_hex)
                .bind(&key.name)
                .bind(row.created_at_ms)
                .execute(&mut *transaction)
                .await?;
        }
        for channel in ["stable", "beta"] {
            sqlx::query("INSERT INTO channels (product, name, created_at_ms) VALUES ($1, $2, $3)")
                .bind(&row.name)
                .bind(channel)
                .bind(row.created_at_ms)
                .execute(&mut *transaction)
                .await?;
        }
        let keys: Vec<_> = product.keys.iter().map(KeyRow::json).collect();
        let after = json!({ "chip": row.chip, "layout": row.layout_name, "publisher_keys": keys });
        let record = Record {
            action: "product.create",
            kind: "product",
            subject: &row.name,
            product: Some(&row.name),
            before: None,
            after: Some(after),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// A product by its name.
    pub(crate) async fn product(&self, name: &str) -> Result<Option<ProductRow>, StoreError> {
        if name.is_empty() {
            return Ok(None);
        }
        Ok(self.products(name, "", 1).await?.into_iter().next())
    }

    /// Products in the order of their names, past `after`; only the product `scope` when it is not empty.
    pub(crate) async fn products(
        &self,
        scope: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ProductRow>, StoreError> {
        Ok(sqlx::query_as(SELECT_PRODUCTS).bind(scope).bind(after).bind(limit).fetch_all(&self.pool).await?)
    }

    /// Changes the settings of a product.
    pub(crate) async fn change_product(
        &self,
        name: &str,
        settings: SettingsChange,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<ProductChange>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let before = match take(&mut transaction, name, if_match).await? {
            Changed::Done(before) => before,
            Changed::Not(why) => return Ok(Changed::Not(why)),
        };
        let layout = settings
            .layout
            .filter(|layout| (&layout.name, &layout.csv) != (&before.layout_name, &before.layout_csv));
        if let Some(layout) = &layout
            && let Some(refused) = refuse_layout(&mut transaction, &before, layout).await?
        {
            return Ok(Changed::Done(refused));
        }
        let mut after = ProductRow {
            silence_deadline_s: settings.silence_deadline_s.unwrap_or(before.silence_deadline_s),
            quarantine_after: settings.quarantine_after.unwrap_or(before.quarantine_after),
            enrollment_approval: settings.enrollment_approval.map_or(before.enrollment_approval, i64::from),
            default_plan: settings.default_plan.unwrap_or_else(|| before.default_plan.clone()),
            chip_revision: settings.chip_revision.unwrap_or(before.chip_revision),
            min_run_s: settings.min_run_s.unwrap_or(before.min_run_s),
            rotate_keys: settings.rotate_keys.map_or(before.rotate_keys, i64::from),
            ..before.clone()
        };
        if let Some(LayoutChange { name, csv, strategy, slots, slot_bytes: _ }) = layout {
            (after.layout_name, after.layout_csv, after.slots) = (name, csv, slots);
            after.strategy = strategy.to_owned();
        }
        sqlx::query(
            "UPDATE products SET silence_deadline_s = $1, quarantine_after = $2, enrollment_approval = $3, \
                 default_plan = $4, chip_revision = $5, min_run_s = $6, layout_name = $8, layout_csv = $9, \
                 strategy = $10, slots = $11, rotate_keys = $12, \
                 looked_until = CASE WHEN silence_deadline_s = $1 THEN looked_until ELSE '' END \
             WHERE name = $7",
        )
        .bind(after.silence_deadline_s)
        .bind(after.quarantine_after)
        .bind(after.enrollment_approval)
        .bind(&after.default_plan)
        .bind(after.chip_revision)
        .bind(after.min_run_s)
        .bind(name)
        .bind(&after.layout_name)
        .bind(&after.layout_csv)
        .bind(&after.strategy)
        .bind(&after.slots)
        .bind(after.rotate_keys)
        .execute(&mut *transaction)
        .await?;
        let (was, is) = differences(&before.settings(), &after.settings());
        let record = Record {
            action: "product.change",
            kind: "product",
            subject: name,
            product: Some(name),
            before: Some(was),
            after: Some(is),
        };
        change.record(&mut transaction, record).await?;
        transaction.commit().await?;
        Ok(Changed::Done(ProductChange::Done(Box::new(after))))
    }
}

/// Why a product that was taken for it cannot have another layout: devices have the old one on their flash, and what was
/// published was checked against it.
async fn refuse_layout(
    connection: &mut AnyConnection,
    product: &ProductRow,
    layout: &LayoutChange,
) -> Result<Option<ProductChange>, StoreError> {
    let devices: i64 = sqlx::query_scalar(
        "SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT id FROM devices WHERE product = $1 LIMIT $2) AS counted",
    )
    .bind(&product.name)
    .bind(MAX_COUNTED)
    .fetch_one(&mut *connection)
    .await?;
    if devices > 0 {
        return Ok(Some(ProductChange::HasDevices { devices }));
    }
    let unfit: Vec<(i64, String, i64)> = sqlx::query_as(
        "SELECT sequence, version, min_slot_bytes FROM releases \
         WHERE product = $1 AND archived_at_ms IS NULL AND (min_slot_bytes > $2 OR $3 = 1) \
         ORDER BY sequence DESC LIMIT $4",
    )
    .bind(&product.name)
    .bind(layout.slot_bytes)
    .bind(i64::from(product.strategy != layout.strategy))
    .bind(MAX_COUNTED)
    .fetch_all(connection)
    .await?;
    if unfit.is_empty() {
        return Ok(None);
    }
    let others = unfit.len().saturating_sub(MAX_NAMED);
    let named = unfit.iter().take(MAX_NAMED).map(|(sequence, version, bytes)| {
        format!("{version} (number {sequence}, for {bytes} bytes by {})", product.strategy)
    });
    let releases = named.chain((others > 0).then(|| format!("and {others} more"))).collect();
    Ok(Some(ProductChange::DoNotFit { releases, slot_bytes: layout.slot_bytes, strategy: layout.strategy }))
}
