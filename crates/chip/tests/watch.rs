//! What a run is watched for: an image's entry, and how far down a stack reaches.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use chip::Stopped;
use common::asm::*;
use common::*;
use flashfmt::image::compose::Composer;
use sim::flash::SECTOR_BYTES;

/// The updater's partition and the application's.
const HOME: std::ops::Range<u32> = 0x1_0000..0x10_0000;
const SLOT: std::ops::Range<u32> = SCRATCH..SCRATCH + 0x2_0000;

/// A flash with a program at `RAM`, and data at the beginning of the window for data, as images have there.
fn flash_with_data(program: &[u8]) -> Vec<u8> {
    let image = Composer::new(flashfmt::Chip::Esp32C3, RAM)
        .segment(0x3C00_0020, &[1; 64])
        .segment(RAM, program)
        .build()
        .unwrap();
    let mut flash = flash(&[Code::at(RAM).end()]);
    flash[HOME.start as usize..][..image.len()].copy_from_slice(&image);
    flash
}

#[test]
fn a_run_ends_at_the_entry_that_is_awaited_and_goes_on_from_there() {
    let code = Code::at(RAM).li(S0, 1).call(RAM + 0x40).end();
    assert!(code.bytes().len() <= 0x40);
    let target = Code::at(RAM + 0x40).addi(S0, S0, 1).ret();
    let bytes = [code.bytes(), vec![0; 0x40 - code.bytes().len()], target.bytes()].concat();
    let contents = flash_with_data(&bytes);
    let mut chip = chip_with_seed(contents.clone(), 1);
    chip.await_entry(RAM + 0x40, HOME);
    let stopped = go(&mut chip, MS * 500);
    assert!(matches!(stopped, Stopped::Entered), "{stopped:?}");
    assert_eq!((chip.pc(), chip.x(S0 as usize), chip.image_addr()), (RAM + 0x40, 1, Some(HOME.start)));
    finish(&mut chip);
    assert_eq!(chip.x(S0 as usize), 2);

    // The same address in another image is another place.
    let mut chip = chip_with_seed(contents, 1);
    chip.await_entry(RAM + 0x40, SLOT);
    finish(&mut chip);
    assert_eq!(chip.x(S0 as usize), 2);
}

#[test]
fn the_deepest_place_of_a_stack_is_kept() {
    let (top, end) = (DATA + SECTOR_BYTES, DATA);
    let deepest = top - 0x300;
    // Down in one block with the way up, down by a register, and somewhere else.
    let code = Code::at(RAM).li(SP, top).addi(SP, SP, -0x100).addi(SP, SP, 0x100);
    let code = code.li(T0, 0x300).sub(SP, SP, T0).add(SP, SP, T0).li(SP, end - 0x100).addi(SP, SP, -16).end();
    let mut chip = chip_with_seed(flash_with_data(&code.bytes()), 1);
    chip.watch_stack(end..top);
    assert_eq!(chip.lowest_stack().0, top);
    finish(&mut chip);
    assert_eq!(chip.lowest_stack(), (deepest, RAM));
}
