//! `pitstop audit`: who changed what.

use api::audit;
use clap::{Args, Subcommand};
use serde_json::Value;
use time::OffsetDateTime;

use crate::client::Connection;
use crate::commands::export::Target;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago};

const EXAMPLES: &str = "\
Examples:
  pitstop audit list --kind rollout
  pitstop audit list --subject lamp-0001 --since 2026-11-01
  pitstop audit export --out audit.ndjson";

/// The audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes, newest first
    #[command(after_help = EXAMPLES)]
    List(List),

    /// Write all of it, with what was there before and after, as one JSON document a line
    #[command(after_help = EXAMPLES)]
    Export(Export),
}

/// Which lines.
#[derive(Debug, Args)]
struct Filter {
    /// Only changes by this token, by its id or name; `server` for what the server does by itself
    #[arg(long, value_name = "ID|NAME")]
    actor: Option<String>,

    /// Only changes of this kind of thing, such as device, rollout or token
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// Only changes of this thing, such as a device's id
    #[arg(long, value_name = "ID")]
    subject: Option<String>,

    /// Only changes of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only changes from this moment on (UTC), such as 2026-11-01
    #[arg(long, value_name = "TIME", value_parser = options::start)]
    since: Option<OffsetDateTime>,

    /// Only changes before this moment (UTC), or up to the end of this day, such as 2026-11-30
    #[arg(long, value_name = "TIME", value_parser = options::end)]
    until: Option<OffsetDateTime>,
}

/// `audit list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `audit export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    connection: Connection,
}

impl AuditCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::List(List { filter, limit, connection }) => {
                let lines = connection.client()?.audit(&filter.of()?, limit)?;
                ui.result(&lines, || {
                    if lines.items.is_empty() {
                        return Page::plain().note("No such changes.");
                    }
                    let now = OffsetDateTime::now_utc();
                    let rows = lines.items.iter().map(|line| row(line, now));
                    let page = Page::plain().table(["WHEN", "WHO", "WHAT", "OF", "CHANGE"], rows);
                    if lines.next_cursor.is_some() { page.more(limit) } else { page }
                })
            }
            Self::Export(export) => export.run(ui),
        }
    }
}

impl Export {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let client = self.connection.client()?;
        let filter = self.filter.of()?;
        self.target.check()?;
        self.target.take(ui, "the audit log", client.export_audit(&filter)?)
    }
}

impl Filter {
    fn of(self) -> Result<audit::Filter, Failure> {
        let Self { actor, kind, subject, product, since, until } = self;
        let (since, until) =
            (since.map(options::rfc3339).transpose()?, until.map(options::rfc3339).transpose()?);
        Ok(audit::Filter {
            actor: actor.unwrap_or_default(),
            kind: kind.unwrap_or_default(),
            subject: subject.unwrap_or_default(),
            product: product.unwrap_or_default(),
            since,
            until,
        })
    }
}

/// So many of a list are shown.
const SHOWN_ITEMS: usize = 3;

fn row(line: &audit::Line, now: OffsetDateTime) -> [Cell; 5] {
    [
        Cell::new(Tone::Dim, ago(&line.at, now)),
        Cell::from(&line.actor.name),
        Cell::from(&line.action),
        Cell::from(&line.subject),
        Cell::or_dash(Some(change(line.before.as_ref(), line.after.as_ref()))),
    ]
}

/// The fields that changed, in one line: `state running -> aborted, channel stable -> beta`.
fn change(before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        // The devices of a bulk operation; all of them are in the export.
        Some(Value::Array(items)) if items.len() > SHOWN_ITEMS => {
            let shown = items.iter().take(SHOWN_ITEMS).map(|item| item.as_str().unwrap_or("…"));
            let shown = shown.collect::<Vec<_>>().join(", ");
            format!("{shown} and {} more", items.len() - SHOWN_ITEMS)
        }
        Some(other) => other.to_string(),
    };
    let (before, after) = match (before, after) {
        // What was made: its fields.
        (None, Some(Value::Object(after))) => {
            let told = after.iter().filter(|(_, value)| !value.is_object() && !value.is_null());
            let told = told.map(|(name, value)| format!("{name} {}", text(Some(value))));
            return told.collect::<Vec<_>>().join(", ");
        }
        (Some(Value::Object(before)), Some(Value::Object(after))) => (before, after),
        _ => return String::new(),
    };
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    // Larger values (a plan) are in the export.
    let changed = changed.filter(|(name, value)| {
        !value.is_object() && before.get(*name).is_none_or(|before| !before.is_object())
    });
    let changed =
        changed.map(|(name, value)| format!("{name} {} -> {}", text(before.get(name)), text(Some(value))));
    changed.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_read_as_one_line() {
        let (before, after) = (
            json!({ "state": "running", "note": null, "plan": {} }),
            json!({ "state": "aborted", "note": "x", "plan": { "waves": [] } }),
        );
        assert_eq!(change(Some(&before), Some(&after)), "state running -> aborted, note - -> x");
        assert_eq!(change(None, Some(&after)), "state aborted, note x");
        let many = json!({ "ids": ["a", "b", "c", "d", "e"] });
        assert_eq!(change(None, Some(&many)), "ids a, b, c and 2 more");
        let made = json!({ "name": "ci", "role": "publisher", "product": null });
        assert_eq!(change(None, Some(&made)), "name ci, role publisher");
    }
}
