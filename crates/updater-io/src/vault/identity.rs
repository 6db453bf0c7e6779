//! Key and certificate, of which the vault holds two of each: whichever power cut comes between their writes, one key and a
//! certificate for it are whole.

use alloc::vec::Vec;

use embedded_storage::nor_flash::NorFlash;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{Vault, VaultError, accept, certificates, concatenate, key, unless_flash_fails};
use crate::pki;

pub(super) type Key = Zeroizing<Vec<u8>>;
pub(super) type Chain = Vec<CertificateDer<'static>>;

/// What two copies of an item hold, the one that is preferred before the other.
type Copies<T> = [Result<Option<T>, VaultError>; 2];

/// What the vault holds of the device's identity.
pub(super) struct Found {
    pub(super) key: Result<Option<Key>, VaultError>,
    pub(super) chain: Result<Option<Chain>, VaultError>,
    pub(super) is_half_saved: bool,
}

impl<F: NorFlash> Vault<'_, F> {
    /// Reads key and chain. Any key that can be read goes with any chain that is for it, the copies that are written first
    /// before the others; the others first while something is damaged. What a power cut left between 0 and 1 may read as
    /// whole now and not at the next start, and the server takes the old certificate until it has seen the new one. Without
    /// two that belong together, what can be read of each.
    pub(super) fn identity(&mut self) -> Result<Found, VaultError> {
        let mut keys = [self.read_key(key::KEY_COPY)?, self.read_key(key::KEY)?];
        let mut chains = [self.read_chain(key::CHAIN_COPY)?, self.read_chain(key::CHAIN)?];
        if self.damage() != 0 {
            keys.reverse();
            chains.reverse();
        }
        let is_half_saved = differ(&keys) || differ(&chains);
        let damaged = keys.iter().find_map(error).or_else(|| chains.iter().find_map(error));
        let pair = chains.iter().flatten().flatten().find_map(|chain| {
            let is_for = |key: &&Key| is_for(chain, key);
            Some((keys.iter().flatten().flatten().find(is_for)?.clone(), chain.clone()))
        });
        Ok(match pair {
            Some((key, chain)) => Found { key: Ok(Some(key)), chain: Ok(Some(chain)), is_half_saved },
            // The two that belong together may be among what cannot be read.
            None => {
                Found { key: first(keys), chain: damaged.map_or_else(|| first(chains), Err), is_half_saved }
            }
        })
    }

    /// Saves key and chain, the device's own certificate first: the second copies, and when they are whole the first ones.
    /// Before that the first copies are made to hold what is there now, where power was lost or one of them cannot be read.
    ///
    /// # Errors
    /// [`VaultError`]
    pub fn set_identity(&mut self, pkcs8: &[u8], chain: &[CertificateDer<'_>]) -> Result<(), VaultError> {
        let chain = concatenate(chain);
        if let Found { key: Ok(Some(key)), chain: Ok(Some(chain)), .. } = self.identity()?
            && is_for(&chain, &key)
        {
            self.0.set_blob(key::KEY, &key)?;
            self.0.set_blob(key::CHAIN, &concatenate(&chain))?;
        }
        self.0.set_blob(key::KEY_COPY, pkcs8)?;
        self.0.set_blob(key::CHAIN_COPY, &chain)?;
        self.0.set_blob(key::KEY, pkcs8)?;
        self.0.set_blob(key::CHAIN, &chain)
    }

    fn read_key(&mut self, key: &'static str) -> Result<Result<Option<Key>, VaultError>, VaultError> {
        unless_flash_fails(self.0.blob(key).map(|der| der.map(Zeroizing::new)))
    }

    fn read_chain(&mut self, key: &'static str) -> Result<Result<Option<Chain>, VaultError>, VaultError> {
        let chain = |der: Vec<u8>| accept(key, der, |der| certificates(&der));
        unless_flash_fails(self.0.blob(key).and_then(|der| der.map(chain).transpose()))
    }
}

/// Whether a certificate is for a key, by what the key says of itself.
fn is_for(chain: &Chain, key: &Key) -> bool {
    let leaf = chain.first().and_then(|leaf| pki::leaf_facts(leaf).ok());
    leaf.is_some_and(|leaf| pki::names(key, leaf.public_key))
}

fn differ<T: PartialEq>(copies: &Copies<T>) -> bool {
    matches!(copies, [Ok(Some(one)), Ok(Some(other))] if one != other)
}

fn error<T>(copy: &Result<Option<T>, VaultError>) -> Option<VaultError> {
    copy.as_ref().err().copied()
}

/// The first that can be read; where none can, why.
fn first<T>(copies: Copies<T>) -> Result<Option<T>, VaultError> {
    let [one, other] = copies;
    match (one, other) {
        (Ok(Some(found)), _) | (Err(_) | Ok(None), Ok(Some(found))) => Ok(Some(found)),
        (Err(error), _) | (Ok(None), Err(error)) => Err(error),
        (Ok(None), Ok(None)) => Ok(None),
    }
}
