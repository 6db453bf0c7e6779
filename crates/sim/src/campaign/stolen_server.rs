//! A stolen server: it has the certificate that devices trust and every release that was ever published, and no
//! publisher key. What it can try is named as The Update Framework names attacks (TUF specification, section 1.5.2);
//! docs/threat-model.md has the table.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use manifest::{Manifest, PublisherSigningKey, Sequence, Signed};
use wire::{Decision, Message as _, ResetCause};

use super::fake_server::{
    Apply, CERTIFICATE_S, Ca, Exchange, FixedKey, PRODUCT, Release, START_S, ServerState, Twist, anchor, ca,
    certify, certs_only, csr, publisher,
};
use super::invariants::{self, Broken, Facts, Invariant, Watch};
use super::lifecycle::{LAYOUTS, Lifecycle, Prepared, prepare};
use super::world::{DEVICE, World, application};
use super::{Outcome, Stage, in_paused_time, lines, note, outcome};
use crate::End;
use crate::impostor::{Content, ReceivedRequest, Reply};

/// Starts of a device under attack.
const STARTS: usize = 3;

/// Chunks of the applications.
const CHUNKS: usize = 3;

/// The releases, by publication: an older one, the one that the device runs, and a newer one.
const RELEASES: [(u64, &str); 3] = [(3, "0.9.0"), (5, "1.0.0"), (6, "1.1.0")];
const OLDER: usize = 0;
const INSTALLED: usize = 1;
const NEWER: usize = 2;

/// Where a device is when its server is stolen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// It runs an application.
    Running,
    /// It is fresh from the factory.
    Factory,
    /// Its certificate is to be renewed.
    Renewal,
}

/// What the thief answers. To other requests the answer is right.
struct Attack {
    name: &'static str,
    begin: Begin,
    twists: &'static [(Exchange, Twisting)],
}

type Twisting = fn(&ServerState, &ReceivedRequest, Reply) -> anyhow::Result<Reply>;

const ATTACKS: [Attack; 36] = [
    // Arbitrary software.
    running("a-stranger-s-release", &[(Exchange::CheckIn, strangers), (Exchange::Artifact, strangers_image)]),
    running(
        "a-stranger-s-release-with-the-publisher-s-key-id",
        &[(Exchange::CheckIn, with_key_id), (Exchange::Artifact, strangers_image)],
    ),
    running(
        "a-stranger-s-release-with-the-publisher-s-signature",
        &[(Exchange::CheckIn, with_signature), (Exchange::Artifact, strangers_image)],
    ),
    running("a-stranger-s-image-for-a-release", &[(Exchange::Artifact, strangers_image)]),
    // Rollback, also by a release that may go back and is not installed.
    running("an-older-release", &[(Exchange::CheckIn, older)]),
    running("a-number-used-twice", &[(Exchange::CheckIn, number_used_twice)]),
    // Freeze.
    running("nothing-new-for-ever", &[(Exchange::CheckIn, nothing_new)]),
    running("the-installed-release-for-ever", &[(Exchange::CheckIn, installed)]),
    running("an-expired-release", &[(Exchange::CheckIn, expired)]),
    // Mix-and-match.
    running("the-bytes-of-another-release", &[(Exchange::Artifact, bytes_of_the_older)]),
    running("a-chunk-of-another-release", &[(Exchange::Artifact, chunk_of_the_older)]),
    running("chunks-in-another-order", &[(Exchange::Artifact, chunks_in_another_order)]),
    running("half-an-image", &[(Exchange::Artifact, half_an_image)]),
    running("an-image-and-more", &[(Exchange::Artifact, image_and_more)]),
    // Wrong target.
    running("another-product-s-release", &[(Exchange::CheckIn, another_products)]),
    running("another-chip-s-release", &[(Exchange::CheckIn, another_chips)]),
    running("a-release-for-a-larger-slot", &[(Exchange::CheckIn, for_a_larger_slot)]),
    // Time, and hints about it.
    running("time-at-its-end", &[(Exchange::CheckIn, time_at_its_end)]),
    running("time-at-its-beginning", &[(Exchange::CheckIn, time_at_its_beginning)]),
    running("come-back-in-136-years", &[(Exchange::CheckIn, come_back_never)]),
    factory("come-back-in-136-years", &[(Exchange::CheckIn, come_back_never)]),
    running("503-for-136-years", &[(Exchange::CheckIn, unavailable)]),
    factory("503-for-136-years", &[(Exchange::CheckIn, unavailable)]),
    factory("enrollment-503-for-136-years", &[(Exchange::Enroll, unavailable)]),
    factory("a-stranger-s-release", &[(Exchange::CheckIn, strangers), (Exchange::Artifact, strangers_image)]),
    // Identity.
    running("a-renewal-at-every-start", &[(Exchange::CheckIn, renew)]),
    factory("a-certificate-for-another-key", &[(Exchange::Enroll, for_another_key)]),
    factory("a-certificate-of-another-ca", &[(Exchange::Enroll, of_another_ca)]),
    factory("a-certificate-that-has-ended", &[(Exchange::Enroll, that_has_ended)]),
    factory("the-ca-s-own-certificate", &[(Exchange::Enroll, ca_itself)]),
    renewal("a-certificate-for-another-key", &[(Exchange::Renew, for_another_key)]),
    renewal("a-certificate-of-another-ca", &[(Exchange::Renew, of_another_ca)]),
    renewal("a-certificate-that-has-ended", &[(Exchange::Renew, that_has_ended)]),
    renewal("the-ca-s-own-certificate", &[(Exchange::Renew, ca_itself)]),
    // Trust anchors.
    running(
        "the-thief-s-trust-anchor-alone",
        &[(Exchange::CheckIn, announce_the_thiefs), (Exchange::Anchors, thiefs_anchor)],
    ),
    running(
        "the-thief-s-trust-anchor-too",
        &[(Exchange::CheckIn, announce_both), (Exchange::Anchors, both_anchors)],
    ),
];

const fn running(name: &'static str, twists: &'static [(Exchange, Twisting)]) -> Attack {
    Attack { name, begin: Begin::Running, twists }
}

const fn factory(name: &'static str, twists: &'static [(Exchange, Twisting)]) -> Attack {
    Attack { name, begin: Begin::Factory, twists }
}

const fn renewal(name: &'static str, twists: &'static [(Exchange, Twisting)]) -> Attack {
    Attack { name, begin: Begin::Renewal, twists }
}

fn stranger() -> anyhow::Result<PublisherSigningKey> {
    Ok(PublisherSigningKey::new(p256::SecretKey::from_slice(&[2; 32])?))
}

fn release(state: &ServerState, index: usize) -> anyhow::Result<&Release> {
    state.releases.get(index).context("a release that the server does not have")
}

/// The same answer to a check-in, with another decision.
///
/// # Errors
/// It is no decision.
pub fn decide(reply: Reply, change: impl FnOnce(&mut Decision)) -> anyhow::Result<Reply> {
    let Content::Answer { body, .. } = reply.content else { anyhow::bail!("expected a decision") };
    let mut decision = Decision::from_cbor(&body)?;
    change(&mut decision);
    Ok(Reply::ok(wire::MEDIA_TYPE, &decision.to_cbor()))
}

fn offer(reply: Reply, manifest: &[u8]) -> anyhow::Result<Reply> {
    decide(reply, |decision| decision.manifest = Some(manifest.to_vec().into()))
}

/// The newer release, changed by its publisher.
fn offer_changed(
    state: &ServerState,
    reply: Reply,
    change: impl FnOnce(&mut Manifest),
) -> anyhow::Result<Reply> {
    let mut manifest = release(state, NEWER)?.manifest.clone();
    change(&mut manifest);
    offer(reply, Signed::sign(&manifest, &publisher()?)?.as_bytes())
}

fn strangers_bytes() -> anyhow::Result<Vec<u8>> {
    application("6.6.6", CHUNKS)
}

fn strangers_manifest() -> anyhow::Result<Vec<u8>> {
    let chip_id = flashfmt::Chip::Esp32C3.id();
    let manifest = Manifest::describe(&strangers_bytes()?, Sequence(7), PRODUCT, chip_id, "6.6.6")?;
    Ok(Signed::sign(&manifest, &stranger()?)?.as_bytes().to_vec())
}

fn strangers(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer(reply, &strangers_manifest()?)
}

fn strangers_image(_: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    Ok(Reply::artifact(&strangers_bytes()?))
}

fn with_key_id(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    let mut bytes = strangers_manifest()?;
    let (ours, theirs) = (stranger()?.publisher_key().id(), publisher()?.publisher_key().id());
    let at = bytes.windows(ours.len()).position(|window| window == ours).context("no key id")?;
    bytes[at..at + theirs.len()].copy_from_slice(&theirs);
    offer(reply, &bytes)
}

fn with_signature(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    /// r and s (RFC 9053 section 2.1), the end of the message.
    const SIGNATURE_BYTES: usize = 64;
    let mut bytes = strangers_manifest()?;
    let (body_bytes, signed) = (bytes.len() - SIGNATURE_BYTES, &release(state, NEWER)?.signed);
    bytes[body_bytes..].copy_from_slice(&signed[signed.len() - SIGNATURE_BYTES..]);
    offer(reply, &bytes)
}

fn older(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer(reply, &release(state, OLDER)?.signed)
}

fn number_used_twice(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer_changed(state, reply, |manifest| manifest.sequence = Sequence(RELEASES[INSTALLED].0))
}

fn nothing_new(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    decide(reply, |decision| decision.manifest = None)
}

fn installed(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer(reply, &release(state, INSTALLED)?.signed)
}

fn expired(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer_changed(state, reply, |manifest| manifest.expires_at_s = Some(START_S - 1))
}

fn bytes_of_the_older(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    Ok(Reply::artifact(&release(state, OLDER)?.image))
}

/// The newer image, after a change to its bytes.
fn changed_image(state: &ServerState, change: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<Reply> {
    let mut image = release(state, NEWER)?.image.to_vec();
    change(&mut image);
    Ok(Reply::artifact(&image))
}

const CHUNK: usize = manifest::CHUNK_BYTES as usize;

fn chunk_of_the_older(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    let older = &release(state, OLDER)?.image;
    changed_image(state, |image| image[CHUNK..2 * CHUNK].copy_from_slice(&older[CHUNK..2 * CHUNK]))
}

fn chunks_in_another_order(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    changed_image(state, |image| image[..2 * CHUNK].rotate_left(CHUNK))
}

fn half_an_image(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    changed_image(state, |image| image.truncate(image.len() / 2))
}

fn image_and_more(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    changed_image(state, |image| image.resize(image.len() + CHUNK, 0))
}

fn another_products(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer_changed(state, reply, |manifest| manifest.product = "heater".to_owned())
}

fn another_chips(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer_changed(state, reply, |manifest| manifest.chip_id = flashfmt::Chip::Esp32C6.id())
}

fn for_a_larger_slot(state: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    offer_changed(state, reply, |manifest| manifest.min_slot_bytes = u32::MAX)
}

fn time_at_its_end(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    decide(reply, |decision| decision.server_time_s = u64::MAX)
}

fn time_at_its_beginning(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    decide(reply, |decision| decision.server_time_s = 0)
}

fn come_back_never(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    decide(reply, |decision| {
        decision.manifest = None;
        decision.next_check_s = Some(u32::MAX);
        decision.backoff_s = Some(u32::MAX);
    })
}

fn unavailable(_: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    let headers = vec![("Retry-After".to_owned(), u32::MAX.to_string())];
    Ok(Reply::new(Content::Answer { status: 503, headers, body: Vec::new() }))
}

fn renew(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    decide(reply, |decision| decision.renew = Some(true))
}

fn for_another_key(state: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    Ok(certify(ca()?, DEVICE, &FixedKey::new(8)?, state.time_s)?.1)
}

fn of_another_ca(state: &ServerState, request: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    Ok(certify(&thief()?, DEVICE, &csr(request)?.public_key, state.time_s)?.1)
}

fn that_has_ended(_: &ServerState, request: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    Ok(certify(ca()?, DEVICE, &csr(request)?.public_key, START_S - 2 * CERTIFICATE_S)?.1)
}

fn ca_itself(_: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    certs_only(&[anchor()?])
}

/// A CA with the name of the server's.
fn thief() -> anyhow::Result<Ca> {
    Ca::new("server CA", 9)
}

fn announce(reply: Reply, anchors: &[&[u8]]) -> anyhow::Result<Reply> {
    let digest = wire::anchors_digest(anchors.iter().copied());
    decide(reply, |decision| decision.anchors = Some(digest))
}

fn announce_the_thiefs(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    announce(reply, &[&thief()?.der])
}

fn thiefs_anchor(_: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    certs_only(&[&thief()?.der])
}

fn announce_both(_: &ServerState, _: &ReceivedRequest, reply: Reply) -> anyhow::Result<Reply> {
    announce(reply, &[anchor()?, &thief()?.der])
}

fn both_anchors(_: &ServerState, _: &ReceivedRequest, _: Reply) -> anyhow::Result<Reply> {
    certs_only(&[anchor()?, &thief()?.der])
}

/// An attack on a device.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    layout: usize,
    attack: usize,
}

/// Devices of one layout, where attacks begin.
pub struct StolenServerStage {
    layout: usize,
    running: Arc<Prepared>,
    factory: Arc<Prepared>,
    renewal: Arc<Prepared>,
}

impl StolenServerStage {
    /// Prepares the devices.
    ///
    /// # Errors
    /// What should go well did not.
    pub fn new(layout: usize) -> anyhow::Result<Self> {
        let name = LAYOUTS[layout];
        in_paused_time(async {
            Ok(Self {
                layout,
                running: Arc::new(run_the_second(name).await?),
                factory: Arc::new(prepare(name, Lifecycle::FirstStart).await?),
                renewal: Arc::new(prepare(name, Lifecycle::Renewal).await?),
            })
        })
    }

    /// All attacks.
    pub fn cases(&self) -> Vec<Case> {
        (0..ATTACKS.len()).map(|attack| Case { layout: self.layout, attack }).collect()
    }
}

/// A device that runs the second of three releases; the third may return to the first.
async fn run_the_second(layout: &'static str) -> anyhow::Result<Prepared> {
    let mut world = World::manufacture(layout)?;
    publish(&world, OLDER, Vec::new())?;
    publish(&world, INSTALLED, Vec::new())?;
    let end = world.device.power_on().await?;
    anyhow::ensure!(
        matches!(&end, End::Running(app) if app.version() == RELEASES[INSTALLED].1),
        "expected {}, found {end:?}",
        RELEASES[INSTALLED].1
    );
    let goal = publish(&world, NEWER, vec![Sequence(RELEASES[OLDER].0)])?;
    Ok(Prepared { world: world.snapshot(layout), defects: Vec::new(), goal })
}

fn publish(world: &World, index: usize, revert_to: Vec<Sequence>) -> anyhow::Result<usize> {
    let (sequence, version) = RELEASES[index];
    world.server.state().publish(sequence, version, application(version, CHUNKS)?, revert_to)
}

impl Stage for StolenServerStage {
    type Case = Case;

    fn run(&self, case: &Case) -> anyhow::Result<(Outcome, Vec<String>)> {
        let attack = &ATTACKS[case.attack];
        let prepared = match attack.begin {
            Begin::Running => &self.running,
            Begin::Factory => &self.factory,
            Begin::Renewal => &self.renewal,
        };
        in_paused_time(async {
            let mut world = prepared.world.restore(1)?;
            let trace = world.trace();
            let layout = world.device.layout().clone();
            let before = Facts::of(prepared.world.flash(), &layout)?;
            let twists = attack.twists.iter();
            world.server.state().twists =
                twists.map(|&(exchange, apply)| Twist { exchange, apply: Apply::WithState(apply) }).collect();
            for _ in 0..STARTS {
                let watch = Watch::begin(&world)?;
                let end = world.device.reset(ResetCause::Software).await?;
                note(&trace, &end);
                let now = Facts::of(world.device.flash.bytes(), &layout)?;
                let held = watch
                    .end(&world, &end)
                    .and_then(|()| invariants::after_the_fault(&before, &now))
                    .and_then(|()| nothing_older_runs(&world, &before, &end));
                if let Err(broken) = held {
                    return Ok((Outcome::Broken(broken), lines(&trace)));
                }
            }
            // The server is its owner's again.
            world.server.state().twists.clear();
            let recovered = invariants::recovers(&mut world, prepared.goal, &before).await?;
            Ok((outcome(recovered), lines(&trace)))
        })
    }
}

/// Of the releases that the server has, the one that ran before may run, or a newer one.
fn nothing_older_runs(world: &World, before: &Facts, end: &End) -> Result<(), Broken> {
    let End::Running(app) = end else { return Ok(()) };
    let state = world.server.state();
    let release =
        state.releases.iter().find(|release| release.manifest.artifact.digest.0 == app.image.digest);
    match (release, &before.record) {
        (Some(release), Some(record)) if release.manifest.sequence < record.sequence => {
            let found = format!("release {} runs after {}", release.manifest.sequence, record.sequence);
            Err(Broken::new(Invariant::Signed, found))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attack { name, begin, .. } = &ATTACKS[self.attack];
        let begin = match begin {
            Begin::Running => "running",
            Begin::Factory => "factory",
            Begin::Renewal => "renewal",
        };
        write!(f, "stolen-server:{}:{begin}:{name}", LAYOUTS[self.layout])
    }
}
