//! A virtual ESP32: bootloader, the real updater, and the start of the application, on one flash.

mod app;
mod board;
mod check;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::image::compose::{ComposeError, Composer};
use flashfmt::image::{ImageError, ImageHeader, ImageSummary, Segments, StreamVerifier};
use flashfmt::layout::Layout;
use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{AppDescriptor, Chip, Partition};
use rand::rngs::{OsRng, StdRng};
use rand::{RngCore, SeedableRng};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use tls_crypto::Secp256r1;
use updater::{Retained, SlotIndex, Start, Verdict};
use updater_io::board::Observed;
use updater_io::early::{self, Depth, EarlyBoard};
use updater_io::handover::{self, Departure};
use updater_io::map::Map;
use updater_io::region::Region;
use updater_io::vault::{Provisioning, VaultError, provision};
use wire::{Reason, ResetCause};

use crate::bootloader::{Boot, Bootloader, NothingReason};
use crate::flash::{FlashError, SimFlash};
use crate::net::{SimNetwork, SimTimer};
use crate::power::PowerSwitch;
use board::VirtualBoard;
use check::check;

/// Version that the virtual updater reports.
pub const UPDATER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Name of the placeholder image in the updater's partition; on a virtual device the updater itself runs natively.
const UPDATER_PROJECT: &str = "pitstop-updater";
/// Where the placeholder says it is loaded: RAM, or at least not mapped flash, on every chip.
const PLACEHOLDER_ADDR: u32 = 0x4037_0000;

/// Pit stops that one start may take: each hand-over goes through a reset. More of them never start anything.
const MAX_PIT_STOPS: usize = 3;

/// A virtual device. Its flash outlives every start, its retained register every reset, and nothing else does.
pub struct VirtualDevice {
    /// The flash.
    pub flash: SimFlash,
    /// The network.
    pub network: SimNetwork,
    bootloader: Bootloader,
    layout: Layout,
    random: StdRng,
    retained_bits: u32,
    crypto: Arc<CryptoProvider>,
    can_start: CanStart,
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
            retained_bits: 0,
            crypto: Arc::new(tls_crypto::provider(&KEY_EXCHANGE)),
            can_start: |_, _| true,
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

    /// Who is told what happens.
    pub fn set_observer(&mut self, observer: impl FnMut(Observed<'_>) + Send + 'static) {
        self.observer = Box::new(observer);
    }

    /// Applies power: the retained register holds nothing.
    ///
    /// # Errors
    /// What the flash says, other than a loss of power.
    pub async fn power_on(&mut self) -> Result<End, FlashError> {
        self.power().restore();
        self.retained_bits = 0;
        self.start(ResetCause::PowerOn).await
    }

    /// Resets the chip: the application ended, or the updater waited.
    ///
    /// # Errors
    /// What the flash says, other than a loss of power.
    pub async fn reset(&mut self, cause: ResetCause) -> Result<End, FlashError> {
        self.start(cause).await
    }

    /// The retained register.
    pub fn retained(&self) -> Retained {
        Retained::from_bits(self.retained_bits).unwrap_or_default()
    }

    async fn start(&mut self, mut cause: ResetCause) -> Result<End, FlashError> {
        // What the pit stop before the last reset said about itself; the start after the reset knows nothing of it.
        let mut handed_over = None;
        for _ in 0..MAX_PIT_STOPS {
            match self.bootloader.boot(&mut self.flash) {
                Ok(Boot::Updater { .. }) => {}
                Ok(Boot::App { partition, image, .. }) => {
                    let (slot, by_updater) = (partition.label.as_str().to_owned(), handed_over.is_some());
                    return Ok(End::Running(RunningApp {
                        slot,
                        image,
                        reason: handed_over.flatten(),
                        by_updater,
                    }));
                }
                Ok(Boot::Nothing(reason)) => return Ok(End::Dead(reason)),
                Err(FlashError::PowerLost) => return Ok(End::PowerLost),
                Err(error) => return Err(error),
            }
            let start = match self.begin(cause) {
                Begun::HandOver((slot, image)) => {
                    let reason = handed_over.flatten();
                    let image = Box::new(image);
                    return Ok(End::Running(RunningApp { slot, image, reason, by_updater: true }));
                }
                Begun::PitStop(start) => start,
            };
            let power = self.power();
            let mut board = VirtualBoard { timer: SimTimer::start(&power), device: self };
            let verdict = tokio::select! {
                biased;
                () = power.lost() => return Ok(End::PowerLost),
                verdict = updater_io::shell::pit_stop(&mut board, start) => verdict,
            };
            let departure = match verdict {
                _ if !power.is_on() => return Ok(End::PowerLost),
                Verdict::Restart { after_ms, reason } => return Ok(End::Waiting { after_ms, reason }),
                Verdict::HandOver { slot, reason } => {
                    handed_over = Some(reason);
                    self.prepare(slot)
                }
            };
            match departure {
                _ if !power.is_on() => return Ok(End::PowerLost),
                Ok(Departure::ResetWithTicket | Departure::ResetToSlot) => cause = ResetCause::Software,
                Err(reason) => return Ok(End::Waiting { after_ms: 0, reason }),
            }
        }
        Ok(End::Waiting { after_ms: 0, reason: Reason::Internal })
    }

    /// What the firmware does first.
    fn begin(&mut self, cause: ResetCause) -> Begun {
        let bits = self.retained_bits;
        let (retained_bits, can_start) = (&mut self.retained_bits, self.can_start);
        let mut early = Early { retained_bits, chip: self.bootloader.chip, can_start };
        match early::begin(&mut early, &mut self.flash, bits, cause) {
            early::Begun::PitStop(start) => Begun::PitStop(start),
            early::Begun::HandOver(hand_over) => {
                self.retained_bits = hand_over.retained_bits;
                let partition = self.layout.slots().nth(usize::from(hand_over.slot.0));
                let label = partition.map(|partition| partition.label.as_str().to_owned());
                Begun::HandOver((label.unwrap_or_default(), hand_over.checked))
            }
        }
    }

    /// What the firmware does last.
    fn prepare(&mut self, slot: SlotIndex) -> Result<Departure, Reason> {
        let map = Map::read(&mut self.flash).map_err(|_| Reason::PartitionTable)?;
        handover::prepare(&mut self.flash, &map, slot).map_err(|fault| fault.reason())
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

/// What a start is for: the label of a slot and what is in it, or a pit stop.
enum Begun {
    HandOver((String, ImageSummary)),
    PitStop(Start),
}

/// The chip before anything is initialised.
struct Early<'d> {
    retained_bits: &'d mut u32,
    chip: Chip,
    can_start: CanStart,
}

impl EarlyBoard<SimFlash> for Early<'_> {
    type Checked = ImageSummary;

    fn retain_bits(&mut self, bits: u32) {
        *self.retained_bits = bits;
    }

    fn check(&mut self, flash: &mut SimFlash, slot: Region, depth: Depth) -> Option<ImageSummary> {
        let image = check(flash, slot, depth).ok()?;
        let startable = image.header.chip == self.chip && (self.can_start)(&image.header, &image.segments);
        startable.then_some(image)
    }
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
