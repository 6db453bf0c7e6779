//! TLS servers that a device must refuse, each wrong in one thing, and the right ones that show what a trap is: the
//! same server without the one fault is accepted.
//!
//! A trap records what a client did. A client that falls into it has sent its request to the wrong server.

mod by_hand;
mod rustls_server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use manifest::{KeyError, PublisherKeys};
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use rand::rngs::OsRng;
use rustls::AlertDescription;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use updater_io::country::CountryCode;
use updater_io::flash::FlashFault;
use updater_io::map::Map;
use updater_io::tls;
use updater_io::vault::{Provisioning, ServerUrl, ServerUrlError, Vault, VaultError, provision};
use zeroize::Zeroizing;

use crate::SimFlash;
use crate::pki::{Identity, PkiError, ServerLeaf, TestCa, Validity};
use crate::service::Service;
use by_hand::{HandmadeServer, Proof};
use rustls_server::{Pieces, RustlsServer};

/// What every client of a trap is to take for the time: 2060-01-01, in seconds since 1970-01-01 UTC. It is far from
/// the host's own time, so that a client that looks at another clock than its time floor is found out.
pub const TIME_FLOOR_S: u32 = 2_840_140_800;

/// Over at the time floor, and still good by the clock on the wall.
const OVER: Validity = Validity { not_before: (2024, 1, 1), not_after: (2050, 1, 1) };

/// What a client reads from a right server, whatever it asks for.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Name of the CA that the client of a trap trusts.
const CA: &str = "Pitstop trap CA";

/// Who the client of a trap is, as far as its own certificate and vault say.
const DEVICE: &str = "trapped-device";

/// A TLS 1.3 server with P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsTrap {
    /// No trap: the right certificate, and rustls behind it. It wants a certificate of the client.
    Good,
    /// The same, with its handshake in the smallest records, and these a few bytes at a time.
    Fragmented,
    /// No trap: the hand-written server, complete. It asks for no certificate of the client.
    ByHand,
    /// A certificate of the trusted CA for another host.
    WrongName,
    /// A certificate of another CA.
    UnknownCa,
    /// A certificate of another CA that calls itself like the trusted one.
    CaOfSameName,
    /// A certificate of the trusted CA with the right name, for clients only.
    ClientCertificate,
    /// A certificate that a device issued with its own, as if that were a CA's.
    DeviceAsCa,
    /// A certificate that is over at the time floor.
    Expired,
    /// A certificate that is not valid yet at the time floor.
    NotYetValid,
    /// The right certificate, and the signature of another key (RFC 8446 section 4.4.3).
    ForeignSignature,
    /// The right certificate, and no CertificateVerify.
    NoSignature,
    /// Neither Certificate nor CertificateVerify, as in a resumed session, which this is not.
    NoCertificate,
}

impl TlsTrap {
    /// All of them, the right servers first.
    pub const ALL: [Self; 13] = [
        Self::Good,
        Self::Fragmented,
        Self::ByHand,
        Self::WrongName,
        Self::UnknownCa,
        Self::CaOfSameName,
        Self::ClientCertificate,
        Self::DeviceAsCa,
        Self::Expired,
        Self::NotYetValid,
        Self::ForeignSignature,
        Self::NoSignature,
        Self::NoCertificate,
    ];

    /// Starts it on a free port of 127.0.0.1. `host` is how clients call it: a DNS name or an IP address.
    ///
    /// # Errors
    /// [`TrapError`].
    pub async fn start(self, host: &str) -> Result<RunningTrap, TrapError> {
        let ca = TestCa::new(CA)?;
        let device = ca.device(DEVICE, Validity::GOOD)?;
        let server = Arc::new(self.server(host, &ca, &device)?);
        let (sender, observations) = mpsc::unbounded_channel();
        let service = Service::start(move |stream| {
            let (server, sender) = (Arc::clone(&server), sender.clone());
            async move {
                // Fails only when nobody is interested any more.
                let _ = sender.send(server.serve(stream).await);
            }
        });
        Ok(RunningTrap {
            service: service.await?,
            observations,
            host: host.to_owned(),
            anchor: ca.certificate_der().to_vec().into(),
            device: tls::Identity {
                chain: vec![device.certificate_der.clone().into()],
                key_pkcs8: Zeroizing::new(private_key(&device)?.secret_der().to_vec()),
            },
        })
    }

    fn server(self, host: &str, ca: &TestCa, device: &Identity) -> Result<Server, TrapError> {
        let good = ServerLeaf { names: vec![host.to_owned()], ..ServerLeaf::good() };
        let rustls = |identity: Identity, pieces| {
            RustlsServer::new(&identity, ca.certificate_der(), pieces).map(Server::Rustls)
        };
        let by_hand = |identity: Identity, proof| HandmadeServer::new(&identity, proof).map(Server::ByHand);
        match self {
            Self::Good => rustls(ca.server(&good)?, Pieces::Whole),
            Self::Fragmented => rustls(ca.server(&good)?, Pieces::Tiny),
            Self::ByHand => by_hand(ca.server(&good)?, Proof::Complete),
            Self::WrongName => rustls(ca.server(&ServerLeaf::wrong_name())?, Pieces::Whole),
            Self::UnknownCa => rustls(TestCa::new("Another CA")?.server(&good)?, Pieces::Whole),
            Self::CaOfSameName => rustls(TestCa::new(CA)?.server(&good)?, Pieces::Whole),
            Self::ClientCertificate => {
                let leaf = ServerLeaf { names: good.names, ..ServerLeaf::client_only() };
                rustls(ca.server(&leaf)?, Pieces::Whole)
            }
            Self::DeviceAsCa => rustls(TestCa::usurped(device)?.server(&good)?, Pieces::Whole),
            Self::Expired => rustls(ca.server(&ServerLeaf { validity: OVER, ..good })?, Pieces::Whole),
            Self::NotYetValid => {
                rustls(ca.server(&ServerLeaf { validity: Validity::NOT_YET, ..good })?, Pieces::Whole)
            }
            Self::ForeignSignature => {
                let key_pem = ca.server(&good)?.key_pem;
                by_hand(Identity { key_pem, ..ca.server(&good)? }, Proof::Complete)
            }
            Self::NoSignature => by_hand(ca.server(&good)?, Proof::CertificateAlone),
            Self::NoCertificate => by_hand(ca.server(&good)?, Proof::Nothing),
        }
    }
}

/// What a client did on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It gave the handshake up with this alert (RFC 8446 section 6.2).
    Refused {
        /// Why.
        alert: AlertDescription,
    },
    /// The handshake came to no end: the connection was lost, or the client's bytes make no sense.
    Broken {
        /// What happened.
        why: String,
    },
    /// It completed the handshake. It has fallen into the trap, if this is one.
    Trusted {
        /// The certificate it showed, DER.
        client_certificate: Option<Vec<u8>>,
        /// The first application data it sent; empty when it sent none.
        received: Vec<u8>,
    },
}

/// A certificate, a key, a name, or the loopback interface that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrapError {
    /// No certificate for this name.
    #[error("no certificates for the trap; give a DNS name or an IP address")]
    Pki(#[from] PkiError),
    /// A certificate or key is not what it should be.
    #[error("the trap's certificate or key cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The hand-written server wants P-256.
    #[error("expected a P-256 key in PKCS#8, found another")]
    Key(#[from] p256::pkcs8::Error),
    /// rustls refuses certificate or key.
    #[error("the trap's certificate or key cannot be used")]
    Tls(#[from] rustls::Error),
    /// rustls refuses the CA of the clients.
    #[error("the CA of the trap's clients cannot be used")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// The name is none that a device can be sent to.
    #[error("a device cannot be sent to this host; give a DNS name or an IP address")]
    Host(#[from] ServerUrlError),
    /// No key that anybody forgets is like this.
    #[error("a publisher key could not be made")]
    Publisher(#[from] KeyError),
    /// The flash has no partition table.
    #[error("the flash of the trap's client cannot be read")]
    Flash(#[from] FlashFault),
    /// The partition table has no vault.
    #[error("expected a partition `vault` in the flash of the trap's client, found none")]
    NoVault,
    /// The vault would not take it.
    #[error("the vault of the trap's client cannot be made")]
    Vault(#[from] VaultError),
    /// No port could be bound.
    #[error("no port could be bound on 127.0.0.1")]
    Io(#[from] io::Error),
}

/// A running trap. Dropping it closes all connections.
#[derive(Debug)]
pub struct RunningTrap {
    service: Service,
    observations: UnboundedReceiver<Observation>,
    host: String,
    anchor: CertificateDer<'static>,
    device: tls::Identity,
}

impl RunningTrap {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// The CA that its clients trust.
    pub fn anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// A device's certificate and key, issued by that CA.
    pub fn device(&self) -> &tls::Identity {
        &self.device
    }

    /// Writes a new vault into a flash: that of an enrolled device that is sent to the trap, with the CA, the device's
    /// certificate and key, and [`TIME_FLOOR_S`]. Nobody can sign a release for it.
    ///
    /// # Errors
    /// [`TrapError::Flash`], [`TrapError::NoVault`], [`TrapError::Host`], [`TrapError::Vault`].
    pub fn provision(&self, flash: &mut SimFlash) -> Result<(), TrapError> {
        let region = Map::read(flash)?.vault.ok_or(TrapError::NoVault)?;
        let server = ServerUrl::parse(&format!("https://{}:{}", self.host, self.address().port()))?;
        let forgotten_key = EphemeralSecret::random(&mut OsRng).public_key().to_encoded_point(true);
        let provisioning = Provisioning {
            device_id: DEVICE,
            product: "trap",
            server: &server,
            token: None,
            anchors: std::slice::from_ref(&self.anchor),
            publishers: &PublisherKeys::from_bytes(forgotten_key.as_bytes())?,
            wifi: &[],
            country: CountryCode::WORLD,
            time_floor_s: Some(TIME_FLOOR_S),
        };
        provision(flash, region, &provisioning)?;
        let mut vault = Vault::open(flash, region)?;
        vault.set_identity(&self.device.key_pkcs8, &self.device.chain)?;
        Ok(())
    }

    /// Waits for the end of the next connection, and tells what the client did on it. Ends with nothing but the trap
    /// itself. Cancel-safe.
    pub async fn observe(&mut self) -> Option<Observation> {
        self.observations.recv().await
    }
}

/// What a trap is made of.
enum Server {
    Rustls(RustlsServer),
    ByHand(HandmadeServer),
}

impl Server {
    async fn serve(&self, stream: TcpStream) -> Observation {
        match self {
            Self::Rustls(server) => server.serve(stream).await,
            Self::ByHand(server) => server.serve(stream).await,
        }
    }
}

fn chain(identity: &Identity) -> Result<Vec<CertificateDer<'static>>, TrapError> {
    Ok(CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect::<Result<_, _>>()?)
}

fn private_key(identity: &Identity) -> Result<PrivateKeyDer<'static>, TrapError> {
    Ok(PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?)
}
