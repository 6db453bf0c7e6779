//! The network: every exchange, broken at any byte by the path, and in any answer by the server; and what lies before
//! the first byte.

use std::fmt;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fake_server::{Apply, Exchange, START_S, Twist};
use super::invariants::{self, Facts, Watch};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::world::World;
use super::{Outcome, Stage, in_paused_time, lines, note, outcome};
use crate::impostor::{Content, Delivery, Length, RangeAnswer, Reply};
use crate::net::{ConnectionBytes, Link, Route};
use crate::proxy::{Action, Direction, Fault};

/// A network fault during one start.
#[derive(Clone, Debug)]
pub struct Case {
    layout: usize,
    lifecycle: Lifecycle,
    fault: NetworkFault,
}

#[derive(Clone, Copy, Debug)]
enum NetworkFault {
    /// The path strikes one connection, counted from 1.
    Path { connection: usize, fault: Fault },
    /// The server answers one kind of request wrongly: an index into [`TWISTS`].
    Answer { exchange: Exchange, twist: usize },
    /// An index into [`SURROUNDINGS`].
    Surroundings(usize),
}

type Surrounding = fn(&mut World);
type Twisting = fn(Reply) -> Reply;

/// What lies before and beside the exchanges.
const SURROUNDINGS: [(&str, Surrounding); 8] = [
    ("no-access-point", |world| world.device.network.set_link(Link::Wifi(Vec::new()))),
    ("no-lease", |world| world.device.network.set_link(Link::NoLease)),
    ("no-address", |world| route(world, Route::NoAddress)),
    ("no-answer-from-dns", |world| route(world, Route::Silence)),
    ("nobody-listens", |world| route(world, Route::Refused)),
    ("clock-at-1970", |world| world.server.state().time_s = 24 * 3600 + 1),
    ("clock-a-year-behind", |world| world.server.state().time_s = START_S - 365 * 24 * 3600),
    ("clock-ten-years-ahead", |world| world.server.state().time_s = START_S + 3650 * 24 * 3600),
];

fn route(world: &mut World, route: Route) {
    world.device.network.set_route(super::fake_server::HOST, super::fake_server::PORT, route);
}

/// Wrong answers, each by name.
const TWISTS: [(&str, Twisting); 32] = [
    ("status-200", |reply| with_status(reply, 200)),
    ("status-204", |_| Reply::status(204)),
    ("status-206", |reply| with_status(reply, 206)),
    ("status-304", |_| Reply::status(304)),
    ("status-400", |_| Reply::status(400)),
    ("status-401", |_| Reply::status(401)),
    ("status-403", |_| Reply::status(403)),
    ("status-404", |_| Reply::status(404)),
    ("status-416", |_| Reply::status(416)),
    ("status-429", |_| Reply::status(429)),
    ("status-500", |_| Reply::status(500)),
    ("status-503", |_| Reply::status(503)),
    ("redirect", |_| Reply::redirect("https://other.invalid/")),
    ("endless", |_| Reply::new(Content::Endless)),
    ("endless-chunked", |_| Reply::new(Content::Endless).length(Length::Chunked)),
    ("garbage", |_| Reply::new(Content::Garbage(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()))),
    ("zeros", |_| Reply::new(Content::Garbage(vec![0; 5000]))),
    ("close", |_| Reply::new(Content::Close)),
    ("empty", |_| Reply::ok(wire::MEDIA_TYPE, b"")),
    ("length-too-large", |reply| reply.length(Length::TooLarge { by_bytes: 1 })),
    ("length-too-small", |reply| reply.length(Length::TooSmall { by_bytes: 1 })),
    ("no-length", |reply| reply.length(Length::Absent)),
    ("chunked", |reply| reply.length(Length::Chunked)),
    ("first-byte-wrong", |reply| reply.delivery(Delivery::CorruptByte { offset: 0 })),
    ("byte-100-wrong", |reply| reply.delivery(Delivery::CorruptByte { offset: 100 })),
    ("closed-in-order", |reply| reply.delivery(Delivery::CloseAfter { bytes: 1, close_notify: true })),
    ("cut-off", |reply| reply.delivery(Delivery::CloseAfter { bytes: 1, close_notify: false })),
    ("silence", |reply| reply.delivery(Delivery::StallAfter { bytes: 0 })),
    ("stall", |reply| reply.delivery(Delivery::StallAfter { bytes: 1 })),
    ("a-byte-a-second", |reply| reply.delivery(Delivery::Trickle { per_byte_ms: 1000 })),
    ("another-range", |reply| with_range(reply, RangeAnswer::WrongContentRange)),
    ("bytes-of-another-range", |reply| with_range(reply, RangeAnswer::WrongBytes)),
];

fn with_status(reply: Reply, status: u16) -> Reply {
    match reply.content {
        Content::Answer { headers, body, .. } => Reply::new(Content::Answer { status, headers, body }),
        // 200 to a range request is the whole artifact.
        Content::Artifact { .. } if status == 200 => with_range(reply, RangeAnswer::Ignored),
        Content::Artifact { .. } | Content::Endless | Content::Garbage(_) | Content::Close => reply,
    }
}

fn with_range(reply: Reply, range: RangeAnswer) -> Reply {
    match reply.content {
        Content::Artifact { bytes, .. } => Reply::new(Content::Artifact { bytes, range }),
        Content::Answer { .. } | Content::Endless | Content::Garbage(_) | Content::Close => reply,
    }
}

/// Of the bytes of artifacts, which are most, one in so many is struck.
pub const ARTIFACT_STEP: u64 = 61;

/// What a path does to a connection.
const STRIKES: [(&str, Action); 8] = [
    ("close", Action::Close),
    ("reset", Action::Reset),
    ("stall", Action::Stall),
    ("truncate", Action::Truncate),
    ("duplicate", Action::Duplicate),
    ("flip-bit-0", Action::Corrupt { mask: 1 }),
    ("flip-bit-7", Action::Corrupt { mask: 0x80 }),
    ("a-byte-a-second", Action::Delay { per_byte_ms: 1000 }),
];

/// Lifecycles in which the network is used, each with exchanges of its own.
const LIFECYCLES: [Lifecycle; 4] =
    [Lifecycle::FirstStart, Lifecycle::Install, Lifecycle::Renewal, Lifecycle::CaRollover];

/// A lifecycle on a layout, and what its connections carried when nothing was wrong.
pub struct NetworkStage {
    layout: usize,
    lifecycle: Lifecycle,
    prepared: Arc<Prepared>,
    before: Facts,
    connections: Vec<ConnectionBytes>,
}

impl NetworkStage {
    /// Prepares the lifecycle, and lets it go well once.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize, lifecycle: Lifecycle) -> anyhow::Result<Self> {
        in_paused_time(async {
            let prepared = prepare(LAYOUTS[layout], lifecycle).await?;
            let mut world = prepared.world.restore(1)?;
            let before = Facts::of(prepared.world.flash(), world.device.layout())?;
            world.device.power_on().await?;
            let connections = world.device.network.counters().ended();
            Ok(Self { layout, lifecycle, prepared: Arc::new(prepared), before, connections })
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        let layouts = 0..LAYOUTS.len();
        layouts.flat_map(|layout| LIFECYCLES.map(|lifecycle| Self::new(layout, lifecycle))).collect()
    }

    /// As the table names it.
    pub fn name(&self) -> String {
        format!("{} {}", LAYOUTS[self.layout], self.lifecycle.name())
    }

    /// Each exchange with each wrong answer, and each of the surroundings.
    pub fn answers(&self) -> Vec<Case> {
        let exchanges: &[Exchange] = match self.lifecycle {
            Lifecycle::FirstStart => &[Exchange::Enroll],
            Lifecycle::Renewal => &[Exchange::Renew],
            Lifecycle::CaRollover => &[Exchange::Anchors],
            _ => &[Exchange::CheckIn, Exchange::Artifact, Exchange::Report],
        };
        let answers = exchanges.iter().flat_map(|exchange| {
            (0..TWISTS.len()).map(|twist| NetworkFault::Answer { exchange: *exchange, twist })
        });
        let surroundings = (0..SURROUNDINGS.len()).map(NetworkFault::Surroundings);
        answers.chain(surroundings).map(|fault| self.case(fault)).collect()
    }

    /// Each strike at each byte of each connection, either way; of the artifact's bytes, which are most, one in
    /// `artifact_step`, from `artifact_first` on.
    pub fn paths(&self, artifact_first: u64, artifact_step: u64) -> Vec<Case> {
        /// More than handshake and check-in take.
        const EXCHANGES_BYTES: u64 = 6000;
        let mut cases = Vec::new();
        for (connection, carried) in (1..).zip(&self.connections) {
            for (direction, bytes) in
                [(Direction::ToServer, carried.sent), (Direction::ToDevice, carried.received)]
            {
                let every = 0..bytes.min(EXCHANGES_BYTES);
                let some = EXCHANGES_BYTES + artifact_first..bytes;
                let some = some.step_by(usize::try_from(artifact_step).unwrap_or(1));
                for after_bytes in every.chain(some) {
                    for (_, action) in STRIKES {
                        let fault = Fault { direction, after_bytes, action };
                        cases.push(self.case(NetworkFault::Path { connection, fault }));
                    }
                }
            }
        }
        cases
    }

    /// One strike at each of those bytes, in turn. The seed says which one is first: as many seeds as there are strikes
    /// make all of them, and as many more go on with the next of the artifact's bytes.
    pub fn paths_in_turn(&self, artifact_step: u64, seed: u64) -> Vec<Case> {
        let artifact_first = seed.saturating_sub(1) / STRIKES.len() as u64 % artifact_step;
        let all = self.paths(artifact_first, artifact_step);
        let bytes = all.chunks(STRIKES.len()).zip(seed % STRIKES.len() as u64..);
        bytes.filter_map(|(strikes, turn)| strikes.get(turn as usize % strikes.len()).cloned()).collect()
    }

    /// `count` of all strikes at random.
    pub fn some_paths(&self, count: usize, seed: u64) -> Vec<Case> {
        let mut random = StdRng::seed_from_u64(seed);
        let all = self.paths(0, ARTIFACT_STEP);
        (0..count).filter_map(|_| all.get(random.gen_range(0..all.len())).cloned()).collect()
    }

    fn case(&self, fault: NetworkFault) -> Case {
        Case { layout: self.layout, lifecycle: self.lifecycle, fault }
    }

    /// The case of this stage with this name.
    pub fn find(&self, name: &str) -> Option<Case> {
        let named = |case: &Case| case.to_string() == name;
        self.answers().into_iter().find(named).or_else(|| self.paths(0, 1).into_iter().find(named))
    }
}

impl Stage for NetworkStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        in_paused_time(async {
            let mut world = self.prepared.world.restore(1)?;
            let trace = world.trace();
            let layout = world.device.layout().clone();
            let right_time_s = world.server.state().time_s;
            match case.fault {
                NetworkFault::Path { connection, fault } => {
                    (1..connection).for_each(|_| world.device.network.queue_fault(None));
                    world.device.network.queue_fault(Some(fault));
                }
                NetworkFault::Answer { exchange, twist } => {
                    let apply = Apply::ToReply(TWISTS[twist].1);
                    world.server.state().twists = vec![Twist { exchange, apply }];
                }
                NetworkFault::Surroundings(index) => SURROUNDINGS[index].1(&mut world),
            }
            let watch = Watch::begin(&world)?;
            let end = world.device.power_on().await?;
            note(&trace, &end);
            let now = Facts::of(world.device.flash.bytes(), &layout)?;
            let held = watch.end(&world, &end).and_then(|()| invariants::after_the_fault(&self.before, &now));
            if let Err(broken) = held {
                return Ok((Outcome::Broken(broken), lines(&trace)));
            }
            // The fault is over: the same device, and a good network.
            let flash = world.device.flash.bytes().to_vec();
            {
                let mut state = world.server.state();
                state.twists.clear();
                state.time_s = right_time_s;
            }
            let state = world.server.state().clone();
            let mut world = self.prepared.world.with(flash, state).restore(2)?;
            let recovered = invariants::recovers(&mut world, self.prepared.goal, &self.before).await?;
            Ok((outcome(recovered), lines(&trace)))
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network:{}:{}:", LAYOUTS[self.layout], self.lifecycle.name())?;
        match self.fault {
            NetworkFault::Path { connection, fault: Fault { direction, after_bytes, action } } => {
                let strike =
                    STRIKES.iter().find(|(_, known)| *known == action).map_or("none", |known| known.0);
                let way = match direction {
                    Direction::ToServer => "to-server",
                    Direction::ToDevice => "to-device",
                };
                write!(f, "path={strike}:{way}={after_bytes}:connection={connection}")
            }
            NetworkFault::Answer { exchange, twist } => {
                write!(f, "{}={}", format!("{exchange:?}").to_lowercase(), TWISTS[twist].0)
            }
            NetworkFault::Surroundings(index) => write!(f, "{}", SURROUNDINGS[index].0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn enough_seeds_are_every_strike_at_every_byte() {
        const STEP: u64 = 3;
        let stage = NetworkStage::new(0, Lifecycle::Install).unwrap();
        // The first artifact bytes are enough, and all of them are many.
        let names = |cases: Vec<Case>| -> BTreeSet<String> {
            let is_early = |case: &Case| match case.fault {
                NetworkFault::Path { fault, .. } => (5900..6200).contains(&fault.after_bytes),
                NetworkFault::Answer { .. } | NetworkFault::Surroundings(_) => false,
            };
            cases.into_iter().filter(is_early).map(|case| case.to_string()).collect()
        };
        let all = names(stage.paths(0, 1));
        assert!(all.len() >= 300 * STRIKES.len(), "{}", all.len());
        let seeds = STEP * STRIKES.len() as u64;
        let struck = |seeds: std::ops::RangeInclusive<u64>| -> BTreeSet<String> {
            seeds.flat_map(|seed| names(stage.paths_in_turn(STEP, seed))).collect()
        };
        assert!(struck(1..=seeds) == all);
        assert!(struck(2..=seeds).len() < all.len(), "not one of them is needless");
    }
}
