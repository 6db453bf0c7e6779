//! Instructions of RV32IMC with Zicsr and Zifencei, decoded once and kept.
//!
//! Sources: The RISC-V Instruction Set Manual, volume I (20240411), chapter 34 "RV32/64G Instruction Set Listings" and
//! chapter 26 "C Standard Extension"; volume II for `mret` and `wfi`.

/// What an instruction does. A compressed one is decoded as the one that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rustfmt::skip]
#[allow(missing_docs)]
pub enum Op {
    Lui, Auipc, Jal, Jalr,
    Beq, Bne, Blt, Bge, Bltu, Bgeu,
    Lb, Lh, Lw, Lbu, Lhu, Sb, Sh, Sw,
    Addi, Slti, Sltiu, Xori, Ori, Andi, Slli, Srli, Srai,
    Add, Sub, Sll, Slt, Sltu, Xor, Srl, Sra, Or, And,
    Mul, Mulh, Mulhsu, Mulhu, Div, Divu, Rem, Remu,
    Fence, FenceI, Ecall, Ebreak, Mret, Wfi,
    Csrrw, Csrrs, Csrrc, Csrrwi, Csrrsi, Csrrci,
    /// No instruction of this processor.
    Illegal,
    /// An `addi` or a `sub` that moves the stack pointer, which somebody watches. `decode` makes none.
    AddiStack, SubStack,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What it does.
    pub op: Op,
    /// The register that it writes.
    pub rd: u8,
    /// Its first source; of a `csrrwi` and its kin the immediate of 5 bits.
    pub rs1: u8,
    /// Its second source.
    pub rs2: u8,
    /// Its length in bytes: 2 or 4.
    pub len: u8,
    /// Its immediate, extended; the number of a CSR instruction's register.
    pub imm: i32,
}

/// Decodes the instruction that begins with these 32 bits; of a compressed one the upper half is something else.
pub fn decode(bits: u32) -> Instruction {
    if bits & 3 == 3 { decode_32(bits) } else { decode_16(bits as u16) }
}

const fn field(bits: u32, from: u32, width: u32) -> u32 {
    (bits >> from) & ((1 << width) - 1)
}

/// Sign-extends the lower `width` bits.
const fn signed(value: u32, width: u32) -> i32 {
    ((value << (32 - width)) as i32) >> (32 - width)
}

const fn illegal(len: u8) -> Instruction {
    Instruction { op: Op::Illegal, rd: 0, rs1: 0, rs2: 0, len, imm: 0 }
}

fn decode_32(bits: u32) -> Instruction {
    let (rd, rs1, rs2) = (field(bits, 7, 5) as u8, field(bits, 15, 5) as u8, field(bits, 20, 5) as u8);
    let (funct3, funct7) = (field(bits, 12, 3), field(bits, 25, 7));
    let imm_i = (bits as i32) >> 20;
    let imm_s = ((bits & 0xFE00_0000) as i32) >> 20 | i32::from(rd);
    let imm_u = (bits & 0xFFFF_F000) as i32;
    let imm_b = signed(
        field(bits, 8, 4) << 1 | field(bits, 25, 6) << 5 | field(bits, 7, 1) << 11 | field(bits, 31, 1) << 12,
        13,
    );
    let imm_j = signed(
        field(bits, 21, 10) << 1
            | field(bits, 20, 1) << 11
            | field(bits, 12, 8) << 12
            | field(bits, 31, 1) << 20,
        21,
    );
    let with = |op, imm| Instruction { op, rd, rs1, rs2, len: 4, imm };
    match bits & 0x7F {
        0x37 => with(Op::Lui, imm_u),
        0x17 => with(Op::Auipc, imm_u),
        0x6F => with(Op::Jal, imm_j),
        0x67 if funct3 == 0 => with(Op::Jalr, imm_i),
        0x63 => match funct3 {
            0 => with(Op::Beq, imm_b),
            1 => with(Op::Bne, imm_b),
            4 => with(Op::Blt, imm_b),
            5 => with(Op::Bge, imm_b),
            6 => with(Op::Bltu, imm_b),
            7 => with(Op::Bgeu, imm_b),
            _ => illegal(4),
        },
        0x03 => match funct3 {
            0 => with(Op::Lb, imm_i),
            1 => with(Op::Lh, imm_i),
            2 => with(Op::Lw, imm_i),
            4 => with(Op::Lbu, imm_i),
            5 => with(Op::Lhu, imm_i),
            _ => illegal(4),
        },
        0x23 => match funct3 {
            0 => with(Op::Sb, imm_s),
            1 => with(Op::Sh, imm_s),
            2 => with(Op::Sw, imm_s),
            _ => illegal(4),
        },
        0x13 => match (funct3, funct7) {
            (0, _) => with(Op::Addi, imm_i),
            (2, _) => with(Op::Slti, imm_i),
            (3, _) => with(Op::Sltiu, imm_i),
            (4, _) => with(Op::Xori, imm_i),
            (6, _) => with(Op::Ori, imm_i),
            (7, _) => with(Op::Andi, imm_i),
            (1, 0) => with(Op::Slli, i32::from(rs2)),
            (5, 0) => with(Op::Srli, i32::from(rs2)),
            (5, 0x20) => with(Op::Srai, i32::from(rs2)),
            _ => illegal(4),
        },
        0x33 => match (funct7, funct3) {
            (0, 0) => with(Op::Add, 0),
            (0x20, 0) => with(Op::Sub, 0),
            (0, 1) => with(Op::Sll, 0),
            (0, 2) => with(Op::Slt, 0),
            (0, 3) => with(Op::Sltu, 0),
            (0, 4) => with(Op::Xor, 0),
            (0, 5) => with(Op::Srl, 0),
            (0x20, 5) => with(Op::Sra, 0),
            (0, 6) => with(Op::Or, 0),
            (0, 7) => with(Op::And, 0),
            (1, 0) => with(Op::Mul, 0),
            (1, 1) => with(Op::Mulh, 0),
            (1, 2) => with(Op::Mulhsu, 0),
            (1, 3) => with(Op::Mulhu, 0),
            (1, 4) => with(Op::Div, 0),
            (1, 5) => with(Op::Divu, 0),
            (1, 6) => with(Op::Rem, 0),
            (1, 7) => with(Op::Remu, 0),
            _ => illegal(4),
        },
        0x0F if funct3 == 0 => with(Op::Fence, 0),
        0x0F if funct3 == 1 => with(Op::FenceI, 0),
        0x73 => {
            let csr = field(bits, 20, 12) as i32;
            match (funct3, bits) {
                (0, 0x0000_0073) => with(Op::Ecall, 0),
                (0, 0x0010_0073) => with(Op::Ebreak, 0),
                (0, 0x3020_0073) => with(Op::Mret, 0),
                (0, 0x1050_0073) => with(Op::Wfi, 0),
                (1, _) => with(Op::Csrrw, csr),
                (2, _) => with(Op::Csrrs, csr),
                (3, _) => with(Op::Csrrc, csr),
                (5, _) => with(Op::Csrrwi, csr),
                (6, _) => with(Op::Csrrsi, csr),
                (7, _) => with(Op::Csrrci, csr),
                _ => illegal(4),
            }
        }
        _ => illegal(4),
    }
}

fn decode_16(half: u16) -> Instruction {
    let bits = u32::from(half);
    let with = |op, rd: u32, rs1: u32, rs2: u32, imm| Instruction {
        op,
        rd: rd as u8,
        rs1: rs1 as u8,
        rs2: rs2 as u8,
        len: 2,
        imm,
    };
    let (wide_rd, wide_rs2) = (field(bits, 7, 5), field(bits, 2, 5));
    // The registers x8 to x15, of which three bits tell.
    let (rs1, rd) = (8 + field(bits, 7, 3), 8 + field(bits, 2, 3));
    let imm_6 = signed(field(bits, 2, 5) | field(bits, 12, 1) << 5, 6);
    let shift = (field(bits, 2, 5) | field(bits, 12, 1) << 5) as i32;
    let word_offset = (field(bits, 6, 1) << 2 | field(bits, 10, 3) << 3 | field(bits, 5, 1) << 6) as i32;
    match (bits & 3, field(bits, 13, 3)) {
        (0, 0) => {
            let imm = field(bits, 6, 1) << 2
                | field(bits, 5, 1) << 3
                | field(bits, 11, 2) << 4
                | field(bits, 7, 4) << 6;
            if imm == 0 { illegal(2) } else { with(Op::Addi, rd, 2, 0, imm as i32) }
        }
        (0, 2) => with(Op::Lw, rd, rs1, 0, word_offset),
        (0, 6) => with(Op::Sw, 0, rs1, rd, word_offset),
        (1, 0) => with(Op::Addi, wide_rd, wide_rd, 0, imm_6),
        (1, jump @ (1 | 5)) => {
            let imm = field(bits, 3, 3) << 1
                | field(bits, 11, 1) << 4
                | field(bits, 2, 1) << 5
                | field(bits, 7, 1) << 6
                | field(bits, 6, 1) << 7
                | field(bits, 9, 2) << 8
                | field(bits, 8, 1) << 10
                | field(bits, 12, 1) << 11;
            with(Op::Jal, u32::from(jump == 1), 0, 0, signed(imm, 12))
        }
        (1, 2) => with(Op::Addi, wide_rd, 0, 0, imm_6),
        (1, 3) if wide_rd == 2 => {
            let imm = field(bits, 6, 1) << 4
                | field(bits, 2, 1) << 5
                | field(bits, 5, 1) << 6
                | field(bits, 3, 2) << 7
                | field(bits, 12, 1) << 9;
            if imm == 0 { illegal(2) } else { with(Op::Addi, 2, 2, 0, signed(imm, 10)) }
        }
        (1, 3) if imm_6 == 0 => illegal(2),
        (1, 3) => with(Op::Lui, wide_rd, 0, 0, imm_6 << 12),
        (1, 4) => match (field(bits, 10, 2), field(bits, 12, 1), field(bits, 5, 2)) {
            // A shift by 32 and more is for custom extensions.
            (0 | 1, 1, _) => illegal(2),
            (0, _, _) => with(Op::Srli, rs1, rs1, 0, shift),
            (1, _, _) => with(Op::Srai, rs1, rs1, 0, shift),
            (2, _, _) => with(Op::Andi, rs1, rs1, 0, imm_6),
            (_, 0, 0) => with(Op::Sub, rs1, rs1, rd, 0),
            (_, 0, 1) => with(Op::Xor, rs1, rs1, rd, 0),
            (_, 0, 2) => with(Op::Or, rs1, rs1, rd, 0),
            (_, 0, _) => with(Op::And, rs1, rs1, rd, 0),
            _ => illegal(2),
        },
        (1, branch @ (6 | 7)) => {
            let imm = field(bits, 3, 2) << 1
                | field(bits, 10, 2) << 3
                | field(bits, 2, 1) << 5
                | field(bits, 5, 2) << 6
                | field(bits, 12, 1) << 8;
            with(if branch == 6 { Op::Beq } else { Op::Bne }, 0, rs1, 0, signed(imm, 9))
        }
        (2, 0) if shift < 32 => with(Op::Slli, wide_rd, wide_rd, 0, shift),
        (2, 2) if wide_rd != 0 => {
            let imm = field(bits, 4, 3) << 2 | field(bits, 12, 1) << 5 | field(bits, 2, 2) << 6;
            with(Op::Lw, wide_rd, 2, 0, imm as i32)
        }
        (2, 4) => match (field(bits, 12, 1), wide_rd, wide_rs2) {
            (0, 0, 0) => illegal(2),
            (0, from, 0) => with(Op::Jalr, 0, from, 0, 0),
            (0, to, from) => with(Op::Add, to, 0, from, 0),
            (_, 0, 0) => with(Op::Ebreak, 0, 0, 0, 0),
            (_, from, 0) => with(Op::Jalr, 1, from, 0, 0),
            (_, to, from) => with(Op::Add, to, to, from, 0),
        },
        (2, 6) => {
            let imm = field(bits, 9, 4) << 2 | field(bits, 7, 2) << 6;
            with(Op::Sw, 0, 2, wide_rs2, imm as i32)
        }
        _ => illegal(2),
    }
}
