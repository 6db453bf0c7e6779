//! The scenarios: each makes a product and a device of its own, and tells what must be seen on the console.

use std::time::Duration;

use anyhow::ensure;
use emulator::Machine;

use super::flash::Slot;
use super::stage::{
    CHECKS_IN, ENROLLS, FAULT, GREETING, HANDS_OVER, HANDS_OVER_TO_SECOND, INSTALL, INSTALLS, Outcome, PANIC,
    ROM, ROM_AFTER_DEEP_SLEEP, START, Stage,
};
use super::{entry_state, exchange, faults, tls};

/// One scenario.
pub(super) struct Scenario {
    /// As `--only` takes it; also the name of its product, its device and its log.
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn(&mut Stage<'_>) -> anyhow::Result<Outcome>,
}

pub(super) const SCENARIOS: &[Scenario] = &[
    // The longest first: the others are played meanwhile.
    Scenario {
        name: "radio-hangs",
        about: "the updater hangs at every join: the app runs",
        run: faults::radio_hangs,
    },
    Scenario { name: "first-start", about: "enrolls, installs 1.0.0, hands over", run: first_start },
    Scenario { name: "reset", about: "a reset with nothing new: hands over again", run: reset },
    Scenario { name: "update", about: "1.1.0 is published: installed after the next reset", run: update },
    Scenario {
        name: "deep-sleep",
        about: "a wake from deep sleep goes straight to the app",
        run: deep_sleep,
    },
    Scenario { name: "revoked", about: "a revoked device still runs its app", run: revoked },
    Scenario { name: "damaged-slot", about: "flipped bytes are found and repaired", run: damaged_slot },
    Scenario {
        name: "damaged-offline",
        about: "two slots, the newer one damaged, no server: the older app runs",
        run: damaged_offline,
    },
    Scenario {
        name: "server-down",
        about: "no server: the app runs; server back: checks in",
        run: server_down,
    },
    Scenario { name: "wrong-ca", about: "a server of another CA is refused; the app runs", run: wrong_ca },
    Scenario {
        name: "tls-traps",
        about: "TLS: right servers are talked to, each wrong one is refused",
        run: tls::run,
    },
    Scenario {
        name: "exchange",
        about: "a flash file goes from chip to simulator and back",
        run: exchange::run,
    },
    Scenario { name: "app-panics", about: "an app that panics is replaced", run: app_panics },
    Scenario { name: "app-hangs", about: "an app that hangs is replaced after its watchdog", run: app_hangs },
    Scenario { name: "app-async", about: "an app that lives on interrupts runs", run: app_async },
    Scenario {
        name: "updater-as-app",
        about: "the updater itself, started by the updater, checks in",
        run: updater_as_app,
    },
    Scenario {
        name: "entry-state",
        about: "an image finds what the bootloader would have left",
        run: entry_state::run,
    },
    Scenario {
        name: "registers-kept",
        about: "an app leaves rubbish in the registers: the updater starts",
        run: faults::registers_kept,
    },
    Scenario {
        name: "survey-crashes",
        about: "the updater crashes at every survey: the app runs",
        run: faults::survey_crashes,
    },
    Scenario {
        name: "store-away",
        about: "one slot, a release whose image cannot be had: the app runs",
        run: store_away,
    },
    Scenario {
        name: "app-erases-nvs",
        about: "an app that erases nvs leaves the identity",
        run: app_erases_nvs,
    },
];

fn first_start(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    stage.world.product(stage.name, "4mb", "hello-1.0.0")?;
    let flash = stage.world.flash(stage.name)?;
    ensure!(flash.device_key()?.is_none(), "the device has a key before its first start");
    let mut machine = stage.power_on(&flash)?;
    machine.expect(ENROLLS, &[FAULT, PANIC], START)?;
    machine.expect("pitstop has a new certificate", &[FAULT, PANIC], START)?;
    machine.expect("pitstop installs 1.0.0", &[FAULT, PANIC], START)?;
    machine.expect("pitstop has installed the release", &[FAULT, PANIC], INSTALL)?;
    machine.expect(HANDS_OVER, &[FAULT, PANIC], START)?;
    // Straight to the application: not another pit stop first.
    machine.expect("hello 1.0.0 ", &[CHECKS_IN, PANIC], START)?;
    ensure!(flash.device_key()?.is_some(), "the device has no key after its first start");
    let device = stage.world.device(stage.name)?;
    ensure!(device["state"] == "enrolled", "the server has {device}");
    Ok(Outcome::Passed)
}

fn reset(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, mut machine) = stage.hello()?;
    let key = flash.device_key()?;
    machine.reset()?;
    machine.expect(CHECKS_IN, &[ENROLLS, FAULT, PANIC], START)?;
    machine.expect(HANDS_OVER, &[INSTALLS, FAULT, PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[CHECKS_IN, PANIC], START)?;
    stage.world.expect_running(stage.name, "1.0.0")?;
    ensure!(flash.device_key()? == key, "the device has another key");
    Ok(Outcome::Passed)
}

fn update(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.hello()?;
    stage.world.publish(stage.name, "hello-1.1.0")?;
    machine.reset()?;
    machine.expect("pitstop installs 1.1.0", &[ENROLLS, FAULT, PANIC], START)?;
    machine.expect(HANDS_OVER, &[FAULT, PANIC], INSTALL)?;
    machine.expect("hello 1.1.0 ", &["hello 1.0.0 ", PANIC], START)?;
    machine.reset()?;
    machine.expect("hello 1.1.0 ", &[INSTALLS, FAULT, PANIC], START)?;
    stage.world.expect_running(stage.name, "1.1.0")?;
    Ok(Outcome::Passed)
}

fn deep_sleep(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, mut machine) = stage.device("4mb", "sleeper", "rtc_data=fresh")?;
    // It sleeps 2 s.
    let wake = machine.expect(ROM, &[], Duration::from_secs(20));
    if !wake.as_ref().is_ok_and(|line| line.contains(ROM_AFTER_DEEP_SLEEP)) {
        return stage.lacks("a wake from deep sleep");
    }
    // Twice: no pit stop, and what the application keeps in RTC memory is still there.
    for wakes in ["wakes=1 rtc_data=kept", "wakes=2 rtc_data=kept"] {
        machine.expect(wakes, &["pitstop ", "rtc_data=fresh"], START)?;
    }
    // Power that comes back is no wake.
    machine.power_off();
    stage.power_on(&flash)?.expect(CHECKS_IN, &[PANIC], START)?;
    Ok(Outcome::Passed)
}

fn revoked(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.hello()?;
    stage.world.publish(stage.name, "hello-1.1.0")?;
    stage.world.revoke(stage.name)?;
    machine.reset()?;
    // Code 307: the server refused this device (docs/protocol.md).
    machine.expect("pitstop fault 307", &[INSTALLS, PANIC], START)?;
    machine.expect(HANDS_OVER, &[INSTALLS, PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    Ok(Outcome::Passed)
}

fn damaged_slot(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, machine) = stage.hello()?;
    machine.power_off();
    flash.damage(Slot::First)?;
    let mut machine = stage.power_on(&flash)?;
    machine.expect("pitstop installs 1.0.0", &["hello ", PANIC], START)?;
    machine.expect(HANDS_OVER, &["hello ", PANIC], INSTALL)?;
    machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    Ok(Outcome::Passed)
}

fn damaged_offline(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, mut machine) = stage.device("8mb", "hello-1.0.0", "hello 1.0.0 ")?;
    stage.world.publish(stage.name, "hello-1.1.0")?;
    machine.reset()?;
    machine.expect(HANDS_OVER_TO_SECOND, &[PANIC], INSTALL)?;
    machine.expect("hello 1.1.0 ", &[PANIC], START)?;
    machine.power_off();
    flash.damage(Slot::SecondOf8Mb)?;
    stage.world.stop_server();
    let mut machine = stage.power_on(&flash)?;
    machine.expect(HANDS_OVER, &["hello ", PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    Ok(Outcome::Passed)
}

fn server_down(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.hello()?;
    stage.world.stop_server();
    machine.reset()?;
    // Code 302: no connection to the server.
    machine.expect("pitstop fault 302", &[PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    stage.world.start_server()?;
    machine.reset()?;
    machine.expect(HANDS_OVER, &[FAULT, PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    stage.world.expect_running(stage.name, "1.0.0")?;
    Ok(Outcome::Passed)
}

fn wrong_ca(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    stage.world.product(stage.name, "4mb", "hello-1.1.0")?;
    let flash = stage.world.flash_with_wrong_anchor(stage.name, "hello-1.0.0")?;
    let mut machine = stage.power_on(&flash)?;
    // Code 303: the server's certificate was refused.
    machine.expect("pitstop fault 303", &[INSTALLS, PANIC], START)?;
    machine.expect("hello 1.0.0 ", &[INSTALLS, PANIC], START)?;
    let device = stage.world.device(stage.name)?;
    ensure!(device["state"] == "new", "the device gave its token to a server of another CA: {device}");
    Ok(Outcome::Passed)
}

fn app_panics(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, machine) = stage.device("4mb", "panicky", "panicky 1.0.0 reset")?;
    replaced(stage, machine, "panicky 1.0.0 panicked")
}

fn app_hangs(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, machine) = stage.device("4mb", "hang", "hang 1.0.0 ")?;
    replaced(stage, machine, ROM)
}

/// A broken application ends by itself with `end`; the pit stop after that installs what was published meanwhile.
fn replaced(stage: &Stage<'_>, mut machine: Machine, end: &str) -> anyhow::Result<Outcome> {
    stage.world.publish(stage.name, "hello-1.1.0")?;
    machine.expect(end, &[PANIC], START)?;
    machine.expect("pitstop installs 1.1.0", &[PANIC], START)?;
    machine.expect("hello 1.1.0 ", &[FAULT, PANIC], INSTALL)?;
    Ok(Outcome::Passed)
}

fn app_erases_nvs(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (flash, mut machine) = stage.device("4mb", "nvs-eraser", "erased label=nvs")?;
    machine.expect("uptime_s=0", &[], START)?;
    let key = flash.device_key()?;
    machine.reset()?;
    machine.expect(CHECKS_IN, &[ENROLLS, FAULT, PANIC], START)?;
    machine.expect("erased label=nvs", &[FAULT, PANIC], START)?;
    ensure!(flash.device_key()? == key, "the device has another key");
    Ok(Outcome::Passed)
}

fn app_async(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.device("4mb", "ticker", "ticker 1.0.0 ")?;
    machine.expect("tick=20", &[ROM, PANIC], START)?;
    Ok(Outcome::Passed)
}

fn updater_as_app(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    stage.world.product(stage.name, "4mb", "hello-1.0.0")?;
    let flash = stage.world.flash(stage.name)?;
    flash.put(Slot::First, &stage.world.image_bytes("updater-esp32c3-qemu")?)?;
    // Nothing to install, so that the slot keeps what is in it.
    stage.world.stop_server();
    let mut machine = stage.power_on(&flash)?;
    machine.expect(HANDS_OVER, &[PANIC], START)?;
    stage.world.start_server()?;
    // From the slot: interrupts, timers and the network serve it as they do in its own place.
    machine.expect(GREETING, &[PANIC], START)?;
    // Were it to hang, the watchdog would bring back the updater in its own place.
    machine.expect(CHECKS_IN, &[ROM, PANIC], START)?;
    Ok(Outcome::Passed)
}

fn store_away(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let (_flash, mut machine) = stage.hello()?;
    stage.world.publish(stage.name, "hello-1.1.0")?;
    stage.world.hide_artifacts()?;
    for _ in 0..2 {
        machine.reset()?;
        machine.expect(FAULT, &[PANIC], START)?;
        machine.expect(HANDS_OVER, &[PANIC], INSTALL)?;
        machine.expect("hello 1.0.0 ", &[PANIC], START)?;
    }
    stage.world.show_artifacts()?;
    machine.reset()?;
    machine.expect(HANDS_OVER, &[PANIC], INSTALL)?;
    machine.expect("hello 1.1.0 ", &["hello 1.0.0 ", PANIC], START)?;
    Ok(Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_product_names() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }
}
