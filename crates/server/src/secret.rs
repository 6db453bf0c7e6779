//! Random tokens. They are shown once; what is stored is their SHA-256.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use manifest::Digest;
use rand::RngCore as _;
use rand::rngs::OsRng;
use subtle::ConstantTimeEq as _;

/// Random bytes of a token: 192 bits, so that a plain hash of it is safe to store.
const TOKEN_BYTES: usize = 24;

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// A new token: 32 characters of base64url, of which the first is no `-`: a command line would take the token for an option.
pub(crate) fn new_token() -> String {
    loop {
        let token = BASE64_URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>());
        if !token.starts_with('-') {
            return token;
        }
    }
}

/// The id of a new API token, which is no secret.
pub(crate) fn new_token_id() -> String {
    format!("tok-{}", hex::encode(random::<6>()))
}

/// What is stored of a token: its SHA-256 in hexadecimal.
pub(crate) fn hash(token: &str) -> String {
    Digest::of(token.as_bytes()).to_string()
}

/// Whether a token has this hash, in a time that does not depend on where they differ.
pub(crate) fn matches(token: &str, stored_hash: &str) -> bool {
    hash(token).as_bytes().ct_eq(stored_hash.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_looks_like_an_option() {
        for _ in 0..2000 {
            let token = new_token();
            assert!(!token.starts_with('-'), "{token}");
        }
    }

    #[test]
    fn a_token_matches_its_own_hash_only() {
        let (one, other) = (new_token(), new_token());
        assert_eq!(one.len(), 32);
        assert!(matches(&one, &hash(&one)));
        assert!(!matches(&one, &hash(&other)));
        assert!(!matches(&one, ""));
    }
}
