//! Every time limit and count of the engine, each with its arithmetic.

/// Budget from the start of the updater to the decision, while an application is bootable: the application is never
/// held hostage. It covers the survey of the largest slot, a join and an exchange that leave something for each other.
pub const BUDGET_MS: u64 = 20_000;

/// Verifying a slot of 8 MiB, the largest of the built-in layouts, at about 1 s a MiB with the SHA engine. The slot that
/// is to be started is verified alone; others only when it is not bootable, or when a release goes there.
pub const SURVEY_MS: u64 = 8_000;

/// What a join and an exchange have at least, whatever the survey took: a device whose slots are larger than
/// [`SURVEY_MS`] allows for, or damaged so that each was verified, needs its server more than its application needs
/// seconds.
pub const NETWORK_MS: u64 = BUDGET_MS - SURVEY_MS;

/// The same while no application is bootable: there is nothing to hold hostage, yet a stuck network stack wants
/// a fresh start now and then. Three times the slowest parts: 30 s association and DHCP, 10 s per exchange.
pub const BUDGET_WITHOUT_APP_MS: u64 = 120_000;

/// Joining a network at most: 10 s covers a scan of 13 channels (about 2 s), association (about 1 s) and DHCP with one
/// retry (RFC 2131 section 4.1: 4 s, then 8 s). It leaves [`EXCHANGE_LEAST_MS`] of the budget, and so has at least
/// 7 s, enough for one lost packet of DHCP.
pub const JOIN_MS: u64 = 10_000;

/// One exchange with the server at most, TLS handshake included: on an ESP32-C3 the handshake takes about 1 s of
/// computing, the rest is for a slow link.
pub const EXCHANGE_MS: u64 = 10_000;

/// What a join leaves for the exchange after it: 1 s of computing, and one lost packet at each of handshake, request
/// and answer (RFC 6298 section 2: 1 s each).
pub const EXCHANGE_LEAST_MS: u64 = 5_000;

/// Telling the server how it went, on the open connection.
pub const REPORT_MS: u64 = 3_000;

/// One chunk: 64 KiB in 60 s is 1.1 KiB/s, the slowest link on which an install goes on.
pub const CHUNK_MS: u64 = 60_000;

/// Silence in the middle of a chunk: three retransmissions in a row may be lost (RFC 6298 section 2: 1 s, then
/// twice as long each time).
pub const SILENCE_MS: u64 = 10_000;

/// A whole install while another slot stays bootable; the rest continues at the next start, from the first
/// chunk that differs.
pub const INSTALL_WITH_APP_MS: u64 = 600_000;

/// Tries for one chunk before the install is given up for this start.
pub const CHUNK_TRIES: u8 = 3;

/// Wait before try n of a chunk: n times this.
pub const CHUNK_RETRY_MS: u64 = 2_000;

/// First wait when there is no application to start; doubles with every failure in a row.
pub const BACKOFF_MS: u64 = 5_000;

/// The longest wait between two tries without an application.
pub const BACKOFF_MAX_MS: u64 = 15 * 60_000;

/// The longest wait that a server can ask for; up to a quarter more is added at random.
pub const ASKED_MAX_MS: u64 = 12 * 60_000;

/// Crashes of the updater in a row, anywhere in it, after which it skips everything once and hands over.
pub const CRASHES: u8 = 3;

/// Hand-overs in a row that did not come to their end, after which the release is said to be the reason. Each is counted
/// twice: when it is found, and when the device then waits.
pub const HAND_OVER_FAILURES: u8 = 5;

/// The stored time floor is raised when server time is this far ahead of it. A week bounds the flash wear at 52
/// writes a year, and the error of the floor at a week.
pub const TIME_FLOOR_STEP_S: u64 = 7 * 24 * 3600;

/// The time floor stays this far before the end of the server's certificate: a day is longer than any pit stop.
pub const TIME_FLOOR_MARGIN_S: u64 = 24 * 3600;

const _: () = assert!(SURVEY_MS + 7_000 + EXCHANGE_LEAST_MS <= BUDGET_MS, "each has its least");
const _: () = assert!(JOIN_MS + EXCHANGE_MS <= BUDGET_MS);
const _: () = assert!(EXCHANGE_LEAST_MS <= EXCHANGE_MS && EXCHANGE_LEAST_MS < NETWORK_MS);
const _: () = assert!(BUDGET_MS < BUDGET_WITHOUT_APP_MS);
const _: () = assert!(EXCHANGE_MS + SILENCE_MS < CHUNK_MS);
const _: () = assert!(CHUNK_MS * (CHUNK_TRIES as u64) < INSTALL_WITH_APP_MS);
const _: () = assert!(BACKOFF_MS < BACKOFF_MAX_MS);
const _: () = assert!(ASKED_MAX_MS + ASKED_MAX_MS / 4 == BACKOFF_MAX_MS);
