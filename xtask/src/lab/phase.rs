//! What a device goes through here, each in one start.

use std::ops::Range;

use anyhow::Context as _;
use flashfmt::layout::Layout;
use sim::campaign::fake_server::{CERTIFICATE_S, START_S, ServerState};
use sim::campaign::in_paused_time;
use sim::campaign::world::World;

use super::{App, HOST_SEEN_FROM_INSIDE, Images, LAYOUT, Lab};

/// One start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Fresh from the factory, with a release waiting: key, certificate, install.
    FirstStart,
    /// Nothing is new.
    Idle,
    /// Two thirds of the certificate's life are over.
    Renewal,
    /// A newer release, into the only slot.
    Update,
}

/// A device right before a phase.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) flash: Vec<u8>,
    pub(super) server: ServerState,
    /// What it runs in the end.
    pub(super) app: App,
    /// The number of that release.
    pub(super) sequence: u64,
    /// Where the application's slot is.
    pub(super) slot: Range<u32>,
    pub(super) layout: Layout,
}

impl Phase {
    pub(super) const ALL: [Self; 4] = [Self::FirstStart, Self::Idle, Self::Renewal, Self::Update];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FirstStart => "first start: enrollment and install",
            Self::Idle => "nothing new",
            Self::Renewal => "renewal of the certificate",
            Self::Update => "update of the only slot",
        }
    }

    /// Brings a device to where the phase begins.
    pub(super) fn prepare(self, images: &Images) -> anyhow::Result<Prepared> {
        let [old, new] = &images.apps;
        let mut prepared = factory(images, old)?;
        if self == Self::FirstStart {
            return Ok(prepared);
        }
        let mut lab = prepared.power_on(images)?;
        lab.run_to(old, prepared.slot.clone(), |_| Ok(()))?;
        prepared.flash = lab.chip.flash().bytes().to_vec();
        prepared.server = lab.server.state().clone();
        match self {
            Self::FirstStart | Self::Idle => {}
            Self::Renewal => prepared.server.time_s = START_S + CERTIFICATE_S * 2 / 3,
            Self::Update => {
                prepared.server.publish(2, new.version, new.image.clone(), Vec::new())?;
                prepared.app = new.clone();
                prepared.sequence = 2;
            }
        }
        Ok(prepared)
    }
}

impl Prepared {
    pub(super) fn power_on<'a>(&self, images: &'a Images) -> anyhow::Result<Lab<'a>> {
        Lab::power_on(images, self.flash.clone(), self.server.clone())
    }
}

/// A device as it leaves the factory, and a server that has a first release for it.
pub(super) fn factory(images: &Images, app: &App) -> anyhow::Result<Prepared> {
    let layout = Layout::builtin(LAYOUT).context("no such layout")?;
    let slot = layout.slots().next().context("a layout without a slot")?;
    let home = layout.updater().context("a layout without a place for the updater")?;
    let (flash, mut server) = in_paused_time(async {
        let mut world = World::manufacture_for(LAYOUT, HOST_SEEN_FROM_INSIDE)?;
        world.device.flash.put(home.offset, &images.updater)?;
        let state = world.server.state().clone();
        Ok((world.device.flash.bytes().to_vec(), state))
    })?;
    server.publish(1, app.version, app.image.clone(), Vec::new())?;
    Ok(Prepared { flash, server, app: app.clone(), sequence: 1, slot: slot.offset..slot.end(), layout })
}
