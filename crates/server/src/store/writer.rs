//! Writes of the device listener, in groups: one transaction for all that wait.
//!
//! A durable write is answered after its commit. A check-in that changes nothing is not waited for: it goes with the next
//! group, or after [`REST`]. So a `kill -9` or a power cut loses nothing that was answered but the `last_seen_at_ms` and
//! its like of at most that long.
//!
//! A group changes devices in the order of their ids, then counters in the order of theirs: two instances on one database
//! do not stop each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{AnyConnection, AnyPool};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::check_ins::{CountersKey, Deltas, DeviceWrite};
use super::{Failing, Store, StoreError, in_time};
use crate::metrics::Metrics;

/// The longest time that a check-in which changes nothing waits for its write.
const REST: Duration = Duration::from_secs(1);

/// Time for a group to be committed: a lock on an SQLite database is waited for up to 5 s, and a connection to a
/// PostgreSQL database that does not answer any more is no reason to wait for longer.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// So many of them are written at once: a bound on memory, about 4 MiB.
const MAX_RESTING: usize = 4096;

/// The most durable writes of one group: its transaction stays short.
const MAX_GROUP: usize = 256;

/// Writes that wait to be taken; who comes later waits in line.
const QUEUE: usize = 4096;

/// The way to the task that writes.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    touched: Arc<Touched>,
}

/// Rollouts whose counters moved, until somebody judges them.
#[derive(Debug)]
struct Touched {
    rollouts: Mutex<BTreeSet<String>>,
    moved: watch::Sender<u64>,
}

impl Touched {
    fn extend(&self, ids: impl IntoIterator<Item = String>) {
        self.rollouts.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }
}

#[derive(Debug)]
enum Job {
    Durable(Durable),
    Resting { write: Box<DeviceWrite> },
    Close { done: oneshot::Sender<()> },
}

/// A write that somebody waits for.
#[derive(Debug)]
struct Durable {
    write: Box<DeviceWrite>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(pool: AnyPool, metrics: Arc<Metrics>) -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let touched = Arc::new(Touched { rollouts: Mutex::default(), moved: watch::Sender::new(0) });
        tokio::spawn(run(Database { pool, touched: touched.clone(), metrics }, queue));
        Self { jobs, touched }
    }

    /// Writes everything and ends.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close { done }).await.is_ok() {
            // An error says that the task has ended.
            let _ = closed.await;
        }
    }
}

impl Store {
    /// Writes and returns after the commit.
    pub(crate) async fn write(&self, write: DeviceWrite) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let job = Job::Durable(Durable { write: Box::new(write), done });
        self.writer.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        written.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes soon, and returns at once.
    pub(crate) async fn write_soon(&self, write: DeviceWrite) -> Result<(), StoreError> {
        let job = Job::Resting { write: Box::new(write) };
        self.writer.jobs.send(job).await.map_err(|_| StoreError::Closed)
    }

    /// Takes the ids of rollouts whose counters moved on this instance since the last call.
    pub(crate) fn take_touched(&self) -> BTreeSet<String> {
        let mut rollouts = self.writer.touched.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rollouts)
    }

    /// Gives back what was taken and could not be judged.
    pub(crate) fn touch(&self, ids: impl IntoIterator<Item = String>) {
        self.writer.touched.extend(ids);
    }

    /// Tells of every change of a rollout that this instance makes: its counters, its state.
    pub(crate) fn rollouts_moved(&self) -> watch::Receiver<u64> {
        self.writer.touched.moved.subscribe()
    }

    /// A rollout is another one now, and may go on at once.
    pub(super) fn tell_moved(&self, rollout: &str) {
        self.touch([rollout.to_owned()]);
        self.writer.touched.moved.send_modify(|count| *count += 1);
    }
}

/// What waits to be written.
#[derive(Default)]
struct Waiting {
    durable: Vec<Durable>,
    /// By device: the last one counts.
    resting: HashMap<String, DeviceWrite>,
    /// When the resting ones are due; `None` while there is none.
    due: Option<Instant>,
    closing: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn take(&mut self, job: Job) {
        match job {
            Job::Durable(durable) => {
                // It tells all that the resting one would have told, and later.
                if durable.write.tells_all() {
                    self.resting.remove(&durable.write.device);
                }
                self.durable.push(durable);
            }
            Job::Resting { write } => {
                self.due.get_or_insert_with(|| Instant::now() + REST);
                self.resting.insert(write.device.clone(), *write);
            }
            Job::Close { done } => self.closing = Some(done),
        }
    }

    fn resting_are_due(&self) -> bool {
        self.closing.is_some()
            || self.resting.len() >= MAX_RESTING
            || self.due.is_some_and(|due| due <= Instant::now())
    }
}

/// Where groups go.
struct Database {
    pool: AnyPool,
    touched: Arc<Touched>,
    metrics: Arc<Metrics>,
}

async fn run(database: Database, mut queue: mpsc::Receiver<Job>) {
    let mut waiting = Waiting::default();
    loop {
        let job = match waiting.due {
            None => queue.recv().await.map(Some),
            Some(due) => tokio::select! {
                job = queue.recv() => job.map(Some),
                () = tokio::time::sleep_until(due) => Some(None),
            },
        };
        let is_over = job.is_none();
        if let Some(job) = job.flatten() {
            waiting.take(job);
        }
        // Whatever came while the last group was written goes into this one.
        while waiting.durable.len() < MAX_GROUP
            && let Ok(job) = queue.try_recv()
        {
            waiting.take(job);
        }
        let durable = std::mem::take(&mut waiting.durable);
        let resting = if is_over || waiting.resting_are_due() {
            waiting.due = None;
            waiting.resting.drain().map(|(_, write)| write).collect()
        } else {
            Vec::new()
        };
        write_group(&database, durable, resting).await;
        if let Some(done) = waiting.closing.take() {
            // Whoever asked may have gone.
            let _ = done.send(());
            return;
        }
        if is_over {
            return;
        }
    }
}

async fn write_group(database: &Database, durable: Vec<Durable>, resting: Vec<DeviceWrite>) {
    if durable.is_empty() && resting.is_empty() {
        return;
    }
    let waited_for = durable.iter().map(|durable| &*durable.write);
    let mut writes: Vec<&DeviceWrite> = waited_for.chain(&resting).collect();
    // Stable: what one device told first is written first.
    writes.sort_by(|one, other| one.device.cmp(&other.device));
    let error = match transact(database, &writes).await {
        Ok(()) => {
            for Durable { done, .. } in durable {
                // A device that went away is not waited for.
                let _ = done.send(Ok(()));
            }
            return;
        }
        Err(error) => error,
    };
    match error.failing() {
        // Nobody waits while each is tried in turn: all are told at once. It may have been committed, and the answer lost:
        // then the rollouts are to be judged.
        failing @ (Failing::Away | Failing::Full) => {
            let moves =
                writes.iter().filter_map(|write| write.attempt.as_ref()).flat_map(|attempt| &attempt.moves);
            database.touched.extend(moves.map(|moved| moved.rollout.clone()));
            let count = writes.len();
            tracing::error!("{count} writes of devices are not stored: {error}");
            for Durable { done, .. } in durable {
                let _ = done.send(Err(StoreError::Group { failing, text: error.to_string() }));
            }
        }
        // One of them is to blame, or another instance is in the way: each on its own, so that it fails alone.
        Failing::Conflict | Failing::Request => {
            tracing::debug!("a group of {} writes failed: {error}", writes.len());
            let mut each = Each { database, gone: None };
            for write in &resting {
                if let Err(error) = each.transact(write).await {
                    tracing::warn!("a check-in of {} is not stored: {error}", write.device);
                }
            }
            for Durable { write, done } in durable {
                let _ = done.send(each.transact(&write).await);
            }
        }
    }
}

/// Writes one after the other, until the database goes away.
struct Each<'a> {
    database: &'a Database,
    gone: Option<(Failing, String)>,
}

impl Each<'_> {
    async fn transact(&mut self, write: &DeviceWrite) -> Result<(), StoreError> {
        if let Some((failing, text)) = self.gone.clone() {
            return Err(StoreError::Group { failing, text });
        }
        let done = transact(self.database, &[write]).await;
        if let Err(error) = &done {
            match error.failing() {
                failing @ (Failing::Away | Failing::Full) => self.gone = Some((failing, error.to_string())),
                Failing::Conflict | Failing::Request => {}
            }
        }
        done
    }
}

/// One transaction, or an error within [`COMMIT_DEADLINE`].
async fn transact(database: &Database, writes: &[&DeviceWrite]) -> Result<(), StoreError> {
    in_time(COMMIT_DEADLINE, commit(database, writes)).await
}

async fn commit(database: &Database, writes: &[&DeviceWrite]) -> Result<(), StoreError> {
    let began = Instant::now();
    let mut transaction = database.pool.begin().await?;
    let mut counters = BTreeMap::new();
    for write in writes {
        write.apply(&mut transaction, &mut counters).await?;
    }
    for (key, deltas) in &counters {
        count(&mut transaction, key, deltas).await?;
    }
    transaction.commit().await?;
    // No group has as many that a number would be rounded.
    database.metrics.write_batch.observe(writes.len() as f64);
    database.metrics.write_duration.observe(began.elapsed().as_secs_f64());
    let touched = &database.touched;
    if !counters.is_empty() {
        touched.extend(counters.into_keys().map(|(rollout, _, _)| rollout));
        touched.moved.send_modify(|count| *count += 1);
    }
    Ok(())
}

async fn count(
    connection: &mut AnyConnection,
    (rollout, wave, epoch): &CountersKey,
    deltas: &Deltas,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rollout_counters (rollout, wave, epoch, offered, installed, healthy, failed, crashed, silent, \
             unheard) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (rollout, wave, epoch) DO UPDATE SET \
             offered = rollout_counters.offered + excluded.offered, \
             installed = rollout_counters.installed + excluded.installed, \
             healthy = rollout_counters.healthy + excluded.healthy, \
             failed = rollout_counters.failed + excluded.failed, \
             crashed = rollout_counters.crashed + excluded.crashed, \
             silent = rollout_counters.silent + excluded.silent, \
             unheard = rollout_counters.unheard + excluded.unheard",
    )
    .bind(rollout)
    .bind(wave)
    .bind(epoch)
    .bind(deltas.offered)
    .bind(deltas.installed)
    .bind(deltas.healthy)
    .bind(deltas.failed)
    .bind(deltas.crashed)
    .bind(deltas.silent)
    .bind(deltas.unheard)
    .execute(connection)
    .await?;
    Ok(())
}
