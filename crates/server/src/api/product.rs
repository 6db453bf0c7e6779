//! The product that a request names: one that the caller sees.

use super::auth::Caller;
use crate::app::People;
use crate::problem::Problem;
use crate::store::ProductRow;

/// The product of this name.
pub(super) async fn find(people: &People, caller: &Caller, name: String) -> Result<ProductRow, Problem> {
    let row = people.store.product(&name).await?.filter(|row| caller.sees(&row.name));
    row.ok_or(Problem::NotFound { kind: "product", name })
}

/// Refuses the filter of a list that names a product which is not there for the caller; an empty name is none.
pub(super) async fn require(people: &People, caller: &Caller, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Ok(());
    }
    find(people, caller, name.to_owned()).await.map(drop)
}
