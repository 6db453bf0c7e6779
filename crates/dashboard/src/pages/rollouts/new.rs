//! The form for a new rollout.

use api::product::Product;
use api::release::Release;
use api::rollout::Rollout;
use axum::extract::Query as Params;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::{Failed, Query, segment};
use crate::form::{Fields, Form};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Column};
use crate::view;

/// Rows of the form; a wave is what one of them has filled in.
const WAVES: usize = 5;
/// What the form begins with: devices, soak.
const PRESET: [(&str, &str); WAVES] =
    [("1 %", "1 h"), ("10 %", "4 h"), ("50 %", "1 d"), ("100 %", "1 d"), ("", "")];
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const WAVE_COLUMNS: [Column; 4] = [("Wave", ""), ("Devices", ""), ("Soak", ""), ("By hand", "")];
/// Limits of all waves: field, label, what the form begins with.
const LIMITS: [(&str, &str, &str); 4] = [
    ("failures_percent", "Failures, %", "5"),
    ("crashes_percent", "Crashes, %", "2"),
    ("silence_percent", "Silence, %", "5"),
    ("min_sample", "From so many devices on", "10"),
];

/// Evidence of all waves: field, label, what the form begins with.
const EVIDENCE: [(&str, &str, &str); 2] =
    [("min_healthy", "Devices at least", "3"), ("min_healthy_percent", "And of the wave, %", "50")];
/// When it is completed: field, label, what the form begins with.
const COMPLETED: (&str, &str, &str) = ("completed_percent", "Completed when so many have it, %", "100");

#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::pages) struct Choice {
    product: String,
    sequence: String,
}

pub(in crate::pages) async fn new(session: Session, Params(choice): Params<Choice>) -> Response {
    session.answer(page(&session, &choice.product, &choice.sequence, &Fields::default()).await)
}

pub(in crate::pages) async fn create(form: Form) -> Response {
    let Form { session, fields } = form;
    let body = match request(&fields) {
        Ok(body) => body,
        Err(failed) => return again(&session, &fields, failed).await,
    };
    match session.api().post::<Rollout>("/rollouts", None, &body).await {
        Ok(rollout) => Redirect::to(&format!("/rollouts/{}", segment(&rollout.id))).into_response(),
        Err(failed) => again(&session, &fields, failed).await,
    }
}

/// The form with what was typed, below what was wrong with it.
async fn again(session: &Session, fields: &Fields, failed: Failed) -> Response {
    let page = page(session, fields.text("product"), fields.text("sequence"), fields);
    session.answer_change(Err::<(), _>(failed), "/rollouts", page).await
}

/// What the API is asked for.
fn request(fields: &Fields) -> Result<Value, Failed> {
    let sequence = fields.text("sequence");
    let sequence: i64 = sequence
        .parse()
        .map_err(|_| Failed::invalid(format!("expected a release's number, found {sequence:?}")))?;
    let limits = numbers(fields, &LIMITS)?;
    let evidence = numbers(fields, &EVIDENCE)?;
    let mut waves = Vec::new();
    for index in 0..WAVES {
        let Some(devices) = fields.filled(&format!("wave{index}")) else { continue };
        let approval =
            if fields.filled(&format!("approve{index}")).is_some() { "manual" } else { "automatic" };
        waves.push(json!({
            "select": select(devices)?,
            "soak_s": soak(fields.text(&format!("soak{index}")))?,
            "approval": approval,
            "limits": limits,
            "evidence": evidence,
        }));
    }
    if waves.is_empty() {
        return Err(Failed::invalid("expected at least one wave, such as 100 %, found none"));
    }
    let window = match (fields.filled("from"), fields.filled("to")) {
        (None, None) => Value::Null,
        (Some(from), Some(to)) => {
            let days = fields.each("day").collect::<Vec<_>>();
            let days = if days.is_empty() { DAYS.to_vec() } else { days };
            json!({ "days": days, "from": from, "to": to })
        }
        _ => return Err(Failed::invalid("expected both ends of the window, or neither, found one")),
    };
    let on_halt = if fields.text("on_halt") == "revert" { "revert" } else { "pause" };
    let mut plan = numbers(fields, &[COMPLETED])?;
    plan.extend([
        ("waves".to_owned(), Value::from(waves)),
        ("window".to_owned(), window),
        ("on_halt".to_owned(), on_halt.into()),
    ]);
    Ok(json!({
        "product": fields.text("product"),
        "sequence": sequence,
        "plan": plan,
        "start": fields.text("start") != "no",
    }))
}

/// `10 %` or `10`: a share. Everything else: tags.
fn select(devices: &str) -> Result<Value, Failed> {
    let number = devices.trim_end_matches('%').trim();
    if let Ok(percent) = number.parse::<f64>() {
        if percent > 0.0 && percent <= 100.0 {
            return Ok(json!({ "percent": percent }));
        }
        return Err(Failed::invalid(format!("expected more than 0 % and at most 100 %, found {devices:?}")));
    }
    if devices.contains('%') {
        return Err(Failed::invalid(format!("expected a share such as 10 %, found {devices:?}")));
    }
    let tags = devices.split([',', ' ']).filter(|tag| !tag.is_empty()).collect::<Vec<_>>();
    Ok(json!({ "tags": tags }))
}

/// `90 min`, `1 h`, `2 d`, `45 s`; a number alone is seconds, nothing is none.
fn soak(text: &str) -> Result<i64, Failed> {
    const UNITS: [(&str, i64); 6] =
        [("min", 60), ("m", 60), ("s", 1), ("h", 3600), ("d", 86_400), ("w", 604_800)];
    if text.is_empty() {
        return Ok(0);
    }
    let (number, unit_s) =
        UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    number
        .trim()
        .parse::<i64>()
        .ok()
        .filter(|number| *number >= 0)
        .and_then(|number| number.checked_mul(unit_s))
        .ok_or_else(|| {
            Failed::invalid(format!("expected a soak time such as 90 min, 4 h or 1 d, found {text:?}"))
        })
}

/// The fields that are filled in, as numbers.
fn numbers(fields: &Fields, of: &[(&str, &str, &str)]) -> Result<Map<String, Value>, Failed> {
    let mut numbers = Map::new();
    for (name, label, _) in of {
        let Some(text) = fields.filled(name) else { continue };
        let number: Value = if ["min_sample", "min_healthy"].contains(name) {
            text.parse::<u32>().map(Value::from).map_err(|_| text)
        } else {
            text.parse::<f64>().map(Value::from).map_err(|_| text)
        }
        .map_err(|text| Failed::invalid(format!("{label}: expected a number, found {text:?}")))?;
        numbers.insert((*name).to_owned(), number);
    }
    Ok(numbers)
}

/// `typed` is what was sent before, if something was.
async fn page(session: &Session, product: &str, sequence: &str, typed: &Fields) -> Result<Page, Failed> {
    let products: Vec<Product> = session.api().all("/products", &Query::new()).await?;
    let product =
        if product.is_empty() { products.first().map_or("", |product| &product.name) } else { product };
    let releases: Vec<Release> = if product.is_empty() {
        Vec::new()
    } else {
        session.api().all(&format!("/products/{}/releases", segment(product)), &Query::new()).await?
    };
    let body = html! {
        p.crumbs { a href="/rollouts" { "Rollouts" } }
        h1 { "New rollout" }
        @if products.len() > 1 {
            form.filters method="get" action="/rollouts/new" {
                div.field {
                    label for="choose" { "Product" }
                    select #choose name="product" {
                        @for one in &products { (view::option(&one.name, &one.name, one.name == product)) }
                    }
                }
                div.field.buttons { button type="submit" { "Choose" } }
            }
        }
        @if releases.is_empty() {
            (view::empty(
                "No release yet",
                "A rollout brings a release to devices. Publish one:",
                &[&format!("pitstop release publish app.bin --product {product} --key publisher.key")],
            ))
        } @else {
            (form(session, product, sequence, &releases, typed))
        }
    };
    Ok(Page { title: "New rollout".to_owned(), section: Section::Rollouts, body })
}

fn form(session: &Session, product: &str, sequence: &str, releases: &[Release], typed: &Fields) -> Markup {
    let is_new = typed.filled("product").is_none();
    let value = |name: &str, preset: &str| {
        if is_new { preset.to_owned() } else { typed.text(name).to_owned() }
    };
    html! {
        form.stack.rollout method="post" action="/rollouts" {
            (session.csrf_field())
            input type="hidden" name="product" value=(product);
            div.field {
                label for="sequence" { "Release of " (product) }
                select #sequence name="sequence" {
                    @for release in releases {
                        (view::option(
                            &release.sequence.to_string(),
                            &format!("{} (number {}, channel {})", release.version, release.sequence, release.channel),
                            release.sequence.to_string() == sequence,
                        ))
                    }
                }
            }
            fieldset {
                legend { "Waves" }
                p.muted {
                    "Each wave has the devices of the ones before it. Devices: a share, such as 10 %, or tags. By hand: somebody "
                    "approves it."
                }
                (table::table("Waves", &WAVE_COLUMNS, PRESET.iter().enumerate().map(|(index, preset)| {
                    wave_row(index, preset, typed, &value)
                })))
            }
            fieldset {
                legend { "Next wave opens with so many healthy" }
                div.grid {
                    @for (name, label, preset) in EVIDENCE.into_iter().chain([COMPLETED]) {
                        div.field {
                            label for=(name) { (label) }
                            input #(name) name=(name) value=(value(name, preset)) inputmode="decimal" size="6"
                                autocomplete="off";
                        }
                    }
                }
            }
            fieldset {
                legend { "Halts at" }
                div.grid {
                    @for (name, label, preset) in LIMITS {
                        div.field {
                            label for=(name) { (label) }
                            input #(name) name=(name) value=(value(name, preset)) inputmode="decimal" size="6"
                                autocomplete="off";
                        }
                    }
                    div.field {
                        label for="on_halt" { "Devices that have it then" }
                        select #on_halt name="on_halt" {
                            (view::option("pause", "keep it", typed.text("on_halt") != "revert"))
                            (view::option("revert", "go back where allowed", typed.text("on_halt") == "revert"))
                        }
                    }
                }
            }
            fieldset {
                legend { "Window, in UTC; empty: at any time" }
                div.grid {
                    div.field {
                        label for="from" { "From" }
                        input #from name="from" type="time" value=(typed.text("from"));
                    }
                    div.field {
                        label for="to" { "To" }
                        input #to name="to" type="time" value=(typed.text("to"));
                    }
                }
                div.checks {
                    @for day in DAYS {
                        label {
                            input type="checkbox" name="day" value=(day)
                                checked[is_new || typed.each("day").any(|typed| typed == day)];
                            (day)
                        }
                    }
                }
            }
            div.buttons {
                button.primary type="submit" name="start" value="yes" { "Create and start" }
                button type="submit" name="start" value="no" { "Create as draft" }
            }
        }
    }
}

fn wave_row(
    index: usize,
    (devices, soak): &(&str, &str),
    typed: &Fields,
    value: &impl Fn(&str, &str) -> String,
) -> table::Row {
    let number = index + 1;
    let (wave, soak_field, approve) =
        (format!("wave{index}"), format!("soak{index}"), format!("approve{index}"));
    table::row([
        html! { (number) },
        html! {
            input name=(wave) value=(value(&wave, devices)) size="12" autocomplete="off" autocapitalize="none"
                aria-label={ "Devices of wave " (number) };
        },
        html! {
            input name=(soak_field) value=(value(&soak_field, soak)) size="6" autocomplete="off"
                aria-label={ "Soak time of wave " (number) };
        },
        html! {
            input type="checkbox" name=(approve) value="yes" checked[typed.filled(&approve).is_some()]
                aria-label={ "Approve wave " (number) " by hand" };
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_shares_or_tags() {
        assert_eq!(select("10 %").unwrap(), json!({ "percent": 10.0 }));
        assert_eq!(select("0.5").unwrap(), json!({ "percent": 0.5 }));
        assert_eq!(select("lab, office").unwrap(), json!({ "tags": ["lab", "office"] }));
        for wrong in ["0", "101 %", "-1", "x %", "NaN", "inf"] {
            let Err(Failed::Refused(problem)) = select(wrong) else { panic!("{wrong} was taken") };
            assert!(problem.detail.contains("expected"), "{}", problem.detail);
        }
    }

    #[test]
    fn soak_times_have_units() {
        for (text, seconds) in
            [("", 0), ("45", 45), ("90 min", 5400), ("5m", 300), ("4 h", 14_400), ("1d", 86_400)]
        {
            assert_eq!(soak(text).unwrap(), seconds, "{text}");
        }
        for wrong in ["soon", "-1 h", "1 y", "9223372036854775807 w"] {
            assert!(soak(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_form_becomes_a_plan() {
        let form = "product=lamp&sequence=3&wave0=lab&soak0=1+h&wave2=100&approve2=yes&failures_percent=5&\
                    min_sample=10&min_healthy=4&completed_percent=95&from=22%3A00&to=06%3A00&day=mon&day=tue&on_halt=revert&start=no";
        let body = request(&Fields::parse(form.as_bytes())).unwrap();
        let limits = json!({ "failures_percent": 5.0, "min_sample": 10 });
        let evidence = json!({ "min_healthy": 4 });
        assert_eq!(
            body,
            json!({
                "product": "lamp", "sequence": 3, "start": false,
                "plan": {
                    "waves": [
                        {
                            "select": { "tags": ["lab"] }, "soak_s": 3600, "approval": "automatic", "limits": limits,
                            "evidence": evidence,
                        },
                        {
                            "select": { "percent": 100.0 }, "soak_s": 0, "approval": "manual", "limits": limits,
                            "evidence": evidence,
                        },
                    ],
                    "completed_percent": 95.0,
                    "window": { "days": ["mon", "tue"], "from": "22:00", "to": "06:00" },
                    "on_halt": "revert",
                },
            })
        );
    }
}
