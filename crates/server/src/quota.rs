//! How much artifacts of one product may take: a publisher's token that got into other hands fills no disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;

use crate::problem::{Problem, Refused};

/// Bytes of uploads that are under way on this instance, by product. They count before they are stored, so that many at
/// once do not pass together where one would not.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Arc<Mutex<HashMap<String, u64>>>);

/// The bytes of one upload, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    uploads: Arc<Mutex<HashMap<String, u64>>>,
    product: String,
    bytes: u64,
    /// Bytes of uploads of the product that were under way before this one.
    others: u64,
}

/// Why an artifact is not taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected {needed_bytes} bytes within the quota of {quota_bytes} for {}, found {stored_bytes} stored; raise \
     artifact-quota-mib of the server",
    if .product.is_empty() { "artifacts of no product".to_owned() } else { format!("product {product}") }
)]
pub(crate) struct OverQuota {
    /// Empty for artifacts of no product.
    pub(crate) product: String,
    pub(crate) quota_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) needed_bytes: u64,
}

impl From<OverQuota> for Problem {
    fn from(over: OverQuota) -> Self {
        let (status, kind, title) = (StatusCode::CONFLICT, "quota", "The quota is used up");
        Self::Refused(Refused { status, kind, title, detail: over.to_string() })
    }
}

impl Uploads {
    /// Counts an upload of so many bytes as under way.
    pub(crate) fn reserve(&self, product: &str, bytes: u64) -> Reserved {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = under_way.entry(product.to_owned()).or_default();
        let others = *taken;
        *taken = taken.saturating_add(bytes);
        Reserved { uploads: Arc::clone(&self.0), product: product.to_owned(), bytes, others }
    }
}

impl Reserved {
    /// Whether it has room beside `stored_bytes`, which were asked for after it was reserved: whatever was stored in between
    /// counts in one place or in both, and never in none.
    pub(crate) fn check(&self, stored_bytes: u64, quota_bytes: u64) -> Result<(), OverQuota> {
        let needed_bytes = self.bytes;
        if stored_bytes.saturating_add(self.others).saturating_add(needed_bytes) <= quota_bytes {
            return Ok(());
        }
        Err(OverQuota { product: self.product.clone(), quota_bytes, stored_bytes, needed_bytes })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut under_way = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = under_way.get_mut(&self.product) {
            *taken = taken.saturating_sub(self.bytes);
            if *taken == 0 {
                under_way.remove(&self.product);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_counts_until_it_ends() {
        let uploads = Uploads::default();
        let first = uploads.reserve("lamp", 40);
        first.check(20, 100).unwrap();
        let second = uploads.reserve("lamp", 40);
        second.check(20, 100).unwrap();
        uploads.reserve("lamp", 1).check(20, 100).unwrap_err();
        uploads.reserve("fan", 100).check(0, 100).unwrap();
        drop(first);
        let third = uploads.reserve("lamp", 40);
        third.check(20, 100).unwrap();
        // The first was stored before the third asked: it counts.
        third.check(60, 100).unwrap_err();
        drop((second, third));
        assert_eq!(uploads.0.lock().unwrap().get("lamp"), None);
    }
}
