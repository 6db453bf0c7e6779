//! `cargo xtask bench-server`: the server against nginx, with the same certificates, TLS version and load client, in one
//! run; then a registered fleet, and a herd.
//!
//! Client, server and nginx share the machine, so a round of one server is followed by a round of the other, and what is
//! compared is the ratio within a round.

mod nginx;
mod served;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use flashfmt::image::compose::{Composer, esp32c3_addr};
use flashfmt::{AppDescriptor, Chip};
use serde_json::Value;

use crate::process::{read, run};
use crate::server_campaign::{figure, figures_of};
use nginx::Nginx;
use served::Served;

/// The goals of the server's speed.
const MIN_RATIO: f64 = 0.8;
const MAX_P99_MS: f64 = 50.0;
const MAX_PAGE_MS: u64 = 200;
const MAX_BESIDE_MS: u64 = 50;
const MAX_RSS_BYTES: u64 = 300_000_000;

/// The body that nginx serves: about what a decision with a short manifest has.
const BODY_BYTES: usize = 1024;

/// Devices that resume their sessions.
const RESUMING_DEVICES: usize = 200;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seconds of each round
    #[arg(long, default_value_t = 8)]
    seconds: u64,

    /// Rounds of each server
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Devices that check in
    #[arg(long, default_value_t = 2000)]
    devices: usize,

    /// Devices that are registered
    #[arg(long, default_value_t = 100_000)]
    registered: usize,

    /// Devices that are listed
    #[arg(long, default_value_t = 1_000_000)]
    listed: usize,

    /// Devices that return at once
    #[arg(long, default_value_t = 20_000)]
    herd: usize,

    /// Size of the artifact, in KiB
    #[arg(long, default_value_t = 2048)]
    artifact_kib: usize,

    /// Keep everything in this new directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A pair of rates, one round.
#[derive(Clone, Copy)]
struct Round {
    ours: f64,
    nginx: f64,
}

/// What a goal came to.
struct Finding {
    what: String,
    found: String,
    goal: String,
    is_met: bool,
}

pub(crate) fn run_bench(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "-p", "pitstop"]).current_dir(root);
    // Build scripts that look at them would run again for the names of this crate, and half of the tree with them.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        build.env_remove(name);
    }
    run(&mut build)?;
    let temporary;
    let dir = match &arguments.keep {
        Some(dir) => {
            std::fs::create_dir(dir).with_context(|| format!("--keep {} must be new", dir.display()))?;
            dir.as_path()
        }
        // Not in a directory that may be memory: the database syncs.
        None => {
            temporary = tempfile::tempdir_in(root.join("target"))?;
            temporary.path()
        }
    };
    let mut served = Served::start(&root.join("target/release/pitstop"), dir)?;
    publish(&served, arguments.artifact_kib)?;
    std::fs::write(dir.join("www/body"), [b'x'; BODY_BYTES])?;
    let nginx = Nginx::start(dir, &served)?;
    println!("{}", machine(root, &nginx)?);

    println!("enrolling {} devices", arguments.devices);
    // Everyone once: a device's first check-in takes the release and reports, the later ones change nothing.
    served.fleet(arguments.devices).run(&["--count", &arguments.devices.to_string()])?;
    println!("server: {}", served.memory()?);

    let mut findings = Vec::new();
    let get = nginx.url("body");
    let full = rounds(arguments, &served, "full handshakes", "/check_ins_per_s", [&[], &["--get", &get]])?;
    findings.push(ratio("full handshake and check-in, of nginx's GET", Unit::CheckIns, &full));

    served.restart(&["--tls-tickets"])?;
    let get = nginx.resuming_url("body");
    let options: [&[&str]; 2] = [&["--resume"], &["--resume", "--get", &get]];
    let resumed = rounds(arguments, &served, "resumed handshakes", "/check_ins_per_s", options)?;
    findings.push(ratio("resumed handshake and check-in, of nginx's GET", Unit::CheckIns, &resumed));

    served.restart(&[])?;
    let before = served.memory()?;
    let get = nginx.url("artifact");
    let options: [&[&str]; 2] =
        [&["--download", "--full-records"], &["--download", "--full-records", "--get", &get]];
    let large = rounds(arguments, &served, "downloads, full records", "/downloaded_bytes_per_s", options)?;
    findings.push(ratio("download in chunks of 64 KiB, records of 16 KiB, of nginx's", Unit::Bytes, &large));
    let get = nginx.small_records_url("artifact");
    let options: [&[&str]; 2] = [&["--download"], &["--download", "--get", &get]];
    let small =
        rounds(arguments, &served, "downloads, records of 2 KiB", "/downloaded_bytes_per_s", options)?;
    findings.push(ratio("the same, records of 2 KiB on both sides", Unit::Bytes, &small));
    println!("server before downloads: {before}; after: {}", served.memory()?);

    let max = full.iter().map(|round| round.ours).fold(0.0, f64::max);
    if arguments.registered > 0 {
        let others = arguments.registered.saturating_sub(arguments.devices);
        println!("registering {others} more devices");
        served.pitstop(&[
            "device",
            "new",
            "--product",
            "lamp",
            "--count",
            &others.to_string(),
            "--csv",
            "-",
        ])?;
        let rate = format!("{:.0}", max / 2.0);
        let seconds = arguments.seconds.to_string();
        let run = served.fleet(arguments.devices).run(&["--rate", &rate, "--seconds", &seconds])?;
        let p99_ms = number(&run, "/latency/p99_ms")?;
        findings.push(Finding {
            what: format!("{} registered devices, p99 at {rate} check-ins a second", arguments.registered),
            found: format!("{p99_ms:.1} ms"),
            goal: format!("{MAX_P99_MS} ms"),
            is_met: p99_ms <= MAX_P99_MS && number(&run, "/failed")? == 0.0,
        });
    }
    if arguments.listed > 0 {
        println!("listing {} devices", arguments.listed);
        findings.extend(lists(root, arguments.listed)?);
    }
    if arguments.herd > 0 {
        let herd = served.fleet(arguments.herd);
        println!("enrolling {} devices", arguments.herd.saturating_sub(arguments.devices));
        herd.run(&["--count", "1"])?;
        let run = herd.run(&["--herd"])?;
        let lost = number(&run, "/lost")?;
        findings.push(Finding {
            what: format!("herd of {}: lost", arguments.herd),
            found: format!("{lost:.0}, all served after {:.1} s", number(&run, "/elapsed_s")?),
            goal: "0".to_owned(),
            is_met: lost == 0.0,
        });
    }
    let memory = served.memory()?;
    findings.push(Finding {
        what: "resident memory of the server, database included: peak".to_owned(),
        found: format!("{} MB", memory.peak_bytes / 1_000_000),
        goal: format!("{} MB", MAX_RSS_BYTES / 1_000_000),
        is_met: memory.peak_bytes <= MAX_RSS_BYTES,
    });

    println!("\n| what | found | goal | |\n| --- | --- | --- | --- |");
    for Finding { what, found, goal, is_met } in findings {
        println!("| {what} | {found} | {goal} | {} |", if is_met { "met" } else { "MISSED" });
    }
    Ok(())
}

/// The server's own test of lists, among so many devices and in a build that is optimised.
fn lists(root: &Path, devices: usize) -> anyhow::Result<[Finding; 3]> {
    const TEST: &str = "lists::a_large_fleet_is_listed_at_once_and_holds_up_no_device";
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(["test", "--quiet", "--release", "--locked", "--package", "server", "--test", "it"])
        .args(["--", "--exact", TEST, "--nocapture"])
        .env("PITSTOP_TEST_DEVICES", devices.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let figures = figures_of(TEST, &mut command)?;
    let finding = |what: &str, name: &str, max_ms: u64| -> anyhow::Result<Finding> {
        let found_ms = figure(&figures, name)?;
        let (found, goal) = (format!("{found_ms} ms"), format!("{max_ms} ms"));
        Ok(Finding { what: format!("{devices} devices, {what}"), found, goal, is_met: found_ms <= max_ms })
    };
    Ok([
        finding("the slowest list or summary", "worst_page_ms", MAX_PAGE_MS)?,
        finding("check-in p99 beside 8 people who ask for it", "p99_beside_ms", MAX_BESIDE_MS)?,
        finding("the list of revoked certificates", "crl_ms", MAX_PAGE_MS)?,
    ])
}

/// Alternating rounds: ours, nginx, nginx, ours, and so on, so that a slow drift of the machine cancels.
fn rounds(
    arguments: &Arguments,
    served: &Served,
    what: &str,
    pointer: &str,
    [ours, nginx]: [&[&str]; 2],
) -> anyhow::Result<Vec<Round>> {
    let seconds = arguments.seconds.to_string();
    let measure = |options: &[&str]| {
        // The first handshake of each device is a full one: with few devices nearly all are resumed.
        let is_resuming = options.contains(&"--resume");
        let devices = if is_resuming { arguments.devices.min(RESUMING_DEVICES) } else { arguments.devices };
        let run = served.fleet(devices).run(&[&["--seconds", &seconds], options].concat())?;
        anyhow::ensure!(number(&run, "/failed")? == 0.0, "pit stops failed: {}", run["errors"]);
        if is_resuming {
            let resumed = number(&run, "/resumed/count").context("no session was resumed")?;
            let full = number(&run, "/check_ins")? - resumed;
            anyhow::ensure!(full <= devices as f64, "{full} handshakes were not resumed");
        }
        number(&run, pointer)
    };
    let mut rounds = Vec::new();
    for index in 0..arguments.rounds {
        let round = if index % 2 == 0 {
            let ours = measure(ours)?;
            Round { ours, nginx: measure(nginx)? }
        } else {
            let nginx = measure(nginx)?;
            Round { ours: measure(ours)?, nginx }
        };
        println!("{what}: ours {:.0}, nginx {:.0}, ratio {:.2}", round.ours, round.nginx, round.ratio());
        rounds.push(round);
    }
    Ok(rounds)
}

impl Round {
    fn ratio(self) -> f64 {
        self.ours / self.nginx
    }
}

/// The median of the rounds' ratios against the goal.
fn ratio(what: &str, unit: Unit, rounds: &[Round]) -> Finding {
    let median = |of: fn(&Round) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let (ratio, ours, nginx) =
        (median(|round| round.ratio()), median(|round| round.ours), median(|round| round.nginx));
    let amount = |rate: f64| match unit {
        Unit::CheckIns => format!("{rate:.0}/s"),
        Unit::Bytes => format!("{:.0} MB/s", rate / 1e6),
    };
    Finding {
        what: what.to_owned(),
        found: format!("{ratio:.2} (median; {} of {})", amount(ours), amount(nginx)),
        goal: MIN_RATIO.to_string(),
        is_met: ratio >= MIN_RATIO,
    }
}

enum Unit {
    CheckIns,
    Bytes,
}

/// Makes publisher, product and a release of random bytes, which nothing on the way can compress.
fn publish(served: &Served, artifact_kib: usize) -> anyhow::Result<()> {
    let filling: Vec<u8> = (0..artifact_kib * 1024).map(|_| rand::random()).collect();
    let image = Composer::new(Chip::Esp32C3, esp32c3_addr::IRAM)
        .segment_with_app_desc(esp32c3_addr::DROM + 0x20, &AppDescriptor::new("lamp", "1.0.0"), &filling)
        .segment(esp32c3_addr::IRAM, &[0; 1024])
        .build()
        .context("the artifact cannot be composed")?;
    std::fs::write(served.dir.join("www/artifact"), image)?;
    served.pitstop(&["keys", "new"])?;
    served.pitstop(&[
        "product",
        "new",
        "lamp",
        "--chip",
        "esp32c3",
        "--layout",
        "16mb",
        "--key",
        "publisher.key",
    ])?;
    served.pitstop(&["release", "publish", "www/artifact", "--product", "lamp", "--key", "publisher.key"])?;
    Ok(())
}

/// What the figures were taken on.
fn machine(root: &Path, nginx: &Nginx) -> anyhow::Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism()?;
    let commit = read(Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root))?;
    let date = read(Command::new("date").args(["-u", "+%F"]))?;
    let rustc = read(Command::new("rustc").arg("--version"))?;
    let model = model.map_or("unknown", |(_, model)| model);
    Ok(format!("{date}, commit {commit}, {cores} x {model}, {rustc}, {}", nginx.version))
}

fn number(run: &Value, pointer: &str) -> anyhow::Result<f64> {
    run.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer} in {run}"))
}
