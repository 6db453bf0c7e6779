//! An ESP32-C3 application that prints what it finds in the registers at its entry: of the processor, and of everything
//! that a bootloader sets or uses.
//!
//! Started once by the bootloader and once by the updater it must find the same, or the two are not the same to an
//! application. So that both starts come from the same kind of reset, the one after power-on is not looked at:
//!
//! ```text
//! entry-state begins reset=CoreSw
//! entry-state cpu+08 3fcde310 00000000 ...
//! entry-state 600c2000+000 00000000 00000000 ...
//! entry-state ends
//! ```
//!
//! A line has the registers' base, the offset of the first of them, and up to eight words.

#![no_std]
#![no_main]

use core::arch::global_asm;
use core::panic::PanicInfo;

use esp_hal::main;
use esp_hal::rtc_cntl::SocResetReason;
use esp_hal::system::{reset_reason, software_reset};
use esp_println::{print, println};

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    "1.0.0",
    "entry-state",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// Consecutive registers of 32 bits.
#[repr(C)]
struct Block {
    base_addr: u32,
    words: u32,
}

/// Peripherals that a bootloader sets or uses (base addresses: ESP-IDF 5.5, `soc/esp32c3/register/soc/reg_base.h`).
/// Registers whose reading changes something are left out: UART and USB FIFOs.
const BLOCKS: [Block; 18] = [
    // UART 0 from its interrupts to its configuration.
    Block { base_addr: 0x6000_000C, words: 8 },
    // SPI1 and SPI0: the flash.
    Block { base_addr: 0x6000_2000, words: 64 },
    Block { base_addr: 0x6000_3000, words: 64 },
    Block { base_addr: 0x6000_4000, words: 32 },
    // RTC: retained registers, watchdogs, power, brownout.
    Block { base_addr: 0x6000_8000, words: 75 },
    // IO_MUX.
    Block { base_addr: 0x6000_9000, words: 24 },
    // Timer groups.
    Block { base_addr: 0x6001_F000, words: 33 },
    Block { base_addr: 0x6002_0000, words: 33 },
    // System timer: its configuration, not its counters.
    Block { base_addr: 0x6002_3000, words: 1 },
    Block { base_addr: 0x6002_301C, words: 9 },
    // APB_CTRL up to the random number.
    Block { base_addr: 0x6002_6000, words: 44 },
    // GDMA, SHA.
    Block { base_addr: 0x6003_F000, words: 32 },
    // System: clocks and resets of peripherals, the processor's clock.
    Block { base_addr: 0x600C_0000, words: 32 },
    // Memory protection.
    Block { base_addr: 0x600C_1000, words: 100 },
    // Interrupt matrix.
    Block { base_addr: 0x600C_2000, words: 102 },
    // Cache, and its MMU.
    Block { base_addr: 0x600C_4000, words: 64 },
    Block { base_addr: 0x600C_5000, words: 128 },
    // Debug assist: monitored memory and stack.
    Block { base_addr: 0x600C_E000, words: 36 },
];

/// Registers of the processor that are recorded: 31, then the control and status registers below.
const CPU_WORDS: usize = 32 + 51;

const BLOCK_WORDS: usize = {
    let (mut words, mut index) = (0, 0);
    while index < BLOCKS.len() {
        words += BLOCKS[index].words as usize;
        index += 1;
    }
    words
};

/// What was found; filled before the runtime clears its own memory.
#[repr(C)]
struct Found {
    cpu: [u32; CPU_WORDS],
    blocks: [u32; BLOCK_WORDS],
}

#[unsafe(no_mangle)]
static ENTRY_STATE_BLOCKS: [Block; BLOCKS.len()] = BLOCKS;

// Before the runtime's first instruction. t0 is lost; nobody can mean anything by it.
global_asm!(
    "
    .pushsection .noinit.entry_state, \"aw\", @nobits
    .balign 4
    .global entry_state_found
entry_state_found:
    .zero   {found_bytes}
    .popsection

    .macro  keep csr
    csrr    t1, \\csr
    sw      t1, 0(t0)
    addi    t0, t0, 4
    .endm
    .macro  keep_trigger number
    li      t1, \\number
    csrw    tselect, t1
    keep    tdata1
    keep    tdata2
    .endm

    .pushsection .init, \"ax\"
    .global entry_state
entry_state:
    .option push
    .option norelax
    la      t0, entry_state_found
    sw      x1, 4(t0)
    sw      x2, 8(t0)
    sw      x3, 12(t0)
    sw      x4, 16(t0)
    sw      zero, 20(t0)
    sw      x6, 24(t0)
    sw      x7, 28(t0)
    sw      x8, 32(t0)
    sw      x9, 36(t0)
    sw      x10, 40(t0)
    sw      x11, 44(t0)
    sw      x12, 48(t0)
    sw      x13, 52(t0)
    sw      x14, 56(t0)
    sw      x15, 60(t0)
    sw      x16, 64(t0)
    sw      x17, 68(t0)
    sw      x18, 72(t0)
    sw      x19, 76(t0)
    sw      x20, 80(t0)
    sw      x21, 84(t0)
    sw      x22, 88(t0)
    sw      x23, 92(t0)
    sw      x24, 96(t0)
    sw      x25, 100(t0)
    sw      x26, 104(t0)
    sw      x27, 108(t0)
    sw      x28, 112(t0)
    sw      x29, 116(t0)
    sw      x30, 120(t0)
    sw      x31, 124(t0)
    sw      zero, 0(t0)
    addi    t0, t0, 128
    // 8 of traps.
    keep    mstatus
    keep    mtvec
    keep    mscratch
    keep    mepc
    keep    mcause
    keep    mtval
    keep    misa
    keep    mhartid
    // 20 of memory protection.
    keep    pmpcfg0
    keep    pmpcfg1
    keep    pmpcfg2
    keep    pmpcfg3
    keep    pmpaddr0
    keep    pmpaddr1
    keep    pmpaddr2
    keep    pmpaddr3
    keep    pmpaddr4
    keep    pmpaddr5
    keep    pmpaddr6
    keep    pmpaddr7
    keep    pmpaddr8
    keep    pmpaddr9
    keep    pmpaddr10
    keep    pmpaddr11
    keep    pmpaddr12
    keep    pmpaddr13
    keep    pmpaddr14
    keep    pmpaddr15
    // 18 of debug triggers: tselect, tcontrol, and two words of each of the eight.
    keep    tselect
    keep    0x7A5
    keep_trigger 0
    keep_trigger 1
    keep_trigger 2
    keep_trigger 3
    keep_trigger 4
    keep_trigger 5
    keep_trigger 6
    keep_trigger 7
    // 5 of counters and the processor's own pins (ESP32-C3 TRM, 1.4.1).
    keep    0x7E0
    keep    0x7E1
    keep    0x803
    keep    0x804
    keep    0x805
    la      t1, ENTRY_STATE_BLOCKS
    li      t2, {blocks}
1:  lw      t3, 0(t1)
    lw      t4, 4(t1)
    addi    t1, t1, 8
2:  lw      t5, 0(t3)
    sw      t5, 0(t0)
    addi    t3, t3, 4
    addi    t0, t0, 4
    addi    t4, t4, -1
    bnez    t4, 2b
    addi    t2, t2, -1
    bnez    t2, 1b
    la      t0, _start
    jr      t0
    .option pop
    .popsection
    ",
    found_bytes = const size_of::<Found>(),
    blocks = const BLOCKS.len(),
);

unsafe extern "C" {
    static entry_state_found: Found;
}

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    if reset_reason() == Some(SocResetReason::ChipPowerOn) {
        software_reset()
    }
    // All is recorded. This takes the bootloader's watchdog off, for which printing takes too long.
    esp_hal::init(esp_hal::Config::default());
    println!("entry-state begins reset={:?}", reset_reason());
    // SAFETY: written by the program's first instructions, and by nobody since.
    let found = unsafe { &entry_state_found };
    print_words(format_args!("cpu"), &found.cpu);
    let mut left = &found.blocks[..];
    for block in &BLOCKS {
        let (words, rest) = left.split_at(block.words as usize);
        print_words(format_args!("{:08x}", block.base_addr), words);
        left = rest;
    }
    println!("entry-state ends");
    loop {}
}

fn print_words(base: core::fmt::Arguments<'_>, words: &[u32]) {
    for (index, line) in words.chunks(8).enumerate() {
        print!("entry-state {base}+{:03x}", index * 32);
        for word in line {
            print!(" {word:08x}");
        }
        println!();
    }
}
