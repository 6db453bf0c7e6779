//! An ESP32-C3 application that leaves rubbish in every register of the processor, and resets the processor alone.
//!
//! Silicon promises nothing about the registers after a reset, and an ESP-IDF application leaves its own values in all of
//! them, the thread pointer among them. Whoever runs next must set what it relies on:
//!
//! ```text
//! rubbish 1.0.0 reset=CoreSw leaves rubbish in 2 s
//! ```

#![no_std]
#![no_main]

use core::arch::asm;
use core::panic::PanicInfo;

use esp_hal::delay::Delay;
use esp_hal::main;
use esp_hal::system::{reset_reason, software_reset};
use esp_println::println;

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "rubbish",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

/// How long the application works before it leaves.
const WORKS_FOR_MS: u32 = 2_000;

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    esp_hal::init(esp_hal::Config::default());

    match reset_reason() {
        Some(reason) => println!("rubbish {VERSION} reset={reason:?} leaves rubbish in 2 s"),
        None => println!("rubbish {VERSION} reset=unknown leaves rubbish in 2 s"),
    }
    Delay::new().delay_millis(WORKS_FOR_MS);
    leave()
}

/// Fills the registers and resets the processor.
fn leave() -> ! {
    // SAFETY: interrupts are off before the trap vector goes, and no line after the first ones touches memory but the one
    // that resets the processor: RTC_CNTL_SW_PROCPU_RST in RTC_CNTL_OPTIONS0_REG (ESP-IDF 5.5,
    // `soc/esp32c3/register/soc/rtc_cntl_reg.h`), which leaves every peripheral as it is.
    unsafe {
        asm!(
            "csrci  mstatus, 8",
            "li     t0, 0x60008000",
            "lw     t1, 0(t0)",
            "ori    t1, t1, 0x20",
            // No address that anything may be stored to, and aligned, so that only the address can be wrong.
            "li     ra, 0xA5A5A500",
            "csrw   mscratch, ra",
            "csrw   mepc, ra",
            "csrw   mtval, ra",
            "csrw   mcause, ra",
            "csrw   mtvec, ra",
            "csrw   tselect, ra",
            // MPIE: an interrupt that nobody asked for would be on after the next mret.
            "li     sp, 0x80",
            "csrs   mstatus, sp",
            "addi   sp, ra, 0x10",
            "addi   gp, ra, 0x20",
            "addi   tp, ra, 0x30",
            "addi   t2, ra, 0x40",
            "addi   s0, ra, 0x50",
            "addi   s1, ra, 0x60",
            "addi   a0, ra, 0x70",
            "addi   a1, ra, 0x80",
            "addi   a2, ra, 0x90",
            "addi   a3, ra, 0xA0",
            "addi   a4, ra, 0xB0",
            "addi   a5, ra, 0xC0",
            "addi   a6, ra, 0xD0",
            "addi   a7, ra, 0xE0",
            "addi   s2, ra, 0xF0",
            "addi   s3, ra, 0x100",
            "addi   s4, ra, 0x110",
            "addi   s5, ra, 0x120",
            "addi   s6, ra, 0x130",
            "addi   s7, ra, 0x140",
            "addi   s8, ra, 0x150",
            "addi   s9, ra, 0x160",
            "addi   s10, ra, 0x170",
            "addi   s11, ra, 0x180",
            "addi   t3, ra, 0x190",
            "addi   t4, ra, 0x1A0",
            "addi   t5, ra, 0x1B0",
            "addi   t6, ra, 0x1C0",
            "sw     t1, 0(t0)",
            "1: j   1b",
            options(noreturn),
        )
    }
}
