//! Which access point a device joins: of those that a scan found, and of the networks that its vault knows.
//!
//! ```text
//! the access point of last time ─ fails ─► one scan ─► a plan of attempts, the best first ─► the next start, another turn
//! ```
//!
//! A start has time for two or three attempts, a vault for eight networks. So that the last of them is reached too, the
//! order of attempts turns from start to start: see [`plan`].

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use updater::limits;

use crate::platform::{AccessPoint, NetworkError, WifiCredentials};

/// The most that an attempt at an access point of known address and channel may take: authentication, association,
/// about 1 s to derive the key from the passphrase (IEEE 802.11-2020 section J.4.1: 4096 rounds), the four-way handshake
/// with one retry of the access point (1 s).
pub const ATTEMPT_MS: u64 = 2_500;

/// The most that a scan may take. 11 channels are probed for up to [`PROBE_MS`], on up to 3 more beacons are waited for
/// (360 ms each, the driver's): 11 × 100 ms + 3 × 360 ms = 2.2 s.
pub const SCAN_MS: u64 = 3_000;

/// How long answers to a probe are waited for on a channel: as long as the beacon interval of almost every access point
/// (100 TU = 102 ms), so that one that hides its name is heard too.
pub const PROBE_MS: u64 = 100;

/// The most that an attempt at a network that hides its name may take: the driver looks for it on all channels first.
pub const HIDDEN_ATTEMPT_MS: u64 = 4_200;

/// What it takes at most to cancel an attempt whose time is over, so that the driver takes the next one.
pub const CANCEL_MS: u64 = 300;

// In the worst case a join has time for the access point of last time, the scan, and any one of the attempts.
const _: () = assert!(ATTEMPT_MS + CANCEL_MS + SCAN_MS + HIDDEN_ATTEMPT_MS <= limits::JOIN_MS);
const _: () = assert!(11 * PROBE_MS + 3 * 360 < SCAN_MS && ATTEMPT_MS <= HIDDEN_ATTEMPT_MS);

/// Of one network, so many access points are worth an attempt; more would only put off the other networks.
const ACCESS_POINTS_PER_NETWORK: usize = 3;

/// What an access point asks of who joins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    Open,
    /// A passphrase by WPA2-Personal; it may offer WPA or WPA3 beside that.
    Wpa2,
    /// A passphrase by WPA3-Personal (SAE) and nothing older.
    Wpa3Only,
    /// Something that no network in a vault can have: WEP, WPA alone, enterprise, OWE.
    Other,
}

/// An access point that a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its network's name; empty when it hides that.
    pub ssid: String,
    /// Its address (BSSID, IEEE 802.11-2020 section 9.4.1.3).
    pub bssid: [u8; 6],
    /// Its channel.
    pub channel: u8,
    /// How strong it was received, in dBm.
    pub signal_dbm: i8,
    /// What it asks for.
    pub security: Security,
}

/// One attempt to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// At an access point that was seen.
    At(AccessPoint),
    /// At whatever answers to the name of this network.
    Hidden {
        /// Which of the known networks.
        network: u8,
    },
}

impl Attempt {
    /// Which of the known networks it is about.
    #[must_use]
    pub fn network(self) -> u8 {
        match self {
            Self::At(access_point) => access_point.network,
            Self::Hidden { network } => network,
        }
    }

    /// The most that it may take.
    #[must_use]
    pub fn limit_ms(self) -> u64 {
        match self {
            Self::At(_) => ATTEMPT_MS,
            Self::Hidden { .. } => HIDDEN_ATTEMPT_MS,
        }
    }
}

/// What a join tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One after the other, until one succeeds or the time is used up.
    pub attempts: Vec<Attempt>,
    /// What it is when none succeeds.
    pub otherwise: NetworkError,
}

/// Plans the attempts after a scan. `seen` is `None` when the scan came to no end; `failed` is the access point of last
/// time, which has just been tried; `turn` is the count of starts.
///
/// Best first: the strongest access point of each network, in the networks' order; then the next strongest of each; then
/// networks that may be there and hide their name, which is when the scan found an access point without one. At three
/// turns of four the best one leads and the others take turns behind it; at the fourth one of the others leads. So each is
/// first again and again, and yet the best one is joined wherever it can be: where it was joined, the next start begins
/// with it.
#[must_use]
pub fn plan(
    known: &[WifiCredentials],
    seen: Option<&[Sighting]>,
    failed: Option<AccessPoint>,
    turn: u16,
) -> Plan {
    let mut ranked: Vec<(usize, Attempt)> = Vec::new();
    let mut hidden = Vec::new();
    let mut is_wpa3_only = false;
    let hides = seen.is_none_or(|seen| seen.iter().any(|sighting| sighting.ssid.is_empty()));
    for (network, credentials) in (0..).zip(known) {
        let of_its_name = || seen.unwrap_or_default().iter().filter(|seen| seen.ssid == credentials.ssid);
        let mut joinable: Vec<_> = of_its_name().filter(|seen| accepts(seen.security, credentials)).collect();
        is_wpa3_only |= joinable.is_empty() && of_its_name().any(|seen| seen.security == Security::Wpa3Only);
        joinable.sort_by_key(|seen| Reverse(seen.signal_dbm));
        let at = |seen: &Sighting| AccessPoint { network, bssid: seen.bssid, channel: seen.channel };
        let not_failed = |access_point: &AccessPoint| {
            failed.is_none_or(|failed| (failed.network, failed.bssid) != (network, access_point.bssid))
        };
        let best = joinable.into_iter().map(at).filter(not_failed).take(ACCESS_POINTS_PER_NETWORK);
        ranked.extend(best.map(Attempt::At).enumerate());
        if hides && of_its_name().next().is_none() {
            hidden.push(Attempt::Hidden { network });
        }
    }
    ranked.sort_by_key(|(rank, attempt)| (*rank, attempt.network()));
    let otherwise =
        if is_wpa3_only && ranked.is_empty() { NetworkError::Wpa3Only } else { NetworkError::Join };
    let mut attempts: Vec<_> = ranked.into_iter().map(|(_, attempt)| attempt).chain(hidden).collect();
    take_turns(&mut attempts, turn);
    Plan { attempts, otherwise }
}

/// Whether an access point lets a device with these credentials in. An open one of the name of a network with a
/// passphrase is somebody else's.
fn accepts(security: Security, credentials: &WifiCredentials) -> bool {
    match security {
        Security::Open => credentials.passphrase.is_empty(),
        Security::Wpa2 => !credentials.passphrase.is_empty(),
        Security::Wpa3Only | Security::Other => false,
    }
}

/// See [`plan`]. The share that decides is the fraction of `turn` times the golden ratio: such shares are spread evenly
/// whether every start has a turn or every second one (a pit stop is followed by a start that only hands over).
fn take_turns(attempts: &mut [Attempt], turn: u16) {
    const GOLDEN: u32 = 0x9E37_79B9;
    const QUARTER: u32 = 1 << 30;
    let Some(others) = attempts.len().checked_sub(1).filter(|&others| others > 0) else { return };
    let index = |part: u32, whole: u32| (u64::from(part) * others as u64 / u64::from(whole)) as usize;
    let share = u32::from(turn).wrapping_mul(GOLDEN);
    match share.checked_sub(QUARTER) {
        None => attempts[..=1 + index(share, QUARTER)].rotate_right(1),
        Some(rest) => attempts[1..].rotate_left(index(rest, 3 * QUARTER)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn network(ssid: &str, passphrase: &str) -> WifiCredentials {
        WifiCredentials { ssid: ssid.into(), passphrase: passphrase.to_string().into() }
    }

    fn seen(ssid: &str, number: u8, signal_dbm: i8, security: Security) -> Sighting {
        Sighting { ssid: ssid.into(), bssid: [2, 0, 0, 0, 0, number], channel: number, signal_dbm, security }
    }

    fn at(network: u8, number: u8) -> Attempt {
        Attempt::At(AccessPoint { network, bssid: [2, 0, 0, 0, 0, number], channel: number })
    }

    /// A turn at which the best one leads and nothing is moved: its share is 0.33.
    const PLAIN: u16 = 7;

    #[test]
    fn preference_comes_before_signal_and_signal_among_access_points() {
        let known = [network("home", "passphrase"), network("guest", "")];
        let air = [
            seen("guest", 1, -30, Security::Open),
            seen("home", 2, -80, Security::Wpa2),
            seen("neighbour", 3, -20, Security::Open),
            seen("home", 4, -60, Security::Wpa2),
        ];
        let Plan { attempts, otherwise } = plan(&known, Some(&air), None, PLAIN);
        assert_eq!(attempts, [at(0, 4), at(1, 1), at(0, 2)]);
        assert_eq!(otherwise, NetworkError::Join);
        let failed = Some(AccessPoint { network: 0, bssid: [2, 0, 0, 0, 0, 4], channel: 4 });
        assert_eq!(plan(&known, Some(&air), failed, PLAIN).attempts, [at(0, 2), at(1, 1)]);
    }

    #[test]
    fn an_access_point_of_the_right_name_and_the_wrong_security_is_left_alone() {
        let known = [network("home", "passphrase"), network("guest", "")];
        let air = [
            seen("home", 1, -30, Security::Open),
            seen("home", 2, -30, Security::Other),
            seen("guest", 3, -30, Security::Wpa2),
        ];
        assert_eq!(
            plan(&known, Some(&air), None, PLAIN),
            Plan { attempts: vec![], otherwise: NetworkError::Join }
        );
    }

    #[test]
    fn names_that_are_hidden_are_asked_for_where_somebody_hides_one() {
        let known = [network("home", "passphrase"), network("cellar", "passphrase")];
        let home = seen("home", 1, -30, Security::Wpa2);
        let nameless = seen("", 2, -30, Security::Wpa2);
        let hidden = |network| Attempt::Hidden { network };
        let of = |air: Option<&[Sighting]>| plan(&known, air, None, PLAIN).attempts;
        assert_eq!(of(Some(core::slice::from_ref(&home))), [at(0, 1)]);
        assert_eq!(of(Some(&[home, nameless])), [at(0, 1), hidden(1)]);
        assert_eq!(of(None), [hidden(0), hidden(1)], "without a scan every name is asked for");
        assert_eq!(of(Some(&[])), []);
    }

    #[test]
    fn wpa3_alone_is_told_apart() {
        let known = [network("home", "passphrase"), network("office", "passphrase")];
        let only = [seen("home", 1, -30, Security::Wpa3Only)];
        assert_eq!(plan(&known, Some(&only), None, PLAIN).otherwise, NetworkError::Wpa3Only);
        let beside = [only[0].clone(), seen("home", 2, -30, Security::Wpa2)];
        assert_eq!(plan(&known, Some(&beside), None, PLAIN).otherwise, NetworkError::Join);
        let another = [only[0].clone(), seen("office", 2, -30, Security::Wpa2)];
        assert_eq!(plan(&known, Some(&another), None, PLAIN).otherwise, NetworkError::Join);
        assert_eq!(plan(&[], Some(&only), None, PLAIN).otherwise, NetworkError::Join);
    }

    /// Eight networks are in reach and the last one alone lets the device in. Even when a start has time for a single
    /// attempt, it is reached, whether all starts are pit stops or every second, third or fourth one.
    #[test]
    fn number_eight_is_reached() {
        let known: Vec<_> = (0..8).map(|number| network(&number.to_string(), "passphrase")).collect();
        let air: Vec<_> =
            (0..8).map(|number| seen(&number.to_string(), number, -30, Security::Wpa2)).collect();
        for step in 1..=4 {
            for begin in 0..64 {
                let first = |start: u16| plan(&known, Some(&air), None, begin + start * step).attempts[0];
                let starts = (0..u16::MAX).find(|&start| first(start) == at(7, 7)).unwrap();
                assert!(starts < 64, "{starts} starts, every {step}. is a pit stop, from {begin}");
            }
        }
    }

    proptest! {
        /// The best one is among the first two, and leads at three turns of four.
        #[test]
        fn the_best_one_is_not_put_off(count in 1..32u8, begin: u16) {
            let mut leads = 0;
            for turn in 0..100 {
                let mut attempts: Vec<_> = (0..count).map(|network| Attempt::Hidden { network }).collect();
                let best = attempts[0];
                take_turns(&mut attempts, begin.wrapping_add(turn));
                leads += u32::from(attempts[0] == best);
                prop_assert!(attempts[..attempts.len().min(2)].contains(&best));
                attempts.sort_by_key(|attempt| attempt.network());
                prop_assert!((0..count).eq(attempts.iter().map(|attempt| attempt.network())), "none is lost");
            }
            prop_assert!(leads >= 70, "{leads} of 100");
        }
    }
}
