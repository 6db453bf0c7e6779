//! Gives the firmware the time of its build, the lowest time floor, and its first instruction (`src/entry.rs`).

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // A build that is to be repeated byte for byte names its time (reproducible-builds.org, "SOURCE_DATE_EPOCH").
    let time_s = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs().to_string()
    });
    println!("cargo::rustc-env=PITSTOP_BUILD_TIME_S={time_s}");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "riscv32") {
        println!("cargo::rustc-link-arg-bins=--entry=updater_entry");
    }
}
