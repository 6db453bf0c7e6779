//! `pitstop webhook`: a backend of one's own is told what happens.

use api::webhook::{Delivery, NewWebhook, Webhook};
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use crate::client::Connection;
use crate::commands::consent::Consent;
use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop webhook new https://backend.example/pitstop
  pitstop webhook new https://backend.example/pitstop --product lamp --event rollout.halt --event rollout.wait

What is sent is signed with the secret that is shown once: Standard Webhooks
1.0.0, for which there are libraries in many languages. docs/operations.md has
the events and what is sent.";

/// Webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Add a webhook; the secret that signs what is sent is shown this once
    #[command(after_help = NEW_EXAMPLES)]
    New(New),

    /// List the webhooks
    List(List),

    /// Show what was sent to a webhook, and what is still to be sent
    Deliveries(Deliveries),

    /// Send a webhook an event of its own, to see that it takes it
    Test(One),

    /// Remove a webhook; what was not delivered yet is not sent any more
    #[command(visible_alias = "delete")]
    Remove(Remove),
}

/// `webhook new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// Where requests go: https, or http for a backend on the server's machine
    #[arg(value_name = "URL")]
    target: String,

    /// Send by http to another machine too: what is sent is signed, but whoever is on the way reads it
    #[arg(long)]
    allow_http: bool,

    /// An event that it is told, such as rollout.halt; may be given more than once [default: all]
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,

    /// The one product that it is about [default: all]
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    #[command(flatten)]
    connection: Connection,
}

/// `webhook list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
}

/// `webhook remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    one: One,

    #[command(flatten)]
    consent: Consent,
}

/// `webhook test`, and the webhook of `webhook remove`.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the webhook, as `pitstop webhook list` shows it
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    connection: Connection,
}

/// `webhook deliveries`.
#[derive(Debug, Args)]
pub(crate) struct Deliveries {
    /// Id of the webhook, as `pitstop webhook list` shows it
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

impl WebhookCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(New { target: url, allow_http, events, product, connection }) => {
                let made =
                    connection.client()?.create_webhook(&NewWebhook { url, allow_http, events, product })?;
                ui.result(&made, || {
                    let id = &made.webhook.id;
                    Page::titled(format!("Added the webhook {id}"))
                        .facts([
                            ("secret", Cell::new(Tone::Good, &made.secret)),
                            ("url", Cell::from(&made.webhook.url)),
                            ("product", Cell::from(scope(&made.webhook))),
                            ("events", Cell::from(made.webhook.events.join(", "))),
                        ])
                        .note("The secret is shown this once. Verify with it that a request is Pitstop's.")
                        .next(
                            "To see that it arrives:",
                            [
                                format!("pitstop webhook test {id}"),
                                format!("pitstop webhook deliveries {id}"),
                            ],
                        )
                })
            }
            Self::List(List { connection }) => {
                let webhooks = connection.client()?.webhooks()?;
                ui.result(&webhooks, || {
                    if webhooks.items.is_empty() {
                        let command = "pitstop webhook new https://backend.example/pitstop";
                        return Page::plain().next("No webhooks yet. Add one:", [command]);
                    }
                    let now = OffsetDateTime::now_utc();
                    let rows = webhooks.items.iter().map(|listed| {
                        let webhook = &listed.webhook;
                        let is_stuck = listed.waiting > 0;
                        [
                            Cell::from(&webhook.id),
                            Cell::from(&webhook.url),
                            Cell::from(scope(webhook)),
                            webhook.events.len().to_string().into(),
                            Cell::new(
                                if is_stuck { Tone::Warn } else { Tone::Dim },
                                listed.waiting.to_string(),
                            ),
                            Cell::or_dash(listed.next_try_at.as_ref()),
                            ago(&webhook.created_at, now).into(),
                        ]
                    });
                    Page::plain()
                        .table(["ID", "URL", "PRODUCT", "EVENTS", "WAITING", "NEXT TRY", "MADE"], rows)
                })
            }
            Self::Deliveries(Deliveries { id, limit, connection }) => {
                let deliveries = connection.client()?.deliveries(&id, limit)?;
                ui.result(&deliveries, || {
                    if deliveries.items.is_empty() {
                        return Page::plain().next(
                            "Nothing was sent to it yet. Send it something:",
                            [format!("pitstop webhook test {id}")],
                        );
                    }
                    let now = OffsetDateTime::now_utc();
                    let rows = deliveries.items.iter().map(|delivery| {
                        [
                            Cell::new(Tone::Dim, ago(&delivery.at, now)),
                            Cell::from(&delivery.event),
                            state(delivery),
                            delivery.tries.to_string().into(),
                            Cell::or_dash(delivery.next_try_at.as_ref()),
                            Cell::or_dash(delivery.error.as_ref()),
                        ]
                    });
                    let page = Page::plain()
                        .table(["AT", "EVENT", "STATE", "TRIES", "NEXT TRY", "LAST ERROR"], rows);
                    if deliveries.next_cursor.is_some() { page.more(limit) } else { page }
                })
            }
            Self::Test(One { id, connection }) => {
                let webhook = connection.client()?.test_webhook(&id)?;
                ui.result(&webhook, || {
                    Page::titled("The event webhook.test is on its way")
                        .next("To see what became of it:", [format!("pitstop webhook deliveries {id}")])
                })
            }
            Self::Remove(Remove { one: One { id, connection }, consent }) => {
                let client = connection.client()?;
                let webhooks = client.webhooks()?.items;
                let whose = webhooks.iter().map(|listed| &listed.webhook).find(|webhook| webhook.id == id);
                let whose = whose.map_or_else(String::new, |webhook| format!(" to {}", webhook.url));
                consent.to(&format!(
                    "Remove 1 webhook, {id}{whose}? What was not delivered yet is not sent any more, and its secret is \
                     gone."
                ))?;
                let webhook = client.remove_webhook(&id)?;
                ui.result(&webhook, || Page::titled(format!("Removed the webhook {id}, {}", webhook.url)))
            }
        }
    }
}

fn scope(webhook: &Webhook) -> &str {
    webhook.product.as_deref().unwrap_or("all")
}

fn state(delivery: &Delivery) -> Cell {
    let tone = match delivery.state.as_str() {
        "delivered" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Warn,
    };
    Cell::new(tone, &delivery.state)
}
