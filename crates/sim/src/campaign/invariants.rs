//! The promise (docs/fault-model.md), in one place.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use flashfmt::image::StreamVerifier;
use flashfmt::layout::Layout;
use manifest::Digest;
use rustls::pki_types::CertificateDer;
use updater::InstallRecord;
use updater::{limits, policy};
use updater_io::journal::{self, Journal};
use updater_io::pki;
use updater_io::region::Region;
use updater_io::vault::{Settings, Vault};
use wire::{Reason, ResetCause};

use super::fake_server::Exchange;
use super::world::{DEVICE, World};
use crate::clock::Mark;
use crate::{End, SimFlash};

/// Starts that a device may need to its target once faults have stopped: one that finds out, one that repairs, one
/// more for what the first two left.
pub const STARTS: usize = 4;

/// The same where a loss of power left bits between 0 and 1: what is damaged then reads one way at one start and another way
/// at the next, and is repaired when two in a row agree.
const STARTS_WITH_UNSTABLE_BITS: usize = 16;

/// What must hold after any fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// Some verified application boots, or, if there is none, the updater runs.
    Boots,
    /// Key, certificate, device id, trust anchors and Wi-Fi are what they were.
    Identity,
    /// The device reaches the target release once faults have stopped, without a person.
    Target,
    /// The server's picture of the device becomes true.
    Picture,
    /// Nothing runs that the publisher did not sign, and no number goes back without a signed revert.
    Signed,
    /// A bootable application is started within the time budget.
    Time,
    /// With the same fault at every start for ever, a bootable application is started within [`STARTS`] starts; without
    /// one, tries are backed off.
    Lives,
    /// Beside the promise: flash is not written without an erase before it, and not at all when nothing changes.
    Flash,
}

/// An invariant that does not hold.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which one.
    pub invariant: Invariant,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.found)
    }
}

impl Broken {
    /// An invariant that does not hold.
    pub fn new(invariant: Invariant, found: impl Into<String>) -> Self {
        Self { invariant, found: found.into() }
    }
}

/// What the flash says about a device, read without repairing anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the device was provisioned with.
    pub settings: Result<Settings, String>,
    /// The public point of its key.
    pub key: Option<Vec<u8>>,
    /// The public point in its certificate.
    pub certified: Option<Vec<u8>>,
    /// Which certificate that is: its digest.
    pub certificate: Option<Digest>,
    /// What is installed.
    pub record: Option<InstallRecord>,
    /// What is bootable in each slot: the digest.
    pub slots: Vec<Option<Digest>>,
}

impl Facts {
    /// Looks at a copy of the flash.
    ///
    /// # Errors
    /// The layout has no vault.
    pub fn of(flash: &[u8], layout: &Layout) -> anyhow::Result<Self> {
        let vault = layout.find_label("vault").context("a layout without a vault")?;
        let part = |offset: u32, size: u32| &flash[offset as usize..][..size as usize];
        let mut copy = SimFlash::from_bytes(part(vault.offset, vault.size).to_vec());
        let region = Region { offset: 0, size_bytes: vault.size };
        let slots = layout.slots().map(|slot| {
            let mut verifier = StreamVerifier::new(slot.size);
            let verified = verifier.update(part(slot.offset, slot.size)).and_then(|_| verifier.finish());
            verified.ok().map(|image| Digest(image.digest))
        });
        let slots = slots.collect();
        let contents = Vault::open(&mut copy, region).and_then(|mut vault| vault.load());
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) => {
                let settings = Err(error.to_string());
                return Ok(Self {
                    settings,
                    key: None,
                    certified: None,
                    certificate: None,
                    record: None,
                    slots,
                });
            }
        };
        let key = contents.key.ok().flatten();
        let key = key.and_then(|pkcs8| pki::DeviceKey::from_pkcs8(&pkcs8).ok());
        let chain = contents.chain.ok().flatten();
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let certified = leaf.and_then(|leaf| Some(pki::leaf_facts(leaf).ok()?.public_key.to_vec()));
        let record = contents.record.ok().flatten();
        Ok(Self {
            settings: contents.settings.map_err(|error| error.to_string()),
            key: key.map(|key| key.public_key().to_vec()),
            certified,
            certificate: leaf.map(|leaf| Digest::of(leaf)),
            record: record.and_then(|bytes| InstallRecord::from_cbor(&bytes).ok()),
            slots,
        })
    }

    /// Whether there is something to start.
    pub fn is_bootable(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// Whether an install leaves the slot alone that is started.
    pub fn has_spare(&self) -> bool {
        self.slots.len() > 1
    }
}

/// How a device got to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Starts that it took.
    pub starts: usize,
}

/// The longest that a start may take with a bootable application and without an install.
pub const BUDGET: Duration = Duration::from_millis(limits::BUDGET_MS + GOODBYE_MS);
/// The same with an install into another slot: the last chunk may begin right before the install's end.
pub const BUDGET_WITH_INSTALL: Duration = Duration::from_millis(
    limits::BUDGET_MS
        + limits::INSTALL_WITH_APP_MS
        + limits::CHUNK_MS
        + limits::CHUNK_RETRY_MS * limits::CHUNK_TRIES as u64
        + limits::REPORT_MS
        + GOODBYE_MS,
);
/// What the shell allows itself to close a connection, and a chip's clock its last tick.
const GOODBYE_MS: u64 = 501;

/// Right after a fault, the power off or not: what must hold in flash already.
///
/// # Errors
/// [`Broken`]
pub fn after_the_fault(before: &Facts, now: &Facts) -> Result<(), Broken> {
    identity(before, now)?;
    sequence(before, now)?;
    if before.has_spare() && before.is_bootable() && !now.is_bootable() {
        return Err(Broken::new(Invariant::Boots, "no slot is bootable, although one was spare"));
    }
    Ok(())
}

/// Starts the device until it runs release `goal` of its server, and checks the first six promises on the way. Faults must
/// have stopped.
///
/// # Errors
/// [`Broken`], inside; outside what has nothing to do with the device.
pub async fn recovers(
    world: &mut World,
    goal: usize,
    before: &Facts,
) -> anyhow::Result<Result<Recovered, Broken>> {
    let target = {
        let mut state = world.server.state();
        state.offer = Some(goal);
        let release = state.releases.get(goal).context("a goal that the server does not have")?;
        release.manifest.clone()
    };
    let check_ins = |world: &World| world.server.state().picture(DEVICE).check_ins;
    let before_all = check_ins(world);
    let mut cause = ResetCause::PowerOn;
    let most_starts =
        if world.device.flash.unstable_bytes() > 0 { STARTS_WITH_UNSTABLE_BITS } else { STARTS };
    for starts in 1..=most_starts {
        let watch = Watch::begin(world)?;
        if let Err(broken) = identity(before, &watch.at_start) {
            return Ok(Err(broken));
        }
        let end = match cause {
            ResetCause::PowerOn => world.device.power_on().await?,
            cause => world.device.reset(cause).await?,
        };
        if let Err(broken) = watch.end(world, &end) {
            return Ok(Err(broken));
        }
        match end {
            // A start that skipped the network after crashes may have been at its target already; nobody heard of it.
            // With a vault that could not be written it is not recorded yet.
            End::Running(app)
                if app.image.digest == target.artifact.digest.0
                    && app.reason != Some(Reason::Vault)
                    && check_ins(world) > before_all =>
            {
                return Ok(stays_at_target(world, goal, before).await?.map(|()| Recovered { starts }));
            }
            End::Running(_) | End::Waiting { .. } => cause = ResetCause::Software,
            End::Dead(_) | End::PowerLost => {
                return Ok(Err(Broken::new(Invariant::Boots, format!("{end:?}"))));
            }
        }
    }
    let found = format!("not at {} after {most_starts} starts", target.version);
    Ok(Err(Broken::new(Invariant::Target, found)))
}

/// A start under observation.
pub struct Watch {
    /// The flash when it began.
    at_start: Facts,
    began: Mark,
    artifact_requests: u32,
}

impl Watch {
    /// Looks at a device whose start is about to begin.
    ///
    /// # Errors
    /// The layout has no vault.
    pub fn begin(world: &World) -> anyhow::Result<Self> {
        let at_start = Facts::of(world.device.flash.bytes(), world.device.layout())?;
        let artifact_requests = world.server.state().requests(Exchange::Artifact);
        Ok(Self { at_start, began: world.device.power().clock().mark(), artifact_requests })
    }

    /// What must hold at the end of any start: what runs was signed, it runs in time, and something runs when
    /// something could.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn end(&self, world: &World, end: &End) -> Result<(), Broken> {
        let took = self.began.elapsed();
        if let Some(violation) = world.device.flash.violations().first() {
            return Err(Broken::new(Invariant::Flash, format!("written without an erase: {violation:?}")));
        }
        match end {
            End::Running(app) => {
                let state = world.server.state();
                let digest = Digest(app.image.digest);
                if !state.releases.iter().any(|release| release.manifest.artifact.digest == digest) {
                    let found = format!("{digest} runs, and nobody signed it");
                    return Err(Broken::new(Invariant::Signed, found));
                }
                let installs = state.requests(Exchange::Artifact) > self.artifact_requests;
                let budget = if installs { BUDGET_WITH_INSTALL } else { BUDGET };
                if self.at_start.is_bootable() && took > budget {
                    return Err(Broken::new(
                        Invariant::Time,
                        format!("an application was kept for {took:?}"),
                    ));
                }
                Ok(())
            }
            End::Waiting { reason, .. } if self.at_start.has_spare() && self.at_start.is_bootable() => {
                let found = format!("waits for {} beside a bootable slot", reason.name());
                Err(Broken::new(Invariant::Boots, found))
            }
            End::Waiting { after_ms, reason } if *after_ms < policy::backoff_ms(0, None, 0) => {
                let found = format!("tries again after {after_ms} ms: {}", reason.name());
                Err(Broken::new(Invariant::Lives, found))
            }
            End::Waiting { after_ms, .. } if *after_ms > limits::BACKOFF_MAX_MS => {
                Err(Broken::new(Invariant::Time, format!("waits for {after_ms} ms before its next try")))
            }
            End::Waiting { .. } | End::PowerLost => Ok(()),
            End::Dead(reason) => {
                Err(Broken::new(Invariant::Boots, format!("the chip starts nothing: {reason}")))
            }
        }
    }
}

/// A copy of a partition.
fn copy_of(world: &World, label: &str) -> Option<(SimFlash, Region)> {
    let partition = world.device.layout().find_label(label)?;
    let bytes = &world.device.flash.bytes()[partition.offset as usize..][..partition.size as usize];
    Some((SimFlash::from_bytes(bytes.to_vec()), Region { offset: 0, size_bytes: partition.size }))
}

/// What is damaged in the vault, or was left there by a power cut.
fn vault_damage(world: &World) -> anyhow::Result<u32> {
    let (mut copy, region) = copy_of(world, "vault").context("a layout without a vault")?;
    Ok(Vault::open(&mut copy, region)?.damage())
}

/// At the target: one more start changes nothing, and the server knows.
async fn stays_at_target(
    world: &mut World,
    goal: usize,
    before: &Facts,
) -> anyhow::Result<Result<(), Broken>> {
    let layout = world.device.layout().clone();
    if journal(world)?.crashes > 0 {
        // They are over once the application has run, which the start after that notes.
        world.device.reset(ResetCause::Software).await?;
    }
    // What a power cut left in the vault is repaired when two starts in a row have seen it.
    for _ in 0..STARTS_WITH_UNSTABLE_BITS {
        if vault_damage(world)? == 0 && journal(world)?.vault_damage == 0 {
            break;
        }
        world.device.reset(ResetCause::Software).await?;
    }
    world.device.flash.take_log();
    // Bits of the vault that read differently at each start are repaired when they are seen.
    let flickers = world.device.flash.unstable_bytes() > 0;
    let check_ins = world.server.state().picture(DEVICE).check_ins;
    let end = world.device.reset(ResetCause::Software).await?;
    let operations = world.device.flash.take_log();
    let now = Facts::of(world.device.flash.bytes(), &layout)?;
    let target = world.server.state().releases.get(goal).map(|release| release.manifest.clone());
    let target = target.context("a goal that the server does not have")?;
    let End::Running(app) = &end else {
        return Ok(Err(Broken::new(Invariant::Boots, format!("after the target: {end:?}"))));
    };
    if app.image.digest != target.artifact.digest.0 {
        return Ok(Err(Broken::new(Invariant::Target, "left again at the next start")));
    }
    // By otadata each hand-over is written.
    if layout.otadata().is_none() && !flickers && !operations.is_empty() {
        return Ok(Err(Broken::new(Invariant::Flash, format!("nothing new, and yet {operations:?}"))));
    }
    if now.certified.is_none() || now.certified != now.key {
        return Ok(Err(Broken::new(Invariant::Identity, "the certificate is not for the key")));
    }
    if now.record.as_ref().map(|record| record.sequence) != Some(target.sequence) {
        return Ok(Err(Broken::new(Invariant::Target, format!("the vault says {:?}", now.record))));
    }
    let picture = world.server.state().picture(DEVICE);
    let knows = picture.running_sequence == Some(target.sequence.0)
        && picture.running_digest == Some(target.artifact.digest)
        && picture.check_ins > check_ins;
    if !knows {
        return Ok(Err(Broken::new(Invariant::Picture, format!("the server believes {picture:?}"))));
    }
    let wanted: Vec<_> = world.server.state().anchors()?.map(CertificateDer::from).collect();
    if now.settings.as_ref().is_ok_and(|settings| settings.anchors != wanted) {
        return Ok(Err(Broken::new(Invariant::Target, "the trust anchors are not the server's")));
    }
    Ok(identity(before, &now).and_then(|()| sequence(before, &now)))
}

/// What the journal says last.
fn journal(world: &World) -> anyhow::Result<journal::Entry> {
    let Some((mut copy, region)) = copy_of(world, "journal") else { return Ok(journal::Entry::default()) };
    Ok(Journal::open(&mut copy, region)?.latest().unwrap_or_default())
}

fn identity(before: &Facts, now: &Facts) -> Result<(), Broken> {
    let broken = |found: &str| Err(Broken::new(Invariant::Identity, found));
    // Anchors may follow the server's, and then they hold the old ones too.
    let same = match (&before.settings, &now.settings) {
        (Ok(before), Ok(now)) => {
            let anchors = now.anchors.clone();
            before.anchors.iter().all(|anchor| anchors.contains(anchor))
                && Settings { anchors, ..before.clone() } == *now
        }
        (before, now) => before == now,
    };
    if !same {
        let found = format!("settings changed: {:?}", now.settings.as_ref().err());
        return Err(Broken::new(Invariant::Identity, found));
    }
    if before.key.is_some() && now.key != before.key {
        return broken("the key is another one");
    }
    if before.certified.is_some() && now.certified != before.certified {
        return broken("the certificate is gone");
    }
    Ok(())
}

/// A number goes back only when the record before allowed it.
fn sequence(before: &Facts, now: &Facts) -> Result<(), Broken> {
    let (Some(before), Some(now)) = (&before.record, &now.record) else { return Ok(()) };
    if now.sequence < before.sequence && !before.revert_to.contains(&now.sequence) {
        let found = format!("release {} after {}", now.sequence, before.sequence);
        return Err(Broken::new(Invariant::Signed, found));
    }
    Ok(())
}
