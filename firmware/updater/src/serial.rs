//! Bytes from the person at the other end of the console: UART 0, and the USB serial port of chips that have one.

use esp_hal::Blocking;
use esp_hal::peripherals::UART0;
#[cfg(not(feature = "esp32"))]
use esp_hal::peripherals::USB_DEVICE;
use esp_hal::uart::{Config, ConfigError, UartRx};
#[cfg(not(feature = "esp32"))]
use esp_hal::usb::usb_serial_jtag::{UsbSerialJtag, UsbSerialJtagRx};
use esp_println::Printer;

use crate::chip;

/// The receiving side of the console.
pub(crate) struct Serial {
    uart: UartRx<'static, Blocking>,
    #[cfg(not(feature = "esp32"))]
    usb: UsbSerialJtagRx<'static, Blocking>,
}

impl Serial {
    /// Listens as the ROM does: 115,200 baud, 8 data bits, no parity.
    pub(crate) fn new(
        uart: UART0<'static>,
        #[cfg(not(feature = "esp32"))] usb: USB_DEVICE<'static>,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            uart: UartRx::new(uart, Config::default())?.with_rx(chip::uart_rx_pin()),
            #[cfg(not(feature = "esp32"))]
            usb: UsbSerialJtag::new(usb).split().0,
        })
    }

    /// The next byte that has come, if any.
    pub(crate) fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.uart.read_buffered(&mut byte) {
            Ok(1) => Some(byte[0]),
            // Nothing, or a byte that was garbled on the line: the protocol on it has checksums.
            Ok(_) | Err(_) => self.read_usb(),
        }
    }

    #[cfg(not(feature = "esp32"))]
    fn read_usb(&mut self) -> Option<u8> {
        self.usb.read_byte().ok()
    }

    #[cfg(feature = "esp32")]
    fn read_usb(&mut self) -> Option<u8> {
        None
    }

    /// Writes without a break.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        Printer::write_bytes(bytes);
    }
}
