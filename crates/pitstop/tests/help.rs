//! The help texts as people read them, at 80 columns.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

/// Every command with options of its own.
const COMMANDS: [&[&str]; 57] = [
    &[],
    &["quickstart"],
    &["serve"],
    &["admin", "backup"],
    &["admin", "restore"],
    &["demo"],
    &["simulate"],
    &["keys", "new"],
    &["keys", "show"],
    &["product"],
    &["product", "new"],
    &["product", "list"],
    &["product", "show"],
    &["product", "set"],
    &["product", "delete"],
    &["product", "key"],
    &["product", "key", "revoke"],
    &["product", "channel", "add"],
    &["device", "new"],
    &["device", "import"],
    &["device", "list"],
    &["device", "show"],
    &["device", "set"],
    &["device", "approve"],
    &["device", "revoke"],
    &["device", "suspend"],
    &["device", "delete"],
    &["device", "token"],
    &["release", "publish"],
    &["release", "list"],
    &["release", "archive"],
    &["artifact", "list"],
    &["artifact", "prune"],
    &["rollout"],
    &["rollout", "new"],
    &["rollout", "list"],
    &["rollout", "show"],
    &["rollout", "watch"],
    &["rollout", "abort"],
    &["fleet", "status"],
    &["token", "new"],
    &["token", "list"],
    &["token", "revoke"],
    &["token", "delete"],
    &["whoami"],
    &["audit", "list"],
    &["audit", "export"],
    &["event", "export"],
    &["flash"],
    &["provision"],
    &["layout", "check"],
    &["layout", "adopt"],
    &["layout", "list"],
    &["layout", "show"],
    &["image", "inspect"],
    &["completions"],
    &["man"],
];

fn help(command: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output =
        support::pitstop(folder.path()).args(command).arg("--help").env("COLUMNS", "80").assert().success();
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

#[test]
fn help_texts() {
    let texts = COMMANDS.map(|command| format!("$ pitstop {} --help\n{}", command.join(" "), help(command)));
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn help_has_no_colours_in_a_pipe_and_fits_80_columns() {
    for command in COMMANDS {
        let text = help(command);
        assert!(!text.contains('\x1b'), "{command:?}");
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{command:?}: {widest:?}");
    }
}
