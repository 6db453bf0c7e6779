//! One rollout.

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{progress, state};
use crate::api::{Failed, segment};
use crate::form::Form;
use crate::model::{Evidence, Halt, Limits, Plan, PlanWave, Rollout, RolloutState, Select, WaveState};
use crate::page::{Page, Section};
use crate::session::Session;
use crate::view::{self, Tone, badge, number, percent, when};

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
            @if let Some(next) = &rollout.next { span { (next) } }
            @if let Some(newer) = &rollout.superseded_by {
                a href={ "/rollouts/" (segment(newer)) } { "the newer rollout" }
            }
            @if session.role().operates() { (actions(session, rollout)) }
        }
        @if let Some(halt) = &rollout.halt { (halted(halt, rollout.state)) }
    }
}

/// Waves and counters: replaced at every change.
pub(super) fn waves_part(session: &Session, rollout: &Rollout) -> Markup {
    view::table(
        "Waves",
        html! {
            thead {
                tr {
                    th { "Wave" } th { "Devices" } th { "State" } th.grow { "Progress" } th.num { "Offered" }
                    th.num { "Installed" } th.num { "Healthy" } th.num { "Failed" } th.num { "Crashed" }
                    th.num { "Silent" } th.num { "Unheard" }
                }
            }
            tbody {
                @for wave in &rollout.waves {
                    @let counters = wave.counters;
                    tr.open[wave.state == "open"] {
                        td { (wave.index + 1) }
                        td {
                            @if let Some(planned) = rollout.plan.waves.get(wave.index) { (who(&planned.select)) }
                            @if let Some(devices) = wave.devices { " (" (view::count(devices, "device")) ")" }
                            @if let Some(device) = &wave.stand_in {
                                ", for which " a.id href={ "/devices/" (segment(device)) } { (device) } " stands in"
                            }
                        }
                        td {
                            (badge(wave_tone(&wave.state), &wave.state))
                            @if let Some(at) = &wave.started_at { " " (when(at, session.now)) }
                        }
                        td.grow { (progress(counters)) }
                        td.num { (number(counters.offered)) }
                        td.num { (number(counters.installed)) }
                        td.num { (healthy(wave)) }
                        td.num.hot[counters.failed > 0] { (number(counters.failed)) }
                        td.num.hot[counters.crashed > 0] { (number(counters.crashed)) }
                        td.num.hot[counters.silent > 0] { (number(counters.silent)) }
                        td.num { (number(counters.unheard)) }
                    }
                }
            }
        },
    )
}

/// How many are healthy, and of an open wave how many have to be.
fn healthy(wave: &WaveState) -> String {
    let healthy = number(wave.counters.healthy);
    match wave.needed.filter(|_| wave.state == "open") {
        Some(needed) => format!("{healthy} ({} needed)", number(needed)),
        None => healthy,
    }
}

fn wave_tone(state: &str) -> Tone {
    match state {
        "open" => Tone::Busy,
        "done" => Tone::Good,
        _ => Tone::Plain,
    }
}

fn who(select: &Select) -> String {
    match select {
        Select::Percent(share) => percent(*share),
        Select::Tags(tags) => format!("tagged {}", tags.join(" or ")),
    }
}

fn halted(halt: &Halt, state: RolloutState) -> Markup {
    let what = match halt.cause.as_str() {
        "failures" => "failed to install",
        "crashes" => "crashed",
        "silence" => "took the release and were not seen again",
        other => other,
    };
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let share = 100.0 * halt.observed as f64 / halt.sample.max(1) as f64;
    html! {
        div class={ "callout " @if state == RolloutState::Halted { "bad" } @else { "plain" } } {
            p {
                strong { "It halted itself: " (halt.cause) ". " }
                (number(halt.observed)) " of " (view::count(halt.sample, "device")) " "
                "(" (format!("{share:.1}")) " %) of wave " (halt.wave + 1) " " (what)
                "; the limit is " (percent(halt.limit_percent)) ". " (view::timestamp(&halt.at))
            }
            @if !halt.devices.is_empty() {
                ul.chips aria-label="Devices that did it" {
                    @for device in &halt.devices {
                        li { a.id href={ "/devices/" (segment(device)) } { (device) } }
                    }
                }
            }
        }
    }
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
        RolloutState::Draft => &[START, ABORT],
        // While a wave soaks none is approved.
        RolloutState::Running if rollout.soaks_until.is_some() => &[PAUSE, ABORT],
        RolloutState::Running | RolloutState::AwaitingApproval => &[APPROVE, PAUSE, ABORT],
        RolloutState::Open => &[PAUSE, ABORT],
        RolloutState::Paused | RolloutState::Halted => &[RESUME, ABORT],
        RolloutState::Aborted | RolloutState::Completed | RolloutState::Superseded => &[],
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
    let Plan { waves, window, on_halt, completed_percent } = &rollout.plan;
    let window = window.as_ref().map(|window| {
        let days = if window.days.is_empty() { "every day".to_owned() } else { window.days.join(", ") };
        html! { (days) " from " (window.from) " to " (window.to) " UTC" }
    });
    let on_halt = match on_halt.as_deref() {
        Some("revert") => "devices go back where the manifest allows it",
        Some(_) | None => "nothing new is offered; an operator decides",
    };
    html! {
        (view::table("Plan", html! {
            thead {
                tr {
                    th { "Wave" } th { "Devices" } th { "Soak" } th { "Evidence" } th { "Opens" } th { "Halts at" }
                }
            }
            tbody {
                @for (index, wave) in waves.iter().enumerate() {
                    tr {
                        td { (index + 1) }
                        td { (who(&wave.select)) }
                        td { (view::exact_duration(wave.soak_s)) }
                        td { @if let Some(evidence) = &wave.evidence { (evidence_text(evidence)) } @else { "the default" } }
                        td { (opens(index, wave)) }
                        td { @if let Some(limits) = &wave.limits { (limits_text(limits)) } @else { "the defaults" } }
                    }
                }
            }
        }))
        (view::facts([
            ("When it halts", view::some(on_halt)),
            (
                "Completed when",
                completed_percent.map(|share| html! { (percent(share)) " of the devices that came have it" }),
            ),
            (
                "Waiting",
                rollout.release.requires.zip(rollout.waiting).map(|(required, waiting)| html! {
                    (view::count(waiting, "device")) " with less than release #" (required) ", which it requires"
                }),
            ),
            ("Window", Some(window.unwrap_or_else(|| html! { "at any time" }))),
            ("Created", Some(when(&rollout.created_at, session.now))),
            ("Started", rollout.started_at.as_deref().map(|at| when(at, session.now))),
            ("Finished", rollout.finished_at.as_deref().map(|at| when(at, session.now))),
        ]))
    }
}

fn opens(index: usize, wave: &PlanWave) -> &'static str {
    match (index, wave.approval.as_deref()) {
        (0, _) => "at the start",
        (_, Some("manual")) => "when somebody approves it",
        (_, Some(_) | None) => "by itself, after soak and evidence before it",
    }
}

fn evidence_text(evidence: &Evidence) -> String {
    let parts = [
        evidence.min_healthy.map(|count| format!("{count} healthy")),
        evidence.min_healthy_percent.map(|share| format!("{} of the wave", percent(share))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn limits_text(limits: &Limits) -> String {
    let parts = [
        limits.failures_percent.map(|limit| format!("failures {}", percent(limit))),
        limits.crashes_percent.map(|limit| format!("crashes {}", percent(limit))),
        limits.silence_percent.map(|limit| format!("silence {}", percent(limit))),
        limits.min_sample.map(|sample| format!("from {} on", view::count(sample, "device"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
