//! Lists of devices.

use serde_json::{Value, json};

use super::device_row::select_devices;
use super::filter::{Filter, Place};
use super::{DeviceRow, Store, StoreError};

/// Which devices; empty texts fit all.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceFilter {
    /// The product that the reader is bound to.
    pub(crate) scope: String,
    pub(crate) product: String,
    pub(crate) channel: String,
    pub(crate) tag: String,
    pub(crate) state: String,
    pub(crate) health: String,
    /// Sequence number of the release that it runs.
    pub(crate) sequence: Option<i64>,
    /// Part of the id.
    pub(crate) part: String,
    /// The rollout that offered it a release last.
    pub(crate) rollout: String,
    /// The wave of that rollout, from 0.
    pub(crate) wave: Option<i64>,
    /// How it does with that release.
    pub(crate) attempt: String,
    /// The rollout's epoch in which it was counted last.
    pub(crate) epoch: Option<i64>,
    /// Only devices whose enrollment waits for approval.
    pub(crate) waits: bool,
    /// Only devices that are suspended.
    pub(crate) is_suspended: bool,
    /// Only devices of which two boards seem to have the identity.
    pub(crate) is_cloned: bool,
}

const DEVICES: &str = select_devices!("WHERE d.id IN (SELECT id FROM devices");
const DEVICE_IDS: &str = "SELECT id FROM devices";

const DEVICES_IN_ORDER: &str = "ORDER BY id LIMIT {}) ORDER BY d.id";
const DEVICES_BEFORE: &str = "ORDER BY id DESC LIMIT {}) ORDER BY d.id";
/// For counting.
const ANY_DEVICES: &str = "SELECT 1 AS one FROM devices";

/// A tag that no more devices than this have is where a search begins; of a commoner one a page is soon full.
const COMMON_TAG: i64 = 20_000;

impl DeviceFilter {
    /// `is_common`: many devices have the tag. `id_has`: as [`super::questions::Questions::id_has`] has it.
    fn conditions(&self, place: Place<'_>, is_common: bool, id_has: &'static str) -> Filter {
        let mut conditions = Filter::default();
        match place {
            Place::After(id) => conditions.text("id > {}", id),
            Place::Before(id) => conditions.text("id < {}", id),
        }
        conditions.text("attempt_rollout = {}", &self.rollout);
        conditions.text("attempt_state = {}", &self.attempt);
        if let Some(wave) = self.wave {
            conditions.number("attempt_wave = {}", wave);
        }
        if let Some(epoch) = self.epoch {
            conditions.number("attempt_epoch = {}", epoch);
        }
        conditions.text("product = {}", &self.scope);
        conditions.text("product = {}", &self.product);
        conditions.text("channel = {}", &self.channel);
        conditions.text("health = {}", &self.health);
        match self.state.as_str() {
            "revoked" => conditions.and("health IN ('revoked', 'suspended')"),
            // Who was never enrolled was never seen.
            "new" => conditions.and("health = 'new' AND enrolled_at_ms IS NULL"),
            "enrolled" => {
                conditions.and("health NOT IN ('revoked', 'suspended') AND enrolled_at_ms IS NOT NULL")
            }
            _ => {}
        }
        if self.is_suspended {
            conditions.and("health = 'suspended'");
        }
        if let Some(sequence) = self.sequence {
            conditions.number("running_sequence = {}", sequence);
        }
        if !self.part.is_empty() {
            let part = format!("%{}%", escape_like(&self.part.to_ascii_lowercase()));
            conditions.text(id_has, &part);
        }
        let with_tag = if is_common {
            "EXISTS (SELECT 1 FROM device_tags t WHERE t.tag = {} AND t.device = devices.id)"
        } else {
            "id IN (SELECT t.device FROM device_tags t WHERE t.tag = {})"
        };
        conditions.text(with_tag, &self.tag);
        if self.waits {
            // What the index has. An expression of the last one, so that it is not taken for the index of revocations.
            conditions.and(
                "id IN (SELECT w.id FROM devices w WHERE w.enrollment_pending_at_ms IS NOT NULL \
                     AND w.approved_at_ms IS NULL AND COALESCE(w.revoked_at_ms, 0) = 0)",
            );
        }
        if self.is_cloned {
            conditions.and("id IN (SELECT w.id FROM devices w WHERE w.clone_suspected_at_ms IS NOT NULL)");
        }
        conditions
    }

    /// What of it was asked for, as an audit line tells it.
    pub(super) fn told(&self) -> Value {
        let Self { scope: _, product, channel, tag, state, health, sequence, part, .. } = self;
        let Self { rollout, wave, attempt, epoch, waits, is_suspended, is_cloned, .. } = self;
        let texts = [("product", product), ("channel", channel), ("tag", tag), ("state", state)];
        let texts = texts.into_iter().chain([
            ("health", health),
            ("q", part),
            ("rollout", rollout),
            ("attempt", attempt),
        ]);
        let mut told: serde_json::Map<_, _> = texts
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), json!(text)))
            .collect();
        let numbers = [("sequence", sequence), ("wave", wave), ("epoch", epoch)];
        told.extend(
            numbers.iter().filter_map(|(name, number)| Some(((*name).to_owned(), json!((**number)?)))),
        );
        for (name, is) in [("waits", waits), ("suspended", is_suspended), ("clone_suspected", is_cloned)] {
            if *is {
                told.insert(name.to_owned(), json!(true));
            }
        }
        Value::Object(told)
    }
}

impl Store {
    /// Devices in the order of their ids, those next to `place`. The page is found in an index, and only its rows are read.
    pub(crate) async fn devices(
        &self,
        filter: &DeviceFilter,
        place: Place<'_>,
        limit: i64,
    ) -> Result<Vec<DeviceRow>, StoreError> {
        let order = match place {
            Place::After(_) => DEVICES_IN_ORDER,
            Place::Before(_) => DEVICES_BEFORE,
        };
        self.conditions(filter, place).await?.fetch(&self.questions, DEVICES, order, limit).await
    }

    /// How many devices fit, counted up to `most`.
    pub(crate) async fn devices_that_fit(&self, filter: &DeviceFilter, most: i64) -> Result<i64, StoreError> {
        self.conditions(filter, Place::After("")).await?.count(&self.questions, ANY_DEVICES, most).await
    }

    /// The ids of devices, in their order, past `after`.
    pub(super) async fn device_ids(
        &self,
        filter: &DeviceFilter,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let conditions = self.conditions(filter, Place::After(after)).await?;
        let ids: Vec<(String,)> =
            conditions.fetch(&self.questions, DEVICE_IDS, "ORDER BY id LIMIT {}", limit).await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    /// How many devices there are past `after`.
    pub(super) async fn count_of_filter(
        &self,
        filter: &DeviceFilter,
        after: &str,
    ) -> Result<i64, StoreError> {
        let conditions = self.conditions(filter, Place::After(after)).await?;
        conditions.count(&self.questions, ANY_DEVICES, i64::MAX).await
    }

    async fn conditions(&self, filter: &DeviceFilter, place: Place<'_>) -> Result<Filter, StoreError> {
        let is_common = !filter.tag.is_empty() && self.has_many(&filter.tag).await?;
        Ok(filter.conditions(place, is_common, self.questions.id_has()))
    }

    /// Whether a tag is one of many devices.
    async fn has_many(&self, tag: &str) -> Result<bool, StoreError> {
        if tag.is_empty() {
            return Ok(false);
        }
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM device_tags WHERE tag = $1 LIMIT $2) AS found",
        )
        .bind(tag)
        .bind(COMMON_TAG)
        .fetch_one(&self.pool)
        .await?;
        Ok(count >= COMMON_TAG)
    }
}

/// Has LIKE take a text as it is; `!` is the escape character.
fn escape_like(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '%' | '_' | '!') {
            escaped.push('!');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;

    /// Every combination of filters, on the first page and on a later one: what is read of each device that is passed over
    /// stands in an index.
    #[tokio::test]
    async fn no_list_reads_devices_that_are_not_on_the_page() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_dir(dir.path()).await;
        let text = |bits: u32, bit: u32, text: &str| {
            if bits >> bit & 1 == 1 { text.to_owned() } else { String::new() }
        };
        let mut plans = BTreeSet::new();
        for bits in 0..1_u32 << 13 {
            let has_rollout = bits >> 9 & 1 == 1;
            let filter = DeviceFilter {
                product: text(bits, 0, "lamp"),
                channel: text(bits, 1, "beta"),
                tag: text(bits, 2, "rare"),
                state: text(bits, 3, "new"),
                health: text(bits, 4, "crashing"),
                sequence: (bits >> 5 & 1 == 1).then_some(7),
                part: text(bits, 6, "7"),
                scope: text(bits, 7, "lamp"),
                rollout: text(bits, 9, "ro-lamp-7"),
                wave: (has_rollout && bits >> 10 & 1 == 1).then_some(1),
                epoch: (has_rollout && bits >> 10 & 1 == 1).then_some(0),
                attempt: text(if has_rollout && bits >> 10 & 1 == 1 { bits } else { 0 }, 11, "crashed"),
                waits: bits >> 12 & 1 == 1,
                is_suspended: bits % 7 == 1,
                is_cloned: bits % 5 == 1,
            };
            for is_common in [false, true] {
                let place = match (bits >> 8 & 1, is_common) {
                    (0, _) => Place::After(""),
                    (_, false) => Place::After("lamp-3"),
                    (_, true) => Place::Before("lamp-3"),
                };
                let order = match place {
                    Place::After(_) => DEVICES_IN_ORDER,
                    Place::Before(_) => DEVICES_BEFORE,
                };
                let conditions = filter.conditions(place, is_common, "id LIKE {} ESCAPE '!'");
                let statement = match bits % 3 {
                    0 => conditions.count_statement(ANY_DEVICES),
                    _ => conditions.statement(DEVICES, order),
                };
                let plan = format!("EXPLAIN QUERY PLAN {statement}");
                for step in sqlx::query(AssertSqlSafe(plan)).fetch_all(&store.pool).await.unwrap() {
                    let step: String = step.get("detail");
                    let is_by_rows = step.contains("devices") && !step.contains("COVERING INDEX");
                    // The rare tag's devices, one by one.
                    let is_one = step.contains("devices_1 (id=?)")
                        || (!is_common || filter.waits || filter.is_cloned) && step.contains("(id=?");
                    assert!(!is_by_rows || is_one, "{filter:?}: {step}");
                    plans.insert(step);
                }
            }
        }
        for index in [
            "devices_by_health",
            "devices_by_attempt",
            "devices_by_rollout",
            "devices_waiting",
            "devices_with_clone",
        ] {
            assert!(plans.iter().any(|step| step.contains(index)), "{index}: {plans:#?}");
        }
    }
}
