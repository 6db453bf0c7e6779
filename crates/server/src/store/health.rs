//! How a device is, as one SQL expression: lists, counts and samples all say the same.

/// All healths, in the order in which they are asked for.
pub(crate) const HEALTHS: [&str; 7] = ["revoked", "new", "silent", "crashing", "failing", "updating", "ok"];

/// The health of the device `d` of product `p` at the moment `$now` (a placeholder such as `"$5"`, milliseconds).
///
/// The first that holds: `revoked`; `new` (never seen); `silent` (took a release and did not come back, or not seen for
/// longer than the product's deadline); `crashing`; `failing` (the release failed, or is in quarantine); `updating`; `ok`.
macro_rules! health_sql {
    ($now:literal) => {
        concat!(
            "CASE WHEN d.revoked_at_ms IS NOT NULL THEN 'revoked' \
             WHEN d.last_seen_at_ms IS NULL THEN 'new' \
             WHEN d.attempt_state = 'silent' \
                 OR d.last_seen_at_ms < ",
            $now,
            " - p.silence_deadline_s * 1000 THEN 'silent' \
             WHEN d.attempt_state = 'crashed' THEN 'crashing' \
             WHEN d.attempt_state = 'failed' OR d.quarantined_at_ms IS NOT NULL THEN 'failing' \
             WHEN d.attempt_state IN ('offered', 'installed') THEN 'updating' \
             ELSE 'ok' END"
        )
    };
}

pub(crate) use health_sql;
