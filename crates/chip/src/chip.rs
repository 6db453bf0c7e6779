//! The chip as a whole.

use std::ops::Range;
use std::time::Duration;

use sim::bootloader::{Bootloader, NothingReason};
use sim::flash::SimFlash;
use updater::reset::Reset;

use crate::boot::{self, Booted};
use crate::bus::{Bus, ROM_ADDR, ROM_BYTES};
use crate::cpu::{Cpu, Exception, NOWHERE, Pause};
use crate::fault::Fault;
use crate::peripherals::rtc::Wanted;
use crate::rom::{Call, Called};
use crate::time;

/// The most instructions without a look at whether the time is over.
const SLICE: u64 = 100_000;

/// Why a run ended.
#[derive(Debug)]
pub enum Stopped {
    /// The time is over.
    TimeUp,
    /// The processor waits, and nothing happens before this time unless a frame comes.
    Idle {
        /// The time since the power came on.
        until: Duration,
    },
    /// The bootloader found nothing to start. On a chip it would reset and try again.
    NothingToStart(NothingReason),
    /// The flash lost its power.
    PowerLost,
    /// The processor is at the entry of the image that was awaited ([`Chip::await_entry`]).
    Entered,
    /// The model does not go on.
    Fault {
        /// Why.
        fault: Fault,
        /// The address of the instruction.
        pc: u32,
    },
}

/// A call of the ROM that is not over.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// The function, and the stack with which it was called: an interrupt may call it again meanwhile.
    pc: u32,
    sp: u32,
    done_at: u64,
    result: Option<u32>,
}

/// An ESP32-C3 with power, and its flash.
#[derive(Debug)]
pub struct Chip {
    cpu: Cpu,
    bus: Bus,
    bootloader: Bootloader,
    /// What happens before anything else.
    reset: Option<Reset>,
    is_waiting: bool,
    hangs: bool,
    calls: Vec<Pending>,
}

impl Chip {
    /// A chip whose power comes on with its first run. Whatever silicon leaves to chance comes from `seed`.
    pub fn new(flash: SimFlash, bootloader: Bootloader, seed: u64) -> Self {
        Self {
            cpu: Cpu::default(),
            bus: Bus::new(flash, seed),
            bootloader,
            reset: Some(Reset::PowerOn),
            is_waiting: false,
            hangs: false,
            calls: Vec::new(),
        }
    }

    /// The time since the power came on.
    pub fn time(&self) -> Duration {
        time::duration(self.bus.now)
    }

    /// Instructions executed since the power came on; the ROM's are none.
    pub fn instructions(&self) -> u64 {
        self.cpu.instructions
    }

    /// The address of the next instruction.
    pub fn pc(&self) -> u32 {
        self.cpu.pc
    }

    /// A general register of the processor, 0 to 31.
    pub fn x(&self, index: usize) -> u32 {
        self.cpu.x(index)
    }

    /// Its flash.
    pub fn flash(&self) -> &SimFlash {
        &self.bus.flash
    }

    /// Its flash, to be changed as a programmer would.
    pub fn flash_mut(&mut self) -> &mut SimFlash {
        &mut self.bus.flash
    }

    /// What it has printed since it was asked last.
    pub fn take_console(&mut self) -> Vec<u8> {
        self.bus.uart.take()
    }

    /// Frames that it has sent since it was asked last.
    pub fn take_frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.bus.sent)
    }

    /// A frame for it.
    pub fn deliver(&mut self, frame: Vec<u8>) {
        self.bus.ethernet.incoming.push_back(frame);
    }

    /// Resets it as the next thing that happens.
    pub fn reset(&mut self, reset: Reset) {
        self.reset = Some(reset);
    }

    /// From now on the processor stands still and takes no interrupts, until a reset.
    pub fn hang(&mut self) {
        self.hangs = true;
    }

    /// The processor comes upon no instruction.
    pub fn crash(&mut self) {
        self.is_waiting = false;
        self.cpu.exception(Exception::IllegalInstruction, 0);
    }

    /// Lets time pass while the processor waits.
    pub fn pass(&mut self, time: Duration) {
        self.bus.now = self.bus.now.saturating_add(time::ticks(time));
    }

    /// Ends the run when the processor comes to the entry of an image; `partition` is where in the flash the image is.
    pub fn await_entry(&mut self, entry_addr: u32, partition: Range<u32>) {
        self.cpu.awaited = entry_addr;
        self.bus.awaited_image = partition;
    }

    /// Where in the flash the first page of the running image's data is, if it has mapped any.
    pub fn image_addr(&self) -> Option<u32> {
        self.bus.image_addr()
    }

    /// Watches how far down a stack reaches from now on.
    pub fn watch_stack(&mut self, stack: Range<u32>) {
        self.cpu.watch_stack(stack);
    }

    /// How far down the watched stack has reached, and an address in the function that was there.
    pub fn lowest_stack(&self) -> (u32, u32) {
        self.cpu.lowest_stack()
    }

    /// Runs until so long after the power came on, or until something happens that the caller has to know.
    pub fn run(&mut self, until: Duration) -> Stopped {
        let until = time::ticks(until);
        self.bus.run_until = until;
        loop {
            if let Some(reset) = self.reset.take() {
                if let Some(stopped) = self.start(reset) {
                    return stopped;
                }
                if self.bus.now >= until {
                    return Stopped::TimeUp;
                }
                continue;
            }
            let line = self.bus.attend();
            let stopped = match self.bus.rtc.take_wanted() {
                Some(Wanted::Reset(reset)) => {
                    self.reset = Some(reset);
                    None
                }
                Some(Wanted::Sleep(Some(wakes_at))) => {
                    self.bus.now = self.bus.now.max(wakes_at);
                    self.reset = Some(Reset::DeepSleep);
                    None
                }
                Some(Wanted::Sleep(None)) => Some(self.fault(Fault::SleepsForEver)),
                None if self.bus.now >= until => Some(Stopped::TimeUp),
                None => self.go(line),
            };
            if let Some(stopped) = stopped {
                return stopped;
            }
        }
    }

    /// A reset, and what ROM and bootloader do after it.
    fn start(&mut self, reset: Reset) -> Option<Stopped> {
        (self.is_waiting, self.hangs) = (false, false);
        self.calls.clear();
        match boot::reset(&mut self.cpu, &mut self.bus, reset, &self.bootloader) {
            Booted::Image => None,
            Booted::Nothing(reason) => Some(Stopped::NothingToStart(reason)),
            Booted::PowerLost => Some(Stopped::PowerLost),
            Booted::Fault(fault) => Some(self.fault(fault)),
        }
    }

    fn go(&mut self, line: Option<u32>) -> Option<Stopped> {
        if self.hangs {
            return Some(self.idle());
        }
        if let Some(line) = line {
            self.is_waiting = false;
            if self.cpu.takes_interrupts() {
                self.cpu.interrupt(line);
            }
        }
        if self.is_waiting {
            return Some(self.idle());
        }
        if self.cpu.pc.wrapping_sub(ROM_ADDR) < ROM_BYTES {
            return self.go_in_rom();
        }
        match self.cpu.run(&mut self.bus, self.cpu.instructions + SLICE) {
            Pause::Count | Pause::Attention => None,
            Pause::Wait => {
                self.is_waiting = true;
                None
            }
            Pause::Awaited => {
                self.cpu.awaited = NOWHERE;
                Some(Stopped::Entered)
            }
            Pause::Stop => self.bus.take_fault().map(|fault| self.fault(fault)),
        }
    }

    /// The processor is at the beginning of a function of the ROM, or back in it after an interrupt.
    fn go_in_rom(&mut self) -> Option<Stopped> {
        let (pc, sp) = (self.cpu.pc, self.cpu.x(2));
        let begun = self.calls.iter().rposition(|call| (call.pc, call.sp) == (pc, sp));
        let call = match begun {
            Some(index) => self.calls[index],
            None => {
                let called = match Call::at(&self.cpu) {
                    Ok(call) => call.run(&mut self.bus),
                    Err(fault) => return Some(self.fault(fault)),
                };
                match called {
                    Called::Return(result) => {
                        self.give_back(result);
                        return None;
                    }
                    Called::Wide(result) => {
                        self.cpu.set_x(11, (result >> 32) as u32);
                        self.give_back(Some(result as u32));
                        return None;
                    }
                    Called::Later(done_at, result) => {
                        // Where it waits no function begins: who comes there goes on with this call.
                        let call = Pending { pc: pc + 2, sp, done_at, result };
                        self.cpu.pc = call.pc;
                        self.calls.push(call);
                        call
                    }
                    Called::Reset(reset) => {
                        self.reset = Some(reset);
                        return None;
                    }
                    Called::PowerLost => return Some(Stopped::PowerLost),
                    Called::Fault(fault) => return Some(self.fault(fault)),
                }
            }
        };
        if self.bus.now < call.done_at {
            // The next event may be an interrupt, which comes first.
            self.bus.attend();
            self.bus.now = self.bus.now.max(call.done_at.min(self.bus.next_event()));
        }
        if self.bus.now >= call.done_at {
            self.calls.retain(|other| (other.pc, other.sp) != (call.pc, sp));
            self.give_back(call.result);
        }
        None
    }

    fn give_back(&mut self, result: Option<u32>) {
        if let Some(result) = result {
            self.cpu.set_x(10, result);
        }
        self.cpu.pc = self.cpu.x(1);
    }

    /// Until the next event, and for a moment at least: whoever lets the time pass gets on.
    fn idle(&self) -> Stopped {
        let until = self.bus.next_event().max(self.bus.now + time::TICKS_PER_SECOND / 1_000_000);
        Stopped::Idle { until: time::duration(until) }
    }

    fn fault(&self, fault: Fault) -> Stopped {
        Stopped::Fault { fault, pc: self.cpu.pc }
    }
}
