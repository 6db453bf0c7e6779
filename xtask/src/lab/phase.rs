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

    /// A device where the phase begins.
    pub(super) fn prepare(self, devices: &Devices) -> anyhow::Result<Prepared> {
        let Devices { images, new, installed } = devices;
        let mut prepared = if self == Self::FirstStart { new } else { installed }.clone();
        match self {
            Self::FirstStart | Self::Idle => {}
            Self::Renewal => prepared.server.time_s = START_S + CERTIFICATE_S * 2 / 3,
            Self::Update => {
                let [_, app] = &images.apps;
                prepared.server.publish(2, app.version, app.image.clone(), Vec::new())?;
                prepared.app = app.clone();
                prepared.sequence = 2;
            }
        }
        Ok(prepared)
    }
}

/// Devices that phases begin with, made once.
pub(super) struct Devices {
    pub(super) images: Images,
    /// As it leaves the factory.
    new: Prepared,
    /// The same after its first start.
    installed: Prepared,
}

impl Devices {
    /// Makes them of these images.
    ///
    /// Errors: the first start does not go well.
    pub(super) fn make(images: Images) -> anyhow::Result<Self> {
        let [app, _] = &images.apps;
        let new = factory(&images, app)?;
        let mut lab = new.power_on(&images)?;
        lab.run_to(app, new.slot.clone(), |_| Ok(())).context("first start")?;
        let flash = lab.chip.flash().bytes().to_vec();
        let server = lab.server.state().clone();
        drop(lab);
        let installed = Prepared { flash, server, ..new.clone() };
        Ok(Self { images, new, installed })
    }
}

impl Prepared {
    pub(super) fn power_on<'a>(&self, images: &'a Images) -> anyhow::Result<Lab<'a>> {
        Lab::power_on(images, self.flash.clone(), self.server.clone())
    }
}

/// A device as it leaves the factory, and a server that has a first release for it.
fn factory(images: &Images, app: &App) -> anyhow::Result<Prepared> {
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
