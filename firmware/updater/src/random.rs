//! Random numbers of the chip's TRNG, whose entropy source runs all the time: first the SAR ADC, then the radio
//! (ESP32-C3 TRM chapter 25 "Random Number Generator").

use esp_hal::rng::Trng;
use rand_core::{CryptoRng, RngCore};
use rustls::crypto::{GetRandomFailed, SecureRandom};

use crate::chip;
use crate::console::line;

/// The TRNG, for code that cannot refuse to go on without random numbers: without an entropy source it resets the chip.
#[derive(Debug)]
pub(crate) struct HardwareRandom;

fn trng() -> Trng {
    Trng::try_new().unwrap_or_else(|_| {
        line!("breaks: the TRNG has no source of entropy");
        chip::reset()
    })
}

impl RngCore for HardwareRandom {
    fn next_u32(&mut self) -> u32 {
        trng().random()
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_u32(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        trng().read(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for HardwareRandom {}

impl SecureRandom for HardwareRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        Trng::try_new().map_err(|_| GetRandomFailed)?.read(bytes);
        Ok(())
    }
}
