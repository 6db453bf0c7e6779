//! A rollout plan, as options or as a file.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rollout::{Approval, Day, Evidence, Limits, Percent, Plan, TimeOfDay, Wave};
use serde_json::{Map, Value, json};

use crate::commands::options;
use crate::failure::Failure;
use crate::ui::{Cell, Ui};

/// The days of a window that names none.
const ALL_DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

/// The ids of all options of a plan.
pub(super) const OPTIONS: [&str; 11] = [
    "plan",
    "tags",
    "soak",
    "min_healthy",
    "healthy_share",
    "complete_at",
    "approve_each",
    "window",
    "days",
    "on_halt",
    "plan_file",
];

/// Options of every command that takes a plan.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Plan")]
pub(crate) struct PlanOptions {
    /// Shares of the devices, one wave each: '1%,10%,50%,100%'
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = options::share)]
    plan: Vec<Percent>,

    /// A first wave of the devices with any of these tags: lab,office
    #[arg(long, value_name = "TAGS", value_delimiter = ',')]
    tags: Vec<String>,

    /// How long each wave is watched before the next one opens: 30m, 1h, 2d [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    soak: Option<Duration>,

    /// So many devices of a wave, at least, must be healthy before the next one opens; of a smaller wave all
    /// [default: 3]
    #[arg(long, value_name = "N", value_parser = options::count)]
    min_healthy: Option<u64>,

    /// And so large a share of the wave [default: 50%]
    #[arg(long, value_name = "SHARE", value_parser = options::share)]
    healthy_share: Option<Percent>,

    /// Completed when so large a share of the devices that came has the release [default: 100%]
    #[arg(long, value_name = "SHARE", value_parser = options::share)]
    complete_at: Option<Percent>,

    /// Every wave but the first waits for `pitstop rollout approve`
    #[arg(long)]
    approve_each: bool,

    /// Offer the release within these hours (UTC) only: 22:00-06:00
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    window: Option<(TimeOfDay, TimeOfDay)>,

    /// The window opens on these days: sat,sun [default: every day]
    #[arg(long, value_name = "DAYS", value_delimiter = ',', value_parser = day, requires = "window")]
    days: Vec<Day>,

    /// What a halt does to devices that have the release: they keep it (pause), or return where its manifest allows
    #[arg(long, value_name = "WHAT", value_parser = ["pause", "revert"])]
    on_halt: Option<String>,

    /// A plan as JSON, with limits for each wave; in place of the other options
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "plan", "tags", "soak", "min_healthy", "healthy_share", "complete_at", "approve_each",
            "window", "on_halt",
        ]
    )]
    plan_file: Option<PathBuf>,
}

impl PlanOptions {
    /// The plan that the options ask for; `None` when they ask for none.
    pub(crate) fn plan(&self) -> Result<Option<Plan>, Failure> {
        let json = match &self.plan_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::new(format!("the plan {} cannot be read: {error}", path.display()))
                })?;
                serde_json::from_str(&text).map_err(|error| {
                    Failure::new(format!("expected a plan as JSON in {}, found: {error}", path.display()))
                })?
            }
            None => match self.json()? {
                Some(json) => json,
                None => return Ok(None),
            },
        };
        // Judged here as the server judges it.
        serde_json::from_value(json).map(Some).map_err(|error| {
            Failure::usage(format!("the plan cannot be used: {error}")).hint(
                "such as --plan '1%,10%,100%' --soak 1h, or --plan-file with the JSON of docs/rollouts.md",
            )
        })
    }

    fn json(&self) -> Result<Option<Value>, Failure> {
        let Self {
            plan,
            tags,
            soak,
            min_healthy,
            healthy_share,
            complete_at,
            approve_each,
            window,
            days,
            on_halt,
            plan_file: _,
        } = self;
        let is_asked_for = !plan.is_empty()
            || !tags.is_empty()
            || soak.is_some()
            || min_healthy.is_some()
            || healthy_share.is_some()
            || complete_at.is_some()
            || *approve_each
            || window.is_some()
            || on_halt.is_some();
        if !is_asked_for {
            return Ok(None);
        }
        let mut evidence = Map::new();
        if let Some(count) = min_healthy {
            evidence.insert("min_healthy".to_owned(), json!(count));
        }
        if let Some(share) = healthy_share {
            evidence.insert("min_healthy_percent".to_owned(), json!(share));
        }
        // Tags first, then the shares; a plan that names neither brings the release to all.
        let mut selects = Vec::new();
        if !tags.is_empty() {
            selects.push(json!({ "tags": tags }));
        }
        match plan.as_slice() {
            [] => selects.push(json!({ "percent": 100 })),
            shares => selects.extend(shares.iter().map(|share| json!({ "percent": share }))),
        }
        let waves = selects.into_iter().enumerate().map(|(index, select)| {
            let approval = if *approve_each && index > 0 { "manual" } else { "automatic" };
            json!({
                "select": select,
                "soak_s": soak.unwrap_or_default().as_secs(),
                "approval": approval,
                "evidence": evidence,
            })
        });
        let window = window.map(|(from, to)| {
            json!({ "days": if days.is_empty() { &ALL_DAYS[..] } else { days }, "from": from, "to": to })
        });
        Ok(Some(json!({
            "waves": waves.collect::<Vec<_>>(),
            "window": window,
            "on_halt": on_halt.as_deref().unwrap_or("pause"),
            "completed_percent": complete_at.unwrap_or(Percent::ALL),
        })))
    }
}

/// A plan in one line: `tags lab, then 10 %, then 100 %; soak 1h; each but the first approved`.
pub(super) fn in_a_line(plan: &Plan) -> String {
    let waves: Vec<_> = plan.waves().iter().map(|wave| wave.select.to_string()).collect();
    let mut parts = vec![waves.join(", then ")];
    let soaks: Vec<_> = plan.waves().iter().map(|wave| wave.soak_s).filter(|soak_s| *soak_s > 0).collect();
    match (soaks.iter().min(), soaks.iter().max()) {
        (Some(shortest), Some(longest)) if shortest == longest => {
            parts.push(format!("soak {}", time(*longest)))
        }
        (Some(shortest), Some(longest)) => {
            parts.push(format!("soak {} to {}", time(*shortest), time(*longest)));
        }
        (None, _) | (_, None) => {}
    }
    parts.extend(approved(plan).map(|waves| format!("{waves} by approval")));
    parts.extend(plan.window().map(ToString::to_string));
    parts.join("; ")
}

/// What a plan asks for beside its waves and soaks, as facts of a page.
pub(super) fn terms(plan: &Plan) -> Vec<(&'static str, Cell)> {
    let mut terms = Vec::new();
    if let Some(waves) = approved(plan) {
        terms.push(("approval", format!("{waves} by `pitstop rollout approve`").into()));
    }
    let evidence = |wave: &Wave| {
        let Evidence { min_healthy, min_healthy_percent } = &wave.evidence;
        format!("{min_healthy} devices healthy, of fewer all, and {min_healthy_percent}")
    };
    let limits = |wave: &Wave| {
        let Limits { failures_percent, crashes_percent, silence_percent, min_sample } = &wave.limits;
        format!(
            "{failures_percent} failures, {crashes_percent} crashes, {silence_percent} silent or missing, of \
             {min_sample} devices and more"
        )
    };
    terms.push(("evidence", by_wave(plan, evidence).into()));
    terms.push(("limits", by_wave(plan, limits).into()));
    let completed = format!("when {} of the devices that were offered it have it", plan.completed_percent());
    terms.push(("completed", completed.into()));
    terms
}

/// The waves that an operator opens; `None` when all open by themselves.
fn approved(plan: &Plan) -> Option<String> {
    let is_manual = |index: &usize| plan.waves()[*index].approval == Approval::Manual;
    // The first wave opens with the start.
    let manual: Vec<_> = (1..plan.waves().len()).filter(is_manual).collect();
    match manual.as_slice() {
        [] => None,
        all if all.len() + 1 == plan.waves().len() => Some("each wave but the first".to_owned()),
        some => Some(numbers(some)),
    }
}

/// What holds for each wave, said once for those that have it in common.
fn by_wave(plan: &Plan, text: impl Fn(&Wave) -> String) -> String {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, wave) in plan.waves().iter().enumerate() {
        let text = text(wave);
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, waves)) => waves.push(index),
            None => groups.push((text, vec![index])),
        }
    }
    match groups.as_slice() {
        [(text, _)] => text.clone(),
        groups => {
            let each = groups.iter().map(|(text, waves)| format!("{}: {text}", numbers(waves)));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

/// Such as `waves 2, 3`, of indices from 0.
fn numbers(waves: &[usize]) -> String {
    let numbers: Vec<_> = waves.iter().map(|index| (index + 1).to_string()).collect();
    format!("wave{} {}", if waves.len() == 1 { "" } else { "s" }, numbers.join(", "))
}

/// Warns of a plan that leaves devices out.
pub(super) fn warn_of_rest(ui: &Ui, plan: &Plan) {
    if !plan.reaches_all() {
        ui.warning(
            "no wave of the plan takes 100 % of the devices: the others are never offered the release, and what \
             brings them there is a later rollout",
        );
    }
}

/// A time as options take it: `7d`, `1h 30m`, `0s`.
pub(super) fn time(seconds: u64) -> String {
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let text: Vec<_> = parts.map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text.join(" ") }
}

fn hours(text: &str) -> Result<(TimeOfDay, TimeOfDay), String> {
    let parts = text.split_once('-').ok_or("expected two times of day, such as 22:00-06:00")?;
    let time = |text: &str| TimeOfDay::try_from(text.trim().to_owned()).map_err(|error| error.to_string());
    Ok((time(parts.0)?, time(parts.1)?))
}

fn day(text: &str) -> Result<Day, String> {
    serde_json::from_value(Value::from(text.trim().to_lowercase()))
        .map_err(|_| "expected mon, tue, wed, thu, fri, sat or sun".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        plan: PlanOptions,
    }

    fn plan(options: &[&str]) -> Result<Option<Plan>, Failure> {
        Line::try_parse_from([&["x"], options].concat()).unwrap().plan.plan()
    }

    #[test]
    fn options_become_waves() {
        assert_eq!(plan(&[]).unwrap(), None);
        let options = ["--plan", "1%, 10,100%", "--tags", "lab,office", "--soak", "1h", "--approve-each"];
        let json = serde_json::to_value(plan(&options).unwrap().unwrap()).unwrap();
        let waves = json["waves"].as_array().unwrap();
        assert_eq!(waves.len(), 4);
        assert_eq!(waves[0]["select"]["tags"], json!(["lab", "office"]));
        assert_eq!((&waves[0]["approval"], &waves[0]["soak_s"]), (&"automatic".into(), &3600.into()));
        assert_eq!((&waves[2]["select"]["percent"], &waves[2]["approval"]), (&10.0.into(), &"manual".into()));

        let options = ["--plan", "50%,100%", "--min-healthy", "20", "--complete-at", "95%"];
        let json = serde_json::to_value(plan(&options).unwrap().unwrap()).unwrap();
        let evidence = json!({ "min_healthy": 20, "min_healthy_percent": 50.0 });
        assert_eq!((&json["waves"][1]["evidence"], &json["completed_percent"]), (&evidence, &95.0.into()));

        let options = ["--window", "22:00-06:00", "--days", "sat,sun", "--on-halt", "revert"];
        let plan = plan(&options).unwrap().unwrap();
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["window"], json!({ "days": ["sat", "sun"], "from": "22:00", "to": "06:00" }));
        assert_eq!((&json["on_halt"], plan.waves().len()), (&"revert".into(), 1));
    }

    #[test]
    fn plans_that_contradict_themselves_are_usage_errors() {
        for options in [&["--plan", "10%,1%"][..], &["--plan", "0%"], &["--tags", "Lab"]] {
            let failure = plan(options).unwrap_err();
            assert!(failure.message().contains("expected") && failure.next_step().is_some(), "{options:?}");
        }
        for options in [
            &["--plan", "all"][..],
            &["--plan", "200%"],
            &["--window", "night"],
            &["--days", "sat"],
            &["--soak", "long"],
            &["--min-healthy", "0"],
        ] {
            assert!(Line::try_parse_from([&["x"], options].concat()).is_err(), "{options:?}");
        }
    }

    #[test]
    fn a_plan_reads_as_one_line() {
        let text = |options: &[&str]| in_a_line(&plan(options).unwrap().unwrap());
        assert_eq!(text(&["--plan", "1%,100%", "--soak", "90m"]), "1 %, then 100 %; soak 1h 30m");
        assert_eq!(text(&["--tags", "lab", "--plan", "100%"]), "tags lab, then 100 %");
        let approved = ["--plan", "1%,10%,100%", "--soak", "1h", "--approve-each", "--window", "22:00-06:00"];
        assert!(
            text(&approved)
                .starts_with("1 %, then 10 %, then 100 %; soak 1h; each wave but the first by approval; ")
        );
    }

    #[test]
    fn a_time_is_told_as_it_is_given() {
        for text in ["7d", "1h 30m", "12h", "1d 1s", "0s", "400d"] {
            let seconds = options::duration(text).unwrap().as_secs();
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn the_terms_of_a_plan_are_told() {
        let told = |plan: &Plan| {
            let terms = terms(plan).into_iter().map(|(label, cell)| format!("{label}: {}", cell.text()));
            terms.collect::<Vec<_>>().join("\n")
        };
        let options = ["--plan", "1%,100%", "--approve-each", "--min-healthy", "20", "--complete-at", "95%"];
        assert_eq!(
            told(&plan(&options).unwrap().unwrap()),
            "approval: each wave but the first by `pitstop rollout approve`\n\
             evidence: 20 devices healthy, of fewer all, and 50 %\n\
             limits: 5 % failures, 2 % crashes, 5 % silent or missing, of 10 devices and more\n\
             completed: when 95 % of the devices that were offered it have it"
        );
        let plan: Plan = serde_json::from_value(json!({ "waves": [
            { "select": { "percent": 1 }, "limits": { "crashes_percent": 1 } },
            { "select": { "percent": 10 }, "approval": "manual" },
            { "select": { "percent": 100 } },
        ] }))
        .unwrap();
        let told = told(&plan);
        assert!(
            told.starts_with("approval: wave 2 by") && told.contains("limits: wave 1: 5 % failures, 1 %"),
            "{told}"
        );
        assert!(told.contains("; waves 2, 3: 5 % failures, 2 %"), "{told}");
    }
}
