//! What a device goes through: the starts in which a campaign lets something go wrong.

use anyhow::{Context as _, ensure};
use manifest::Sequence;
use updater_io::journal::{Entry, Journal};
use updater_io::region::Region;
use updater_io::vault::Vault;

use super::fake_server::{CERTIFICATE_S, START_S};
use super::world::{Snapshot, World, application};
use crate::flash::{Defect, DefectKind, OperationKind};
use crate::{End, PowerCut, Tear};

/// Layouts that campaigns run on.
pub const LAYOUTS: [&str; 3] = ["4mb", "8mb", "8mb-rollback"];

/// Chunks of the applications: the first, which comes last, and two more.
const CHUNKS: usize = 3;

/// One start of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifecycle {
    /// Fresh from the factory, with a release waiting: key, certificate, install.
    FirstStart,
    /// Fresh from the factory, with nothing to install.
    Enroll,
    /// A newer release: into the only slot, or into the other one.
    Install,
    /// The start after an install was cut off in the middle.
    Resume,
    /// Two thirds of the certificate's life are over, and a week has passed.
    Renewal,
    /// The server has a second CA, and devices are to trust both.
    CaRollover,
    /// Back to an older release, by the publisher's leave.
    Revert,
    /// A critical error for which the journal must erase its other sector.
    JournalWrap,
    /// An install whose records make the vault erase a sector.
    VaultCompaction,
    /// Nothing to do; by otadata even that is written.
    HandOver,
}

impl Lifecycle {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FirstStart,
        Self::Enroll,
        Self::Install,
        Self::Resume,
        Self::Renewal,
        Self::CaRollover,
        Self::Revert,
        Self::JournalWrap,
        Self::VaultCompaction,
        Self::HandOver,
    ];

    /// As replays name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstStart => "first-start",
            Self::Enroll => "enroll",
            Self::Install => "install",
            Self::Resume => "resume",
            Self::Renewal => "renewal",
            Self::CaRollover => "ca-rollover",
            Self::Revert => "revert",
            Self::JournalWrap => "journal-wrap",
            Self::VaultCompaction => "vault-compaction",
            Self::HandOver => "hand-over",
        }
    }

    /// Whether flash is written in it at all.
    pub fn writes_flash(self, layout: &str) -> bool {
        self != Self::HandOver || layout == "8mb-rollback"
    }
}

/// A device right before the start in question.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The world.
    pub world: Snapshot,
    /// Defects of the flash during that start.
    pub defects: Vec<Defect>,
    /// The release that the device must run in the end: an index into the server's releases.
    pub goal: usize,
}

/// Brings a device to where a lifecycle begins. To be called in a runtime with paused time.
///
/// # Errors
/// What should go well did not.
pub async fn prepare(layout: &'static str, lifecycle: Lifecycle) -> anyhow::Result<Prepared> {
    let mut world = World::manufacture(layout)?;
    let (old, new) = (application("1.0.0", CHUNKS)?, application("1.1.0", CHUNKS)?);
    let first = world.server.state().publish(1, "1.0.0", old, Vec::new())?;
    match lifecycle {
        Lifecycle::FirstStart => return Ok(done(&world, layout, first)),
        Lifecycle::Enroll => {
            world.server.state().offer = None;
            return Ok(done(&world, layout, first));
        }
        Lifecycle::Install
        | Lifecycle::Resume
        | Lifecycle::Renewal
        | Lifecycle::CaRollover
        | Lifecycle::Revert
        | Lifecycle::JournalWrap
        | Lifecycle::VaultCompaction
        | Lifecycle::HandOver => {}
    }
    start(&mut world, "1.0.0").await?;
    if lifecycle == Lifecycle::HandOver {
        return Ok(done(&world, layout, first));
    }
    if lifecycle == Lifecycle::Renewal {
        world.server.state().time_s = START_S + CERTIFICATE_S * 2 / 3;
        return Ok(done(&world, layout, first));
    }
    if lifecycle == Lifecycle::CaRollover {
        world.server.state().next_ca = true;
        return Ok(done(&world, layout, first));
    }
    let reverts = if lifecycle == Lifecycle::Revert { vec![Sequence(1)] } else { Vec::new() };
    let second = world.server.state().publish(2, "1.1.0", new, reverts)?;
    match lifecycle {
        Lifecycle::Resume => {
            let cut = PowerCut { operation: RESUME_AT, tear: Tear::Bits, seed: 7 };
            world.device.flash.arm(cut);
            let end = world.device.power_on().await?;
            ensure!(matches!(end, End::PowerLost), "expected a cut in the install, found {end:?}");
            world.device.power().restore();
        }
        Lifecycle::Revert => {
            start(&mut world, "1.1.0").await?;
            world.server.state().offer = Some(first);
            return Ok(done(&world, layout, first));
        }
        Lifecycle::JournalWrap => {
            fill_journal(&mut world)?;
            let defects = vec![bad_sector(&world)?];
            return Ok(Prepared { defects, ..done(&world, layout, second) });
        }
        Lifecycle::VaultCompaction => fill_vault(&mut world)?,
        Lifecycle::Install
        | Lifecycle::FirstStart
        | Lifecycle::Enroll
        | Lifecycle::Renewal
        | Lifecycle::CaRollover
        | Lifecycle::HandOver => {}
    }
    Ok(done(&world, layout, second))
}

/// The flash operation at which the install of [`Lifecycle::Resume`] was cut off: within its second chunk.
const RESUME_AT: u64 = 25;

fn done(world: &World, layout: &'static str, goal: usize) -> Prepared {
    Prepared { world: world.snapshot(layout), defects: Vec::new(), goal }
}

async fn start(world: &mut World, version: &str) -> anyhow::Result<()> {
    let end = world.device.power_on().await?;
    ensure!(
        matches!(&end, End::Running(app) if app.version() == version),
        "expected {version}, found {end:?}"
    );
    Ok(())
}

/// The next entry goes to a sector that must be erased first.
fn fill_journal(world: &mut World) -> anyhow::Result<()> {
    let region = region(world, "journal")?;
    let flash = &mut world.device.flash;
    let mut journal = Journal::open(flash, region)?;
    let entries = flashfmt::SECTOR_BYTES / 32;
    // Once round and up to the end of a sector, so that the next sector holds old entries.
    for number in 1..=3 * entries {
        journal.append(flash, Entry { critical_errors: number, ..Entry::default() })?;
    }
    Ok(())
}

/// A sector in the slot for the next release that cannot be erased, for the time being.
fn bad_sector(world: &World) -> anyhow::Result<Defect> {
    let slot = world.device.layout().slots().last().context("a layout without slots")?;
    let start = slot.offset + manifest::CHUNK_BYTES;
    Ok(Defect {
        addresses: start..start + flashfmt::SECTOR_BYTES,
        operation: OperationKind::Erase,
        kind: DefectKind::Fails,
    })
}

/// Writes the time floor until a write erases a sector, and takes the last few writes back.
fn fill_vault(world: &mut World) -> anyhow::Result<()> {
    const ITEMS_LEFT: usize = 6;
    let region = region(world, "vault")?;
    let start = region.offset as usize;
    let mut before: Vec<Vec<u8>> = Vec::new();
    for floor_s in 0..2000 {
        let vault = world.device.flash.bytes()[start..start + region.size_bytes as usize].to_vec();
        before.push(vault);
        world.device.flash.take_log();
        Vault::open(&mut world.device.flash, region)?
            .set_time_floor_s(u32::try_from(START_S)?.saturating_add(floor_s))?;
        let erased = world.device.flash.take_log().iter().any(|done| done.kind == OperationKind::Erase);
        if erased {
            let vault = before.iter().rev().nth(ITEMS_LEFT).context("the vault was full at once")?;
            world.device.flash.put(region.offset, vault)?;
            return Ok(());
        }
    }
    anyhow::bail!("expected the vault to erase a sector within 2000 writes, found none")
}

fn region(world: &World, label: &str) -> anyhow::Result<Region> {
    let partition = world.device.layout().find_label(label);
    Ok(Region::of(partition.as_ref().with_context(|| format!("a layout without {label}"))?))
}
