//! How much artifacts of one product may take: a publisher's token that got into other hands fills no disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes of uploads that are under way on this instance, by product. They count before they are stored, so that many at
/// once do not pass together where one would not.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, u64>>);

/// The bytes of one upload, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    uploads: &'a Uploads,
    product: &'a str,
    bytes: u64,
}

impl Uploads {
    /// Takes `bytes` out of what `quota_bytes` leaves beside `stored_bytes` and uploads under way; `None` when that is less.
    pub(crate) fn reserve<'a>(
        &'a self,
        product: &'a str,
        bytes: u64,
        stored_bytes: u64,
        quota_bytes: u64,
    ) -> Option<Reserved<'a>> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = under_way.get(product).copied().unwrap_or_default();
        if stored_bytes.saturating_add(taken).saturating_add(bytes) > quota_bytes {
            return None;
        }
        under_way.insert(product.to_owned(), taken + bytes);
        Some(Reserved { uploads: self, product, bytes })
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut under_way = self.uploads.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = under_way.get_mut(self.product) {
            *taken -= self.bytes;
            if *taken == 0 {
                under_way.remove(self.product);
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
        let first = uploads.reserve("lamp", 40, 20, 100).unwrap();
        let second = uploads.reserve("lamp", 40, 20, 100).unwrap();
        assert!(uploads.reserve("lamp", 1, 20, 100).is_none());
        assert!(uploads.reserve("fan", 100, 0, 100).is_some(), "each product for itself");
        drop(first);
        let third = uploads.reserve("lamp", 40, 20, 100).unwrap();
        drop((second, third));
        assert_eq!(uploads.0.lock().unwrap().get("lamp"), None);
    }
}
