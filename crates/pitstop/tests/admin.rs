//! `pitstop admin`: backup of a running server, and restore.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Bench, pitstop};

#[test]
fn a_running_server_is_backed_up_and_restored() {
    let bench = Bench::start();
    bench.make_lamp();
    let backup = bench.json(&["admin", "backup", "copies/monday"]);
    assert_eq!(backup["has_database"], true);
    let folder = bench.folder.path();
    for name in ["backup.json", "pitstop.db", "ca/ca.key", "admin.token"] {
        assert!(folder.join("copies/monday").join(name).exists(), "{name}");
    }
    let again = bench.refusal(&["admin", "backup", "copies/monday"]);
    assert!(again.contains("expected an empty place at copies/monday, found files"), "{again}");

    let restore = |data: &str| {
        let mut command = pitstop(folder);
        command.args(["admin", "restore", "copies/monday", "--data", data]);
        command
    };
    let output = restore("restored").assert().success().get_output().stdout.clone();
    let page = String::from_utf8(output).unwrap();
    assert!(page.contains("  pitstop serve --data restored\n"), "{page}");
    let over = restore("data").assert().code(1).get_output().stderr.clone();
    assert!(String::from_utf8(over).unwrap().contains("expected an empty place at data, found files"));
}

#[test]
fn what_is_not_there_is_told_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = |arguments: &[&str]| {
        let output = pitstop(folder.path()).arg("admin").args(arguments).assert().code(1);
        String::from_utf8(output.get_output().stderr.clone()).unwrap()
    };
    let no_data = error(&["backup", "copy"]);
    assert!(no_data.contains("at pitstop-data, found none") && no_data.contains("hint: "), "{no_data}");
    let no_backup = error(&["restore", "copy"]);
    assert!(no_backup.contains("backup.json") && no_backup.contains("hint: "), "{no_backup}");
}
