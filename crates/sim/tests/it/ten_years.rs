//! Ten years of one fleet on one clock: certificates of a year, a new key with each, three rollovers of the CA, a server that renews its own
//! certificate, a release each quarter. By the real server over real TCP and TLS; the clock is moved from one event to the next.

use std::fmt::Write as _;

use crate::common::{Bed, PRODUCT, application};
use serde_json::{Value, json};
use server::Clock;
use sim::{End, VirtualDevice};
use wire::{Reason, ResetCause};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DAYS: u32 = 10 * 365;

/// An operator begins a rollover at the earliest on these days, and looks once a month whether it can go on.
const ROLLOVERS: [u32; 3] = [300, 1000, 2000];
const MONTH: u32 = 30;
const QUARTER: u32 = 91;

/// A renewal may fall on a rollover or beside it, by seconds.
const CERTIFICATES: std::ops::RangeInclusive<u32> = 10..=18;
/// Of a sector of the vault.
const MOST_ERASURES: u32 = 5;

/// A device's life: when it starts.
struct Life {
    name: &'static str,
    /// Days from one start to the next.
    every: u32,
    cause: ResetCause,
    /// Off from one day to another.
    off: Option<(u32, u32)>,
}

const LIVES: [Life; 6] = [
    Life { name: "a start a week", every: 7, cause: ResetCause::PowerOn, off: None },
    Life { name: "a start a month", every: MONTH, cause: ResetCause::PowerOn, off: None },
    Life { name: "a start a year", every: 365, cause: ResetCause::PowerOn, off: None },
    Life {
        name: "an application that runs for 400 days",
        every: 400,
        cause: ResetCause::Software,
        off: None,
    },
    Life {
        name: "a start a week, two years in a box",
        every: 7,
        cause: ResetCause::PowerOn,
        off: Some((400, 1130)),
    },
    Life {
        name: "a start a week, away for a rollover that did not wait",
        every: 7,
        cause: ResetCause::PowerOn,
        off: Some((1010, 3000)),
    },
];

/// The last of them is not waited for.
const LEFT_BEHIND: usize = LIVES.len() - 1;

impl Life {
    fn starts_at(&self, day: u32) -> bool {
        let is_off = self.off.is_some_and(|(from, until)| (from..until).contains(&day));
        day.is_multiple_of(self.every) && !is_off
    }
}

struct Lived {
    device: VirtualDevice,
    starts: u32,
    certificates: u32,
    serial: Value,
    /// Starts at which the server was not reached, and why.
    alone: u32,
    reason: Option<Reason>,
}

fn id(index: usize) -> String {
    format!("lamp-{index}")
}

/// What the operator does: the next step when it leaves nobody behind, and nobody with an ended certificate but the one device
/// (docs/certificates.md).
fn operate(bed: &Bed, day: u32, done: &mut usize, steps: &mut Vec<(u32, &'static str)>) {
    let ca = bed.get("ca");
    let behind = &ca["behind"];
    let step = match ca["phase"].as_str() {
        Some("steady") => match ROLLOVERS.get(*done) {
            Some(begin) if day >= *begin => "begin",
            Some(_) | None => return,
        },
        phase => {
            let is_behind = behind["without_new_anchor"] != 0 || behind["with_old_certificate"] != 0;
            let ended = behind["ended_examples"].as_array().unwrap();
            match phase {
                Some("begun") if behind["without_new_anchor"] != 0 => return,
                Some("switched") if is_behind => return,
                _ if ended.iter().any(|device| *device != id(LEFT_BEHIND)) => return,
                Some("begun") => "switch",
                Some("switched") => "finish",
                other => panic!("{other:?}: {ca}"),
            }
        }
    };
    bed.post(&format!("ca/rollover/{step}"), &json!({}));
    steps.push((day, step));
    *done += usize::from(step == "finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_needs_a_cable_in_ten_years_but_who_was_left_behind() {
    let clock = Clock::default();
    let bed = Bed::start_with("4mb", |config| {
        config.clock = clock.clone();
        config.limits.certificate_requests_per_s = 100_000;
    })
    .await;
    bed.patch(&format!("products/{PRODUCT}"), &json!({ "rotate_keys": true }));
    let mut fleet: Vec<_> = (0..LIVES.len())
        .map(|index| Lived {
            device: bed.manufacture(&id(index)),
            starts: 0,
            certificates: 0,
            serial: Value::Null,
            alone: 0,
            reason: None,
        })
        .collect();
    let (mut done, mut steps, mut version, mut now) = (0, Vec::new(), String::new(), 0);
    for day in 0..=DAYS {
        let starts: Vec<_> = (0..LIVES.len()).filter(|index| LIVES[*index].starts_at(day)).collect();
        if starts.is_empty() && day % MONTH != 0 && day % QUARTER != 0 {
            continue;
        }
        clock.advance_ms(i64::from(day - now) * DAY_MS);
        now = day;
        if day % QUARTER == 0 {
            let sequence = day / QUARTER + 1;
            version = format!("1.{sequence}.0");
            bed.publish(u64::from(sequence), &version, &application(&version, 2));
        }
        if day % MONTH == 0 {
            operate(&bed, day, &mut done, &mut steps);
        }
        for index in starts {
            let (life, lived) = (&LIVES[index], &mut fleet[index]);
            let what = format!("day {day}, {}", life.name);
            let End::Running(app) = lived.device.reset(life.cause).await.unwrap() else { panic!("{what}") };
            lived.starts += 1;
            lived.reason = app.reason;
            if index == LEFT_BEHIND && life.off.is_some_and(|(_, until)| day >= until) {
                // Its application starts all the same.
                lived.alone += 1;
                continue;
            }
            assert!(matches!(app.reason, None | Some(Reason::Installed)), "{what}: {:?}", app.reason);
            assert_eq!(app.version(), version, "{what}");
            let serial = bed.device(&id(index))["certificate"]["serial"].clone();
            lived.certificates += u32::from(serial != lived.serial);
            lived.serial = serial;
        }
    }
    println!("{steps:?}");
    assert_eq!(done, ROLLOVERS.len(), "{steps:?}");
    let left = &fleet[LEFT_BEHIND];
    assert!(left.alone > 50, "it was started after the rollover, and ran its application");
    assert_eq!(left.reason, Some(Reason::TlsRefused));

    let report = include_str!("../../../../docs/reliability.md");
    let mut missing = String::new();
    for (life, lived) in LIVES.iter().zip(&fleet) {
        let vault =
            lived.device.layout().partitions().iter().find(|it| it.label.as_str() == "vault").unwrap();
        let sectors = vault.offset as usize / 4096..vault.end() as usize / 4096;
        let erased = lived.device.flash.stats().sector_erases[sectors].iter().max().copied().unwrap_or(0);
        assert!(erased <= MOST_ERASURES, "{}: {erased} erasures", life.name);
        if lived.alone == 0 {
            assert!(CERTIFICATES.contains(&lived.certificates), "{}: {}", life.name, lived.certificates);
        }
        let cable = if lived.alone > 0 { "yes" } else { "no" };
        let row = format!("| {} | {} | {cable} |", life.name, lived.starts);
        if !report.contains(&row) {
            let _ = writeln!(missing, "{row}");
        }
    }
    assert!(missing.is_empty(), "docs/reliability.md lacks these rows:\n{missing}");
}
