//! A small assembler: 32-bit instructions only (The RISC-V Instruction Set Manual, volume I, chapters 2 and
//! 37).

use std::collections::HashMap;

pub(crate) type Reg = u32;
pub(crate) const ZERO: Reg = 0;
pub(crate) const RA: Reg = 1;
pub(crate) const SP: Reg = 2;
pub(crate) const TP: Reg = 4;
/// Helpers of [`Code`] change T0, T1 and T2, and nothing else but what they say.
pub(crate) const T0: Reg = 5;
pub(crate) const T1: Reg = 6;
pub(crate) const T2: Reg = 7;
pub(crate) const S0: Reg = 8;
pub(crate) const S1: Reg = 9;
pub(crate) const A0: Reg = 10;
pub(crate) const A1: Reg = 11;
pub(crate) const A2: Reg = 12;
pub(crate) const A3: Reg = 13;
pub(crate) const A4: Reg = 14;
pub(crate) const A5: Reg = 15;
pub(crate) const S2: Reg = 18;
pub(crate) const S3: Reg = 19;
pub(crate) const S4: Reg = 20;
pub(crate) const S5: Reg = 21;
pub(crate) const S6: Reg = 22;
pub(crate) const S7: Reg = 23;
pub(crate) const S8: Reg = 24;
pub(crate) const S9: Reg = 25;
pub(crate) const T3: Reg = 28;
pub(crate) const T4: Reg = 29;

pub(crate) const MSTATUS: u32 = 0x300;
pub(crate) const MTVEC: u32 = 0x305;
pub(crate) const MEPC: u32 = 0x341;
pub(crate) const MCAUSE: u32 = 0x342;
pub(crate) const MTVAL: u32 = 0x343;
pub(crate) const MIE: u32 = 8;

/// The ROM's functions, `ADDRESS NAME`.
const ROM: &str = include_str!("../../data/rom.txt");

/// Where the ROM has a function.
pub(crate) fn rom(name: &str) -> u32 {
    let found = ROM.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' '));
    u32::from_str_radix(found.unwrap_or_else(|| panic!("no {name} in the ROM")), 16).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Branch,
    Jump,
    /// `lui` and `addi`.
    Address,
}

/// Instructions from some address on. Labels may be used before they are set.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    addr: u32,
    words: Vec<u32>,
    labels: HashMap<String, u32>,
    open: Vec<(usize, Form, String)>,
    helpers: usize,
}

impl Code {
    pub(crate) fn at(addr: u32) -> Self {
        Self { addr, words: Vec::new(), labels: HashMap::new(), open: Vec::new(), helpers: 0 }
    }

    pub(crate) fn addr(&self) -> u32 {
        self.addr
    }

    fn here(&self) -> u32 {
        self.addr + 4 * self.words.len() as u32
    }

    pub(crate) fn addr_of(&self, label: &str) -> u32 {
        *self.labels.get(label).unwrap_or_else(|| panic!("no label {label}"))
    }

    /// The bytes, with every label in its place.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut words = self.words.clone();
        for (index, form, label) in &self.open {
            let to = self.addr_of(label);
            let distance = to.wrapping_sub(self.addr + 4 * *index as u32);
            match form {
                Form::Branch => words[*index] |= branch_bits(distance),
                Form::Jump => words[*index] |= jump_bits(distance),
                Form::Address => {
                    words[*index] |= upper(to);
                    words[*index + 1] |= to << 20;
                }
            }
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn word(mut self, word: u32) -> Self {
        self.words.push(word);
        self
    }

    pub(crate) fn label(mut self, name: &str) -> Self {
        let before = self.labels.insert(name.to_owned(), self.here());
        assert_eq!(before, None, "{name} is set twice");
        self
    }

    fn to(mut self, word: u32, form: Form, label: &str) -> Self {
        self.open.push((self.words.len(), form, label.to_owned()));
        self.word(word)
    }

    fn i(self, opcode: u32, funct: u32, rd: Reg, rs: Reg, imm: i32) -> Self {
        assert!((-2048..2048).contains(&imm), "{imm}");
        self.word((imm as u32) << 20 | rs << 15 | funct << 12 | rd << 7 | opcode)
    }

    fn r(self, funct: u32, rd: Reg, a: Reg, b: Reg) -> Self {
        self.word(funct >> 3 << 25 | b << 20 | a << 15 | (funct & 7) << 12 | rd << 7 | 0x33)
    }

    fn s(self, funct: u32, rs: Reg, base: Reg, imm: i32) -> Self {
        assert!((-2048..2048).contains(&imm), "{imm}");
        let imm = imm as u32;
        self.word((imm >> 5) << 25 | rs << 20 | base << 15 | funct << 12 | (imm & 31) << 7 | 0x23)
    }

    pub(crate) fn addi(self, rd: Reg, rs: Reg, imm: i32) -> Self {
        self.i(0x13, 0, rd, rs, imm)
    }
    pub(crate) fn andi(self, rd: Reg, rs: Reg, imm: i32) -> Self {
        self.i(0x13, 7, rd, rs, imm)
    }
    pub(crate) fn slli(self, rd: Reg, rs: Reg, by: i32) -> Self {
        self.i(0x13, 1, rd, rs, by)
    }
    pub(crate) fn srli(self, rd: Reg, rs: Reg, by: i32) -> Self {
        self.i(0x13, 5, rd, rs, by)
    }
    pub(crate) fn add(self, rd: Reg, a: Reg, b: Reg) -> Self {
        self.r(0, rd, a, b)
    }
    pub(crate) fn sub(self, rd: Reg, a: Reg, b: Reg) -> Self {
        self.r(0x20 << 3, rd, a, b)
    }
    pub(crate) fn or(self, rd: Reg, a: Reg, b: Reg) -> Self {
        self.r(6, rd, a, b)
    }
    pub(crate) fn and(self, rd: Reg, a: Reg, b: Reg) -> Self {
        self.r(7, rd, a, b)
    }
    pub(crate) fn mv(self, rd: Reg, rs: Reg) -> Self {
        self.addi(rd, rs, 0)
    }
    pub(crate) fn lb(self, rd: Reg, base: Reg, imm: i32) -> Self {
        self.i(0x03, 0, rd, base, imm)
    }
    pub(crate) fn lh(self, rd: Reg, base: Reg, imm: i32) -> Self {
        self.i(0x03, 1, rd, base, imm)
    }
    pub(crate) fn lw(self, rd: Reg, base: Reg, imm: i32) -> Self {
        self.i(0x03, 2, rd, base, imm)
    }
    pub(crate) fn sb(self, rs: Reg, base: Reg, imm: i32) -> Self {
        self.s(0, rs, base, imm)
    }
    pub(crate) fn sh(self, rs: Reg, base: Reg, imm: i32) -> Self {
        self.s(1, rs, base, imm)
    }
    pub(crate) fn sw(self, rs: Reg, base: Reg, imm: i32) -> Self {
        self.s(2, rs, base, imm)
    }
    pub(crate) fn beq(self, a: Reg, b: Reg, label: &str) -> Self {
        self.to(b << 20 | a << 15 | 0x63, Form::Branch, label)
    }
    pub(crate) fn bne(self, a: Reg, b: Reg, label: &str) -> Self {
        self.to(b << 20 | a << 15 | 1 << 12 | 0x63, Form::Branch, label)
    }
    pub(crate) fn bltu(self, a: Reg, b: Reg, label: &str) -> Self {
        self.to(b << 20 | a << 15 | 6 << 12 | 0x63, Form::Branch, label)
    }
    pub(crate) fn j(self, label: &str) -> Self {
        self.to(0x6F, Form::Jump, label)
    }
    pub(crate) fn jalr(self, rd: Reg, base: Reg, imm: i32) -> Self {
        self.i(0x67, 0, rd, base, imm)
    }
    pub(crate) fn ret(self) -> Self {
        self.jalr(ZERO, RA, 0)
    }
    pub(crate) fn csrr(self, rd: Reg, csr: u32) -> Self {
        self.word(csr << 20 | 2 << 12 | rd << 7 | 0x73)
    }
    pub(crate) fn csrw(self, csr: u32, rs: Reg) -> Self {
        self.word(csr << 20 | rs << 15 | 1 << 12 | 0x73)
    }
    pub(crate) fn mret(self) -> Self {
        self.word(0x3020_0073)
    }
    pub(crate) fn wfi(self) -> Self {
        self.word(0x1050_0073)
    }
    pub(crate) fn fence_i(self) -> Self {
        self.word(0x0000_100F)
    }

    /// Turns interrupts on with one instruction (`csrsi`).
    pub(crate) fn interrupts_on(self) -> Self {
        self.word(MSTATUS << 20 | MIE << 15 | 6 << 12 | 0x73)
    }
    pub(crate) fn interrupts_off(self) -> Self {
        self.word(MSTATUS << 20 | MIE << 15 | 7 << 12 | 0x73)
    }

    /// Any constant, in one or two instructions.
    pub(crate) fn li(self, rd: Reg, value: u32) -> Self {
        let low = (value << 20) as i32 >> 20;
        match upper(value) {
            0 => self.addi(rd, ZERO, low),
            upper => self.word(upper | rd << 7 | 0x37).addi(rd, rd, low),
        }
    }

    /// The address of a label.
    pub(crate) fn la(self, rd: Reg, label: &str) -> Self {
        self.to(rd << 7 | 0x37, Form::Address, label).addi(rd, rd, 0)
    }

    /// Calls any address.
    pub(crate) fn call(self, addr: u32) -> Self {
        self.li(RA, addr).jalr(RA, RA, 0)
    }

    /// Calls a function of the ROM.
    pub(crate) fn rom(self, name: &str, arguments: &[u32]) -> Self {
        let code = (A0..).zip(arguments).fold(self, |code, (reg, value)| code.li(reg, *value));
        code.call(rom(name))
    }

    /// Loads the word at an address.
    pub(crate) fn load(self, rd: Reg, addr: u32) -> Self {
        self.li(T0, addr).lw(rd, T0, 0)
    }

    /// Stores a constant at an address.
    pub(crate) fn store(self, addr: u32, value: u32) -> Self {
        self.li(T1, value).store_reg(addr, T1)
    }

    /// Stores a register at an address.
    pub(crate) fn store_reg(self, addr: u32, rs: Reg) -> Self {
        self.li(T0, addr).sw(rs, T0, 0)
    }

    /// Adds one to the word at an address, whose new value is in `rd` then.
    pub(crate) fn increment(self, rd: Reg, addr: u32) -> Self {
        self.load(rd, addr).addi(rd, rd, 1).sw(rd, T0, 0)
    }

    /// Prints over UART 0.
    pub(crate) fn print(self, text: &str) -> Self {
        let code = self.li(T0, 0x6000_0000);
        text.bytes().fold(code, |code, byte| code.li(T1, u32::from(byte)).sw(T1, T0, 0))
    }

    /// Prints a word as four bytes, for `told`.
    pub(crate) fn tell(self, rs: Reg) -> Self {
        let code = self.li(T0, 0x6000_0000).mv(T1, rs).sw(T1, T0, 0);
        (0..3).fold(code, |code, _| code.srli(T1, T1, 8).sw(T1, T0, 0))
    }

    /// The end: it waits, and does so again when something wakes it.
    pub(crate) fn end(mut self) -> Self {
        self.helpers += 1;
        let name = format!("end {}", self.helpers);
        self.label(&name).wfi().j(&name)
    }

    /// A table of vectors at the next multiple of 256, all of which jump to `handler`.
    pub(crate) fn vectors(mut self, label: &str, handler: &str) -> Self {
        while !self.here().is_multiple_of(256) {
            self = self.word(0);
        }
        (0..32).fold(self.label(label), |code, _| code.j(handler))
    }

    /// Sends traps to a table in this code.
    pub(crate) fn traps_to(self, label: &str) -> Self {
        self.la(T0, label).csrw(MTVEC, T0)
    }
}

/// What `lui` has to load so that a signed `addi` of the low bits gives the value.
fn upper(value: u32) -> u32 {
    value.wrapping_add(0x800) & !0xFFF
}

fn branch_bits(distance: u32) -> u32 {
    assert!((-4096..4096).contains(&(distance as i32)), "{distance:#x}");
    let d = distance;
    (d >> 12 & 1) << 31 | (d >> 5 & 0x3F) << 25 | (d >> 1 & 0xF) << 8 | (d >> 11 & 1) << 7
}

fn jump_bits(distance: u32) -> u32 {
    assert!((-(1 << 20)..1 << 20).contains(&(distance as i32)), "{distance:#x}");
    let d = distance;
    (d >> 20 & 1) << 31 | (d >> 1 & 0x3FF) << 21 | (d >> 11 & 1) << 20 | (d >> 12 & 0xFF) << 12
}
