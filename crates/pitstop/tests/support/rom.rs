//! A chip in download mode on a pseudo-terminal: the ROM's loader and espflash's stub, as far as espflash talks to them.
//!
//! Source: Espressif, "Serial Protocol" (esptool documentation, advanced topics): SLIP framing, packets of 8 bytes and data,
//! answers that end in 2 status bytes of the stub and 4 of the ROM. Off-spec: checksums of data packets are not looked at, and
//! the stub that is loaded is not run.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use flashfmt::Chip;
use md5::{Digest, Md5};
use serialport::{SerialPort, TTYPort};

const END: u8 = 0xC0;
const ESCAPE: u8 = 0xDB;
const ESCAPED_END: u8 = 0xDC;
const ESCAPED_ESCAPE: u8 = 0xDD;

const SECTOR_BYTES: usize = 0x1000;

/// The SPI controller: writing this to its command register asks the flash; the answer is in its first data register.
const SPI_USER_COMMAND: u32 = 1 << 18;
const SPI_DATA_AFTER_COMMAND: u32 = 0x58;

/// An answer's status for a command that is not known (`0x05`, "Invalid message").
const REFUSED: [u8; 2] = [1, 5];

/// What goes wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Says nothing at all.
    Silence,
    /// A boot log before the first answer, as a cable picks it up at the reset.
    NoiseAtFirst,
    /// Nothing but noise, as at a wrong baud rate.
    NoiseForEver,
    /// Resets itself after so many blocks of data, and starts its application.
    ResetAfterBlocks(usize),
    /// Answers the first handshake, and then no more.
    SilenceAfterSync,
    /// The first sector of each write stays as it was.
    WornOut,
}

/// What the mock has seen and holds.
pub(crate) struct State {
    pub(crate) flash: Vec<u8>,
    /// Blocks of data that came.
    pub(crate) blocks: usize,
    /// How often the host has synchronised.
    pub(crate) syncs: usize,
}

/// A mock of a chip; it ends with its value.
pub(crate) struct MockChip {
    pub(crate) port: String,
    pub(crate) state: Arc<Mutex<State>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MockChip {
    /// A chip with this flash on a port of its own.
    pub(crate) fn start(chip: Chip, flash: Vec<u8>, fault: Fault) -> Self {
        let (mut master, slave) = TTYPort::pair().unwrap();
        let port = slave.name().unwrap();
        // The host opens it for itself alone.
        drop(slave);
        master.set_timeout(Duration::from_millis(20)).unwrap();
        let state = Arc::new(Mutex::new(State { flash, blocks: 0, syncs: 0 }));
        let ends = Arc::new(AtomicBool::new(false));
        let mut wire = Wire { master, ends: ends.clone() };
        let mut loader = Loader {
            chip,
            fault,
            state: state.clone(),
            registers: HashMap::new(),
            is_stub: false,
            write: None,
        };
        let thread = std::thread::spawn(move || {
            while let Some(packet) = wire.packet(fault) {
                if loader.answer(&packet, &mut wire).is_none() {
                    break;
                }
            }
            wire.swallow();
        });
        Self { port, state, ends, thread: Some(thread) }
    }

    pub(crate) fn flash(&self) -> Vec<u8> {
        self.state.lock().unwrap().flash.clone()
    }
}

impl Drop for MockChip {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Wire {
    master: TTYPort,
    ends: Arc<AtomicBool>,
}

impl Wire {
    fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        while !self.ends.load(Ordering::Relaxed) {
            match self.master.read(&mut byte) {
                Ok(1) => return Some(byte[0]),
                // Nobody has the other end open, or nobody says anything.
                Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }

    /// The next packet of the host.
    fn packet(&mut self, fault: Fault) -> Option<Vec<u8>> {
        let mut packet = Vec::new();
        loop {
            match self.byte()? {
                _ if fault == Fault::NoiseForEver => {
                    let _ =
                        self.master.write_all(b"\x80\xfe\x1c\xc0\xf8\x00\x9e rst:0x1 \xc0\xe0\x7f\x80\xfc");
                }
                END if packet.is_empty() => {}
                END => return Some(packet),
                ESCAPE => match self.byte()? {
                    ESCAPED_END => packet.push(END),
                    ESCAPED_ESCAPE => packet.push(ESCAPE),
                    other => panic!("{other:#x} after an escape"),
                },
                byte => packet.push(byte),
            }
        }
    }

    fn send(&mut self, content: &[u8]) {
        let mut frame = vec![END];
        for byte in content {
            match *byte {
                END => frame.extend([ESCAPE, ESCAPED_END]),
                ESCAPE => frame.extend([ESCAPE, ESCAPED_ESCAPE]),
                byte => frame.push(byte),
            }
        }
        frame.push(END);
        // A host that went away needs no answer.
        let _ = self.master.write_all(&frame);
    }

    /// Takes what comes until the end, as a chip that runs its application.
    fn swallow(&mut self) {
        while self.byte().is_some() {}
    }
}

/// A write under way.
struct WriteState {
    offset: usize,
    size: usize,
    content: Vec<u8>,
    is_compressed: bool,
}

struct Loader {
    chip: Chip,
    fault: Fault,
    state: Arc<Mutex<State>>,
    registers: HashMap<u32, u32>,
    is_stub: bool,
    write: Option<WriteState>,
}

fn word(data: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(data[index * 4..][..4].try_into().unwrap())
}

impl Loader {
    /// Answers one command; `None` when the chip has reset itself and runs its application.
    fn answer(&mut self, packet: &[u8], wire: &mut Wire) -> Option<()> {
        let (op, data) = (packet[1], &packet[8..]);
        let reply = |wire: &mut Wire, value: u32, body: &[u8], status: [u8; 2], is_stub: bool| {
            let rest: &[u8] = if is_stub { &[] } else { &[0, 0] };
            let length = (body.len() + 2 + rest.len()) as u16;
            let mut answer = vec![1, op];
            answer.extend(length.to_le_bytes());
            answer.extend(value.to_le_bytes());
            answer.extend([body, &status, rest].concat());
            wire.send(&answer);
        };
        let is_stub = self.is_stub;
        let ok = |wire: &mut Wire| reply(wire, 0, &[], [0, 0], is_stub);
        match op {
            0x08 => {
                let syncs = {
                    let mut state = self.state.lock().unwrap();
                    state.syncs += 1;
                    state.syncs
                };
                match self.fault {
                    Fault::Silence => return Some(()),
                    Fault::NoiseAtFirst if syncs == 1 => {
                        let _ = wire
                            .master
                            .write_all(b"ESP-ROM:esp32c3-api1-20210207\r\nwaiting for download\r\n\xfe\x80");
                    }
                    _ => {}
                }
                for _ in 0..8 {
                    ok(wire);
                }
            }
            _ if self.fault == Fault::SilenceAfterSync => {}
            0x14 => {
                let mut info = vec![0; 12];
                info.extend(u32::from(self.chip.id()).to_le_bytes());
                info.extend([0; 4]);
                reply(wire, 0, &info, [0, 0], is_stub);
            }
            0x0A => {
                let value = self.registers.get(&word(data, 0)).copied().unwrap_or(0);
                reply(wire, value, &[], [0, 0], is_stub);
            }
            0x09 => {
                let (address, value) = (word(data, 0), word(data, 1));
                if value == SPI_USER_COMMAND {
                    let bytes = self.state.lock().unwrap().flash.len() as u32;
                    self.registers.insert(address, 0);
                    // JEDEC id: manufacturer, type, the logarithm of the size.
                    self.registers.insert(address + SPI_DATA_AFTER_COMMAND, bytes.ilog2() << 16 | 0x40EF);
                } else {
                    self.registers.insert(address, value);
                }
                ok(wire);
            }
            0x06 => {
                ok(wire);
                self.is_stub = true;
                wire.send(b"OHAI");
            }
            0x05 | 0x07 | 0x0B | 0x0D | 0x0F => ok(wire),
            0x02 | 0x10 => {
                let (size, offset) = (word(data, 0) as usize, word(data, 3) as usize);
                self.write =
                    Some(WriteState { offset, size, content: Vec::new(), is_compressed: op == 0x10 });
                ok(wire);
            }
            0x03 | 0x11 => {
                let length = word(data, 0) as usize;
                let blocks = {
                    let mut state = self.state.lock().unwrap();
                    state.blocks += 1;
                    state.blocks
                };
                if self.fault == Fault::ResetAfterBlocks(blocks) {
                    let _ = wire.master.write_all(b"ESP-ROM:esp32c3-api1\r\nrst:0x1 (POWERON),boot:0xd\r\n");
                    return None;
                }
                if let Some(write) = &mut self.write {
                    write.content.extend(&data[16..][..length]);
                }
                self.store();
                ok(wire);
            }
            0x04 | 0x12 => {
                ok(wire);
                // The stub goes back to the ROM when it is told to restart.
                if op == 0x04 && word(data, 0) == 0 {
                    self.is_stub = false;
                }
            }
            0x13 => {
                let (offset, size) = (word(data, 0) as usize, word(data, 1) as usize);
                let digest = Md5::digest(&self.state.lock().unwrap().flash[offset..][..size]);
                reply(wire, 0, &digest, [0, 0], is_stub);
            }
            0xD2 => {
                ok(wire);
                let (offset, size, block) =
                    (word(data, 0) as usize, word(data, 1) as usize, word(data, 2) as usize);
                let content = self.state.lock().unwrap().flash[offset..][..size].to_vec();
                for chunk in content.chunks(block) {
                    wire.send(chunk);
                    wire.packet(Fault::None)?;
                }
                wire.send(&Md5::digest(&content));
            }
            _ => reply(wire, 0, &[], REFUSED, is_stub),
        }
        Some(())
    }

    /// Writes what has come so far of a write: flash is erased by sectors, and takes what is decompressed.
    fn store(&mut self) {
        let Some(WriteState { offset, size, content, is_compressed }) = &self.write else { return };
        let mut plain = Vec::new();
        if *is_compressed {
            let mut decoder = flate2::write::ZlibDecoder::new(&mut plain);
            decoder.write_all(content).unwrap();
            let _ = decoder.flush();
        } else {
            plain.clone_from(content);
        }
        plain.truncate(*size);
        let mut state = self.state.lock().unwrap();
        let skipped = if self.fault == Fault::WornOut { SECTOR_BYTES.min(plain.len()) } else { 0 };
        let erased = offset + size.next_multiple_of(SECTOR_BYTES);
        state.flash[offset + skipped..erased].fill(0xFF);
        state.flash[offset + skipped..offset + plain.len()].copy_from_slice(&plain[skipped..]);
    }
}
