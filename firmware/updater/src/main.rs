//! The updater: the firmware that starts first on every boot of an ESP32.
//!
//! ```text
//! reset -> bootloader -> main -> a ticket, or a wake from deep sleep? -> the application, on pristine hardware
//!                         |
//!                         v no
//!                 esp_hal::init -> scheduler -> network -> pit stop -> ticket -> system reset
//! ```
//!
//! The engine decides and the shell acts (crates `updater` and `updater-io`); here is only what is the chip's: where
//! its registers are, how its network comes up, what its console says.

#![no_std]
#![no_main]

extern crate alloc;

mod atomics;
mod board;
mod chip;
mod console;
#[cfg(target_arch = "riscv32")]
mod entry;
mod hand_over;
mod memory;
mod network;
mod panic;
mod random;
#[cfg(feature = "wifi")]
mod serial;
mod watchdog;
#[cfg(feature = "wifi")]
mod wifi_setup;

use embassy_executor::Spawner;
use embassy_time::{Duration, Timer};
use esp_hal::clock::CpuClock;
use esp_hal::peripherals::Peripherals;
use esp_hal::rng::TrngSource;
use esp_hal::rtc_cntl::Rwdt;
use esp_hal::timer::timg::TimerGroup;
use esp_rtos::embassy::Executor;
use esp_storage::FlashStorage;
use static_cell::StaticCell;
#[cfg(feature = "wifi")]
use updater::{Phase, Retained};
use updater::{Start, Verdict};
use updater_io::shell::{self, Ended, KnownDamage};

use board::ChipBoard;
use network::{ChipNetwork, Hardware};
#[cfg(feature = "wifi")]
use wifi_setup::Setup;

/// As the image names itself: one for emulators has no radio, and `pitstop flash` looks for that (`flash/updater.rs`).
const VERSION: &str = if cfg!(feature = "qemu-eth") {
    concat!(env!("CARGO_PKG_VERSION"), "+emulator")
} else {
    env!("CARGO_PKG_VERSION")
};

// Time and date of the build are left out: building the same sources again gives the same image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "pitstop-updater",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

#[esp_hal::main]
fn main() -> ! {
    let start = hand_over::begin();

    static EXECUTOR: StaticCell<Executor> = StaticCell::new();

    let mut peripherals = esp_hal::init(esp_hal::Config::default().with_cpu_clock(CpuClock::max()));
    let watchdog = watchdog::arm(peripherals.RTC_TIMER.reborrow());
    chip::reset_at_brownout();
    #[cfg(target_arch = "riscv32")]
    entry::enable_interrupts();
    memory::init();
    EXECUTOR.init(Executor::new()).run(|spawner| match pit_stop(spawner, peripherals, watchdog, start) {
        Ok(task) => spawner.spawn(task),
        // The pool of one task is not empty at its first use.
        Err(_) => chip::reset(),
    })
}

/// One pit stop, up to the reset that ends it.
#[embassy_executor::task]
async fn pit_stop(spawner: Spawner, peripherals: Peripherals, watchdog: Rwdt, start: Start) {
    // Serves the radio's threads and embassy's timers.
    esp_rtos::start(TimerGroup::new(peripherals.TIMG0).timer0, peripherals.FROM_CPU_INTR0);
    watchdog::keep_fed(spawner, watchdog);
    console::print_start(start.told_cause());

    let hardware = Hardware {
        #[cfg(feature = "wifi")]
        wifi: peripherals.WIFI,
        entropy: TrngSource::new(peripherals.RNG, peripherals.ADC1),
    };
    let network = ChipNetwork::new(spawner, hardware);
    let mut board = ChipBoard::new(FlashStorage::new(peripherals.FLASH), network);
    let mut known_damage = KnownDamage::at(start.told_cause());

    #[cfg(feature = "wifi")]
    let mut serial = serial::Serial::new(
        peripherals.UART0,
        #[cfg(not(feature = "esp32"))]
        peripherals.USB_DEVICE,
    );
    #[cfg(feature = "wifi")]
    if let Ok(serial) = &mut serial
        && let Setup::Done =
            wifi_setup::serve_if_due(&mut board, serial, &mut known_damage, wifi_setup::FIRST_WORD).await
    {
        chip::retain_bits(Retained { phase: Phase::Application, ..start.retained }.to_bits());
        chip::reset();
    }

    let Ended { verdict, retained_bits } = shell::pit_stop(&mut board, start, &mut known_damage).await;
    console::print_verdict(&verdict);
    memory::report();
    board.network.leave().await;
    match verdict {
        Verdict::HandOver { .. } => chip::retain_bits(retained_bits),
        Verdict::Restart { after_ms, .. } => {
            let wait = Duration::from_millis(after_ms);
            #[cfg(feature = "wifi")]
            if let Ok(serial) = &mut serial {
                match wifi_setup::serve_if_due(&mut board, serial, &mut known_damage, wait).await {
                    Setup::NotDue => {}
                    Setup::GivenUp | Setup::Done => {
                        chip::retain_bits(retained_bits);
                        chip::reset();
                    }
                }
            }
            // Minutes, perhaps an hour, without the radio. No sleep: a wake from deep sleep is taken for the application's
            // (crate `updater-io`, early.rs), and in light sleep the watchdog stands still.
            board.network.stop();
            chip::retain_bits(retained_bits);
            Timer::after(wait).await;
        }
    }
    chip::reset()
}
