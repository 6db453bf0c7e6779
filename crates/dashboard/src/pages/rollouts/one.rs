//! One rollout.

use ::rollout::{Approval, Cause, Evidence, Limits, OnHalt, Select, State, Wave};
use api::rollout::{Rollout, RolloutHalt, RolloutWave, WaveState};
use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{counter, progress, state};
use crate::api::{Failed, Query, segment};
use crate::form::Form;
use crate::page::{Page, Section};
use crate::session::Session;
use crate::table::{self, Column};
use crate::view::{self, Tone, badge, number, when};

const WAVES: [Column; 11] = [
    ("Wave", ""),
    ("Devices", "wrap"),
    ("State", ""),
    ("Progress", "grow"),
    ("Offered", "num"),
    ("Installed", "num"),
    ("Healthy", "num"),
    ("Failed", "num"),
    ("Crashed", "num"),
    ("Silent", "num"),
    ("Unheard", "num"),
];
const PLAN: [Column; 6] = [
    ("Wave", ""),
    ("Devices", "wrap"),
    ("Soak", ""),
    ("Evidence", "wrap"),
    ("Opens", "wrap"),
    ("Halts at", "wrap"),
];

pub(in crate::pages) async fn show(session: Session, Path(id): Path<String>) -> Response {
    session.answer(page(&session, &id).await)
}

/// Start, pause, resume, abort, approve.
pub(in crate::pages) async fn act(Path((id, action)): Path<(String, String)>, form: Form) -> Response {
    let Form { session, fields } = form;
    let to = format!("/rollouts/{}", segment(&id));
    let path = format!("{to}/{}", segment(&action));
    let change: Result<Value, _> = session.api().post(&path, fields.filled("revision"), &json!({})).await;
    session.answer_change(change, &to, page(&session, &id)).await
}

async fn page(session: &Session, id: &str) -> Result<Page, Failed> {
    let rollout: Rollout = session.api().get(&format!("/rollouts/{}", segment(id))).await?;
    let release = format!("/releases/{}/{}", segment(&rollout.product), rollout.release.sequence);
    let body = html! {
        p.crumbs { a href="/rollouts" { "Rollouts" } }
        div sse-connect={ "/rollouts/" (segment(id)) "/live" } {
            div.head {
                h1 { (rollout.product) " " (rollout.release.version) }
            }
            p.sub {
                a href=(release) { "Release " (rollout.release.sequence) } " to channel " strong { (rollout.channel) }
                " · " code { (rollout.id) }
            }
            div #state sse-swap="state" aria-live="polite" { (state_part(session, &rollout)) }
            div #waves sse-swap="waves" { (waves_part(session, &rollout)) }
        }
        section { h2 { "Plan" } (plan(session, &rollout)) }
    };
    let title = format!("Rollout of {} {}", rollout.product, rollout.release.version);
    Ok(Page { title, section: Section::Rollouts, body })
}

/// State, what comes next, and what one may do: replaced only when one of them changes, so that an open question stays.
pub(super) fn state_part(session: &Session, rollout: &Rollout) -> Markup {
    html! {
        div.state-line {
            (state(rollout.state))
            span { (rollout.next) }
            @if let Some(newer) = &rollout.superseded_by {
                a href={ "/rollouts/" (segment(newer)) } { "the newer rollout" }
            }
            @if session.role().operates() { (actions(session, rollout)) }
        }
        @if let Some(halt) = &rollout.halt { (halted(halt, rollout)) }
    }
}

/// Waves and counters: replaced at every change.
pub(super) fn waves_part(session: &Session, rollout: &Rollout) -> Markup {
    let has_any = rollout.waves.iter().any(|wave| wave.counters.offered > 0);
    html! {
        @if let Some(halt) = &rollout.halt { (halt_devices(halt, rollout)) }
        (table::table("Waves", &WAVES, rollout.waves.iter().map(|wave| wave_row(session, rollout, wave))))
        @if has_any {
            p.sub {
                "Each number leads to its devices. A device that was offered another release since is counted, but not "
                "in the list any more."
            }
        }
    }
}

fn wave_row(session: &Session, rollout: &Rollout, wave: &RolloutWave) -> table::Row {
    let counters = wave.counters;
    let count = |attempt: &str, count: u64| counter(rollout, Some(wave.index), attempt, count);
    let bad = |attempt: &str, number: u64| html! { span.hot[number > 0] { (count(attempt, number)) } };
    let devices = html! {
        @if let Some(planned) = rollout.plan.waves().get(wave.index) { (who(&planned.select)) }
        @if let Some(devices) = wave.devices { " (" (view::count(devices, "device")) ")" }
        @if let Some(device) = &wave.stand_in {
            ", for which " a.id href={ "/devices/" (segment(device)) } { (device) } " stands in"
        }
    };
    let state = html! {
        (badge(wave_tone(wave.state), wave.state.name()))
        @if let Some(at) = &wave.started_at { " " (when(at, session.now)) }
    };
    let healthy = html! {
        (count("healthy", counters.healthy))
        @if let Some(needed) = wave.needed.filter(|_| wave.state == WaveState::Open) {
            " (" (number(needed)) " needed)"
        }
    };
    table::row([
        html! { (wave.index + 1) },
        devices,
        state,
        progress(counters, wave.devices),
        count("", counters.offered),
        count("installed", counters.installed),
        healthy,
        bad("failed", counters.failed),
        bad("crashed", counters.crashed),
        bad("silent", counters.silent),
        count("unheard", counters.unheard),
    ])
    .with_class(if wave.state == WaveState::Open { "open" } else { "" })
}

fn wave_tone(state: WaveState) -> Tone {
    match state {
        WaveState::Open => Tone::Busy,
        WaveState::Done => Tone::Good,
        WaveState::Waiting => Tone::Plain,
    }
}

fn who(select: &Select) -> String {
    match select {
        Select::Percent(share) => share.to_string(),
        Select::Tags(tags) => format!("tagged {}", tags.join(" or ")),
    }
}

fn halted(halt: &RolloutHalt, rollout: &Rollout) -> Markup {
    let what = what(halt.cause);
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let share = 100.0 * halt.observed as f64 / halt.sample.max(1) as f64;
    html! {
        div class={ "callout " @if rollout.state == State::Halted { "bad" } @else { "plain" } } {
            p {
                strong { "It halted itself: " (halt.cause.name()) ". " }
                (number(halt.observed)) " of " (view::count(halt.sample, "device")) " "
                "(" (format!("{share:.1}")) " %) of wave " (halt.wave + 1) " " (what)
                "; the limit is " (halt.limit_percent) ". " (view::timestamp(&halt.at))
            }
        }
    }
}

/// What the devices did that made it halt.
fn what(cause: Cause) -> &'static str {
    match cause {
        Cause::Failures => "failed to install",
        Cause::Crashes => "crashed",
        Cause::Silence => "took the release and were not seen again",
    }
}

/// The way to all devices that made it halt. It stands among the counters, because it changes as they do, and an open question
/// beside the state stays.
fn halt_devices(halt: &RolloutHalt, rollout: &Rollout) -> Markup {
    let what = what(halt.cause);
    let all = Query::new()
        .and("rollout", &rollout.id)
        .and("wave", &halt.wave.to_string())
        .and("attempt", halt.cause.attempt().name())
        .and("epoch", &halt.epoch.to_string())
        .on("/devices");
    // By now they may be more than those that made it halt. Of the time since a resume nobody has the number at hand.
    let counters = rollout.waves.iter().find(|wave| wave.index == halt.wave).map(|wave| wave.counters);
    let by_now = counters.filter(|_| halt.epoch == 0).map(|counters| match halt.cause {
        Cause::Failures => counters.failed,
        Cause::Crashes => counters.crashed,
        Cause::Silence => counters.silent,
    });
    let now = by_now.map_or_else(|| "devices".to_owned(), |count| view::count(count, "device"));
    html! { p { a href=(all) { "Show all " (now) " that " (what) } } }
}

/// An action with its question.
struct Action {
    name: &'static str,
    button: &'static str,
    class: &'static str,
    question: &'static str,
}

const START: Action = Action {
    name: "start",
    button: "Start…",
    class: "primary",
    question: "Devices of the first wave are offered the release at their next check-in.",
};
const APPROVE: Action = Action {
    name: "approve",
    button: "Approve next wave…",
    class: "primary",
    question: "The next wave opens, whatever evidence there is: its devices are offered the release at their next check-in.",
};
const PAUSE: Action = Action {
    name: "pause",
    button: "Pause…",
    class: "",
    question: "No further device is offered the release until somebody resumes. Devices that have it keep it.",
};
const RESUME: Action = Action {
    name: "resume",
    button: "Resume…",
    class: "",
    question: "It goes on with the wave that is open. What made it halt is counted from now on anew.",
};
const ABORT: Action = Action {
    name: "abort",
    button: "Abort…",
    class: "danger",
    question: "It stops for good. Devices that run the release go back where its signed manifest allows that.",
};

fn actions(session: &Session, rollout: &Rollout) -> Markup {
    let possible: &[Action] = match rollout.state {
        State::Draft => &[START, ABORT],
        // While a wave soaks none is approved.
        State::Running if rollout.soaks_until.is_some() => &[PAUSE, ABORT],
        State::Running | State::AwaitingApproval => &[APPROVE, PAUSE, ABORT],
        State::Open => &[PAUSE, ABORT],
        State::Paused | State::Halted => &[RESUME, ABORT],
        State::Aborted | State::Completed | State::Superseded => &[],
    };
    html! {
        div.actions {
            @for action in possible {
                (view::confirm(action.name, action.button, action.class, html! {
                    form method="post" action={ "/rollouts/" (segment(&rollout.id)) "/" (action.name) } {
                        (session.csrf_field())
                        input type="hidden" name="revision" value=(rollout.revision);
                        p { strong { (action.button.trim_end_matches('…')) "?" } }
                        p { (action.question) }
                        div.buttons {
                            button class=(action.class) type="submit" autofocus { (action.button.trim_end_matches('…')) }
                            (view::cancel(action.name))
                        }
                    }
                }))
            }
        }
    }
}

fn plan(session: &Session, rollout: &Rollout) -> Markup {
    let plan = &rollout.plan;
    let window = plan.window().map_or_else(|| "at any time".to_owned(), ToString::to_string);
    let on_halt = match plan.on_halt() {
        OnHalt::Revert => "devices go back where the manifest allows it",
        OnHalt::Pause => "nothing new is offered; an operator decides",
    };
    html! {
        (table::table("Plan", &PLAN, plan.waves().iter().enumerate().map(|(index, wave)| table::row([
            html! { (index + 1) },
            html! { (who(&wave.select)) },
            html! { (view::exact_duration(wave.soak_s)) },
            html! { (evidence_text(&wave.evidence)) },
            html! { (opens(index, wave)) },
            html! { (limits_text(&wave.limits)) },
        ]))))
        (view::facts([
            ("When it halts", view::some(on_halt)),
            (
                "Completed when",
                Some(html! { (plan.completed_percent()) " of the devices that came have it" }),
            ),
            (
                "Waiting",
                rollout.release.requires.zip(rollout.waiting).map(|(required, waiting)| html! {
                    (view::count(waiting, "device")) " with less than release #" (required) ", which it requires"
                }),
            ),
            ("Window", view::some(window)),
            ("Created", Some(when(&rollout.created_at, session.now))),
            ("Started", rollout.started_at.as_deref().map(|at| when(at, session.now))),
            ("Finished", rollout.finished_at.as_deref().map(|at| when(at, session.now))),
        ]))
    }
}

fn opens(index: usize, wave: &Wave) -> &'static str {
    match (index, wave.approval) {
        (0, _) => "at the start",
        (_, Approval::Manual) => "when somebody approves it",
        (_, Approval::Automatic) => "by itself, after soak and evidence before it",
    }
}

fn evidence_text(evidence: &Evidence) -> String {
    let Evidence { min_healthy, min_healthy_percent } = evidence;
    format!("{min_healthy} healthy, {min_healthy_percent} of the wave")
}

fn limits_text(limits: &Limits) -> String {
    let Limits { failures_percent, crashes_percent, silence_percent, min_sample } = limits;
    let sample = view::count(*min_sample, "device");
    format!(
        "failures {failures_percent}, crashes {crashes_percent}, silence {silence_percent}, from {sample} on"
    )
}
