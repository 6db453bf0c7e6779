//! Liveness: the same fault at every start, for ever. The updater crashes, hangs, is reset or refused always at the same
//! moment, and the device still starts its application, or backs off.
//!
//! Starts are watched one by one (`VirtualDevice::start_once`): nothing ends a loop here but the device itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use flashfmt::Chip;
use flashfmt::layout::Layout;
use updater::reset::{Content, Hint, Reset};
use updater::{limits, policy};
use updater_io::board::Observed;

use super::fake_server::{Apply, Exchange, Twist};
use super::invariants::{self, Broken, Facts, Invariant, STARTS};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::world::{World, is_new};
use super::{Outcome, Stage, in_paused_time, lines, note, outcome, write_line};
use crate::End;
use crate::clock::Mark;
use crate::device::{Moment, OWN_RESET, Standing, Step, Strike, action_name};
use crate::flash::Pace;
use crate::impostor::Reply;
use crate::net::Link;

/// Starts that are watched while the fault lasts: many times those that are promised.
const WATCHED: usize = 24;
/// A hang costs the time of the updater's watchdog.
const WATCHDOG: Duration = Duration::from_secs(30);

/// The device whose start is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// As other campaigns know it.
    Of(Lifecycle),
    /// Fresh from the factory, with an application that was flashed over a cable.
    Preloaded,
}

/// What the updater does in one of them, some other one does not.
const SCENARIOS: [Scenario; 7] = [
    Scenario::Of(Lifecycle::HandOver),
    Scenario::Of(Lifecycle::Install),
    Scenario::Of(Lifecycle::FirstStart),
    Scenario::Of(Lifecycle::Renewal),
    Scenario::Of(Lifecycle::CaRollover),
    Scenario::Of(Lifecycle::JournalWrap),
    Scenario::Preloaded,
];

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Of(lifecycle) => lifecycle.name(),
            Self::Preloaded => "preloaded",
        }
    }

    async fn prepare(self, layout: &'static str) -> anyhow::Result<Prepared> {
        let lifecycle = match self {
            Self::Of(lifecycle) => return prepare(layout, lifecycle).await,
            Self::Preloaded => Lifecycle::FirstStart,
        };
        let prepared = prepare(layout, lifecycle).await?;
        let mut world = prepared.world.restore(1)?;
        let image = world.server.state().releases.first().context("no release")?.image.clone();
        let slot = world.device.layout().slots().next().context("no slot")?.offset;
        world.device.flash.put(slot, image.as_slice())?;
        Ok(Prepared { world: world.snapshot(layout), ..prepared })
    }
}

/// How a start ends at the struck moment. Not among them: a loss of power and the pin EN, after which nobody can tell the
/// fault from a person with a switch.
const ENDS: [(&str, Strike); 10] = [
    ("panic", Strike::Reset(Reset::SoftwareSystem, Some(Hint::Panic))),
    ("hang", Strike::Hang),
    ("brownout", Strike::Reset(Reset::Brownout, None)),
    ("brownout-interrupt", Strike::Reset(Reset::BrownoutInterrupt, Some(Hint::Brownout))),
    ("rtc-watchdog-system", Strike::Reset(Reset::RtcWatchdogSystem, None)),
    ("timer-group-watchdog", Strike::Reset(Reset::TimerGroupWatchdogCore, None)),
    ("super-watchdog", Strike::Reset(Reset::SuperWatchdog, None)),
    ("software", Strike::Reset(Reset::SoftwareSystem, None)),
    ("software-cpu", Strike::Reset(Reset::SoftwareCpu, None)),
    ("usb", Strike::Reset(Reset::UsbSerial, None)),
];

/// A fault around the updater that lasts.
#[derive(Clone, Copy)]
struct Lasting {
    name: &'static str,
    begin: fn(&mut World),
    /// Whether there is an image that can be started all the same.
    leaves_an_app: fn(&Layout) -> bool,
}

const LASTING: [Lasting; 8] = [
    Lasting { name: "artifact-missing", begin: |world| answer(world, 404), leaves_an_app: |_| true },
    Lasting { name: "artifact-store-away", begin: |world| answer(world, 503), leaves_an_app: |_| true },
    Lasting { name: "no-ranges", begin: |world| answer(world, 200), leaves_an_app: |_| true },
    Lasting {
        name: "no-lease",
        begin: |world| world.device.network.set_link(Link::NoLease),
        leaves_an_app: |_| true,
    },
    Lasting { name: "slow-flash", begin: slow_flash, leaves_an_app: |_| true },
    Lasting {
        name: "cannot-start-the-new",
        begin: |world| world.device.set_can_start(|_, segments| !is_new(segments)),
        leaves_an_app: |_| true,
    },
    Lasting {
        name: "cannot-start-any",
        begin: |world| world.device.set_can_start(|_, _| false),
        // There the bootloader starts it, which does not ask.
        leaves_an_app: Layout::hands_over_by_otadata,
    },
    Lasting { name: "nothing", begin: |_| {}, leaves_an_app: |_| true },
];

fn answer(world: &mut World, status: u16) {
    let apply: fn(Reply) -> Reply = match status {
        404 => |_| Reply::status(404),
        503 => |_| Reply::status(503),
        _ => |_| Reply::status(200),
    };
    world.server.state().twists = vec![Twist { exchange: Exchange::Artifact, apply: Apply::ToReply(apply) }];
}

fn slow_flash(world: &mut World) {
    world.device.flash.replace_pace(Pace::Worst);
}

/// A fault at every start.
#[derive(Clone, Copy)]
enum Fault {
    /// At a moment of the updater's own.
    Strike(Standing, &'static str),
    /// Around it.
    Lasting(usize),
}

/// One fault on one device.
#[derive(Clone, Copy)]
pub struct Case {
    layout: usize,
    scenario: Scenario,
    fault: Fault,
}

impl Case {
    /// Whether anything counts its ends: the journal is all that does where the reset clears the register.
    fn is_counted(&self) -> bool {
        match self.fault {
            Fault::Strike(Standing { at: Moment::Reads("journal"), how: Strike::Reset(reset, _) }, _) => {
                register_after(reset) == Some(Content::Kept)
            }
            Fault::Strike(..) | Fault::Lasting(_) => true,
        }
    }
}

/// A device, and the moments of its start.
pub struct LivenessStage {
    layout: usize,
    scenario: Scenario,
    prepared: Arc<Prepared>,
    before: Facts,
    moments: Vec<Moment>,
}

impl LivenessStage {
    /// Prepares a device, and lets its start go well once to see which moments it has.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize, scenario: Scenario) -> anyhow::Result<Self> {
        in_paused_time(async {
            let prepared = scenario.prepare(LAYOUTS[layout]).await?;
            let mut world = prepared.world.restore(1)?;
            world.device.flash.set_defects(prepared.defects.clone());
            let before = Facts::of(prepared.world.flash(), world.device.layout())?;
            let actions: Arc<Mutex<Vec<String>>> = Arc::default();
            let seen = Arc::clone(&actions);
            world.device.set_observer(move |observed| {
                if let Observed::Acting { action, .. } = observed {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(action_name(action));
                }
            });
            world.device.power_on().await?;
            let mut actions = actions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            actions.sort_unstable();
            actions.dedup();
            // Names of actions are few, and cases are copied.
            let mut moments: Vec<_> =
                actions.into_iter().map(|name| Moment::Action(Box::leak(name.into_boxed_str()))).collect();
            moments.extend([Moment::Setup, Moment::Departure]);
            for partition in world.device.layout().partitions() {
                let label: &'static str = Box::leak(partition.label.as_str().to_owned().into_boxed_str());
                let is_slot = world.device.layout().slots().any(|slot| slot.label.as_str() == label);
                if is_slot || matches!(label, "vault" | "journal" | "otadata") {
                    moments.push(Moment::Reads(label));
                }
                if is_slot && !world.device.layout().hands_over_by_otadata() {
                    moments.push(Moment::EarlyCheck(label));
                }
            }
            Ok(Self { layout, scenario, prepared: Arc::new(prepared), before, moments })
        })
    }

    /// Every scenario on a layout.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn all(layout: usize) -> anyhow::Result<Vec<Self>> {
        SCENARIOS.into_iter().map(|scenario| Self::new(layout, scenario)).collect()
    }

    /// As the table names it.
    pub fn name(&self) -> String {
        format!("{} {}", LAYOUTS[self.layout], self.scenario.name())
    }

    /// Every fault at every moment.
    pub fn cases(&self) -> Vec<Case> {
        let case = |fault| Case { layout: self.layout, scenario: self.scenario, fault };
        let mut cases: Vec<_> = (0..LASTING.len()).map(Fault::Lasting).map(case).collect();
        for &at in &self.moments {
            for (name, how) in ENDS {
                cases.push(case(Fault::Strike(Standing { at, how }, name)));
            }
            if let Moment::EarlyCheck(_) = at {
                cases.push(case(Fault::Strike(Standing { at, how: Strike::Refusal }, "refusal")));
            }
        }
        cases
    }

    /// Whether an application is promised: one is whole in flash, and the fault leaves it alone.
    fn is_promised(&self, case: &Case, now: &Facts, layout: &Layout) -> bool {
        let spoilt = match case.fault {
            Fault::Strike(Standing { at: Moment::Reads(label) | Moment::EarlyCheck(label), .. }, _) => {
                Some(label)
            }
            Fault::Strike(..) => None,
            Fault::Lasting(number) if (LASTING[number].leaves_an_app)(layout) => None,
            Fault::Lasting(_) => return false,
        };
        // The way to the application there.
        if spoilt == Some("otadata") || !case.is_counted() {
            return false;
        }
        let mut slots = layout.slots().zip(&now.slots);
        slots.any(|(slot, image)| image.is_some() && spoilt != Some(slot.label.as_str()))
    }
}

/// The starts since an application ran last.
struct Drought {
    /// Those in a row before which an application was promised.
    promised: usize,
    /// Ends in a row that the updater did not announce: when, and by which reset.
    struck: Vec<(Duration, Reset)>,
}

impl Stage for LivenessStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        in_paused_time(async {
            let mut world = self.prepared.world.restore(1)?;
            let trace = world.trace();
            world.device.flash.set_defects(self.prepared.defects.clone());
            match case.fault {
                Fault::Strike(standing, _) => world.device.set_standing(Some(standing)),
                Fault::Lasting(number) => (LASTING[number].begin)(&mut world),
            }
            let lived = self.lives(case, &mut world, &trace).await?;
            if let Err(broken) = lived {
                return Ok((Outcome::Broken(broken), lines(&trace)));
            }
            world.device.set_standing(None);
            world.device.flash.set_defects(Vec::new());
            world.device.flash.replace_pace(Pace::Typical);
            world.device.set_can_start(|_, _| true);
            world.device.network.set_link(super::world::link());
            world.server.state().twists.clear();
            let recovered = invariants::recovers(&mut world, self.prepared.goal, &self.before).await?;
            Ok((outcome(recovered), lines(&trace)))
        })
    }
}

impl LivenessStage {
    async fn lives(
        &self,
        case: &Case,
        world: &mut World,
        trace: &crate::flash::Trace,
    ) -> anyhow::Result<Result<(), Broken>> {
        let layout = world.device.layout().clone();
        let life = world.device.power().clock().mark();
        let mut drought = Drought { promised: 0, struck: Vec::new() };
        let (mut reset, mut hint) = (Reset::PowerOn, None);
        for _ in 0..WATCHED {
            let now = Facts::of(world.device.flash.bytes(), &layout)?;
            let promised = self.is_promised(case, &now, &layout);
            let requests = world.server.state().requests(Exchange::Artifact);
            let start = world.device.power().clock().mark();
            let step = world.device.start_once(reset, hint).await?;
            let installs = world.server.state().requests(Exchange::Artifact) > requests;
            if promised && let Err(broken) = in_time(&start, installs) {
                return Ok(Err(broken));
            }
            match step {
                Step::Ended(end @ End::Running(_)) => {
                    note(trace, &end);
                    drought = Drought { promised: 0, struck: Vec::new() };
                    (reset, hint) = (Reset::SoftwareCpu, None);
                    continue;
                }
                Step::Ended(end @ End::Waiting { after_ms, .. }) => {
                    note(trace, &end);
                    // The only slot may have been given up for an install.
                    let now = Facts::of(world.device.flash.bytes(), &layout)?;
                    if promised && self.is_promised(case, &now, &layout) {
                        let found = format!("{end:?} beside an application");
                        return Ok(Err(Broken::new(Invariant::Lives, found)));
                    }
                    if after_ms < policy::backoff_ms(0, None, 0) {
                        return Ok(Err(Broken::new(Invariant::Lives, format!("{end:?}"))));
                    }
                    tokio::time::sleep(Duration::from_millis(after_ms)).await;
                    (reset, hint) = OWN_RESET;
                }
                Step::Ended(end @ (End::Dead(_) | End::PowerLost)) => {
                    return Ok(Err(Broken::new(Invariant::Boots, format!("{end:?}"))));
                }
                Step::Resets => (reset, hint) = OWN_RESET,
                Step::Struck(by, why) => {
                    write_line(trace, format!("struck: {by:?} {why:?}"));
                    (reset, hint) = (by, why);
                    drought.struck.push((life.elapsed(), by));
                }
            }
            drought.promised = if promised { drought.promised + 1 } else { 0 };
            if case.is_counted()
                && let Err(broken) = drought.ends(layout.slots().count())
            {
                return Ok(Err(broken));
            }
        }
        Ok(Ok(()))
    }
}

/// What is left of the retained register; nothing for a reset that the chip does not have.
fn register_after(reset: Reset) -> Option<Content> {
    reset.on(Chip::Esp32C3).map(|entry| entry.remains.rtc)
}

/// A start with an application to start does not take longer than the budget, or than the watchdog of one that hangs.
fn in_time(start: &Mark, installs: bool) -> Result<(), Broken> {
    let budget = if installs { invariants::BUDGET_WITH_INSTALL } else { invariants::BUDGET };
    let took = start.elapsed();
    match took <= budget + WATCHDOG {
        true => Ok(()),
        false => Err(Broken::new(Invariant::Time, format!("a start took {took:?}"))),
    }
}

impl Drought {
    fn ends(&self, slots: usize) -> Result<(), Broken> {
        // Where some resets keep the register and some do not, register and journal count apart.
        let counters =
            if self.struck.iter().any(|(_, reset)| register_after(*reset) == Some(Content::Undefined)) {
                2
            } else {
                1
            };
        let starts = counters * STARTS;
        // A hand-over is a start of its own here, and may be refused once.
        if self.struck.len() >= starts && self.promised >= starts || self.promised > 2 * starts {
            let found = format!("{} starts without the application", self.promised);
            return Err(Broken::new(Invariant::Lives, found));
        }
        if self.promised > 0 {
            return Ok(());
        }
        // Without one, the first crashes may be accidents; tries after them are not faster than the table. A try is a start
        // with the hand-overs at once that its crash leads to, one for each slot. A register that is lost loses their number.
        let first = (counters * usize::from(limits::CRASHES) - 1).min(self.struck.len());
        for (number, ends) in self.struck[first..].windows(counters * (slots + 1) + 1).enumerate() {
            let [(begin, reset), .., (end, _)] = ends else { continue };
            let waits = u8::try_from(number / (slots + 1)).unwrap_or(u8::MAX);
            let failures = if register_after(*reset) == Some(Content::Kept) { waits } else { 0 };
            let least = Duration::from_millis(policy::backoff_ms(failures, None, 0));
            if *end - *begin < least {
                let found = format!("two tries in {:?}, not in {least:?} (end {number})", *end - *begin);
                return Err(Broken::new(Invariant::Lives, found));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "liveness:{}:{}:", LAYOUTS[self.layout], self.scenario.name())?;
        match self.fault {
            Fault::Lasting(number) => f.write_str(LASTING[number].name),
            Fault::Strike(Standing { at, .. }, name) => match at {
                Moment::EarlyCheck(label) => write!(f, "early-check-of-{label}={name}"),
                Moment::Setup => write!(f, "setup={name}"),
                Moment::Reads(label) => write!(f, "reads-{label}={name}"),
                Moment::Action(action) => write!(f, "{action}={name}"),
                Moment::Departure => write!(f, "departure={name}"),
            },
        }
    }
}
