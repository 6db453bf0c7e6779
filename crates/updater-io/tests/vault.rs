//! The vault on NOR flash.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use manifest::{PublisherKey, PublisherKeys};
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use support::flash::NorMock;
use updater_io::country::CountryCode;
use updater_io::journal::Journal;
use updater_io::map::Map;
use updater_io::platform::{AccessPoint, WifiCredentials};
use updater_io::region::{Region, SECTOR_BYTES};
use updater_io::shell::{KnownDamage, with_vault};
use updater_io::vault::{
    ANY_DAMAGE, ItemError, MAX_WIFI_NETWORKS, Provisioning, ServerUrl, Vault, VaultError, provision,
};
use wire::ResetCause;
use x509_parser::prelude::{FromDer, X509Certificate};

const REGION: Region = Region { offset: SECTOR_BYTES, size_bytes: 4 * SECTOR_BYTES };

/// The base point of P-256, compressed.
const PUBLISHER: [u8; 33] = [
    0x03, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
];

fn anchor() -> CertificateDer<'static> {
    include_bytes!("golden/ca.der").as_slice().into()
}

fn publishers() -> PublisherKeys {
    [PublisherKey::from_sec1(&PUBLISHER).unwrap()].into_iter().collect()
}

fn network(ssid: &str, passphrase: &str) -> WifiCredentials {
    WifiCredentials { ssid: ssid.into(), passphrase: passphrase.to_string().into() }
}

fn provisioned() -> NorMock {
    let mut flash = NorMock::blank(6 * SECTOR_BYTES as usize);
    let provisioning = Provisioning {
        device_id: "device-1",
        product: "product-1",
        server: &ServerUrl::parse("https://localhost:8443").unwrap(),
        token: Some("top-secret-token"),
        anchors: &[anchor(), anchor()],
        publishers: &publishers(),
        wifi: &[network("home", "secret passphrase"), network("open", "")],
        country: CountryCode::parse("DE").unwrap(),
        time_floor_s: Some(1_800_000_000),
    };
    provision(&mut flash, REGION, &provisioning).unwrap();
    flash
}

#[test]
fn what_is_provisioned_is_read_and_reading_writes_nothing() {
    let mut flash = provisioned();
    (flash.erases, flash.writes) = (0, 0);
    let contents = Vault::open(&mut flash, REGION).unwrap().load().unwrap();
    assert_eq!((flash.erases, flash.writes), (0, 0));

    let settings = contents.settings.as_ref().unwrap();
    assert_eq!((settings.device_id.as_str(), settings.product.as_str()), ("device-1", "product-1"));
    assert_eq!((settings.server.host.as_str(), settings.server.port), ("localhost", 8443));
    assert_eq!(settings.anchors, [anchor(), anchor()]);
    assert_eq!(settings.publishers, publishers());
    assert_eq!(settings.wifi, [network("home", "secret passphrase"), network("open", "")]);
    assert_eq!(settings.country.as_str(), "DE");
    assert_eq!(contents.token.as_ref().unwrap().as_deref().map(String::as_str), Some("top-secret-token"));
    assert_eq!(contents.time_floor_s, Ok(Some(1_800_000_000)));
    assert_eq!((&contents.record, &contents.outcome), (&Ok(None), &Ok(None)));
    assert!(contents.key.as_ref().is_ok_and(Option::is_none) && contents.chain == Ok(None));

    let shown = format!("{contents:?}");
    assert!(shown.contains("device-1") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_blank_vault_is_empty_and_opening_it_writes_nothing() {
    let mut flash = NorMock::blank(6 * SECTOR_BYTES as usize);
    let contents = Vault::open(&mut flash, REGION).unwrap().load().unwrap();
    assert_eq!(contents.settings, Err(VaultError::Missing { key: "device_id" }));
    assert_eq!(contents.record, Ok(None));
    assert_eq!((flash.erases, flash.writes), (0, 0));
}

#[test]
fn what_the_updater_saves_is_there_after_a_restart_and_saving_it_again_writes_nothing() {
    let mut flash = provisioned();
    let chain = [CertificateDer::from(include_bytes!("golden/leaf.der").as_slice()), anchor()];
    let save = |flash: &mut NorMock| {
        let mut vault = Vault::open(flash, REGION).unwrap();
        vault.set_identity(b"key bytes", &chain).unwrap();
        vault.set_record(b"record").unwrap();
        vault.set_outcome(b"outcome").unwrap();
        vault.set_time_floor_s(1_900_000_000).unwrap();
        vault.clear_token().unwrap();
    };
    save(&mut flash);
    (flash.erases, flash.writes) = (0, 0);
    save(&mut flash);
    assert_eq!((flash.erases, flash.writes), (0, 0));
    let contents = Vault::open(&mut flash, REGION).unwrap().load().unwrap();
    assert_eq!(contents.key.as_ref().unwrap().as_deref().map(Vec::as_slice), Some(&b"key bytes"[..]));
    assert_eq!(contents.chain, Ok(Some(chain.to_vec())));
    assert_eq!(contents.record, Ok(Some(b"record".to_vec())));
    assert_eq!(contents.outcome, Ok(Some(b"outcome".to_vec())));
    assert_eq!(contents.time_floor_s, Ok(Some(1_900_000_000)));
    assert!(contents.token.as_ref().is_ok_and(Option::is_none));
}

/// Espressif's generator made the image; see `golden/README.md`.
#[test]
fn an_image_of_espressifs_generator_is_read_without_writing() {
    let region = Region { offset: 0, size_bytes: 3 * SECTOR_BYTES };
    let mut flash = NorMock::new(include_bytes!("golden/vault.bin").to_vec());
    let contents = Vault::open(&mut flash, region).unwrap().load().unwrap();
    assert_eq!((flash.erases, flash.writes), (0, 0));
    let settings = contents.settings.unwrap();
    assert_eq!(
        (settings.device_id.as_str(), settings.product.as_str(), settings.server.to_string().as_str()),
        ("golden-device", "golden-product", "https://updates.example:8443")
    );
    assert_eq!(settings.anchors, [anchor()]);
    assert_eq!(settings.publishers.iter().count(), 1);
    assert_eq!(
        settings.wifi,
        [network("Golden network", "golden passphrase"), network("Open network", "")],
        "ssid0 and ssid3: gaps are allowed"
    );
    assert_eq!(contents.token.unwrap().as_deref().map(String::as_str), Some("golden-token"));
    assert_eq!(contents.record, Ok(Some(vec![0xa1, 0x01, 0x02])));
    assert_eq!(contents.time_floor_s, Ok(Some(1_800_000_000)));
    let chain = contents.chain.unwrap().unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let common_name = leaf.subject().iter_common_name().next().unwrap();
    assert_eq!(common_name.as_str(), Ok("golden-device"));

    // And it can be written to.
    Vault::open(&mut flash, region).unwrap().set_record(b"new").unwrap();
    assert_eq!(Vault::open(&mut flash, region).unwrap().record(), Ok(Some(b"new".to_vec())));
}

#[test]
fn a_damaged_item_leaves_the_others_readable_and_is_named() {
    let golden = include_bytes!("golden/vault.bin");
    let region = Region { offset: 0, size_bytes: 3 * SECTOR_BYTES };
    let at = |text: &[u8]| golden.windows(text.len()).position(|window| window == text).unwrap();
    let damaged = |offset: usize| {
        let mut flash = NorMock::new(golden.to_vec());
        flash.bytes[offset] ^= 1;
        Vault::open(&mut flash, region).unwrap().load().unwrap()
    };
    let contents = damaged(at(b"golden-product"));
    assert_eq!(contents.settings, Err(VaultError::Damaged { key: "product" }));
    assert_eq!(contents.record, Ok(Some(vec![0xa1, 0x01, 0x02])));
    // The content of the chain; the leaf comes after the CA in the image, and starts like nothing else.
    let contents = damaged(at(&include_bytes!("golden/leaf.der")[..64]) + 40);
    assert!(contents.settings.is_ok());
    assert_eq!(contents.chain, Err(VaultError::Damaged { key: "cert" }));
    // One Wi-Fi network of two.
    let contents = damaged(at(b"golden passphrase"));
    assert_eq!(contents.settings.unwrap().wifi, [network("Open network", "")]);
}

#[test]
fn items_that_make_no_sense_are_named_with_the_reason() {
    let mut flash = provisioned();
    let chain = [CertificateDer::from(&b"no DER"[..])];
    Vault::open(&mut flash, REGION).unwrap().set_identity(b"key bytes", &chain).unwrap();
    let contents = Vault::open(&mut flash, REGION).unwrap().load().unwrap();
    assert!(matches!(
        contents.chain,
        Err(VaultError::Invalid { key: "cert2", source: ItemError::Certificates(_) })
    ));
    assert!(contents.settings.is_ok());
}

#[test]
fn bad_provisioning_is_refused_before_anything_is_erased() {
    let server = ServerUrl::parse("https://localhost:8443").unwrap();
    let (anchors, keys) = ([anchor()], publishers());
    let good = Provisioning {
        device_id: "device",
        product: "product",
        server: &server,
        token: None,
        anchors: &anchors,
        publishers: &keys,
        wifi: &[],
        country: CountryCode::WORLD,
        time_floor_s: None,
    };
    let long = "x".repeat(65);
    let nine = vec![network("n", ""); 9];
    let (short, nameless) = ([network("n", "1234567")], [network("", "")]);
    let no_keys = PublisherKeys::default();
    let cases: [(&str, Provisioning<'_>); 10] = [
        ("device_id", Provisioning { device_id: "", ..good }),
        ("device_id", Provisioning { device_id: "a b", ..good }),
        ("device_id", Provisioning { device_id: "a\r\nb", ..good }),
        ("device_id", Provisioning { device_id: &long, ..good }),
        ("product", Provisioning { product: "", ..good }),
        ("ca", Provisioning { anchors: &[], ..good }),
        ("publishers", Provisioning { publishers: &no_keys, ..good }),
        ("ssid0", Provisioning { wifi: &nine, ..good }),
        ("ssid0", Provisioning { wifi: &short, ..good }),
        ("ssid0", Provisioning { wifi: &nameless, ..good }),
    ];
    let mut flash = NorMock::new(vec![0; 6 * SECTOR_BYTES as usize]);
    for (item, provisioning) in cases {
        let error = provision(&mut flash, REGION, &provisioning).unwrap_err();
        assert!(matches!(error, VaultError::Invalid { key, .. } if key == item), "{item}: {error:?}");
    }
    for (offset, sectors) in [(0, 2), (0, 7), (1, 3)] {
        let region = Region { offset, size_bytes: sectors * SECTOR_BYTES };
        assert!(matches!(provision(&mut flash, region, &good), Err(VaultError::Region { .. })));
    }
    assert_eq!((flash.erases, flash.writes), (0, 0));
    provision(&mut flash, REGION, &good).unwrap();
    assert_eq!(Vault::open(&mut flash, REGION).unwrap().settings().unwrap().country, CountryCode::WORLD);
}

/// Cut at every byte that saving the record, the chain and the time floor touches: each item is the old or the new
/// one, and everything else is as before.
#[test]
fn a_power_cut_while_saving_leaves_the_old_or_the_new_value() {
    let save = |flash: &mut NorMock, number: u32| -> Result<(), VaultError> {
        let mut vault = Vault::open(flash, REGION)?;
        vault.set_identity(&[0x42; 100], &vec![anchor(); 1 + number as usize % 2])?;
        vault.set_record(&[number as u8; 100])?;
        vault.set_time_floor_s(1_800_000_000 + number)
    };
    let mut before = provisioned();
    // So many that pages are reclaimed during the last one.
    let last = (1..60)
        .find(|number| {
            let erases = before.erases;
            let mut next = before.clone();
            save(&mut next, *number).unwrap();
            let reclaims = *number > 20 && next.erases > erases;
            if !reclaims {
                before = next;
            }
            reclaims
        })
        .expect("a vault of four sectors is reclaimed sooner or later");
    let old = Vault::open(&mut before.clone(), REGION).unwrap().load().unwrap();

    let mut cuts = 0;
    for power_bytes in 0.. {
        let mut cut = NorMock { power_bytes: Some(power_bytes), ..before.clone() };
        if save(&mut cut, last).is_ok() {
            break;
        }
        cuts += 1;
        let mut revived = cut.revived();
        let found = Vault::open(&mut revived, REGION).unwrap().load().unwrap();
        assert_eq!(found.settings, old.settings, "cut after {power_bytes} bytes");
        let is_old_or_new =
            found.chain == old.chain || found.chain == Ok(Some(vec![anchor(); 1 + last as usize % 2]));
        assert!(is_old_or_new, "cut after {power_bytes} bytes: {:?}", found.chain.map(|_| ()));
        let is_old_or_new = found.record == old.record || found.record == Ok(Some(vec![last as u8; 100]));
        assert!(is_old_or_new, "cut after {power_bytes} bytes: {:?}", found.record);
        let floor_s = found.time_floor_s.unwrap().unwrap();
        assert!(floor_s == 1_800_000_000 + last || Ok(Some(floor_s)) == old.time_floor_s);
        // It goes on from there: at the start after the next, if there is something to repair.
        if let Err(error) = save(&mut revived, last) {
            let VaultError::NewDamage { damage } = error else { panic!("cut after {power_bytes}: {error}") };
            let mut vault = Vault::open(&mut revived, REGION).unwrap();
            vault.accept_damage(damage);
            vault.set_outcome(b"repaired").unwrap();
            save(&mut revived, last).unwrap();
        }
    }
    assert!(cuts > 100, "only {cuts} cuts");
}

#[test]
fn wifi_networks_are_added_and_replaced_by_name() {
    let mut flash = provisioned();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    let provisioned = vault.settings().unwrap().wifi;
    vault.add_wifi(&network("garage", "first passphrase")).unwrap();
    vault.add_wifi(&network("garage", "other passphrase")).unwrap();
    let mut expected = provisioned.clone();
    expected.push(network("garage", "other passphrase"));
    assert_eq!(vault.settings().unwrap().wifi, expected);

    for number in 0..MAX_WIFI_NETWORKS {
        vault.add_wifi(&network(&format!("net {number}"), "")).unwrap();
    }
    let known = vault.settings().unwrap().wifi;
    assert_eq!(known.len(), MAX_WIFI_NETWORKS);
    assert_eq!(
        known.last(),
        Some(&network(&format!("net {}", MAX_WIFI_NETWORKS - 1), "")),
        "the newest stays"
    );
    assert!(vault.add_wifi(&network("garage", "short")).is_err());
    assert_eq!(vault.settings().unwrap().wifi, known, "a refused network changes nothing");
}

/// A network without its passphrase would be taken for an open one, and joined wherever somebody offers its name.
#[test]
fn a_network_is_never_stored_without_its_passphrase() {
    let before = provisioned();
    let old = Vault::open(&mut before.clone(), REGION).unwrap().settings().unwrap().wifi;
    let added = network("garage", "a good passphrase");
    let mut cuts = 0;
    for power_bytes in 0.. {
        let mut cut = NorMock { power_bytes: Some(power_bytes), ..before.clone() };
        if Vault::open(&mut cut, REGION).unwrap().add_wifi(&added).is_ok() {
            break;
        }
        cuts += 1;
        let found = Vault::open(&mut cut.revived(), REGION).unwrap().settings().unwrap().wifi;
        let (known, rest) = found.split_at(old.len());
        assert_eq!(known, old, "cut after {power_bytes} bytes");
        assert!(rest.is_empty() || rest == [added.clone()], "cut after {power_bytes} bytes");
    }
    assert!(cuts >= 100, "only {cuts} cuts");
}

/// A device without trust anchors would trust nobody ever again.
#[test]
fn trust_anchors_that_are_none_replace_nothing() {
    let mut flash = provisioned();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    let before = vault.settings();
    for none in [vec![], vec![CertificateDer::from(vec![7; 100])]] {
        let error = vault.set_anchors(&none).unwrap_err();
        assert!(matches!(error, VaultError::Invalid { key: "ca", .. }), "{error}");
    }
    assert_eq!(vault.settings(), before);
}

#[test]
fn the_access_point_of_last_time_is_kept() {
    let access_point = AccessPoint { network: 1, bssid: [2, 3, 4, 5, 6, 7], channel: 11 };
    let mut flash = provisioned();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    assert_eq!(vault.access_point(), Ok(None));
    vault.set_access_point(access_point).unwrap();
    assert_eq!(vault.load().unwrap().access_point, Ok(Some(access_point)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_is_opened_without_a_panic(
        places in proptest::collection::vec((0usize..4 * 4096, any::<u8>()), 1..40),
    ) {
        let mut flash = provisioned();
        for (place, byte) in places {
            flash.bytes[4096 + place] &= byte;
        }
        if let Ok(mut vault) = Vault::open(&mut flash, REGION) {
            let _ = vault.load();
            let _ = vault.set_record(b"record");
        }
    }
}

/// A vault with an identity, and where the head of an item is.
fn with_identity() -> (NorMock, impl Fn(&NorMock, &str) -> usize) {
    let mut flash = provisioned();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    vault.set_key(&[0x42; 100]).unwrap();
    vault.set_sequence(7).unwrap();
    (flash, |flash, key| {
        let mut name = [0; 16];
        name[..key.len()].copy_from_slice(key.as_bytes());
        // The last one is the newest; the key stands 8 bytes behind the start of its entry.
        flash.bytes.windows(16).rposition(|window| window == name).unwrap() - 8
    })
}

/// A key in PKCS#8, and a certificate for it.
fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    (key.serialize_der(), [certificate.der().clone()])
}

type Identity = (Vec<u8>, [CertificateDer<'static>; 1]);

/// What the vault holds, which is one of these identities as a whole; which one, and whether it is half saved.
fn held(flash: &mut NorMock, identities: &[Identity]) -> (usize, bool) {
    held_by(&mut Vault::open(flash, REGION).unwrap(), identities)
}

/// The same at a start that finds the damage that the one before has found.
fn held_later(flash: &mut NorMock, identities: &[Identity]) -> (usize, bool) {
    let mut vault = Vault::open(flash, REGION).unwrap();
    vault.accept_damage(ANY_DAMAGE);
    held_by(&mut vault, identities)
}

fn held_by(vault: &mut Vault<'_, NorMock>, identities: &[Identity]) -> (usize, bool) {
    let contents = vault.load().unwrap();
    let (key, chain) = (contents.key.unwrap().unwrap(), contents.chain.unwrap().unwrap());
    let which = identities.iter().position(|(own, certificate)| own == &*key && chain == certificate);
    (which.expect("a key, and the certificate for it"), contents.is_half_saved)
}

fn save(flash: &mut NorMock, (key, chain): &Identity) -> Result<(), VaultError> {
    Vault::open(flash, REGION)?.set_identity(key, chain)
}

/// A vault in which power was lost between the copies of the second identity and those of the first.
fn half_saved(identities: &[Identity; 2]) -> (NorMock, impl Fn(&NorMock, &str) -> usize) {
    let mut flash = provisioned();
    save(&mut flash, &identities[0]).unwrap();
    let half = (0..)
        .map(|power_bytes| {
            let mut cut = NorMock { power_bytes: Some(power_bytes), ..flash.clone() };
            save(&mut cut, &identities[1]).unwrap_err();
            cut.revived()
        })
        .find(|flash| held(&mut flash.clone(), identities) == (1, true));
    (half.unwrap(), with_identity().1)
}

/// Goes on with the damage that another start has found.
fn save_anyhow(flash: &mut NorMock, identity: &Identity) {
    let mut vault = Vault::open(flash, REGION).unwrap();
    vault.accept_damage(ANY_DAMAGE);
    vault.set_identity(&identity.0, &identity.1).unwrap();
}

/// Cut at every byte of storing a new key with its certificate, and of the next one in a vault where that was cut: one that
/// is whole is there, the old or the new one, and what is half saved says so. What the second start shows is never taken back:
/// the server has seen it.
#[test]
fn a_power_cut_while_a_new_key_is_saved_leaves_one_identity_that_is_whole() {
    let identities = [identity(), identity(), identity()];
    let mut before = provisioned();
    save(&mut before, &identities[0]).unwrap();
    assert_eq!(held(&mut before, &identities), (0, false));
    let (mut first, mut second) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
    for power_bytes in 0.. {
        let mut cut = NorMock { power_bytes: Some(power_bytes), ..before.clone() };
        if save(&mut cut, &identities[1]).is_ok() {
            break;
        }
        let what = format!("cut after {power_bytes} bytes");
        let mut revived = cut.revived();
        *first.entry(held(&mut revived, &identities)).or_default() += 1;
        let shown = held_later(&mut revived, &identities);
        *second.entry(shown).or_default() += 1;
        // Power is lost again while this one is being replaced.
        for again_bytes in (0..).step_by(16).take_while(|_| power_bytes % 8 == 0) {
            let mut again = NorMock { power_bytes: Some(again_bytes), ..revived.clone() };
            let mut vault = Vault::open(&mut again, REGION).unwrap();
            vault.accept_damage(ANY_DAMAGE);
            if vault.set_identity(&identities[2].0, &identities[2].1).is_ok() {
                break;
            }
            let mut again = again.revived();
            held(&mut again, &identities);
            let (found, _) = held_later(&mut again, &identities);
            assert!(found == shown.0 || found == 2, "{what} and {again_bytes}: {found}, not {shown:?}");
        }
        save_anyhow(&mut revived, &identities[1]);
        assert_eq!(held(&mut revived, &identities), (1, false), "{what}");
    }
    for seen in [&first, &second] {
        let kinds: Vec<_> = seen.keys().copied().collect();
        assert_eq!(kinds, [(0, false), (0, true), (1, false), (1, true)], "{first:?} {second:?}");
    }
    assert!(first.values().sum::<usize>() > 1000, "{first:?}");
}

/// Any two of the four may go, unless both are keys or both are certificates; and a vault of before has one of each.
#[test]
fn any_key_that_can_be_read_goes_with_any_certificate_for_it() {
    let identities = [identity(), identity()];
    let mut flash = provisioned();
    for identity in &identities {
        save(&mut flash, identity).unwrap();
    }
    let (_, find) = with_identity();
    for lost in [
        &["key"][..],
        &["key2"],
        &["cert"],
        &["cert2"],
        &["key", "cert"],
        &["key2", "cert"],
        &["key", "cert2"],
        &["key2", "cert2"],
    ] {
        let mut damaged = flash.clone();
        for name in lost {
            let head = find(&damaged, name);
            damaged.bytes[head + 4] ^= 0x10;
        }
        assert_eq!(held(&mut damaged, &identities), (1, false), "{lost:?}");
        let mut vault = Vault::open(&mut damaged, REGION).unwrap();
        vault.accept_damage(ANY_DAMAGE);
        vault.set_outcome(b"repaired").unwrap();
        assert_eq!(held(&mut damaged, &identities), (1, false), "{lost:?} given up");
        // Power is lost while that is replaced by another.
        for power_bytes in (0..).step_by(32) {
            let mut cut = NorMock { power_bytes: Some(power_bytes), ..damaged.clone() };
            if save(&mut cut, &identities[0]).is_ok() {
                break;
            }
            held_later(&mut cut.revived(), &identities);
        }
        save(&mut damaged, &identities[0]).unwrap();
        assert_eq!(held(&mut damaged, &identities), (0, false), "{lost:?} and renewed");
    }
}

/// What is torn may read as whole once. The server would take the old certificate no more once it has seen the new one.
#[test]
fn the_old_identity_is_shown_while_something_is_damaged() {
    let identities = [identity(), identity()];
    let (mut flash, find) = half_saved(&identities);
    assert_eq!(held(&mut flash, &identities), (1, true));
    let head = find(&flash, "product");
    flash.bytes[head + 4] ^= 0x10;
    assert_eq!(held(&mut flash, &identities), (0, true));
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    vault.accept_damage(ANY_DAMAGE);
    assert_eq!(vault.key().unwrap().unwrap().as_slice(), identities[1].0, "at the second start");
}

/// The key of one and the certificate of another, while something cannot be read: not taken for a device without a
/// certificate.
#[test]
fn what_does_not_belong_together_is_damage_while_something_cannot_be_read() {
    let identities = [identity(), identity()];
    let (mut half, _) = half_saved(&identities);
    // The new key stands there once, and of the old certificate the last one is the copy that counts.
    for content in [identities[1].0.as_slice(), &identities[0].1[0]] {
        // Up to there all of a kind are the same.
        let end = &content[content.len() - 40..][..16];
        let at = half.bytes.windows(16).rposition(|bytes| bytes == end).unwrap();
        half.bytes[at] ^= 1;
    }
    let contents = Vault::open(&mut half, REGION).unwrap().load().unwrap();
    assert!(contents.key.is_ok() && contents.chain.is_err());
}

/// A head or data that reads wrong once costs nothing: not at this start, where the copy stands in, and not for good.
#[test]
fn what_reads_wrong_once_is_not_erased() {
    for at in [2, 12, 32 + 5] {
        let (mut flash, find) = with_identity();
        let before = flash.bytes.clone();
        let address = find(&flash, "key") + at;
        flash.bytes[address] ^= 1;
        let mut vault = Vault::open(&mut flash, REGION).unwrap();
        assert_eq!(vault.key().unwrap().unwrap().as_slice(), [0x42; 100], "the copy");
        flash.bytes[address] ^= 1;
        assert!(flash.bytes == before, "opening has written");
    }
}

#[test]
fn damage_keeps_everything_from_being_written_until_another_start_finds_the_same() {
    let (mut flash, find) = with_identity();
    let head = find(&flash, "sequence");
    flash.bytes[head + 4] ^= 0x10;
    let before = flash.bytes.clone();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    let damage = vault.damage();
    assert_ne!(damage, 0);
    assert_eq!(vault.set_outcome(b"new"), Err(VaultError::NewDamage { damage }));
    vault.accept_damage(!damage);
    assert_eq!(vault.set_outcome(b"new"), Err(VaultError::NewDamage { damage }));
    drop(vault);
    assert!(flash.bytes == before);
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    vault.accept_damage(damage);
    vault.set_outcome(b"new").unwrap();
    vault.set_sequence(8).unwrap();
    let mut vault = Vault::open(&mut flash, REGION).unwrap();
    assert_eq!(
        (vault.damage(), vault.sequence(), vault.outcome()),
        (0, Ok(Some(8)), Ok(Some(b"new".to_vec())))
    );
}

/// Puts a journal behind the vault.
fn add_journal(flash: &mut NorMock) -> Map {
    let journal = Region { offset: REGION.offset + REGION.size_bytes, size_bytes: 2 * SECTOR_BYTES };
    flash.bytes.resize((journal.offset + journal.size_bytes) as usize, 0xff);
    Map { vault: Some(REGION), journal: Some(journal), ..Map::default() }
}

fn noted_damage(flash: &mut NorMock, map: &Map) -> u32 {
    Journal::open(flash, map.journal.unwrap()).unwrap().latest().unwrap().vault_damage
}

/// Setting up Wi-Fi over the serial port is such a write, before a pit stop and after it. What a start notes is for the next
/// one, and only when that finds it too before it writes anything.
#[test]
fn refused_writes_note_the_damage_for_the_next_start_that_finds_it_too() {
    let (mut flash, find) = with_identity();
    let map = add_journal(&mut flash);
    let head = find(&flash, "sequence") + 4;
    let home = network("Home", "at least eight");
    let write = |flash: &mut NorMock, known: &mut KnownDamage| {
        with_vault(flash, &map, known, |vault| vault.add_wifi(&home)).unwrap().is_ok()
    };
    let look = |flash: &mut NorMock, known: &mut KnownDamage| {
        with_vault(flash, &map, known, |vault| vault.sequence()).unwrap().unwrap()
    };

    flash.bytes[head] ^= 0x10;
    let mut first = KnownDamage::at(ResetCause::PowerOn);
    assert_eq!([(); 3].map(|()| write(&mut flash, &mut first)), [false; 3], "it reads wrong all this start");
    // It reads right when the next start looks, and wrong when that writes.
    flash.bytes[head] ^= 0x10;
    let mut second = KnownDamage::at(ResetCause::PowerOn);
    assert_eq!(look(&mut flash, &mut second), Some(7));
    flash.bytes[head] ^= 0x10;
    assert!(!write(&mut flash, &mut second), "nothing is given up that was right at this start");
    assert!(write(&mut flash, &mut KnownDamage::at(ResetCause::PowerOn)));
    // What was noted long ago is noted no more when a start in between has found nothing.
    let head = find(&flash, "device_id") + 4;
    for (is_wrong, is_written) in [(true, false), (false, true), (true, false), (true, true)] {
        flash.bytes[head] ^= u8::from(is_wrong);
        assert_eq!(write(&mut flash, &mut KnownDamage::at(ResetCause::PowerOn)), is_written);
        flash.bytes[head] ^= u8::from(is_wrong);
    }
}

/// A supply that read something wrong and then gave way has not changed a moment later.
#[test]
fn after_a_brownout_nothing_is_given_up() {
    let (mut flash, find) = with_identity();
    let map = add_journal(&mut flash);
    let head = find(&flash, "sequence") + 4;
    flash.bytes[head] ^= 0x10;
    let causes = [ResetCause::PowerOn, ResetCause::Brownout, ResetCause::UpdaterCrash, ResetCause::Software];
    let written = causes.map(|cause| {
        let mut known = KnownDamage::at(cause);
        with_vault(&mut flash, &map, &mut known, |vault| vault.set_outcome(b"new")).unwrap().is_ok()
    });
    assert_eq!(written, [false, false, false, true]);
    // With the repair, not at a later start that has nothing to do.
    assert_eq!(noted_damage(&mut flash, &map), 0);
}

/// As bits that a power cut left between 0 and 1 do.
#[test]
fn damage_that_never_reads_twice_the_same_is_given_up_in_the_end() {
    let (mut flash, find) = with_identity();
    let map = add_journal(&mut flash);
    let heads = ["sequence", "key2"].map(|key| find(&flash, key) + 4);
    let written = (0..20).position(|start: usize| {
        let mut known = KnownDamage::at(ResetCause::Software);
        flash.misread = Some((heads[start % 2], 1));
        with_vault(&mut flash, &map, &mut known, |_| Ok(())).unwrap().unwrap();
        flash.misread = Some((heads[(start + 1) % 2], 2));
        with_vault(&mut flash, &map, &mut known, |vault| vault.set_outcome(b"new")).unwrap().is_ok()
    });
    assert_eq!(written, Some(8));
    flash.misread = None;
    let mut known = KnownDamage::at(ResetCause::Software);
    with_vault(&mut flash, &map, &mut known, |vault| vault.set_outcome(b"newer")).unwrap().unwrap();
    assert_eq!(noted_damage(&mut flash, &map), 0);
}

/// What no write repairs is noted once, and keeps nothing from being written.
#[test]
fn damage_that_stays_is_noted_once() {
    let mut flash = provisioned();
    let map = add_journal(&mut flash);
    let at = flash.bytes.windows(4).position(|found| found == b"home").unwrap();
    flash.bytes[at] ^= 1;
    flash.writes = 0;
    let writes = [(); 4].map(|()| {
        let mut known = KnownDamage::at(ResetCause::Software);
        with_vault(&mut flash, &map, &mut known, |vault| vault.load()).unwrap().unwrap();
        std::mem::take(&mut flash.writes)
    });
    assert_eq!(writes, [1, 0, 0, 0]);
    let mut known = KnownDamage::at(ResetCause::Software);
    with_vault(&mut flash, &map, &mut known, |vault| vault.set_outcome(b"new")).unwrap().unwrap();
}

/// A network whose passphrase cannot be read is not taken for an open one.
#[test]
fn a_network_with_a_damaged_passphrase_is_left_out() {
    for text in [&b"secret passphrase"[..], b"home"] {
        let mut flash = provisioned();
        let at = flash.bytes.windows(text.len()).position(|found| found == text).unwrap();
        flash.bytes[at] ^= 1;
        let mut vault = Vault::open(&mut flash, REGION).unwrap();
        assert_eq!(vault.settings().unwrap().wifi, [network("open", "")]);
        assert_ne!(vault.damage(), 0);
    }
}

/// Vaults before a write that has room, one that makes room where nothing is left, and one that moves settings to make room.
fn before_a_write() -> [(NorMock, bool); 3] {
    let save = |flash: &mut NorMock, outcome: &[u8]| {
        Vault::open(flash, REGION).unwrap().set_outcome(outcome).unwrap();
        flash.erases
    };
    let (mut roomy, _) = with_identity();
    save(&mut roomy, &[0; 40]);
    let fill = |flash: &NorMock| {
        let mut full = NorMock { erases: 0, ..flash.clone() };
        (1..).find(|number| {
            let mut next = full.clone();
            let makes_room = save(&mut next, &[*number; 40]) > 0;
            if !makes_room {
                full = next;
            }
            makes_room
        });
        full
    };
    // With a page of every other item there is nothing that is worth less than what is moved.
    let mut crowded = roomy.clone();
    for number in 0..7 {
        let mut vault = Vault::open(&mut crowded, REGION).unwrap();
        vault.add_wifi(&network(&format!("network {number}"), &"long passphrase ".repeat(3))).unwrap();
        vault.set_identity(&[0x42; 120], &vec![anchor(); 3]).unwrap();
        vault.set_record(&[number; 900]).unwrap();
    }
    let (full, crowded) = (fill(&roomy), fill(&crowded));
    [(roomy, false), (full, true), (crowded, true)]
}

/// Any bit of the vault reads wrong for a whole start, in which the updater writes whatever it is let write. The starts after
/// it find everything as it was but for what was written, and can write.
#[test]
fn a_bit_that_reads_wrong_for_a_start_costs_nothing_for_good() {
    let mut moved = 0;
    for (before, makes_room) in before_a_write() {
        let contents = |flash: &NorMock| {
            let mut flash = flash.clone();
            let mut vault = Vault::open(&mut flash, REGION).unwrap();
            // At the second start that finds it.
            let damage = vault.damage();
            vault.accept_damage(damage);
            let contents = vault.load().unwrap();
            let secrets = (contents.key.as_ref().unwrap().clone(), contents.token.as_ref().unwrap().clone());
            (format!("{contents:?}"), secrets, contents.settings, contents.outcome)
        };
        let good = contents(&before);
        assert!(good.2.is_ok());
        let mut refused = 0;
        for address in REGION.offset as usize..(REGION.offset + REGION.size_bytes) as usize {
            // Every bit of headers and states, one of each byte elsewhere.
            let is_head = address % 4096 < 64;
            if !is_head && before.bytes[address..].iter().take(64).all(|byte| *byte == 0xff) {
                continue;
            }
            for bit in (0..8).filter(|bit| is_head || *bit == address % 8) {
                let what = format!("{address:#x}, bit {bit}, makes room: {makes_room}");
                let mut flash =
                    NorMock { misread: Some((address, 1 << bit)), erases: 0, writes: 0, ..before.clone() };
                let written = Vault::open(&mut flash, REGION).unwrap().set_outcome(b"new").is_ok();
                refused += usize::from(!written);
                moved = moved.max(flash.writes);
                flash.misread = None;
                let now = contents(&flash);
                assert_eq!((&now.1, &now.2), (&good.1, &good.2), "{what}");
                if written {
                    assert_eq!((flash.erases > 0, now.3), (makes_room, Ok(Some(b"new".to_vec()))), "{what}");
                } else {
                    assert_eq!(now, good, "{what}");
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    }
    assert!(moved > 20, "no page was moved: {moved} writes");
}
