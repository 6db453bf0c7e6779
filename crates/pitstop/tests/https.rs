//! The admin API behind a proxy that adds TLS.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{Bench, pitstop};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A CA, by its key and parameters.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// TLS with a certificate for this name, good until the end of that year.
    fn server(&self, name: &str, last_year: i32) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 12, 31);
        let certificate = CertificateDer::from(params.signed_by(&key, &self.issuer).unwrap());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap()
    }
}

/// Starts a proxy in front of the server's admin listener; its port.
fn proxy(bench: &Bench, tls: ServerConfig) -> u16 {
    let to = bench.url.strip_prefix("http://").unwrap().to_owned();
    let listener = bench.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    bench.spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[test]
fn a_server_is_reached_by_https_and_only_one_that_is_to_be_trusted() {
    let bench = Bench::start();
    let (ours, theirs) = (Authority::new(), Authority::new());
    bench.write("ca.pem", ours.pem.as_bytes());
    bench.write("other.pem", theirs.pem.as_bytes());
    bench.write("none.pem", b"nothing here");
    let url = |tls| format!("https://localhost:{}", proxy(&bench, tls));
    let good = url(ours.server("localhost", 2999));
    let list = ["product", "list", "--url"];
    let ask = |url: &str, more: &[&str]| {
        let output = bench.command(&[&list[..], &[url], more].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };

    assert_eq!(ask(&good, &["--ca-file", "ca.pem"]), (Some(0), String::new()));
    let by_variables = [("PITSTOP_CA_FILE", "ca.pem"), ("SSL_CERT_FILE", "ca.pem")];
    for (variable, value) in by_variables {
        bench.command(&[&list[..], &[&good]].concat()).env(variable, value).assert().success();
    }
    let made = bench.text(&[
        "product",
        "new",
        "lamp",
        "--chip",
        "esp32c3",
        "--key",
        "publisher.key",
        "--url",
        &good,
        "--ca-file",
        "ca.pem",
    ]);
    assert!(made.contains(&format!("--product lamp --url {good} --ca-file ca.pem")), "{made}");

    let refused = |url: &str, file: &str, expected: &[&str]| {
        let (code, told) = ask(url, &["--ca-file", file]);
        assert_eq!(code, Some(1), "{told}");
        for expected in expected {
            assert!(told.contains(expected), "expected {expected:?} in {told}");
        }
    };
    refused(
        &good,
        "other.pem",
        &["not trusted", "a CA that is not trusted here", "--ca-file FILE (or PITSTOP_CA_FILE)"],
    );
    refused(&good, "none.pem", &["expected CA certificates in PEM in none.pem, found none"]);
    refused(&good, "absent.pem", &["the CA file absent.pem cannot be read"]);
    let elsewhere = url(ours.server("updates.example.org", 2999));
    refused(
        &elsewhere,
        "ca.pem",
        &["for other names", "updates.example.org", "--url as its certificate does"],
    );
    let expired = url(ours.server("localhost", 2019));
    refused(&expired, "ca.pem", &["expired at 2019-12-31T00:00:00Z", "renew the certificate"]);
    let plain = bench.url.replace("http://", "https://");
    refused(&plain, "ca.pem", &["it does not speak TLS", "and not http?"]);
}

#[test]
fn a_token_that_leaves_the_machine_in_clear_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let told = |url: &str| {
        let output =
            pitstop(folder.path()).args(["product", "list", "--token", "x", "--url", url]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let away = told("http://pitstop.invalid:8080");
    assert!(
        away.contains("warning: the API token goes to pitstop.invalid in clear") && away.contains("https"),
        "{away}"
    );
    assert!(!told("http://127.0.0.1:1").contains("warning"));
}
