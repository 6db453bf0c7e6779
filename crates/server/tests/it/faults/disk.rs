//! A disk that is full: a real one, of a few megabytes, in a mount namespace of the test's own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use hyper::Method;
use manifest::Digest;

use super::database::Probe;
use super::instance::Remote;
use super::ledger::{Ledger, check};
use super::load::{prepare, work};
use crate::app::TestApp;
use crate::client::Connection;
use crate::place::Place;

/// In the environment of the process that has the small disk: where that is.
const SMALL_DISK: &str = "PITSTOP_TEST_SMALL_DISK";

/// Room on it, and what is taken of that at first and given back in the end.
const DISK_MIB: usize = 24;
const TAKEN_MIB: usize = 8;

const TEST: &str = "faults::disk::a_full_disk_is_told_and_loses_nothing";

/// The test, and within the namespace what it does.
#[test]
#[ignore = "mounts a file system: cargo xtask ci --only server-backends"]
fn a_full_disk_is_told_and_loses_nothing() {
    if let Some(disk) = env::var_os(SMALL_DISK) {
        return tokio::runtime::Runtime::new().unwrap().block_on(fill(Path::new(&disk)));
    }
    let dir = tempfile::tempdir().unwrap();
    let options = env::var("PITSTOP_TEST_UNSHARE").expect("cargo xtask ci says how to mount here");
    // `sh` becomes the test; the mount ends with it.
    let script = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && shift 2 && exec \"$@\"";
    let status = Command::new("unshare")
        .args(options.split(' '))
        .args(["sh", "-c", script, "sh"])
        .arg(format!("{DISK_MIB}m"))
        .arg(dir.path())
        .arg(env::current_exe().unwrap())
        .args(["--exact", TEST, "--include-ignored", "--nocapture"])
        .env(SMALL_DISK, dir.path())
        .status();
    let status = status.expect("expected unshare of util-linux");
    assert!(status.success(), "{status}");
}

async fn fill(disk: &Path) {
    let taken = disk.join("taken");
    fs::write(&taken, vec![1; TAKEN_MIB << 20]).unwrap();
    let app = TestApp::start_at(Place::embedded_in(disk), |_| {}).await;
    let remote = Remote::of(&app);
    let ledger = Ledger::new(Duration::from_secs(18));
    prepare(&remote).await;
    let mut probe = Probe::new(&remote).await;
    work(&remote, &ledger, async {
        let ends = Instant::now() + Duration::from_secs(60);
        // Artifacts find no room first.
        while ledger.lock().unwrap().refused() < 10 {
            assert!(Instant::now() < ends, "the disk does not fill");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Then the database: what devices tell is refused as well.
        let mut rest = Vec::new();
        let refused = loop {
            rest.extend_from_slice(&[2; 4096]);
            // As much as there is room for.
            let _ = fs::write(disk.join("rest"), &rest);
            let answer = probe.tell_news(&remote).await.unwrap();
            if answer.status != 200 {
                break answer.expect(503);
            }
            assert!(Instant::now() < ends, "the database does not fill");
        };
        assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
    })
    .await;

    let ready = Connection::plain(app.server.admin_addr()).await.unwrap().get("/readyz", &[]).await;
    assert_eq!(ready.expect(503).json()["room"], "failed");
    let artifact = vec![3; 1 << 20];
    let path = format!("/artifacts/{}", Digest::of(&artifact));
    let refused = remote.admin(Method::PUT, &path, artifact.clone()).await.unwrap().expect(507);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let refused = refused.json();
    assert_eq!(refused["type"], "urn:pitstop:problem:storage-full");
    assert!(refused["detail"].as_str().unwrap().contains("make room"), "{refused}");

    // Once there is room it goes on by itself.
    fs::remove_file(disk.join("rest")).unwrap();
    fs::remove_file(&taken).unwrap();
    probe.until_served(&remote).await;
    remote.admin(Method::PUT, &path, artifact).await.unwrap().expect(201);
    check(&remote, &app.dir, &ledger).await;
    let app = app.restart().await;
    check(&Remote::of(&app), &app.dir, &ledger).await;
    ledger.lock().unwrap().tell(TEST, "disk full", 1);
}
