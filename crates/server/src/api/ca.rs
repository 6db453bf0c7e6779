//! `/api/v1/ca`: which CAs are in force, and one taking the other's place.

use std::sync::Arc;

use api::ca::{Anchor, Ca, Left, Step};
use axum::Json;
use axum::extract::State;
use utoipa_axum::routes;

use super::auth::Caller;
use super::request::Body;
use super::routes::Routes;
use crate::app::App;
use crate::authorities::Authorities;
use crate::clock;
use crate::counted::counted;
use crate::endings;
use crate::problem::Problem;
use crate::store::{Behind, InForce, Phase, Rollover};

pub(super) fn routes() -> Routes {
    Routes::of("ca").viewer(routes!(show)).admin(routes!(begin)).admin(routes!(switch)).admin(routes!(finish))
}

/// Tells which CAs are in force.
#[utoipa::path(get, path = "/ca", responses((status = 200, body = Ca)))]
async fn show(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Ca>, Problem> {
    let Json(mut ca) = answer(&app).await?;
    if let Some(left) = ca.behind.as_mut().filter(|_| !caller.scope().is_empty()) {
        // They are of any product.
        left.examples.clear();
        left.suspended_examples.clear();
        left.ended_examples.clear();
    }
    Ok(Json(ca))
}

/// Makes the next CA: a trust anchor of devices beside the present one, which issues their certificates from now on.
#[utoipa::path(post, path = "/ca/rollover/begin", responses((status = 200, body = Ca)))]
async fn begin(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Ca>, Problem> {
    let authorities = take(&app, &caller).await?;
    if let Some(rollover) = authorities.rollover() {
        return Err(wrong_phase("no rollover under way", phase_name(Some(rollover.phase))));
    }
    let next = app.ca.make_next(app.config.clock.now_utc()).map_err(Problem::internal)?;
    let rollover = Rollover { phase: Phase::Begun, next, begun_at_ms: app.config.clock.now_ms() };
    let is = InForce { rollover: Some(rollover), ..authorities.in_force.clone() };
    go(&app, &authorities, is, "ca.rollover-begin", &caller).await
}

/// Shows devices a certificate of the new CA. Refused while devices do not trust it yet.
#[utoipa::path(post, path = "/ca/rollover/switch", request_body = Step, responses((status = 200, body = Ca)))]
async fn switch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(step): Body<Step>,
) -> Result<Json<Ca>, Problem> {
    let authorities = take(&app, &caller).await?;
    let rollover = in_phase(&authorities, Phase::Begun, "a rollover that was begun")?;
    if let Some(behind) = behind(&app, &authorities).await?.filter(|_| !step.force) {
        all_trust_the_new_ca(behind)?;
    }
    let rollover = Rollover { phase: Phase::Switched, ..rollover };
    let is = InForce { rollover: Some(rollover), ..authorities.in_force.clone() };
    go(&app, &authorities, is, "ca.rollover-switch", &caller).await
}

/// Drops the old CA, as a trust anchor and as an issuer of devices' certificates. Refused while devices need it.
#[utoipa::path(post, path = "/ca/rollover/finish", request_body = Step, responses((status = 200, body = Ca)))]
async fn finish(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(step): Body<Step>,
) -> Result<Json<Ca>, Problem> {
    let authorities = take(&app, &caller).await?;
    let rollover = in_phase(&authorities, Phase::Switched, "a rollover that was switched")?;
    if let Some(behind) = behind(&app, &authorities).await?.filter(|_| !step.force) {
        let with_old_certificate = behind.with_old_certificate;
        all_trust_the_new_ca(behind)?;
        if with_old_certificate > 0 {
            return Err(Problem::DevicesBehind {
                devices: with_old_certificate,
                examples: Vec::new(),
                lack: "with a certificate of the old CA",
            });
        }
    }
    let is = InForce {
        ca: rollover.next.clone(),
        rollover: Some(Rollover { phase: Phase::Finished, ..rollover }),
    };
    go(&app, &authorities, is, "ca.rollover-finish", &caller).await
}

fn all_trust_the_new_ca(behind: Behind) -> Result<(), Problem> {
    let (devices, examples) = (behind.without_new_anchor, behind.examples);
    let lack = "that did not tell to trust the new CA";
    if devices > 0 { Err(Problem::DevicesBehind { devices, examples, lack }) } else { Ok(()) }
}

/// Changes what is in force, here and for all instances.
async fn go(
    app: &App,
    was: &Authorities,
    is: InForce,
    action: &'static str,
    caller: &Caller,
) -> Result<Json<Ca>, Problem> {
    if !app.people.store.change_ca(&was.in_force, &is, action, &caller.change()).await? {
        return Err(wrong_phase("the CAs that were in force a moment ago", "others"));
    }
    refresh(app).await?;
    answer(app).await
}

/// What is in force now, for a caller who may change it.
async fn take(app: &App, caller: &Caller) -> Result<Arc<Authorities>, Problem> {
    caller.require_unscoped()?;
    refresh(app).await?;
    Ok(app.ca.get())
}

async fn refresh(app: &App) -> Result<(), Problem> {
    let refreshed = app.ca.refresh(&app.people.store, app.config.clock.now_utc()).await;
    refreshed.map_err(Problem::internal)
}

async fn behind(app: &App, authorities: &Authorities) -> Result<Option<Behind>, Problem> {
    let Some(rollover) = authorities.rollover() else { return Ok(None) };
    let new = wire::anchors_digest([authorities.for_devices().der().as_ref()]);
    let (both, new) = (hex::encode(*authorities.anchors_digest()), hex::encode(*new));
    let (store, config) = (&app.people.store, &app.config);
    let (renewable_after_ms, now_ms) = (config.renewable_after_ms(), config.clock.now_ms());
    Ok(Some(store.behind(rollover, &both, &new, renewable_after_ms, now_ms).await?))
}

async fn answer(app: &App) -> Result<Json<Ca>, Problem> {
    let authorities = app.ca.get();
    let behind = behind(app, &authorities).await?;
    let anchors = authorities.all().map(|ca| Anchor {
        fingerprint: ca.fingerprint().to_owned(),
        not_after: clock::rfc3339(ca.not_after().unix_timestamp() * 1000),
        issues_for_devices: ca.fingerprint() == authorities.for_devices().fingerprint(),
        issues_for_server: ca.fingerprint() == authorities.for_server().fingerprint(),
    });
    let phase = authorities.rollover().map(|rollover| rollover.phase);
    let next = match (phase, &behind) {
        (Some(Phase::Begun), Some(behind)) if behind.without_new_anchor > 0 => {
            wait_for(behind.without_new_anchor, "switch")
        }
        (Some(Phase::Begun), Some(_) | None) => "switch".to_owned(),
        (Some(Phase::Switched), Some(behind))
            if behind.without_new_anchor > 0 || behind.with_old_certificate > 0 =>
        {
            let devices = behind.without_new_anchor.max(behind.with_old_certificate);
            wait_for(devices, "finish")
        }
        (Some(Phase::Switched), Some(_) | None) => "finish".to_owned(),
        (Some(Phase::Finished) | None, Some(_) | None) => "nothing".to_owned(),
    };
    Ok(Json(Ca {
        phase: phase_name(phase).to_owned(),
        anchors: anchors.collect(),
        behind: behind.map(|behind| Left {
            without_new_anchor: behind.without_new_anchor,
            with_old_certificate: behind.with_old_certificate,
            examples: behind.examples,
            suspended: behind.suspended,
            suspended_examples: behind.suspended_examples,
            ended: behind.ended,
            ended_examples: behind.ended_examples,
        }),
        next,
        server_not_after: clock::rfc3339(app.ca.server_not_after().unix_timestamp() * 1000),
        notices: endings::notices(app, app.config.clock.now_utc()),
    }))
}

fn wait_for(devices: i64, then: &str) -> String {
    let (devices, have) = (counted(devices, "more device"), if devices == 1 { "has" } else { "have" });
    format!("wait until {devices} {have} checked in, then {then}")
}

fn in_phase(authorities: &Authorities, phase: Phase, expected: &'static str) -> Result<Rollover, Problem> {
    match authorities.rollover() {
        Some(rollover) if rollover.phase == phase => Ok(rollover.clone()),
        other => Err(wrong_phase(expected, phase_name(other.map(|rollover| rollover.phase)))),
    }
}

fn phase_name(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::Begun) => "begun",
        Some(Phase::Switched) => "switched",
        Some(Phase::Finished) | None => "steady",
    }
}

fn wrong_phase(expected: &'static str, found: &'static str) -> Problem {
    Problem::RolloverPhase { expected, found }
}
