//! Lists of devices.

use api::device::DeviceSort;
use serde_json::{Value, json};

use super::device_row::select_devices;
use super::filter::{Filter, Place, Question};
use super::{DeviceRow, Store, StoreError};
use crate::clock;

/// Which devices; empty texts fit all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Only devices that were refused with a certificate that had ended.
    pub(crate) is_refused: bool,
    /// Only devices whose newest certificate ends before this.
    pub(crate) ends_before_ms: Option<i64>,
}

const DEVICES: &str = select_devices!("WHERE d.id IN (SELECT id FROM devices");
const FOUND_DEVICES: &str =
    select_devices!("WHERE d.id IN (SELECT s.id FROM devices s WHERE s.id IN (SELECT id FROM devices");
const DEVICE_IDS: &str = "SELECT id FROM devices";

const DEVICES_IN_ORDER: &str = "ORDER BY id LIMIT {}) ORDER BY d.id";
const DEVICES_BEFORE: &str = "ORDER BY id DESC LIMIT {}) ORDER BY d.id";
/// For counting.
const ANY_DEVICES: &str = "SELECT 1 AS one FROM devices";

/// So many devices are sorted one by one: their rows are read in well under 100 ms.
const FEW: i64 = 5_000;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// How a list is gone through that is ordered by a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All that fit are found by an index of the filter, and sorted.
    Found,
    /// By the index of the order, until the page is full.
    InOrder,
}

/// A list that is ordered by a time.
#[derive(Clone, Copy, Debug)]
struct ByTime {
    way: Way,
    /// The column, as an index has it or as it is sorted; in milliseconds, but for the hour.
    key: &'static str,
    index: &'static str,
    unit_ms: i64,
}

impl ByTime {
    fn new(sort: DeviceSort, way: Way) -> Option<Self> {
        let (key, index, unit_ms) = match (sort, way) {
            (DeviceSort::Id, _) => return None,
            (DeviceSort::Created, Way::Found) => ("created_at_ms", "", 1),
            (DeviceSort::Created, Way::InOrder) => ("created_at_ms", "devices_by_age", 1),
            (DeviceSort::LastSeen, Way::Found) => ("last_seen_at_ms", "", 1),
            (DeviceSort::LastSeen, Way::InOrder) => ("seen_hour", "devices_by_hour", HOUR_MS),
        };
        Some(Self { way, key, index, unit_ms })
    }

    /// What stands before the conditions of a page next to `place` and behind them, whose values it adds to them.
    fn around(self, conditions: &mut Filter, place: Place<'_>, by_index: &str) -> (String, String) {
        let Self { way, key, index: _, unit_ms } = self;
        let (sign, direction) = match place {
            Place::After(_) => (">", ""),
            Place::Before(_) => ("<", " DESC"),
        };
        let (Place::After(text) | Place::Before(text)) = place;
        let at = read_place(text).map(|(at_ms, id)| (at_ms.div_euclid(unit_ms), id));
        match way {
            Way::Found => {
                let key = |row: &str| format!("COALESCE({row}.{key}, 0)");
                let beyond = at.map_or_else(String::new, |(at, id)| {
                    format!("AND ({}, s.id) {sign} {}", key("s"), conditions.places_of(at, id))
                });
                let order = format!(
                    ") {beyond} ORDER BY {}{direction}, s.id{direction} LIMIT {{}}) ORDER BY {}, d.id",
                    key("s"),
                    key("d")
                );
                (FOUND_DEVICES.to_owned(), order)
            }
            Way::InOrder => {
                if let Some((at, id)) = at {
                    conditions.beyond(key, sign, at, id);
                }
                let order =
                    format!("ORDER BY {key}{direction}, id{direction} LIMIT {{}}) ORDER BY d.{key}, d.id");
                (format!("{DEVICES} {by_index}"), order)
            }
        }
    }
}

/// Where a device stands in a list of this order, as a cursor has it.
pub(crate) fn place_of(sort: DeviceSort, device: &DeviceRow) -> String {
    match sort {
        DeviceSort::Id => device.id.clone(),
        DeviceSort::LastSeen => format!("{}.{}", device.last_seen_at_ms.unwrap_or_default(), device.id),
        DeviceSort::Created => format!("{}.{}", device.created_at_ms, device.id),
    }
}

/// Whether a cursor may be one of a list of this order; an empty one is of any.
pub(crate) fn is_place(sort: DeviceSort, cursor: &str) -> bool {
    sort == DeviceSort::Id || cursor.is_empty() || read_place(cursor).is_some()
}

/// A place in a list that is ordered by a time.
fn read_place(cursor: &str) -> Option<(i64, &str)> {
    let (at_ms, id) = cursor.split_once('.')?;
    Some((at_ms.parse().ok()?, id))
}

/// What no more devices than this have is where a search begins; of what is commoner a page is soon full.
const COMMON: i64 = 20_000;

/// What of a filter many devices have.
#[derive(Clone, Copy, Debug, Default)]
struct Commons {
    tag: bool,
    end: bool,
}

impl DeviceFilter {
    /// What of it an index finds by itself, each alone.
    fn found_by_index(&self) -> Vec<Self> {
        let none = Self::default();
        let Self { scope, product, tag, health, state, rollout, wave, attempt, .. } = self.clone();
        let Self { waits, is_suspended, is_cloned, is_refused, ends_before_ms, .. } = *self;
        // Who is enrolled is most of all.
        let state = if state == "enrolled" { String::new() } else { state };
        let parts = [
            Self { scope, ..none.clone() },
            Self { product, ..none.clone() },
            Self { tag, ..none.clone() },
            Self { health, ..none.clone() },
            Self { state, ..none.clone() },
            Self { rollout, wave, attempt, ..none.clone() },
            Self { waits, ..none.clone() },
            Self { is_suspended, ..none.clone() },
            Self { is_cloned, ..none.clone() },
            Self { is_refused, ..none.clone() },
            Self { ends_before_ms, ..none.clone() },
        ];
        parts.into_iter().filter(|part| *part != none).collect()
    }

    /// `id_has`: as [`super::questions::Questions::id_has`] has it.
    fn conditions(&self, place: Place<'_>, commons: Commons, id_has: &'static str) -> Filter {
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
        let with_tag = if commons.tag {
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
        if self.is_refused {
            conditions.and("id IN (SELECT w.id FROM devices w WHERE w.refused_at_ms IS NOT NULL)");
        }
        if let Some(before_ms) = self.ends_before_ms {
            let ends = if commons.end {
                "EXISTS (SELECT 1 FROM devices w WHERE w.id = devices.id AND w.certificate_ends_at_ms < {})"
            } else {
                "id IN (SELECT w.id FROM devices w WHERE w.certificate_ends_at_ms < {})"
            };
            conditions.number(ends, before_ms);
        }
        conditions
    }

    /// What of it was asked for, as an audit line tells it.
    pub(super) fn told(&self) -> Value {
        let Self { scope: _, product, channel, tag, state, health, sequence, part, .. } = self;
        let Self { rollout, wave, attempt, epoch, waits, is_suspended, is_cloned, .. } = self;
        let Self { is_refused, ends_before_ms, .. } = self;
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
        for (name, is) in [
            ("waits", waits),
            ("suspended", is_suspended),
            ("clone_suspected", is_cloned),
            ("certificate_refused", is_refused),
        ] {
            if *is {
                told.insert(name.to_owned(), json!(true));
            }
        }
        if let Some(before_ms) = ends_before_ms {
            told.insert("certificate_ends_before".to_owned(), json!(clock::rfc3339(*before_ms)));
        }
        Value::Object(told)
    }
}

impl Store {
    /// Devices in an order, those next to `place`. The page is found in an index, and only its rows are read; where devices are
    /// sorted, those of a few. `None`: too many fit to be sorted, and the order's index does not have what is asked for.
    pub(crate) async fn sorted_devices(
        &self,
        filter: &DeviceFilter,
        sort: DeviceSort,
        place: Place<'_>,
        limit: i64,
    ) -> Result<Option<Vec<DeviceRow>>, StoreError> {
        if sort == DeviceSort::Id {
            return self.devices(filter, place, limit).await.map(Some);
        }
        let way = if self.finds_few(filter).await? { Way::Found } else { Way::InOrder };
        if way == Way::InOrder && !filter.rollout.is_empty() {
            return Ok(None);
        }
        let Some(by_time) = ByTime::new(sort, way) else { return Ok(None) };
        let mut conditions = self.conditions(filter, Place::After("")).await?;
        let by_index = self.questions.by_index(by_time.index);
        let (select, order) = by_time.around(&mut conditions, place, &by_index);
        conditions.fetch(&self.questions, &select, &order, limit).await.map(Some)
    }

    /// Whether an index finds no more devices than are sorted one by one.
    async fn finds_few(&self, filter: &DeviceFilter) -> Result<bool, StoreError> {
        for part in [DeviceFilter::default()].into_iter().chain(filter.found_by_index()) {
            if !part.tag.is_empty() && self.has_more(&part.tag, FEW).await? {
                continue;
            }
            let conditions = part.conditions(Place::After(""), Commons::default(), self.questions.id_has());
            if conditions.count(&self.questions, ANY_DEVICES, FEW + 1).await? <= FEW {
                return Ok(true);
            }
        }
        Ok(false)
    }

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

    /// Devices that are pinned to a release, by id.
    pub(crate) async fn pinned_to(
        &self,
        product: &str,
        sequence: i64,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT id FROM devices WHERE product = $1 AND pinned_sequence = $2 AND revoked_at_ms IS NULL \
             ORDER BY id LIMIT $3",
        );
        Ok(ids.bind(product).bind(sequence).bind(limit).fetch_all(&self.pool).await?)
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

    /// Asks for the ids of devices, in their order, past `after`; to be asked in a transaction.
    pub(super) async fn ids_question(
        &self,
        filter: &DeviceFilter,
        after: &str,
        limit: i64,
    ) -> Result<Question, StoreError> {
        let conditions = self.conditions(filter, Place::After(after)).await?;
        Ok(conditions.question(DEVICE_IDS, "ORDER BY id LIMIT {}", limit))
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
        let tag = !filter.tag.is_empty() && self.has_more(&filter.tag, COMMON - 1).await?;
        let end = match filter.ends_before_ms {
            Some(before_ms) => self.has_ending(before_ms).await?,
            None => false,
        };
        Ok(filter.conditions(place, Commons { tag, end }, self.questions.id_has()))
    }

    /// Whether the certificates of many devices end before this.
    async fn has_ending(&self, before_ms: i64) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM devices WHERE certificate_ends_at_ms < $1 LIMIT $2) AS found",
        )
        .bind(before_ms)
        .bind(COMMON)
        .fetch_one(&self.pool)
        .await?;
        Ok(count == COMMON)
    }

    /// Whether more devices than this have a tag.
    async fn has_more(&self, tag: &str, most: i64) -> Result<bool, StoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM device_tags WHERE tag = $1 LIMIT $2) AS found",
        )
        .bind(tag)
        .bind(most + 1)
        .fetch_one(&self.pool)
        .await?;
        Ok(count > most)
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
                is_refused: bits % 11 == 1,
                ends_before_ms: (bits % 13 == 1).then_some(7),
            };
            for is_common in [false, true] {
                let commons = Commons { tag: is_common, end: is_common };
                let place = match (bits >> 8 & 1, is_common) {
                    (0, _) => Place::After(""),
                    (_, false) => Place::After("lamp-3"),
                    (_, true) => Place::Before("lamp-3"),
                };
                let order = match place {
                    Place::After(_) => DEVICES_IN_ORDER,
                    Place::Before(_) => DEVICES_BEFORE,
                };
                let mut conditions = filter.conditions(place, commons, "id LIKE {} ESCAPE '!'");
                let by_id = match bits % 3 {
                    0 => conditions.count_statement(ANY_DEVICES),
                    _ => conditions.statement(DEVICES, order),
                };
                let sort = if bits % 5 < 2 { DeviceSort::Created } else { DeviceSort::LastSeen };
                // What is found by an index of the filter is sorted by its rows.
                // A third of the combinations, any of them.
                let is_looked_at = !has_rollout && bits.count_ones() % 3 == 0;
                let by_time = ByTime::new(sort, Way::InOrder).filter(|_| is_looked_at).map(|by_time| {
                    conditions = filter.conditions(Place::After(""), commons, "id LIKE {} ESCAPE '!'");
                    let place = match place {
                        Place::After("") => Place::After(""),
                        Place::After(_) => Place::After("7.lamp-3"),
                        Place::Before(_) => Place::Before("7.lamp-3"),
                    };
                    let by_index = store.questions.by_index(by_time.index);
                    let (select, order) = by_time.around(&mut conditions, place, &by_index);
                    conditions.statement(&select, &order)
                });
                // By an index of another condition, or one that many devices fit.
                let is_found = !is_common
                    || filter.waits
                    || filter.is_cloned
                    || filter.is_refused
                    || filter.ends_before_ms.is_some();
                for statement in [Some(by_id), by_time].into_iter().flatten() {
                    let plan = format!("EXPLAIN QUERY PLAN {statement}");
                    for step in sqlx::query(AssertSqlSafe(plan)).fetch_all(&store.pool).await.unwrap() {
                        let step: String = step.get("detail");
                        let is_by_rows = step.contains("devices") && !step.contains("COVERING INDEX");
                        // The rare tag's devices, one by one.
                        let is_one = step.contains("devices_1 (id=?)") || is_found && step.contains("(id=?");
                        assert!(!is_by_rows || is_one, "{filter:?}: {step}");
                        plans.insert(step);
                    }
                }
            }
        }
        for index in [
            "devices_by_health",
            "devices_by_attempt",
            "devices_by_rollout",
            "devices_waiting",
            "devices_with_clone",
            "devices_refused",
            "devices_by_certificate_end",
            "devices_by_age",
            "devices_by_hour",
        ] {
            assert!(plans.iter().any(|step| step.contains(index)), "{index}: {plans:#?}");
        }
    }

    /// Devices `d-0` and up, of which many have the same time, and every third was never seen.
    async fn store_with(dir: &std::path::Path, devices: i64) -> Store {
        let store = Store::in_dir(dir).await;
        for statement in [
            "INSERT INTO products (name, chip, layout_name, layout_csv, strategy, slots, created_at_ms) \
                 SELECT 'lamp', '', '', '', '', '[]', $1",
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1) \
             INSERT INTO devices (id, product, note, token_hash, created_at_ms, last_seen_at_ms, seen_hour, health) \
                 SELECT 'd-' || i, 'lamp', '', '', i * 7919 % 50, CASE WHEN i % 3 > 0 THEN i * 7919 % 997 * 100000 END, \
                     CASE WHEN i % 3 > 0 THEN i * 7919 % 997 * 100000 / 3600000 ELSE 0 END, \
                     CASE WHEN i % 10 = 0 THEN 'silent' ELSE 'ok' END FROM n",
        ] {
            sqlx::query(statement).bind(devices).execute(&store.pool).await.unwrap();
        }
        store
    }

    /// All pages of a list, from its one end to the other.
    async fn pages(
        store: &Store,
        filter: &DeviceFilter,
        sort: DeviceSort,
        is_forward: bool,
    ) -> Vec<DeviceRow> {
        let (mut all, mut at) = (Vec::new(), String::new());
        loop {
            let place = if is_forward { Place::After(&at) } else { Place::Before(&at) };
            let mut page = store.sorted_devices(filter, sort, place, 700).await.unwrap().unwrap();
            if page.is_empty() {
                return all;
            }
            if !is_forward {
                page.reverse();
            }
            at = place_of(sort, page.last().unwrap());
            all.extend(page);
        }
    }

    #[tokio::test]
    async fn pages_of_every_order_follow_each_other_both_ways() {
        let silent = DeviceFilter { health: "silent".to_owned(), ..DeviceFilter::default() };
        for (devices, filter, is_few) in [
            (5000, DeviceFilter::default(), true),
            (6001, DeviceFilter::default(), false),
            (6001, silent, true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = store_with(dir.path(), devices).await;
            assert_eq!(store.finds_few(&filter).await.unwrap(), is_few);
            for sort in DeviceSort::ALL {
                let key = |row: &DeviceRow| {
                    let seen_ms = row.last_seen_at_ms.unwrap_or_default();
                    let at = match sort {
                        DeviceSort::Id => 0,
                        DeviceSort::Created => row.created_at_ms,
                        DeviceSort::LastSeen if is_few => seen_ms,
                        DeviceSort::LastSeen => seen_ms / HOUR_MS,
                    };
                    (at, row.id.clone())
                };
                let mut found: Vec<_> = pages(&store, &filter, sort, true).await.iter().map(key).collect();
                let mut expected = found.clone();
                expected.sort();
                expected.dedup();
                assert_eq!(found, expected, "{sort}");
                let count = store.devices_that_fit(&filter, i64::MAX).await.unwrap();
                assert_eq!(i64::try_from(found.len()).unwrap(), count);
                found.reverse();
                let back: Vec<_> = pages(&store, &filter, sort, false).await.iter().map(key).collect();
                assert_eq!(back, found, "{sort}");
            }
        }
    }
}
