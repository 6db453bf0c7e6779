//! From a reset to the first instruction of an image: ROM and second-stage bootloader, by `sim`'s model of the rules.

use flashfmt::chip::Chip as ChipKind;
use flashfmt::image::ImageSummary;
use flashfmt::partition::Partition;
use sim::bootloader::{Boot, Bootloader, NothingReason};
use sim::flash::FlashError;
use updater::reset::{Content, Level, Reset};

use crate::bus::{
    Bus, CODE_ADDR, CPU_PER_CONF, DATA_ADDR, RTC_FAST_ADDR, RTC_FAST_BYTES, SRAM_ADDR, SRAM_BYTES,
    SYSCLK_CONF, WINDOW_BYTES, in_window,
};
use crate::cpu::{Cpu, csr};
use crate::fault::Fault;
use crate::peripherals::cache::{ENTRIES, LAST_ENTRY, PAGE_SHIFT};
use crate::time;

/// What the processor finds at an image's entry, as seen with the ROM and ESP-IDF's bootloader in an emulator.
const STACK_ADDR: u32 = 0x3FCD_E310;
const ROM_VECTORS: u32 = 0x4000_1D01;
/// What ROM and bootloader use of the SRAM for themselves (`bootloader.ld.in` of ESP-IDF 5.5, esp32c3): gone after them.
const USED: std::ops::Range<u32> = 0x3FCC_E710..ROM_DATA.start;
/// The ROM's own data, which its functions use (`heap/port/esp32c3/memory_layout.c`): the console is UART 0.
const ROM_DATA: std::ops::Range<u32> = 0x3FCD_F060..SRAM_ADDR + SRAM_BYTES;
/// The bootloader leaves the processor at 80 MHz (`bootloader_clock_init`), and the SHA engine on, with which it has verified
/// the image (`ets_sha_enable`): clocked, and not in reset.
const REGISTERS: [(u32, u32); 4] =
    [(SYSCLK_CONF, 0x400), (CPU_PER_CONF, 0xC), (0x600C_0014, 0x204), (0x600C_001C, 0x1CA)];
/// What they take apart from reading the flash.
const TIME: std::time::Duration = std::time::Duration::from_millis(30);

const PAGE_BYTES: u32 = 1 << PAGE_SHIFT;
/// Timer wake (`RTC_TIMER_TRIG_EN`).
const TIMER_WAKE: u32 = 1 << 3;

/// What a reset ended in.
pub(crate) enum Booted {
    Image,
    Nothing(NothingReason),
    PowerLost,
    /// The image has a segment for what is no memory.
    Fault(Fault),
}

/// Resets the chip: what is lost is lost, ROM and bootloader run, the processor stands at an image's entry.
pub(crate) fn reset(cpu: &mut Cpu, bus: &mut Bus, reset: Reset, bootloader: &Bootloader) -> Booted {
    let Some(entry) = reset.on(ChipKind::Esp32C3) else { return Booted::PowerLost };
    match entry.remains.rtc {
        Content::Kept => {}
        Content::Cleared => bus.new_rtc([0; 8]),
        Content::Undefined => {
            let noise = [(); 8].map(|()| bus.noise());
            bus.new_rtc(noise);
            bus.forget_rtc_fast();
        }
    }
    if entry.remains.sram == Content::Undefined {
        bus.forget_sram();
    }
    if entry.level > Level::Cpu {
        bus.reset_core();
        bus.rtc.reset_watchdog();
    } else {
        bus.reset_processor_parts();
    }
    if entry.level == Level::Chip || reset == Reset::DeepSleep {
        for index in 1..32 {
            let noise = bus.noise();
            cpu.set_x(index, noise);
        }
    }
    let code = entry.codes.first().copied().unwrap_or(1);
    bus.rtc.set_cause(code, if reset == Reset::DeepSleep { TIMER_WAKE } else { 0 });
    bus.uart.print(
        format!(
            "ESP-ROM:esp32c3-api1-20210207\r\nrst:{code:#x} ({reset:?}),boot:0x8 (SPI_FAST_FLASH_BOOT)\r\n"
        )
        .as_bytes(),
    );
    // A flash that cannot be read any more is without power (`sim::bootloader`).
    start(cpu, bus, bootloader, reset).unwrap_or(Booted::PowerLost)
}

fn start(cpu: &mut Cpu, bus: &mut Bus, bootloader: &Bootloader, reset: Reset) -> Result<Booted, FlashError> {
    let boot = bootloader.boot(&mut bus.flash)?;
    bus.now += time::ticks(bus.flash_time() + TIME);
    let (partition, image) = match boot {
        Boot::Updater { partition, image } | Boot::App { partition, image, .. } => (partition, image),
        Boot::Nothing(reason) => return Ok(Booted::Nothing(reason)),
    };
    let loaded = format!(
        "I ({}) boot: Loaded app from partition at offset {:#x}\r\n",
        time::duration(bus.now).as_millis(),
        partition.offset
    );
    bus.uart.print(loaded.as_bytes());
    bus.spoil(USED);
    bus.clear(ROM_DATA);
    for (addr, value) in REGISTERS {
        bus.set_plain(addr, value);
    }
    bus.rtc.note_clocks();
    bus.rtc.power_converter();
    if let Err(fault) = load(bus, &partition, &image, reset) {
        return Ok(Booted::Fault(fault));
    }
    bus.rtc.arm_bootloader_watchdog(bus.now);
    cpu.reset(image.header.entry_addr);
    cpu.set_x(2, STACK_ADDR);
    cpu.csr.mstatus = csr::MIE;
    cpu.csr.mtvec = ROM_VECTORS;
    Ok(Booted::Image)
}

/// Copies what belongs into RAM, and maps the rest.
fn load(bus: &mut Bus, partition: &Partition, image: &ImageSummary, reset: Reset) -> Result<(), Fault> {
    for entry in 0..ENTRIES {
        bus.cache.map(entry, None);
    }
    // By which the bootloader has looked at the image (seen in QEMU with that bootloader).
    bus.cache.map(LAST_ENTRY, Some(partition.offset / PAGE_BYTES));
    for segment in image.segments.as_slice() {
        let from = partition.offset + segment.data_offset;
        // A gap that puts the next segment where it can be mapped.
        if segment.load_addr == 0 {
            continue;
        }
        // After deep sleep the RTC's memory holds what the program has put there (`should_load`, `esp_image_format.c`).
        if reset == Reset::DeepSleep && in_window(segment.load_addr, RTC_FAST_ADDR, RTC_FAST_BYTES) {
            continue;
        }
        if [DATA_ADDR, CODE_ADDR].iter().any(|window| in_window(segment.load_addr, *window, WINDOW_BYTES)) {
            let pages = (segment.load_addr % PAGE_BYTES + segment.len).div_ceil(PAGE_BYTES);
            for page in 0..pages {
                let entry = (segment.load_addr / PAGE_BYTES + page) as usize % ENTRIES;
                bus.cache.map(entry, Some(from / PAGE_BYTES + page));
            }
        } else {
            let bytes = bus.flash.bytes()[from as usize..][..segment.len as usize].to_vec();
            bus.write_bytes(segment.load_addr, &bytes)?;
        }
    }
    bus.cache.enable(true);
    bus.cache.open_buses();
    Ok(())
}
