//! Any bytes on the serial port, with whole packets and silence between them, into the parser and the service.

use arbitrary::Arbitrary;
use improv::{
    Action, Command, CurrentState, DeviceInformation, Event, MAX_PACKET_BYTES, Network, Parser,
    ProtocolError, Service, Ssid, StringList,
};

/// What comes next.
#[derive(Arbitrary, Debug)]
pub enum Part<'a> {
    Bytes(&'a [u8]),
    /// With the right header, lengths and checksum.
    Packet {
        packet_type: u8,
        data: &'a [u8],
    },
    Command {
        number: u8,
        data: &'a [u8],
    },
    Settings {
        ssid: &'a [u8],
        passphrase: &'a [u8],
    },
    Silence,
    /// The firmware has done what it was told.
    Done {
        well: bool,
        networks: Vec<(&'a [u8], i8)>,
    },
}

pub type Input<'a> = Vec<Part<'a>>;

pub fn run(parts: Input<'_>) {
    let device =
        DeviceInformation { firmware: "Pitstop", version: "1.0.0", chip: "ESP32-C3", device_name: "bench" };
    let mut service = Service::new(device).unwrap();
    let mut parser = Parser::new();
    let mut order = None;
    for part in parts {
        let mut events = Vec::new();
        match part {
            Part::Bytes(bytes) => push(&mut parser, bytes, &mut events),
            Part::Packet { packet_type, data } => push(&mut parser, &packet(packet_type, data), &mut events),
            Part::Command { number, data } => push(&mut parser, &command(number, data), &mut events),
            Part::Settings { ssid, passphrase } => {
                let data = [&[ssid.len() as u8][..], ssid, &[passphrase.len() as u8], passphrase].concat();
                push(&mut parser, &command(1, &data), &mut events);
            }
            Part::Silence => {
                while let Some(found) = parser.silence() {
                    events.push(Event::Received(found));
                }
            }
            Part::Done { well, networks } => events.extend(done(order.take(), well, &networks)),
        }
        for event in events {
            let before = service.current_state();
            let step = service.step(event);
            assert!(
                step.send.is_empty() || step.send.starts_with(b"\nIMPROV\x01") && step.send.ends_with(b"\n")
            );
            if let Some(action) = step.action {
                assert!(order.is_none(), "a second order before the first is done");
                if let Action::Join(settings) = &action {
                    assert!(before != CurrentState::Provisioning);
                    assert!((1..=32).contains(&settings.ssid.as_str().len()));
                    assert!(matches!(settings.passphrase.as_str().len(), 0 | 8..=64));
                }
                order = Some(action);
            }
        }
    }
    // Whatever came before: after a silence a good packet is understood.
    while parser.silence().is_some() {}
    let found: Vec<_> = command(2, &[]).iter().filter_map(|byte| parser.push(*byte)).collect();
    assert_eq!(found, [Ok::<_, ProtocolError>(Command::RequestCurrentState)]);
}

fn push(parser: &mut Parser, bytes: &[u8], events: &mut Vec<Event>) {
    events.extend(bytes.iter().filter_map(|byte| parser.push(*byte)).map(Event::Received));
    assert!(events.len() <= bytes.len());
}

fn done(order: Option<Action>, well: bool, networks: &[(&[u8], i8)]) -> Option<Event> {
    let event = match order? {
        Action::Join(_) if well => Event::Joined { urls: StringList::default() },
        Action::Join(_) => Event::JoinFailed,
        Action::Scan => {
            let network = |(ssid, rssi_dbm): &(&[u8], i8)| {
                Some(Network { ssid: Ssid::new(ssid).ok()?, rssi_dbm: *rssi_dbm, secured: well })
            };
            Event::Scanned(networks.iter().filter_map(network).collect())
        }
    };
    Some(event)
}

fn command(number: u8, data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(253)];
    packet(3, &[&[number, data.len() as u8], data].concat())
}

fn packet(packet_type: u8, data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(255)];
    let mut bytes = b"IMPROV\x01".to_vec();
    bytes.extend([packet_type, data.len() as u8]);
    bytes.extend(data);
    bytes.push(bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    assert!(bytes.len() <= MAX_PACKET_BYTES);
    bytes
}
