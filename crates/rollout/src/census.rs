//! How many devices each wave has, and who stands in for a wave by share that has none.

use crate::select::bucket;
use crate::{Plan, Select, StandIn};

/// A count of the devices of a rollout's waves, one device after the other and in any order.
#[derive(Debug)]
pub struct Census<'a> {
    plan: &'a Plan,
    rollout: &'a str,
    /// The newest open wave, from 0.
    wave: usize,
    stand_ins: &'a [StandIn],
    present: Vec<u64>,
    /// The device with the lowest place of those that can take the release and that no open wave takes: the place, its id,
    /// and its wave.
    next: Option<(u16, String, Option<usize>)>,
}

impl<'a> Census<'a> {
    /// A count of nobody yet. `wave` is the newest open wave.
    #[must_use]
    pub fn new(plan: &'a Plan, rollout: &'a str, wave: usize, stand_ins: &'a [StandIn]) -> Self {
        Self { plan, rollout, wave, stand_ins, present: vec![0; plan.waves().len()], next: None }
    }

    /// Counts a device; whether an open wave takes it. One that cannot take the release now, because it lacks one in between
    /// or has it in quarantine, stands in for nobody: its wave would wait for it in vain.
    pub fn add(&mut self, device: &str, tags: &[String], can_take: bool) -> bool {
        let wave = self.plan.wave_of(self.rollout, device, tags, self.stand_ins);
        if let Some(count) = wave.and_then(|wave| self.present.get_mut(wave)) {
            *count += 1;
        }
        if wave.is_some_and(|wave| wave <= self.wave) {
            return true;
        }
        let place = bucket(self.rollout, device);
        let is_lower =
            self.next.as_ref().is_none_or(|(lowest, id, _)| (place, device) < (*lowest, id.as_str()));
        if can_take && is_lower {
            self.next = Some((place, device.to_owned(), wave));
        }
        false
    }

    /// How many devices each wave has, and who is to stand in for the newest open one: the first of those that would come
    /// later, when it is a wave by share without a device. Tags name devices, so nobody stands in for those.
    #[must_use]
    pub fn finish(self) -> (Vec<u64>, Option<StandIn>) {
        let Self { plan, wave, mut present, next, .. } = self;
        let by_share = plan.waves().get(wave).is_some_and(|wave| matches!(wave.select, Select::Percent(_)));
        let is_empty = present.get(wave) == Some(&0);
        let Some((_, device, from)) = next.filter(|_| by_share && is_empty) else { return (present, None) };
        if let Some(count) = from.and_then(|from| present.get_mut(from)) {
            *count -= 1;
        }
        if let Some(count) = present.get_mut(wave) {
            *count += 1;
        }
        (present, Some(StandIn { wave, device }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Plan {
        serde_json::from_str(json).unwrap()
    }

    fn count(
        plan: &Plan,
        wave: usize,
        stand_ins: &[StandIn],
        devices: &[&str],
    ) -> (Vec<u64>, Option<StandIn>) {
        let mut census = Census::new(plan, "ro-1", wave, stand_ins);
        for device in devices {
            census.add(device, &[], true);
        }
        census.finish()
    }

    /// Places in `ro-1`: lamp-1 3221, lamp-2 8995.
    #[test]
    fn a_share_is_at_least_one_device() {
        let plan = plan(
            r#"{"waves":[{"select":{"percent":1}},{"select":{"percent":10}},{"select":{"percent":50}},
                {"select":{"percent":100}}]}"#,
        );
        let stand_in = |wave, device: &str| StandIn { wave, device: device.to_owned() };
        let mut stand_ins = Vec::new();
        for devices in [["lamp-1", "lamp-2"], ["lamp-2", "lamp-1"]] {
            let (present, first) = count(&plan, 0, &[], &devices);
            assert_eq!((present, first), (vec![1, 0, 0, 1], Some(stand_in(0, "lamp-1"))), "{devices:?}");
        }
        stand_ins.push(stand_in(0, "lamp-1"));
        let (present, second) = count(&plan, 1, &stand_ins, &["lamp-1", "lamp-2"]);
        assert_eq!((present, second), (vec![1, 1, 0, 0], Some(stand_in(1, "lamp-2"))));
        stand_ins.push(stand_in(1, "lamp-2"));
        // Nobody is left for the others.
        let (present, third) = count(&plan, 2, &stand_ins, &["lamp-1", "lamp-2"]);
        assert_eq!((present, third), (vec![1, 1, 0, 0], None));
        // The first one was revoked: another one takes its place, and the second wave keeps its own.
        assert_eq!(count(&plan, 1, &stand_ins, &["lamp-2"]).1, None);
        assert_eq!(count(&plan, 0, &stand_ins, &["lamp-2"]).1, Some(stand_in(0, "lamp-2")));
        assert_eq!(count(&plan, 0, &[], &[]), (vec![0; 4], None));
    }

    #[test]
    fn nobody_stands_in_who_cannot_take_the_release() {
        let plan = plan(r#"{"waves":[{"select":{"percent":1}},{"select":{"percent":100}}]}"#);
        let mut census = Census::new(&plan, "ro-1", 0, &[]);
        census.add("lamp-1", &[], false);
        census.add("lamp-2", &[], true);
        let expected = StandIn { wave: 0, device: "lamp-2".to_owned() };
        assert_eq!(census.finish(), (vec![1, 1], Some(expected)));
        let mut census = Census::new(&plan, "ro-1", 0, &[]);
        census.add("lamp-1", &[], false);
        assert_eq!(census.finish(), (vec![0, 1], None));
    }

    #[test]
    fn nobody_stands_in_for_tags_or_where_somebody_is() {
        let tags = plan(r#"{"waves":[{"select":{"tags":["lab"]}},{"select":{"percent":100}}]}"#);
        assert_eq!(count(&tags, 0, &[], &["lamp-1"]), (vec![0, 1], None));
        let half = plan(r#"{"waves":[{"select":{"percent":50}}]}"#);
        assert_eq!(count(&half, 0, &[], &["lamp-1", "lamp-2"]), (vec![1], None));
        // A share of the fleet that no other wave follows has a device too.
        let expected = StandIn { wave: 0, device: "lamp-2".to_owned() };
        assert_eq!(count(&half, 0, &[], &["lamp-2"]), (vec![1], Some(expected)));
    }
}
