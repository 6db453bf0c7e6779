//! The API against schemathesis, which makes requests out of the OpenAPI document and holds the answers against it.

use std::process::Command;

use serde_json::json;

use crate::app::{TestApp, describe, image, sign};

/// Names the program where it is not on the path.
const PROGRAM: &str = "PITSTOP_SCHEMATHESIS";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis: cargo xtask ci --only api-fuzz"]
async fn schemathesis_finds_nothing() {
    let app = TestApp::start().await;
    let _ = app.enrolled().await;
    let image = image("1.0.0");
    app.upload(&image).await.expect(201);
    app.publish("lamp", &sign(&describe(&image, 1, "1.0.0"))).await.expect(201);
    // Requests that revoke tokens leave the server usable: the first one does not go while it is the last.
    let token = app.post("/tokens", &json!({ "name": "fuzz", "role": "admin" })).await.expect(201).json();
    let header = format!("Authorization: Bearer {}", token["token"].as_str().unwrap());
    let document = format!("{}/api/v1/openapi.json", app.server.admin_url());
    let program = std::env::var(PROGRAM).unwrap_or_else(|_| "schemathesis".to_owned());
    let run = tokio::task::spawn_blocking(move || {
        // It keeps what it found in the working directory.
        let dir = tempfile::tempdir().unwrap();
        Command::new(&program)
            .current_dir(&dir)
            .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml")])
            .args(["run", &document, "--header", &header])
            .status()
            .unwrap_or_else(|error| panic!("{program} cannot be run ({error}); {PROGRAM} names it"))
    });
    let status = run.await.unwrap();
    assert!(status.success(), "schemathesis found something, see above");
}
