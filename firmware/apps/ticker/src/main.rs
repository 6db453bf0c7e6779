//! An ESP32-C3 application of asynchronous tasks (embassy on esp-rtos): nothing in it moves without interrupts.
//!
//! One task waits for the timer and signals another one, which prints:
//!
//! ```text
//! ticker 1.0.0 reset=CoreSw tick=1
//! ```

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use embassy_executor::Spawner;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::Timer;
use esp_hal::main;
use esp_hal::peripherals::Peripherals;
use esp_hal::system::{reset_reason, software_reset};
use esp_hal::timer::timg::TimerGroup;
use esp_println::println;
use esp_rtos::embassy::Executor;
use static_cell::StaticCell;

const VERSION: &str = "1.0.0";

// Time and date are constants: building again does not change the image.
esp_bootloader_esp_idf::esp_app_desc!(
    VERSION,
    "ticker",
    "00:00:00",
    "2026-01-01",
    esp_bootloader_esp_idf::ESP_IDF_COMPATIBLE_VERSION,
    esp_bootloader_esp_idf::MMU_PAGE_SIZE,
    0,
    u16::MAX,
    esp_bootloader_esp_idf::SECURE_VERSION
);

const TICK_MS: u64 = 100;

/// The number of the tick that the timer has brought.
static TICK: Signal<CriticalSectionRawMutex, u32> = Signal::new();

/// Restarts the chip. A silent loop would need a person to come and press the button.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    software_reset()
}

#[main]
fn main() -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    let peripherals = esp_hal::init(esp_hal::Config::default());
    EXECUTOR.init(Executor::new()).run(|spawner| start(spawner, peripherals))
}

fn start(spawner: Spawner, peripherals: Peripherals) {
    esp_rtos::start(TimerGroup::new(peripherals.TIMG0).timer0, peripherals.FROM_CPU_INTR0);
    // Their pools are not empty: each is spawned once.
    if let (Ok(tick), Ok(tell)) = (tick(), tell()) {
        spawner.spawn(tick);
        spawner.spawn(tell);
    }
}

#[embassy_executor::task]
async fn tick() {
    for number in 1.. {
        Timer::after_millis(TICK_MS).await;
        TICK.signal(number);
    }
}

#[embassy_executor::task]
async fn tell() {
    loop {
        let number = TICK.wait().await;
        match reset_reason() {
            Some(reason) => println!("ticker {VERSION} reset={reason:?} tick={number}"),
            None => println!("ticker {VERSION} reset=unknown tick={number}"),
        }
    }
}
