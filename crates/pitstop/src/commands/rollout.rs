//! `pitstop rollout`: bringing releases to devices in waves.

use std::fmt;
use std::time::{Duration, Instant};

use api::rollout::{ListParams, NewRolloutBody, Rollout, RolloutHalt, RolloutWave, WaveState};
use clap::{Args, Subcommand, ValueEnum};
use console::Term;
use rollout::{Action, Counters, OnHalt, State};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::{Connection, Watch, Watched};
use crate::commands::consent::{Consent, devices};
use crate::commands::options;
use crate::commands::plan::{self, PlanOptions};
use crate::failure::Failure;
use crate::ui::{Cell, Page, Tone, Ui, ago, printable};

const NEW_EXAMPLES: &str = "\
Examples:
  pitstop rollout new --product lamp 1.4.0 --plan '1%,10%,50%,100%' --soak 1h
  pitstop rollout new --product lamp 1.4.0 --tags lab --plan 100% --approve-each
  pitstop rollout new --product lamp 1.4.0 --window 22:00-06:00 --days sat,sun
  pitstop rollout new --product lamp 1.4.0 --plan-file plan.json --draft
  pitstop rollout new --product lamp 1.4.0 --channel stable      promoted from beta";

const WATCH_EXAMPLES: &str = "\
Examples:
  pitstop rollout watch ro-lamp-7
  pitstop rollout watch ro-lamp-7 --until healthy --timeout 2h
  pitstop rollout watch ro-lamp-7 --json | jq .state

Exit codes:
  0  it is as it was waited for
  1  it could not be watched
  3  it halted, was aborted, or a newer rollout took its place
  4  the timeout passed";

/// Exit codes of `rollout watch`, which [`WATCH_EXAMPLES`] tells.
const GONE_WRONG: u8 = 3;
const TIMED_OUT: u8 = 4;

/// As many devices of a halt are named on the page; `--json` has all that the server names.
const SHOWN_DEVICES: usize = 10;

/// Rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Bring a release to the devices of its channel, in waves
    #[command(after_help = NEW_EXAMPLES)]
    New(Box<New>),

    /// List rollouts, newest first
    List(List),

    /// Show one rollout: its waves, what happens next, why it halted
    Show(One),

    /// Watch a rollout until it is completed, or healthy so far
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchOne),

    /// Start a draft: the first wave opens
    Start(One),

    /// Offer the release to nobody until it is resumed
    Pause(One),

    /// Go on after a pause or a halt; what led to a halt counts no more
    Resume(One),

    /// Stop for good: devices that have the release return where its manifest allows
    Abort(Abort),

    /// Open the next wave, which waits for approval or for evidence
    Approve(One),
}

/// `rollout new`.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The release: a version, or its sequence number
    #[arg(value_name = "RELEASE")]
    release: String,

    /// Its product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: String,

    /// The channel whose devices get it, when it is another one than it was published to: this promotes the release
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,

    /// Make it, and start it later
    #[arg(long)]
    draft: bool,

    #[command(flatten)]
    plan: PlanOptions,

    #[command(flatten)]
    connection: Connection,
}

/// `rollout list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only rollouts of this product
    #[arg(long, value_name = "NAME", value_parser = options::product)]
    product: Option<String>,

    /// Only rollouts in this state, such as running or halted
    #[arg(long, value_name = "STATE", value_parser = str::parse::<State>)]
    state: Option<State>,

    /// The most entries to list
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = options::limit)]
    limit: usize,

    #[command(flatten)]
    connection: Connection,
}

/// A rollout by its id.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the rollout
    #[arg(value_name = "ID", value_parser = options::device)]
    id: String,

    #[command(flatten)]
    connection: Connection,
}

/// `rollout abort`.
#[derive(Debug, Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    one: One,

    #[command(flatten)]
    consent: Consent,
}

/// `rollout watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchOne {
    #[command(flatten)]
    one: One,

    /// What to wait for
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Until::Completed)]
    until: Until,

    /// Wait no longer than this: 30m, 2h, 1d [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = options::duration)]
    timeout: Option<Duration>,
}

/// What `rollout watch` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Until {
    /// A wave that is open by now has its evidence: enough of its devices are healthy, and no larger share than its silence
    /// limit (5 % unless the plan says otherwise) took the release and is not heard again
    Healthy,
    /// The devices have the release
    Completed,
}

impl RolloutCommand {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(ui),
            Self::List(list) => list.run(ui),
            Self::Show(One { id, connection }) => {
                let rollout = connection.client()?.rollout(&id)?;
                ui.result(&rollout, || page(&rollout))
            }
            Self::Watch(watch) => watch.run(ui),
            Self::Start(one) => act(&one, Action::Start, ui),
            Self::Pause(one) => act(&one, Action::Pause, ui),
            Self::Resume(one) => act(&one, Action::Resume, ui),
            Self::Abort(Abort { one, consent }) => {
                let rollout = one.connection.client()?.rollout(&one.id)?;
                let offered = rollout.waves.iter().map(|wave| wave.counters.offered).sum();
                consent.to(&format!(
                    "Abort {} of release {}, which {} were offered? It is never resumed, and devices that have the \
                     release return where its manifest allows.",
                    rollout.id,
                    release(&rollout),
                    devices(offered)
                ))?;
                act(&one, Action::Abort, ui)
            }
            Self::Approve(one) => act(&one, Action::Approve, ui),
        }
    }
}

impl New {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let plan = self.plan.plan()?;
        let client = self.connection.client()?;
        let sequence = options::sequence_of(&client, &self.product, &self.release)?;
        let rollout = NewRolloutBody {
            product: self.product,
            sequence,
            channel: self.channel,
            plan,
            start: !self.draft,
        };
        let rollout = client.create_rollout(&rollout)?;
        plan::warn_of_rest(ui, &rollout.plan);
        ui.result(&rollout, || page(&rollout))
    }
}

impl List {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let filter = ListParams { product: self.product, state: self.state, ..ListParams::default() };
        let rollouts = self.connection.client()?.rollouts(&filter, self.limit)?;
        ui.result(&rollouts, || {
            if rollouts.items.is_empty() {
                let product = filter.product.as_deref().unwrap_or("NAME");
                let command =
                    format!("pitstop rollout new --product {product} VERSION --plan '10%,100%' --soak 1h");
                return Page::plain().next("No such rollouts. Make one:", [command]);
            }
            let now = OffsetDateTime::now_utc();
            let rows = rollouts.items.iter().map(|rollout| {
                [
                    Cell::from(&rollout.id),
                    release(rollout).into(),
                    Cell::from(&rollout.channel),
                    state(rollout.state),
                    format!("{} of {}", rollout.wave + 1, rollout.waves.len()).into(),
                    healthy(rollout).into(),
                    plan::in_a_line(&rollout.plan).into(),
                    ago(&rollout.created_at, now).into(),
                ]
            });
            let headers = ["ID", "RELEASE", "CHANNEL", "STATE", "WAVE", "HEALTHY OF OFFERED", "PLAN", "MADE"];
            let page = Page::plain().table(headers, rows);
            if rollouts.next_cursor.is_some() { page.more(self.limit) } else { page }
        })
    }
}

fn act(one: &One, action: Action, ui: &Ui) -> Result<(), Failure> {
    let rollout = one.connection.client()?.act_on_rollout(&one.id, action)?;
    if action == Action::Start {
        plan::warn_of_rest(ui, &rollout.plan);
    }
    ui.result(&rollout, || page(&rollout))
}

impl WatchOne {
    /// Draws the page anew whenever something changes; a line each where it cannot be drawn over.
    fn run(&self, ui: &Ui) -> Result<(), Failure> {
        let Self { one: One { id, connection }, until, timeout } = self;
        let term = Term::stdout();
        let is_drawn = term.is_term() && !ui.is_json();
        let (mut drawn_lines, mut last, mut shown) = (0, None, Ok(()));
        // The newest open wave when the watch began: it may have its evidence and be followed by the next one between two
        // looks.
        let mut first = None;
        // A time that no clock reaches is none.
        let ends = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let watched = connection.client()?.watch_rollout(id, ends, |rollout| {
            if is_drawn {
                let _ = term.clear_last_lines(drawn_lines);
                let (rows, columns) = term.size();
                let mut text = page(&rollout).to_string();
                drawn_lines = lines_on(columns, &text);
                // What has scrolled away cannot be drawn over.
                if drawn_lines >= rows.into() {
                    text = short_page(&rollout).to_string();
                    drawn_lines = lines_on(columns, &text);
                }
                shown = ui.line(text.trim_end());
            } else {
                shown = ui.event(&rollout, || format!("{} {}\n", now(), printable(&in_a_line(&rollout))));
            }
            let first = *first.get_or_insert(rollout.wave);
            let is_enough = until.end(&rollout, first).is_some() || shown.is_err();
            last = Some(rollout);
            if is_enough { Watch::Enough } else { Watch::On }
        })?;
        shown?;
        let first = first.unwrap_or_default();
        let end = last.as_ref().and_then(|rollout| until.end(rollout, first));
        if let (Self { until: Until::Healthy, .. }, Some(rollout), Some(Ok(()))) = (self, &last, &end) {
            ui.line(format_args!("{} {}", now(), printable(&is_healthy(rollout, first))))?;
        }
        match (watched, end) {
            (_, Some(end)) => end,
            (Watched::Enough, None) => Ok(()),
            (Watched::TimedOut, None) => {
                let next = last.map_or_else(|| "nothing was heard of it".to_owned(), |rollout| rollout.next);
                Err(Failure::ended(TIMED_OUT, format!("the rollout {id} is not {until} in time: {next}")))
            }
        }
    }
}

impl Until {
    /// How the watch ends with a rollout that is like this, when the newest open wave was `first` as it began; `None`: it
    /// goes on.
    fn end(self, rollout: &Rollout, first: usize) -> Option<Result<(), Failure>> {
        let Rollout { id, next, .. } = rollout;
        match rollout.state {
            State::Completed => Some(Ok(())),
            State::Running | State::AwaitingApproval | State::Open => {
                (self == Self::Healthy && shows_health(rollout, first).is_some()).then_some(Ok(()))
            }
            State::Draft | State::Paused => None,
            State::Halted => {
                let cause = rollout.halt.as_ref().map_or_else(|| next.clone(), halted);
                Some(Err(Failure::ended(GONE_WRONG, format!("the rollout {id} halted by {cause}")).hint(format!(
                    "`pitstop rollout abort {id}`, or `pitstop rollout resume {id}` when it was no fault of the release"
                ))))
            }
            State::Aborted => Some(Err(Failure::ended(GONE_WRONG, format!("the rollout {id} was aborted")))),
            State::Superseded => {
                let newer = rollout.superseded_by.as_deref().unwrap_or("a newer rollout");
                Some(Err(Failure::ended(GONE_WRONG, format!("the rollout {id} is superseded by {newer}"))))
            }
        }
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        })
    }
}

/// The wave that shows that a rollout is healthy: it has its evidence, and was the newest open one when a watch began or
/// opened since.
fn shows_health(rollout: &Rollout, first: usize) -> Option<&RolloutWave> {
    let newest = rollout.waves.get(rollout.wave).filter(|_| rollout.has_evidence);
    newest.or_else(|| rollout.waves.iter().take(rollout.wave + 1).skip(first).rfind(|wave| wave.has_evidence))
}

/// What it means that a rollout is healthy, and what it does not.
fn is_healthy(rollout: &Rollout, first: usize) -> String {
    let Some(wave) = shows_health(rollout, first) else {
        return format!("the rollout {} is {}", rollout.id, rollout.state);
    };
    let Counters { offered, healthy, failed, crashed, .. } = wave.counters;
    let missing = offered.saturating_sub(healthy + failed + crashed);
    let tolerated = rollout.plan.waves().get(wave.index).map(|planned| planned.limits.silence_percent);
    format!(
        "healthy: of {} of wave {} that were offered it {healthy} are, {} had to be; {missing} are not heard \
         again, up to {} may be",
        devices(offered),
        wave.index + 1,
        wave.needed.unwrap_or_default(),
        tolerated.unwrap_or_default(),
    )
}

/// The time now, as a line of a log begins.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

/// One line for logs.
fn in_a_line(rollout: &Rollout) -> String {
    let sum =
        |count: fn(&Counters) -> u64| rollout.waves.iter().map(|wave| count(&wave.counters)).sum::<u64>();
    let next = match (&rollout.halt, rollout.state) {
        (Some(halt), State::Halted) => format!("halted by {}; {}", halted(halt), rollout.next),
        (_, _) => rollout.next.clone(),
    };
    format!(
        "{} wave {} of {}: of {} offered {} installed, {} healthy, {} failed, {} crashed, {} silent, {} unheard; {next}",
        rollout.state,
        rollout.wave + 1,
        rollout.waves.len(),
        sum(|counters| counters.offered),
        sum(|counters| counters.installed),
        sum(|counters| counters.healthy),
        sum(|counters| counters.failed),
        sum(|counters| counters.crashed),
        sum(|counters| counters.silent),
        sum(|counters| counters.unheard),
    )
}

/// The cause of a halt: which limit, how many devices, and the first of them.
fn halted(halt: &RolloutHalt) -> String {
    let shown = halt.devices.iter().take(SHOWN_DEVICES);
    let shown = shown.map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = halt.observed.saturating_sub(halt.devices.len().min(SHOWN_DEVICES) as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "{} in wave {}: {} of {}, more than {}: {shown}{more}",
        halt.cause.name(),
        halt.wave + 1,
        halt.observed,
        devices(halt.sample),
        halt.limit_percent,
    )
}

/// A rollout's page, which `release publish` shows too.
pub(super) fn page(rollout: &Rollout) -> Page {
    let now = OffsetDateTime::now_utc();
    let moment =
        |at: &Option<String>| Cell::or_dash(at.as_deref().map(|at| format!("{at} ({})", ago(at, now))));
    let mut facts = vec![
        ("release", Cell::from(release(rollout))),
        ("channel", Cell::from(&rollout.channel)),
        ("plan", plan::in_a_line(&rollout.plan).into()),
        ("state", state(rollout.state)),
        ("next", Cell::from(&rollout.next)),
        ("started", moment(&rollout.started_at)),
    ];
    if rollout.finished_at.is_some() {
        facts.push(("ended", moment(&rollout.finished_at)));
    }
    if !rollout.supersedes.is_empty() {
        facts.push(("supersedes", Cell::from(rollout.supersedes.join(", "))));
    }
    if let Some(newer) = &rollout.superseded_by {
        facts.push(("superseded by", Cell::from(newer)));
    }
    if let Some((required, waiting)) = rollout.release.requires.zip(rollout.waiting) {
        facts.push((
            "waiting",
            Cell::from(format!(
                "{} with less than release #{required}, which it requires",
                devices(waiting.unsigned_abs())
            )),
        ));
    }
    if rollout.plan.on_halt() == OnHalt::Revert {
        facts.push(("at a halt", Cell::from("devices return where the manifest allows")));
    }
    facts.extend(plan::terms(&rollout.plan));
    let rows = rollout.waves.iter().zip(rollout.plan.waves()).map(|(wave, planned)| {
        let counters = wave.counters;
        let bad = |count: u64| Cell::new(if count > 0 { Tone::Bad } else { Tone::Dim }, count.to_string());
        [
            Cell::from((wave.index + 1).to_string()),
            match wave.devices {
                Some(devices) if wave.stand_in.is_some() => {
                    format!("{} ({devices}: nobody, and one stands in)", planned.select)
                }
                Some(devices) => format!("{} ({devices})", planned.select),
                None => planned.select.to_string(),
            }
            .into(),
            wave_state(wave.state),
            counters.offered.to_string().into(),
            counters.installed.to_string().into(),
            Cell::new(
                Tone::Good,
                match wave.needed {
                    Some(needed) if wave.state == WaveState::Open => {
                        format!("{} ({needed} needed)", counters.healthy)
                    }
                    Some(_) | None => counters.healthy.to_string(),
                },
            ),
            bad(counters.failed),
            bad(counters.crashed),
            bad(counters.silent),
            Cell::new(Tone::Dim, counters.unheard.to_string()),
        ]
    });
    let headers = [
        "WAVE",
        "DEVICES",
        "STATE",
        "OFFERED",
        "INSTALLED",
        "HEALTHY",
        "FAILED",
        "CRASHED",
        "SILENT",
        "UNHEARD",
    ];
    let mut page = Page::titled(format!("Rollout {}", rollout.id)).facts(facts).table(headers, rows);
    if let Some(halt) = &rollout.halt {
        page = page.note(format!("Halted by {}", halted(halt)));
    }
    let id = &rollout.id;
    let command = |action: &str| format!("pitstop rollout {action} {id}");
    match rollout.state {
        State::Draft => page.next("Next:", [command("start")]),
        State::Running | State::Open => page.next("Watch it:", [command("watch")]),
        State::AwaitingApproval => {
            page.next("Open the next wave, or stop:", [command("approve"), command("abort")])
        }
        State::Paused => page.next("Go on, or stop for good:", [command("resume"), command("abort")]),
        State::Halted => {
            page.next("Stop for good, or go on all the same:", [command("abort"), command("resume")])
        }
        State::Completed | State::Aborted | State::Superseded => page,
    }
}

/// What of a rollout's page changes, for a terminal that the page does not fit on.
fn short_page(rollout: &Rollout) -> Page {
    let facts = [
        ("release", Cell::from(release(rollout))),
        ("state", state(rollout.state)),
        ("next", Cell::from(&rollout.next)),
    ];
    let rows = rollout.waves.iter().map(|wave| {
        let counters = wave.counters;
        let bad = counters.failed + counters.crashed + counters.silent;
        [
            Cell::from((wave.index + 1).to_string()),
            wave_state(wave.state),
            counters.offered.to_string().into(),
            Cell::new(Tone::Good, counters.healthy.to_string()),
            Cell::new(if bad > 0 { Tone::Bad } else { Tone::Dim }, bad.to_string()),
        ]
    });
    let page = Page::titled(format!("Rollout {}", rollout.id)).facts(facts);
    let page = page.table(["WAVE", "STATE", "OFFERED", "HEALTHY", "BAD"], rows);
    match &rollout.halt {
        Some(halt) => page.note(format!("Halted by {}", halted(halt))),
        None => page,
    }
}

/// How many lines of a terminal a text takes.
fn lines_on(columns: u16, text: &str) -> usize {
    let columns = usize::from(columns).max(1);
    let lines = console::strip_ansi_codes(text);
    lines.lines().map(|line| console::measure_text_width(line).div_ceil(columns).max(1)).sum()
}

fn wave_state(state: WaveState) -> Cell {
    match state {
        WaveState::Waiting => Cell::new(Tone::Dim, "waiting"),
        WaveState::Open => Cell::new(Tone::Good, "open"),
        WaveState::Done => Cell::from("done"),
    }
}

fn release(rollout: &Rollout) -> String {
    format!("{} {} (#{})", rollout.product, rollout.release.version, rollout.release.sequence)
}

/// How many of those that were offered the release are well with it.
fn healthy(rollout: &Rollout) -> String {
    let sum =
        |count: fn(&Counters) -> u64| rollout.waves.iter().map(|wave| count(&wave.counters)).sum::<u64>();
    format!("{} of {}", sum(|counters| counters.healthy), sum(|counters| counters.offered))
}

pub(super) fn state(state: State) -> Cell {
    let tone = match state {
        State::Draft | State::Aborted | State::Superseded => Tone::Plain,
        State::Running | State::Open | State::Completed => Tone::Good,
        State::AwaitingApproval | State::Paused => Tone::Warn,
        State::Halted => Tone::Bad,
    };
    Cell::new(tone, state.to_string())
}
