//! What other people's tools make of our answers. CI installs both, and there a missing one is a failure.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use crate::app::{TestApp, csr};

/// `None`, with a loud line, when the tool is not installed.
fn run(tool: &str, args: &[&str], dir: &Path) -> Option<Output> {
    match Command::new(tool).args(args).current_dir(dir).output() {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{tool} must be there in CI: {error}");
            eprintln!("SKIPPED: {tool} cannot be run ({error}); install it to run this test");
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_reads_the_answer_and_trusts_the_certificate() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let answer = app.enroll(&device, &csr(&device.key)).await.expect(200);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("answer.der"), BASE64_STANDARD.decode(&answer.body).unwrap()).unwrap();
    std::fs::write(dir.path().join("ca.pem"), app.server.ca_certificate_pem()).unwrap();
    let print = ["pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs", "-out", "device.pem"];
    let Some(output) = run("openssl", &print, dir.path()) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let verify = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "device.pem"];
    let output = run("openssl", &verify, dir.path()).unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let output = run("openssl", &["x509", "-in", "device.pem", "-noout", "-subject"], dir.path()).unwrap();
    assert!(
        text(&output).contains("CN = lamp-1") || text(&output).contains("CN=lamp-1"),
        "{}",
        text(&output)
    );
    let server_pem = app.dir.path().join("tls/server.pem");
    let verify = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        "ca.pem",
        server_pem.to_str().unwrap(),
    ];
    let output = run("openssl", &verify, dir.path()).unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_enrolls_with_a_csr_of_openssl_and_uses_the_certificate() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let device = app.create_device("lamp-1", "lamp").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::write(path.join("ca.pem"), app.server.ca_certificate_pem()).unwrap();
    std::fs::write(path.join("device.key"), device.key.serialize_pem()).unwrap();
    assert!(PrivateKeyDer::try_from(device.key.serialize_der()).is_ok());
    let request = ["req", "-new", "-key", "device.key", "-subj", "/CN=whoever", "-out", "device.csr"];
    let Some(output) = run("openssl", &request, path) else { return };
    assert!(output.status.success(), "{}", text(&output));
    // As EST clients send it: the PEM without its first and last line.
    let pem = std::fs::read_to_string(path.join("device.csr")).unwrap();
    let body: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    std::fs::write(path.join("body"), body.join("\r\n")).unwrap();
    let url = app.server.device_url();
    let enroll = format!("{url}/.well-known/est/simpleenroll");
    let user = format!("{}:{}", device.id, device.token);
    let curl = [
        "--silent",
        "--show-error",
        "--fail",
        "--ipv4",
        "--cacert",
        "ca.pem",
        "--user",
        &user,
        "--header",
        "Content-Type: application/pkcs10",
        "--data-binary",
        "@body",
        "--output",
        "answer.b64",
        &enroll,
    ];
    let Some(output) = run("curl", &curl, path) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let output =
        run("openssl", &["base64", "-d", "-A", "-in", "answer.b64", "-out", "answer.der"], path).unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let print = ["pkcs7", "-inform", "DER", "-in", "answer.der", "-print_certs", "-out", "device.pem"];
    let output = run("openssl", &print, path).unwrap();
    assert!(output.status.success(), "{}", text(&output));

    let status = |extra: &[&str], path_of_url: &str| {
        let url = format!("{url}{path_of_url}");
        let mut args =
            vec!["--silent", "--ipv4", "--cacert", "ca.pem", "--output", "-", "--write-out", "%{http_code}"];
        args.extend_from_slice(extra);
        args.push(&url);
        text(&run("curl", &args, path).unwrap())
    };
    let identity = ["--cert", "device.pem", "--key", "device.key"];
    let missing = format!("/v1/artifacts/{}", "0".repeat(64));
    assert!(status(&identity, &missing).ends_with("404"), "{}", status(&identity, &missing));
    assert!(status(&[], &missing).ends_with("401"), "{}", status(&[], &missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_checks_certificates_against_the_revocation_list() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    std::fs::write(path.join("ca.pem"), app.server.ca_certificate_pem()).unwrap();
    for id in ["lamp-1", "lamp-2"] {
        let device = app.create_device(id, "lamp").await;
        let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
        std::fs::write(path.join(format!("{id}.der")), &certificate).unwrap();
        let convert = ["x509", "-inform", "DER", "-in", &format!("{id}.der"), "-out", &format!("{id}.pem")];
        let Some(output) = run("openssl", &convert, path) else { return };
        assert!(output.status.success(), "{}", text(&output));
    }
    app.post("/devices/lamp-2/revoke", &json!({ "reason": "stolen" })).await.expect(200);
    let lists = app.connect(None).await.get("/.well-known/pitstop/crl.pem", &[]).await.expect(200);
    std::fs::write(path.join("crl.pem"), &lists.body).unwrap();
    let list = ["crl", "-in", "crl.pem", "-CAfile", "ca.pem", "-noout", "-text"];
    let output = run("openssl", &list, path).unwrap();
    assert!(output.status.success() && text(&output).contains("verify OK"), "{}", text(&output));
    let verify = |id: &str| {
        let pem = format!("{id}.pem");
        let args = ["verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", &pem];
        run("openssl", &args, path).unwrap()
    };
    assert!(verify("lamp-1").status.success(), "{}", text(&verify("lamp-1")));
    let refused = verify("lamp-2");
    assert!(
        !refused.status.success() && text(&refused).contains("certificate revoked"),
        "{}",
        text(&refused)
    );
}
