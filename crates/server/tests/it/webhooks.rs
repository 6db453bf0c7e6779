//! A team's own backend is told what happens.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::app::TestApp;
use crate::client::Answer;
use crate::rollouts::{World, one_wave};

/// What came: head and body.
type Requests = Arc<Mutex<Vec<(String, Value)>>>;

/// A backend that answers with a status, which can be changed.
struct Backend {
    url: String,
    requests: Requests,
    status: Arc<Mutex<u16>>,
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pitstop", listener.local_addr().unwrap());
        let (requests, status) = (Requests::default(), Arc::new(Mutex::new(200)));
        let (seen, answer) = (requests.clone(), status.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                let mut buffer = [0; 4096];
                // Each comes on a connection of its own, for it is told that this one closes.
                let (head, body) = loop {
                    let count = stream.read(&mut buffer).await.unwrap();
                    text += std::str::from_utf8(&buffer[..count]).unwrap();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    match serde_json::from_str(body) {
                        Ok(body) => break (head.to_lowercase(), body),
                        Err(_) => assert!(count > 0, "{text}"),
                    }
                };
                seen.lock().unwrap().push((head, body));
                let status = *answer.lock().unwrap();
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, requests, status }
    }

    fn events(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, body)| body["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until so many requests have come.
    async fn until(&self, count: usize) {
        let ends = Instant::now() + Duration::from_secs(30);
        while self.requests.lock().unwrap().len() < count {
            assert!(Instant::now() < ends, "{:?} of {count}", self.events());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A backend that takes connections and says nothing on them; how many it has.
async fn silent_backend() -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let count = Arc::new(Mutex::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            *seen.lock().unwrap() = held.len();
        }
    });
    (url, count)
}

impl Backend {
    async fn until_told(&self, event: &str) {
        let ends = Instant::now() + Duration::from_secs(30);
        while !self.events().iter().any(|told| told == event) {
            assert!(Instant::now() < ends, "{:?}", self.events());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl TestApp {
    async fn add_webhook(&self, body: Value) -> Answer {
        self.post("/webhooks", &body).await
    }
}

#[tokio::test]
async fn a_backend_is_told_what_happens_to_a_rollout() {
    let mut world = World::new().await;
    let backend = Backend::start().await;
    let webhook =
        world.app.add_webhook(json!({ "url": backend.url, "product": "lamp" })).await.expect(201).json();
    assert!(webhook["secret"].as_str().unwrap().starts_with("whsec_"));
    let other = Backend::start().await;
    world.app.create_product("fan").await;
    world.app.add_webhook(json!({ "url": other.url, "product": "fan" })).await.expect(201);
    let mut lamp = world.lamp("lamp-1").await;
    let id = world.roll_out(&[], one_wave(0)).await;
    lamp.install(&world, 2).await;
    world.in_state(&id, "completed").await;
    backend.until_told("rollout.complete").await;
    let mut events = backend.events();
    events.sort();
    assert_eq!(events, ["release.publish", "rollout.complete", "rollout.start", "rollout.supersede"]);
    assert!(other.events().is_empty(), "it is about another product");

    let is_it = |(_, body): &&(String, Value)| body["type"] == "rollout.complete";
    let (head, body) = backend.requests.lock().unwrap().iter().find(is_it).unwrap().clone();
    assert_eq!((&body["data"]["subject"], &body["data"]["product"]), (&json!(id), &json!("lamp")));
    assert_eq!(body["data"]["actor"]["id"], "server");
    for header in ["post /pitstop http/1.1", "content-type: application/json", "webhook-signature: v1,"] {
        assert!(head.contains(header), "{header} in {head}");
    }
    let path = format!("/webhooks/{}/deliveries", webhook["id"].as_str().unwrap());
    let delivered = |deliveries: &Value| {
        deliveries["items"].as_array().unwrap().iter().all(|delivery| delivery["state"] == "delivered")
    };
    let deliveries = world.app.until(&path, delivered).await;
    assert_eq!(
        (&deliveries["items"][0]["tries"], &deliveries["items"][0]["status"]),
        (&json!(1), &json!(200))
    );
}

#[tokio::test]
async fn a_delivery_is_tried_until_it_is_taken() {
    let world = World::new().await;
    let backend = Backend::start().await;
    *backend.status.lock().unwrap() = 500;
    let webhook = world.app.add_webhook(json!({ "url": backend.url })).await.expect(201).json();
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    world.app.admin(Method::POST, &format!("{path}/test"), "").await.expect(202);
    backend.until(1).await;
    let list = format!("{path}/deliveries");
    let waits = world
        .app
        .until(&list, |list| list["items"][0]["error"] == "answered 500 Internal Server Error")
        .await;
    assert_eq!((&waits["items"][0]["state"], &waits["items"][0]["tries"]), (&json!("waiting"), &json!(1)));
    let listed = &world.app.get("/webhooks").await["items"][0];
    assert_eq!((&listed["waiting"], &listed["next_try_at"]), (&json!(1), &waits["items"][0]["next_try_at"]));
    assert!(listed["next_try_at"].is_string(), "{listed}");
    *backend.status.lock().unwrap() = 204;
    world.clock.advance_ms(6_000);
    backend.until(2).await;
    world.app.until(&list, |list| list["items"][0]["state"] == "delivered").await;
    let listed = &world.app.get("/webhooks").await["items"][0];
    assert_eq!((&listed["waiting"], &listed["next_try_at"]), (&json!(0), &Value::Null));
    let ids: Vec<_> =
        backend.requests.lock().unwrap().iter().map(|(head, _)| header(head, "webhook-id")).collect();
    assert_eq!(ids[0], ids[1], "it is the same one");

    world.app.admin(Method::DELETE, &path, "").await.expect(200);
    world.app.admin(Method::DELETE, &path, "").await.expect(404);
    world.app.admin(Method::GET, &list, "").await.expect(404);
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_default().to_owned()
}

/// Each delivery to it takes the 10 s that are waited for an answer.
#[tokio::test]
async fn a_backend_that_does_not_answer_holds_up_no_other() {
    let app = TestApp::start().await;
    let (silent, connections) = silent_backend().await;
    let backend = Backend::start().await;
    let mut tests = Vec::new();
    for url in [&silent, &backend.url] {
        let webhook = app.add_webhook(json!({ "url": url })).await.expect(201).json();
        tests.push(format!("/webhooks/{}/test", webhook["id"].as_str().unwrap()));
    }
    for _ in 0..3 {
        app.admin(Method::POST, &tests[0], "").await.expect(202);
    }
    let ends = Instant::now() + Duration::from_secs(5);
    while *connections.lock().unwrap() == 0 {
        assert!(Instant::now() < ends, "nobody was told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..3 {
        app.admin(Method::POST, &tests[1], "").await.expect(202);
    }
    let started = Instant::now();
    backend.until(3).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let count = *connections.lock().unwrap();
    assert_eq!(count, 1, "one delivery of a webhook at a time");
}

#[tokio::test]
async fn a_delivery_that_nobody_takes_is_given_up_after_two_days() {
    let world = World::new().await;
    // Nobody listens there.
    let webhook = world.app.add_webhook(json!({ "url": "http://127.0.0.1:9/" })).await.expect(201).json();
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    world.app.admin(Method::POST, &format!("{path}/test"), "").await.expect(202);
    let list = format!("{path}/deliveries");
    for tries in 1..=8 {
        world
            .app
            .until(&list, |list| list["items"][0]["tries"] == tries && list["items"][0]["error"].is_string())
            .await;
        world.clock.advance_ms(16 * 3_600_000 + 60_000);
    }
    let given_up = world.app.until(&list, |list| list["items"][0]["state"] == "failed").await;
    assert_eq!((&given_up["items"][0]["tries"], &given_up["items"][0]["status"]), (&json!(9), &Value::Null));
}

#[tokio::test]
async fn a_start_by_a_publication_and_an_approval_are_told_and_a_draft_is_not() {
    let mut world = World::new().await;
    let backend = Backend::start().await;
    let events = ["rollout.start", "rollout.approve"];
    world.app.add_webhook(json!({ "url": backend.url, "events": events })).await.expect(201);
    world.publish(&[], "default").await;
    let by_publication = "ro-lamp-2";
    backend.until_told("rollout.start").await;
    world.publish(&[], "none").await;
    let waves = json!([
        { "select": { "percent": 50 } }, { "select": { "percent": 100 }, "approval": "manual" },
    ]);
    let body = json!({ "product": "lamp", "sequence": 3, "plan": { "waves": waves } });
    let id = world.app.post("/rollouts", &body).await.expect(201).json()["id"].as_str().unwrap().to_owned();
    world.act(&id, "start").await;
    world.act(&id, "approve").await;
    backend.until_told("rollout.approve").await;
    let told: Vec<_> = backend
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|(_, body)| format!("{} {}", body["type"], body["data"]["subject"]).replace('"', ""))
        .collect();
    let expected = [
        format!("rollout.start {by_publication}"),
        format!("rollout.start {id}"),
        format!("rollout.approve {id}"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_a_webhook_cannot_be_is_told() {
    let app = TestApp::start().await;
    for url in
        ["http://backend.example/", "http://192.0.2.7/", "http://localhost.example/", "http://[2001:db8::1]/"]
    {
        let refused = app.add_webhook(json!({ "url": url })).await.expect(422).json();
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("expected https") && detail.contains("allow_http"), "{detail}");
        app.add_webhook(json!({ "url": url, "allow_http": true })).await.expect(201);
    }
    for url in ["http://localhost:8000/", "http://127.0.0.1/", "http://[::1]:80/", "https://backend.example/"]
    {
        app.add_webhook(json!({ "url": url })).await.expect(201);
    }
    for webhook in app.get("/webhooks").await["items"].as_array().unwrap() {
        let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
        app.admin(Method::DELETE, &path, "").await.expect(200);
    }
    for url in ["", "backend.example", "ftp://backend.example/", "file:///etc/passwd", "http://"] {
        app.add_webhook(json!({ "url": url })).await.expect(422);
    }
    let refused = app.add_webhook(json!({ "url": "https://b.example/", "events": ["rollout.halted"] })).await;
    let detail = refused.expect(422).json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("rollout.halt,") && detail.ends_with("found rollout.halted"), "{detail}");
    app.add_webhook(json!({ "url": "https://b.example/", "product": "lamp" })).await.expect(404);
    let webhook = app.add_webhook(json!({ "url": "https://b.example/", "events": ["rollout.halt"] })).await;
    let secret = webhook.expect(201).json()["secret"].as_str().unwrap().to_owned();
    let listed = app.get("/webhooks").await;
    assert!(!listed.to_string().contains(&secret), "it is shown once");
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    assert_eq!((listed["items"][0]["events"].clone(), key.len()), (json!(["rollout.halt"]), 32));
}

#[tokio::test]
async fn a_wave_that_waits_and_a_release_in_quarantine_are_told_once() {
    let mut world = World::new().await;
    let backend = Backend::start().await;
    let events = ["rollout.wait", "device.quarantine"];
    world.app.add_webhook(json!({ "url": backend.url, "events": events })).await.expect(201);
    let body = json!({ "quarantine_after": 1 });
    world.app.admin(Method::PATCH, "/products/lamp", body.to_string()).await.expect(200);
    let mut lamp = world.lamp("lamp-1").await;
    let waves =
        json!({ "waves": [{ "select": { "percent": 50 }, "soak_s": 60 }, { "select": { "percent": 100 } }] });
    let id = world.roll_out(&[], waves).await;
    world.clock.advance_ms(120_000);
    backend.until_told("rollout.wait").await;
    let told = backend.requests.lock().unwrap()[0].1.clone();
    assert_eq!((&told["data"]["subject"], &told["data"]["after"]["wave"]), (&json!(id), &json!(0)));
    lamp.connection.report(2, wire::Reason::ImageDigest).await.expect(204);
    backend.until_told("device.quarantine").await;
    world.clock.advance_ms(120_000);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut events = backend.events();
    events.sort();
    assert_eq!(events, ["device.quarantine", "rollout.wait"]);
}
