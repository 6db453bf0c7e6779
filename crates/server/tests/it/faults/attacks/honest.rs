//! The honest ones: a device that checks in, and an operator who looks at a page.

use std::time::Duration;

use hyper::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use wire::Message as _;

use super::super::instance::Remote;
use crate::app::check_in;
use crate::client::{Answer, Identity, request};

/// A device checks in so often, each time on a connection of its own.
const CHECK_IN_PERIOD: Duration = Duration::from_millis(50);

/// An operator asks for a page so often.
const PAGE_PERIOD: Duration = Duration::from_millis(100);

/// Of so many check-ins one has news, which is answered after a commit.
const NEWS: usize = 10;

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Honest {
    remote: Remote,
    identity: Identity,
}

/// How long requests took, from the moment when they were due.
#[derive(Default)]
pub(super) struct Times(Vec<Duration>);

pub(super) struct HonestTimes {
    pub(super) device: Times,
    pub(super) operator: Times,
}

impl Times {
    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn slowest(&self) -> Duration {
        self.0.iter().copied().max().unwrap_or_default()
    }

    /// 99 of 100 took no longer.
    pub(super) fn p99(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(PATIENCE)
    }
}

impl Honest {
    pub(super) fn new(remote: Remote, identity: Identity) -> Self {
        Self { remote, identity }
    }

    /// Works until told to stop. Every request has to be answered as if there were nobody else.
    pub(super) fn run(self, stop: CancellationToken) -> HonestTimes {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let check_in = |number| {
                let (remote, identity) = (self.remote.clone(), self.identity.clone());
                async move { check_in_once(&remote, &identity, number).await }
            };
            let page = |_| {
                let remote = self.remote.clone();
                async move { remote.admin(Method::GET, "/devices?limit=50", "").await }
            };
            let (device, operator) =
                tokio::join!(every(CHECK_IN_PERIOD, &stop, check_in), every(PAGE_PERIOD, &stop, page));
            HonestTimes { device, operator }
        })
    }
}

async fn check_in_once(remote: &Remote, identity: &Identity, number: usize) -> std::io::Result<Answer> {
    let mut said = check_in(None);
    said.starts = u32::try_from(number).unwrap();
    said.updater_version = format!("0.1.{}", number / NEWS);
    let headers = [("content-type", wire::MEDIA_TYPE)];
    let request = request(Method::POST, wire::CHECK_IN_PATH, &headers, said.to_cbor());
    remote.device(Some(identity)).await?.send(request).await
}

/// Asks by the clock, also while earlier requests are not answered.
async fn every<F>(period: Duration, stop: &CancellationToken, ask: impl Fn(usize) -> F) -> Times
where
    F: Future<Output = std::io::Result<Answer>> + 'static,
{
    let tasks = tokio::task::LocalSet::new();
    let asking = async {
        let mut asked = JoinSet::new();
        let mut due_at = interval(period);
        let mut number = 0;
        while let Some(due) = stop.run_until_cancelled(due_at.tick()).await {
            number += 1;
            let answer = ask(number);
            asked.spawn_local(async move {
                let answer = timeout(PATIENCE, answer).await.expect("answered");
                answer.unwrap().expect(200);
                Instant::now() - due
            });
        }
        Times(asked.join_all().await)
    };
    tasks.run_until(asking).await
}
