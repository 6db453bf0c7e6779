//! Connections without a client certificate. Anybody can open them, so that they give way: when a place is needed, the one
//! that has been waiting for its client longest is turned out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A handshake is left alone for so long: a chip without a fast multiplier needs up to 3 s for its part.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Whose turn it is on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Both sides': the TLS handshake is under way.
    Handshake,
    /// The client's: a request or its body is awaited.
    Client,
    /// The server's: it makes an answer.
    Server,
}

/// Whose turn it is on a connection, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Mutex<(Turn, Instant)>>);

impl Turns {
    pub(crate) fn new(turn: Turn) -> Self {
        Self(Arc::new(Mutex::new((turn, Instant::now()))))
    }

    /// From now on it is this one's turn.
    pub(crate) fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (turn, Instant::now());
    }

    pub(crate) fn get(&self) -> (Turn, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the client is waited for, if for so long that the connection may be turned out.
    fn waits_since(&self) -> Option<Instant> {
        match self.get() {
            (Turn::Client, since) => Some(since),
            (Turn::Handshake, since) if since.elapsed() > HANDSHAKE => Some(since),
            (Turn::Handshake | Turn::Server, _) => None,
        }
    }
}

/// All connections of a listener that have shown no certificate.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<Seat>>>,
}

#[derive(Debug)]
pub(crate) struct Seat {
    kind: Kind,
    /// Whether it counts for what connections without a certificate have at most.
    has_share: AtomicBool,
    turns: Turns,
    out: CancellationToken,
}

/// What a connection has a place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To be served.
    Served,
    /// To be told that it is not.
    Told,
}

/// A connection among [`Guests`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    id: u64,
    seat: Arc<Seat>,
    guests: Arc<Guests>,
}

impl Guests {
    pub(crate) fn enter(self: &Arc<Self>, kind: Kind, turn: Turn) -> Guest {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let has_share = AtomicBool::new(false);
        let seat = Arc::new(Seat { kind, has_share, turns: Turns::new(turn), out: CancellationToken::new() });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(id, seat.clone());
        Guest { id, seat, guests: self.clone() }
    }

    /// Turns out those of these that have been waiting for their clients longest, `most` of them; `false` when none is. All
    /// are looked at for that, so that where many come it is done for several of them at once.
    pub(crate) fn turn_out(&self, most: usize, is_meant: impl Fn(&Seat) -> bool) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting: Vec<_> = all
            .values()
            .filter(|seat| is_meant(seat) && !seat.out.is_cancelled())
            .filter_map(|seat| Some((seat.turns.waits_since()?, seat)))
            .collect();
        if waiting.len() > most {
            waiting.select_nth_unstable_by_key(most, |(since, _)| *since);
            waiting.truncate(most);
        }
        for (_, seat) in &waiting {
            seat.out.cancel();
        }
        !waiting.is_empty()
    }
}

impl Seat {
    pub(crate) fn is_served(&self) -> bool {
        self.kind == Kind::Served
    }

    pub(crate) fn has_share(&self) -> bool {
        self.has_share.load(Ordering::Relaxed)
    }
}

impl Guest {
    /// From now on it counts for the share.
    pub(crate) fn take_share(&self) {
        self.seat.has_share.store(true, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.seat.turns
    }

    /// Ends when it is turned out.
    pub(crate) fn out(&self) -> CancellationToken {
        self.seat.out.clone()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_client_longest_is_turned_out() {
        let guests = Arc::new(Guests::default());
        let mut all = Vec::new();
        for turn in [Turn::Server, Turn::Handshake, Turn::Client, Turn::Client] {
            all.push(guests.enter(Kind::Served, turn));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let are_out = |all: &[Guest]| all.iter().map(|guest| guest.out().is_cancelled()).collect::<Vec<_>>();
        assert!(guests.turn_out(1, Seat::is_served));
        assert_eq!(are_out(&all), [false, false, true, false], "the handshake has just begun");
        // A request comes in: the server has the turn, then the client again.
        all[3].turns().set(Turn::Server);
        assert!(!guests.turn_out(1, Seat::is_served));
        tokio::time::advance(HANDSHAKE).await;
        all[3].turns().set(Turn::Client);
        assert!(guests.turn_out(1, Seat::is_served));
        assert_eq!(are_out(&all), [false, true, true, false], "a handshake that lasts too long");
        assert!(!guests.turn_out(1, Seat::has_share));
        all[3].take_share();
        assert!(guests.turn_out(1, Seat::has_share));
        assert!(!guests.turn_out(1, |_| true), "nobody who is answered");
        all.clear();
        assert!(guests.all.lock().unwrap().is_empty());
    }
    #[tokio::test(start_paused = true)]
    async fn several_are_turned_out_at_once_and_no_more_than_there_are() {
        let guests = Arc::new(Guests::default());
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(guests.enter(Kind::Served, Turn::Client));
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let out = || all.iter().take_while(|guest| guest.out().is_cancelled()).count();
        assert!(guests.turn_out(4, Seat::is_served));
        assert_eq!(out(), 4, "the first ones");
        assert!(guests.turn_out(32, Seat::is_served));
        assert_eq!(out(), 10);
        assert!(!guests.turn_out(4, Seat::is_served));
    }
}
