//! Tables `rollouts` and `rollout_waves`, as they are read.

use std::collections::HashMap;

use rollout::State;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::filter::{Filter, places};
use super::rollout_row::{ROLLOUT_BY_ID, RolloutRow, WaveRow, select_rollouts};
use super::{Store, StoreError};

/// Which rollouts; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct RolloutFilter {
    pub(crate) product: String,
    pub(crate) state: String,
    /// The product that the reader is bound to.
    pub(crate) scope: String,
}

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

impl Store {
    /// A rollout by its id.
    pub(crate) async fn rollout(&self, id: &str) -> Result<Option<RolloutRow>, StoreError> {
        Ok(sqlx::query_as(ROLLOUT_BY_ID).bind(id).fetch_optional(&self.pool).await?)
    }

    /// The newest rollouts of a product that bring devices their release, or may do so yet, each with the release's manifest in
    /// base64.
    pub(crate) async fn rollouts_that_bring(
        &self,
        product: &str,
        limit: i64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let states = State::ALL.into_iter().filter(|state| state.offers(true) || !state.is_finished());
        let states: Vec<_> = states.map(|state| state.name().to_owned()).collect();
        let mut conditions = Filter::default();
        conditions.text("o.product = {}", product);
        conditions.one_of("o.state", &states);
        conditions.and("r.archived_at_ms IS NULL");
        conditions
            .fetch(
                &self.questions,
                "SELECT o.id, r.manifest_base64 \
                 FROM rollouts o JOIN releases r ON r.product = o.product AND r.sequence = o.sequence",
                "ORDER BY o.created_at_ms DESC, o.id DESC LIMIT {}",
                limit,
            )
            .await
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
}

/// The releases that a device has to run on its way to this one: what it requires, what that requires, and so on.
pub(super) async fn required(
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
