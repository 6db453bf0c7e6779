//! The updater's real image on the crate `chip`, with a server in this process ([`sim::campaign::fake_server`]).
//!
//! `cargo xtask lab` is what the gate runs of it. Nothing comes from outside: no socket, no clock of this computer, no chance but from a seed. So every run is the same, to
//! the instruction, and each moment of it can be tried.
//!
//! | module | what it asks |
//! | --- | --- |
//! | [`counts`] | how many instructions, operations and bytes a start takes |
//! | [`cuts`] | what is left when the power goes, at each moment |
//! | [`checks`] | whether a start goes well, for faults that are planted in the firmware |

pub(crate) mod checks;
mod counts;
mod cuts;
mod network;
mod phase;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chip::net::UserNetwork;
use chip::{Chip, Stopped};
use emulator::{ElfId, HOST_SEEN_FROM_INSIDE, Symbols};
use flashfmt::chip::Chip as Kind;
use flashfmt::image::ImageHeader;
use sim::bootloader::Bootloader;
use sim::campaign::fake_server::{FakeServer, ServerState, acceptor_for};
use sim::flash::SimFlash;
use tokio::runtime::{Builder, Runtime};

use crate::{default_firmware_dir, firmware, toolchain};
use network::InProcess;
use phase::Devices;

#[derive(clap::Args, Default)]
#[command(after_help = "Examples:
  cargo xtask lab                      what the gate does: counts, and one cut of power in 16
  cargo xtask lab --only cuts --whole  power is lost at every moment
  cargo xtask lab --only counts --record")]
pub(crate) struct Arguments {
    /// Only this; may be given more than once
    #[arg(long, value_name = "WHAT", value_enum)]
    only: Vec<Part>,
    /// Cut the power at every moment, and write the table into docs/reliability.md
    #[arg(long)]
    whole: bool,
    /// Write what is counted into docs/performance.md instead of comparing
    #[arg(long)]
    record: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Instructions, operations and bytes of each start, compared with docs/performance.md
    Counts,
    /// Power that is lost at the moments of a start
    Cuts,
}

/// Builds the images and asks.
///
/// Errors: [`toolchain::Missing`] when nothing here can build for the chip; an answer that is
/// not as it should be.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let toolchain = toolchain::find_or_install(root)?;
    let folder = default_firmware_dir(root);
    firmware::build_some(root, &toolchain, &folder, |image| IMAGES.contains(&image.name))?;
    let devices = Devices::make(Images::read(&folder)?)?;
    let is_wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if is_wanted(Part::Counts) {
        println!("\n==> counts");
        counts::run(root, &devices, arguments.record)?;
    }
    if is_wanted(Part::Cuts) {
        println!("\n==> cuts");
        cuts::run(root, &devices, if arguments.whole { cuts::Size::Whole } else { cuts::Size::Sample })?;
    }
    Ok(())
}

/// Layout of all flashes here.
const LAYOUT: &str = "4mb";
/// Seed of what silicon leaves to chance.
const SEED: u64 = 1;
/// The chip's time between two looks at its surroundings: 10,000 instructions at 160 MHz.
const SLICE: Duration = Duration::from_nanos(62_500);
/// The same while it waits for the network.
const WAIT: Duration = Duration::from_millis(1);
/// How often the server's tasks are asked after each of these, so that one that waits for another gets on.
const ROUNDS: usize = 4;
/// Lines of the console that an error shows.
const SHOWN_LINES: usize = 12;
/// What the updater prints when it breaks; never wanted.
pub(crate) const PANIC: &str = "pitstop breaks";
/// The chip's time after which a run is given up: an install and a restart after each try, many times over.
const PATIENCE: Duration = Duration::from_secs(600);

/// Images of `cargo xtask firmware`, as they are used here.
pub(crate) struct Images {
    updater: Vec<u8>,
    symbols: Symbols,
    /// Of the updater.
    elf: ElfId,
    /// The updater's stack.
    stack: Range<u32>,
    apps: [App; 2],
}

/// An application.
#[derive(Clone)]
struct App {
    version: &'static str,
    image: Vec<u8>,
    entry_addr: u32,
}

impl Images {
    /// Reads them from a folder.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let file = |name: String| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("cannot read {}; `cargo xtask firmware`", path.display()))
        };
        let app = |version: &'static str| {
            let image = file(format!("hello-{version}.bin"))?;
            let entry_addr = entry_addr(&image)?;
            anyhow::Ok(App { version, image, entry_addr })
        };
        let elf = file(format!("{UPDATER}.elf"))?;
        let mut symbols = Symbols::default();
        let elf = symbols.add(&elf)?;
        let place =
            |name: &str| symbols.value(elf, name).with_context(|| format!("no symbol {name} in the updater"));
        let stack = place("_stack_end_cpu0")?..place("_stack_start_cpu0")?;
        let apps = [app("1.0.0")?, app("1.1.0")?];
        Ok(Self { updater: file(format!("{UPDATER}.bin"))?, symbols, elf, stack, apps })
    }
}

/// The images that [`Images::read`] wants.
pub(crate) const IMAGES: [&str; 3] = [UPDATER, "hello-1.0.0", "hello-1.1.0"];
/// The updater whose network an emulated chip has.
const UPDATER: &str = "updater-esp32c3-qemu";

/// The address at which an image begins to run.
pub(crate) fn entry_addr(image: &[u8]) -> anyhow::Result<u32> {
    Ok(ImageHeader::parse(image).map_err(|error| anyhow!("no image: {error}"))?.entry_addr)
}

/// A chip with power and its server.
struct Lab<'a> {
    images: &'a Images,
    chip: Chip,
    network: UserNetwork,
    runtime: Runtime,
    server: FakeServer,
    /// The begun line of the console.
    begun: Vec<u8>,
    console: Vec<String>,
    /// Resets that the console told of.
    resets: usize,
}

impl<'a> Lab<'a> {
    /// Applies power.
    fn power_on(images: &'a Images, flash: Vec<u8>, state: ServerState) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().build().context("no runtime")?;
        let server = FakeServer::open(state);
        let acceptor = acceptor_for(HOST_SEEN_FROM_INSIDE, network::provider())?;
        let door = {
            let _runtime = runtime.enter();
            server.door_with(acceptor)
        };
        let mut chip = Chip::new(SimFlash::from_bytes(flash), Bootloader::new(Kind::Esp32C3), SEED);
        chip.watch_stack(images.stack.clone());
        Ok(Self {
            images,
            chip,
            network: UserNetwork::with(Box::new(InProcess(door))),
            runtime,
            server,
            begun: Vec::new(),
            console: Vec::new(),
            resets: 0,
        })
    }

    /// Runs until the application's first instruction is next. `each` is told after every 10,000th instruction at the latest,
    /// and oftener while the chip waits.
    fn run_to(
        &mut self,
        app: &App,
        slot: Range<u32>,
        mut each: impl FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.chip.await_entry(app.entry_addr, slot);
        self.run(&[], &mut each)
    }

    /// Runs until a line is printed that contains `wanted`.
    fn expect(&mut self, wanted: &str) -> anyhow::Result<()> {
        self.expect_one_of(&[wanted])
    }

    fn expect_one_of(&mut self, wanted: &[&str]) -> anyhow::Result<()> {
        self.run(wanted, &mut |_| Ok(()))
    }

    /// Runs to the entry that is awaited, or until one of these is printed.
    fn run(
        &mut self,
        wanted: &[&str],
        each: &mut dyn FnMut(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let until = self.chip.time() + PATIENCE;
        while self.chip.time() < until {
            let stopped = self.chip.run(self.chip.time() + SLICE);
            self.exchange();
            let first_new = self.print();
            each(self)?;
            if self.console[first_new..].iter().any(|line| line.contains(PANIC)) {
                // The line after it says where.
                let _ = self.chip.run(self.chip.time() + WAIT);
                self.print();
                bail!("the updater breaks{}", self.last_lines());
            }
            if self.console[first_new..].iter().any(|line| wanted.iter().any(|text| line.contains(text))) {
                return Ok(());
            }
            match stopped {
                Stopped::TimeUp => {}
                Stopped::Entered => return Ok(()),
                Stopped::Idle { until } => self.wait(until),
                Stopped::NothingToStart(reason) => bail!("nothing to start: {reason}{}", self.last_lines()),
                Stopped::PowerLost => bail!("the flash has lost its power"),
                Stopped::Fault { fault, pc } => {
                    let at = self.images.symbols.describe(&self.chip, pc);
                    bail!("{fault}; the instruction is at {at}{}", self.last_lines());
                }
            }
        }
        bail!("not within {} s of the chip's time{}", PATIENCE.as_secs(), self.last_lines())
    }

    /// Lets time pass in which the processor waits.
    fn wait(&mut self, until: Duration) {
        let left = until.saturating_sub(self.chip.time());
        self.chip.pass(if self.network.is_waiting() { left.min(WAIT) } else { left.min(PATIENCE) });
    }

    /// Frames go to the network and to the chip, and the server does what it can.
    fn exchange(&mut self) {
        for frame in self.chip.take_frames() {
            self.network.send(&frame);
        }
        if !self.network.is_waiting() {
            return;
        }
        for _ in 0..2 {
            self.network.poll(self.chip.time());
            self.runtime.block_on(async {
                for _ in 0..ROUNDS {
                    tokio::task::yield_now().await;
                }
            });
        }
        self.network.poll(self.chip.time());
        while let Some(frame) = self.network.receive() {
            self.chip.deliver(frame);
        }
    }

    /// Takes what was printed; returns how many lines there were before.
    fn print(&mut self) -> usize {
        let before = self.console.len();
        for byte in self.chip.take_console() {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned();
                self.resets += usize::from(line.starts_with("rst:"));
                self.console.push(line);
            } else {
                self.begun.push(byte);
            }
        }
        before
    }

    fn last_lines(&self) -> String {
        let from = self.console.len().saturating_sub(SHOWN_LINES);
        let lines = self.console[from..].iter().map(|line| format!("\n    {line}")).collect::<String>();
        format!("; its last lines:{lines}")
    }
}
