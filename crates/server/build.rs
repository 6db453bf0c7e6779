//! Rebuilds when a migration is added: they are embedded by `sqlx::migrate!`.

fn main() {
    println!("cargo:rerun-if-changed=src/store/migrations");
}
