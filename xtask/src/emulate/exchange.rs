//! `exchange`: a flash file that the emulated chip leaves goes on as a virtual device (crate `sim`), and comes back.
//!
//! What the chip's firmware writes and what the simulator's updater writes must be the same to each other: vault, slots,
//! journal. Then what is proved in the simulator says something about the chip.

use std::fs;

use anyhow::{Context as _, bail, ensure};
use emulator::HOST_SEEN_FROM_INSIDE;
use flashfmt::Chip;
use flashfmt::layout::Layout;
use sim::net::{Link, Route, SimNetwork};
use sim::{End, PowerSwitch, RunningApp, SimFlash, VirtualDevice};
use tokio::runtime::Runtime;

use super::flash::FlashFile;
use super::stage::{CHECKS_IN, ENROLLS, FAULT, HANDS_OVER, INSTALLS, Outcome, PANIC, START, Stage};

const LAYOUT: &str = "4mb";

/// Chip: first start with 1.0.0. Virtual device: runs it, and updates to 1.1.0. Chip: runs that.
pub(super) fn run(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, machine) = stage.device(LAYOUT, "hello-1.0.0", "hello 1.0.0 ")?;
    machine.power_off();
    let key = flash.device_key()?;

    let runtime = Runtime::new().context("no tokio runtime")?;
    let mut device = virtual_device(&flash, stage.world.device_port())?;
    let app = runtime.block_on(start(&mut device))?;
    stage.log.line(&format!("--- virtual device runs {} from {}", app.version(), app.slot));
    ensure!(app.version() == "1.0.0", "the virtual device runs {}, expected 1.0.0", app.version());
    let counters = device.network.counters();
    ensure!(counters.connections() == 1, "the virtual device did not check in with the chip's identity");

    stage.world.publish(stage.name, "hello-1.1.0")?;
    let app = runtime.block_on(start(&mut device))?;
    stage.log.line(&format!("--- virtual device runs {} from {}", app.version(), app.slot));
    ensure!(app.version() == "1.1.0", "the virtual device runs {}, expected 1.1.0", app.version());

    fs::write(flash.path(), device.flash.bytes()).context("cannot write the flash file")?;
    let mut machine = stage.power_on(&flash)?;
    machine.expect(CHECKS_IN, &[ENROLLS, FAULT, PANIC], START)?;
    machine.expect(HANDS_OVER, &[INSTALLS, FAULT, PANIC], START)?;
    machine.expect("hello 1.1.0 ", &[PANIC], START)?;
    stage.world.expect_running(stage.name, "1.1.0")?;
    ensure!(flash.device_key()? == key, "the device has another key");
    Ok(Outcome::Passed)
}

fn virtual_device(flash: &FlashFile, server_port: u16) -> anyhow::Result<VirtualDevice> {
    let bytes = fs::read(flash.path()).context("cannot read the flash file")?;
    let power = PowerSwitch::new();
    let mut sim_flash = SimFlash::from_bytes(bytes);
    sim_flash.set_power(power.clone());
    let mut network = SimNetwork::new(Link::Wired, power);
    // The address that the chip knows the server by leads nowhere outside of its emulator.
    network.set_route(HOST_SEEN_FROM_INSIDE, server_port, Route::To(([127, 0, 0, 1], server_port).into()));
    let layout = Layout::builtin(LAYOUT).context("no such layout")?;
    Ok(VirtualDevice::from_flash(sim_flash, network, Chip::Esp32C3, layout, rand::random()))
}

async fn start(device: &mut VirtualDevice) -> anyhow::Result<RunningApp> {
    match device.power_on().await.context("the virtual flash failed")? {
        End::Running(app) => Ok(app),
        end @ (End::Waiting { .. } | End::Dead(_) | End::PowerLost) => {
            bail!("the virtual device ended: {end:?}")
        }
    }
}
