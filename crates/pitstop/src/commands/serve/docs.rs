//! docs/operations.md and the files of deploy/ against what the server really has.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::settings::{NOT_IN_FILE, serve_options};

const BEGIN: &str = "<!-- options -->\n";
const END: &str = "<!-- /options -->";

/// When this is set, the table is written instead of compared.
const UPDATE: &str = "UPDATE_DOCS";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The table of settings as docs/operations.md has it.
fn table() -> String {
    let mut table = String::new();
    let mut heading = String::new();
    for arg in serve_options() {
        let long = arg.get_long().unwrap();
        let Some(of) = arg.get_help_heading() else { continue };
        if heading != of {
            of.clone_into(&mut heading);
            let _ = write!(table, "\n**{of}**\n\n| setting | environment | default | what |\n");
            table += "| --- | --- | --- | --- |\n";
        }
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let default: Vec<_> =
            arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if arg.get_action().takes_values() { default.join(", ") } else { String::new() };
        let help = arg.get_help().unwrap().to_string();
        let _ = writeln!(table, "| `--{long}` | {variable} | {default} | {help} |");
    }
    table + "\n"
}

#[test]
fn operations_md_has_every_setting() {
    let path = repository().join("docs/operations.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (found, after) = rest.split_once(END).expect("the table ends");
    let expected = table();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/operations.md is behind: {UPDATE}=1 cargo test -p pitstop operations_md"
    );
}

#[test]
fn a_setting_has_one_name_a_heading_and_a_sentence() {
    for arg in serve_options() {
        let long = arg.get_long().unwrap();
        if long == "json" {
            continue;
        }
        assert!(arg.get_help_heading().is_some(), "--{long} needs a help_heading");
        let help = arg.get_help().unwrap().to_string();
        assert!(!help.contains('|') && !help.contains('\n') && help.len() < 180, "--{long}: {help}");
        if !arg.get_action().takes_values() {
            continue;
        }
        let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
        let expected = format!("PITSTOP_{}", long.to_uppercase().replace('-', "_"));
        assert_eq!(variable, Some(expected), "--{long}");
        // A value of the environment may be a password.
        assert!(arg.is_hide_env_values_set(), "--{long} needs hide_env_values");
    }
    assert!(NOT_IN_FILE.iter().all(|name| serve_options().iter().any(|arg| arg.get_long() == Some(name))));
}
