//! Tables `rollouts` and `rollout_waves`.

use std::collections::{BTreeSet, HashMap};

use rollout::{
    Action, ActionError, Cause, Counters, Excess, Observed, OnHalt, Percent, Plan, Progress, State, Step,
    soaks_until_ms,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe};

use super::archived::archived;
use super::filter::{Filter, places};
use super::{Change, Changed, IfMatch, Record, Store, StoreError, Unchanged};

/// So many devices are named as the cause of a halt.
const MAX_HALT_DEVICES: i64 = 100;

row! {
    /// A rollout as it is stored, with its release.
    #[derive(Clone, Debug)]
    pub(crate) struct RolloutRow {
        pub(crate) id: String,
        pub(crate) product: String,
        pub(crate) channel: String,
        pub(crate) sequence: i64,
        pub(crate) version: String,
        pub(crate) digest: String,
        pub(crate) state: String,
        pub(crate) wave: i64,
        /// JSON of the plan.
        pub(crate) plan: String,
        pub(crate) created_at_ms: i64,
        pub(crate) started_at_ms: Option<i64>,
        pub(crate) wave_started_at_ms: Option<i64>,
        pub(crate) finished_at_ms: Option<i64>,
        /// JSON of the halt.
        pub(crate) halt: Option<String>,
        /// The rollout that took its place.
        pub(crate) superseded_by: Option<String>,
        /// JSON list of the ids of rollouts whose place it took.
        pub(crate) supersedes: String,
        /// When its devices were counted last.
        pub(crate) counted_at_ms: Option<i64>,
        /// The release that a device must run before it is offered this one.
        pub(crate) requires: Option<i64>,
        /// How many devices of open waves did not, when they were counted last.
        pub(crate) waiting: Option<i64>,
        /// How often it was resumed after a halt.
        pub(crate) epoch: i64,
        pub(crate) revision: i64,
    }
}

row! {
    /// A wave as it is stored, with its counters.
    #[derive(Clone, Debug)]
    pub(crate) struct WaveRow {
        rollout: String,
        pub(crate) started_at_ms: Option<i64>,
        /// How many devices it takes that were seen of late.
        present: Option<i64>,
        /// The device that it has because nobody else is in it.
        pub(crate) stand_in: Option<String>,
        offered: i64,
        installed: i64,
        healthy: i64,
        failed: i64,
        crashed: i64,
        silent: i64,
        unheard: i64,
        // Of the rollout's epoch.
        now_offered: i64,
        now_installed: i64,
        now_healthy: i64,
        now_failed: i64,
        now_crashed: i64,
        now_silent: i64,
        now_unheard: i64,
    }
}

/// Why a rollout halted, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Halt {
    pub(crate) cause: Cause,
    pub(crate) wave: usize,
    pub(crate) observed: u64,
    pub(crate) sample: u64,
    pub(crate) limit_percent: Percent,
    pub(crate) devices: Vec<String>,
    pub(crate) at_ms: i64,
}

/// A rollout to make.
#[derive(Clone, Debug)]
pub(crate) struct NewRollout<'a> {
    pub(crate) product: &'a str,
    pub(crate) channel: &'a str,
    pub(crate) sequence: i64,
    pub(crate) plan: &'a Plan,
    /// Whether it starts at once.
    pub(crate) start: bool,
}

/// Why a rollout is not made, started or resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RolloutRefusal {
    /// The action does not fit the state.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// An approval opens a wave that waits for it or for evidence; before the wave before has soaked none does.
    #[error(
        "no wave of rollout {id} waits for an approval: wave {wave} soaks until {until}, and the next one may be approved \
         from then on"
    )]
    Soaks { id: String, wave: i64, until: String },
    /// The release has one on this channel that is not finished.
    #[error("rollout {id} of this release is {state} on this channel; abort it first")]
    Unfinished { id: String, state: State },
    /// It would be superseded at once.
    #[error("rollout {id} of the newer release {sequence} is {state} on channel {channel}; abort it first")]
    Newer { id: String, sequence: i64, channel: String, state: State },
    /// The plan promises a way back that does not exist.
    #[error(
        "expected a release that allows to return to an older one, as the plan says on_halt revert, found release \
         {sequence} without revert_to; publish it with one, or let devices keep it at a halt (on_halt pause)"
    )]
    NoWayBack { sequence: i64 },
    /// It is offered to nobody.
    #[error("release {sequence} is archived; take it out of the archive first")]
    Archived { sequence: i64 },
}

/// Which rollouts; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct RolloutFilter {
    pub(crate) product: String,
    pub(crate) state: String,
    /// The product that the reader is bound to.
    pub(crate) scope: String,
}

/// The columns of [`RolloutRow`] for the rollouts `o` with releases `r` that fit the rest of the statement.
macro_rules! select_rollouts {
    ($rest:literal) => {
        concat!(
            "SELECT o.id, o.product, o.channel, o.sequence, r.version, r.digest, o.state, o.wave, o.plan, \
                 o.created_at_ms, o.started_at_ms, o.wave_started_at_ms, o.finished_at_ms, o.halt, o.superseded_by, \
                 o.supersedes, o.counted_at_ms, r.requires, o.waiting, o.epoch, o.revision \
             FROM rollouts o JOIN releases r ON r.product = o.product AND r.sequence = o.sequence ",
            $rest
        )
    };
}

const ROLLOUT_BY_ID: &str = select_rollouts!("WHERE o.id = $1");

/// A counter over all epochs, and in the newest one as `now_` and its name.
macro_rules! counter {
    ($name:literal) => {
        concat!(
            "CAST(COALESCE(SUM(c.",
            $name,
            "), 0) AS BIGINT) AS ",
            $name,
            ", CAST(COALESCE(SUM(CASE WHEN c.epoch = o.epoch THEN c.",
            $name,
            " ELSE 0 END), 0) AS BIGINT) AS now_",
            $name
        )
    };
}

/// The columns of [`WaveRow`]; a condition on rollouts `o` and [`WAVES_IN_ORDER`] follow.
const SELECT_WAVES: &str = concat!(
    "SELECT w.rollout, w.started_at_ms, w.present, w.stand_in, ",
    counter!("offered"),
    ", ",
    counter!("installed"),
    ", ",
    counter!("healthy"),
    ", ",
    counter!("failed"),
    ", ",
    counter!("crashed"),
    ", ",
    counter!("silent"),
    ", ",
    counter!("unheard"),
    " FROM rollouts o JOIN rollout_waves w ON w.rollout = o.id \
     LEFT JOIN rollout_counters c ON c.rollout = w.rollout AND c.wave = w.wave WHERE o.id IN (",
);

const WAVES_IN_ORDER: &str =
    ") GROUP BY w.rollout, w.wave, w.started_at_ms, w.present, w.stand_in ORDER BY w.rollout, w.wave";

impl RolloutRow {
    pub(crate) fn state(&self) -> Result<State, StoreError> {
        self.state.parse().map_err(|error| self.unreadable(error))
    }

    pub(crate) fn plan(&self) -> Result<Plan, StoreError> {
        serde_json::from_str(&self.plan).map_err(|error| self.unreadable(error))
    }

    /// Why it halted, when it did.
    pub(crate) fn halt(&self) -> Result<Option<Halt>, StoreError> {
        self.halt.as_deref().map(serde_json::from_str).transpose().map_err(|error| self.unreadable(error))
    }

    /// The ids of rollouts whose place it took.
    pub(crate) fn supersedes(&self) -> Result<Vec<String>, StoreError> {
        serde_json::from_str(&self.supersedes).map_err(|error| self.unreadable(error))
    }

    /// Index of the newest wave that is open.
    pub(crate) fn wave(&self) -> usize {
        usize::try_from(self.wave).unwrap_or_default()
    }

    /// How far it is, with what is known of its waves.
    pub(crate) fn progress<'a>(&self, waves: &'a [Observed]) -> Result<Progress<'a>, StoreError> {
        let wave_started_at_ms = self.wave_started_at_ms.unwrap_or(self.created_at_ms);
        Ok(Progress { state: self.state()?, wave: self.wave(), wave_started_at_ms, waves })
    }

    fn unreadable(&self, error: impl ToString) -> StoreError {
        unreadable(&self.id, error)
    }

    /// What an audit line tells.
    fn summary(&self) -> Value {
        json!({ "state": self.state, "wave": self.wave })
    }
}

impl WaveRow {
    /// What is known of the wave.
    pub(crate) fn observed(&self) -> Observed {
        // No counter is below zero: a device leaves a state that it was counted in.
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Observed {
            present: self.present.map(count),
            counters: Counters {
                offered: count(self.now_offered),
                installed: count(self.now_installed),
                healthy: count(self.now_healthy),
                failed: count(self.now_failed),
                crashed: count(self.now_crashed),
                silent: count(self.now_silent),
                unheard: count(self.now_unheard),
            },
            total: Counters {
                offered: count(self.offered),
                installed: count(self.installed),
                healthy: count(self.healthy),
                failed: count(self.failed),
                crashed: count(self.crashed),
                silent: count(self.silent),
                unheard: count(self.unheard),
            },
        }
    }
}

impl Store {
    /// A rollout by its id.
    pub(crate) async fn rollout(&self, id: &str) -> Result<Option<RolloutRow>, StoreError> {
        Ok(sqlx::query_as(ROLLOUT_BY_ID).bind(id).fetch_optional(&self.pool).await?)
    }

    /// The channel of a release; `None` when there is no such release.
    pub(crate) async fn release_channel(
        &self,
        product: &str,
        sequence: i64,
    ) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT channel FROM releases WHERE product = $1 AND sequence = $2")
            .bind(product)
            .bind(sequence)
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Rollouts, newest first; those next to `place`, which is when one was made, and its id: older than that, or newer.
    pub(crate) async fn rollouts(
        &self,
        filter: &RolloutFilter,
        place: Option<(i64, &str)>,
        newer: bool,
        limit: i64,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let mut conditions = Filter::default();
        conditions.text("o.product = {}", &filter.product);
        conditions.text("o.state = {}", &filter.state);
        conditions.text("o.product = {}", &filter.scope);
        let (condition, order) = match newer {
            false => (
                "(o.created_at_ms, o.id) < ({number}, {text})",
                "ORDER BY o.created_at_ms DESC, o.id DESC LIMIT {}",
            ),
            true => {
                ("(o.created_at_ms, o.id) > ({number}, {text})", "ORDER BY o.created_at_ms, o.id LIMIT {}")
            }
        };
        if let Some((at_ms, id)) = place {
            conditions.pair(condition, at_ms, id);
        }
        let mut rows: Vec<RolloutRow> =
            conditions.fetch(&self.questions, select_rollouts!(""), order, limit).await?;
        if newer {
            rows.reverse();
        }
        Ok(rows)
    }

    /// Rollouts that may go on by themselves: those under way.
    pub(crate) async fn rollouts_under_way(&self) -> Result<Vec<RolloutRow>, StoreError> {
        Ok(sqlx::query_as(select_rollouts!("WHERE o.state IN ('running', 'awaiting-approval', 'open')"))
            .fetch_all(&self.pool)
            .await?)
    }

    /// Rollouts on a channel that have waves which are not open yet.
    pub(crate) async fn rollouts_in_between(
        &self,
        product: &str,
        channel: &str,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let rows: Vec<RolloutRow> = sqlx::query_as(select_rollouts!(
            "WHERE o.product = $1 AND o.channel = $2 AND o.state IN ('running', 'awaiting-approval', 'paused') \
             ORDER BY o.id"
        ))
        .bind(product)
        .bind(channel)
        .fetch_all(&self.pool)
        .await?;
        let mut in_between = Vec::new();
        for row in rows {
            if row.plan()?.under_way(row.wave()) == State::Running {
                in_between.push(row);
            }
        }
        Ok(in_between)
    }

    /// Whether a rollout brings a release to devices of a channel.
    pub(crate) async fn is_rolled_out(
        &self,
        product: &str,
        channel: &str,
        sequence: i64,
    ) -> Result<bool, StoreError> {
        let found: Option<String> = sqlx::query_scalar(
            "SELECT id FROM rollouts WHERE product = $1 AND channel = $2 AND sequence = $3 \
                 AND state IN ('running', 'awaiting-approval', 'open', 'completed') LIMIT 1",
        )
        .bind(product)
        .bind(channel)
        .bind(sequence)
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.is_some())
    }

    /// A release, and those that a device has to run on its way to it.
    pub(crate) async fn steps_to(&self, product: &str, sequence: i64) -> Result<Vec<i64>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mut steps = required(&mut connection, product, sequence).await?;
        steps.push(sequence);
        Ok(steps)
    }

    /// Rollouts with devices that failed, crashed or are silent.
    pub(crate) async fn rollouts_with_losses(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT DISTINCT rollout FROM rollout_counters WHERE failed > 0 OR crashed > 0 OR silent > 0",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The rollouts of a product that were started, that of the newest release first, and of several of one release the
    /// newest first.
    pub(crate) async fn started_rollouts(&self, product: &str) -> Result<Vec<RolloutRow>, StoreError> {
        Ok(sqlx::query_as(select_rollouts!(
            "WHERE o.product = $1 AND o.started_at_ms IS NOT NULL \
             ORDER BY o.sequence DESC, o.created_at_ms DESC, o.id DESC"
        ))
        .bind(product)
        .fetch_all(&self.pool)
        .await?)
    }

    /// The waves of a rollout, in their order.
    pub(crate) async fn waves(&self, rollout: &str) -> Result<Vec<WaveRow>, StoreError> {
        self.waves_in(&[rollout]).await
    }

    /// The waves of several rollouts by the rollouts' ids, each in their order: one query for a page.
    pub(crate) async fn waves_of(
        &self,
        rollouts: &[RolloutRow],
    ) -> Result<HashMap<String, Vec<WaveRow>>, StoreError> {
        let ids: Vec<_> = rollouts.iter().map(|row| row.id.as_str()).collect();
        let mut waves: HashMap<String, Vec<WaveRow>> = HashMap::with_capacity(ids.len());
        for wave in self.waves_in(&ids).await? {
            waves.entry(wave.rollout.clone()).or_default().push(wave);
        }
        Ok(waves)
    }

    async fn waves_in(&self, rollouts: &[&str]) -> Result<Vec<WaveRow>, StoreError> {
        if rollouts.is_empty() {
            return Ok(Vec::new());
        }
        // Safe: nothing but the numbers of places was put into it.
        let select = AssertSqlSafe(format!("{SELECT_WAVES}{}{WAVES_IN_ORDER}", places(1, rollouts.len())));
        let mut query = sqlx::query_as(select);
        for rollout in rollouts {
            query = query.bind(*rollout);
        }
        Ok(query.fetch_all(&self.pool).await?)
    }

    /// Makes a rollout.
    pub(crate) async fn create_rollout(
        &self,
        rollout: &NewRollout<'_>,
        change: &Change,
    ) -> Result<Result<String, RolloutRefusal>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let made = create_rollout(&mut transaction, rollout, change).await?;
        if let Ok(id) = &made {
            transaction.commit().await?;
            self.tell_moved(id);
        }
        Ok(made)
    }

    /// Does what an operator asks for. The inner error: the state does not fit.
    pub(crate) async fn act_on_rollout(
        &self,
        id: &str,
        action: Action,
        change: &Change,
        if_match: &IfMatch,
    ) -> Result<Changed<Result<(), RolloutRefusal>>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let Some(before) = lock(&mut transaction, id).await? else {
            return Ok(Changed::Not(Unchanged::NotFound));
        };
        if !if_match.allows(before.revision) {
            return Ok(Changed::Not(Unchanged::Stale { revision: before.revision }));
        }
        let after = match before.state()?.apply(action) {
            Ok(after) => after,
            Err(error) => return Ok(Changed::Done(Err(error.into()))),
        };
        let now_ms = change.at_ms;
        if action == Action::Approve
            && before.state()? == State::Running
            && let Some(until_ms) = soaks_until_ms(&before.plan()?, &before.progress(&[])?, now_ms)
        {
            let (id, wave, until) = (id.to_owned(), before.wave + 1, crate::clock::rfc3339(until_ms));
            return Ok(Changed::Done(Err(RolloutRefusal::Soaks { id, wave, until })));
        }
        match action {
            Action::Start | Action::Resume => {
                match take_place(&mut transaction, &Place::of(&before), change).await? {
                    Ok(superseded) => add_superseded(&mut transaction, &before, superseded).await?,
                    Err(refusal) => return Ok(Changed::Done(Err(refusal))),
                }
            }
            Action::Pause | Action::Abort | Action::Approve => {}
        }
        match action {
            Action::Start => open_wave(&mut transaction, &before, 0, now_ms).await?,
            Action::Approve => open_wave(&mut transaction, &before, before.wave + 1, now_ms).await?,
            Action::Resume => {
                // From now on what was counted up to this moment does not halt the rollout.
                let epoch = before.epoch + i64::from(before.state()? == State::Halted);
                let after = before.plan()?.under_way(before.wave());
                sqlx::query(
                    "UPDATE rollouts SET state = $1, wave_started_at_ms = $2, finished_at_ms = NULL, halt = NULL, \
                         epoch = $3 \
                     WHERE id = $4",
                )
                .bind(after.name())
                .bind(now_ms)
                .bind(epoch)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            }
            Action::Pause | Action::Abort => {
                sqlx::query("UPDATE rollouts SET state = $1, finished_at_ms = $2 WHERE id = $3")
                    .bind(after.name())
                    .bind((action == Action::Abort).then_some(now_ms))
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        let action_name = match action {
            Action::Start => "rollout.start",
            Action::Pause => "rollout.pause",
            Action::Resume => "rollout.resume",
            Action::Abort => "rollout.abort",
            Action::Approve => "rollout.approve",
        };
        finish(&mut transaction, &before, action_name, change).await?;
        transaction.commit().await?;
        self.tell_moved(id);
        Ok(Changed::Done(Ok(())))
    }

    /// Takes the step that a rollout takes by itself; `false` when it is not as it was when that was decided.
    pub(crate) async fn step_rollout(
        &self,
        decided: &RolloutRow,
        step: &Step,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let Some(before) = lock(&mut transaction, &decided.id).await? else { return Ok(false) };
        if before.revision != decided.revision {
            return Ok(false);
        }
        let action = match step {
            Step::Stay => return Ok(false),
            Step::Open { wave } => {
                let wave = i64::try_from(*wave).unwrap_or(i64::MAX);
                open_wave(&mut transaction, &before, wave, now_ms).await?;
                "rollout.open-wave"
            }
            Step::AwaitApproval { .. } => {
                set_state(&mut transaction, &before.id, State::AwaitingApproval).await?;
                "rollout.await-approval"
            }
            Step::Complete => {
                sqlx::query("UPDATE rollouts SET state = 'completed', finished_at_ms = $1 WHERE id = $2")
                    .bind(now_ms)
                    .bind(&before.id)
                    .execute(&mut *transaction)
                    .await?;
                "rollout.complete"
            }
            Step::Halt(excess) => {
                let halt = json!(halt(&mut transaction, &before, excess, now_ms).await?);
                sqlx::query(
                    "UPDATE rollouts SET state = 'halted', halt = $1, finished_at_ms = NULL WHERE id = $2",
                )
                .bind(halt.to_string())
                .bind(&before.id)
                .execute(&mut *transaction)
                .await?;
                "rollout.halt"
            }
        };
        finish(&mut transaction, &before, action, &Change::by_server(now_ms)).await?;
        transaction.commit().await?;
        self.tell_moved(&before.id);
        Ok(true)
    }
}

/// Makes a rollout within a transaction that began with a write. No row per device: it takes as long for a million.
pub(super) async fn create_rollout(
    connection: &mut AnyConnection,
    new: &NewRollout<'_>,
    change: &Change,
) -> Result<Result<String, RolloutRefusal>, StoreError> {
    // First, so that of two at once one waits for the other.
    bump_generation(connection, new.product).await?;
    if !archived(connection, new.product, &BTreeSet::from([new.sequence])).await?.is_empty() {
        return Ok(Err(RolloutRefusal::Archived { sequence: new.sequence }));
    }
    let others: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT id, state, channel FROM rollouts WHERE product = $1 AND sequence = $2 ORDER BY created_at_ms, id",
    )
    .bind(new.product)
    .bind(new.sequence)
    .fetch_all(&mut *connection)
    .await?;
    for (id, state, channel) in &others {
        let state = state.parse::<State>().map_err(|error| unreadable(id, error))?;
        if channel == new.channel && !state.is_finished() {
            return Ok(Err(RolloutRefusal::Unfinished { id: id.clone(), state }));
        }
    }
    let revert_to: Option<String> =
        sqlx::query_scalar("SELECT revert_to FROM releases WHERE product = $1 AND sequence = $2")
            .bind(new.product)
            .bind(new.sequence)
            .fetch_optional(&mut *connection)
            .await?;
    if new.plan.on_halt() == OnHalt::Revert && revert_to.is_none_or(|revert_to| revert_to == "[]") {
        return Ok(Err(RolloutRefusal::NoWayBack { sequence: new.sequence }));
    }
    let mut id = format!("ro-{}-{}", new.product, new.sequence);
    if !others.is_empty() {
        // No product has a dot in its name.
        id.push_str(&format!(".{}", others.len() + 1));
    }
    let plan = serde_json::to_string(new.plan).map_err(|error| unreadable(&id, error))?;
    let now_ms = change.at_ms;
    let state = if new.start { new.plan.under_way(0) } else { State::Draft };
    let mut superseded = Vec::new();
    if new.start {
        let place = Place { id: &id, product: new.product, channel: new.channel, sequence: new.sequence };
        match take_place(connection, &place, change).await? {
            Ok(ids) => superseded = ids,
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let started_at_ms = new.start.then_some(now_ms);
    sqlx::query(
        "INSERT INTO rollouts (id, product, channel, sequence, state, wave, plan, created_at_ms, started_at_ms, \
             wave_started_at_ms, supersedes) \
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, $8, $9)",
    )
    .bind(&id)
    .bind(new.product)
    .bind(new.channel)
    .bind(new.sequence)
    .bind(state.name())
    .bind(&plan)
    .bind(now_ms)
    .bind(started_at_ms)
    .bind(json!(superseded).to_string())
    .execute(&mut *connection)
    .await?;
    for wave in 0..new.plan.waves().len() {
        sqlx::query("INSERT INTO rollout_waves (rollout, wave, started_at_ms) VALUES ($1, $2, $3)")
            .bind(&id)
            .bind(i64::try_from(wave).unwrap_or(i64::MAX))
            .bind(started_at_ms.filter(|_| wave == 0))
            .execute(&mut *connection)
            .await?;
    }
    let after = json!({
        "state": state.name(), "channel": new.channel, "sequence": new.sequence, "plan": new.plan,
        "supersedes": superseded,
    });
    let record = Record {
        action: "rollout.create",
        kind: "rollout",
        subject: &id,
        product: Some(new.product),
        before: None,
        after: Some(after),
    };
    change.record(connection, record).await?;
    Ok(Ok(id))
}

fn unreadable(id: &str, error: impl ToString) -> StoreError {
    StoreError::Unreadable { what: format!("rollout {id}"), error: error.to_string() }
}

/// Where a rollout stands among those of its channel.
struct Place<'a> {
    id: &'a str,
    product: &'a str,
    channel: &'a str,
    sequence: i64,
}

impl<'a> Place<'a> {
    fn of(row: &'a RolloutRow) -> Self {
        Self { id: &row.id, product: &row.product, channel: &row.channel, sequence: row.sequence }
    }
}

/// A rollout that starts or goes on supersedes those of older releases on its channel, and is refused while one of a newer
/// release is under way. A halted one is left as it is: it may be what sends devices back. So is one of a release that the
/// newer one requires: devices get there by it. Returns the ids of those that are superseded.
async fn take_place(
    connection: &mut AnyConnection,
    place: &Place<'_>,
    change: &Change,
) -> Result<Result<Vec<String>, RolloutRefusal>, StoreError> {
    let others: Vec<RolloutRow> = sqlx::query_as(select_rollouts!(
        "WHERE o.product = $1 AND o.channel = $2 AND o.id <> $3 \
             AND o.state IN ('running', 'awaiting-approval', 'open', 'paused') ORDER BY o.id"
    ))
    .bind(place.product)
    .bind(place.channel)
    .bind(place.id)
    .fetch_all(&mut *connection)
    .await?;
    for newer in others.iter().filter(|other| other.sequence > place.sequence) {
        if required(connection, place.product, newer.sequence).await?.contains(&place.sequence) {
            continue;
        }
        return Ok(Err(RolloutRefusal::Newer {
            id: newer.id.clone(),
            sequence: newer.sequence,
            channel: newer.channel.clone(),
            state: newer.state()?,
        }));
    }
    let required = required(connection, place.product, place.sequence).await?;
    let mut superseded = Vec::new();
    let older = |other: &&RolloutRow| other.sequence <= place.sequence;
    for other in others.iter().filter(older).filter(|other| !required.contains(&other.sequence)) {
        sqlx::query(
            "UPDATE rollouts SET state = 'superseded', superseded_by = $1, finished_at_ms = $2, \
                 revision = revision + 1 \
             WHERE id = $3",
        )
        .bind(place.id)
        .bind(change.at_ms)
        .bind(&other.id)
        .execute(&mut *connection)
        .await?;
        finish(connection, other, "rollout.supersede", &Change::by_server(change.at_ms)).await?;
        superseded.push(other.id.clone());
    }
    Ok(Ok(superseded))
}

/// The releases that a device has to run on its way to this one: what it requires, what that requires, and so on.
async fn required(
    connection: &mut AnyConnection,
    product: &str,
    mut sequence: i64,
) -> Result<Vec<i64>, StoreError> {
    let mut required = Vec::new();
    loop {
        let next: Option<Option<i64>> =
            sqlx::query_scalar("SELECT requires FROM releases WHERE product = $1 AND sequence = $2")
                .bind(product)
                .bind(sequence)
                .fetch_optional(&mut *connection)
                .await?;
        // A release requires an older one.
        match next.flatten().filter(|next| *next < sequence) {
            Some(next) => required.push(next),
            None => return Ok(required),
        }
        sequence = required.last().copied().unwrap_or_default();
    }
}

async fn add_superseded(
    connection: &mut AnyConnection,
    before: &RolloutRow,
    superseded: Vec<String>,
) -> Result<(), StoreError> {
    let mut all = before.supersedes()?;
    all.extend(superseded);
    sqlx::query("UPDATE rollouts SET supersedes = $1 WHERE id = $2")
        .bind(json!(all).to_string())
        .bind(&before.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// What is in memory of a product is old from the commit on.
pub(super) async fn bump_generation(connection: &mut AnyConnection, product: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE products SET generation = generation + 1 WHERE name = $1")
        .bind(product)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes the row for this transaction and reads it; its revision is that of before.
async fn lock(connection: &mut AnyConnection, id: &str) -> Result<Option<RolloutRow>, StoreError> {
    sqlx::query("UPDATE rollouts SET revision = revision + 1 WHERE id = $1")
        .bind(id)
        .execute(&mut *connection)
        .await?;
    let row: Option<RolloutRow> =
        sqlx::query_as(ROLLOUT_BY_ID).bind(id).fetch_optional(&mut *connection).await?;
    Ok(row.map(|row| RolloutRow { revision: row.revision - 1, ..row }))
}

async fn set_state(connection: &mut AnyConnection, id: &str, state: State) -> Result<(), StoreError> {
    sqlx::query("UPDATE rollouts SET state = $1 WHERE id = $2")
        .bind(state.name())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

async fn open_wave(
    connection: &mut AnyConnection,
    before: &RolloutRow,
    wave: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let state = before.plan()?.under_way(usize::try_from(wave).unwrap_or_default());
    sqlx::query(
        "UPDATE rollouts SET state = $1, wave = $2, wave_started_at_ms = $3, \
             started_at_ms = COALESCE(started_at_ms, $3) \
         WHERE id = $4",
    )
    .bind(state.name())
    .bind(wave)
    .bind(now_ms)
    .bind(&before.id)
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE rollout_waves SET started_at_ms = $1 WHERE rollout = $2 AND wave = $3")
        .bind(now_ms)
        .bind(&before.id)
        .bind(wave)
        .execute(connection)
        .await?;
    Ok(())
}

async fn halt(
    connection: &mut AnyConnection,
    RolloutRow { id, epoch, .. }: &RolloutRow,
    excess: &Excess,
    now_ms: i64,
) -> Result<Halt, StoreError> {
    let devices: Vec<String> = sqlx::query_scalar(
        "SELECT id FROM devices WHERE attempt_rollout = $1 AND attempt_state = $2 AND attempt_wave = $3 \
             AND attempt_epoch = $4 \
         ORDER BY id LIMIT $5",
    )
    .bind(id)
    .bind(excess.cause.attempt().name())
    .bind(i64::try_from(excess.wave).unwrap_or(i64::MAX))
    .bind(epoch)
    .bind(MAX_HALT_DEVICES)
    .fetch_all(connection)
    .await?;
    Ok(Halt {
        cause: excess.cause,
        wave: excess.wave,
        observed: excess.observed,
        sample: excess.sample,
        limit_percent: excess.limit,
        devices,
        at_ms: now_ms,
    })
}

/// Ends a change: devices learn of it at their next check-in, and the audit log tells it.
async fn finish(
    connection: &mut AnyConnection,
    before: &RolloutRow,
    action: &'static str,
    change: &Change,
) -> Result<(), StoreError> {
    bump_generation(connection, &before.product).await?;
    let after: RolloutRow =
        sqlx::query_as(ROLLOUT_BY_ID).bind(&before.id).fetch_one(&mut *connection).await?;
    let mut told = after.summary();
    if let (Value::Object(told), Some(halt)) = (&mut told, &after.halt) {
        told.insert("halt".to_owned(), serde_json::from_str(halt).unwrap_or_default());
    }
    let record = Record {
        action,
        kind: "rollout",
        subject: &before.id,
        product: Some(&before.product),
        before: Some(before.summary()),
        after: Some(told),
    };
    change.record(connection, record).await
}
