//! Hostile applications: what code with all rights of the chip does by accident or in anger, short of taking the
//! updater's own flash away.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use flashfmt::layout::Layout;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use wire::ResetCause;

use super::invariants::{self, Broken, Facts, Invariant, Watch};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::world::{World, application};
use super::{Outcome, Stage, in_paused_time, lines, note, outcome};
use crate::End;

/// What an application does between two starts.
struct Misdeed {
    name: &'static str,
    act: fn(&mut World) -> anyhow::Result<()>,
    /// How the starts after it come about.
    resets: &'static [ResetCause],
    /// Only with an otadata partition, or only without; on all layouts.
    on: On,
    /// Whether the updater runs at each of those resets.
    updater_runs: bool,
    /// Whether all of the promise holds afterwards, or only that an application runs.
    is_survived: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    ChainLoad,
    Otadata,
    TwoSlots,
}

const ONCE: &[ResetCause] = &[ResetCause::Software];
/// Its device does it at every start.
const AGAIN: [ResetCause; 3] = [ResetCause::Panic, ResetCause::Watchdog, ResetCause::Brownout];

const MISDEEDS: [Misdeed; 21] = [
    survived("erases-nvs", |world| fill(world, "nvs", 0xff)),
    survived("fills-nvs", |world| rubbish(world, "nvs")),
    survived("rubbish-in-phy-init", |world| rubbish(world, "phy_init")),
    survived("erases-the-journal", |world| fill(world, "journal", 0xff)),
    survived("zeros-in-the-journal", |world| fill(world, "journal", 0)),
    survived("rubbish-in-the-journal", |world| rubbish(world, "journal")),
    Misdeed { on: On::TwoSlots, ..survived("rubbish-in-the-other-slot", |world| rubbish(world, "ota_1")) },
    Misdeed { on: On::TwoSlots, ..survived("its-own-update-into-the-other-slot", own_update) },
    survived("rubbish-in-its-own-slot", rubbish_in_its_own_slot),
    Misdeed { on: On::TwoSlots, ..survived("rubbish-in-the-coredump", |world| rubbish(world, "coredump")) },
    Misdeed { resets: &[AGAIN[0]; 6], ..survived("panics-at-once", |_| Ok(())) },
    Misdeed { resets: &[AGAIN[1]; 6], ..survived("hangs-at-once", |_| Ok(())) },
    Misdeed { resets: &[AGAIN[2]; 6], ..survived("browns-out-at-once", |_| Ok(())) },
    Misdeed { resets: &AGAIN, ..survived("ends-differently-each-time", |_| Ok(())) },
    Misdeed { resets: &[ResetCause::DeepSleep; 6], ..survived("sleeps-at-once", |_| Ok(())) },
    Misdeed {
        on: On::ChainLoad,
        ..survived("confirms-itself", |world| Ok(world.device.app_confirms_itself()?))
    },
    Misdeed {
        on: On::ChainLoad,
        ..survived("selects-a-partition", |world| Ok(world.device.app_selects(1)?))
    },
    Misdeed { on: On::Otadata, ..survived("erases-otadata", |world| fill(world, "otadata", 0xff)) },
    Misdeed { on: On::Otadata, ..survived("rubbish-in-otadata", |world| rubbish(world, "otadata")) },
    // The limit of the classic layout: the application keeps the chip until it gives it back.
    Misdeed {
        on: On::Otadata,
        updater_runs: false,
        is_survived: false,
        ..survived("confirms-itself-by-otadata", |world| Ok(world.device.app_confirms_itself()?))
    },
    Misdeed { is_survived: false, ..survived("erases-the-vault", |world| fill(world, "vault", 0xff)) },
];

const fn survived(name: &'static str, act: fn(&mut World) -> anyhow::Result<()>) -> Misdeed {
    Misdeed { name, act, resets: ONCE, on: On::All, updater_runs: true, is_survived: true }
}

fn fill(world: &mut World, label: &str, byte: u8) -> anyhow::Result<()> {
    let partition = world.device.layout().find_label(label).context("no such partition")?;
    Ok(world.device.flash.fill(partition.offset..partition.end(), byte)?)
}

fn rubbish(world: &mut World, label: &str) -> anyhow::Result<()> {
    let partition = world.device.layout().find_label(label).context("no such partition")?;
    let mut noise = vec![0; partition.size.min(3 * 65_536) as usize];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    Ok(world.device.flash.put(partition.offset, &noise)?)
}

fn rubbish_in_its_own_slot(world: &mut World) -> anyhow::Result<()> {
    let slot = world.device.layout().slots().next().context("no slot")?;
    Ok(world.device.flash.put(slot.offset + 5000, &[0x5a; 4000])?)
}

/// A whole image that nobody signed.
fn own_update(world: &mut World) -> anyhow::Result<()> {
    let slot = world.device.layout().find_label("ota_1").context("no second slot")?;
    Ok(world.device.flash.put(slot.offset, &application("9.9.9", 3)?)?)
}

/// An application's misdeed on a device.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    layout: usize,
    misdeed: usize,
}

/// A device that runs an application, while a newer release is there.
pub struct AppStage {
    layout: usize,
    prepared: Arc<Prepared>,
    before: Facts,
}

impl AppStage {
    /// Prepares a device.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize) -> anyhow::Result<Self> {
        in_paused_time(async {
            let prepared = prepare(LAYOUTS[layout], Lifecycle::Install).await?;
            let world = prepared.world.restore(1)?;
            let before = Facts::of(prepared.world.flash(), world.device.layout())?;
            Ok(Self { layout, prepared: Arc::new(prepared), before })
        })
    }

    /// All misdeeds that are possible on this layout.
    pub fn cases(&self) -> Vec<Case> {
        let Some(layout) = Layout::builtin(LAYOUTS[self.layout]) else { return Vec::new() };
        let slots = layout.slots().count();
        let possible = |misdeed: &Misdeed| match misdeed.on {
            On::All => true,
            On::ChainLoad => layout.otadata().is_none(),
            On::Otadata => layout.otadata().is_some(),
            On::TwoSlots => slots > 1,
        };
        let numbers = (0..MISDEEDS.len()).filter(|number| possible(&MISDEEDS[*number]));
        numbers.map(|misdeed| Case { layout: self.layout, misdeed }).collect()
    }
}

impl Stage for AppStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        let misdeed = &MISDEEDS[case.misdeed];
        in_paused_time(async {
            let mut world = self.prepared.world.restore(1)?;
            let trace = world.trace();
            // Nothing new while the application misbehaves, so that it is the one that is started.
            world.server.state().offer = Some(0);
            for cause in misdeed.resets {
                (misdeed.act)(&mut world)?;
                let watch = Watch::begin(&world)?;
                let check_ins = world.server.state().picture(super::world::DEVICE).check_ins;
                let end = world.device.reset(*cause).await?;
                note(&trace, &end);
                let by_updater = matches!(&end, End::Running(app) if app.by_updater);
                if let Err(broken) = watch.end(&world, &end) {
                    return Ok((Outcome::Broken(broken), lines(&trace)));
                }
                if by_updater != misdeed.updater_runs {
                    let found = format!("expected the updater to run: {}, {end:?}", misdeed.updater_runs);
                    return Ok((Outcome::Broken(Broken::new(Invariant::Boots, found)), lines(&trace)));
                }
                let heard = world.server.state().picture(super::world::DEVICE).check_ins > check_ins;
                let is_wake = *cause == ResetCause::DeepSleep;
                // Brownouts in a row may be the updater's own: then a start goes without the network now and then.
                let may_be_skipped = *cause == ResetCause::Brownout;
                if misdeed.is_survived && heard == is_wake && !may_be_skipped {
                    let found = format!("a check-in after {cause:?}: {heard}");
                    return Ok((Outcome::Broken(Broken::new(Invariant::Picture, found)), lines(&trace)));
                }
            }
            if !misdeed.is_survived {
                return Ok((Outcome::Application, lines(&trace)));
            }
            let recovered = invariants::recovers(&mut world, self.prepared.goal, &self.before).await?;
            Ok((outcome(recovered), lines(&trace)))
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app:{}:{}", LAYOUTS[self.layout], MISDEEDS[self.misdeed].name)
    }
}
