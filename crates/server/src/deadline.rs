//! A bound on how long a client waits for an answer.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};

/// Whose turn it is within a request.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client's: its body is awaited.
    Client,
    /// The server's, since then.
    Server(Instant),
}

/// Whose turn it is, as the body of the request knows.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Mutex<Turn>>);

/// The body of a request, which notes whose turn it is.
pub(crate) struct Watched {
    body: Incoming,
    turns: Turns,
}

impl Watched {
    pub(crate) fn new(body: Incoming) -> (Self, Turns) {
        let turns = Turns(Arc::new(Mutex::new(Turn::Server(Instant::now()))));
        (Self { body, turns: turns.clone() }, turns)
    }
}

impl Turns {
    /// What `answer` gives; `None` when the client waits longer than `limit` for it. The time in which the client's own
    /// body is awaited does not count: that has limits of its own.
    pub(crate) async fn in_time<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = pin!(answer);
        let mut ends = Instant::now() + limit;
        loop {
            if let Ok(answer) = timeout_at(ends, &mut answer).await {
                return Some(answer);
            }
            let since = match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
                Turn::Client => Instant::now(),
                Turn::Server(since) => since,
            };
            ends = since + limit;
            if ends <= Instant::now() {
                return None;
            }
        }
    }

    fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.turns.set(match polled {
            Poll::Pending => Turn::Client,
            Poll::Ready(_) => Turn::Server(Instant::now()),
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
