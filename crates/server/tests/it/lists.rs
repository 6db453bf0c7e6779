//! Lists and summaries of a large fleet are there at once, and whoever asks for them holds up no device.
//!
//! `PITSTOP_TEST_DEVICES` says how large; `cargo xtask campaign --only server` asks for a million.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::{TestApp, check_in};
use crate::client::{Connection, Identity, request};

/// So long an honest device checks in, each time.
const WATCHED: Duration = Duration::from_secs(3);

/// What people look at: each filter of the dashboard, those that find nothing, and pages that are far behind.
const PAGES: [&str; 46] = [
    "/devices",
    "/devices?cursor=lamp-9",
    "/devices?limit=1000",
    "/devices?product=fan",
    "/devices?product=fan&health=crashing",
    "/devices?channel=beta",
    "/devices?channel=none",
    "/devices?health=crashing",
    "/devices?health=crashing&channel=none",
    "/devices?health=ok&channel=none",
    "/devices?health=silent&product=fan&channel=none",
    "/devices?state=new",
    "/devices?state=enrolled&channel=none",
    "/devices?state=revoked",
    "/devices?sequence=1",
    "/devices?sequence=7",
    "/devices?product=lamp&sequence=7",
    "/devices?tag=rare",
    "/devices?tag=common",
    "/devices?tag=rare&health=crashing",
    "/devices?tag=common&health=crashing",
    "/devices?rollout=ro-lamp-1",
    "/devices?rollout=ro-lamp-1&total=true",
    "/devices?rollout=ro-lamp-1&wave=1",
    "/devices?rollout=ro-lamp-1&wave=0&attempt=healthy",
    "/devices?rollout=ro-lamp-1&wave=0&attempt=crashed&epoch=1&total=true",
    "/devices?rollout=ro-lamp-1&wave=1&attempt=silent&channel=none",
    "/devices?waiting=true&total=true",
    "/devices?before=lamp-9",
    "/devices?total=true&health=ok&channel=none",
    "/devices?sort=last-seen",
    "/devices?sort=last-seen&order=descending&limit=1000",
    "/devices?sort=created&order=descending",
    "/devices?sort=created&cursor=0.lamp-9",
    "/devices?sort=last-seen&health=crashing",
    "/devices?sort=last-seen&state=revoked",
    "/devices?sort=created&tag=rare",
    "/devices?sort=last-seen&tag=common&health=crashing",
    "/devices?sort=last-seen&waiting=true",
    "/devices?sort=last-seen&health=ok&channel=none",
    "/devices?q=nowhere",
    "/devices?q=lamp-9",
    "/fleet/summary",
    "/fleet/history",
    "/audit?kind=device",
    "/audit?product=fan&since=2026-01-01T00:00:00Z",
];

fn devices() -> i64 {
    std::env::var("PITSTOP_TEST_DEVICES").map_or(20_000, |count| count.parse().expect("a number"))
}

/// A fleet of two products: every tenth device is a fan; three in ten crash, and one in ten each is silent or fails.
async fn fill(app: &TestApp, now_ms: i64) {
    let mut database = app.dir.connect().await;
    let devices = devices();
    let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)";
    let id = "(CASE WHEN i % 10 = 9 THEN 'fan-' ELSE 'lamp-' END) || CAST(i * 7919 % 1000003 AS TEXT) || '-' || \
         CAST(i AS TEXT)";
    let statements = [
        format!(
            "INSERT INTO devices (id, product, note, channel, token_hash, created_at_ms, enrolled_at_ms, \
                 last_seen_at_ms, seen_hour, look_at_ms, running_sequence, running_digest, slots, attempt_state, \
                 attempt_rollout, attempt_wave, enrollment_pending_at_ms, health, certificate_serial, revoked_at_ms) \
             {numbers} SELECT {id}, CASE WHEN i % 10 = 9 THEN 'fan' ELSE 'lamp' END, 'on the shelf', \
                 CASE WHEN i % 20 = 0 THEN 'beta' ELSE 'stable' END, '{token}', 0, 1, $2, $2 / 3600000, \
                 $2 + 600000000, i % 3, '{token}', '{slots}', \
                 CASE i % 10 WHEN 0 THEN 'silent' WHEN 1 THEN 'crashed' WHEN 2 THEN 'crashed' WHEN 3 THEN 'crashed' \
                     WHEN 4 THEN 'failed' ELSE 'healthy' END, \
                 CASE WHEN i % 10 < 9 THEN 'ro-lamp-1' END, CASE WHEN i % 100 = 1 THEN 0 ELSE 1 END, \
                 CASE WHEN i < 1000 THEN $2 END, \
                 CASE WHEN i % 1000 = 5 THEN 'revoked' ELSE CASE i % 10 WHEN 0 THEN 'silent' WHEN 1 THEN 'crashing' \
                     WHEN 2 THEN 'crashing' WHEN 3 THEN 'crashing' WHEN 4 THEN 'failing' ELSE 'ok' END END, \
                 'serial-' || CAST(i AS TEXT), CASE WHEN i % 1000 = 5 THEN $2 END \
             FROM n",
            token = "8".repeat(64),
            slots = r#"[{"label":"ota_0","size_bytes":3080192,"bootable":true}]"#,
        ),
        format!(
            "INSERT INTO certificates (serial, device, key_digest, not_before_ms, not_after_ms, issued_at_ms, der_base64) \
             {numbers} SELECT 'serial-' || CAST(i AS TEXT), {id}, '', 0, $2 + 600000000, i, '' FROM n",
        ),
        format!(
            "INSERT INTO device_tags (tag, device) {numbers} \
             SELECT CASE WHEN i % 3 = 0 THEN 'common' ELSE 'other' END, {id} FROM n WHERE i <= $1 AND $2 > 0 \
             UNION ALL SELECT 'rare', {id} FROM n WHERE i < 100",
        ),
        format!(
            "INSERT INTO audit (id, at_ms, actor, actor_name, action, kind, subject, product) {numbers} \
             SELECT '0' || CAST(1000000000 + i AS TEXT), $2, 'server', 'server', 'device.quarantine', 'device', {id}, \
                 CASE WHEN i % 10 = 9 THEN 'fan' ELSE 'lamp' END FROM n",
        ),
    ];
    for statement in statements {
        let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(devices).bind(now_ms);
        query.execute(&mut database).await.unwrap();
    }
    if !app.dir.is_embedded() {
        sqlx::query("ANALYZE").execute(&mut database).await.unwrap();
    }
}

/// How long a page takes: the middle one of three times.
async fn time(app: &TestApp, path: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        app.get(path).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[1]
}

/// Of an honest device that checks in 50 times a second, the time that all but one in a hundred answers take.
async fn check_in_p99(app: &TestApp, identity: &Identity) -> Duration {
    let mut connection = app.connect(Some(identity)).await;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut times = Vec::new();
    let ends = Instant::now() + WATCHED;
    while Instant::now() < ends {
        ticks.tick().await;
        let began = Instant::now();
        connection.check_in(&check_in(None)).await.expect(200);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Eight people ask for a page again and again; what the device found meanwhile, and how many pages they got.
async fn while_people_ask(app: &TestApp, path: &str, identity: &Identity) -> (Duration, u64) {
    let stop = CancellationToken::new();
    let pages = Arc::new(AtomicU64::new(0));
    let mut people = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (stop, pages) = (stop.clone(), pages.clone());
        let (address, bearer) = (app.server.admin_addr(), format!("Bearer {}", app.token));
        let path = format!("/api/v1{path}");
        people.spawn(async move {
            let mut connection = Connection::plain(address).await.unwrap();
            while !stop.is_cancelled() {
                let ask = request(Method::GET, &path, &[("authorization", &bearer)], "");
                connection.send(ask).await.unwrap().expect(200);
                pages.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let p99 = check_in_p99(app, identity).await;
    stop.cancel();
    people.join_all().await;
    (p99, pages.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fleet_is_listed_at_once_and_holds_up_no_device() {
    let app = TestApp::start().await;
    let (_, identity) = app.enrolled().await;
    app.create_product("fan").await;
    // A rollout that is over counts nobody.
    app.release(1, "1.0.0").await;
    app.post("/rollouts/ro-lamp-1/abort", &Value::Null).await.expect(200);
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    fill(&app, now_ms).await;

    let began = Instant::now();
    let app = app.restart().await;
    let started = began.elapsed();
    // Whoever writes next tidies up SQLite's log after transactions as large as those.
    app.create_product("valve").await;
    let began = Instant::now();
    app.connect(Some(&identity)).await.check_in(&check_in(None)).await.expect(200);
    let first_check_in = began.elapsed();

    let summary = app.get("/fleet/summary").await;
    assert_eq!(summary["devices"], devices() + 1);
    assert_eq!(summary["by_health"]["crashing"], devices() * 3 / 10);
    let mut times = Vec::new();
    for path in PAGES {
        times.push((time(&app, path).await, path));
    }
    let began = Instant::now();
    let mut connection = Connection::plain(app.server.admin_addr()).await.unwrap();
    connection.get("/.well-known/pitstop/crl.pem", &[]).await.expect(200);
    let crl = began.elapsed();
    times.sort_unstable();
    for (took, path) in &times {
        println!("{:>8.1} ms  {path}", took.as_secs_f64() * 1000.0);
    }
    let (worst, path) = times.pop().unwrap();

    let alone = check_in_p99(&app, &identity).await;
    let (beside, pages) = while_people_ask(&app, path, &identity).await;
    println!(
        "started in {started:?}; first check-in {first_check_in:?}; list of revoked certificates {crl:?}; worst page \
         {path} {worst:?}; a device's p99 alone {alone:?}, beside 8 people with {pages} pages {beside:?}"
    );
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let figures: Value = json!({
        "devices": devices(), "started_ms": ms(started), "first_check_in_ms": ms(first_check_in), "crl_ms": ms(crl),
        "worst_page_ms": ms(worst), "worst_page": path, "p99_alone_ms": ms(alone), "p99_beside_ms": ms(beside),
        "pages": pages,
    });
    println!("figures: {figures}");
    // Without optimisation, making the text of 1,000 devices takes a fifth of a second, and other tests run beside this one.
    // What reads each device takes ten seconds and more.
    let slower = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(worst < slower * Duration::from_millis(200), "{path}: {worst:?}");
    assert!(beside < slower * Duration::from_millis(50).max(alone * 3), "{alone:?} {beside:?}");
}
