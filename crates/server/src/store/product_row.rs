//! A product as it is stored, and taken for a change.

use sqlx::AnyConnection;

use super::{Changed, IfMatch, StoreError, Unchanged};

row! {
    /// A product as it is stored.
    #[derive(Clone, Debug)]
    pub(crate) struct ProductRow {
        pub(crate) name: String,
        pub(crate) chip: String,
        pub(crate) layout_name: String,
        pub(crate) layout_csv: String,
        pub(crate) strategy: String,
        /// JSON list of slots.
        pub(crate) slots: String,
        pub(crate) silence_deadline_s: i64,
        pub(crate) quarantine_after: i64,
        pub(crate) enrollment_approval: i64,
        /// JSON of a rollout plan.
        pub(crate) default_plan: Option<String>,
        /// Lowest revision of its chips: major * 100 + minor.
        pub(crate) chip_revision: Option<i64>,
        pub(crate) min_run_s: i64,
        pub(crate) rotate_keys: i64,
        pub(crate) created_at_ms: i64,
        pub(crate) revision: i64,
    }
}

/// `$1` the name, or empty for all; `$2` the name past which to start; `$3` how many.
pub(super) const SELECT_PRODUCTS: &str = "SELECT name, chip, layout_name, layout_csv, strategy, slots, silence_deadline_s, \
         quarantine_after, enrollment_approval, default_plan, chip_revision, min_run_s, rotate_keys, created_at_ms, \
         revision \
     FROM products WHERE ($1 = '' OR name = $1) AND name > $2 ORDER BY name LIMIT $3";

/// Takes a product for a change, at the beginning of a transaction: nobody else changes it until that ends. The row is
/// as it was, but for the revision, which is the new one. Ending the transaction without a commit gives it back.
pub(super) async fn take(
    connection: &mut AnyConnection,
    name: &str,
    if_match: &IfMatch,
) -> Result<Changed<ProductRow>, StoreError> {
    let taken = sqlx::query(
        "UPDATE products SET revision = revision + 1, generation = generation + 1 WHERE name = $1",
    )
    .bind(name)
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() == 0 {
        return Ok(Changed::Not(Unchanged::NotFound));
    }
    let row: ProductRow =
        sqlx::query_as(SELECT_PRODUCTS).bind(name).bind("").bind(1_i64).fetch_one(connection).await?;
    let revision = row.revision - 1;
    Ok(match if_match.allows(revision) {
        true => Changed::Done(row),
        false => Changed::Not(Unchanged::Stale { revision }),
    })
}

/// What is in memory of a product is old from the commit on.
pub(super) async fn bump_generation(connection: &mut AnyConnection, product: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE products SET generation = generation + 1 WHERE name = $1")
        .bind(product)
        .execute(connection)
        .await?;
    Ok(())
}
