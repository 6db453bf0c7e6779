//! A module for each target: `Input` is what it takes, made of bytes by [`crate::read`], and `run` what it does with it. What it
//! must not do it panics about.

pub mod addresses;
pub mod app_descriptor;
pub mod certificates;
pub mod chainload;
pub mod csr;
pub mod engine_events;
pub mod engine_faults;
pub mod est;
pub mod headers;
pub mod http_response;
pub mod image;
pub mod improv;
pub mod journal;
pub mod keys;
pub mod manifest;
pub mod otadata;
pub mod partition_csv;
pub mod partition_table;
pub mod records;
pub mod rollout_plan;
pub mod tls_handshake;
pub mod vault;
pub mod wire;

/// Hands the list of all targets to a macro, each with the number of inputs that its test makes of the corpus: some seconds
/// for each without optimisation, of which curves and flash take the most.
#[macro_export]
macro_rules! each_target {
    ($with:ident) => {
        $with! {
            addresses: 5_000,
            app_descriptor: 5_000,
            certificates: 5_000,
            chainload: 1_000,
            csr: 1_500,
            engine_events: 600,
            engine_faults: 200,
            est: 600,
            headers: 5_000,
            http_response: 3_000,
            image: 3_000,
            improv: 3_000,
            journal: 2_000,
            keys: 5_000,
            manifest: 1_000,
            otadata: 2_000,
            partition_csv: 3_000,
            partition_table: 3_000,
            records: 5_000,
            rollout_plan: 5_000,
            tls_handshake: 300,
            vault: 600,
            wire: 5_000,
        }
    };
}
