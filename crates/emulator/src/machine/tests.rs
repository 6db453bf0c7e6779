//! A shell script stands in for the emulator.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A program `bin/emulator` in `folder` that does what `text` says.
pub(crate) fn script(folder: &Path, text: &str) -> PathBuf {
    let program = folder.join("bin").join("emulator");
    fs::create_dir_all(folder.join("bin")).unwrap();
    let draft = folder.join("draft");
    fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    // By another process: a program that is open for writing here is so in a child of another test as well, and then
    // cannot be started (ETXTBSY).
    assert!(Command::new("cp").arg(&draft).arg(&program).status().unwrap().success());
    program
}

fn machine(folder: &Path, text: &str) -> Machine {
    let log = Log::create(&folder.join("log")).unwrap();
    Machine::start(Command::new(script(folder, text)), 0, &log, None).unwrap()
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
fn lines_are_read_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "printf 'one\\ntwo\\n'");
    let deadline = Instant::now() + SOON;
    assert_eq!(machine.line(deadline, "a line").unwrap(), "one");
    assert_eq!(machine.line(deadline, "a line").unwrap(), "two");
    let ended = machine.line(deadline, "a third line").unwrap_err().to_string();
    assert!(ended.contains("ended before a third line") && ended.contains("\n    two"), "{ended}");
}

#[test]
fn a_console_that_never_pauses_does_not_stop_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "exec yes");
    let late = machine.expect("no", &[], Duration::from_millis(200));
    assert!(matches!(late, Err(MachineError::Timeout { .. })));
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
    match &mut machine.power {
        Power::Qemu(process) => process.child.wait().unwrap(),
        Power::Chip(_) => unreachable!("a script is no chip"),
    };
    assert_eq!(machine.power_off(), ["two", "three"]);
}

#[test]
fn a_reset_goes_to_the_monitor() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = machine(folder.path(), "exec cat");
    machine.reset().unwrap();
    machine.expect("system_reset", &[], SOON).unwrap();
}
