//! Decoded code, kept for as long as the memory says that it is the same.

use super::decode::{Instruction, Op, decode};
use super::{Memory, Refused};

/// The most instructions of a block. It spans four bytes for each at most, of which `Memory::code_version` speaks.
const MOST_INSTRUCTIONS: usize = 48;
const _: () = assert!(4 * MOST_INSTRUCTIONS == 192);
/// Where a write to register 0 goes, so that nobody has to ask.
pub(super) const SINK: u8 = 32;
/// `sp` (RISC-V ABIs Specification, "Integer Register Convention").
const STACK_POINTER: u8 = 2;
/// Blocks are found by their address; as many addresses have a place.
const PLACES: usize = 1 << 15;
/// When as much is kept, all of it is forgotten.
const MOST_KEPT: usize = 1 << 20;

/// Instructions that are executed one after the other, unless a branch is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    addr: u32,
    version: u64,
    first: u32,
    count: u32,
    /// The address after it.
    end: u32,
}

const NONE: Block = Block { addr: 1, version: 0, first: 0, count: 0, end: 0 };

/// The blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// None at all before the first is fetched: `run` takes the blocks out of the processor each time.
    places: Vec<Block>,
    code: Vec<Instruction>,
}

impl Blocks {
    /// The instructions at `addr`, and the address after them. What depends on the instruction's own address is in them
    /// as an address: the targets of jumps and branches, and the result of `auipc`.
    ///
    /// Errors: the first of them cannot be fetched, at this address.
    #[inline]
    pub(super) fn at(
        &mut self,
        addr: u32,
        memory: &mut impl Memory,
    ) -> Result<(&[Instruction], u32), (Refused, u32)> {
        let place = (addr >> 1) as usize % PLACES;
        let block = match self.places.get(place) {
            Some(block) if block.addr == addr && block.version == memory.code_version(addr) => *block,
            _ => {
                let block = self.fetch(addr, memory)?;
                self.places[place] = block;
                block
            }
        };
        Ok((&self.code[block.first as usize..][..block.count as usize], block.end))
    }

    #[cold]
    fn fetch(&mut self, addr: u32, memory: &mut impl Memory) -> Result<Block, (Refused, u32)> {
        if self.code.len() > MOST_KEPT || self.places.is_empty() {
            self.code.clear();
            self.places.clear();
            self.places.resize(PLACES, NONE);
        }
        let first = self.code.len() as u32;
        let mut next = addr;
        while self.code.len() - (first as usize) < MOST_INSTRUCTIONS {
            let instruction = match fetch(next, memory) {
                Ok(instruction) => instruction,
                // What cannot be fetched is a fault when it is reached, not before.
                Err(_) if next != addr => {
                    memory.forget_refusal();
                    break;
                }
                Err(refused) => return Err(refused),
            };
            let ends = ends_block(instruction.op);
            let rd = if instruction.rd == 0 { SINK } else { instruction.rd };
            let imm = if counts_from_pc(instruction.op) {
                instruction.imm.wrapping_add(next as i32)
            } else {
                instruction.imm
            };
            let op = moves_stack(&instruction).unwrap_or(instruction.op);
            self.code.push(Instruction { op, rd, imm, ..instruction });
            next = next.wrapping_add(u32::from(instruction.len));
            if ends {
                break;
            }
        }
        let count = self.code.len() as u32 - first;
        Ok(Block { addr, version: memory.code_version(addr), first, count, end: next })
    }
}

fn fetch(addr: u32, memory: &mut impl Memory) -> Result<Instruction, (Refused, u32)> {
    let mut half = |addr| memory.fetch(addr).map_err(|refused| (refused, addr));
    let low = half(addr)?;
    let high = if low & 3 == 3 { half(addr.wrapping_add(2))? } else { 0 };
    Ok(decode(u32::from(high) << 16 | u32::from(low)))
}

/// What stands for an instruction that makes room on the stack: the two that compilers use (LLVM, `RISCVFrameLowering`).
fn moves_stack(instruction: &Instruction) -> Option<Op> {
    match (instruction.op, instruction.rd) {
        (Op::Addi, STACK_POINTER) => Some(Op::AddiStack),
        (Op::Sub, STACK_POINTER) => Some(Op::SubStack),
        _ => None,
    }
}

/// The immediate is a distance from the instruction's own address.
fn counts_from_pc(op: Op) -> bool {
    use Op::*;
    matches!(op, Auipc | Jal | Beq | Bne | Blt | Bge | Bltu | Bgeu)
}

/// What comes after it may depend on what it does to the machine.
fn ends_block(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Jal | Jalr
            | FenceI
            | Ecall
            | Ebreak
            | Mret
            | Wfi
            | Csrrw
            | Csrrs
            | Csrrc
            | Csrrwi
            | Csrrsi
            | Csrrci
            | Illegal
    )
}
