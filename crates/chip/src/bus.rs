//! What the processor reaches: memories, flash through the cache, and the registers of the peripherals (ESP32-C3 TRM v1.1,
//! chapter 3).

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use sim::flash::SimFlash;
use updater::reset::Reset;

use crate::cpu::{Memory, Refused};
use crate::fault::{Access, Fault};
use crate::peripherals::cache::Cache;
use crate::peripherals::efuse;
use crate::peripherals::ethernet::Ethernet;
use crate::peripherals::interrupts::{Interrupts, source};
use crate::peripherals::plain;
use crate::peripherals::rtc::Rtc;
use crate::peripherals::sha::Sha;
use crate::peripherals::spi_flash::SpiFlash;
use crate::peripherals::systimer::Systimer;
use crate::peripherals::timer_group::TimerGroup;
use crate::peripherals::uart::Uart;
use crate::peripherals::watchdog::Action;

/// Internal SRAM 1, on the data bus and, in the same order, on the instruction bus.
pub(crate) const SRAM_ADDR: u32 = 0x3FC8_0000;
pub(crate) const SRAM_CODE_ADDR: u32 = 0x4038_0000;
pub(crate) const SRAM_BYTES: u32 = 0x6_0000;
/// RTC fast memory.
pub(crate) const RTC_FAST_ADDR: u32 = 0x5000_0000;
pub(crate) const RTC_FAST_BYTES: u32 = 0x2000;
/// The ROM: its code runs as `rom` does it.
pub(crate) const ROM_ADDR: u32 = 0x4000_0000;
pub(crate) const ROM_BYTES: u32 = 0x6_0000;
/// Flash through the cache: 128 pages of 64 KiB on either bus.
pub(crate) const DATA_ADDR: u32 = 0x3C00_0000;
pub(crate) const CODE_ADDR: u32 = 0x4200_0000;
pub(crate) const WINDOW_BYTES: u32 = 0x80_0000;
/// No memory is larger: a longer piece of it is none.
pub(crate) const MOST_BYTES: u32 = WINDOW_BYTES;
const REGISTERS_ADDR: u32 = 0x6000_0000;
const REGISTERS_BYTES: u32 = 0xD_1000;

/// Code is looked at for changes in pieces of this size.
const GRANULE_SHIFT: u32 = 7;
/// What an access to a register takes longer than one to memory: it crosses two buses.
const REGISTER_TICKS: u64 = 6;

/// Bits of `SYSTEM_SYSCLK_CONF` and `SYSTEM_CPU_PER_CONF`.
pub(crate) const CPU_PER_CONF: u32 = 0x600C_0008;
pub(crate) const SYSCLK_CONF: u32 = 0x600C_0058;
const FROM_CPU0: u32 = 0x600C_0028;
const FROM_CPU3: u32 = 0x600C_0034;
const UART_FIFO: u32 = REGISTERS_ADDR;
const RANDOM: u32 = 0x6002_60B0;

/// A memory that may hold code.
#[derive(Clone, Debug)]
struct Ram {
    bytes: Vec<u8>,
    has_code: Vec<bool>,
    versions: Vec<u32>,
}

impl Ram {
    fn new(bytes: u32) -> Self {
        let granules = (bytes >> GRANULE_SHIFT) as usize + 1;
        Self { bytes: vec![0; bytes as usize], has_code: vec![false; granules], versions: vec![0; granules] }
    }

    #[inline]
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let bytes = self.bytes.get(offset as usize..)?.first_chunk::<N>()?;
        Some(*bytes)
    }

    #[inline]
    fn store<const N: usize>(&mut self, offset: u32, value: [u8; N]) -> Option<()> {
        *self.bytes.get_mut(offset as usize..)?.first_chunk_mut::<N>()? = value;
        let granule = (offset >> GRANULE_SHIFT) as usize;
        if self.has_code[granule] {
            self.changed(granule);
        }
        Some(())
    }

    #[cold]
    fn changed(&mut self, granule: usize) {
        self.has_code[granule] = false;
        self.versions[granule] += 1;
    }

    /// Changes with every granule that a block of instructions at `offset` may reach.
    fn version(&self, offset: u32) -> u64 {
        let granule = (offset >> GRANULE_SHIFT) as usize;
        let reached = self.versions.get(granule..(granule + 3).min(self.versions.len())).unwrap_or_default();
        reached.iter().map(|version| u64::from(*version)).sum()
    }

    fn fetch(&mut self, offset: u32) -> Option<u16> {
        let bytes = self.load(offset)?;
        self.has_code[(offset >> GRANULE_SHIFT) as usize] = true;
        Some(u16::from_le_bytes(bytes))
    }

    fn fill(&mut self, random: &mut StdRng) {
        random.fill_bytes(&mut self.bytes);
        self.forget_code();
    }

    fn forget_code(&mut self) {
        for granule in 0..self.versions.len() {
            self.changed(granule);
        }
    }
}

/// Everything but the processor.
#[derive(Debug)]
pub(crate) struct Bus {
    sram: Ram,
    rtc_fast: Ram,
    pub(crate) flash: SimFlash,
    /// What its clock told last.
    flash_worked: Duration,
    /// Until when the flash reads, erases or programs for the ROM's driver.
    pub(crate) flash_busy_until: u64,
    pub(crate) cache: Cache,
    /// Where in the flash the image is whose entry is awaited.
    pub(crate) awaited_image: Range<u32>,
    pub(crate) now: u64,
    ticks_per_instruction: u64,
    /// The tick at which a peripheral has something to do.
    next_event: u64,
    /// The tick at which the run ends.
    pub(crate) run_until: u64,
    /// The first of both.
    next_look: u64,
    attention: bool,
    has_interrupt: bool,
    pub(crate) interrupts: Interrupts,
    systimer: Systimer,
    groups: [TimerGroup; 2],
    pub(crate) rtc: Rtc,
    pub(crate) uart: Uart,
    spi_flash: SpiFlash,
    sha: Sha,
    pub(crate) ethernet: Ethernet,
    /// Registers that hold what was written.
    plain: HashMap<u32, u32>,
    from_cpu: [bool; 4],
    random: StdRng,
    /// What the run ended with.
    fault: Option<Fault>,
    /// Frames that the program sent.
    pub(crate) sent: Vec<Vec<u8>>,
}

impl Bus {
    pub(crate) fn new(flash: SimFlash, seed: u64) -> Self {
        // The reset at power on puts the noise in.
        Self {
            sram: Ram::new(SRAM_BYTES),
            rtc_fast: Ram::new(RTC_FAST_BYTES),
            flash_worked: flash.power().clock().worked(),
            flash,
            flash_busy_until: 0,
            cache: Cache::at_reset(),
            awaited_image: 0..0,
            now: 0,
            ticks_per_instruction: 4,
            next_event: 0,
            run_until: 0,
            next_look: 0,
            attention: true,
            has_interrupt: false,
            interrupts: Interrupts::at_reset(),
            systimer: Systimer::at_reset(0),
            groups: [TimerGroup::at_reset(), TimerGroup::at_reset()],
            rtc: Rtc::new(0, [0; 8]),
            uart: Uart::default(),
            spi_flash: SpiFlash::default(),
            sha: Sha::default(),
            ethernet: Ethernet::at_reset(),
            plain: plain::at_reset(),
            from_cpu: [false; 4],
            random: StdRng::seed_from_u64(seed),
            fault: None,
            sent: Vec::new(),
        }
    }

    /// A reset of the digital system. Memory and RTC domain are the caller's.
    pub(crate) fn reset_core(&mut self) {
        self.cache.reset();
        self.interrupts = Interrupts::at_reset();
        self.systimer = Systimer::at_reset(self.now);
        self.groups = [TimerGroup::at_reset(), TimerGroup::at_reset()];
        self.uart.reset();
        self.spi_flash = SpiFlash::default();
        self.sha = Sha::default();
        self.ethernet = Ethernet::at_reset();
        self.plain = plain::at_reset();
        self.from_cpu = [false; 4];
        self.flash_busy_until = 0;
        self.set_clock();
        self.attention = true;
    }

    /// What a reset of the processor alone reaches beside it: the interrupt lines, which are its own. The ROM waits until the
    /// flash is at rest.
    pub(crate) fn reset_processor_parts(&mut self) {
        self.interrupts = Interrupts::at_reset();
        self.cache.reset();
        self.flash_busy_until = 0;
        self.attention = true;
    }

    /// Sets a register that holds what was written, as the bootloader does.
    pub(crate) fn set_plain(&mut self, addr: u32, value: u32) {
        self.plain.insert(addr, value);
        self.set_clock();
    }

    /// A new RTC domain, with these retained registers.
    pub(crate) fn new_rtc(&mut self, store: [u32; 8]) {
        self.rtc = Rtc::new(self.now, store);
    }

    /// Noise over a part of the SRAM.
    pub(crate) fn spoil(&mut self, range: Range<u32>) {
        for addr in range.step_by(4) {
            let noise = self.noise().to_le_bytes();
            let _ = self.sram.store(addr - SRAM_ADDR, noise);
        }
    }

    /// Zeros over a part of the SRAM.
    pub(crate) fn clear(&mut self, range: Range<u32>) {
        for addr in range.step_by(4) {
            let _ = self.sram.store(addr - SRAM_ADDR, [0; 4]);
        }
    }

    /// The time that the flash took since this was asked last.
    pub(crate) fn flash_time(&mut self) -> Duration {
        let worked = self.flash.power().clock().worked();
        worked.saturating_sub(std::mem::replace(&mut self.flash_worked, worked))
    }

    /// Noise in the SRAM, which had no power.
    pub(crate) fn forget_sram(&mut self) {
        self.sram.fill(&mut self.random);
    }

    /// Noise in the RTC's memory.
    pub(crate) fn forget_rtc_fast(&mut self) {
        self.rtc_fast.fill(&mut self.random);
    }

    pub(crate) fn noise(&mut self) -> u32 {
        self.random.next_u32()
    }

    /// What a program can tell after a pause: a fault of the model.
    pub(crate) fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn refuse(&mut self, fault: Fault) -> Refused {
        self.fault.get_or_insert(fault);
        Refused::Stop
    }

    /// Lets everything happen that is due, and says which line of the processor is to be taken.
    pub(crate) fn attend(&mut self) -> Option<u32> {
        self.attention = false;
        let now = self.now;
        self.systimer.advance(now);
        self.rtc.advance(now);
        for group in &mut self.groups {
            match group.advance(now) {
                Some(Action::ResetCpu) => self.rtc.want_reset(Reset::TimerGroupWatchdogCpu),
                Some(Action::ResetCore) => self.rtc.want_reset(Reset::TimerGroupWatchdogCore),
                _ => {}
            }
        }
        self.exchange_frames();
        self.interrupts.route(self.sources());
        let events = [self.systimer.next(now), self.rtc.next(), self.groups[0].next(), self.groups[1].next()];
        self.next_event = events.into_iter().flatten().min().unwrap_or(u64::MAX);
        self.next_look = self.next_event.min(self.run_until);
        let line = self.interrupts.line();
        self.has_interrupt = line.is_some();
        line
    }

    /// The tick at which something happens by itself.
    pub(crate) fn next_event(&self) -> u64 {
        self.next_event
    }

    fn sources(&self) -> u64 {
        let mut sources = 0;
        let mut when = |is_pending: bool, source: u32| {
            if is_pending {
                sources |= 1 << source;
            }
        };
        when(self.uart.is_pending(), source::UART0);
        when(self.rtc.is_pending(), source::RTC_CORE);
        for (index, group) in self.groups.iter().enumerate() {
            when(group.timer_is_pending(), [source::TIMER_GROUP0, source::TIMER_GROUP1][index]);
            when(group.watchdog_is_pending(), [source::WATCHDOG0, source::WATCHDOG1][index]);
        }
        for index in 0..3 {
            when(self.systimer.is_pending(index), source::SYSTIMER0 + index);
        }
        for (index, is_pending) in (0..).zip(self.from_cpu) {
            when(is_pending, source::FROM_CPU0 + index);
        }
        sources
    }

    /// Frames go from and to memory.
    fn exchange_frames(&mut self) {
        while let Some(outgoing) = self.ethernet.next_outgoing() {
            // A descriptor that points nowhere loses its frame.
            if let Ok(frame) = self.read_bytes(outgoing.addr, outgoing.len_bytes) {
                self.sent.push(frame);
            }
        }
        while let Some((addr, frame)) = self.ethernet.next_incoming() {
            let _ = self.write_bytes(addr, &frame);
        }
    }

    /// Bytes of memory, as somebody other than the processor's instructions reads them.
    pub(crate) fn read_bytes(&mut self, addr: u32, len: u32) -> Result<Vec<u8>, Fault> {
        if len > MOST_BYTES {
            return Err(Fault::Nothing { addr: addr.wrapping_add(MOST_BYTES), access: Access::Load });
        }
        let bytes = (0..len).map(|index| addr.wrapping_add(index));
        bytes.map(|addr| self.load_8(addr).map_err(|_| self.fault_at(addr, Access::Load))).collect()
    }

    /// Writes bytes of memory in the same way.
    pub(crate) fn write_bytes(&mut self, addr: u32, bytes: &[u8]) -> Result<(), Fault> {
        for (index, byte) in (0..).zip(bytes) {
            let addr = addr.wrapping_add(index);
            self.store_8(addr, *byte).map_err(|_| self.fault_at(addr, Access::Store))?;
        }
        Ok(())
    }

    /// What an access was refused for.
    fn fault_at(&mut self, addr: u32, access: Access) -> Fault {
        self.fault.take().unwrap_or(Fault::Nothing { addr, access })
    }

    /// Where in the flash the running image has its read-only data, which begin with its description: at the first address of
    /// the window for data (`memory.ld.in` of ESP-IDF 5.5, esp-hal's `memory.x`). Whether the cache is on does not matter.
    pub(crate) fn image_addr(&self) -> Option<u32> {
        self.cache.page_addr(DATA_ADDR)
    }

    /// Where in the flash the cache finds an address of its windows.
    fn mapped(&mut self, addr: u32, access: Access) -> Result<u32, Refused> {
        if self.now < self.flash_busy_until {
            return Err(self.refuse(Fault::FlashBusy { addr, access }));
        }
        let is_code = addr >= CODE_ADDR;
        match self.cache.flash_addr(addr, is_code) {
            Some(flash_addr) if (flash_addr as usize) < self.flash.bytes().len() => {
                if self.cache.is_old(flash_addr) {
                    return Err(self.refuse(Fault::FlashChanged { addr, access }));
                }
                Ok(flash_addr)
            }
            _ => Err(Refused::Fault),
        }
    }

    #[inline]
    fn load<const N: usize>(&mut self, addr: u32) -> Result<[u8; N], Refused> {
        if !addr.is_multiple_of(N as u32) {
            return Err(Refused::Misaligned);
        }
        if let Some(bytes) = self.sram.load(addr.wrapping_sub(SRAM_ADDR)) {
            return Ok(bytes);
        }
        self.load_elsewhere(addr)
    }

    fn load_elsewhere<const N: usize>(&mut self, addr: u32) -> Result<[u8; N], Refused> {
        if in_window(addr, DATA_ADDR, WINDOW_BYTES) || in_window(addr, CODE_ADDR, WINDOW_BYTES) {
            let flash_addr = self.mapped(addr, Access::Load)?;
            let found = self.flash.bytes().get(flash_addr as usize..).and_then(|bytes| bytes.first_chunk());
            return found.copied().ok_or(Refused::Fault);
        }
        if in_window(addr, REGISTERS_ADDR, REGISTERS_BYTES) {
            let word = self.read_register(addr & !3)?.to_le_bytes();
            let from = (addr & 3) as usize;
            return word.get(from..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Refused::Fault);
        }
        let found = match addr {
            _ if in_window(addr, SRAM_CODE_ADDR, SRAM_BYTES) => self.sram.load(addr - SRAM_CODE_ADDR),
            _ if in_window(addr, RTC_FAST_ADDR, RTC_FAST_BYTES) => self.rtc_fast.load(addr - RTC_FAST_ADDR),
            _ if in_window(addr, ROM_ADDR, ROM_BYTES) => {
                return Err(self.refuse(Fault::RomData { addr }));
            }
            _ => None,
        };
        found.ok_or(Refused::Fault)
    }

    #[inline]
    fn store<const N: usize>(&mut self, addr: u32, value: [u8; N]) -> Result<(), Refused> {
        if !addr.is_multiple_of(N as u32) {
            return Err(Refused::Misaligned);
        }
        match self.sram.store(addr.wrapping_sub(SRAM_ADDR), value) {
            Some(()) => Ok(()),
            None => self.store_elsewhere(addr, value),
        }
    }

    fn store_elsewhere<const N: usize>(&mut self, addr: u32, value: [u8; N]) -> Result<(), Refused> {
        if in_window(addr, REGISTERS_ADDR, REGISTERS_BYTES) {
            // A register is a word; what writes less of it writes the rest of it again.
            let from = (addr & 3) as usize;
            let mut word = [0; 4];
            if N < 4 && addr != UART_FIFO {
                word = self.read_register(addr & !3)?.to_le_bytes();
            }
            word[from..from + N].copy_from_slice(&value);
            return self.write_register(addr & !3, u32::from_le_bytes(word));
        }
        let stored = match addr {
            _ if in_window(addr, SRAM_CODE_ADDR, SRAM_BYTES) => self.sram.store(addr - SRAM_CODE_ADDR, value),
            _ if in_window(addr, RTC_FAST_ADDR, RTC_FAST_BYTES) => {
                self.rtc_fast.store(addr - RTC_FAST_ADDR, value)
            }
            _ => None,
        };
        stored.ok_or(Refused::Fault)
    }

    fn read_register(&mut self, addr: u32) -> Result<u32, Refused> {
        let found = match addr {
            RANDOM => Some(self.random.next_u32()),
            FROM_CPU0..=FROM_CPU3 => Some(u32::from(self.from_cpu[(addr - FROM_CPU0) as usize / 4])),
            0x6000_0000..0x6000_0100 => self.uart.read(addr & 0xFFF),
            0x6000_2000..0x6000_2400 => self.spi_flash.read(addr & 0xFFF),
            0x6000_8000..0x6000_8200 => self.rtc.read(addr & 0xFFF),
            0x6000_8800..0x6000_8A00 => efuse::read(addr & 0x1FF),
            0x6001_F000..0x6001_F100 => self.groups[0].read(addr & 0xFF),
            0x6002_0000..0x6002_0100 => self.groups[1].read(addr & 0xFF),
            0x6002_3000..0x6002_3100 => self.systimer.read(addr & 0xFFF),
            0x6003_B000..0x6003_B100 => self.sha.read(addr & 0xFFF),
            0x600C_2000..0x600C_2800 => self.interrupts.read(addr & 0xFFF),
            0x600C_4000..0x600C_5200 => self.cache.read(addr),
            0x600C_D000..0x600C_D800 => {
                self.exchange_frames();
                self.ethernet.read(addr & 0xFFF)
            }
            _ => self.plain.get(&addr).copied(),
        };
        self.now += REGISTER_TICKS;
        found
            .or_else(|| plain::read(addr))
            .ok_or_else(|| self.refuse(Fault::Register { addr, access: Access::Load }))
    }

    fn write_register(&mut self, addr: u32, value: u32) -> Result<(), Refused> {
        let now = self.now;
        let done = match addr {
            FROM_CPU0..=FROM_CPU3 => {
                self.from_cpu[(addr - FROM_CPU0) as usize / 4] = value & 1 != 0;
                // A line that answers to an edge sees the shortest pulse.
                self.interrupts.route(self.sources());
                Some(())
            }
            0x6000_0000..0x6000_0100 => self.uart.write(addr & 0xFFF, value),
            0x6000_2000..0x6000_2400 => self.spi_flash.write(addr & 0xFFF, value, self.flash.bytes().len()),
            0x6000_8000..0x6000_8200 => self.rtc.write(addr & 0xFFF, value, now),
            0x6001_F000..0x6001_F100 => self.groups[0].write(addr & 0xFF, value, now),
            0x6002_0000..0x6002_0100 => self.groups[1].write(addr & 0xFF, value, now),
            0x6002_3000..0x6002_3100 => self.systimer.write(addr & 0xFFF, value, now),
            0x6003_B000..0x6003_B100 => self.sha.write(addr & 0xFFF, value),
            0x600C_2000..0x600C_2800 => self.interrupts.write(addr & 0xFFF, value),
            0x600C_4000..0x600C_5200 => self.cache.write(addr, value),
            0x600C_D000..0x600C_D800 => self.ethernet.write(addr & 0xFFF, value),
            _ => self.plain.get_mut(&addr).map(|register| *register = value),
        };
        self.now += REGISTER_TICKS;
        self.attention = true;
        if matches!(addr, CPU_PER_CONF | SYSCLK_CONF) {
            self.set_clock();
        }
        done.ok_or_else(|| self.refuse(Fault::Register { addr, access: Access::Store }))
    }

    /// How long an instruction takes, by the clock that the program chose.
    fn set_clock(&mut self) {
        let register = |addr| self.plain.get(&addr).copied().unwrap_or(0);
        let (sysclk, cpu) = (register(SYSCLK_CONF), register(CPU_PER_CONF));
        self.ticks_per_instruction = match (sysclk >> 10 & 3, cpu & 3) {
            (1, 0) => 2,
            (1, _) => 1,
            // The crystal, divided; the RC oscillator of 17.5 MHz is taken for one of 17.8.
            (0, _) => 4 * (1 + u64::from(sysclk & 0x3FF)),
            _ => 9,
        };
    }

    pub(crate) fn ticks_per_instruction(&self) -> u64 {
        self.ticks_per_instruction
    }
}

pub(crate) const fn in_window(addr: u32, first: u32, bytes: u32) -> bool {
    addr.wrapping_sub(first) < bytes
}

impl Memory for Bus {
    fn fetch(&mut self, addr: u32) -> Result<u16, Refused> {
        if in_window(addr, CODE_ADDR, WINDOW_BYTES) {
            let flash_addr = self.mapped(addr, Access::Fetch)?;
            let found = self.flash.bytes().get(flash_addr as usize..).and_then(|bytes| bytes.first_chunk());
            return found.map(|bytes| u16::from_le_bytes(*bytes)).ok_or(Refused::Fault);
        }
        if in_window(addr, ROM_ADDR, ROM_BYTES) {
            return Err(Refused::Stop);
        }
        let found = match addr {
            _ if in_window(addr, SRAM_CODE_ADDR, SRAM_BYTES) => self.sram.fetch(addr - SRAM_CODE_ADDR),
            _ if in_window(addr, RTC_FAST_ADDR, RTC_FAST_BYTES) => self.rtc_fast.fetch(addr - RTC_FAST_ADDR),
            _ => None,
        };
        found.ok_or(Refused::Fault)
    }

    #[inline]
    fn load_8(&mut self, addr: u32) -> Result<u8, Refused> {
        self.load(addr).map(u8::from_le_bytes)
    }

    #[inline]
    fn load_16(&mut self, addr: u32) -> Result<u16, Refused> {
        self.load(addr).map(u16::from_le_bytes)
    }

    #[inline]
    fn load_32(&mut self, addr: u32) -> Result<u32, Refused> {
        self.load(addr).map(u32::from_le_bytes)
    }

    #[inline]
    fn store_8(&mut self, addr: u32, value: u8) -> Result<(), Refused> {
        self.store(addr, value.to_le_bytes())
    }

    #[inline]
    fn store_16(&mut self, addr: u32, value: u16) -> Result<(), Refused> {
        self.store(addr, value.to_le_bytes())
    }

    #[inline]
    fn store_32(&mut self, addr: u32, value: u32) -> Result<(), Refused> {
        self.store(addr, value.to_le_bytes())
    }

    fn forget_refusal(&mut self) {
        self.fault = None;
    }

    #[inline]
    fn code_version(&self, addr: u32) -> u64 {
        if in_window(addr, CODE_ADDR, WINDOW_BYTES) {
            // While the flash is busy its code cannot be fetched; what was decoded of it counts as gone.
            if self.now < self.flash_busy_until { u64::MAX } else { self.cache.version() }
        } else if in_window(addr, SRAM_CODE_ADDR, SRAM_BYTES) {
            self.sram.version(addr - SRAM_CODE_ADDR)
        } else {
            self.rtc_fast.version(addr.wrapping_sub(RTC_FAST_ADDR))
        }
    }

    fn is_awaited(&self) -> bool {
        self.image_addr().is_some_and(|addr| self.awaited_image.contains(&addr))
    }

    #[inline]
    fn has_interrupt(&self) -> bool {
        self.has_interrupt
    }

    #[inline]
    fn executed(&mut self, instructions: u64) -> bool {
        self.now += instructions * self.ticks_per_instruction;
        self.attention || self.now >= self.next_look
    }
}
