//! Which releases are archived: asked by archiving itself, by publishing and by rollouts.

use std::collections::BTreeSet;

use sqlx::AnyConnection;

use super::StoreError;

/// Which of these releases of a product are archived, in their order.
pub(super) async fn archived(
    connection: &mut AnyConnection,
    product: &str,
    sequences: &BTreeSet<i64>,
) -> Result<Vec<i64>, StoreError> {
    let mut archived = Vec::new();
    for sequence in sequences {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT sequence FROM releases \
             WHERE product = $1 AND sequence = $2 AND archived_at_ms IS NOT NULL",
        )
        .bind(product)
        .bind(*sequence)
        .fetch_optional(&mut *connection)
        .await?;
        archived.extend(found);
    }
    Ok(archived)
}
