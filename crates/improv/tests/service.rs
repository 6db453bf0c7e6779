//! What a client is told, and what the firmware is told to do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use improv::{
    Action, Command, CommandId, CurrentState, DeviceInformation, ErrorState, Event, Network, Passphrase,
    ProtocolError, Response, Service, Ssid, Step, StringList, TooLong, WifiSettings,
};
use proptest::prelude::*;

const DEVICE: DeviceInformation<'_> =
    DeviceInformation { firmware: "Pitstop", version: "1.0.0", chip: "ESP32-C3", device_name: "bench" };

const NO_ERROR: Response<'_> = Response::ErrorState(ErrorState::None);
const URL: &str = "http://192.168.1.10";

fn service() -> Service {
    Service::new(DEVICE).unwrap()
}

fn list(strings: &[&str]) -> StringList {
    StringList::new(strings).unwrap()
}

fn settings() -> WifiSettings {
    WifiSettings {
        ssid: Ssid::new(b"pit").unwrap(),
        passphrase: Passphrase::new(b"mysecurepassword").unwrap(),
    }
}

fn received(command: Command) -> Event {
    Event::Received(Ok(command))
}

fn join() -> Event {
    received(Command::SendWifiSettings(settings()))
}

fn joined() -> Event {
    Event::Joined { urls: list(&[URL]) }
}

fn network(ssid: &str, rssi_dbm: i8, secured: bool) -> Network {
    Network { ssid: Ssid::new(ssid.as_bytes()).unwrap(), rssi_dbm, secured }
}

fn result(command: CommandId, strings: &StringList) -> Response<'_> {
    Response::RpcResult { command, strings }
}

/// A step that sends these packets.
fn sends(responses: &[Response<'_>]) -> Step {
    let mut send = Vec::new();
    for response in responses {
        response.write(&mut send);
    }
    Step { send, action: None }
}

fn sends_and_does(responses: &[Response<'_>], action: Action) -> Step {
    Step { action: Some(action), ..sends(responses) }
}

#[test]
fn a_device_without_wifi_is_ready() {
    let step = service().step(received(Command::RequestCurrentState));
    assert_eq!(step, sends(&[NO_ERROR, Response::CurrentState(CurrentState::Ready)]));
}

#[test]
fn device_information_has_the_order_of_the_specification() {
    let step = service().step(received(Command::RequestDeviceInformation));
    let strings = list(&["Pitstop", "1.0.0", "ESP32-C3", "bench"]);
    assert_eq!(step, sends(&[NO_ERROR, result(CommandId::RequestDeviceInformation, &strings)]));

    let device_name = &"x".repeat(250);
    let error = Service::new(DeviceInformation { device_name, ..DEVICE }).unwrap_err();
    assert_eq!(error, TooLong { found_bytes: 8 + 6 + 9 + 251 });
}

#[test]
fn joining() {
    let mut service = service();
    assert_eq!(
        service.step(join()),
        sends_and_does(
            &[NO_ERROR, Response::CurrentState(CurrentState::Provisioning)],
            Action::Join(settings())
        )
    );
    assert_eq!(
        service.step(received(Command::RequestCurrentState)),
        sends(&[NO_ERROR, Response::CurrentState(CurrentState::Provisioning)])
    );
    let provisioned = Response::CurrentState(CurrentState::Provisioned);
    let urls = list(&[URL]);
    assert_eq!(service.step(joined()), sends(&[provisioned, result(CommandId::SendWifiSettings, &urls)]));
    assert_eq!(
        service.step(received(Command::RequestCurrentState)),
        sends(&[NO_ERROR, provisioned, result(CommandId::RequestCurrentState, &urls)])
    );
}

#[test]
fn joining_fails_and_is_tried_again() {
    let mut service = service();
    for before in [CurrentState::Ready, CurrentState::Provisioned] {
        assert_eq!(service.current_state(), before);
        service.step(join());
        assert_eq!(
            service.step(Event::JoinFailed),
            sends(&[
                Response::ErrorState(ErrorState::UnableToConnect),
                Response::CurrentState(CurrentState::Ready)
            ])
        );
        service.step(join());
        service.step(joined());
    }
}

#[test]
fn scanning_tells_each_network_once_and_the_strongest_first() {
    let mut service = service();
    let request = || received(Command::RequestScannedNetworks);
    assert_eq!(service.step(request()), sends_and_does(&[NO_ERROR], Action::Scan));
    assert_eq!(service.step(request()), sends(&[NO_ERROR]));
    let networks = vec![
        network("weak", -128, true),
        network("mesh", -70, true),
        network("open", -60, false),
        network("mesh", -40, true),
    ];
    let told = [list(&["mesh", "-40", "YES"]), list(&["open", "-60", "NO"]), list(&["weak", "-128", "YES"])];
    let [first, second, third] = told.each_ref().map(|told| result(CommandId::RequestScannedNetworks, told));
    let empty = StringList::default();
    let end = result(CommandId::RequestScannedNetworks, &empty);
    assert_eq!(service.step(Event::Scanned(networks)), sends(&[first, second, third, end]));

    assert_eq!(service.step(request()).action, Some(Action::Scan));
    assert_eq!(service.step(Event::Scanned(Vec::new())), sends(&[end]));
    assert_eq!(service.current_state(), CurrentState::Ready);
}

#[test]
fn a_scan_keeps_the_state() {
    let mut service = service();
    service.step(join());
    service.step(joined());
    service.step(received(Command::RequestScannedNetworks));
    assert_eq!(service.current_state(), CurrentState::Provisioned);
    service.step(Event::Scanned(Vec::new()));
    assert_eq!(service.current_state(), CurrentState::Provisioned);
}

#[test]
fn errors_are_told_and_change_nothing() {
    let unknown = Response::ErrorState(ErrorState::UnknownRpc);
    let invalid = Response::ErrorState(ErrorState::InvalidRpc);
    let damage = ProtocolError::Checksum { expected: 1, found: 2 };
    let mut service = service();
    service.step(join());
    assert_eq!(service.step(received(Command::Unknown(5))), sends(&[unknown]));
    assert_eq!(service.step(Event::Received(Err(damage))), sends(&[invalid]));
    assert_eq!(service.current_state(), CurrentState::Provisioning);
}

#[test]
fn one_order_at_a_time() {
    let busy = sends(&[Response::ErrorState(ErrorState::Unknown)]);
    let scan = || received(Command::RequestScannedNetworks);
    let mut joining = service();
    joining.step(join());
    assert_eq!(joining.step(join()), busy);
    assert_eq!(joining.step(scan()), busy);
    let mut scanning = service();
    scanning.step(scan());
    assert_eq!(scanning.step(join()), busy);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(join()),
        Just(received(Command::RequestCurrentState)),
        Just(received(Command::RequestDeviceInformation)),
        Just(received(Command::RequestScannedNetworks)),
        any::<u8>().prop_map(|number| received(Command::Unknown(number))),
        Just(Event::Received(Err(ProtocolError::NoCommand { found_bytes: 0 }))),
        Just(joined()),
        Just(Event::JoinFailed),
        Just(Event::Scanned(vec![network("pit", -40, true)])),
    ]
}

proptest! {
    /// Whatever happens in whatever order: one order is out at most, an outcome nobody waits for changes nothing, and
    /// every command has an answer.
    #[test]
    fn any_order_of_events(events in prop::collection::vec(any_event(), 0..60)) {
        let mut service = service();
        let mut order = None;
        for event in events {
            let before = service.current_state();
            let answers_order = match (&event, &order) {
                (Event::Received(_), _) => None,
                (Event::Joined { .. } | Event::JoinFailed, Some(Action::Join(_))) => Some(true),
                (Event::Scanned(_), Some(Action::Scan)) => Some(true),
                (Event::Joined { .. } | Event::JoinFailed | Event::Scanned(_), _) => Some(false),
            };
            let step = service.step(event);
            match answers_order {
                Some(false) => {
                    prop_assert_eq!(&step, &Step::default());
                    prop_assert_eq!(service.current_state(), before);
                }
                Some(true) => order = None,
                None => {}
            }
            prop_assert_eq!(step.send.is_empty(), answers_order == Some(false));
            if let Some(action) = step.action {
                prop_assert_eq!(order.replace(action), None);
            }
            let joining = matches!(order, Some(Action::Join(_)));
            prop_assert_eq!(service.current_state() == CurrentState::Provisioning, joining);
        }
    }
}
