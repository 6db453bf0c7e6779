//! How a device is, as one SQL expression: lists, counts and samples all say the same.

/// All healths, in the order in which they are asked for.
pub(crate) const HEALTHS: [&str; 8] =
    ["revoked", "new", "silent", "crashing", "failing", "unheard", "updating", "ok"];

/// The health of the device `d` of product `p` at the moment `$now` (a placeholder such as `"$5"`, milliseconds).
///
/// The first that holds: `revoked`; `new` (never seen); `silent` (not seen for longer than the product's deadline and than
/// is usual for it, `rollout::Cadence`); `crashing`; `failing` (the release failed, or is in quarantine); `unheard` (not seen
/// for longer than the product's deadline, and what is usual for it is not known); `updating`; `ok`.
macro_rules! health_sql {
    ($now:literal) => {
        concat!(
            "CASE WHEN d.revoked_at_ms IS NOT NULL THEN 'revoked' \
             WHEN d.last_seen_at_ms IS NULL THEN 'new' \
             WHEN d.attempt_state = 'silent' \
                 OR (d.cadence_intervals >= 3 AND d.last_seen_at_ms + d.cadence_ms * 4 < ",
            $now,
            " AND d.last_seen_at_ms + p.silence_deadline_s * 1000 < ",
            $now,
            ") THEN 'silent' \
             WHEN d.attempt_state = 'crashed' THEN 'crashing' \
             WHEN d.attempt_state = 'failed' OR d.quarantined_at_ms IS NOT NULL THEN 'failing' \
             WHEN d.attempt_state = 'unheard' OR (d.cadence_intervals < 3 \
                 AND d.last_seen_at_ms + p.silence_deadline_s * 1000 < ",
            $now,
            ") THEN 'unheard' \
             WHEN d.attempt_state IN ('offered', 'installed') THEN 'updating' \
             ELSE 'ok' END"
        )
    };
}

pub(crate) use health_sql;

#[cfg(test)]
mod tests {
    use rollout::Cadence;

    /// The numbers in the expression are those of the crate `rollout`.
    #[test]
    fn the_expression_knows_a_cadence_as_rollouts_do() {
        let cadence = |intervals| Cadence { interval_ms: 1000, intervals };
        assert!(!cadence(2).is_known() && cadence(3).is_known());
        assert_eq!(Cadence::patience_ms(Some(cadence(3)), 0), 4000);
        let sql = health_sql!("$1");
        assert!(sql.contains("d.cadence_intervals >= 3") && sql.contains("d.cadence_ms * 4"));
    }
}
