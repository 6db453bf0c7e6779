//! Webhooks: a team's own backend is told what happens, by requests that it can verify (Standard Webhooks 1.0.0,
//! github.com/standard-webhooks/standard-webhooks).
//!
//! What happens stands in the audit log, in the transaction of the change. So a webhook is a place in that log: what comes
//! after it is noted as deliveries, and each of these is sent until somebody answers 2xx or two days are over. A delivery may
//! come more than once, and not in the order of the log: its id says which it is, its time when it was.
//!
//! A webhook is sent one delivery at a time, and several webhooks are sent theirs at once: a backend that does not answer
//! holds up nobody else.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use reqwest::redirect::Policy;
use rollout::State;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::app::{App, People};
use crate::clock::rfc3339;
use crate::secret;
use crate::store::{AuditRow, DeliveryRow, NewDelivery, Sent, StoreError, WebhookRow, json_or_text};

/// What a webhook may be told, and when that is.
pub(crate) const EVENTS: [(&str, &str); 19] = [
    ("release.publish", "a release was published"),
    (START, "a rollout began: by `release publish`, `rollout new` or `rollout start`"),
    ("rollout.open-wave", "the next wave is offered the release"),
    ("rollout.wait", "a wave has soaked and waits for evidence"),
    ("rollout.await-approval", "a wave waits for an operator"),
    ("rollout.approve", "an operator approved a wave, which opens"),
    ("rollout.pause", "an operator paused a rollout"),
    ("rollout.halt", "a rollout halted itself"),
    ("rollout.resume", "a rollout goes on"),
    ("rollout.complete", "the devices have the release"),
    ("rollout.abort", "an operator gave a rollout up"),
    ("rollout.supersede", "a newer rollout took a rollout's place"),
    ("device.quarantine", "a release failed too often on a device"),
    ("device.suspect-clone", "two boards seem to come with one device's identity"),
    ("device.revoke", "a device was revoked"),
    ("device.revoke-bulk", "all devices of a filter were revoked or suspended"),
    ("device.suspend", "a device was suspended"),
    ("certificate.end", "the CA or the server's certificate is about to end"),
    ("certificate.devices-end", "a product has devices whose certificate ended, is about to, or was refused"),
];

/// A rollout began.
const START: &str = "rollout.start";

/// What [`test`] sends.
const TEST: &str = "webhook.test";

/// How every secret begins.
const SECRET_PREFIX: &str = "whsec_";

/// The log is looked at so often.
const PERIOD: Duration = Duration::from_secs(1);

/// A line that another transaction wrote may appear this long after later ones.
const SETTLED: Duration = Duration::from_secs(3);

/// Lines of the log for a webhook in one round, and deliveries to it in one turn.
const BATCH: i64 = 100;

/// Webhooks that are sent something at once.
const AT_ONCE: usize = 8;

/// A turn of a webhook begins no other delivery after this, nor after one that failed: with [`ANSWER_TIMEOUT`] a backend that is
/// slow, or does not answer, has its place for 20 s at most.
const TURN: Duration = Duration::from_secs(10);

/// Time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An instance that takes a delivery and ends has another one try it after this.
const TAKEN_MS: i64 = 60_000;

/// Times between tries, as the specification proposes: two days in all.
const PAUSES_S: [i64; 8] = [5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 16 * 3600];

/// What was delivered or given up is kept for 30 days.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;

/// It is looked so often whether there is something to forget: all deliveries are read for that.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);

/// The most that is kept of what an answer says is wrong.
const MAX_ERROR_CHARS: usize = 200;

/// A new secret, by which what is sent is signed.
pub(crate) fn new_secret() -> String {
    format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(secret::random::<32>()))
}

/// Notes a test for a webhook, which is sent at once.
pub(crate) async fn test(people: &People, webhook: &WebhookRow) -> Result<(), StoreError> {
    let now_ms = people.clock.now_ms();
    let body = json!({ "type": TEST, "timestamp": rfc3339(now_ms), "data": { "webhook": webhook.id } });
    let delivery = NewDelivery {
        id: format!("msg-{}", hex::encode(secret::random::<12>())),
        at_ms: now_ms,
        event: TEST.to_owned(),
        body: body.to_string(),
    };
    people.store.note_delivery(&webhook.id, &delivery, now_ms).await
}

/// Goes on until the server stops.
pub(crate) async fn keep_telling(app: Arc<App>) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => return tracing::error!("nobody is told what happens: {error}"),
    };
    let mut lines = Lines::default();
    let mut turns = Turns::new(client);
    let mut next_forget = Instant::now();
    while app.stop.run_until_cancelled(sleep(PERIOD)).await.is_some() {
        if let Err(error) = round(&app, &mut turns, &mut lines).await {
            tracing::error!("webhooks are not told: {error}");
        }
        if Instant::now() >= next_forget {
            next_forget = Instant::now() + FORGET_PERIOD;
            if let Err(error) =
                app.people.store.forget_deliveries(app.config.clock.now_ms().saturating_sub(KEPT_MS)).await
            {
                tracing::error!("what was sent to webhooks is not forgotten: {error}");
            }
        }
    }
    turns.end().await;
}

/// What a webhook is told: the events that were named when it was made, or all that there are.
pub(crate) fn events_of(webhook: &WebhookRow) -> Vec<String> {
    // Written by this server.
    let named: Vec<String> = serde_json::from_str(&webhook.events).unwrap_or_default();
    if !named.is_empty() {
        return named;
    }
    let mut all: Vec<_> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    all.sort();
    all
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // Another provider that is set already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(Policy::none())
        .timeout(ANSWER_TIMEOUT)
        .user_agent(concat!("pitstop/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Which lines of the log were the newest, and when.
#[derive(Default)]
struct Lines(VecDeque<(Instant, String)>);

impl Lines {
    /// The newest line that nothing is written before any more.
    fn settled(&mut self, newest: String) -> Option<String> {
        if self.0.back().is_none_or(|(_, line)| *line != newest) {
            self.0.push_back((Instant::now(), newest));
        }
        let is_settled = |(seen, _): &(Instant, String)| seen.elapsed() >= SETTLED;
        let count = self.0.iter().take_while(|line| is_settled(line)).count();
        self.0.drain(..count.saturating_sub(1));
        self.0.front().filter(|line| is_settled(line)).map(|(_, line)| line.clone())
    }
}

/// Who is being sent something.
struct Turns {
    client: reqwest::Client,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// By the webhook's id.
    running: HashMap<String, JoinHandle<()>>,
}

impl Turns {
    fn new(client: reqwest::Client) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Self { client, places, tasks: TaskTracker::new(), running: HashMap::new() }
    }

    /// Begins a turn of a webhook, if it has none.
    fn begin(&mut self, app: &Arc<App>, webhook: &WebhookRow) {
        self.running.retain(|_, turn| !turn.is_finished());
        if self.running.contains_key(&webhook.id) {
            return;
        }
        let (app, client, webhook) = (app.clone(), self.client.clone(), webhook.clone());
        let (id, places) = (webhook.id.clone(), self.places.clone());
        let turn = self.tasks.spawn(async move {
            // It is never closed.
            let Some(Ok(_place)) = app.stop.run_until_cancelled(places.acquire()).await else { return };
            if let Err(error) = turn(&app, &client, &webhook).await {
                tracing::error!(webhook = webhook.id, "a webhook is not told: {error}");
            }
        });
        self.running.insert(id, turn);
    }

    /// Lets what is being sent end.
    async fn end(self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Notes what happened, and begins the turns of those that something is due for.
async fn round(app: &Arc<App>, turns: &mut Turns, lines: &mut Lines) -> Result<(), StoreError> {
    let webhooks = app.people.store.webhooks().await?;
    if webhooks.is_empty() {
        return Ok(());
    }
    let now_ms = app.config.clock.now_ms();
    if let Some(until) = lines.settled(app.people.store.newest_line().await?) {
        for webhook in webhooks.iter().filter(|webhook| webhook.told_until < until) {
            note(app, webhook, &until, now_ms).await?;
        }
    }
    let due = app.people.store.due_webhooks(now_ms).await?;
    for webhook in webhooks.iter().filter(|webhook| due.contains(&webhook.id)) {
        turns.begin(app, webhook);
    }
    Ok(())
}

/// Sends a webhook what is due, one after the other, until one fails.
async fn turn(app: &App, client: &reqwest::Client, webhook: &WebhookRow) -> Result<(), StoreError> {
    let ends = Instant::now() + TURN;
    for delivery in app.people.store.due_deliveries(&webhook.id, app.config.clock.now_ms(), BATCH).await? {
        let now_ms = app.config.clock.now_ms();
        if app.stop.is_cancelled() || Instant::now() >= ends {
            return Ok(());
        }
        if !app.people.store.take_delivery(&delivery, now_ms + TAKEN_MS).await? {
            continue;
        }
        let sent = send(client, webhook, &delivery, now_ms).await;
        let is_delivered = sent.state == "delivered";
        app.metrics.webhook_deliveries.add(if is_delivered { "delivered" } else { "failed" });
        app.people.store.note_sent(&delivery.id, &sent).await?;
        if !is_delivered {
            return Ok(());
        }
    }
    Ok(())
}

/// Notes what the log has for a webhook.
async fn note(app: &App, webhook: &WebhookRow, until: &str, now_ms: i64) -> Result<(), StoreError> {
    let lines = app.people.store.lines_between(&webhook.told_until, until, BATCH).await?;
    let is_all = i64::try_from(lines.len()).is_ok_and(|count| count < BATCH);
    let until = match lines.last() {
        Some(last) if !is_all => last.id.clone(),
        Some(_) | None => until.to_owned(),
    };
    let events = events_of(webhook);
    let is_for_it = |line: &AuditRow| {
        webhook.product.as_ref().is_none_or(|product| line.product.as_ref() == Some(product))
    };
    let deliveries: Vec<NewDelivery> = lines
        .iter()
        .filter(|line| is_for_it(line))
        .map(|line| (event(line), line))
        .filter(|(event, _)| events.iter().any(|told| told == event))
        .map(|(event, line)| NewDelivery {
            id: format!("msg-{}-{}", line.id, webhook.id),
            at_ms: line.at_ms,
            event: event.to_owned(),
            body: body(event, line).to_string(),
        })
        .collect();
    app.people.store.note_deliveries(webhook, &until, &deliveries, now_ms).await?;
    Ok(())
}

/// What a line is told as: its action, but of a rollout that was made and started at once that it began.
fn event(line: &AuditRow) -> &str {
    let is_draft = || {
        let after = line.after_json.as_deref().map(json_or_text);
        after.is_none_or(|after| after["state"] == State::Draft.name())
    };
    if line.action == "rollout.create" && !is_draft() { START } else { &line.action }
}

/// The line, in the members that the specification names.
fn body(event: &str, line: &AuditRow) -> Value {
    let value = |text: &Option<String>| text.as_deref().map_or(Value::Null, json_or_text);
    json!({
        "type": event,
        "timestamp": rfc3339(line.at_ms),
        "data": {
            "kind": line.kind,
            "subject": line.subject,
            "product": line.product,
            "actor": { "id": line.actor, "name": line.actor_name },
            "before": value(&line.before_json),
            "after": value(&line.after_json),
        },
    })
}

async fn send(client: &reqwest::Client, webhook: &WebhookRow, delivery: &DeliveryRow, now_ms: i64) -> Sent {
    let sent_s = now_ms.div_euclid(1000);
    let request = client
        .post(&webhook.url)
        .header("content-type", "application/json")
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", sent_s)
        .header("webhook-signature", signature(&webhook.secret, &delivery.id, sent_s, &delivery.body))
        .body(delivery.body.clone());
    let (status, error) = match request.send().await {
        Ok(answer) if answer.status().is_success() => {
            let status = Some(i64::from(answer.status().as_u16()));
            return Sent { state: "delivered", try_at_ms: now_ms, status, error: None };
        }
        Ok(answer) => (Some(i64::from(answer.status().as_u16())), format!("answered {}", answer.status())),
        // With its URL it would be told twice.
        Err(error) => (None, innermost(&error.without_url())),
    };
    let error = Some(error.chars().take(MAX_ERROR_CHARS).collect());
    let pause_s = usize::try_from(delivery.tries).ok().and_then(|tries| PAUSES_S.get(tries));
    match pause_s {
        Some(pause_s) => Sent { state: "waiting", try_at_ms: now_ms + pause_s * 1000, status, error },
        None => {
            tracing::warn!(webhook = webhook.id, delivery = delivery.id, "a delivery is given up: {error:?}");
            Sent { state: "failed", try_at_ms: now_ms, status, error }
        }
    }
}

/// What failed at last, which says most.
fn innermost(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The value of `webhook-signature`: version 1, HMAC-SHA-256 over id, time and body.
fn signature(secret: &str, id: &str, sent_s: i64, body: &str) -> String {
    let key = BASE64_STANDARD.decode(secret.trim_start_matches(SECRET_PREFIX)).unwrap_or_default();
    // As HMAC itself fills up short keys (RFC 2104 section 2); ours have 32 bytes.
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (byte, of_key) in block.iter_mut().zip(&key) {
        *byte = *of_key;
    }
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block);
    mac.update(format!("{id}.{sent_s}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = r#"{"test": 2432232314}"#;
        let signed = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn documents_name_every_event() {
        let operations = include_str!("../../../docs/operations.md");
        let events = operations.split_once("| event | when |").unwrap().1.split_once("\n\n").unwrap().0;
        let document = include_str!("../../../docs/openapi.json");
        for (event, _) in EVENTS {
            let event = format!("`{event}`");
            assert!(events.contains(&event) && document.contains(&event), "{event}");
        }
        let named = events.matches('`').count() / 2;
        assert_eq!(named, EVENTS.len() + ["release publish", "rollout new", "rollout start"].len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_is_told_of_when_no_earlier_one_can_come() {
        let mut lines = Lines::default();
        assert_eq!(lines.settled("1".to_owned()), None);
        sleep(SETTLED / 2).await;
        assert_eq!(lines.settled("2".to_owned()), None);
        sleep(SETTLED / 2).await;
        assert_eq!(lines.settled("2".to_owned()).as_deref(), Some("1"));
        sleep(SETTLED / 2).await;
        assert_eq!(lines.settled("3".to_owned()).as_deref(), Some("2"));
        sleep(SETTLED).await;
        assert_eq!(lines.settled("3".to_owned()).as_deref(), Some("3"));
    }
}
