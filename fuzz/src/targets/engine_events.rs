//! The update engine with any answers in any order, true or not, from any device: what it must not do, whatever it is
//! told (`crates/updater/tests/world/promise.rs`).

use crate::engine::{Offer, Sometimes};
use crate::world::promise::{Watch, limit_ms};
use crate::world::{World, certified, enrolling, first_chunk, key, token};
use arbitrary::Arbitrary;
use manifest::Digest;
use updater::{
    Action, Anchors, CertificateLife, Chain, Event, Identity, ImageFacts, InstallRecord, Phase, Retained,
    Scope, SlotContent, SlotIndex, Start, Survey, start, step,
};
use wire::{Decision, HandOverStrategy, Outcome, Reason, ResetCause};

#[derive(Arbitrary, Debug)]
pub struct Input {
    device: Device,
    offers: Vec<Offer>,
    /// How much of its time an action takes, unless its answer says otherwise.
    pace: u8,
    /// Beside the good ones.
    answers: Vec<(u8, Answer)>,
}

/// A device as its survey says that it is.
#[derive(Arbitrary, Debug)]
struct Device {
    retained_bits: Option<u32>,
    crashes: u8,
    phase: u8,
    cause: u8,
    slots: Vec<(Holds, u16)>,
    record: Option<(u8, u8)>,
    last_outcome: Option<(Option<u64>, u16)>,
    vault: Option<u8>,
    identity: Option<Option<(u64, u64)>>,
    time_floor_s: u32,
    otadata: bool,
    confirmed_itself: bool,
    jitter: u32,
}

/// What a slot holds.
#[derive(Arbitrary, Debug)]
enum Holds {
    Nothing,
    Rubbish,
    Image,
}

#[derive(Arbitrary, Debug)]
struct Answer {
    event: Option<AnyEvent>,
    /// How much of its time the action takes.
    took: u8,
}

#[derive(Arbitrary, Debug)]
enum AnyEvent {
    Joined(Option<u32>),
    KeyStored,
    CertificateIssued(u64, u64),
    AnchorsFetched([u8; 8]),
    Saved,
    Decided {
        offer: Option<u8>,
        server_time_s: u64,
        anchors: Option<[u8; 8]>,
        renew: bool,
        backoff_s: Option<u32>,
        not_after_s: Option<u64>,
    },
    Previewed {
        offer: u8,
    },
    ChunkHashed {
        offer: u8,
        chunk: u8,
    },
    FirstChunkHashed {
        offer: u8,
    },
    OtherChunk([u8; 32]),
    Invalidated,
    Sealed,
    SlotVerified {
        offer: u8,
    },
    OtherImage([u8; 32]),
    Reported,
    Failed(u8),
    PutOff(u8, u32),
    Surveyed,
}

pub fn run(input: Input) {
    let Input { device, offers, pace, answers } = input;
    // The first offer is what a good server would offer.
    let offers = if offers.is_empty() { vec![Offer::GOOD] } else { offers };
    let made: Vec<_> = offers.iter().take(4).map(|offer| offer.made()).collect();
    let made_at = |index: u8| &made[usize::from(index) % made.len()];
    let trusted: Vec<_> =
        made.iter().filter(|made| made.is_trusted).map(|made| made.manifest.clone()).collect();

    let mut world = World::new(device.slots.len().min(4));
    world.decision.manifest = Some(made[0].message.clone().into());
    world.serves = Some(made[0].manifest.clone());
    let survey = survey(&device, &world, &made_at);
    let bits = device.retained_bits.unwrap_or_else(|| {
        let phase = [Phase::Application, Phase::Updater, Phase::Ticket, Phase::HandingOver];
        let phase = phase[usize::from(device.phase) % phase.len()];
        Retained { crashes: device.crashes % 4, phase, ..Retained::default() }.to_bits()
    });
    let begun = Start::new(bits, ResetCause::from_code(u32::from(device.cause % 10)));
    let mut watch = Watch::new(&begun, &survey, &trusted);
    let (state, _) = start(begun);
    let mut now_ms = 0;
    let (mut state, mut action) = step(state, Event::Surveyed(Box::new(survey.clone())), now_ms);
    let mut answers = Sometimes::new(answers);
    loop {
        let bits = state.retained().to_bits();
        assert_eq!(Retained::from_bits(bits), Some(state.retained()), "what is retained fits its register");
        if let Action::Finish(verdict) = action {
            watch.ended(verdict);
            assert_eq!(step(state.clone(), Event::Saved, now_ms), (state, action), "the end is the end");
            return;
        }
        let answer = answers.take().unwrap_or(Answer { event: None, took: pace });
        let event = match answer.event {
            None => world.perform(&action),
            Some(event) => event.told(&survey, &made_at),
        };
        let took_ms = limit_ms(&action) * u64::from(answer.took) / 255;
        now_ms += took_ms;
        watch.saw(&action, &event, took_ms);
        (state, action) = step(state, event, now_ms);
    }
}

fn survey<'a>(device: &Device, world: &World, made_at: &impl Fn(u8) -> &'a crate::engine::Made) -> Survey {
    let mut survey = world.survey(Scope::All);
    for (facts, (holds, sectors)) in survey.slots.iter_mut().zip(&device.slots) {
        facts.size_bytes = u32::from(*sectors) * 4096;
        facts.content = match holds {
            Holds::Nothing => SlotContent::Blank,
            Holds::Rubbish => SlotContent::Unbootable,
            Holds::Image => SlotContent::Headers,
        };
    }
    survey.strategy =
        if device.otadata { HandOverStrategy::OtadataRollback } else { HandOverStrategy::ChainLoad };
    survey.confirmed_itself = device.confirmed_itself;
    survey.jitter = device.jitter;
    if let Ok(vault) = survey.vault.as_mut() {
        vault.record = device
            .record
            .map(|(index, slot)| InstallRecord::of(&made_at(index).manifest, SlotIndex(slot % 5)));
        vault.last_outcome = device.last_outcome.map(|(sequence, reason)| Outcome { sequence, reason });
        vault.time_floor_s = u64::from(device.time_floor_s.max(1));
        vault.identity = match device.identity {
            None => Identity::Token(token()),
            Some(None) => enrolling(),
            Some(Some((not_before_s, not_after_s))) => {
                certified(CertificateLife { not_before_s, not_after_s })
            }
        };
    }
    if let Some(reason) = device.vault {
        survey.vault = Err(reason_at(reason));
    }
    survey
}

fn reason_at(index: u8) -> Reason {
    Reason::ALL[usize::from(index) % Reason::ALL.len()]
}

impl AnyEvent {
    fn told<'a>(self, survey: &Survey, made_at: &impl Fn(u8) -> &'a crate::engine::Made) -> Event {
        match self {
            Self::Joined(free_heap_bytes) => Event::Joined { free_heap_bytes },
            Self::KeyStored => Event::KeyStored(key()),
            Self::CertificateIssued(not_before_s, not_after_s) => {
                let life = CertificateLife { not_before_s, not_after_s };
                Event::CertificateIssued { key: key(), life, chain: Chain(Vec::new()) }
            }
            Self::AnchorsFetched(digest) => {
                Event::AnchorsFetched { digest: digest.into(), anchors: Anchors(Vec::new()) }
            }
            Self::Saved => Event::Saved,
            Self::Decided { offer, server_time_s, anchors, renew, backoff_s, not_after_s } => {
                Event::Decided {
                    decision: Decision {
                        anchors: anchors.map(Into::into),
                        renew: Some(renew),
                        rotate_key: Some(server_time_s % 2 == 1),
                        backoff_s,
                        ..Decision::new(server_time_s, offer.map(|offer| made_at(offer).message.clone()))
                    },
                    server_not_after_s: not_after_s,
                }
            }
            Self::Previewed { offer } => Event::Previewed(made_at(offer).manifest.artifact.chunks[0]),
            Self::FirstChunkHashed { offer } => first_chunk(made_at(offer).manifest.artifact.chunks[0]),
            Self::ChunkHashed { offer, chunk } => {
                let chunks = &made_at(offer).manifest.artifact.chunks;
                Event::ChunkHashed(chunks[usize::from(chunk) % chunks.len()])
            }
            Self::OtherChunk(digest) => Event::ChunkHashed(Digest(digest)),
            Self::Invalidated => Event::Invalidated,
            Self::Sealed => Event::Sealed,
            Self::SlotVerified { offer } => {
                let digest = made_at(offer).manifest.artifact.digest;
                Event::SlotVerified(ImageFacts { digest, version: None })
            }
            Self::OtherImage(digest) => {
                Event::SlotVerified(ImageFacts { digest: Digest(digest), version: None })
            }
            Self::Reported => Event::Reported,
            Self::Failed(reason) => Event::Failed(reason_at(reason)),
            Self::PutOff(reason, retry_after_s) => Event::PutOff { reason: reason_at(reason), retry_after_s },
            Self::Surveyed => Event::Surveyed(Box::new(survey.clone())),
        }
    }
}
