//! The chip as the shell knows it.

use alloc::sync::Arc;

use embassy_time::{Instant, Timer};
use esp_storage::FlashStorage;
use flashfmt::image::{ImageHeader, Segments};
use rustls::crypto::CryptoProvider;
use tls_crypto::Secp256r1;
use updater_io::board::{Board, BoardFacts, Observed};

use crate::chip;
use crate::console::Console;
use crate::network::ChipNetwork;
use crate::random::HardwareRandom;
use crate::{hand_over, memory};

/// When this firmware was built, in seconds since 1970: no certificate is judged against an earlier time.
const BUILD_TIME_S: u32 = match u32::from_str_radix(env!("PITSTOP_BUILD_TIME_S"), 10) {
    Ok(time_s) => time_s,
    Err(_) => panic!("PITSTOP_BUILD_TIME_S is a number of seconds since 1970"),
};

/// The key exchange of TLS, with the TRNG.
static KEY_EXCHANGE: Secp256r1 = Secp256r1::new(&HardwareRandom);

/// The chip, once its hardware is up.
pub(crate) struct ChipBoard {
    pub(crate) network: ChipNetwork,
    flash: FlashStorage<'static>,
    random: HardwareRandom,
    crypto: Arc<CryptoProvider>,
    console: Console,
}

impl ChipBoard {
    pub(crate) fn new(flash: FlashStorage<'static>, network: ChipNetwork) -> Self {
        Self {
            network,
            flash,
            random: HardwareRandom,
            crypto: Arc::new(tls_crypto::provider(&KEY_EXCHANGE)),
            console: Console::default(),
        }
    }
}

impl Board for ChipBoard {
    type Flash = FlashStorage<'static>;
    type Network = ChipNetwork;
    type Timer = ChipTimer;
    type Rng = HardwareRandom;
    type Sha256 = hand_over::Sha256;

    fn flash(&mut self) -> &mut FlashStorage<'static> {
        &mut self.flash
    }

    fn network(&mut self) -> &mut ChipNetwork {
        &mut self.network
    }

    fn timer(&self) -> ChipTimer {
        ChipTimer
    }

    fn rng(&mut self) -> &mut HardwareRandom {
        &mut self.random
    }

    fn crypto_provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.crypto)
    }

    fn facts(&self) -> BoardFacts {
        BoardFacts {
            target: chip::target(),
            updater_version: env!("CARGO_PKG_VERSION"),
            build_time_s: BUILD_TIME_S,
        }
    }

    fn can_start(&self, header: &ImageHeader, segments: &Segments) -> bool {
        hand_over::can_start(header, segments)
    }

    fn retain_bits(&mut self, bits: u32) {
        chip::retain_bits(bits);
    }

    fn free_heap_bytes(&self) -> Option<u32> {
        Some(memory::free_heap_bytes())
    }

    fn observe(&mut self, observed: Observed<'_>) {
        self.console.print(observed);
    }
}

/// The scheduler's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChipTimer;

impl updater_io::platform::Timer for ChipTimer {
    fn now_ms(&self) -> u64 {
        Instant::now().as_millis()
    }

    async fn sleep_ms(&self, duration_ms: u64) {
        Timer::after_millis(duration_ms).await;
    }
}
