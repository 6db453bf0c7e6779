//! Bounds on how long a client waits for an answer, and on how long the server waits for a client's body.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::guests::{Turn, Turns};
use crate::lingering::Unread;

/// What the time of a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeFor {
    /// All of it: what is small.
    Whole,
    /// Each part of it: an upload.
    EachPart,
}

/// The body of a request, which has to come in time and notes whose turn it is and whether all of it was read.
pub(crate) struct Watched {
    body: Incoming,
    turns: Turns,
    unread: Unread,
    limit: Duration,
    time_for: TimeFor,
    ends: Pin<Box<Sleep>>,
    is_awaited: bool,
    late: Late,
    /// What is held while a part of the body is not there.
    held: Option<OwnedSemaphorePermit>,
}

/// Whether a body came too late.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late(Arc<AtomicBool>);

impl Late {
    pub(crate) fn is_late(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a handler gets of a body that is late. The listener answers in its place.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct LateBody;

impl Watched {
    pub(crate) fn new(
        body: Incoming,
        turns: Turns,
        unread: Unread,
        limit: Duration,
        time_for: TimeFor,
        held: Option<OwnedSemaphorePermit>,
    ) -> (Self, Late) {
        let late = Late::default();
        let ends = Box::pin(sleep(limit));
        let watched =
            Self { body, turns, unread, limit, time_for, ends, is_awaited: false, late: late.clone(), held };
        (watched, late)
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.is_awaited = false;
            self.turns.set(Turn::Server);
            if frame.is_none() || self.body.is_end_stream() {
                self.held = None;
                self.unread.set(false);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !self.is_awaited {
            self.is_awaited = true;
            self.turns.set(Turn::Client);
            if self.time_for == TimeFor::EachPart {
                let ends = Instant::now() + self.limit;
                self.ends.as_mut().reset(ends);
            }
        }
        ready!(self.ends.as_mut().poll(context));
        self.late.0.store(true, Ordering::Relaxed);
        // Its time is over: nothing more is awaited after the answer.
        self.unread.set(false);
        Poll::Ready(Some(Err(LateBody.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, at whose end it is the client's turn.
pub(crate) struct Answering {
    body: axum::body::Body,
    turns: Turns,
}

impl Answering {
    pub(crate) fn new(body: axum::body::Body, turns: Turns) -> Self {
        Self { body, turns }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.turns.set(Turn::Client);
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What `answer` gives; `None` when the client waits longer than `limit` for it. The time in which the client's own
/// body is awaited does not count: that has limits of its own.
pub(crate) async fn in_time<T>(turns: &Turns, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let mut ends = Instant::now() + limit;
    loop {
        if let Ok(answer) = timeout_at(ends, &mut answer).await {
            return Some(answer);
        }
        let since = match turns.get() {
            (Turn::Client, _) => Instant::now(),
            (Turn::Server | Turn::Handshake, since) => since,
        };
        ends = since + limit;
        if ends <= Instant::now() {
            return None;
        }
    }
}
