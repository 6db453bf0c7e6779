//! Reads of the device listener, in groups: one question for all that wait.
//!
//! Every request of a device asks who it is, and a question costs a database more than its answer: a turn to SQLite's
//! thread, or to the network. Who asks while a question is under way goes with the next one. So each request is answered
//! from what the database held after it came, a revocation holds from the next request on, and nothing is remembered.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sqlx::{AnyPool, AssertSqlSafe};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::check_ins::Known;
use super::filter::{Statements, places};
use super::{CONNECTION_PATIENCE, Store, StoreError, in_time};
use crate::failing::Fails as _;

/// Questions that wait to be taken; who comes later waits in line.
const QUEUE: usize = 4096;

/// A group that is not answered by then holds up no other one: its connection may hang.
const PATIENCE: Duration = Duration::from_millis(100);

/// Time for a group to be answered, with a connection that has to be waited for first.
const DEADLINE: Duration = CONNECTION_PATIENCE.saturating_mul(2);

const MAX_GROUP: usize = 64;

static STATEMENTS: LazyLock<Statements<3>> = LazyLock::new(|| Statements::new([1, 8, MAX_GROUP], statement));

/// The way to the task that reads.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    asks: mpsc::Sender<Ask>,
}

/// Who is the device with this certificate?
#[derive(Debug)]
struct Ask {
    serial: String,
    der_base64: String,
    answer: oneshot::Sender<Result<Option<Known>, StoreError>>,
}

row! {
    struct Found {
        serial: String,
        der_base64: String,
    }
    with {
        known: Known,
    }
}

/// The columns of [`Known`] of a device `d` of product `p`.
macro_rules! known_columns {
    () => {
        "d.id, d.product, d.revoked_at_ms, d.certificate_serial, d.previous_serial, \
             d.token_redeemed_key, d.token_void_at_ms, d.anchors, d.publishers, d.running_digest, d.running_sequence, d.running_version, d.updater_version, \
             d.outcome_sequence, d.outcome_code, d.outcome_at_ms, d.channel, d.tags, d.pinned_sequence, \
             d.last_seen_at_ms, d.starts, d.other_starts, d.starts_returns, d.starts_returned_at_ms, d.clone_suspected_at_ms, d.refused_at_ms, d.short_runs, d.cadence_ms, d.cadence_intervals, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, d.attempt_at_ms, \
             d.attempt_deadline_ms, d.attempt_starts, d.attempt_epoch, d.failed_sequence, d.failed_count, \
             d.failed_at_ms, d.failed_offered, d.quarantined_at_ms, p.generation, p.silence_deadline_s, \
             p.quarantine_after, p.min_run_s, p.rotate_keys"
    };
}

impl Reader {
    /// Starts the task. It ends with the last store that asks.
    pub(super) fn start(pool: AnyPool) -> Self {
        let (asks, queue) = mpsc::channel(QUEUE);
        tokio::spawn(run(queue, move |asks| answer(pool.clone(), asks)));
        Self { asks }
    }
}

impl Store {
    /// The device that a certificate was issued to. It is found by its serial number (in hexadecimal), and is the very
    /// certificate that was issued: another CA has the same numbers.
    pub(crate) async fn device_by_certificate(
        &self,
        serial: String,
        der: &[u8],
    ) -> Result<Option<Known>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { serial, der_base64: BASE64_STANDARD.encode(der), answer };
        self.reader.asks.send(ask).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Devices by their ids; only those of the product `scope` when it is not empty.
    pub(crate) async fn devices_by_id(
        &self,
        ids: &HashSet<&str>,
        scope: &str,
    ) -> Result<HashMap<String, Known>, StoreError> {
        let mut devices = HashMap::with_capacity(ids.len());
        let ids: Vec<&str> = ids.iter().copied().collect();
        for ids in ids.chunks(MAX_GROUP) {
            let select = format!(
                concat!(
                    "SELECT ",
                    known_columns!(),
                    " FROM devices d JOIN products p ON p.name = d.product \
                     WHERE ($1 = '' OR d.product = $1) AND d.revoked_at_ms IS NULL AND d.id IN ({})"
                ),
                places(2, ids.len())
            );
            // Safe: nothing but the numbers of places was put into it.
            let mut query = sqlx::query_as(AssertSqlSafe(select)).bind(scope);
            for id in ids {
                query = query.bind(*id);
            }
            let found: Vec<Known> = query.fetch_all(&self.pool).await?;
            devices.extend(found.into_iter().map(|known| (known.id.clone(), known)));
        }
        Ok(devices)
    }
}

async fn run<F>(mut queue: mpsc::Receiver<Ask>, answer: impl Fn(Vec<Ask>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut group = Vec::new();
    while queue.recv_many(&mut group, MAX_GROUP).await > 0 {
        let answered = tokio::spawn(answer(std::mem::take(&mut group)));
        // Late or not, the task answers by itself.
        let _ = timeout(PATIENCE, answered).await;
    }
}

/// Answers all of a group.
async fn answer(pool: AnyPool, mut asks: Vec<Ask>) {
    // Whoever asked may have gone.
    asks.retain(|ask| !ask.answer.is_closed());
    let serials: HashSet<&str> = asks.iter().map(|ask| ask.serial.as_str()).collect();
    match in_time(DEADLINE, find(&pool, serials)).await {
        Ok(devices) => {
            for Ask { serial, der_base64, answer } in asks {
                let found = devices.get(&serial).filter(|found| found.der_base64 == der_base64);
                let _ = answer.send(Ok(found.map(|found| found.known.clone())));
            }
        }
        Err(error) => {
            for Ask { answer, .. } in asks {
                let (failing, text) = (error.failing(), error.to_string());
                let _ = answer.send(Err(StoreError::Group { failing, text }));
            }
        }
    }
}

/// The devices by their serial numbers, at most [`MAX_GROUP`]; those that are not there are left out.
async fn find(pool: &AnyPool, serials: HashSet<&str>) -> Result<HashMap<String, Found>, StoreError> {
    if serials.is_empty() {
        return Ok(HashMap::new());
    }
    let serials: Vec<&str> = serials.into_iter().collect();
    let (statement, serials) = STATEMENTS.of(&serials);
    let mut query = sqlx::query_as(statement);
    for serial in serials {
        query = query.bind(serial);
    }
    let found: Vec<Found> = query.fetch_all(pool).await?;
    Ok(found.into_iter().map(|found| (found.serial.clone(), found)).collect())
}

fn statement(size: usize) -> String {
    format!(
        concat!(
            "SELECT c.serial, c.der_base64, ",
            known_columns!(),
            " FROM certificates c JOIN devices d ON d.id = c.device JOIN products p ON p.name = d.product \
             WHERE c.serial IN ({})"
        ),
        places(1, size)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failing::Failing;

    /// A store with 100 devices; the serial number of device `a-7` is `7`.
    async fn store(dir: &std::path::Path) -> Store {
        let store = Store::in_dir(dir).await;
        for statement in [
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms) \
                 VALUES ('lamp', '', '', '', '', '[]', 0)",
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) \
             INSERT INTO devices (id, product, note, token_hash, created_at_ms) \
                 SELECT 'a-' || i, 'lamp', '', i, 0 FROM n",
            "INSERT INTO certificates (serial, device, key_digest, not_before_ms, not_after_ms, issued_at_ms, \
                 der_base64) SELECT token_hash, id, '', 0, 0, 0, '' FROM devices",
        ] {
            sqlx::query(statement).execute(&store.pool).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn each_of_many_that_ask_at_once_gets_its_own_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        // The last third is not there; everybody asks twice.
        let asks = (0..150).chain(0..150).map(|number: i32| {
            let store = store.clone();
            tokio::spawn(async move {
                (number, store.device_by_certificate(number.to_string(), b"").await.unwrap())
            })
        });
        assert!(store.device_by_certificate("7".to_owned(), b"another").await.unwrap().is_none());
        for ask in asks.collect::<Vec<_>>() {
            let (number, known) = ask.await.unwrap();
            let expected = (number < 100).then(|| format!("a-{number}"));
            assert_eq!(known.map(|known| known.id), expected, "{number}");
        }
    }

    #[tokio::test]
    async fn a_group_of_any_size_finds_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        for size in 0..=MAX_GROUP {
            let serials: Vec<String> = (0..size).map(|number| number.to_string()).collect();
            let found = find(&store.pool, serials.iter().map(String::as_str).collect()).await.unwrap();
            assert_eq!(found.len(), size);
            assert!(found.iter().all(|(serial, found)| found.known.id == format!("a-{serial}")), "{size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_a_question_is_under_way_goes_with_the_next_and_is_not_held_up_for_long() {
        let (asks, queue) = mpsc::channel(QUEUE);
        let (groups, mut taken) = mpsc::unbounded_channel();
        let reading = tokio::spawn(run(queue, move |group| {
            groups.send(group).unwrap();
            // Its connection hangs.
            std::future::pending()
        }));
        let ask = |serial: &str| Ask {
            serial: serial.to_owned(),
            der_base64: String::new(),
            answer: oneshot::channel().0,
        };
        let serials = |group: Option<Vec<Ask>>| {
            group.into_iter().flatten().map(|ask| ask.serial).collect::<Vec<_>>().join(" ")
        };
        asks.send(ask("1")).await.unwrap();
        assert_eq!(serials(taken.recv().await), "1");
        for serial in ["2", "3", "4"] {
            asks.send(ask(serial)).await.unwrap();
        }
        let next = timeout(2 * PATIENCE, taken.recv()).await.expect("the next group sets out");
        assert_eq!(serials(next), "2 3 4");
        drop(asks);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn all_of_a_group_are_told_that_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path()).await;
        store.close().await;
        let ask = || store.device_by_certificate("1".to_owned(), b"");
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        for answer in [one, two, three] {
            assert_eq!(answer.unwrap_err().failing(), Failing::Away);
        }
    }
}
