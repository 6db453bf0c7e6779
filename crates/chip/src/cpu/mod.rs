//! The processor of the ESP32-C3: RV32IMC in machine mode.
//!
//! Source: ESP32-C3 TRM v1.1, chapter 1; The RISC-V Instruction Set Manual (20240411), volumes I and II.

mod blocks;
pub mod csr;
pub mod decode;
mod execute;
mod memory;
mod trigger;

use std::ops::Range;

pub use csr::Csrs;
pub use memory::{Memory, Refused};

use blocks::Blocks;
use trigger::{Guard, Trigger, Watched};

/// Why an instruction was not carried out (`mcause`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Exception {
    /// An instruction was to be fetched where none can be.
    InstructionAccess = 1,
    /// No instruction of this processor.
    IllegalInstruction = 2,
    /// `ebreak`, or a trigger.
    Breakpoint = 3,
    /// A load from an address that is no multiple of its size.
    LoadMisaligned = 4,
    /// A load where nothing can be read.
    LoadAccess = 5,
    /// A store to an address that is no multiple of its size.
    StoreMisaligned = 6,
    /// A store where nothing can be written.
    StoreAccess = 7,
    /// `ecall` in machine mode.
    EnvironmentCall = 11,
}

/// Why the processor paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It has executed as many instructions as it was to.
    Count,
    /// The memory wants attention.
    Attention,
    /// It waits for an interrupt.
    Wait,
    /// It came to an address from which nothing is fetched, and the memory knows why.
    Stop,
    /// It is where it was awaited.
    Awaited,
}

/// No instruction is here: its address is odd.
pub(crate) const NOWHERE: u32 = 1;

/// A processor.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// x0 to x31; what is written to x0 lands behind them.
    x: [u32; 64],
    /// The address of the next instruction.
    pub pc: u32,
    /// Control and status registers.
    pub csr: Csrs,
    /// Instructions executed since the processor was made.
    pub instructions: u64,
    /// An address at which it pauses if the memory agrees; an odd one if there is none.
    pub awaited: u32,
    /// Where a stack is that is watched.
    stack: Range<u32>,
    /// How far down that stack has reached, its upper end before it was used; and the code that was there.
    lowest_stack: u32,
    lowest_stack_pc: u32,
    /// What triggers watch loads and stores of, as long as they fire.
    guard: Guard,
    /// Whether one watches for instructions.
    watches_code: bool,
    blocks: Blocks,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            x: [0; 64],
            pc: 0,
            csr: Csrs::default(),
            instructions: 0,
            awaited: NOWHERE,
            stack: 0..0,
            lowest_stack: 0,
            lowest_stack_pc: 0,
            guard: Guard::default(),
            watches_code: false,
            blocks: Blocks::default(),
        }
    }
}

impl Cpu {
    /// The value of register `index`, 0 to 31.
    pub fn x(&self, index: usize) -> u32 {
        self.x[index % 32]
    }

    /// Sets register `index`; register 0 stays 0.
    pub fn set_x(&mut self, index: usize, value: u32) {
        if !index.is_multiple_of(32) {
            self.x[index % 32] = value;
        }
    }

    /// Watches how far down a stack reaches.
    pub fn watch_stack(&mut self, stack: Range<u32>) {
        self.lowest_stack = stack.end;
        self.stack = stack;
    }

    /// How far down the watched stack has reached, and an address in the function that was there.
    pub fn lowest_stack(&self) -> (u32, u32) {
        (self.lowest_stack, self.lowest_stack_pc)
    }

    /// A reset: control registers take the values that they have then, general registers keep theirs.
    pub fn reset(&mut self, pc: u32) {
        self.pc = pc;
        self.csr = Csrs::default();
        self.csr.mtvec = 1;
        self.look_at_triggers();
    }

    /// Whether interrupts are on.
    pub fn takes_interrupts(&self) -> bool {
        self.csr.mstatus & csr::MIE != 0
    }

    /// Takes the interrupt of a line, 1 to 31.
    pub fn interrupt(&mut self, line: u32) {
        self.trap(1 << 31 | line, 0, line);
    }

    /// Takes an exception at the next instruction.
    pub fn exception(&mut self, exception: Exception, value: u32) {
        self.trap(exception as u32, value, 0);
    }

    fn trap(&mut self, cause: u32, value: u32, vector: u32) {
        let csr = &mut self.csr;
        csr.mepc = self.pc;
        csr.mcause = cause;
        csr.mtval = value;
        let was_on = csr.mstatus & csr::MIE != 0;
        csr.mstatus = csr.mstatus & !(csr::MIE | csr::MPIE) | csr::MPP;
        if was_on {
            csr.mstatus |= csr::MPIE;
        }
        let fired = csr.tcontrol & csr::MTE != 0;
        csr.tcontrol = if fired { csr::MPTE } else { 0 };
        self.pc = (csr.mtvec & !0xFF).wrapping_add(4 * vector);
        self.look_at_triggers();
    }

    fn mret(&mut self) {
        let csr = &mut self.csr;
        let was_on = csr.mstatus & csr::MPIE != 0;
        csr.mstatus = csr.mstatus & !(csr::MIE | csr::MPP) | csr::MPIE;
        if was_on {
            csr.mstatus |= csr::MIE;
        }
        csr.tcontrol = if csr.tcontrol & csr::MPTE != 0 { csr::MPTE | csr::MTE } else { 0 };
        self.pc = csr.mepc;
        self.look_at_triggers();
    }

    /// Looks what is watched, after the triggers or what turns them on and off were written.
    fn look_at_triggers(&mut self) {
        let on = self.csr.tcontrol & csr::MTE != 0;
        let triggers = || self.csr.triggers.iter().filter(|_| on);
        let guard = Guard::over(triggers());
        let watches_code =
            triggers().any(|trigger| trigger.range().is_some() && trigger.watches(Watched::Execute));
        (self.guard, self.watches_code) = (guard, watches_code);
    }

    /// Whether a trigger fires at an access to `len` bytes.
    #[cold]
    fn fires(&mut self, how: Watched, addr: u32, len: u32) -> bool {
        if self.csr.tcontrol & csr::MTE == 0 {
            return false;
        }
        let watching = |trigger: &&mut Trigger| {
            let touches = trigger.range().is_some_and(|(first, to_last)| {
                addr.wrapping_sub(first) <= to_last || first.wrapping_sub(addr) < len
            });
            touches && trigger.watches(how)
        };
        match self.csr.triggers.iter_mut().find(watching) {
            Some(trigger) => {
                trigger.hit();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
