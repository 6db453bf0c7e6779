//! A shell script stands in for the emulator.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn script(folder: &Path, text: &str) -> PathBuf {
    let program = folder.join("bin").join(PROGRAM);
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

fn machine(folder: &Path, text: &str) -> Machine {
    let log = Log::create(&folder.join("log")).unwrap();
    Machine::start(Command::new(script(folder, text)), &log).unwrap()
}

#[test]
fn an_emulator_is_one_that_has_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let with = script(folder.path(), "printf 'Supported machines are:\\nesp32c3   Espressif\\n'");
    let emulator = Emulator::choose(Some(with.clone()), None).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(emulator.data, None);
    fs::create_dir(folder.path().join("pc-bios")).unwrap();
    let emulator = Emulator::choose(Some(with), None).unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(emulator.data, Some(folder.path().join("pc-bios")));

    let without = script(folder.path(), "printf 'Supported machines are:\\nvirt   esp32c3x\\n'");
    let reason = Emulator::choose(Some(without), None).err().unwrap();
    assert!(reason.contains("has no machine esp32c3"), "{reason}");
    let reason = Emulator::choose(Some(folder.path().join("nothing")), None).err().unwrap();
    assert!(reason.contains("cannot start"), "{reason}");
}

#[test]
fn lines_are_waited_for_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "printf 'one\\r\\ntwo 2\\nthree\\n'; exec sleep 60");
    assert_eq!(machine.expect("two", &["three"], SOON).unwrap(), "two 2");
    let late = machine.expect("four", &[], Duration::from_millis(200)).unwrap_err().to_string();
    assert!(late.contains("no \"four\"") && late.contains("\n    three"), "{late}");
    assert!(machine.power_off().is_empty());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains(" one\n") && log.contains("--- power off"), "{log}");
}

#[test]
fn unwanted_lines_and_an_early_end_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let text = "printf 'one\\ntwo\\n'";
    let unwanted = machine(folder.path(), text).expect("two", &["one"], SOON).unwrap_err().to_string();
    assert!(unwanted.contains("\"one\" on the console before \"two\""), "{unwanted}");
    let ended = machine(folder.path(), text).expect("three", &[], SOON).unwrap_err().to_string();
    assert!(ended.contains("the emulator ended"), "{ended}");
}

#[test]
fn lines_that_nobody_waited_for_are_left_at_power_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "printf 'one\\ntwo\\nthree\\n'");
    machine.expect("one", &[], SOON).unwrap();
    // It ends by itself; its output is whole then.
    machine.child.wait().unwrap();
    assert_eq!(machine.power_off(), ["two", "three"]);
}

#[test]
fn a_reset_goes_to_the_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "exec cat");
    machine.reset().unwrap();
    machine.expect("system_reset", &[], SOON).unwrap();
}
