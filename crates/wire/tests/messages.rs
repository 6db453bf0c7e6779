//! The protocol's bytes: golden files per version, room to grow, rubbish.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use minicbor::Encoder;
use proptest::prelude::*;
use wire::{
    CheckIn, Decision, HandOverStrategy, MAX_PUBLISHERS, MAX_REQUEST_BYTES, MAX_SLOTS, Message, Outcome,
    Reason, Report, ResetCause, Running, Slot,
};

fn full_check_in() -> CheckIn {
    CheckIn {
        protocol: 1,
        running: Some(Running {
            digest: [0x11; 32].into(),
            sequence: Some(7),
            version: Some("1.2.0".into()),
        }),
        slots: vec![
            Slot { label: "ota_0".into(), size_bytes: 0x37_0000, bootable: true },
            Slot { label: "ota_1".into(), size_bytes: 0x37_0000, bootable: false },
        ],
        chip_id: 5,
        updater_version: "0.1.0".into(),
        reset_cause: ResetCause::Panic,
        starts: 42,
        last_outcome: Some(Outcome { sequence: Some(7), reason: Reason::Installed.code() }),
        free_heap_bytes: Some(65_536),
        strategy: HandOverStrategy::ChainLoad,
        critical_errors: 3,
        last_critical: Some(Reason::FlashWrite.code()),
        anchors: None,
        publishers: None,
    }
}

fn first_check_in() -> CheckIn {
    CheckIn {
        protocol: 1,
        running: None,
        slots: vec![Slot { label: "ota_0".into(), size_bytes: 0x2f_0000, bootable: false }],
        chip_id: 5,
        updater_version: "0.1.0".into(),
        reset_cause: ResetCause::PowerOn,
        starts: 1,
        last_outcome: None,
        free_heap_bytes: None,
        strategy: HandOverStrategy::OtadataRollback,
        critical_errors: 0,
        last_critical: None,
        anchors: None,
        publishers: None,
    }
}

/// Code 8 of the reset causes came when a crash of the updater was told apart from one of the application.
fn check_in_after_an_updater_crash() -> CheckIn {
    CheckIn { reset_cause: ResetCause::UpdaterCrash, ..full_check_in() }
}

fn full_decision() -> Decision {
    Decision {
        server_time_s: 1_795_000_000,
        manifest: Some(vec![0xd2, 0x84].into()),
        next_check_s: Some(3600),
        backoff_s: Some(60),
        anchors: None,
        renew: None,
        rotate_key: None,
    }
}

/// Keys 12 of a check-in, 4 and 5 of a decision came with the rollover of the CA.
fn check_in_with_anchors() -> CheckIn {
    CheckIn { anchors: Some([0xa1; 8].into()), ..full_check_in() }
}

/// Key 13 of a check-in came when publishing began to look at which keys devices trust.
fn check_in_with_publishers() -> CheckIn {
    CheckIn { publishers: Some(vec![[0xb1; 8].into(), [0xb2; 8].into()]), ..check_in_with_anchors() }
}

fn decision_with_anchors() -> Decision {
    Decision { anchors: Some([0xa2; 8].into()), renew: Some(true), ..full_decision() }
}

/// Key 6 of a decision came with new keys at renewals.
fn decision_with_a_new_key() -> Decision {
    Decision { rotate_key: Some(true), ..decision_with_anchors() }
}

fn full_report() -> Report {
    Report {
        protocol: 1,
        outcome: Outcome { sequence: None, reason: Reason::ManifestSignature.code() },
        running_digest: Some([0x22; 32].into()),
        downloaded_bytes: Some(1_000_000),
        erased_bytes: Some(1_003_520),
    }
}

/// If this fails, do not change the files: devices and servers in the field speak these bytes.
#[test]
fn golden_bytes_of_version_1() {
    fn check<T: Message + PartialEq + std::fmt::Debug>(golden: &str, message: &T) {
        let golden = hex::decode(golden.trim()).unwrap();
        assert_eq!(&T::from_cbor(&golden).unwrap(), message);
        assert_eq!(hex::encode(message.to_cbor()), hex::encode(golden));
    }
    check(include_str!("golden/check-in-1-full.hex"), &full_check_in());
    check(include_str!("golden/check-in-1-first.hex"), &first_check_in());
    check(include_str!("golden/decision-1-nothing.hex"), &Decision::new(1_795_000_000, None));
    check(include_str!("golden/decision-1-full.hex"), &full_decision());
    check(include_str!("golden/report-1.hex"), &full_report());
    check(include_str!("golden/check-in-1-anchors.hex"), &check_in_with_anchors());
    check(include_str!("golden/check-in-1-publishers.hex"), &check_in_with_publishers());
    check(include_str!("golden/check-in-1-updater-crash.hex"), &check_in_after_an_updater_crash());
    check(include_str!("golden/decision-1-anchors.hex"), &decision_with_anchors());
    check(include_str!("golden/decision-1-new-key.hex"), &decision_with_a_new_key());
}

#[test]
fn a_set_of_anchors_has_one_digest_in_any_order() {
    let (one, other): (&[u8], &[u8]) = (b"one", b"other");
    let digest = wire::anchors_digest([one, other]);
    assert_eq!(digest, wire::anchors_digest([other, one]));
    assert_ne!(digest, wire::anchors_digest([one]));
    assert_ne!(digest, wire::anchors_digest([b"oneother".as_slice()]));
    // Computed by another implementation: Python's hashlib.
    assert_eq!(hex::encode(*digest), "853af5eacb00db26");
}

#[test]
fn keys_of_a_later_version_are_ignored() {
    let mut bytes = full_decision().to_cbor();
    assert_eq!(bytes[0], 0xa4, "a map of four");
    bytes[0] = 0xa6;
    // 90 => {"nested": [1, 2]}, 91 => null
    bytes.extend([0x18, 90, 0xa1, 0x66]);
    bytes.extend(b"nested");
    bytes.extend([0x82, 1, 2, 0x18, 91, 0xf6]);
    assert_eq!(Decision::from_cbor(&bytes).unwrap(), full_decision());
}

#[test]
fn codes_of_a_later_version_are_kept_or_read_as_unknown() {
    let cause = minicbor::to_vec(200u32).unwrap();
    assert_eq!(minicbor::decode::<ResetCause>(&cause).unwrap(), ResetCause::Unknown);
    assert_eq!(minicbor::decode::<HandOverStrategy>(&cause).unwrap(), HandOverStrategy::Other);
    for code in 0..9 {
        let cause = ResetCause::from_code(code);
        assert_eq!(cause == ResetCause::Unknown, code == 0, "code {code} has no cause");
        let bytes = minicbor::to_vec(cause).unwrap();
        assert_eq!(minicbor::decode::<ResetCause>(&bytes).unwrap(), cause);
    }
}

#[test]
fn a_crash_is_the_applications_own() {
    let crashes: Vec<_> = (0..9).map(ResetCause::from_code).filter(|cause| cause.is_crash()).collect();
    assert_eq!(crashes, [ResetCause::Panic, ResetCause::Watchdog]);
}

#[test]
fn a_missing_required_key_and_left_over_bytes_are_refused() {
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes).map(1).unwrap().u8(3).unwrap().u32(60).unwrap();
    let error = Decision::from_cbor(&bytes).unwrap_err();
    assert!(error.to_string().starts_with("expected a decision in CBOR, found: "), "{error}");
    let mut long = full_report().to_cbor();
    long.push(0);
    assert!(Report::from_cbor(&long).is_err());
}

#[test]
fn the_longest_check_in_is_far_below_the_bound() {
    let longest = CheckIn {
        running: Some(Running {
            digest: [0xff; 32].into(),
            sequence: Some(u64::MAX),
            version: Some("v".repeat(31)),
        }),
        slots: vec![Slot { label: "l".repeat(16), size_bytes: u32::MAX, bootable: true }; MAX_SLOTS],
        updater_version: "u".repeat(32),
        starts: u32::MAX,
        last_outcome: Some(Outcome { sequence: Some(u64::MAX), reason: u16::MAX }),
        free_heap_bytes: Some(u32::MAX),
        critical_errors: u32::MAX,
        last_critical: Some(u16::MAX),
        anchors: Some([0xff; 8].into()),
        publishers: Some(vec![[0xff; 8].into(); MAX_PUBLISHERS]),
        ..full_check_in()
    };
    let bytes = longest.to_cbor().len();
    assert!(bytes < MAX_REQUEST_BYTES / 4, "{bytes}");
}

#[test]
fn what_terminals_obey_and_what_turns_text_around_is_not_printable() {
    for char in ['\0', '\n', '\t', '\x1b', '\x7f', '\u{9b}', '\u{61c}', '\u{200e}', '\u{200f}'] {
        assert!(!wire::is_printable(char), "{char:?}");
    }
    assert!(!('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').any(wire::is_printable));
    for char in [' ', 'a', 'ü', 'ع', '漢', '\u{200d}', '\u{2029}', '\u{fffd}', '🚗'] {
        assert!(wire::is_printable(char), "{char:?}");
    }
}

#[test]
fn reason_codes_are_unique_and_documented() {
    for pair in Reason::ALL.windows(2) {
        assert!(pair[0].code() < pair[1].code());
    }
    let protocol = include_str!("../../../docs/protocol.md");
    for &reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(reason));
        let row = format!("| {} | `{}` | {} |", reason.code(), reason.name(), reason.text());
        assert!(protocol.contains(&row), "docs/protocol.md lacks the row\n{row}");
    }
    assert_eq!(Reason::from_code(9999), None);
}

proptest! {
    #[test]
    fn rubbish_never_panics(bytes: Vec<u8>) {
        let _ = CheckIn::from_cbor(&bytes);
        let _ = Decision::from_cbor(&bytes);
        let _ = Report::from_cbor(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(at in 0..400usize, value: u8) {
        let mut bytes = full_check_in().to_cbor();
        let length = bytes.len();
        bytes[at % length] = value;
        let _ = CheckIn::from_cbor(&bytes);
    }

    #[test]
    fn decisions_round_trip(server_time_s: u64, manifest: Option<Vec<u8>>, next_check_s: Option<u32>, backoff_s: Option<u32>) {
        let decision = Decision { server_time_s, manifest: manifest.map(Into::into), next_check_s, backoff_s, ..decision_with_a_new_key() };
        prop_assert_eq!(Decision::from_cbor(&decision.to_cbor()).unwrap(), decision);
    }
}
