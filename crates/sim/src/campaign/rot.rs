//! Flash that forgets and flash that is worn out: damage in every region, and sectors that do not do what they are
//! told.

use std::fmt;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use wire::ResetCause;

use super::invariants::{self, Broken, Facts, Invariant, Watch};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::world::World;
use super::{Outcome, Stage, in_paused_time, lines, note, outcome};
use crate::End;
use crate::flash::{Defect, DefectKind, Flicker, Misread, OnViolation, OperationKind, SECTOR_BYTES};

/// What happens to the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Single bits flip.
    Bits(u32),
    /// Bytes in a row become something else.
    Burst(u32),
    /// A sector is erased.
    Erased,
    /// A sector reads as zeros.
    Zeros,
    /// Erasing a sector fails, or does nothing.
    Erase(DefectKind),
    /// Writing into a sector fails, or does nothing.
    Write(DefectKind),
    /// A sector reads differently now and then: one in so many reads of it.
    Flickers(u32),
    /// One start reads a bit wrong, each time.
    Misread,
}

/// All of them, each by name.
const DAMAGES: [(&str, Damage); 12] = [
    ("a-bit", Damage::Bits(1)),
    ("2-bits", Damage::Bits(2)),
    ("16-bits", Damage::Bits(16)),
    ("64-bytes", Damage::Burst(64)),
    ("erased", Damage::Erased),
    ("zeros", Damage::Zeros),
    ("erase-fails", Damage::Erase(DefectKind::Fails)),
    ("erase-does-nothing", Damage::Erase(DefectKind::DoesNothing)),
    ("write-fails", Damage::Write(DefectKind::Fails)),
    ("write-does-nothing", Damage::Write(DefectKind::DoesNothing)),
    ("flickers", Damage::Flickers(4)),
    ("misread", Damage::Misread),
];

/// What docs/fault-model.md promises about a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promised {
    /// The first six.
    All,
    /// A start that ends, as long as it lasts; the first six afterwards.
    Afterwards,
    /// An application runs, signed and in time; identity and target when the damage missed what they need.
    Application,
    /// The bootloader starts an application, without the updater.
    ApplicationAlone,
    /// A start that ends.
    Nothing,
}

/// Damage somewhere in a region.
#[derive(Clone, Debug)]
pub struct Case {
    layout: usize,
    region: String,
    damage: usize,
    seed: u64,
}

/// A device that runs one release while the next one is offered.
pub struct RotStage {
    layout: usize,
    install: Base,
    /// The same with a vault that is full, so that the install's records erase a sector of it.
    full_vault: Base,
}

struct Base {
    prepared: Arc<Prepared>,
    before: Facts,
}

impl RotStage {
    /// Prepares a device.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize) -> anyhow::Result<Self> {
        in_paused_time(async {
            let install = base(layout, Lifecycle::Install).await?;
            Ok(Self { layout, install, full_vault: base(layout, Lifecycle::VaultCompaction).await? })
        })
    }

    /// One for each layout.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        (0..LAYOUTS.len()).map(Self::new).collect()
    }

    /// The layout.
    pub fn name(&self) -> &'static str {
        LAYOUTS[self.layout]
    }

    /// The regions of the layout.
    ///
    /// # Errors
    /// The layout is not built in.
    pub fn regions(&self) -> anyhow::Result<Vec<String>> {
        in_paused_time(async {
            let world = self.install.prepared.world.restore(1)?;
            let labels = world.device.layout().partitions().iter().map(|partition| partition.label.as_str());
            Ok(["table"].into_iter().chain(labels).map(str::to_owned).collect())
        })
    }

    /// Every damage in a region, each `times` times at random places.
    pub fn cases(&self, region: &str, times: usize, seed: u64) -> Vec<Case> {
        let damages = (0..DAMAGES.len()).cycle().take(DAMAGES.len() * times);
        let case = |(damage, seed)| Case { layout: self.layout, region: region.to_owned(), damage, seed };
        damages.zip(seed..).map(case).collect()
    }

    fn promised(&self, case: &Case) -> Promised {
        let worn = matches!(DAMAGES[case.damage].1, Damage::Erase(_) | Damage::Write(_));
        let classic = LAYOUTS[self.layout] == "8mb-rollback";
        if let Damage::Flickers(_) | Damage::Misread = DAMAGES[case.damage].1 {
            // What cannot be read cannot be started; nothing of it may be lost for that.
            return match case.region.as_str() {
                "table" | "factory" | "otadata" => Promised::Afterwards,
                label if label.starts_with("ota_") => Promised::Afterwards,
                _ => Promised::All,
            };
        }
        match case.region.as_str() {
            "table" | "factory" if worn => Promised::All,
            "ota_0" if classic && worn => Promised::All,
            "table" => Promised::Nothing,
            "factory" => Promised::ApplicationAlone,
            "ota_0" if classic => Promised::ApplicationAlone,
            "vault" if !worn => Promised::Application,
            _ => Promised::All,
        }
    }
}

async fn base(layout: usize, lifecycle: Lifecycle) -> anyhow::Result<Base> {
    let prepared = prepare(LAYOUTS[layout], lifecycle).await?;
    let layout = prepared.world.restore(1)?.device.layout().clone();
    let before = Facts::of(prepared.world.flash(), &layout)?;
    Ok(Base { prepared: Arc::new(prepared), before })
}

/// Does the damage. Returns whether it lasts.
fn strike(world: &mut World, case: &Case) -> bool {
    let mut random = StdRng::seed_from_u64(case.seed);
    let layout = world.device.layout();
    let region = match layout.find_label(&case.region) {
        Some(partition) => {
            // Most of a slot or of the updater is blank. What is hit there shows nothing.
            let used = match case.region.as_str() {
                "factory" => SECTOR_BYTES,
                label if label.starts_with("ota_") => partition.size.min(3 * 65_536),
                _ => partition.size,
            };
            partition.offset..partition.offset + used
        }
        None => {
            flashfmt::partition::TABLE_OFFSET
                ..flashfmt::partition::TABLE_OFFSET + flashfmt::partition::TABLE_BYTES as u32
        }
    };
    let somewhere = random.gen_range(region.clone());
    let sector = somewhere / SECTOR_BYTES * SECTOR_BYTES;
    let sector = sector..sector + SECTOR_BYTES;
    let flash = &mut world.device.flash;
    // Silicon says nothing when it is written without an erase.
    flash.set_on_violation(OnViolation::Pass);
    // The addresses are within the flash: the layout fits it.
    match DAMAGES[case.damage].1 {
        Damage::Bits(count) => {
            for _ in 0..count {
                let address = random.gen_range(region.clone());
                let _ = flash.flip_bit(address, random.gen_range(0..8));
            }
        }
        Damage::Burst(bytes) => {
            let mut noise = vec![0; bytes.min(region.end - somewhere) as usize];
            random.fill_bytes(&mut noise);
            let _ = flash.put(somewhere, &noise);
        }
        Damage::Erased => {
            let _ = flash.fill(sector, 0xff);
        }
        Damage::Zeros => {
            let _ = flash.fill(sector, 0);
        }
        Damage::Erase(kind) => {
            flash.set_defects(vec![Defect { addresses: sector, operation: OperationKind::Erase, kind }]);
            return true;
        }
        Damage::Write(kind) => {
            flash.set_defects(vec![Defect { addresses: sector, operation: OperationKind::Write, kind }]);
            return true;
        }
        Damage::Misread => {
            flash.set_misread(Some(Misread { address: somewhere, mask: 1 << random.gen_range(0..8) }));
        }
        Damage::Flickers(one_in) => {
            flash.set_flickers(vec![Flicker { addresses: sector, one_in }], case.seed);
            return true;
        }
    }
    false
}

impl Stage for RotStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        in_paused_time(async {
            let Base { prepared, before } = match case.region.as_str() {
                "vault" => &self.full_vault,
                _ => &self.install,
            };
            let mut world = prepared.world.restore(1)?;
            let trace = world.trace();
            let worn = strike(&mut world, case);
            let promised = self.promised(case);
            // While a sector is worn out, or right after the damage: three starts.
            for cause in [ResetCause::PowerOn, ResetCause::Software, ResetCause::Watchdog] {
                let watch = Watch::begin(&world)?;
                let end = match cause {
                    ResetCause::PowerOn => world.device.power_on().await?,
                    cause => world.device.reset(cause).await?,
                };
                note(&trace, &end);
                world.device.flash.set_misread(None);
                let held = match promised {
                    Promised::All | Promised::Application => {
                        let mut held = watch.end(&world, &end);
                        let is_hardware = worn || DAMAGES[case.damage].1 == Damage::Misread;
                        if is_hardware
                            && held.as_ref().is_err_and(|broken| broken.invariant == Invariant::Flash)
                        {
                            // A sector that was not erased is written, or a 1 over a 0 that was read as one: that is
                            // the fault, not the updater's.
                            held = Ok(());
                        }
                        held
                    }
                    Promised::ApplicationAlone if matches!(end, End::Running(_)) => Ok(()),
                    Promised::ApplicationAlone => Err(Broken::new(Invariant::Boots, format!("{end:?}"))),
                    Promised::Afterwards | Promised::Nothing => Ok(()),
                };
                if let Err(broken) = held {
                    return Ok((Outcome::Broken(broken), lines(&trace)));
                }
            }
            if matches!(promised, Promised::ApplicationAlone | Promised::Nothing) {
                return Ok((Outcome::Application, lines(&trace)));
            }
            world.device.flash.set_defects(Vec::new());
            world.device.flash.set_flickers(Vec::new(), case.seed);
            world.device.flash.forget_violations();
            world.device.flash.set_on_violation(OnViolation::Fail);
            let recovered = invariants::recovers(&mut world, prepared.goal, before).await?;
            Ok(match (recovered, promised) {
                (Err(broken), Promised::Application)
                    if matches!(
                        broken.invariant,
                        Invariant::Identity | Invariant::Target | Invariant::Picture
                    ) =>
                {
                    (Outcome::Application, lines(&trace))
                }
                (recovered, _) => (outcome(recovered), lines(&trace)),
            })
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let damage = DAMAGES[self.damage].0;
        write!(f, "rot:{}:{}:{damage}:seed={}", LAYOUTS[self.layout], self.region, self.seed)
    }
}

impl Case {
    /// Reads what the case's name says; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("rot:")?.split(':');
        let (layout, region, damage) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            layout: LAYOUTS.iter().position(|known| *known == layout)?,
            region: region.to_owned(),
            damage: DAMAGES.iter().position(|known| known.0 == damage)?,
            seed: parts.next()?.strip_prefix("seed=")?.parse().ok()?,
        })
    }
}
