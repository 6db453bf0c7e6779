//! The instructions of RV32IMC and Zicsr as the manual draws them.
//!
//! Source: The RISC-V Instruction Set Manual, volume I (20240411): chapter 34 "RV32/64G Instruction Set Listings", tables
//! of section 26.8 "RVC Instruction Set Listings"; volume II for `mret` and `wfi`.

use std::sync::LazyLock;

/// A pattern has its bits from the left: `d`, `s`, `t` are rd, rs1 and rs2, and `x` is rd and rs1 at once; a register of
/// three bits is one of x8 to x15, and one in capitals is not x0. `c` is a CSR's number, `z` the immediate of a CSR
/// instruction, `i` the immediate's bits in the order of the figure that follows, `-` what does not matter. Last is the
/// instruction that a compressed one stands for, with the registers that it implies.
#[rustfmt::skip]
const ROWS: &[(&str, &str, &str, &str)] = &[
    ("lui",    "iiiiiiiiiiiiiiiiiiii ddddd 0110111",         "imm[31:12]",               "lui"),
    ("auipc",  "iiiiiiiiiiiiiiiiiiii ddddd 0010111",         "imm[31:12]",               "auipc"),
    ("jal",    "iiiiiiiiiiiiiiiiiiii ddddd 1101111",         "imm[20|10:1|11|19:12]",    "jal"),
    ("jalr",   "iiiiiiiiiiii sssss 000 ddddd 1100111",       "imm[11:0]",                "jalr"),
    ("beq",    "iiiiiii ttttt sssss 000 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "beq"),
    ("bne",    "iiiiiii ttttt sssss 001 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "bne"),
    ("blt",    "iiiiiii ttttt sssss 100 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "blt"),
    ("bge",    "iiiiiii ttttt sssss 101 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "bge"),
    ("bltu",   "iiiiiii ttttt sssss 110 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "bltu"),
    ("bgeu",   "iiiiiii ttttt sssss 111 iiiii 1100011",      "imm[12|10:5|4:1|11]",      "bgeu"),
    ("lb",     "iiiiiiiiiiii sssss 000 ddddd 0000011",       "imm[11:0]",                "lb"),
    ("lh",     "iiiiiiiiiiii sssss 001 ddddd 0000011",       "imm[11:0]",                "lh"),
    ("lw",     "iiiiiiiiiiii sssss 010 ddddd 0000011",       "imm[11:0]",                "lw"),
    ("lbu",    "iiiiiiiiiiii sssss 100 ddddd 0000011",       "imm[11:0]",                "lbu"),
    ("lhu",    "iiiiiiiiiiii sssss 101 ddddd 0000011",       "imm[11:0]",                "lhu"),
    ("sb",     "iiiiiii ttttt sssss 000 iiiii 0100011",      "imm[11:5|4:0]",            "sb"),
    ("sh",     "iiiiiii ttttt sssss 001 iiiii 0100011",      "imm[11:5|4:0]",            "sh"),
    ("sw",     "iiiiiii ttttt sssss 010 iiiii 0100011",      "imm[11:5|4:0]",            "sw"),
    ("addi",   "iiiiiiiiiiii sssss 000 ddddd 0010011",       "imm[11:0]",                "addi"),
    ("slti",   "iiiiiiiiiiii sssss 010 ddddd 0010011",       "imm[11:0]",                "slti"),
    ("sltiu",  "iiiiiiiiiiii sssss 011 ddddd 0010011",       "imm[11:0]",                "sltiu"),
    ("xori",   "iiiiiiiiiiii sssss 100 ddddd 0010011",       "imm[11:0]",                "xori"),
    ("ori",    "iiiiiiiiiiii sssss 110 ddddd 0010011",       "imm[11:0]",                "ori"),
    ("andi",   "iiiiiiiiiiii sssss 111 ddddd 0010011",       "imm[11:0]",                "andi"),
    ("slli",   "0000000 iiiii sssss 001 ddddd 0010011",      "uimm[4:0]",                "slli"),
    ("srli",   "0000000 iiiii sssss 101 ddddd 0010011",      "uimm[4:0]",                "srli"),
    ("srai",   "0100000 iiiii sssss 101 ddddd 0010011",      "uimm[4:0]",                "srai"),
    ("add",    "0000000 ttttt sssss 000 ddddd 0110011",      "",                         "add"),
    ("sub",    "0100000 ttttt sssss 000 ddddd 0110011",      "",                         "sub"),
    ("sll",    "0000000 ttttt sssss 001 ddddd 0110011",      "",                         "sll"),
    ("slt",    "0000000 ttttt sssss 010 ddddd 0110011",      "",                         "slt"),
    ("sltu",   "0000000 ttttt sssss 011 ddddd 0110011",      "",                         "sltu"),
    ("xor",    "0000000 ttttt sssss 100 ddddd 0110011",      "",                         "xor"),
    ("srl",    "0000000 ttttt sssss 101 ddddd 0110011",      "",                         "srl"),
    ("sra",    "0100000 ttttt sssss 101 ddddd 0110011",      "",                         "sra"),
    ("or",     "0000000 ttttt sssss 110 ddddd 0110011",      "",                         "or"),
    ("and",    "0000000 ttttt sssss 111 ddddd 0110011",      "",                         "and"),
    ("mul",    "0000001 ttttt sssss 000 ddddd 0110011",      "",                         "mul"),
    ("mulh",   "0000001 ttttt sssss 001 ddddd 0110011",      "",                         "mulh"),
    ("mulhsu", "0000001 ttttt sssss 010 ddddd 0110011",      "",                         "mulhsu"),
    ("mulhu",  "0000001 ttttt sssss 011 ddddd 0110011",      "",                         "mulhu"),
    ("div",    "0000001 ttttt sssss 100 ddddd 0110011",      "",                         "div"),
    ("divu",   "0000001 ttttt sssss 101 ddddd 0110011",      "",                         "divu"),
    ("rem",    "0000001 ttttt sssss 110 ddddd 0110011",      "",                         "rem"),
    ("remu",   "0000001 ttttt sssss 111 ddddd 0110011",      "",                         "remu"),
    ("fence",  "------------ ----- 000 ----- 0001111",       "",                         "fence"),
    ("fence.i","------------ ----- 001 ----- 0001111",       "",                         "fence.i"),
    ("ecall",  "000000000000 00000 000 00000 1110011",       "",                         "ecall"),
    ("ebreak", "000000000001 00000 000 00000 1110011",       "",                         "ebreak"),
    ("mret",   "001100000010 00000 000 00000 1110011",       "",                         "mret"),
    ("wfi",    "000100000101 00000 000 00000 1110011",       "",                         "wfi"),
    ("csrrw",  "cccccccccccc sssss 001 ddddd 1110011",       "",                         "csrrw"),
    ("csrrs",  "cccccccccccc sssss 010 ddddd 1110011",       "",                         "csrrs"),
    ("csrrc",  "cccccccccccc sssss 011 ddddd 1110011",       "",                         "csrrc"),
    ("csrrwi", "cccccccccccc zzzzz 101 ddddd 1110011",       "",                         "csrrwi"),
    ("csrrsi", "cccccccccccc zzzzz 110 ddddd 1110011",       "",                         "csrrsi"),
    ("csrrci", "cccccccccccc zzzzz 111 ddddd 1110011",       "",                         "csrrci"),
    ("c.addi4spn", "000 iiiiiiii ddd 00",                    "nzuimm[5:4|9:6|2|3]",      "addi s2"),
    ("c.lw",       "010 iii sss ii ddd 00",                  "uimm[5:3|2|6]",            "lw"),
    ("c.sw",       "110 iii sss ii ttt 00",                  "uimm[5:3|2|6]",            "sw"),
    // With x0 it is c.nop, or a hint.
    ("c.addi",     "000 i xxxxx iiiii 01",                   "imm[5|4:0]",               "addi"),
    ("c.jal",      "001 iiiiiiiiiii 01",                     "imm[11|4|9:8|10|6|7|3:1|5]", "jal d1"),
    ("c.li",       "010 i ddddd iiiii 01",                   "imm[5|4:0]",               "addi"),
    ("c.addi16sp", "011 i 00010 iiiii 01",                   "nzimm[9|4|6|8:7|5]",       "addi s2 d2"),
    ("c.lui",      "011 i ddddd iiiii 01",                   "nzimm[17|16:12]",          "lui"),
    ("c.srli",     "100 0 00 xxx iiiii 01",                  "uimm[4:0]",                "srli"),
    ("c.srai",     "100 0 01 xxx iiiii 01",                  "uimm[4:0]",                "srai"),
    ("c.andi",     "100 i 10 xxx iiiii 01",                  "imm[5|4:0]",               "andi"),
    ("c.sub",      "100 0 11 xxx 00 ttt 01",                 "",                         "sub"),
    ("c.xor",      "100 0 11 xxx 01 ttt 01",                 "",                         "xor"),
    ("c.or",       "100 0 11 xxx 10 ttt 01",                 "",                         "or"),
    ("c.and",      "100 0 11 xxx 11 ttt 01",                 "",                         "and"),
    ("c.j",        "101 iiiiiiiiiii 01",                     "imm[11|4|9:8|10|6|7|3:1|5]", "jal"),
    ("c.beqz",     "110 iii sss iiiii 01",                   "imm[8|4:3|7:6|2:1|5]",     "beq"),
    ("c.bnez",     "111 iii sss iiiii 01",                   "imm[8|4:3|7:6|2:1|5]",     "bne"),
    ("c.slli",     "000 0 xxxxx iiiii 10",                   "uimm[4:0]",                "slli"),
    ("c.lwsp",     "010 i DDDDD iiiii 10",                   "uimm[5|4:2|7:6]",          "lw s2"),
    ("c.jr",       "100 0 SSSSS 00000 10",                   "",                         "jalr"),
    ("c.mv",       "100 0 ddddd TTTTT 10",                   "",                         "add"),
    ("c.ebreak",   "100 1 00000 00000 10",                   "",                         "ebreak"),
    ("c.jalr",     "100 1 SSSSS 00000 10",                   "",                         "jalr d1"),
    ("c.add",      "100 1 xxxxx TTTTT 10",                   "",                         "add"),
    ("c.swsp",     "110 iiiiii ttttt 10",                    "uimm[5:2|7:6]",            "sw s2"),
];

/// One instruction, as far as its bits go.
pub(super) struct Form {
    pub(super) name: &'static str,
    /// The instruction that it stands for.
    pub(super) base: &'static str,
    /// Its length.
    pub(super) bytes: u32,
    implied: Vec<(char, u32)>,
    /// The bits that are fixed, and what they are.
    mask: u32,
    value: u32,
    /// A letter for each bit, bit 0 first.
    letters: Vec<char>,
    figure: Figure,
}

/// The immediate: which of its bits come one after the other, from the left.
struct Figure {
    bits: Vec<u32>,
    is_signed: bool,
    is_nonzero: bool,
}

pub(super) static FORMS: LazyLock<Vec<Form>> = LazyLock::new(|| ROWS.iter().map(Form::new).collect());

/// The form of a name.
pub(super) fn form(name: &str) -> &'static Form {
    FORMS.iter().find(|form| form.name == name).unwrap()
}

/// The form that these 32 bits have; of a compressed one the upper half is something else.
pub(super) fn form_of(bits: u32) -> Option<&'static Form> {
    FORMS.iter().find(|form| form.matches(bits))
}

impl Form {
    fn new((name, pattern, figure, base): &(&'static str, &str, &str, &'static str)) -> Self {
        let letters: Vec<_> = pattern.chars().filter(|letter| *letter != ' ').rev().collect();
        assert!(matches!(letters.len(), 16 | 32), "{name}");
        let figure = Figure::new(figure);
        assert_eq!(letters.iter().filter(|letter| **letter == 'i').count(), figure.bits.len(), "{name}");
        let mut words = base.split(' ');
        let base = words.next().unwrap();
        let implied = words.map(|word| (word.chars().next().unwrap(), word[1..].parse().unwrap())).collect();
        let which = |wanted: &[char]| {
            letters.iter().enumerate().map(|(at, letter)| u32::from(wanted.contains(letter)) << at).sum()
        };
        let (mask, value) = (which(&['0', '1']), which(&['1']));
        Self { name, base, bytes: letters.len() as u32 / 8, implied, mask, value, letters, figure }
    }

    fn matches(&self, bits: u32) -> bool {
        let nonzero = |letter| !self.letters.contains(&letter) || self.field(bits, letter) != 0;
        bits & self.mask == self.value
            && "DST".chars().all(nonzero)
            && (!self.figure.is_nonzero || self.immediate(bits) != 0)
    }

    /// What the bits of a letter say.
    pub(super) fn field(&self, bits: u32, wanted: char) -> u32 {
        let places = (0..self.letters.len()).rev().filter(|at| self.letters[*at] == wanted);
        places.fold(0, |value, at| value * 2 + (bits >> at & 1))
    }

    /// The register of a role, `d`, `s` or `t`.
    pub(super) fn register(&self, bits: u32, role: char) -> usize {
        if let Some((_, register)) = self.implied.iter().find(|(letter, _)| *letter == role) {
            return *register as usize;
        }
        let means = |letter: &&char| letter.to_ascii_lowercase() == role || **letter == 'x' && role != 't';
        let Some(letter) = self.letters.iter().find(means) else { return 0 };
        let is_short = self.letters.iter().filter(|other| *other == letter).count() == 3;
        self.field(bits, *letter) as usize + if is_short { 8 } else { 0 }
    }

    /// The immediate, extended.
    pub(super) fn immediate(&self, bits: u32) -> i128 {
        let places = (0..self.letters.len()).rev().filter(|at| self.letters[*at] == 'i');
        let value =
            places.zip(&self.figure.bits).map(|(at, bit)| i128::from(bits >> at & 1) * power(*bit)).sum();
        let sign = self.figure.bits.iter().max().map_or(0, |bit| power(*bit));
        if self.figure.is_signed && value >= sign { value - 2 * sign } else { value }
    }

    /// The instruction with what is free in its bits from a random number.
    pub(super) fn fill(&self, random: u32) -> u32 {
        let bits = self.value | random & !self.mask;
        if self.bytes == 2 { bits & 0xFFFF } else { bits }
    }

    /// The instruction with another value in a field.
    pub(super) fn with(&self, bits: u32, letter: char, value: u32) -> u32 {
        let places = (0..self.letters.len()).filter(|at| self.letters[*at] == letter);
        places.enumerate().fold(bits, |bits, (index, at)| bits & !(1 << at) | (value >> index & 1) << at)
    }

    /// The instruction with another immediate, when it can have that.
    pub(super) fn with_immediate(&self, bits: u32, value: i128) -> Option<u32> {
        let places = (0..self.letters.len()).rev().filter(|at| self.letters[*at] == 'i');
        let bits = places.zip(&self.figure.bits).fold(bits, |bits, (at, bit)| {
            bits & !(1 << at) | ((value.div_euclid(power(*bit)) % 2 != 0) as u32) << at
        });
        (self.immediate(bits) == value).then_some(bits)
    }
}

impl Figure {
    fn new(text: &str) -> Self {
        let (kind, ranges) = text.trim_end_matches(']').split_once('[').unwrap_or(("", ""));
        let bits = ranges.split('|').filter(|range| !range.is_empty()).flat_map(|range| {
            let (from, to) = range.split_once(':').unwrap_or((range, range));
            let (from, to): (u32, u32) = (from.parse().unwrap(), to.parse().unwrap());
            (to..=from).rev()
        });
        Self { bits: bits.collect(), is_signed: !kind.contains('u'), is_nonzero: kind.starts_with("nz") }
    }
}

fn power(exponent: u32) -> i128 {
    2_i128.pow(exponent)
}
