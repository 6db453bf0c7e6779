//! What several tests share.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

pub mod flash;
pub mod pki;
pub mod stream;

/// Runs a future to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
