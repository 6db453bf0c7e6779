//! OpenCores Ethernet MAC, which no real chip has: the network of emulated ones ("Ethernet IP Core Specification", revision
//! 1.19, OpenCores 2002, chapters 3 and 4). No interrupts; whoever drives it looks at the descriptors.

use std::collections::VecDeque;

const MODER: u32 = 0x00;
const INT_SOURCE: u32 = 0x04;
const INT_MASK: u32 = 0x08;
const TX_BD_NUM: u32 = 0x20;
const MAC_ADDR0: u32 = 0x40;
const MAC_ADDR1: u32 = 0x44;
const DESCRIPTORS: u32 = 0x400;
const DESCRIPTORS_END: u32 = 0x800;
const DESCRIPTOR_COUNT: usize = 128;

const RECEIVES: u32 = 1;
const SENDS: u32 = 1 << 1;
/// Of a descriptor: it is the hardware's; it is the last of its ring; it makes an interrupt.
const OWNED: u32 = 1 << 15;
const WRAP: u32 = 1 << 13;
const LENGTH_SHIFT: u32 = 16;
const FCS_BYTES: u32 = 4;
/// A frame is filled up to this, without its check sequence.
const LEAST_BYTES: usize = 60;

/// A frame to be sent, in the chip's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) addr: u32,
    pub(crate) len_bytes: u32,
}

/// The MAC.
#[derive(Clone, Debug)]
pub(crate) struct Ethernet {
    mode: u32,
    mask: u32,
    tx_count: usize,
    mac: [u32; 2],
    descriptors: [[u32; 2]; DESCRIPTOR_COUNT],
    next_tx: usize,
    next_rx: usize,
    /// What came and was not taken yet.
    pub(crate) incoming: VecDeque<Vec<u8>>,
}

impl Ethernet {
    pub(crate) fn at_reset() -> Self {
        Self {
            mode: 0xA000,
            mask: 0,
            tx_count: 64,
            mac: [0; 2],
            descriptors: [[0; 2]; DESCRIPTOR_COUNT],
            next_tx: 0,
            next_rx: 0,
            incoming: VecDeque::new(),
        }
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            MODER => self.mode,
            INT_SOURCE => 0,
            INT_MASK => self.mask,
            TX_BD_NUM => self.tx_count as u32,
            MAC_ADDR0 | MAC_ADDR1 => self.mac[(offset - MAC_ADDR0) as usize / 4],
            DESCRIPTORS..DESCRIPTORS_END => {
                let word = (offset - DESCRIPTORS) as usize / 4;
                self.descriptors[word / 2][word % 2]
            }
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<()> {
        match offset {
            MODER => {
                self.mode = value;
                (self.next_tx, self.next_rx) = (0, self.tx_count);
            }
            INT_SOURCE => {}
            INT_MASK => self.mask = value,
            TX_BD_NUM => self.tx_count = (value as usize).min(DESCRIPTOR_COUNT),
            MAC_ADDR0 | MAC_ADDR1 => self.mac[(offset - MAC_ADDR0) as usize / 4] = value,
            DESCRIPTORS..DESCRIPTORS_END => {
                let word = (offset - DESCRIPTORS) as usize / 4;
                self.descriptors[word / 2][word % 2] = value;
            }
            _ => return None,
        }
        Some(())
    }

    /// The next frame that the program gave away; it is the program's again.
    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        if self.mode & SENDS == 0 || self.tx_count == 0 {
            return None;
        }
        // There may be fewer than there were.
        self.next_tx %= self.tx_count;
        let descriptor = &mut self.descriptors[self.next_tx];
        if descriptor[0] & OWNED == 0 {
            return None;
        }
        descriptor[0] &= !OWNED;
        let outgoing = Outgoing { addr: descriptor[1], len_bytes: descriptor[0] >> LENGTH_SHIFT };
        let is_last = descriptor[0] & WRAP != 0 || self.next_tx + 1 == self.tx_count;
        self.next_tx = if is_last { 0 } else { self.next_tx + 1 };
        Some(outgoing)
    }

    /// Where the next frame that came is to be put, and what; the descriptor is the program's then.
    pub(crate) fn next_incoming(&mut self) -> Option<(u32, Vec<u8>)> {
        if self.mode & RECEIVES == 0 {
            self.incoming.clear();
            return None;
        }
        let descriptor = self.descriptors.get_mut(self.next_rx)?;
        if descriptor[0] & OWNED == 0 {
            return None;
        }
        let mut frame = self.incoming.pop_front()?;
        frame.resize(frame.len().max(LEAST_BYTES), 0);
        let len_bytes = frame.len() as u32 + FCS_BYTES;
        let is_last = descriptor[0] & WRAP != 0 || self.next_rx + 1 == DESCRIPTOR_COUNT;
        descriptor[0] = descriptor[0] & WRAP | len_bytes << LENGTH_SHIFT;
        let addr = descriptor[1];
        self.next_rx = if is_last { self.tx_count } else { self.next_rx + 1 };
        Some((addr, frame))
    }
}
