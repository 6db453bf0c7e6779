//! Revocation lists on the admin listener, without a token.

use axum::extract::State;
use axum::response::Response;

use crate::crl::RevocationLists;
use crate::problem::Problem;

pub(super) async fn der(State(crl): State<RevocationLists>) -> Result<Response, Problem> {
    Ok(crl.get().await?.der())
}

pub(super) async fn pem(State(crl): State<RevocationLists>) -> Result<Response, Problem> {
    Ok(crl.get().await?.pem())
}
