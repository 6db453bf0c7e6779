//! A virtual ESP32: bootloader, the real updater, and the start of the application, on one flash.

mod app;
mod board;
mod check;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::image::compose::{ComposeError, Composer};
use flashfmt::image::{ImageError, ImageHeader, ImageSummary, Segments, StreamVerifier, Target};
use flashfmt::layout::Layout;
use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{AppDescriptor, Chip, Partition};
use rand::rngs::{OsRng, StdRng};
use rand::{Rng, RngCore, SeedableRng};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use sha2::Sha256;
use tls_crypto::Secp256r1;
use updater::reset::{self, Content, Hint, Reset};
use updater::{Action, Retained, Start, Verdict};
use updater_io::board::Observed;
use updater_io::early::{self, Depth, EarlyBoard};
use updater_io::region::Region;
use updater_io::shell::KnownDamage;
use updater_io::vault::{Provisioning, VaultError, provision};
use wire::{Reason, ResetCause};

use crate::bootloader::{Boot, Bootloader, NothingReason};
use crate::flash::{FlashError, Pace, SimFlash};
use crate::net::{SimNetwork, SimTimer};
use crate::power::PowerSwitch;
pub use crate::strike::{Moment, Standing, Strike, action_name};
use crate::strike::{Struck, struck_in, survive};
use board::VirtualBoard;
use check::check;

/// Version that the virtual updater reports.
pub const UPDATER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name of the placeholder image in the updater's partition; on a virtual device the updater itself runs natively.
const UPDATER_PROJECT: &str = "pitstop-updater";
/// Where the placeholder says it is loaded: RAM, or at least not mapped flash, on every chip.
const PLACEHOLDER_ADDR: u32 = 0x4037_0000;

/// Starts in a row after which a chip that still resets itself is given up: many times what is promised
/// ([`crate::campaign::invariants::STARTS`]).
const MAX_STARTS: usize = 16;

/// A virtual device. Its flash outlives every start, its retained register every reset, and nothing else does.
pub struct VirtualDevice {
    /// The flash.
    pub flash: SimFlash,
    /// The network.
    pub network: SimNetwork,
    bootloader: Bootloader,
    layout: Layout,
    random: StdRng,
    /// What a reset does where the manuals promise nothing.
    chance: StdRng,
    retained_bits: u32,
    /// What the pit stop before the last reset said about itself; the start after the reset knows nothing of it.
    handed_over: Option<Option<Reason>>,
    crypto: Arc<CryptoProvider>,
    can_start: CanStart,
    standing: Option<Standing>,
    observer: Observer,
}

/// Judges the headers of an image for the virtual chain-loader.
pub type CanStart = fn(&ImageHeader, &Segments) -> bool;

/// Is told what happens at a pit stop.
pub type Observer = Box<dyn FnMut(Observed<'_>) + Send>;

/// Why no virtual device could be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The layout does not fit the flash.
    #[error(
        "the layout needs {needed_bytes} bytes of flash, the virtual chip has {flash_bytes}; choose another layout"
    )]
    FlashTooSmall {
        /// What the layout needs.
        needed_bytes: u32,
        /// What there is.
        flash_bytes: u32,
    },
    /// The layout lacks a partition.
    #[error(
        "expected a partition `{label}` in the layout, found none; start from one of the built-in layouts"
    )]
    NoPartition {
        /// The missing partition.
        label: &'static str,
    },
    /// The placeholder image could not be composed.
    #[error("the placeholder of the updater could not be composed")]
    Compose(#[source] ComposeError),
    /// The flash refused.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// The vault refused.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// How a start of the device ended.
#[derive(Clone, Debug)]
pub enum End {
    /// An application runs.
    Running(RunningApp),
    /// The updater found nothing to start and waits before its next try.
    Waiting {
        /// How long.
        after_ms: u64,
        /// Why.
        reason: Reason,
    },
    /// The chip cannot start anything.
    Dead(NothingReason),
    /// Power was lost on the way.
    PowerLost,
}

/// What a start of the chip leads to.
#[derive(Clone, Debug)]
pub enum Step {
    /// Something that lasts.
    Ended(End),
    /// Another start, by the reset that hands over.
    Resets,
    /// Another start, by a reset that the updater did not announce.
    Struck(Reset, Option<Hint>),
}

/// An application that was handed over to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningApp {
    /// Label of its slot.
    pub slot: String,
    /// Its image, verified once more at the hand-over, as the chain-loader does.
    pub image: Box<ImageSummary>,
    /// Why the updater handed over; `None` when there was nothing to do, or when the bootloader started the
    /// application without the updater.
    pub reason: Option<Reason>,
    /// Whether the updater handed over, rather than the bootloader itself (damaged `factory`).
    pub by_updater: bool,
}

impl RunningApp {
    /// The application's own description.
    pub fn app_desc(&self) -> Option<&AppDescriptor> {
        self.image.app_desc.as_ref()
    }

    /// Version text of the application's own description, or nothing.
    pub fn version(&self) -> &str {
        self.app_desc().map_or("", |app_desc| app_desc.version.as_str())
    }
}

impl VirtualDevice {
    /// A device as it leaves the factory: partition table, the updater, a provisioned vault, empty slots.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn manufacture(
        mut flash: SimFlash,
        network: SimNetwork,
        chip: Chip,
        layout: Layout,
        provisioning: &Provisioning<'_>,
        seed: u64,
    ) -> Result<Self, DeviceError> {
        let flash_bytes = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
        let needed_bytes = layout.needed_flash_bytes();
        if needed_bytes > flash_bytes {
            return Err(DeviceError::FlashTooSmall { needed_bytes, flash_bytes });
        }
        flash.put(TABLE_OFFSET, &layout.to_binary())?;
        let home = layout.updater().ok_or(DeviceError::NoPartition { label: "factory" })?;
        let app_desc = AppDescriptor::new(UPDATER_PROJECT, UPDATER_VERSION);
        let placeholder = Composer::new(chip, PLACEHOLDER_ADDR)
            .segment_with_app_desc(PLACEHOLDER_ADDR, &app_desc, b"runs natively")
            .build()
            .map_err(DeviceError::Compose)?;
        flash.put(home.offset, &placeholder)?;
        let mut device = Self::from_flash(flash, network, chip, layout, seed);
        device.provision(provisioning)?;
        // What the factory does is not what the device does.
        device.flash.reset_stats();
        device.flash.take_log();
        Ok(device)
    }

    /// A device on a flash that has been used before.
    pub fn from_flash(flash: SimFlash, network: SimNetwork, chip: Chip, layout: Layout, seed: u64) -> Self {
        Self {
            flash,
            network,
            bootloader: Bootloader { chip, rollback_enabled: layout.hands_over_by_otadata() },
            layout,
            random: StdRng::seed_from_u64(seed),
            chance: StdRng::seed_from_u64(!seed),
            retained_bits: 0,
            handed_over: None,
            crypto: Arc::new(tls_crypto::provider(&KEY_EXCHANGE)),
            can_start: |_, _| true,
            standing: None,
            observer: Box::new(|_| {}),
        }
    }

    /// Rewrites the vault, as provisioning over a cable does.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn provision(&mut self, provisioning: &Provisioning<'_>) -> Result<(), DeviceError> {
        let vault = self.vault_region().ok_or(DeviceError::NoPartition { label: "vault" })?;
        Ok(provision(&mut self.flash, vault, provisioning)?)
    }

    /// Where the vault is.
    pub fn vault_region(&self) -> Option<Region> {
        let vault = self.layout.find_label("vault")?;
        Some(Region { offset: vault.offset, size_bytes: vault.size })
    }

    /// The chip.
    pub fn chip(&self) -> Chip {
        self.bootloader.chip
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The switch that flash, network and clock share.
    pub fn power(&self) -> PowerSwitch {
        self.flash.power().clone()
    }

    /// Puts another build of the bootloader on the chip. At first it has rollback where the layout needs it.
    pub fn set_bootloader_rollback(&mut self, rollback_enabled: bool) {
        self.bootloader.rollback_enabled = rollback_enabled;
    }

    /// Gives the device a chain-loader that cannot start every image, as one that needs memory of its own.
    pub fn set_can_start(&mut self, can_start: CanStart) {
        self.can_start = can_start;
    }

    /// Lets the same fault strike at every start from now on, or none.
    pub fn set_standing(&mut self, standing: Option<Standing>) {
        let addresses = |label| self.layout.find_label(label).map(|found| found.offset..found.end());
        let tripwire = standing.and_then(|standing| match standing.at {
            Moment::Reads(label) => Some((addresses(label)?, standing.how)),
            Moment::EarlyCheck(_) | Moment::Setup | Moment::Action(_) | Moment::Departure => None,
        });
        self.flash.replace_tripwire(tripwire);
        self.standing = standing;
    }

    /// Who is told what happens.
    pub fn set_observer(&mut self, observer: impl FnMut(Observed<'_>) + Send + 'static) {
        self.observer = Box::new(observer);
    }

    /// Applies power.
    ///
    /// # Errors
    /// What the flash says, other than a loss of power.
    pub async fn power_on(&mut self) -> Result<End, FlashError> {
        self.power().restore();
        self.start(Reset::PowerOn, None).await
    }

    /// Resets the chip for this cause, as an application of ESP-IDF or its hardware usually does.
    ///
    /// # Errors
    /// What the flash says, other than a loss of power.
    pub async fn reset(&mut self, cause: ResetCause) -> Result<End, FlashError> {
        let (reset, hint) = usual(cause);
        self.start(reset, hint).await
    }

    /// The retained register.
    pub fn retained(&self) -> Retained {
        Retained::from_bits(self.retained_bits).unwrap_or_default()
    }

    /// Leaves something in the retained register, as an application does that takes it for its own.
    pub fn set_retained_bits(&mut self, bits: u32) {
        self.retained_bits = bits;
    }

    async fn start(&mut self, mut reset: Reset, mut hint: Option<Hint>) -> Result<End, FlashError> {
        for _ in 0..MAX_STARTS {
            match self.start_once(reset, hint).await? {
                Step::Ended(end) => return Ok(end),
                Step::Resets => (reset, hint) = OWN_RESET,
                Step::Struck(next, why) => (reset, hint) = (next, why),
            }
        }
        self.handed_over = None;
        Ok(End::Waiting { after_ms: 0, reason: Reason::Internal })
    }

    /// One start of the chip, with what this reset leaves behind on it (`hint`: what ESP-IDF left in STORE6).
    ///
    /// # Errors
    /// What the flash says, other than a loss of power.
    pub async fn start_once(&mut self, reset: Reset, hint: Option<Hint>) -> Result<Step, FlashError> {
        let cause = self.suffer(reset, hint);
        let step = self.run(cause).await?;
        if let Step::Ended(_) = step {
            self.handed_over = None;
        }
        Ok(step)
    }

    /// What the reset leaves, and what the firmware learns of it.
    fn suffer(&mut self, reset: Reset, hint: Option<Hint>) -> ResetCause {
        // A chip that is not in the table is taken for the one that this world knows best.
        let entry = reset.on(self.bootloader.chip).or_else(|| reset.on(Chip::Esp32C3));
        let remains = entry.map_or(Content::Undefined, |entry| entry.remains.rtc);
        self.retained_bits = match remains {
            Content::Kept => self.retained_bits,
            Content::Cleared => 0,
            Content::Undefined => match self.chance.gen_range(0..4) {
                0 => 0,
                1 => u32::MAX,
                // Power was away for a moment only.
                2 => self.retained_bits,
                _ => self.chance.r#gen(),
            },
        };
        let code = entry.and_then(|entry| entry.codes.first().copied()).unwrap_or(0);
        reset::cause(code, hint)
    }

    async fn run(&mut self, cause: ResetCause) -> Result<Step, FlashError> {
        match self.boot() {
            Ok(Boot::Updater { .. }) => {}
            Ok(Boot::App { partition, image, .. }) => {
                let (slot, by_updater) = (partition.label.as_str().to_owned(), self.handed_over.is_some());
                let reason = self.handed_over.flatten();
                return Ok(Step::Ended(End::Running(RunningApp { slot, image, reason, by_updater })));
            }
            Ok(Boot::Nothing(reason)) => return Ok(Step::Ended(End::Dead(reason))),
            Err(FlashError::PowerLost) => return Ok(Step::Ended(End::PowerLost)),
            Err(error) => return Err(error),
        }
        let start = match struck_in(|| self.begin(cause)) {
            Ok(Begun::HandOver(slot, image)) => {
                let reason = self.handed_over.flatten();
                return Ok(Step::Ended(End::Running(RunningApp { slot, image, reason, by_updater: true })));
            }
            Ok(Begun::ResetToSlot) => {
                self.handed_over = Some(Some(Reason::UpdaterCrashes));
                return Ok(Step::Resets);
            }
            Ok(Begun::Wait { after_ms, reason }) => {
                return Ok(Step::Ended(End::Waiting { after_ms, reason }));
            }
            Ok(Begun::PitStop(start)) => start,
            Err(Struck { reset, hint }) => return Ok(Step::Struck(reset, hint)),
        };
        let power = self.power();
        let mut board = VirtualBoard { timer: SimTimer::start(&power), device: self };
        let pit_stop = survive(async {
            board.device.reaches(Moment::Setup);
            updater_io::shell::pit_stop(&mut board, start, &mut KnownDamage::at(start.told_cause())).await
        });
        let ended = tokio::select! {
            biased;
            () = power.lost() => return Ok(Step::Ended(End::PowerLost)),
            ended = pit_stop => ended,
        };
        let ended = ended.and_then(|ended| struck_in(|| self.reaches(Moment::Departure)).map(|()| ended));
        let ended = match ended {
            _ if !power.is_on() => return Ok(Step::Ended(End::PowerLost)),
            Err(Struck { reset, hint }) => return Ok(Step::Struck(reset, hint)),
            Ok(ended) => ended,
        };
        self.retained_bits = ended.retained_bits;
        Ok(match ended.verdict {
            Verdict::Restart { after_ms, reason } => Step::Ended(End::Waiting { after_ms, reason }),
            Verdict::HandOver { reason, .. } => {
                self.handed_over = Some(reason);
                Step::Resets
            }
        })
    }

    /// The bootloader's part. Its time is the chip's, and no fault of the updater strikes in it.
    fn boot(&mut self) -> Result<Boot, FlashError> {
        let (pace, tripwire) = (self.flash.replace_pace(Pace::None), self.flash.replace_tripwire(None));
        let boot = self.bootloader.boot(&mut self.flash);
        self.flash.replace_pace(pace);
        self.flash.replace_tripwire(tripwire);
        boot
    }

    /// What the firmware does first.
    fn begin(&mut self, cause: ResetCause) -> Begun {
        let bits = self.retained_bits;
        let strike = self.standing.and_then(|standing| match standing.at {
            Moment::EarlyCheck(label) => Some((Region::of(&self.layout.find_label(label)?), standing.how)),
            Moment::Reads(_) | Moment::Setup | Moment::Action(_) | Moment::Departure => None,
        });
        let (retained_bits, can_start) = (&mut self.retained_bits, self.can_start);
        let mut early = Early { retained_bits, chip: self.bootloader.chip, can_start, strike };
        match early::begin(&mut early, &mut self.flash, bits, cause) {
            early::Begun::PitStop(start) => Begun::PitStop(start),
            early::Begun::Wait { after_ms, reason, retained_bits } => {
                self.retained_bits = retained_bits;
                Begun::Wait { after_ms, reason }
            }
            early::Begun::ResetToSlot => Begun::ResetToSlot,
            early::Begun::HandOver(hand_over) => {
                self.retained_bits = hand_over.retained_bits;
                let partition = self.layout.slots().nth(usize::from(hand_over.slot.0));
                let label = partition.map(|partition| partition.label.as_str().to_owned());
                Begun::HandOver(label.unwrap_or_default(), Box::new(hand_over.checked))
            }
        }
    }

    /// The updater comes to a moment at which a fault may strike.
    fn reaches(&self, moment: Moment) {
        if let Some(standing) = self.standing.filter(|standing| standing.at == moment) {
            standing.how.strike(self.flash.power().clock());
        }
    }

    /// The shell is about to perform this action.
    fn reaches_action(&self, action: &Action) {
        if let Some(Standing { at: Moment::Action(name), how }) = self.standing
            && name == action_name(action)
        {
            how.strike(self.flash.power().clock());
        }
    }

    /// Verifies what is in a partition, without the updater's code.
    ///
    /// # Errors
    /// What the flash says; inside, what is wrong with the image.
    pub fn image_in(
        &mut self,
        partition: &Partition,
    ) -> Result<Result<ImageSummary, ImageError>, FlashError> {
        let mut bytes = vec![0; partition.size as usize];
        self.flash.read(partition.offset, &mut bytes)?;
        let mut verifier = StreamVerifier::new(partition.size);
        Ok(verifier.update(&bytes).and_then(|_| verifier.finish()))
    }
}

/// What a start is for: the application in a slot, whose label this is, or in the one that otadata names, or a pit stop.
enum Begun {
    HandOver(String, Box<ImageSummary>),
    ResetToSlot,
    PitStop(Start),
    Wait { after_ms: u64, reason: Reason },
}

/// The chip before anything is initialised.
struct Early<'d> {
    retained_bits: &'d mut u32,
    chip: Chip,
    can_start: CanStart,
    /// The fault that strikes when this slot is looked at.
    strike: Option<(Region, Strike)>,
}

impl EarlyBoard<SimFlash> for Early<'_> {
    type Checked = ImageSummary;
    type Sha256 = Sha256;

    fn target(&self) -> Target {
        target(self.chip)
    }

    fn retain_bits(&mut self, bits: u32) {
        *self.retained_bits = bits;
    }

    fn feed_watchdog(&mut self) {}

    fn check(&mut self, flash: &mut SimFlash, slot: Region, depth: Depth) -> Option<ImageSummary> {
        if let Some((_, strike)) = self.strike.filter(|(struck, _)| *struck == slot) {
            strike.early(flash.power().clock())?;
        }
        let image = check(flash, slot, depth).ok()?;
        let startable = image.header.chip == self.chip && (self.can_start)(&image.header, &image.segments);
        startable.then_some(image)
    }
}

/// How the updater resets the chip.
pub const OWN_RESET: (Reset, Option<Hint>) = (Reset::SoftwareSystem, None);

/// How an application of ESP-IDF, or the hardware under it, brings a start of this cause about.
fn usual(cause: ResetCause) -> (Reset, Option<Hint>) {
    match cause {
        ResetCause::PowerOn => (Reset::PowerOn, None),
        ResetCause::Software => (Reset::SoftwareCpu, None),
        ResetCause::Panic => (Reset::SoftwareCpu, Some(Hint::Panic)),
        ResetCause::Watchdog => (Reset::TimerGroupWatchdogCore, None),
        ResetCause::Brownout => (Reset::Brownout, None),
        ResetCause::DeepSleep => (Reset::DeepSleep, None),
        // There is no reset of an unknown cause: it is the one that says least.
        ResetCause::External | ResetCause::Unknown => (Reset::UsbSerial, None),
        // As the updater's own panic handler does it.
        ResetCause::UpdaterCrash => (Reset::SoftwareSystem, Some(Hint::Panic)),
    }
}

/// A chip of no special revision.
fn target(chip: Chip) -> Target {
    Target { chip, revision: None, efuse_blocks: None }
}

/// The host's clock in seconds since 1970, for provisioning.
pub fn host_time_s() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// What TLS computes with, as on the chip. Its random numbers are the host's.
static KEY_EXCHANGE: Secp256r1 = Secp256r1::new(&HostRandom);

#[derive(Debug)]
struct HostRandom;

impl SecureRandom for HostRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        OsRng.try_fill_bytes(bytes).map_err(|_| GetRandomFailed)
    }
}
