//! Artifacts: in through the admin API, out to devices.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hyper::Method;
use manifest::Digest;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::app::{TestApp, csr, describe, image, image_of, product_body, sign};
use crate::client::Connection;
use crate::place::Place;

#[tokio::test]
async fn ranges_get_what_they_ask_for_and_nothing_else() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    let size = image.len();
    let digest = Digest::of(&image).to_string();
    let path = format!("{}{digest}", wire::ARTIFACTS_PATH);
    let etag = format!("\"{digest}\"");
    let mut connection = app.connect(Some(&identity)).await;

    let whole = connection.get(&path, &[]).await.expect(200);
    assert_eq!(whole.body, image);
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("etag"), etag);
    assert_eq!(whole.header("content-length"), size.to_string());
    assert_eq!(whole.header("content-range"), "");

    let last = size - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=65536-131071".to_owned(), 65_536, 131_072),
        (format!("bytes=131072-{}", size * 2), 131_072, size),
        ("bytes=100-".to_owned(), 100, size),
        ("bytes=-10".to_owned(), size - 10, size),
        (format!("bytes=-{}", size * 2), 0, size),
        (format!("bytes={last}-{last}"), last, size),
    ] {
        let part = connection.get(&path, &[("range", &range), ("if-range", &etag)]).await.expect(206);
        assert_eq!(part.body, image[first..end], "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {first}-{}/{size}", end - 1), "{range}");
        assert_eq!(part.header("content-length"), (end - first).to_string(), "{range}");
    }
    for range in [format!("bytes={size}-"), format!("bytes={size}-{}", size + 9), "bytes=-0".to_owned()] {
        let none = connection.get(&path, &[("range", &range)]).await.expect(416);
        assert_eq!(none.header("content-range"), format!("bytes */{size}"), "{range}");
    }
    for range in ["bytes=5-4", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"] {
        assert_eq!(connection.get(&path, &[("range", range)]).await.expect(200).body, image, "{range}");
    }
    for condition in ["\"another\"", "W/\"another\"", "Sun, 22 Nov 2026 17:00:00 GMT"] {
        let headers = [("range", "bytes=0-0"), ("if-range", condition)];
        assert_eq!(connection.get(&path, &headers).await.expect(200).body, image, "{condition}");
    }
}

#[tokio::test]
async fn a_device_gets_the_artifacts_of_its_own_product_only() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    app.create_product("fan").await;
    let mut of_fan = describe(&image("fan"), 1, "1.0.0");
    of_fan.product = "fan".to_owned();
    app.upload(&image("fan")).await.expect(201);
    app.publish("fan", &sign(&of_fan)).await.expect(201);
    app.upload(&image("nobody")).await.expect(201);
    let mut connection = app.connect(Some(&identity)).await;
    for digest in [Digest::of(&image("fan")).to_string(), Digest::of(&image("nobody")).to_string()] {
        connection.get(&format!("{}{digest}", wire::ARTIFACTS_PATH), &[]).await.expect(404);
    }
    for name in ["nothing", "..%2F..%2Fpitstop.db", &Digest::of(b"").to_string().to_uppercase()] {
        connection.get(&format!("{}{name}", wire::ARTIFACTS_PATH), &[]).await.expect(404);
    }
}

#[tokio::test]
async fn an_upload_with_another_digest_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let digest = Digest::of(b"right");
    let path = format!("/artifacts/{digest}");
    let answer = app.admin(Method::PUT, &path, "wrong").await.expect(422).json();
    assert_eq!(answer["type"], "urn:pitstop:problem:digest-mismatch");
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains(&digest.to_string()) && detail.contains(&Digest::of(b"wrong").to_string()),
        "{detail}"
    );
    assert_eq!(app.dir.stored_artifacts().await.len(), 0);

    app.admin(Method::PUT, &path, "right").await.expect(201);
    app.admin(Method::PUT, &path, "right").await.expect(200);
    assert_eq!(app.dir.stored_artifacts().await.len(), 1);

    app.admin(Method::PUT, "/artifacts/nonsense", "right").await.expect(400);
    let too_long = vec![0; server::MAX_ARTIFACT_BYTES as usize + 1];
    let path = format!("/artifacts/{}", Digest::of(&too_long));
    app.admin(Method::PUT, &path, too_long).await.expect(413);
    assert_eq!(app.dir.stored_artifacts().await.len(), 1);
}

#[tokio::test]
async fn a_large_artifact_is_there_once_all_of_it_was_right() {
    let app = TestApp::start().await;
    // More than a part of an upload to an S3 store (5 MiB), which shows nothing of it before the end.
    let image = image_of("large", 6 * 1024 * 1024);
    let digest = Digest::of(&image);
    let mut changed = image.clone();
    *changed.last_mut().unwrap() ^= 1;
    app.admin(Method::PUT, &format!("/artifacts/{digest}"), changed).await.expect(422);
    assert_eq!(app.dir.stored_artifacts().await, []);
    app.upload(&image).await.expect(201);
    assert_eq!(app.dir.stored_artifacts().await, [(digest.to_string(), digest)]);

    let (layout, csv) = flashfmt::layout::BUILTIN.iter().find(|(name, _)| *name == "16mb").unwrap();
    let mut product = product_body("lamp");
    product["layout"] = json!({ "name": layout, "csv": csv });
    app.post("/products", &product).await.expect(201);
    // Publishing reads all of it.
    app.publish("lamp", &sign(&describe(&image, 1, "large"))).await.expect(201);
    let device = app.create_device("lamp-1", "lamp").await;
    let certificate = app.enroll(&device, &csr(&device.key)).await.expect(200).certificate();
    let mut connection = app.connect(Some(&device.identity(certificate))).await;
    let path = format!("{}{digest}", wire::ARTIFACTS_PATH);
    for (first, end) in [(5 * 1024 * 1024 - 10, 5 * 1024 * 1024 + 10), (0, image.len())] {
        let range = format!("bytes={first}-{}", end - 1);
        let part = connection.get(&path, &[("range", &range)]).await.expect(206);
        assert!(part.body == image[first..end], "{range}");
    }
}

#[tokio::test]
async fn a_damaged_artifact_is_told_and_mended_by_another_upload() {
    let change = |config: &mut server::Config| config.scrub_period = Duration::from_millis(200);
    let app = TestApp::start_at(Place::embedded(), change).await;
    let (_, identity) = app.enrolled().await;
    let image = app.release(1, "1.0.0").await;
    let (name, file) = artifact_file(&app, &image);
    let path = format!("{}{name}", wire::ARTIFACTS_PATH);
    let mut admin = Connection::plain(app.server.admin_addr()).await.unwrap();
    for damage in [&image[..100], &[], &[&image[..image.len() - 1], b"x"].concat()] {
        std::fs::write(&file, damage).unwrap();
        let ends = Instant::now() + Duration::from_secs(20);
        loop {
            let ready = admin.get("/readyz", &[]).await.expect(200).json();
            let notice = ready["notices"][0].as_str().unwrap_or_default().to_owned();
            if notice.contains("1 artifact damaged") && notice.contains(&name) {
                break;
            }
            assert!(Instant::now() < ends, "{ready}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(admin.get("/metrics", &[]).await.text().contains("pitstop_artifacts_damaged 1"));
        app.upload(&image).await.expect(201);
        let ready = admin.get("/readyz", &[]).await.expect(200).json();
        assert_eq!(ready["notices"], json!([]));
        let whole = app.connect(Some(&identity)).await.get(&path, &[("range", "bytes=0-65535")]).await;
        assert_eq!(whole.expect(206).body, image[..65536]);
        app.upload(&image).await.expect(200);
    }
}

fn artifact_file(app: &TestApp, image: &[u8]) -> (String, PathBuf) {
    let name = Digest::of(image).to_string();
    let file = app.dir.path().join("artifacts").join(&name[..2]).join(&name);
    (name, file)
}

#[tokio::test]
async fn uploads_are_audited_and_end_at_the_quota_of_their_product() {
    let app = TestApp::start_with(|config| config.artifact_quota_bytes = 50_000).await;
    app.create_product("lamp").await;
    app.create_product("fan").await;
    let upload = async |product: &str, image: &[u8]| {
        let path = format!("/artifacts/{}?product={product}", Digest::of(image));
        app.admin(Method::PUT, &path, image.to_vec()).await
    };
    let first = vec![1; 30_000];
    upload("lamp", &first).await.expect(201);
    // What is there takes no more room, whoever sends it.
    upload("lamp", &first).await.expect(200);
    upload("fan", &first).await.expect(200);
    let refused = upload("lamp", &[2; 20_001]).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:quota", "{refused}");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("quota of 50000 for product lamp, found 30000 stored"), "{detail}");
    upload("lamp", &[2; 20_000]).await.expect(201);
    upload("fan", &[3; 50_000]).await.expect(201);
    upload("", &[4; 50_000]).await.expect(201);
    upload("", &[5; 1]).await.expect(409);
    upload("nothing", &[6; 1]).await.expect(404);
    let lamp = app.get("/products/lamp").await;
    assert_eq!((&lamp["artifact_bytes"], &lamp["artifact_quota_bytes"]), (&json!(50_000), &json!(50_000)));
    assert_eq!(app.get("/products").await["items"][0]["artifact_bytes"], 50_000);

    let lines = app.get("/audit?kind=artifact&product=lamp").await;
    let lines = lines["items"].as_array().unwrap();
    let sizes: Vec<_> = lines.iter().map(|line| (&line["action"], &line["after"]["size_bytes"])).collect();
    let action = json!("artifact.upload");
    assert_eq!(sizes, [(&action, &json!(20_000)), (&action, &json!(30_000))]);
    assert_eq!(lines[1]["subject"], Digest::of(&first).to_string());
}

#[tokio::test]
async fn what_was_uploaded_for_no_product_counts_for_the_one_that_publishes_it() {
    let images = [image("1.0.0"), image("2.0.0")];
    let quota_bytes = images[0].len().max(images[1].len()) as u64 + 10;
    let app = TestApp::start_with(|config| config.artifact_quota_bytes = quota_bytes).await;
    app.create_product("lamp").await;
    app.create_product("fan").await;
    let path = format!("/artifacts/{}?product=fan", Digest::of(&[1; 11]));
    app.admin(Method::PUT, &path, vec![1; 11]).await.expect(201);
    let of = |product: &str, image: &[u8]| {
        let mut manifest = describe(image, 1, "1");
        manifest.product = product.to_owned();
        sign(&manifest)
    };
    app.upload(&images[0]).await.expect(201);
    let refused = app.publish("fan", &of("fan", &images[0])).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:quota", "{refused}");
    app.upload(&images[1]).await.expect(409);
    app.publish("lamp", &of("lamp", &images[0])).await.expect(201);
    app.upload(&images[1]).await.expect(201);
    // Once it is of a product, it stays there, whoever else publishes it.
    app.create_product("heater").await;
    app.publish("heater", &of("heater", &images[0])).await.expect(201);
    for (product, bytes) in [("lamp", images[0].len()), ("heater", 0)] {
        assert_eq!(app.get(&format!("/products/{product}")).await["artifact_bytes"], bytes, "{product}");
    }
}

#[tokio::test]
async fn a_publication_that_is_refused_counts_towards_no_quota() {
    let app = TestApp::start().await;
    app.create_product("lamp").await;
    let [first, second] = ["1.0.0", "2.0.0"].map(image);
    for image in [&first, &second] {
        app.upload(image).await.expect(201);
    }
    app.publish("lamp", &sign(&describe(&first, 2, "1.0.0"))).await.expect(201);
    let counted = json!(first.len());
    assert_eq!(app.get("/products/lamp").await["artifact_bytes"], counted);
    let refused = app.publish("lamp", &sign(&describe(&second, 1, "2.0.0"))).await.expect(409).json();
    assert_eq!(refused["type"], "urn:pitstop:problem:sequence-not-newer", "{refused}");
    assert_eq!(app.get("/products/lamp").await["artifact_bytes"], counted);
    app.publish("lamp", &sign(&describe(&second, 3, "2.0.0"))).await.expect(201);
    assert_eq!(app.get("/products/lamp").await["artifact_bytes"], first.len() + second.len());
}

/// Whatever is stored is noted, although nobody waits for the answer.
#[tokio::test]
async fn an_upload_whose_sender_leaves_is_counted_and_audited_when_it_is_kept() {
    let app = TestApp::start().await;
    let began = Instant::now();
    app.upload(b"whole").await;
    let whole_upload = began.elapsed();
    for number in 0..150_u32 {
        let image = number.to_be_bytes();
        let head = format!(
            "PUT /api/v1/artifacts/{} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 4\r\n\r\n",
            Digest::of(&image),
            app.token
        );
        let mut tcp = TcpStream::connect(app.server.admin_addr()).await.unwrap();
        tcp.write_all(head.as_bytes()).await.unwrap();
        tcp.write_all(&image).await.unwrap();
        // At every part of the way, which is longer where the stores are: some are kept, and few are answered.
        tokio::time::sleep(whole_upload * number / 120).await;
    }
    let ends = Instant::now() + Duration::from_secs(20);
    loop {
        let stored = app.dir.stored_artifacts().await.len();
        let noted = app.get("/audit?kind=artifact&limit=1000").await["items"].as_array().unwrap().len();
        // One was waited for.
        if stored == noted && stored > 1 {
            break;
        }
        assert!(Instant::now() < ends, "{stored} are stored, {noted} are noted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
