//! Bytes that other implementations send and expect. If a test here fails, do not change the test.
//!
//! Commands: recorded from the protocol's own JavaScript client, npm `improv-wifi-serial-sdk` 2.8.1. Responses: their
//! data by hand from the specification's tables, framed by that client's packet writer, a line feed put before them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use improv::{
    Command, CommandId, CurrentState, ErrorState, MAX_LIST_BYTES, MAX_PACKET_BYTES, Parser, Passphrase,
    PassphraseError, ProtocolError, Response, Ssid, SsidError, StringList, TooLong, WifiSettings,
};

use common::{Received, command, packet, push_all, settings};

fn parse(bytes: &[u8]) -> Vec<Received> {
    push_all(&mut Parser::new(), bytes)
}

fn parse_hex(bytes: &str) -> Vec<Received> {
    parse(&hex::decode(bytes).unwrap())
}

fn write(response: Response<'_>) -> String {
    let mut out = Vec::new();
    response.write(&mut out);
    hex::encode(out)
}

fn wifi(ssid: &str, passphrase: &str) -> Command {
    Command::SendWifiSettings(WifiSettings {
        ssid: Ssid::new(ssid.as_bytes()).unwrap(),
        passphrase: Passphrase::new(passphrase.as_bytes()).unwrap(),
    })
}

#[test]
fn commands_of_the_javascript_client() {
    for (bytes, expected) in [
        ("494d50524f560103020200e50a", Command::RequestCurrentState),
        ("494d50524f560103020300e60a", Command::RequestDeviceInformation),
        ("494d50524f560103020400e70a", Command::RequestScannedNetworks),
        ("494d50524f560103020500e80a", Command::Unknown(5)),
        // The specification's example: 01 1E 0C {MyWirelessAP} 10 {mysecurepassword}
        (
            "494d50524f56010320011e0c4d79576972656c6573734150106d7973656375726570617373776f7264c10a",
            wifi("MyWirelessAP", "mysecurepassword"),
        ),
        ("494d50524f56010309010705436166c3a9006d0a", wifi("Café", "")),
    ] {
        assert_eq!(parse_hex(bytes), [Ok(expected)]);
    }
}

#[test]
fn states_and_errors() {
    for (state, expected) in [
        (CurrentState::Ready, "0a494d50524f5601010102e20a"),
        (CurrentState::Provisioning, "0a494d50524f5601010103e30a"),
        (CurrentState::Provisioned, "0a494d50524f5601010104e40a"),
    ] {
        assert_eq!(write(Response::CurrentState(state)), expected);
    }
    for (error, expected) in [
        (ErrorState::None, "0a494d50524f5601020100e10a"),
        (ErrorState::InvalidRpc, "0a494d50524f5601020101e20a"),
        (ErrorState::UnknownRpc, "0a494d50524f5601020102e30a"),
        (ErrorState::UnableToConnect, "0a494d50524f5601020103e40a"),
        (ErrorState::Unknown, "0a494d50524f56010201ffe00a"),
    ] {
        assert_eq!(write(Response::ErrorState(error)), expected);
    }
}

#[test]
fn results() {
    let network = StringList::new(&["MyWirelessNetwork", "-60", "YES"]).unwrap();
    let device = ["ESPHome", "2021.11.0", "esp32-s3-devkitc-1/esp32-s3", "Temperature Monitor"];
    for (command, strings, expected) in [
        (CommandId::RequestScannedNetworks, &StringList::default(), "0a494d50524f560104020400e80a"),
        (
            CommandId::RequestScannedNetworks,
            &network,
            "0a494d50524f5601041c041a114d79576972656c6573734e6574776f726b032d363003594553b50a",
        ),
        (CommandId::SendWifiSettings, &StringList::new(&[""]).unwrap(), "0a494d50524f56010403010100e70a"),
        (
            CommandId::RequestDeviceInformation,
            &StringList::new(&device).unwrap(),
            "0a494d50524f56010444034207455350486f6d6509323032312e31312e301b65737033322d73332d6465766b6974632d312f65737033322d73331354656d7065726174757265204d6f6e69746f72070a",
        ),
    ] {
        assert_eq!(write(Response::RpcResult { command, strings }), expected);
    }
}

#[test]
fn the_longest_result_fills_a_packet() {
    let longest = "x".repeat(MAX_LIST_BYTES - 1);
    let strings = StringList::new(&[&longest]).unwrap();
    let packet = write(Response::RpcResult { command: CommandId::SendWifiSettings, strings: &strings });
    assert_eq!(packet.len() / 2, MAX_PACKET_BYTES + 2);
    assert_eq!(&packet[16..24], "04ff01fd");

    assert_eq!(StringList::new(&[&longest, ""]), Err(TooLong { found_bytes: 254 }));
    assert_eq!(StringList::new(&["x".repeat(253).as_str()]), Err(TooLong { found_bytes: 254 }));
}

#[test]
fn settings_at_their_limits() {
    for (ssid, passphrase) in [(1, 0), (32, 8), (32, 63), (1, 64)] {
        let (ssid, passphrase) = ("s".repeat(ssid), "p".repeat(passphrase));
        let expected = wifi(&ssid, &passphrase);
        assert_eq!(parse(&settings(ssid.as_bytes(), passphrase.as_bytes())), [Ok(expected)]);
    }
}

#[test]
fn settings_beyond_their_limits() {
    let ssid = |found_bytes| ProtocolError::Ssid(SsidError::Length { found_bytes });
    let passphrase = |found_bytes| ProtocolError::Passphrase(PassphraseError::Length { found_bytes });
    for (bytes, expected) in [
        (settings(b"", b"12345678"), ssid(0)),
        (settings(&[b's'; 33], b"12345678"), ssid(33)),
        (settings(b"\xff", b"12345678"), ProtocolError::Ssid(SsidError::NotUtf8)),
        (settings(b"s", b"1"), passphrase(1)),
        (settings(b"s", b"1234567"), passphrase(7)),
        (settings(b"s", &[b'p'; 65]), passphrase(65)),
        (settings(b"s", b"1234567\xc3"), ProtocolError::Passphrase(PassphraseError::NotUtf8)),
    ] {
        assert_eq!(parse(&bytes), [Err(expected)]);
        assert_eq!(ErrorState::from(expected), ErrorState::InvalidRpc);
    }
}

#[test]
fn malformed_commands() {
    let length = |expected_bytes, found_bytes| ProtocolError::DataLength { expected_bytes, found_bytes };
    let layout = |data_bytes| ProtocolError::SettingsLayout { data_bytes };
    for (bytes, expected) in [
        (packet(3, &[]), ProtocolError::NoCommand { found_bytes: 0 }),
        (packet(3, &[2]), ProtocolError::NoCommand { found_bytes: 1 }),
        (packet(3, &[2, 1]), length(1, 0)),
        (packet(3, &[2, 0, 0]), length(0, 1)),
        (packet(3, &[1, 0, 1, b's', 0]), length(0, 3)),
        (packet(3, &[5, 1, 0, 0]), length(1, 2)),
        (command(2, &[0]), length(0, 1)),
        (command(1, &[]), layout(0)),
        (command(1, &[0]), layout(1)),
        (command(1, &[2, b's']), layout(2)),
        (command(1, &[1, b's']), layout(2)),
        (command(1, &[1, b's', 1]), layout(3)),
        (command(1, &[1, b's', 0, 0]), layout(4)),
        (command(1, &[255; 253]), layout(253)),
    ] {
        assert_eq!(parse(&bytes), [Err(expected)], "{bytes:?}");
    }
}

#[test]
fn a_passphrase_is_never_printed() {
    let received = parse(&settings(b"ssid", b"mysecurepassword"));
    let printed = format!("{received:?} {received:#?}");
    assert!(printed.contains("ssid") && !printed.contains("mysecure"), "{printed}");
}
