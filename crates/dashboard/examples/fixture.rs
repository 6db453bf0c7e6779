//! The dashboard over an API that answers from memory, to look at pages while one changes them.
//!
//! `cargo run -p dashboard --example fixture`; log in with `admin-token`, `operator-token`, `viewer-token`. The rollout
//! halts after ten seconds. With the argument `empty` nobody made anything yet.

#![allow(clippy::unwrap_used, reason = "the API of the tests")]

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::time::Duration;

use dashboard::Transport;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (api, world) = fixture::api(std::env::args().any(|argument| argument == "empty"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!(r#"{{"url": "http://{}/", "token": "admin-token"}}"#, listener.local_addr()?);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.halt();
    });
    axum::serve(listener, dashboard::router(api, Transport::Http)).await
}
