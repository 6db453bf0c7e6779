//! Peak heap of the device: shell, engine and HTTP stay under 32 KiB besides TLS.
//!
//! A tracking allocator sees every allocation of the thread on which the device runs; the server and all other tests run on
//! others.
//! Each allocation is attributed by its call stack, to the innermost function that says whose it is:
//!
//! - TLS: rustls, ring, webpki, and `updater_io::tls` with its buffers and its configuration;
//! - the host: what the simulation, tokio and this test allocate, which a chip does not have (the flash and its
//!   log, sockets, timers, the bootloader model, the verification at the hand-over);
//! - the device: everything else below `updater_io`, that is shell, engine and HTTP, with the libraries it calls (CBOR, NVS, P-256, SHA-256).
//!
//! Counted are the bytes asked for, without the allocator's own overhead; a `realloc` counts as the new block beside
//! the old one. Pointers and lengths of the host have 64 bits, so that a chip with 32 needs less. The future of the
//! pit stop is not on the heap, neither here nor on a chip.

use std::alloc::System;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::{Bed, PRODUCT, application, offer, publisher};
use manifest::{CHUNK_BYTES, MAX_CHUNKS, Manifest, Sequence, Signed};
use sim::impostor::Impostor;
use sim::{End, RunningApp, VirtualDevice};
use tracking_allocator::{
    AllocationGroupId, AllocationGroupToken, AllocationRegistry, AllocationTracker, Allocator,
};
use updater_io::tls::INITIAL_INCOMING_BYTES;
use wire::{Reason, ResetCause};

/// What a chip may spend (the ESP32-C3 has 400 KiB of RAM, of which Wi-Fi and TLS take the most).
const LIMIT_BYTES: usize = 32 * 1024;

/// An application slot of the layout `16mb` holds 119 chunks; a composed application of this many fits.
const LARGE_CHUNKS: usize = 118;

/// Sites that are printed.
const SITES: usize = 10;

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Device,
    Tls,
    Host,
}

/// What one function says of the allocations below it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Frame {
    /// Nothing: a library that anybody may call.
    Anybody,
    /// Whose they are, and the function's name.
    Of(Owner, String),
}

impl Frame {
    /// Judges a function by its path, such as `<updater_io::http::HttpClient<S>>::send`.
    fn judge(name: &str) -> Self {
        let path = name.trim_start_matches(['<', '&']).trim_start_matches("mut ");
        let is_below = |modules: &[&str]| modules.iter().any(|module| path.starts_with(module));
        let owner = if is_below(&["rustls::", "webpki::", "ring::", "updater_io::tls::"]) {
            Owner::Tls
        } else if is_below(&["sim::", "tokio::", "mio::"]) {
            Owner::Host
        } else if is_below(&["updater_io::", "updater::", "manifest::", "wire::"]) {
            Owner::Device
        } else {
            return Self::Anybody;
        };
        Self::Of(owner, name.to_owned())
    }
}

/// A block that has not been freed.
#[derive(Clone, Debug)]
struct Block {
    owner: Owner,
    size_bytes: usize,
    site: Arc<str>,
}

#[derive(Default)]
struct Ledger {
    /// The functions met so far, by address; outermost inlined function last.
    functions: HashMap<usize, Vec<Frame>>,
    blocks: HashMap<usize, Block>,
    device_bytes: usize,
    tls_bytes: usize,
    peak: Peak,
}

#[derive(Clone, Debug, Default)]
struct Peak {
    device_bytes: usize,
    tls_bytes: usize,
    both_bytes: usize,
    /// What the device held when `device_bytes` was reached.
    sites: BTreeMap<Arc<str>, usize>,
}

impl Ledger {
    /// Whose the allocation is that is being made, and the function that makes it.
    fn attribute(&mut self) -> (Owner, Arc<str>) {
        let mut found = None;
        backtrace::trace(|frame| {
            let address = frame.ip();
            let functions = self.functions.entry(address as usize).or_insert_with(|| resolve(address));
            found = functions.iter().find_map(|function| match function {
                Frame::Anybody => None,
                Frame::Of(owner, name) => Some((*owner, Arc::from(name.as_str()))),
            });
            found.is_none()
        });
        // What nobody is known to have taken is counted, so that no figure is too small.
        found.unwrap_or((Owner::Device, Arc::from("?")))
    }

    fn add(&mut self, address: usize, block: Block) {
        match block.owner {
            Owner::Device => self.device_bytes += block.size_bytes,
            Owner::Tls => self.tls_bytes += block.size_bytes,
            Owner::Host => return,
        }
        self.blocks.insert(address, block);
        if self.device_bytes > self.peak.device_bytes {
            self.peak.device_bytes = self.device_bytes;
            self.peak.sites.clear();
            for block in self.blocks.values().filter(|block| block.owner == Owner::Device) {
                *self.peak.sites.entry(Arc::clone(&block.site)).or_default() += block.size_bytes;
            }
        }
        self.peak.tls_bytes = self.peak.tls_bytes.max(self.tls_bytes);
        self.peak.both_bytes = self.peak.both_bytes.max(self.device_bytes + self.tls_bytes);
    }

    fn remove(&mut self, address: usize) {
        let Some(block) = self.blocks.remove(&address) else { return };
        match block.owner {
            Owner::Device => self.device_bytes -= block.size_bytes,
            Owner::Tls => self.tls_bytes -= block.size_bytes,
            Owner::Host => {}
        }
    }
}

fn resolve(address: *mut c_void) -> Vec<Frame> {
    let mut functions = Vec::new();
    backtrace::resolve(address, |symbol| {
        if let Some(name) = symbol.name() {
            functions.push(Frame::judge(&format!("{name:#}")));
        }
    });
    functions
}

/// The allocator must not panic, not even while a failed test unwinds.
fn locked(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the ledger of one allocation group: the device's thread.
struct DeviceTracker {
    group: AllocationGroupId,
    ledger: Arc<Mutex<Ledger>>,
}

impl AllocationTracker for DeviceTracker {
    fn allocated(&self, address: usize, size_bytes: usize, _: usize, group: AllocationGroupId) {
        if group == self.group {
            let mut ledger = locked(&self.ledger);
            let (owner, site) = ledger.attribute();
            ledger.add(address, Block { owner, size_bytes, site });
        }
    }

    fn deallocated(
        &self,
        address: usize,
        _: usize,
        _: usize,
        source: AllocationGroupId,
        _: AllocationGroupId,
    ) {
        if source == self.group {
            locked(&self.ledger).remove(address);
        }
    }
}

/// Measures the starts of devices on this thread.
struct Meter {
    ledger: Arc<Mutex<Ledger>>,
    token: AllocationGroupToken,
}

impl Meter {
    fn install() -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let token = AllocationGroupToken::register().unwrap();
        let tracker = DeviceTracker { group: token.id(), ledger: Arc::clone(&ledger) };
        AllocationRegistry::set_global_tracker(tracker).unwrap();
        Self { ledger, token }
    }

    /// Runs one start, prints its peaks and checks them.
    fn start(&mut self, device: &mut VirtualDevice, what: &str, limit_bytes: usize) -> RunningApp {
        locked(&self.ledger).peak = Peak::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Else tokio puts it on the heap, and it is counted: it is no part of these figures.
        let start = Box::pin(device.reset(ResetCause::PowerOn));
        AllocationRegistry::enable_tracking();
        let guard = self.token.enter();
        let end = runtime.block_on(start).unwrap();
        drop(guard);
        AllocationRegistry::disable_tracking();

        let mut ledger = locked(&self.ledger);
        let peak = std::mem::take(&mut ledger.peak);
        println!(
            "{what}: peak heap of shell, engine and HTTP: {} bytes (with TLS: {} bytes; TLS alone: {} bytes)",
            peak.device_bytes, peak.both_bytes, peak.tls_bytes
        );
        let mut sites: Vec<_> = peak.sites.iter().collect();
        sites.sort_by_key(|(_, bytes)| Reverse(**bytes));
        for (site, bytes) in sites.iter().take(SITES) {
            println!("{bytes:>8} {site}");
        }
        // Without symbols nothing could be attributed, and the figures would mean nothing.
        assert!(peak.device_bytes > 4096, "{what}: at least a sector of flash is held");
        assert!(peak.tls_bytes > INITIAL_INCOMING_BYTES, "{what}: at least a record is held");
        assert_eq!(ledger.device_bytes, 0, "{what}: the updater gives back what it took");
        assert!(
            peak.device_bytes < limit_bytes,
            "{what}: needs {} of {limit_bytes} bytes",
            peak.device_bytes
        );
        match end {
            End::Running(app) => app,
            End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{what}: {end:?}"),
        }
    }
}

/// One test, since there is one allocator: a first start (key, enrollment, check-in, install), an update, a start
/// with nothing to do; the largest image that fits the largest layout; the longest manifests that a device reads.
#[test]
fn shell_engine_and_http_need_less_than_32_kib() {
    let mut meter = Meter::install();
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();

    let bed = servers.block_on(Bed::start("4mb"));
    let mut device = bed.manufacture("lamp-1");
    bed.publish(1, "1.0.0", &application("1.0.0", 3));
    assert_eq!(meter.start(&mut device, "first start, install of 3 chunks", LIMIT_BYTES).version(), "1.0.0");
    bed.publish(2, "1.1.0", &application("1.1.0", 4));
    assert_eq!(meter.start(&mut device, "update to 4 chunks", LIMIT_BYTES).version(), "1.1.0");
    assert_eq!(meter.start(&mut device, "nothing to do", LIMIT_BYTES).reason, None);

    let large = servers.block_on(Bed::start("16mb"));
    let mut large_device = large.manufacture("lamp-1");
    large.publish(1, "1.0.0", &application("1.0.0", LARGE_CHUNKS));
    assert_eq!(meter.start(&mut large_device, "install of 118 chunks", LIMIT_BYTES).version(), "1.0.0");

    // Longer than any layout's slot needs, but a stolen server can send one.
    let image = vec![0; MAX_CHUNKS * CHUNK_BYTES as usize];
    let longest = Manifest::describe(&image, Sequence(3), PRODUCT, 5, "1.2.0").unwrap();
    for (what, key, reason) in [
        ("the longest manifest", 1, Reason::ImageTooLarge),
        ("a stranger's longest manifest", 2, Reason::ManifestSignature),
    ] {
        let rules = vec![offer(&Signed::sign(&longest, &publisher(key)).unwrap())];
        let impostor = servers.block_on(Impostor::start(&bed.stolen_identity(), rules)).unwrap();
        bed.lead(&mut device, Some(&impostor));
        assert_eq!(meter.start(&mut device, what, LIMIT_BYTES).reason, Some(reason));
    }
}
