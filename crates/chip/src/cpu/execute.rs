//! Executing decoded instructions.

use super::blocks::Blocks;
use super::csr::number::{TCONTROL, TDATA1, TDATA2};
use super::decode::{Instruction, Op};
use super::{Cpu, Exception, Memory, Pause, Refused, Watched};

/// How a block ended.
enum Ended {
    /// With its last instruction, or a branch; `pc` is where it goes on.
    Done,
    /// An instruction was not carried out; `pc` is its address.
    Trapped(Exception, u32),
    /// `wfi`.
    Waits,
    /// The memory has to say something; `pc` is the instruction's address.
    Stopped,
}

impl Cpu {
    /// Executes instructions until `until` of them have been since the processor was made, or it pauses earlier. A block of
    /// instructions that has begun is ended.
    pub fn run<M: Memory>(&mut self, memory: &mut M, until: u64) -> Pause {
        // Out of `self` while it runs, so that the code can be borrowed beside the registers.
        let mut blocks = std::mem::take(&mut self.blocks);
        let pause = self.run_blocks(&mut blocks, memory, until);
        self.blocks = blocks;
        pause
    }

    fn run_blocks<M: Memory>(&mut self, blocks: &mut Blocks, memory: &mut M, until: u64) -> Pause {
        self.look_at_triggers();
        while self.instructions < until {
            if self.pc == self.awaited && memory.is_awaited() {
                return Pause::Awaited;
            }
            let before = self.instructions;
            if self.watches_code && self.fires(Watched::Execute, self.pc, 2) {
                self.instructions += 1;
                self.exception(Exception::Breakpoint, self.pc);
                if memory.executed(1) {
                    return Pause::Attention;
                }
                continue;
            }
            let (mut code, mut end) = match blocks.at(self.pc, memory) {
                Ok(block) => block,
                Err((Refused::Stop, _)) => return Pause::Stop,
                Err((Refused::Misaligned | Refused::Fault, addr)) => {
                    // It counts, so that a processor without a handler comes to an end too.
                    self.instructions += 1;
                    self.exception(Exception::InstructionAccess, addr);
                    if memory.executed(1) {
                        return Pause::Attention;
                    }
                    continue;
                }
            };
            if self.watches_code {
                // One by one, so that the address of each is looked at.
                code = &code[..1];
                end = self.pc.wrapping_add(span(code));
            }
            let ended = self.execute(code, end, memory);
            let is_wanted = memory.executed(self.instructions - before);
            match ended {
                Ended::Done => {}
                Ended::Trapped(exception, value) => self.exception(exception, value),
                Ended::Waits => return Pause::Wait,
                Ended::Stopped => return Pause::Stop,
            }
            if is_wanted || (memory.has_interrupt() && self.takes_interrupts()) {
                return Pause::Attention;
            }
        }
        Pause::Count
    }

    /// Executes a block, which begins at `pc` and ends before `end`.
    fn execute<M: Memory>(&mut self, code: &[Instruction], end: u32, memory: &mut M) -> Ended {
        let guard = self.guard;
        for (index, instruction) in code.iter().enumerate() {
            let Instruction { op, rd, rs1, rs2, imm, .. } = *instruction;
            let (a, b) = (self.x[usize::from(rs1 & 63)], self.x[usize::from(rs2 & 63)]);
            let addr = a.wrapping_add(imm as u32);
            /// Ends the block at an address.
            macro_rules! go {
                ($to:expr) => {{
                    self.pc = $to;
                    self.instructions += index as u64 + 1;
                    return Ended::Done;
                }};
            }
            macro_rules! branch_if {
                ($condition:expr) => {
                    if $condition {
                        go!(imm as u32)
                    }
                };
            }
            macro_rules! load {
                ($load:ident, $bytes:literal, $extend:expr) => {{
                    if guard.touches(addr) && self.fires(Watched::Load, addr, $bytes) {
                        return self.trapped(code, index, Exception::Breakpoint, addr);
                    }
                    match memory.$load(addr) {
                        Ok(value) => self.x[usize::from(rd & 63)] = $extend(value),
                        Err(refused) => return self.refused(code, index, refused, addr, LOAD),
                    }
                }};
            }
            macro_rules! store {
                ($store:ident, $bytes:literal, $value:expr) => {{
                    if guard.touches(addr) && self.fires(Watched::Store, addr, $bytes) {
                        return self.trapped(code, index, Exception::Breakpoint, addr);
                    }
                    match memory.$store(addr, $value) {
                        Ok(()) => {}
                        Err(refused) => return self.refused(code, index, refused, addr, STORE),
                    }
                }};
            }
            macro_rules! set {
                ($value:expr) => {
                    self.x[usize::from(rd & 63)] = $value
                };
            }
            match op {
                Op::Lui => set!(imm as u32),
                Op::Auipc => set!(imm as u32),
                Op::Jal => {
                    set!(end);
                    go!(imm as u32)
                }
                Op::Jalr => {
                    set!(end);
                    go!(addr & !1)
                }
                Op::Beq => branch_if!(a == b),
                Op::Bne => branch_if!(a != b),
                Op::Blt => branch_if!((a as i32) < b as i32),
                Op::Bge => branch_if!(a as i32 >= b as i32),
                Op::Bltu => branch_if!(a < b),
                Op::Bgeu => branch_if!(a >= b),
                Op::Lb => load!(load_8, 1, |value: u8| value as i8 as u32),
                Op::Lh => load!(load_16, 2, |value: u16| value as i16 as u32),
                Op::Lw => load!(load_32, 4, |value: u32| value),
                Op::Lbu => load!(load_8, 1, u32::from),
                Op::Lhu => load!(load_16, 2, u32::from),
                Op::Sb => store!(store_8, 1, b as u8),
                Op::Sh => store!(store_16, 2, b as u16),
                Op::Sw => store!(store_32, 4, b),
                Op::Addi => set!(addr),
                Op::AddiStack => self.move_stack(addr),
                Op::SubStack => self.move_stack(a.wrapping_sub(b)),
                Op::Slti => set!(u32::from((a as i32) < imm)),
                Op::Sltiu => set!(u32::from(a < imm as u32)),
                Op::Xori => set!(a ^ imm as u32),
                Op::Ori => set!(a | imm as u32),
                Op::Andi => set!(a & imm as u32),
                Op::Slli => set!(a << (imm & 31)),
                Op::Srli => set!(a >> (imm & 31)),
                Op::Srai => set!((a as i32 >> (imm & 31)) as u32),
                Op::Add => set!(a.wrapping_add(b)),
                Op::Sub => set!(a.wrapping_sub(b)),
                Op::Sll => set!(a << (b & 31)),
                Op::Slt => set!(u32::from((a as i32) < b as i32)),
                Op::Sltu => set!(u32::from(a < b)),
                Op::Xor => set!(a ^ b),
                Op::Srl => set!(a >> (b & 31)),
                Op::Sra => set!((a as i32 >> (b & 31)) as u32),
                Op::Or => set!(a | b),
                Op::And => set!(a & b),
                Op::Mul => set!(a.wrapping_mul(b)),
                Op::Mulh => set!(((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
                Op::Mulhsu => set!(((i64::from(a as i32) * i64::from(b)) >> 32) as u32),
                Op::Mulhu => set!(((u64::from(a) * u64::from(b)) >> 32) as u32),
                // Division by zero and overflow have results and are no traps (volume I, section 13.2).
                Op::Div => set!(match (a as i32, b as i32) {
                    (_, 0) => u32::MAX,
                    (a, b) => a.wrapping_div(b) as u32,
                }),
                Op::Divu => set!(a.checked_div(b).unwrap_or(u32::MAX)),
                Op::Rem => set!(match (a as i32, b as i32) {
                    (a, 0) => a as u32,
                    (a, b) => a.wrapping_rem(b) as u32,
                }),
                Op::Remu => set!(a.checked_rem(b).unwrap_or(a)),
                // There is one processor, and the decoded blocks look for changed code by themselves.
                Op::Fence | Op::FenceI => {}
                Op::Ecall => return self.trapped(code, index, Exception::EnvironmentCall, 0),
                Op::Ebreak => {
                    let addr = self.pc.wrapping_add(span(&code[..index]));
                    return self.trapped(code, index, Exception::Breakpoint, addr);
                }
                // The chip leaves `mtval` 0 here (register dumps of its panics), which volume II (3.1.16) allows.
                Op::Illegal => return self.trapped(code, index, Exception::IllegalInstruction, 0),
                Op::Mret => {
                    self.mret();
                    self.instructions += index as u64 + 1;
                    return Ended::Done;
                }
                Op::Wfi => {
                    self.pc = end;
                    self.instructions += index as u64 + 1;
                    return Ended::Waits;
                }
                Op::Csrrw | Op::Csrrs | Op::Csrrc | Op::Csrrwi | Op::Csrrsi | Op::Csrrci => {
                    match self.access_csr(instruction, a, index) {
                        Some(value) => set!(value),
                        None => return self.trapped(code, index, Exception::IllegalInstruction, 0),
                    }
                }
            }
        }
        self.pc = end;
        self.instructions += code.len() as u64;
        Ended::Done
    }

    #[inline]
    fn move_stack(&mut self, to: u32) {
        self.x[2] = to;
        if to < self.lowest_stack && self.stack.contains(&to) {
            (self.lowest_stack, self.lowest_stack_pc) = (to, self.pc);
        }
    }

    /// Reads and writes a control register, after `executed` instructions of the block; `None` where there is none.
    fn access_csr(&mut self, instruction: &Instruction, a: u32, executed: usize) -> Option<u32> {
        let Instruction { op, rs1, imm, .. } = *instruction;
        let register = imm as u32;
        let before = self.csr.read(register, self.instructions + executed as u64).ok()?;
        let operand = match op {
            Op::Csrrwi | Op::Csrrsi | Op::Csrrci => u32::from(rs1),
            _ => a,
        };
        let after = match op {
            Op::Csrrw | Op::Csrrwi => Some(operand),
            // Without a source nothing is written, and a read-only register may be read so.
            _ if rs1 == 0 => None,
            Op::Csrrs | Op::Csrrsi => Some(before | operand),
            _ => Some(before & !operand),
        };
        if let Some(after) = after {
            self.csr.write(register, after).ok()?;
            if matches!(register, TDATA1 | TDATA2 | TCONTROL) {
                self.look_at_triggers();
            }
        }
        Some(before)
    }

    #[cold]
    fn trapped(&mut self, code: &[Instruction], index: usize, exception: Exception, value: u32) -> Ended {
        self.pc = self.pc.wrapping_add(span(&code[..index]));
        self.instructions += index as u64 + 1;
        Ended::Trapped(exception, value)
    }

    #[cold]
    fn refused(
        &mut self,
        code: &[Instruction],
        index: usize,
        refused: Refused,
        addr: u32,
        [misaligned, access]: [Exception; 2],
    ) -> Ended {
        match refused {
            Refused::Misaligned => self.trapped(code, index, misaligned, addr),
            Refused::Fault => self.trapped(code, index, access, addr),
            Refused::Stop => {
                self.pc = self.pc.wrapping_add(span(&code[..index]));
                self.instructions += index as u64;
                Ended::Stopped
            }
        }
    }
}

/// How many bytes instructions are long.
fn span(code: &[Instruction]) -> u32 {
    code.iter().map(|instruction| u32::from(instruction.len)).sum()
}

const LOAD: [Exception; 2] = [Exception::LoadMisaligned, Exception::LoadAccess];
const STORE: [Exception; 2] = [Exception::StoreMisaligned, Exception::StoreAccess];
