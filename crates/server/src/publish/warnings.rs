//! What a publisher is warned of: it is published all the same, and the warning stays with the release.

use crate::store::{Namesake, NewRelease, RolloutRow, Trust};

/// What is odd about a release in the light of the releases that have its digest or its version.
pub(super) fn mix_ups(digest: &str, version: &str, namesakes: &[Namesake]) -> impl Iterator<Item = String> {
    namesakes.iter().map(move |other| {
        let Namesake { sequence, version: their_version, .. } = other;
        if other.digest == digest {
            format!(
                "release {sequence} ({their_version}) is the same image: devices tell releases apart by the digest, and \
                 one that runs it needs no install"
            )
        } else {
            format!("release {sequence} is called {version} too, and is another image")
        }
    })
}

/// That nothing brings devices the release that they must run first.
pub(super) fn unreachable(required: &NewRelease, channel: &str) -> String {
    let NewRelease { sequence, version, .. } = required;
    format!(
        "no rollout brings release {sequence} ({version}), which it requires, to channel {channel}: devices that run less \
         are offered nothing until one does"
    )
}

/// That the release before required another one, and this one does not: devices go around that.
pub(super) fn around((sequence, required): (i64, i64)) -> String {
    format!(
        "release {sequence} requires release {required}, and this one requires none: devices that run less go straight to \
         this one"
    )
}

/// That devices will refuse what this key signed.
pub(super) fn untrusted(key: &str, Trust { trusting, others, in_part }: Trust) -> String {
    let all = trusting + others;
    let counted = if in_part { ", more were not counted" } else { "" };
    format!(
        "{others} of {all} devices that tell their keys do not trust {key}, and refuse the release{counted}"
    )
}

/// That a version is lower than the newest of its channel: mostly somebody built an old branch.
pub(super) fn lower(version: &str, newest: &Namesake) -> Option<String> {
    let is_lower = numbers(version)? < numbers(&newest.version)?;
    is_lower.then(|| {
        format!(
            "version {version} is lower than {}, that of release {}, which is the newest on its channel",
            newest.version, newest.sequence
        )
    })
}

/// The numbers of a version such as `1.10.2` or `v3.4-rc1`, up to what is none; `None` without any.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    for part in version.trim_start_matches(['v', 'V']).split('.') {
        let digits = part.find(|char: char| !char.is_ascii_digit()).unwrap_or(part.len());
        let Ok(number) = part[..digits].parse() else { break };
        numbers.push(number);
        if digits < part.len() {
            break;
        }
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// That a rollout has waves which never open, because the release's own rollout takes its place.
pub(super) fn cut_short(rollout: &RolloutRow) -> String {
    format!(
        "rollout {} of release {} ({}) is {} and is superseded: its further waves do not open",
        rollout.id, rollout.sequence, rollout.version, rollout.state
    )
}

/// That the product's default plan ends before all devices have the release.
pub(super) const LEAVES_DEVICES_OUT: &str = "no wave of the plan takes 100 % of the devices, as the product's default plan \
     says: the others are never offered the release";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_version_is_noticed_and_words_are_not_compared() {
        let than = |newest: &str, version: &str| {
            let newest = Namesake { sequence: 7, version: newest.to_owned(), digest: String::new() };
            lower(version, &newest).is_some()
        };
        assert!(than("1.10.0", "1.9.3") && than("v2", "1.9") && than("3.1-rc2", "3.0"));
        for (newest, version) in [
            ("1.9.3", "1.10.0"),
            ("1.2", "1.2"),
            ("1.2", "1.2.1"),
            ("night", "1.0"),
            ("1.0", "abc"),
            ("", ""),
        ] {
            assert!(!than(newest, version), "{version} after {newest}");
        }
    }
}
