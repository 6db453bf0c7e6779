//! What is taken away or put away.

use api::access::ApiToken;
use api::artifact::{Artifact, ListParams};
use api::device::Device;
use api::page::Page;
use api::product::Product;
use api::release::Release;

use super::{Client, ClientError};

/// More artifacts than any server has.
const MOST_ARTIFACTS: usize = 1_000_000;

impl Client {
    /// Deletes a device that is new or revoked.
    pub(crate) fn delete_device(&self, id: &str) -> Result<Device, ClientError> {
        self.delete(&format!("/devices/{id}"))
    }

    /// Deletes a product without devices and releases.
    pub(crate) fn delete_product(&self, name: &str) -> Result<Product, ClientError> {
        self.delete(&format!("/products/{name}"))
    }

    /// Deletes an API token that is good no longer.
    pub(crate) fn delete_token(&self, id: &str) -> Result<ApiToken, ClientError> {
        self.delete(&format!("/tokens/{id}"))
    }

    /// Archives a release, or takes it out of the archive (`unarchive`).
    pub(crate) fn put_release(
        &self,
        product: &str,
        sequence: i64,
        action: &str,
    ) -> Result<Release, ClientError> {
        self.post(&format!("/products/{product}/releases/{sequence}/{action}"), &serde_json::Map::new())
    }

    /// The first `limit` artifacts, of one product or of all.
    pub(crate) fn artifacts(
        &self,
        product: Option<&str>,
        unused: bool,
        limit: usize,
    ) -> Result<Page<Artifact>, ClientError> {
        let product = product.unwrap_or_default().to_owned();
        self.list("/artifacts", &ListParams { product, unused }, limit)
    }

    /// All artifacts that no release has.
    pub(crate) fn unused_artifacts(&self, product: Option<&str>) -> Result<Vec<Artifact>, ClientError> {
        self.artifacts(product, true, MOST_ARTIFACTS).map(|page| page.items)
    }

    /// Deletes an artifact that no release has.
    pub(crate) fn delete_artifact(&self, digest: &str) -> Result<Artifact, ClientError> {
        self.delete(&format!("/artifacts/{digest}"))
    }
}
