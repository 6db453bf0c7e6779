//! The processor against a second one, written from the manual in another manner (`tests/naive.rs`): each instruction
//! from random states, programs of blocks, traps, control registers and triggers.

mod chip;
mod forms;
mod naive;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use forms::{FORMS, Form, form, form_of};
use naive::{Naive, Step, csr_numbers};

/// A memory of 8 KiB, as far from the ends as the chip's.
const BASE: u32 = 0x3FC8_0000;
const BYTES: u32 = 0x2000;
/// Where programs are in it.
const CODE: u32 = BASE + 0x1000;

/// The model's memory: what is outside is refused, and so is what is not aligned.
struct Ram {
    bytes: Vec<u8>,
    version: u64,
    /// Where instructions are fetched, and what an attempt elsewhere comes to.
    code: std::ops::Range<u32>,
    outside: Refused,
    executed: u64,
    /// One time of so many it wants attention.
    attention_every: u64,
    told: u64,
    has_interrupt: bool,
}

impl Ram {
    fn new(bytes: Vec<u8>) -> Self {
        let code = BASE..BASE + BYTES;
        Self {
            bytes,
            version: 0,
            code,
            outside: Refused::Stop,
            executed: 0,
            attention_every: 3,
            told: 0,
            has_interrupt: false,
        }
    }

    fn at(&mut self, addr: u32, len: u32) -> Result<&mut [u8], Refused> {
        if !addr.is_multiple_of(len) {
            return Err(Refused::Misaligned);
        }
        let offset = addr.wrapping_sub(BASE) as usize;
        self.bytes.get_mut(offset..).and_then(|bytes| bytes.get_mut(..len as usize)).ok_or(Refused::Fault)
    }

    fn put(&mut self, addr: u32, bytes: &[u8]) -> Result<(), Refused> {
        self.at(addr, bytes.len() as u32)?.copy_from_slice(bytes);
        self.version += 1;
        Ok(())
    }
}

impl Memory for Ram {
    fn fetch(&mut self, addr: u32) -> Result<u16, Refused> {
        if !self.code.contains(&addr) {
            return Err(self.outside);
        }
        self.load_16(addr)
    }

    fn load_8(&mut self, addr: u32) -> Result<u8, Refused> {
        Ok(self.at(addr, 1)?[0])
    }

    fn load_16(&mut self, addr: u32) -> Result<u16, Refused> {
        Ok(u16::from_le_bytes(self.at(addr, 2)?.try_into().unwrap()))
    }

    fn load_32(&mut self, addr: u32) -> Result<u32, Refused> {
        Ok(u32::from_le_bytes(self.at(addr, 4)?.try_into().unwrap()))
    }

    fn store_8(&mut self, addr: u32, value: u8) -> Result<(), Refused> {
        self.put(addr, &[value])
    }

    fn store_16(&mut self, addr: u32, value: u16) -> Result<(), Refused> {
        self.put(addr, &value.to_le_bytes())
    }

    fn store_32(&mut self, addr: u32, value: u32) -> Result<(), Refused> {
        self.put(addr, &value.to_le_bytes())
    }

    fn code_version(&self, _: u32) -> u64 {
        self.version
    }

    fn has_interrupt(&self) -> bool {
        self.has_interrupt
    }

    fn executed(&mut self, instructions: u64) -> bool {
        self.executed += instructions;
        self.told += 1;
        self.told.is_multiple_of(self.attention_every)
    }
}

/// Both processors and their memories.
struct Both {
    cpu: Cpu,
    ram: Ram,
    naive: Naive,
}

/// How a processor starts.
#[derive(Clone, Debug)]
struct Start {
    x: Vec<u32>,
    csrs: Vec<(u32, u32)>,
}

impl Both {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect();
        let mut cpu = Cpu::default();
        cpu.reset(CODE);
        Self { cpu, ram: Ram::new(bytes.clone()), naive: Naive::new(BASE, bytes) }
    }

    fn set(&mut self, start: &Start) {
        for (index, value) in start.x.iter().enumerate() {
            self.cpu.set_x(index, *value);
            self.naive.x[index] = if index == 0 { 0 } else { *value };
        }
        for (number, value) in &start.csrs {
            self.set_csr(*number, *value);
        }
        self.cpu.look_at_triggers();
    }

    fn set_csr(&mut self, number: u32, value: u32) {
        let done = self.cpu.csr.write(number, value);
        assert_eq!(done.ok(), self.naive.write_csr(number, value), "csr {number:#x}");
    }

    /// Puts halves of instructions at `CODE`, which is all that is fetched then.
    fn put_code(&mut self, halves: &[u16]) {
        let bytes: Vec<_> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        let offset = (CODE - BASE) as usize;
        self.naive.ram[offset..][..bytes.len()].copy_from_slice(&bytes);
        self.ram.bytes[offset..][..bytes.len()].copy_from_slice(&bytes);
        self.ram.version += 1;
        self.ram.code = CODE..CODE + bytes.len() as u32;
        self.naive.code = self.ram.code.clone();
        self.naive.forget_written();
        (self.cpu.pc, self.naive.pc) = (CODE, CODE);
    }

    /// Both execute the one instruction that there is.
    fn one(&mut self, bits: u32) -> Result<Step, TestCaseError> {
        let halves = [bits as u16, (bits >> 16) as u16];
        self.put_code(&halves[..if bits & 3 == 3 { 2 } else { 1 }]);
        let until = self.cpu.instructions + 1;
        self.cpu.run(&mut self.ram, until);
        let step = self.naive.step();
        self.same().map_err(|what| TestCaseError::fail(format!("{bits:#010x}, {step:?}: {what}")))?;
        Ok(step)
    }

    /// The model runs until it executed `count` more, or comes to where nothing is fetched; then the naive one as many.
    fn many(&mut self, count: u64) -> Result<Step, TestCaseError> {
        let until = self.cpu.instructions + count;
        while let Pause::Attention | Pause::Wait = self.cpu.run(&mut self.ram, until) {}
        let mut step = Step::Did("");
        while self.naive.executed < self.cpu.instructions {
            step = self.naive.step();
            if matches!(step, Step::Stopped | Step::Unknown) {
                break;
            }
        }
        if step != Step::Unknown {
            self.same().map_err(TestCaseError::fail)?;
        }
        Ok(step)
    }

    /// Whether both are in the same state; else what differs.
    fn same(&self) -> Result<(), String> {
        let (cpu, naive) = (&self.cpu, &self.naive);
        let check = |what: &dyn Fn() -> String, model: u64, naive: u64| {
            if model == naive { Ok(()) } else { Err(format!("{}: {model:#x}, but naive {naive:#x}", what())) }
        };
        for index in 0..32 {
            check(&|| format!("x{index}"), cpu.x(index).into(), naive.x[index].into())?;
        }
        check(&|| "pc".into(), cpu.pc.into(), naive.pc.into())?;
        check(&|| "instructions".into(), cpu.instructions, naive.executed)?;
        check(&|| "instructions that the memory was told".into(), self.ram.executed, naive.executed)?;
        for number in csr_numbers() {
            let model = cpu.csr.read(number, cpu.instructions).map_err(|_| format!("no csr {number:#x}"))?;
            let naive = naive.read_csr(number).ok_or(format!("naive: no csr {number:#x}"))?;
            check(&|| format!("csr {number:#x}"), model.into(), naive.into())?;
        }
        for (trigger, model) in (0..).zip(&cpu.csr.triggers) {
            check(&|| format!("tdata1 of {trigger}"), model.tdata1.into(), naive.csr(0x7A1, trigger).into())?;
            check(&|| format!("tdata2 of {trigger}"), model.tdata2.into(), naive.csr(0x7A2, trigger).into())?;
        }
        if self.ram.bytes != naive.ram {
            let at = (0..BYTES as usize).find(|at| self.ram.bytes[*at] != naive.ram[*at]);
            return Err(format!("memory at {:#x}", BASE as usize + at.unwrap_or(0)));
        }
        Ok(())
    }
}

/// Values of a register: edges, anything, addresses in the memory and where it ends.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => select(&[0, 1, 2, 31, 32, 0x7F, 0x80, 0xFFFF_FF80, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, u32::MAX][..]),
        2 => any::<u32>(),
        5 => (0..BYTES / 4).prop_map(|word| BASE + 4 * word),
        1 => (BASE - 8..BASE + 8).prop_union(BASE + BYTES - 8..BASE + BYTES + 8),
        1 => (0..64_u32).prop_map(|half| CODE + 2 * half),
    ]
}

fn csr_write() -> impl Strategy<Value = (u32, u32)> {
    let writable: Vec<_> = csr_numbers().filter(|number| *number < 0xC00).collect();
    (select(writable), value())
}

fn start() -> impl Strategy<Value = Start> {
    let csrs = prop::collection::vec(csr_write(), 0..6);
    (prop::collection::vec(value(), 32), csrs).prop_map(|(x, csrs)| Start { x, csrs })
}

/// An instruction of a form. A CSR instruction is mostly about a register that there is, and a load or store half the time
/// as far from its base register as a word can be.
fn filled(form: &Form, random: u32) -> u32 {
    let bits = form.fill(random);
    let numbers: Vec<_> = csr_numbers().collect();
    match form.base {
        base if base.starts_with("csr") && !random.is_multiple_of(8) => {
            form.with(bits, 'c', numbers[(random >> 3) as usize % numbers.len()])
        }
        "lh" | "lhu" | "lw" | "sh" | "sw" if random.is_multiple_of(2) => {
            form.with_immediate(bits, form.immediate(bits).div_euclid(4) * 4).unwrap()
        }
        _ => bits,
    }
}

/// From other random numbers each time, and from the same ones: a fault that the gate has seen is seen again.
fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    // Its numbers are quick to make without optimization too.
    let rng_algorithm = RngAlgorithm::XorShift;
    let config =
        ProptestConfig { failure_persistence: None, rng_algorithm, ..ProptestConfig::with_cases(cases / 2) };
    let same = TestRng::from_seed(rng_algorithm, &[7; 16]);
    for mut runner in [TestRunner::new(config.clone()), TestRunner::new_with_rng(config, same)] {
        if let Err(error) = runner.run(&strategy, &test) {
            panic!("{error}");
        }
    }
}

/// Every pair of edges, of which division has cases of its own (unprivileged ISA, section 13.2).
#[test]
fn multiplication_and_division_at_their_edges() {
    const EDGES: [u32; 8] = [0, 1, 2, u32::MAX, u32::MAX - 1, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001];
    const FUNCTIONS: [&str; 8] = ["mul", "mulh", "mulhsu", "mulhu", "div", "divu", "rem", "remu"];
    let mut both = Both::new();
    for (function, name) in (0..).zip(FUNCTIONS) {
        for (left, right) in EDGES.into_iter().flat_map(|left| EDGES.map(|right| (left, right))) {
            let mut x = vec![0; 32];
            (x[10], x[11]) = (left, right);
            both.set(&Start { x, csrs: Vec::new() });
            // `name a2, a0, a1`
            let bits = 1 << 25 | 11 << 20 | 10 << 15 | function << 12 | 12 << 7 | 0x33;
            let step = both.one(bits).unwrap_or_else(|error| panic!("{name} {left:#x} {right:#x}: {error}"));
            assert!(matches!(step, Step::Did(found) if found == name), "{name}");
            let (signed, by) = (left as i32, right as i32);
            let product = match name {
                "mulhsu" => i64::from(signed).wrapping_mul(i64::from(right)),
                "mulhu" => (u64::from(left) * u64::from(right)) as i64,
                _ => i64::from(signed) * i64::from(by),
            };
            let expected = match name {
                "mul" => product as u32,
                "mulh" | "mulhsu" | "mulhu" => (product >> 32) as u32,
                "div" if right == 0 => u32::MAX,
                "div" => signed.wrapping_div(by) as u32,
                "divu" => left.checked_div(right).unwrap_or(u32::MAX),
                "rem" if right == 0 => left,
                "rem" => signed.wrapping_rem(by) as u32,
                _ => left.checked_rem(right).unwrap_or(left),
            };
            assert_eq!(both.cpu.x(12), expected, "{name} {left:#x} {right:#x}");
        }
    }
}

/// The second processor reads words of which the assembler's text is known.
#[test]
fn naive_reads_known_words() {
    let known: &[(u32, &str, usize, usize, usize, i128)] = &[
        (0x0000_8067, "jalr", 0, 1, 0, 0),         // ret
        (0x0000_8082, "c.jr", 0, 1, 0, 0),         // ret
        (0x0000_0001, "c.addi", 0, 0, 0, 0),       // nop
        (0x0000_1141, "c.addi", 2, 2, 0, -16),     // addi sp, sp, -16
        (0x0000_7139, "c.addi16sp", 2, 2, 0, -64), // addi sp, sp, -64
        (0x0000_0808, "c.addi4spn", 10, 2, 0, 16), // addi a0, sp, 16
        (0x0000_C606, "c.swsp", 0, 2, 1, 12),      // sw ra, 12(sp)
        (0x0000_40B2, "c.lwsp", 1, 2, 0, 12),      // lw ra, 12(sp)
        (0x0000_4501, "c.li", 10, 0, 0, 0),        // li a0, 0
        (0x0000_4108, "c.lw", 10, 10, 0, 0),       // lw a0, 0(a0)
        (0x0000_A001, "c.j", 0, 0, 0, 0),          // j .
        (0x0000_852E, "c.mv", 10, 0, 11, 0),       // mv a0, a1
        (0x0000_9002, "c.ebreak", 0, 0, 0, 0),
        (0x0000_0013, "addi", 0, 0, 0, 0),           // nop
        (0xFF01_0113, "addi", 2, 2, 0, -16),         // addi sp, sp, -16
        (0x0011_2623, "sw", 0, 2, 1, 12),            // sw ra, 12(sp)
        (0x00C1_2083, "lw", 1, 2, 0, 12),            // lw ra, 12(sp)
        (0x0000_006F, "jal", 0, 0, 0, 0),            // j .
        (0xFE00_0EE3, "beq", 0, 0, 0, -4),           // beqz zero, .-4
        (0xFFDF_F06F, "jal", 0, 0, 0, -4),           // j .-4
        (0x1234_5537, "lui", 10, 0, 0, 0x1234_5000), // lui a0, 0x12345
        (0x02B5_0533, "mul", 10, 10, 11, 0),         // mul a0, a0, a1
        (0x4015_5513, "srai", 10, 10, 0, 1),         // srai a0, a0, 1
        (0x3002_9073, "csrrw", 0, 5, 0, 0),          // csrw mstatus, t0
        (0x3020_0073, "mret", 0, 0, 0, 0),
        (0x1050_0073, "wfi", 0, 0, 0, 0),
    ];
    for (bits, name, rd, rs1, rs2, imm) in known {
        let form = form_of(*bits).unwrap();
        let fields = ['d', 's', 't'].map(|role| form.register(*bits, role));
        assert_eq!((form.name, fields, form.immediate(*bits)), (*name, [*rd, *rs1, *rs2], *imm), "{bits:#x}");
    }
    assert!([0, 0xFFFF_FFFF, 0x8002, 0x4002, 0x6101, 0x6001].iter().all(|bits| form_of(*bits).is_none()));
}

/// Each instruction, from the same random states.
#[test]
fn each_instruction() {
    let tried = RefCell::new(BTreeMap::<_, u32>::new());
    let carried_out = RefCell::new(BTreeMap::<_, u32>::new());
    let random = prop::collection::vec(any::<u32>(), FORMS.len());
    run(1100, (start(), random), |(start, random)| {
        let mut both = Both::new();
        for (form, random) in FORMS.iter().zip(random) {
            both.set(&start);
            let step = both.one(filled(form, random))?;
            let (Step::Did(name) | Step::Trapped(Some(name))) = step else { continue };
            *tried.borrow_mut().entry(name).or_default() += 1;
            if step == Step::Did(name) {
                *carried_out.borrow_mut().entry(name).or_default() += 1;
            }
        }
        Ok(())
    });
    let (tried, carried_out) = (tried.into_inner(), carried_out.into_inner());
    for Form { name, base, .. } in FORMS.iter() {
        assert!(tried.get(name) >= Some(&1000), "{name} was tried {:?} times", tried.get(name));
        let is_trap = matches!(*base, "ecall" | "ebreak");
        assert_eq!(carried_out.get(name) >= Some(&150), !is_trap, "{name}: {:?}", carried_out.get(name));
    }
}

/// Any word of 32 bits; those that are no instruction too.
#[test]
fn any_word() {
    let words = prop::collection::vec(any::<u32>().prop_map(|word| word | 3), 64);
    // Bits 4 to 2 of ones are of longer instructions; the opcodes in use have a part of the cases to themselves.
    let opcodes = select(&[0x37, 0x17, 0x6F, 0x67, 0x63, 0x03, 0x23, 0x13, 0x33, 0x0F, 0x73][..]);
    let words_of_opcodes = prop::collection::vec((any::<u32>(), opcodes), 64);
    run(500, (start(), words, words_of_opcodes), |(start, words, words_of_opcodes)| {
        let mut both = Both::new();
        let of_opcodes = words_of_opcodes.iter().map(|(word, opcode)| word & !0x7F | opcode);
        for word in words.iter().copied().chain(of_opcodes) {
            both.set(&start);
            both.one(word)?;
        }
        Ok(())
    });
}

/// All halves: each compressed instruction, and each lower half of a longer one.
#[test]
fn all_halves() {
    let mut both = Both::new();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 32) as u32
    };
    for half in 0..=u32::from(u16::MAX) {
        for index in 1..32 {
            let value = next();
            let value = if value % 4 == 0 { value } else { BASE + value % (BYTES / 4) * 4 };
            both.cpu.set_x(index, value);
            both.naive.x[index] = value;
        }
        both.one(next() << 16 | half).unwrap();
    }
}

/// A piece of a program.
#[derive(Clone, Debug)]
enum Piece {
    /// An instruction with what is free in it from a random number.
    Plain(Index, u32),
    /// A jump or branch to another piece.
    Goes(&'static str, u32, Index),
    /// Another piece is written over, by a store of so many bytes, and the manual's `fence.i` follows.
    Writes(u32, Index),
}

/// The register that has the address of the program, and the one with what is written over it.
const X_CODE: u32 = 31;
const X_NEW: u32 = 30;

fn piece() -> impl Strategy<Value = Piece> {
    let goes =
        ["jal", "jalr", "beq", "bne", "blt", "bge", "bltu", "bgeu", "c.j", "c.jal", "c.beqz", "c.bnez"];
    prop_oneof![
        12 => (any::<Index>(), any::<u32>()).prop_map(|(index, random)| Piece::Plain(index, random)),
        4 => (select(goes.to_vec()), any::<u32>(), any::<Index>())
            .prop_map(|(name, random, to)| Piece::Goes(name, random, to)),
        1 => (select(vec![1_u32, 2, 4]), any::<Index>()).prop_map(|(bytes, at)| Piece::Writes(bytes, at)),
    ]
}

/// The words of a program.
fn assemble(pieces: &[Piece]) -> Vec<u16> {
    let plain: Vec<_> = FORMS.iter().filter(|form| !matches!(form.base, "jal" | "jalr" | "mret")).collect();
    let plain: Vec<_> = plain.into_iter().filter(|form| !form.base.starts_with('b')).collect();
    let form_of_piece = |piece: &Piece| match piece {
        Piece::Plain(index, _) => *index.get(&plain),
        Piece::Goes(name, ..) => form(name),
        Piece::Writes(..) => form("sw"),
    };
    let mut addrs = Vec::new();
    let mut end = 0_u32;
    for piece in pieces {
        addrs.push(end);
        end += form_of_piece(piece).bytes + if matches!(piece, Piece::Writes(..)) { 4 } else { 0 };
    }
    let mut halves = Vec::new();
    let mut put = |form: &Form, bits: u32| {
        halves.push(bits as u16);
        if form.bytes == 4 {
            halves.push((bits >> 16) as u16);
        }
    };
    for (piece, from) in pieces.iter().zip(&addrs) {
        let form_here = form_of_piece(piece);
        match piece {
            Piece::Plain(_, random) => put(form_here, filled(form_here, *random)),
            Piece::Goes(name, random, to) => {
                let (bits, to) = (form_here.fill(*random), i128::from(*to.get(&addrs)));
                let bits = if *name == "jalr" {
                    form_here.with_immediate(form_here.with(bits, 's', X_CODE), to)
                } else {
                    form_here.with_immediate(bits, to - i128::from(*from))
                };
                // A distance that it cannot have is where it goes to itself.
                put(form_here, bits.or(form_here.with_immediate(form_here.fill(*random), 0)).unwrap());
            }
            Piece::Writes(bytes, at) => {
                let at = *at.get(&addrs) / bytes * bytes;
                let store = form(["sb", "sh", "sw"][bytes.ilog2() as usize]);
                let bits = store.with(store.with(store.fill(0), 's', X_CODE), 't', X_NEW);
                put(store, store.with_immediate(bits, at.into()).unwrap());
                put(form("fence.i"), form("fence.i").fill(0));
            }
        }
    }
    halves
}

/// Programs: blocks, jumps among them, exceptions in the midst of them, and code that is written over.
#[test]
fn programs() {
    let known = RefCell::new([0_u32; 2]);
    let new = (any::<Index>(), any::<u32>()).prop_map(|(index, random)| filled(index.get(&FORMS), random));
    let pieces = prop::collection::vec(piece(), 1..=30);
    run(2500, (start(), pieces, new, any::<bool>()), |(start, pieces, new, handles)| {
        let mut both = Both::new();
        both.set(&start);
        both.set(&Start {
            x: Vec::new(),
            csrs: vec![(0x305, if handles { CODE } else { 0 }), (0x341, CODE)],
        });
        both.put_code(&assemble(&pieces));
        for (register, value) in [(X_CODE, CODE), (X_NEW, new)] {
            both.cpu.set_x(register as usize, value);
            both.naive.x[register as usize] = value;
        }
        let step = both.many(120)?;
        known.borrow_mut()[usize::from(step != Step::Unknown)] += 1;
        Ok(())
    });
    let [unknown, known] = known.into_inner();
    assert!(known > 10 * unknown, "{unknown} programs executed what they had just written");
}
