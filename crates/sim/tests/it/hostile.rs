//! A stolen server: the device meets an impostor that holds the real server's key, or another one, and says whatever
//! it likes. The installed application is started all the same, in time, and once the real server is back the device
//! updates.

use std::error::Error;
use std::iter;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Bed, PRODUCT, application, offer, publisher};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::x509::Certificate;
use cms::content_info::ContentInfo;
use der::{Decode as _, Encode as _};
use manifest::{Manifest, Sequence, Signed};
use sim::device::host_time_s;
use sim::impostor::{Content, Delivery, Impostor, Length, RangeAnswer, Reply, Rule};
use sim::pki::{Identity, ServerLeaf, TestCa, Validity};
use sim::{End, VirtualDevice};
use tokio::task::JoinSet;
use updater::limits::BUDGET_MS;
use updater_io::board::Observed;
use wire::{Decision, MAX_DECISION_BYTES, Message, Reason};

/// What is installed before the impostor appears; there are older releases.
const INSTALLED: u64 = 10;
/// What the real server has once it is back.
const NEWER: u64 = 11;

struct Case {
    name: &'static str,
    /// `None`: the real server's.
    identity: Option<Identity>,
    rules: Vec<Rule>,
    /// Why the pit stop ends.
    reason: Reason,
    /// A part of what the updater says on the way.
    says: &'static str,
    touches: Touches,
}

/// What of the flash may be different after the pit stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touches {
    /// Nothing at all.
    Nothing,
    /// The vault, where a refusal is noted.
    Vault,
    /// Also the slot from which no application runs.
    SpareSlot,
    /// The one slot: no application is left, and the device waits for its next try.
    OnlySlot,
}

/// Lets a device per case meet its impostor, and then all of them the real server again. It offers its release at
/// once, although some devices have refused what the impostor gave out for it; by default it lets an hour pass.
async fn run(layout: &str, anchors: &[&[u8]], cases: Vec<Case>) {
    let bed = Arc::new(Bed::start_with(layout, |config| config.refusal_backoff_s = 0).await);
    bed.publish(INSTALLED, "1.0.0", &application("1.0.0", 3));
    let mut meetings = JoinSet::new();
    for (index, case) in cases.into_iter().enumerate() {
        let anchors: Vec<_> =
            iter::once(bed.server.ca_certificate_der()).chain(anchors.iter().copied()).collect();
        let device = bed.manufacture_trusting(&format!("lamp-{index}"), &anchors);
        meetings.spawn(meet(Arc::clone(&bed), device, case));
    }
    let survivors = meetings.join_all().await;
    bed.publish(NEWER, "1.1.0", &application("1.1.0", 3));
    for (name, mut device) in survivors {
        bed.lead(&mut device, None);
        let End::Running(app) = device.power_on().await.unwrap() else { panic!("{name}: nothing runs") };
        assert_eq!(
            (app.version(), app.reason),
            ("1.1.0", Some(Reason::Installed)),
            "{name}: the real server again"
        );
        assert_eq!(device.flash.violations(), [], "{name}");
    }
}

async fn meet(bed: Arc<Bed>, mut device: VirtualDevice, case: Case) -> (&'static str, VirtualDevice) {
    let Case { name, identity, rules, reason, says, touches } = case;
    let End::Running(app) = device.power_on().await.unwrap() else { panic!("{name}: nothing runs at first") };
    assert_eq!((app.version(), app.slot.as_str()), ("1.0.0", "ota_0"), "{name}: at first");
    let before = device.flash.bytes().to_vec();
    let said = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&said);
    device.set_observer(move |observed| {
        if let Observed::Fault { error, .. } = observed {
            hears.lock().unwrap().push(text(error));
        }
    });

    let identity = identity.unwrap_or_else(|| bed.stolen_identity());
    let impostor = Impostor::start(&identity, rules).await.unwrap();
    bed.lead(&mut device, Some(&impostor));
    let start = Instant::now();
    let end = device.power_on().await.unwrap();
    let elapsed = start.elapsed();
    let said = said.lock().unwrap().join("\n");
    assert!(elapsed < Duration::from_millis(BUDGET_MS), "{name}: took {elapsed:?}");
    match end {
        // The only slot is given up for what looks good at its start, and for nothing else.
        End::Running(app) => {
            assert_eq!(app.version(), "1.0.0", "{name}: {said}");
            // Headers are asked for one by one, and may be what is wrong first.
            let by_headers = touches == Touches::OnlySlot && app.reason == Some(Reason::ImageInvalid);
            assert!(by_headers || app.reason == Some(reason), "{name}: {:?}: {said}", app.reason);
            assert_eq!(app.slot, "ota_0", "{name}");
        }
        End::Waiting { reason: found, .. } if touches == Touches::OnlySlot => {
            assert_eq!(found, reason, "{name}: {said}");
        }
        End::Waiting { .. } | End::Dead(_) | End::PowerLost => {
            panic!("{name}: {end:?}: {said}")
        }
    }
    assert!(said.contains(says), "{name}: expected `{says}`, found: {said}");
    assert_eq!(device.flash.violations(), [], "{name}");
    let untouched: &[&str] = match touches {
        Touches::Nothing => &["factory", "vault", "journal", "nvs", "ota_0"],
        Touches::Vault => &["factory", "journal", "nvs", "ota_0"],
        Touches::SpareSlot => &["factory", "journal", "nvs", "ota_0"],
        Touches::OnlySlot => &["factory", "journal", "nvs"],
    };
    for label in untouched {
        let partition = device.layout().find_label(label).unwrap();
        let range = partition.offset as usize..(partition.offset + partition.size) as usize;
        assert!(device.flash.bytes()[range.clone()] == before[range], "{name}: {label} has changed");
    }
    (name, device)
}

/// What an error and its sources say.
fn text(error: &(dyn Error + 'static)) -> String {
    let sources = iter::successors(Some(error), |error| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn answer(reply: Reply) -> Rule {
    Rule::new("POST", wire::CHECK_IN_PATH, reply)
}

/// A case in which the answer to the check-in is wrong.
fn check_in(name: &'static str, reply: Reply, reason: Reason) -> Case {
    Case { name, identity: None, rules: vec![answer(reply)], reason, says: "", touches: Touches::Nothing }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_answers_to_check_ins() {
    let nothing_new = Decision::new(u64::from(host_time_s()), None).to_cbor();
    let good = || Reply::ok(wire::MEDIA_TYPE, &nothing_new);
    let raw = |text: &str| Reply::new(Content::Garbage(text.as_bytes().to_vec()));
    let long_field = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(10_000));
    let cases = vec![
        check_in("garbage", raw("SSH-2.0-OpenSSH_9.6\r\n"), Reason::ServerProtocol),
        check_in("binary garbage", Reply::new(Content::Garbage(vec![0; 5000])), Reason::ServerProtocol),
        check_in("close at once", Reply::new(Content::Close), Reason::ConnectionLost),
        check_in("400", Reply::status(400), Reason::ServerProtocol),
        check_in("401", Reply::status(401), Reason::DeviceRefused),
        check_in("500", Reply::status(500), Reason::ServerFailed),
        check_in("204 instead of a decision", Reply::status(204), Reason::ServerProtocol),
        check_in("redirect", Reply::redirect("https://other.invalid/"), Reason::ServerProtocol),
        check_in("another protocol", raw("HTTP/1.1 101 Upgrade\r\n\r\n"), Reason::ServerProtocol),
        check_in("interim responses", raw(&"HTTP/1.1 100 Go on\r\n\r\n".repeat(100)), Reason::ServerProtocol),
        check_in("endless head", raw(&long_field), Reason::ServerProtocol),
        check_in(
            "two lengths",
            raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            Reason::ServerProtocol,
        ),
        check_in("no CBOR", Reply::ok(wire::MEDIA_TYPE, b"<html>"), Reason::ServerProtocol),
        check_in("an empty decision", Reply::ok(wire::MEDIA_TYPE, b""), Reason::ServerProtocol),
        check_in(
            "an array of 2^64 - 1 items",
            Reply::ok(wire::MEDIA_TYPE, &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255]),
            Reason::ServerProtocol,
        ),
        check_in("nested without end", Reply::ok(wire::MEDIA_TYPE, &[0x81; 10_000]), Reason::ServerProtocol),
        check_in(
            "a decision one byte too long",
            Reply::ok(wire::MEDIA_TYPE, &vec![0; MAX_DECISION_BYTES + 1]),
            Reason::ServerProtocol,
        ),
        check_in("length too large", good().length(Length::TooLarge { by_bytes: 1 }), Reason::ConnectionLost),
        check_in("length too small", good().length(Length::TooSmall { by_bytes: 1 }), Reason::ServerProtocol),
        check_in("no length", good().length(Length::Absent), Reason::ServerProtocol),
        check_in("chunked", good().length(Length::Chunked), Reason::ServerProtocol),
        check_in("endless body", Reply::new(Content::Endless), Reason::ServerProtocol),
        check_in(
            "endless, chunked",
            Reply::new(Content::Endless).length(Length::Chunked),
            Reason::ServerProtocol,
        ),
        check_in(
            "truncated, with close_notify",
            good().delivery(Delivery::CloseAfter { bytes: 1, close_notify: true }),
            Reason::ConnectionLost,
        ),
        check_in(
            "truncated, without close_notify",
            good().delivery(Delivery::CloseAfter { bytes: 1, close_notify: false }),
            Reason::ConnectionLost,
        ),
        check_in("silence", good().delivery(Delivery::StallAfter { bytes: 0 }), Reason::Timeout),
        check_in("stall in the body", good().delivery(Delivery::StallAfter { bytes: 1 }), Reason::Timeout),
        check_in(
            "a byte in three seconds",
            good().delivery(Delivery::Trickle { per_byte_ms: 3000 }),
            Reason::Timeout,
        ),
    ];
    run("4mb", &[], cases).await;
}

/// The newer release as the publisher describes it.
fn newer() -> Manifest {
    Manifest::describe(&application("1.1.0", 3), Sequence(NEWER), PRODUCT, 5, "1.1.0").unwrap()
}

/// A case in which the impostor offers a release that must not be installed. It has the bytes, too.
fn release(name: &'static str, manifest: &Signed<Manifest>, reason: Reason) -> Case {
    let bytes = Rule::new("GET", wire::ARTIFACTS_PATH, Reply::artifact(&application("1.1.0", 3)));
    Case {
        name,
        identity: None,
        rules: vec![offer(manifest), bytes],
        reason,
        says: "",
        touches: Touches::Vault,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_that_must_be_refused() {
    let signed = |change: fn(&mut Manifest)| {
        let mut manifest = newer();
        change(&mut manifest);
        Signed::sign(&manifest, &publisher(1)).unwrap()
    };
    let changed = |offset: fn(&[u8]) -> usize| {
        let mut bytes = signed(|_| {}).as_bytes().to_vec();
        let offset = offset(&bytes);
        bytes[offset] ^= 1;
        Signed::from_bytes(bytes)
    };
    let version = |bytes: &[u8]| bytes.windows(5).position(|window| window == b"1.1.0").unwrap();
    let cases = vec![
        release(
            "a stranger's key",
            &Signed::sign(&newer(), &publisher(2)).unwrap(),
            Reason::ManifestSignature,
        ),
        release("a changed byte of the manifest", &changed(version), Reason::ManifestSignature),
        release(
            "a changed byte of the signature",
            &changed(|bytes| bytes.len() - 1),
            Reason::ManifestSignature,
        ),
        release("no manifest", &Signed::from_bytes(b"manifest".to_vec()), Reason::ManifestMalformed),
        release("a manifest of no bytes", &Signed::from_bytes(Vec::new()), Reason::ManifestMalformed),
        release("an older one", &signed(|m| m.sequence = Sequence(INSTALLED - 1)), Reason::SequenceOlder),
        release("a number used twice", &signed(|m| m.sequence = Sequence(INSTALLED)), Reason::SequenceReused),
        release("another product's", &signed(|m| m.product = "heater".into()), Reason::ProductMismatch),
        release("another chip's", &signed(|m| m.chip_id = 13), Reason::ChipMismatch),
        release("too large for the slot", &signed(|m| m.min_slot_bytes = 0x2f_0001), Reason::ImageTooLarge),
        release("expired", &signed(|m| m.expires_at_s = Some(1_700_000_000)), Reason::ManifestExpired),
    ];
    run("4mb", &[], cases).await;
}

/// A case in which the release is right and what comes for its artifact is not.
fn artifact(name: &'static str, reply: Reply, reason: Reason) -> Case {
    let manifest = Signed::sign(&newer(), &publisher(1)).unwrap();
    let rules = vec![offer(&manifest), Rule::new("GET", wire::ARTIFACTS_PATH, reply)];
    Case { name, identity: None, rules, reason, says: "", touches: Touches::SpareSlot }
}

fn bad_artifacts() -> Vec<Case> {
    let bytes = application("1.1.0", 3);
    let good = || Reply::artifact(&bytes);
    let range = |range| Reply::new(Content::Artifact { bytes: bytes.clone(), range });
    let mut other_bytes = bytes.clone();
    other_bytes.reverse();
    vec![
        artifact("404", Reply::status(404), Reason::ArtifactMissing),
        artifact("500", Reply::status(500), Reason::ServerFailed),
        artifact("garbage", Reply::new(Content::Garbage(b"SSH-2.0\r\n".to_vec())), Reason::ServerProtocol),
        artifact("close at once", Reply::new(Content::Close), Reason::ConnectionLost),
        artifact("200 in place of 206", range(RangeAnswer::Ignored), Reason::ServerProtocol),
        artifact("endless", Reply::new(Content::Endless), Reason::ServerProtocol),
        artifact("wrong Content-Range", range(RangeAnswer::WrongContentRange), Reason::ServerProtocol),
        artifact("wrong bytes", range(RangeAnswer::WrongBytes), Reason::ChunkDigest),
        artifact("another artifact", Reply::artifact(&other_bytes), Reason::ChunkDigest),
        artifact(
            "a changed byte",
            good().delivery(Delivery::CorruptByte { offset: 40_000 }),
            Reason::ChunkDigest,
        ),
        artifact("length too large", good().length(Length::TooLarge { by_bytes: 1 }), Reason::ServerProtocol),
        artifact("length too small", good().length(Length::TooSmall { by_bytes: 1 }), Reason::ServerProtocol),
        artifact("no length", good().length(Length::Absent), Reason::ServerProtocol),
        artifact("chunked", good().length(Length::Chunked), Reason::ServerProtocol),
        artifact(
            "truncated, with close_notify",
            good().delivery(Delivery::CloseAfter { bytes: 30_000, close_notify: true }),
            Reason::ConnectionLost,
        ),
        artifact(
            "truncated, without close_notify",
            good().delivery(Delivery::CloseAfter { bytes: 30_000, close_notify: false }),
            Reason::ConnectionLost,
        ),
    ]
}

/// The publisher's own mistakes: signed, with the right digests, and yet nothing that the chip can start.
fn bad_images() -> Vec<Case> {
    let mut for_another_chip = application("1.1.0", 3);
    for_another_chip[12] = 13;
    // Whole, but for the chip: its own hash is right too.
    let (hashed, hash) = for_another_chip.split_last_chunk_mut::<32>().unwrap();
    *hash = manifest::Digest::of(hashed).0;
    let another_chip = "image is for esp32c6, this is esp32c3";
    [
        ("no image", vec![7; 150_000], "not an ESP image"),
        ("an image for another chip", for_another_chip, another_chip),
    ]
    .map(|(name, image, says)| {
        let manifest = Manifest::describe(&image, Sequence(NEWER), PRODUCT, 5, "1.1.0").unwrap();
        let mut case = Case { says, ..artifact(name, Reply::artifact(&image), Reason::ImageInvalid) };
        case.rules[0] = offer(&Signed::sign(&manifest, &publisher(1)).unwrap());
        case
    })
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_slots_bad_artifacts_leave_the_application_alone() {
    run("8mb", &[], bad_artifacts().into_iter().chain(bad_images()).collect()).await;
}

/// One slot is overwritten in place. Without a good artifact nothing runs until one comes, and then it does.
#[tokio::test(flavor = "multi_thread")]
async fn with_one_slot_bad_artifacts_are_recovered_from() {
    let mut cases: Vec<_> = bad_artifacts().into_iter().chain(bad_images()).collect();
    cases.iter_mut().for_each(|case| case.touches = Touches::OnlySlot);
    run("4mb", &[], cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_must_be_refused() {
    let trusted = TestCa::new("trusted").unwrap();
    let other = TestCa::new("trusted").unwrap();
    let device = trusted.device("lamp-99", Validity::GOOD).unwrap();
    let usurped = TestCa::usurped(&device).unwrap();
    let case = |name, identity: Identity, says| {
        let rules = vec![answer(Reply::status(500))];
        Case {
            name,
            identity: Some(identity),
            rules,
            reason: Reason::TlsRefused,
            says,
            touches: Touches::Nothing,
        }
    };
    let good = ServerLeaf::good();
    let cases = vec![
        // The counterpart: with a right certificate the updater goes on to ask, and hears 500.
        Case {
            reason: Reason::ServerFailed,
            ..case("a right certificate", trusted.server(&good).unwrap(), "found 500")
        },
        case("another CA's", other.server(&good).unwrap(), "has a wrong signature"),
        case("another name", trusted.server(&ServerLeaf::wrong_name()).unwrap(), "is for another name"),
        case("expired", trusted.server(&ServerLeaf::expired()).unwrap(), "expired"),
        case("not yet valid", trusted.server(&ServerLeaf::not_yet_valid()).unwrap(), "not valid yet"),
        case("for clients only", trusted.server(&ServerLeaf::client_only()).unwrap(), "extended key usage"),
        case("a device's", device, "extended key usage"),
        case("issued by a device", usurped.server(&good).unwrap(), "breaks a rule for certificates"),
    ];
    run("4mb", &[trusted.certificate_der()], cases).await;
}

/// Whoever holds the server's key could lock every device out with trust anchors of his own, and not even the real
/// server would be let in again. The devices try them on the server that they speak to, and keep their own.
#[tokio::test(flavor = "multi_thread")]
async fn anchors_that_would_lock_the_device_out_are_refused() {
    let other = TestCa::new("another").unwrap();
    let certificate = Certificate::from_der(other.certificate_der()).unwrap();
    let message = ContentInfo::try_from(certificate).unwrap().to_der().unwrap();
    let anchors = Reply::ok("application/pkcs7-mime", STANDARD.encode(message).as_bytes());
    let decision = Decision {
        anchors: Some(wire::anchors_digest([other.certificate_der()])),
        ..Decision::new(u64::from(host_time_s()), Some(b"no manifest".to_vec()))
    };
    let case = Case {
        rules: vec![
            answer(Reply::ok(wire::MEDIA_TYPE, &decision.to_cbor())),
            Rule::new("GET", "/.well-known/est/cacerts", anchors),
        ],
        says: "the server is not to be trusted",
        touches: Touches::Vault,
        ..check_in("anchors of another CA", Reply::status(500), Reason::ManifestMalformed)
    };
    run("4mb", &[], vec![case]).await;
}
