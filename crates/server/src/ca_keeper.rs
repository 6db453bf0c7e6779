//! The CAs in force, kept in step with the database.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use wire::AnchorsDigest;

use crate::authorities::Authorities;
use crate::ca::CertificateAuthority;
use crate::clock::EARLIEST;
use crate::config::Config;
use crate::error::StartError;
use crate::store::{InForce, Store};
use crate::tls::{self, ServerConfigs};

/// A certificate that was issued later than this from now was issued by a clock that was wrong.
const AHEAD: Duration = Duration::days(366);

/// The CAs in force, kept in step with the database, and the TLS configuration that follows from them.
pub(crate) struct CaKeeper {
    dir: PathBuf,
    tls_dir: PathBuf,
    /// The CAs, and whether they are what the database says: when those cannot be read, the ones of before are used
    /// on, but not announced.
    current: RwLock<(Arc<Authorities>, bool)>,
    tls: watch::Sender<Arc<ServerConfigs>>,
    /// When the newest certificate of a device was issued, in seconds since 1970.
    newest_s: AtomicI64,
    config: Config,
}

impl CaKeeper {
    /// Reads what the database says, or makes the first CA.
    pub(crate) async fn open(
        store: &Store,
        config: &Config,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        let (dir, tls_dir) = (config.data_dir.join("ca"), config.data_dir.join("tls"));
        let in_force = match store.ca_in_force().await? {
            Some(in_force) => in_force,
            // A CA that nobody trusts is not made when another one is recorded.
            None => {
                let found = CertificateAuthority::open(&dir, now)?.fingerprint().to_owned();
                let ca = store.record_ca(&found).await?;
                InForce { ca, rollover: None }
            }
        };
        let authorities = Arc::new(Authorities::read(&dir, in_force)?);
        let tls = tls::server_configs(&tls_dir, &authorities, config, now)?;
        Ok(Self {
            dir,
            tls_dir,
            current: RwLock::new((authorities, true)),
            tls: watch::Sender::new(tls),
            newest_s: AtomicI64::new(store.newest_certificate_ms(latest_ms(now)).await? / 1000),
            config: config.clone(),
        })
    }

    /// The CAs in force.
    pub(crate) fn get(&self) -> Arc<Authorities> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The latest time at which a certificate was issued, of those before and now. A clock that starts in the past, for
    /// want of a battery, would issue certificates that have ended once it is right, and lock their devices out.
    ///
    /// A time more than [`AHEAD`] of a clock that may be right was told by one that was wrong, and is forgotten.
    pub(crate) fn newest(&self, now: OffsetDateTime) -> OffsetDateTime {
        let now_s = now.unix_timestamp();
        let is_wrong = |newest_s: i64| now >= EARLIEST && newest_s - now_s > AHEAD.whole_seconds();
        let later = |newest_s: i64| if is_wrong(newest_s) { now_s } else { newest_s.max(now_s) };
        let newest_s = self.newest_s.fetch_update(Ordering::AcqRel, Ordering::Acquire, |s| Some(later(s)));
        let newest_s = later(newest_s.unwrap_or(now_s));
        OffsetDateTime::from_unix_timestamp(newest_s).unwrap_or(now)
    }

    /// What decisions announce as trust anchors.
    pub(crate) fn announced(&self) -> Option<AnchorsDigest> {
        let (authorities, is_fresh) = &*self.current.read().unwrap_or_else(PoisonError::into_inner);
        authorities.announced().filter(|_| *is_fresh)
    }

    /// The TLS configuration for connections from now on.
    pub(crate) fn tls(&self) -> watch::Receiver<Arc<ServerConfigs>> {
        self.tls.subscribe()
    }

    /// Makes the CA that is to follow; it is in force once the database says so. It is valid from the same moment as the
    /// present one: devices have no clock but a time floor, which may be older than the new CA.
    pub(crate) fn make_next(&self, now: OffsetDateTime) -> Result<String, StartError> {
        let not_before = self.get().for_devices().not_before();
        Ok(CertificateAuthority::make_next(&self.dir, not_before, now)?.fingerprint().to_owned())
    }

    /// Takes over what the database says, when it is something else or when the server's certificate has to be issued
    /// anew. Asked for after a change here, and now and then because another instance may have made one.
    pub(crate) async fn refresh(&self, store: &Store, now: OffsetDateTime) -> Result<(), StartError> {
        let current = self.get();
        let read = match store.ca_in_force().await? {
            Some(in_force) if in_force != current.in_force => Authorities::read(&self.dir, in_force),
            Some(_) | None => return self.renew_server_certificate(&current, now),
        };
        let taken_over = read.and_then(|authorities| {
            let authorities = Arc::new(authorities);
            let config = tls::server_configs(&self.tls_dir, &authorities, &self.config, now)?;
            Ok((authorities, config))
        });
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match taken_over {
            Ok((authorities, config)) => {
                *current = (authorities, true);
                self.tls.send_replace(config);
                Ok(())
            }
            Err(error) => {
                current.1 = false;
                Err(error)
            }
        }
    }

    /// When the server's own certificate ends.
    pub(crate) fn server_not_after(&self) -> OffsetDateTime {
        self.tls.borrow().not_after()
    }

    fn renew_server_certificate(&self, current: &Authorities, now: OffsetDateTime) -> Result<(), StartError> {
        if !tls::is_due(&self.tls_dir, current, &self.config, now)? {
            return Ok(());
        }
        let config = tls::server_configs(&self.tls_dir, current, &self.config, now)?;
        self.tls.send_replace(config);
        Ok(())
    }
}

/// The latest time, in milliseconds since 1970, at which certificates can have been issued when it is `now`; any, by a clock
/// that shows a time which has long passed.
fn latest_ms(now: OffsetDateTime) -> i64 {
    if now < EARLIEST { i64::MAX } else { (now + AHEAD).unix_timestamp() * 1000 }
}
