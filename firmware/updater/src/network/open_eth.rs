//! OpenCores Ethernet MAC, the network that emulators of the ESP32-C3 offer ("Ethernet IP Core Specification", revision
//! 1.19, OpenCores 2002: registers in chapter 3, descriptors in section 4.2.2).
//!
//! A timer looks for frames instead of an interrupt: no real chip has this MAC, so neither speed nor power matter here.

use core::task::Context;

use embassy_executor::Spawner;
use embassy_net_driver::{Capabilities, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use embassy_time::Timer;
use esp_hal::rng::TrngSource;
use static_cell::StaticCell;
use updater_io::platform::{AccessPoint, JoinRequest, NetworkError};

/// Where the emulated ESP32-C3 has its registers (`DR_REG_EMAC_BASE`).
const REGISTERS: usize = 0x600c_d000;
const MODER: usize = 0x00;
const TX_BD_NUM: usize = 0x20;
const MAC_ADDR0: usize = 0x40;
const MAC_ADDR1: usize = 0x44;
const DESCRIPTORS: usize = 0x400;

const MODER_RXEN: u32 = 1;
const MODER_TXEN: u32 = 1 << 1;
const MODER_CRCEN: u32 = 1 << 13;
const MODER_PAD: u32 = 1 << 15;

/// The frame is the hardware's: ready to send, or empty to receive into.
const OWNED: u32 = 1 << 15;
/// Last descriptor of its ring.
const WRAP: u32 = 1 << 13;
const TX_PAD: u32 = 1 << 12;
const TX_CRC: u32 = 1 << 11;
const LENGTH_SHIFT: u32 = 16;

const RX_FRAMES: usize = 4;
const FRAME_BYTES: usize = 1536;
/// Without the frame check sequence: 14 bytes of header, 1500 of payload.
const MTU_BYTES: usize = 1514;
const FCS_BYTES: usize = 4;

const _: () = assert!(MTU_BYTES + FCS_BYTES <= FRAME_BYTES);
// No frame is lost while interrupts are off, but others' than the server's.
const _: () = assert!(super::WINDOW_FRAMES < RX_FRAMES);

/// A locally administered address; every emulator has a network of its own.
const ADDRESS: [u8; 6] = [0x02, 0x50, 0x69, 0x74, 0x00, 0x01];

const POLL_MS: u64 = 1;

static WAKER: AtomicWaker = AtomicWaker::new();

/// The link is a cable: there is nothing to choose.
pub(super) struct Link {
    _entropy: TrngSource<'static>,
}

impl Link {
    pub(super) async fn join(&mut self, _: JoinRequest<'_>) -> Result<Option<AccessPoint>, NetworkError> {
        Ok(None)
    }
}

/// What the network starts with.
pub(crate) struct Hardware {
    /// Feeds the TRNG from the start to the reset: there is no radio to do it later.
    pub(crate) entropy: TrngSource<'static>,
}

impl Hardware {
    /// Starts the MAC.
    pub(super) fn start(self, spawner: Spawner) -> Result<(Link, Driver), NetworkError> {
        spawner.spawn(poll().map_err(|_| NetworkError::Join)?);
        Ok((Link { _entropy: self.entropy }, Driver::start()))
    }
}

#[embassy_executor::task]
async fn poll() {
    loop {
        Timer::after_millis(POLL_MS).await;
        WAKER.wake();
    }
}

#[repr(align(4))]
struct Frame([u8; FRAME_BYTES]);

/// The MAC as embassy-net drives it.
pub(super) struct Driver {
    tx: Transmitter,
    rx: Receiver,
}

impl Driver {
    fn start() -> Self {
        static TX: StaticCell<Frame> = StaticCell::new();
        static RX: StaticCell<[Frame; RX_FRAMES]> = StaticCell::new();

        let tx = TX.init(Frame([0; FRAME_BYTES]));
        let rx = RX.init([const { Frame([0; FRAME_BYTES]) }; RX_FRAMES]);
        write(MODER, 0);
        write(TX_BD_NUM, 1);
        let [a, b, c, d, e, f] = ADDRESS;
        write(MAC_ADDR0, u32::from_be_bytes([c, d, e, f]));
        write(MAC_ADDR1, u32::from_be_bytes([0, 0, a, b]));
        write_descriptor(0, WRAP, tx);
        for (index, frame) in rx.iter().enumerate() {
            write_descriptor(1 + index, OWNED | wrap_of(index), frame);
        }
        write(MODER, MODER_RXEN | MODER_TXEN | MODER_CRCEN | MODER_PAD);
        Self { tx: Transmitter { frame: tx }, rx: Receiver { frames: rx, next: 0 } }
    }
}

impl embassy_net_driver::Driver for Driver {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = &'a mut Transmitter;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, &mut Transmitter)> {
        WAKER.register(context.waker());
        let index = self.rx.next;
        if read_flags(1 + index) & OWNED != 0 {
            return None;
        }
        Some((Received(&mut self.rx), &mut self.tx))
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<&mut Transmitter> {
        WAKER.register(context.waker());
        (read_flags(0) & OWNED == 0).then_some(&mut self.tx)
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(ADDRESS)
    }
}

pub(super) struct Transmitter {
    frame: &'static mut Frame,
}

impl TxToken for &mut Transmitter {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length_bytes: usize, fill: F) -> R {
        let result = fill(&mut self.frame.0[..length_bytes]);
        let flags = OWNED | WRAP | TX_PAD | TX_CRC | (length_bytes as u32) << LENGTH_SHIFT;
        write_descriptor(0, flags, self.frame);
        result
    }
}

struct Receiver {
    frames: &'static mut [Frame; RX_FRAMES],
    next: usize,
}

/// The oldest frame that was received.
pub(super) struct Received<'a>(&'a mut Receiver);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        let index = self.0.next;
        let frame = &mut self.0.frames[index];
        let length_bytes = (read_flags(1 + index) >> LENGTH_SHIFT) as usize;
        let length_bytes = length_bytes.saturating_sub(FCS_BYTES).min(MTU_BYTES);
        let result = take(&mut frame.0[..length_bytes]);
        write_descriptor(1 + index, OWNED | wrap_of(index), frame);
        self.0.next = (index + 1) % RX_FRAMES;
        result
    }
}

fn wrap_of(rx_index: usize) -> u32 {
    if rx_index + 1 == RX_FRAMES { WRAP } else { 0 }
}

fn write(offset: usize, value: u32) {
    // SAFETY: a register of the emulated MAC; only this module uses it.
    unsafe { ((REGISTERS + offset) as *mut u32).write_volatile(value) }
}

fn read_flags(index: usize) -> u32 {
    // SAFETY: a descriptor of the emulated MAC; reading has no side effect.
    unsafe { ((REGISTERS + DESCRIPTORS + index * 8) as *const u32).read_volatile() }
}

/// Gives a frame to the hardware (with [`OWNED`]) or takes it back. The address first: the flags hand it over.
fn write_descriptor(index: usize, flags: u32, frame: &Frame) {
    write(DESCRIPTORS + index * 8 + 4, frame.0.as_ptr() as u32);
    write(DESCRIPTORS + index * 8, flags);
}
