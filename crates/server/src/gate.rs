//! Who is let in: connections, requests in flight and rates, each with a bound.
//!
//! A client past a bound is told so (429 for its own doing, 503 for everybody's) and when to come back, spread at
//! random so that a fleet does not return as one. There are bounds on telling, too: past them a connection is closed
//! at once, or waits in the system's backlog, which is bounded itself. An address past its bounds is told nothing: a
//! handshake costs the server more than the client. Connections without a certificate give way (`guests.rs`).

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::config::Limits;
use crate::guests::{Guest, Guests, Kind, Seat, Turn};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// Buckets of a rate limit, each at most a few dozen bytes: clients that fall into the same one share it. With a
/// hundred thousand devices at once one in ten shares its bucket, and with 2^20 buckets an attacker who makes up
/// addresses fills 50 MB and no more.
const BUCKETS: u64 = 1 << 20;

/// Of the places one in so many is kept free: past that, connections without a certificate are turned out.
const SPARE_SHARE: usize = 16;

/// Of the places connections without a certificate have one in so many at most, where certificates are shown.
const ANONYMOUS_SHARE: usize = 4;

/// Of the requests in flight one in so many may still wait for its body.
const AWAITED_SHARE: usize = 2;

/// Where somebody has to give way, one in so many of the places is freed at once, and one at least: all guests are looked at for
/// that, which is not to be done for each of thousands that come.
const FREED_SHARE: usize = 128;

/// A connection that is turned out gives its place back within this time: its task has but to be woken.
const TURN_OUT: Duration = Duration::from_millis(100);

/// What a client is told when it is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// 429: too many requests or connections from its address.
    Address { retry_after_s: u32 },
    /// 429: too many requests of the device.
    Device { retry_after_s: u32 },
    /// 503: the server has as much to do as it takes on, or what it asks does not answer it.
    Busy { retry_after_s: u32 },
    /// 408: its body did not come in time.
    TooSlow,
    /// 400: its body ended too early.
    BrokenBody,
    /// 400: it does not say once which host it means.
    Host,
}

/// What becomes of a new connection.
pub(crate) enum Admission {
    /// It is served.
    Serve(Place),
    /// It is told why not, and closed.
    Tell(Place, Denial),
    /// It is closed at once.
    Close,
}

/// The place of one connection, given back when it is dropped.
pub(crate) struct Place {
    /// Until it shows a certificate.
    pub(crate) guest: Option<Guest>,
    _permit: OwnedSemaphorePermit,
    _address: Option<Occupied>,
}

/// A request in flight, until it is dropped.
pub(crate) struct InFlight {
    _permit: OwnedSemaphorePermit,
    /// While its body is awaited.
    pub(crate) awaited: Option<OwnedSemaphorePermit>,
}

/// The bounds of one listener, shared by all its connections.
pub(crate) struct Gate {
    limits: Limits,
    served: Arc<Semaphore>,
    told: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    awaited: Arc<Semaphore>,
    /// What connections without a certificate have; `None` where nobody shows one.
    anonymous: Option<Arc<Semaphore>>,
    guests: Arc<Guests>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address_rate: Option<Rate>,
    device_rate: Option<Rate>,
    metrics: Arc<Metrics>,
}

impl Gate {
    /// `is_public` says whether strangers come here, over TLS: only then clients are told apart.
    pub(crate) fn new(limits: Limits, is_public: bool, metrics: Arc<Metrics>) -> Self {
        let rate = |per_s, burst| Rate::new(per_s, burst).filter(|_| is_public);
        let max_by_address = if is_public { limits.max_connections_per_address } else { 0 };
        Self {
            served: Arc::new(Semaphore::new(limits.max_connections)),
            told: Arc::new(Semaphore::new(limits.max_refused_connections)),
            in_flight: Arc::new(Semaphore::new(limits.max_requests_in_flight)),
            awaited: share_of(limits.max_requests_in_flight, AWAITED_SHARE),
            anonymous: is_public.then(|| share_of(limits.max_connections, ANONYMOUS_SHARE)),
            guests: Arc::default(),
            by_address: Arc::default(),
            address_rate: rate(limits.address_requests_per_s, limits.address_burst),
            device_rate: rate(limits.certificate_requests_per_s, limits.certificate_burst),
            limits: Limits { max_connections_per_address: max_by_address, ..limits },
            metrics,
        }
    }

    /// Waits until there is a place for one more connection, be it to be told that there is none.
    pub(crate) async fn ready(&self) {
        loop {
            // The permits go back at once: this is the only task that takes any for connections.
            tokio::select! {
                biased;
                _ = self.served.acquire() => return,
                _ = self.told.acquire() => return,
                () = sleep(TURN_OUT) => {}
            }
            self.guests.turn_out(freed(self.limits.max_connections), |_| true);
        }
    }

    /// Sees that there is a place for the connection that comes now, if anybody is there to be turned out.
    async fn make_room(&self) {
        if self.served.available_permits() <= self.limits.max_connections / SPARE_SHARE
            && self.guests.turn_out(freed(self.limits.max_connections), Seat::is_served)
        {
            // Not in time: the connection is told that there is no place.
            let _ = timeout(TURN_OUT, self.served.acquire()).await;
        }
    }

    /// What becomes of a connection from this address. A connection counts as a request.
    pub(crate) async fn admit(&self, address: IpAddr) -> Admission {
        let occupied = match self.key(address) {
            None => None,
            Some(key) => match (self.occupy(key), self.check_address(Some(key))) {
                (Some(occupied), Ok(())) => Some(occupied),
                (None, _) => {
                    self.metrics.rate_limited.add("address");
                    return Admission::Close;
                }
                (Some(_), Err(_)) => return Admission::Close,
            },
        };
        // Not for an address that has more than its share.
        self.make_room().await;
        let turn = if self.anonymous.is_some() { Turn::Handshake } else { Turn::Client };
        let place = |kind, permit| {
            let guest = Some(self.guests.enter(kind, turn));
            Place { guest, _permit: permit, _address: occupied }
        };
        if let Ok(permit) = self.served.clone().try_acquire_owned() {
            return Admission::Serve(place(Kind::Served, permit));
        }
        match self.told.clone().try_acquire_owned() {
            Ok(permit) => Admission::Tell(place(Kind::Told, permit), self.busy()),
            Err(_) => Admission::Close,
        }
    }

    /// Whether a connection that has shown no certificate in its handshake is served, while it holds what it gets.
    pub(crate) async fn admit_anonymous(
        &self,
        guest: &Guest,
    ) -> Result<Option<OwnedSemaphorePermit>, Denial> {
        let Some(share) = &self.anonymous else { return Ok(None) };
        let mut permit = share.clone().try_acquire_owned().ok();
        let freed = freed(self.limits.max_connections / ANONYMOUS_SHARE);
        if permit.is_none() && self.guests.turn_out(freed, Seat::has_share) {
            permit = timeout(TURN_OUT, share.clone().acquire_owned()).await.ok().and_then(Result::ok);
        }
        let permit = permit.ok_or_else(|| self.busy())?;
        guest.take_share();
        Ok(Some(permit))
    }

    /// Counts a request: of an address, and of a device by the subject of its certificate. A renewed certificate is the
    /// same device.
    pub(crate) fn count(&self, address: IpAddr, device: Option<&[u8]>) -> Result<(), Denial> {
        self.check_address(self.key(address))?;
        if let (Some(rate), Some(device)) = (&self.device_rate, device)
            && let Err(wait) = rate.check(device)
        {
            self.metrics.rate_limited.add("certificate");
            return Err(Denial::Device { retry_after_s: self.retry_after_s(wait) });
        }
        Ok(())
    }

    /// Whether a request may be handled now. One whose body is not there yet leaves room for others.
    pub(crate) fn pass(&self, awaits_body: bool) -> Result<InFlight, Denial> {
        let take =
            |semaphore: &Arc<Semaphore>| semaphore.clone().try_acquire_owned().map_err(|_| self.busy());
        let awaited = if awaits_body { Some(take(&self.awaited)?) } else { None };
        Ok(InFlight { _permit: take(&self.in_flight)?, awaited })
    }

    /// Forgets clients that have not come for a while; to be called now and then.
    pub(crate) fn forget(&self) {
        for rate in [&self.address_rate, &self.device_rate].into_iter().flatten() {
            rate.limiter.retain_recent();
            rate.limiter.shrink_to_fit();
        }
    }

    /// The address as it is counted: of IPv6 the network of 64 bits, which is what one client has at its disposal.
    /// `None`: it is not counted.
    fn key(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if address.is_loopback() && !self.limits.limit_loopback {
            return None;
        }
        Some(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }

    fn occupy(&self, key: IpAddr) -> Option<Occupied> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = by_address.entry(key).or_default();
        let most = self.limits.max_connections_per_address;
        if most > 0 && *connections >= most {
            return None;
        }
        *connections += 1;
        Some(Occupied { key, by_address: self.by_address.clone() })
    }

    fn check_address(&self, key: Option<IpAddr>) -> Result<(), Denial> {
        let (Some(rate), Some(key)) = (&self.address_rate, key) else { return Ok(()) };
        rate.check(key).map_err(|wait| {
            self.metrics.rate_limited.add("address");
            Denial::Address { retry_after_s: self.retry_after_s(wait) }
        })
    }

    /// For a client that is not served for no fault of its own.
    pub(crate) fn busy(&self) -> Denial {
        Denial::Busy { retry_after_s: self.retry_after_s(Duration::ZERO) }
    }

    /// When to come back, in seconds: no earlier than in `wait`.
    pub(crate) fn retry_after_s(&self, wait: Duration) -> u32 {
        retry_after_s(&self.limits, wait)
    }
}

/// A semaphore over one in `divisor` of `all`, one at least.
fn share_of(all: usize, divisor: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new((all / divisor).max(1)))
}

/// How many of so many places are freed at once.
fn freed(places: usize) -> usize {
    (places / FREED_SHARE).max(1)
}

/// When to come back, in seconds: no earlier than in `wait`, nor than [`Limits::retry_after`] says, and then spread at
/// random over [`Limits::retry_spread`].
pub(crate) fn retry_after_s(limits: &Limits, wait: Duration) -> u32 {
    let spread_ms = u64::try_from(limits.retry_spread.as_millis()).unwrap_or(u64::MAX);
    let spread = Duration::from_millis(rand::thread_rng().gen_range(0..=spread_ms));
    let wait = wait.max(limits.retry_after).saturating_add(spread);
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// A hint to a device, made up to a quarter longer: by always the same for one device, and evenly over the fleet, so
/// that devices which were told the same come back one after the other.
pub(crate) fn spread_s(hint_s: u32, device: &str) -> u32 {
    let [first, second, ..] = manifest::Digest::of(device.as_bytes()).0;
    let share = u64::from(u16::from_be_bytes([first, second]));
    let more_s = u64::from(hint_s) / 4 * share / u64::from(u16::MAX);
    hint_s.saturating_add(u32::try_from(more_s).unwrap_or(u32::MAX))
}

struct Occupied {
    key: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = by_address.get_mut(&self.key) {
            *connections -= 1;
            if *connections == 0 {
                by_address.remove(&self.key);
            }
        }
    }
}

/// A rate limit (GCRA) over a bounded number of buckets.
struct Rate {
    limiter: RateLimiter<u64, DashMapStateStore<u64>, DefaultClock>,
    clock: DefaultClock,
    /// Seeded by the process: nobody outside knows who shares a bucket with whom.
    hasher: RandomState,
}

impl Rate {
    /// `None` when the rate is 0: no limit.
    fn new(per_s: u32, burst: u32) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_s)?);
        let quota = NonZeroU32::new(burst).map_or(quota, |burst| quota.allow_burst(burst));
        let limiter = RateLimiter::dashmap(quota);
        Some(Self { limiter, clock: DefaultClock::default(), hasher: RandomState::new() })
    }

    /// Counts one request; when there were too many, how long to wait.
    fn check(&self, client: impl std::hash::Hash) -> Result<(), Duration> {
        let bucket = self.hasher.hash_one(client) % BUCKETS;
        self.limiter.check_key(&bucket).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Address { retry_after_s } => Self::TooManyFromAddress { retry_after_s },
            Denial::Device { retry_after_s } => Self::TooManyOfDevice { retry_after_s },
            Denial::Busy { retry_after_s } => Self::Busy { retry_after_s },
            Denial::TooSlow => Self::TooSlow,
            Denial::BrokenBody => Self::BrokenBody,
            Denial::Host => Self::Bad("expected one Host, found none or several".to_owned()),
        }
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        match denial {
            // Clients of the admin listener are not told apart.
            Denial::Address { retry_after_s }
            | Denial::Device { retry_after_s }
            | Denial::Busy { retry_after_s } => Self::Busy { retry_after_s },
            Denial::TooSlow => Self::TooSlow,
            Denial::BrokenBody => Self::BrokenBody("it ended too early".to_owned()),
            Denial::Host => Self::Invalid("expected one Host, found none or several".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(change: impl FnOnce(&mut Limits)) -> Gate {
        let mut limits = Limits { limit_loopback: true, ..Limits::default() };
        change(&mut limits);
        Gate::new(limits, true, Arc::new(Metrics::new()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn served(admission: Admission) -> Place {
        match admission {
            Admission::Serve(place) => place,
            Admission::Tell(_, denial) => panic!("{denial:?}"),
            Admission::Close => panic!("closed"),
        }
    }

    #[tokio::test]
    async fn an_address_has_its_share_of_connections_and_gets_it_back() {
        let gate = gate(|limits| limits.max_connections_per_address = 2);
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let held = [served(gate.admit(one).await), served(gate.admit(one).await)];
        assert!(matches!(gate.admit(one).await, Admission::Close), "before a handshake");
        served(gate.admit(other).await);
        drop(held);
        served(gate.admit(one).await);
        assert!(gate.by_address.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }

    #[tokio::test]
    async fn a_network_of_ipv6_is_one_client_and_a_mapped_address_is_ipv4() {
        let gate = gate(|limits| limits.max_connections_per_address = 1);
        let _held = served(gate.admit(address("2001:db8::1")).await);
        assert!(matches!(gate.admit(address("2001:db8::2")).await, Admission::Close));
        served(gate.admit(address("2001:db8:0:1::1")).await);
        let _held = served(gate.admit(address("::ffff:192.0.2.1")).await);
        assert!(matches!(gate.admit(address("192.0.2.1")).await, Admission::Close));
    }

    #[tokio::test]
    async fn whoever_comes_from_this_machine_is_not_counted_unless_asked_for() {
        let limit = |limits: &mut Limits| limits.max_connections_per_address = 1;
        for (limit_loopback, text) in [(false, "127.0.0.1"), (false, "::1")] {
            let gate = gate(|limits| {
                limit(limits);
                limits.limit_loopback = limit_loopback;
            });
            let _held = (served(gate.admit(address(text)).await), served(gate.admit(address(text)).await));
        }
    }

    #[tokio::test]
    async fn a_full_house_says_so_then_closes() {
        let gate = gate(|limits| {
            limits.max_connections = 1;
            limits.max_refused_connections = 1;
        });
        let client = address("192.0.2.1");
        let held = served(gate.admit(client).await);
        let told = gate.admit(client).await;
        assert!(matches!(told, Admission::Tell(_, Denial::Busy { .. })));
        assert!(matches!(gate.admit(client).await, Admission::Close));
        drop(held);
        served(gate.admit(client).await);
    }

    #[test]
    fn rates_are_by_address_and_by_device() {
        let gate = gate(|limits| {
            (limits.address_requests_per_s, limits.address_burst) = (1, 4);
            (limits.certificate_requests_per_s, limits.certificate_burst) = (1, 2);
        });
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..2 {
            gate.count(one, Some(b"lamp-1")).unwrap();
        }
        let denial = gate.count(one, Some(b"lamp-1")).unwrap_err();
        assert!(matches!(denial, Denial::Device { .. }), "{denial:?}");
        // The same device from another address; another device from the same address.
        assert!(matches!(gate.count(other, Some(b"lamp-1")), Err(Denial::Device { .. })));
        gate.count(one, Some(b"lamp-2")).unwrap();
        assert!(matches!(gate.count(one, None), Err(Denial::Address { .. })));
        gate.forget();
        assert!(matches!(gate.count(one, None), Err(Denial::Address { .. })), "what is recent is kept");
    }

    #[tokio::test]
    async fn requests_in_flight_are_bounded_and_half_of_them_may_await_a_body() {
        let gate = gate(|limits| limits.max_requests_in_flight = 2);
        let mut awaits = gate.pass(true).unwrap();
        assert!(matches!(gate.pass(true), Err(Denial::Busy { .. })));
        let held = gate.pass(false).unwrap();
        assert!(matches!(gate.pass(false), Err(Denial::Busy { .. })));
        drop(held);
        // Its body is there, and it goes on.
        awaits.awaited = None;
        drop(gate.pass(true).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_a_certificate_make_room() {
        let gate = gate(|limits| limits.max_connections = 32);
        let client = address("192.0.2.1");
        let mut places = Vec::new();
        for _ in 0..30 {
            places.push(served(gate.admit(client).await));
        }
        gate.make_room().await;
        let is_out = |place: &Place| place.guest.as_ref().is_some_and(|guest| guest.out().is_cancelled());
        assert!(!places.iter().any(is_out), "all are in the handshake");
        for place in &mut places[..9] {
            let guest = place.guest.as_ref().unwrap();
            guest.turns().set(Turn::Client);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        // A device among them.
        places[0].guest = None;
        gate.make_room().await;
        assert_eq!(places.iter().position(is_out), Some(1), "the one that has waited longest");
        let mut shares = Vec::new();
        for place in &places[1..9] {
            shares.push(gate.admit_anonymous(place.guest.as_ref().unwrap()).await.unwrap());
        }
        let guest = places[9].guest.as_ref().unwrap();
        let denial = gate.admit_anonymous(guest).await.unwrap_err();
        assert!(matches!(denial, Denial::Busy { .. }), "who was turned out is still there: {denial:?}");
        assert!(is_out(&places[2]), "the next one");
        shares.remove(1);
        gate.admit_anonymous(guest).await.unwrap();
    }

    #[test]
    fn clients_come_back_spread_and_not_too_early() {
        let limits = Limits::default();
        let earliest_s = u32::try_from(limits.retry_after.as_secs()).unwrap();
        let latest_s = earliest_s + u32::try_from(limits.retry_spread.as_secs()).unwrap();
        let told: Vec<_> = (0..1000).map(|_| retry_after_s(&limits, Duration::ZERO)).collect();
        assert!(told.iter().all(|told_s| (earliest_s..=latest_s).contains(told_s)));
        let distinct: std::collections::HashSet<_> = told.into_iter().collect();
        assert!(distinct.len() > 20, "{}", distinct.len());
        assert!(retry_after_s(&limits, Duration::from_secs(500)) >= 500);
    }

    #[test]
    fn hints_are_spread_evenly_and_stay_the_same_for_a_device() {
        let spread: Vec<_> = (0..1000).map(|index| spread_s(4000, &format!("lamp-{index}"))).collect();
        assert_eq!(spread_s(4000, "lamp-7"), spread[7]);
        assert!(spread.iter().all(|hint_s| (4000..=5000).contains(hint_s)));
        for quarter in 0..4 {
            let within = 4000 + quarter * 250_u32..4250 + quarter * 250;
            let count = spread.iter().filter(|hint_s| within.contains(*hint_s)).count();
            assert!((180..320).contains(&count), "{count} of 1000 in {within:?}");
        }
        assert_eq!((spread_s(0, "x"), spread_s(3, "x")), (0, 3));
        assert!(spread_s(u32::MAX, "x") == u32::MAX);
    }
}
