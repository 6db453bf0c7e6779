//! Everything survives a restart.

use server::{Config, StartError};

use crate::app::{TestApp, check_in, csr, start_in};

#[tokio::test]
async fn a_restart_keeps_everything() {
    let app = TestApp::start().await;
    let (device, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let ca = app.server.ca_certificate_pem().to_owned();
    let tls = std::fs::read(app.dir.path().join("tls/server.pem")).unwrap();
    let before = app.get("/devices/lamp-1").await;

    let app = app.restart().await;
    assert_eq!(app.server.first_admin_token(), None);
    assert_eq!(app.server.ca_certificate_pem(), ca);
    assert_eq!(std::fs::read(app.dir.path().join("tls/server.pem")).unwrap(), tls);
    assert_eq!(app.get("/devices/lamp-1").await, before);
    let mut connection = app.connect(Some(&identity)).await;
    let decision = connection.check_in(&check_in(None)).await.expect(200).decision();
    assert!(decision.manifest.is_some());
    let path = format!("{}{}", wire::ARTIFACTS_PATH, manifest::Digest::of(&image));
    assert_eq!(connection.get(&path, &[]).await.expect(200).body, image);
    app.enroll(&device, &csr(&device.key)).await.expect(401);
}

#[tokio::test]
async fn what_was_answered_survives_a_server_that_is_dropped() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let TestApp { server, token, dir } = app;
    drop(server);
    let server = start_in(&dir, |_| {}).await;
    let app = TestApp { server, token, dir };
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
}

#[tokio::test]
async fn two_servers_do_not_share_a_directory() {
    let app = TestApp::start().await;
    let error = server::start(app.dir.config()).await.err().unwrap();
    assert!(matches!(error, StartError::Locked { .. }), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let app = TestApp::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.device_addr = app.device_addr();
    let error = server::start(config).await.err().unwrap();
    assert!(error.to_string().contains(&app.device_addr().to_string()), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn secrets_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let app = TestApp::start().await;
    for name in ["ca/ca.key", "tls/server.key", "admin.token"] {
        let mode = std::fs::metadata(app.dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// The database has the hashes of all tokens, and may come into a directory that others may read.
#[cfg(unix)]
#[tokio::test]
async fn a_new_database_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = Config::new(dir.path());
    (config.device_addr, config.admin_addr) = (([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into());
    let server = server::start(config).await.unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("pitstop.db") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            found += 1;
        }
    }
    assert_eq!(found, 3, "the database, its log and the index of that");
    server.shutdown().await;
}
