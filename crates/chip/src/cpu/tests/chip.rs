//! Traps, control registers and triggers, with the numbers of the manuals written out; and at random, against the second
//! processor.

use super::*;

const RA: u32 = 0x1111_1111;

/// A processor with these words at `CODE` and its trap vectors at `BASE`.
fn with_code(words: &[u32]) -> Both {
    let mut both = Both::new();
    let halves: Vec<_> = words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]).collect();
    both.put_code(&halves);
    both.set_csr(0x305, BASE);
    both.ram.attention_every = u64::MAX;
    both
}

/// `name` with registers and an immediate.
fn word(name: &str, d: u32, s: u32, t: u32, imm: i128) -> u32 {
    let form = form(name);
    let bits = [('d', d), ('s', s), ('t', t)];
    let bits = bits.into_iter().fold(form.fill(0), |bits, (letter, value)| form.with(bits, letter, value));
    form.with_immediate(bits, imm).unwrap()
}

fn csr_word(name: &str, d: u32, csr: u32, operand: u32) -> u32 {
    let form = form(name);
    [('d', d), ('c', csr), ('s', operand), ('z', operand)]
        .into_iter()
        .fold(form.fill(0), |bits, (letter, value)| form.with(bits, letter, value))
}

const NOP: u32 = 0x13;

/// Runs `count` instructions, and says what the trap registers are then: mepc, mcause, mtval.
fn trapped(both: &mut Both, count: u64) -> [u32; 3] {
    let until = both.cpu.instructions + count;
    both.cpu.run(&mut both.ram, until);
    let csr = &both.cpu.csr;
    [csr.mepc, csr.mcause, csr.mtval]
}

/// Volume II, 3.1.15, table 14: which exception has which cause; 3.1.16: its value. The ESP32-C3 takes them at the base.
#[test]
fn exceptions() {
    let odd = BASE + 1;
    let outside = BASE + BYTES;
    let cases = [
        (0xFFFF_FFFF, 0, 2, 0),
        (0x0000_0000, 0, 2, 0),
        (form("ecall").fill(0), 0, 11, 0),
        (form("ebreak").fill(0), 0, 3, CODE + 4),
        (form("c.ebreak").fill(0), 0, 3, CODE + 4),
        (word("lh", 1, 5, 0, 0), odd, 4, odd),
        (word("lhu", 1, 5, 0, 1), BASE, 4, odd),
        (word("lw", 1, 5, 0, 2), BASE, 4, BASE + 2),
        (word("sh", 0, 5, 1, 0), odd, 6, odd),
        (word("sw", 0, 5, 1, -2), BASE + 4, 6, BASE + 2),
        (word("lb", 1, 5, 0, 0), outside, 5, outside),
        (word("lw", 1, 5, 0, -4), BASE, 5, BASE - 4),
        (word("sb", 0, 5, 1, 0), outside, 7, outside),
        (word("sw", 0, 5, 1, 0), 0, 7, 0),
    ];
    for (bits, x5, cause, value) in cases {
        let mut both = with_code(&[NOP, bits]);
        let before = both.ram.bytes.clone();
        both.cpu.set_x(1, RA);
        both.cpu.set_x(5, x5);
        both.cpu.csr.mstatus = csr::MIE;
        both.cpu.csr.tcontrol = csr::MTE;
        assert_eq!(trapped(&mut both, 2), [CODE + 4, cause, value], "{bits:#x}");
        let cpu = &both.cpu;
        assert_eq!([cpu.pc, cpu.csr.mstatus, cpu.csr.tcontrol], [BASE, 0x1880, 0x80], "{bits:#x}");
        // It counts, and did nothing.
        assert_eq!((cpu.instructions, both.ram.executed, cpu.x(1)), (2, 2, RA), "{bits:#x}");
        assert_eq!(both.ram.bytes, before);
    }
}

/// Where nothing is fetched there is an exception, whose value is the half that was not (volume II, 3.1.16). Where that is
/// so of the vectors too, the processor still comes to an end.
#[test]
fn fetch_faults() {
    let mut both = with_code(&[NOP]);
    both.ram.outside = Refused::Fault;
    assert_eq!(trapped(&mut both, 2), [CODE + 4, 1, CODE + 4]);
    assert_eq!(both.cpu.pc, BASE);
    assert_eq!(trapped(&mut both, 10), [BASE, 1, BASE]);
    assert_eq!((both.cpu.instructions, both.ram.executed), (12, 12));

    let mut both = with_code(&[NOP, NOP]);
    both.ram.outside = Refused::Fault;
    both.ram.code.end -= 2;
    assert_eq!(trapped(&mut both, 2), [CODE + 4, 1, CODE + 6]);
}

/// What the memory does not know stops the processor before the instruction, which does not count.
#[test]
fn stops() {
    let mut both = with_code(&[NOP, word("addi", 1, 0, 0, 7)]);
    assert_eq!(both.cpu.run(&mut both.ram, 100), Pause::Stop);
    assert_eq!((both.cpu.pc, both.cpu.instructions, both.cpu.x(1)), (CODE + 8, 2, 7));

    struct Unknown(Ram);
    impl Memory for Unknown {
        fn fetch(&mut self, addr: u32) -> Result<u16, Refused> {
            self.0.fetch(addr)
        }
        fn load_8(&mut self, _: u32) -> Result<u8, Refused> {
            Err(Refused::Stop)
        }
        fn load_16(&mut self, _: u32) -> Result<u16, Refused> {
            Err(Refused::Stop)
        }
        fn load_32(&mut self, _: u32) -> Result<u32, Refused> {
            Err(Refused::Stop)
        }
        fn store_8(&mut self, _: u32, _: u8) -> Result<(), Refused> {
            Err(Refused::Stop)
        }
        fn store_16(&mut self, _: u32, _: u16) -> Result<(), Refused> {
            Err(Refused::Stop)
        }
        fn store_32(&mut self, _: u32, _: u32) -> Result<(), Refused> {
            Err(Refused::Stop)
        }
        fn code_version(&self, _: u32) -> u64 {
            0
        }
        fn has_interrupt(&self) -> bool {
            self.0.has_interrupt()
        }

        fn executed(&mut self, instructions: u64) -> bool {
            self.0.executed(instructions)
        }
    }
    for name in ["lb", "lh", "lw", "lbu", "lhu", "sb", "sh", "sw"] {
        let Both { mut cpu, ram, .. } = with_code(&[NOP, word(name, 1, 5, 1, 0), NOP]);
        let mut memory = Unknown(ram);
        cpu.set_x(1, RA);
        let pause = cpu.run(&mut memory, 100);
        assert_eq!((pause, cpu.pc, cpu.instructions, cpu.x(1)), (Pause::Stop, CODE + 4, 1, RA), "{name}");
        assert_eq!((memory.0.executed, cpu.csr.mcause), (1, 0));
    }
}

/// `wfi` waits behind itself; attention is asked for between blocks.
#[test]
fn pauses() {
    let mut both = with_code(&[NOP, form("wfi").fill(0), word("jal", 0, 0, 0, -8)]);
    assert_eq!(both.cpu.run(&mut both.ram, 100), Pause::Wait);
    assert_eq!((both.cpu.pc, both.cpu.instructions), (CODE + 8, 2));
    both.ram.attention_every = 1;
    assert_eq!(both.cpu.run(&mut both.ram, 100), Pause::Attention);
    assert_eq!((both.cpu.pc, both.cpu.instructions), (CODE, 3));
    // A block that has begun is ended.
    both.ram.attention_every = u64::MAX;
    let until = both.cpu.instructions + 2;
    both.cpu.run(&mut both.ram, until);
    assert_eq!(both.cpu.run(&mut both.ram, until), Pause::Count);
    assert_eq!((both.cpu.pc, both.cpu.instructions), (CODE + 8, 5));
}

/// TRM 1.5 and register 1.7: each line has its own place in the table, whatever the mode that was written to `mtvec`.
#[test]
fn interrupts_are_vectored() {
    for line in 1..32 {
        let mut both = Both::new();
        for mode in 0..4 {
            both.set_csr(0x305, 0x4038_01FC + mode);
            assert_eq!(both.cpu.csr.mtvec, 0x4038_0101);
        }
        both.set_csr(0x300, csr::MIE);
        assert!(both.cpu.takes_interrupts());
        both.cpu.csr.mtval = 5;
        both.cpu.interrupt(line);
        let csr = &both.cpu.csr;
        assert_eq!([csr.mepc, csr.mcause, csr.mtval], [CODE, 0x8000_0000 + line, 0]);
        assert_eq!([both.cpu.pc, csr.mstatus], [0x4038_0100 + 4 * line, 0x1880]);
        assert!(!both.cpu.takes_interrupts());
    }
}

/// An interrupt and `mret`, from any state: as the second processor has it, and back to where it was.
#[test]
fn interrupts_return() {
    run(500, (start(), 1..32_u32, any::<bool>()), |(start, line, is_on)| {
        let mut both = Both::new();
        both.set(&start);
        both.put_code(&[0x0073, 0x3020]);
        both.set_csr(0x300, if is_on { csr::MIE } else { 0 });
        let tcontrol = both.cpu.csr.tcontrol & csr::MTE;
        both.cpu.interrupt(line);
        both.naive.interrupt(line);
        both.same().map_err(TestCaseError::fail)?;
        (both.cpu.pc, both.naive.pc) = (CODE, CODE);
        both.cpu.run(&mut both.ram, 1);
        both.naive.step();
        both.same().map_err(TestCaseError::fail)?;
        prop_assert_eq!(both.cpu.pc, CODE);
        prop_assert_eq!(both.cpu.takes_interrupts(), is_on);
        prop_assert_eq!(both.cpu.csr.tcontrol & csr::MTE, tcontrol);
        Ok(())
    });
}

/// Volume I, chapter 7: what is read and written, by register, instruction and operand.
#[test]
fn csr_instructions() {
    let mscratch = 0x340;
    let cases = [
        // Instruction, operand's register (x5 is 0xFF) or immediate, register before and after.
        ("csrrw", 5, 0xF0, 0xFF),
        ("csrrw", 0, 0xF0, 0),
        ("csrrs", 5, 0xF00, 0xFFF),
        ("csrrs", 0, 0xF00, 0xF00),
        ("csrrc", 5, 0xFF0, 0xF00),
        ("csrrwi", 5, 0xF0, 5),
        ("csrrwi", 0, 0xF0, 0),
        ("csrrsi", 5, 0xF0, 0xF5),
        ("csrrci", 0x11, 0xFF, 0xEE),
    ];
    for (name, operand, before, after) in cases {
        for d in [0, 5, 6] {
            let mut both = with_code(&[csr_word(name, d, mscratch, operand)]);
            both.cpu.set_x(5, 0xFF);
            both.cpu.csr.mscratch = before;
            both.cpu.run(&mut both.ram, 1);
            assert_eq!((both.cpu.csr.mscratch, both.cpu.csr.mcause), (after, 0), "{name}");
            assert_eq!(both.cpu.x(d as usize), if d == 0 { 0 } else { before }, "{name}");
        }
    }
    // Read-only: reading is done by what does not write, and by nothing else.
    for (name, operand, is_legal) in [
        ("csrrs", 0, true),
        ("csrrc", 0, true),
        ("csrrsi", 0, true),
        ("csrrci", 0, true),
        ("csrrw", 0, false),
        ("csrrwi", 0, false),
        // The register's number counts and not its value.
        ("csrrs", 7, false),
        ("csrrci", 1, false),
    ] {
        let mut both = with_code(&[csr_word(name, 6, 0xF11, operand)]);
        both.cpu.set_x(6, RA);
        both.cpu.run(&mut both.ram, 1);
        let expected = if is_legal { (0x612, 0) } else { (RA, 2) };
        assert_eq!((both.cpu.x(6), both.cpu.csr.mcause), expected, "{name} {operand}");
    }
}

/// There are these control registers and no others; who asks for another finds an illegal instruction.
#[test]
fn csrs_there_are() {
    for number in 0..0x1000 {
        let mut both = Both::new();
        let step = both.one(csr_word("csrrs", 5, number, 0)).unwrap();
        let exists = csr_numbers().any(|known| known == number);
        assert_eq!(
            step,
            if exists { Step::Did("csrrs") } else { Step::Trapped(Some("csrrs")) },
            "{number:#x}"
        );
    }
}

/// The performance counter counts instructions, wherever in a block it is read.
#[test]
fn counter() {
    let mut both = with_code(&[NOP, NOP, csr_word("csrrs", 5, 0x7E2, 0), csr_word("csrrs", 6, 0x7E2, 0)]);
    both.cpu.run(&mut both.ram, 4);
    assert_eq!([both.cpu.x(5), both.cpu.x(6)], [2, 3]);
}

/// A reset leaves the general registers, and nothing else.
#[test]
fn reset() {
    let mut both = Both::new();
    both.set(&Start { x: vec![9; 32], csrs: vec![(0x7A5, 8), (0x7A1, 0x42), (0x7A2, CODE), (0x300, 8)] });
    both.cpu.reset(CODE);
    let naive = Naive::new(BASE, both.naive.ram.clone());
    (both.naive, both.naive.x) = (naive, both.naive.x);
    both.naive.pc = CODE;
    both.same().unwrap();
    assert_eq!(both.cpu.csr.mtvec, 1);
}

/// The stack guard of esp-rtos: four bytes, stores only (esp-hal 1.2.2, `debugger.rs`).
#[test]
fn stack_guard() {
    let guarded = BASE + 0x40;
    for (name, addr, mte, fires) in [
        ("sw", guarded, true, true),
        ("sb", guarded + 3, true, true),
        ("sh", guarded + 2, true, true),
        ("sb", guarded + 4, true, false),
        ("sb", guarded - 1, true, false),
        ("sw", guarded - 4, true, false),
        ("lw", guarded, true, false),
        ("sw", guarded, false, false),
    ] {
        let mut both = with_code(&[
            csr_word("csrrw", 0, 0x7A5, 10),
            csr_word("csrrw", 0, 0x7A1, 11),
            csr_word("csrrw", 0, 0x7A2, 12),
            NOP,
            word(name, 1, 5, 6, 0),
        ]);
        let before = both.ram.bytes.clone();
        let x = [
            (1, RA),
            (5, addr),
            (6, 0xABCD_EF01),
            (10, if mte { 8 } else { 0 }),
            (11, 0xC2),
            (12, guarded | 1),
        ];
        for (index, value) in x {
            both.cpu.set_x(index, value);
        }
        let expected = if fires { [CODE + 16, 3, addr] } else { [0; 3] };
        assert_eq!(trapped(&mut both, 5), expected, "{name} {addr:#x}");
        assert_eq!(both.ram.bytes == before, fires || name == "lw");
        // Which it was can be seen, and in the handler none fires.
        assert_eq!(both.cpu.csr.triggers[0].tdata1, 0x2000_00C2 | u32::from(fires) << 20);
        assert_eq!(
            both.cpu.csr.tcontrol,
            if !mte {
                0
            } else if fires {
                0x80
            } else {
                8
            }
        );
    }
}

/// A breakpoint is taken before its instruction, in the midst of a block too.
#[test]
fn breakpoint() {
    let mut both = with_code(&[NOP, NOP, word("addi", 1, 0, 0, 1), NOP]);
    both.cpu.run(&mut both.ram, 4);
    both.set(&Start { x: vec![0; 32], csrs: vec![(0x7A5, 8), (0x7A1, 0x44), (0x7A2, CODE + 8)] });
    both.cpu.pc = CODE;
    assert_eq!(trapped(&mut both, 3), [CODE + 8, 3, CODE + 8]);
    assert_eq!((both.cpu.instructions, both.ram.executed, both.cpu.x(1)), (7, 7, 0));
}

/// Ranges of any size, kinds and numbers of triggers, against the second processor.
#[test]
fn triggers() {
    let forms = ["lb", "lh", "lw", "lbu", "lhu", "sb", "sh", "sw", "c.lw", "c.sw", "addi", "c.nop"];
    // Ranges that begin and end about the address, of which the logarithm is likely to be small; and all memory.
    let range = (0..33_u32, -8..8_i32, any::<bool>()).prop_map(|(ones, distance, is_far)| {
        let low = ((1_u64 << ones) - 1) as u32;
        (low, if is_far { distance.wrapping_mul(1 << 28) } else { distance })
    });
    let trigger = (0..8_u32, any::<u16>(), range);
    let all = (
        prop::collection::vec(trigger, 1..4),
        select(forms.to_vec()),
        value(),
        select(vec![0, 0x80, 8, 0x88, 8]),
    );
    let counts = RefCell::new([0_u32; 2]);
    run(4000, all, |(triggers, name, addr, tcontrol)| {
        let mut both = Both::new();
        let form = form(if name == "c.nop" { "c.addi" } else { name });
        // x8 has the address, x9 the value.
        let fields =
            if form.bytes == 2 { [('s', 0), ('t', 1), ('d', 1)] } else { [('s', 8), ('t', 9), ('d', 9)] };
        let bits =
            fields.into_iter().fold(form.fill(0), |bits, (letter, value)| form.with(bits, letter, value));
        both.set_csr(0x7A5, tcontrol);
        for (index, kind, (low, distance)) in triggers {
            // For machine mode, mostly, and for the kind of access, which may be more than one.
            let kind = u32::from(kind) & 0x7CF | if kind & 0x7000 != 0 { 0x40 } else { 0 };
            let near = if kind & 4 == 0 { addr } else { CODE };
            both.set_csr(0x7A0, index);
            both.set_csr(0x7A1, kind);
            both.set_csr(0x7A2, near.wrapping_add_signed(distance) & !low | low >> 1);
        }
        both.set(&Start { x: (0..32).map(|x| if x == 8 { addr } else { x }).collect(), csrs: Vec::new() });
        let step = both.one(bits)?;
        counts.borrow_mut()[usize::from(step == Step::Did(form.name))] += 1;
        Ok(())
    });
    assert!(counts.borrow().iter().all(|count| *count > 500), "{counts:?}");
}

/// Nothing that is written to x0 is read from it.
#[test]
fn x0_is_zero() {
    for form in FORMS.iter() {
        let mut both = Both::new();
        both.set(&Start { x: vec![BASE + 0x40; 32], csrs: Vec::new() });
        let bits =
            ['d', 'x'].into_iter().fold(form.fill(0x0420_0E04), |bits, letter| form.with(bits, letter, 0));
        both.one(bits).unwrap();
        both.one(word("addi", 5, 0, 0, 0)).unwrap();
        assert_eq!((both.cpu.x(0), both.cpu.x(5)), (0, 0), "{}", form.name);
    }
}
