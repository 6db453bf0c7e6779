//! Revocation lists on the device listener, without a client certificate.

use axum::extract::State;
use axum::response::Response;

use crate::crl::RevocationLists;
use crate::refusal::Refusal;

pub(super) async fn der(State(crl): State<RevocationLists>) -> Result<Response, Refusal> {
    Ok(crl.get().await?.der())
}

pub(super) async fn pem(State(crl): State<RevocationLists>) -> Result<Response, Refusal> {
    Ok(crl.get().await?.pem())
}
