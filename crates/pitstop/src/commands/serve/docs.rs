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

/// Variables that an S3 client reads and that are not ours.
const OF_S3: [&str; 4] = ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

fn deploy(name: &str) -> String {
    fs::read_to_string(repository().join("deploy").join(name)).unwrap()
}

fn yaml(text: &str) -> serde_json::Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Refuses a variable that the server would not heed.
#[track_caller]
fn assert_known(variable: &str) {
    let mut ours = serve_options().into_iter().filter_map(|arg| arg.get_env().map(ToOwned::to_owned));
    assert!(OF_S3.contains(&variable) || ours.any(|known| known == variable), "{variable} is no setting");
}

#[test]
fn the_unit_starts_the_server_with_options_that_there_are() {
    let unit = deploy("systemd/pitstop.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let arguments = command.split(' ').map(std::ffi::OsString::from);
    let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(arguments).unwrap();
    let crate::cli::Command::Serve(serve) = cli.command else { panic!("{command}") };
    assert_eq!(serve.options.data, Path::new("/var/lib/pitstop"));
    assert!(
        unit.lines().any(|line| line == "StateDirectory=pitstop"),
        "the data directory is the service's own"
    );
    for word in unit.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_') {
        if word.starts_with("PITSTOP_") && word != "PITSTOP_" {
            assert_known(word);
        }
    }
    // Whoever waits for open requests must not be killed before.
    let stop_s: u64 =
        unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap().parse().unwrap();
    assert!(stop_s > server::Limits::default().shutdown_grace.as_secs());
}

#[test]
fn the_image_sets_what_there_is_and_is_nobody_special() {
    let file = deploy("Containerfile");
    let (_, run) = file.rsplit_once("FROM ").unwrap();
    let environment = run.split("ENV ").nth(1).unwrap().split("EXPOSE").next().unwrap();
    let variables: Vec<_> = environment
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(variables, ["PITSTOP_DATA", "PITSTOP_LISTEN", "PITSTOP_ADMIN", "PITSTOP_LOG_FORMAT"]);
    variables.into_iter().for_each(assert_known);
    assert!(run.lines().any(|line| line == "USER 10001"), "not root");
    assert!(run.contains("HEALTHCHECK ") && run.contains("/healthz"));
}

#[test]
fn the_compose_file_is_one_and_sets_what_there_is() {
    let text = deploy("compose/compose.yaml");
    let file = yaml(&text);
    let services = file["services"].as_object().unwrap();
    for variable in services["pitstop"]["environment"].as_object().unwrap().keys() {
        assert_known(variable);
    }
    for (name, service) in services {
        let is_watched = service.get("healthcheck").is_some();
        let once = name == "bucket";
        let in_image = service.get("build").is_some();
        assert!(is_watched || once || in_image, "{name} has no health check");
        for dependency in service["depends_on"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(services.contains_key(dependency), "{name} waits for {dependency}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(file["volumes"].as_object().unwrap().contains_key(volume), "{name}: volume {volume}");
        }
    }
    let ports = services["pitstop"]["ports"].as_array().unwrap();
    assert!(
        ports.iter().all(|port| !port.as_str().unwrap().ends_with(":8080") || port == "127.0.0.1:8080:8080")
    );
    // What has to be filled in is in the example, and nothing else is.
    let mut needed: Vec<_> =
        text.split("${").skip(1).map(|rest| rest.split([':', '}']).next().unwrap()).collect();
    needed.sort_unstable();
    needed.dedup();
    let example = deploy("compose/example.env");
    let mut given: Vec<_> = example.lines().filter(|line| !line.starts_with('#')).collect();
    given.sort_unstable();
    let given: Vec<_> =
        given.into_iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(given, needed);
}

#[test]
fn the_alert_rules_are_rules() {
    let file = yaml(&deploy("prometheus/pitstop.rules.yaml"));
    let rules = file["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 5);
    for rule in rules {
        for key in ["alert", "expr"] {
            assert!(rule[key].is_string(), "{key} in {rule}");
        }
        assert!(
            rule["annotations"]["summary"].is_string() && rule["labels"]["severity"].is_string(),
            "{rule}"
        );
    }
}
