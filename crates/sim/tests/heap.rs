//! Peak heap of the device: shell, engine and HTTP stay under 32 KiB besides TLS.
//!
//! A tracking allocator sees every allocation of the thread on which the device runs; the server runs on others.
//! Each allocation is attributed by its call stack, to the innermost function that says whose it is:
//!
//! - TLS: rustls, ring, webpki, and `updater_io::tls` with its buffers and its configuration;
//! - the host: what the simulation, tokio and this test allocate, which a chip does not have (the flash and its
//!   log, sockets, timers, the bootloader model, the verification at the hand-over);
//! - the device: everything else below `updater_io`, with the libraries it calls (CBOR, NVS, P-256, SHA-256).
//!
//! Counted are the bytes asked for, without the allocator's own overhead; a `realloc` counts as the new block beside
//! the old one. Pointers and lengths of the host have 64 bits, so that a chip with 32 needs less. The future of the
//! pit stop is not on the heap, neither here nor on a chip.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::alloc::System;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{Bed, application};
use sim::{End, VirtualDevice};
use tracking_allocator::{
    AllocationGroupId, AllocationGroupToken, AllocationRegistry, AllocationTracker, Allocator,
};
use wire::ResetCause;

/// What a chip may spend (the ESP32-C3 has 400 KiB of RAM, of which Wi-Fi and TLS take the most).
const LIMIT_BYTES: usize = 32 * 1024;

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
        } else if is_below(&["updater_io::", "updater::"]) {
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
        found.unwrap_or((Owner::Host, Arc::from("?")))
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

/// Runs one start on this thread. `token` makes its allocations the device's.
fn start(device: &mut VirtualDevice, token: &mut AllocationGroupToken, expected: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guard = token.enter();
    let end = runtime.block_on(device.reset(ResetCause::PowerOn)).unwrap();
    drop(guard);
    match end {
        End::Running(app) => assert_eq!(app.version(), expected),
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => panic!("{end:?}"),
    }
}

/// First start (key, enrollment, check-in, install of three chunks), an update, and a start with nothing to do.
#[test]
fn shell_engine_and_http_need_less_than_32_kib() {
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bed = servers.block_on(Bed::start("4mb"));
    let mut device = bed.manufacture("lamp-1");

    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut token = AllocationGroupToken::register().unwrap();
    let tracker = DeviceTracker { group: token.id(), ledger: Arc::clone(&ledger) };
    AllocationRegistry::set_global_tracker(tracker).unwrap();
    AllocationRegistry::enable_tracking();
    let mut highest_bytes = 0;
    for (what, publish) in [
        ("first start and install of 1.0.0", Some((1, "1.0.0", 3))),
        ("update to 1.1.0", Some((2, "1.1.0", 4))),
        ("nothing to do", None),
    ] {
        if let Some((sequence, version, chunks)) = publish {
            bed.publish(sequence, version, &application(version, chunks));
        }
        locked(&ledger).peak = Peak::default();
        start(&mut device, &mut token, publish.map_or("1.1.0", |(_, version, _)| version));

        let mut ledger = locked(&ledger);
        let peak = std::mem::take(&mut ledger.peak);
        println!(
            "{what}: peak heap of shell, engine and HTTP: {} bytes (with TLS: {} bytes; TLS alone: {} bytes)",
            peak.device_bytes, peak.both_bytes, peak.tls_bytes
        );
        let mut sites: Vec<_> = peak.sites.iter().collect();
        sites.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        for (site, bytes) in sites.iter().take(SITES) {
            println!("  {bytes:>6} {site}");
        }
        // Without symbols nothing could be attributed, and the figures would mean nothing.
        assert!(peak.device_bytes > 4096, "at least a sector of flash is held");
        assert!(peak.tls_bytes > updater_io::tls::INITIAL_INCOMING_BYTES, "at least a record is held");
        assert_eq!(ledger.device_bytes, 0, "the updater gives back what it took");
        highest_bytes = highest_bytes.max(peak.device_bytes);
    }
    AllocationRegistry::disable_tracking();
    assert!(highest_bytes < LIMIT_BYTES, "{highest_bytes} bytes are more than the {LIMIT_BYTES} there are");
}
