//! Backup of a data directory that a server writes to, and restore. What an embedded database and local files need; the
//! other backends have means of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::Digest;
use serde_json::json;
use server::{BackupError, Config, backup, restore};
use tempfile::TempDir;

use crate::app::{TestApp, TestDevice, check_in, csr, image_of};
use crate::client::Identity;
use crate::place::Place;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_during_work_brings_back_the_server() {
    let app = TestApp::start_at(Place::embedded(), |_| {}).await;
    let (_, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let backups = tempfile::tempdir().unwrap();
    let (made, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = async {
        while !stop.load(Ordering::Relaxed) {
            let number = made.load(Ordering::Relaxed) + 1;
            app.create_device(&format!("busy-{number}"), "lamp").await;
            app.upload(&image_of(&number.to_string(), 300_000)).await.expect(201);
            made.store(number, Ordering::Relaxed);
        }
    };
    let back_up = async {
        while made.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        let before = made.load(Ordering::Relaxed);
        let (from, to) = (app.dir.path().to_owned(), backups.path().join("one"));
        let made = tokio::task::spawn_blocking(move || {
            let mut told = (0, 0);
            let summary = backup(&from, &to, |done, total| told = (done, total)).unwrap();
            assert!(summary.has_database && told.0 > 0 && told.0 == told.1, "{summary:?} {told:?}");
        });
        made.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        before
    };
    let ((), before) = tokio::join!(work, back_up);
    let token = app.token.clone();
    let ca = app.server.ca_certificate_pem().to_owned();
    app.server.shutdown().await;
    drop(app.dir);

    let data = backups.path().join("data");
    let summary = restore(&backups.path().join("one"), &data, |_, _| {}).unwrap();
    assert!(summary.has_database && summary.bytes > image.len() as u64);
    let mut config = Config::new(&data);
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    let server = server::start(config).await.unwrap();
    let app = TestApp { server, token, dir: Place::embedded() };
    assert_eq!(app.server.ca_certificate_pem(), ca);
    for number in 1..=before {
        app.get(&format!("/devices/busy-{number}")).await;
    }
    let mut connection = app.connect(Some(&identity)).await;
    let decision = connection.check_in(&check_in(None)).await.expect(200).decision();
    assert!(decision.manifest.is_some());
    let path = format!("{}{}", wire::ARTIFACTS_PATH, Digest::of(&image));
    assert_eq!(connection.get(&path, &[]).await.expect(200).body, image);
}

async fn enrolled(app: &TestApp, id: &str) -> (TestDevice, Identity) {
    let device = app.create_device(id, "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let identity = device.identity(certificate);
    (device, identity)
}

async fn renew(app: &TestApp, device: &TestDevice, identity: &Identity) -> Identity {
    // A certificate tells when it was issued in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let body = BASE64_STANDARD.encode(csr(&device.key));
    let mut connection = app.connect(Some(identity)).await;
    let path = "/.well-known/est/simplereenroll";
    device.identity(connection.post(path, "application/pkcs10", body).await.expect(200).certificate())
}

#[tokio::test]
async fn a_restored_server_takes_back_who_renewed_since_the_backup() {
    let app = TestApp::start_at(Place::embedded(), |_| {}).await;
    app.create_product("lamp").await;
    let (lamp, before) = enrolled(&app, "lamp-1").await;
    let (revoked, revoked_before) = enrolled(&app, "lamp-2").await;
    app.connect(Some(&before)).await.check_in(&check_in(None)).await.expect(200);
    let waiting = app.create_device("lamp-3", "lamp").await;
    let backups = tempfile::tempdir().unwrap();
    let (from, to) = (app.dir.path().to_owned(), backups.path().join("one"));
    tokio::task::spawn_blocking(move || backup(&from, &to, |_, _| {})).await.unwrap().unwrap();

    let first = renew(&app, &lamp, &before).await;
    app.connect(Some(&first)).await.check_in(&check_in(None)).await.expect(200);
    let second = renew(&app, &lamp, &first).await;
    app.connect(Some(&second)).await.check_in(&check_in(None)).await.expect(200);
    let of_revoked = renew(&app, &revoked, &revoked_before).await;
    let certificate = app.enroll(&waiting, &csr(&waiting.key)).await.expect(200).certificate();
    let of_waiting = waiting.identity(certificate);
    let (_, of_stranger) = enrolled(&app, "lamp-4").await;
    let token = app.token.clone();
    app.server.shutdown().await;
    drop(app.dir);

    let data = backups.path().join("data");
    restore(&backups.path().join("one"), &data, |_, _| {}).unwrap();
    let mut config = Config::new(&data);
    config.device_addr.set_port(0);
    config.admin_addr.set_port(0);
    let server = server::start(config).await.unwrap();
    let app = TestApp { server, token, dir: Place::embedded() };
    app.post("/devices/lamp-2/revoke", &json!({ "reason": "lost" })).await.expect(200);
    let ask = async |identity: &Identity| {
        app.connect(Some(identity)).await.check_in(&check_in(None)).await.status.as_u16()
    };
    assert_eq!(ask(&second).await, 200, "it renewed after the backup");
    assert_eq!(ask(&second).await, 200);
    assert_eq!(ask(&first).await, 403, "the server knows a newer one");
    assert_eq!(ask(&before).await, 403, "it was replaced");
    assert_eq!(ask(&of_revoked).await, 403, "it is revoked");
    assert_eq!(ask(&of_waiting).await, 200, "it enrolled after the backup");
    app.enroll(&waiting, &csr(&waiting.key)).await.expect(401);
    assert_eq!(ask(&of_stranger).await, 403, "nobody knows this device");
    let third = renew(&app, &lamp, &second).await;
    assert_eq!(ask(&third).await, 200);

    let lines = app.get("/audit?kind=device").await;
    let adopted = lines["items"].as_array().unwrap().iter().filter(|line| {
        (&line["action"], &line["actor"]["id"]) == (&json!("device.adopt-certificate"), &json!("server"))
    });
    let adopted: Vec<_> = adopted.map(|line| line["subject"].as_str().unwrap()).collect();
    assert_eq!(adopted, ["lamp-3", "lamp-1"]);
    app.server.shutdown().await;
}

/// A data directory of a server that is stopped, and its backup.
async fn backed_up() -> (TempDir, PathBuf, PathBuf) {
    let app = TestApp::start_at(Place::embedded(), |_| {}).await;
    app.upload(b"an artifact").await.expect(201);
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let (from, to) = (app.dir.path().to_owned(), copy.clone());
    tokio::task::spawn_blocking(move || backup(&from, &to, |_, _| {})).await.unwrap().unwrap();
    app.server.shutdown().await;
    restore(&copy, &data, |_, _| {}).unwrap();
    (folder, data, copy)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn any_damage_is_found_before_anything_is_there() {
    let (folder, _, copy) = backed_up().await;
    let target = folder.path().join("restored");
    for path in files_below(&copy) {
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [Some(&changed), Some(&whole[..middle].to_vec()), None] {
            match damaged {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            assert!(restore(&copy, &target, |_, _| {}).is_err(), "{}", path.display());
            assert!(!target.exists());
        }
        fs::write(&path, &whole).unwrap();
    }
    restore(&copy, &target, |_, _| {}).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no draft is left");
}

#[tokio::test]
async fn what_is_there_is_not_overwritten() {
    let (folder, data, copy) = backed_up().await;
    let full = [restore(&copy, &data, |_, _| {}), restore(&copy, &copy, |_, _| {})];
    for result in full {
        assert!(matches!(result, Err(BackupError::NotEmpty { .. })), "{result:?}");
    }
    let again = folder.path().join("again");
    fs::create_dir(&again).unwrap();
    restore(&copy, &again, |_, _| {}).unwrap();

    let inside = data.join("backups").join("one");
    let from = data.clone();
    let to = inside.clone();
    let result = tokio::task::spawn_blocking(move || backup(&from, &to, |_, _| {})).await.unwrap();
    assert!(matches!(result, Err(BackupError::Inside { .. })), "{result:?}");
    assert!(!inside.exists());
}

#[tokio::test]
async fn what_is_no_data_directory_or_no_backup_is_told() {
    let (folder, data, copy) = backed_up().await;
    let (empty, target) = (folder.path().join("empty"), folder.path().join("target"));
    fs::create_dir(&empty).unwrap();
    let result = backup(&empty, &target, |_, _| {});
    assert!(matches!(result, Err(BackupError::NoData { .. })), "{result:?}");
    let result = restore(&empty, &target, |_, _| {});
    assert!(matches!(result, Err(BackupError::NoBackup { .. })), "{result:?}");

    let list = fs::read_to_string(copy.join("backup.json")).unwrap();
    for path in ["../admin.token", "/etc/hostname", ""] {
        let mut list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list["files"][0]["path"] = json!(path);
        fs::write(copy.join("backup.json"), list.to_string()).unwrap();
        let result = restore(&copy, &target, |_, _| {});
        assert!(matches!(result, Err(BackupError::NoBackup { .. })), "{path}: {result:?}");
    }
    let newer = list.replacen("\"format\": 1", "\"format\": 2", 1);
    fs::write(copy.join("backup.json"), newer).unwrap();
    let result = restore(&copy, &target, |_, _| {});
    assert!(matches!(result, Err(BackupError::Format { found: 2 })), "{result:?}");

    // Devices trust the CA: without it, or without its key, nothing can be made of a backup.
    for missing in ["ca/ca.pem", "ca/ca.key"] {
        let mut list: serde_json::Value = serde_json::from_str(&list).unwrap();
        list["files"].as_array_mut().unwrap().retain(|file| file["path"] != missing);
        fs::write(copy.join("backup.json"), list.to_string()).unwrap();
        let result = restore(&copy, &target, |_, _| {});
        assert!(matches!(result, Err(BackupError::NoCa { file, .. }) if file == missing), "{result:?}");
    }
    assert!(!target.exists());
    // An artifact that is not what its name says is no backup's content.
    let artifact = files_below(&data.join("artifacts")).pop().unwrap();
    fs::write(&artifact, "something else").unwrap();
    let result = tokio::task::spawn_blocking(move || backup(&data, &target, |_, _| {})).await.unwrap();
    assert!(matches!(&result, Err(BackupError::Damaged { path, .. }) if *path == artifact), "{result:?}");
}

/// It would be worth nothing.
#[tokio::test]
async fn without_the_key_of_the_ca_there_is_no_backup() {
    let (folder, data, _) = backed_up().await;
    let target = folder.path().join("target");
    fs::remove_file(data.join("ca/ca.key")).unwrap();
    let to = target.clone();
    let result = tokio::task::spawn_blocking(move || backup(&data, &to, |_, _| {})).await.unwrap();
    assert!(matches!(result, Err(BackupError::NoCa { file: "ca/ca.key", .. })), "{result:?}");
    assert!(!target.exists());
}

/// As a unit with DynamicUser has it: /var/lib/pitstop leads to /var/lib/private/pitstop.
#[cfg(unix)]
#[tokio::test]
async fn a_restored_directory_is_where_a_link_leads_and_the_link_stays() {
    let (folder, _, copy) = backed_up().await;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("private")).unwrap();
    for (link, leads_to, is_there) in [
        ("empty", "private/empty", true),
        ("dangling", "private/dangling", false),
        ("whole", at("private/whole").to_str().unwrap(), true),
        ("twice", "dangling-too", false),
    ] {
        std::os::unix::fs::symlink(leads_to, at(link)).unwrap();
        if link == "twice" {
            std::os::unix::fs::symlink("private/twice", at("dangling-too")).unwrap();
        }
        let place = at("private").join(link);
        if is_there {
            fs::create_dir(&place).unwrap();
        }
        restore(&copy, &at(link), |_, _| {}).unwrap();
        assert_eq!(fs::read_link(at(link)).unwrap(), Path::new(leads_to), "{link}");
        assert!(
            fs::symlink_metadata(&place).unwrap().is_dir() && place.join("ca/ca.pem").is_file(),
            "{link}"
        );
        let again = restore(&copy, &at(link), |_, _| {});
        assert!(matches!(&again, Err(BackupError::NotEmpty { path }) if *path == place), "{link}: {again:?}");
    }
    assert_eq!(fs::read_dir(at("private")).unwrap().count(), 4, "no draft is left");
}

/// Artifacts on a larger disk, and a CA on another one.
#[cfg(unix)]
#[tokio::test]
async fn what_a_link_leads_to_is_backed_up() {
    let (folder, data, copy) = backed_up().await;
    let at = |name: &str| folder.path().join(name);
    for name in ["ca", "artifacts"] {
        fs::rename(data.join(name), at(name)).unwrap();
        std::os::unix::fs::symlink(at(name), data.join(name)).unwrap();
    }
    let (again, linked) = (at("again"), data.clone());
    let save =
        move |to: PathBuf, from: PathBuf| tokio::task::spawn_blocking(move || backup(&from, &to, |_, _| {}));
    save(again.clone(), linked.clone()).await.unwrap().unwrap();
    assert!(again.join("ca/ca.pem").is_file());
    assert_eq!(files_below(&again.join("artifacts")).len(), files_below(&copy.join("artifacts")).len());
    for leads_to in [folder.path(), Path::new("nowhere")] {
        std::os::unix::fs::symlink(leads_to, linked.join("odd")).unwrap();
        let refused = save(at("odd"), linked.clone()).await.unwrap();
        assert!(
            matches!(&refused, Err(BackupError::File { path, .. }) if path.ends_with("odd")),
            "{refused:?}"
        );
        fs::remove_file(linked.join("odd")).unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_backup_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_folder, data, copy) = backed_up().await;
    for folder in [data, copy] {
        assert_eq!((mode(&folder), mode(&folder.join("ca"))), (0o700, 0o700));
        for path in files_below(&folder) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}
