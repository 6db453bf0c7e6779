//! Whether two boards come with one identity: a vault that was copied to a second board.
//!
//! A board counts its starts since it has power. On one board that count goes up, or begins anew. Two boards have two
//! counts, and what the server hears goes to and fro between them, each going on where it left off (the signature counter of
//! Web Authentication Level 2, section 6.1.1, is judged for the same reason). A count that goes back once is no sign.

/// Times in a row that the count goes to where the other board left off, until that is no chance.
const RETURNS: i64 = 8;

/// The counts are so many times farther from each other than a board's is from where it left off: a board that loses power
/// now and then, and is not heard at each start, may come near to an old count by chance.
const APART: i64 = 8;

/// The count wraps there (`STARTS_MODULUS` of the updater).
const MODULUS: i64 = 2048;

/// A board that starts about half as often between two check-ins as the count wraps at seems to go to and fro as well: by so much
/// the way may differ from half the modulus.
const NEAR_HALF: i64 = 160;

/// Who has not returned for so long is one board.
const FORGET_MS: i64 = 30 * 24 * 3_600_000;

/// The counts of starts that a device was heard with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The last one.
    pub(crate) starts: Option<i64>,
    /// Where the count before the last return or new beginning ended.
    pub(crate) other: Option<i64>,
    /// Returns in a row.
    pub(crate) returns: i64,
    pub(crate) returned_at_ms: Option<i64>,
    /// Since when there seem to be two boards.
    pub(crate) suspected_at_ms: Option<i64>,
}

/// What a count of starts is to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is or goes on with the last one.
    On,
    /// It goes on with the one before that.
    Return,
    /// It goes on with neither.
    Anew,
}

impl Counts {
    /// As they are after a check-in.
    pub(crate) fn after(self, starts: i64, now_ms: i64) -> Self {
        let is_long_ago = self.returned_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) > FORGET_MS);
        let mut counts = match is_long_ago {
            true => Self { returns: 0, returned_at_ms: None, suspected_at_ms: None, ..self },
            false => self,
        };
        let step = self.step(starts);
        counts.starts = Some(starts);
        match step {
            Step::On => return counts,
            Step::Return => {
                counts.returns = counts.returns.saturating_add(1);
                counts.returned_at_ms = Some(now_ms);
                if counts.returns >= RETURNS {
                    counts.suspected_at_ms.get_or_insert(now_ms);
                }
            }
            Step::Anew => counts.returns = 0,
        }
        counts.other = self.starts;
        counts
    }

    fn step(self, starts: i64) -> Step {
        let Some(last) = self.starts.filter(|last| *last != starts) else { return Step::On };
        match self.other.filter(|other| *other < starts) {
            // It is next above the other one.
            Some(other) if (last > starts || last < other) && !is_half_way(last - other) => {
                match (starts - other).saturating_mul(APART) <= (starts - last).abs() {
                    true => Step::Return,
                    false => Step::Anew,
                }
            }
            Some(_) | None if last < starts => Step::On,
            Some(_) | None => Step::Anew,
        }
    }
}

/// Whether one board may have gone so far that two of these ways are once around.
fn is_half_way(way: i64) -> bool {
    (way.rem_euclid(MODULUS) - MODULUS / 2).abs() <= NEAR_HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// After check-ins with these counts, one an hour.
    fn after(starts: impl IntoIterator<Item = i64>) -> Counts {
        let hours = (0..).map(|hour| hour * HOUR_MS);
        starts
            .into_iter()
            .zip(hours)
            .fold(Counts::default(), |counts, (starts, at_ms)| counts.after(starts, at_ms))
    }

    fn is_suspected(starts: impl IntoIterator<Item = i64>) -> bool {
        after(starts).suspected_at_ms.is_some()
    }

    #[test]
    fn two_boards_that_count_by_themselves_are_suspected() {
        let two = |one: fn(i64) -> i64, other: fn(i64) -> i64| (0..9).flat_map(move |n| [one(n), other(n)]);
        for (name, starts) in [
            ("a copy that starts anew", two(|n| 500 + n, |n| 1 + n)),
            ("the copy comes first", two(|n| 1 + n, |n| 500 + n)),
            ("one is heard at every third start", two(|n| 500 + 3 * n, |n| 1 + n)),
            ("one sleeps more often", two(|n| 1400 + 24 * n, |n| 1000 + 2 * n)),
        ] {
            assert!(is_suspected(starts), "{name}");
        }
        let in_bursts =
            (0..9).flat_map(|n| [500 + 4 * n, 501 + 4 * n, 502 + 4 * n, 503 + 4 * n, 10 + 2 * n, 11 + 2 * n]);
        assert!(is_suspected(in_bursts));
    }

    #[test]
    fn the_eighth_return_is_the_one() {
        let starts = || (0..).flat_map(|n| [500 + n, 1 + n]);
        assert_eq!(
            after(starts().take(9)),
            Counts {
                starts: Some(504),
                other: Some(4),
                returns: 7,
                returned_at_ms: Some(8 * HOUR_MS),
                suspected_at_ms: None,
            }
        );
        assert_eq!(after(starts().take(10)).suspected_at_ms, Some(9 * HOUR_MS));
        assert_eq!(after(starts().take(20)).suspected_at_ms, Some(9 * HOUR_MS), "since then");
    }

    #[test]
    fn one_board_is_not_suspected() {
        let cases: [(&str, Vec<i64>); 9] = [
            ("nothing heard", vec![]),
            ("it goes on", (1..100).collect()),
            ("power is cut at every start", vec![1; 100]),
            ("power is cut once", (1..500).chain(1..100).collect()),
            ("power is cut every day", (0..50).flat_map(|_| 1..24).collect()),
            ("every second start has power cut before it", (0..50).flat_map(|_| [1, 2]).collect()),
            ("the answer is lost, and it asks again", (0..50).flat_map(|n| [n, n]).collect()),
            ("the count wraps", (0..30_000).map(|n| n % MODULUS).collect()),
            (
                "it is heard now and then, and passes where it was",
                vec![490, 1, 25, 49, 480, 514, 538, 1, 30, 520, 560],
            ),
        ];
        for (name, starts) in cases {
            assert!(!is_suspected(starts), "{name}");
        }
        let days = (0..50).flat_map(|day| (1..10 + day).step_by(3));
        assert!(!is_suspected(days), "a day longer than the one before");
    }

    /// A sleeper that wakes some thousand times between two check-ins goes once around with two of them.
    #[test]
    fn a_count_that_wraps_does_not_look_like_two_boards() {
        for step in 1..2 * MODULUS {
            let starts = (0..400).map(|n| {
                let uneven = [0, 31, -47, 12, 50, -50, 7, -20][n as usize % 8];
                (n * step + uneven).rem_euclid(MODULUS)
            });
            assert!(!is_suspected(starts), "{step} starts between two check-ins, more or less");
            assert!(!is_suspected((0..400).map(|n| (n * step).rem_euclid(MODULUS))), "{step}");
        }
    }

    /// Boards that lose power by chance and are heard by chance, of a million check-ins each.
    #[test]
    fn chance_does_not_look_like_two_boards() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        for (power_is_cut_of, is_heard_of) in
            [(3, 1), (3, 3), (10, 3), (10, 10), (30, 10), (100, 30), (300, 30)]
        {
            let (mut counts, mut starts, mut most) = (Counts::default(), 0, 0);
            for _ in 0..1_000_000 {
                starts = if below(power_is_cut_of) == 0 { 1 } else { starts + 1 };
                if below(is_heard_of) == 0 {
                    counts = counts.after(starts, 0);
                    most = most.max(counts.returns);
                }
            }
            assert!(
                most < RETURNS - 2,
                "power cut at 1 of {power_is_cut_of}, heard at 1 of {is_heard_of}: {most}"
            );
        }
    }

    #[test]
    fn a_suspicion_ends_when_only_one_board_is_heard_for_long() {
        let counts = after((0..9).flat_map(|n| [500 + n, 1 + n]));
        let (Some(at_ms), Some(starts)) = (counts.returned_at_ms, counts.starts) else {
            panic!("{counts:?}")
        };
        assert!(counts.after(starts + 1, at_ms + FORGET_MS).suspected_at_ms.is_some());
        let later = counts.after(starts + 1, at_ms + FORGET_MS + 1);
        assert_eq!((later.suspected_at_ms, later.returns), (None, 0));
        let power_cut = counts.after(1, at_ms + HOUR_MS);
        assert_eq!(
            (power_cut.suspected_at_ms, power_cut.returns),
            (counts.suspected_at_ms, 0),
            "a power cut is no answer"
        );
    }
}
