//! Tables `rollouts` and `rollout_waves`, as operators and the ticker change them.

use std::collections::BTreeSet;

use rollout::{Action, ActionError, Excess, OnHalt, Plan, State, Step, soaks_until_ms};
use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::archived::archived;
use super::product_row::bump_generation;
use super::rollout_row::{Halt, ROLLOUT_BY_ID, RolloutRow, select_rollouts, unreadable};
use super::rollouts::required;
use super::{Change, Changed, IfMatch, Record, Store, StoreError, Unchanged};

/// So many devices are named as the cause of a halt.
const MAX_HALT_DEVICES: i64 = 100;

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

impl Store {
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
