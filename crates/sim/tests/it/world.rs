//! The world that a virtual device lives in: what resets leave, what work takes, where a fault strikes.

use std::time::Duration;

use sim::End;
use sim::campaign::in_paused_time;
use sim::campaign::lifecycle::{Lifecycle, prepare};
use sim::campaign::world::{DEVICE, World};
use sim::device::{Moment, Standing, Step, Strike};
use sim::flash::Pace;
use updater::reset::{Content, Hint, Reset};

async fn running(layout: &'static str) -> World {
    let mut world = prepare(layout, Lifecycle::HandOver).await.unwrap().world.restore(1).unwrap();
    let end = world.device.power_on().await.unwrap();
    assert!(matches!(end, End::Running(_)), "{end:?}");
    world
}

fn in_time<T>(test: impl Future<Output = T>) -> T {
    in_paused_time(async { Ok(test.await) }).unwrap()
}

#[test]
fn a_reset_leaves_of_the_retained_register_what_the_table_says() {
    for reset in Reset::ALL {
        in_time(async {
            let mut world = running("4mb").await;
            let before = world.device.retained().starts;
            assert!(before > 1);
            world.device.start_once(reset, None).await.unwrap();
            let now = world.device.retained().starts;
            match reset.on(world.device.chip()).unwrap().remains.rtc {
                Content::Kept => assert_eq!(now, before + 1, "{reset:?}"),
                Content::Cleared => assert_eq!(now, 1, "{reset:?}"),
                Content::Undefined => {}
            }
        });
    }
}

/// Where the manuals promise nothing, a device meets everything.
#[test]
fn what_is_undefined_is_not_always_the_same() {
    let kept = in_time(async {
        let mut world = running("4mb").await;
        let mut kept = Vec::new();
        for _ in 0..16 {
            let before = world.device.retained().starts;
            // After power on the updater does not look.
            world.device.start_once(Reset::BrownoutInterrupt, Some(Hint::Brownout)).await.unwrap();
            kept.push(world.device.retained().starts == before + 1);
        }
        kept
    });
    assert!(kept.contains(&true) && kept.contains(&false), "{kept:?}");
}

#[test]
fn a_start_takes_the_time_of_its_work_the_same_each_time() {
    let took = |pace: fn() -> Pace| {
        in_time(async {
            let mut world = prepare("8mb", Lifecycle::Install).await.unwrap().world.restore(1).unwrap();
            world.device.flash.replace_pace(pace());
            let start = world.device.power().clock().mark();
            world.device.power_on().await.unwrap();
            start.elapsed()
        })
    };
    let (typical, worst) = (took(|| Pace::Typical), took(|| Pace::Worst));
    // Three chunks to erase and to program, and a handshake.
    assert!(typical > Duration::from_millis(1000 + 2 * 150), "{typical:?}");
    assert!(worst > typical + Duration::from_millis(2 * 1850), "{worst:?} after {typical:?}");
    assert_eq!(took(|| Pace::mixed(7)), took(|| Pace::mixed(7)));
    assert_eq!(took(|| Pace::Typical), typical);
}

#[test]
fn a_fault_strikes_where_it_is_told_to_and_nothing_follows() {
    let panic = Strike::Reset(Reset::SoftwareSystem, Some(Hint::Panic));
    for (at, how, reset, took_s) in [
        (Moment::Action("CheckIn"), panic, Reset::SoftwareSystem, 0..5),
        (Moment::Setup, Strike::Hang, Reset::RtcWatchdogCore, 30..35),
        (Moment::Reads("vault"), Strike::Reset(Reset::Brownout, None), Reset::Brownout, 0..5),
    ] {
        in_time(async {
            let mut world = running("8mb").await;
            let check_ins = world.server.state().picture(DEVICE).check_ins;
            world.device.set_standing(Some(Standing { at, how }));
            let start = world.device.power().clock().mark();
            let step = world.device.start_once(Reset::SoftwareCpu, None).await.unwrap();
            assert!(matches!(step, Step::Struck(by, _) if by == reset), "{at:?}: {step:?}");
            assert!(took_s.contains(&start.elapsed().as_secs()), "{at:?}: {:?}", start.elapsed());
            assert_eq!(world.server.state().picture(DEVICE).check_ins, check_ins, "{at:?}");
            world.device.set_standing(None);
            let end = world.device.power_on().await.unwrap();
            assert!(matches!(end, End::Running(_)), "{end:?}");
        });
    }
}
