//! Writes of the device listener, in groups: one transaction for all that wait.
//!
//! A durable write is answered after its commit. A check-in that changes nothing is not waited for: it rests for [`REST`] at
//! most. So a `kill -9` or a power cut loses nothing that was answered but the `last_seen_at_ms` and its like of at most that
//! long. What one device told is written in that order: when it says something durable, what rested goes before it. The
//! order of two instances cannot be known; so a check-in that rests writes nothing that others may have told better
//! ([`Said::Pulse`]).
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
use super::{Store, StoreError, health, in_time};
use crate::failing::{Failing, Fails as _};
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
    Durable(Write),
    Resting(Box<DeviceWrite>),
    Close { done: oneshot::Sender<()> },
}

/// A write of a group.
#[derive(Debug)]
struct Write {
    write: Box<DeviceWrite>,
    /// Who waits for it; `None` for one that rested.
    done: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl Write {
    fn resting(write: Box<DeviceWrite>) -> Self {
        Self { write, done: None }
    }

    fn tell(self, result: Result<(), StoreError>) {
        match (self.done, result) {
            // A device that went away is not waited for.
            (Some(done), result) => drop(done.send(result)),
            (None, Ok(())) => {}
            (None, Err(error)) => {
                tracing::warn!("a check-in of {} is not stored: {error}", self.write.device);
            }
        }
    }
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
        let job = Job::Durable(Write { write: Box::new(write), done: Some(done) });
        self.writer.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        written.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes soon, and returns at once.
    pub(crate) async fn write_soon(&self, write: DeviceWrite) -> Result<(), StoreError> {
        self.writer.jobs.send(Job::Resting(Box::new(write))).await.map_err(|_| StoreError::Closed)
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
    /// The next group, in the order in which it was told.
    group: Vec<Write>,
    /// By device: the last one counts. All were told after what their devices have in the group.
    resting: HashMap<String, Box<DeviceWrite>>,
    /// When the resting ones are due; `None` while there is none.
    due: Option<Instant>,
    closing: Option<oneshot::Sender<()>>,
}

impl Waiting {
    fn take(&mut self, job: Job) {
        match job {
            Job::Durable(durable) => {
                let before = self.resting.remove(&durable.write.device);
                // A check-in tells all that the one before would have told.
                self.group.extend(before.filter(|_| !durable.write.tells_all()).map(Write::resting));
                self.group.push(durable);
            }
            Job::Resting(write) => {
                self.due.get_or_insert_with(|| Instant::now() + REST);
                self.resting.insert(write.device.clone(), write);
            }
            Job::Close { done } => self.closing = Some(done),
        }
    }

    /// The next group, sorted by device. What one device told first comes first.
    fn take_group(&mut self, with_resting: bool) -> Vec<Write> {
        let mut group = std::mem::take(&mut self.group);
        if with_resting {
            self.due = None;
            group.extend(self.resting.drain().map(|(_, write)| Write::resting(write)));
        }
        group.sort_by(|one, other| one.write.device.cmp(&other.write.device));
        group
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
        while waiting.group.len() < MAX_GROUP
            && let Ok(job) = queue.try_recv()
        {
            waiting.take(job);
        }
        let with_resting = is_over || waiting.resting_are_due();
        write_group(&database, waiting.take_group(with_resting)).await;
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

async fn write_group(database: &Database, group: Vec<Write>) {
    if group.is_empty() {
        return;
    }
    let writes: Vec<&DeviceWrite> = group.iter().map(|write| &*write.write).collect();
    let error = match transact(database, &writes).await {
        Ok(()) => return group.into_iter().for_each(|write| write.tell(Ok(()))),
        Err(error) => error,
    };
    match error.failing() {
        // Nobody waits while each is tried in turn: all are told at once. It may have been committed, and the answer lost:
        // then the rollouts are to be judged.
        failing @ (Failing::Away | Failing::Full | Failing::Slow) => {
            let moves =
                writes.iter().filter_map(|write| write.attempt.as_ref()).flat_map(|attempt| &attempt.moves);
            database.touched.extend(moves.map(|moved| moved.rollout.clone()));
            tracing::error!("{} writes of devices are not stored: {error}", writes.len());
            for done in group.into_iter().filter_map(|write| write.done) {
                // A device that went away is not waited for.
                let _ = done.send(Err(StoreError::Group { failing, text: error.to_string() }));
            }
        }
        // One of them is to blame, or another instance is in the way: each on its own, so that it fails alone.
        Failing::Conflict | Failing::Text | Failing::Request => {
            tracing::debug!("a group of {} writes failed: {error}", writes.len());
            let mut each = Each { database, gone: None };
            for write in group {
                let result = each.transact(&write.write).await;
                write.tell(result);
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
                failing @ (Failing::Away | Failing::Full | Failing::Slow) => {
                    self.gone = Some((failing, error.to_string()))
                }
                Failing::Conflict | Failing::Text | Failing::Request => {}
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
    let devices = writes.iter().map(|write| write.device.as_str()).collect();
    let now_ms = writes.iter().map(|write| write.at_ms).max().unwrap_or_default();
    health::refresh(&mut transaction, &devices, now_ms).await?;
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

#[cfg(test)]
mod tests {
    use super::super::{Said, Seen, SeenOutcome};
    use super::*;

    /// What a device may tell, and whether a check-in afterwards has it all.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Told {
        Rest,
        News,
        Report,
    }

    fn seen(at_ms: i64) -> Seen {
        Seen {
            at_ms,
            chip_id: 5,
            running_digest: None,
            running_sequence: None,
            running_version: None,
            slots: "[]".to_owned(),
            updater_version: String::new(),
            reset_cause: "unknown",
            counts: crate::clones::Counts { starts: Some(1), ..Default::default() },
            cadence: None,
            short_runs: 0,
            strategy: "other",
            free_heap_bytes: None,
            critical_errors: 0,
            last_critical: None,
            outcome: None,
        }
    }

    const TOLD: [Told; 3] = [Told::Rest, Told::News, Told::Report];

    fn job(told: Told, device: &str, number: usize) -> Job {
        let at_ms = i64::try_from(number).unwrap();
        let outcome = SeenOutcome { sequence: None, code: 0, at_ms };
        let said = match told {
            Told::Rest => Said::Pulse(seen(at_ms)),
            Told::News => Said::CheckIn(seen(at_ms)),
            Told::Report => Said::Report { outcome, installed_sequence: None, running_digest: None },
        };
        let device = device.to_owned();
        let write = Box::new(DeviceWrite {
            device,
            at_ms,
            said,
            event: None,
            attempt: None,
            failure: None,
            is_cloned: None,
        });
        match told {
            Told::Rest => Job::Resting(write),
            Told::News | Told::Report => Job::Durable(Write { write, done: Some(oneshot::channel().0) }),
        }
    }

    /// Every sequence of up to four things that two devices tell, with every place where groups end, with or without those
    /// that rest: each device's are written in their order, and only a check-in stands for one before.
    #[test]
    fn what_a_device_told_first_is_written_first() {
        let mut cases = 0;
        for length in 1..=4_u32 {
            for sequence in 0..6_usize.pow(length) {
                for ends in 0..3_usize.pow(length) {
                    cases += 1;
                    let mut told = Vec::new();
                    let mut written = Vec::new();
                    let mut waiting = Waiting::default();
                    for number in 0..length as usize {
                        let kind = sequence / 6_usize.pow(number as u32) % 6;
                        let (device, kind) = (["a", "b"][kind / 3], TOLD[kind % 3]);
                        told.push((device, kind));
                        waiting.take(job(kind, device, number));
                        match ends / 3_usize.pow(number as u32) % 3 {
                            0 => {}
                            end => written.extend(waiting.take_group(end == 2)),
                        }
                    }
                    written.extend(waiting.take_group(true));
                    for device in ["a", "b"] {
                        let mine = |write: &&Write| write.write.device == device;
                        let order: Vec<i64> =
                            written.iter().filter(mine).map(|write| write.write.at_ms).collect();
                        assert!(order.is_sorted(), "{told:?} {ends}: {order:?}");
                        for (number, (_, kind)) in
                            told.iter().enumerate().filter(|(_, (whose, _))| *whose == device)
                        {
                            let is_written = order.contains(&i64::try_from(number).unwrap());
                            let next = told[number + 1..].iter().find(|(whose, _)| *whose == device);
                            let is_told_again =
                                next.is_some_and(|(_, next)| matches!(next, Told::Rest | Told::News));
                            assert!(
                                is_written || (*kind == Told::Rest && is_told_again),
                                "{told:?} {ends}: {number} is lost"
                            );
                        }
                    }
                }
            }
        }
        assert!(cases > 100_000, "{cases}");
    }
}
