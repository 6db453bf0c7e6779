//! Instances that share a database. Tests of more than one at a time need Postgres; `server-backends` of the gate runs
//! them.

use std::fs;

use serde_json::json;
use server::StartError;
use tokio::task::JoinSet;

use crate::app::{TestApp, check_in, csr, new_key, start_in};
use crate::check_in::report_after_a_rest;
use crate::place::{Place, copy_ca};

#[tokio::test]
async fn another_ca_is_refused() {
    let app = TestApp::start().await;
    let TestApp { server, dir, .. } = app;
    let expected_ca = server.ca_certificate_pem().to_owned();
    server.shutdown().await;
    let kept = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("ca"), kept.path().join("ca")).unwrap();

    let none = server::start(dir.config()).await.err().unwrap();
    assert!(matches!(&none, StartError::OtherCa { found: None, .. }), "{none}");
    assert!(!dir.path().join("ca").exists(), "no CA is made that nobody trusts");

    let stranger = TestApp::start().await;
    copy_ca(stranger.dir.path(), dir.path());
    let other = server::start(dir.config()).await.err().unwrap();
    assert!(matches!(&other, StartError::OtherCa { found: Some(_), .. }), "{other}");
    assert!(other.to_string().contains("copy the directory `ca`"), "{other}");

    fs::remove_dir_all(dir.path().join("ca")).unwrap();
    copy_ca(kept.path(), dir.path());
    let server = start_in(&dir, |_| {}).await;
    assert_eq!(server.ca_certificate_pem(), expected_ca);
}

#[tokio::test]
#[ignore = "needs Postgres: cargo xtask ci --only server-backends"]
async fn instances_that_start_at_once_migrate_once() {
    let maker = TestApp::start().await;
    let mut empty = Place::new().await;
    copy_ca(maker.dir.path(), empty.path());
    let others: Vec<_> = (0..4).map(|_| empty.beside()).collect();
    let mut starts = JoinSet::new();
    for place in std::iter::once(&empty).chain(&others) {
        starts.spawn(server::start(place.config()));
    }
    for server in starts.join_all().await {
        server.unwrap().shutdown().await;
    }

    // With a CA each, one start wins, and the database is that one's.
    empty.lose_database().await;
    let mut starts = JoinSet::new();
    let rivals: Vec<_> = (0..4).map(|_| empty.stranger()).collect();
    for place in &rivals {
        starts.spawn(server::start(place.config()));
    }
    let (won, lost): (Vec<_>, Vec<_>) = starts.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 3));
    for error in lost {
        let error = error.err().unwrap();
        assert!(matches!(error, StartError::OtherCa { .. }), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs Postgres: cargo xtask ci --only server-backends"]
async fn a_token_is_good_once_on_all_instances() {
    let one = TestApp::start().await;
    let other = one.beside().await;
    one.create_product("lamp").await;
    for round in 0..8 {
        let device = one.create_device(&format!("lamp-{round}"), "lamp").await;
        let (first, second) = (csr(&new_key()), csr(&new_key()));
        let (first, second) = tokio::join!(one.enroll(&device, &first), other.enroll(&device, &second));
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "round {round}");
    }
}

#[tokio::test]
#[ignore = "needs Postgres: cargo xtask ci --only server-backends"]
async fn what_one_instance_is_told_the_other_heeds_at_once() {
    let one = TestApp::start().await;
    let other = one.beside().await;
    let (_, identity) = one.enrolled().await;
    let mut at_other = other.connect(Some(&identity)).await;
    let decision = at_other.check_in(&check_in(None)).await.expect(200).decision();
    assert!(decision.manifest.is_none());

    one.release(1, "1.0.0").await;
    let decision = at_other.check_in(&check_in(None)).await.expect(200).decision();
    assert!(decision.manifest.is_some(), "published at one, offered by the other");

    one.post("/devices/lamp-1/revoke", &json!({ "reason": "stolen" })).await.expect(200);
    let refused = at_other.check_in(&check_in(None)).await.expect(403);
    assert_eq!(refused.text(), "this device is revoked or suspended\n");
}

#[tokio::test]
#[ignore = "needs an S3 store: cargo xtask ci --only server-backends"]
async fn a_bucket_that_is_not_there_is_told_at_the_start() {
    let place = Place::new().await;
    let mut config = place.config();
    config.artifacts = "s3://no-such-bucket/prefix".parse().unwrap();
    let error = server::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::S3 { .. }), "{error}");
    let text = error.to_string();
    for part in ["s3://no-such-bucket/prefix", "NoSuchBucket", "see that the bucket is there"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
#[ignore = "needs Postgres: cargo xtask ci --only server-backends"]
async fn a_report_to_one_instance_outlasts_a_check_in_that_rests_on_another() {
    let one = TestApp::start().await;
    let other = one.beside().await;
    let (_, identity) = one.enrolled().await;
    report_after_a_rest(&one, &other, &identity).await;
}
