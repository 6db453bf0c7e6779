//! The ROM's functions, by their addresses, as far as programs here call them (`esp_rom/esp32c3/ld/` of ESP-IDF 5.5; what
//! they do, `esp_rom/include/`). The code of the ROM itself is nobody's to copy, so they are written here.
//!
//! Arguments are in a0 to a7, the result in a0, the return address in ra.

mod flash;
mod memory;

use updater::reset::Reset;

use crate::bus::Bus;
use crate::cpu::Cpu;
use crate::fault::Fault;
use crate::registers;
use crate::time;

/// What became of a call.
pub(crate) enum Called {
    /// It returns this.
    Return(Option<u32>),
    /// It returns this in a0 and a1.
    Wide(u64),
    /// It returns this at that tick; until then it is in the ROM.
    Later(u64, Option<u32>),
    /// The chip is reset.
    Reset(Reset),
    /// The power was lost in it.
    PowerLost,
    Fault(Fault),
}

/// A call: the function's name and its arguments.
pub(crate) struct Call {
    addr: u32,
    name: &'static str,
    arguments: [u32; 8],
}

impl Call {
    pub(crate) fn at(cpu: &Cpu) -> Result<Self, Fault> {
        let name = registers::rom_function(cpu.pc).ok_or(Fault::RomFunction { addr: cpu.pc })?;
        let arguments = std::array::from_fn(|index| cpu.x(10 + index));
        Ok(Self { addr: cpu.pc, name, arguments })
    }

    pub(crate) fn run(&self, bus: &mut Bus) -> Called {
        let [a, ..] = self.arguments;
        match self.name {
            "rtc_get_reset_reason" => Called::Return(Some(bus.rtc.cause())),
            "ets_delay_us" => {
                Called::Later(bus.now + u64::from(a) * time::TICKS_PER_SECOND / 1_000_000, None)
            }
            "ets_update_cpu_frequency" => Called::Return(None),
            "ets_get_cpu_frequency" => Called::Return(Some(
                (time::TICKS_PER_SECOND / 1_000_000 / bus.ticks_per_instruction()) as u32,
            )),
            "rom_i2c_readReg" | "rom_i2c_readReg_Mask" => Called::Return(Some(0)),
            "rom_i2c_writeReg" | "rom_i2c_writeReg_Mask" => Called::Return(None),
            "software_reset" => Called::Reset(Reset::SoftwareSystem),
            "software_reset_cpu" => Called::Reset(Reset::SoftwareCpu),
            name @ ("Cache_Suspend_ICache" | "Cache_Disable_ICache") => {
                let was = u32::from(bus.cache.is_on());
                bus.cache.enable(false);
                // `Cache_Disable_ICache` makes all tags invalid, the other keeps them (`rom/cache.h`).
                if name == "Cache_Disable_ICache" {
                    bus.cache.invalidate();
                }
                Called::Return(Some(was))
            }
            "Cache_Resume_ICache" | "Cache_Enable_ICache" => {
                bus.cache.enable(true);
                Called::Return(None)
            }
            "Cache_Invalidate_ICache_All" | "Cache_Invalidate_Addr" => {
                bus.cache.invalidate();
                Called::Return(Some(0))
            }
            // The console is UART 0.
            "ets_get_printf_channel" => Called::Return(Some(0)),
            "uart_tx_flush" | "uart_tx_wait_idle" => Called::Return(None),
            "uart_tx_one_char" | "uart_tx_one_char2" => {
                bus.uart.print(&[a as u8]);
                Called::Return(Some(0))
            }
            name => memory::run(name, &self.arguments, bus)
                .or_else(|| flash::run(name, &self.arguments, bus))
                .unwrap_or(Called::Fault(Fault::RomFunction { addr: self.addr })),
        }
    }
}
