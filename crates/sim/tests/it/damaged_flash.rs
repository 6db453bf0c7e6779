//! Starts on damaged flash, without a network: nothing panics, every start ends, and as long as partition table and
//! slot are intact the application runs, whatever the rest of the flash holds.

use std::collections::BTreeMap;

use crate::common::{Bed, application};
use flashfmt::Chip;
use flashfmt::layout::Layout;
use flashfmt::partition::{TABLE_BYTES, TABLE_OFFSET};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use sim::bootloader::NothingReason;
use sim::net::{Link, SimNetwork};
use sim::{End, PowerSwitch, SimFlash, VirtualDevice};
use updater::limits::BACKOFF_MAX_MS;
use wire::ResetCause;

/// Damaged flashes that are tried; each is made from its own number.
const SEEDS: u64 = 400;

/// A part of the flash, in bytes.
#[derive(Clone, Copy, Debug)]
struct Part {
    name: &'static str,
    offset: usize,
    length: usize,
}

/// What happened to a part.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Noise,
    Zeros,
    Erased,
    /// Erased from somewhere in it to its end.
    Truncated,
    /// Single bits inverted.
    Bits(u32),
    /// Some bytes in a row of something else.
    Burst(usize),
}

fn parts(layout: &Layout) -> Vec<Part> {
    let partition = |name| {
        let partition = layout.find_label(name).unwrap();
        Part { name, offset: partition.offset as usize, length: partition.size as usize }
    };
    let slot = partition("ota_0");
    vec![
        Part { name: "table", offset: TABLE_OFFSET as usize, length: TABLE_BYTES },
        partition("nvs"),
        partition("factory"),
        partition("vault"),
        partition("journal"),
        // Its beginning, where the image header is, and all of it.
        Part { name: "slot header", length: 64, ..slot },
        slot,
    ]
}

fn any_damage(random: &mut StdRng) -> Damage {
    match random.gen_range(0..8) {
        0 | 1 => Damage::Noise,
        2 => Damage::Zeros,
        3 => Damage::Erased,
        4 => Damage::Truncated,
        5 | 6 => Damage::Bits(random.gen_range(1..=16)),
        _ => Damage::Burst(random.gen_range(1..=256)),
    }
}

fn apply(damage: Damage, bytes: &mut [u8], random: &mut StdRng) {
    let somewhere = random.gen_range(0..bytes.len());
    match damage {
        Damage::Noise => random.fill_bytes(bytes),
        Damage::Zeros => bytes.fill(0),
        Damage::Erased => bytes.fill(0xff),
        Damage::Truncated => bytes[somewhere..].fill(0xff),
        Damage::Bits(count) => {
            for _ in 0..count {
                bytes[random.gen_range(0..bytes.len())] ^= 1 << random.gen_range(0..8);
            }
        }
        Damage::Burst(length) => {
            let end = (somewhere + length).min(bytes.len());
            random.fill_bytes(&mut bytes[somewhere..end]);
        }
    }
}

/// The flash of a device that enrolled and installed 1.0.0.
async fn healthy() -> (Layout, Vec<u8>) {
    let bed = Bed::start("4mb").await;
    bed.publish(1, "1.0.0", &application("1.0.0", 2));
    let mut device = bed.manufacture("lamp");
    assert!(matches!(device.power_on().await.unwrap(), End::Running(_)));
    (bed.layout.clone(), device.flash.bytes().to_vec())
}

fn without_network(bytes: Vec<u8>, layout: &Layout, seed: u64) -> VirtualDevice {
    let power = PowerSwitch::new();
    let mut flash = SimFlash::from_bytes(bytes);
    flash.set_power(power.clone());
    let network = SimNetwork::new(Link::Wifi(Vec::new()), power);
    VirtualDevice::from_flash(flash, network, Chip::Esp32C3, layout.clone(), seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_ends_and_an_intact_application_runs() {
    let (layout, healthy) = healthy().await;
    let parts = parts(&layout);
    let slot = layout.find_label("ota_0").unwrap();
    let table = TABLE_OFFSET as usize..TABLE_OFFSET as usize + TABLE_BYTES;
    let mut ends = BTreeMap::<_, u32>::new();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = healthy.clone();
        for _ in 0..random.gen_range(1..=3) {
            let part = parts[random.gen_range(0..parts.len())];
            let damage = any_damage(&mut random);
            // Seen only when the test fails.
            println!("seed {seed}: {damage:?} in {}", part.name);
            apply(damage, &mut bytes[part.offset..part.offset + part.length], &mut random);
        }
        let table_is_intact = bytes[table.clone()] == healthy[table.clone()];
        let mut device = without_network(bytes, &layout, seed);
        let image_is_intact = device.image_in(&slot).unwrap().is_ok();

        // What the first start writes must not harm the second.
        for cause in [ResetCause::PowerOn, ResetCause::Panic] {
            let end = device.reset(cause).await.unwrap();
            let kind = match &end {
                End::Running(app) if app.version() == "1.0.0" => "running",
                End::Running(app) => panic!("seed {seed}: runs {app:?}"),
                End::Waiting { after_ms, .. } if *after_ms <= BACKOFF_MAX_MS => "waiting",
                End::Waiting { after_ms, .. } => panic!("seed {seed}: waits for {after_ms} ms"),
                End::Dead(_) => "dead",
                End::PowerLost => panic!("seed {seed}: nobody cut the power"),
            };
            if table_is_intact {
                assert_eq!(kind == "running", image_is_intact, "seed {seed}, {cause:?}: {end:?}");
            }
            *ends.entry((table_is_intact, image_is_intact, kind)).or_default() += 1;
        }
        assert_eq!(device.flash.violations(), [], "seed {seed}");
    }
    for ((table_is_intact, image_is_intact, kind), starts) in &ends {
        println!("table intact: {table_is_intact}, image intact: {image_is_intact}: {starts} times {kind}");
    }
    let ran = |key| ends.get(&key).is_some_and(|starts| *starts > 50);
    assert!(
        ran((true, true, "running")) && ran((true, false, "waiting")),
        "the damage is too uniform: {ends:?}"
    );
}

/// Whatever the vault holds, the application runs.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_vault_holds() {
    let (layout, healthy) = healthy().await;
    let vault = parts(&layout).into_iter().find(|part| part.name == "vault").unwrap();
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = healthy.clone();
        // Page by page, so that NVS finds headers of one state and entries of another.
        for page in bytes[vault.offset..vault.offset + vault.length].chunks_mut(4096) {
            if random.gen_bool(0.7) {
                apply(any_damage(&mut random), page, &mut random);
            }
        }
        let mut device = without_network(bytes, &layout, seed);
        for cause in [ResetCause::PowerOn, ResetCause::Watchdog] {
            println!("seed {seed}, {cause:?}");
            let end = device.reset(cause).await.unwrap();
            assert!(matches!(&end, End::Running(app) if app.version() == "1.0.0"), "seed {seed}: {end:?}");
        }
        assert_eq!(device.flash.violations(), [], "seed {seed}");
    }
}

/// A chip with less flash than the partition table was made for: the bootloader refuses the table, as ESP-IDF's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_flash_that_ends_too_early() {
    let (layout, healthy) = healthy().await;
    let table_end = TABLE_OFFSET as usize + TABLE_BYTES;
    for sectors in (table_end.div_ceil(4096)..healthy.len() / 4096).step_by(37) {
        let mut device = without_network(healthy[..sectors * 4096].to_vec(), &layout, 1);
        let end = device.power_on().await.unwrap();
        assert!(matches!(end, End::Dead(NothingReason::PartitionTable(_))), "{sectors} sectors: {end:?}");
    }
}
