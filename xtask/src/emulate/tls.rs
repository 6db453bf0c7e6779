//! `tls-traps`: the chip's TLS against right servers, and against each that it must refuse (`sim::traps`).

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use emulator::HOST_SEEN_FROM_INSIDE;
use sim::SimFlash;
use sim::traps::{Observation, RunningTrap, TlsTrap};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::flash::FlashFile;
use super::stage::{Outcome, PANIC, START, Stage};

/// Before its first connection a device that has a certificate says so.
const CHECKS_IN: &str = "pitstop checks in";

/// How a line about a failure begins.
const FAULT: &str = "pitstop fault ";

/// From a line on the console to the end of its connection.
const CONNECTION_ENDS: Duration = Duration::from_secs(10);

/// What is to be seen of a device that meets a trap.
struct Expected {
    /// The reason's code, in the line about its fault.
    code: u16,
    /// A part of the cause, in the same line.
    cause: &'static str,
    /// By the server.
    seen: Seen,
}

/// What the server is to see of the device.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// Its check-in, with its certificate.
    IdentifiedCheckIn,
    /// Its check-in; the server asked for no certificate.
    CheckIn,
    /// An alert.
    Refusal,
}

fn expected(trap: TlsTrap) -> Expected {
    // What a right server answers here (`sim::traps::ANSWER`): that it cannot serve.
    let served = |seen| Expected { code: 310, cause: "found 503", seen };
    let refused = |cause| Expected { code: 303, cause, seen: Seen::Refusal };
    match trap {
        TlsTrap::Good | TlsTrap::Fragmented => served(Seen::IdentifiedCheckIn),
        TlsTrap::ByHand => served(Seen::CheckIn),
        TlsTrap::WrongName => refused("is for another name"),
        TlsTrap::UnknownCa => refused("is of an issuer that is not trusted"),
        TlsTrap::CaOfSameName | TlsTrap::ForeignSignature => refused("has a wrong signature"),
        TlsTrap::ClientCertificate => refused("does not allow extended key usage for server authentication"),
        // Without `std`, rustls does not keep what exactly it was; `crates/sim/tests/it/tls_traps.rs` looks at it.
        TlsTrap::DeviceAsCa => refused("breaks a rule for certificates"),
        TlsTrap::Expired => refused("certificate expired: "),
        TlsTrap::NotYetValid => refused("certificate not valid yet: "),
        TlsTrap::NoSignature => refused("message 20 came (RFC 8446 section 4), expected was 15"),
        TlsTrap::NoCertificate => refused("message 20 came (RFC 8446 section 4), expected was 11 or 13"),
    }
}

/// Lets a device meet every server, and goes on to the last of them whatever happens.
pub(super) fn run(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    let runtime = Runtime::new().context("no threads for the servers")?;
    stage.world.product(stage.name, "4mb", "hello-1.0.0")?;
    let blank = stage.world.flash(stage.name)?;
    let mut failed = Vec::new();
    for trap in TlsTrap::ALL {
        stage.log.line(&format!("--- {trap:?}"));
        match meet(stage, &runtime, &blank, trap) {
            Ok(line) => println!("  {trap:?}: {line}"),
            Err(error) => {
                println!("  FAILED {trap:?}: {error:#}");
                failed.push(format!("{trap:?}"));
            }
        }
    }
    ensure!(failed.is_empty(), "not as expected: {}", failed.join(", "));
    Ok(Outcome::Passed)
}

/// Lets a device meet one server; returns what it said about it.
fn meet(stage: &Stage<'_>, runtime: &Runtime, blank: &FlashFile, trap: TlsTrap) -> anyhow::Result<String> {
    let expected = expected(trap);
    let mut running = runtime.block_on(trap.start(HOST_SEEN_FROM_INSIDE))?;
    let flash = blank.copy(&format!("tls-{trap:?}"))?;
    provision(&flash, &running)?;

    let mut machine = stage.power_on(&flash)?;
    machine.expect(CHECKS_IN, &[FAULT, PANIC], START)?;
    let line = machine.expect(FAULT, &[PANIC], START)?;
    let Expected { code, cause, seen: _ } = expected;
    ensure!(
        line.contains(&format!("{FAULT}{code}: ")) && line.contains(cause),
        "expected fault {code} with {cause:?}, found {line:?}"
    );
    let seen = runtime.block_on(async { timeout(CONNECTION_ENDS, running.observe()).await });
    let seen = seen.context("the server saw no connection end")?.context("the server is gone")?;
    machine.power_off();
    stage.log.line(&format!("--- the server saw {}", describe(&seen)));
    let own_certificate = running.device().chain.first().context("the device has no certificate")?;
    check(expected.seen, &seen, own_certificate)?;
    Ok(line)
}

/// Makes the device one that is sent to this server.
fn provision(flash: &FlashFile, trap: &RunningTrap) -> anyhow::Result<()> {
    let size_bytes = fs::metadata(flash.path()).context("the flash file is gone")?.len();
    let mut contents = SimFlash::open(flash.path(), u32::try_from(size_bytes)?)?;
    trap.provision(&mut contents)?;
    Ok(contents.persist()?)
}

fn check(expected: Seen, seen: &Observation, own_certificate: &[u8]) -> anyhow::Result<()> {
    let is_check_in = |received: &[u8]| received.starts_with(b"POST /v1/check-in ");
    let is_expected = match (expected, seen) {
        (Seen::IdentifiedCheckIn, Observation::Trusted { client_certificate, received }) => {
            client_certificate.as_deref() == Some(own_certificate) && is_check_in(received)
        }
        (Seen::CheckIn, Observation::Trusted { client_certificate, received }) => {
            client_certificate.is_none() && is_check_in(received)
        }
        (Seen::Refusal, Observation::Refused { .. }) => true,
        (
            Seen::IdentifiedCheckIn | Seen::CheckIn,
            Observation::Refused { .. } | Observation::Broken { .. },
        )
        | (Seen::Refusal, Observation::Trusted { .. } | Observation::Broken { .. }) => false,
    };
    ensure!(is_expected, "the server was to see {expected:?}, and saw {}", describe(seen));
    Ok(())
}

fn describe(observation: &Observation) -> String {
    match observation {
        Observation::Refused { alert } => format!("the alert {alert:?}"),
        Observation::Broken { why } => format!("a broken handshake: {why}"),
        Observation::Trusted { client_certificate, received } => {
            let certificate = if client_certificate.is_some() { "a certificate" } else { "no certificate" };
            format!("a complete handshake with {certificate}, and {} bytes", received.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_saw_something_else_fails() {
        let own = [1, 2, 3];
        let check_in = |client_certificate| Observation::Trusted {
            client_certificate,
            received: b"POST /v1/check-in HTTP/1.1\r\n".to_vec(),
        };
        let silent = Observation::Trusted { client_certificate: Some(own.to_vec()), received: Vec::new() };
        let refused = Observation::Refused { alert: 42.into() };
        let broken = Observation::Broken { why: "no bytes".into() };
        let seen =
            [check_in(Some(own.to_vec())), check_in(Some(vec![4])), check_in(None), silent, refused, broken];
        for (expected, fits) in [
            (Seen::IdentifiedCheckIn, [true, false, false, false, false, false]),
            (Seen::CheckIn, [false, false, true, false, false, false]),
            (Seen::Refusal, [false, false, false, false, true, false]),
        ] {
            assert_eq!(seen.each_ref().map(|seen| check(expected, seen, &own).is_ok()), fits, "{expected:?}");
        }
    }
}
