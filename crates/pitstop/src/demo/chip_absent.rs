//! In place of `chip/` in a program without the feature `emulator`.

use std::convert::Infallible;
use std::path::Path;

use super::images::Images;
use super::stage::Stage;
use crate::failure::Failure;
use crate::ui::Spinner;

pub(super) enum Cast {}

pub(super) fn find_emulator() -> Result<Infallible, Failure> {
    Err(Failure::new("this program was built without the emulated chip")
        .hint("build it as it is by default: cargo run --release -- demo --chip"))
}

impl Cast {
    pub(super) fn gather(
        emulator: Infallible,
        _: &Images,
        _: Option<&Path>,
        _: impl Fn(&str, &str) -> Spinner,
    ) -> Result<Self, Failure> {
        match emulator {}
    }
}

pub(super) async fn tell(_: &Path, _: &Images, cast: &Cast, _: Stage) -> Result<(), Failure> {
    match *cast {}
}
