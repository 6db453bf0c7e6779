//! A second processor: slow, one instruction at a time, with numbers that do not overflow. It shares no code with the
//! model.
//!
//! Source: The RISC-V Instruction Set Manual (20240411), volumes I and II; The RISC-V Debug Specification 1.0, chapter 5,
//! for triggers; ESP32-C3 TRM v1.1, chapter 1, for what the chip has of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::forms::{Form, form_of};

/// Control registers: the first, how many of them, what they hold after a reset, and the bits that can be written.
#[rustfmt::skip]
const CSRS: &[(u32, u32, u32, u32)] = &[
    (0x300, 1, 0,           0x0020_1888), // mstatus: TW, MPP, MPIE, MIE
    (0x301, 1, 0x4010_1104, 0),           // misa: U, M, I, C
    (0x305, 1, 1,           0xFFFF_FF00), // mtvec: vectored
    (0x340, 1, 0,           0xFFFF_FFFF), // mscratch
    (0x341, 1, 0,           0xFFFF_FFFE), // mepc
    (0x342, 1, 0,           0x8000_001F), // mcause
    (0x343, 1, 0,           0xFFFF_FFFF), // mtval
    (0x3A0, 4, 0,           0xFFFF_FFFF), // pmpcfg
    (0x3B0, 16, 0,          0xFFFF_FFFF), // pmpaddr
    (0x7A0, 1, 0,           7),           // tselect
    (0x7A1, 1, 0x2000_0000, 0x0010_00CF), // tdata1: hit, match, m, u, execute, store, load
    (0x7A2, 1, 0,           0xFFFF_FFFF), // tdata2
    (0x7A5, 1, 0,           0x88),        // tcontrol: mpte, mte
    (0x7E0, 1, 0,           0x7FF),       // mpcer
    (0x7E1, 1, 0,           3),           // mpcmr
    (0x7E2, 1, 0,           0),           // mpccr
    (0x803, 3, 0,           0xFF),        // cpu_gpio
    (0xF11, 1, 0x612,       0),           // mvendorid
    (0xF12, 1, 0x8000_0001, 0),           // marchid
    (0xF13, 1, 1,           0),           // mimpid
    (0xF14, 1, 0,           0),           // mhartid
];

const MSTATUS: u32 = 0x300;
const MEPC: u32 = 0x341;
const TDATA1: u32 = 0x7A1;
const TDATA2: u32 = 0x7A2;
const TCONTROL: u32 = 0x7A5;
const TRIGGERS: u32 = 8;

/// Numbers of all control registers.
pub(super) fn csr_numbers() -> impl Iterator<Item = u32> {
    CSRS.iter().flat_map(|(first, count, _, _)| *first..first + count)
}

/// What an instruction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was carried out.
    Did(&'static str),
    /// It was not: an exception.
    Trapped(Option<&'static str>),
    /// Nothing is fetched there.
    Stopped,
    /// It was written since the last `fence.i`: the manual does not say what is executed (volume I, chapter 6).
    Unknown,
}

/// The processor and its memory.
#[derive(Clone)]
pub(super) struct Naive {
    pub(super) x: [u32; 32],
    pub(super) pc: u32,
    pub(super) executed: u64,
    /// By number, and for those of a trigger by its number.
    csrs: BTreeMap<(u32, u32), u32>,
    pub(super) base: u32,
    pub(super) ram: Vec<u8>,
    /// Where instructions are fetched.
    pub(super) code: Range<u32>,
    written: BTreeSet<u32>,
}

/// An exception: cause and value.
type Trap = (u32, u32);

impl Naive {
    pub(super) fn new(base: u32, ram: Vec<u8>) -> Self {
        let mut csrs = BTreeMap::new();
        for (first, count, reset, _) in CSRS {
            for number in *first..first + count {
                csrs.extend((0..TRIGGERS).map(|trigger| ((number, trigger), *reset)));
            }
        }
        Self { x: [0; 32], pc: 0, executed: 0, csrs, base, ram, code: 0..0, written: BTreeSet::new() }
    }

    /// Another program is there.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
    }

    /// A control register's value, with the number of its trigger.
    pub(super) fn csr(&self, number: u32, trigger: u32) -> u32 {
        self.csrs[&(number, trigger)]
    }

    fn key(&self, number: u32) -> (u32, u32) {
        let is_of_trigger = matches!(number, TDATA1 | TDATA2);
        (number, if is_of_trigger { self.csrs[&(0x7A0, 0)] } else { 0 })
    }

    /// What `csrr` gives.
    pub(super) fn read_csr(&self, number: u32) -> Option<u32> {
        let value = self.csrs.get(&self.key(number))?;
        Some(if number == 0x7E2 { self.executed as u32 } else { *value })
    }

    /// What `csrw` does.
    pub(super) fn write_csr(&mut self, number: u32, value: u32) -> Option<()> {
        let key = self.key(number);
        let before = *self.csrs.get(&key)?;
        // Bits 11 and 10 of the number are ones: it is read-only (volume II, 2.1).
        if number / 0x400 == 3 {
            return None;
        }
        let (.., writable) =
            CSRS.iter().find(|(first, count, ..)| (*first..first + count).contains(&number))?;
        let mut after = before & !writable | value & writable;
        if number == MSTATUS && matches!(value / 0x800 % 4, 1 | 2) {
            after = after & !0x1800 | before & 0x1800;
        }
        if number == TDATA1 && value & 0x780 > 0 {
            after |= 0x80;
        }
        self.csrs.insert(key, after);
        Some(())
    }

    fn flag(&self, number: u32, bit: u32) -> bool {
        self.csr(number, 0) / 2_u32.pow(bit) % 2 == 1
    }

    fn set_flag(&mut self, number: u32, bit: u32, value: bool) {
        let (before, weight) = (self.flag(number, bit), 2_u32.pow(bit));
        let register = self.csrs.get_mut(&(number, 0)).unwrap();
        *register = *register - u32::from(before) * weight + u32::from(value) * weight;
    }

    /// An interrupt of a line.
    pub(super) fn interrupt(&mut self, line: u32) {
        self.trap(0x8000_0000 + line, 0);
        self.pc += 4 * line;
    }

    fn trap(&mut self, cause: u32, value: u32) {
        self.csrs.insert((MEPC, 0), self.pc);
        self.csrs.insert((0x342, 0), cause);
        self.csrs.insert((0x343, 0), value);
        self.set_flag(MSTATUS, 7, self.flag(MSTATUS, 3));
        self.set_flag(MSTATUS, 3, false);
        self.set_flag(MSTATUS, 11, true);
        self.set_flag(MSTATUS, 12, true);
        self.set_flag(TCONTROL, 7, self.flag(TCONTROL, 3));
        self.set_flag(TCONTROL, 3, false);
        self.pc = self.csr(0x305, 0) / 256 * 256;
    }

    /// Whether a trigger of this kind, a bit of `tdata1`, fires at an access.
    fn fires(&mut self, kind: u32, addr: u32, len: u32) -> bool {
        if !self.flag(TCONTROL, 3) {
            return false;
        }
        for trigger in 0..TRIGGERS {
            let (how, watched) = (self.csr(TDATA1, trigger), self.csr(TDATA2, trigger));
            let is_on = |bit: u32| how >> bit & 1 == 1;
            let watches = |byte: u32| {
                if !is_on(7) {
                    return byte == watched;
                }
                let free = (0..32).take_while(|bit| watched >> bit & 1 == 1).count() + 1;
                u64::from(byte) >> free == u64::from(watched) >> free
            };
            if is_on(6) && is_on(kind) && (0..len).any(|offset| watches(addr.wrapping_add(offset))) {
                self.csrs.insert((TDATA1, trigger), how | 0x10_0000);
                return true;
            }
        }
        false
    }

    fn load(&mut self, addr: u32, len: u32) -> Result<i128, Trap> {
        if self.fires(0, addr, len) {
            return Err((3, addr));
        }
        if !addr.is_multiple_of(len) {
            return Err((4, addr));
        }
        let offset = addr.wrapping_sub(self.base) as usize;
        let bytes = self.ram.get(offset..).and_then(|ram| ram.get(..len as usize)).ok_or((5, addr))?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value * 256 + i128::from(*byte)))
    }

    fn store(&mut self, addr: u32, len: u32, value: u32) -> Result<(), Trap> {
        if self.fires(1, addr, len) {
            return Err((3, addr));
        }
        if !addr.is_multiple_of(len) {
            return Err((6, addr));
        }
        for index in 0..len {
            let offset = (addr + index).wrapping_sub(self.base) as usize;
            *self.ram.get_mut(offset).ok_or((7, addr))? = (value >> (8 * index)) as u8;
            self.written.insert(addr + index);
        }
        Ok(())
    }

    /// One instruction.
    pub(super) fn step(&mut self) -> Step {
        let pc = self.pc;
        if self.fires(2, pc, 2) {
            self.executed += 1;
            self.trap(3, pc);
            return Step::Trapped(None);
        }
        let half = |addr: u32| {
            let byte = |addr: u32| u32::from(self.ram[(addr - self.base) as usize]);
            self.code.contains(&addr).then(|| byte(addr) + 256 * byte(addr + 1))
        };
        let Some(low) = half(pc) else { return Step::Stopped };
        let len = if low % 4 == 3 { 4 } else { 2 };
        let Some(high) = (if len == 4 { half(pc + 2) } else { Some(0) }) else { return Step::Stopped };
        if self.written.range(pc..pc + len).next().is_some() {
            return Step::Unknown;
        }
        let bits = high * 0x1_0000 + low;
        let form = form_of(bits);
        let name = form.map(|form| form.name);
        let done = match form {
            Some(form) => self.carry_out(form, bits),
            None => Err((2, 0)),
        };
        let step = match done {
            Ok(()) => Step::Did(name.unwrap()),
            Err((cause, value)) => {
                self.pc = pc;
                self.trap(cause, value);
                Step::Trapped(name)
            }
        };
        self.executed += 1;
        self.x[0] = 0;
        step
    }

    fn carry_out(&mut self, form: &Form, bits: u32) -> Result<(), Trap> {
        let (d, rs1, rs2) = (form.register(bits, 'd'), form.register(bits, 's'), form.register(bits, 't'));
        let (s, t) = (self.x[rs1], self.x[rs2]);
        let (signed_s, signed_t) = (signed(s), signed(t));
        let (unsigned_s, unsigned_t) = (i128::from(s), i128::from(t));
        let imm = form.immediate(bits);
        let pc = i128::from(self.pc);
        let next = pc + i128::from(form.bytes);
        let addr = wrap(unsigned_s + imm);
        let mut goes_to = next;
        let mut result = None;
        match form.base {
            "lui" => result = Some(imm),
            "auipc" => result = Some(pc + imm),
            "jal" => (result, goes_to) = (Some(next), pc + imm),
            "jalr" => (result, goes_to) = (Some(next), i128::from(addr / 2 * 2)),
            "beq" if s == t => goes_to = pc + imm,
            "bne" if s != t => goes_to = pc + imm,
            "blt" if signed_s < signed_t => goes_to = pc + imm,
            "bge" if signed_s >= signed_t => goes_to = pc + imm,
            "bltu" if unsigned_s < unsigned_t => goes_to = pc + imm,
            "bgeu" if unsigned_s >= unsigned_t => goes_to = pc + imm,
            "beq" | "bne" | "blt" | "bge" | "bltu" | "bgeu" => {}
            "lb" => result = Some(extend(self.load(addr, 1)?, 8)),
            "lh" => result = Some(extend(self.load(addr, 2)?, 16)),
            "lw" => result = Some(self.load(addr, 4)?),
            "lbu" => result = Some(self.load(addr, 1)?),
            "lhu" => result = Some(self.load(addr, 2)?),
            "sb" => self.store(addr, 1, t)?,
            "sh" => self.store(addr, 2, t)?,
            "sw" => self.store(addr, 4, t)?,
            "addi" => result = Some(signed_s + imm),
            "slti" => result = Some((signed_s < imm).into()),
            // The immediate is sign-extended first and then without a sign.
            "sltiu" => result = Some((unsigned_s < i128::from(wrap(imm))).into()),
            "xori" => result = Some(by_bit(s, wrap(imm), |a, b| a != b)),
            "ori" => result = Some(by_bit(s, wrap(imm), |a, b| a || b)),
            "andi" => result = Some(by_bit(s, wrap(imm), |a, b| a && b)),
            "slli" => result = Some(unsigned_s * 2_i128.pow(imm as u32)),
            "srli" => result = Some(unsigned_s / 2_i128.pow(imm as u32)),
            "srai" => result = Some(signed_s.div_euclid(2_i128.pow(imm as u32))),
            "add" => result = Some(unsigned_s + unsigned_t),
            "sub" => result = Some(unsigned_s - unsigned_t),
            "sll" => result = Some(unsigned_s * 2_i128.pow(t % 32)),
            "slt" => result = Some((signed_s < signed_t).into()),
            "sltu" => result = Some((unsigned_s < unsigned_t).into()),
            "xor" => result = Some(by_bit(s, t, |a, b| a != b)),
            "srl" => result = Some(unsigned_s / 2_i128.pow(t % 32)),
            "sra" => result = Some(signed_s.div_euclid(2_i128.pow(t % 32))),
            "or" => result = Some(by_bit(s, t, |a, b| a || b)),
            "and" => result = Some(by_bit(s, t, |a, b| a && b)),
            "mul" => result = Some(signed_s * signed_t),
            "mulh" => result = Some((signed_s * signed_t).div_euclid(1 << 32)),
            "mulhsu" => result = Some((signed_s * unsigned_t).div_euclid(1 << 32)),
            "mulhu" => result = Some(unsigned_s * unsigned_t / (1 << 32)),
            // Table 11, "Semantics for division by zero and division overflow": the latter is what does not fit.
            "div" => result = Some(if t == 0 { -1 } else { signed_s / signed_t }),
            "divu" => result = Some(if t == 0 { -1 } else { unsigned_s / unsigned_t }),
            "rem" => result = Some(if t == 0 { signed_s } else { signed_s % signed_t }),
            "remu" => result = Some(if t == 0 { unsigned_s } else { unsigned_s % unsigned_t }),
            "fence" | "wfi" => {}
            "fence.i" => self.written.clear(),
            "ecall" => return Err((11, 0)),
            "ebreak" => return Err((3, self.pc)),
            "mret" => {
                goes_to = self.csr(MEPC, 0).into();
                self.set_flag(MSTATUS, 3, self.flag(MSTATUS, 7));
                self.set_flag(MSTATUS, 7, true);
                // The least privileged mode that there is.
                self.set_flag(MSTATUS, 11, false);
                self.set_flag(MSTATUS, 12, false);
                self.set_flag(TCONTROL, 3, self.flag(TCONTROL, 7));
            }
            csr => {
                let number = form.field(bits, 'c');
                let before = self.read_csr(number).ok_or((2, 0))?;
                let zimm = form.field(bits, 'z');
                let (operand, is_none) = if csr.ends_with('i') { (zimm, zimm == 0) } else { (s, rs1 == 0) };
                let after = match &csr[..5] {
                    "csrrw" => Some(i128::from(operand)),
                    "csrrs" => Some(by_bit(before, operand, |a, b| a || b)),
                    "csrrc" => Some(by_bit(before, operand, |a, b| a && !b)),
                    _ => unreachable!("{csr}"),
                };
                if let Some(after) = after.filter(|_| csr.starts_with("csrrw") || !is_none) {
                    self.write_csr(number, wrap(after)).ok_or((2, 0))?;
                }
                result = Some(before.into());
            }
        }
        if let Some(result) = result {
            self.x[d] = wrap(result);
        }
        self.pc = wrap(goes_to);
        Ok(())
    }
}

fn wrap(value: i128) -> u32 {
    value.rem_euclid(1 << 32) as u32
}

fn signed(value: u32) -> i128 {
    extend(value.into(), 32)
}

fn extend(value: i128, width: u32) -> i128 {
    if value >= 2_i128.pow(width - 1) { value - 2_i128.pow(width) } else { value }
}

fn by_bit(a: u32, b: u32, of: impl Fn(bool, bool) -> bool) -> i128 {
    (0..32).map(|bit| if of(a >> bit & 1 == 1, b >> bit & 1 == 1) { 2_i128.pow(bit) } else { 0 }).sum()
}
