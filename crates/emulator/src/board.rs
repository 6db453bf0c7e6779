//! The crate `chip` with its surroundings: a thread in which the chip runs, a network, a file for its flash, a console.
//!
//! While it computes, the chip is as fast as it gets. While it waits, and something may come from outside, its time is that of
//! this computer; while nothing may come, its time runs faster.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chip::net::UserNetwork;
use chip::{Chip, Reset, Stopped};
use flashfmt::chip::Chip as Kind;
use sim::bootloader::Bootloader;
use sim::flash::SimFlash;

use crate::watch::{Event, Watch};
use crate::{Log, MachineError, Symbols};

/// The chip's time between two looks at its surroundings.
const SLICE: Duration = Duration::from_millis(2);
/// How long this computer waits for something from outside before it looks for an order.
const PATIENCE: Duration = Duration::from_millis(5);
/// How much faster the chip's time runs while nothing can come from outside.
const HASTE: u32 = 20;
/// How long the flash's file may be behind while the chip does not wait.
const BEHIND: Duration = Duration::from_millis(100);

/// What is done to the chip from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Reset,
    Hang,
    Crash,
}

/// A chip that runs, until its power is cut.
#[derive(Debug)]
pub(crate) struct Board {
    /// Gone when the power is.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Board {
    /// `seed` is for what silicon leaves to chance.
    pub(crate) fn power_on(
        flash: &Path,
        seed: u64,
        symbols: Arc<Symbols>,
        watch: Option<Watch>,
        lines: Lines,
    ) -> Result<Self, MachineError> {
        let failed = |source| MachineError::Flash { path: flash.to_owned(), source };
        let size_bytes = fs::metadata(flash).map_err(failed)?.len();
        let size_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        let flash =
            SimFlash::open(flash, size_bytes).map_err(|error| failed(std::io::Error::other(error)))?;
        let network = UserNetwork::new().map_err(MachineError::Network)?;
        let (orders, received) = mpsc::channel();
        let chip = Chip::new(flash, Bootloader::new(Kind::Esp32C3), seed);
        let surroundings =
            Surroundings { chip, network, symbols, watch, lines, orders: received, saved: Instant::now() };
        let thread = thread::spawn(|| surroundings.run());
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    pub(crate) fn order(&self, order: Order) -> Result<(), MachineError> {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        let ended = || MachineError::Monitor(std::io::ErrorKind::BrokenPipe.into());
        if sent { Ok(()) } else { Err(ended()) }
    }

    pub(crate) fn cut_power(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the model was printed, and whoever waits for a line has noticed.
            let _ = thread.join();
        }
    }
}

/// The console, line by line: into the log, and to whoever waits for one.
#[derive(Debug)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    sender: Sender<String>,
    log: Log,
}

impl Lines {
    pub(crate) fn new(sender: Sender<String>, log: Log) -> Self {
        Self { begun: Vec::new(), sender, log }
    }

    fn print(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.begun)).trim_end().to_owned();
                self.add(line);
            } else {
                self.begun.push(*byte);
            }
        }
    }

    /// A line, whatever of another has begun.
    fn add(&self, line: String) {
        self.log.line(&line);
        // Nobody waits any more when the machine is being switched off.
        let _ = self.sender.send(line);
    }
}

struct Surroundings {
    chip: Chip,
    network: UserNetwork,
    symbols: Arc<Symbols>,
    watch: Option<Watch>,
    lines: Lines,
    orders: Receiver<Order>,
    saved: Instant,
}

impl Surroundings {
    /// Runs until the power is cut, or the chip cannot go on.
    fn run(mut self) {
        loop {
            match self.orders.try_recv() {
                Ok(order) => self.obey(order),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            self.await_entry();
            let stopped = self.chip.run(self.chip.time() + SLICE);
            self.exchange();
            match stopped {
                Stopped::TimeUp => {
                    if self.saved.elapsed() > BEHIND && !self.save() {
                        return;
                    }
                }
                Stopped::Idle { until } => {
                    if !self.save() {
                        return;
                    }
                    self.wait(until);
                }
                Stopped::NothingToStart(reason) => {
                    self.lines.print(format!("chip: nothing to start: {reason}\n").as_bytes());
                    if !self.save() {
                        return;
                    }
                    match self.orders.recv_timeout(Duration::from_secs(1)) {
                        Ok(order) => self.obey(order),
                        Err(RecvTimeoutError::Timeout) => self.obey(Order::Reset),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                Stopped::Entered => {
                    let entry = Watch::entry(&self.chip);
                    self.tell(&entry);
                }
                Stopped::PowerLost => return,
                Stopped::Fault { fault, pc } => {
                    let at = self.symbols.describe(&self.chip, pc);
                    self.lines.print(format!("chip: {fault}; the instruction is at {at}\n").as_bytes());
                    return;
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reset => self.chip.reset(Reset::EnPin),
            Order::Hang => self.chip.hang(),
            Order::Crash => self.chip.crash(),
        }
    }

    /// Frames and the console go where they belong.
    fn exchange(&mut self) {
        for frame in self.chip.take_frames() {
            self.network.send(&frame);
        }
        self.network.poll(self.chip.time());
        while let Some(frame) = self.network.receive() {
            self.chip.deliver(frame);
        }
        if self.watch.is_some() {
            for operation in Watch::operations(&mut self.chip) {
                self.tell(&operation);
            }
        }
        let printed = self.chip.take_console();
        self.lines.print(&printed);
    }

    /// The next time that the watched image is entered is told; not the same time again.
    fn await_entry(&mut self) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.entry_addr != self.chip.pc()) {
            self.chip.await_entry(watch.entry_addr, watch.partition.clone());
        }
    }

    fn tell(&mut self, event: &Event) {
        self.lines.add(event.to_string());
    }

    /// Lets time pass in which the chip waits.
    fn wait(&mut self, until: Duration) {
        let left = until.saturating_sub(self.chip.time());
        let haste = if self.network.is_waiting() { 1 } else { HASTE };
        let began = Instant::now();
        self.network.wait((left / haste).min(PATIENCE));
        self.chip.pass(left.min(began.elapsed() * haste));
    }

    /// Brings the flash's file up to date; whether that worked.
    fn save(&mut self) -> bool {
        self.saved = Instant::now();
        match self.chip.flash_mut().persist() {
            Ok(()) => true,
            Err(error) => {
                self.lines.print(format!("chip: {error}\n").as_bytes());
                false
            }
        }
    }
}
