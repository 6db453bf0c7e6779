//! Control and status registers, as far as the ESP32-C3 has them (TRM v1.1, table 1-1 "CSR Address Mapping").

use super::Trigger;

/// The numbers of the registers.
pub mod number {
    #![allow(missing_docs)]
    pub const MSTATUS: u32 = 0x300;
    pub const MISA: u32 = 0x301;
    pub const MTVEC: u32 = 0x305;
    pub const MSCRATCH: u32 = 0x340;
    pub const MEPC: u32 = 0x341;
    pub const MCAUSE: u32 = 0x342;
    pub const MTVAL: u32 = 0x343;
    pub const PMPCFG0: u32 = 0x3A0;
    pub const PMPADDR0: u32 = 0x3B0;
    pub const TSELECT: u32 = 0x7A0;
    pub const TDATA1: u32 = 0x7A1;
    pub const TDATA2: u32 = 0x7A2;
    pub const TCONTROL: u32 = 0x7A5;
    pub const MPCER: u32 = 0x7E0;
    pub const MPCMR: u32 = 0x7E1;
    pub const MPCCR: u32 = 0x7E2;
    pub const CPU_GPIO_OEN: u32 = 0x803;
    pub const CPU_GPIO_OUT: u32 = 0x805;
    pub const MVENDORID: u32 = 0xF11;
    pub const MARCHID: u32 = 0xF12;
    pub const MIMPID: u32 = 0xF13;
    pub const MHARTID: u32 = 0xF14;
}

/// `mstatus.MIE`: interrupts are on.
pub const MIE: u32 = 1 << 3;
/// `mstatus.MPIE`: they were on before the trap.
pub const MPIE: u32 = 1 << 7;
/// `mstatus.MPP`: the mode before the trap.
pub const MPP: u32 = 3 << 11;
/// `mstatus.TW`.
const TW: u32 = 1 << 21;

/// RV32IMC with user mode (TRM, register 1.6).
const ISA: u32 = 0x4010_1104;
/// Espressif (TRM, register 1.1).
const VENDOR: u32 = 0x612;
/// TRM, registers 1.2 and 1.3.
const ARCHITECTURE: u32 = 0x8000_0001;
const IMPLEMENTATION: u32 = 1;

/// `tcontrol.MTE`: triggers fire in machine mode; and what it was before the trap.
pub(super) const MTE: u32 = 1 << 3;
pub(super) const MPTE: u32 = 1 << 7;

/// How many triggers there are (TRM, 1.9).
pub(super) const TRIGGERS: usize = 8;

/// The registers that can be written.
#[derive(Clone, Debug, Default)]
pub struct Csrs {
    /// Machine status.
    pub mstatus: u32,
    /// Where traps go: a table of jumps, the first for exceptions.
    pub mtvec: u32,
    /// For the trap handler's own use.
    pub mscratch: u32,
    /// Where the last trap came from.
    pub mepc: u32,
    /// Why.
    pub mcause: u32,
    /// With which address or instruction.
    pub mtval: u32,
    /// Whether triggers fire in machine mode.
    pub tcontrol: u32,
    pub(super) tselect: u32,
    pub(super) triggers: [Trigger; TRIGGERS],
    pmpcfg: [u32; 4],
    pmpaddr: [u32; 16],
    mpcer: u32,
    mpcmr: u32,
    cpu_gpio: [u32; 3],
}

/// There is no register with this number, or it cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchRegister;

impl Csrs {
    /// A register's value. `cycles` is what the performance counter counts.
    ///
    /// # Errors
    /// The chip has no such register; it takes the instruction for an illegal one.
    pub fn read(&self, register: u32, cycles: u64) -> Result<u32, NoSuchRegister> {
        use number::*;
        Ok(match register {
            MSTATUS => self.mstatus,
            MISA => ISA,
            MTVEC => self.mtvec,
            MSCRATCH => self.mscratch,
            MEPC => self.mepc,
            MCAUSE => self.mcause,
            MTVAL => self.mtval,
            PMPCFG0..0x3A4 => self.pmpcfg[(register - PMPCFG0) as usize],
            PMPADDR0..0x3C0 => self.pmpaddr[(register - PMPADDR0) as usize],
            TSELECT => self.tselect,
            TDATA1 => self.trigger().tdata1,
            TDATA2 => self.trigger().tdata2,
            TCONTROL => self.tcontrol,
            MPCER => self.mpcer,
            MPCMR => self.mpcmr,
            MPCCR => cycles as u32,
            CPU_GPIO_OEN..=CPU_GPIO_OUT => self.cpu_gpio[(register - CPU_GPIO_OEN) as usize],
            MVENDORID => VENDOR,
            MARCHID => ARCHITECTURE,
            MIMPID => IMPLEMENTATION,
            MHARTID => 0,
            _ => return Err(NoSuchRegister),
        })
    }

    /// Writes a register; bits that are fixed stay as they are.
    ///
    /// # Errors
    /// The chip has no such register, or it is read-only.
    pub fn write(&mut self, register: u32, value: u32) -> Result<(), NoSuchRegister> {
        use number::*;
        match register {
            MSTATUS => {
                // Machine and user mode are all there is: a mode that is neither stays the one before.
                let mpp = if matches!(value & MPP, 0 | MPP) { value & MPP } else { self.mstatus & MPP };
                self.mstatus = value & (MIE | MPIE | TW) | mpp;
            }
            MISA => {}
            // Vectored, and nothing else (TRM, register 1.7): the base is a multiple of 256.
            MTVEC => self.mtvec = value & !0xFF | 1,
            MSCRATCH => self.mscratch = value,
            MEPC => self.mepc = value & !1,
            MCAUSE => self.mcause = value & 0x8000_001F,
            MTVAL => self.mtval = value,
            PMPCFG0..0x3A4 => self.pmpcfg[(register - PMPCFG0) as usize] = value,
            PMPADDR0..0x3C0 => self.pmpaddr[(register - PMPADDR0) as usize] = value,
            TSELECT => self.tselect = value & (TRIGGERS as u32 - 1),
            TDATA1 => self.trigger_mut().write_tdata1(value),
            TDATA2 => self.trigger_mut().tdata2 = value,
            TCONTROL => self.tcontrol = value & (MTE | MPTE),
            MPCER => self.mpcer = value & 0x7FF,
            MPCMR => self.mpcmr = value & 3,
            MPCCR => {}
            CPU_GPIO_OEN..=CPU_GPIO_OUT => self.cpu_gpio[(register - CPU_GPIO_OEN) as usize] = value & 0xFF,
            _ => return Err(NoSuchRegister),
        }
        Ok(())
    }

    fn trigger(&self) -> &Trigger {
        &self.triggers[self.tselect as usize % TRIGGERS]
    }

    fn trigger_mut(&mut self) -> &mut Trigger {
        &mut self.triggers[self.tselect as usize % TRIGGERS]
    }
}
