//! What an EST server may answer: any certificates, any CMS, any base64, with and without a good head.

use std::sync::OnceLock;

use crate::stream::Script;
use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use updater_io::est::{MAX_ANCHORS, cacerts, simpleenroll, simplereenroll};
use updater_io::http::HttpClient;
use updater_io::pki::{DeviceKey, is_self_issued, leaf_facts};

#[derive(Arbitrary, Debug)]
pub struct Input<'a> {
    request: Asks,
    /// 200, 202, 204, 401, 403, 404, 500.
    status: u8,
    content_type: bool,
    line_bytes: u8,
    body: Body<'a>,
}

#[derive(Arbitrary, Debug)]
enum Asks {
    Anchors,
    First,
    Next,
}

#[derive(Arbitrary, Debug)]
enum Body<'a> {
    Bytes(&'a [u8]),
    /// In base64.
    Message(&'a [u8]),
    /// In a CMS message, in base64.
    Certificates(&'a [u8]),
}

const STATUSES: [u16; 8] = [200, 200, 202, 204, 401, 403, 404, 500];

pub fn run(input: Input<'_>) {
    let body = match input.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Message(der) => lines(der, input.line_bytes),
        Body::Certificates(certificates) => lines(&certs_only(certificates), input.line_bytes),
    };
    let status = STATUSES[usize::from(input.status) % STATUSES.len()];
    let content_type =
        if input.content_type { "application/pkcs7-mime; smime-type=certs-only" } else { "text/html" };
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    let http = &mut HttpClient::new(Script::whole(&answer));
    let key = device_key();
    let enrolled = match input.request {
        Asks::Anchors => {
            if let Ok(anchors) = crate::block_on(cacerts(http, "server")) {
                assert!(status == 200 && (1..=MAX_ANCHORS).contains(&anchors.len()));
                assert!(anchors.iter().all(|anchor| is_self_issued(anchor) == Ok(true)));
            }
            return;
        }
        Asks::First => crate::block_on(simpleenroll(http, "server", key, "lamp-1", "once")),
        Asks::Next => crate::block_on(simplereenroll(http, "server", key, "lamp-1")),
    };
    if let Ok(chain) = enrolled {
        let leaf = leaf_facts(&chain.certificates[0]).unwrap();
        assert!(status == 200 && leaf.public_key == key.public_key());
    }
}

/// The corpus has a certificate for it.
fn device_key() -> &'static DeviceKey {
    static KEY: OnceLock<DeviceKey> = OnceLock::new();
    KEY.get_or_init(|| {
        use p256::pkcs8::EncodePrivateKey;
        let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        DeviceKey::from_pkcs8(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap()
    })
}

fn lines(der: &[u8], line_bytes: u8) -> Vec<u8> {
    let text = BASE64_STANDARD.encode(der).into_bytes();
    match line_bytes {
        0 => text,
        1.. => crate::pieces(&text, line_bytes).collect::<Vec<_>>().join(&b"\r\n"[..]),
    }
}

/// CMS SignedData with nothing in it but certificates (RFC 5652 section 5.1).
fn certs_only(certificates: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let value = parts.concat();
        let [high, low] = (value.len() as u16).to_be_bytes();
        let length = match value.len() {
            0..128 => vec![low],
            128..256 => vec![0x81, low],
            _ => vec![0x82, high, low],
        };
        [&[tag], &length[..], &value].concat()
    };
    let data = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 1];
    let signed_data = [6, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2];
    let parts: [&[u8]; 5] =
        [&[2, 1, 1], &[0x31, 0], &tlv(0x30, &[&data]), &tlv(0xA0, &[certificates]), &[0x31, 0]];
    tlv(0x30, &[&signed_data, &tlv(0xA0, &[&tlv(0x30, &parts)])])
}
