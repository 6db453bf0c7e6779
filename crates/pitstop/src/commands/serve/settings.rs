//! Settings from three places: flags before environment before file.
//!
//! clap knows the first two. The values of the file are given to clap as if they were flags, for settings that
//! neither a flag nor the environment sets. So each setting has one name, one check and one help text.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use serde::Serialize;
use toml::{Table, Value};

use super::options::ServeOptions;
use crate::failure::Failure;

/// The file in the data directory that is read when no other is named.
const DEFAULT_FILE: &str = "pitstop.toml";

/// The subcommand's name.
const SERVE: &str = "serve";

/// What the file cannot set: it is about the file, or about this one start.
pub(super) const NOT_IN_FILE: [&str; 3] = ["config", "show-config", "json"];

const VARIABLE_PREFIX: &str = "PITSTOP_";

/// Variables of other commands, of the log, and of the tests.
const OTHER_VARIABLES: [&str; 9] = [
    "PITSTOP_URL",
    "PITSTOP_CA_FILE",
    "PITSTOP_TOKEN",
    "PITSTOP_ENROLLMENT_TOKEN",
    "PITSTOP_WIFI_PASSPHRASE",
    "PITSTOP_QEMU",
    "PITSTOP_QEMU_DATA",
    "PITSTOP_UPDATE_OPENAPI",
    "PITSTOP_SCHEMATHESIS",
];

/// How alike two names are from which on one is taken for a slip of the other (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.75;

/// What a server is to run with, and where each setting is from.
pub(super) struct Settings {
    pub(super) options: ServeOptions,
    pub(super) sources: Vec<Setting>,
}

/// One setting. Passwords are not in it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    /// As a flag, without the dashes.
    pub(super) name: String,
    pub(super) value: Option<String>,
    /// `flag`, the variable, the file, or `default`.
    pub(super) source: String,
}

/// Reads the settings of `pitstop serve`, called with these arguments.
///
/// # Errors
/// When the file cannot be read, or has a key or value that is none.
pub(super) fn resolve(arguments: Vec<OsString>) -> Result<Settings, Failure> {
    let (given, _) = parse(arguments.clone()).map_err(|error| Failure::usage(error.to_string()))?;
    let file = File::find(&given)?;
    let mut all = arguments;
    if let Some(file) = &file {
        file.check()?;
        for entry in file.entries.iter().filter(|entry| !is_given(&given, entry)) {
            all.extend(entry.flags()?);
        }
    }
    let (matches, options) = parse(all).map_err(|error| Failure::usage(error.to_string()))?;
    let sources = settable().iter().map(|arg| setting(arg, &given, &matches, file.as_ref())).collect();
    Ok(Settings { options, sources })
}

/// A file of settings. Its keys are known ones; its values are checked by [`File::check`].
struct File {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// A setting in a file.
struct Entry {
    path: PathBuf,
    arg: Arg,
    value: Value,
}

impl File {
    /// The file that `--config` names, or the one in the data directory if it is there.
    fn find(given: &ArgMatches) -> Result<Option<Self>, Failure> {
        let (path, is_default) = match given.get_one::<PathBuf>("config") {
            Some(path) => (path.clone(), false),
            None => {
                let Some(data) = given.get_one::<PathBuf>("data") else { return Ok(None) };
                (data.join(DEFAULT_FILE), true)
            }
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if is_default && error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(format!("could not read {}: {error}", path.display()))
                    .hint("name another file with --config, or none"));
            }
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Failure::new(format!("expected TOML in {}: {}", path.display(), error.to_string().trim_end()))
        })?;
        if is_default && table.contains_key("data") {
            return Err(Failure::new(format!(
                "`data` is set in {}, which is in that directory",
                path.display()
            ))
            .hint("set it with --data or PITSTOP_DATA, or in a file that --config names"));
        }
        let known = settable();
        let entries = table.into_iter().map(|(key, value)| {
            let arg = known.iter().find(|arg| name(arg) == key).cloned();
            let arg = arg.ok_or_else(|| unknown_key(&path, &key, &known))?;
            Ok(Entry { path: path.clone(), arg, value })
        });
        let entries = entries.collect::<Result<_, Failure>>()?;
        Ok(Some(Self { path, entries }))
    }

    /// Checks every value, also those that a flag or the environment overrides.
    fn check(&self) -> Result<(), Failure> {
        for entry in &self.entries {
            let mut alone: Vec<OsString> = vec!["pitstop".into(), SERVE.into()];
            alone.extend(entry.flags()?);
            parse(alone).map_err(|error| entry.bad_value(&error))?;
        }
        Ok(())
    }

    fn sets(&self, arg: &Arg) -> bool {
        self.entries.iter().any(|entry| entry.arg.get_id() == arg.get_id())
    }
}

impl Entry {
    /// The setting as flags.
    fn flags(&self) -> Result<Vec<OsString>, Failure> {
        let name = name(&self.arg);
        if matches!(self.arg.get_action(), ArgAction::SetTrue) {
            return match self.value {
                Value::Boolean(true) => Ok(vec![format!("--{name}").into()]),
                Value::Boolean(false) => Ok(Vec::new()),
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Datetime(_)
                | Value::Array(_)
                | Value::Table(_) => Err(self.bad_type("true or false")),
            };
        }
        let values = match &self.value {
            Value::Array(values) if matches!(self.arg.get_action(), ArgAction::Append) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        values.iter().map(|value| Ok(format!("--{name}={}", self.text(value)?).into())).collect()
    }

    fn text(&self, value: &Value) -> Result<String, Failure> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Integer(number) => Ok(number.to_string()),
            Value::Float(number) => Ok(number.to_string()),
            Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                let takes_more = matches!(self.arg.get_action(), ArgAction::Append);
                Err(self.bad_type(if takes_more { "text or a list of texts" } else { "text or a number" }))
            }
        }
    }

    fn bad_type(&self, expected: &str) -> Failure {
        let Self { path, arg, value } = self;
        Failure::new(format!(
            "{}: expected {expected} for `{}`, found {}",
            path.display(),
            name(arg),
            value.type_str()
        ))
    }

    fn bad_value(&self, error: &clap::Error) -> Failure {
        let found = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => without_passwords(value),
            Some(_) | None => without_passwords(&self.value.to_string()),
        };
        let reason = match (std::error::Error::source(error), error.get(ContextKind::ValidValue)) {
            (Some(reason), _) => format!(": {reason}"),
            (None, Some(ContextValue::Strings(valid))) => format!(": expected one of {}", valid.join(", ")),
            (None, Some(_) | None) => String::new(),
        };
        let name = name(&self.arg);
        Failure::new(format!("{}: `{name}` cannot be {found:?}{reason}", self.path.display()))
            .hint(format!("`pitstop serve --help` says what --{name} takes"))
    }
}

/// What the file may set: everything with a long name.
fn settable() -> Vec<Arg> {
    let mut args = serve_options();
    args.retain(|arg| !NOT_IN_FILE.contains(&name(arg)));
    args
}

/// `pitstop` as far as this command goes.
fn command() -> Command {
    let json = Arg::new("json").long("json").global(true).action(ArgAction::SetTrue);
    Command::new("pitstop").arg(json).subcommand(ServeOptions::augment_args(Command::new(SERVE)))
}

/// All options of `pitstop serve` but `--help`.
pub(super) fn serve_options() -> Vec<Arg> {
    let mut command = command();
    command.build();
    let args = command.find_subcommand(SERVE).map(Command::get_arguments).into_iter().flatten();
    args.filter(|arg| arg.get_long().is_some_and(|long| long != "help")).cloned().collect()
}

fn name(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

fn parse(arguments: Vec<OsString>) -> Result<(ArgMatches, ServeOptions), clap::Error> {
    let mut matches = command().try_get_matches_from(arguments)?;
    let serve = matches.remove_subcommand().map(|(_, serve)| serve).unwrap_or_default();
    let options = ServeOptions::from_arg_matches(&serve)?;
    Ok((serve, options))
}

fn is_given(given: &ArgMatches, entry: &Entry) -> bool {
    match given.value_source(entry.arg.get_id().as_str()) {
        Some(ValueSource::CommandLine | ValueSource::EnvVariable) => true,
        // clap may get more sources one day; none of them can be the file.
        Some(_) | None => false,
    }
}

fn setting(arg: &Arg, given: &ArgMatches, matches: &ArgMatches, file: Option<&File>) -> Setting {
    let id = arg.get_id().as_str();
    let value = matches.get_raw(id).map(|values| {
        let values: Vec<_> = values.map(|value| without_passwords(&value.to_string_lossy())).collect();
        values.join(", ")
    });
    let source = match given.value_source(id) {
        Some(ValueSource::CommandLine) => "flag".to_owned(),
        Some(ValueSource::EnvVariable) => {
            arg.get_env().map(|variable| variable.to_string_lossy().into_owned()).unwrap_or_default()
        }
        Some(_) | None => match file.filter(|file| file.sets(arg)) {
            Some(file) => file.path.display().to_string(),
            None => "default".to_owned(),
        },
    };
    Setting { name: name(arg).to_owned(), value, source }
}

/// Refuses variables that look like settings and are none: a server would run without what somebody meant to set.
///
/// # Errors
/// The first such variable, with the setting that it may have been meant for.
pub(super) fn check_environment(names: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let known = serve_options();
    let known: Vec<_> =
        known.iter().filter_map(|arg| arg.get_env()?.to_str()).chain(OTHER_VARIABLES).collect();
    let names = names.filter_map(|name| name.into_string().ok());
    let is_unknown = |name: &String| {
        name.strip_prefix(VARIABLE_PREFIX)
            .is_some_and(|rest| !is_of_kubernetes(rest) && !rest.starts_with("TEST_"))
            && !known.contains(&name.as_str())
    };
    let Some(unknown) = names.filter(is_unknown).min() else { return Ok(()) };
    let hint = match nearest(&unknown, known.iter().copied()) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`pitstop serve --help` lists what can be set; unset the others".to_owned(),
    };
    Err(Failure::usage(format!("there is no setting for the variable {unknown}")).hint(hint))
}

/// Whether Kubernetes sets this for every service of the name `pitstop` (its documentation, "Service", "Environment
/// variables").
fn is_of_kubernetes(rest: &str) -> bool {
    ["SERVICE_HOST", "PORT"].contains(&rest)
        || ["SERVICE_PORT", "PORT_"].iter().any(|start| rest.starts_with(start))
}

/// The name that is most alike, if one is.
fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike =
        known.map(|name| (strsim::jaro_winkler(found, name), name)).filter(|(alike, _)| *alike >= ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

fn unknown_key(path: &Path, key: &str, known: &[Arg]) -> Failure {
    let hint = match nearest(key, known.iter().map(name)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "keys are the long options of `pitstop serve --help`, without the dashes in front".to_owned(),
    };
    Failure::new(format!("{}: there is no setting `{key}`", path.display())).hint(hint)
}

/// A value as it may be shown: of a URL neither the password before the host nor one in the query.
fn without_passwords(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    // A password may have anything in it, also an `@` of its own: the last one ends it.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => match user.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), rest),
            None => (format!("{user}@"), rest),
        },
        None => (String::new(), rest),
    };
    let rest = match rest.split_once('?') {
        Some((rest, query)) => {
            let parts = query.split('&').map(|part| match part.split_once('=') {
                Some((key, _)) if is_secret_key(key) => format!("{key}=***"),
                Some(_) | None => part.to_owned(),
            });
            format!("{rest}?{}", parts.collect::<Vec<_>>().join("&"))
        }
        None => rest.to_owned(),
    };
    format!("{scheme}://{user}{rest}")
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "key"].iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings with these flags and this text as the file.
    fn resolved(flags: &[&str], text: &str) -> Result<Settings, Failure> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.toml");
        fs::write(&path, text).unwrap();
        let mut arguments: Vec<OsString> = vec!["pitstop".into(), SERVE.into()];
        arguments.extend(flags.iter().map(OsString::from));
        arguments.extend(["--config".into(), path.into()]);
        resolve(arguments)
    }

    fn source<'a>(settings: &'a Settings, name: &str) -> (&'a str, &'a str) {
        let setting = settings.sources.iter().find(|setting| setting.name == name).unwrap();
        (setting.value.as_deref().unwrap_or("-"), &setting.source)
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let failure = resolved(&[], text).map(|settings| settings.sources).unwrap_err();
        format!("{} | {}", failure.message(), failure.next_step().unwrap_or_default())
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let text = "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nname = [\"a.example\", \"b.example\"]\n\
            max-connections = 7\n";
        let settings = resolved(&["--listen", "127.0.0.1:3"], text).unwrap();
        assert_eq!(settings.options.listen.port(), 3);
        assert_eq!(settings.options.admin.port(), 2);
        assert_eq!(settings.options.name, ["a.example", "b.example"]);
        assert_eq!(source(&settings, "listen"), ("127.0.0.1:3", "flag"));
        assert!(source(&settings, "admin").1.ends_with("settings.toml"));
        assert_eq!(source(&settings, "name").0, "a.example, b.example");
        assert_eq!(source(&settings, "refusal-backoff-s"), ("3600", "default"));
        assert_eq!(source(&settings, "next-check-s"), ("-", "default"));
        let config = settings.options.server_config().unwrap();
        assert_eq!(config.limits.max_connections, 7);
    }

    #[test]
    fn the_host_of_the_public_url_is_in_the_certificate_too() {
        let names = |url: &str| {
            let settings = resolved(&["--name", "a.example", "--public-url", url], "").unwrap();
            let config = settings.options.server_config().unwrap();
            (config.public_url.unwrap(), config.server_names)
        };
        let (url, found) = names("https://b.example:443/");
        assert_eq!(
            (url.as_str(), found),
            ("https://b.example:443", vec!["a.example".into(), "b.example".into()])
        );
        assert_eq!(names("https://a.example").1, ["a.example"]);
    }

    #[test]
    fn without_a_file_and_flags_the_settings_are_the_servers_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_owned();
        let arguments = vec!["pitstop".into(), SERVE.into(), "--data".into(), data.clone().into()];
        let config = resolve(arguments).unwrap().options.server_config().unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", server::Config::new(data)));
    }

    #[test]
    fn variables_that_set_nothing_are_named() {
        let check = |names: &[&str]| {
            let names = names.iter().map(OsString::from);
            check_environment(names).map_err(|failure| {
                format!("{} | {}", failure.message(), failure.next_step().unwrap_or_default())
            })
        };
        let known = [
            "PATH",
            "PITSTOP_MAX_CONNECTIONS",
            "PITSTOP_TOKEN",
            "PITSTOP_CA_FILE",
            "PITSTOP_PORT",
            "PITSTOP_PORT_8443_TCP",
            "pitstop_x",
        ];
        assert_eq!(check(&known), Ok(()));
        let refused = check(&["PITSTOP_MAX_CONNECTION"]).unwrap_err();
        assert!(
            refused.contains("variable PITSTOP_MAX_CONNECTION | did you mean PITSTOP_MAX_CONNECTIONS?"),
            "{refused}"
        );
        assert!(check(&["PITSTOP_COLOUR"]).is_err());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let unknown = refused("max-connection = 7\n");
        assert!(
            unknown.contains("no setting `max-connection` | did you mean `max-connections`?"),
            "{unknown}"
        );
        let unknown = refused("colour = \"blue\"\n");
        assert!(unknown.contains("no setting `colour` | keys are the long options"), "{unknown}");
        for key in ["config = \"x\"\n", "show-config = true\n", "json = true\n"] {
            assert!(refused(key).contains("no setting"), "{key}");
        }
        let bad = refused("listen = \"nowhere\"\n");
        assert!(bad.contains("`listen` cannot be \"nowhere\": invalid socket address"), "{bad}");
        let bad = refused("max-connections = 0\n");
        assert!(bad.contains("`max-connections` cannot be \"0\""), "{bad}");
        let bad = refused("log-format = \"xml\"\n");
        assert!(bad.contains("expected one of text, json"), "{bad}");
        let bad = refused("admin = [\"127.0.0.1:1\"]\n");
        assert!(bad.contains("expected text or a number for `admin`, found array"), "{bad}");
        let bad = refused("name = [true]\n");
        assert!(bad.contains("expected text or a list of texts for `name`, found"), "{bad}");
        let bad = refused("listen\n");
        assert!(bad.contains("expected TOML in ") && bad.contains("line 1"), "{bad}");
    }

    #[test]
    fn a_value_that_a_flag_overrides_is_checked_all_the_same() {
        let failure = resolved(&["--listen", "127.0.0.1:3"], "listen = 5\n");
        assert!(failure.map(|settings| settings.sources).unwrap_err().message().contains("`listen`"));
    }

    #[test]
    fn a_database_that_is_none_is_refused_without_its_password() {
        let settings = resolved(&[], "database = \"mysql://u:secret@host/x\"\n").unwrap();
        assert_eq!(source(&settings, "database").0, "mysql://u:***@host/x");
        let failure = settings.options.server_config().unwrap_err();
        assert!(failure.message().contains("setting `database`: expected `sqlite` or"), "{failure:?}");
        assert!(!failure.message().contains("secret"), "{failure:?}");
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let arguments = ["pitstop", SERVE, "--config", "/nowhere/at/all.toml"].map(OsString::from);
        let failure = resolve(arguments.to_vec()).map(|settings| settings.sources).unwrap_err();
        assert!(failure.message().contains("could not read /nowhere/at/all.toml"));
    }

    #[test]
    fn the_file_in_the_data_directory_is_read_and_cannot_move_it() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = vec!["pitstop".into(), SERVE.into(), "--data".into(), dir.path().into()];
        fs::write(dir.path().join(DEFAULT_FILE), "log = \"debug\"\n").unwrap();
        assert_eq!(resolve(arguments.clone()).unwrap().options.log.filter, "debug");
        fs::write(dir.path().join(DEFAULT_FILE), "data = \"elsewhere\"\n").unwrap();
        let failure = resolve(arguments).map(|settings| settings.sources).unwrap_err();
        assert!(failure.message().contains("`data` is set in"));
    }

    #[test]
    fn passwords_are_not_shown() {
        for (value, shown) in [
            ("postgres://pit:st/op@db/x", "postgres://pit:***@db/x"),
            (
                "postgres://pit:s@cr:et@db:5432/x?sslmode=require",
                "postgres://pit:***@db:5432/x?sslmode=require",
            ),
            ("postgres://pit@db/x?password=secret&a=b", "postgres://pit@db/x?password=***&a=b"),
            ("s3://bucket?secret_access_key=x", "s3://bucket?secret_access_key=***"),
            ("/var/lib/pitstop", "/var/lib/pitstop"),
        ] {
            assert_eq!(without_passwords(value), shown);
        }
    }
}
