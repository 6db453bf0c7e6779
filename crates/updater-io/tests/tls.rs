//! The TLS client against rustls's own server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{Read, Write};
use proptest::prelude::*;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, CertificateError, RootCertStore, ServerConfig};
use support::pki::{Authority, NOW_S, Subject, params};
use support::run;
use support::stream::{Fault, Script, Tampered};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;
use updater_io::time::FloorClock;
use updater_io::tls::{Identity, TlsError, TlsSession, client_config};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

struct World {
    authority: Authority,
    server: Subject,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("Test CA");
        let server = authority.server();
        Self { authority, server }
    }

    fn server_config(&self) -> ServerConfig {
        server_config(vec![self.server.certificate.clone()], &self.server, None)
    }

    fn client(&self, identity: Option<Identity>) -> Arc<rustls::ClientConfig> {
        client(&self.authority, NOW_S, identity)
    }
}

fn client(authority: &Authority, now_s: u32, identity: Option<Identity>) -> Arc<rustls::ClientConfig> {
    let clock = Arc::new(FloorClock::new(now_s));
    Arc::new(
        client_config(provider(), clock, std::slice::from_ref(&authority.certificate), identity).unwrap(),
    )
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    server: &Subject,
    clients: Option<&Authority>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let mut config = builder.with_single_cert(chain, server.private_key()).unwrap();
    // A client that does not offer it is refused (RFC 7301 section 3.2).
    config.alpn_protocols = vec![wire::SMALL_RECORDS_ALPN.to_vec()];
    config
}

type Pipe = Tampered<FromTokio<DuplexStream>>;

fn pipe(piece_bytes: usize, fault: Fault) -> (Pipe, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (Tampered::new(FromTokio::new(ours), piece_bytes, fault), theirs)
}

/// What the echo server saw: the client's certificate, and whether the end was orderly.
type Seen = Result<Option<CertificateDer<'static>>, std::io::Error>;

/// Sends everything back until the client closes.
async fn echo(config: ServerConfig, stream: DuplexStream) -> Seen {
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let peer = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            bytes => stream.write_all(&buffer[..bytes]).await?,
        }
    }
    stream.shutdown().await?;
    Ok(peer)
}

/// Sends `message` through the session and reads it back.
async fn exchange(session: &mut TlsSession<Pipe>, message: &[u8]) -> Result<Vec<u8>, TlsError> {
    let mut sent_bytes = 0;
    while sent_bytes < message.len() {
        sent_bytes += session.write(&message[sent_bytes..]).await?;
    }
    session.flush().await?;
    let mut received = vec![0; message.len()];
    let mut filled_bytes = 0;
    while filled_bytes < received.len() {
        // Odd pieces, so that records are taken apart.
        let end = (filled_bytes + 777).min(received.len());
        match session.read(&mut received[filled_bytes..end]).await? {
            0 => break,
            bytes => filled_bytes += bytes,
        }
    }
    received.truncate(filled_bytes);
    Ok(received)
}

#[test]
fn bytes_go_both_ways_in_records_and_pieces_of_any_size() {
    let world = World::new();
    let message: Vec<u8> = (0..20_000u32).map(|number| number as u8).collect();
    for record_bytes in [None, Some(2048 + 5), Some(512), Some(100)] {
        for piece_bytes in [1, 7, 1000, usize::MAX] {
            let mut config = world.server_config();
            config.max_fragment_size = record_bytes;
            run(async {
                let (ours, theirs) = pipe(piece_bytes, Fault::None);
                let device = async {
                    let mut session =
                        TlsSession::handshake(ours, world.client(None), localhost()).await.unwrap();
                    let received = exchange(&mut session, &message).await.unwrap();
                    assert!(received == message, "{record_bytes:?} {piece_bytes}");
                    // The pipe stays open until the server is done.
                    session.close().await.unwrap()
                };
                let (seen, _pipe) = tokio::join!(echo(config, theirs), device);
                assert_eq!(seen.expect("the end is orderly"), None);
            });
        }
    }
}

#[test]
fn the_servers_orderly_end_is_no_error() {
    let world = World::new();
    run(async {
        let (ours, theirs) = pipe(usize::MAX, Fault::None);
        let server = async {
            let acceptor = TlsAcceptor::from(Arc::new(world.server_config()));
            let mut stream = acceptor.accept(theirs).await.unwrap();
            stream.write_all(b"bye").await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let device = async {
            let mut session = TlsSession::handshake(ours, world.client(None), localhost()).await.unwrap();
            let mut buffer = [0; 16];
            let mut received = Vec::new();
            loop {
                match session.read(&mut buffer).await.unwrap() {
                    0 => break,
                    bytes => received.extend_from_slice(&buffer[..bytes]),
                }
            }
            assert_eq!(received, b"bye");
            assert_eq!(session.read(&mut buffer).await.unwrap(), 0);
        };
        tokio::join!(server, device);
    });
}

#[test]
fn the_device_shows_its_certificate() {
    let world = World::new();
    let device = world.authority.device();
    let chain = vec![world.server.certificate.clone()];
    run(async {
        let (ours, theirs) = pipe(usize::MAX, Fault::None);
        let config = server_config(chain.clone(), &world.server, Some(&world.authority));
        let client = async {
            let config = world.client(Some(device.identity()));
            let mut session = TlsSession::handshake(ours, config, localhost()).await.unwrap();
            assert_eq!(exchange(&mut session, b"hello").await.unwrap(), b"hello");
            session.close().await.unwrap()
        };
        let (seen, _pipe) = tokio::join!(echo(config, theirs), client);
        assert_eq!(seen.unwrap(), Some(device.certificate.clone()));
    });
    // Without a certificate, or with a stranger's, the server refuses; the device learns it at its first read.
    let stranger = Authority::new("Another CA").device().identity();
    for (identity, expected) in
        [(None, AlertDescription::CertificateRequired), (Some(stranger), AlertDescription::UnknownCA)]
    {
        run(async {
            let (ours, theirs) = pipe(usize::MAX, Fault::None);
            let config = server_config(chain.clone(), &world.server, Some(&world.authority));
            let client = async {
                let mut session =
                    TlsSession::handshake(ours, world.client(identity), localhost()).await.unwrap();
                let error = session.read(&mut [0; 16]).await.unwrap_err();
                assert!(
                    matches!(error, TlsError::RefusedByServer { alert } if alert == expected),
                    "{error:?}"
                );
                assert!(matches!(session.read(&mut [0; 16]).await, Err(TlsError::ConnectionLost { .. })));
                assert!(matches!(session.write(b"x").await, Err(TlsError::ConnectionLost { .. })));
            };
            let (seen, ()) = tokio::join!(echo(config, theirs), client);
            assert!(seen.is_err());
        });
    }
}

/// The error of a handshake with a server that shows `chain`, and whether the server was told why.
fn refusal(
    chain: Vec<CertificateDer<'static>>,
    server: &Subject,
    client: Arc<rustls::ClientConfig>,
) -> TlsError {
    run(async {
        let (ours, theirs) = pipe(usize::MAX, Fault::None);
        let config = server_config(chain, server, None);
        let (seen, refused) =
            tokio::join!(echo(config, theirs), TlsSession::handshake(ours, client, localhost()));
        let told = seen.expect_err("the server sees a failure").to_string();
        assert!(told.contains("alert"), "an alert reaches the server: {told}");
        refused.map(|_| ()).expect_err("the server is refused")
    })
}

#[test]
fn servers_that_are_not_to_be_trusted_are_refused() {
    let world = World::new();
    let authority = &world.authority;
    let server_auth = [ExtendedKeyUsagePurpose::ServerAuth];
    let refused_for = |error: &TlsError, is_expected: fn(&CertificateError) -> bool| {
        let TlsError::ServerRefused(source) = error else {
            panic!("{error:?}");
        };
        let rustls::Error::InvalidCertificate(reason) = &source.0 else {
            panic!("{error:?}");
        };
        assert!(is_expected(reason), "{reason:?}");
    };
    let alone = |subject: Subject, client| refusal(vec![subject.certificate.clone()], &subject, client);

    let other_name = authority.sign(&params("server", &["elsewhere.example"], &server_auth));
    refused_for(&alone(other_name, world.client(None)), |reason| {
        matches!(reason, CertificateError::NotValidForNameContext { .. })
    });

    let stranger = Authority::new("Another CA").server();
    refused_for(&alone(stranger, world.client(None)), |reason| {
        matches!(reason, CertificateError::UnknownIssuer)
    });
    // A CA that calls itself the same.
    let impostor = Authority::new("Test CA").server();
    refused_for(&alone(impostor, world.client(None)), |reason| {
        matches!(reason, CertificateError::UnknownIssuer | CertificateError::BadSignature)
    });

    let client_only =
        authority.sign(&params("device", &["localhost"], &[ExtendedKeyUsagePurpose::ClientAuth]));
    refused_for(&alone(client_only, world.client(None)), |reason| {
        matches!(reason, CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. })
    });

    // A device plays CA with its own certificate.
    let device = authority.device();
    let device_issuer = rcgen::Issuer::new(params("device", &[], &[]), device.key);
    let key = rcgen::KeyPair::generate().unwrap();
    let forged = params("server", &["localhost"], &server_auth).signed_by(&key, &device_issuer).unwrap();
    let forged = Subject { certificate: forged.der().clone(), key };
    let chain = vec![forged.certificate.clone(), device.certificate];
    refused_for(&refusal(chain, &forged, world.client(None)), |reason| {
        matches!(reason, CertificateError::Other(_) | CertificateError::UnknownIssuer)
    });

    // Validity is judged against the floor: 2024 and 2028 for a certificate of 2025 and 2026.
    let server = |from_year| {
        let mut params = params("server", &["localhost"], &server_auth);
        params.not_before = date_time_ymd(from_year, 1, 1);
        authority.sign(&params)
    };
    refused_for(&alone(server(2025), client(authority, 1_704_067_200, None)), |reason| {
        matches!(reason, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
    });
    refused_for(&alone(server(2025), client(authority, 1_830_297_600, None)), |reason| {
        matches!(reason, CertificateError::Expired | CertificateError::ExpiredContext { .. })
    });
}

#[test]
fn a_server_without_tls_1_3_is_refused() {
    let world = World::new();
    run(async {
        let (ours, theirs) = pipe(usize::MAX, Fault::None);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![world.server.certificate.clone()], world.server.private_key())
            .unwrap();
        let (seen, refused) =
            tokio::join!(echo(config, theirs), TlsSession::handshake(ours, world.client(None), localhost()));
        assert!(seen.is_err());
        let error = refused.map(|_| ()).unwrap_err();
        assert!(
            matches!(error, TlsError::RefusedByServer { alert: AlertDescription::ProtocolVersion }),
            "{error:?}"
        );
    });
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let world = World::new();
    let clock = || Arc::new(FloorClock::new(NOW_S));
    let anchors = [world.authority.certificate.clone()];
    let refused = |anchors: &[CertificateDer<'_>], identity| {
        client_config(provider(), clock(), anchors, identity).map(|_| ()).unwrap_err()
    };
    assert!(matches!(refused(&[], None), TlsError::NoAnchors));
    let bad = [anchors[0].clone(), CertificateDer::from(&b"no DER"[..])];
    assert!(matches!(refused(&bad, None), TlsError::BadAnchor { index: 1, .. }));
    let (one, other) = (world.authority.device().identity(), world.authority.device().identity());
    let mixed = Identity { chain: one.chain.clone(), key_pkcs8: other.key_pkcs8 };
    assert!(matches!(refused(&anchors, Some(mixed)), TlsError::BadIdentity(_)));
    let no_key = Identity { chain: one.chain.clone(), key_pkcs8: vec![1, 2, 3].into() };
    assert!(matches!(refused(&anchors, Some(no_key)), TlsError::BadIdentity(_)));
    assert!(!format!("{one:?}").contains("key_pkcs8"));
}

/// Runs a handshake and an exchange over a stream with a fault. The device's result, and how many bytes it read.
fn with_fault(world: &World, piece_bytes: usize, fault: Fault) -> (Result<Vec<u8>, TlsError>, usize) {
    run(async {
        let (mut ours, theirs) = pipe(piece_bytes, fault);
        let mut config = world.server_config();
        config.max_fragment_size = Some(300);
        let device = async {
            let result = async {
                // By reference, so that the count survives.
                let config = world.client(None);
                let mut session = TlsSession::handshake(&mut ours, config, localhost()).await?;
                let mut sent_bytes = 0;
                let message = [7; 600];
                while sent_bytes < message.len() {
                    sent_bytes += session.write(&message[sent_bytes..]).await?;
                }
                let mut received = Vec::new();
                let mut buffer = [0; 100];
                while received.len() < message.len() {
                    match session.read(&mut buffer).await? {
                        0 => break,
                        bytes => received.extend_from_slice(&buffer[..bytes]),
                    }
                }
                Ok(received)
            }
            .await;
            let read_bytes = ours.read_bytes;
            drop(ours);
            (result, read_bytes)
        };
        let (_, result) = tokio::join!(echo(config, theirs), device);
        result
    })
}

#[test]
fn a_connection_that_ends_at_any_byte_is_truncated() {
    let world = World::new();
    let (received, total_bytes) = with_fault(&world, usize::MAX, Fault::None);
    assert_eq!(received.unwrap(), [7; 600]);
    // Signatures differ by a few bytes from one handshake to the next, so the last cut is not at the last byte.
    for end in (0..600).chain((600..total_bytes - 20).step_by(13)) {
        let (result, _) = with_fault(&world, usize::MAX, Fault::CutAt(end));
        assert!(matches!(result, Err(TlsError::Truncated)), "{end} of {total_bytes}: {result:?}");
    }
}

#[test]
fn a_flipped_bit_at_any_byte_is_noticed() {
    let world = World::new();
    let (_, total_bytes) = with_fault(&world, usize::MAX, Fault::None);
    for place in (0..200).chain((200..total_bytes).step_by(17)) {
        // A longer length makes the client wait for bytes that do not come, so the server must not wait in turn:
        // the pipe is read with a deadline.
        let fault = Fault::FlipAt(place, (place % 8) as u8);
        let result = run(async {
            let (ours, theirs) = pipe(usize::MAX, fault);
            let mut config = world.server_config();
            config.max_fragment_size = Some(300);
            tokio::spawn(echo(config, theirs));
            let exchange = async {
                let mut session = TlsSession::handshake(ours, world.client(None), localhost()).await?;
                exchange(&mut session, &[7; 600]).await
            };
            tokio::time::timeout(std::time::Duration::from_millis(100), exchange).await
        });
        match result {
            // The legacy version of a record is ignored (RFC 8446 section 5.1), and a change_cipher_spec record
            // is dropped.
            Ok(Ok(received)) => assert_eq!(received, [7; 600], "at {place}"),
            Ok(Err(error)) => {
                let is_expected = matches!(
                    error,
                    TlsError::Protocol(_)
                        | TlsError::ServerRefused(_)
                        | TlsError::RefusedByServer { .. }
                        | TlsError::RecordTooLong
                        | TlsError::Truncated
                        | TlsError::ConnectionLost { .. }
                );
                assert!(is_expected, "at {place}: {error:?}");
            }
            Err(_elapsed) => {}
        }
    }
}

/// Shakes hands with a server whose bytes are given.
fn scripted(pieces: impl IntoIterator<Item = Vec<u8>>) -> (TlsError, Script) {
    let world = World::new();
    let mut script = Script::new(pieces);
    let session = run(TlsSession::handshake(&mut script, world.client(None), localhost()));
    let error = session.map(|_| ()).expect_err("no handshake can succeed with these bytes");
    (error, script)
}

#[test]
fn a_server_cannot_make_the_buffer_grow_without_bound() {
    // A handshake message of 60,000 bytes in records of 1000 bytes, without an end.
    let record = |body: &[u8]| {
        let mut record = vec![22, 3, 3];
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    };
    let mut first = vec![2, 0, 0xea, 0x60];
    first.resize(1000, 0);
    let pieces = std::iter::once(record(&first)).chain((0..58).map(|_| record(&[0; 1000])));
    let (error, script) = scripted(pieces);
    assert!(matches!(error, TlsError::RecordTooLong), "{error:?}");
    assert!(script.reads < 40, "the rest was not read");

    // A record that claims to be longer than any may be.
    let (error, _) = scripted([vec![22, 3, 3, 0xff, 0xff, 2, 0, 0, 1]]);
    assert!(matches!(error, TlsError::RecordTooLong | TlsError::Protocol(_)), "{error:?}");
    // The longest that is allowed, of garbage.
    let (error, _) = scripted([vec![22, 3, 3, 0x40, 0x00], vec![0x55; 1 << 14]]);
    assert!(matches!(error, TlsError::Protocol(_)), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_from_a_server_never_panic(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
    ) {
        scripted(pieces);
    }

    #[test]
    fn arbitrary_records_from_a_server_never_panic(
        records in proptest::collection::vec(
            (20u8..25, proptest::collection::vec(any::<u8>(), 0..100)), 0..8),
    ) {
        let pieces = records.into_iter().map(|(kind, body)| {
            let mut record = vec![kind, 3, 3, 0, body.len() as u8];
            record.extend_from_slice(&body);
            record
        });
        scripted(pieces);
    }
}
