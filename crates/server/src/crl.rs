//! Certificate revocation lists (RFC 5280 section 5), for whoever trusts a device's certificate besides this server.
//!
//! The server itself asks the database at every request. A list has the certificates of revoked devices that have not
//! ended; one that was merely replaced by the next is not in it. One of a suspended device says certificateHold, and is gone
//! from the next list when the device is resumed: removeFromCRL is for delta lists alone (RFC 5280 section 5.3.1).

use std::sync::Arc;
use std::time::Instant;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::authorities::Authorities;
use crate::ca_keeper::CaKeeper;
use crate::clock::Clock;
use crate::failing::{Failing, Fails};
use crate::store::{Revoked, Store, StoreError};

/// Where the newest CA's list is, on both listeners, in DER.
pub(crate) const DER_PATH: &str = "/.well-known/pitstop/crl.der";

/// Where the lists of all CAs in force are, PEM after PEM.
pub(crate) const PEM_PATH: &str = "/.well-known/pitstop/crl.pem";

/// A list says of itself that there is a newer one after this. It is made anew when half of that is over.
const LIFE: Duration = Duration::days(7);

/// The database is asked no more often for what is revoked.
const FRESH: std::time::Duration = std::time::Duration::from_secs(1);

/// The lists of what is revoked.
#[derive(Clone)]
pub(crate) struct RevocationLists {
    store: Store,
    ca: Arc<CaKeeper>,
    clock: Clock,
    /// As they were made last.
    made: Arc<Mutex<Option<Made>>>,
}

struct Made {
    lists: Lists,
    /// Of each CA its fingerprint and what was revoked.
    contents: Vec<(String, Vec<Revoked>)>,
    made: OffsetDateTime,
    checked: Instant,
}

/// What is served.
#[derive(Clone)]
pub(crate) struct Lists {
    der: Arc<[u8]>,
    pem: Arc<str>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CrlError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("could not make a revocation list: {0}")]
    Make(#[from] rcgen::Error),
}

impl Fails for CrlError {
    fn failing(&self) -> Failing {
        match self {
            Self::Store(error) => error.failing(),
            Self::Make(_) => Failing::Request,
        }
    }
}

impl RevocationLists {
    pub(crate) fn new(store: Store, ca: Arc<CaKeeper>, clock: Clock) -> Self {
        Self { store, ca, clock, made: Arc::default() }
    }

    /// Makes lists when something was revoked since, when other CAs are in force, or when it is time.
    pub(crate) async fn get(&self) -> Result<Lists, CrlError> {
        let now = self.clock.now_utc();
        let mut made = self.made.lock().await;
        if let Some(made) = made.as_ref().filter(|made| made.checked.elapsed() < FRESH) {
            return Ok(made.lists.clone());
        }
        let authorities = self.ca.get();
        let mut contents = Vec::new();
        for ca in authorities.all() {
            let (this, first) = (ca.fingerprint(), &authorities.in_force.ca);
            let revoked = self.store.revoked(this, first, self.clock.now_ms()).await?;
            contents.push((ca.fingerprint().to_owned(), revoked));
        }
        if let Some(made) =
            made.as_mut().filter(|made| made.contents == contents && (now - made.made).abs() < LIFE / 2)
        {
            made.checked = Instant::now();
            return Ok(made.lists.clone());
        }
        let lists = make(&authorities, &contents, now)?;
        *made = Some(Made { lists: lists.clone(), contents, made: now, checked: Instant::now() });
        Ok(lists)
    }
}

fn make(
    authorities: &Authorities,
    contents: &[(String, Vec<Revoked>)],
    now: OffsetDateTime,
) -> Result<Lists, CrlError> {
    let (mut der, mut pem) = (Vec::new(), String::new());
    for (ca, (_, revoked)) in authorities.all().zip(contents) {
        let list = ca.issue_crl(revoked, now, LIFE)?;
        pem.push_str(&list.pem()?);
        der = list.der().to_vec();
    }
    Ok(Lists { der: der.into(), pem: pem.into() })
}

impl Lists {
    /// The newest CA's, in DER.
    pub(crate) fn der(&self) -> Response {
        // RFC 2585 section 4.2.
        ([(header::CONTENT_TYPE, "application/pkix-crl")], self.der.to_vec()).into_response()
    }

    /// All of them, PEM after PEM.
    pub(crate) fn pem(&self) -> Response {
        ([(header::CONTENT_TYPE, "application/x-pem-file")], self.pem.to_string()).into_response()
    }
}
