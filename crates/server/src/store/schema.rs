//! The schema: migrations, which are added and never changed.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, SqlStr};

use super::StoreError;

/// Number, what it is about, and the statements of `migrations/<number>_<about>.sql`.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "initial", include_str!("migrations/0001_initial.sql")),
    (2, "fleet", include_str!("migrations/0002_fleet.sql")),
    (10, "rollouts", include_str!("migrations/0010_rollouts.sql")),
    (20, "chip revision", include_str!("migrations/0020_chip_revision.sql")),
    (30, "settings", include_str!("migrations/0030_settings.sql")),
    (50, "ca", include_str!("migrations/0050_ca.sql")),
    (60, "evidence", include_str!("migrations/0060_evidence.sql")),
    (61, "cadence", include_str!("migrations/0061_cadence.sql")),
    (62, "epochs", include_str!("migrations/0062_epochs.sql")),
    (63, "bounds", include_str!("migrations/0063_bounds.sql")),
    (64, "sessions", include_str!("migrations/0064_sessions.sql")),
    (65, "webhooks", include_str!("migrations/0065_webhooks.sql")),
    (66, "lists", include_str!("migrations/0066_lists.sql")),
    (67, "uploads", include_str!("migrations/0067_uploads.sql")),
    (70, "stand ins", include_str!("migrations/0070_stand_ins.sql")),
    (71, "publishers", include_str!("migrations/0071_publishers.sql")),
    (72, "requires", include_str!("migrations/0072_requires.sql")),
    (73, "deletion", include_str!("migrations/0073_deletion.sql")),
    (74, "retention", include_str!("migrations/0074_retention.sql")),
    (75, "idempotency", include_str!("migrations/0075_idempotency.sql")),
    (80, "suspended", include_str!("migrations/0080_suspended.sql")),
    (85, "attempt lists", include_str!("migrations/0085_attempt_lists.sql")),
    (86, "clones", include_str!("migrations/0086_clones.sql")),
    (87, "suspended health", include_str!("migrations/0087_suspended_health.sql")),
    (88, "sorted lists", include_str!("migrations/0088_sorted_lists.sql")),
    (89, "refusals", include_str!("migrations/0089_refusals.sql")),
    (91, "rotate keys", include_str!("migrations/0091_rotate_keys.sql")),
    (92, "certificate ends", include_str!("migrations/0092_certificate_ends.sql")),
    (93, "release strategy", include_str!("migrations/0093_release_strategy.sql")),
];

/// Brings the schema up to date, on Postgres under an advisory lock, so that of several instances that start at once one does.
pub(super) async fn migrate(pool: AnyPool) -> Result<(), StoreError> {
    let migration = |(number, about, statements): &(i64, &'static str, &'static str)| {
        let statements = SqlStr::from_static(statements);
        Migration::new(*number, (*about).into(), MigrationType::Simple, statements, false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect()).run(&pool).await?;
    pool.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_is_a_migration() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed = MIGRATIONS
            .iter()
            .map(|(number, about, _)| format!("{number:04}_{}.sql", about.replace(' ', "_")));
        assert_eq!(files, listed.collect::<Vec<_>>());
    }
}
