//! Faults of the server under load, with a ledger of what was acknowledged: whatever happens, nothing of that is lost, and
//! nothing half-written is served (docs/fault-model.md).
//!
//! | variable | value | without it |
//! | --- | --- | --- |
//! | `PITSTOP_TEST_SEED` | where the random moments begin | a random one, which is printed |
//! | `PITSTOP_TEST_ROUNDS` | rounds of each test; of an attack the seconds | a few seconds' worth |

// Each address of 127.0.0.0/8 is there.
#[cfg(target_os = "linux")]
mod attacks;
mod clock;
mod database;
mod disk;
mod instance;
mod kill;
mod ledger;
mod load;
mod postgres;
mod proxy;

use std::env;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The random moments of a test: the same ones for the same seed.
fn random(test: &str) -> StdRng {
    let seed = env::var("PITSTOP_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("{test}: PITSTOP_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How many rounds of faults a test has.
fn rounds(usual: u32) -> u32 {
    env::var("PITSTOP_TEST_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}
