//! The OpenAPI document is the contract with clients: a change of it is seen in a change of `docs/openapi.json`.

use crate::app::TestApp;
use crate::client::Connection;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// With it the document is written instead of compared.
const UPDATE: &str = "PITSTOP_UPDATE_OPENAPI";

#[tokio::test]
async fn the_document_is_the_one_in_the_repository() {
    let app = TestApp::start().await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let answer = connection.get("/api/v1/openapi.json", &[]).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let found = answer.text();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        std::fs::write(SNAPSHOT, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    if let Some((number, (is, was))) = found
        .lines()
        .zip(expected.lines().chain(std::iter::repeat("")))
        .enumerate()
        .find(|(_, (is, was))| is != was)
    {
        panic!(
            "docs/openapi.json differs from what the server tells, from line {}: {was:?} is now {is:?}. When that is \
             meant: {UPDATE}=1 cargo test -p server --test it openapi",
            number + 1
        );
    }
    assert_eq!(found.len(), expected.len(), "docs/openapi.json is longer than what the server tells");
}

/// What a reference names is there, or whoever makes a client of the document is stopped.
#[tokio::test]
async fn every_reference_leads_to_a_schema() {
    let app = TestApp::start().await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let answer = connection.get("/api/v1/openapi.json", &[]).await.expect(200);
    let (text, document) = (answer.text(), answer.json());
    let references: Vec<_> =
        text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 100);
    for place in references {
        assert!(document.pointer(place).is_some(), "{place}");
    }
}

#[tokio::test]
async fn every_operation_tells_its_role_its_refusals_and_a_name_of_its_own() {
    let app = TestApp::start().await;
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    let document = connection.get("/api/v1/openapi.json", &[]).await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["security"][0]["token"][0].is_string(), "{what}");
            let refusal = &operation["responses"]["default"]["content"]["application/problem+json"];
            assert_eq!(refusal["schema"]["$ref"], "#/components/schemas/Problem", "{what}");
            assert!(operation["summary"].is_string(), "{what}");
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}");
        }
    }
    assert!(names.len() > 30);
}
