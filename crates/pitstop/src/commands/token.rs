//! `pitstop token`: who may use the API.

use api::access::{ApiToken, NewApiToken, Role};
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Connection;
use crate::commands::consent::Consent;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop token new alice --role operator
  pitstop token new ci --role publisher --product lamp --expires 2027-06-30
  PITSTOP_TOKEN=$(pitstop token new ci --role publisher --json | jq -r .token)

Roles: viewer reads; operator also changes devices and rollouts; publisher reads
and publishes releases; admin does everything.";

/// Among so many the one that is to be revoked is looked for.
const MOST_TOKENS: usize = 1000;

/// API tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is shown this once
    #[command(after_help = NEW_EXAMPLES)]
    New(New),

    /// List the tokens, revoked and expired ones too
    List(List),

    /// Revoke a token: its next request is refused
    Revoke(Revoke),

    /// Delete a token that was revoked or has expired; the audit log keeps its id and name
    Delete(Delete),
}

/// `token new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Whose it is, for people and for the audit log
    #[arg(value_name = "NAME")]
    name: String,

    /// What it may do
    #[arg(long, value_name = "ROLE", value_parser = options::one_of::<Role>(Role::ALL.map(Role::name)))]
    role: Role,

    /// The one product that it is for [default: all]
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// When it stops being good (UTC): 2027-06-30T12:00:00Z, or 2027-06-30 for the end of that day [default: never]
    #[arg(long, value_name = "TIME", value_parser = options::end)]
    expires: Option<OffsetDateTime>,

    #[command(flatten)]
    connection: Connection,
}

/// `token list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// Id of the token, as `pitstop token list` shows it
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// `token delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Id of the token, as `pitstop token list` shows it
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    consent: Consent,

    #[command(flatten)]
    connection: Connection,
}

/// Options of `whoami`.
#[derive(Debug, Args)]
pub(crate) struct Whoami {
    #[command(flatten)]
    connection: Connection,
}

impl TokenCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(New { name, role, product, expires, connection }) => {
                let expires_at = expires.map(options::rfc3339).transpose()?;
                let token = NewApiToken { name, role, product, expires_at };
                let made = connection.client()?.create_token(&token)?;
                ui.result(&made, || {
                    Page::titled(format!("Made a token for {}", made.description.name))
                        .facts([
                            ("token", Cell::new(Tone::Good, &made.token)),
                            ("id", Cell::from(&made.description.id)),
                            ("role", Cell::from(made.description.role.name())),
                            ("product", scope(&made.description)),
                            ("expires", Cell::from(made.description.expires_at.as_deref().unwrap_or("never"))),
                        ])
                        .note("It is shown this once: the server keeps its hash. Give it with --token or PITSTOP_TOKEN.")
                        .next("To take it back:", [format!("pitstop token revoke {}", made.description.id)])
                })
            }
            Self::List(List { limit, connection }) => {
                let tokens = connection.client()?.tokens(limit)?;
                ui.result(&tokens, || {
                    let now = OffsetDateTime::now_utc();
                    let rows = tokens.items.iter().map(|token| {
                        [
                            Cell::from(&token.id),
                            Cell::from(&token.name),
                            Cell::from(token.role.name()),
                            scope(token),
                            state(token, now),
                            ago(&token.created_at, now).into(),
                        ]
                    });
                    let page = Page::plain().table(["ID", "NAME", "ROLE", "PRODUCT", "STATE", "MADE"], rows);
                    if tokens.next_cursor.is_some() { page.more(limit) } else { page }
                })
            }
            Self::Delete(Delete { id, consent, connection }) => {
                let client = connection.client()?;
                consent.to(&format!("Delete the token {id}?"))?;
                let token = client.delete_token(&id)?;
                ui.result(&token, || Page::titled(format!("Deleted the token {id} of {}", token.name)))
            }
            Self::Revoke(Revoke { id, consent, connection }) => {
                let client = connection.client()?;
                let tokens = client.tokens(MOST_TOKENS)?.items;
                let whose = tokens.iter().find(|token| token.id == id);
                let whose =
                    whose.map_or_else(String::new, |token| format!(" of {} ({})", token.name, token.role));
                consent.to(&format!(
                    "Revoke 1 API token, {id}{whose}? It is final: its next request is refused, and its sessions end."
                ))?;
                let token = client.revoke_token(&id)?;
                ui.result(&token, || {
                    Page::titled(format!("Revoked the token {id} of {}", token.name))
                        .note("Its next request is refused.")
                })
            }
        }
    }
}

impl Whoami {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let whoami = self.connection.client()?.whoami()?;
        ui.result(&whoami, || {
            Page::plain().facts([
                ("name", Cell::from(&whoami.name)),
                ("role", Cell::from(whoami.role.name())),
                ("product", Cell::from(whoami.product.as_deref().unwrap_or("all"))),
                ("token id", Cell::from(&whoami.id)),
                ("expires", Cell::from(whoami.expires_at.as_deref().unwrap_or("never"))),
            ])
        })
    }
}

fn scope(token: &ApiToken) -> Cell {
    Cell::from(token.product.as_deref().unwrap_or("all"))
}

fn state(token: &ApiToken, now: OffsetDateTime) -> Cell {
    let expires = token.expires_at.as_deref().and_then(|at| OffsetDateTime::parse(at, &Rfc3339).ok());
    match (&token.revoked_at, expires) {
        (Some(_), _) => Cell::new(Tone::Bad, "revoked"),
        (None, Some(at)) if at <= now => Cell::new(Tone::Warn, "expired"),
        (None, Some(at)) => Cell::from(format!("until {}", at.date())),
        (None, None) => Cell::new(Tone::Good, "good"),
    }
}
