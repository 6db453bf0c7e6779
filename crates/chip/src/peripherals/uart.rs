//! UART 0, as the console: what is written is printed, nothing is typed (ESP32-C3 TRM v1.1, chapter 26).

const FIFO: u32 = 0x00;
const INT_RAW: u32 = 0x04;
const INT_ST: u32 = 0x08;
const INT_ENA: u32 = 0x0C;
const INT_CLR: u32 = 0x10;
const STATUS: u32 = 0x1C;
const MEM_CONF: u32 = 0x60;
const FSM_STATUS: u32 = 0x6C;
const DATE: u32 = 0x7C;
const ID: u32 = 0x80;

/// `UART_TXFIFO_EMPTY_INT_RAW` and `UART_TX_DONE_INT_RAW`: everything is sent at once.
const IDLE: u32 = 1 << 1 | 1 << 14;
/// `UART_REG_UPDATE`: the registers have crossed into the other clock domain when it reads 0.
const UPDATE: u32 = 1 << 31;

/// The port.
#[derive(Clone, Debug)]
pub(crate) struct Uart {
    enabled: u32,
    conf: [u32; 33],
    sent: Vec<u8>,
}

impl Default for Uart {
    fn default() -> Self {
        Self { enabled: 0, conf: [0; 33], sent: Vec::new() }
    }
}

impl Uart {
    /// A reset; what was sent is on its way.
    pub(crate) fn reset(&mut self) {
        *self = Self { sent: std::mem::take(&mut self.sent), ..Self::default() };
    }

    pub(crate) fn read(&self, offset: u32) -> Option<u32> {
        Some(match offset {
            FIFO | STATUS | FSM_STATUS => 0,
            INT_RAW => IDLE,
            INT_ST => IDLE & self.enabled,
            INT_ENA => self.enabled,
            INT_CLR => 0,
            ID => self.conf[ID as usize / 4] & !UPDATE,
            ..=DATE => self.conf[offset as usize / 4],
            _ => return None,
        })
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) -> Option<()> {
        match offset {
            FIFO => self.sent.push(value as u8),
            INT_RAW | INT_CLR => {}
            INT_ENA => self.enabled = value,
            0x14..=MEM_CONF | DATE | 0x70..=0x78 | ID => self.conf[offset as usize / 4] = value,
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn is_pending(&self) -> bool {
        IDLE & self.enabled != 0
    }

    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }
}
