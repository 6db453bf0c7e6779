//! A client that does not insist on Certificate and CertificateVerify falls into the traps: that they are refused by
//! others is not because of something else.

use std::net::Ipv4Addr;

use p256::PublicKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use tokio::net::TcpListener;

use super::messages::{
    CERTIFICATE, CERTIFICATE_VERIFY, CHACHA20_POLY1305_SHA256, CLIENT_HELLO, ENCRYPTED_EXTENSIONS, KEY_SHARE,
    SECP256R1, TLS_1_2, extension, vector,
};
use super::*;
use crate::pki::{ServerLeaf, TestCa};

/// Length of an uncompressed point of P-256 (SEC 1 section 2.3.3).
const POINT_BYTES: usize = 65;

const REQUEST: &[u8] = b"a secret for the right server";

/// Shakes hands with anybody who knows TLS 1.3, sends [`REQUEST`], and reads the answer. Returns the types of the
/// server's protected handshake messages, and the answer.
async fn careless_client(stream: &mut TcpStream) -> (Vec<u8>, Vec<u8>) {
    let ours = EphemeralSecret::random(&mut OsRng);
    let point = ours.public_key().to_encoded_point(false);
    let share = [&SECP256R1[..], &vector::<2>(point.as_bytes())].concat();
    let body = [
        &TLS_1_2[..],
        &[7; 32],
        &vector::<1>(&[]),
        &vector::<2>(&CHACHA20_POLY1305_SHA256),
        &vector::<1>(&[0]),
        &vector::<2>(&extension(KEY_SHARE, &vector::<2>(&share))),
    ];
    let client_hello = message(CLIENT_HELLO, &body.concat());
    stream.write_all(&record(HANDSHAKE, &client_hello)).await.unwrap();

    let server_hello = read_message(stream).await.unwrap();
    let theirs = PublicKey::from_sec1_bytes(&server_hello[server_hello.len() - POINT_BYTES..]).unwrap();
    let mut transcript = Sha256::new().chain_update(&client_hello).chain_update(&server_hello);
    let shared = ours.diffie_hellman(&theirs);
    let (handshake, master) = handshake_secrets(shared.raw_secret_bytes(), &hash(&transcript));

    let mut opening = RecordKeys::new(&handshake.server);
    let mut kinds = Vec::new();
    while kinds.last() != Some(&FINISHED) {
        let (content_type, found) = read_protected(stream, &mut opening).await.unwrap();
        assert_eq!(content_type, HANDSHAKE);
        if found[0] == FINISHED {
            assert_eq!(found, message(FINISHED, &handshake.server.finished(&hash(&transcript))));
        }
        kinds.push(found[0]);
        transcript.update(&found);
    }

    let finished = message(FINISHED, &handshake.client.finished(&hash(&transcript)));
    let application = application_secrets(&master, &hash(&transcript));
    let mut flight = RecordKeys::new(&handshake.client).seal(HANDSHAKE, &finished).unwrap();
    flight.extend(RecordKeys::new(&application.client).seal(APPLICATION_DATA, REQUEST).unwrap());
    stream.write_all(&flight).await.unwrap();
    let (_, answer) = read_protected(stream, &mut RecordKeys::new(&application.server)).await.unwrap();
    (kinds, answer)
}

#[tokio::test]
async fn a_careless_client_falls_into_every_trap() {
    let ca = TestCa::new("Test CA").unwrap();
    for (proof, expected) in [
        (Proof::Complete, &[ENCRYPTED_EXTENSIONS, CERTIFICATE, CERTIFICATE_VERIFY, FINISHED][..]),
        (Proof::CertificateAlone, &[ENCRYPTED_EXTENSIONS, CERTIFICATE, FINISHED]),
        (Proof::Nothing, &[ENCRYPTED_EXTENSIONS, FINISHED]),
    ] {
        let server = HandmadeServer::new(&ca.server(&ServerLeaf::good()).unwrap(), proof).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            careless_client(&mut stream).await
        };
        let server = async { server.serve(listener.accept().await.unwrap().0).await };
        let (observation, (kinds, answer)) = tokio::join!(server, client);
        assert_eq!(kinds, expected, "{proof:?}");
        assert_eq!(answer, ANSWER);
        let trusted = Observation::Trusted { client_certificate: None, received: REQUEST.to_vec() };
        assert_eq!(observation, trusted, "{proof:?}");
    }
}

#[tokio::test]
async fn a_client_without_the_keys_is_no_client() {
    let ca = TestCa::new("Test CA").unwrap();
    let server = HandmadeServer::new(&ca.server(&ServerLeaf::good()).unwrap(), Proof::Nothing).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&record(HANDSHAKE, &message(CLIENT_HELLO, &[0; 40]))).await.unwrap();
    };
    let server = async { server.serve(listener.accept().await.unwrap().0).await };
    let (observation, ()) = tokio::join!(server, client);
    assert!(matches!(observation, Observation::Broken { .. }), "{observation:?}");
}
